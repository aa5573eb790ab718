//! Files and cameras: what is in them, as raw pads that wait until everything behind them stands.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use gst::prelude::*;

use super::{OfflineError, OfflineInput, make};
use crate::media::MediaError;

/// What cameras may be late by: their jitter buffer. (`rtspsrc` would wait two seconds.)
const CAMERA_LATENCY_MS: u32 = 500;

/// One input whose pads are known.
#[derive(Debug)]
pub struct Input {
    decode: gst::Element,
    /// Its first picture.
    pub video: Option<Branch>,
    /// Its first sound.
    pub audio: Option<Branch>,
    /// A camera, or a file that is sent in real time.
    pub live: bool,
    ended: AtomicBool,
}

/// A raw pad that is blocked.
#[derive(Debug)]
pub struct Branch {
    pub pad: gst::Pad,
    pub caps: gst::Caps,
    block: std::sync::Mutex<Option<gst::PadProbeId>>,
}

/// Inputs that are being looked at.
pub struct Opening {
    found: Vec<Found>,
    news: Receiver<(usize, News)>,
}

#[derive(Default)]
struct Found {
    decode: Option<gst::Element>,
    video: Option<Branch>,
    audio: Option<Branch>,
    complete: bool,
}

enum News {
    Branch(Branch),
    Complete,
}

impl Opening {
    /// Adds a decoder for each input to the pipeline.
    pub fn start(pipeline: &gst::Pipeline, inputs: &[OfflineInput]) -> Result<Self, OfflineError> {
        let (sender, news) = channel();
        let mut found = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            let decode = decoder(index, &input.uri, &sender)?;
            pipeline
                .add(&decode)
                .map_err(|error| MediaError::Element { element: decode.name().into(), message: error.to_string() })?;
            found.push(Found { decode: Some(decode), ..Default::default() });
        }
        Ok(Self { found, news })
    }

    /// Takes what has become known; true when that is all.
    pub fn poll(&mut self) -> bool {
        for (index, news) in self.news.try_iter() {
            let found = &mut self.found[index];
            match news {
                News::Complete => found.complete = true,
                News::Branch(branch) => {
                    let place = if branch.is_video() { &mut found.video } else { &mut found.audio };
                    // A second picture or sound of an input has no place: it runs into nothing.
                    match place {
                        None => *place = Some(branch),
                        Some(_) => branch.unblock(),
                    }
                }
            }
        }
        self.first_missing().is_none()
    }

    /// The first input that is not known yet.
    pub fn first_missing(&self) -> Option<usize> {
        self.found.iter().position(|found| !found.complete)
    }

    /// The inputs, if each of them has something, and one of them a picture.
    pub fn finish(self, inputs: &[OfflineInput]) -> Result<Vec<Input>, OfflineError> {
        let ready = |(found, input): (Found, &OfflineInput)| {
            let Found { decode, video, audio, .. } = found;
            let pad = video.as_ref().or(audio.as_ref()).map(|branch| branch.pad.clone());
            let (Some(decode), Some(pad)) = (decode, pad) else {
                return Err(OfflineError::NoMedia(input.shown.clone()));
            };
            let mut latency = gst::query::Latency::new();
            let live = pad.query(&mut latency) && latency.result().0;
            Ok(Input { decode, video, audio, live, ended: AtomicBool::new(false) })
        };
        let ready: Vec<Input> = self.found.into_iter().zip(inputs).map(ready).collect::<Result<_, _>>()?;
        if ready.iter().all(|input| input.video.is_none()) {
            return Err(OfflineError::NoVideo);
        }
        Ok(ready)
    }
}

impl Input {
    /// Lets its media through.
    pub fn unblock(&self) {
        self.branches().for_each(Branch::unblock);
    }

    fn branches(&self) -> impl Iterator<Item = &Branch> {
        self.video.iter().chain(&self.audio)
    }

    /// How long it is, if it knows.
    pub fn duration(&self) -> Option<Duration> {
        self.decode.query_duration::<gst::ClockTime>().filter(|_| !self.live).map(Into::into)
    }

    /// Stops it and ends what it sent; false if that was done before.
    pub fn end(&self) -> bool {
        if self.ended.swap(true, Relaxed) {
            return false;
        }
        let peers: Vec<_> = self.branches().filter_map(|branch| branch.pad.peer()).collect();
        self.decode.set_locked_state(true);
        if let Err(error) = self.decode.set_state(gst::State::Null) {
            tracing::error!(element = %self.decode.name(), "could not be stopped: {error}");
        }
        // Its threads are gone, so nothing else is sent there meanwhile.
        for peer in peers {
            peer.send_event(gst::event::Eos::new());
        }
        true
    }
}

impl Branch {
    fn is_video(&self) -> bool {
        self.caps.structure(0).is_some_and(|structure| structure.name().starts_with("video/"))
    }

    fn unblock(&self) {
        if let Some(block) = self.block.lock().expect("nothing panics under this lock").take() {
            self.pad.remove_probe(block);
        }
    }
}

/// The input that a message comes from, found by walking up from its source.
pub fn owner(source: Option<&gst::Object>) -> Option<usize> {
    let mut object = source.cloned();
    while let Some(current) = object {
        if let Some(index) = current.name().strip_prefix("input-").and_then(|index| index.parse().ok()) {
            return Some(index);
        }
        object = current.parent();
    }
    None
}

fn decoder(index: usize, uri: &str, news: &Sender<(usize, News)>) -> Result<gst::Element, MediaError> {
    let decode = make("uridecodebin")?;
    decode.set_property("name", format!("input-{index}"));
    decode.set_property("uri", uri);
    decode.connect("source-setup", false, |values| {
        let source = values.get(1).and_then(|value| value.get::<gst::Element>().ok())?;
        if source.factory().is_some_and(|factory| factory.name() == "rtspsrc") {
            source.set_property("latency", CAMERA_LATENCY_MS);
        }
        None
    });
    let sender = news.clone();
    // On the decoder's threads: they note what there is, and go on.
    decode.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map(|structure| structure.name().to_string()).unwrap_or_default();
        if name == "video/x-raw" || name == "audio/x-raw" {
            let block = pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| gst::PadProbeReturn::Ok);
            let branch = Branch { pad: pad.clone(), caps, block: block.into() };
            let _ = sender.send((index, News::Branch(branch)));
        }
    });
    let sender = news.clone();
    decode.connect_no_more_pads(move |_| {
        let _ = sender.send((index, News::Complete));
    });
    Ok(decode)
}
