//! What publishers send: two seconds of picture (VP8, 640×360 at 25 fps, 600 kbit/s) and sound (Opus, a tone of 440 Hz)
//! that lie encoded in this binary, over and over. Only the first picture is a keyframe: who asks for one gets that.

use std::{
    io::Cursor,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

/// Between two pictures.
pub const PICTURE: Duration = Duration::from_millis(40);
/// Between two packets of sound.
pub const SOUND: Duration = Duration::from_millis(20);

/// Ends each picture. A VP8 decoder does not read behind the last coefficient.
const MARK: &[u8; 4] = b"SLNl";
/// Keyframe or not, microseconds, the mark.
const STAMP: usize = 1 + 8 + 4;

/// Stamps count from here.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Encoded pictures and sounds.
#[derive(Debug)]
pub struct Clip {
    /// VP8 frames; the first is a keyframe.
    pub pictures: Vec<Vec<u8>>,
    /// Opus packets of 20 ms.
    pub sounds: Vec<Arc<[u8]>>,
}

/// The one clip.
pub static CLIP: LazyLock<Clip> = LazyLock::new(|| Clip {
    pictures: pictures(include_bytes!("../media/picture.ivf")),
    sounds: sounds(include_bytes!("../media/tone.ogg")),
});

/// When a picture was sent, and whether it is one that decoding can begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Since a moment of this process.
    pub sent: Duration,
    /// Nothing before it is needed.
    pub is_keyframe: bool,
}

impl Stamp {
    /// Of a picture that is sent now.
    pub fn now(is_keyframe: bool) -> Self {
        Self { sent: BEGAN.elapsed(), is_keyframe }
    }

    /// The picture with this at its end.
    pub fn put(self, picture: &[u8]) -> Vec<u8> {
        let micros = self.sent.as_micros() as u64;
        [picture, &[self.is_keyframe.into()], &micros.to_be_bytes(), MARK].concat()
    }

    /// What is at the end of a picture's last packet, if it comes from here.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (_, stamp) = packet.split_at_checked(packet.len().checked_sub(STAMP)?)?;
        let (key, rest) = stamp.split_first()?;
        let (micros, mark) = rest.split_first_chunk()?;
        let sent = Duration::from_micros(u64::from_be_bytes(*micros));
        (mark == MARK).then_some(Self { sent, is_keyframe: *key == 1 })
    }

    /// For how long it has been under way.
    pub fn age(self) -> Duration {
        BEGAN.elapsed().saturating_sub(self.sent)
    }
}

/// IVF: a header of 32 bytes; before each frame its length in four bytes and a time in eight.
fn pictures(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file.get(32..).unwrap_or_default();
    let mut pictures = Vec::new();
    while let Some((head, behind)) = rest.split_at_checked(12) {
        let length = head.iter().take(4).rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let Some((picture, next)) = behind.split_at_checked(length) else { break };
        pictures.push(picture.to_vec());
        rest = next;
    }
    pictures
}

/// The packets behind Opus' two headers (RFC 7845 §3).
fn sounds(file: &'static [u8]) -> Vec<Arc<[u8]>> {
    let mut reader = ogg::PacketReader::new(Cursor::new(file));
    let packets = std::iter::from_fn(|| reader.read_packet().ok().flatten());
    packets.skip(2).map(|packet| packet.data.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_two_seconds_that_begin_with_a_keyframe() {
        assert_eq!(CLIP.pictures.len(), 50);
        // RFC 6386 §9.1: the lowest bit is 0 in keyframes.
        let keys: Vec<bool> = CLIP.pictures.iter().map(|picture| picture[0] & 1 == 0).collect();
        assert!(keys[0] && !keys[1..].contains(&true));
        assert!((99..=102).contains(&CLIP.sounds.len()), "{}", CLIP.sounds.len());
    }

    #[test]
    fn a_stamp_is_read_where_it_was_put() {
        let stamp = Stamp { sent: Duration::from_micros(123_456), is_keyframe: true };
        assert_eq!(Stamp::of(&stamp.put(&[1, 2, 3])), Some(stamp));
        for other in [&[][..], b"SLNl", &[7; 40]] {
            assert_eq!(Stamp::of(other), None);
        }
    }
}
