//! When to try again: soon, and not all at the same moment.

use std::time::Duration;

use rand::Rng;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: a camera must be back on air within 3 s of its return, and takes up to one to begin.
const LONGEST: Duration = Duration::from_millis(1500);

/// Waits between attempts: 0.5 s, doubled up to 1.5 s (or as it is made), each shortened by up to a quarter at random, so
/// that cameras behind one switch are not all dialled at once.
#[derive(Debug)]
pub struct Backoff {
    attempts: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    /// One whose waits grow to `longest`.
    pub fn up_to(longest: Duration) -> Self {
        Self { attempts: 0, longest }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self, random: &mut impl Rng) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.attempts.min(8)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        wait.mul_f64(1.0 - random.random_range(0.0..0.25))
    }

    /// It worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        let mut random = rand::rng();
        let mut backoff = Backoff::default();
        for (attempt, longest_ms) in [500u64, 1000, 1500, 1500, 1500].into_iter().enumerate() {
            let wait = backoff.next_wait(&mut random);
            let longest = Duration::from_millis(longest_ms);
            assert!(wait <= longest && wait >= longest.mul_f64(0.75), "{attempt}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait(&mut random) <= FIRST);
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| Backoff::default().next_wait(&mut random)).collect();
        assert!(waits.len() > 10, "{waits:?}");
        let mut old = Backoff { attempts: u32::MAX, ..Backoff::default() };
        assert!(old.next_wait(&mut random) <= LONGEST);
    }
}
