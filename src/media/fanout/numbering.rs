//! A viewer's own sequence numbers: arithmetic only.

use rand::Rng;

use crate::media::rtp::Gaps;

/// Of the first packet: below 65,536, as a receiver takes the rollover counter of SRTP for 0 at first
/// (RFC 3711 §3.3.1), and far enough below it that the first packets do not wrap around.
const FIRST: std::ops::Range<u64> = 1_000..32_000;

/// Extends 16-bit numbers that come nearly in order: the one nearest to `newest` that ends in `sequence`.
pub(super) fn extended(newest: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(newest as u16) as i16;
    newest.saturating_add_signed(ahead.into())
}

/// Maps a track's numbers to a viewer's, without a gap where something was left out on purpose.
#[derive(Debug)]
pub(super) struct Numbering {
    /// The track's number that became `first`.
    base: Option<u64>,
    first: u64,
    /// The highest that left.
    last: u64,
    /// The track's packets after `base` that he does not get.
    gaps: Gaps,
}

impl Numbering {
    pub(super) fn new() -> Self {
        let first = rand::rng().random_range(FIRST);
        Self { base: None, first, last: first, gaps: Gaps::default() }
    }

    /// The viewer's number of the track's packet `sequence`; `None` if it is from before what the viewer
    /// was sent. `rejoins`: it follows the last one that left, whatever was between.
    pub(super) fn number(&mut self, sequence: u64, rejoins: bool) -> Option<u64> {
        let base = match self.base {
            Some(base) if !rejoins => base,
            before => {
                self.first = if before.is_some() { self.last + 1 } else { self.first };
                self.base = Some(sequence);
                self.gaps = Gaps::default();
                sequence
            }
        };
        let number = self.first + sequence.checked_sub(base)? - self.gaps.before(sequence)?;
        self.last = self.last.max(number);
        Some(number)
    }

    /// He does not get that packet, and is to see no gap.
    pub(super) fn leave_out(&mut self, sequence: u64) {
        if self.base.is_some_and(|base| sequence > base) {
            self.gaps.leave_out(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_extended_forwards_and_backwards() {
        assert_eq!(extended(65_536 + 65_535, 0), 131_072);
        assert_eq!(extended(131_072, 65_535), 131_071);
        assert_eq!(extended(131_072, 10), 131_082);
        assert_eq!(extended(3, 65_535), 0, "never below nothing");
    }

    #[test]
    fn a_viewer_begins_below_65536_and_sees_no_gap_where_something_was_left_out() {
        let mut numbering = Numbering::new();
        let first = numbering.number(1_000_000, true).unwrap();
        assert!(FIRST.contains(&first));
        assert_eq!(numbering.number(1_000_002, false), Some(first + 2));
        assert_eq!(numbering.number(1_000_001, false), Some(first + 1), "out of order");
        assert_eq!(numbering.number(999_999, false), None, "from before the beginning");
        assert_eq!(numbering.number(1_000_500, true), Some(first + 3), "it rejoins");
        assert_eq!(numbering.number(1_000_003, false), None, "from before it rejoined");
        assert_eq!(numbering.number(1_000_501, false), Some(first + 4));
        numbering.leave_out(1_000_503);
        numbering.leave_out(1_000_504);
        assert_eq!(numbering.number(1_000_505, false), Some(first + 6));
        assert_eq!(numbering.number(1_000_502, false), Some(first + 5), "late");
        assert_eq!(numbering.number(1_000_503, false), None, "left out");
        assert_eq!(numbering.number(1_000_900, true), Some(first + 7));
    }
}
