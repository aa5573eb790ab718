//! When something happened last, for threads that must not wait for each other.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// A moment, to the millisecond.
#[derive(Debug)]
pub(super) struct LastTime {
    born: Instant,
    /// Milliseconds since then, and 1; 0: never.
    at: AtomicU64,
}

impl LastTime {
    pub(super) fn never() -> Self {
        Self { born: Instant::now(), at: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(super) fn is_now(&self) {
        self.at.store(self.now(), Relaxed);
    }

    /// `None`: it never happened.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        let at = self.at.load(Relaxed);
        (at != 0).then(|| Duration::from_millis(self.now().saturating_sub(at)))
    }
}
