//! A room of the engine with clients in it, and what a signalling server would do between them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use salon::{
    media::{
        CodecName, EdgeChoice, MediaEngine, MediaEvent, MediaRoom, MixListener, MixTracks, Publication, PublishedMedia,
        SubscriberOffer,
        gst::{GstEngine, MediaSettings},
        negotiation,
    },
    room::id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
};
use tokio::sync::{broadcast, mpsc};

use super::{client::Client, client::Sends, soon};

/// Not the usual one, so that the setting is seen to work.
pub const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(12);

/// Empty once the room was shut down.
type Room = Arc<Mutex<Option<Box<dyn MediaRoom>>>>;
type Clients = Arc<Mutex<HashMap<ConnectionId, Arc<Client>>>>;

/// A room with clients.
pub struct Hall {
    pub room: Room,
    events: broadcast::Sender<MediaEvent>,
    clients: Clients,
}

/// A client in a hall.
pub struct Attendee {
    pub connection: ConnectionId,
    pub client: Arc<Client>,
    /// What it publishes.
    pub tracks: Vec<TrackId>,
}

impl Hall {
    pub fn open() -> Self {
        // Tests of rooms are to pass over both edges.
        Self::open_with(std::env::var("SALON_EDGE").map(|edge| edge.parse().unwrap()).unwrap_or_default())
    }

    pub fn open_with(edge: EdgeChoice) -> Self {
        super::log();
        let bind = vec!["127.0.0.1".parse().unwrap()];
        let settings = MediaSettings { bind, connect_timeout: CONNECT_TIMEOUT, edge, ..Default::default() };
        let engine = GstEngine::new(settings).unwrap();
        let (sender, receiver) = mpsc::channel(256);
        let room = Arc::new(Mutex::new(Some(engine.open_room("hall", sender))));
        let (events, _) = broadcast::channel(4096);
        let clients = Clients::default();
        tokio::spawn(dispatch(receiver, room.clone(), clients.clone(), events.clone()));
        Self { room, events, clients }
    }

    /// Does something with the room.
    pub fn room<T>(&self, verb: impl FnOnce(&mut dyn MediaRoom) -> T) -> T {
        verb(self.room.lock().unwrap().as_mut().unwrap().as_mut())
    }

    /// All that the engine tells from now on.
    pub fn events(&self) -> Events {
        Events(self.events.subscribe())
    }

    /// A new client publishes.
    pub async fn publish(&self, sends: Sends) -> Attendee {
        self.publish_client(Client::sender(sends).await).await
    }

    /// A client that sends publishes.
    pub async fn publish_client(&self, client: Arc<Client>) -> Attendee {
        self.publish_as(client, false).await
    }

    /// The same; nothing but its packets tells that it is there.
    pub async fn publish_alone(&self, client: Arc<Client>) -> Attendee {
        self.publish_as(client, true).await
    }

    async fn publish_as(&self, client: Arc<Client>, alone: bool) -> Attendee {
        let offer = client.offer_as_browsers_do().await;
        let connection = new_connection("publication");
        let sections = negotiation::accept(&offer, &CodecName::ALL).unwrap();
        let media: Vec<PublishedMedia> =
            sections.into_iter().map(|section| PublishedMedia { track: TrackId::random(), section }).collect();
        let tracks = media.iter().map(|media| media.track.clone()).collect();
        self.enter(&connection, &client, |room| {
            room.publish(connection.clone(), Publication { sdp: offer, media, alone })
        });
        Attendee { connection, client, tracks }
    }

    /// A new client watches these tracks.
    pub async fn watch(&self, tracks: &[TrackId]) -> Attendee {
        self.watch_with(tracks, true).await
    }

    /// A new client watches these tracks as they are published.
    pub async fn watch_clean(&self, tracks: &[TrackId]) -> Attendee {
        self.watch_with(tracks, false).await
    }

    async fn watch_with(&self, tracks: &[TrackId], effects: bool) -> Attendee {
        let client = Client::receiver().await;
        let connection = new_connection("subscription");
        self.enter(&connection, &client, |room| room.subscribe(connection.clone(), tracks.to_vec(), effects));
        Attendee { connection, client, tracks: Vec::new() }
    }

    /// A new client watches the mix, and does not hear these tracks.
    pub async fn watch_mix(&self, without: &[TrackId]) -> Attendee {
        let client = Client::receiver().await;
        let connection = new_connection("mix");
        let tracks = MixTracks { video: TrackId::random(), audio: TrackId::random() };
        self.enter(&connection, &client, |room| room.subscribe_to_mix(connection.clone(), tracks, without.to_vec()));
        Attendee { connection, client, tracks: Vec::new() }
    }

    /// A new client offers to receive, and is sent these tracks.
    pub async fn watch_with_offer(&self, tracks: &[(TrackId, CodecName)]) -> Attendee {
        self.watch_answered(tracks, None, true).await
    }

    /// The same, as they are published.
    pub async fn watch_clean_with_offer(&self, tracks: &[(TrackId, CodecName)]) -> Attendee {
        self.watch_answered(tracks, None, false).await
    }

    /// A new client offers to receive, and is sent the mix.
    pub async fn watch_mix_with_offer(&self) -> Attendee {
        let tracks = MixTracks { video: TrackId::random(), audio: TrackId::random() };
        let sent = [(tracks.video.clone(), MixTracks::VIDEO_CODEC), (tracks.audio.clone(), MixTracks::AUDIO_CODEC)];
        self.watch_answered(&sent, Some(MixListener { tracks, without: Vec::new() }), true).await
    }

    async fn watch_answered(
        &self,
        tracks: &[(TrackId, CodecName)],
        mix: Option<MixListener>,
        effects: bool,
    ) -> Attendee {
        let client = Client::viewer().await;
        let connection = new_connection("viewer");
        let sdp = client.offer().await;
        let media = negotiation::accept_subscriber(&sdp, tracks.iter().cloned()).unwrap();
        let media = media.into_iter().map(|(track, section)| PublishedMedia { track, section }).collect();
        self.enter(&connection, &client, |room| {
            room.subscribe_with_offer(connection.clone(), SubscriberOffer { sdp, media, mix, effects })
        });
        Attendee { connection, client, tracks: Vec::new() }
    }

    /// The client goes, and the engine is told.
    pub async fn leave(&self, attendee: Attendee) {
        self.clients.lock().unwrap().remove(&attendee.connection);
        self.room(|room| room.close(&attendee.connection));
        attendee.client.close().await;
    }

    /// Everybody goes, and the room is shut down.
    pub async fn shut(self) {
        let clients: Vec<_> = self.clients.lock().unwrap().drain().collect();
        for (_, client) in clients {
            client.close().await;
        }
        let room = self.room.lock().unwrap().take().unwrap();
        soon("the room's end", room.shutdown(Duration::from_secs(10))).await.unwrap();
    }

    /// The client asks for its connection. Its candidates follow, as they do over one socket: those of a
    /// connection that is not known yet are nobody's.
    fn enter(&self, connection: &ConnectionId, client: &Arc<Client>, ask: impl FnOnce(&mut dyn MediaRoom)) {
        self.clients.lock().unwrap().insert(connection.clone(), client.clone());
        self.room(ask);
        let mut candidates = client.candidates.lock().unwrap().take().unwrap();
        let (room, connection) = (self.room.clone(), connection.clone());
        tokio::spawn(async move {
            while let Some(candidate) = candidates.recv().await {
                if let Some(room) = room.lock().unwrap().as_mut() {
                    room.candidate(&connection, candidate);
                }
            }
        });
    }
}

/// What the engine tells, to wait for.
pub struct Events(broadcast::Receiver<MediaEvent>);

impl Events {
    pub async fn until(&mut self, what: &str, mut is_it: impl FnMut(&MediaEvent) -> bool) -> MediaEvent {
        soon(what, async {
            loop {
                let event = self.0.recv().await.unwrap();
                if is_it(&event) {
                    return event;
                }
            }
        })
        .await
    }
}

impl Events {
    /// What was told since then.
    pub fn so_far(&mut self) -> Vec<MediaEvent> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

pub fn new_connection(name: &str) -> ConnectionId {
    ConnectionId { participant: ParticipantId::random(), name: ConnectionName(name.into()) }
}

/// Brings descriptions and candidates to the clients, and their answers back.
async fn dispatch(
    mut events: mpsc::Receiver<MediaEvent>,
    room: Room,
    clients: Clients,
    log: broadcast::Sender<MediaEvent>,
) {
    while let Some(event) = events.recv().await {
        let client = |connection: &ConnectionId| clients.lock().unwrap().get(connection).cloned();
        match &event {
            MediaEvent::Answered { connection, sdp } => {
                if let Some(client) = client(connection) {
                    client.take_answer(sdp).await;
                }
            }
            MediaEvent::Offered { connection, sdp, .. } => {
                if let Some(client) = client(connection) {
                    let answer = client.answer(sdp).await;
                    if let Some(room) = room.lock().unwrap().as_mut() {
                        room.answer(connection, answer);
                    }
                }
            }
            MediaEvent::Candidate { connection, candidate } => {
                if let Some(client) = client(connection) {
                    client.take_candidate(candidate);
                }
            }
            _ => {}
        }
        let _ = log.send(event);
    }
}
