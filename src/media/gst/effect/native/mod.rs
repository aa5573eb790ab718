//! What stock elements do not do, at an `identity` of an effect's fragment. Runs on the streaming
//! thread, on the buffer itself.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use gst::prelude::*;

use super::{Reports, cost::Meter};
use crate::{
    effect::{Picture, Value},
    media::gst::preset::Native,
};

mod bars;
mod canvas;
mod compress;
mod faces;
mod flatten;
mod glide;
mod inset;
mod level;
mod mosaic;
mod motion;
mod overlay;
mod scan;

/// The pictures that every room has, by name.
pub type Album = Arc<BTreeMap<String, Arc<Picture>>>;

/// What is done to each buffer.
trait Step: Send {
    /// Takes a value of a parameter.
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String>;

    /// A picture passes.
    fn picture(&mut self, _buffer: &mut gst::Buffer, _format: &gst_video::VideoInfo) {}

    /// A block of sound passes.
    fn sound(&mut self, _buffer: &mut gst::Buffer, _format: &gst_audio::AudioInfo) {}
}

/// A step in its place.
pub(super) struct NativeStep {
    step: Arc<Mutex<Box<dyn Step>>>,
}

impl fmt::Debug for NativeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeStep")
    }
}

impl NativeStep {
    /// Does its work on all that passes `element`; what it finds goes to `reports`, and what it takes beside the
    /// stream to `meter`.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub(super) fn attach(
        kind: Native,
        element: &gst::Element,
        album: &Album,
        reports: &Reports,
        meter: &Arc<Meter>,
    ) -> Result<Self, String> {
        let faces = |what| Box::new(faces::Faces::new(what, meter.clone()));
        let step: Box<dyn Step> = match kind {
            Native::Flatten => Box::new(flatten::Flatten::new(album.clone())),
            Native::Bars => Box::new(bars::Bars),
            Native::Overlay => Box::new(overlay::Overlay::new(album.clone())),
            Native::Inset => Box::new(inset::Inset::new(album.clone())),
            Native::FaceOverlay => faces(faces::Use::Overlay(faces::Overlay::new(album.clone()))),
            Native::FaceHide => faces(faces::Use::Hide { blocks: false }),
            Native::FaceTell => faces(faces::Use::Tell { reports: reports.clone(), told: None }),
            Native::Compress => Box::new(compress::Compressor::new()),
            Native::Level => Box::new(level::Level::new(reports.clone())),
            Native::Motion => Box::new(motion::Motion::new(reports.clone())),
            Native::Barcode => Box::new(scan::Barcodes::new(reports.clone(), meter)?),
        };
        let step = Arc::new(Mutex::new(step));
        if let Some(pad) = element.static_pad("src") {
            run(&step, &pad);
        }
        Ok(Self { step })
    }

    /// Says something of it.
    pub(super) fn set(&self, property: &str, value: &Value) -> Result<(), String> {
        self.step.lock().expect("nothing panics under this lock").set(property, value)
    }
}

/// Formats that a pad may have now.
#[derive(Default)]
struct Format {
    caps: Option<gst::Caps>,
    video: Option<gst_video::VideoInfo>,
    audio: Option<gst_audio::AudioInfo>,
}

impl Format {
    fn follow(&mut self, pad: &gst::Pad) {
        let caps = pad.current_caps();
        if caps == self.caps {
            return;
        }
        self.video = caps.as_ref().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
        self.audio = caps.as_ref().and_then(|caps| gst_audio::AudioInfo::from_caps(caps).ok());
        self.caps = caps;
    }
}

fn run(step: &Arc<Mutex<Box<dyn Step>>>, pad: &gst::Pad) {
    let step = step.clone();
    let format = Mutex::new(Format::default());
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let mut format = format.lock().expect("nothing panics under this lock");
        format.follow(pad);
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            let mut step = step.lock().expect("nothing panics under this lock");
            match (&format.video, &format.audio) {
                (Some(video), _) => step.picture(buffer, video),
                (None, Some(audio)) => step.sound(buffer, audio),
                (None, None) => {}
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whoever writes an effect's file has named a property that the step does not have.
fn no_such(property: &str) -> String {
    format!("`{property}` is not to be set there")
}

fn number(property: &str, value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => Ok(*number),
        _ => Err(format!("`{property}` takes a number")),
    }
}

/// One of the room's, or of the album; `none` is none.
fn picture(album: &Album, property: &str, value: &Value) -> Result<Option<Arc<Picture>>, String> {
    match value {
        Value::Picture(picture) => Ok(Some(picture.clone())),
        Value::Text(name) if name == "none" => Ok(None),
        Value::Text(name) => {
            album.get(name).cloned().map(Some).ok_or_else(|| format!("`{property}`: there is no picture `{name}`"))
        }
        _ => Err(format!("`{property}` takes a picture")),
    }
}
