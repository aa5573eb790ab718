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

use tokio::sync::{mpsc, oneshot};

use super::{
    Capabilities, CodecName, IceCandidate, Kind, LayoutKind, MediaEngine, MediaEvent, MediaRoom, Publication,
    RecordingSpec, Scene,
    graph::{Edge, Graph, Node, NodeKind},
};
use crate::room::id::{ConnectionId, RecordingId, TrackId};

/// What a fake engine was asked, in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is a verb of `MediaRoom` with its arguments")]
pub enum Call {
    Publish(ConnectionId, Publication),
    Subscribe(ConnectionId, Vec<TrackId>),
    Answer(ConnectionId, String),
    Candidate(ConnectionId, IceCandidate),
    Close(ConnectionId),
    StartRecording(RecordingId, PathBuf, RecordingSpec),
    SetScene(Scene),
    PauseRecording(RecordingId),
    ResumeRecording(RecordingId),
    StopRecording(RecordingId),
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
            layouts: LayoutKind::ALL.map(|kind| kind.name().to_owned()).to_vec(),
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
        })
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

    fn subscribe(&mut self, connection: ConnectionId, tracks: Vec<TrackId>) {
        self.connections.insert(connection.clone(), (NodeKind::Subscriber, tracks.clone()));
        self.note(Call::Subscribe(connection.clone(), tracks.clone()));
        let mids: Vec<_> = (0..tracks.len()).map(|index| index.to_string()).collect();
        let sections: Vec<_> = mids.iter().map(|mid| (mid.as_str(), Kind::Video, CodecName::Vp8)).collect();
        let sdp = made_up_sdp(&sections, Direction::Sends);
        self.tell(MediaEvent::Offered { connection, sdp, tracks: mids.into_iter().zip(tracks).collect() });
    }

    fn answer(&mut self, connection: &ConnectionId, sdp: String) {
        self.note(Call::Answer(connection.clone(), sdp));
        self.tell(MediaEvent::Connected { connection: connection.clone() });
    }

    fn candidate(&mut self, connection: &ConnectionId, candidate: IceCandidate) {
        self.note(Call::Candidate(connection.clone(), candidate));
    }

    fn close(&mut self, connection: &ConnectionId) {
        self.connections.remove(connection);
        self.note(Call::Close(connection.clone()));
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

    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (connection, (kind, tracks)) in &self.connections {
            let facts = BTreeMap::new();
            let (id, label) = (connection.to_string(), connection.to_string());
            graph.nodes.push(Node { id: id.clone(), kind: *kind, label, facts: facts.clone() });
            for track in tracks {
                let (from, to) = match kind {
                    NodeKind::Publisher => {
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
        let (done, gone) = oneshot::channel();
        if self.control.holds_shutdown.load(Ordering::SeqCst) {
            lock(&self.control.held).push(done);
        } else {
            let _ = done.send(());
        }
        gone
    }
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
        let (kind, payload, channels) = match kind {
            Kind::Audio => ("audio", 111, "/2"),
            Kind::Video => ("video", 96, ""),
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
