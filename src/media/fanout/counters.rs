//! What the edge counts for metrics. Process-wide, as the media threads have no room at hand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The counters as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// RTP packets written to viewers, one count for each viewer. Only grows.
    pub packets_forwarded: u64,
    /// Packets that a media thread had no room for, and datagrams that a socket did not take. Only grows.
    pub packets_dropped: u64,
    /// Viewers whose memory is in use.
    pub live_viewers: usize,
}

/// The counters as they stand.
pub fn counters() -> Counters {
    Counters {
        packets_forwarded: FORWARDED.load(Relaxed),
        packets_dropped: DROPPED.load(Relaxed),
        live_viewers: VIEWERS.load(Relaxed),
    }
}

static FORWARDED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static VIEWERS: AtomicUsize = AtomicUsize::new(0);

pub(super) fn forwarded(packets: u64) {
    FORWARDED.fetch_add(packets, Relaxed);
}

pub(super) fn dropped(packets: u64) {
    DROPPED.fetch_add(packets, Relaxed);
}

/// Counts a viewer while it is held.
#[derive(Debug)]
pub(super) struct Counted(());

impl Counted {
    pub(super) fn new() -> Self {
        VIEWERS.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        VIEWERS.fetch_sub(1, Relaxed);
    }
}
