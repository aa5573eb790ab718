//! Keeps a track's packets from the pipeline until somebody decodes them: in a meeting that nobody records or mixes,
//! jitter buffers would otherwise cost as much as forwarding does.
//!
//! What is open stays open: a jitter buffer that sees a minute without packets, and no gap in their numbers, takes the
//! minute for the time between two of them, and waits as long for the next one that is lost.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rtp_types::RtpPacket;

use super::{Track, packet};
use crate::media::{Kind, rtp, sender_clock::SenderReport};

/// Decoders have no use for pictures before a keyframe, and would ask for another one. If none came by then, it is
/// asked for again, and what comes goes through.
const KEYFRAME_WAIT: Duration = Duration::from_secs(1);
/// Packets that are kept meanwhile, for a keyframe whose first one is late.
const MAX_KEPT: usize = 256;

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
    /// What came since, in order of arrival.
    kept: VecDeque<gst::Buffer>,
    /// The last one, in the track's numbers.
    report: Option<SenderReport>,
}

/// What is to go to the pipeline, in this order.
#[derive(Debug)]
pub(super) struct Passed {
    /// With the first packet: the pipeline is in step from it on.
    pub(super) report: Option<SenderReport>,
    pub(super) packet: gst::Buffer,
    /// Packets of a keyframe that came before its first one.
    pub(super) then: Vec<gst::Buffer>,
}

impl Valve {
    pub(super) fn new(track: &Arc<Track>) -> Self {
        Self { track: track.clone(), state: Mutex::default() }
    }

    /// What is to go on of a packet; `None` until somebody decodes the track, and before a keyframe.
    pub(super) fn pass(&self, packet: gst::Buffer) -> Option<Passed> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if state.is_open {
            return Some(Passed { report: None, packet, then: Vec::new() });
        }
        if !self.track.is_decoded() {
            state.waits = None;
            state.kept.clear();
            return None;
        }
        let since = *state.waits.get_or_insert_with(Instant::now);
        if !self.begins_with(&packet) {
            if since.elapsed() < KEYFRAME_WAIT {
                if state.kept.len() >= MAX_KEPT {
                    state.kept.pop_front();
                }
                state.kept.push_back(packet);
                return None;
            }
            self.track.request_keyframe();
        }
        let (sequence, timestamp) = packet::numbers(&packet)?;
        state.is_open = true;
        let follows = |kept: &gst::Buffer| {
            packet::numbers(kept).is_some_and(|(number, _)| number.wrapping_sub(sequence).cast_signed() > 0)
        };
        let then = std::mem::take(&mut state.kept).into_iter().filter(follows).collect();
        let report = state.report.map(|report| report.at(timestamp, self.track.codec.clock_rate()));
        Some(Passed { report, packet, then })
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

    /// Sound, or a VP8 picture's first packet: of one that refers to others (1) or of one that does not (0).
    fn packet(sequence: u16, timestamp: u32, first: u8) -> gst::Buffer {
        let payload = [0x10, first, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
        let builder = RtpPacketBuilder::new().payload_type(96).sequence_number(sequence).timestamp(timestamp);
        gst::Buffer::from_slice(builder.payload(&payload[..]).write_vec().unwrap())
    }

    fn valve(codec: CodecName) -> Valve {
        gst::init().unwrap();
        Valve::new(&Track::new(TrackId::random(), codec, None, &RoomClock::new()))
    }

    fn decode(valve: &Valve) -> impl Drop + use<> {
        valve.track.read(&gst_app::AppSrc::builder().build(), ConsumerSettings::default()).unwrap()
    }

    fn passed(valve: &Valve, packet: gst::Buffer) -> Option<(Vec<u16>, Option<SenderReport>)> {
        let Passed { report, packet, then } = valve.pass(packet)?;
        let packets = std::iter::once(packet).chain(then);
        Some((packets.map(|packet| packet::numbers(&packet).unwrap().0).collect(), report))
    }

    #[test]
    fn what_nobody_decodes_is_held_back_and_who_does_is_in_step() {
        let valve = valve(CodecName::Opus);
        let report = SenderReport { ssrc: 7, ntp_ns: 1_000_000_000, rtp: 48_000 };
        assert!(!valve.report(report));
        assert_eq!(passed(&valve, packet(65_530, 48_000, 1)), None);
        let reading = decode(&valve);
        // Two seconds after the report.
        let now = SenderReport { ntp_ns: 3_000_000_000, rtp: 144_000, ..report };
        assert_eq!(passed(&valve, packet(65_534, 144_000, 1)), Some((vec![65_534], Some(now))));
        assert_eq!(passed(&valve, packet(65_535, 144_960, 1)), Some((vec![65_535], None)));
        assert!(valve.report(report), "it goes on as packets do");
        drop(reading);
        assert_eq!(passed(&valve, packet(0, 145_920, 1)), Some((vec![0], None)), "what is open stays open");
    }

    #[test]
    fn pictures_begin_with_a_keyframe_of_which_nothing_is_missing() {
        let valve = valve(CodecName::Vp8);
        assert_eq!(passed(&valve, packet(65_530, 0, 0)), None, "nobody decodes it");
        let _reading = decode(&valve);
        assert_eq!(passed(&valve, packet(65_533, 0, 1)), None);
        // The keyframe's first packet was lost, and comes behind the others.
        assert_eq!(passed(&valve, packet(65_535, 0, 1)), None);
        assert_eq!(passed(&valve, packet(0, 0, 1)), None);
        assert_eq!(passed(&valve, packet(65_534, 0, 0)).unwrap().0, [65_534, 65_535, 0]);
        assert_eq!(passed(&valve, packet(1, 0, 1)).unwrap().0, [1]);
    }

    #[test]
    fn what_is_kept_for_a_keyframe_is_bounded() {
        let valve = valve(CodecName::Vp8);
        let _reading = decode(&valve);
        for sequence in 0..1_000 {
            assert_eq!(passed(&valve, packet(sequence, 0, 1)), None);
        }
        assert_eq!(valve.state.lock().unwrap().kept.len(), MAX_KEPT);
        assert_eq!(passed(&valve, packet(1_000, 0, 0)).unwrap().0, [1_000], "none of it follows");
    }
}
