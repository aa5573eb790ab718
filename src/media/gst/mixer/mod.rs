//! Mixes a room's scene into one picture and one sound, and encodes them once for all who read.

mod audio;
mod backdrop;
mod branch;
mod caption;
mod drift;
mod effects;
mod glide;
mod live;
pub(super) mod picture;
mod shape;
mod still;
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
    OwnedPipeline, PipelineEvent, RoomClock, TrackTable, counters,
    decoder::{Decoder, Decoders},
    preset::{AudioCodec, Presets},
};
use crate::{
    effect::Applied,
    media::{Kind, LayoutChoice, MediaError, Scene},
    room::id::{ParticipantId, TrackId},
};
use audio::AudioMix;
pub use effects::EffectLines;
use effects::MixEffects;
use video::VideoMix;

/// Jitter buffer of the publishers and time to decode: fixed from the start, so that nobody's
/// joining shifts the others.
const UPSTREAM_LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(300);
/// Raw frames that wait for a mixer that falls behind, in time; older ones are dropped.
const BACKLOG: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// A frame of the mix that is encoded so long after its time is late: raw frames are lost on the way to it then.
const LATE: gst::ClockTime = gst::ClockTime::from_mseconds(800);

/// A participant, whether it is his screen, and which of such tiles.
type TileKey = (ParticipantId, bool, usize);

/// Size and rate of a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Canvas {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
}

/// What a mix is made of: one of them at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parts {
    /// It sounds.
    pub audio: bool,
    /// It has a picture.
    pub video: bool,
}

/// What a mix looks and sounds like; who wants the same shares one.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Of its own; left out, the room's.
    pub layout: Option<LayoutChoice>,
    /// Size and rate.
    pub canvas: Canvas,
    /// Picture, sound or both.
    pub parts: Parts,
    /// Of the sound.
    pub codec: AudioCodec,
    /// Tracks that are not heard in it: a listener's own, who is not to hear himself.
    pub without: Vec<TrackId>,
    /// Tracks with their effects, and picture and sound with the room's.
    pub effects: bool,
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

impl Encoded {
    /// Running time of the room at which it is shown, or at which the encoder says it sounds; `None` for
    /// buffers that carry no media or no time, which encoders send as headers.
    pub fn running_time(&self) -> Option<gst::ClockTime> {
        running_time(&self.sample).map(|time| time + self.epoch)
    }
}

/// Running time of a sample's pipeline; `None` if it carries no media or no time.
pub fn running_time(sample: &gst::Sample) -> Option<gst::ClockTime> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(sample.buffer()?.pts()?)
}

/// Where encoded frames go. A reader that leaves them lying is dropped.
pub type Tap = SyncSender<Encoded>;

/// Who reads a mix. It is there before the mix is, so that nobody misses its beginning.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    readers: Arc<Mutex<Vec<Tap>>>,
    keyframe: Arc<Mutex<KeyframeWish>>,
    /// Pictures so far.
    pub frames: Arc<AtomicU64>,
    /// Of these, those that were [late](LATE).
    pub late: Arc<AtomicU64>,
}

/// A keyframe that the video encoder is to be asked for.
///
/// The first frame is one anyway. Asked for another before it, GStreamer 1.22's encoder notes that as
/// wanted in a thousand hours (x264enc counts from there), and hears of no other until then.
#[derive(Debug)]
enum KeyframeWish {
    /// No frame has come yet; the latest that was asked for, in running time of the room.
    Waits(Option<gst::ClockTime>),
    /// The encoder may be asked, through this.
    Runs(gst::Pad),
}

impl Default for KeyframeWish {
    fn default() -> Self {
        Self::Waits(None)
    }
}

impl Taps {
    /// Sends the encoded mix to `tap` too.
    pub fn add(&self, tap: Tap) {
        self.readers.lock().expect("nothing panics under this lock").push(tap);
    }

    /// Lets go of all.
    pub fn clear(&self) {
        self.readers.lock().expect("nothing panics under this lock").clear();
    }

    /// Asks for a keyframe: the first frame at or after running time `at` of the room, in a mix that
    /// begins at `epoch`.
    pub fn request_keyframe(&self, at: gst::ClockTime, epoch: gst::ClockTime) {
        let pad = match &mut *self.keyframe.lock().expect("nothing panics under this lock") {
            KeyframeWish::Waits(wanted) => {
                *wanted = (*wanted).max(Some(at));
                return;
            }
            KeyframeWish::Runs(pad) => pad.clone(),
        };
        ask(&pad, at, epoch);
    }

    /// On an encoder's thread: never waits. A reader that is gone, or left its queue to fill up, is
    /// forgotten, and notices that from its channel's end.
    fn give(&self, encoded: &Encoded) {
        self.readers.lock().expect("nothing panics under this lock").retain(|tap| {
            match tap.try_send(encoded.clone()) {
                Ok(()) => true,
                Err(TrySendError::Disconnected(_)) => false,
                Err(TrySendError::Full(_)) => {
                    tracing::error!("a reader of the mix is too slow and was dropped");
                    false
                }
            }
        });
    }

    /// A picture has come, so long after its time.
    fn count(&self, after: gst::ClockTime) {
        self.frames.fetch_add(1, Relaxed);
        if after > LATE {
            self.late.fetch_add(1, Relaxed);
            counters::mix_frame_late();
        }
    }

    /// A frame of the picture has come, through `pad`.
    fn runs(&self, pad: Option<gst::Pad>, epoch: gst::ClockTime) {
        let Some(pad) = pad else { return };
        let mut wish = self.keyframe.lock().expect("nothing panics under this lock");
        let KeyframeWish::Waits(wanted) = *wish else { return };
        *wish = KeyframeWish::Runs(pad.clone());
        drop(wish);
        if let Some(at) = wanted.filter(|at| *at > epoch) {
            ask(&pad, at, epoch);
        }
    }
}

/// The encoders are behind the clock; by the time they know which frame is meant.
fn ask(pad: &gst::Pad, at: gst::ClockTime, epoch: gst::ClockTime) {
    let request = gst_video::UpstreamForceKeyUnitEvent::builder()
        .running_time(at.saturating_sub(epoch))
        .all_headers(true)
        .build();
    // An error means that the pipeline is going down.
    let _ = pad.push_event(request);
}

/// One picture and one sound of many tracks, or one of the two.
#[derive(Debug)]
pub struct Mixer {
    pipeline: OwnedPipeline,
    video: Option<VideoMix>,
    effects: MixEffects,
    audio: Option<AudioMix>,
    with_effects: bool,
    presets: Arc<Presets>,
    /// Of its own; the room's if there is none.
    layout: Option<LayoutChoice>,
    without: Vec<TrackId>,
    epoch: Arc<AtomicU64>,
}

impl Mixer {
    /// Builds a mixer that shows nobody and gives its encoded frames to `taps`. Must be called on a tokio runtime, on a thread that may
    /// block for some milliseconds.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an encoder, the layout or an element is missing.
    pub fn new(
        name: &str,
        clock: &RoomClock,
        decoders: &Decoders,
        presets: &Arc<Presets>,
        look: Look,
        taps: &Taps,
        lines: EffectLines,
    ) -> Result<(Self, mpsc::Receiver<PipelineEvent>), MediaError> {
        let (pipeline, events) = OwnedPipeline::new(&format!("mix-{name}"), clock);
        let inner = pipeline.pipeline();
        let epoch = Arc::new(AtomicU64::new(0));
        let Look { layout, canvas, parts, codec, without, effects: with_effects } = look;
        let (mut video, mut audio, mut effects) = (None, None, MixEffects::new(presets, lines));
        if parts.video {
            let mut mix = VideoMix::new(inner, decoders, presets.slate()?, canvas)?;
            let h264 =
                gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build();
            let encoder = presets.video_encoder()?.build(canvas.width, canvas.height, canvas.fps)?;
            let output = effects.behind_picture(inner, mix.output(), canvas)?;
            encode(inner, &output, encoder, &h264, Kind::Video, taps, &epoch)?;
            mix.with_effects = with_effects;
            video = Some(mix);
        }
        if parts.audio {
            let mut mix = AudioMix::new(inner, decoders, presets.silence()?)?;
            let caps = match codec {
                AudioCodec::Aac => {
                    gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw").build()
                }
                AudioCodec::Opus => gst::Caps::builder("audio/x-opus").build(),
            };
            let output = effects.behind_sound(inner, mix.output())?;
            encode(inner, &output, presets.audio_encoder(codec)?.build()?, &caps, Kind::Audio, taps, &epoch)?;
            mix.with_effects = with_effects;
            audio = Some(mix);
        }
        let presets = presets.clone();
        let mixer = Self { pipeline, video, effects, audio, with_effects, presets, layout, without, epoch };
        Ok((mixer, events))
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
        self.video.iter_mut().for_each(|video| video.begin_at(epoch));
        self.audio.iter_mut().for_each(|audio| audio.begin_at(epoch));
        self.epoch.store(epoch.nseconds(), Relaxed);
        self.pipeline.start().await
    }

    /// Shows and sounds `scene` from running time `from` on. Blocks for some milliseconds for each
    /// change. Only after the start.
    ///
    /// A track that cannot be mixed is left out and logged: the others are not to suffer for it.
    ///
    /// # Errors
    /// As [`MixEffects::set`], of the scene's effects: all else is as the scene says, and the effects are as before.
    pub fn set_scene(&mut self, scene: &Scene, tracks: &TrackTable, from: gst::ClockTime) -> Result<(), MediaError> {
        let chain: &[Applied] = if self.with_effects { &scene.effects } else { &[] };
        // Nobody is seen or heard without the effects that come with him, nor when those go that go with him.
        let put_on = if chain.is_empty() { Ok(()) } else { self.effects.set(chain) };
        let mut overlays = Vec::new();
        if let Some(video) = &mut self.video {
            match self.presets.resolve(self.layout.as_ref(), &scene.layout) {
                Ok((layout, style)) => {
                    overlays = effects::overlays(&layout, &scene.pictures);
                    video.set_scene(scene, &layout, style, tracks, from);
                }
                Err(error) => tracing::error!("the picture stays as it is: {error}"),
            }
        }
        if let Some(audio) = &mut self.audio {
            let audible: Vec<_> = scene.audio.iter().filter(|track| !self.without.contains(track)).cloned().collect();
            audio.set_tracks(&audible, tracks);
        }
        self.effects.set_overlays(overlays);
        if chain.is_empty() { self.effects.set(chain) } else { put_on }
    }

    /// As [`MixEffects::mend`]: after the alarm of its [`EffectLines`].
    pub fn mend(&mut self) -> Option<(Vec<Applied>, MediaError)> {
        self.effects.mend()
    }

    /// When there is something to [tidy](Self::tidy), in running time of the room.
    pub fn tidy_at(&self) -> Option<gst::ClockTime> {
        self.video.as_ref().and_then(VideoMix::tidy_at)
    }

    /// Takes out what is seen no more at running time `now` of the room. Blocks for some milliseconds.
    pub fn tidy(&mut self, now: gst::ClockTime) {
        if let Some(video) = &mut self.video {
            video.tidy(now);
        }
    }

    /// Decoders in use, by track.
    pub fn decoders(&self) -> Vec<(TrackId, Arc<Decoder>)> {
        let (video, audio) = (self.video.as_ref().map(VideoMix::decoders), self.audio.as_ref().map(AudioMix::decoders));
        video.into_iter().flatten().chain(audio.into_iter().flatten()).collect()
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
) -> Result<(), MediaError> {
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
        if kind == Kind::Video {
            taps.runs(sink.static_pad("sink"), epoch);
            if let (Some(now), Some(time)) = (sink.current_running_time(), running_time(&sample)) {
                taps.count(now.saturating_sub(time));
            }
        }
        taps.give(&Encoded { kind, sample, epoch });
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    let mut elements = vec![queue];
    if kind == Kind::Audio {
        // Encoders differ in the sample format they take.
        elements.push(make("audioconvert")?);
    }
    elements.extend([encoder.upcast(), sink.upcast()]);
    add_behind(pipeline, source, &elements)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_come_after_the_limit_are_late() {
        let taps = Taps::default();
        for after in [gst::ClockTime::ZERO, LATE, LATE + gst::ClockTime::NSECOND, 2 * LATE] {
            taps.count(after);
        }
        assert_eq!((taps.frames.load(Relaxed), taps.late.load(Relaxed)), (4, 2));
    }
}
