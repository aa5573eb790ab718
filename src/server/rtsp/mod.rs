//! RTSP for players (RFC 2326): rooms' mixes and participants, at `rtsp://host:8554/{room}/mix` and
//! `/{room}/{participant}`, over UDP and within the connection.
//!
//! The front is ours (ADR 7): packets come from the room as its subscribers get them, so that nothing
//! is encoded for a player, and each connection is one bounded task. A connection has one session.

mod access;
mod description;
mod report;
mod session;
mod way;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::session::Session;
use super::{auth::Gate, connection::Seats, listener::Listener, players::House};
use crate::room::{Registry, guests::Address};

/// Players at once.
const MOST_PLAYERS: usize = 256;
/// Of one address; a wall of screens behind one address must fit.
const MOST_OF_AN_ADDRESS: usize = 64;
/// After "too many open files" and the like, accepting pauses this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The running server. Dropping it hangs up on everybody.
pub struct RtspServer {
    addresses: Vec<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RtspServer {
    /// Binds and serves.
    ///
    /// # Errors
    /// With the address, if one cannot be bound; as [`Server::start`](super::Server::start).
    pub fn start(addresses: &[SocketAddr], registry: Arc<Registry>, gate: Gate) -> io::Result<Self> {
        let listeners = super::bind(addresses.iter().map(|address| (*address, None)))?;
        let house = House::new(addresses, registry, gate);
        let (tasks, seats) = (TaskTracker::new(), Arc::new(Seats::new(MOST_PLAYERS, MOST_OF_AN_ADDRESS)));
        let mut bound = Vec::new();
        for listener in listeners {
            bound.push(listener.address()?);
            tasks.spawn(accept(listener, house.clone(), seats.clone(), tasks.clone()));
        }
        Ok(Self { addresses: bound, stop: house.stop, tasks })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Hangs up on everybody, and waits until they are gone, at most for `limit`.
    pub async fn close(self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("some players did not go within {limit:?}");
        }
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: Listener, house: House, seats: Arc<Seats>, tasks: TaskTracker) {
    loop {
        let (permit, accepted) = tokio::select! {
            both = async { (seats.free().await, listener.accept().await) } => both,
            () = house.stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a player's connection could not be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = seats.take(permit, Address::from(peer.ip()).into()) else { continue };
        let house = house.clone();
        tasks.spawn(async move {
            let _seat = seat;
            let began = Instant::now();
            let stop = house.stop.clone();
            let Ok(session) = Session::new(house, stream, peer) else { return };
            let ended = stop.run_until_cancelled(session.run()).await;
            tracing::debug!(%peer, duration_ms = began.elapsed().as_millis() as u64, ?ended, "a player has gone");
        });
    }
}
