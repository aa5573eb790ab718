//! Which packets of a stream are older than a moment in it.

/// So far behind the newest packet the floor follows: more than packets are ever late.
const REACH: u16 = 4_096;

/// A sequence number that a stream begins with. Numbers are compared over half of their range (RFC 1982), so it
/// follows the stream: one that stayed would take what comes 32,768 packets later for older.
#[derive(Clone, Copy, Debug)]
pub struct Floor(u16);

impl Floor {
    /// The stream begins with this packet.
    pub fn new(first: u16) -> Self {
        Self(first)
    }

    /// False for a packet from before the beginning.
    pub fn admits(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.0).cast_signed();
        if ahead > REACH.cast_signed() {
            self.0 = sequence.wrapping_sub(REACH);
        }
        ahead >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_stays_out_and_what_comes_later_never_does() {
        let mut floor = Floor::new(65_000);
        assert!(!floor.admits(64_999));
        for number in 65_000..265_000u32 {
            assert!(floor.admits(number as u16), "{number}");
            assert!(number < 66_000 || floor.admits((number - 900) as u16), "late, {number}");
        }
    }
}
