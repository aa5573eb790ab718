//! What a viewer has seen.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use str0m::rtp::RtpPacket;

use crate::clip::Stamp;

/// Latencies kept for one window: two minutes of pictures, which is the longest window.
const MOST_LATENCIES: usize = 3_000;

/// Since a viewer began to join.
#[derive(Debug)]
pub struct Tally {
    began: Instant,
    /// From there until DTLS was up.
    pub connected: Option<Duration>,
    /// From there until a whole keyframe had come.
    pub first_picture: Option<Duration>,
    /// The session has ended, or was never up.
    pub ended: Option<String>,
    streams: HashMap<u32, Stream>,
    window: Window,
    /// When the last picture came, or the window began.
    last_picture: Instant,
    /// Bytes of a packet that are neither header nor payload: the cipher's tag.
    tag: Option<usize>,
}

/// What came since the last time somebody asked.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Packets, each once, however often it was sent.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Numbers that are missing between the first and the last.
    pub lost: u64,
    /// How long pictures were under way.
    pub latencies: Vec<Duration>,
    /// The longest time without a picture.
    pub longest_pause: Duration,
    /// Packets that a publisher sent, repetitions too.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct Stream {
    /// One behind the highest number so far.
    next: u64,
    /// Those missing below it.
    missing: u64,
    /// A picture whose packets have all come so far: its time and the next number.
    whole: Option<(u64, u64)>,
}

impl Tally {
    /// Of a viewer that begins to join now.
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            connected: None,
            first_picture: None,
            ended: None,
            streams: HashMap::new(),
            window: Window::default(),
            last_picture: Instant::now(),
            tag: None,
        }
    }

    /// DTLS is up.
    pub fn connect(&mut self) {
        self.connected.get_or_insert(self.began.elapsed());
    }

    /// The length of the next packet's datagram is known before it is opened.
    pub fn receive(&mut self, packet: &RtpPacket, datagram: usize) {
        self.tag.get_or_insert(datagram.saturating_sub(packet.header.header_len + packet.payload.len()));
        let stream = self.streams.entry(*packet.header.ssrc).or_default();
        let number = *packet.seq_no;
        if stream.next == 0 {
            stream.next = number;
        }
        if number >= stream.next {
            stream.missing += number - stream.next;
            stream.next = number + 1;
        } else {
            stream.missing = stream.missing.saturating_sub(1);
        }
        self.window.packets += 1;
        self.window.bytes += packet.payload.len() as u64;

        let time = packet.time.numer();
        // RFC 7741 §4.2: S is set, and it is partition 0: a picture begins.
        if packet.payload.first().is_some_and(|first| first & 0x17 == 0x10) {
            stream.whole = Some((time, number));
        }
        let goes_on = stream.whole == Some((time, number));
        stream.whole = goes_on.then_some((time, number + 1));
        let Some(stamp) = packet.header.marker.then(|| Stamp::of(&packet.payload)).flatten() else { return };
        if stamp.is_keyframe && goes_on {
            self.first_picture.get_or_insert(self.began.elapsed());
        }
        if self.window.latencies.len() < MOST_LATENCIES {
            self.window.latencies.push(stamp.age());
        }
        self.pause();
    }

    /// A publisher sent a datagram: RTP is counted, RTCP is not (RFC 5761 §4).
    pub fn send(&mut self, datagram: &[u8]) {
        let is_rtp = matches!(datagram, [128..=191, kind, ..] if !(192..=223).contains(kind));
        self.window.sent += u64::from(is_rtp);
    }

    /// A pause without pictures ends now.
    fn pause(&mut self) {
        let now = Instant::now();
        let pause = now - std::mem::replace(&mut self.last_picture, now);
        self.window.longest_pause = self.window.longest_pause.max(pause);
    }

    /// What came since the last time, and begins anew.
    pub fn take(&mut self) -> Window {
        // One that lasts counts too.
        self.pause();
        let mut window = std::mem::take(&mut self.window);
        for stream in self.streams.values_mut() {
            window.lost += std::mem::take(&mut stream.missing);
        }
        window
    }

    /// How packets are encrypted, by the length of their tag (RFC 7714 §13.1, RFC 3711 §8.2).
    pub fn profile(&self) -> Option<&'static str> {
        match self.tag? {
            16 => Some("AEAD_AES_GCM"),
            10 => Some("AES_CM_HMAC_SHA1_80"),
            4 => Some("AES_CM_HMAC_SHA1_32"),
            _ => None,
        }
    }
}
