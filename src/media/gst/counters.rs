//! What the engine counts for metrics. Process-wide, as the packets' threads have no room at hand.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::media::fanout;

/// The counters as they stand; all but the `live_` ones only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// RTP packets handed to subscribers, through both edges, one count for each subscriber.
    pub packets_forwarded: u64,
    /// Times that a subscriber's queue was found full: one for each packet of audio that was lost to
    /// it, one for each time that its video had to wait for a keyframe.
    pub packets_dropped: u64,
    /// Keyframe requests sent to publishers, after merging.
    pub keyframe_requests: u64,
    /// Pipelines whose memory is in use.
    pub live_pipelines: usize,
    /// Viewers on the fan-out edge whose memory is in use.
    pub live_viewers: usize,
}

/// The counters as they stand.
pub fn counters() -> Counters {
    let edge = fanout::counters();
    Counters {
        packets_forwarded: PACKETS_FORWARDED.load(Relaxed) + edge.packets_forwarded,
        packets_dropped: PACKETS_DROPPED.load(Relaxed) + edge.packets_dropped,
        keyframe_requests: KEYFRAME_REQUESTS.load(Relaxed),
        live_pipelines: super::live_pipelines(),
        live_viewers: edge.live_viewers,
    }
}

static PACKETS_FORWARDED: AtomicU64 = AtomicU64::new(0);
static PACKETS_DROPPED: AtomicU64 = AtomicU64::new(0);
static KEYFRAME_REQUESTS: AtomicU64 = AtomicU64::new(0);

pub(super) fn packet_forwarded() {
    PACKETS_FORWARDED.fetch_add(1, Relaxed);
}

pub(super) fn packet_dropped() {
    PACKETS_DROPPED.fetch_add(1, Relaxed);
}

pub(super) fn keyframe_requested() {
    KEYFRAME_REQUESTS.fetch_add(1, Relaxed);
}
