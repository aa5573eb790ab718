//! TCP connections of clients whose network blocks UDP (RFC 6544: we are passive). A task each reads and, when the
//! kernel took not all at once, writes on; media threads write without waiting.
//!
//! Anybody may connect. Who has not shown soon that he has a session is let go, and so is who sends anything else
//! before that; there are few connections of one network at a time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};
use socket2::SockRef;
use str0m::net::Transmit;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Notify,
    time::sleep_until,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    counters,
    demux::Remote,
    framing::{Frames, Outbox},
    reception::Reception,
};
use crate::media::MediaError;

/// Connections at once, if the process may have four times as many files.
const MAX_CONNECTIONS: usize = 1_024;
/// Of one network: a browser has one for each that it watches, and an office has many browsers behind one address.
const MAX_OF_ONE_NETWORK: usize = 256;
/// Of those that have not shown whose they are; the oldest is let go for a new one.
const MAX_UNPROVEN: usize = 256;
const MAX_UNPROVEN_OF_ONE_NETWORK: usize = 64;
/// It must have sent a check that a session answers by then.
const PROVE_WITHIN: Duration = Duration::from_secs(10);
/// Sessions check their paths every few seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Bytes read from one connection before the others have their turn.
const READ_AT_ONCE: usize = 4_096;
/// What the kernel may hold for one connection: more makes media late for who reads slowly.
const SEND_BUFFER: usize = 128 << 10;
const RECEIVE_BUFFER: usize = 256 << 10;
/// A listener that has an error (too many files) rests.
const REST: Duration = Duration::from_millis(100);

/// All connections. They end with it.
#[derive(Debug)]
pub(super) struct Streams {
    table: Arc<Table>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Table {
    most: usize,
    connections: Mutex<HashMap<SocketAddr, Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    remote: SocketAddr,
    /// Our address as clients know it.
    local: SocketAddr,
    stream: TcpStream,
    since: Instant,
    /// A session has answered its check.
    proven: AtomicBool,
    outbox: Mutex<Outbox>,
    /// The outbox is not empty.
    behind: Notify,
    /// It is to end.
    over: CancellationToken,
}

impl Streams {
    /// Accepts on these listeners, each with its address as clients know it.
    pub(super) fn accept(
        listeners: Vec<(std::net::TcpListener, SocketAddr)>,
        reception: &Reception,
    ) -> Result<Self, MediaError> {
        let failed = |error: &dyn std::fmt::Display| MediaError::Unavailable(format!("media over TCP: {error}"));
        let runtime = Handle::try_current().map_err(|error| failed(&error))?;
        let _entered = runtime.enter();
        let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
        let table = Arc::new(Table { most: MAX_CONNECTIONS.min(files / 4), connections: Mutex::default() });
        let stop = CancellationToken::new();
        for (listener, announced) in listeners {
            let listener = TcpListener::from_std(listener).map_err(|error| failed(&error))?;
            let accepting = accept(listener, announced, table.clone(), reception.clone(), stop.clone());
            runtime.spawn(stop.clone().run_until_cancelled_owned(accepting));
        }
        Ok(Self { table, _stop: stop.drop_guard() })
    }

    /// Sends frames, each to its destination. Never waits: what a slow reader has no room for is dropped.
    pub(super) fn send(&self, transmits: impl Iterator<Item = Transmit>) {
        let now = Instant::now();
        let mut written: Vec<Arc<Connection>> = Vec::new();
        for transmit in transmits {
            let last = written.iter().rev().find(|connection| connection.remote == transmit.destination);
            let Some(connection) = last.cloned().or_else(|| self.table.find(transmit.destination)) else {
                counters::dropped(1);
                continue;
            };
            // A session answers nobody else's checks.
            if transmit.contents.starts_with(&[1, 1]) {
                connection.proven.store(true, Relaxed);
            }
            if !connection.outbox().push(transmit.contents.into(), now) {
                counters::dropped(1);
            }
            if last.is_none() {
                written.push(connection);
            }
        }
        for connection in written {
            connection.flush();
        }
    }

    /// Nobody needs that connection any more.
    pub(super) fn hang_up(&self, remote: SocketAddr) {
        if let Some(connection) = self.table.find(remote) {
            connection.over.cancel();
        }
    }
}

async fn accept(
    listener: TcpListener,
    announced: SocketAddr,
    table: Arc<Table>,
    reception: Reception,
    stop: CancellationToken,
) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("a TCP connection for media was not taken: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let socket = SockRef::from(&stream);
        // A connection works without these, if less well.
        let _ = stream.set_nodelay(true);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let connection = Arc::new(Connection {
            remote,
            local: announced,
            stream,
            since: Instant::now(),
            proven: AtomicBool::new(false),
            outbox: Mutex::default(),
            behind: Notify::new(),
            over: stop.child_token(),
        });
        if !table.admit(&connection) {
            tracing::debug!(%remote, "there are too many TCP connections for media");
            continue;
        }
        let (table, reception) = (table.clone(), reception.clone());
        tokio::spawn(async move {
            let why = connection.serve(&reception).await;
            tracing::debug!(remote = %connection.remote, why, "a TCP connection for media ends");
            table.remove(&connection);
            reception.hung_up(Remote::tcp(connection.remote));
        });
    }
}

impl Table {
    fn find(&self, remote: SocketAddr) -> Option<Arc<Connection>> {
        self.connections().get(&remote).cloned()
    }

    /// False if there are too many. One that has not shown whose it is gives way to a new one.
    fn admit(&self, new: &Arc<Connection>) -> bool {
        let mut connections = self.connections();
        // To another address of ours; to sessions these two would be one.
        if connections.contains_key(&new.remote) {
            return false;
        }
        let network = network(new.remote.ip());
        for (most, of_network, unproven) in [
            (MAX_UNPROVEN_OF_ONE_NETWORK, true, true),
            (MAX_OF_ONE_NETWORK, true, false),
            (MAX_UNPROVEN, false, true),
            (self.most, false, false),
        ] {
            let counted = connections.values().filter(|it| {
                (!of_network || self::network(it.remote.ip()) == network) && (!unproven || !it.proven.load(Relaxed))
            });
            let counted: Vec<_> = counted.collect();
            if counted.len() < most {
                continue;
            }
            let unproven = counted.into_iter().filter(|it| !it.proven.load(Relaxed));
            let Some(oldest) = unproven.min_by_key(|it| it.since).cloned() else { return false };
            oldest.over.cancel();
            connections.remove(&oldest.remote);
        }
        connections.insert(new.remote, new.clone());
        true
    }

    fn remove(&self, connection: &Arc<Connection>) {
        let mut connections = self.connections();
        if connections.get(&connection.remote).is_some_and(|it| Arc::ptr_eq(it, connection)) {
            connections.remove(&connection.remote);
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom an address belongs to: of IPv6 everybody has 2⁶⁴.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Connection {
    /// Until it ends; says why it did.
    async fn serve(&self, reception: &Reception) -> &'static str {
        let mut frames = Frames::default();
        let mut heard = self.since;
        loop {
            let limit = if self.proven.load(Relaxed) { heard + SILENCE_LIMIT } else { self.since + PROVE_WITHIN };
            let readable = tokio::select! {
                () = self.over.cancelled() => return "nobody needs it",
                // It may have been proven meanwhile.
                () = sleep_until(limit.into()) => {
                    if self.proven.load(Relaxed) && heard + SILENCE_LIMIT > Instant::now() {
                        continue;
                    }
                    return "nothing came from it";
                }
                () = self.until_writable() => {
                    self.flush();
                    continue;
                }
                readable = self.stream.readable() => readable,
            };
            let read = readable.and_then(|()| self.stream.try_read_buf(&mut frames.space(READ_AT_ONCE)));
            match read {
                Ok(0) => return "the client ended it",
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return "it broke",
            }
            heard = Instant::now();
            loop {
                match frames.next() {
                    Ok(Some(frame)) if self.takes(reception, &frame, heard) => {}
                    Ok(Some(_)) => return "it has no session",
                    Ok(None) => break,
                    Err(_) => return "it does not send frames",
                }
            }
        }
    }

    /// Whether it may go on after that frame.
    fn takes(&self, reception: &Reception, frame: &[u8], received: Instant) -> bool {
        let is_for_somebody = reception.take(Remote::tcp(self.remote), self.local, received, frame);
        // Its first frames are checks, which say for whom they are.
        self.proven.load(Relaxed) || (is_for_somebody && frame.starts_with(&[0, 1]))
    }

    async fn until_writable(&self) {
        while self.outbox().is_empty() {
            self.behind.notified().await;
        }
        // What is wrong with it, reading tells.
        if self.stream.writable().await.is_err() {
            std::future::pending().await
        }
    }

    /// Writes what the kernel takes.
    fn flush(&self) {
        let mut outbox = self.outbox();
        if outbox.write(|slices| self.stream.try_write_vectored(slices)).is_err() {
            self.over.cancel();
        } else if !outbox.is_empty() {
            self.behind.notify_one();
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::media::fanout::demux::Demux;

    /// Time passes when nothing else does.
    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let reception = Reception::new(Arc::new(Demux::default()), Vec::new());
        let streams = Streams::accept(vec![(listener, address)], &reception).unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert!(began.elapsed() >= PROVE_WITHIN - Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(streams.table.connections().is_empty());
    }

    #[test]
    fn one_network_is_an_address_or_a_prefix() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.2", "192.0.2.1"));
    }
}
