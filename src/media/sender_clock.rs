//! When a publisher captured what it sends, from its sender reports (RFC 3550 §6.4.1): arithmetic only.
//!
//! Packets are late by what encoding and the network took, and a track's delay differs from the
//! other's. Told by their arrival, sound and picture would be as far apart at the viewer; told by their
//! capture, the viewer's browser brings them together again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

/// What is further than this from a packet's arrival is no capture time, but a report that is wrong.
const PLAUSIBLE_NS: i64 = 5_000_000_000;
/// No anchor yet.
const NONE: i64 = i64::MAX;

/// What a sender says of one of its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The source.
    pub ssrc: u32,
    /// The sender's wallclock, in nanoseconds since 1900.
    pub ntp_ns: i64,
    /// The same moment in the source's RTP timestamps.
    pub rtp: u32,
}

impl SenderReport {
    /// What the sender would have reported of another moment, told by its RTP timestamp.
    pub fn at(self, rtp: u32, clock_rate: u32) -> Self {
        let ticks = i64::from(rtp.wrapping_sub(self.rtp).cast_signed());
        let since = ticks * 1_000_000_000 / i64::from(clock_rate.max(1));
        Self { rtp, ntp_ns: self.ntp_ns.saturating_add(since), ..self }
    }
}

/// The sender reports of a compound RTCP packet; what is cut off or has no wallclock is passed over.
pub fn sender_reports(mut compound: &[u8]) -> Vec<SenderReport> {
    const SENDER_REPORT: u8 = 200;
    let mut reports = Vec::new();
    while let Some(&[_, kind, high, low]) = compound.first_chunk() {
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let Some((packet, rest)) = compound.split_at_checked(length) else { break };
        let word = |index: usize| Some(u32::from_be_bytes(*packet.get(4 * index..)?.first_chunk()?));
        if kind == SENDER_REPORT
            && let (Some(ssrc), Some(seconds), Some(fraction), Some(rtp)) = (word(1), word(2), word(3), word(4))
            && seconds != 0
        {
            let ntp_ns = i64::from(seconds) * 1_000_000_000 + ((i64::from(fraction) * 1_000_000_000) >> 32);
            reports.push(SenderReport { ssrc, ntp_ns, rtp });
        }
        compound = rest;
    }
    reports
}

/// A wallclock as sender reports have it, in nanoseconds since 1900; `None` if it is no time after 1970. Senders
/// without a wallclock write 0 or count from their start (RFC 3550 §4), which str0m reads as the first moment of 1970.
pub fn since_1900(time: SystemTime) -> Option<i64> {
    /// Seconds from 1900 to 1970.
    const TO_1970: i64 = 2_208_988_800;
    let since_1970 = i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    if since_1970 == 0 {
        return None;
    }
    since_1970.checked_add(TO_1970 * 1_000_000_000)
}

/// A compound RTCP packet (RFC 3550 §6.1) of a sender report and the name of who sends; receivers play sources of
/// one name in step. `cname`: 255 bytes at most are taken.
pub fn compound(report: SenderReport, cname: &str) -> Vec<u8> {
    let cname = &cname.as_bytes()[..cname.len().min(255)];
    let (seconds, rest) = (report.ntp_ns / 1_000_000_000, report.ntp_ns % 1_000_000_000);
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(report.ssrc.to_be_bytes());
    packet.extend((seconds as u32).to_be_bytes());
    packet.extend((((rest << 32) / 1_000_000_000) as u32).to_be_bytes());
    packet.extend(report.rtp.to_be_bytes());
    // How much was sent, of which nobody has use.
    packet.extend([0; 8]);
    let mut items = vec![1, cname.len() as u8];
    items.extend(cname);
    // Ends with a byte of 0 at least, on a word.
    items.resize((items.len() + 1).next_multiple_of(4), 0);
    packet.extend([0x81, 202]);
    packet.extend((1 + (items.len() / 4) as u16).to_be_bytes());
    packet.extend(report.ssrc.to_be_bytes());
    packet.extend(items);
    packet
}

/// One publisher's wallclock against our time, shared by its tracks.
#[derive(Clone, Debug)]
pub struct SenderClock {
    /// To add to the sender's wallclock to have our time. The least that was seen: no report and no
    /// packet arrives before it was sent, so the least is the nearest.
    anchor_ns: Arc<AtomicI64>,
}

/// The capture times of one track, as its last report has them.
#[derive(Clone, Debug)]
pub struct CaptureTimes {
    report: SenderReport,
    clock_rate: u32,
    anchor_ns: Arc<AtomicI64>,
}

impl Default for SenderClock {
    fn default() -> Self {
        Self { anchor_ns: Arc::new(AtomicI64::new(NONE)) }
    }
}

impl SenderClock {
    /// Takes a report of one of the publisher's tracks, which came at `now`.
    pub fn report(&self, report: SenderReport, clock_rate: u32, now: Duration) -> CaptureTimes {
        let anchor = nanoseconds(now) - report.ntp_ns;
        let known = self.anchor_ns.load(Relaxed);
        // A sender's wallclock may be set, and drifts.
        let is_off = known != NONE && anchor.saturating_sub(known) > PLAUSIBLE_NS / 2;
        if is_off {
            self.anchor_ns.store(anchor, Relaxed);
        } else {
            self.anchor_ns.fetch_min(anchor, Relaxed);
        }
        self.times(report, clock_rate)
    }

    /// The same for one that was taken before, in other numbers.
    pub fn times(&self, report: SenderReport, clock_rate: u32) -> CaptureTimes {
        CaptureTimes { report, clock_rate, anchor_ns: self.anchor_ns.clone() }
    }
}

impl CaptureTimes {
    /// When, on our time, the media with this RTP timestamp was captured, never after `arrived`; `None`
    /// if that cannot be.
    pub fn of(&self, rtp: u32, arrived: Duration) -> Option<Duration> {
        let anchor = self.anchor_ns.load(Relaxed);
        let captured = self.report.at(rtp, self.clock_rate).ntp_ns.checked_add(anchor)?;
        let early = captured - nanoseconds(arrived);
        if early.abs() > PLAUSIBLE_NS {
            return None;
        }
        if early > 0 {
            // The report that set the anchor was slower on its way than this packet.
            self.anchor_ns.fetch_min(anchor - early, Relaxed);
            return Some(arrived);
        }
        u64::try_from(captured).ok().map(Duration::from_nanos)
    }
}

/// Of our time, which began with the room.
fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const NTP: i64 = 3_900_000_000_000_000_000;

    fn report(ntp_ms: i64, rtp: u32) -> SenderReport {
        SenderReport { ssrc: 7, ntp_ns: NTP + ntp_ms * 1_000_000, rtp }
    }

    #[test]
    fn reports_are_found_among_others_and_junk_is_not() {
        let mut compound = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
        let mut sender = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
        sender.extend([0, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 9]);
        sender.extend([0; 8]);
        compound.extend(&sender);
        let expected = SenderReport { ssrc: 7, ntp_ns: 2_500_000_000, rtp: 9 };
        assert_eq!(sender_reports(&compound), [expected]);
        for length in 0..compound.len() {
            assert_eq!(sender_reports(&compound[..length]), [], "{length}");
        }
        assert_eq!(sender_reports(&[0x80, 200, 0, 0]), []);
        assert_eq!(sender_reports(&[0xFF; 40]), []);
    }

    #[test]
    fn a_report_is_written_as_it_is_read() {
        let expected = SenderReport { ssrc: 7, ntp_ns: NTP + 123_456_789, rtp: 90_001 };
        for cname in ["", "a", "ab", "abc", "room"] {
            let compound = compound(expected, cname);
            assert_eq!(compound.len() % 4, 0, "{cname}");
            let [report] = sender_reports(&compound)[..] else { panic!("{compound:?}") };
            assert_eq!((report.ssrc, report.rtp), (expected.ssrc, expected.rtp));
            assert!((report.ntp_ns - expected.ntp_ns).abs() <= 1, "{report:?}");
            let sdes = &compound[28..];
            assert_eq!((sdes[1], usize::from(sdes[3]) * 4 + 4), (202, sdes.len()), "{cname}");
            assert_eq!(&sdes[10..10 + cname.len()], cname.as_bytes());
            assert_eq!(sdes.last(), Some(&0));
        }
    }

    #[test]
    fn what_is_no_wallclock_is_no_time() {
        let one_second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(since_1900(one_second), Some(2_208_988_801_000_000_000));
        assert_eq!(since_1900(SystemTime::UNIX_EPOCH), None);
        assert_eq!(since_1900(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
    }

    #[test]
    fn tracks_with_different_delays_have_one_time() {
        let clock = SenderClock::default();
        let audio = clock.report(report(1000, 48_000), 48_000, 5_020 * MS);
        let video = clock.report(report(1500, 90_000), 90_000, 5_530 * MS);
        // Both captured 1 s after the audio report: the sound takes 30 ms to us, the picture 330.
        assert_eq!(audio.of(96_000, 6_050 * MS), Some(6_020 * MS));
        assert_eq!(video.of(135_000, 6_350 * MS), Some(6_020 * MS));
    }

    #[test]
    fn nothing_was_captured_after_it_came_and_the_other_track_learns_from_it() {
        let clock = SenderClock::default();
        let audio = clock.report(report(0, 0), 48_000, 5_300 * MS);
        let video = clock.report(report(0, u32::MAX), 90_000, 5_400 * MS);
        assert_eq!(audio.of(4_800, 5_130 * MS), Some(5_130 * MS));
        assert_eq!(video.of(8_999, 5_200 * MS), Some(5_130 * MS));
    }

    #[test]
    fn a_wallclock_that_is_set_is_followed_and_a_report_that_is_wrong_is_not() {
        let clock = SenderClock::default();
        clock.report(report(0, 0), 48_000, 5_000 * MS);
        let wrong = clock.report(report(0, 10_000_000), 48_000, 5_000 * MS);
        assert_eq!(wrong.of(0, 5_000 * MS), None);
        for jump_ms in [-3_600_000, 3_600_000] {
            let set = clock.report(report(1000 + jump_ms, 48_000), 48_000, 6_000 * MS);
            assert_eq!(set.of(48_000, 6_010 * MS), Some(6_000 * MS));
        }
    }
}
