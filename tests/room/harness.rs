//! A house with rooms, and guests who act and read their events.

use std::{path::PathBuf, sync::Arc, time::Duration};

use salon::{
    media::{
        CodecName, Kind,
        fake::{Call, Calls, FakeEngine, made_up_answer, made_up_offer},
    },
    recording::{RecordingNotice, minutes::Entry},
    room::{
        Registry, RoomHandle,
        command::SessionId,
        error::{JoinError, PublishError},
        event::RoomEvent,
        guests::Address,
        id::{ConnectionId, ConnectionName, ParticipantId, RecordingId, TrackId},
        model::{JoinRequest, Joined, Published, Role, Source, Subscribe},
        policy::RoomPolicy,
    },
};
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::timeout,
};

pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct House {
    pub registry: Arc<Registry>,
    pub engine: Arc<FakeEngine>,
    pub calls: Calls,
    pub notices: mpsc::Receiver<RecordingNotice>,
    /// What was noted meanwhile.
    pub minutes: Vec<Entry>,
}

pub fn house() -> House {
    house_with(RoomPolicy::default())
}

pub fn house_with(policy: RoomPolicy) -> House {
    let (engine, calls) = FakeEngine::new();
    let (keeper, notices) = mpsc::channel(16);
    let registry = Registry::new(policy, engine.clone(), keeper);
    House { registry, engine, calls, notices, minutes: Vec::new() }
}

pub fn request(name: &str) -> JoinRequest {
    JoinRequest { name: name.into(), pin: None, role: None, from: Address::default() }
}

pub fn name(text: &str) -> ConnectionName {
    ConnectionName(text.into())
}

impl House {
    pub async fn guest(&self, room: &str, name: &str) -> Guest {
        self.try_join(room, request(name)).await.expect("the guest comes in")
    }

    pub async fn viewer(&self, room: &str, name: &str) -> Guest {
        let request = JoinRequest { role: Some(Role::Viewer), ..request(name) };
        self.try_join(room, request).await.expect("the viewer comes in")
    }

    pub async fn try_join(&self, room: &str, request: JoinRequest) -> Result<Guest, JoinError> {
        self.join_with_queue(room, request, 1024).await
    }

    pub async fn join_with_queue(&self, room: &str, request: JoinRequest, queue: usize) -> Result<Guest, JoinError> {
        let (sender, events) = mpsc::channel(queue);
        let session = SessionId::next();
        let (room, joined) = self.registry.join(room, request, session, sender).await?;
        Ok(Guest { room, id: joined.participant.clone(), session, joined, events })
    }

    /// The keeper's part: takes the next notice, which must begin a recording, and notes it.
    pub async fn note_recording(&mut self) -> RecordingId {
        let Some(RecordingNotice::Begin { recording, room, .. }) = self.notice().await else { panic!("no beginning") };
        room.journalled(recording.clone(), Ok(PathBuf::from("made-up.mp4"))).await;
        recording
    }

    pub async fn notice(&mut self) -> Option<RecordingNotice> {
        loop {
            match timeout(PATIENCE, self.notices.recv()).await.expect("a notice in time") {
                Some(RecordingNotice::Noted { entries, .. }) => self.minutes.extend(entries),
                notice => return notice,
            }
        }
    }

    /// Nothing was told to the keeper but minutes.
    pub fn is_silent(&mut self) -> bool {
        loop {
            match self.notices.try_recv() {
                Ok(RecordingNotice::Noted { entries, .. }) => self.minutes.extend(entries),
                told => return told.is_err(),
            }
        }
    }

    /// The next connection the engine is asked to make for a subscriber.
    pub async fn subscribed(&mut self) -> (ConnectionId, Vec<TrackId>) {
        let (connection, tracks, _) = self.subscribed_with().await;
        (connection, tracks)
    }

    /// And whether with the effects of its tracks.
    pub async fn subscribed_with(&mut self) -> (ConnectionId, Vec<TrackId>, bool) {
        let subscribe = self.calls.find(|call| match call {
            Call::Subscribe(connection, tracks, effects) => Some((connection, tracks, effects)),
            _ => None,
        });
        timeout(PATIENCE, subscribe).await.expect("a subscription in time")
    }

    pub async fn published(&mut self) -> ConnectionId {
        let publish = self.calls.find(|call| match call {
            Call::Publish(connection, _) => Some(connection),
            _ => None,
        });
        timeout(PATIENCE, publish).await.expect("a publication in time")
    }
}

pub struct Guest {
    pub room: RoomHandle,
    pub id: ParticipantId,
    pub session: SessionId,
    pub joined: Joined,
    pub events: mpsc::Receiver<RoomEvent>,
}

impl Guest {
    /// The next event.
    pub async fn event(&mut self) -> RoomEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the session goes on")
    }

    /// The next event that `wanted` accepts; others are skipped.
    pub async fn find<T>(&mut self, mut wanted: impl FnMut(RoomEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.event().await) {
                return found;
            }
        }
    }

    /// All events told so far: everything before now has been done by the room when this is asked.
    pub async fn told(&mut self) -> Vec<RoomEvent> {
        let _ = self.room.view().await;
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// The session got nothing more, and its channel is at its end.
    pub async fn ended(&mut self) -> bool {
        let _ = self.room.view().await;
        matches!(self.events.try_recv(), Err(TryRecvError::Disconnected))
    }

    pub async fn publish(&self, connection: &str) -> Published {
        self.try_publish(connection, &offer()).await.expect("the publication is taken")
    }

    pub async fn publish_screen(&self, connection: &str) -> Published {
        let sdp = made_up_offer(&[("0", Kind::Video, CodecName::Vp8)]);
        let sources = vec![("0".into(), Some(Source::Screen), false)];
        self.room.publish(self.id.clone(), name(connection), sdp, sources).await.expect("the screen is taken")
    }

    pub async fn try_publish(&self, connection: &str, sdp: &str) -> Result<Published, PublishError> {
        self.room.publish(self.id.clone(), name(connection), sdp.into(), Vec::new()).await
    }

    pub async fn subscribe_all(&self) -> Vec<ConnectionName> {
        self.room.subscribe(self.id.clone(), Subscribe::All).await.expect("all is subscribed")
    }

    pub async fn subscribe_to(&self, guest: &Guest) -> Vec<ConnectionName> {
        let to = Subscribe::Participant { participant: guest.id.clone(), tracks: None, effects: true };
        self.room.subscribe(self.id.clone(), to).await.expect("the guest is subscribed")
    }

    /// Waits for the next offer and answers it.
    pub async fn take_offer(&mut self) -> ConnectionName {
        let connection = self.offer().await;
        self.room.answered(self.id.clone(), connection.clone(), answer()).await.expect("the answer is taken");
        connection
    }

    pub async fn offer(&mut self) -> ConnectionName {
        self.find(|event| match event {
            RoomEvent::Offer { connection, .. } => Some(connection),
            _ => None,
        })
        .await
    }

    pub async fn closed_connection(&mut self) -> (ConnectionName, String) {
        self.find(|event| match event {
            RoomEvent::ConnectionClosed { connection, reason } => Some((connection, reason)),
            _ => None,
        })
        .await
    }

    pub async fn detach(&self) {
        self.room.detach(self.id.clone(), self.session).await;
        self.done().await;
    }

    pub async fn leave(&self) {
        self.room.leave(self.id.clone()).await;
        self.done().await;
    }

    /// Waits until the room has done all it was asked before.
    pub async fn done(&self) {
        let _ = self.room.view().await;
    }

    /// Comes back on a new session.
    pub async fn resume(&mut self, house: &House, room: &str) -> Result<(), JoinError> {
        let (sender, events) = mpsc::channel(1024);
        let session = SessionId::next();
        let (room, joined) = house.registry.resume(room, self.joined.resume.clone(), session, sender).await?;
        (self.room, self.joined, self.session, self.events) = (room, joined, session, events);
        Ok(())
    }
}

pub fn offer() -> String {
    made_up_offer(&[("0", Kind::Audio, CodecName::Opus), ("1", Kind::Video, CodecName::Vp8)])
}

pub fn answer() -> String {
    made_up_answer(&[("0", Kind::Audio, CodecName::Opus), ("1", Kind::Video, CodecName::Vp8)])
}
