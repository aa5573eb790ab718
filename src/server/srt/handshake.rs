//! The beginning of an SRT call, as bytes (draft-sharabayko-srt §3.2.1 and §4.3): who is not known yet is answered
//! from his own packet, and nothing is kept of him.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Bytes of a handshake without extensions.
const SHAKE: usize = 64;
/// A cookie is good for so long, and as long again.
const COOKIE_LIFE: Duration = Duration::from_secs(30);
/// A caller takes packets of at least so many bytes: seven of the transport stream, and headers.
const LEAST_PACKET: u32 = 7 * 188 + 44;
/// Packets of one report of losses that are looked for.
const MOST_LOST: u32 = 8192;

const INDUCTION: u32 = 1;
const CONCLUSION: u32 = u32::MAX;
/// What a listener puts where a caller's extensions are told, to say that it knows them.
const MAGIC: u16 = 0x4A17;

/// What a caller is told who is not let in (SRT's access control guidelines), as a handshake's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// His packets are too small, or what he sends cannot be read.
    BadRequest = 2400,
    /// Nothing that he showed opens this.
    Unauthorised = 2401,
    /// There are as many callers as there may be.
    Overload = 2402,
    /// There is no such room, or it is not for him to know.
    NotFound = 2404,
    /// He speaks another version.
    Version = 1008,
    /// He wants to encrypt, and we have no passphrase.
    Unsecure = 1011,
}

/// A packet that somebody begins a call with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shake {
    /// The first: he wants a cookie.
    Induction,
    /// The second: he has one, and says what he wants.
    Conclusion {
        /// His number for the call.
        socket: u32,
        cookie: u32,
    },
}

impl Shake {
    /// `None`: it is another packet.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        if packet.len() < SHAKE || packet[..4] != [0x80, 0, 0, 0] {
            return None;
        }
        match word(packet, 36) {
            INDUCTION => Some(Self::Induction),
            CONCLUSION => Some(Self::Conclusion { socket: word(packet, 40), cookie: word(packet, 44) }),
            _ => None,
        }
    }
}

/// Makes cookies, which show that a caller's address is his.
#[derive(Debug)]
pub(super) struct Cookies {
    key: RandomState,
    began: Instant,
}

impl Cookies {
    pub(super) fn new() -> Self {
        Self { key: RandomState::new(), began: Instant::now() }
    }

    pub(super) fn bake(&self, peer: SocketAddr, now: Instant) -> u32 {
        self.of(peer, self.age(now))
    }

    /// It was baked for this address, and not long ago.
    pub(super) fn knows(&self, cookie: u32, peer: SocketAddr, now: Instant) -> bool {
        let age = self.age(now);
        cookie == self.of(peer, age) || age.checked_sub(1).is_some_and(|before| cookie == self.of(peer, before))
    }

    fn age(&self, now: Instant) -> u64 {
        now.duration_since(self.began).as_secs() / COOKIE_LIFE.as_secs()
    }

    fn of(&self, peer: SocketAddr, age: u64) -> u32 {
        self.key.hash_one((peer, age)) as u32
    }
}

/// The answer to an induction.
pub(super) fn induced(packet: &[u8], cookie: u32) -> [u8; SHAKE] {
    let mut answer = answered(packet);
    answer[22..24].copy_from_slice(&MAGIC.to_be_bytes());
    answer[44..48].copy_from_slice(&cookie.to_be_bytes());
    answer
}

/// The answer to a conclusion that comes to nothing.
pub(super) fn refused(packet: &[u8], reason: Refused) -> [u8; SHAKE] {
    let mut answer = answered(packet);
    answer[36..40].copy_from_slice(&(reason as u32).to_be_bytes());
    answer
}

/// The packet that was an induction before it became this conclusion, for those who keep both.
pub(super) fn induction_of(conclusion: &[u8]) -> [u8; SHAKE] {
    let mut packet = answered(conclusion);
    packet[12..16].fill(0);
    packet[16..20].copy_from_slice(&4u32.to_be_bytes());
    packet[23] = 2;
    packet[36..40].copy_from_slice(&INDUCTION.to_be_bytes());
    packet[44..48].fill(0);
    packet
}

/// What speaks against a conclusion before it is read whole.
pub(super) fn objection(packet: &[u8]) -> Option<Refused> {
    let has_key = packet[20..22] != [0, 0] || packet[23] & 0b10 != 0;
    match () {
        () if word(packet, 16) != 5 => Some(Refused::Version),
        () if word(packet, 28) < LEAST_PACKET => Some(Refused::BadRequest),
        () if has_key => Some(Refused::Unsecure),
        () => None,
    }
}

/// The packet's own fields in version 5, back to whom it came from, without extensions.
fn answered(packet: &[u8]) -> [u8; SHAKE] {
    let mut answer = [0; SHAKE];
    answer.copy_from_slice(&packet[..SHAKE]);
    answer.copy_within(40..44, 12);
    answer[16..20].copy_from_slice(&5u32.to_be_bytes());
    answer[20..24].fill(0);
    answer
}

/// A packet that those may send who only take: acknowledgements and reports of losses, and that they are there or
/// go. All else, media first, is none of ours.
pub(super) fn is_takers(packet: &[u8]) -> bool {
    let Some(head) = packet.get(..16) else { return false };
    match u16::from_be_bytes([head[0], head[1]]) {
        // A handshake again: our answer was lost.
        0x8000 => Shake::read(packet).is_some(),
        // He is there; he goes.
        0x8001 | 0x8005 => true,
        0x8002 => matches!(packet.len(), 20 | 32..) && packet.len().is_multiple_of(4),
        0x8003 => are_losses(&packet[16..]),
        _ => false,
    }
}

/// Numbers, and ranges of them in order that are not too long; a first bit says that a range begins.
fn are_losses(list: &[u8]) -> bool {
    let mut words = list.chunks_exact(4).map(|bytes| word(bytes, 0));
    let mut lost = 0u32;
    while let Some(first) = words.next() {
        let length = match first >> 31 {
            0 => Some(1),
            _ => words.next().and_then(|last| last.checked_sub(first & 0x7FFF_FFFF)),
        };
        let Some(length) = length else { return false };
        lost = lost.saturating_add(length);
    }
    list.len().is_multiple_of(4) && (1..=MOST_LOST).contains(&lost)
}

fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conclusion as libsrt sends it, without extensions.
    fn conclusion() -> [u8; SHAKE] {
        let mut packet = [0; SHAKE];
        packet[0] = 0x80;
        packet[19] = 5;
        packet[28..32].copy_from_slice(&1500u32.to_be_bytes());
        packet[36..40].fill(0xFF);
        packet[40..44].copy_from_slice(&[1, 2, 3, 4]);
        packet[44..48].copy_from_slice(&[5, 6, 7, 8]);
        packet
    }

    #[test]
    fn a_call_is_read_and_answered_from_its_own_packet() {
        let packet = conclusion();
        assert_eq!(Shake::read(&packet), Some(Shake::Conclusion { socket: 0x0102_0304, cookie: 0x0506_0708 }));
        assert_eq!(objection(&packet), None);
        let induction = induction_of(&packet);
        assert_eq!(Shake::read(&induction), Some(Shake::Induction));
        let answer = induced(&induction, 9);
        assert_eq!((word(&answer, 12), word(&answer, 16), word(&answer, 20)), (0x0102_0304, 5, u32::from(MAGIC)));
        assert_eq!((word(&answer, 36), word(&answer, 44)), (INDUCTION, 9));
        let answer = refused(&packet, Refused::Unauthorised);
        assert_eq!((word(&answer, 12), word(&answer, 36)), (0x0102_0304, 2401));
        for (at, byte, objects) in [
            (19, 4, Refused::Version),
            (30, 1, Refused::BadRequest),
            (21, 2, Refused::Unsecure),
            (23, 3, Refused::Unsecure),
        ] {
            let mut packet = conclusion();
            packet[at] = byte;
            assert_eq!(objection(&packet), Some(objects), "{at}");
        }
        assert_eq!(Shake::read(&packet[..63]), None);
    }

    #[test]
    fn a_cookie_is_good_for_one_address_and_a_while() {
        let (cookies, now) = (Cookies::new(), Instant::now());
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let cookie = cookies.bake(one, now);
        assert!(cookies.knows(cookie, one, now + COOKIE_LIFE));
        assert!(!cookies.knows(cookie, one, now + 3 * COOKIE_LIFE));
        assert!(!cookies.knows(cookie, other, now));
    }

    #[test]
    fn who_takes_sends_reports_and_nothing_else() {
        let control = |kind: u8, rest: &[u8]| [&[0x80, kind, 0, 0], &[0; 12][..], rest].concat();
        let range = |first: u32, last: u32| control(3, &[(first | 1 << 31).to_be_bytes(), last.to_be_bytes()].concat());
        for (packet, passes) in [
            (control(1, &[0; 4]), true),
            (control(5, &[]), true),
            (control(2, &[0; 4]), true),
            (control(2, &[0; 28]), true),
            (control(2, &[0; 8]), false),
            (control(2, &[]), false),
            (control(3, &[0, 0, 0, 7]), true),
            (control(3, &[]), false),
            (range(5, 9), true),
            (range(9, 5), false),
            (range(0, 0x7FFF_FFFF), false),
            (control(4, &[0; 4]), false),
            (control(6, &[0; 4]), false),
            (control(8, &[0; 4]), false),
            (vec![0x80, 1], false),
            (vec![0; 1332], false),
        ] {
            assert_eq!(is_takers(&packet), passes, "{packet:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>, kind in 0u8..9) {
            is_takers(&bytes);
            Shake::read(&bytes);
            let mut packet = [vec![0x80, kind, 0, 0], bytes].concat();
            is_takers(&packet);
            packet.resize(SHAKE.max(packet.len()), kind);
            if Shake::read(&packet).is_some() {
                objection(&packet);
                induced(&packet, 1);
                induction_of(&packet);
            }
        }
    }
}
