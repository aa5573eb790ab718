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

/// Width and height in pixels, as a sequence parameter set (with its header) has them. `None` if it is none, or of a
/// kind that WebRTC does not use.
pub fn size(parameters: &[u8]) -> Option<(u32, u32)> {
    /// Those with further fields (§7.3.2.1.1).
    const HIGH: [u8; 4] = [100, 110, 122, 244];
    let (header, rest) = parameters.split_first()?;
    if header & 0x1F != 7 {
        return None;
    }
    let bytes = without_emulation(rest.get(..rest.len().min(64))?);
    // Of 4:2:0; of black and white, the macroblocks' size is told.
    let mut crops = true;
    let profile = *bytes.first()?;
    let mut bits = Bits { bytes: bytes.get(3..)?, at: 0 };
    bits.exp_golomb()?;
    if HIGH.contains(&profile) {
        let chroma = bits.exp_golomb()?;
        if chroma == 3 {
            return None;
        }
        crops = chroma == 1;
        bits.exp_golomb()?;
        bits.exp_golomb()?;
        bits.next()?;
        if bits.next()? == 1 {
            // Scaling matrices.
            return None;
        }
    }
    bits.exp_golomb()?;
    match bits.exp_golomb()? {
        0 => drop(bits.exp_golomb()?),
        2 => {}
        _ => return None,
    }
    bits.exp_golomb()?;
    bits.next()?;
    let width = bits.exp_golomb()?.checked_add(1)?.checked_mul(16)?;
    let units = bits.exp_golomb()?.checked_add(1)?;
    let fields = 2 - bits.next()?;
    let height = units.checked_mul(16)?.checked_mul(fields)?;
    if fields == 2 {
        bits.next()?;
    }
    bits.next()?;
    if !crops || bits.next()? == 0 {
        return Some((width, height));
    }
    let mut side = || bits.exp_golomb();
    let (left, right, top, bottom) = (side()?, side()?, side()?, side()?);
    let width = width.checked_sub(left.checked_add(right)?.checked_mul(2)?)?;
    Some((width, height.checked_sub(top.checked_add(bottom)?.checked_mul(2 * fields)?)?))
}

/// Without the 3 that is put between bytes that look like a start code (§7.3.1).
fn without_emulation(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for byte in bytes {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
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

    #[test]
    fn the_size_is_in_the_parameters() {
        // x264, baseline 1280×720; High, 640×360 (cropped from 368 lines).
        let baseline = [0x67, 0x42, 0xC0, 0x1F, 0xD9, 0x00, 0x50, 0x05, 0xBB, 0x01, 0x10, 0, 0, 3, 0, 0x10];
        assert_eq!(size(&baseline), Some((1280, 720)));
        let high = [0x67, 0x64, 0x00, 0x1E, 0xAC, 0xD9, 0x40, 0xA0, 0x2F, 0xF9, 0x61, 0x00, 0, 3, 0, 1];
        assert_eq!(size(&high), Some((640, 360)));
        assert_eq!(size(&[0x68, 0x42, 0xC0, 0x1F]), None);
        assert_eq!(size(&baseline[..6]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            has_b_slice(&bytes);
            let _ = size(&bytes);
            let _ = size(&[&[0x67], bytes.as_slice()].concat());
        }
    }
}
