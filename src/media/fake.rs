//! An engine without media, for tests of room logic and of dialects: it keeps books of what it was
//! asked, answers with made-up SDP, and lets a test say what happens next.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Capabilities, CodecName, EffectCost, IceCandidate, IceCredentials, Kind, LayerChoice, LayoutKind, MediaEngine,
    MediaError, MediaEvent, MediaRoom, MixTracks, Publication, RecordingSpec, Scene, SubscriberOffer,
    graph::{Edge, Graph, Node, NodeKind},
    ingest::{Handling, Ingest, IngestFigures, IngestMedia, IngestState, IngestStatus, Probed},
    output::{RtpPiece, Shown},
    push::Target,
    ts::TsChunk,
};
use crate::{
    effect::{Applied, Cost, Effect, Parameter, Range, Title},
    ingest::rtsp::Source,
    room::id::{ConnectionId, RecordingId, TrackId},
};

/// What a fake engine was asked, in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is a verb of `MediaRoom` with its arguments")]
pub enum Call {
    Publish(ConnectionId, Publication),
    Subscribe(ConnectionId, Vec<TrackId>, bool),
    Answer(ConnectionId, String),
    RestartIce(ConnectionId, Option<IceCredentials>),
    SetLayer(ConnectionId, TrackId, LayerChoice),
    Candidate(ConnectionId, IceCandidate),
    Close(ConnectionId),
    Ingest(ConnectionId, Ingest),
    MuteIngest(TrackId, bool),
    SubscribeToMix(ConnectionId, MixTracks, Vec<TrackId>),
    SubscribeWithOffer(ConnectionId, SubscriberOffer),
    SetMixWithout(ConnectionId, Vec<TrackId>),
    WatchMix,
    Output(ConnectionId, Shown),
    Push(ConnectionId, Target),
    StartRecording(RecordingId, PathBuf, RecordingSpec),
    SetScene(Scene),
    PauseRecording(RecordingId),
    ResumeRecording(RecordingId),
    StopRecording(RecordingId),
    Preview(TrackId, Vec<Applied>),
    SetEffects(TrackId, Vec<Applied>),
    Shutdown,
}

/// The engine. Rooms are told apart by name; a name's second room takes the first one's place.
pub struct FakeEngine {
    capabilities: Capabilities,
    calls: mpsc::UnboundedSender<(String, Call)>,
    rooms: Mutex<HashMap<String, mpsc::Sender<MediaEvent>>>,
    control: Arc<Control>,
}

/// What a test may switch.
#[derive(Default)]
struct Control {
    silent: AtomicBool,
    panics: AtomicBool,
    holds_shutdown: AtomicBool,
    busy: AtomicBool,
    held: Mutex<Vec<oneshot::Sender<()>>>,
}

/// The calls of a [`FakeEngine`], with the room each was made for.
pub struct Calls(mpsc::UnboundedReceiver<(String, Call)>);

impl Calls {
    /// The next call, once it is made.
    pub async fn next(&mut self) -> Call {
        self.0.recv().await.expect("the engine outlives its test").1
    }

    /// The next call that `wanted` accepts; others are skipped.
    pub async fn find<T>(&mut self, mut wanted: impl FnMut(Call) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    /// All calls made so far and not taken yet.
    pub fn made(&mut self) -> Vec<Call> {
        std::iter::from_fn(|| self.0.try_recv().ok()).map(|(_, call)| call).collect()
    }
}

impl FakeEngine {
    /// An engine that answers and offers at once, starts recordings at once, and forwards
    /// everything; and the calls it receives.
    pub fn new() -> (Arc<Self>, Calls) {
        let (calls, receiver) = mpsc::unbounded_channel();
        let capabilities = Capabilities {
            engine: "fake".into(),
            forward: CodecName::ALL.to_vec(),
            decode: CodecName::ALL.to_vec(),
            record: true,
            mix: true,
            layouts: LayoutKind::ALL.map(|kind| kind.name().to_owned()).to_vec(),
            effects: vec![made_up_effect("blur", Kind::Video), made_up_effect("echo", Kind::Audio), made_up_program()],
            previews: BTreeMap::new(),
            unavailable: Vec::new(),
        };
        let engine = Self { capabilities, calls, rooms: Mutex::default(), control: Arc::default() };
        (Arc::new(engine), Calls(receiver))
    }

    /// From now on it says nothing by itself (or does again): the test injects every event.
    pub fn set_silent(&self, silent: bool) {
        self.control.silent.store(silent, Ordering::SeqCst);
    }

    /// The next verb panics, as a fault in an engine would.
    pub fn panic_next(&self) {
        self.control.panics.store(true, Ordering::SeqCst);
    }

    /// From now on it makes as many mixes as it may (or does no longer).
    pub fn set_busy(&self, busy: bool) {
        self.control.busy.store(busy, Ordering::SeqCst);
    }

    /// Shutdowns take until [`Self::finish_shutdowns`].
    pub fn hold_shutdowns(&self) {
        self.control.holds_shutdown.store(true, Ordering::SeqCst);
    }

    /// Ends all shutdowns that are held.
    pub fn finish_shutdowns(&self) {
        self.control.holds_shutdown.store(false, Ordering::SeqCst);
        for done in lock(&self.control.held).drain(..) {
            let _ = done.send(());
        }
    }

    /// Has the engine of `room` tell something. False: there is no such room any more.
    pub async fn tell(&self, room: &str, event: MediaEvent) -> bool {
        let events = lock(&self.rooms).get(room).cloned();
        match events {
            Some(events) => events.send(event).await.is_ok(),
            None => false,
        }
    }
}

impl MediaEngine for FakeEngine {
    fn open_room(&self, room: &str, events: mpsc::Sender<MediaEvent>) -> Box<dyn MediaRoom> {
        lock(&self.rooms).insert(room.to_owned(), events.clone());
        Box::new(FakeRoom {
            name: room.to_owned(),
            events,
            calls: self.calls.clone(),
            control: self.control.clone(),
            connections: BTreeMap::new(),
            recordings: Vec::new(),
            mixes: CancellationToken::new(),
        })
    }

    /// A camera that is there, and a picture that is none.
    fn probe(&self, _: Source) -> oneshot::Receiver<Probed> {
        let (answer, probed) = oneshot::channel();
        let handling = Handling::Forwarded;
        let video = IngestMedia { encoding: "H264".into(), width: Some(320), height: Some(240), handling };
        let status = IngestStatus { state: IngestState::Live, video: Some(video), ..Default::default() };
        let _ = answer.send(Probed { status, snapshot: Some(bytes::Bytes::from_static(b"JPEG")) });
        probed
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

struct FakeRoom {
    name: String,
    events: mpsc::Sender<MediaEvent>,
    calls: mpsc::UnboundedSender<(String, Call)>,
    control: Arc<Control>,
    connections: BTreeMap<ConnectionId, (NodeKind, Vec<TrackId>)>,
    recordings: Vec<RecordingId>,
    /// Mixes that are watched end with the room.
    mixes: CancellationToken,
}

impl FakeRoom {
    fn note(&self, call: Call) {
        assert!(!self.control.panics.swap(false, Ordering::SeqCst), "the test asked the fake engine to panic");
        let _ = self.calls.send((self.name.clone(), call));
    }

    fn tell(&self, event: MediaEvent) {
        if self.control.silent.load(Ordering::SeqCst) {
            return;
        }
        // Like any engine it waits on a task of its own, never in the room's.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            let events = self.events.clone();
            tokio::spawn(async move { events.send(event).await });
        }
    }
}

impl MediaRoom for FakeRoom {
    fn publish(&mut self, connection: ConnectionId, publication: Publication) {
        let sections: Vec<_> = publication
            .media
            .iter()
            .map(|media| (media.section.mid.as_str(), media.section.kind, media.section.codec))
            .collect();
        let sdp = made_up_sdp(&sections, Direction::Receives);
        let tracks = publication.media.iter().map(|media| media.track.clone()).collect();
        self.connections.insert(connection.clone(), (NodeKind::Publisher, tracks));
        self.note(Call::Publish(connection.clone(), publication));
        self.tell(MediaEvent::Answered { connection, sdp });
    }

    fn subscribe(&mut self, connection: ConnectionId, tracks: Vec<TrackId>, effects: bool) {
        self.connections.insert(connection.clone(), (NodeKind::Subscriber, tracks.clone()));
        self.note(Call::Subscribe(connection.clone(), tracks.clone(), effects));
        self.tell(offer(connection, tracks));
    }

    fn subscribe_to_mix(&mut self, connection: ConnectionId, tracks: MixTracks, without: Vec<TrackId>) {
        self.note(Call::SubscribeToMix(connection.clone(), tracks.clone(), without));
        let sections = [("0", Kind::Video, CodecName::H264), ("1", Kind::Audio, CodecName::Opus)];
        let sdp = made_up_sdp(&sections, Direction::Sends);
        let tracks = vec![("0".to_owned(), tracks.video), ("1".to_owned(), tracks.audio)];
        self.connections.insert(connection.clone(), (NodeKind::Subscriber, Vec::new()));
        self.tell(MediaEvent::Offered { connection, sdp, tracks });
    }

    fn edge(&self, connection: &ConnectionId) -> Option<super::Edge> {
        self.connections.contains_key(connection).then_some(super::Edge::Fanout)
    }

    fn subscribe_with_offer(&mut self, connection: ConnectionId, offer: SubscriberOffer) {
        let sections: Vec<_> = offer
            .media
            .iter()
            .map(|media| (media.section.mid.as_str(), media.section.kind, media.section.codec))
            .collect();
        let sdp = made_up_sdp(&sections, Direction::Receives).replace("recvonly", "sendonly");
        let tracks = offer.media.iter().map(|media| media.track.clone()).collect();
        self.connections.insert(connection.clone(), (NodeKind::Subscriber, tracks));
        self.note(Call::SubscribeWithOffer(connection.clone(), offer));
        self.tell(MediaEvent::Answered { connection, sdp });
    }

    fn set_mix_without(&mut self, connection: &ConnectionId, without: Vec<TrackId>) {
        self.note(Call::SetMixWithout(connection.clone(), without));
    }

    fn answer(&mut self, connection: &ConnectionId, sdp: String) {
        self.note(Call::Answer(connection.clone(), sdp));
        self.tell(MediaEvent::Connected { connection: connection.clone() });
    }

    fn restart_ice(&mut self, connection: &ConnectionId, theirs: Option<IceCredentials>) {
        self.note(Call::RestartIce(connection.clone(), theirs.clone()));
        let connection = connection.clone();
        self.tell(match theirs {
            Some(_) => {
                let ours = IceCredentials { ufrag: "again".into(), pwd: "againagainagainagainagain".into() };
                let candidates = vec!["candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host".into()];
                MediaEvent::Restarted { connection, ours, candidates }
            }
            None => {
                let tracks = self.connections.get(&connection).map(|(_, tracks)| tracks.clone()).unwrap_or_default();
                offer(connection, tracks)
            }
        });
    }

    fn set_layer(&mut self, connection: &ConnectionId, track: &TrackId, layer: LayerChoice) {
        self.note(Call::SetLayer(connection.clone(), track.clone(), layer));
    }

    fn candidate(&mut self, connection: &ConnectionId, candidate: IceCandidate) {
        self.note(Call::Candidate(connection.clone(), candidate));
    }

    fn close(&mut self, connection: &ConnectionId) {
        self.connections.remove(connection);
        self.note(Call::Close(connection.clone()));
    }

    fn ingest(&mut self, connection: ConnectionId, ingest: Ingest) {
        let video = ingest.video.clone().map(|track| (track, CodecName::H264));
        let audio = ingest.audio.clone().map(|track| (track, CodecName::Opus));
        let tracks: Vec<_> = video.into_iter().chain(audio).collect();
        let ids = tracks.iter().map(|(track, _)| track.clone()).collect();
        self.connections.insert(connection.clone(), (NodeKind::Ingest, ids));
        self.note(Call::Ingest(connection.clone(), ingest));
        self.tell(MediaEvent::IngestOpened { connection, tracks });
    }

    fn mute_ingest(&mut self, track: &TrackId, muted: bool) {
        self.note(Call::MuteIngest(track.clone(), muted));
    }

    fn ingest_figures(&self, _: &ConnectionId) -> IngestFigures {
        IngestFigures::default()
    }

    /// Six seconds with a keyframe each, at once, and then nothing until the reader goes, or the room.
    fn watch_mix(&mut self, reader: mpsc::Sender<TsChunk>) {
        self.note(Call::WatchMix);
        for half in 0..12 {
            let (bytes, starts_keyframe) = (vec![0x47; 188].into(), half % 2 == 0);
            let _ = reader.try_send(TsChunk { bytes, starts_keyframe, time: Duration::from_millis(500 * half) });
        }
        let over = self.mixes.clone();
        tokio::spawn(async move { over.run_until_cancelled(reader.closed()).await });
    }

    /// One packet of each stream, and then nothing until the reader goes.
    fn output(&mut self, connection: ConnectionId, shown: Shown, reader: mpsc::Sender<RtpPiece>) {
        let streams = match &shown {
            Shown::Mix(_) => 2,
            Shown::Tracks { tracks, .. } => tracks.len(),
        };
        self.note(Call::Output(connection.clone(), shown));
        for stream in 0..streams {
            let bytes = bytes::Bytes::from_static(&[0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xAB]);
            let _ = reader.try_send(RtpPiece { stream, bytes, time: Duration::ZERO });
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            reader.closed().await;
            let _ = events.send(MediaEvent::OutputEnded { connection }).await;
        });
    }

    fn push(&mut self, connection: ConnectionId, target: Target) {
        self.note(Call::Push(connection, target));
    }

    fn sent_bytes(&self, _: &ConnectionId) -> u64 {
        0
    }

    fn may_mix(&self, _: &RecordingSpec) -> Result<(), MediaError> {
        if self.control.busy.load(Ordering::SeqCst) { Err(MediaError::Busy { most: 1 }) } else { Ok(()) }
    }

    fn start_recording(&mut self, recording: RecordingId, file: PathBuf, spec: RecordingSpec, scene: Scene) {
        self.recordings.push(recording.clone());
        self.note(Call::StartRecording(recording.clone(), file, spec));
        self.note(Call::SetScene(scene));
        self.tell(MediaEvent::RecordingStarted { recording });
    }

    fn set_scene(&mut self, scene: Scene) {
        self.note(Call::SetScene(scene));
    }

    fn pause_recording(&mut self, recording: &RecordingId) {
        self.note(Call::PauseRecording(recording.clone()));
    }

    fn resume_recording(&mut self, recording: &RecordingId) {
        self.note(Call::ResumeRecording(recording.clone()));
    }

    fn stop_recording(&mut self, recording: &RecordingId) {
        self.recordings.retain(|running| running != recording);
        self.note(Call::StopRecording(recording.clone()));
        self.tell(MediaEvent::RecordingEnded { recording: recording.clone(), result: Ok(()) });
    }

    fn effect_costs(&self, _track: &TrackId) -> Vec<EffectCost> {
        Vec::new()
    }

    fn mix_effect_costs(&self) -> Vec<EffectCost> {
        Vec::new()
    }

    fn set_effects(&mut self, track: &TrackId, effects: Vec<Applied>) {
        self.note(Call::SetEffects(track.clone(), effects));
    }

    fn preview(
        &mut self,
        track: &TrackId,
        effects: Vec<Applied>,
    ) -> Option<oneshot::Receiver<Result<Bytes, MediaError>>> {
        self.note(Call::Preview(track.clone(), effects));
        let (answer, made) = oneshot::channel();
        // Whoever asked is there still: he has the other end yet.
        let _ = answer.send(Ok(Bytes::from_static(b"a picture")));
        Some(made)
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (connection, (kind, tracks)) in &self.connections {
            let facts = BTreeMap::new();
            let (id, label) = (connection.to_string(), connection.to_string());
            graph.nodes.push(Node { id: id.clone(), kind: *kind, label, facts: facts.clone() });
            for track in tracks {
                let (from, to) = match kind {
                    NodeKind::Publisher | NodeKind::Ingest => {
                        let (id, label) = (track.to_string(), String::new());
                        graph.nodes.push(Node { id, kind: NodeKind::Track, label, facts: facts.clone() });
                        (id_of(connection), track.to_string())
                    }
                    _ => (track.to_string(), id_of(connection)),
                };
                graph.edges.push(Edge { from, to, label: "rtp".into() });
            }
        }
        graph
    }

    fn shutdown(self: Box<Self>, _deadline: Duration) -> oneshot::Receiver<()> {
        self.note(Call::Shutdown);
        self.mixes.cancel();
        let (done, gone) = oneshot::channel();
        if self.control.holds_shutdown.load(Ordering::SeqCst) {
            lock(&self.control.held).push(done);
        } else {
            let _ = done.send(());
        }
        gone
    }
}

/// An offer of these tracks.
fn offer(connection: ConnectionId, tracks: Vec<TrackId>) -> MediaEvent {
    let mids: Vec<_> = (0..tracks.len()).map(|index| index.to_string()).collect();
    let sections: Vec<_> = mids.iter().map(|mid| (mid.as_str(), Kind::Video, CodecName::Vp8)).collect();
    let sdp = made_up_sdp(&sections, Direction::Sends);
    MediaEvent::Offered { connection, sdp, tracks: mids.into_iter().zip(tracks).collect() }
}

/// An effect with one parameter, `amount`, 0 to 1.
fn made_up_effect(name: &str, kind: Kind) -> Effect {
    let title = || Title { en: name.to_owned(), ko: name.to_owned() };
    let range = Range::Number { min: 0.0, max: 1.0, step: None, unit: None, default: 0.5 };
    let amount = Parameter { name: "amount".into(), title: title(), range, live: true };
    Effect {
        name: name.into(),
        kind,
        title: title(),
        preview: None,
        cost: Cost::High,
        events: vec![],
        parameters: vec![amount],
        shown: serde_json::Map::new(),
    }
}

/// An effect that takes a launch line.
fn made_up_program() -> Effect {
    let title = Title { en: "line".into(), ko: "line".into() };
    let range = Range::Launch { media: Kind::Video, default: "videoflip".into() };
    let line = Parameter { name: "line".into(), title, range, live: false };
    Effect { parameters: vec![line], ..made_up_effect("program", Kind::Video) }
}

fn id_of(connection: &ConnectionId) -> String {
    connection.to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Sends,
    Receives,
}

/// An offer such as a browser writes, for `(mid, kind, codec)` sections it wants to send.
pub fn made_up_offer(sections: &[(&str, Kind, CodecName)]) -> String {
    made_up_sdp(sections, Direction::Sends)
}

/// An answer to an offer of `(mid, kind, codec)` sections.
pub fn made_up_answer(sections: &[(&str, Kind, CodecName)]) -> String {
    made_up_sdp(sections, Direction::Receives)
}

fn made_up_sdp(sections: &[(&str, Kind, CodecName)], direction: Direction) -> String {
    let mids: Vec<_> = sections.iter().map(|(mid, ..)| *mid).collect();
    let (word, setup) = match direction {
        Direction::Sends => ("sendonly", "actpass"),
        Direction::Receives => ("recvonly", "active"),
    };
    let mut sdp = format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
        mids.join(" ")
    );
    let fingerprint = vec!["AB"; 32].join(":");
    for (mid, kind, codec) in sections {
        let channels = codec.channels().map(|channels| format!("/{channels}")).unwrap_or_default();
        let (kind, payload) = match kind {
            Kind::Audio => ("audio", 111),
            Kind::Video => ("video", 96),
        };
        sdp += &format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {payload}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:fake\r\na=ice-pwd:fakefakefakefakefakefake\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\na=mid:{mid}\r\na={word}\r\na=rtcp-mux\r\n\
             a=rtpmap:{payload} {}/{}{channels}\r\n",
            codec.encoding_name(),
            codec.clock_rate(),
        );
    }
    sdp
}
