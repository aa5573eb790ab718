//! Composes files and cameras into one MP4 without a room, as fast as the machine can.
//!
//! One pipeline, which is not live unless a camera is in it: its mixers wait for every input, so no
//! frame is lost and the time is the inputs' own. An input that ends leaves its last picture, then the
//! slate; the file ends with the longest. The file is written by the room's recorder, so what is in it
//! plays whatever happens.
//!
//! [`record`] blocks until the file is closed; making it fast to open is left to
//! [`crate::recording::store::finish_file`].

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError as Quiet};

use super::{
    mixer::{Canvas, Parts, Tap},
    preset::{AudioCodec, EncoderOptions, Presets},
    recorder::{Bounds, Budget, Order, Recorder, RecorderEvent, StopTime},
};
use crate::media::{MediaError, layout::MAX_TILES};

mod encode;
mod input;
mod picture;
mod sound;

use encode::{Out, Outputs};
use input::{Input, Opening};
use picture::Picture;
use sound::Sound;

/// How long the inputs may take until all of them have said what is in them.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How often the pipeline is looked at, and whoever waits is told.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// How long the recorder may take to write what is on its way when nothing more comes.
const CLOSE_DEADLINE: Duration = Duration::from_secs(60);

/// What to compose, and how.
#[derive(Clone, Debug)]
pub struct OfflineSpec {
    /// In the order of their tiles, at least one, at most [`MAX_TILES`]. What has no picture has no tile.
    pub inputs: Vec<OfflineInput>,
    /// Must not exist.
    pub output: PathBuf,
    /// A layout's name, from `pipelines/layouts`.
    pub layout: String,
    /// Of the file.
    pub canvas: Canvas,
    /// Names are drawn on the tiles.
    pub labels: bool,
    /// Drawn at the top of the picture.
    pub title: Option<String>,
    /// How hard the encoder works, and at which rate.
    pub encoder: EncoderOptions,
    /// The file is no longer than this.
    pub max: Option<Duration>,
}

/// One file or camera.
#[derive(Clone, Debug)]
pub struct OfflineInput {
    /// `file://`, `rtsp://`, `http://` or `https://`.
    pub uri: String,
    /// How it is called in messages: without credentials.
    pub shown: String,
    /// The name on its tile.
    pub label: String,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Media time that was encoded.
    pub position: Duration,
    /// Frames that were encoded.
    pub frames: u64,
    /// Length of the longest input, where all inputs know theirs.
    pub duration: Option<Duration>,
    /// Bytes in the file.
    pub written_bytes: u64,
}

/// Why nothing, or not everything, was recorded. What was written plays.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// An input cannot be read or decoded.
    #[error("{input}: {message}")]
    Input {
        /// Which.
        input: String,
        /// What GStreamer said.
        message: String,
    },
    /// An input has neither picture nor sound.
    #[error("{0}: there is neither picture nor sound in it")]
    NoMedia(String),
    /// All inputs are sound only.
    #[error("no input has a picture")]
    NoVideo,
    /// More than a layout can hold, or none.
    #[error("{0} inputs; there may be 1 to {MAX_TILES}")]
    Inputs(usize),
    /// No file can have that picture.
    #[error("a picture of {}×{} at {}; even sides of 160×90 to 3840×2160 and 1 to 120 frames a second are possible", .0.width, .0.height, .0.fps)]
    Canvas(Canvas),
    /// It did not say what is in it.
    #[error("{input}: nothing came within {limit:?}")]
    Silent {
        /// Which.
        input: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Interrupted before anything was written.
    #[error("interrupted before the recording began")]
    Interrupted,
    /// The pipeline or the file.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// Composes until the longest input is over, or `interrupted` is set: both end the file properly.
/// `report` hears about ten times a second how far it is. GStreamer must be initialised.
///
/// An input that fails in the middle ends there and is logged; the others go on.
///
/// # Errors
/// As [`OfflineError`] says. A file that was begun is closed and plays.
pub fn record(
    spec: &OfflineSpec,
    presets: &Presets,
    interrupted: &AtomicBool,
    mut report: impl FnMut(Progress),
) -> Result<Progress, OfflineError> {
    spec.check()?;
    let stage = Stage::new();
    let opening = Opening::start(&stage.pipeline, &spec.inputs)?;
    stage.play()?;
    let inputs = stage.open(opening, spec, interrupted)?;
    let order = Order {
        parts: Parts { audio: true, video: true },
        priming_samples: presets.audio_encoder(AudioCodec::Aac)?.priming_samples,
        bounds: Bounds::new(gst::ClockTime::ZERO, Budget::new(None, 0)),
        reordered: true,
    };
    let stop = order.bounds.stop.clone();
    let picture = Picture::build(&stage.pipeline, presets, spec, &inputs)?;
    let sound = Sound::build(&stage.pipeline, &inputs, picture.pace())?;
    let (recorder, tap, events) = Recorder::start(&spec.output, order)?;
    let outputs = stage.encode(spec, presets, &picture, &sound, tap)?;
    stage.start_rest()?;
    picture.start()?;
    inputs.iter().for_each(Input::unblock);
    let running = Running { spec, inputs, _picture: picture, outputs, recorder, stop, events };
    running.play(&stage, interrupted, &mut report)
}

impl OfflineSpec {
    fn check(&self) -> Result<(), OfflineError> {
        if !(1..=MAX_TILES).contains(&self.inputs.len()) {
            return Err(OfflineError::Inputs(self.inputs.len()));
        }
        let Canvas { width, height, fps } = self.canvas;
        let fits = (160..=3840).contains(&width) && (90..=2160).contains(&height) && (1..=120).contains(&fps);
        if fits && width % 2 == 0 && height % 2 == 0 { Ok(()) } else { Err(OfflineError::Canvas(self.canvas)) }
    }
}

/// The pipeline's owner.
struct Stage {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
}

impl Stage {
    fn new() -> Self {
        let pipeline = gst::Pipeline::with_name("offline");
        let bus = pipeline.bus().expect("a pipeline that was never disposed of has a bus");
        one_thread_decoders(&pipeline);
        Self { pipeline, bus }
    }

    /// Playing from the start: cameras send nothing before. Nothing waits for the clock but they.
    fn play(&self) -> Result<(), OfflineError> {
        // A source that refuses says why on the bus, which `open` reads.
        let _ = self.pipeline.set_state(gst::State::Playing);
        Ok(())
    }

    /// Until every input has said what is in it.
    fn open(
        &self,
        mut opening: Opening,
        spec: &OfflineSpec,
        interrupted: &AtomicBool,
    ) -> Result<Vec<Input>, OfflineError> {
        let deadline = Instant::now() + OPEN_DEADLINE;
        loop {
            if interrupted.load(Relaxed) {
                return Err(OfflineError::Interrupted);
            }
            if opening.poll() {
                return opening.finish(&spec.inputs);
            }
            if let Some(index) = opening.first_missing().filter(|_| Instant::now() >= deadline) {
                let input = spec.inputs[index].shown.clone();
                return Err(OfflineError::Silent { input, limit: OPEN_DEADLINE });
            }
            if let Some(Told::Failed(index, message)) = self.listen() {
                return Err(match index {
                    Some(index) => OfflineError::Input { input: spec.inputs[index].shown.clone(), message },
                    None => MediaError::Element { element: "offline".into(), message }.into(),
                });
            }
        }
    }

    fn encode(
        &self,
        spec: &OfflineSpec,
        presets: &Presets,
        picture: &Picture,
        sound: &Sound,
        tap: Tap,
    ) -> Result<Arc<Outputs>, OfflineError> {
        let limit = spec.max.map(|max| gst::ClockTime::from_nseconds(max.as_nanos() as u64));
        let outputs = Outputs::new(tap, limit);
        let Canvas { width, height, fps } = spec.canvas;
        let video = presets.offline_video_encoder()?.build_with(width, height, fps, &spec.encoder)?;
        outputs.encode(&self.pipeline, Out::Picture, picture.output(), video)?;
        outputs.encode(&self.pipeline, Out::Sound, sound.output(), presets.audio_encoder(AudioCodec::Aac)?.build()?)?;
        Ok(outputs)
    }

    /// What was added behind the inputs.
    fn start_rest(&self) -> Result<(), OfflineError> {
        let started = self.pipeline.iterate_sorted().into_iter().flatten().try_for_each(|element| {
            element.sync_state_with_parent().map_err(|_| MediaError::Element {
                element: element.name().into(),
                message: "could not be started".into(),
            })
        });
        Ok(started?)
    }

    /// What the bus says within a tick.
    fn listen(&self) -> Option<Told> {
        let kinds = [gst::MessageType::Error, gst::MessageType::Warning, gst::MessageType::Latency];
        let message = self.bus.timed_pop_filtered(TICK, &kinds)?;
        match message.view() {
            gst::MessageView::Error(error) => {
                tracing::debug!(debug = ?error.debug(), "pipeline error: {}", error.error());
                Some(Told::Failed(input::owner(message.src()), reason(error)))
            }
            gst::MessageView::Warning(warning) => {
                tracing::debug!(debug = ?warning.debug(), "pipeline warns: {}", warning.error());
                None
            }
            _ => {
                // A camera's delay came to be known. It fails only where nothing is linked yet.
                let _ = self.pipeline.recalculate_latency();
                None
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::error!("the pipeline could not be ended: {error}");
        }
    }
}

enum Told {
    /// Which input, if it was one, and why.
    Failed(Option<usize>, String),
}

/// Everything that runs while the file grows.
struct Running<'a> {
    spec: &'a OfflineSpec,
    inputs: Vec<Input>,
    /// Held: the silence waits for it.
    _picture: Picture,
    outputs: Arc<Outputs>,
    recorder: Recorder,
    stop: Arc<StopTime>,
    events: UnboundedReceiver<RecorderEvent>,
}

impl Running<'_> {
    fn play(
        mut self,
        stage: &Stage,
        interrupted: &AtomicBool,
        report: &mut impl FnMut(Progress),
    ) -> Result<Progress, OfflineError> {
        let mut failure = None;
        let mut closing: Option<Instant> = None;
        loop {
            match self.events.try_recv() {
                Ok(RecorderEvent::Started) | Err(Quiet::Empty) => {}
                Ok(RecorderEvent::Ended(result)) => {
                    let progress = self.progress();
                    report(progress);
                    return failure.map_or(result.map(|()| progress).map_err(Into::into), Err);
                }
                Err(Quiet::Disconnected) => return Err(MediaError::File("the recorder's thread died".into()).into()),
            }
            if interrupted.load(Relaxed) && closing.is_none() {
                self.stop.set(gst::ClockTime::ZERO);
                closing = Some(Instant::now());
            }
            if self.outputs.are_over() && closing.is_none() {
                self.stop.when_all_is_written();
                self.outputs.close();
                closing = Some(Instant::now());
            }
            if closing.is_some_and(|since| since.elapsed() > CLOSE_DEADLINE) {
                return Err(MediaError::Deadline { step: "writing the rest", limit: CLOSE_DEADLINE }.into());
            }
            match stage.listen() {
                Some(Told::Failed(Some(index), message)) => self.give_up(index, &message),
                Some(Told::Failed(None, message)) if closing.is_none() => {
                    failure = Some(MediaError::Element { element: "offline".into(), message }.into());
                    self.stop.set(gst::ClockTime::ZERO);
                    closing = Some(Instant::now());
                }
                _ => {}
            }
            report(self.progress());
        }
    }

    /// An input that failed is over; the others go on.
    fn give_up(&mut self, index: usize, message: &str) {
        let shown = &self.spec.inputs[index].shown;
        if self.inputs[index].end() {
            tracing::warn!("{shown} ends here: {message}");
        }
    }

    fn progress(&self) -> Progress {
        let (position, frames) = self.outputs.picture_so_far();
        let longest = self
            .inputs
            .iter()
            .map(Input::duration)
            .try_fold(Duration::ZERO, |longest, duration| duration.map(|duration| longest.max(duration)));
        let duration = longest.map(|longest| self.spec.max.map_or(longest, |max| max.min(longest)));
        Progress { position, frames, duration, written_bytes: self.recorder.written.load(Relaxed) }
    }
}

/// Enough inputs keep the machine busy by themselves, and frame threads cost more than they give.
fn one_thread_decoders(pipeline: &gst::Pipeline) {
    pipeline.connect_deep_element_added(|_, _, element| {
        if element.has_property("max-threads")
            && element.factory().is_some_and(|factory| factory.name().starts_with("avdec_"))
        {
            element.set_property_from_str("max-threads", "1");
        }
    });
}

/// GStreamer's sentence, and the first line of what lies behind it.
fn reason(error: &gst::message::Error) -> String {
    let debug = error.debug().unwrap_or_default();
    let detail = debug.lines().nth(1).map(str::trim).filter(|detail| !detail.is_empty());
    let message = error.error().message().trim_end_matches('.').to_owned();
    detail.map_or_else(|| message.clone(), |detail| format!("{message} ({detail})"))
}

fn make(factory: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory).build().map_err(|_| MediaError::Unavailable(factory.into()))
}

/// Adds elements and links them in a row, the first one behind `source`.
fn add_behind(pipeline: &gst::Pipeline, source: &gst::Pad, elements: &[gst::Element]) -> Result<(), MediaError> {
    let failed = |message: String| MediaError::Element { element: source.name().into(), message };
    pipeline
        .add_many(elements)
        .and_then(|()| gst::Element::link_many(elements))
        .map_err(|error| failed(error.to_string()))?;
    let Some(sink) = elements.first().and_then(|first| first.static_pad("sink")) else { return Ok(()) };
    source.link(&sink).map(drop).map_err(|error| failed(error.to_string()))
}

fn source_pad(element: &gst::Element) -> gst::Pad {
    element.static_pad("src").expect("the elements used here have a source pad")
}
