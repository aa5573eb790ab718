//! What all files of one recording have in common: when it begins and ends, what is left out, and how
//! much it may take.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{Budget, Cuts};

/// Shared by all that write a recording. Times are running times of the room.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Its time 0: when it was asked for, and not when everything was built. Nothing from before is in it.
    pub begin: gst::ClockTime,
    /// When it is to end.
    pub stop: Arc<StopTime>,
    /// What is left out.
    pub cuts: Arc<Cuts>,
    /// What its files may take.
    pub budget: Arc<Budget>,
}

impl Bounds {
    /// Of a recording that begins at `begin`.
    pub fn new(begin: gst::ClockTime, budget: Budget) -> Self {
        Self { begin, stop: Arc::default(), cuts: Arc::default(), budget: Arc::new(budget) }
    }
}

/// The running time at which a recorder is to end, shared with it, so that it knows before the
/// frames from after that time have come through the encoders. The earliest that is set counts.
#[derive(Debug)]
pub struct StopTime(AtomicU64);

impl Default for StopTime {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl StopTime {
    /// A stop that waits for the tap's end.
    pub const ALL: u64 = u64::MAX - 1;

    /// Ends the recording with the last frame before `time`.
    pub fn set(&self, time: gst::ClockTime) {
        self.0.fetch_min(time.nseconds(), Relaxed);
    }

    /// Ends the file when every sender of the tap is gone, and all they sent is written: for media
    /// that ends by itself.
    pub fn when_all_is_written(&self) {
        self.0.fetch_min(Self::ALL, Relaxed);
    }

    /// In nanoseconds; `None` before it is set.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|at| *at != u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_stop_counts() {
        let stop = StopTime::default();
        assert_eq!(stop.get(), None);
        stop.set(gst::ClockTime::from_seconds(9));
        stop.set(gst::ClockTime::from_seconds(12));
        assert_eq!(stop.get(), Some(9_000_000_000));
    }
}
