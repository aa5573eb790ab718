//! Takes pictures of a finished film: the keyframes next to some moments, scaled down, as JPEG.
//!
//! One short-lived pipeline decodes and one encodes, both off the rooms' time. They run at a low
//! priority: nobody waits for them.

use std::{path::Path, time::Duration};

use gst::prelude::*;
use gst_video::prelude::*;

use super::decoder::{H264_DECODERS, make};
use crate::recording::album::{Album, POSTER_WIDTH, SMALL_WIDTH};

/// One keyframe, decoded and scaled, takes at most so long.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(10);
/// Of the JPEGs, 0 to 100.
const QUALITY: i32 = 80;
/// Below everything that a room does.
const NICENESS: i32 = 10;

/// Takes the pictures of an album. Answers with the height of a small one.
///
/// # Errors
/// What could not be done, in a sentence. A sheet may be there without its poster or the other way round.
pub fn photograph(album: &Album) -> Result<u32, String> {
    let album = album.clone();
    let thread = spawn_below("pictures", move || take(&album));
    let taken = thread.map_err(|error| error.to_string())?.join();
    taken.unwrap_or_else(|_| Err("the thread that takes pictures panicked".into()))
}

/// Works on a thread below the priority of all that a room does. Threads of a pipeline inherit the priority of who starts
/// it; it cannot be raised again, so the thread is not used for anything else.
pub(super) fn spawn_below<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
            tracing::debug!("pictures are made at the usual priority: {error}");
        }
        work()
    })
}

fn take(album: &Album) -> Result<u32, String> {
    let film = Film::open(&album.film)?;
    let poster = film.picture(album.poster_at, POSTER_WIDTH)?;
    write_jpeg(&poster, &album.poster)?;
    let mut sheet: Option<Picture> = None;
    for (place, at) in album.times.iter().enumerate() {
        let picture = film.picture(*at, SMALL_WIDTH)?;
        let sheet = sheet.get_or_insert_with(|| {
            let rows = album.times.len().div_ceil(album.columns);
            Picture::black(SMALL_WIDTH as usize * album.columns, picture.height * rows)
        });
        let (column, row) = (place % album.columns, place / album.columns);
        sheet.paste(&picture, column * SMALL_WIDTH as usize, row * picture.height);
    }
    let sheet = sheet.ok_or("the album is empty")?;
    write_jpeg(&sheet, &album.sheet)?;
    Ok((sheet.height / album.times.len().div_ceil(album.columns)) as u32)
}

/// RGB, 8 bits each, rows without padding.
struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    fn black(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// `picture` is wholly inside, or what is outside is left out.
    fn paste(&mut self, picture: &Self, x: usize, y: usize) {
        let columns = picture.width.min(self.width.saturating_sub(x));
        for row in 0..picture.height.min(self.height.saturating_sub(y)) {
            let (from, to) = (row * picture.width * 3, ((y + row) * self.width + x) * 3);
            self.pixels[to..to + columns * 3].copy_from_slice(&picture.pixels[from..from + columns * 3]);
        }
    }
}

/// An open film; closed when it is dropped.
struct Film {
    pipeline: gst::Pipeline,
    size: gst::Element,
    sink: gst_app::AppSink,
}

impl Film {
    fn open(path: &Path) -> Result<Self, String> {
        let decoder = H264_DECODERS.iter().find(|name| make(name).is_ok()).ok_or("there is no H.264 decoder")?;
        let launch = format!(
            "filesrc name=file ! qtdemux ! h264parse ! {decoder} name=decoder ! videoconvertscale add-borders=false ! \
             capsfilter name=size ! appsink name=sink sync=false max-buffers=1"
        );
        let bin = gst::parse::launch(&launch).map_err(|error| error.to_string())?;
        let pipeline = bin.downcast::<gst::Pipeline>().map_err(|_| "it is no pipeline")?;
        let element = |name: &str| pipeline.by_name(name).ok_or_else(|| format!("there is no {name}"));
        element("file")?.set_property("location", path);
        let decoder = element("decoder")?;
        if decoder.has_property("max-threads") {
            decoder.set_property_from_str("max-threads", "1");
        }
        let sink = element("sink")?.downcast::<gst_app::AppSink>().map_err(|_| "it is no appsink")?;
        let film = Self { size: element("size")?, sink, pipeline: pipeline.clone() };
        film.set_width(SMALL_WIDTH);
        pipeline.set_state(gst::State::Paused).map_err(|error| error.to_string())?;
        film.preroll()?;
        Ok(film)
    }

    fn set_width(&self, width: u32) {
        // The height follows from the film's shape.
        let caps = gst_video::VideoCapsBuilder::new()
            .format(gst_video::VideoFormat::Rgb)
            .width(width as i32)
            .pixel_aspect_ratio(gst::Fraction::new(1, 1))
            .build();
        self.size.set_property("caps", caps);
    }

    /// The keyframe before `at`.
    fn picture(&self, at: Duration, width: u32) -> Result<Picture, String> {
        self.set_width(width);
        let at = gst::ClockTime::try_from(at).map_err(|error| error.to_string())?;
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE;
        self.pipeline.seek_simple(flags, at).map_err(|error| error.to_string())?;
        let sample = self.preroll()?;
        let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok()).ok_or("no format")?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().ok_or("no picture")?, &info);
        let frame = frame.map_err(|error| error.to_string())?;
        let (columns, height) = (info.width() as usize * 3, info.height() as usize);
        let rows = frame.plane_data(0).map_err(|error| error.to_string())?.chunks(frame.plane_stride()[0] as usize);
        let pixels = rows.take(height).flat_map(|row| &row[..columns]).copied().collect();
        Ok(Picture { width: info.width() as usize, height, pixels })
    }

    fn preroll(&self) -> Result<gst::Sample, String> {
        self.sink.try_pull_preroll(PATIENCE).ok_or_else(|| {
            let bus = self.pipeline.bus();
            let failed = bus.and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            match failed.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => error.error().to_string(),
                _ => format!("no picture within {PATIENCE}"),
            }
        })
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn write_jpeg(picture: &Picture, path: &Path) -> Result<(), String> {
    let Picture { width, height, pixels } = picture;
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, *width as u32, *height as u32)
        .fps(gst::Fraction::new(1, 1))
        .build()
        .map_err(|error| error.to_string())?;
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    source.set_caps(Some(&info.to_caps().map_err(|error| error.to_string())?));
    let (convert, encoder) = (failing(make("videoconvert"))?, failing(make("jpegenc"))?);
    encoder.set_property("quality", QUALITY);
    let sink = gst_app::AppSink::builder().sync(false).build();
    let elements = [source.upcast_ref(), &convert, &encoder, sink.upcast_ref()];
    pipeline.add_many(elements).and_then(|()| gst::Element::link_many(elements)).map_err(|error| error.to_string())?;
    pipeline.set_state(gst::State::Playing).map_err(|error| error.to_string())?;
    // Rows of RGB are padded to four bytes.
    let stride = info.stride()[0] as usize;
    let padded =
        pixels.chunks(width * 3).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, stride - row.len())));
    let mut buffer = gst::Buffer::from_mut_slice(padded.collect::<Vec<u8>>());
    buffer.make_mut().set_pts(gst::ClockTime::ZERO);
    let encoded = source.push_buffer(buffer).ok().and_then(|_| sink.try_pull_sample(PATIENCE));
    let _ = pipeline.set_state(gst::State::Null);
    let sample = encoded.ok_or("the JPEG encoder failed")?;
    let bytes = sample.buffer().and_then(|buffer| buffer.map_readable().ok()).ok_or("an empty JPEG")?;
    std::fs::write(path, &bytes).map_err(|error| error.to_string())
}

fn failing<T>(result: Result<T, crate::media::MediaError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}
