//! Mixes a room's scene into one picture and one sound, and encodes them once for all who read.

mod audio;
pub(super) mod picture;
pub(super) mod text;
mod video;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
    mpsc::{SyncSender, TrySendError},
};

use gst::prelude::*;
use tokio::sync::mpsc;

use super::{
    OwnedPipeline, PipelineEvent, RoomClock, TrackTable,
    decoder::{Decoder, Decoders},
    preset::Presets,
};
use crate::{
    media::{Kind, MediaError, Scene},
    room::id::TrackId,
};
use audio::AudioMix;
use video::VideoMix;

/// Jitter buffer of the publishers and time to decode: fixed from the start, so that nobody's
/// joining shifts the others.
const UPSTREAM_LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(300);
/// Raw frames that wait for a mixer that falls behind, in time; older ones are dropped.
const BACKLOG: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Size and rate of a mix. Recordings that ask for the same may share one mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Canvas {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
}

/// One encoded frame of the mix, with the caps that hold its codec's configuration.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Picture or sound.
    pub kind: Kind,
    /// The frame.
    pub sample: gst::Sample,
    /// To add to the sample's running time to have the room's.
    pub epoch: gst::ClockTime,
}

/// Where encoded frames go. A reader that leaves them lying is dropped.
pub type Tap = SyncSender<Encoded>;

type Taps = Arc<Mutex<Vec<Tap>>>;

/// One picture and one sound of many tracks.
#[derive(Debug)]
pub struct Mixer {
    pipeline: OwnedPipeline,
    video: VideoMix,
    audio: AudioMix,
    taps: Taps,
    video_out: gst_app::AppSink,
    epoch: Arc<AtomicU64>,
}

impl Mixer {
    /// Builds a mixer that shows nobody. Must be called on a tokio runtime, on a thread that may
    /// block for some milliseconds.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an encoder, the layout or an element is missing.
    pub fn new(
        name: &str,
        clock: &RoomClock,
        decoders: &Decoders,
        presets: &Presets,
        layout: &str,
        canvas: Canvas,
    ) -> Result<(Self, mpsc::Receiver<PipelineEvent>), MediaError> {
        let (video_encoder, audio_encoder) = (presets.video_encoder()?, presets.audio_encoder()?);
        let (pipeline, events) = OwnedPipeline::new(&format!("mix-{name}"), clock);
        let inner = pipeline.pipeline();
        let video = VideoMix::new(inner, decoders, presets.layout(layout)?, presets.slate()?, canvas)?;
        let audio = AudioMix::new(inner, decoders, presets.silence()?)?;
        let taps = Taps::default();
        let h264 = gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build();
        let aac = gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw").build();
        let epoch = Arc::new(AtomicU64::new(0));
        let encoder = video_encoder.build(canvas.width, canvas.height, canvas.fps)?;
        let video_out = encode(inner, video.output(), encoder, &h264, Kind::Video, &taps, &epoch)?;
        encode(inner, audio.output(), audio_encoder.build()?, &aac, Kind::Audio, &taps, &epoch)?;
        Ok((Self { pipeline, video, audio, taps, video_out, epoch }, events))
    }

    /// Starts it; the first frame is of running time `epoch` of the room, which may have passed
    /// already: what was missed is made up for at once.
    ///
    /// The mixer elements put out everything from running time 0 on, so 0 of this pipeline is the
    /// epoch, and what comes from the room's other pipelines is moved by that much. (Their property
    /// `start-time` does not help: it counts from the first buffer that comes in, and with
    /// `force-live` frames go out before that.)
    ///
    /// # Errors
    /// As [`OwnedPipeline::start`].
    pub async fn start(&mut self, epoch: gst::ClockTime) -> Result<(), MediaError> {
        let pipeline = self.pipeline.pipeline();
        let room = pipeline.base_time().unwrap_or_default();
        pipeline.set_base_time(room + epoch);
        self.video.begin_at(epoch);
        self.audio.begin_at(epoch);
        self.epoch.store(epoch.nseconds(), Relaxed);
        self.pipeline.start().await
    }

    /// Shows and sounds `scene` from running time `from` on. Blocks for some milliseconds for each
    /// change. Only after the start.
    ///
    /// A track that cannot be mixed is left out and logged: the others are not to suffer for it.
    pub fn set_scene(&mut self, scene: &Scene, tracks: &TrackTable, from: gst::ClockTime) {
        self.video.set_tiles(&scene.tiles, tracks, from);
        self.audio.set_tracks(&scene.audio, tracks);
    }

    /// Sends the encoded mix to `tap` too, from the next keyframe on, which is asked for.
    pub fn add_tap(&self, tap: Tap) {
        self.taps.lock().expect("nothing panics under this lock").push(tap);
        let request = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
        // Before the first frame there is nobody to ask, and that frame is a keyframe anyway.
        let _ = self.video_out.static_pad("sink").is_some_and(|pad| pad.push_event(request));
    }

    /// Decoders in use, by track.
    pub fn decoders(&self) -> Vec<(TrackId, Arc<Decoder>)> {
        self.video.decoders().chain(self.audio.decoders()).collect()
    }

    /// Ends it. Nothing is flushed: who reads it has stopped by then.
    ///
    /// # Errors
    /// As [`OwnedPipeline::shutdown`].
    pub async fn shutdown(self, deadline: std::time::Duration) -> Result<(), MediaError> {
        let Self { pipeline, video, audio, .. } = self;
        let ended = pipeline.shutdown(deadline).await;
        // Links to decoders go after the threads that read them.
        drop((video, audio));
        ended
    }
}

/// Puts an encoder behind `source`, and gives what comes out to the taps.
fn encode(
    pipeline: &gst::Pipeline,
    source: &gst::Element,
    encoder: gst::Bin,
    caps: &gst::Caps,
    kind: Kind,
    taps: &Taps,
    epoch: &Arc<AtomicU64>,
) -> Result<gst_app::AppSink, MediaError> {
    // A queue, so that the encoder works while the mixer waits for the next frame.
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", 8u32);
    queue.set_property("max-size-time", 0u64);
    queue.set_property("max-size-bytes", 0u32);
    let sink = gst_app::AppSink::builder()
        .name(format!("encoded-{kind:?}").to_lowercase())
        .caps(caps)
        .async_(false)
        .sync(false)
        .enable_last_sample(false)
        .build();
    let (taps, epoch) = (taps.clone(), epoch.clone());
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let epoch = gst::ClockTime::from_nseconds(epoch.load(Relaxed));
        give(&taps, &Encoded { kind, sample, epoch });
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    let mut elements = vec![queue];
    if kind == Kind::Audio {
        // Encoders differ in the sample format they take.
        elements.push(make("audioconvert")?);
    }
    elements.extend([encoder.upcast(), sink.clone().upcast()]);
    add_behind(pipeline, source, &elements)?;
    Ok(sink)
}

/// On an encoder's thread: never waits. A reader that is gone, or left its queue to fill up, is
/// forgotten, and notices that from its channel's end.
fn give(taps: &Taps, encoded: &Encoded) {
    taps.lock().expect("nothing panics under this lock").retain(|tap| match tap.try_send(encoded.clone()) {
        Ok(()) => true,
        Err(TrySendError::Disconnected(_)) => false,
        Err(TrySendError::Full(_)) => {
            tracing::error!("a reader of the mix is too slow and was dropped");
            false
        }
    });
}

fn make(factory: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory).build().map_err(|_| MediaError::Unavailable(factory.into()))
}

/// A source for a link to another pipeline of the room, whose running time is `epoch` more than
/// ours. What the link configures too late, once the source has been started, is set here.
fn live_source(epoch: gst::ClockTime) -> gst_app::AppSrc {
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).is_live(true).handle_segment_change(true).build();
    let pad = source.static_pad("src").expect("an appsrc has a source pad");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
        // What has no time, or one before ours begins, must not get through: the compositor aborts
        // the process over it. (A negative pad offset would let it.)
        match buffer.pts().and_then(|time| time.checked_sub(epoch)) {
            Some(time) => {
                buffer.make_mut().set_pts(time);
                gst::PadProbeReturn::Ok
            }
            None => gst::PadProbeReturn::Drop,
        }
    });
    source
}

/// A mixer that puts something out in time, whatever its inputs do.
fn make_live(factory: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory)
        .property("force-live", true)
        .property("min-upstream-latency", UPSTREAM_LATENCY.nseconds())
        .build()
        .map_err(|_| MediaError::Unavailable(factory.into()))
}

/// Adds elements to the pipeline and links them in a row behind `source`.
fn add_behind(pipeline: &gst::Pipeline, source: &gst::Element, elements: &[gst::Element]) -> Result<(), MediaError> {
    pipeline
        .add_many(elements)
        .and_then(|()| gst::Element::link_many([source].into_iter().chain(elements)))
        .map_err(|error| MediaError::Element { element: source.name().into(), message: error.to_string() })
}

/// Takes a running branch out: first its pad, so that nothing waits in it, then its elements, the
/// source first, so that none pushes into what is gone.
fn remove_branch(pipeline: &gst::Pipeline, mixer: &gst::Element, pad: &gst::Pad, elements: &[gst::Element]) {
    for element in elements {
        element.set_locked_state(true);
    }
    // Flushing makes a push that waits for the mixer return, and every later one too.
    let _ = pad.send_event(gst::event::FlushStart::new());
    for element in elements {
        if let Err(error) = element.set_state(gst::State::Null) {
            tracing::error!(element = %element.name(), "could not be stopped: {error}");
        }
    }
    mixer.release_request_pad(pad);
    // They are in it: the branch put them there.
    let _ = pipeline.remove_many(elements);
}
