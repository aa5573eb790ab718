//! Keeps a track's packets from the pipeline while nobody decodes them: in a meeting that nobody records or mixes,
//! jitter buffers would otherwise cost as much as forwarding does.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rtp_types::RtpPacket;

use super::{Track, track};
use crate::media::{Kind, rtp, sender_clock::SenderReport};

/// Decoders have no use for pictures before a keyframe, and would ask for another one. Encoders that refresh their
/// picture without keyframes go through after so long.
const KEYFRAME_WAIT: Duration = Duration::from_secs(1);

/// One track's. The lock is only ever taken by the one thread that brings its packets.
#[derive(Debug)]
pub(super) struct Valve {
    track: Arc<Track>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    /// Since when it would be open, but for a keyframe.
    waits: Option<Instant>,
    /// The last one, in the track's numbers.
    report: Option<SenderReport>,
    /// The highest number that went through, in the track's numbers.
    last: Option<u16>,
    /// To take off the numbers: what did not go through is not to look lost.
    held_back: u16,
}

/// What is to go to the pipeline.
#[derive(Debug)]
pub(super) struct Passed {
    /// First, after a pause: the pipeline is in step from this packet on.
    pub(super) report: Option<SenderReport>,
    pub(super) packet: gst::Buffer,
}

impl Valve {
    pub(super) fn new(track: &Arc<Track>) -> Self {
        Self { track: track.clone(), state: Mutex::default() }
    }

    /// What is to go on of a packet; `None` while nobody decodes the track, and before a keyframe.
    pub(super) fn pass(&self, packet: gst::Buffer) -> Option<Passed> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if !self.track.is_decoded() {
            (state.is_open, state.waits) = (false, None);
            return None;
        }
        if !state.is_open && !self.begins_with(&packet) {
            let since = *state.waits.get_or_insert_with(Instant::now);
            if since.elapsed() < KEYFRAME_WAIT {
                return None;
            }
        }
        let (sequence, timestamp) = track::numbers(&packet)?;
        let begins = !std::mem::replace(&mut state.is_open, true);
        if let Some(last) = state.last.filter(|_| begins) {
            state.held_back = state.held_back.wrapping_add(sequence.wrapping_sub(last).wrapping_sub(1));
        }
        if state.last.is_none_or(|last| sequence.wrapping_sub(last).cast_signed() > 0) {
            state.last = Some(sequence);
        }
        let report = state.report.filter(|_| begins);
        let report = report.map(|report| report.at(timestamp, self.track.codec.clock_rate()));
        let packet = match state.held_back {
            0 => packet,
            held_back => track::renumbered(&packet, (sequence.wrapping_sub(held_back), timestamp))?,
        };
        Some(Passed { report, packet })
    }

    fn begins_with(&self, packet: &gst::Buffer) -> bool {
        if self.track.kind() == Kind::Audio {
            return true;
        }
        let Ok(bytes) = packet.map_readable() else { return false };
        RtpPacket::parse(&bytes).is_ok_and(|packet| rtp::starts_keyframe(self.track.codec, packet.payload()))
    }

    /// Takes a report in the track's numbers; true if it is to go on.
    pub(super) fn report(&self, report: SenderReport) -> bool {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        state.report = Some(report);
        state.is_open
    }
}

#[cfg(test)]
mod tests {
    use gst_utils::streamproducer::ConsumerSettings;
    use rtp_types::RtpPacketBuilder;

    use super::*;
    use crate::{
        media::{CodecName, gst::RoomClock},
        room::id::TrackId,
    };

    fn packet(sequence: u16, timestamp: u32) -> gst::Buffer {
        let builder = RtpPacketBuilder::new().payload_type(111).sequence_number(sequence).timestamp(timestamp);
        gst::Buffer::from_slice(builder.payload(&[0u8; 4][..]).write_vec().unwrap())
    }

    /// Number and report of what goes on.
    fn passed(valve: &Valve, sequence: u16, timestamp: u32) -> Option<(u16, Option<SenderReport>)> {
        let passed = valve.pass(packet(sequence, timestamp))?;
        let bytes = passed.packet.map_readable().unwrap();
        let parsed = RtpPacket::parse(&bytes).unwrap();
        assert_eq!(parsed.timestamp(), timestamp);
        Some((parsed.sequence_number(), passed.report))
    }

    #[test]
    fn pictures_begin_with_a_keyframe() {
        gst::init().unwrap();
        let track = Track::new(TrackId::random(), CodecName::Vp8, None, &RoomClock::new());
        let valve = Valve::new(&track);
        let source = gst_app::AppSrc::builder().build();
        let _reading = track.read(&source, ConsumerSettings::default()).unwrap();
        // Begins a partition, of a picture that refers to others, and of one that does not.
        let picture = |sequence: u16, first: u8| {
            let builder = RtpPacketBuilder::new().payload_type(96).sequence_number(sequence);
            let payload = [0x10, first, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
            gst::Buffer::from_slice(builder.payload(&payload[..]).write_vec().unwrap())
        };
        assert!(valve.pass(picture(1, 1)).is_none());
        assert!(valve.pass(picture(2, 0)).is_some());
        assert!(valve.pass(picture(3, 1)).is_some());
    }

    #[test]
    fn what_nobody_decodes_is_held_back_and_does_not_look_lost() {
        gst::init().unwrap();
        let track = Track::new(TrackId::random(), CodecName::Opus, None, &RoomClock::new());
        let valve = Valve::new(&track);
        let report = SenderReport { ssrc: 7, ntp_ns: 1_000_000_000, rtp: 48_000 };
        assert!(!valve.report(report));
        assert_eq!(passed(&valve, 65_530, 48_000), None);

        let source = gst_app::AppSrc::builder().build();
        let reading = track.read(&source, ConsumerSettings::default()).unwrap();
        // Two seconds after the report.
        let now = SenderReport { ntp_ns: 3_000_000_000, rtp: 144_000, ..report };
        assert_eq!(passed(&valve, 65_534, 144_000), Some((65_534, Some(now))));
        assert_eq!(passed(&valve, 65_535, 144_960), Some((65_535, None)));
        assert!(valve.report(report), "it goes on as long as packets do");

        drop(reading);
        assert_eq!(passed(&valve, 0, 145_920), None);
        assert!(!valve.report(now));
        let reading = track.read(&source, ConsumerSettings::default()).unwrap();
        // A second after that report, and the next number after the last that went through.
        let now = SenderReport { ntp_ns: 4_000_000_000, rtp: 192_000, ..report };
        assert_eq!(passed(&valve, 1_000, 192_000), Some((0, Some(now))));
        assert_eq!(passed(&valve, 1_002, 193_920), Some((2, None)), "what is lost looks lost");
        assert_eq!(passed(&valve, 1_001, 192_960), Some((1, None)));

        drop(reading);
        assert_eq!(passed(&valve, 1_003, 194_880), None);
        let _reading = track.read(&source, ConsumerSettings::default()).unwrap();
        assert_eq!(passed(&valve, 1_013, 204_480).map(|(sequence, _)| sequence), Some(3));
    }
}
