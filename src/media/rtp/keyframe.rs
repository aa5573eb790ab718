//! Seeing in a payload whether a decoder can begin with it.

use crate::media::CodecName;

/// A decoder that knows nothing can begin with this payload. Audio always can.
pub fn starts_keyframe(codec: CodecName, payload: &[u8]) -> bool {
    match codec {
        CodecName::Opus | CodecName::Pcmu | CodecName::Pcma => true,
        CodecName::Vp8 => vp8_starts_keyframe(payload).unwrap_or(false),
        CodecName::Vp9 => vp9_starts_keyframe(payload).unwrap_or(false),
        CodecName::H264 => h264_starts_keyframe(payload).unwrap_or(false),
        // The N bit: first packet of a coded video sequence (AV1 payload format §4.4); Z would mean
        // that it goes on with a unit of the packet before.
        CodecName::Av1 => payload.first().is_some_and(|header| header & 0x88 == 0x08),
    }
}

/// RFC 7741 §4.2 and §4.3: start of partition 0, and the P bit of the frame's header is 0.
fn vp8_starts_keyframe(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    if first & 0x10 == 0 || first & 0x07 != 0 {
        return Some(false);
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let flags = *payload.get(at)?;
        at += 1;
        if flags & 0x80 != 0 {
            at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(flags & 0x40 != 0) + usize::from(flags & 0x30 != 0);
    }
    Some(*payload.get(at)? & 0x01 == 0)
}

/// RFC 9628 §4.2: begin of a frame (B) that is not predicted from another picture (P), in the base
/// spatial layer.
fn vp9_starts_keyframe(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    if first & 0x08 == 0 || first & 0x40 != 0 {
        return Some(false);
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let base = first & 0x20 == 0 || (*payload.get(at)? >> 1) & 0x07 == 0;
    Some(base)
}

/// RFC 6184 §5.4 to §5.8: an IDR slice or a sequence parameter set, alone, in a STAP-A, or as the
/// first fragment of an FU-A.
fn h264_starts_keyframe(payload: &[u8]) -> Option<bool> {
    let begins = |unit: u8| matches!(unit & 0x1F, 5 | 7);
    match payload.first()? & 0x1F {
        24 => {
            let mut units = payload.get(1..)?;
            while let Some((length, rest)) = units.split_at_checked(2) {
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                let (unit, rest) = rest.split_at_checked(length)?;
                if begins(*unit.first()?) {
                    return Some(true);
                }
                units = rest;
            }
            Some(false)
        }
        28 => payload.get(1).map(|header| header & 0x80 != 0 && begins(*header)),
        _ => Some(begins(payload[0])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_recognised() {
        use CodecName::{Av1, H264, Opus, Vp8, Vp9};
        let cases: [(CodecName, &[u8], bool); 23] = [
            (Opus, &[0xFC], true),
            (Vp8, &[0x10, 0x00], true),
            (Vp8, &[0x10, 0x01], false),
            (Vp8, &[0x00, 0x00], false),
            (Vp8, &[0x11, 0x00], false),
            (Vp8, &[0x90, 0x80, 0x81, 0x02, 0x50], true),
            (Vp8, &[0x90, 0xF0, 0x11, 0x00, 0x20, 0x51], false),
            (Vp8, &[0x90, 0x80, 0x81], false),
            (Vp9, &[0x8B, 0x81, 0x02], true),
            (Vp9, &[0xCB, 0x81, 0x02], false),
            (Vp9, &[0xAB, 0x01, 0x00], true),
            (Vp9, &[0xAB, 0x01, 0x02], false),
            (Vp9, &[0x80, 0x01], false),
            (H264, &[0x67, 0x42], true),
            (H264, &[0x65, 0x88], true),
            (H264, &[0x41, 0x9A], false),
            (H264, &[0x78, 0, 1, 0x09, 0, 2, 0x67, 0x42], true),
            (H264, &[0x78, 0, 2, 0x41, 0x00, 0, 9, 0x67], false),
            (H264, &[0x7C, 0x85, 1], true),
            (H264, &[0x7C, 0x05, 1], false),
            (Av1, &[0x18, 0x0A], true),
            (Av1, &[0x98, 0x0A], false),
            (Av1, &[0x10, 0x32], false),
        ];
        for (codec, payload, expected) in cases {
            assert_eq!(starts_keyframe(codec, payload), expected, "{codec:?} {payload:02x?}");
            assert_eq!(starts_keyframe(codec, &[]), codec == Opus);
        }
    }
}
