//! Sends known pictures and sounds through a chain of effects, and gives back what came out.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::prelude::*;
use salon::{
    effect::{Applied, Effect, EffectRequest, resolve},
    media::{
        EffectCost, Kind, Unavailable,
        gst::{
            effect::{Chain, Reports, Slot},
            preset::Presets,
        },
    },
};
use serde_json::{Value, json};

pub const WIDTH: usize = 640;
pub const HEIGHT: usize = 360;
pub const RATE: usize = 48_000;

pub fn presets() -> &'static Presets {
    static PRESETS: OnceLock<Presets> = OnceLock::new();
    PRESETS.get_or_init(|| {
        gst::init().unwrap();
        Presets::load(None)
    })
}

pub fn catalogue() -> Vec<Effect> {
    presets().effects()
}

pub fn unavailable() -> Vec<Unavailable> {
    presets().unavailable().to_vec()
}

/// False, and a word on it, where the machine has not what an effect needs; with `CI` set that is a failure.
pub fn has(name: &str) -> bool {
    let there = catalogue().iter().any(|effect| effect.name == name);
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{name} is not available: {:?}", unavailable());
        println!("{name} is not available here");
    }
    there
}

pub fn chain(effects: &[(&str, Value)]) -> Vec<Applied> {
    let requests: Vec<EffectRequest> = effects
        .iter()
        .map(|(name, params)| serde_json::from_value(json!({"name": name, "params": params})).unwrap())
        .collect();
    resolve(&requests, &catalogue(), &[]).unwrap()
}

/// A picture of red, green and blue, [`WIDTH`] × [`HEIGHT`].
#[derive(Clone)]
pub struct Picture {
    pub rgb: Vec<u8>,
}

impl Picture {
    pub fn paint(colour: impl Fn(usize, usize) -> [u8; 3]) -> Self {
        let rgb = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))).flat_map(|(x, y)| colour(x, y)).collect();
        Self { rgb }
    }

    /// Red, green, blue and white quarters.
    pub fn quarters() -> Self {
        Self::paint(|x, y| match (x < WIDTH / 2, y < HEIGHT / 2) {
            (true, true) => [200, 20, 20],
            (false, true) => [20, 180, 20],
            (true, false) => [20, 20, 200],
            (false, false) => [240, 240, 240],
        })
    }

    pub fn plain(colour: [u8; 3]) -> Self {
        Self::paint(|_, _| colour)
    }

    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * WIDTH + x);
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    pub fn luma(&self, x: usize, y: usize) -> f64 {
        let [red, green, blue] = self.pixel(x, y).map(f64::from);
        0.299 * red + 0.587 * green + 0.114 * blue
    }

    /// Mean of a region.
    pub fn mean(&self, [x, y, width, height]: [usize; 4]) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for at in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))) {
            let pixel = self.pixel(at.0, at.1);
            (0..3).for_each(|channel| sums[channel] += f64::from(pixel[channel]));
        }
        sums.map(|sum| sum / (width * height) as f64)
    }

    /// How many pixels of a region are brighter than this.
    pub fn brighter(&self, than: f64, [x, y, width, height]: [usize; 4]) -> usize {
        let pixels = (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y)));
        pixels.filter(|(x, y)| self.luma(*x, *y) > than).count()
    }

    /// Mean difference of all values from another's.
    pub fn difference(&self, other: &Self) -> f64 {
        let sum: u64 = self.rgb.iter().zip(&other.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / self.rgb.len() as f64
    }

    #[track_caller]
    pub fn assert_colour(&self, region: [usize; 4], expected: [u8; 3], what: &str) {
        let found = self.mean(region);
        let near = found.iter().zip(expected).all(|(a, b)| (a - f64::from(b)).abs() < 14.0);
        assert!(near, "{what}: {found:.0?}, expected {expected:?}");
    }
}

/// The last of three frames with this content, one at each of these times.
pub fn show_at(effects: &[(&str, Value)], picture: &Picture, at: Duration) -> Picture {
    let out = run(&chain(effects), &[picture, picture, picture], (at, Duration::from_millis(40)), &Reports::default());
    out.0.into_iter().next_back().expect("a picture comes out")
}

/// As [`show`], of a chain that is checked already.
pub fn show_applied(chain: &[Applied], picture: &Picture) -> Picture {
    let out =
        run(chain, &[picture, picture, picture], (Duration::ZERO, Duration::from_millis(40)), &Reports::default());
    out.0.into_iter().next_back().expect("a picture comes out")
}

/// All pictures, one each `step`.
pub fn play(chain: &[Applied], pictures: &[Picture], step: Duration, reports: &Reports) -> Vec<Picture> {
    run(chain, &pictures.iter().collect::<Vec<_>>(), (Duration::ZERO, step), reports).0
}

/// What each effect took of a processor.
pub fn costs(chain: &[Applied], kind: Kind, pictures: &[Picture]) -> Vec<EffectCost> {
    assert_eq!(kind, Kind::Video);
    run(chain, &pictures.iter().collect::<Vec<_>>(), (Duration::ZERO, Duration::from_millis(40)), &Reports::default()).1
}

/// As [`costs`], of pictures that come as from a camera: with what is done beside the stream.
pub fn costs_live(chain: &[Applied], pictures: &[Picture], step: Duration) -> Vec<EffectCost> {
    run_at("true", chain, &pictures.iter().collect::<Vec<_>>(), (Duration::ZERO, step), &Reports::default()).1
}

/// As [`play`], as fast as they would come from a camera: for effects that look beside the stream.
pub fn play_live(chain: &[Applied], pictures: &[Picture], step: Duration, reports: &Reports) -> Vec<Picture> {
    run_at("true", chain, &pictures.iter().collect::<Vec<_>>(), (Duration::ZERO, step), reports).0
}

fn run(
    chain: &[Applied],
    pictures: &[&Picture],
    times: (Duration, Duration),
    reports: &Reports,
) -> (Vec<Picture>, Vec<EffectCost>) {
    run_at("false", chain, pictures, times, reports)
}

fn run_at(
    sync: &str,
    chain: &[Applied],
    pictures: &[&Picture],
    (at, step): (Duration, Duration),
    reports: &Reports,
) -> (Vec<Picture>, Vec<EffectCost>) {
    let built = Chain::build(presets(), Kind::Video, chain, reports).unwrap();
    let launch = format!(
        "appsrc name=in format=time is-live=false max-bytes=0 ! videoconvert ! video/x-raw,format=I420,colorimetry=bt601 ! \
         identity name=before sync={sync}"
    );
    let pipeline = gst::Pipeline::new();
    let head = gst::parse::bin_from_description(&launch, true).unwrap();
    let tail = "videoconvert ! video/x-raw,format=RGB ! appsink name=out sync=false";
    let tail = gst::parse::bin_from_description(tail, true).unwrap();
    pipeline.add_many([head.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    gst::Element::link_many([head.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    let source = head.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let sink = tail.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "RGB")
        .field("width", WIDTH as i32)
        .field("height", HEIGHT as i32)
        .field("framerate", gst::Fraction::new(25, 1))
        .build();
    source.set_caps(Some(&caps));
    pipeline.set_state(gst::State::Playing).unwrap();
    for (index, picture) in pictures.iter().enumerate() {
        let mut buffer = gst::Buffer::from_slice(picture.rgb.clone());
        let time = at + step * index as u32;
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::try_from(time).unwrap());
        buffer.get_mut().unwrap().set_duration(gst::ClockTime::try_from(step).unwrap());
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut out = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        out.push(picture_of(&sample));
    }
    let bus = pipeline.bus().unwrap();
    let error = bus.pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    (out, built.costs())
}

/// The sizes in which pictures of these sizes come out, three of each, as they change.
pub fn sizes_through(effects: &[(&str, Value)], sizes: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let built = Chain::build(presets(), Kind::Video, &chain(effects), &Reports::default()).unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    source.set_max_bytes(0);
    let tail =
        gst::parse::bin_from_description("videoconvert ! video/x-raw,format=I420 ! appsink name=out sync=false", true);
    let tail = tail.unwrap();
    pipeline.add_many([source.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    gst::Element::link_many([source.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    let sink = tail.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut time = gst::ClockTime::ZERO;
    for (width, height) in sizes {
        // As decoders have them: a rate that varies.
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, *width as u32, *height as u32).build();
        let info = info.unwrap();
        source.set_caps(Some(&info.to_caps().unwrap()));
        for _ in 0..3 {
            let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
            buffer.get_mut().unwrap().set_pts(time);
            source.push_buffer(buffer).unwrap();
            time += gst::ClockTime::from_mseconds(40);
        }
    }
    source.end_of_stream().unwrap();
    let mut out = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let structure = sample.caps().unwrap().structure(0).unwrap().to_owned();
        out.push((structure.get::<i32>("width").unwrap(), structure.get::<i32>("height").unwrap()));
    }
    let error = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{effects:?}: {error:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(out.len(), 3 * sizes.len(), "{effects:?}");
    out.dedup();
    out
}

/// Sends one picture of that size, many times at 25 a second, to a chain that looks beside the stream.
pub fn stare(chain: &[Applied], (width, height): (u32, u32), rgb: &[u8], reports: &Reports) {
    let built = Chain::build(presets(), Kind::Video, chain, reports).unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    source.set_max_bytes(0);
    let head = gst::parse::bin_from_description("videoconvert ! video/x-raw,format=I420 ! identity sync=true", true);
    let head = head.unwrap();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
    let row = [source.upcast_ref(), head.upcast_ref(), built.element(), &sink];
    pipeline.add_many(row).unwrap();
    gst::Element::link_many(row).unwrap();
    let format = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .unwrap();
    source.set_caps(Some(&format.to_caps().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    for index in 0..35 {
        let mut buffer = gst::Buffer::from_slice(rgb.to_vec());
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(40 * index));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &wanted);
    assert_eq!(end.map(|message| message.type_()), Some(gst::MessageType::Eos));
    pipeline.set_state(gst::State::Null).unwrap();
}

fn picture_of(sample: &gst::Sample) -> Picture {
    let structure = sample.caps().unwrap().structure(0).unwrap().to_owned();
    let size = (structure.get::<i32>("width").unwrap(), structure.get::<i32>("height").unwrap());
    assert_eq!(size, (WIDTH as i32, HEIGHT as i32), "the picture keeps its size");
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let stride = info.stride()[0] as usize;
    Picture { rgb: map.chunks(stride).take(HEIGHT).flat_map(|row| row[..3 * WIDTH].to_vec()).collect() }
}

pub fn show(effects: &[(&str, Value)], picture: &Picture) -> Picture {
    show_at(effects, picture, Duration::ZERO)
}

/// Samples of one channel in, one channel out; both are of −1 to 1.
pub fn sound(effects: &[(&str, Value)], samples: &[f32]) -> Vec<f32> {
    play_sound(&chain(effects), samples, &Reports::default())
}

/// As [`sound`], with what the effects find.
pub fn play_sound(chain: &[Applied], samples: &[f32], reports: &Reports) -> Vec<f32> {
    let built = Chain::build(presets(), Kind::Audio, chain, reports).unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    let tail = "audioconvert ! audio/x-raw,format=F32LE,channels=1 ! appsink name=out sync=false";
    let tail = gst::parse::bin_from_description(tail, true).unwrap();
    pipeline.add_many([source.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    gst::Element::link_many([source.upcast_ref(), built.element(), tail.upcast_ref()]).unwrap();
    let sink = tail.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(RATE as i32)
        .channels(2)
        .build();
    source.set_caps(Some(&caps));
    source.set_max_bytes(0);
    pipeline.set_state(gst::State::Playing).unwrap();
    for (index, block) in samples.chunks(960).enumerate() {
        let value = |sample: &f32| ((sample * 32_767.0) as i16).to_le_bytes();
        let bytes: Vec<u8> = block.iter().flat_map(|sample| [value(sample), value(sample)]).flatten().collect();
        let mut buffer = gst::Buffer::from_slice(bytes);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(20 * index as u64));
        buffer.get_mut().unwrap().set_duration(gst::ClockTime::from_mseconds(20));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut out = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let map = sample.buffer().unwrap().map_readable().unwrap();
        out.extend(map.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())));
    }
    let bus = pipeline.bus().unwrap();
    let error = bus.pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    out
}

/// Puts these chains in turns into a stream that runs as fast as it can, so many times; how many frames
/// passed.
pub fn exchange(chains: &[&[(&str, Value)]], times: usize) -> usize {
    let presets = presets();
    let launch = "videotestsrc is-live=false ! video/x-raw,format=I420,width=160,height=90,framerate=30/1 ! identity name=before ! \
                  identity name=after ! fakesink name=out sync=false async=false signal-handoffs=false";
    let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let [before, after, out] = ["before", "after", "out"].map(|name| pipeline.by_name(name).unwrap());
    let frames = Arc::new(AtomicUsize::new(0));
    let counted = frames.clone();
    out.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Relaxed);
        gst::PadProbeReturn::Ok
    });
    let mut slot = Slot::new(&pipeline, Kind::Video, &before, &after);
    pipeline.set_state(gst::State::Playing).unwrap();
    for turn in 0..times {
        slot.set(presets, &chain(chains[turn % chains.len()])).unwrap();
    }
    let error = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    frames.load(Relaxed)
}
