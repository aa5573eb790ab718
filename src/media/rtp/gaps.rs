//! Numbers without a gap where something was left out on purpose.

use std::collections::VecDeque;

/// So many are remembered one by one; later than that no packet comes.
const REMEMBERED: usize = 1_024;

/// Which of a stream's packets were left out, by their numbers without wrap-around.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// Ascending.
    left_out: VecDeque<u64>,
    /// How many are not remembered any more, and the highest of them.
    forgotten: (u64, u64),
    newest: u64,
}

impl Gaps {
    /// That packet does not go on. Nothing happens if a later one did: its number is taken, and the gap stays.
    pub fn leave_out(&mut self, sequence: u64) {
        if sequence <= self.newest {
            return;
        }
        self.newest = sequence;
        self.left_out.push_back(sequence);
        if self.left_out.len() > REMEMBERED
            && let Some(oldest) = self.left_out.pop_front()
        {
            self.forgotten = (self.forgotten.0 + 1, oldest);
        }
    }

    /// How many before that packet, which goes on, were left out; `None` if that is not known any more, or it is one
    /// of them.
    pub fn before(&mut self, sequence: u64) -> Option<u64> {
        self.newest = self.newest.max(sequence);
        let (count, highest) = self.forgotten;
        if count > 0 && sequence <= highest {
            return None;
        }
        match self.left_out.binary_search(&sequence) {
            Ok(_) => None,
            Err(index) => Some(count + index as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_has_the_number_that_was_kept_for_it() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.before(10), Some(0));
        gaps.leave_out(12);
        assert_eq!(gaps.before(13), Some(1));
        assert_eq!(gaps.before(11), Some(0), "late");
        assert_eq!(gaps.before(12), None, "left out");
        gaps.leave_out(9);
        assert_eq!(gaps.before(14), Some(1), "one that comes too late leaves a gap");
    }

    #[test]
    fn few_are_remembered() {
        let mut gaps = Gaps::default();
        for sequence in (1..10_000).step_by(2) {
            gaps.leave_out(sequence);
        }
        assert_eq!(gaps.left_out.len(), REMEMBERED);
        assert_eq!((gaps.before(10_000), gaps.before(2)), (Some(5_000), None));
    }
}
