//! How often a media thread goes to work: to be woken for each packet costs more than what the packet needs.

use std::{
    thread,
    time::{Duration, Instant},
};

/// From one batch's beginning to the next one's, at least. By so much a packet may be late on each of the threads it
/// passes: the one that receives, its publisher's, its viewer's.
const APART: Duration = Duration::from_millis(1);

/// One thread's.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: Option<Instant>,
}

impl Pace {
    /// A batch is there and its work begins.
    pub(super) fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// Blocks the thread: lets work gather if the last batch has only just begun. Whoever was idle is not held up.
    #[allow(clippy::disallowed_methods, reason = "what is waited for is that time passes, on a thread of its own")]
    pub(super) fn wait(&self) {
        let left = self.began.and_then(|began| APART.checked_sub(began.elapsed()));
        if let Some(left) = left {
            thread::sleep(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_apart_and_who_was_idle_is_not_held_up() {
        let mut pace = Pace::default();
        let start = Instant::now();
        for _ in 0..5 {
            pace.wait();
            pace.begin();
        }
        assert!(start.elapsed() >= 4 * APART);
        let idle = Instant::now();
        pace.wait();
        // Nothing is left to wait for: asked many times, it would else take as many milliseconds.
        (0..1_000).for_each(|_| pace.wait());
        assert!(idle.elapsed() < Duration::from_millis(900), "{:?}", idle.elapsed());
    }
}
