//! SRT for players: rooms' mixes at `srt://host:8890?streamid={room}/mix`, for whoever calls.
//!
//! One UDP port, and a bounded task for each caller, so that each begins with a keyframe and nobody waits for
//! another. The transport is srt-protocol's, which has no sockets; who may call it is looked at here first.

mod caller;
mod handshake;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::mpsc, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    caller::Caller,
    handshake::{Cookies, Refused, Shake},
};
use super::{auth::Gate, connection::Seats, players::House};
use crate::room::{Registry, guests::Address};

/// Callers at once; each has a buffer of what he has not acknowledged.
const MOST_CALLERS: usize = 64;
/// Of one address; a wall of screens behind one address must fit.
const MOST_OF_AN_ADDRESS: usize = 32;
/// A caller's packets that wait; more are lost, as datagrams are.
const QUEUE: usize = 128;
/// Larger ones are no SRT.
const LARGEST: usize = 1500;
/// Keyframes leave in bursts, to all at once; the system's default holds a fraction of one.
const SEND_BUFFER: usize = 2 * 1024 * 1024;
/// After an error of the socket, it is read again after this.
const PAUSE: Duration = Duration::from_millis(200);

/// Where players call, for those who tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SrtPlace {
    /// UDP.
    pub port: u16,
    /// Only this machine reaches it.
    pub local: bool,
}

/// The running server. Dropping it hangs up on everybody.
pub struct SrtServer {
    addresses: Vec<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl SrtServer {
    /// Binds and serves. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// With the address, if one cannot be bound.
    pub fn start(addresses: &[SocketAddr], registry: Arc<Registry>, gate: Gate) -> io::Result<Self> {
        let house = House::new(addresses, registry, gate);
        let (tasks, seats) = (TaskTracker::new(), Arc::new(Seats::new(MOST_CALLERS, MOST_OF_AN_ADDRESS)));
        let mut bound = Vec::new();
        for address in addresses {
            let socket = match bind(*address) {
                Ok(socket) => socket,
                Err(error) if super::lacks_ipv6(*address, &error) && !bound.is_empty() => {
                    tracing::warn!("not listening on {address}: {error}");
                    continue;
                }
                Err(error) => return Err(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))),
            };
            bound.push(socket.local_addr()?);
            let port =
                Port { socket: Arc::new(socket), house: house.clone(), seats: seats.clone(), tasks: tasks.clone() };
            tasks.spawn(port.serve());
        }
        Ok(Self { addresses: bound, stop: house.stop, tasks })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where players call; `None`: nowhere.
    pub fn place(&self) -> Option<SrtPlace> {
        let local = self.addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
        self.addresses.first().map(|address| SrtPlace { port: address.port(), local })
    }

    /// Hangs up on everybody, and waits until they are gone, at most for `limit`.
    pub async fn close(self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("some SRT callers did not go within {limit:?}");
        }
    }
}

impl Drop for SrtServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Less is a pity, not a reason to fail.
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// An address that is listened on.
struct Port {
    socket: Arc<UdpSocket>,
    house: House,
    seats: Arc<Seats>,
    tasks: TaskTracker,
}

/// Somebody who has called.
struct Line {
    /// His number for the call.
    socket: u32,
    packets: mpsc::Sender<Bytes>,
}

impl Port {
    /// Until the server goes down. A caller is known by the address that his packets come from.
    async fn serve(self) {
        let (cookies, mut lines) = (Cookies::new(), HashMap::new());
        let mut buffer = [0; LARGEST];
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                () = self.house.stop.cancelled() => return,
            };
            match received {
                Ok((size, peer)) => self.take(&cookies, &mut lines, &buffer[..size], peer),
                Err(error) => {
                    tracing::warn!("SRT packets could not be read: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Never waits: a datagram that finds no room, in or out, is lost.
    fn take(&self, cookies: &Cookies, lines: &mut HashMap<SocketAddr, Line>, packet: &[u8], peer: SocketAddr) {
        let now = Instant::now();
        let line = lines.get(&peer).filter(|line| !line.packets.is_closed());
        match (Shake::read(packet), line) {
            (Some(Shake::Induction), _) => {
                let _ = self.socket.try_send_to(&handshake::induced(packet, cookies.bake(peer, now)), peer);
            }
            // He calls anew from the same port, or for the first time.
            (Some(Shake::Conclusion { socket, cookie }), line)
                if line.is_none_or(|line| line.socket != socket) && cookies.knows(cookie, peer, now) =>
            {
                lines.retain(|_, line| !line.packets.is_closed());
                match self.answer(packet, peer) {
                    Some(packets) => _ = lines.insert(peer, Line { socket, packets }),
                    None => _ = self.socket.try_send_to(&handshake::refused(packet, Refused::Overload), peer),
                }
            }
            (_, Some(line)) if handshake::is_takers(packet) => {
                let _ = line.packets.try_send(Bytes::copy_from_slice(packet));
            }
            _ => {}
        }
    }

    /// Begins a call; `None`: there is no seat for it.
    fn answer(&self, conclusion: &[u8], peer: SocketAddr) -> Option<mpsc::Sender<Bytes>> {
        let seat = self.seats.try_take(Address::from(peer.ip()).into())?;
        let (sender, packets) = mpsc::channel(QUEUE);
        let caller = Caller {
            house: self.house.clone(),
            socket: self.socket.clone(),
            peer,
            conclusion: Bytes::copy_from_slice(conclusion),
            packets,
        };
        self.tasks.spawn(async move {
            let _seat = seat;
            let began = Instant::now();
            let ended = caller.run().await;
            tracing::debug!(%peer, duration_ms = began.elapsed().as_millis() as u64, ?ended, "an SRT caller has gone");
        });
        Some(sender)
    }
}
