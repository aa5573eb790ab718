//! The PIN at a room's door: compared in constant time, and closed for a while to whoever guesses.

use std::{collections::VecDeque, time::Duration};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{error::JoinError, guests::Address};

/// Wrong PINs from one address within [`WINDOW`] that lock the door for that address.
const MOST_WRONG: usize = 5;
/// Wrong PINs from all addresses within [`WINDOW`] that lock it for everybody: whoever has many
/// addresses guesses no faster.
const MOST_WRONG_OF_ALL: usize = 50;
/// How long a wrong PIN counts.
const WINDOW: Duration = Duration::from_secs(30);

/// A room's PIN, if it has one, and the wrong ones lately tried.
pub(super) struct PinGate {
    pin: Option<String>,
    wrong: VecDeque<(Instant, Address)>,
}

impl PinGate {
    pub(super) fn new(pin: Option<String>) -> Self {
        Self { pin, wrong: VecDeque::new() }
    }

    pub(super) fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// Sets, changes or removes the PIN; old failures are forgotten with it.
    pub(super) fn set(&mut self, pin: Option<String>) {
        *self = Self::new(pin);
    }

    /// Lets the bearer of `given` in, or says why not. A missing PIN is no guess and is not counted.
    pub(super) fn check(&mut self, given: Option<&str>, from: Address, now: Instant) -> Result<(), JoinError> {
        let Some(pin) = &self.pin else { return Ok(()) };
        let Some(given) = given.filter(|given| !given.is_empty()) else { return Err(JoinError::PinRequired) };
        while self.wrong.front().is_some_and(|&(at, _)| now >= at + WINDOW) {
            self.wrong.pop_front();
        }
        // Locked for the right PIN too: otherwise guessing would go on at full speed.
        if let Some(oldest) = self.locked_since(from) {
            let left = (oldest + WINDOW).saturating_duration_since(now);
            return Err(JoinError::PinLocked { wait_s: left.as_millis().div_ceil(1000) as u64 });
        }
        if same_secret(pin, given) {
            return Ok(());
        }
        self.wrong.push_back((now, from));
        Err(JoinError::WrongPin)
    }

    /// When the failures began that lock the door for whoever comes from there.
    fn locked_since(&self, from: Address) -> Option<Instant> {
        let oldest_of_many = |most: usize, only: Option<Address>| {
            let mut failures = self.wrong.iter().filter(|(_, address)| only.is_none_or(|only| only == *address));
            let newest_that_locks = failures.clone().nth(most - 1);
            newest_that_locks.and_then(|_| failures.next()).map(|&(at, _)| at)
        };
        oldest_of_many(MOST_WRONG, Some(from)).or_else(|| oldest_of_many(MOST_WRONG_OF_ALL, None))
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
        let here = Address::default();
        assert_eq!(gate.check(None, here, start), Err(JoinError::PinRequired));
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(gate.check(Some("0000"), here, now), Err(JoinError::WrongPin));
        }
        let now = start + Duration::from_secs(5);
        assert_eq!(gate.check(Some("1234"), here, now), Err(JoinError::PinLocked { wait_s: 25 }));
        assert_eq!(gate.check(Some("1234"), here, start + Duration::from_secs(30)), Ok(()));
    }

    #[test]
    fn a_stranger_who_guesses_locks_nobody_else_out_and_many_strangers_guess_no_faster() {
        let now = Instant::now();
        let from = |number: u8| Address::from(std::net::IpAddr::from([192, 0, 2, number]));
        let mut gate = PinGate::new(Some("1234".into()));
        for _ in 0..5 {
            assert_eq!(gate.check(Some("0000"), from(1), now), Err(JoinError::WrongPin));
        }
        assert_eq!(gate.check(Some("1234"), from(1), now), Err(JoinError::PinLocked { wait_s: 30 }));
        assert_eq!(gate.check(Some("1234"), from(2), now), Ok(()));
        for stranger in 3..48 {
            assert_eq!(gate.check(Some("0000"), from(stranger), now), Err(JoinError::WrongPin));
        }
        assert_eq!(gate.check(Some("1234"), from(2), now), Err(JoinError::PinLocked { wait_s: 30 }));
        assert_eq!(gate.check(Some("1234"), from(2), now + WINDOW), Ok(()));
    }

    #[test]
    fn a_room_without_a_pin_takes_any() {
        let mut gate = PinGate::new(None);
        assert_eq!(gate.check(None, Address::default(), Instant::now()), Ok(()));
        assert_eq!(gate.check(Some("anything"), Address::default(), Instant::now()), Ok(()));
    }
}
