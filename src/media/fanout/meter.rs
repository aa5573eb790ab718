//! How much comes: bits a second of one stream. Written by one thread, read by any.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Over so long it counts.
const WINDOW: Duration = Duration::from_millis(500);
/// Of which nothing came for so long is at rest.
const AT_REST_AFTER: Duration = Duration::from_secs(2);

/// Counts bytes.
#[derive(Debug)]
pub(super) struct Meter {
    epoch: Instant,
    /// When the window began, in ms since `epoch`.
    began: AtomicU64,
    bytes: AtomicU64,
    /// Of the windows before, smoothed.
    kbps: AtomicU32,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), began: AtomicU64::new(0), bytes: AtomicU64::new(0), kbps: AtomicU32::new(0) }
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    pub(super) fn count(&self, bytes: usize, now: Instant) {
        let bytes = self.bytes.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        let (now, began) = (self.ms(now), self.began.load(Relaxed));
        let elapsed = now.saturating_sub(began);
        if elapsed < WINDOW.as_millis() as u64 {
            return;
        }
        self.began.store(now, Relaxed);
        self.bytes.store(0, Relaxed);
        if elapsed >= AT_REST_AFTER.as_millis() as u64 {
            // It begins, or again. Not nothing: it comes.
            return self.kbps.store(1, Relaxed);
        }
        let rate = (bytes * 8 / elapsed) as u32;
        let before = self.kbps.load(Relaxed);
        let smoothed = if before <= 1 { rate } else { before / 2 + rate / 2 };
        self.kbps.store(smoothed.max(1), Relaxed);
    }

    /// In kbit/s; 0 if nothing comes.
    pub(super) fn kbps(&self, now: Instant) -> u32 {
        let silent = self.ms(now).saturating_sub(self.began.load(Relaxed));
        if silent > AT_REST_AFTER.as_millis() as u64 { 0 } else { self.kbps.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_known_while_packets_come() {
        let meter = Meter::new();
        let at = |ms| meter.epoch + Duration::from_millis(ms);
        assert_eq!(meter.kbps(at(0)), 0);
        (0..300).for_each(|count| meter.count(1_000, at(count * 10)));
        let rate = meter.kbps(at(3_000));
        assert!((780..=820).contains(&rate), "{rate} of 800 kbit/s");
        assert_eq!(meter.kbps(at(5_500)), 0, "at rest");
        meter.count(1_000, at(9_000));
        assert_eq!(meter.kbps(at(9_001)), 1, "it comes again; how much is not known yet");
    }
}
