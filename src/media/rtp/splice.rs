//! Two streams of one track, shown one after the other under one numbering: as it was published, and
//! with effects. Viewers notice a keyframe, and nothing else.

use std::time::Duration;

use super::floor::Floor;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// As it was published.
    Clean,
    /// With effects.
    Effected,
}

/// What goes out of one track.
#[derive(Debug)]
pub struct Splice {
    clock_rate: u32,
    shown: Lane,
    wanted: Lane,
    /// Added to what comes in on the lane that is shown.
    offsets: (u16, u32),
    /// Where that lane begins since it is shown; `None` before the first change.
    floor: Option<Floor>,
    last: Option<Last>,
}

/// What went out last.
#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u16,
    timestamp: u32,
    /// When it was captured.
    time: Duration,
}

impl Splice {
    /// Shows the clean lane, with the numbers it has.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, shown: Lane::Clean, wanted: Lane::Clean, offsets: (0, 0), floor: None, last: None }
    }

    /// Which lane goes out.
    pub fn shown(&self) -> Lane {
        self.shown
    }

    /// It waits for a keyframe of `lane` to change over at.
    pub fn waits_for(&self, lane: Lane) -> bool {
        self.wanted == lane && self.shown != lane
    }

    /// Changes over with the next keyframe of `lane`.
    pub fn want(&mut self, lane: Lane) {
        self.wanted = lane;
    }

    /// The sequence number and timestamp under which a packet goes out, if it does. `time`: when it was
    /// captured.
    pub fn pass(
        &mut self,
        lane: Lane,
        (sequence, timestamp): (u16, u32),
        starts_keyframe: bool,
        time: Duration,
    ) -> Option<(u16, u32)> {
        if lane != self.shown {
            if lane != self.wanted || !starts_keyframe {
                return None;
            }
            self.change_over(lane, sequence, timestamp, time);
        }
        if self.floor.as_mut().is_some_and(|floor| !floor.admits(sequence)) {
            // It is older than what is shown since the change.
            return None;
        }
        let (sequence, timestamp) = (sequence.wrapping_add(self.offsets.0), timestamp.wrapping_add(self.offsets.1));
        if self.last.is_none_or(|last| is_before(last.sequence, sequence)) {
            self.last = Some(Last { sequence, timestamp, time });
        }
        Some((sequence, timestamp))
    }

    /// Goes on with the next sequence number, and as much later as it was captured later. Pictures with
    /// effects take longer: then the first of them is the next moment, and all others follow it.
    fn change_over(&mut self, lane: Lane, sequence: u16, timestamp: u32, time: Duration) {
        self.shown = lane;
        let Some(last) = self.last else { return };
        let later = time.saturating_sub(last.time).as_micros() * u128::from(self.clock_rate) / 1_000_000;
        // A millisecond at least: no two pictures have one time.
        let later = (later as u32).max(self.clock_rate / 1_000);
        self.offsets = (
            last.sequence.wrapping_add(1).wrapping_sub(sequence),
            last.timestamp.wrapping_add(later).wrapping_sub(timestamp),
        );
        self.floor = Some(Floor::new(sequence));
    }
}

/// RFC 1982: `a` was sent before `b`.
fn is_before(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_track_without_effects_keeps_its_numbers() {
        let mut splice = Splice::new(90_000);
        assert_eq!(splice.pass(Lane::Clean, (7, 9_000), false, MS), Some((7, 9_000)));
        assert_eq!(splice.pass(Lane::Effected, (1, 1), true, MS), None, "nobody asked for it");
        assert_eq!(splice.pass(Lane::Clean, (6, 8_000), false, MS), Some((6, 8_000)), "late, and let through");
    }

    #[test]
    fn it_changes_over_at_a_keyframe_and_numbers_go_on() {
        let mut splice = Splice::new(90_000);
        splice.pass(Lane::Clean, (65_535, 900_000), false, 1_000 * MS);
        splice.want(Lane::Effected);
        assert_eq!(splice.pass(Lane::Effected, (300, 5), false, 970 * MS), None, "no keyframe");
        assert_eq!(splice.pass(Lane::Clean, (0, 903_600), false, 1_040 * MS), Some((0, 903_600)), "still shown");
        // Captured before the last that went out: it takes the next moment.
        assert_eq!(splice.pass(Lane::Effected, (301, 95), true, 1_010 * MS), Some((1, 903_690)));
        assert_eq!(splice.pass(Lane::Effected, (302, 3_695), false, 1_050 * MS), Some((2, 907_290)));
        assert_eq!(splice.pass(Lane::Clean, (1, 907_200), true, 1_080 * MS), None);
        splice.want(Lane::Clean);
        assert_eq!(splice.pass(Lane::Clean, (2, 910_800), false, 1_120 * MS), None, "no keyframe");
        assert_eq!(splice.pass(Lane::Effected, (303, 7_295), false, 1_090 * MS), Some((3, 910_890)));
        // 70 ms after the last.
        assert_eq!(splice.pass(Lane::Clean, (3, 914_400), true, 1_160 * MS), Some((4, 917_190)));
        assert_eq!(splice.pass(Lane::Clean, (2, 910_800), false, 1_160 * MS), None, "older than what is shown");
        assert_eq!(splice.pass(Lane::Clean, (5, 918_000), false, 1_200 * MS), Some((6, 920_790)), "a gap stays one");
        assert_eq!(splice.shown(), Lane::Clean);
    }

    #[test]
    fn a_lane_is_shown_for_as_long_as_it_comes() {
        let mut splice = Splice::new(48_000);
        splice.pass(Lane::Clean, (7, 9_000), true, MS);
        splice.want(Lane::Effected);
        for count in 0..140_000u32 {
            let shown = splice.pass(Lane::Effected, (count as u16, count * 960), true, count * 20 * MS);
            assert_eq!(shown.map(|(sequence, _)| sequence), Some((count + 8) as u16), "packet {count}");
        }
    }

    #[test]
    fn effects_from_the_beginning_have_their_own_numbers() {
        let mut splice = Splice::new(48_000);
        splice.want(Lane::Effected);
        assert_eq!(splice.pass(Lane::Effected, (12, 13), true, MS), Some((12, 13)));
        assert_eq!(splice.pass(Lane::Clean, (1, 1), true, MS), None);
    }
}
