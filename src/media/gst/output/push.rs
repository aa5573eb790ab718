//! The room's mix for a receiver elsewhere, over RTMP or SRT: a task that reads the transport stream, calls the
//! receiver, and begins again when it is lost.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::prelude::*;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, interval, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    super::{OwnedPipeline, PipelineEvent, RoomClock, ingest::srt_query},
    TransportStream,
};
use crate::{
    ingest::{DialError, Scheme, backoff::Backoff, rtsp::RtspError, tunnel::Tunnel},
    media::{
        MediaError, MediaEvent,
        graph::{Graph, NodeKind},
        push::{PushState, PushStatus, Target},
        ts::TsChunk,
    },
    room::id::ConnectionId,
};

/// Pieces of the stream that wait; more than a group of pictures.
const QUEUE: usize = 4096;
/// Bytes that may wait for the receiver: two seconds of the mix, or three.
const BACKLOG_BYTES: u64 = 1024 * 1024;
/// A backlog that is full for so long is not read any more.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// How often that, and what was sent, is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Calling may take so long.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// A service that refuses is not called more often than that, after a while.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// A connection that held so long was a good one: the next failure is a first one.
const GOOD: Duration = Duration::from_secs(10);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of an SRT message: seven packets (srt-live-transmit, ffmpeg and GStreamer take no more).
const SRT_BYTES: usize = 7 * 188;

/// A push that goes on until it is closed. Dropping it ends it.
#[derive(Debug)]
pub(in super::super) struct RunningPush {
    books: Arc<Books>,
    scheme: Scheme,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// How it stands, for the room and the graph.
#[derive(Debug)]
struct Books {
    connection: ConnectionId,
    status: Mutex<PushStatus>,
    events: mpsc::Sender<MediaEvent>,
}

impl Books {
    /// Notes a change, and tells the room if it is one. That more was sent is none.
    async fn note(&self, change: impl FnOnce(&mut PushStatus)) {
        let status = {
            let mut status = self.status.lock().expect("nothing panics under this lock");
            let before = status.clone();
            change(&mut status);
            if *status == (PushStatus { sent_bytes: status.sent_bytes, ..before }) {
                return;
            }
            status.clone()
        };
        let connection = self.connection.clone();
        // An error means that the room is gone, and this push about to be.
        let _ = self.events.send(MediaEvent::PushChanged { connection, status }).await;
    }

    fn status(&self) -> PushStatus {
        self.status.lock().expect("nothing panics under this lock").clone()
    }
}

impl RunningPush {
    /// Starts it. → [`MediaEvent::PushChanged`] whenever something changes. Must be called on a tokio runtime.
    pub(in super::super) fn start(
        connection: ConnectionId,
        clock: &RoomClock,
        stream: &TransportStream,
        target: Target,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let books = Arc::new(Books { connection, status: Mutex::default(), events });
        let stop = CancellationToken::new();
        let scheme = target.uri.scheme;
        let push =
            Push { clock: clock.clone(), stream: stream.clone(), target, books: books.clone(), stop: stop.clone() };
        Self { books, scheme, stop: stop.drop_guard(), task: tokio::spawn(push.run()) }
    }

    /// How it stands now.
    pub(in super::super) fn status(&self) -> PushStatus {
        self.books.status()
    }

    /// Ends it; gives its task to wait for.
    pub(in super::super) fn close(self) -> JoinHandle<()> {
        drop(self.stop);
        self.task
    }

    /// Adds it to the room's graph, behind the transport stream that it reads.
    pub(in super::super) fn graph(&self, stream: &str, graph: &mut Graph) {
        let status = self.status();
        let id = format!("push-{}", self.books.connection);
        let state = format!("{:?}", status.state).to_lowercase();
        let mut facts = vec![
            ("state", state),
            ("reconnects", status.reconnects.to_string()),
            ("sent_bytes", status.sent_bytes.to_string()),
        ];
        facts.extend(status.reason.map(|reason| ("reason", reason.to_owned())));
        graph.add(&id, NodeKind::Output, &format!("{} push", self.scheme.name()), &facts);
        if graph.has_node(stream) {
            graph.join(stream, &id, "MPEG-TS");
        }
    }
}

/// Why a connection is over.
struct Failure {
    reason: &'static str,
    detail: String,
}

impl Failure {
    fn new(reason: &'static str, detail: impl ToString) -> Self {
        Self { reason, detail: detail.to_string() }
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let reason = match error {
            DialError::Refused { .. } => "refused",
            DialError::Unresolved { .. } => "unresolved",
            DialError::Unreachable { .. } | DialError::File { .. } => "unreachable",
        };
        Self::new(reason, error)
    }
}

/// How a receiver is reached.
enum Way {
    Direct(SocketAddr),
    Tunnel(Tunnel),
}

impl Way {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Direct(address) => *address,
            Self::Tunnel(tunnel) => tunnel.address,
        }
    }
}

struct Push {
    clock: RoomClock,
    stream: TransportStream,
    target: Target,
    books: Arc<Books>,
    stop: CancellationToken,
}

impl Push {
    /// Until the room ends it.
    async fn run(self) {
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        loop {
            let began = Instant::now();
            self.books.note(|status| status.state = PushState::Connecting).await;
            let Some(failure) = self.stop.run_until_cancelled(self.connect()).await.flatten() else { return };
            if began.elapsed() > GOOD {
                backoff.reset();
            }
            let detail = self.target.without_secrets(&failure.detail);
            if self.books.status().reason != Some(failure.reason) {
                tracing::warn!(connection = %self.books.connection, uri = %self.target.uri, "a receiver takes nothing: {detail}");
            }
            self.books
                .note(|status| {
                    status.state = PushState::Waiting;
                    status.reason = Some(failure.reason);
                    status.detail = Some(detail);
                })
                .await;
            let wait = backoff.next_wait(&mut rand::rng());
            if self.stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// One connection, from calling to its end; `None`: the room wants no more.
    async fn connect(&self) -> Option<Failure> {
        let uri = &self.target.uri;
        let way = match self.way().await {
            Ok(way) => way,
            Err(failure) => return Some(failure),
        };
        let address = way.address();
        let (reader, chunks) = mpsc::channel(QUEUE);
        if let Err(error) = self.stream.watch(&reader) {
            return Some(Failure::new("mix_unavailable", error));
        }
        drop(reader);
        let launched = match uri.scheme {
            Scheme::Srt => Sender::srt(&self.clock, &format!("srt://{address}?{}", srt_query(uri.target()))),
            _ => Sender::rtmp(&self.clock, &format!("rtmp://{address}{}", uri.target()), &self.target),
        };
        let mut sender = match launched {
            Ok(sender) => sender,
            Err(error) => return Some(Failure::new("media", error)),
        };
        let failure = tokio::select! {
            () = self.stop.cancelled() => None,
            failure = self.send(&mut sender, chunks) => Some(failure),
        };
        // A deadline that passes is logged there.
        let _ = sender.pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        failure
    }

    /// Where the element is to call.
    async fn way(&self) -> Result<Way, Failure> {
        let Target { uri, allow, fingerprint, .. } = &self.target;
        if uri.scheme == Scheme::Rtmps {
            let opened = Tunnel::open(allow, uri, *fingerprint, OPEN_LIMIT).await;
            return opened.map(Way::Tunnel).map_err(|error| match error {
                RtspError::Dial(error) => error.into(),
                error => Failure::new("tls", error),
            });
        }
        let found = allow.resolve(&uri.host, uri.port).await?;
        found.first().copied().map(Way::Direct).ok_or_else(|| Failure::new("unresolved", "it has no address"))
    }

    /// Passes the stream on until that is over.
    async fn send(&self, sender: &mut Sender, mut chunks: mpsc::Receiver<TsChunk>) -> Failure {
        let before = self.books.status().sent_bytes;
        let began = Instant::now();
        let mut is_live = false;
        // The receiver is dialled meanwhile.
        let mut starting = std::pin::pin!(sender.pipeline.start());
        let mut has_started = false;
        let mut full_since = None;
        let mut look = interval(LOOK);
        loop {
            let is_full = sender.source.current_level_bytes() >= BACKLOG_BYTES;
            tokio::select! {
                started = &mut starting, if !has_started => match started {
                    Ok(()) => has_started = true,
                    Err(error) => return self.failed(is_live, &error, &mut sender.events),
                },
                Some(event) = sender.events.recv() => match event {
                    PipelineEvent::Failed(error) => return lost(is_live, &error.to_string()),
                    PipelineEvent::Ended => return lost(is_live, "the stream ended"),
                },
                chunk = chunks.recv(), if !is_full => match chunk {
                    Some(chunk) => sender.push(&chunk),
                    None => return Failure::new("mix_unavailable", "the mix has ended, or could not be made"),
                },
                _ = look.tick() => {
                    let sent = sender.taken.load(Relaxed);
                    self.books.note(|status| status.sent_bytes = before + sent).await;
                    full_since = is_full.then(|| full_since.unwrap_or_else(Instant::now));
                    if full_since.is_some_and(|since| since.elapsed() > STALL_LIMIT) {
                        return Failure::new("stalled", format!("nothing was taken for {} s", STALL_LIMIT.as_secs()));
                    }
                    if !is_live && began.elapsed() > OPEN_LIMIT {
                        return Failure::new("unreachable", format!("nothing was taken within {} s", OPEN_LIMIT.as_secs()));
                    }
                    if !is_live && sent > 0 {
                        is_live = true;
                        self.tell_live().await;
                    }
                }
            }
        }
    }

    async fn tell_live(&self) {
        tracing::info!(connection = %self.books.connection, uri = %self.target.uri, "a receiver takes the mix");
        self.books
            .note(|status| {
                status.reconnects += u32::from(status.reason.is_some());
                status.state = PushState::Live;
                (status.reason, status.detail) = (None, None);
            })
            .await;
    }

    /// A start that fails says why on the bus.
    fn failed(&self, is_live: bool, error: &MediaError, events: &mut mpsc::Receiver<PipelineEvent>) -> Failure {
        match events.try_recv() {
            Ok(PipelineEvent::Failed(told)) => lost(is_live, &told.to_string()),
            Ok(PipelineEvent::Ended) | Err(_) => lost(is_live, &error.to_string()),
        }
    }
}

fn lost(is_live: bool, detail: &str) -> Failure {
    Failure::new(if is_live { "lost" } else { "unreachable" }, detail)
}

/// The pipeline of a connection: the transport stream in, and whatever the receiver wants out.
struct Sender {
    pipeline: OwnedPipeline,
    events: mpsc::Receiver<PipelineEvent>,
    source: gst_app::AppSrc,
    /// Bytes that the sink has taken and come back for more.
    taken: Arc<AtomicU64>,
    /// How the stream is cut.
    most: usize,
}

impl Sender {
    fn srt(clock: &RoomClock, uri: &str) -> Result<Self, MediaError> {
        let launch = "appsrc name=stream format=bytes ! srtsink name=sink sync=false async=false auto-reconnect=false";
        Self::build(clock, launch, SRT_BYTES, |sink| sink.set_property("uri", uri))
    }

    fn rtmp(clock: &RoomClock, location: &str, target: &Target) -> Result<Self, MediaError> {
        let launch = "appsrc name=stream format=bytes ! tsdemux name=demux \
                      demux. ! queue ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! mux. \
                      demux. ! queue ! aacparse ! audio/mpeg,mpegversion=4,stream-format=raw ! mux. \
                      flvmux name=mux streamable=true ! rtmp2sink name=sink sync=false async=false";
        Self::build(clock, launch, usize::MAX, |sink| {
            sink.set_property("location", location);
            if let Some(credentials) = &target.credentials {
                sink.set_property("username", credentials.user.reveal());
                sink.set_property("password", credentials.password.reveal());
            }
        })
    }

    fn build(
        clock: &RoomClock,
        launch: &str,
        most: usize,
        aim: impl FnOnce(&gst::Element),
    ) -> Result<Self, MediaError> {
        let (owned, events) = OwnedPipeline::new("push", clock);
        let bin = gst::parse::bin_from_description(launch, false)
            .map_err(|error| MediaError::Unavailable(error.message().to_owned()))?;
        let named = |name: &str| bin.by_name(name).expect("the launch line has it");
        let source = named("stream").downcast::<gst_app::AppSrc>().expect("it is an appsrc");
        source.set_caps(Some(
            &gst::Caps::builder("video/mpegts").field("systemstream", true).field("packetsize", 188).build(),
        ));
        // Who writes here looks at the level by himself.
        source.set_max_bytes(0);
        let sink = named("sink");
        aim(&sink);
        let taken = count(&sink);
        owned
            .pipeline()
            .add(&bin)
            .map_err(|error| MediaError::Element { element: "push".into(), message: error.to_string() })?;
        Ok(Self { pipeline: owned, events, source, taken, most })
    }

    fn push(&self, chunk: &TsChunk) {
        let mut rest = chunk.bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(self.most));
            // An error means that the pipeline is going down.
            let _ = self.source.push_buffer(gst::Buffer::from_slice(piece));
        }
    }
}

/// Counts what a sink takes: a buffer is noted when the next one comes, as only then is it known to be taken.
fn count(sink: &gst::Element) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let (count, waiting) = (taken.clone(), AtomicU64::new(0));
    let pad = sink.static_pad("sink").expect("a sink has a sink pad");
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        let size = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => buffer.size(),
            Some(gst::PadProbeData::BufferList(list)) => list.iter().map(gst::BufferRef::size).sum(),
            _ => 0,
        };
        count.fetch_add(waiting.swap(size as u64, Relaxed), Relaxed);
        gst::PadProbeReturn::Ok
    });
    taken
}
