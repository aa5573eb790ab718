//! A token bucket: so much at once, so much a second in the long run.

use std::time::Duration;

use tokio::time::Instant;

/// What one participant may still do.
pub(super) struct TokenBucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full one: `burst` at once, then `per_second`.
    pub(super) fn full(burst: usize, per_second: usize, now: Instant) -> Self {
        Self { tokens: burst as f64, burst: burst as f64, per_second: per_second as f64, filled: now }
    }

    /// Takes `count` tokens, or none.
    pub(super) fn take(&mut self, count: usize, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).min(Duration::from_secs(3_600));
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second).min(self.burst);
        self.filled = now;
        let enough = self.tokens >= count as f64;
        if enough {
            self.tokens -= count as f64;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_at_once_then_ten_a_second() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(30, 10, start);
        assert_eq!((0..40).filter(|_| bucket.take(1, start)).count(), 30);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..40).filter(|_| bucket.take(1, later)).count(), 10);
        let much_later = start + Duration::from_secs(100);
        assert_eq!((0..40).filter(|_| bucket.take(1, much_later)).count(), 30);
    }

    #[test]
    fn all_or_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(10, 1, start);
        assert!(!bucket.take(11, start));
        assert!(bucket.take(10, start));
        assert!(!bucket.take(1, start));
    }
}
