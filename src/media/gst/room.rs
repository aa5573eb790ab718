//! The media of one room: its tracks, and the tasks that publish, subscribe and record them.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    MediaSettings, MixBudget, RoomClock, Track, TrackTable, composite,
    decoder::Decoders,
    effect::{EffectedTrack, Previews},
    ingest::{self, RunningIngest},
    inlet,
    live::LiveMix,
    mixes::Mixes,
    output::{RtpOutput, RunningPush, TransportStream},
    peer::{Command, Context, Peer},
    preset::Presets,
    publisher,
    recorder::{Bounds, Budget, recording::Recording},
    subscriber,
};
use crate::{
    effect::Applied,
    media::{
        self, EffectCost, IceCandidate, IceCredentials, LayerChoice, MediaError, MediaEvent, MediaRoom, MixListener,
        MixTracks, Publication, PublishedMedia, RecordingSpec, Scene, SubscriberOffer,
        fanout::{self, Viewer},
        graph::{Edge, Graph, Node, NodeKind, Stage},
        ingest::{Ingest, IngestFigures},
        negotiation,
        output::{RtpPiece, Shown},
        push::Target,
        rtp::Lane,
        ts::TsChunk,
    },
    room::id::{ConnectionId, ParticipantId, RecordingId, TrackId},
};

/// Participants of whom it is remembered that they need a pipeline.
const MOST_WITHOUT_FANOUT: usize = 1_000;

/// The media of one room. Everything that takes time runs on tasks of its own; this only keeps the
/// books.
pub(super) struct GstRoom {
    name: String,
    clock: RoomClock,
    settings: Arc<MediaSettings>,
    presets: Arc<Presets>,
    events: mpsc::Sender<MediaEvent>,
    mixes: Mixes,
    live: LiveMix,
    tracks: TrackTable,
    publishers: HashMap<ConnectionId, Connected>,
    subscribers: HashMap<ConnectionId, Connected>,
    /// If viewers are served there.
    fanout: Option<Arc<fanout::Edge>>,
    /// Those whose handshake failed there: GStreamer's takes more kinds of certificates.
    without_fanout: HashSet<ParticipantId>,
    /// Connections that were ended and are not gone yet.
    closing: Vec<JoinHandle<()>>,
    ingests: HashMap<ConnectionId, RunningIngest>,
    ts: TransportStream,
    pushes: HashMap<ConnectionId, RunningPush>,
    outputs: HashMap<ConnectionId, RtpOutput>,
    recordings: HashMap<RecordingId, Recording>,
    effects: HashMap<TrackId, EffectedTrack>,
    previews: Previews,
}

/// A connection: its task, and the tracks that it publishes or reads.
struct Connected {
    peer: Link,
    tracks: Vec<TrackId>,
    /// What he reads of them.
    lane: Lane,
}

/// Through which edge a connection goes. The room does not care.
enum Link {
    Webrtcbin(Peer),
    /// Who watches.
    Fanout(Viewer),
    /// Who publishes through the fan-out edge, with the pipeline behind it.
    Inlet(Peer),
}

impl Link {
    fn stage(&self) -> Stage {
        match self {
            Self::Webrtcbin(peer) | Self::Inlet(peer) => peer.stage(),
            Self::Fanout(viewer) => viewer.stage(),
        }
    }

    fn edge(&self) -> media::Edge {
        match self {
            Self::Webrtcbin(_) => media::Edge::Webrtcbin,
            Self::Fanout(_) | Self::Inlet(_) => media::Edge::Fanout,
        }
    }

    fn failed_handshake(&self) -> bool {
        match self {
            Self::Webrtcbin(_) => false,
            Self::Fanout(viewer) => viewer.failed_handshake(),
            Self::Inlet(peer) => peer.failed_handshake(),
        }
    }

    fn close(self) -> JoinHandle<()> {
        match self {
            Self::Webrtcbin(peer) | Self::Inlet(peer) => peer.close(),
            Self::Fanout(viewer) => viewer.close(),
        }
    }
}

impl GstRoom {
    pub(super) fn new(
        name: &str,
        settings: Arc<MediaSettings>,
        presets: Arc<Presets>,
        fanout: Option<Arc<fanout::Edge>>,
        mix_budget: &MixBudget,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let clock = RoomClock::new();
        let mixes = Mixes::new(&clock, &Decoders::new(&clock), &presets, mix_budget, events.clone());
        Self {
            name: name.to_owned(),
            live: LiveMix::new(&clock, &mixes),
            ts: TransportStream::new(&clock, &mixes),
            mixes,
            clock,
            settings,
            presets,
            events,
            tracks: TrackTable::new(),
            publishers: HashMap::new(),
            subscribers: HashMap::new(),
            fanout,
            without_fanout: HashSet::new(),
            closing: Vec::new(),
            ingests: HashMap::new(),
            pushes: HashMap::new(),
            outputs: HashMap::new(),
            recordings: HashMap::new(),
            effects: HashMap::new(),
            previews: Previews::default(),
        }
    }

    fn context(&self, connection: ConnectionId) -> Context {
        Context { connection, clock: self.clock.clone(), settings: self.settings.clone(), events: self.events.clone() }
    }

    /// Offers tracks to somebody, through the edge that viewers are served by, as readers of that lane have them.
    fn offer(&mut self, connection: ConnectionId, tracks: Vec<Arc<Track>>, lane: Lane) {
        let ids = tracks.iter().map(|track| track.id.clone()).collect();
        let peer = match self.fanout_for(&connection) {
            Some(edge) => {
                let sources = tracks.iter().map(|track| (track.id.clone(), track.source(lane).clone())).collect();
                Link::Fanout(edge.subscribe(connection.clone(), sources, self.events.clone()))
            }
            None => Link::Webrtcbin(subscriber::spawn(self.context(connection.clone()), tracks, lane)),
        };
        self.subscribers.insert(connection, Connected { peer, tracks: ids, lane });
    }

    /// The fan-out edge, if it is to receive this publication and can: webrtcbin knows no simulcast, but takes offers
    /// that the edge would refuse or not tell the packets of.
    fn fanout_receives(&self, connection: &ConnectionId, publication: &Publication) -> Option<Arc<fanout::Edge>> {
        let Publication { sdp, media, .. } = publication;
        let sections: Vec<_> = media.iter().map(|media| media.section.clone()).collect();
        let edge = self.fanout_for(connection).filter(|_| !negotiation::is_of_gstreamer(&sections))?;
        (negotiation::suits_fanout(sdp, &sections) && edge.takes(sdp, &sections)).then(|| edge.clone())
    }

    fn fanout_for(&self, connection: &ConnectionId) -> Option<&Arc<fanout::Edge>> {
        self.fanout.as_ref().filter(|_| !self.without_fanout.contains(&connection.participant))
    }

    fn link(&self, connection: &ConnectionId) -> Option<&Link> {
        self.publishers.get(connection).or_else(|| self.subscribers.get(connection)).map(|connected| &connected.peer)
    }

    /// Strikes out connections that ended by themselves, their tracks, and recordings that are over.
    /// Notes tracks of ingests as well: they are known once their source is.
    fn prune(&mut self) {
        for track in self.ingests.values().flat_map(RunningIngest::tracks) {
            self.tracks.entry(track.id.clone()).or_insert(track);
        }
        let ended = |connected: &Connected| connected.peer.stage() == Stage::Ended;
        for connected in self.publishers.values().filter(|connected| ended(connected)) {
            self.tracks.retain(|id, _| !connected.tracks.contains(id));
        }
        let connected = self.subscribers.iter().chain(&self.publishers);
        let failed = connected.filter(|(_, connected)| connected.peer.failed_handshake());
        let failed: Vec<_> = failed.map(|(connection, _)| connection.participant.clone()).collect();
        if self.without_fanout.len() + failed.len() <= MOST_WITHOUT_FANOUT {
            self.without_fanout.extend(failed);
        }
        self.publishers.retain(|_, connected| !ended(connected));
        self.subscribers.retain(|_, connected| !ended(connected));
        self.end_outputs_of_gone_tracks();
        let (subscribers, outputs) = (&self.subscribers, &self.outputs);
        self.live.retain(|connection| subscribers.contains_key(connection) || outputs.contains_key(connection));
        self.ts.prune();
        self.closing.retain(|task| !task.is_finished());
        self.recordings.retain(|_, recorder| !recorder.is_over());
        self.end_effects_of_gone_tracks();
    }

    /// A player whose track is gone has nothing to wait for: it would not come back under its numbers.
    fn end_outputs_of_gone_tracks(&mut self) {
        let (tracks, live) = (&self.tracks, &self.live);
        let is_over = |id: &ConnectionId, output: &mut RtpOutput| {
            !live.has(id) && output.tracks().iter().any(|track| !tracks.contains_key(&track.id))
        };
        for (_, output) in self.outputs.extract_if(is_over) {
            self.closing.push(output.close());
        }
    }

    fn end_effects_of_gone_tracks(&mut self) {
        let tracks = &self.tracks;
        for (_, effects) in self.effects.extract_if(|track, effects| effects.is_over() || !tracks.contains_key(track)) {
            drop(effects.end());
        }
        self.previews.retain(|track| tracks.contains_key(track));
    }
}

impl GstRoom {
    /// Whether the mix may not be made for somebody who comes to watch; he is told so.
    fn turns_away(&self, connection: &ConnectionId) -> bool {
        let Err(error) = self.live.may_join() else { return false };
        let (events, connection) = (self.events.clone(), connection.clone());
        // The room calls this; a full channel must not make it wait for itself.
        tokio::spawn(async move {
            let _ = events.send(MediaEvent::ConnectionEnded { connection, error }).await;
        });
        true
    }
}

impl MediaRoom for GstRoom {
    fn publish(&mut self, connection: ConnectionId, mut publication: Publication) {
        self.prune();
        self.close(&connection);
        let edge = self.fanout_receives(&connection, &publication);
        if edge.is_none() {
            let without = |media: PublishedMedia| PublishedMedia { section: media.section.without_layers(), ..media };
            publication.media = publication.media.into_iter().map(without).collect();
        }
        let tracks: Vec<Arc<Track>> = publication
            .media
            .iter()
            .map(|PublishedMedia { track, section }| {
                let (codec, fmtp) = (section.codec, section.fmtp.as_deref());
                Track::layered(track.clone(), codec, fmtp, &self.clock, &section.layers)
            })
            .collect();
        self.tracks.extend(tracks.iter().map(|track| (track.id.clone(), track.clone())));
        let ids = tracks.iter().map(|track| track.id.clone()).collect();
        let context = self.context(connection.clone());
        let peer = match edge {
            Some(edge) => Link::Inlet(inlet::spawn(context, edge, publication, tracks)),
            None => Link::Webrtcbin(publisher::spawn(context, publication, tracks)),
        };
        self.publishers.insert(connection, Connected { peer, tracks: ids, lane: Lane::Clean });
    }

    fn subscribe(&mut self, connection: ConnectionId, tracks: Vec<TrackId>, effects: bool) {
        self.prune();
        self.close(&connection);
        let found: Vec<Arc<Track>> = tracks.iter().filter_map(|id| self.tracks.get(id).cloned()).collect();
        self.offer(connection, found, if effects { Lane::Effected } else { Lane::Clean });
    }

    fn subscribe_to_mix(&mut self, connection: ConnectionId, tracks: MixTracks, without: Vec<TrackId>) {
        self.prune();
        self.close(&connection);
        if self.turns_away(&connection) {
            return;
        }
        let tracks = self.live.join(connection.clone(), tracks, without);
        self.offer(connection, tracks, Lane::Effected);
    }

    fn subscribe_with_offer(&mut self, connection: ConnectionId, offer: SubscriberOffer) {
        self.prune();
        self.close(&connection);
        let SubscriberOffer { sdp, media, mix, effects } = offer;
        let lane = if effects { Lane::Effected } else { Lane::Clean };
        if mix.is_some() && self.turns_away(&connection) {
            return;
        }
        let tracks = match mix {
            Some(MixListener { tracks, without }) => self.live.join(connection.clone(), tracks, without),
            None => Vec::new(),
        };
        let found = |id: &TrackId| tracks.iter().find(|track| track.id == *id).or_else(|| self.tracks.get(id)).cloned();
        let (found, sections): (Vec<_>, Vec<_>) =
            media.into_iter().filter_map(|media| Some((found(&media.track)?, media.section))).unzip();
        let ids = found.iter().map(|track| track.id.clone()).collect();
        let peer = match self.fanout_for(&connection).filter(|_| !negotiation::is_of_gstreamer(&sections)) {
            Some(edge) => {
                let sources = found.iter().map(|track| track.source(lane).clone());
                let media = sections.into_iter().zip(sources).collect();
                Link::Fanout(edge.answer(connection.clone(), sdp, media, self.events.clone()))
            }
            None => {
                let context = self.context(connection.clone());
                Link::Webrtcbin(subscriber::spawn_answering(context, found, lane, sdp, sections))
            }
        };
        self.subscribers.insert(connection, Connected { peer, tracks: ids, lane });
    }

    fn set_mix_without(&mut self, connection: &ConnectionId, without: Vec<TrackId>) {
        self.live.set_without(connection, without);
    }

    fn answer(&mut self, connection: &ConnectionId, sdp: String) {
        match self.link(connection) {
            Some(Link::Webrtcbin(peer)) => peer.tell(Command::Answer(sdp)),
            Some(Link::Fanout(viewer)) => viewer.answer(sdp),
            Some(Link::Inlet(_)) | None => {}
        }
    }

    fn restart_ice(&mut self, connection: &ConnectionId, theirs: Option<IceCredentials>) {
        match (self.link(connection), theirs) {
            (Some(Link::Fanout(viewer)), theirs) => viewer.restart_ice(theirs),
            (Some(Link::Inlet(peer)), Some(theirs)) => peer.tell(Command::Restart(theirs)),
            (Some(Link::Inlet(_) | Link::Webrtcbin(_)) | None, _) => {}
        }
    }

    fn set_layer(&mut self, connection: &ConnectionId, track: &TrackId, layer: LayerChoice) {
        let Some(Connected { peer: Link::Fanout(viewer), lane: Lane::Effected, .. }) = self.subscribers.get(connection)
        else {
            return;
        };
        viewer.set_layer(track.clone(), layer);
    }

    fn candidate(&mut self, connection: &ConnectionId, candidate: IceCandidate) {
        // On the fan-out edge the client's checks tell where he is.
        if let Some(Link::Webrtcbin(peer)) = self.link(connection) {
            peer.tell(Command::Candidate(candidate));
        }
    }

    fn close(&mut self, connection: &ConnectionId) {
        if let Some(connected) = self.publishers.remove(connection) {
            self.tracks.retain(|id, _| !connected.tracks.contains(id));
            self.closing.push(connected.peer.close());
            self.end_effects_of_gone_tracks();
            self.end_outputs_of_gone_tracks();
        }
        if let Some(connected) = self.subscribers.remove(connection) {
            self.live.retain(|other| other != connection);
            self.closing.push(connected.peer.close());
        }
        if let Some(output) = self.outputs.remove(connection) {
            self.live.retain(|other| other != connection);
            self.closing.push(output.close());
        }
        if let Some(push) = self.pushes.remove(connection) {
            self.closing.push(push.close());
        }
        if let Some(ingest) = self.ingests.remove(connection) {
            let gone = ingest.tracks();
            self.tracks.retain(|id, _| gone.iter().all(|track| track.id != *id));
            ingest.close();
            self.end_outputs_of_gone_tracks();
        }
    }

    fn ingest(&mut self, connection: ConnectionId, ingest: Ingest) {
        self.close(&connection);
        let context = ingest::Context {
            connection: connection.clone(),
            clock: self.clock.clone(),
            presets: self.presets.clone(),
            events: self.events.clone(),
        };
        self.ingests.insert(connection, RunningIngest::start(context, ingest));
    }

    fn mute_ingest(&mut self, track: &TrackId, muted: bool) {
        self.ingests.values().for_each(|ingest| ingest.mute(track, muted));
    }

    fn ingest_figures(&self, connection: &ConnectionId) -> IngestFigures {
        self.ingests.get(connection).map(RunningIngest::figures).unwrap_or_default()
    }

    fn watch_mix(&mut self, reader: mpsc::Sender<TsChunk>) {
        if let Err(error) = self.ts.watch(&reader) {
            tracing::error!(room = %self.name, "the mix cannot be streamed: {error}");
        }
    }

    fn push(&mut self, connection: ConnectionId, target: Target) {
        self.close(&connection);
        let push = RunningPush::start(connection.clone(), &self.clock, &self.ts, target, self.events.clone());
        self.pushes.insert(connection, push);
    }

    fn sent_bytes(&self, connection: &ConnectionId) -> u64 {
        self.pushes.get(connection).map_or(0, |push| push.status().sent_bytes)
    }

    fn output(&mut self, connection: ConnectionId, shown: Shown, reader: mpsc::Sender<RtpPiece>) {
        self.prune();
        self.close(&connection);
        if let (Shown::Mix(_), Err(error)) = (&shown, self.live.may_join()) {
            return tracing::warn!(room = %self.name, "a player is turned away: {error}");
        }
        let lane = if matches!(shown, Shown::Tracks { effects: false, .. }) { Lane::Clean } else { Lane::Effected };
        let tracks = match shown {
            Shown::Mix(tracks) => self.live.join(connection.clone(), tracks, Vec::new()),
            // All of them or none: the player was told how many there are.
            Shown::Tracks { tracks: ids, .. } => {
                ids.iter().map(|id| self.tracks.get(id).cloned()).collect::<Option<_>>().unwrap_or_default()
            }
        };
        let started = match tracks.is_empty() {
            true => Err(MediaError::Unavailable("a track that has gone meanwhile".into())),
            false => RtpOutput::start(connection.clone(), &self.clock, (tracks, lane), reader, self.events.clone()),
        };
        match started {
            Ok(running) => {
                self.outputs.insert(connection, running);
            }
            Err(error) => {
                self.live.retain(|other| *other != connection);
                tracing::error!(room = %self.name, "an output could not be started: {error}");
                let events = self.events.clone();
                // The room calls this; a full channel must not make it wait for itself.
                tokio::spawn(async move { events.send(MediaEvent::OutputEnded { connection }).await });
            }
        }
    }

    fn may_mix(&self, spec: &RecordingSpec) -> Result<(), MediaError> {
        if spec.mode.has_composite() { self.mixes.may_start(&composite::look(spec)?) } else { Ok(()) }
    }

    fn start_recording(&mut self, recording: RecordingId, file: PathBuf, spec: RecordingSpec, scene: Scene) {
        self.prune();
        self.mixes.set_scene(&scene, &self.tracks);
        let budget = Budget::new(spec.max_bytes, self.settings.disk_reserve_bytes);
        let bounds = Bounds::new(self.clock.running_time(), budget);
        let started = Recording::start(
            &self.clock,
            &self.mixes,
            recording.clone(),
            file,
            bounds,
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
        self.mixes.set_scene(&scene, &self.tracks);
        self.recordings.values_mut().for_each(|recording| recording.set_scene(&scene, &self.tracks));
    }

    fn pause_recording(&mut self, recording: &RecordingId) {
        if let Some(recorder) = self.recordings.get_mut(recording) {
            recorder.pause();
        }
    }

    fn resume_recording(&mut self, recording: &RecordingId) {
        if let Some(recorder) = self.recordings.get_mut(recording) {
            recorder.resume();
        }
    }

    fn stop_recording(&mut self, recording: &RecordingId) {
        if let Some(recorder) = self.recordings.get_mut(recording) {
            recorder.stop();
        }
    }

    fn set_effects(&mut self, track: &TrackId, effects: Vec<Applied>) {
        self.prune();
        if self.effects.get(track).is_some_and(|running| running.set(&effects)) || effects.is_empty() {
            return;
        }
        let Some(found) = self.tracks.get(track) else { return };
        let (clock, decoders, presets) = (&self.clock, self.mixes.decoders(), &self.presets);
        let started = EffectedTrack::start(found, effects, clock, decoders, presets, self.events.clone());
        self.effects.insert(track.clone(), started);
    }

    fn preview(
        &mut self,
        track: &TrackId,
        effects: Vec<Applied>,
    ) -> Option<oneshot::Receiver<Result<Bytes, MediaError>>> {
        let found = self.tracks.get(track)?;
        self.previews.start(found, effects, &self.clock, self.mixes.decoders(), &self.presets)
    }

    fn edge(&self, connection: &ConnectionId) -> Option<media::Edge> {
        self.link(connection).map(Link::edge)
    }

    fn effect_costs(&self, track: &TrackId) -> Vec<EffectCost> {
        self.effects.get(track).map(EffectedTrack::costs).unwrap_or_default()
    }

    fn mix_effect_costs(&self) -> Vec<EffectCost> {
        self.mixes.effect_costs()
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
        for (id, ingest) in &self.ingests {
            graph.nodes.extend(ingest.tracks().iter().map(|track| track_node(track)));
            ingest.graph(id, node_id, &mut graph);
        }
        for (id, connected) in &self.subscribers {
            graph.nodes.push(connection_node(id, connected, NodeKind::Subscriber));
            for track in connected.tracks.iter().filter_map(|track| self.tracks.get(track)) {
                graph.edges.push(edge(node_id(track), id.to_string(), track));
            }
        }
        for (track, effects) in &self.effects {
            let id = format!("effects-{track}");
            let names: Vec<String> = effects.effects().into_iter().map(|effect| effect.name).collect();
            let facts = [("frames", effects.frames()), ("every", effects.every().into())];
            let facts = facts.map(|(name, value)| (name.to_owned(), value.to_string())).into();
            graph.nodes.push(Node { id: id.clone(), kind: NodeKind::Effect, label: names.join(", "), facts });
            graph.edges.push(Edge { from: format!("track-{track}"), to: id, label: "raw".into() });
        }
        for recorder in self.recordings.values() {
            recorder.graph(&mut graph);
        }
        self.live.graph(&mut graph);
        for (id, output) in &self.outputs {
            output.graph(id, node_id, &mut graph);
        }
        self.ts.graph(&mut graph);
        for push in self.pushes.values() {
            push.graph(TransportStream::NODE, &mut graph);
        }
        graph.nodes.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        graph
    }

    fn shutdown(self: Box<Self>, deadline: Duration) -> oneshot::Receiver<()> {
        let (gone, done) = oneshot::channel();
        let Self {
            name,
            publishers,
            subscribers,
            closing,
            ingests,
            ts,
            pushes,
            outputs,
            recordings,
            mixes,
            live,
            effects,
            previews,
            ..
        } = *self;
        drop(live);
        tokio::spawn(async move {
            let everything = async {
                // The last picture of a recording is of those who are still there.
                let recordings = recordings.into_values().map(|recorder| recorder.shutdown(deadline));
                futures_util::future::join_all(recordings).await;
                futures_util::future::join_all(effects.into_values().map(EffectedTrack::end)).await;
                let peers = publishers.into_values().chain(subscribers.into_values());
                let peers = peers.map(|connected| connected.peer.close()).chain(closing);
                let ingests = ingests.into_values().map(RunningIngest::close);
                // They would start the stream anew.
                futures_util::future::join_all(pushes.into_values().map(RunningPush::close)).await;
                let outputs = outputs.into_values().map(RtpOutput::close).chain(ts.close());
                futures_util::future::join_all(peers.chain(ingests).chain(outputs)).await;
                futures_util::future::join_all(previews.end()).await;
                mixes.ended().await;
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
    let facts = [("state", stage), ("edge", connected.peer.edge().name().to_owned())];
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

fn edge(from: String, to: String, track: &Track) -> Edge {
    Edge { from, to, label: format!("{} rtp", track.codec.encoding_name()) }
}
