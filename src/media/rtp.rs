//! RTP packets as Salon forwards them: pure functions over bytes.
//!
//! A publisher's packet is read once, where it comes in, and written anew with Salon's own payload
//! number, SSRC and header extension. What is left as it was: sequence number and timestamp (moved
//! only if the publisher changes its source), marker and payload.

use std::{ops::Range, time::Duration};

use rand::Rng;
use rtp_types::{RtpPacket, RtpPacketBuilder};

use super::{AudioLevel, CodecName};

mod dependencies;
mod disposable;
mod fitting;
mod floor;
mod gaps;
mod keyframe;
mod layers;
mod red;
mod resequencer;
mod splice;
mod vp8;
mod vp9;

pub use dependencies::Dependencies;
pub use disposable::is_disposable;
pub use fitting::{Fitting, Needed, Place};
pub use gaps::Gaps;
pub use keyframe::starts_keyframe;
pub use layers::{Choice, Chosen, LayerPacket, Layers, size};
pub use red::{MOST_AGAIN, Packer, RED_PAYLOAD, Unpacker};
pub use resequencer::{Released, Resequencer};
pub use splice::{Lane, Splice};
pub use vp8::Descriptor;

/// The number under which RFC 6464 audio levels leave Salon.
pub const AUDIO_LEVEL_ID: u8 = 1;
/// The number under which [`Dependencies`] leave Salon.
pub const DEPENDENCIES_ID: u8 = 2;

/// Packets later than this many behind the newest are dropped: senders protect themselves against
/// replay with a window, and refuse what lies before it.
pub const REORDER_WINDOW: u64 = 512;

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
        // Their own (RFC 3551 §6).
        CodecName::Pcmu => 0,
        CodecName::Pcma => 8,
    }
}

/// An SSRC for a new track: random (RFC 3550 §8.1), never 0.
pub fn random_ssrc() -> u32 {
    rand::rng().random_range(1..=u32::MAX)
}

/// What a packet says of its picture; `None` where its codec says nothing, or if it is cut off.
pub fn descriptor(codec: CodecName, payload: &[u8]) -> Option<Descriptor> {
    match codec {
        CodecName::Vp8 => vp8::descriptor(payload),
        CodecName::Vp9 => vp9::descriptor(payload),
        _ => None,
    }
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
    has_dependencies: bool,
    source: Option<Source>,
    /// Where the next source has to go on: the sequence number and timestamp sent last, and when.
    last: Option<(u16, u32, Duration)>,
}

impl Ingress {
    /// For a track that leaves as `ssrc`. `level_id`: the publisher's number of the RFC 6464
    /// extension.
    pub fn new(codec: CodecName, ssrc: u32, level_id: Option<u8>) -> Self {
        Self { codec, ssrc, level_id, has_dependencies: false, source: None, last: None }
    }

    /// The same, whose packets have their [`Dependencies`] under Salon's number, if any.
    #[must_use]
    pub fn with_dependencies(self) -> Self {
        Self { has_dependencies: true, ..self }
    }

    /// Its packets come from another source from now on: the next packet is one's of that.
    pub fn change_source(&mut self) {
        self.source = None;
    }

    /// A timestamp of that source as it leaves; `None` if packets are not of that source.
    pub fn timestamp(&self, ssrc: u32, timestamp: u32) -> Option<u32> {
        let source = self.source.as_ref().filter(|source| source.ssrc == ssrc)?;
        Some(timestamp.wrapping_add(source.timestamp_offset))
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
        let level = level.map(level_extension);
        let dependencies = self.has_dependencies.then(|| dependencies(packet)).flatten();
        let dependencies = dependencies.as_ref().map(dependencies_extension);
        let mut builder = RtpPacketBuilder::new()
            .payload_type(payload_number(self.codec))
            .ssrc(self.ssrc)
            .sequence_number(sequence)
            .timestamp(timestamp)
            .marker_bit(packet.marker_bit())
            .payload(packet.payload());
        // One is of sound, the other of pictures.
        if let Some(level) = &level {
            builder = builder.extension(ONE_BYTE_PROFILE, level.as_slice());
        } else if let Some(dependencies) = &dependencies {
            builder = builder.extension(TWO_BYTE_PROFILE, dependencies.as_slice());
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
pub const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// That of the two-byte form (RFC 8285 §4.3), for what may be longer than 16 bytes.
pub const TWO_BYTE_PROFILE: u16 = 0x1000;

/// A header extension's data, in the one-byte or the two-byte form (RFC 8285 §4.2, §4.3).
fn extension<'a>(packet: &'a RtpPacket<'_>, wanted: u8) -> Option<&'a [u8]> {
    let (_, all) = packet.extension()?;
    all.get(extension_at(packet, wanted)?)
}

/// Where it stands among the data of all extensions.
fn extension_at(packet: &RtpPacket<'_>, wanted: u8) -> Option<Range<usize>> {
    let (profile, all) = packet.extension()?;
    let mut data = all;
    let one_byte = profile == ONE_BYTE_PROFILE;
    if !one_byte && profile & 0xFFF0 != TWO_BYTE_PROFILE {
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
            let end = all.len() - rest.len();
            return Some(end - value.len()..end);
        }
        data = rest;
    }
    None
}

/// A loudness as a packet's only header extension, under [`ONE_BYTE_PROFILE`].
pub fn level_extension(level: AudioLevel) -> [u8; 4] {
    let loudness = level.peak_db.unsigned_abs() | if level.voice { 0x80 } else { 0 };
    [AUDIO_LEVEL_ID << 4, loudness, 0, 0]
}

/// What a packet's picture is made from, as its only header extension, under [`TWO_BYTE_PROFILE`].
pub fn dependencies_extension(dependencies: &Dependencies) -> Vec<u8> {
    let bytes = dependencies.bytes();
    let mut extension = vec![DEPENDENCIES_ID, bytes.len() as u8];
    extension.extend_from_slice(bytes);
    extension.resize(extension.len().next_multiple_of(4), 0);
    extension
}

/// What the picture of a packet in Salon's numbers is made from, if it says so.
pub fn dependencies(packet: &RtpPacket<'_>) -> Option<Dependencies> {
    extension(packet, DEPENDENCIES_ID).and_then(Dependencies::new)
}

/// Adds to the frame's number in the [`Dependencies`] of a packet in Salon's numbers, if it has some.
fn renumber_dependencies(bytes: &mut [u8], frames: u16) {
    let place = || {
        let packet = RtpPacket::parse(bytes).ok()?;
        let (_, all) = packet.extension()?;
        let changed = dependencies(&packet)?;
        let changed = changed.with_frame(changed.frame().wrapping_add(frames));
        // Packets in Salon's numbers have no padding.
        let begin = bytes.len() - packet.payload().len() - all.len();
        let at = extension_at(&packet, DEPENDENCIES_ID)?;
        Some((begin + at.start..begin + at.end, changed))
    };
    if let Some((at, changed)) = place() {
        bytes[at].copy_from_slice(changed.bytes());
    }
}

/// How loud a packet in Salon's numbers is, if it says so.
pub fn level(packet: &RtpPacket<'_>) -> Option<AudioLevel> {
    extension(packet, AUDIO_LEVEL_ID).and_then(audio_level)
}

/// RFC 6464 §3: a bit for voice, seven for the level below full scale.
fn audio_level(value: &[u8]) -> Option<AudioLevel> {
    let byte = *value.first()?;
    Some(AudioLevel { peak_db: -((byte & 0x7F) as i8), voice: byte & 0x80 != 0 })
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
    fn what_a_picture_is_made_from_goes_on_with_it() {
        for length in [3, 16, 17, 90] {
            let read = Dependencies::new(&vec![7; length]).unwrap();
            let bytes = RtpPacketBuilder::new()
                .payload_type(45)
                .payload(&b"picture"[..])
                .extension(TWO_BYTE_PROFILE, &dependencies_extension(&read)[..])
                .write_vec()
                .unwrap();
            let ingress = || Ingress::new(CodecName::Av1, 7, None);
            let taken = ingress().with_dependencies().accept(&bytes, MS).unwrap().bytes;
            let parsed = RtpPacket::parse(&taken).unwrap();
            assert_eq!((dependencies(&parsed).as_ref(), parsed.payload()), (Some(&read), &b"picture"[..]));
            let mut changed = taken.clone();
            renumber_dependencies(&mut changed, 0xFFFF);
            let parsed = RtpPacket::parse(&changed).unwrap();
            assert_eq!((dependencies(&parsed), parsed.payload()), (Some(read.with_frame(0x0706)), &b"picture"[..]));
            // Of webrtcbin's publishers something else may have that number.
            let taken = ingress().accept(&bytes, MS).unwrap().bytes;
            assert_eq!(RtpPacket::parse(&taken).unwrap().extension(), None);
        }
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
}
