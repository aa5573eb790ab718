//! The descriptor that VP8 packets begin with (RFC 7741 §4.2), as far as forwarding has to do with it; VP9's says the
//! same.

/// Where what is numbered stands in a payload, and the size of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Place and value of the picture's number, and whether it has 15 bits, not 7.
    pub picture: Option<(usize, u16, bool)>,
    /// Place and value of TL0PICIDX, the number of the picture in the lowest temporal layer.
    pub base: Option<(usize, u8)>,
    /// The picture's temporal layer; 0 where there are none.
    pub temporal: u8,
    /// Width and height, where a keyframe begins.
    pub size: Option<(u32, u32)>,
}

/// Reads a payload; `None` if it is cut off.
pub fn descriptor(payload: &[u8]) -> Option<Descriptor> {
    let mut found = Descriptor::default();
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let flags = *payload.get(at)?;
        at += 1;
        if flags & 0x80 != 0 {
            let high = *payload.get(at)?;
            let is_long = high & 0x80 != 0;
            let low = if is_long { *payload.get(at + 1)? } else { 0 };
            let short = u16::from(high & 0x7F);
            found.picture = Some((at, if is_long { short << 8 | u16::from(low) } else { short }, is_long));
            at += 1 + usize::from(is_long);
        }
        if flags & 0x40 != 0 {
            found.base = Some((at, *payload.get(at)?));
            at += 1;
        }
        if flags & 0x30 != 0 {
            let layer = *payload.get(at)? >> 6;
            found.temporal = if flags & 0x20 != 0 { layer } else { 0 };
            at += 1;
        }
    }
    let frame = payload.get(at..)?;
    let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
    if starts_frame && frame.first()? & 1 == 0 {
        // A frame tag of three bytes, a start code, and 14 bits each (RFC 6386 §9.1).
        if let Some([_, _, _, 0x9D, 0x01, 0x2A, w, wh, h, hh]) = frame.first_chunk() {
            let number = |low: &u8, high: &u8| u32::from(u16::from_le_bytes([*low, *high]) & 0x3FFF);
            found.size = Some((number(w, wh), number(h, hh)));
        }
    }
    Some(found)
}

impl Descriptor {
    /// Writes other numbers into the payload that it was read from, and gives them as they stand there then.
    pub fn renumber(&self, payload: &mut [u8], pictures: u16, bases: u8) {
        if let Some((at, value, is_long)) = self.picture {
            let value = value.wrapping_add(pictures);
            match (is_long, payload.get_mut(at..)) {
                (true, Some([high, low, ..])) => [*high, *low] = (value | 0x8000).to_be_bytes(),
                (false, Some([short, ..])) => *short = (value & 0x7F) as u8,
                _ => {}
            }
        }
        if let Some((at, value)) = self.base
            && let Some(byte) = payload.get_mut(at)
        {
            *byte = value.wrapping_add(bases);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A keyframe of 640×360, picture 300, base 7, in temporal layer 0.
    const KEYFRAME: [u8; 16] = [0x90, 0xE0, 0x81, 0x2C, 7, 0, 0x10, 0, 0, 0x9D, 1, 0x2A, 0x80, 2, 0x68, 1];

    #[test]
    fn numbers_and_size_are_read_and_written() {
        let read = descriptor(&KEYFRAME).unwrap();
        let picture = Some((2, 300, true));
        let expected = Descriptor { picture, base: Some((4, 7)), temporal: 0, size: Some((640, 360)) };
        assert_eq!(read, expected);
        let mut payload = KEYFRAME;
        read.renumber(&mut payload, 0x7FFF - 299, 250);
        let again = descriptor(&payload).unwrap();
        assert_eq!((again.picture, again.base), (Some((2, 0, true)), Some((4, 1))));
        assert_eq!(payload[5..], KEYFRAME[5..]);
        let mut short = [0x80, 0x80, 0x7F, 1];
        descriptor(&short).unwrap().renumber(&mut short, 2, 9);
        assert_eq!(short, [0x80, 0x80, 1, 1]);
        assert_eq!(descriptor(&[0x10, 0x01]), Some(Descriptor::default()), "without numbers");
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
