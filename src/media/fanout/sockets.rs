//! The sockets: one port on each of this machine's addresses, for everybody, over UDP and, if it is to be, TCP.

use std::{
    io::IoSlice,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, addr::SocketAddrArg, recvfrom, sendmmsg},
};
use socket2::{Domain, Protocol, Socket, Type};
use str0m::net::{self, Transmit};

use super::{EdgeSettings, counters, demux::Remote, pace::Pace, reception::Reception, streams::Streams};
use crate::media::{MediaError, addresses};

/// What the kernel may hold for us in each direction, if it allows: a keyframe for some hundred viewers.
const BUFFER_BYTES: usize = 4 << 20;
/// Larger than any datagram that WebRTC sends.
const MAX_DATAGRAM: usize = 2_048;
/// Datagrams read from one socket before the others have their turn.
const READ_AT_ONCE: usize = 64;
/// Datagrams handed to the kernel at once.
const SEND_AT_ONCE: usize = 64;
/// After so long without a datagram a wait for one ends.
const WAIT: Duration = Duration::from_millis(250);
/// TCP connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// All sockets of the edge.
#[derive(Debug)]
pub(super) struct Sockets {
    sockets: Vec<Bound>,
    /// Once connections are accepted.
    streams: Option<Streams>,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    /// Until connections are accepted there.
    listener: Option<TcpListener>,
    /// Their address as clients know it.
    announced: SocketAddr,
}

impl Sockets {
    /// Binds the first port that is free on every address.
    pub(super) fn bind(settings: &EdgeSettings) -> Result<Self, MediaError> {
        let (addresses, missing): (Vec<_>, Vec<_>) =
            bind_addresses(settings).into_iter().partition(|address| bind_one(SocketAddr::new(*address, 0)).is_ok());
        for address in missing {
            tracing::warn!(%address, "viewers are not served there: the address cannot be bound");
        }
        let bound = match bind_any(&addresses, settings.ports, settings.tcp) {
            // Most clients need no TCP.
            Err(problem) if settings.tcp => bind_any(&addresses, settings.ports, false).inspect(|_| {
                tracing::warn!(
                    "who has no UDP is not served, no port is free for TCP too (setting media_tcp): {problem}"
                );
            }),
            other => other,
        };
        match bound {
            Ok(sockets) => Ok(Self { sockets: announced(sockets, settings.announce), streams: None }),
            Err(problem) => Err(MediaError::Unavailable(format!("a port for viewers on {addresses:?}: {problem}"))),
        }
    }

    /// Clients may come over TCP too.
    pub(super) fn has_tcp(&self) -> bool {
        self.streams.is_some() || self.sockets.iter().any(|bound| bound.listener.is_some())
    }

    /// The addresses that clients are told.
    pub(super) fn announced(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|bound| bound.announced)
    }

    /// Begins to accept TCP connections, if there are to be any.
    pub(super) fn accept(&mut self, reception: &Reception) -> Result<(), MediaError> {
        let bound = self.sockets.iter_mut();
        let listeners: Vec<_> = bound.filter_map(|it| Some((it.listener.take()?, it.announced))).collect();
        if !listeners.is_empty() {
            self.streams = Some(Streams::accept(listeners, reception)?);
        }
        Ok(())
    }

    /// These are needed no more, if they are TCP connections.
    pub(super) fn hang_up(&self, remotes: impl Iterator<Item = Remote>) {
        let Some(streams) = &self.streams else { return remotes.for_each(drop) };
        remotes.filter(|it| it.protocol == net::Protocol::Tcp).for_each(|it| streams.hang_up(it.address));
    }

    /// Waits for datagrams, a moment at most, and hands each to `take`: from where, to which of our
    /// addresses, when. Waits a little more at the end, if there were no more.
    pub(super) fn receive(&self, pace: &mut Pace, mut take: impl FnMut(SocketAddr, SocketAddr, Instant, &[u8])) {
        let mut waiting: Vec<PollFd<'_>> =
            self.sockets.iter().map(|bound| PollFd::new(&bound.socket, PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: 0, tv_nsec: WAIT.subsec_nanos().into() };
        if poll(&mut waiting, Some(&wait)).is_err() {
            return;
        }
        pace.begin();
        let mut is_all = true;
        let mut buffer = [0; MAX_DATAGRAM];
        for (bound, _) in self.sockets.iter().zip(&waiting).filter(|(_, fd)| !fd.revents().is_empty()) {
            let mut read = 0;
            while read < READ_AT_ONCE {
                read += 1;
                match recvfrom(&bound.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((_, length, Some(source))) => {
                        let Ok(source) = SocketAddr::try_from(source) else { continue };
                        take(source, bound.announced, Instant::now(), &buffer[..length]);
                    }
                    Ok((_, _, None)) => {}
                    Err(Errno::AGAIN) => break,
                    // What an earlier datagram of ours met: a client that is gone. The error is taken by
                    // reading it.
                    Err(_) => {}
                }
            }
            is_all &= read < READ_AT_ONCE;
        }
        if is_all {
            pace.wait();
        }
    }

    /// Sends all of `transmits` and empties it. Datagrams wait if the kernel has no room; what it refuses is
    /// dropped, as the net might do.
    pub(super) fn send(&self, transmits: &mut Vec<Transmit>) {
        if let Some(streams) = &self.streams {
            streams.send(transmits.extract_if(.., |it| it.proto == net::Protocol::Tcp));
        }
        for (index, bound) in self.sockets.iter().enumerate() {
            if self.sockets[..index].iter().any(|other| other.announced == bound.announced) {
                // Behind one announced address one socket sends.
                continue;
            }
            let ours: Vec<&Transmit> = transmits.iter().filter(|it| it.source == bound.announced).collect();
            for batch in ours.chunks(SEND_AT_ONCE) {
                send_batch(&bound.socket, batch);
            }
        }
        transmits.clear();
    }
}

fn send_batch(socket: &UdpSocket, batch: &[&Transmit]) {
    let addresses: Vec<SocketAddrAny> = batch.iter().map(|transmit| transmit.destination.as_any()).collect();
    let contents: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|transmit| [IoSlice::new(&transmit.contents)]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = batch.iter().map(|_| Default::default()).collect();
    let parts = addresses.iter().zip(&contents).zip(&mut controls);
    let mut messages: Vec<MMsgHdr<'_>> =
        parts.map(|((address, contents), control)| MMsgHdr::new_with_addr(address, contents, control)).collect();
    let mut rest = messages.as_mut_slice();
    while !rest.is_empty() {
        let sent = match sendmmsg(socket, rest, SendFlags::empty()) {
            Ok(sent) => sent.max(1),
            Err(Errno::INTR) => 0,
            // It is about the first of them.
            Err(_) => {
                counters::dropped(1);
                1
            }
        };
        rest = rest.get_mut(sent..).unwrap_or_default();
    }
}

/// Behind an announced address the kernel chooses by its routes from where to answer, if nobody else did.
fn bind_addresses(settings: &EdgeSettings) -> Vec<IpAddr> {
    match settings.announce {
        Some(IpAddr::V4(_)) if settings.bind.is_empty() => vec![Ipv4Addr::UNSPECIFIED.into()],
        Some(IpAddr::V6(_)) if settings.bind.is_empty() => vec![Ipv6Addr::UNSPECIFIED.into()],
        Some(announce) => settings.bind.iter().copied().filter(|it| it.is_ipv4() == announce.is_ipv4()).collect(),
        // "Any address" can be told to nobody: all that there are.
        None if settings.bind.iter().any(IpAddr::is_unspecified) => {
            let named = settings.bind.iter().copied().filter(|address| !address.is_unspecified());
            let any = |family: fn(&IpAddr) -> bool| {
                settings.bind.iter().any(|address| address.is_unspecified() && family(address))
            };
            let (v4, v6) = (any(IpAddr::is_ipv4), any(IpAddr::is_ipv6));
            let found = addresses::local(&[]).into_iter().filter(|it| if it.is_ipv4() { v4 } else { v6 });
            let mut all: Vec<IpAddr> = named.chain(found).collect();
            all.dedup();
            all
        }
        None => addresses::local(&settings.bind),
    }
}

type Pair = (UdpSocket, Option<TcpListener>);

/// The first port that is free.
fn bind_any(addresses: &[IpAddr], ports: Option<(u16, u16)>, tcp: bool) -> std::io::Result<Vec<Pair>> {
    let candidates: Box<dyn Iterator<Item = u16>> = match ports {
        Some((low, high)) => Box::new(low..=high),
        // The system chooses for the first address; the others may have that port in use.
        None => Box::new(std::iter::repeat_n(0, 16)),
    };
    let mut bound = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for port in candidates {
        bound = bind_all(addresses, port, tcp);
        if bound.is_ok() {
            break;
        }
    }
    bound
}

fn bind_all(addresses: &[IpAddr], port: u16, tcp: bool) -> std::io::Result<Vec<Pair>> {
    let mut sockets: Vec<Pair> = Vec::new();
    for address in addresses {
        let port = sockets.first().map_or(Ok(port), |(first, _)| first.local_addr().map(|first| first.port()))?;
        let socket = bind_one(SocketAddr::new(*address, port))?;
        let listener = if tcp { Some(listen(socket.local_addr()?)?) } else { None };
        sockets.push((socket, listener));
    }
    if sockets.is_empty() { Err(std::io::ErrorKind::AddrNotAvailable.into()) } else { Ok(sockets) }
}

fn bind_one(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel gives what its limits allow; less is no error.
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a server that was here before may still be known to the kernel.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn announced(sockets: Vec<Pair>, announce: Option<IpAddr>) -> Vec<Bound> {
    let bound = sockets.into_iter().filter_map(|(socket, listener)| {
        let mut announced = socket.local_addr().ok()?;
        if let Some(announce) = announce {
            announced.set_ip(announce);
        }
        Some(Bound { socket, listener, announced })
    });
    bound.collect()
}

#[cfg(test)]
mod tests {
    use str0m::net::Protocol;

    use super::*;

    fn loopback() -> EdgeSettings {
        EdgeSettings {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            announce: None,
            ports: None,
            tcp: true,
            connect_timeout: Duration::from_secs(1),
        }
    }

    fn transmit(source: SocketAddr, destination: SocketAddr, contents: &[u8]) -> Transmit {
        Transmit { proto: Protocol::Udp, source, destination, contents: contents.to_vec().into() }
    }

    #[test]
    fn datagrams_go_out_in_batches_and_come_in_with_both_addresses() {
        let sockets = Sockets::bind(&loopback()).unwrap();
        let ours = sockets.announced().next().unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let theirs = client.local_addr().unwrap();
        let refused = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut transmits: Vec<Transmit> = (0..100u8).map(|n| transmit(ours, theirs, &[n])).collect();
        transmits.insert(50, transmit(ours, refused, b"to nowhere"));
        sockets.send(&mut transmits);
        assert!(transmits.is_empty());
        let mut buffer = [0; 10];
        for n in 0..100u8 {
            assert_eq!(client.recv_from(&mut buffer).unwrap(), (1, ours));
            assert_eq!(buffer[0], n);
        }
        client.send_to(b"hello", ours).unwrap();
        let mut received = Vec::new();
        while received.is_empty() {
            sockets.receive(&mut Pace::default(), |source, destination, _, bytes| {
                received.push((source, destination, bytes.to_vec()))
            });
        }
        assert_eq!(received, [(theirs, ours, b"hello".to_vec())]);
    }

    #[test]
    fn the_port_is_one_of_those_that_are_allowed_and_free() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().min(65_000);
        let settings = EdgeSettings { ports: Some((port, port + 500)), ..loopback() };
        let sockets = Sockets::bind(&settings).unwrap();
        let bound = sockets.announced().next().unwrap();
        assert!(bound.port() != port && (port..=port + 500).contains(&bound.port()), "{bound}");
        let nothing_free = EdgeSettings { ports: Some((port, port)), ..loopback() };
        assert!(matches!(Sockets::bind(&nothing_free), Err(MediaError::Unavailable(_))));
    }

    #[test]
    fn where_tcp_has_no_port_udp_has_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let sockets = Sockets::bind(&EdgeSettings { ports: Some((port, port)), ..loopback() }).unwrap();
        assert!(!sockets.has_tcp());
        assert_eq!(sockets.announced().next().unwrap().port(), port);
        assert!(Sockets::bind(&loopback()).unwrap().has_tcp());
    }

    #[test]
    fn clients_are_told_the_announced_address() {
        let announce: IpAddr = "203.0.113.9".parse().unwrap();
        for bind in [vec![], vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]] {
            let sockets = Sockets::bind(&EdgeSettings { bind, announce: Some(announce), ..loopback() }).unwrap();
            let told: Vec<_> = sockets.announced().map(|address| address.ip()).collect();
            assert_eq!(told, [announce]);
        }
    }
}
