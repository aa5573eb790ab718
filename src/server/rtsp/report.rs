//! Sender reports (RFC 3550 §6.4.1), by which players bring sound and picture together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Time between two reports of a stream. The first goes before the first packet: players set their clocks by it.
const INTERVAL: Duration = Duration::from_secs(3);
/// From the first second of NTP (1900) to that of Unix.
const NTP_EPOCH: u64 = 2_208_988_800;

/// When the room's running time was which time of day; one for all streams of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    running: Duration,
    wall: Duration,
}

impl Anchor {
    /// What was captured at `running` is captured now: no player minds by how much that is wrong, as it is
    /// the same for all streams.
    pub(super) fn new(running: Duration) -> Self {
        Self { running, wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    fn ntp(self, time: Duration) -> u64 {
        let wall = (self.wall + time).saturating_sub(self.running);
        let seconds = wall.as_secs().wrapping_add(NTP_EPOCH) << 32;
        seconds | ((u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000)
    }
}

/// What was sent of one stream.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    packets: u32,
    octets: u32,
    reported: Option<Instant>,
}

impl Reporter {
    /// Counts a packet; gives the report that goes before it, if one is due. `time`: the packet's.
    pub(super) fn sent(&mut self, packet: &[u8], time: Duration, anchor: Anchor, now: Instant) -> Option<Vec<u8>> {
        let stamp: [u8; 4] = *packet.get(4..)?.first_chunk()?;
        let ssrc: [u8; 4] = *packet.get(8..)?.first_chunk()?;
        let is_due = self.reported.is_none_or(|at| now >= at + INTERVAL);
        let report = is_due.then(|| {
            self.reported = Some(now);
            self.report(ssrc, stamp, anchor.ntp(time))
        });
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(packet.len().saturating_sub(12)).unwrap_or(0));
        report
    }

    /// A sender report, and the name that reports must have beside them (§6.1).
    fn report(&self, ssrc: [u8; 4], stamp: [u8; 4], ntp: u64) -> Vec<u8> {
        let mut bytes = vec![0x80, 200, 0, 6];
        bytes.extend(ssrc);
        bytes.extend(ntp.to_be_bytes());
        bytes.extend(stamp);
        bytes.extend(self.packets.to_be_bytes());
        bytes.extend(self.octets.to_be_bytes());
        // One chunk: CNAME (1) of five letters, and a zero that ends it, which fills a word.
        bytes.extend([0x81, 202, 0, 3]);
        bytes.extend(ssrc);
        bytes.extend([1, 5]);
        bytes.extend(b"salon");
        bytes.push(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_when_a_packet_was_captured() {
        let anchor = Anchor { running: Duration::from_secs(10), wall: Duration::from_secs(1_000) };
        let packet = [0x80, 96, 0, 1, 0, 0, 0x30, 0x39, 0, 0, 0, 7, 1, 2, 3];
        let (mut reporter, now) = (Reporter::default(), Instant::now());
        let first = reporter.sent(&packet, Duration::from_millis(10_500), anchor, now).unwrap();
        assert_eq!(first.len(), 28 + 16);
        assert_eq!(u64::from_be_bytes(*first[8..].first_chunk().unwrap()), ((1_000 + NTP_EPOCH) << 32) | 0x8000_0000);
        assert_eq!(first[16..20], packet[4..8], "its RTP timestamp");
        assert_eq!(first[20..28], [0; 8], "nothing was sent before it");
        assert_eq!(reporter.sent(&packet, Duration::from_secs(11), anchor, now), None);
        let later = reporter.sent(&packet, Duration::from_secs(13), anchor, now + INTERVAL).unwrap();
        assert_eq!(later[20..28], [0, 0, 0, 2, 0, 0, 0, 6]);
    }
}
