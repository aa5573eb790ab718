//! TCP connections of clients whose network blocks UDP (RFC 6544: we are passive). A task each reads and, when the
//! kernel took not all at once, writes on; media threads write without waiting.
//!
//! Anybody may connect. Who has not shown soon that he has a session is let go, and so is who sends anything else
//! before that; there are few connections of one network at a time. Browsers connect here as well where UDP works,
//! so a connection that carries nothing gives way.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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
    time::{sleep_until, timeout},
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
/// It has it over UDP too, and as a rule uses that; the oldest that carries nothing is let go for a new one.
const MAX_OF_ONE_NETWORK: usize = 256;
/// Of those that have not shown whose they are; the oldest is let go for a new one.
const MAX_UNPROVEN: usize = 256;
const MAX_UNPROVEN_OF_ONE_NETWORK: usize = 64;
/// It must have sent a check that a session answers by then.
const PROVE_WITHIN: Duration = Duration::from_secs(10);
/// Sessions check their paths every few seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// What was written last must have got there by then.
const LINGER: Duration = Duration::from_secs(1);
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
    /// When more than checks went out there last, in ms since it began; 0: never.
    carried_ms: AtomicU64,
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
            // RFC 7983 §7: below that it is STUN, which goes everywhere.
            if transmit.contents.first().is_some_and(|first| *first >= 20) {
                connection.carries(now);
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
            carried_ms: AtomicU64::new(0),
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
            // First: who connects anew from there is another.
            reception.hung_up(Remote::tcp(connection.remote));
            if connection.proven.load(Relaxed) {
                // Whether it gets there, nobody waits for.
                let _ = timeout(LINGER, connection.finish()).await;
            }
            table.remove(&connection);
        });
    }
}

impl Table {
    fn find(&self, remote: SocketAddr) -> Option<Arc<Connection>> {
        self.connections().get(&remote).cloned()
    }

    /// False if there are too many. One that has not shown whose it is gives way to a new one, or, if all have, one
    /// that carries nothing.
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
            let idle = counted.into_iter().filter(|it| !it.is_in_use(new.since));
            let oldest = idle.min_by_key(|it| (it.proven.load(Relaxed), it.since));
            let Some(oldest) = oldest.cloned() else { return false };
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
    fn carries(&self, now: Instant) {
        let age = now.saturating_duration_since(self.since).as_millis() as u64;
        self.carried_ms.store(age.max(1), Relaxed);
    }

    /// It carries a session, not just its checks. Sessions report every few seconds.
    fn is_in_use(&self, now: Instant) -> bool {
        let carried_ms = self.carried_ms.load(Relaxed);
        carried_ms > 0 && self.since + Duration::from_millis(carried_ms) + SILENCE_LIMIT > now
    }

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

    /// Writes what is left and ends our half. Reads on until he ends his: a connection that is closed with something
    /// unread is reset, and what he has not read yet is lost.
    async fn finish(&self) -> std::io::Result<()> {
        while !self.outbox().is_empty() {
            self.stream.writable().await?;
            self.outbox().write(|slices| self.stream.try_write_vectored(slices))?;
        }
        SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
        let mut rest = [0; READ_AT_ONCE];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut rest) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
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

    /// Browsers connect over TCP as well where UDP works.
    #[tokio::test]
    async fn what_carries_nothing_gives_way_the_unproven_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = Arc::new(stream.into_std().unwrap());
        let began = Instant::now();
        let connection = |port: u16| {
            let connection = Connection {
                remote: ([192, 0, 2, 1], port).into(),
                local: address,
                stream: TcpStream::from_std(stream.try_clone().unwrap()).unwrap(),
                since: began + Duration::from_millis(port.into()),
                proven: AtomicBool::new(true),
                carried_ms: AtomicU64::new(0),
                outbox: Mutex::default(),
                behind: Notify::new(),
                over: CancellationToken::new(),
            };
            Arc::new(connection)
        };
        let table = Table { most: 4, connections: Mutex::default() };
        let first: Vec<_> = (1..5).map(connection).collect();
        assert!(first.iter().all(|it| table.admit(it)));
        first[0].carries(began);
        first[2].proven.store(false, Relaxed);
        let gave_way = || first.iter().map(|it| it.over.is_cancelled()).collect::<Vec<_>>();
        let next: Vec<_> = (5..9).map(connection).collect();
        assert!(table.admit(&next[0]));
        assert_eq!(gave_way(), [false, false, true, false], "the unproven one");
        next[0].carries(began);
        assert!(table.admit(&next[1]));
        assert_eq!(gave_way(), [false, true, true, false], "the oldest that carries nothing");
        assert!(table.admit(&next[2]));
        assert_eq!(gave_way(), [false, true, true, true]);
        [&next[1], &next[2]].iter().for_each(|it| it.carries(it.since));
        assert!(!table.admit(&next[3]), "all carry something");
        let later = connection(u16::MAX);
        let later = Arc::new(Connection { since: later.since + SILENCE_LIMIT, ..Arc::into_inner(later).unwrap() });
        assert!(table.admit(&later), "the others have carried nothing for long");
        assert!(first[0].over.is_cancelled());
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
