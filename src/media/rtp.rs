//! RTP packets as Salon forwards them: pure functions over bytes.
//!
//! A publisher's packet is read once, where it comes in, and written anew with Salon's own payload
//! number, SSRC and header extension. What is left as it was: sequence number and timestamp (moved
//! only if the publisher changes its source), marker and payload.

use std::{collections::BTreeMap, time::Duration};

use rand::Rng;
use rtp_types::{RtpPacket, RtpPacketBuilder};

use super::{AudioLevel, CodecName};

/// The number under which RFC 6464 audio levels leave Salon.
pub const AUDIO_LEVEL_ID: u8 = 1;

/// Packets later than this many behind the newest are dropped: senders protect themselves against
/// replay with a window, and refuse what lies before it.
pub const REORDER_WINDOW: u64 = 512;

/// What a lost packet may take to come again.
const HOLD_TIME: Duration = Duration::from_millis(150);
/// Packets held at most.
const HOLD_PACKETS: usize = 256;

/// A source is taken over from after it was silent for this long.
const SOURCE_SILENCE: Duration = Duration::from_secs(2);
/// So many packets in a row from before the window mean that the sender began to count anew.
const RESTART_AFTER: u32 = 50;

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

/// A packet in Salon's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The whole packet.
    pub bytes: Vec<u8>,
    /// Its sequence number.
    pub sequence: u16,
    /// A decoder can begin here.
    pub starts_keyframe: bool,
    /// How loud it is, if the publisher says so.
    pub level: Option<AudioLevel>,
}

/// Makes one track's packets Salon's own: numbers, duplicates, changes of the publisher's source.
#[derive(Debug)]
pub struct Ingress {
    codec: CodecName,
    ssrc: u32,
    /// The publisher's number for audio levels.
    level_id: Option<u8>,
    source: Option<Source>,
    /// Where the next source has to go on: the sequence number and timestamp sent last, and when.
    last: Option<(u16, u32, Duration)>,
}

impl Ingress {
    /// For a track that leaves as `ssrc`. `level_id`: the publisher's number of the RFC 6464
    /// extension.
    pub fn new(codec: CodecName, ssrc: u32, level_id: Option<u8>) -> Self {
        Self { codec, ssrc, level_id, source: None, last: None }
    }

    /// The packet to forward, or `None` if there is none: not RTP, seen before, far too late, or of
    /// a second source while the first is alive. `now` is any clock that does not go back.
    pub fn accept(&mut self, bytes: &[u8], now: Duration) -> Option<Normalised> {
        let packet = RtpPacket::parse(bytes).ok()?;
        if !self.follow(&packet, now) {
            return None;
        }
        let source = self.source.as_mut().expect("follow() has set it");
        if !source.window.is_new(packet.sequence_number()) {
            return None;
        }
        let sequence = packet.sequence_number().wrapping_add(source.sequence_offset);
        let timestamp = packet.timestamp().wrapping_add(source.timestamp_offset);
        source.heard = now;
        if source.window.is_newest(packet.sequence_number()) {
            self.last = Some((sequence, timestamp, now));
        }
        let level = self.level_id.and_then(|id| extension(&packet, id)).and_then(audio_level);
        Some(Normalised {
            bytes: self.rewrite(&packet, sequence, timestamp, level),
            sequence,
            starts_keyframe: starts_keyframe(self.codec, packet.payload()),
            level,
        })
    }

    /// Sees to it that `source` is the one of `packet`; false if the packet is of another one.
    fn follow(&mut self, packet: &RtpPacket<'_>, now: Duration) -> bool {
        let (ssrc, sequence, timestamp) = (packet.ssrc(), packet.sequence_number(), packet.timestamp());
        let stays = match &mut self.source {
            None => false,
            Some(source) if source.ssrc == ssrc => !source.window.was_restarted(sequence),
            Some(source) if now.saturating_sub(source.heard) < SOURCE_SILENCE => return false,
            Some(_) => false,
        };
        if !stays {
            // The first source keeps its numbers; a later one goes on where the one before ended.
            let (sequence_offset, timestamp_offset) = match self.last {
                None => (0, 0),
                Some((last_sequence, last_timestamp, then)) => {
                    let ticks = now.saturating_sub(then).as_micros() * u128::from(self.codec.clock_rate()) / 1_000_000;
                    let next = last_timestamp.wrapping_add(ticks as u32).wrapping_add(1);
                    (last_sequence.wrapping_add(1).wrapping_sub(sequence), next.wrapping_sub(timestamp))
                }
            };
            self.source =
                Some(Source { ssrc, sequence_offset, timestamp_offset, window: Window::new(sequence), heard: now });
        }
        true
    }

    fn rewrite(&self, packet: &RtpPacket<'_>, sequence: u16, timestamp: u32, level: Option<AudioLevel>) -> Vec<u8> {
        let extension = level.map(|level| {
            let loudness = level.peak_db.unsigned_abs() | if level.voice { 0x80 } else { 0 };
            [AUDIO_LEVEL_ID << 4, loudness, 0, 0]
        });
        let mut builder = RtpPacketBuilder::new()
            .payload_type(payload_number(self.codec))
            .ssrc(self.ssrc)
            .sequence_number(sequence)
            .timestamp(timestamp)
            .marker_bit(packet.marker_bit())
            .payload(packet.payload());
        if let Some(extension) = &extension {
            builder = builder.extension(ONE_BYTE_PROFILE, extension.as_slice());
        }
        builder.write_vec().expect("a packet of valid parts is valid")
    }
}

/// One sender's numbering.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
    window: Window,
    heard: Duration,
}

/// Which of the last sequence numbers were there (in the manner of RFC 3711 §3.3.2).
#[derive(Debug)]
struct Window {
    /// Sequence number without wrap-around; starts high enough to look back.
    newest: u64,
    /// Extended sequence numbers by their lowest bits.
    seen: Box<[u64]>,
    too_old_in_a_row: u32,
}

impl Window {
    fn new(sequence: u16) -> Self {
        let newest = u64::from(sequence) + (1 << 16);
        Self { newest, seen: vec![0; REORDER_WINDOW as usize].into(), too_old_in_a_row: 0 }
    }

    /// The number without wrap-around that is nearest to the newest.
    fn extended(&self, sequence: u16) -> u64 {
        let ahead = sequence.wrapping_sub(self.newest as u16) as i16;
        self.newest.saturating_add_signed(i64::from(ahead))
    }

    /// Notes a number; false if it was there before or lies before the window.
    fn is_new(&mut self, sequence: u16) -> bool {
        let extended = self.extended(sequence);
        if extended + REORDER_WINDOW <= self.newest {
            return false;
        }
        self.newest = self.newest.max(extended);
        self.too_old_in_a_row = 0;
        std::mem::replace(&mut self.seen[(extended % REORDER_WINDOW) as usize], extended) != extended
    }

    fn is_newest(&self, sequence: u16) -> bool {
        self.extended(sequence) == self.newest
    }

    /// True if the sender must have begun to count anew.
    fn was_restarted(&mut self, sequence: u16) -> bool {
        if self.extended(sequence) + REORDER_WINDOW > self.newest {
            return false;
        }
        self.too_old_in_a_row += 1;
        self.too_old_in_a_row >= RESTART_AFTER
    }
}

/// Holds packets that come after a gap until the missing one was sent again.
///
/// No viewer can decode them before, so nothing is lost by it; but a viewer that sees the gap asks for
/// a packet that we do not have yet, gives up after ten requests, and stands still for three seconds.
/// And `rtprtxsend` finds packets again only if they passed in order.
#[derive(Debug)]
pub struct Resequencer<T> {
    /// The number that may go next, without wrap-around.
    next: Option<u64>,
    held: BTreeMap<u64, (Duration, T)>,
}

/// Packets that may go on.
#[derive(Debug, PartialEq, Eq)]
pub struct Released<T> {
    /// In order.
    pub items: Vec<T>,
    /// A packet among them, or before them, was given up: pictures stand still until a keyframe.
    pub gap: bool,
}

impl<T> Default for Resequencer<T> {
    fn default() -> Self {
        Self { next: None, held: BTreeMap::new() }
    }
}

impl<T> Resequencer<T> {
    /// Takes a packet; gives those that may go now, in order. Packets that come after they were given
    /// up go at once.
    pub fn push(&mut self, sequence: u16, item: T, now: Duration) -> Released<T> {
        let next = self.next.unwrap_or(u64::from(sequence) + (1 << 16));
        let ahead = sequence.wrapping_sub(next as u16) as i16;
        if ahead < 0 {
            return Released { items: vec![item], gap: false };
        }
        self.held.insert(next.saturating_add_signed(ahead.into()), (now, item));
        self.release(next, now)
    }

    fn release(&mut self, mut next: u64, now: Duration) -> Released<T> {
        let mut released = Released { items: Vec::new(), gap: false };
        while let Some(entry) = self.held.first_entry() {
            let (held_since, _) = entry.get();
            let waited = now.saturating_sub(*held_since) >= HOLD_TIME;
            if *entry.key() > next && !waited && self.held.len() <= HOLD_PACKETS {
                break;
            }
            if let Some((sequence, (_, item))) = self.held.pop_first() {
                released.gap |= sequence > next;
                next = sequence + 1;
                released.items.push(item);
            }
        }
        self.next = Some(next);
        released
    }
}

/// What a description says of a section's packets.
#[derive(Clone, Debug, Default)]
pub struct SectionMarks {
    /// Its mid.
    pub mid: String,
    /// Its payload number.
    pub payload: u8,
    /// SSRCs named for it.
    pub ssrcs: Vec<u32>,
}

/// Tells which media section a packet belongs to, when several share one transport.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    sections: Vec<SectionMarks>,
    mid_id: Option<u8>,
}

impl Classifier {
    /// `mid_id`: the number of the mid extension.
    pub fn new(sections: Vec<SectionMarks>, mid_id: Option<u8>) -> Self {
        Self { sections, mid_id }
    }

    /// The index of the packet's section: by its mid if it carries one, else by its SSRC, else by
    /// payload number if only one section has that (RFC 9143 §9.2).
    pub fn section(&self, bytes: &[u8]) -> Option<usize> {
        let packet = RtpPacket::parse(bytes).ok()?;
        if let Some(mid) = self.mid_id.and_then(|id| extension(&packet, id)) {
            return self.sections.iter().position(|section| section.mid.as_bytes() == mid);
        }
        let by_ssrc = self.sections.iter().position(|section| section.ssrcs.contains(&packet.ssrc()));
        by_ssrc.or_else(|| {
            let mut fitting = (0..).zip(&self.sections).filter(|(_, it)| it.payload == packet.payload_type());
            match (fitting.next(), fitting.next()) {
                (Some((index, _)), None) => Some(index),
                _ => None,
            }
        })
    }
}

/// The profile of one-byte header extensions (RFC 8285 §4.2).
const ONE_BYTE_PROFILE: u16 = 0xBEDE;

/// A header extension's data, in the one-byte or the two-byte form (RFC 8285 §4.2, §4.3).
fn extension<'a>(packet: &'a RtpPacket<'_>, wanted: u8) -> Option<&'a [u8]> {
    let (profile, mut data) = packet.extension()?;
    let one_byte = profile == ONE_BYTE_PROFILE;
    if !one_byte && profile & 0xFFF0 != 0x1000 {
        return None;
    }
    while let Some((&first, rest)) = data.split_first() {
        if first == 0 {
            data = rest;
            continue;
        }
        let (id, length, rest) = if one_byte {
            (first >> 4, usize::from(first & 0x0F) + 1, rest)
        } else {
            let (&length, rest) = rest.split_first()?;
            (first, usize::from(length), rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        if id == wanted {
            return Some(value);
        }
        data = rest;
    }
    None
}

/// RFC 6464 §3: a bit for voice, seven for the level below full scale.
fn audio_level(value: &[u8]) -> Option<AudioLevel> {
    let byte = *value.first()?;
    Some(AudioLevel { peak_db: -((byte & 0x7F) as i8), voice: byte & 0x80 != 0 })
}

/// A decoder that knows nothing can begin with this payload. Audio always can.
pub fn starts_keyframe(codec: CodecName, payload: &[u8]) -> bool {
    match codec {
        CodecName::Opus => true,
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

    const MS: Duration = Duration::from_millis(1);

    fn packet(ssrc: u32, sequence: u16, timestamp: u32, extension: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut builder = RtpPacketBuilder::new()
            .payload_type(120)
            .ssrc(ssrc)
            .sequence_number(sequence)
            .timestamp(timestamp)
            .marker_bit(true)
            .payload(payload);
        if !extension.is_empty() {
            builder = builder.extension(ONE_BYTE_PROFILE, extension);
        }
        builder.write_vec().unwrap()
    }

    fn opus() -> Ingress {
        Ingress::new(CodecName::Opus, 7, Some(9))
    }

    /// Sequence number and timestamp of what comes out.
    fn numbers(ingress: &mut Ingress, ssrc: u32, sequence: u16, timestamp: u32, now: Duration) -> Option<(u16, u32)> {
        let out = ingress.accept(&packet(ssrc, sequence, timestamp, &[], &[1]), now)?;
        let out = RtpPacket::parse(&out.bytes).unwrap();
        assert_eq!(out.ssrc(), 7);
        Some((out.sequence_number(), out.timestamp()))
    }

    #[test]
    fn a_packet_gets_our_numbers_and_keeps_its_own() {
        // Mid (id 4, "0"), a padding byte, transport-cc (id 3), audio level (id 9: voice, −30 dBov).
        let extensions = [0x40, b'0', 0x00, 0x31, 0, 1, 0x90, 0x80 | 30];
        let out = opus().accept(&packet(1, 65_535, 4_000_000_000, &extensions, b"sound"), MS).unwrap();
        assert_eq!(out.level, Some(AudioLevel { peak_db: -30, voice: true }));
        let out = RtpPacket::parse(&out.bytes).unwrap();
        assert_eq!((out.payload_type(), out.ssrc(), out.marker_bit()), (111, 7, true));
        assert_eq!((out.sequence_number(), out.timestamp(), out.payload()), (65_535, 4_000_000_000, &b"sound"[..]));
        assert_eq!(out.extension(), Some((ONE_BYTE_PROFILE, &[0x10, 0x80 | 30, 0, 0][..])));
    }

    #[test]
    fn without_a_level_there_is_no_extension() {
        let out = opus().accept(&packet(1, 1, 1, &[0x40, b'0', 0, 0], b"x"), MS).unwrap();
        assert_eq!(RtpPacket::parse(&out.bytes).unwrap().extension(), None);
    }

    #[test]
    fn the_two_byte_form_is_read_too() {
        let bytes = RtpPacketBuilder::new()
            .payload_type(111)
            .payload(&b"x"[..])
            .extension(0x1000, &[4, 0, 9, 1, 0x7F, 0, 0, 0][..])
            .write_vec()
            .unwrap();
        assert_eq!(opus().accept(&bytes, MS).unwrap().level, Some(AudioLevel { peak_db: -127, voice: false }));
    }

    #[test]
    fn broken_packets_and_extensions_do_no_harm() {
        assert_eq!(opus().accept(&[], MS), None);
        assert_eq!(opus().accept(&[0x80; 11], MS), None);
        let cut_off = packet(1, 1, 1, &[0x4F, b'0', 0, 0], b"x");
        assert!(opus().accept(&cut_off, MS).unwrap().level.is_none());
    }

    #[test]
    fn duplicates_and_late_packets_are_dropped() {
        let mut ingress = opus();
        assert_eq!(numbers(&mut ingress, 1, 65_534, 10, MS), Some((65_534, 10)));
        assert_eq!(numbers(&mut ingress, 1, 1, 13, MS), Some((1, 13)));
        assert_eq!(numbers(&mut ingress, 1, 65_535, 11, MS), Some((65_535, 11)), "late, but new");
        assert_eq!(numbers(&mut ingress, 1, 65_535, 11, MS), None, "twice");
        assert_eq!(numbers(&mut ingress, 1, 1, 13, MS), None, "twice");
        let far = 1 + REORDER_WINDOW as u16;
        assert_eq!(numbers(&mut ingress, 1, far, 600, MS), Some((far, 600)));
        assert_eq!(numbers(&mut ingress, 1, 0, 12, MS), None, "before the window");
        assert_eq!(numbers(&mut ingress, 1, 2, 14, MS), Some((2, 14)), "just inside");
    }

    #[test]
    fn a_sender_that_counts_anew_is_followed() {
        let mut ingress = opus();
        numbers(&mut ingress, 1, 20_000, 1_000, MS).unwrap();
        let mut outputs = (100..200).filter_map(|sequence| numbers(&mut ingress, 1, sequence, 5, MS));
        assert_eq!(outputs.next().map(|(sequence, _)| sequence), Some(20_001));
        assert_eq!(outputs.count(), 50, "and from then on all");
    }

    #[test]
    fn a_second_source_waits_until_the_first_is_silent() {
        let mut ingress = opus();
        assert_eq!(numbers(&mut ingress, 1, 500, 48_000, MS), Some((500, 48_000)));
        assert_eq!(numbers(&mut ingress, 2, 9, 77, 1_000 * MS), None);
        // 2 s later, at 48 kHz: 96,000 ticks on, and one more so that no two are equal.
        assert_eq!(numbers(&mut ingress, 2, 9, 77, 2_001 * MS), Some((501, 144_001)));
        assert_eq!(numbers(&mut ingress, 2, 10, 1_037, 2_021 * MS), Some((502, 144_961)));
        assert_eq!(numbers(&mut ingress, 1, 501, 48_960, 2_022 * MS), None, "the first is the second now");
    }

    #[test]
    fn packets_after_a_gap_wait_for_the_missing_one() {
        let mut resequencer = Resequencer::default();
        let mut push = |sequence: u16, ms: u32| {
            let released = resequencer.push(sequence, sequence, ms * MS);
            (released.items, released.gap)
        };
        let nothing = (vec![], false);
        assert_eq!(push(65_534, 0), (vec![65_534], false));
        assert_eq!(push(0, 1), nothing);
        assert_eq!(push(1, 2), nothing);
        assert_eq!(push(65_535, 30), (vec![65_535, 0, 1], false), "sent again");
        assert_eq!(push(3, 40), nothing);
        assert_eq!(push(5, 60), nothing);
        assert_eq!(push(6, 189), nothing);
        assert_eq!(push(7, 190), (vec![3], true), "packet 2 is given up, packet 4 not yet");
        assert_eq!(push(2, 195), (vec![2], false), "too late, but somebody may still want it");
        assert_eq!(push(4, 200), (vec![4, 5, 6, 7], false));
    }

    #[test]
    fn no_more_than_so_many_packets_are_held() {
        let mut resequencer = Resequencer::default();
        resequencer.push(0, 0, MS);
        let held = (2..).take_while(|sequence| resequencer.push(*sequence, *sequence, MS).items.is_empty()).count();
        assert_eq!(held, HOLD_PACKETS);
    }

    #[test]
    fn sections_are_told_by_mid_then_ssrc_then_payload_number() {
        let marks = |mid: &str, payload, ssrcs: &[u32]| SectionMarks { mid: mid.into(), payload, ssrcs: ssrcs.into() };
        let all = vec![marks("a", 120, &[1, 2]), marks("b", 120, &[3]), marks("c", 100, &[])];
        let classifier = Classifier::new(all, Some(4));
        let with_mid = |mid| packet(1, 1, 1, &[0x40, mid, 0, 0], &[]);
        assert_eq!(classifier.section(&with_mid(b'b')), Some(1), "the mid counts more than the SSRC");
        assert_eq!(classifier.section(&with_mid(b'x')), None);
        assert_eq!(classifier.section(&packet(2, 1, 1, &[], &[])), Some(0));
        assert_eq!(classifier.section(&packet(3, 1, 1, &[], &[])), Some(1));
        assert_eq!(classifier.section(&packet(9, 1, 1, &[], &[])), None, "two sections have number 120");
        let single = Classifier::new(vec![marks("a", 120, &[1])], Some(4));
        assert_eq!(single.section(&packet(9, 1, 1, &[], &[])), Some(0));
        assert_eq!(single.section(b"junk"), None);
    }

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
