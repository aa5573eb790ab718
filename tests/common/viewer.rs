//! A WebRTC client without a pipeline: watches what the fan-out edge offers, on a thread of its own.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use salon::media::fanout::Frames;
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    ice::IceCreds,
    media::{Direction, KeyframeRequestKind, MediaKind, Mid},
    net::{Protocol, Receive, TcpType},
    rtp::{RtpPacket, RtpWrite},
};

/// The number that video has in offers of these tests.
pub const VIDEO: u8 = 96;

/// What it has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub connected: bool,
    pub closed: bool,
    pub packets: Vec<RtpPacket>,
}

struct Shared {
    seen: Mutex<Seen>,
    saw: Condvar,
    stop: AtomicBool,
    /// The network is down.
    deaf: AtomicBool,
    keyframe: AtomicBool,
    /// What its network bears, kbit/s; 0: all.
    bears: AtomicU32,
    /// Bytes that may still come, and as of when.
    bucket: Mutex<(f64, Instant)>,
    wire: Mutex<Wire>,
    /// To be done with the session by its thread.
    deed: Mutex<Option<Deed>>,
}

type Deed = Box<dyn FnOnce(&mut Rtc) + Send>;

/// A viewer; dropping it is a crash: nobody is told.
pub struct Viewer {
    shared: Arc<Shared>,
    /// The sections that he offered.
    mids: Vec<Mid>,
    /// Pictures that he sent.
    sent: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

/// A read gives up after so long.
const PATIENCE: Duration = Duration::from_millis(5);

/// Its end of the net.
enum Wire {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, frames: Frames, read: VecDeque<Vec<u8>> },
}

impl Wire {
    fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Udp(socket)
    }

    fn tcp(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Tcp { stream, frames: Frames::default(), read: VecDeque::new() }
    }

    fn protocol(&self) -> Protocol {
        if matches!(self, Self::Udp(_)) { Protocol::Udp } else { Protocol::Tcp }
    }

    fn local(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr().unwrap(),
            Self::Tcp { stream, .. } => stream.local_addr().unwrap(),
        }
    }

    fn send(&mut self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send_to(bytes, to).map(drop),
            Self::Tcp { stream, .. } => stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()),
        }
    }

    fn receive(&mut self) -> io::Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2_000];
        match self {
            Self::Udp(socket) => {
                let (length, source) = socket.recv_from(&mut buffer)?;
                Ok((buffer[..length].to_vec(), source))
            }
            Self::Tcp { stream, frames, read } => {
                if read.is_empty() {
                    let length = stream.read(&mut buffer)?;
                    if length == 0 {
                        // It has ended; reading it waits no more.
                        std::thread::park_timeout(PATIENCE);
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    frames.push(&buffer[..length]);
                    while let Some(frame) = frames.next()? {
                        read.push_back(frame.to_vec());
                    }
                }
                let frame = read.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
                Ok((frame, stream.peer_addr()?))
            }
        }
    }
}

/// A viewer who has offered to watch, or a publisher.
pub struct Offering {
    rtc: Rtc,
    wire: Wire,
    pending: SdpPendingOffer,
    mids: Vec<Mid>,
}

impl Offering {
    /// A section of each kind; gives the offer too.
    pub fn new(kinds: &[MediaKind]) -> (Self, String) {
        Self::with(kinds, Direction::RecvOnly)
    }

    /// For pictures of his own; gives the offer too.
    pub fn sending() -> (Self, String) {
        Self::with(&[MediaKind::Video], Direction::SendOnly)
    }

    fn with(kinds: &[MediaKind], direction: Direction) -> (Self, String) {
        let (mut rtc, wire) = session(Wire::udp());
        let mut changes = rtc.sdp_api();
        let mids: Vec<Mid> = kinds.iter().map(|kind| changes.add_media(*kind, direction, None, None, None)).collect();
        let (offer, pending) = changes.apply().unwrap();
        (Self { rtc, wire, pending, mids }, offer.to_sdp_string())
    }

    pub fn answered(mut self, answer: &str) -> Viewer {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(self.pending, answer).unwrap();
        Viewer::run(self.rtc, self.wire, self.mids)
    }
}

fn session(wire: Wire) -> (Rtc, Wire) {
    let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
    let candidate = match wire.protocol() {
        Protocol::Udp => Candidate::builder().udp().host(wire.local()).build(),
        _ => Candidate::builder().tcp().host(wire.local()).tcptype(TcpType::Active).build(),
    };
    rtc.add_local_candidate(candidate.unwrap());
    (rtc, wire)
}

impl Viewer {
    /// Takes an offer; gives the answer too.
    pub fn answer(offer: &str) -> (Self, String) {
        Self::answer_over(Wire::udp(), offer)
    }

    /// The same for somebody who reaches the edge, which is at that address, over TCP only.
    pub fn answer_over_tcp(to: SocketAddr, offer: &str) -> (Self, String) {
        Self::answer_over(Wire::tcp(to), offer)
    }

    fn answer_over(wire: Wire, offer: &str) -> (Self, String) {
        let (mut rtc, wire) = session(wire);
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        let answer = rtc.sdp_api().accept_offer(offer).unwrap().to_sdp_string();
        (Self::run(rtc, wire, Vec::new()), answer)
    }

    fn run(mut rtc: Rtc, wire: Wire, mids: Vec<Mid>) -> Self {
        let address = wire.local();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            saw: Condvar::new(),
            stop: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            keyframe: AtomicBool::new(false),
            bears: AtomicU32::new(0),
            bucket: Mutex::new((0.0, Instant::now())),
            wire: Mutex::new(wire),
            deed: Mutex::default(),
        });
        let inside = shared.clone();
        let thread = std::thread::spawn(move || {
            while !inside.stop.load(Relaxed) {
                inside.step(&mut rtc, address);
            }
        });
        Self { shared, thread: Some(thread), mids, sent: AtomicU64::new(0) }
    }

    /// It is somewhere else from now on, as a phone that leaves its Wi-Fi; to itself it is where it was.
    pub fn move_away(&self) {
        *self.shared.wire.lock().unwrap() = Wire::udp();
    }

    /// From now on nothing comes from it, and nothing gets there.
    pub fn lose_network(&self) {
        self.shared.deaf.store(true, Relaxed);
    }

    /// It connects anew, from another port; to itself it is where it was.
    pub fn connect_again(&self, to: SocketAddr) {
        *self.shared.wire.lock().unwrap() = Wire::tcp(to);
    }

    /// Its network is as before.
    pub fn hear_again(&self) {
        self.shared.deaf.store(false, Relaxed);
    }

    /// From now on its network loses what is more than that, in kbit/s; 0: nothing.
    pub fn limit(&self, kbps: u32) {
        self.shared.bears.store(kbps, Relaxed);
    }

    /// The network is back, somewhere else: a phone that found another one.
    pub fn find_network(&self) {
        self.move_away();
        self.shared.deaf.store(false, Relaxed);
    }

    /// Takes another offer of the same session; gives the answer.
    pub fn answer_again(&self, offer: &str) -> String {
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        self.with(|rtc| rtc.sdp_api().accept_offer(offer).unwrap().to_sdp_string())
    }

    /// Offers the same session with other ICE credentials, which are given; [`take_restart`](Self::take_restart)
    /// is to follow.
    pub fn restart(&self) -> (IceCreds, SdpPendingOffer) {
        self.with(|rtc| {
            let mut changes = rtc.sdp_api();
            let credentials = changes.ice_restart(true);
            let (_, pending) = changes.apply().unwrap();
            (credentials, pending)
        })
    }

    /// `answer`: the first one, with what was answered now.
    pub fn take_restart(&self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.with(|rtc| rtc.sdp_api().accept_answer(pending, answer).unwrap());
    }

    fn with<T: Send + 'static>(&self, deed: impl FnOnce(&mut Rtc) -> T + Send + 'static) -> T {
        let (sender, done) = std::sync::mpsc::channel();
        *self.shared.deed.lock().unwrap() = Some(Box::new(move |rtc| drop(sender.send(deed(rtc)))));
        done.recv_timeout(Duration::from_secs(40)).expect("the viewer's thread does it")
    }

    /// Sends these bytes from where it is.
    pub fn send_raw(&self, bytes: &[u8], to: SocketAddr) {
        self.shared.wire.lock().unwrap().send(bytes, to).unwrap();
    }

    /// Sends a picture of one packet in its first section.
    pub fn send_picture(&self) {
        let (mid, number) = (self.mids[0], self.sent.fetch_add(1, Relaxed));
        self.with(move |rtc| {
            let payload = [0x10, 0, 0, 0, 0x9d, 0x01, 0x2a, number as u8];
            let write = RtpWrite::new(VIDEO.into(), number.into(), number as u32 * 3_000, Instant::now(), payload);
            rtc.direct_api().stream_tx_by_mid(mid, None).unwrap().write_rtp(write.marker(true));
        });
    }

    pub fn request_keyframe(&self) {
        self.shared.keyframe.store(true, Relaxed);
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }

    /// Waits until it has seen that.
    pub fn until(&self, what: &str, is_it: impl Fn(&Seen) -> bool) {
        let limit = Duration::from_secs(40);
        let (seen, over) = self.shared.saw.wait_timeout_while(self.seen(), limit, |seen| !is_it(seen)).unwrap();
        drop(seen);
        assert!(!over.timed_out(), "{what} did not happen");
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|ended| ended.is_ok()), "the viewer's thread panicked");
        }
    }
}

impl Shared {
    fn saw(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock().unwrap());
        self.saw.notify_all();
    }

    /// A fifth of a second may come at once.
    fn bears(&self, bytes: usize) -> bool {
        let rate = f64::from(self.bears.load(Relaxed)) * 125.0;
        let (left, at) = &mut *self.bucket.lock().unwrap();
        *left = (*left + at.elapsed().as_secs_f64() * rate).min(rate / 5.0);
        *at = Instant::now();
        let bears = rate == 0.0 || *left >= bytes as f64;
        *left -= if bears { bytes as f64 } else { 0.0 };
        bears
    }

    fn step(&self, rtc: &mut Rtc, address: SocketAddr) {
        let deaf = self.deaf.load(Relaxed);
        if let Some(deed) = self.deed.lock().unwrap().take() {
            deed(rtc);
        }
        loop {
            match rtc.poll_output().unwrap() {
                Output::Timeout(_) => break,
                Output::Transmit(it) if !deaf => {
                    // An error is a packet that was lost.
                    let _ = self.wire.lock().unwrap().send(&it.contents, it.destination);
                }
                Output::Transmit(_) => {}
                Output::Event(Event::Connected) => self.saw(|seen| seen.connected = true),
                Output::Event(Event::Closed) => self.saw(|seen| seen.closed = true),
                Output::Event(Event::RtpPacket(packet)) => {
                    if *packet.header.payload_type == VIDEO
                        && self.keyframe.swap(false, Relaxed)
                        && let Some(stream) = rtc.direct_api().stream_rx(&packet.header.ssrc)
                    {
                        stream.request_keyframe(KeyframeRequestKind::Pli);
                    }
                    self.saw(|seen| seen.packets.push(packet));
                }
                Output::Event(_) => {}
            }
        }
        let mut wire = self.wire.lock().unwrap();
        let protocol = wire.protocol();
        if deaf && protocol == Protocol::Tcp {
            // What nobody reads stays in the connection.
            drop(wire);
            std::thread::park_timeout(PATIENCE);
            return rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        }
        let received = wire.receive();
        drop(wire);
        match received {
            Ok((bytes, _)) if !self.bears(bytes.len()) => {}
            Ok((bytes, source)) if !deaf => {
                let Ok(receive) = Receive::new(protocol, source, address, &bytes) else { return };
                // What is not for it is passed over.
                let _ = rtc.handle_input(Input::Receive(Instant::now(), receive));
            }
            _ => rtc.handle_input(Input::Timeout(Instant::now())).unwrap(),
        }
    }
}
