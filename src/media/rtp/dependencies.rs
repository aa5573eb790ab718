//! The dependency descriptor ("RTP Payload Format For AV1", AOMedia 2021, appendix A): a header extension by which
//! browsers tell what a picture of AV1 is made from. Without it they show nothing of a stream that has layers.

use crate::media::av1::Bits;

/// The bytes that each has: two flags, a template, the frame's number.
const FIXED: usize = 3;
/// Numbers of templates go around here.
const TEMPLATES: u32 = 64;

/// A packet's descriptor, as its publisher wrote it: 3 to 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependencies(Box<[u8]>);

impl Dependencies {
    /// `None` if so many bytes are none.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (FIXED..=255).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// As it goes into a header extension.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The frame's number. Later ones are higher, not always by one.
    pub fn frame(&self) -> u16 {
        u16::from_be_bytes([self.0[1], self.0[2]])
    }

    /// The same with another number.
    #[must_use]
    pub fn with_frame(&self, frame: u16) -> Self {
        let mut bytes = self.0.clone();
        bytes[1..FIXED].copy_from_slice(&frame.to_be_bytes());
        Self(bytes)
    }

    /// If it says what its stream is made of, as with a keyframe: the templates of higher temporal layers, a bit for
    /// each.
    pub fn higher_templates(&self) -> Option<u64> {
        let mut bits = Bits::new(self.0.get(FIXED..)?);
        let has_structure = bits.take(1)? == 1;
        // What else there is.
        bits.skip(4);
        if !has_structure {
            return None;
        }
        let first = bits.take(6)?;
        // How many targets can be decoded.
        bits.skip(5);
        let (mut higher, mut temporal) = (0, 0u32);
        for index in 0..TEMPLATES {
            if temporal > 0 {
                higher |= 1 << ((first + index) % TEMPLATES);
            }
            match bits.take(2)? {
                0 => {}
                1 => temporal += 1,
                2 => temporal = 0,
                _ => return Some(higher),
            }
        }
        None
    }

    /// The frame's template is among those, a bit for each.
    pub fn is_of(&self, templates: u64) -> bool {
        templates >> (self.0[0] & 0x3F) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Dependencies {
        Dependencies::new(bytes).unwrap()
    }

    #[test]
    fn the_number_alone_changes() {
        let changed = read(&[0x81, 0xFF, 0xFF, 7]).with_frame(0);
        assert_eq!((changed.frame(), changed.bytes()), (0, &[0x81, 0, 0, 7][..]));
        assert_eq!(read(&[0x81, 0xFF, 0xFE]).frame(), 65_534);
        assert_eq!(
            [2, 3, 255, 256].map(|length| Dependencies::new(&vec![0; length]).is_some()),
            [false, true, true, false]
        );
    }

    #[test]
    fn templates_of_higher_temporal_layers_are_known() {
        // A structure, from template 62 on; two targets; layers S0T0, S0T0, S0T1, S1T0, S1T1, and no more:
        // 1_0000 111110 00001 00 01 10 01 11.
        let keyframe = read(&[0xC0, 0, 1, 0b1000_0111, 0b1100_0001, 0b0001_1001, 0b1100_0000]);
        let higher = keyframe.higher_templates().unwrap();
        assert_eq!(higher, 1 << 0 | 1 << 2);
        assert_eq!(
            [62, 63, 0, 1, 2].map(|template| read(&[template, 0, 2]).is_of(higher)),
            [false, false, true, false, true]
        );
        assert_eq!(read(&[0xC0, 0, 2]).higher_templates(), None);
        assert_eq!(read(&[0xC0, 0, 2, 0x70]).higher_templates(), None, "it has other things");
        assert_eq!(read(&keyframe.bytes()[..6]).higher_templates(), None, "cut off");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            if let Some(read) = Dependencies::new(&bytes) {
                let _ = read.is_of(read.higher_templates().unwrap_or_default());
            }
        }
    }
}
