//! The room's mix as MPEG-TS, for everybody who reads it: one multiplexer on the mix's own encode,
//! started by the first reader and ended some seconds after the last.

use std::{
    sync::{Arc, Mutex, MutexGuard, Weak, mpsc::sync_channel},
    time::Duration,
};

use gst::prelude::*;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{
    OwnedPipeline, PipelineEvent, RoomClock,
    mixer::{Canvas, Encoded, Look, Parts},
    mixes::{Mix, Mixes},
    preset::AudioCodec,
};
use crate::media::{
    Kind, MediaError,
    graph::{Graph, NodeKind},
    ts::{Tables, TsChunk},
};

/// What is sent: the recording's usual size, so that both share one encode.
const CANVAS: Canvas = Canvas { width: 1280, height: 720, fps: 25 };
/// Frames that wait for the multiplexer; it needs none but a moment.
const QUEUE_FRAMES: usize = 256;
/// It goes on so long without a reader: players ask again, and again.
const LINGER: Duration = Duration::from_secs(5);
/// What is kept for who comes in the middle: more than one group of pictures, in bytes.
const MOST_KEPT: usize = 4 * 1024 * 1024;
/// Of the mix's sound, in Hz.
const MIX_RATE: f64 = 48_000.0;
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// The room's transport stream, which runs while somebody reads it. Clones share it.
#[derive(Clone, Debug)]
pub(in super::super) struct TransportStream {
    clock: RoomClock,
    mixes: Mixes,
    running: Arc<Mutex<Option<TsOutput>>>,
}

/// A running one. Dropping it ends it.
#[derive(Debug)]
struct TsOutput {
    /// The task's: the room finds out later that it has ended.
    mix: Weak<Mix>,
    hub: Arc<Hub>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// What goes by, and who reads it.
#[derive(Debug)]
struct Hub {
    state: Mutex<State>,
    readers: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    /// Since the last keyframe.
    recent: Vec<TsChunk>,
    recent_bytes: usize,
    readers: Vec<Reader>,
    over: bool,
}

/// Somebody who reads it; what comes before a keyframe is not for him.
#[derive(Debug)]
struct Reader {
    to: mpsc::Sender<TsChunk>,
    has_begun: bool,
}

impl TransportStream {
    /// What its node in the graph is called.
    pub(in super::super) const NODE: &str = "output-ts";

    pub(in super::super) fn new(clock: &RoomClock, mixes: &Mixes) -> Self {
        Self { clock: clock.clone(), mixes: mixes.clone(), running: Arc::default() }
    }

    /// Gives the stream to `reader` from the last keyframe on; it is started if need be. Must be called on a tokio
    /// runtime; returns at once.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if there is no encoder or no multiplexer, [`MediaError::Busy`].
    pub(in super::super) fn watch(&self, reader: &mpsc::Sender<TsChunk>) -> Result<(), MediaError> {
        let mut running = self.running();
        if running.as_ref().is_some_and(|running| running.hub.add(reader)) {
            return Ok(());
        }
        let started = TsOutput::start(&self.clock, &self.mixes)?;
        started.hub.add(reader);
        *running = Some(started);
        Ok(())
    }

    /// Lets go of one that has ended by itself.
    pub(in super::super) fn prune(&self) {
        self.running().take_if(|running| running.task.is_finished());
    }

    /// Ends it; gives its task to wait for.
    pub(in super::super) fn close(&self) -> Option<JoinHandle<()>> {
        self.running().take().map(|TsOutput { stop, task, .. }| {
            drop(stop);
            task
        })
    }

    /// Adds it to the room's graph, if it runs.
    pub(in super::super) fn graph(&self, graph: &mut Graph) {
        let running = self.running();
        let Some(running) = running.as_ref().filter(|running| !running.task.is_finished()) else { return };
        let Some(mix) = running.mix.upgrade() else { return };
        let (encoder, encoded) = mix.graph(graph);
        let readers = running.hub.state().readers.len().to_string();
        graph.add(Self::NODE, NodeKind::Output, "MPEG-TS", &[("readers", readers)]);
        graph.join(&encoder, Self::NODE, encoded);
    }

    fn running(&self) -> MutexGuard<'_, Option<TsOutput>> {
        self.running.lock().expect("nothing panics under this lock")
    }
}

impl TsOutput {
    /// Starts it, without readers yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if there is no encoder or no multiplexer.
    fn start(clock: &RoomClock, mixes: &Mixes) -> Result<Self, MediaError> {
        let parts = Parts { video: true, audio: true };
        let mix = mixes.get(Look {
            layout: None,
            canvas: CANVAS,
            parts,
            codec: AudioCodec::Aac,
            without: Vec::new(),
            effects: true,
        })?;
        let hub = Arc::new(Hub { state: Mutex::default(), readers: watch::Sender::new(0) });
        let multiplexer = Multiplexer::build(clock, mix.begin, &hub)?;
        let stop = CancellationToken::new();
        let weak = Arc::downgrade(&mix);
        let task = tokio::spawn(run(multiplexer, mix, hub.clone(), stop.clone(), clock.clone()));
        Ok(Self { mix: weak, hub, stop: stop.drop_guard(), task })
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// Gives the stream to `reader` from the last keyframe on. False: it is over, and another must be
    /// started.
    fn add(&self, reader: &mpsc::Sender<TsChunk>) -> bool {
        let mut state = self.state();
        if state.over {
            return false;
        }
        let mut reader = Reader { to: reader.clone(), has_begun: false };
        // One that has no room for the beginning is not kept.
        let State { tables, recent, readers, .. } = &mut *state;
        if recent.iter().all(|chunk| reader.give(chunk, tables)) {
            readers.push(reader);
            self.readers.send_replace(state.readers.len());
        }
        true
    }

    /// On the multiplexer's thread: never waits. A reader that leaves its queue to fill up is dropped.
    fn give(&self, bytes: &bytes::Bytes, time: Duration) {
        let mut state = self.state();
        for (bytes, starts_keyframe) in state.tables.cut(bytes) {
            state.give(TsChunk { bytes, starts_keyframe, time });
        }
        if *self.readers.borrow() != state.readers.len() {
            self.readers.send_replace(state.readers.len());
        }
    }
}

impl State {
    fn give(&mut self, chunk: TsChunk) {
        if chunk.starts_keyframe || self.recent_bytes > MOST_KEPT {
            self.recent.clear();
            self.recent_bytes = 0;
        }
        let tables = &self.tables;
        self.readers.retain_mut(|reader| reader.give(&chunk, tables));
        if chunk.starts_keyframe || !self.recent.is_empty() {
            self.recent_bytes += chunk.bytes.len();
            self.recent.push(chunk);
        }
    }
}

impl Reader {
    /// False: it is gone, or has no room.
    fn give(&mut self, chunk: &TsChunk, tables: &Tables) -> bool {
        if !self.has_begun {
            if !chunk.starts_keyframe {
                return !self.to.is_closed();
            }
            self.has_begun = true;
            let header = TsChunk { bytes: tables.header(), ..chunk.clone() };
            if self.to.try_send(header).is_err() {
                return false;
            }
        }
        self.to.try_send(chunk.clone()).is_ok()
    }
}

/// The pipeline: encoded frames in, packets out.
struct Multiplexer {
    pipeline: OwnedPipeline,
    events: mpsc::Receiver<PipelineEvent>,
    video: gst_app::AppSrc,
    audio: gst_app::AppSrc,
}

impl Multiplexer {
    fn build(clock: &RoomClock, begin: gst::ClockTime, hub: &Arc<Hub>) -> Result<Self, MediaError> {
        let (owned, events) = OwnedPipeline::new("output-ts", clock);
        let launch = "appsrc name=video format=time ! h264parse config-interval=-1 ! \
                      video/x-h264,stream-format=byte-stream,alignment=au ! mpegtsmux name=mux alignment=7 ! \
                      appsink name=packets sync=false async=false enable-last-sample=false \
                      appsrc name=audio format=time ! aacparse ! audio/mpeg,stream-format=adts ! mux.";
        let bin = gst::parse::bin_from_description(launch, false)
            .map_err(|error| MediaError::Unavailable(error.message().to_owned()))?;
        let named = |name: &str| bin.by_name(name).expect("the launch line has it");
        let source = |name| named(name).downcast::<gst_app::AppSrc>().expect("it is an appsrc");
        let (video, audio) = (source("video"), source("audio"));
        for source in [&video, &audio] {
            // Not live: both always come, and who of them is late is waited for.
            source.set_max_bytes(0);
        }
        let sink = named("packets").downcast::<gst_app::AppSink>().expect("it is an appsink");
        let hub = hub.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
            for buffer in buffers(&sample) {
                if let Ok(map) = buffer.map_readable() {
                    let time = buffer.pts().unwrap_or(begin).saturating_sub(begin).into();
                    hub.give(&bytes::Bytes::copy_from_slice(&map), time);
                }
            }
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        owned
            .pipeline()
            .add(&bin)
            .map_err(|error| MediaError::Element { element: "output-ts".into(), message: error.to_string() })?;
        Ok(Self { pipeline: owned, events, video, audio })
    }

    /// A frame of the mix, in the room's time. `priming`: what the sound's encoder puts in front; players of streams
    /// play that too, so the sound is that much earlier.
    fn push(sources: &[gst_app::AppSrc; 2], encoded: &Encoded, priming: gst::ClockTime) {
        let sample = &encoded.sample;
        // Encoders send headers as buffers without a time, too.
        let (Some(time), Some(mut buffer)) = (encoded.running_time(), sample.buffer_owned()) else { return };
        let writable = buffer.make_mut();
        let time = if encoded.kind == Kind::Audio { time.saturating_sub(priming) } else { time };
        writable.set_pts(time);
        writable.set_dts(gst::ClockTime::NONE);
        let source = &sources[usize::from(encoded.kind == Kind::Audio)];
        source.set_caps(sample.caps_owned().as_ref());
        // An error means that the pipeline is going down.
        let _ = source.push_buffer(buffer);
    }
}

fn buffers(sample: &gst::Sample) -> Vec<gst::Buffer> {
    match sample.buffer_list_owned() {
        Some(list) => list.iter_owned().collect(),
        None => sample.buffer_owned().into_iter().collect(),
    }
}

/// Until nobody has read it for a while, it breaks down, or the room ends it.
async fn run(multiplexer: Multiplexer, mix: Arc<Mix>, hub: Arc<Hub>, stop: CancellationToken, clock: RoomClock) {
    let Multiplexer { pipeline, mut events, video, audio } = multiplexer;
    let (tap, frames) = sync_channel::<Encoded>(QUEUE_FRAMES);
    let sources = [video, audio];
    let pushed_for = hub.clone();
    let priming = gst::ClockTime::from_seconds_f64(f64::from(mix.priming_samples) / MIX_RATE);
    let pushing = std::thread::Builder::new().name("output-ts".into()).spawn(move || {
        // The mix may go on for others; it notices with its next frame that nobody takes them here.
        while let Ok(frame) = frames.recv()
            && !pushed_for.state().over
        {
            Multiplexer::push(&sources, &frame, priming);
        }
    });
    let outcome = match pipeline.start().await {
        Ok(()) if pushing.is_err() => Some(MediaError::Unavailable("a thread".into())),
        Ok(()) => {
            mix.read(tap, clock.running_time());
            tokio::select! {
                () = stop.cancelled() => None,
                () = unread(&hub) => None,
                error = mix.failed() => Some(error),
                error = failure(&mut events) => Some(error),
            }
        }
        Err(error) => Some(error),
    };
    if let Some(error) = outcome {
        tracing::error!("the transport stream broke down: {error}");
    }
    {
        let mut state = hub.state();
        state.over = true;
        state.readers.clear();
    }
    drop(mix);
    // A deadline that passes is logged there.
    let _ = pipeline.shutdown(SHUTDOWN_DEADLINE).await;
}

async fn failure(events: &mut mpsc::Receiver<PipelineEvent>) -> MediaError {
    loop {
        match events.recv().await {
            Some(PipelineEvent::Failed(error)) => return error,
            Some(PipelineEvent::Ended) | None => std::future::pending().await,
        }
    }
}

/// Resolves when there was no reader for the linger.
async fn unread(hub: &Hub) {
    let mut readers = hub.readers.subscribe();
    loop {
        if readers.wait_for(|readers| *readers == 0).await.is_err() {
            return;
        }
        let back = readers.wait_for(|readers| *readers > 0);
        if timeout(LINGER, back).await.is_err() {
            return;
        }
    }
}
