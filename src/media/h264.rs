//! What can be seen in H.264 without decoding it.

/// An access unit (Annex B) has a slice that is predicted from later pictures, so that pictures leave a
/// decoder in another order than they come: WebRTC has no way to say so.
pub fn has_b_slice(access_unit: &[u8]) -> bool {
    units(access_unit).any(|unit| match unit.first().map(|header| header & 0x1F) {
        // A slice of a non-IDR picture, or its first partition (ITU-T H.264 table 7-1).
        Some(1 | 2) => slice_type(&unit[1..]).is_some_and(|kind| kind % 5 == 1),
        _ => false,
    })
}

/// NAL units, without their start codes.
fn units(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let start = start_code(bytes)?;
        let unit = &bytes[start + 3..];
        // What comes behind is only looked for: a slice's type is at its beginning.
        bytes = unit;
        Some(unit)
    })
}

fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

/// The second number of a slice's header (§7.3.3); the first says where it begins.
fn slice_type(header: &[u8]) -> Option<u32> {
    // Three bytes in a row that look like a start code have a 3 put between them.
    let mut bits = Bits { bytes: header.get(..header.len().min(16))?, at: 0 };
    bits.exp_golomb()?;
    bits.exp_golomb()
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn next(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// ue(v), §9.1.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.next()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        (0..zeros).try_fold(1u32, |value, _| Some(value << 1 | self.next()?)).map(|value| value - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// first_mb_in_slice 0 is the bit 1; slice types 0, 1, 5, 6, 7 are 1, 010, 00110, 00111, 0001000.
    #[test]
    fn b_slices_are_told_from_others() {
        let unit = |header: u8, bits: u8| [0, 0, 0, 1, header, bits, 0x80].to_vec();
        assert!(!has_b_slice(&unit(0x41, 0b1100_0000)), "P");
        assert!(has_b_slice(&unit(0x01, 0b1010_0000)), "B");
        assert!(!has_b_slice(&unit(0x41, 0b1001_1000)), "all P");
        assert!(has_b_slice(&unit(0x01, 0b1001_1100)), "all B");
        assert!(!has_b_slice(&unit(0x65, 0b1000_1000)), "I, of an IDR");
        let two = [unit(0x09, 0xF0), unit(0x41, 0b1100_0000), unit(0x01, 0b1010_0000)].concat();
        assert!(has_b_slice(&two));
        assert!(!has_b_slice(&[0, 0, 1]));
        assert!(!has_b_slice(&[0, 0, 1, 1]));
        assert!(!has_b_slice(&[0, 0, 1, 1, 0, 0, 0, 0, 0]));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            has_b_slice(&bytes);
        }
    }
}
