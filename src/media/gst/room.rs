//! The media of one room: its tracks, and the tasks that publish, subscribe and record them.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    MediaSettings, RoomClock, Track, TrackTable,
    composite::CompositeRecorder,
    decoder::Decoders,
    peer::{Command, Context, Peer},
    preset::Presets,
    publisher, subscriber,
};
use crate::{
    media::{
        IceCandidate, MediaEvent, MediaRoom, Publication, RecordingSpec, Scene,
        fanout::{Edge, Viewer},
        graph::{self, Graph, Node, NodeKind, Stage},
    },
    room::id::{ConnectionId, RecordingId, TrackId},
};

/// The media of one room. Everything that takes time runs on tasks of its own; this only keeps the
/// books.
pub(super) struct GstRoom {
    name: String,
    clock: RoomClock,
    settings: Arc<MediaSettings>,
    presets: Arc<Presets>,
    events: mpsc::Sender<MediaEvent>,
    decoders: Decoders,
    tracks: TrackTable,
    publishers: HashMap<ConnectionId, Connected>,
    subscribers: HashMap<ConnectionId, Connected>,
    /// If viewers are served there.
    edge: Option<Arc<Edge>>,
    recordings: HashMap<RecordingId, CompositeRecorder>,
}

/// A connection: its task, and the tracks that it publishes or reads.
struct Connected {
    peer: Link,
    tracks: Vec<TrackId>,
}

/// Through which edge a connection goes. The room does not care.
enum Link {
    Webrtcbin(Peer),
    Fanout(Viewer),
}

impl Link {
    fn stage(&self) -> Stage {
        match self {
            Self::Webrtcbin(peer) => peer.stage(),
            Self::Fanout(viewer) => viewer.stage(),
        }
    }

    fn edge(&self) -> &'static str {
        match self {
            Self::Webrtcbin(_) => "webrtcbin",
            Self::Fanout(_) => "fanout",
        }
    }

    fn close(self) -> JoinHandle<()> {
        match self {
            Self::Webrtcbin(peer) => peer.close(),
            Self::Fanout(viewer) => viewer.close(),
        }
    }
}

impl GstRoom {
    pub(super) fn new(
        name: &str,
        settings: Arc<MediaSettings>,
        presets: Arc<Presets>,
        edge: Option<Arc<Edge>>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let clock = RoomClock::new();
        Self {
            name: name.to_owned(),
            decoders: Decoders::new(&clock),
            clock,
            settings,
            presets,
            events,
            tracks: TrackTable::new(),
            publishers: HashMap::new(),
            subscribers: HashMap::new(),
            edge,
            recordings: HashMap::new(),
        }
    }

    fn context(&self, connection: ConnectionId) -> Context {
        Context { connection, clock: self.clock.clone(), settings: self.settings.clone(), events: self.events.clone() }
    }

    fn link(&self, connection: &ConnectionId) -> Option<&Link> {
        self.publishers.get(connection).or_else(|| self.subscribers.get(connection)).map(|connected| &connected.peer)
    }

    /// Strikes out connections that ended by themselves, their tracks, and recordings that are over.
    fn prune(&mut self) {
        let ended = |connected: &Connected| connected.peer.stage() == Stage::Ended;
        for connected in self.publishers.values().filter(|connected| ended(connected)) {
            self.tracks.retain(|id, _| !connected.tracks.contains(id));
        }
        self.publishers.retain(|_, connected| !ended(connected));
        self.subscribers.retain(|_, connected| !ended(connected));
        self.recordings.retain(|_, recorder| !recorder.is_over());
    }
}

impl MediaRoom for GstRoom {
    fn publish(&mut self, connection: ConnectionId, publication: Publication) {
        self.prune();
        self.close(&connection);
        let tracks: Vec<Arc<Track>> = publication
            .media
            .iter()
            .map(|media| Track::new(media.track.clone(), media.section.codec, media.section.fmtp.as_deref()))
            .collect();
        self.tracks.extend(tracks.iter().map(|track| (track.id.clone(), track.clone())));
        let ids = tracks.iter().map(|track| track.id.clone()).collect();
        let peer = publisher::spawn(self.context(connection.clone()), publication, tracks);
        self.publishers.insert(connection, Connected { peer: Link::Webrtcbin(peer), tracks: ids });
    }

    fn subscribe(&mut self, connection: ConnectionId, tracks: Vec<TrackId>) {
        self.prune();
        self.close(&connection);
        let found: Vec<Arc<Track>> = tracks.iter().filter_map(|id| self.tracks.get(id).cloned()).collect();
        let ids = found.iter().map(|track| track.id.clone()).collect();
        let peer = match &self.edge {
            Some(edge) => {
                let sources = found.iter().map(|track| (track.id.clone(), track.source.clone())).collect();
                Link::Fanout(edge.subscribe(connection.clone(), sources, self.events.clone()))
            }
            None => Link::Webrtcbin(subscriber::spawn(self.context(connection.clone()), found)),
        };
        self.subscribers.insert(connection, Connected { peer, tracks: ids });
    }

    fn answer(&mut self, connection: &ConnectionId, sdp: String) {
        match self.link(connection) {
            Some(Link::Webrtcbin(peer)) => peer.tell(Command::Answer(sdp)),
            Some(Link::Fanout(viewer)) => viewer.answer(sdp),
            None => {}
        }
    }

    fn candidate(&mut self, connection: &ConnectionId, candidate: IceCandidate) {
        // Where we only answer, the client's checks tell where he is.
        if let Some(Link::Webrtcbin(peer)) = self.link(connection) {
            peer.tell(Command::Candidate(candidate));
        }
    }

    fn close(&mut self, connection: &ConnectionId) {
        if let Some(connected) = self.publishers.remove(connection) {
            self.tracks.retain(|id, _| !connected.tracks.contains(id));
            connected.peer.close();
        }
        if let Some(connected) = self.subscribers.remove(connection) {
            connected.peer.close();
        }
    }

    fn start_recording(&mut self, recording: RecordingId, file: PathBuf, spec: RecordingSpec, scene: Scene) {
        self.prune();
        let started = CompositeRecorder::start(
            &self.clock,
            &self.decoders,
            &self.presets,
            recording.clone(),
            file,
            &spec,
            &scene,
            &self.tracks,
            self.events.clone(),
        );
        match started {
            Ok(recorder) => {
                self.recordings.insert(recording, recorder);
            }
            Err(error) => {
                let events = self.events.clone();
                // The room calls this; a full channel must not make it wait for itself.
                tokio::spawn(async move {
                    let _ = events.send(MediaEvent::RecordingEnded { recording, result: Err(error) }).await;
                });
            }
        }
    }

    fn set_scene(&mut self, scene: Scene) {
        self.prune();
        for recorder in self.recordings.values_mut() {
            recorder.set_scene(&scene, &self.tracks);
        }
    }

    fn stop_recording(&mut self, recording: &RecordingId) {
        if let Some(recorder) = self.recordings.get_mut(recording) {
            recorder.stop();
        }
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (id, connected) in &self.publishers {
            graph.nodes.push(connection_node(id, connected, NodeKind::Publisher));
            for track in connected.tracks.iter().filter_map(|track| self.tracks.get(track)) {
                graph.nodes.push(track_node(track));
                graph.edges.push(edge(id.to_string(), node_id(track), track));
            }
        }
        for (id, connected) in &self.subscribers {
            graph.nodes.push(connection_node(id, connected, NodeKind::Subscriber));
            for track in connected.tracks.iter().filter_map(|track| self.tracks.get(track)) {
                graph.edges.push(edge(node_id(track), id.to_string(), track));
            }
        }
        for recorder in self.recordings.values() {
            recorder.graph(&mut graph);
        }
        graph.nodes.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        graph
    }

    fn shutdown(self: Box<Self>, deadline: Duration) -> oneshot::Receiver<()> {
        let (gone, done) = oneshot::channel();
        let Self { name, publishers, subscribers, recordings, .. } = *self;
        tokio::spawn(async move {
            let everything = async {
                // The last picture of a recording is of those who are still there.
                let recordings = recordings.into_values().map(|recorder| recorder.shutdown(deadline));
                futures_util::future::join_all(recordings).await;
                let peers = publishers.into_values().chain(subscribers.into_values());
                futures_util::future::join_all(peers.map(|connected| connected.peer.close())).await;
            };
            let ended = tokio::time::timeout(deadline, everything).await;
            if ended.is_err() {
                tracing::error!(room = %name, "the room's media did not end within {deadline:?}");
            }
            // Nobody may be waiting any more.
            let _ = gone.send(());
        });
        done
    }
}

fn connection_node(id: &ConnectionId, connected: &Connected, kind: NodeKind) -> Node {
    let stage = format!("{:?}", connected.peer.stage()).to_lowercase();
    let facts = [("state", stage), ("edge", connected.peer.edge().to_owned())];
    let facts = facts.map(|(name, value)| (name.to_owned(), value)).into();
    Node { id: id.to_string(), kind, label: id.to_string(), facts }
}

fn track_node(track: &Track) -> Node {
    let facts = [("codec", track.codec.encoding_name().to_owned()), ("subscribers", track.subscribers().to_string())];
    Node {
        id: node_id(track),
        kind: NodeKind::Track,
        label: track.codec.encoding_name().to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// Recordings name a track's node in the same way.
fn node_id(track: &Track) -> String {
    format!("track-{}", track.id)
}

fn edge(from: String, to: String, track: &Track) -> graph::Edge {
    graph::Edge { from, to, label: format!("{} rtp", track.codec.encoding_name()) }
}
