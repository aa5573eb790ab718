//! Effects on faces: looked for beside the stream, at a reduced size and rate, and followed in between.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Album, Step, canvas,
    glide::{Face, Glide},
    mosaic, no_such, number, picture,
    scan::SidePipeline,
};
use crate::{
    effect::{Picture, Value},
    media::{
        EffectReport, FaceBox,
        gst::effect::{Reports, cost::Meter},
    },
};

/// The longer side of what is looked at, in pixels: a face of a tenth of it is still seen.
const LOOK_SIDE: u32 = 256;
/// Between two looks.
const EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(120);
/// Between two reports of faces that are there all the time.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// What faces look like (from Debian's opencv-data).
const CASCADE: &str = "/usr/share/opencv4/haarcascades/haarcascade_frontalface_alt2.xml";

/// What is done with faces.
pub(super) enum Use {
    /// A picture is laid over each.
    Overlay(Overlay),
    /// Each is made unrecognisable.
    Hide { blocks: bool },
    /// They are told.
    Tell { reports: Reports, told: Option<(Duration, usize)> },
}

pub(super) struct Overlay {
    album: Album,
    picture: Option<Arc<Picture>>,
    place: Place,
    size: f64,
    /// For frames of that format.
    pixels: Option<(gst_video::VideoInfo, gst::Buffer)>,
}

#[derive(Clone, Copy)]
enum Place {
    Head,
    Eyes,
    Face,
}

impl Overlay {
    pub(super) fn new(album: Album) -> Self {
        Self { album, picture: None, place: Place::Head, size: 1.0, pixels: None }
    }
}

/// I420.
pub(super) struct Faces {
    what: Use,
    meter: Arc<Meter>,
    /// For pictures of that size.
    side: Option<((u32, u32), SidePipeline)>,
    glide: Arc<Mutex<Glide>>,
    last: Option<gst::ClockTime>,
}

impl Faces {
    pub(super) fn new(what: Use, meter: Arc<Meter>) -> Self {
        Self { what, meter, side: None, glide: Arc::default(), last: None }
    }

    /// Looks at the picture, now and then.
    fn look(&mut self, buffer: &gst::Buffer, format: &gst_video::VideoInfo) {
        let Some(now) = buffer.pts() else { return };
        if self.last.is_some_and(|last| now >= last && now < last + EVERY) {
            return;
        }
        let size = look_size(format);
        if self.side.as_ref().is_none_or(|(known, _)| *known != size) {
            // Faces of a picture of another shape are elsewhere.
            (self.side, self.glide) = (None, Arc::default());
            let side =
                start(size, self.glide.clone(), &self.meter).inspect_err(|error| tracing::error!("no faces: {error}"));
            self.side = side.ok().map(|side| (size, side));
        }
        if self.side.as_ref().is_some_and(|(_, side)| side.push(buffer, format)) {
            self.last = Some(now);
        }
    }
}

impl Step for Faces {
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String> {
        match (&mut self.what, property, value) {
            (Use::Overlay(overlay), "picture", value) => {
                overlay.picture = picture(&overlay.album, property, value)?;
                overlay.pixels = None;
            }
            (Use::Overlay(overlay), "size", value) => overlay.size = number(property, value)?,
            (Use::Overlay(overlay), "place", Value::Text(place)) => {
                overlay.place = match place.as_str() {
                    "head" => Place::Head,
                    "eyes" => Place::Eyes,
                    _ => Place::Face,
                };
            }
            (Use::Hide { blocks }, "style", Value::Text(style)) => *blocks = style == "blocks",
            _ => return Err(no_such(property)),
        }
        Ok(())
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        self.look(buffer, format);
        let now: Duration = buffer.pts().map_or(Duration::ZERO, Into::into);
        let mut faces = self.glide.lock().expect("nothing panics under this lock").at(now);
        let (wide, high) = look_size(format);
        let shape = f64::from(wide) / f64::from(high);
        for face in &mut faces {
            (face.y, face.height) = (face.y * shape, face.height * shape);
        }
        match &mut self.what {
            Use::Overlay(overlay) if !faces.is_empty() => overlay.draw(&faces, buffer, format),
            Use::Hide { blocks } if !faces.is_empty() => {
                if let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), format) {
                    faces.iter().for_each(|face| mosaic::hide(&mut frame, face, *blocks));
                }
            }
            Use::Tell { reports, told } => tell(reports, told, now, &faces),
            Use::Overlay(_) | Use::Hide { .. } => {}
        }
    }
}

impl Overlay {
    fn draw(&mut self, faces: &[Face], buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        let Some(picture) = &self.picture else { return };
        if self.pixels.as_ref().is_none_or(|(known, _)| known != format) {
            self.pixels = canvas::pixels(picture, format).map(|pixels| (format.clone(), pixels));
        }
        let Some((_, pixels)) = &self.pixels else { return };
        let rectangles: Vec<_> = faces
            .iter()
            .map(|face| {
                let (x, y, width, height) = self.place(face, picture, format);
                let flags = gst_video::VideoOverlayFormatFlags::empty();
                gst_video::VideoOverlayRectangle::new_raw(pixels, x, y, width, height, flags)
            })
            .collect();
        let Ok(composition) = gst_video::VideoOverlayComposition::new(&rectangles) else { return };
        if let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), format) {
            let _ = composition.blend(&mut frame);
        }
    }

    /// Left, top, width and height, in pixels.
    fn place(&self, face: &Face, picture: &Picture, format: &gst_video::VideoInfo) -> (i32, i32, u32, u32) {
        let (width, height) = (f64::from(format.width()), f64::from(format.height()));
        let wide = (self.size * face.width * width).max(2.0);
        let high = (wide * f64::from(picture.height) / f64::from(picture.width)).max(2.0);
        let (middle, top) = (face.x * width, (face.y - face.height / 2.0) * height);
        let above = match self.place {
            // A hat is put on, and hides a little of the forehead.
            Place::Head => top + 0.1 * face.height * height - high,
            Place::Eyes => top + 0.38 * face.height * height - high / 2.0,
            Place::Face => face.y * height - high / 2.0,
        };
        ((middle - wide / 2.0).round() as i32, above.round() as i32, wide.round() as u32, high.round() as u32)
    }
}

/// Width and height, in pixels, of what is looked at: in the shape that the picture is shown in, since a
/// cascade knows no faces that are squashed.
fn look_size(format: &gst_video::VideoInfo) -> (u32, u32) {
    let wide = f64::from(format.width()) * f64::from(format.par().numer()) / f64::from(format.par().denom());
    let high = f64::from(format.height());
    let side = |length: f64| ((f64::from(LOOK_SIDE) * length / wide.max(high)).round() as u32).max(1);
    (side(wide), side(high))
}

fn start((wide, high): (u32, u32), glide: Arc<Mutex<Glide>>, meter: &Arc<Meter>) -> Result<SidePipeline, String> {
    let line = format!(
        "videoscale add-borders=false ! video/x-raw,width={wide},height={high},pixel-aspect-ratio=1/1 ! \
         videoconvert ! facedetect display=false profile={CASCADE} scale-factor=1.2 min-neighbors=3 \
         min-size-width=26 min-size-height=26"
    );
    SidePipeline::start(&line, meter, move |structure, _| {
        if structure.name() != "facedetect" {
            return;
        }
        let Ok(at) = structure.get::<u64>("timestamp") else { return };
        let list = structure.get::<gst::List>("faces");
        let faces: Vec<Face> =
            list.iter().flat_map(|list| list.iter()).filter_map(|face| face_of(face, f64::from(wide))).collect();
        glide.lock().expect("nothing panics under this lock").look(Duration::from_nanos(at), &faces);
    })
}

/// In shares of the width of what was looked at, both ways: so it is followed alike in all directions.
fn face_of(value: &gst::glib::SendValue, wide: f64) -> Option<Face> {
    let face = value.get::<gst::Structure>().ok()?;
    let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| face.get::<u32>(name).ok().map(f64::from));
    let (x, y, width, height) = (x?, y?, width?, height?);
    let (x, y) = ((x + width / 2.0) / wide, (y + height / 2.0) / wide);
    Some(Face { x, y, width: width / wide, height: height / wide })
}

fn tell(reports: &Reports, told: &mut Option<(Duration, usize)>, now: Duration, faces: &[Face]) {
    let is_news = match told {
        None => !faces.is_empty(),
        Some((at, count)) => *count != faces.len() || (!faces.is_empty() && now >= *at + TELL_EVERY),
    };
    if is_news {
        *told = Some((now, faces.len()));
        let boxes = faces.iter().map(|face| FaceBox {
            x: face.x - face.width / 2.0,
            y: face.y - face.height / 2.0,
            width: face.width,
            height: face.height,
        });
        reports.send(EffectReport::Faces(boxes.collect()));
    }
}
