//! A track with effects: made once, whoever watches.
//!
//! Raw media of the track's decoder goes through the chain, and from there to mixers as it is, and to
//! subscribers encoded again in the track's own codec, under its own SSRC and payload number: nothing
//! is renegotiated. A pipeline of its own, so that an effect that fails harms nothing else: everybody
//! sees the track as it was published then.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant as Moment},
};

use gst::prelude::*;
use gst_utils::streamproducer::{ConsumerSettings, ProducerSettings, StreamProducer};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};

use super::pace::Pace;
use super::{
    CostBook, Reports, Slot,
    chain::{failed, frame_size, make},
};
use crate::{
    effect::Applied,
    media::{
        EffectCost, Kind, MediaError, MediaEvent,
        gst::{
            KEYFRAME_HOLDOFF, OwnedPipeline, PipelineEvent, RoomClock, Track,
            decoder::{Decoder, Decoders},
            preset::{Presets, TrackEncoder},
        },
        rtp::{self, Lane},
    },
};

/// Pictures that wait for effects that are slower than they come; more are dropped, so that nobody is
/// kept waiting.
const WAITING_PICTURES: u64 = 2;
/// Sound that waits, in time.
const WAITING_SOUND: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// The publisher's keyframe, with which subscribers go back to the track as it was published, comes
/// within this, or he is not there.
const CHANGE_LIMIT: Duration = Duration::from_secs(4);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// What a probe answers about a buffer that goes no further. After `Drop` GStreamer 1.22 complains of each: the
/// bindings have let go of it already.
pub(super) const LEAVE_OUT: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

/// The room's end of a track with effects.
#[derive(Debug)]
pub struct EffectedTrack {
    wanted: watch::Sender<Vec<Applied>>,
    /// Taken by the task for good when it ends, so that no wish is lost.
    over: Arc<Mutex<bool>>,
    frames: Arc<AtomicU64>,
    costs: CostBook,
    every: Arc<AtomicU32>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What the task works with.
struct Job {
    track: Arc<Track>,
    decoders: Decoders,
    presets: Arc<Presets>,
    clock: RoomClock,
    wanted: watch::Receiver<Vec<Applied>>,
    /// What was last put in, or tried.
    tried: Vec<Applied>,
    stop: watch::Receiver<bool>,
    frames: Arc<AtomicU64>,
    costs: CostBook,
    every: Arc<AtomicU32>,
    events: mpsc::Sender<MediaEvent>,
}

/// The pipeline and the ends of it that matter.
struct Graph {
    pipeline: OwnedPipeline,
    events: mpsc::Receiver<PipelineEvent>,
    source: gst_app::AppSrc,
    slot: Slot,
    shown: StreamProducer,
    /// The encoded end; keyframes are asked for here.
    packets: gst_app::AppSink,
    /// Something came out.
    began: Arc<Notify>,
}

impl EffectedTrack {
    /// Starts to make `track` with these effects, which are not none. Readers change over when the
    /// first picture or sound is there. → [`MediaEvent::EffectsFailed`] if it fails. Must be called on
    /// a tokio runtime; returns at once.
    pub fn start(
        track: &Arc<Track>,
        chain: Vec<Applied>,
        clock: &RoomClock,
        decoders: &Decoders,
        presets: &Arc<Presets>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let (sender, wanted) = watch::channel(chain);
        let (stop_sender, stop) = watch::channel(false);
        let (over, frames) = (Arc::new(Mutex::new(false)), Arc::new(AtomicU64::new(0)));
        let (costs, every) = (CostBook::default(), Arc::new(AtomicU32::new(1)));
        let job = Job {
            track: track.clone(),
            decoders: decoders.clone(),
            presets: presets.clone(),
            clock: clock.clone(),
            wanted,
            tried: Vec::new(),
            stop,
            frames: frames.clone(),
            costs: costs.clone(),
            every: every.clone(),
            events,
        };
        let task = tokio::spawn(job.run(over.clone()));
        Self { wanted: sender, over, frames, costs, every, stop: stop_sender, task }
    }

    /// Other effects from now on, or none. False: it is over, and another has to be started.
    pub fn set(&self, chain: &[Applied]) -> bool {
        let over = self.over.lock().expect("nothing panics under this lock");
        if !*over {
            self.wanted.send_if_modified(|wanted| {
                let differs = wanted != chain;
                if differs {
                    *wanted = chain.to_vec();
                }
                differs
            });
        }
        !*over
    }

    /// What it has now.
    pub fn effects(&self) -> Vec<Applied> {
        self.wanted.borrow().clone()
    }

    /// Pictures, or blocks of sound, that came out.
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Every so many pictures go through: 1, unless the effects fall behind.
    pub fn every(&self) -> u32 {
        self.every.load(Relaxed)
    }

    /// What each effect takes of a processor.
    pub fn costs(&self) -> Vec<EffectCost> {
        self.costs.read()
    }

    /// It has ended.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it at once, for a track that is gone.
    pub fn end(self) -> JoinHandle<()> {
        self.stop.send_replace(true);
        self.task
    }
}

impl Job {
    async fn run(mut self, over: Arc<Mutex<bool>>) {
        loop {
            let result = self.make().await;
            self.track.want_lane(Lane::Clean);
            let failure = result.err();
            {
                // Effects that were asked for while the last ones ended or failed are made after all.
                let mut over = over.lock().expect("nothing panics under this lock");
                let wanted = self.wanted.borrow_and_update();
                let is_new = failure.is_none() || *wanted != self.tried;
                let again = is_new && !*self.stop.borrow() && !wanted.is_empty();
                *over = !again;
            }
            if let Some(error) = failure {
                tracing::error!(track.id = %self.track.id, "effects ended by themselves: {error}");
                let (track, chain) = (self.track.id.clone(), self.tried.clone());
                let event = MediaEvent::EffectsFailed { track, chain, error };
                // An error means that the room has gone.
                let _ = self.events.send(event).await;
            }
            if *over.lock().expect("nothing panics under this lock") {
                return;
            }
        }
    }

    /// Until there are to be no effects, or they fail.
    async fn make(&mut self) -> Result<(), MediaError> {
        self.tried.clone_from(&self.wanted.borrow());
        let _all_of_it = self.track.need(None);
        let decoder = self.decoders.get(&self.track)?;
        let mut graph = self.build().await?;
        let mut requests = JoinSet::new();
        requests.spawn(pass_keyframe_requests(self.track.clone(), graph.packets.clone()));
        let result = self.play(&decoder, &mut graph).await;
        // Mixers go back at once; subscribers at the publisher's next keyframe, and see effects until then.
        decoder.show(None);
        if result.is_ok() && !*self.stop.borrow() {
            self.track.want_lane(Lane::Clean);
            let changed = self.track.lane_shown(Lane::Clean);
            let mut stop = self.stop.clone();
            tokio::select! {
                _ = timeout_at(Instant::now() + CHANGE_LIMIT, changed) => {}
                () = stopped(&mut stop) => {}
            }
        }
        requests.shutdown().await;
        let Graph { pipeline, slot, shown, .. } = graph;
        // A deadline that passes is logged there.
        let _ = pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        drop((slot, shown));
        result
    }

    async fn play(&mut self, decoder: &Arc<Decoder>, graph: &mut Graph) -> Result<(), MediaError> {
        graph.pipeline.start().await?;
        let settings = match self.track.kind() {
            Kind::Video => ConsumerSettings { max_buffer: WAITING_PICTURES, ..Default::default() },
            Kind::Audio => ConsumerSettings { max_time: WAITING_SOUND, ..Default::default() },
        };
        let _link = decoder.producer.add_consumer_with(&graph.source, settings).map_err(|error| failed(&error))?;
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                () = graph.began.notified() => decoder.show(Some(&graph.shown)),
                Ok(()) = self.wanted.changed() => {
                    let chain = self.wanted.borrow_and_update().clone();
                    if chain.is_empty() {
                        return Ok(());
                    }
                    self.tried.clone_from(&chain);
                    self.change(graph, chain).await?;
                }
                () = stopped(&mut stop) => return Ok(()),
                event = graph.events.recv() => match event {
                    Some(PipelineEvent::Failed(error)) => return Err(error),
                    Some(PipelineEvent::Ended) | None => return Ok(()),
                },
            }
        }
    }

    /// Off the runtime's threads, as it waits for the moment between two frames.
    async fn change(&self, graph: &mut Graph, chain: Vec<Applied>) -> Result<(), MediaError> {
        let presets = self.presets.clone();
        let mut slot = std::mem::replace(&mut graph.slot, Slot::nowhere());
        let changed = blocking(move || {
            let changed = slot.set(&presets, &chain);
            (slot, changed)
        });
        let (slot, changed) = changed.await?;
        graph.slot = slot;
        changed
    }

    /// Off the runtime's threads: elements are made, and plugins loaded.
    async fn build(&mut self) -> Result<Graph, MediaError> {
        let chain = self.wanted.borrow_and_update().clone();
        self.tried.clone_from(&chain);
        let (track, presets, clock, frames) =
            (self.track.clone(), self.presets.clone(), self.clock.clone(), self.frames.clone());
        let every = self.every.clone();
        let telling = (Reports::of_track(&track.id, &self.events), self.costs.clone());
        blocking(move || build(&track, &presets, &clock, &chain, frames, telling, every)).await?
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the room has gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, MediaError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))
}

fn build(
    track: &Arc<Track>,
    presets: &Presets,
    clock: &RoomClock,
    chain: &[Applied],
    frames: Arc<AtomicU64>,
    (reports, costs): (Reports, CostBook),
    every: Arc<AtomicU32>,
) -> Result<Graph, MediaError> {
    let encoder = presets.track_encoder(track.codec)?;
    let (pipeline, events) = OwnedPipeline::new(&format!("effects-{}", track.id), clock);
    let inner = pipeline.pipeline();
    let source = gst_app::AppSrc::builder()
        .name("raw")
        .format(gst::Format::Time)
        .is_live(true)
        .handle_segment_change(true)
        .build();
    let (convert, format, tee) = (convert(track.kind())?, make("capsfilter")?, make("tee")?);
    format.set_property("caps", raw_caps(track.kind()));
    let row = [source.upcast_ref(), &convert, &format, &tee];
    inner.add_many(row).and_then(|()| gst::Element::link_many(row)).map_err(|error| failed(&error))?;
    let began = Arc::new(Notify::new());
    if track.kind() == Kind::Video {
        keep_pace(source.upcast_ref(), &tee, &track.id.to_string(), every);
    }
    let shown = shown_branch(inner, &tee, track, &began, frames)?;
    let packets = encoded_branch(inner, &tee, track, encoder)?;
    let mut slot = Slot::new(inner, track.kind(), source.upcast_ref(), &convert).telling(reports, costs);
    slot.set(presets, chain)?;
    Ok(Graph { pipeline, events, source, slot, shown, packets, began })
}

/// Leaves pictures out in front of effects that take longer than they come. The chain runs on one thread,
/// from the source to the tee.
fn keep_pace(source: &gst::Element, tee: &gst::Element, track: &str, every: Arc<AtomicU32>) {
    let (Some(front), Some(back)) = (source.static_pad("src"), tee.static_pad("sink")) else { return };
    every.store(1, Relaxed);
    let pace = Arc::new(Mutex::new((Pace::default(), None::<Moment>)));
    let paced = pace.clone();
    front.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(time) = info.buffer().and_then(|buffer| buffer.pts()) else { return gst::PadProbeReturn::Ok };
        let mut paced = paced.lock().expect("nothing panics under this lock");
        if !paced.0.lets_through(time.into()) {
            return LEAVE_OUT;
        }
        paced.1 = Some(Moment::now());
        gst::PadProbeReturn::Ok
    });
    let track = track.to_owned();
    back.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let mut pace = pace.lock().expect("nothing panics under this lock");
        if let Some(began) = pace.1.take()
            && pace.0.took(began.elapsed())
        {
            every.store(pace.0.every(), Relaxed);
            tracing::info!(track.id = %track, every = pace.0.every(), "effects get another share of the pictures");
        }
        gst::PadProbeReturn::Ok
    });
}

/// For mixers. Of a tee's branches it is the first, so that viewers wait for the encoder's first frame
/// when that comes: it is the keyframe that they change over with.
fn shown_branch(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    track: &Arc<Track>,
    began: &Arc<Notify>,
    frames: Arc<AtomicU64>,
) -> Result<StreamProducer, MediaError> {
    let sink = gst_app::AppSink::builder().name("shown").async_(false).sync(false).enable_last_sample(false).build();
    pipeline.add(&sink).and_then(|()| tee.link(&sink)).map_err(|error| failed(&error))?;
    let (began, track) = (began.clone(), Arc::downgrade(track));
    let pad = sink.static_pad("sink").ok_or_else(|| failed(&"an appsink without a pad"))?;
    let first = AtomicBool::new(true);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        frames.fetch_add(1, Relaxed);
        if first.swap(false, Relaxed) {
            if let Some(track) = track.upgrade() {
                track.want_lane(Lane::Effected);
            }
            began.notify_one();
        }
        gst::PadProbeReturn::Ok
    });
    let producer = StreamProducer::with(&sink, ProducerSettings { sync: false });
    producer.set_forward_events([]);
    Ok(producer)
}

/// For subscribers: nothing is encoded while there are none.
fn encoded_branch(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    track: &Arc<Track>,
    preset: &TrackEncoder,
) -> Result<gst_app::AppSink, MediaError> {
    let queue = make("queue")?;
    queue.set_property_from_str("leaky", "downstream");
    queue.set_property("max-size-buffers", if track.kind() == Kind::Video { 2u32 } else { 20 });
    queue.set_property("max-size-time", 0u64);
    queue.set_property("max-size-bytes", 0u32);
    let encoder = preset.build()?;
    let payloader = encoder.by_name("payloader").ok_or_else(|| failed(&"an encoder without a payloader"))?;
    payloader.set_property("pt", u32::from(rtp::payload_number(track.codec)));
    payloader.set_property("ssrc", track.ssrc());
    let sink = gst_app::AppSink::builder().name("packets").async_(false).sync(false).enable_last_sample(false).build();
    let row = [&queue, encoder.upcast_ref(), sink.upcast_ref()];
    pipeline
        .add_many(row)
        .and_then(|()| gst::Element::link_many([tee].into_iter().chain(row)))
        .map_err(|error| failed(&error))?;
    only_for_viewers(&queue, track);
    follow_size(&encoder, preset);
    let viewers = Arc::downgrade(track);
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        if let (Some(track), Some(mut buffer)) = (viewers.upgrade(), sample.buffer_owned()) {
            // x264enc counts from a thousand hours, and its segment says so.
            let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
            let time = segment.and_then(|segment| segment.to_running_time(buffer.pts()));
            let buffer_mut = buffer.make_mut();
            buffer_mut.set_pts(time);
            buffer_mut.set_dts(gst::ClockTime::NONE);
            track.forward_effected(buffer);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    Ok(sink)
}

/// Lets through what somebody watches, in the order of its times: encoders take no other.
fn only_for_viewers(queue: &gst::Element, track: &Arc<Track>) {
    let Some(pad) = queue.static_pad("sink") else { return };
    let track: Weak<Track> = Arc::downgrade(track);
    let last = AtomicU64::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let is_watched = track.upgrade().is_some_and(|track| track.effected_subscribers() > 0);
        let time = info.buffer().and_then(|buffer| buffer.pts()).map(gst::ClockTime::nseconds);
        match time {
            Some(time) if is_watched && time > last.load(Relaxed) => {
                last.store(time, Relaxed);
                gst::PadProbeReturn::Ok
            }
            _ => LEAVE_OUT,
        }
    });
}

/// A publisher's picture changes its size with his network; the bit rate goes with it.
fn follow_size(encoder: &gst::Bin, preset: &TrackEncoder) {
    let Some(pad) = encoder.static_pad("sink") else { return };
    let (weak, preset) = (encoder.downgrade(), preset.clone());
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let (Some(encoder), Some((width, height))) = (weak.upgrade(), frame_size(caps.caps()))
            && let Err(error) = preset.set_size(&encoder, width, height)
        {
            tracing::warn!("an encoder does not take its bit rate: {error}");
        }
        gst::PadProbeReturn::Ok
    });
}

/// Subscribers' keyframe requests, merged as those to a publisher are.
async fn pass_keyframe_requests(track: Arc<Track>, packets: gst_app::AppSink) {
    loop {
        track.effected_keyframe_requested().await;
        let sink = packets.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let request = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
            sink.static_pad("sink").is_some_and(|pad| pad.push_event(request))
        });
        if asked.await.unwrap_or(false) {
            tokio::time::sleep(KEYFRAME_HOLDOFF).await;
        }
    }
}

fn convert(kind: Kind) -> Result<gst::Element, MediaError> {
    make(if kind == Kind::Video { "videoconvert" } else { "audioconvert" })
}

/// What encoders take, and mixers.
fn raw_caps(kind: Kind) -> gst::Caps {
    match kind {
        Kind::Video => gst::Caps::builder("video/x-raw").field("format", "I420").build(),
        Kind::Audio => gst_audio::AudioCapsBuilder::new_interleaved().format(gst_audio::AudioFormat::S16le).build(),
    }
}
