//! One time for all pipelines of a room.

use std::time::{Duration, Instant};

use gst::prelude::*;

/// A room's clock and the moment its running time began. Every pipeline of the room gets both, so a
/// buffer's timestamp means the same in all of them, and no arithmetic is needed between them.
#[derive(Clone, Debug)]
pub struct RoomClock {
    clock: gst::Clock,
    base_time: gst::ClockTime,
    /// The same moment for what is no pipeline.
    began: Instant,
}

impl RoomClock {
    /// The system's monotonic clock; running time 0 is now.
    pub fn new() -> Self {
        let clock = gst::SystemClock::obtain();
        let base_time = clock.time();
        Self { clock, base_time, began: Instant::now() }
    }

    /// Puts a pipeline that was not started yet on this time. Without a start time GStreamer leaves
    /// the base time alone at state changes.
    pub fn apply(&self, pipeline: &gst::Pipeline) {
        pipeline.use_clock(Some(&self.clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(self.base_time);
    }

    /// Time since the room began.
    pub fn running_time(&self) -> gst::ClockTime {
        self.clock.time().saturating_sub(self.base_time)
    }

    /// The same of a moment that has been.
    pub fn running_time_at(&self, moment: Instant) -> gst::ClockTime {
        let ago = gst::ClockTime::try_from(moment.elapsed()).unwrap_or(gst::ClockTime::ZERO);
        self.running_time().saturating_sub(ago)
    }

    /// The moment that a running time was, or will be: both clocks are the system's monotonic one.
    pub fn moment(&self, running_time: gst::ClockTime) -> Instant {
        self.began + Duration::from(running_time)
    }
}

impl Default for RoomClock {
    fn default() -> Self {
        Self::new()
    }
}
