//! The layers of one picture (simulcast), and streams that are each made of one of them at a time.
//!
//! Every layer has numbers of its own. What is made of them has one numbering: it changes over at a keyframe, and
//! viewers notice another size and nothing else.

use std::time::Duration;

use rtp_types::RtpPacket;

use super::{Gaps, dependencies, descriptor, floor::Floor, renumber_dependencies};
use crate::media::{CodecName, av1, h264};

/// A layer of which nothing came for so long while others sent pictures is at rest: senders stop the largest when the
/// network does not bear it.
const AT_REST_AFTER: Duration = Duration::from_secs(1);
/// So many pictures; a source of one picture a second sends its layers one after the other.
const AT_REST_PICTURES: u32 = 4;
/// Packets of one layer that are so far apart are of two pictures.
const PICTURE_GAP: Duration = Duration::from_millis(5);
/// A keyframe to change over at that did not come is asked for again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is known of the layers.
#[derive(Clone, Debug)]
pub struct Layers(Vec<Layer>);

#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    /// Width and height, once a keyframe was there.
    size: Option<(u32, u32)>,
    heard: Option<Duration>,
    /// Pictures of others since.
    missed: u32,
}

impl Layer {
    fn rests(&self, newest: Duration) -> bool {
        let Some(heard) = self.heard else { return true };
        self.missed >= AT_REST_PICTURES && heard + AT_REST_AFTER <= newest
    }
}

impl Layers {
    /// So many, of which nothing came yet.
    pub fn new(count: usize) -> Self {
        Self(vec![Layer::default(); count])
    }

    /// A packet of that layer came; `size`, if it said so.
    pub fn heard(&mut self, layer: usize, size: Option<(u32, u32)>, now: Duration) {
        let Some(heard) = self.0.get_mut(layer) else { return };
        let begins_picture = heard.heard.is_none_or(|heard| heard + PICTURE_GAP <= now);
        *heard = Layer { size: size.or(heard.size), heard: Some(now), missed: 0 };
        if begins_picture {
            let others = self.0.iter_mut().enumerate().filter(|(index, _)| *index != layer);
            others.for_each(|(_, other)| other.missed = other.missed.saturating_add(1));
        }
    }

    /// The largest that comes and is not larger than `limit`; if none is so small, the smallest that comes.
    pub fn best(&self, limit: Option<usize>) -> Option<usize> {
        let newest = self.newest()?;
        let comes = |index: &usize| !self.0[*index].rests(newest);
        let coming = || (0..self.0.len()).filter(comes);
        let limit = limit.map(|limit| self.rank(limit));
        let fits = coming().filter(|index| limit.is_none_or(|limit| self.rank(*index) <= limit));
        fits.max_by_key(|index| self.rank(*index)).or_else(|| coming().min_by_key(|index| self.rank(*index)))
    }

    /// The smallest that comes whose size is known and `fits`.
    pub fn smallest(&self, fits: impl Fn((u32, u32)) -> bool) -> Option<usize> {
        let newest = self.newest()?;
        let fitting = |index: &usize| !self.0[*index].rests(newest) && self.size(*index).is_some_and(&fits);
        (0..self.0.len()).filter(fitting).min_by_key(|index| self.rank(*index))
    }

    /// That layer comes, and is larger than `other`.
    pub fn comes_larger(&self, layer: usize, other: usize) -> bool {
        let comes = self.newest().is_some_and(|newest| self.0.get(layer).is_some_and(|layer| !layer.rests(newest)));
        comes && self.rank(layer) > self.rank(other)
    }

    /// Width and height of a layer's pictures, once one said so.
    pub fn size(&self, layer: usize) -> Option<(u32, u32)> {
        self.0.get(layer)?.size
    }

    fn newest(&self) -> Option<Duration> {
        self.0.iter().filter_map(|layer| layer.heard).max()
    }

    /// By pixels; senders that do not tell write the larger one later.
    fn rank(&self, layer: usize) -> (u64, usize) {
        (self.size(layer).map_or(0, |(width, height)| u64::from(width) * u64::from(height)), layer)
    }
}

/// A packet of a layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerPacket<'a> {
    /// Which.
    pub layer: usize,
    /// The whole packet, in the layer's numbers.
    pub bytes: &'a [u8],
    /// A decoder can begin here.
    pub starts_keyframe: bool,
    /// When it was captured, or when it came.
    pub captured: Duration,
    /// On the same clock.
    pub now: Duration,
}

/// The size of a picture that begins in this packet.
pub fn size(codec: CodecName, payload: &[u8]) -> Option<(u32, u32)> {
    match codec {
        CodecName::Vp8 | CodecName::Vp9 => descriptor(codec, payload)?.size,
        CodecName::Av1 => av1::size(payload),
        // A unit alone, or the first of an aggregate (RFC 6184 §5.7.1).
        CodecName::H264 if payload.first()? & 0x1F == 24 => h264::size(payload.get(3..)?),
        CodecName::H264 => h264::size(payload),
        _ => None,
    }
}

/// A stream made of one layer at a time: the best that comes, or the best up to one.
#[derive(Debug)]
pub struct Choice {
    codec: CodecName,
    limit: Option<usize>,
    shown: Option<usize>,
    /// Added to the numbers of the layer that is shown.
    offsets: Offsets,
    /// Of the layer that is shown: the newest number without wrap-around, and those of padding.
    newest: u64,
    gaps: Gaps,
    /// Where the layer begins since it is shown, if another was before.
    floor: Option<Floor>,
    last: Option<Last>,
    /// When a keyframe to change over at was asked for last.
    asked: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Offsets {
    sequence: u16,
    timestamp: u32,
    picture: u16,
    base: u8,
}

/// What left last.
#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u16,
    timestamp: u32,
    captured: Duration,
    picture: u16,
    base: u8,
}

/// What became of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The packet in the stream's numbers, if it is part of it.
    pub bytes: Option<Vec<u8>>,
    /// Somebody should ask for a keyframe of all layers, to change over at.
    pub wants_keyframe: bool,
    /// Another layer is shown from this packet on.
    pub changed: bool,
}

impl Choice {
    /// `limit`: a layer that it is not to be larger than.
    pub fn new(codec: CodecName, limit: Option<usize>) -> Self {
        let (offsets, gaps) = (Offsets::default(), Gaps::default());
        Self { codec, limit, shown: None, offsets, newest: 0, gaps, floor: None, last: None, asked: None }
    }

    /// The layer that is shown.
    pub fn shown(&self) -> Option<usize> {
        self.shown
    }

    /// Nobody reads it: it shows nothing until the next packet that is passed, and then goes on with its numbers.
    pub fn rest(&mut self) {
        (self.shown, self.asked) = (None, None);
    }

    /// A timestamp of the layer that is shown, in the stream's numbers.
    pub fn timestamp(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.offsets.timestamp)
    }

    /// Takes a packet, whichever layer it is of; `layers` know of it already.
    pub fn pass(&mut self, layers: &Layers, packet: LayerPacket<'_>) -> Chosen {
        self.pass_wanted(layers.best(self.limit), packet)
    }

    /// The same, for a stream that is to be made of the layer `wanted`.
    pub fn pass_wanted(&mut self, wanted: Option<usize>, packet: LayerPacket<'_>) -> Chosen {
        let mut chosen = Chosen::default();
        if wanted != self.shown {
            if wanted == Some(packet.layer) && packet.starts_keyframe {
                chosen.changed = self.change_over(packet).is_some();
            } else if self.asked.is_none_or(|asked| packet.now.saturating_sub(asked) >= ASK_AGAIN_AFTER) {
                self.asked = Some(packet.now);
                chosen.wants_keyframe = true;
            }
        } else {
            self.asked = None;
        }
        if self.shown == Some(packet.layer) {
            chosen.bytes = self.renumbered(packet);
        }
        chosen
    }

    /// A packet of that layer holds padding alone: it goes no further, and nobody is to miss its number.
    pub fn leave_out(&mut self, layer: usize, sequence: u16) {
        if self.shown == Some(layer) && self.floor.as_mut().is_none_or(|floor| floor.admits(sequence)) {
            let sequence = self.extended(sequence);
            self.gaps.leave_out(sequence);
        }
    }

    /// A number of the layer that is shown, without wrap-around.
    fn extended(&mut self, sequence: u16) -> u64 {
        let ahead = sequence.wrapping_sub(self.newest as u16).cast_signed();
        let extended = self.newest.saturating_add_signed(ahead.into());
        self.newest = self.newest.max(extended);
        extended
    }

    /// Goes on with the next numbers, and as much later as it was captured later.
    fn change_over(&mut self, packet: LayerPacket<'_>) -> Option<()> {
        let rtp = RtpPacket::parse(packet.bytes).ok()?;
        let (picture, base) = self.pictures(&rtp).unwrap_or_default();
        self.shown = Some(packet.layer);
        self.asked = None;
        self.newest = u64::from(rtp.sequence_number()) + (1 << 16);
        self.gaps = Gaps::default();
        let Some(last) = self.last else { return Some(()) };
        let rate = u128::from(self.codec.clock_rate());
        let later = packet.captured.saturating_sub(last.captured).as_micros() * rate / 1_000_000;
        // No two pictures have one time.
        let later = (later as u32).max(self.codec.clock_rate() / 1_000);
        self.offsets = Offsets {
            sequence: last.sequence.wrapping_add(1).wrapping_sub(rtp.sequence_number()),
            timestamp: last.timestamp.wrapping_add(later).wrapping_sub(rtp.timestamp()),
            picture: last.picture.wrapping_add(1).wrapping_sub(picture),
            base: last.base.wrapping_add(1).wrapping_sub(base),
        };
        self.floor = Some(Floor::new(rtp.sequence_number()));
        Some(())
    }

    fn renumbered(&mut self, packet: LayerPacket<'_>) -> Option<Vec<u8>> {
        let rtp = RtpPacket::parse(packet.bytes).ok()?;
        let is_older = |than: u16, sequence: u16| (sequence.wrapping_sub(than) as i16) < 0;
        if self.floor.as_mut().is_some_and(|floor| !floor.admits(rtp.sequence_number())) {
            return None;
        }
        let pictures = self.pictures(&rtp);
        let offsets = self.offsets;
        let extended = self.extended(rtp.sequence_number());
        let left_out = self.gaps.before(extended)?;
        let sequence = rtp.sequence_number().wrapping_add(offsets.sequence).wrapping_sub(left_out as u16);
        let timestamp = rtp.timestamp().wrapping_add(offsets.timestamp);
        if self.last.is_none_or(|last| is_older(sequence, last.sequence)) {
            let (picture, base) = match (pictures, self.last) {
                (Some((picture, base)), _) => (picture.wrapping_add(offsets.picture), base.wrapping_add(offsets.base)),
                (None, last) => last.map_or((0, 0), |last| (last.picture, last.base)),
            };
            self.last = Some(Last { sequence, timestamp, captured: packet.captured, picture, base });
        }
        let mut bytes = packet.bytes.to_vec();
        bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
        if let Some(read) = descriptor(self.codec, rtp.payload()) {
            // Packets in Salon's numbers have no padding.
            let at = bytes.len() - rtp.payload().len();
            read.renumber(&mut bytes[at..], offsets.picture, offsets.base);
        } else if self.codec == CodecName::Av1 && offsets.picture != 0 {
            renumber_dependencies(&mut bytes, offsets.picture);
        }
        Some(bytes)
    }

    /// The numbers of picture and base layer in a packet; `None` if it does not say.
    fn pictures(&self, packet: &RtpPacket<'_>) -> Option<(u16, u8)> {
        if self.codec == CodecName::Av1 {
            return dependencies(packet).map(|read| (read.frame(), 0));
        }
        let read = descriptor(self.codec, packet.payload())?;
        Some((read.picture.map_or(0, |(_, value, _)| value), read.base.map_or(0, |(_, value)| value)))
    }
}

#[cfg(test)]
mod tests {
    use rtp_types::RtpPacketBuilder;

    use super::{
        super::{Dependencies, TWO_BYTE_PROFILE, dependencies_extension},
        *,
    };

    const MS: Duration = Duration::from_millis(1);

    /// A picture of one packet: sequence and picture number are the same, the timestamp is of 25 a second.
    fn packet(number: u16, is_keyframe: bool, width: u8) -> Vec<u8> {
        let [high, low] = (number | 0x8000).to_be_bytes();
        let mut payload = vec![0x90, 0xE0, high, low, number as u8, 0];
        payload.extend(if is_keyframe { [0x10, 0, 0, 0x9D, 1, 0x2A, width, 0, 9, 0] } else { [0x11; 10] });
        let rtp = RtpPacketBuilder::new().payload_type(96).ssrc(1).sequence_number(number);
        rtp.timestamp(u32::from(number) * 3_600).payload(&payload[..]).write_vec().unwrap()
    }

    /// Sequence number, timestamp, picture and base of what left.
    fn numbers(bytes: &[u8]) -> (u16, u32, u16, u8) {
        let rtp = RtpPacket::parse(bytes).unwrap();
        let read = descriptor(CodecName::Vp8, rtp.payload()).unwrap();
        (rtp.sequence_number(), rtp.timestamp(), read.picture.unwrap().1, read.base.unwrap().1)
    }

    struct Stream {
        layers: Layers,
        choice: Choice,
    }

    impl Stream {
        fn new(limit: Option<usize>) -> Self {
            Self { layers: Layers::new(2), choice: Choice::new(CodecName::Vp8, limit) }
        }

        /// The small layer is 0.
        fn pass(&mut self, layer: usize, number: u16, starts_keyframe: bool, ms: u32) -> Chosen {
            let bytes = packet(number, starts_keyframe, [16, 64][layer]);
            let now = ms * MS;
            let rtp = RtpPacket::parse(&bytes).unwrap();
            self.layers.heard(layer, size(CodecName::Vp8, rtp.payload()), now);
            let packet = LayerPacket { layer, bytes: &bytes, starts_keyframe, captured: now, now };
            self.choice.pass(&self.layers, packet)
        }
    }

    #[test]
    fn the_largest_is_shown_and_the_next_one_when_it_rests() {
        let mut stream = Stream::new(None);
        assert!(stream.pass(0, 100, true, 0).bytes.is_some(), "the first that comes");
        let chosen = stream.pass(1, 7_000, true, 5);
        assert!(chosen.changed && !chosen.wants_keyframe);
        assert_eq!(numbers(&chosen.bytes.unwrap()), (101, 100 * 3_600 + 450, 101, 101));
        assert_eq!(stream.pass(0, 101, false, 40), Chosen::default());
        let shown = stream.pass(1, 7_001, false, 45).bytes.unwrap();
        assert_eq!(numbers(&shown), (102, 100 * 3_600 + 450 + 3_600, 102, 102));
        // It rests.
        for (number, ms) in [(101, 80), (102, 500), (102, 1_000)] {
            assert_eq!(stream.pass(0, number, false, ms), Chosen::default());
        }
        let asks: Vec<bool> = [1_100, 1_900, 2_100].map(|ms| stream.pass(0, 103, false, ms).wants_keyframe).into();
        assert_eq!(asks, [true, false, true]);
        let chosen = stream.pass(0, 104, true, 2_145);
        assert!(chosen.changed);
        assert_eq!(numbers(&chosen.bytes.unwrap()), (103, 100 * 3_600 + 450 + 3_600 + 2_100 * 90, 103, 103));
        // And comes again.
        assert!(stream.pass(1, 7_300, true, 2_200).changed);
        assert_eq!(stream.choice.shown(), Some(1));
        assert_eq!(stream.pass(1, 7_299, false, 2_201).bytes, None, "from before the change");
    }

    #[test]
    fn frames_of_av1_have_one_numbering() {
        let packet = |sequence: u16, frame: u16| {
            let dependencies = Dependencies::new(&[0x80, 0, 0]).unwrap().with_frame(frame);
            let extension = dependencies_extension(&dependencies);
            let rtp = RtpPacketBuilder::new().payload_type(104).ssrc(1).sequence_number(sequence);
            let rtp = rtp.extension(TWO_BYTE_PROFILE, &extension[..]).payload(&[0x18, 0x0A][..]);
            rtp.write_vec().unwrap()
        };
        let mut choice = Choice::new(CodecName::Av1, None);
        let mut pass = |layer, sequence, frame, starts_keyframe| {
            let bytes = packet(sequence, frame);
            let packet = LayerPacket { layer, bytes: &bytes, starts_keyframe, captured: MS, now: MS };
            let bytes = choice.pass_wanted(Some(layer), packet).bytes.unwrap();
            let rtp = RtpPacket::parse(&bytes).unwrap();
            (rtp.sequence_number(), dependencies(&rtp).unwrap().frame())
        };
        assert_eq!(pass(0, 9, 65_533, true), (9, 65_533));
        assert_eq!(pass(0, 10, 65_535, false), (10, 65_535));
        assert_eq!(pass(1, 700, 40, true), (11, 0), "the next one");
        assert_eq!(pass(1, 701, 43, false), (12, 3));
        assert_eq!(pass(0, 20, 4, true), (13, 4));
    }

    #[test]
    fn a_picture_a_second_changes_over_once() {
        let mut stream = Stream::new(None);
        let mut asks = 0;
        for second in 0..20u16 {
            for (layer, late_ms) in [(0, 0), (1, 20)] {
                let chosen = stream.pass(layer, second, second == 0, u32::from(second) * 1_000 + late_ms);
                asks += u32::from(chosen.wants_keyframe);
                assert!(second == 0 || !chosen.changed, "{second}");
            }
        }
        assert_eq!((asks, stream.choice.shown()), (0, Some(1)));
    }

    #[test]
    fn a_layer_is_shown_for_as_long_as_it_comes() {
        let mut stream = Stream::new(None);
        assert!(stream.pass(0, 100, true, 0).bytes.is_some());
        let mut expected = 101u16;
        for count in 0..140_000u32 {
            let chosen = stream.pass(1, 7_000u16.wrapping_add(count as u16), count == 0, 5 + count * 4);
            let bytes = chosen.bytes.unwrap_or_else(|| panic!("packet {count}"));
            assert_eq!(numbers(&bytes).0, expected);
            expected = expected.wrapping_add(1);
        }
    }

    #[test]
    fn padding_leaves_no_gap() {
        let mut stream = Stream::new(None);
        let mut sent = vec![numbers(&stream.pass(0, 65_533, true, 0).bytes.unwrap()).0];
        for number in 65_534..65_600u32 {
            match number % 3 {
                0 => stream.choice.leave_out(0, number as u16),
                _ => sent.push(numbers(&stream.pass(0, number as u16, false, number - 65_533).bytes.unwrap()).0),
            }
        }
        stream.choice.leave_out(1, 7_000);
        let expected: Vec<u16> = (0..45u16).map(|count| 65_533u16.wrapping_add(count)).collect();
        assert_eq!(sent, expected);
        assert_eq!(stream.pass(0, 62, false, 100).bytes, None, "one that was left out comes again");
        let late = stream.pass(0, 61, false, 100).bytes.unwrap();
        assert_eq!(numbers(&late).0, expected[43], "with the number that it had");
        // A layer that is changed to has its own padding.
        let next = numbers(&stream.pass(1, 7_001, true, 101).bytes.unwrap()).0;
        assert_eq!(next, expected[44].wrapping_add(1));
        stream.choice.leave_out(1, 7_002);
        assert_eq!(numbers(&stream.pass(1, 7_003, false, 140).bytes.unwrap()).0, next + 1);
    }

    #[test]
    fn a_stream_that_nobody_read_begins_at_a_keyframe_with_the_next_numbers() {
        let mut stream = Stream::new(Some(0));
        assert!(stream.pass(0, 100, true, 0).bytes.is_some());
        stream.choice.rest();
        let chosen = stream.pass(0, 40_100, false, 90_000);
        assert!(chosen.bytes.is_none() && chosen.wants_keyframe);
        let chosen = stream.pass(0, 40_101, true, 90_040);
        assert_eq!(numbers(&chosen.bytes.unwrap()).0, 101);
    }

    #[test]
    fn a_stream_with_a_limit_stays_below_it_where_it_can() {
        let mut stream = Stream::new(Some(0));
        let large = stream.pass(1, 7_000, true, 0);
        assert!(large.bytes.is_some(), "better than none");
        assert!(stream.pass(0, 100, true, 5).changed);
        assert_eq!(stream.pass(1, 7_001, true, 40), Chosen::default());
        assert!(stream.pass(0, 101, false, 45).bytes.is_some());
    }
}
