//! What is to be left out of a file: the pauses of a recording, in running times of the room.

use std::sync::{Mutex, MutexGuard};

/// The pauses of one recording, shared between whoever pauses and the recorder's thread, which
/// learns of each before the frames from that time have come through the encoders.
#[derive(Debug, Default)]
pub struct Cuts(Mutex<Vec<Cut>>);

/// One pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first moment that is left out, in nanoseconds.
    pub from: i64,
    /// The first that is in the file again; `None` while it lasts.
    pub to: Option<i64>,
}

impl Cuts {
    /// Leaves out what comes from `at` on. Nothing happens if it is paused already.
    pub fn pause(&self, at: gst::ClockTime) {
        let mut cuts = self.list();
        let earliest = match cuts.last() {
            Some(Cut { to: None, .. }) => return,
            Some(Cut { to: Some(to), .. }) => *to,
            None => 0,
        };
        cuts.push(Cut { from: nanoseconds(at).max(earliest), to: None });
    }

    /// Takes in again what comes from `at` on. False if it is not paused.
    pub fn resume(&self, at: gst::ClockTime) -> bool {
        match self.list().last_mut() {
            Some(Cut { from, to: to @ None }) => {
                *to = Some(nanoseconds(at).max(*from));
                true
            }
            _ => false,
        }
    }

    /// The `index`th pause, counted from 0.
    pub fn get(&self, index: usize) -> Option<Cut> {
        self.list().get(index).copied()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Cut>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

fn nanoseconds(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

/// Joins what is before and after each pause of one track.
///
/// Both tracks lose the same time. Pictures are cut where the pause says; AAC can only be cut between
/// frames, so whole frames are left out until no more than half a frame (11 ms) is missing or too
/// much. That is counted against all pauses together: it does not grow with their number. Up to one
/// frame of a pause's sound can be heard at either end of it.
#[derive(Debug)]
pub struct Splice {
    /// Cuts that this track is past.
    done: usize,
    /// What those left out, by their times.
    removed_ns: i64,
    unit: Unit,
}

#[derive(Debug)]
enum Unit {
    /// After a cut the next frame must be a keyframe.
    Picture { awaits_keyframe: bool },
    /// Frames of a fixed length, of which so many were left out.
    Sound { frame_ns: f64, dropped: u32 },
}

impl Splice {
    /// Of a video track.
    pub fn picture() -> Self {
        Self { done: 0, removed_ns: 0, unit: Unit::Picture { awaits_keyframe: false } }
    }

    /// Of an audio track whose frames last `frame_ns`.
    pub fn sound(frame_ns: f64) -> Self {
        Self { done: 0, removed_ns: 0, unit: Unit::Sound { frame_ns, dropped: 0 } }
    }

    /// How much earlier than by the room's time a frame is in the file; `None`: it is not in it.
    /// `time` is when it is shown or heard, in running time; `zero_ns`, the file's beginning.
    pub fn place(&mut self, cuts: &Cuts, time: i64, sync: bool, zero_ns: i64) -> Option<i64> {
        while let Some(Cut { from, to }) = cuts.get(self.done) {
            let from = from.max(zero_ns);
            if !self.has_reached(time, from) {
                break;
            }
            let removed_ns = to.map(|to| self.removed_ns + (to.max(from) - from));
            let Some(removed_ns) = removed_ns.filter(|removed| self.is_past(time, to, *removed)) else {
                self.leave_out();
                return None;
            };
            self.removed_ns = removed_ns;
            self.done += 1;
        }
        match &mut self.unit {
            Unit::Picture { awaits_keyframe } if *awaits_keyframe && !sync => None,
            Unit::Picture { awaits_keyframe } => {
                *awaits_keyframe = false;
                Some(self.removed_ns)
            }
            Unit::Sound { frame_ns, dropped } => Some((*frame_ns * f64::from(*dropped)) as i64),
        }
    }

    /// A pause is over, and the keyframe that must follow it has not come by `time`.
    pub fn is_held_up(&self, cuts: &Cuts, time: i64) -> bool {
        matches!(self.unit, Unit::Picture { awaits_keyframe: true })
            && cuts.get(self.done).is_none_or(|next| time < next.from)
    }

    fn has_reached(&self, time: i64, from: i64) -> bool {
        match self.unit {
            Unit::Picture { .. } => time >= from,
            // By its place in the file: most of the frame would lie after the cut.
            Unit::Sound { frame_ns, dropped } => {
                let place = time as f64 - frame_ns * f64::from(dropped);
                place + frame_ns / 2.0 >= (from - self.removed_ns) as f64
            }
        }
    }

    /// `removed_ns`: what is left out in all, the cut that ends at `to` included.
    fn is_past(&self, time: i64, to: Option<i64>, removed_ns: i64) -> bool {
        match self.unit {
            Unit::Picture { .. } => to.is_some_and(|to| time >= to),
            Unit::Sound { frame_ns, dropped } => frame_ns * (f64::from(dropped) + 0.5) >= removed_ns as f64,
        }
    }

    fn leave_out(&mut self) {
        match &mut self.unit {
            Unit::Picture { awaits_keyframe } => *awaits_keyframe = true,
            Unit::Sound { dropped, .. } => *dropped += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AAC_NS: f64 = 1024.0 * 1e9 / 48_000.0;
    const PICTURE_NS: i64 = 40_000_000;

    fn at(nanoseconds: i64) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(nanoseconds as u64)
    }

    /// Times in the file of frames that come each `step` nanoseconds, with their times in the room.
    fn placed(splice: &mut Splice, cuts: &Cuts, step: f64, until: i64, key: impl Fn(i64) -> bool) -> Vec<(i64, i64)> {
        let times = (0..).map(|index| (f64::from(index) * step) as i64).take_while(|time| *time < until);
        times.filter_map(|time| Some((time, time - splice.place(cuts, time, key(time), 0)?))).collect()
    }

    #[test]
    fn the_first_picture_after_a_pause_is_a_keyframe_and_follows_at_once() {
        let cuts = Cuts::default();
        cuts.pause(at(980_000_000));
        assert!(cuts.resume(at(2_980_000_000)));
        let kept = placed(&mut Splice::picture(), &cuts, 40e6, 5_000_000_000, |time| time >= 2_900_000_000);
        assert!(kept.windows(2).all(|pair| pair[1].1 - pair[0].1 == PICTURE_NS), "{kept:?}");
        assert!(kept.iter().all(|(time, _)| !(980_000_000..2_980_000_000).contains(time)));
        // An encoder that makes none until later leaves a hole, but nothing moves.
        let late = placed(&mut Splice::picture(), &cuts, 40e6, 5_000_000_000, |time| time == 4_000_000_000);
        let after: Vec<_> = late.into_iter().filter(|(time, _)| *time > 980_000_000).collect();
        assert_eq!(after[0], (4_000_000_000, 2_000_000_000));
        // Who waits for it can tell, but not while the pause lasts.
        let mut splice = Splice::picture();
        let held_up = [900, 1_000, 2_900, 3_000, 3_040].map(|ms| {
            let time = ms * 1_000_000;
            let _ = splice.place(&cuts, time, time >= 3_040_000_000, 0);
            splice.is_held_up(&cuts, time)
        });
        assert_eq!(held_up, [false, false, false, true, false]);
    }

    #[test]
    fn sound_stays_with_the_picture_after_any_number_of_pauses() {
        let cuts = Cuts::default();
        let (mut time, mut removed) = (500_000_000_i64, Vec::new());
        for index in 0..200 {
            let length = 7_000_000 + (index * 37_000_001) % 900_000_000;
            cuts.pause(at(time));
            assert!(cuts.resume(at(time + length)));
            removed.push((time + length, length));
            time += length + 13_000_000 + (index * 91_000_003) % 400_000_000;
        }
        let kept = placed(&mut Splice::sound(AAC_NS), &cuts, AAC_NS, time + 1_000_000_000, |_| true);
        for pair in kept.windows(2) {
            assert!((pair[1].1 - pair[0].1 - AAC_NS as i64).abs() < 3, "{pair:?}");
        }
        for (room, file) in kept {
            let before: i64 = removed.iter().filter(|(to, _)| *to <= room).map(|(_, length)| length).sum();
            let inside = removed.iter().any(|(to, length)| {
                let frame = AAC_NS as i64 + 1;
                room >= to - length - frame && room < to + frame
            });
            assert!(inside || (room - before - file).abs() <= (AAC_NS / 2.0) as i64 + 3, "{room} {file}");
        }
    }

    #[test]
    fn nothing_is_taken_while_a_pause_lasts_and_one_of_no_length_changes_nothing() {
        let cuts = Cuts::default();
        cuts.pause(at(1_000_000_000));
        cuts.pause(at(1_500_000_000));
        assert!(placed(&mut Splice::picture(), &cuts, 40e6, 9_000_000_000, |_| true).last().unwrap().0 < 1_000_000_000);
        let sound = placed(&mut Splice::sound(AAC_NS), &cuts, AAC_NS, 9_000_000_000, |_| true);
        assert!(sound.last().unwrap().0 < 1_000_000_000);
        assert!(cuts.resume(at(900_000_000)));
        assert!(!cuts.resume(at(2_000_000_000)));
        assert_eq!(cuts.get(0), Some(Cut { from: 1_000_000_000, to: Some(1_000_000_000) }));
        let kept = placed(&mut Splice::picture(), &cuts, 40e6, 9_000_000_000, |_| false);
        assert!(kept.iter().all(|(room, file)| room == file) && kept.len() == 225);
    }
}
