//! Waiting, for a moment, for a lost packet that is sent again.

use std::{collections::BTreeMap, time::Duration};

/// What a lost packet may take to come again, where it is asked for until it does: two round trips of 100 ms are not
/// enough where the request or the answer is lost too.
const HOLD_TIME: Duration = Duration::from_millis(500);
/// Packets held at most.
const HOLD_PACKETS: usize = 256;

/// Holds packets that come after a gap until the missing one was sent again.
///
/// No viewer can decode them before, so nothing is lost by it; but a viewer that sees the gap asks for
/// a packet that we do not have yet, gives up after ten requests, and stands still for three seconds.
/// And `rtprtxsend` finds packets again only if they passed in order.
#[derive(Debug)]
pub struct Resequencer<T> {
    hold: Duration,
    /// The number that may go next, without wrap-around.
    next: Option<u64>,
    held: BTreeMap<u64, (Duration, T)>,
}

/// Packets that may go on.
#[derive(Debug, PartialEq, Eq)]
pub struct Released<T> {
    /// In order.
    pub items: Vec<T>,
    /// A packet among them, or before them, was given up: pictures stand still until a keyframe.
    pub gap: bool,
}

impl<T> Default for Resequencer<T> {
    fn default() -> Self {
        Self::holding(HOLD_TIME)
    }
}

impl<T> Resequencer<T> {
    /// Gives a missing packet up after so long; by default 500 ms.
    pub fn holding(hold: Duration) -> Self {
        Self { hold, next: None, held: BTreeMap::new() }
    }

    /// Takes a packet; gives those that may go now, always in order: one that comes after it was
    /// given up is dropped, for out of order it would hide its neighbours from `rtprtxsend`.
    pub fn push(&mut self, sequence: u16, item: T, now: Duration) -> Released<T> {
        let next = self.next.unwrap_or(u64::from(sequence) + (1 << 16));
        let ahead = sequence.wrapping_sub(next as u16) as i16;
        if ahead < 0 {
            return Released { items: Vec::new(), gap: false };
        }
        self.held.insert(next.saturating_add_signed(ahead.into()), (now, item));
        self.release(next, now)
    }

    fn release(&mut self, mut next: u64, now: Duration) -> Released<T> {
        let mut released = Released { items: Vec::new(), gap: false };
        while let Some(entry) = self.held.first_entry() {
            let (held_since, _) = entry.get();
            let waited = now.saturating_sub(*held_since) >= self.hold;
            if *entry.key() > next && !waited && self.held.len() <= HOLD_PACKETS {
                break;
            }
            if let Some((sequence, (_, item))) = self.held.pop_first() {
                released.gap |= sequence > next;
                next = sequence + 1;
                released.items.push(item);
            }
        }
        self.next = Some(next);
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn packets_after_a_gap_wait_for_the_missing_one() {
        let mut resequencer = Resequencer::default();
        let mut push = |sequence: u16, ms: u32| {
            let released = resequencer.push(sequence, sequence, ms * MS);
            (released.items, released.gap)
        };
        let nothing: (Vec<u16>, bool) = (vec![], false);
        assert_eq!(push(65_534, 0), (vec![65_534], false));
        assert_eq!(push(0, 1), nothing);
        assert_eq!(push(1, 2), nothing);
        assert_eq!(push(65_535, 30), (vec![65_535, 0, 1], false), "sent again");
        assert_eq!(push(3, 40), nothing);
        assert_eq!(push(5, 60), nothing);
        assert_eq!(push(6, 539), nothing);
        assert_eq!(push(7, 540), (vec![3], true), "packet 2 is given up, packet 4 not yet");
        assert_eq!(push(2, 545), nothing, "too late: a keyframe is on its way");
        assert_eq!(push(4, 550), (vec![4, 5, 6, 7], false));
    }

    #[test]
    fn it_waits_as_long_as_it_is_told() {
        let mut resequencer = Resequencer::holding(250 * MS);
        let mut push = |sequence: u16, ms: u32| resequencer.push(sequence, sequence, ms * MS);
        push(1, 0);
        assert_eq!(push(3, 10), Released { items: vec![], gap: false });
        assert_eq!(push(4, 259), Released { items: vec![], gap: false });
        assert_eq!(push(5, 260), Released { items: vec![3, 4, 5], gap: true });
    }

    #[test]
    fn no_more_than_so_many_packets_are_held() {
        let mut resequencer = Resequencer::default();
        resequencer.push(0, 0, MS);
        let held = (2..).take_while(|sequence| resequencer.push(*sequence, *sequence, MS).items.is_empty()).count();
        assert_eq!(held, HOLD_PACKETS);
    }
}
