//! Seeing in a payload whether its picture can be left out: no other that is kept is made from it.

use super::vp8;
use crate::media::CodecName;

/// The picture is of a higher temporal layer, or no other refers to it. `false` where a payload does not say so: for
/// sound, and for AV1, which says it in a header extension ([`Dependencies`](super::Dependencies)).
pub fn is_disposable(codec: CodecName, payload: &[u8]) -> bool {
    match codec {
        CodecName::Vp8 => vp8::descriptor(payload).is_some_and(|read| read.temporal > 0),
        CodecName::Vp9 => vp9_temporal_layer(payload).is_some_and(|layer| layer > 0),
        CodecName::H264 => h264_is_unreferenced(payload).unwrap_or(false),
        CodecName::Av1 | CodecName::Opus | CodecName::Pcmu | CodecName::Pcma => false,
    }
}

/// RFC 9628 §4.2: the three bits of TID, where there are layer indices (L).
fn vp9_temporal_layer(payload: &[u8]) -> Option<u8> {
    let first = *payload.first()?;
    if first & 0x20 == 0 {
        return None;
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    Some(*payload.get(at)? >> 5)
}

/// RFC 6184 §1.3: `nal_ref_idc` of a slice is 0; alone or in fragments (FU-A), as aggregates hold small things of all
/// kinds.
fn h264_is_unreferenced(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let kind = match first & 0x1F {
        28 => payload.get(1)? & 0x1F,
        kind => kind,
    };
    Some(first & 0x60 == 0 && kind == 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pictures_that_nothing_refers_to_are_recognised() {
        use CodecName::{Av1, H264, Opus, Vp8, Vp9};
        let cases: [(CodecName, &[u8], bool); 13] = [
            (Vp8, &[0x90, 0xE0, 0x81, 0x2C, 7, 0x40, 0x11], true),
            (Vp8, &[0x90, 0xE0, 0x81, 0x2C, 7, 0x00, 0x11], false),
            (Vp8, &[0x90, 0x80, 0x01, 0x11], false),
            (Vp8, &[0x10, 0x11], false),
            (Vp9, &[0xA8, 0x01, 0x20], true),
            (Vp9, &[0xA8, 0x81, 0x01, 0x00], false),
            (Vp9, &[0x88, 0x01, 0xFF], false),
            (H264, &[0x01, 0x9A], true),
            (H264, &[0x41, 0x9A], false),
            (H264, &[0x1C, 0x81], true),
            (H264, &[0x06, 0x05], false),
            (Av1, &[0x10, 0x32], false),
            (Opus, &[0xFC], false),
        ];
        for (codec, payload, expected) in cases {
            assert_eq!(is_disposable(codec, payload), expected, "{codec:?} {payload:02x?}");
            assert!(!is_disposable(codec, &[]));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            for codec in CodecName::ALL {
                is_disposable(codec, &bytes);
            }
        }
    }
}
