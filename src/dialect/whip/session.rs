//! Sessions: one participant with one connection each, found by an identifier that nobody guesses.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::message::Protocol;
use crate::room::{
    RoomHandle,
    event::RoomEvent,
    guests::Address,
    id::{ConnectionName, ParticipantId, random_text},
};

/// What a session's requests must show: what its first one did, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential(Option<[u8; 32]>);

impl Credential {
    /// Of what was shown.
    pub fn new(shown: Option<&str>) -> Self {
        Self(shown.map(|shown| Sha256::digest(shown).into()))
    }

    /// Nothing was shown.
    pub fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// Whether whoever shows `other` may: nothing opens what began with nothing, as the identifier is
    /// a secret itself.
    pub fn admits(self, other: Self) -> bool {
        match (self.0, other.0) {
            (None, _) => true,
            (Some(own), Some(other)) => own.ct_eq(&other).into(),
            (Some(_), None) => false,
        }
    }
}

/// What stands until ICE is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The entity tag, with quotes.
    pub tag: String,
    /// The client's ICE user name.
    pub ufrag: Option<String>,
}

impl Generation {
    /// Under a new tag.
    pub fn new(ufrag: Option<&str>) -> Self {
        Self { tag: format!("\"{}\"", random_text(12)), ufrag: ufrag.map(str::to_owned) }
    }
}

/// How many connections each address has begun that are not up yet.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<HashMap<Address, usize>>>);

/// One of them; dropping it counts it no more.
#[derive(Debug)]
pub struct Waiter {
    all: Waiters,
    from: Address,
}

impl Waiters {
    /// Another one from there, if there are fewer than `most`.
    pub fn begin(&self, from: Address, most: usize) -> Option<Waiter> {
        let mut all = self.lock();
        let waiting = all.entry(from).or_default();
        if *waiting >= most {
            return None;
        }
        *waiting += 1;
        Some(Waiter { all: self.clone(), from })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(waiting) = all.get_mut(&self.from) {
            *waiting -= 1;
            if *waiting == 0 {
                all.remove(&self.from);
            }
        }
    }
}

/// One participant with one connection.
#[derive(Debug)]
pub struct Session {
    /// Which protocol made it.
    pub protocol: Protocol,
    /// Where he is.
    pub room: RoomHandle,
    /// Who he is there.
    pub participant: ParticipantId,
    /// His connection.
    pub connection: ConnectionName,
    /// The ICE credentials of now.
    pub generation: Mutex<Generation>,
    /// Who may end it.
    pub credential: Credential,
    /// Ends it.
    pub stop: CancellationToken,
}

/// All sessions of the server.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// Keeps `session` until it ends: it reads `events` from now on, and the participant goes with his
    /// connection. Gives its identifier. `waiter` counts until the connection is up.
    pub fn begin(self: &Arc<Self>, session: Session, events: mpsc::Receiver<RoomEvent>, waiter: Waiter) -> String {
        let id = format!("w_{}", random_text(32));
        let session = Arc::new(session);
        self.lock().insert(id.clone(), session.clone());
        let (sessions, own) = (self.clone(), id.clone());
        tokio::spawn(async move {
            session.run(events, waiter).await;
            sessions.lock().remove(&own);
        });
        id
    }

    /// The session of that identifier.
    pub fn find(&self, protocol: Protocol, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).filter(|session| session.protocol == protocol).cloned()
    }

    /// Ends a session: when this returns it is not found any more, and the room has been told.
    pub async fn end(&self, id: &str) {
        let Some(session) = self.lock().remove(id) else { return };
        session.stop.cancel();
        session.room.leave(session.participant.clone()).await;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// The ICE credentials of now.
    pub fn generation(&self) -> Generation {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// ICE was restarted, by a client of this user name.
    pub fn restarted(&self, ufrag: &str) -> Generation {
        let generation = Generation::new(Some(ufrag));
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&generation);
        generation
    }

    /// Until the connection, the participant or the room is gone; then he leaves.
    async fn run(&self, mut events: mpsc::Receiver<RoomEvent>, waiter: Waiter) {
        let mut waiter = Some(waiter);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = self.stop.cancelled() => None,
            };
            match event {
                None | Some(RoomEvent::Removed { .. } | RoomEvent::RoomClosed { .. }) => break,
                Some(RoomEvent::Connected { connection }) if connection == self.connection => waiter = None,
                Some(RoomEvent::ConnectionClosed { connection, reason }) if connection == self.connection => {
                    tracing::info!(participant.id = %self.participant, reason, "a {} session ended", self.protocol.name());
                    break;
                }
                Some(_) => {}
            }
        }
        drop(waiter);
        self.room.leave(self.participant.clone()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_waits_for_so_many() {
        let waiters = Waiters::default();
        let address = |last| Address::from(std::net::IpAddr::from([192, 0, 2, last]));
        let held: Vec<_> = (0..5).map_while(|_| waiters.begin(address(1), 3)).collect();
        assert_eq!(held.len(), 3);
        assert!(waiters.begin(address(2), 3).is_some(), "others are not concerned");
        drop(held);
        assert!(waiters.begin(address(1), 3).is_some());
        assert!(waiters.lock().is_empty());
    }

    #[test]
    fn a_session_is_ended_by_whoever_shows_what_began_it() {
        let of = |shown| Credential::new(shown);
        assert!(of(Some("pin")).admits(of(Some("pin"))));
        assert!(!of(Some("pin")).admits(of(Some("pi"))));
        assert!(!of(Some("pin")).admits(of(None)));
        assert!(of(None).admits(of(None)) && of(None).admits(of(Some("x"))));
    }
}
