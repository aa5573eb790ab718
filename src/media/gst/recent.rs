//! The group of pictures that is going on, for whoever comes in the middle of it: a camera cannot be
//! asked for a keyframe.

use super::feed::Packet;

/// A group that is longer is not kept: who comes waits for the next keyframe.
const LONGEST: gst::ClockTime = gst::ClockTime::from_seconds(4);
/// Nor one that is larger, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;
/// Of a picture's RTP clock: 1 ms.
const STEP_TICKS: u32 = 90;
const STEP: gst::ClockTime = gst::ClockTime::from_mseconds(1);

/// RTP packets since the last keyframe began.
#[derive(Debug, Default)]
pub(super) struct Recent {
    packets: Vec<Packet>,
    bytes: usize,
}

impl Recent {
    /// Notes a packet; a keyframe begins anew.
    pub(super) fn push(&mut self, packet: &Packet) {
        let begins = packet.starts_keyframe && self.packets.last().is_none_or(|last| stamp(last) != stamp(packet));
        if begins {
            self.packets.clear();
            self.bytes = 0;
        } else if self.packets.is_empty() {
            return;
        }
        self.bytes += packet.buffer.size();
        let began = self.packets.first().and_then(|first| first.buffer.pts());
        let is_long = began.zip(packet.buffer.pts()).is_some_and(|(began, now)| now.saturating_sub(began) > LONGEST);
        if is_long || self.bytes > LARGEST {
            *self = Self::default();
            return;
        }
        self.packets.push(packet.clone());
    }

    /// All of it, timed as if it had come just now, 1 ms a picture: whoever reads it shows the last
    /// picture at once, and is not seconds behind for good.
    pub(super) fn replay(&self) -> Vec<Packet> {
        let Some(last) = self.packets.last() else { return Vec::new() };
        let (newest, end) = (stamp(last), last.buffer.pts().unwrap_or_default());
        let mut pictures = 1;
        for pair in self.packets.windows(2) {
            pictures += u32::from(stamp(&pair[0]) != stamp(&pair[1]));
        }
        let mut before = pictures;
        let mut known = None;
        let moved = self.packets.iter().map(|packet| {
            if known != Some(stamp(packet)) {
                known = Some(stamp(packet));
                before -= 1;
            }
            let stamp = newest.wrapping_sub(before * STEP_TICKS);
            let time = end.saturating_sub(STEP * u64::from(before));
            Packet { buffer: restamped(&packet.buffer, stamp, time), starts_keyframe: packet.starts_keyframe }
        });
        moved.collect()
    }
}

fn stamp(packet: &Packet) -> u32 {
    let map = packet.buffer.map_readable().ok();
    map.and_then(|map| Some(u32::from_be_bytes(*map.get(4..)?.first_chunk()?))).unwrap_or_default()
}

fn restamped(buffer: &gst::Buffer, stamp: u32, time: gst::ClockTime) -> gst::Buffer {
    let Ok(map) = buffer.map_readable() else { return buffer.clone() };
    let mut bytes = map.to_vec();
    if let Some(place) = bytes.get_mut(4..8) {
        place.copy_from_slice(&stamp.to_be_bytes());
    }
    let mut moved = gst::Buffer::from_mut_slice(bytes);
    moved.make_mut().set_pts(time);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(stamp: u32, ms: u64, starts_keyframe: bool, size: usize) -> Packet {
        let mut bytes = vec![0u8; size];
        bytes[4..8].copy_from_slice(&stamp.to_be_bytes());
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(ms));
        Packet { buffer, starts_keyframe }
    }

    fn times(recent: &Recent) -> Vec<(u32, u64)> {
        recent.replay().iter().map(|packet| (stamp(packet), packet.buffer.pts().unwrap().mseconds())).collect()
    }

    #[test]
    fn a_group_begins_with_its_keyframe_and_is_replayed_in_no_time() {
        gst::init().unwrap();
        let mut recent = Recent::default();
        recent.push(&packet(0, 1000, false, 20));
        assert!(recent.replay().is_empty(), "nobody can begin with that");
        recent.push(&packet(3600, 1040, true, 20));
        recent.push(&packet(3600, 1040, true, 20));
        recent.push(&packet(7200, 1080, false, 20));
        recent.push(&packet(10_800, 1120, false, 20));
        assert_eq!(times(&recent), [(10_620, 1118), (10_620, 1118), (10_710, 1119), (10_800, 1120)]);
        recent.push(&packet(14_400, 1160, true, 20));
        assert_eq!(times(&recent), [(14_400, 1160)]);
    }

    #[test]
    fn what_is_too_long_or_too_large_is_not_kept() {
        gst::init().unwrap();
        let mut recent = Recent::default();
        recent.push(&packet(0, 1000, true, 20));
        recent.push(&packet(1, 5000, false, 20));
        assert_eq!(recent.replay().len(), 2);
        recent.push(&packet(2, 5001, false, 20));
        recent.push(&packet(3, 5002, false, 20));
        assert!(recent.replay().is_empty());
        recent.push(&packet(4, 6000, true, LARGEST - 10));
        assert_eq!(recent.replay().len(), 1);
        recent.push(&packet(5, 6001, false, 20));
        assert!(recent.replay().is_empty());
    }

    #[test]
    fn stamps_go_round() {
        gst::init().unwrap();
        let mut recent = Recent::default();
        recent.push(&packet(u32::MAX - 10, 1000, true, 20));
        recent.push(&packet(20, 1040, false, 20));
        assert_eq!(times(&recent), [(u32::MAX - 69, 1039), (20, 1040)]);
    }
}
