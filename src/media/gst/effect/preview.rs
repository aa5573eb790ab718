//! How a track would look with an effect, for who chooses among them: one picture of it as it is now, sent through a
//! chain of its own.
//!
//! A track that is looked at keeps its decoder for some seconds, so that not every look asks its publisher for a
//! keyframe. One preview at a time of a track, and one effect at a time in a room, below the priority of all else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant as Moment},
};

use bytes::Bytes;
use gst::prelude::*;
use gst_utils::streamproducer::ConsumerSettings;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    Chain, Reports,
    chain::{failed, make},
    track::{LEAVE_OUT, blocking},
};
use crate::{
    effect::Applied,
    media::{
        Kind, MediaError,
        gst::{
            OwnedPipeline, RoomClock, Track,
            decoder::Decoders,
            pictures::spawn_below,
            preset::{Native, Presets},
        },
        layout::Fit,
        rtp,
    },
    room::id::TrackId,
};

/// Tracks of a room that are looked at, at most.
const MOST_LOOKED_AT: usize = 3;
/// Tracks of all rooms that are looked at, at most: each costs a decoder, and one thread while an effect is shown.
static LOOKS: Semaphore = Semaphore::const_new(4);
/// Nobody has looked at a track for so long: its decoder is let go.
const IDLE: Duration = Duration::from_secs(6);
/// A picture of a track comes within this …
const FIRST_PICTURE: Duration = Duration::from_secs(4);
/// … and is of now: it came so long ago at most.
const FRESH: Duration = Duration::from_secs(1);
/// A picture comes out of the effect within this.
const RENDERED: gst::ClockTime = gst::ClockTime::from_seconds(2);
/// All of it. What takes longer is stuck inside an element.
const MADE: Duration = Duration::from_secs(5);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// Between two pictures that are kept of a track.
const EVERY: Duration = Duration::from_millis(200);
/// Effects are made at a size at which they look as they do on air, in pixels of the longer side …
const SIDE: i32 = 640;
/// … and shown at this one.
const SHOWN_SIDE: i32 = 256;
const QUALITY: i32 = 80;
/// Pictures go into an effect at this distance.
const STEP: Duration = Duration::from_millis(40);
/// What looks for faces beside the stream finds them within so many pictures.
const PICTURES_WITH_FACES: usize = 15;
/// All others are asked for so many: some keep the first for themselves.
const PICTURES: usize = 4;

type Answer = oneshot::Sender<Result<Bytes, MediaError>>;
/// The newest picture of a track, and when it came.
type Newest = Option<(Moment, gst::Sample)>;
/// One of [`LOOKS`].
type Place = Arc<SemaphorePermit<'static>>;

/// The previews of a room.
#[derive(Debug)]
pub struct Previews {
    /// Of the room's effects one works at a time.
    turn: Arc<Semaphore>,
    looks: HashMap<TrackId, Look>,
}

/// A track that is looked at.
#[derive(Debug)]
struct Look {
    jobs: mpsc::Sender<Job>,
    /// One preview at a time.
    free: Arc<Semaphore>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Job {
    chain: Vec<Applied>,
    answer: Answer,
    _only: OwnedSemaphorePermit,
}

/// What a look needs to show effects.
struct Stage {
    presets: Arc<Presets>,
    turn: Arc<Semaphore>,
    place: Place,
}

impl Default for Previews {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), looks: HashMap::new() }
    }
}

impl Previews {
    /// Starts to make a JPEG of `track` as it is shown, with this chain over it; `None` while another is made of it, or
    /// others are looked at. Must be called on a tokio runtime; returns at once.
    pub fn start(
        &mut self,
        track: &Arc<Track>,
        chain: Vec<Applied>,
        clock: &RoomClock,
        decoders: &Decoders,
        presets: &Arc<Presets>,
    ) -> Option<oneshot::Receiver<Result<Bytes, MediaError>>> {
        self.looks.retain(|_, look| !look.jobs.is_closed());
        if !self.looks.contains_key(&track.id) {
            if self.looks.len() >= MOST_LOOKED_AT {
                return None;
            }
            let place = Arc::new(LOOKS.try_acquire().ok()?);
            let (jobs, asked) = mpsc::channel(1);
            let stage = Stage { presets: presets.clone(), turn: self.turn.clone(), place };
            let task = tokio::spawn(look(track.clone(), clock.clone(), decoders.clone(), stage, asked));
            self.looks.insert(track.id.clone(), Look { jobs, free: Arc::new(Semaphore::new(1)), task });
        }
        let look = &self.looks[&track.id];
        let only = look.free.clone().try_acquire_owned().ok()?;
        let (answer, made) = oneshot::channel();
        // It may have ended just now: the answer's end is dropped then, and whoever asked may ask again.
        let _ = look.jobs.try_send(Job { chain, answer, _only: only });
        Some(made)
    }

    /// Lets go of tracks that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&TrackId) -> bool) {
        self.looks.retain(|track, _| is_there(track));
    }

    /// Ends all.
    pub fn end(self) -> impl Iterator<Item = JoinHandle<()>> {
        self.looks.into_values().map(|look| look.task)
    }
}

/// Until nobody has asked for some time, or it fails.
async fn look(track: Arc<Track>, clock: RoomClock, decoders: Decoders, stage: Stage, mut jobs: mpsc::Receiver<Job>) {
    let (owned, mut events) = OwnedPipeline::new(&format!("preview-{}", track.id), &clock);
    let failure = tokio::select! {
        failure = serve(&owned, &track, &decoders, &stage, &mut jobs) => failure.err(),
        // Whatever an element says, or its end.
        _ = events.recv() => Some(MediaError::Unavailable("a picture of this track".into())),
    };
    jobs.close();
    if let Some(error) = &failure {
        tracing::warn!(track.id = %track.id, "no previews of effects: {error}");
    }
    // One may have come at the last moment.
    let error = failure.unwrap_or_else(|| MediaError::Unavailable("a picture of this track".into()));
    while let Ok(job) = jobs.try_recv() {
        let _ = job.answer.send(Err(error.clone()));
    }
    // A deadline that passes is logged there.
    let _ = owned.shutdown(SHUTDOWN_DEADLINE).await;
}

/// Until nobody asks any more.
async fn serve(
    owned: &OwnedPipeline,
    track: &Arc<Track>,
    decoders: &Decoders,
    stage: &Stage,
    jobs: &mut mpsc::Receiver<Job>,
) -> Result<(), MediaError> {
    let pipeline = owned.pipeline().clone();
    let (source, mut picture) = blocking(move || graph(&pipeline)).await??;
    owned.start().await?;
    let (width, height) = (SIDE.cast_unsigned(), SIDE.cast_unsigned());
    let _need = track.need(Some(rtp::Place { width, height, fit: Fit::Fit }));
    let (decoders, track) = (decoders.clone(), track.clone());
    let linked = blocking(move || {
        let decoder = decoders.get(&track)?;
        let link = decoder.link(&source, ConsumerSettings { max_buffer: 1, ..Default::default() }, true)?;
        Ok::<_, MediaError>((link, decoder))
    });
    let _linked = linked.await??;
    let is_fresh = |newest: &Newest| newest.as_ref().is_some_and(|(came, _)| came.elapsed() < FRESH);
    while let Ok(Some(Job { chain, answer, _only })) = timeout(IDLE, jobs.recv()).await {
        let newest = match timeout(FIRST_PICTURE, picture.wait_for(is_fresh)).await {
            Ok(Ok(newest)) => newest.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some((_, sample)) = newest else {
            let late = MediaError::Deadline { step: "a picture of the track", limit: FIRST_PICTURE };
            let _ = answer.send(Err(late));
            continue;
        };
        let _turn = stage.turn.acquire().await.expect("it is never closed");
        // Whoever asked may have gone.
        if answer.is_closed() {
            continue;
        }
        let Ok(made) = timeout(MADE, beside(stage, chain, sample)).await else {
            let stuck = MediaError::Deadline { step: "a preview", limit: MADE };
            let _ = answer.send(Err(stuck.clone()));
            return Err(stuck);
        };
        let _ = answer.send(made);
    }
    Ok(())
}

/// Where raw pictures come in, and the newest of a few each second.
fn graph(pipeline: &gst::Pipeline) -> Result<(gst_app::AppSrc, watch::Receiver<Newest>), MediaError> {
    let launch = "appsrc name=raw format=time is-live=true handle-segment-change=true ! \
                  videoconvertscale add-borders=false ! capsfilter name=size ! \
                  appsink name=sink sync=false async=false enable-last-sample=false";
    let bin = gst::parse::bin_from_description(launch, false).map_err(|error| failed(&error))?;
    let named = |name: &str| bin.by_name(name).expect("the launch line has it");
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width_range(1..=SIDE)
        .height_range(1..=SIDE)
        .pixel_aspect_ratio(gst::Fraction::new(1, 1));
    named("size").set_property("caps", caps.build());
    let source = named("raw").downcast::<gst_app::AppSrc>().expect("it is an appsrc");
    a_few(&source);
    let sink = named("sink").downcast::<gst_app::AppSink>().expect("it is an appsink");
    let (show, picture) = watch::channel(None);
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        show.send_replace(Some((Moment::now(), sample)));
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    pipeline.add(&bin).map_err(|error| failed(&error))?;
    Ok((source, picture))
}

/// Leaves the others out, before they are scaled. (`videorate` aborts on pictures that do not say how long they last.)
fn a_few(source: &gst_app::AppSrc) {
    let Some(pad) = source.static_pad("src") else { return };
    let last = Mutex::new(None::<Moment>);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let mut last = last.lock().expect("nothing panics under this lock");
        if last.is_some_and(|last| last.elapsed() < EVERY) {
            return LEAVE_OUT;
        }
        *last = Some(Moment::now());
        gst::PadProbeReturn::Ok
    });
}

async fn beside(stage: &Stage, chain: Vec<Applied>, sample: gst::Sample) -> Result<Bytes, MediaError> {
    let (answer, made) = oneshot::channel();
    let (presets, place) = (stage.presets.clone(), stage.place.clone());
    let work = move || {
        // A thread that is stuck keeps its place: there are never more than places.
        let _place = place;
        drop(answer.send(render(&presets, &chain, &sample)));
    };
    spawn_below("preview", work).map_err(|error| failed(&error))?;
    made.await.map_err(|_| failed(&"a preview's thread panicked"))?
}

/// Sends a picture through a chain, and gives what comes out as JPEG. Elements work on the calling thread.
fn render(presets: &Presets, chain: &[Applied], sample: &gst::Sample) -> Result<Bytes, MediaError> {
    let pipeline = gst::Pipeline::new();
    let made = render_in(&pipeline, presets, chain, sample);
    let _ = pipeline.set_state(gst::State::Null);
    made
}

fn render_in(
    pipeline: &gst::Pipeline,
    presets: &Presets,
    applied: &[Applied],
    sample: &gst::Sample,
) -> Result<Bytes, MediaError> {
    let chain = Chain::build(presets, Kind::Video, applied, &Reports::default())?;
    let (scale, size, jpeg) = (make("videoconvertscale")?, make("capsfilter")?, make("jpegenc")?);
    // As colours: of luma and chroma the encoder would not ask which range they have.
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Rgb)
        .width_range(1..=SHOWN_SIDE)
        .height_range(1..=SHOWN_SIDE)
        .pixel_aspect_ratio(gst::Fraction::new(1, 1));
    size.set_property("caps", caps.build());
    jpeg.set_property("quality", QUALITY);
    let sink = gst_app::AppSink::builder().sync(false).async_(false).max_buffers(1).drop(true).build();
    let row = [chain.element(), &scale, &size, &jpeg, sink.upcast_ref()];
    pipeline.add_many(row).and_then(|()| gst::Element::link_many(row)).map_err(|error| failed(&error))?;
    pipeline.set_state(gst::State::Playing).map_err(|error| failed(&error))?;
    let pad = gst::Pad::new(gst::PadDirection::Src);
    let into = chain.element().static_pad("sink").ok_or_else(|| failed(&"a chain without a way in"))?;
    pad.set_active(true).map_err(|error| failed(&error))?;
    pad.link(&into).map_err(|error| failed(&error))?;
    let pushed = push(&pad, sample, needed(presets, applied), &sink);
    let _ = pad.set_active(false);
    let _ = pad.unlink(&into);
    pushed.and_then(|sample| {
        let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok());
        map.map(|map| Bytes::copy_from_slice(&map)).ok_or_else(|| failed(&"a preview without a picture"))
    })
}

/// How many pictures it takes until what an effect does is seen.
fn needed(presets: &Presets, chain: &[Applied]) -> usize {
    let looks_for_faces = |applied: &Applied| {
        let file = presets.effect(&applied.name);
        file.is_ok_and(|file| file.native.values().any(|it| matches!(it, Native::FaceOverlay | Native::FaceHide)))
    };
    if chain.iter().any(looks_for_faces) { PICTURES_WITH_FACES } else { 1 }
}

/// The same picture `least` times, in real time, and if nothing has come out a few times more.
#[expect(clippy::disallowed_methods, reason = "the thread is a preview's own, and waits at most 40 ms at a time")]
fn push(
    pad: &gst::Pad,
    sample: &gst::Sample,
    least: usize,
    sink: &gst_app::AppSink,
) -> Result<gst::Sample, MediaError> {
    let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else { return Err(failed(&"no picture")) };
    pad.push_event(gst::event::StreamStart::new("preview"));
    pad.push_event(gst::event::Caps::new(&caps.to_owned()));
    pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    let began = Moment::now();
    for number in 0..least.max(PICTURES) {
        let at = STEP * number as u32;
        if least > 1 {
            std::thread::sleep(at.saturating_sub(began.elapsed()));
        }
        let mut buffer = buffer.copy();
        let timed = buffer.make_mut();
        timed.set_pts(gst::ClockTime::try_from(at).ok());
        timed.set_duration(gst::ClockTime::try_from(STEP).ok());
        pad.push(buffer).map_err(|error| failed(&error))?;
        if number + 1 >= least
            && let Some(made) = sink.try_pull_sample(gst::ClockTime::ZERO)
        {
            return Ok(made);
        }
    }
    // An effect with threads of its own.
    sink.try_pull_sample(RENDERED)
        .ok_or(MediaError::Deadline { step: "a preview", limit: Duration::from_nanos(RENDERED.nseconds()) })
}
