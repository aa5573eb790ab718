//! RTP packets as Salon forwards them: pure functions over bytes.

use rand::Rng;

use super::CodecName;

/// The number under which RFC 6464 audio levels leave Salon.
pub const AUDIO_LEVEL_ID: u8 = 1;

/// The payload number under which a codec leaves Salon.
pub fn payload_number(codec: CodecName) -> u8 {
    match codec {
        CodecName::Opus => 111,
        CodecName::Vp8 => 96,
        CodecName::Vp9 => 98,
        CodecName::H264 => 102,
        CodecName::Av1 => 104,
    }
}

/// An SSRC for a new track: random (RFC 3550 §8.1), never 0.
pub fn random_ssrc() -> u32 {
    rand::rng().random_range(1..=u32::MAX)
}
