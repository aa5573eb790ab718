//! How many pictures of a track go through its effects: all of them, or, while effects take longer than
//! pictures come, every second, third or fourth, evenly, so that nobody is kept waiting. Those that are too slow
//! even for that are told, as a stream behind them would fall back without end. Pure.

use std::time::Duration;

/// At least every so many go through.
const MOST: u32 = 4;
/// The share of the time between two pictures that effects may take.
const FULL: f64 = 0.9;
/// And below which more pictures may go through again.
const EASY: f64 = 0.6;
/// Pictures for which that has to be so.
const SLOW_FOR: u32 = 12;
const EASY_FOR: u32 = 90;

/// Of one track.
#[derive(Debug)]
pub(super) struct Pace {
    every: u32,
    count: u32,
    /// Smoothed, in seconds.
    took: f64,
    interval: f64,
    last: Option<Duration>,
    slow: u32,
    easy: u32,
    is_too_slow: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: 1, count: 0, took: 0.0, interval: 0.0, last: None, slow: 0, easy: 0, is_too_slow: false }
    }
}

impl Pace {
    /// Whether the picture of that time goes through.
    pub(super) fn lets_through(&mut self, time: Duration) -> bool {
        if let Some(last) = self.last.replace(time)
            && time > last
        {
            // A pause is no slow picture.
            let interval = (time - last).as_secs_f64().min(0.2);
            self.interval += (interval - self.interval) * if self.interval == 0.0 { 1.0 } else { 0.1 };
        }
        self.count = (self.count + 1) % self.every;
        self.count == 0
    }

    /// A picture took so long. True: another share of them goes through from now on.
    pub(super) fn took(&mut self, time: Duration) -> bool {
        self.took += (time.as_secs_f64() - self.took) * if self.took == 0.0 { 1.0 } else { 0.2 };
        if self.interval == 0.0 {
            return false;
        }
        let is_slow = self.took > FULL * self.interval * f64::from(self.every);
        let is_easy = self.every > 1 && self.took < EASY * self.interval * f64::from(self.every - 1);
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        self.easy = if is_easy { self.easy + 1 } else { 0 };
        let every = match () {
            () if self.slow >= SLOW_FOR && self.every == MOST => {
                self.is_too_slow = true;
                return false;
            }
            // At once what it needs: the stream falls back with each picture.
            () if self.slow >= SLOW_FOR => {
                let needed = (self.took / (FULL * self.interval)).ceil() as u32;
                needed.clamp(self.every + 1, MOST)
            }
            () if self.easy >= EASY_FOR => self.every - 1,
            () => return false,
        };
        (self.slow, self.easy) = (0, 0);
        std::mem::replace(&mut self.every, every) != every
    }

    /// The smallest share of the pictures has been too many, for a while.
    pub(super) fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }

    /// Every so many go through.
    pub(super) fn every(&self) -> u32 {
        self.every
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays pictures of 25 a second; gives how many went through.
    fn play(pace: &mut Pace, from: u32, count: u32, took_ms: u64) -> u32 {
        let through = (from..from + count).filter(|index| {
            let through = pace.lets_through(Duration::from_millis(40) * *index);
            if through {
                pace.took(Duration::from_millis(took_ms));
            }
            through
        });
        through.count() as u32
    }

    #[test]
    fn effects_that_fall_behind_get_fewer_pictures_and_all_of_them_when_they_keep_up() {
        let mut pace = Pace::default();
        assert_eq!(play(&mut pace, 0, 100, 20), 100);
        // 70 ms a picture of 40: every second.
        play(&mut pace, 100, 100, 70);
        assert_eq!((pace.every(), play(&mut pace, 200, 100, 70)), (2, 50));
        play(&mut pace, 300, 300, 140);
        assert_eq!((pace.every(), play(&mut pace, 600, 100, 140)), (4, 25));
        assert!(!pace.is_too_slow());
        play(&mut pace, 700, 2_000, 10);
        assert_eq!((pace.every(), play(&mut pace, 2_700, 100, 10)), (1, 100));
    }

    #[test]
    fn effects_too_slow_for_every_fourth_are_told_soon_and_a_slow_start_is_not() {
        let mut pace = Pace::default();
        play(&mut pace, 0, 3, 1_000);
        play(&mut pace, 3, 2_000, 10);
        assert_eq!((pace.every(), pace.is_too_slow()), (1, false));
        play(&mut pace, 2_003, 20, 1_000);
        assert_eq!((pace.every(), pace.is_too_slow()), (4, false));
        play(&mut pace, 2_023, 60, 1_000);
        assert!(pace.is_too_slow());
    }

    #[test]
    fn it_does_not_go_up_and_down() {
        let mut pace = Pace::default();
        let mut changes = 0;
        for index in 0..2_000u32 {
            if pace.lets_through(Duration::from_millis(40) * index) {
                // Around what a picture may take.
                changes += u32::from(pace.took(Duration::from_millis(if index % 2 == 0 { 33 } else { 39 })));
            }
        }
        assert!(changes <= 1, "{changes} changes");
    }
}
