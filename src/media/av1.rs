//! AV1 out of RTP ("RTP Payload Format For AV1", AOMedia 2021, §4): the temporal units of a track, as decoders and
//! files take them. GStreamer 1.22 has no depayloader for it.

use rtp_types::RtpPacket;

/// A temporal delimiter (AV1 §5.6), which begins every unit of a file and no packet.
const DELIMITER: [u8; 2] = [0x12, 0x00];
const HAS_EXTENSION: u8 = 0b100;
const HAS_SIZE: u8 = 0b10;
/// Larger is no picture.
const MOST_BYTES: usize = 16 << 20;

/// Puts units together from packets in order.
#[derive(Debug, Default)]
pub struct Assembler {
    /// Whole OBUs of the unit that is coming.
    unit: Vec<u8>,
    /// An OBU that goes on in the next packet.
    begun: Vec<u8>,
    /// Something of the unit that is coming was lost.
    is_broken: bool,
    next: Option<u16>,
}

/// What a packet brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// It does not end one.
    Coming,
    /// A whole temporal unit, every OBU with its size.
    Whole(Vec<u8>),
    /// One that cannot be put together: a packet was lost, or is damaged.
    Lost,
}

impl Assembler {
    /// Takes an RTP packet.
    pub fn take(&mut self, packet: &[u8]) -> Unit {
        let Ok(packet) = RtpPacket::parse(packet) else { return Unit::Coming };
        let sequence = packet.sequence_number();
        if self.next.is_some_and(|next| next != sequence) {
            self.is_broken = true;
        }
        self.next = Some(sequence.wrapping_add(1));
        if !self.is_broken && self.elements(packet.payload()).is_none() {
            self.is_broken = true;
        }
        if !packet.marker_bit() {
            return Unit::Coming;
        }
        let is_whole = !self.is_broken && self.begun.is_empty() && !self.unit.is_empty();
        let unit = std::mem::take(&mut self.unit);
        self.begun.clear();
        self.is_broken = false;
        if is_whole { Unit::Whole(DELIMITER.into_iter().chain(unit).collect()) } else { Unit::Lost }
    }

    /// Takes a packet's OBUs and parts of OBUs; `None` if it is damaged.
    fn elements(&mut self, payload: &[u8]) -> Option<()> {
        let (&head, mut rest) = payload.split_first()?;
        let (goes_on, will_go_on, count) = (head & 0x80 != 0, head & 0x40 != 0, usize::from(head >> 4 & 3));
        if goes_on == self.begun.is_empty() {
            return None;
        }
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            // Of so many the last says no size.
            let size = if index == count { rest.len() } else { leb128(&mut rest)? };
            let (element, behind) = rest.split_at_checked(size)?;
            if self.begun.len() + self.unit.len() + element.len() > MOST_BYTES {
                return None;
            }
            self.begun.extend_from_slice(element);
            rest = behind;
            if !(rest.is_empty() && will_go_on) {
                let obu = std::mem::take(&mut self.begun);
                self.add(&obu)?;
            }
        }
        Some(())
    }

    /// Adds an OBU with its size (AV1 §5.3): packets leave that out.
    fn add(&mut self, obu: &[u8]) -> Option<()> {
        let (&head, mut body) = obu.split_first()?;
        let (kind, mut extension) = (head >> 3 & 0xF, None);
        if head & HAS_EXTENSION != 0 {
            let (first, rest) = body.split_first()?;
            (extension, body) = (Some(*first), rest);
        }
        if head & HAS_SIZE != 0 {
            let size = leb128(&mut body)?;
            body = body.get(..size)?;
        }
        // Delimiters are ours to write, and lists of tiles have no place in packets.
        if kind == 2 || kind == 8 {
            return Some(());
        }
        self.unit.push(head | HAS_SIZE);
        self.unit.extend(extension);
        let mut size = body.len();
        while size >= 0x80 {
            self.unit.push(size as u8 | 0x80);
            size >>= 7;
        }
        self.unit.push(size as u8);
        self.unit.extend_from_slice(body);
        Some(())
    }
}

/// What files say of a track once (AV1CodecConfigurationRecord, "AV1 Codec ISO Media File Format Binding" §2.3), from
/// a temporal unit that begins with a sequence header; `None` if none does. `chroma`: as `4:2:0`, or `4:0:0`.
pub fn config_record(unit: &[u8], bit_depth: u32, chroma: &str) -> Option<Vec<u8>> {
    let header = sequence_header(unit)?;
    let mut bits = Bits::new(header.body);
    let profile = bits.take(3)?;
    let (level, tier) = level_and_tier(&mut bits)?;
    let [deep, twelve] = [bit_depth > 8, bit_depth > 10].map(u8::from);
    let (mono, narrow, flat) = match chroma {
        "4:0:0" => (1, 1, 1),
        "4:4:4" => (0, 0, 0),
        "4:2:2" => (0, 1, 0),
        _ => (0, 1, 1),
    };
    let formats = (tier as u8) << 7 | deep << 6 | twelve << 5 | mono << 4 | narrow << 3 | flat << 2;
    let head = [0x81, (profile as u8) << 5 | level as u8, formats, 0];
    Some(head.into_iter().chain(header.whole.iter().copied()).collect())
}

struct Obu<'a> {
    whole: &'a [u8],
    body: &'a [u8],
}

fn sequence_header(mut unit: &[u8]) -> Option<Obu<'_>> {
    while let Some(&head) = unit.first() {
        let start = if head & HAS_EXTENSION != 0 { 2 } else { 1 };
        let mut rest = unit.get(start..)?;
        let size = if head & HAS_SIZE != 0 { leb128(&mut rest)? } else { rest.len() };
        let (body, behind) = rest.split_at_checked(size)?;
        if head >> 3 & 0xF == 1 {
            return Some(Obu { whole: &unit[..unit.len() - behind.len()], body });
        }
        unit = behind;
    }
    None
}

/// Width and height of the pictures, at most, as the sequence header has them that a packet's payload begins with;
/// `None` if it begins with none.
pub fn size(payload: &[u8]) -> Option<(u32, u32)> {
    let (&head, mut rest) = payload.split_first()?;
    // It begins with the rest of another (Z).
    if head & 0x80 != 0 {
        return None;
    }
    let length = if head >> 4 & 3 == 1 { rest.len() } else { leb128(&mut rest)? };
    let header = sequence_header(rest.get(..length)?)?;
    let mut bits = Bits::new(header.body);
    // The profile, and whether it is of a still picture.
    bits.skip(3 + 1);
    if bits.take(1)? == 1 {
        bits.skip(5);
    } else {
        skip_operating_points(&mut bits)?;
    }
    let (width, height) = (bits.take(4)? as usize + 1, bits.take(4)? as usize + 1);
    Some((bits.take(width)? + 1, bits.take(height)? + 1))
}

/// All of them, and what stands before them (AV1 §5.5.1).
fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = 0;
    if bits.take(1)? == 1 {
        bits.skip(64);
        if bits.take(1)? == 1 {
            bits.skip_uvlc()?;
        }
        if bits.take(1)? == 1 {
            delay_bits = bits.take(5)? as usize + 1;
            bits.skip(32 + 5 + 5);
        }
    }
    let has_delays = bits.take(1)? == 1;
    for _ in 0..=bits.take(5)? {
        bits.skip(12);
        if bits.take(5)? > 7 {
            bits.skip(1);
        }
        if delay_bits > 0 && bits.take(1)? == 1 {
            bits.skip(2 * delay_bits + 1);
        }
        if has_delays && bits.take(1)? == 1 {
            bits.skip(4);
        }
    }
    Some(())
}

/// Of the first operating point (AV1 §5.5.1), behind the profile.
fn level_and_tier(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    let _still_picture = bits.take(1)?;
    if bits.take(1)? == 1 {
        return Some((bits.take(5)?, 0));
    }
    if bits.take(1)? == 1 {
        bits.skip(64);
        if bits.take(1)? == 1 {
            bits.skip_uvlc()?;
        }
        if bits.take(1)? == 1 {
            bits.skip(5 + 32 + 5 + 5);
        }
    }
    // Whether display delays are there, how many operating points, which layers the first is of.
    bits.skip(1 + 5 + 12);
    let level = bits.take(5)?;
    Some((level, if level > 7 { bits.take(1)? } else { 0 }))
}

/// Reads bits, highest first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A number of so many bits; `None` if there are not so many.
    pub(super) fn take(&mut self, count: usize) -> Option<u32> {
        let bit = |at: usize| Some(u32::from(self.bytes.get(at / 8)? >> (7 - at % 8) & 1));
        let value = (self.at..self.at + count).try_fold(0, |value, at| Some(value << 1 | bit(at)?));
        self.at += count;
        value
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    fn skip_uvlc(&mut self) -> Option<()> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
        }
        self.skip(zeros);
        Some(())
    }
}

/// Takes a number off the front (AV1 §4.10.5); what does not fit 32 bits is none.
fn leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in 0..5 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << (7 * shift);
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| value as usize);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rtp_types::RtpPacketBuilder;

    use super::*;

    fn packet(sequence: u16, marker: bool, payload: &[u8]) -> Vec<u8> {
        let packet = RtpPacketBuilder::new().payload_type(99).sequence_number(sequence).marker_bit(marker);
        packet.payload(payload).write_vec().unwrap()
    }

    #[test]
    fn obus_are_put_together_and_get_their_sizes() {
        let mut assembler = Assembler::default();
        // W=2: a sequence header with its length, then the beginning of a frame.
        assert_eq!(assembler.take(&packet(65_535, false, &[0x60, 3, 0x08, 1, 2, 0x30, 10, 11])), Unit::Coming);
        // Z and Y: its middle; then Z: its end, and W=0: a padding of one byte with an extension.
        assert_eq!(assembler.take(&packet(0, false, &[0xD0, 12, 13])), Unit::Coming);
        let whole = assembler.take(&packet(1, true, &[0x80, 1, 14, 3, 0x7C, 0x20, 9]));
        let expected = vec![0x12, 0, 0x0A, 2, 1, 2, 0x32, 5, 10, 11, 12, 13, 14, 0x7E, 0x20, 1, 9];
        assert_eq!(whole, Unit::Whole(expected));
        // Sizes that are there are taken as they are, delimiters are left out.
        let sized = assembler.take(&packet(2, true, &[0x20, 2, 0x12, 0, 0x32, 1, 7]));
        assert_eq!(sized, Unit::Whole(vec![0x12, 0, 0x32, 1, 7]));
    }

    #[test]
    fn the_size_is_in_the_sequence_header() {
        let plain = [0, 0, 0, 0x24, 0xC4, 0xFF, 0x67];
        // With times, a model of the decoder, delays, and two operating points.
        let long = [
            0x04, 0, 0, 0, 0x04, 0, 0, 0, 0x7B, 0x90, 0, 0, 0, 0x04, 0x63, 0x84, 0, 0x13, 0x94, 0xD9, 0x80, 0x01, 0x09,
            0x89, 0xFE, 0xCE,
        ];
        // Alone; with a length, before a frame.
        assert_eq!(size(&[[0x18, 0x08].as_slice(), &plain].concat()), Some((640, 360)));
        let before_frame = [[0x28, 27, 0x08].as_slice(), &long, &[0x30, 1]].concat();
        assert_eq!(size(&before_frame), Some((640, 360)));
        assert_eq!(size(&[[0x98, 0x08].as_slice(), &plain].concat()), None, "the end of another");
        assert_eq!(size(&[0x10, 0x30, 1, 2]), None, "a frame");
        assert_eq!(size(&before_frame[..20]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_payload_does_harm(bytes: Vec<u8>) {
            let _ = size(&bytes);
            let _ = size(&[&[0x18, 0x08], bytes.as_slice()].concat());
        }
    }

    #[test]
    fn what_lacks_a_packet_is_lost_and_the_next_is_not() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(&packet(1, false, &[0x50, 0x30, 1])), Unit::Coming);
        assert_eq!(assembler.take(&packet(3, true, &[0x90, 2])), Unit::Lost);
        assert_eq!(assembler.take(&packet(4, true, &[0x10, 0x30, 3])), Unit::Whole(vec![0x12, 0, 0x32, 1, 3]));
        // It says that it goes on from a packet that did not say so.
        assert_eq!(assembler.take(&packet(5, true, &[0x90, 2])), Unit::Lost);
        for damaged in [&[][..], &[0x00, 9, 1], &[0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], &[0x20, 1]] {
            assert_eq!(assembler.take(&packet(6, true, damaged)), Unit::Lost, "{damaged:?}");
            assembler.next = None;
        }
        assert_eq!(assembler.take(b"not RTP"), Unit::Coming);
    }

    #[test]
    fn a_sequence_header_becomes_what_files_say_once() {
        // Of libaom: main profile, level 2.0, 8 bit 4:2:0.
        let header = [0x0A, 0x0B, 0x00, 0x00, 0x00, 0x04, 0x47, 0x7E, 0x68, 0x3F, 0xFC, 0xC0, 0x44];
        let unit = [&[0x12, 0x00][..], &header, &[0x32, 0x01, 0x10]].concat();
        let record = config_record(&unit, 8, "4:2:0").unwrap();
        assert_eq!(record, [&[0x81, 0x00, 0x0C, 0x00][..], &header].concat());
        let deep = config_record(&unit, 10, "4:4:4").unwrap();
        assert_eq!(deep[2], 0x40);
        for length in 0..unit.len() {
            let _ = config_record(&unit[..length], 8, "4:2:0");
        }
        assert_eq!(config_record(&[0x12, 0x00, 0x32, 0x01, 0x10], 8, "4:2:0"), None);
    }

    #[test]
    fn no_bytes_make_it_fall_over() {
        let mut assembler = Assembler::default();
        for round in 0..20_000u16 {
            let payload: Vec<u8> = (0..rand::random_range(0..40)).map(|_| rand::random()).collect();
            assembler.take(&packet(round, rand::random(), &payload));
            let _ = config_record(&payload, 8, "4:2:0");
        }
    }
}
