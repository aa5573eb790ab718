//! What the engine counts for metrics. Process-wide, as the packets' threads have no room at hand.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::media::fanout;

/// The counters as they stand; all but the `live_` ones and what runs of mixes only grow.
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
    /// Mixes that are being made.
    pub mixes: u64,
    /// Pixels a second that they encode.
    pub mix_pixels_per_s: u64,
    /// Mixes that the server's limit did not allow.
    pub mixes_refused: u64,
    /// Frames of mixes that were encoded long after their time: the machine does not keep up.
    pub mix_frames_late: u64,
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
        mixes: MIXES.load(Relaxed),
        mix_pixels_per_s: MIX_PIXELS.load(Relaxed),
        mixes_refused: MIXES_REFUSED.load(Relaxed),
        mix_frames_late: MIX_FRAMES_LATE.load(Relaxed),
    }
}

static PACKETS_FORWARDED: AtomicU64 = AtomicU64::new(0);
static PACKETS_DROPPED: AtomicU64 = AtomicU64::new(0);
static KEYFRAME_REQUESTS: AtomicU64 = AtomicU64::new(0);
static MIXES: AtomicU64 = AtomicU64::new(0);
static MIX_PIXELS: AtomicU64 = AtomicU64::new(0);
static MIXES_REFUSED: AtomicU64 = AtomicU64::new(0);
static MIX_FRAMES_LATE: AtomicU64 = AtomicU64::new(0);

pub(super) fn packet_forwarded() {
    PACKETS_FORWARDED.fetch_add(1, Relaxed);
}

pub(super) fn packet_dropped() {
    PACKETS_DROPPED.fetch_add(1, Relaxed);
}

pub(super) fn keyframe_requested() {
    KEYFRAME_REQUESTS.fetch_add(1, Relaxed);
}

pub(super) fn mix_started(pixels: u64) {
    MIXES.fetch_add(1, Relaxed);
    MIX_PIXELS.fetch_add(pixels, Relaxed);
}

pub(super) fn mix_ended(pixels: u64) {
    MIXES.fetch_sub(1, Relaxed);
    MIX_PIXELS.fetch_sub(pixels, Relaxed);
}

pub(super) fn mix_refused() {
    MIXES_REFUSED.fetch_add(1, Relaxed);
}

pub(super) fn mix_frame_late() {
    MIX_FRAMES_LATE.fetch_add(1, Relaxed);
}
