//! The descriptor that VP9 packets begin with (RFC 9628 §4.2), as far as forwarding has to do with it.

use super::vp8::Descriptor;

/// Reads a payload; `None` if it is cut off.
pub fn descriptor(payload: &[u8]) -> Option<Descriptor> {
    let mut found = Descriptor::default();
    let first = *payload.first()?;
    let has = |flag: u8| first & flag != 0;
    let (has_picture, predicted, has_layer, flexible) = (has(0x80), has(0x40), has(0x20), has(0x10));
    let mut at = 1;
    if has_picture {
        let high = *payload.get(at)?;
        let is_long = high & 0x80 != 0;
        let low = if is_long { *payload.get(at + 1)? } else { 0 };
        let short = u16::from(high & 0x7F);
        found.picture = Some((at, if is_long { short << 8 | u16::from(low) } else { short }, is_long));
        at += 1 + usize::from(is_long);
    }
    let mut spatial = 0;
    if has_layer {
        let layer = *payload.get(at)?;
        (found.temporal, spatial) = (layer >> 5, layer >> 1 & 0x07);
        at += 1;
        if !flexible {
            found.base = Some((at, *payload.get(at)?));
            at += 1;
        }
    }
    if flexible && predicted {
        // At most three pictures that it is made from; the last bit says that another follows.
        for _ in 0..3 {
            at += 1;
            if payload.get(at - 1)? & 1 == 0 {
                break;
            }
        }
    }
    if has(0x02) {
        at = structure(payload, at)?;
    }
    let starts_keyframe = has(0x08) && !predicted && spatial == 0;
    found.size = payload.get(at..).filter(|_| starts_keyframe).and_then(size);
    Some(found)
}

/// Where it goes on behind the scalability structure.
fn structure(payload: &[u8], mut at: usize) -> Option<usize> {
    let head = *payload.get(at)?;
    at += 1;
    if head & 0x10 != 0 {
        at += 4 * (usize::from(head >> 5) + 1);
    }
    if head & 0x08 != 0 {
        let pictures = *payload.get(at)?;
        at += 1;
        for _ in 0..pictures {
            at += 1 + usize::from(*payload.get(at)? >> 2 & 0x03);
        }
    }
    Some(at)
}

/// Width and height in a keyframe's header ("VP9 Bitstream & Decoding Process", §6.2).
fn size(frame: &[u8]) -> Option<(u32, u32)> {
    let mut at = 0;
    let mut take = |count: usize| {
        let bit = |at: usize| Some(u32::from(frame.get(at / 8)? >> (7 - at % 8) & 1));
        let value = (at..at + count).try_fold(0, |value, at| Some(value << 1 | bit(at)?));
        at += count;
        value
    };
    if take(2)? != 2 {
        return None;
    }
    let profile = take(1)? | take(1)? << 1;
    if profile == 3 {
        take(1)?;
    }
    let (shows_another, is_predicted) = (take(1)?, take(1)?);
    // Whether it is shown, and bears errors.
    take(2)?;
    if shows_another == 1 || is_predicted == 1 || take(24)? != 0x49_8342 {
        return None;
    }
    if profile >= 2 {
        take(1)?;
    }
    let (colours, odd) = (take(3)?, profile & 1 == 1);
    match (colours == 7, odd) {
        (false, odd) => take(1 + if odd { 3 } else { 0 })?,
        (true, true) => take(1)?,
        (true, false) => 0,
    };
    Some((take(16)? + 1, take(16)? + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Profile 0, a keyframe that is shown, BT.601, 640×360: 2, 0, 0, 0, 0, 1, 0, 0x498342, 2, 0, 639, 359.
    const FRAME: [u8; 9] = [0x82, 0x49, 0x83, 0x42, 0x40, 0x27, 0xF0, 0x16, 0x70];

    fn payload(descriptor: &[u8]) -> Vec<u8> {
        [descriptor, FRAME.as_slice()].concat()
    }

    #[test]
    fn numbers_and_size_are_read_and_written() {
        // Picture 300, layers 0 and 0, base 7, a structure of one layer of 640×360, and of two pictures.
        let structure = [0x18, 2, 128, 1, 104, 2, 0x04, 1, 0x28, 1, 2];
        let mut whole = payload(&[[0xAA, 0x81, 0x2C, 0, 7].as_slice(), &structure].concat());
        let read = descriptor(&whole).unwrap();
        let expected =
            Descriptor { picture: Some((1, 300, true)), base: Some((4, 7)), temporal: 0, size: Some((640, 360)) };
        assert_eq!(read, expected);
        read.renumber(&mut whole, 5, 250);
        let again = descriptor(&whole).unwrap();
        assert_eq!((again.picture, again.base), (Some((1, 305, true)), Some((4, 1))));
    }

    #[test]
    fn what_is_not_there_is_passed_over() {
        let size = |bytes: &[u8]| descriptor(&payload(bytes)).unwrap().size;
        assert_eq!(size(&[0x08]), Some((640, 360)), "a frame alone");
        assert_eq!(size(&[0x38, 0x00]), Some((640, 360)), "flexible, without a base");
        assert_eq!(size(&[0x28, 0x02, 0]), None, "of the second spatial layer");
        assert_eq!(size(&[0x00]), None, "not its beginning");
        assert_eq!(size(&[0x58, 0x03, 0x02]), None, "made from two others");
        assert_eq!(descriptor(&[0xA0, 0x81, 0x2C, 0x40, 9]).unwrap().temporal, 2);
        assert_eq!(descriptor(&[0xA0, 0x81]), None);
        // Profile 1 has three bits more.
        let odd = [0x08, 0xA2, 0x49, 0x83, 0x42, 0x4C, 0x04, 0xFE, 0x02, 0xCE];
        assert_eq!(descriptor(&odd).unwrap().size, Some((640, 360)));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(mut bytes: Vec<u8>, pictures: u16, bases: u8) {
            if let Some(read) = descriptor(&bytes) {
                read.renumber(&mut bytes, pictures, bases);
            }
        }
    }
}
