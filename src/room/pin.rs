//! The PIN at a room's door: compared in constant time, and closed for a while to whoever guesses.

use std::{collections::VecDeque, time::Duration};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::error::JoinError;

/// Wrong PINs within [`WINDOW`] that lock the door.
const MOST_WRONG: usize = 5;
/// How long a wrong PIN counts.
const WINDOW: Duration = Duration::from_secs(30);

/// A room's PIN, if it has one, and the wrong ones lately tried.
pub(super) struct PinGate {
    pin: Option<String>,
    wrong: VecDeque<Instant>,
}

impl PinGate {
    pub(super) fn new(pin: Option<String>) -> Self {
        Self { pin, wrong: VecDeque::with_capacity(MOST_WRONG) }
    }

    pub(super) fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// Sets, changes or removes the PIN; old failures are forgotten with it.
    pub(super) fn set(&mut self, pin: Option<String>) {
        *self = Self::new(pin);
    }

    /// Lets the bearer of `given` in, or says why not. A missing PIN is no guess and is not counted.
    pub(super) fn check(&mut self, given: Option<&str>, now: Instant) -> Result<(), JoinError> {
        let Some(pin) = &self.pin else { return Ok(()) };
        let Some(given) = given.filter(|given| !given.is_empty()) else { return Err(JoinError::PinRequired) };
        while self.wrong.front().is_some_and(|&at| now >= at + WINDOW) {
            self.wrong.pop_front();
        }
        // Locked for the right PIN too: otherwise guessing would go on at full speed.
        if let (Some(&oldest), true) = (self.wrong.front(), self.wrong.len() >= MOST_WRONG) {
            let left = (oldest + WINDOW).saturating_duration_since(now);
            return Err(JoinError::PinLocked { wait_s: left.as_millis().div_ceil(1000) as u64 });
        }
        if same_secret(pin, given) {
            return Ok(());
        }
        self.wrong.push_back(now);
        Err(JoinError::WrongPin)
    }
}

/// Compares two tokens, whose length is no secret, in a time that tells nothing of where they differ.
/// Cheaper than [`same_secret`]: whoever shows a token has it compared with everybody's.
pub(super) fn same_token(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Compares two secrets in a time that tells nothing of where they differ or how long they are.
fn same_secret(one: &str, other: &str) -> bool {
    let (one, other) = (Sha256::digest(one), Sha256::digest(other));
    one.iter().zip(other.iter()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_pins_lock_for_the_rest_of_thirty_seconds() {
        let start = Instant::now();
        let mut gate = PinGate::new(Some("1234".into()));
        assert_eq!(gate.check(None, start), Err(JoinError::PinRequired));
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(gate.check(Some("0000"), now), Err(JoinError::WrongPin));
        }
        let now = start + Duration::from_secs(5);
        assert_eq!(gate.check(Some("1234"), now), Err(JoinError::PinLocked { wait_s: 25 }));
        assert_eq!(gate.check(Some("1234"), start + Duration::from_secs(30)), Ok(()));
    }

    #[test]
    fn a_room_without_a_pin_takes_any() {
        let mut gate = PinGate::new(None);
        assert_eq!(gate.check(None, Instant::now()), Ok(()));
        assert_eq!(gate.check(Some("anything"), Instant::now()), Ok(()));
    }
}
