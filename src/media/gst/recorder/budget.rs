//! How much the files of one recording may take together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a recording may take of the disk, shared by all its files.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
    /// Free space that is left alone.
    pub reserve_bytes: u64,
}

impl Budget {
    /// `max_bytes`: `None`, as much as the disk has. `reserve_bytes`: but for so much of it.
    pub fn new(max_bytes: Option<u64>, reserve_bytes: u64) -> Self {
        Self { left: AtomicU64::new(max_bytes.unwrap_or(u64::MAX)), reserve_bytes }
    }

    /// Takes `bytes`; false if so many are not left, and then none are taken.
    pub fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded() {
        let budget = Budget::new(Some(10), 0);
        assert!(budget.take(6));
        assert!(!budget.take(5));
        assert!(budget.take(4));
        assert!(!budget.take(1));
        assert!(Budget::new(None, 0).take(1 << 50));
    }
}
