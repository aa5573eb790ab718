//! A WebRTC client without a pipeline: watches what the fan-out edge offers, on a thread of its own.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    ice::IceCreds,
    media::{Direction, KeyframeRequestKind, MediaKind},
    net::{Protocol, Receive},
    rtp::RtpPacket,
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
    socket: Mutex<UdpSocket>,
    /// To be done with the session by its thread.
    deed: Mutex<Option<Deed>>,
}

type Deed = Box<dyn FnOnce(&mut Rtc) + Send>;

/// A viewer; dropping it is a crash: nobody is told.
pub struct Viewer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket
}

/// A viewer who has offered to watch.
pub struct Offering {
    rtc: Rtc,
    socket: UdpSocket,
    pending: SdpPendingOffer,
}

impl Offering {
    /// A section of each kind; gives the offer too.
    pub fn new(kinds: &[MediaKind]) -> (Self, String) {
        let (mut rtc, socket) = session();
        let mut changes = rtc.sdp_api();
        for kind in kinds.iter().copied() {
            changes.add_media(kind, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = changes.apply().unwrap();
        (Self { rtc, socket, pending }, offer.to_sdp_string())
    }

    pub fn answered(mut self, answer: &str) -> Viewer {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(self.pending, answer).unwrap();
        Viewer::run(self.rtc, self.socket)
    }
}

fn session() -> (Rtc, UdpSocket) {
    let socket = socket();
    let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
    let address = socket.local_addr().unwrap();
    rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap());
    (rtc, socket)
}

impl Viewer {
    /// Takes an offer; gives the answer too.
    pub fn answer(offer: &str) -> (Self, String) {
        let (mut rtc, socket) = session();
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        let answer = rtc.sdp_api().accept_offer(offer).unwrap().to_sdp_string();
        (Self::run(rtc, socket), answer)
    }

    fn run(mut rtc: Rtc, socket: UdpSocket) -> Self {
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            saw: Condvar::new(),
            stop: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            keyframe: AtomicBool::new(false),
            bears: AtomicU32::new(0),
            bucket: Mutex::new((0.0, Instant::now())),
            socket: Mutex::new(socket),
            deed: Mutex::default(),
        });
        let inside = shared.clone();
        let thread = std::thread::spawn(move || {
            while !inside.stop.load(Relaxed) {
                inside.step(&mut rtc, address);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// It is somewhere else from now on, as a phone that leaves its Wi-Fi; to itself it is where it was.
    pub fn move_away(&self) {
        *self.shared.socket.lock().unwrap() = socket();
    }

    /// From now on nothing comes from it, and nothing gets there.
    pub fn lose_network(&self) {
        self.shared.deaf.store(true, Relaxed);
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
        self.shared.socket.lock().unwrap().send_to(bytes, to).unwrap();
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
                    let _ = self.socket.lock().unwrap().send_to(&it.contents, it.destination);
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
        let mut buffer = [0; 2000];
        let received = self.socket.lock().unwrap().recv_from(&mut buffer);
        match received {
            Ok((length, _)) if !self.bears(length) => {}
            Ok((length, source)) if !deaf => {
                let Ok(receive) = Receive::new(Protocol::Udp, source, address, &buffer[..length]) else { return };
                // What is not for it is passed over.
                let _ = rtc.handle_input(Input::Receive(Instant::now(), receive));
            }
            _ => rtc.handle_input(Input::Timeout(Instant::now())).unwrap(),
        }
    }
}
