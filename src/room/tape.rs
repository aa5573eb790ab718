//! A recording's own time: what of the time that passes is in its file.

use std::time::Duration;

use tokio::time::Instant;

/// What of the time that passes is in the file.
pub(super) struct Tape {
    /// The file's beginning: when the engine was asked for it.
    begun: Instant,
    pub(super) paused_at: Option<Instant>,
    /// Pauses that are over, together.
    pub(super) paused: Duration,
    /// How many there are.
    pub(super) markers: usize,
    /// Messages that were noted.
    pub(super) said: usize,
}

impl Tape {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, paused_at: None, paused: Duration::ZERO, markers: 0, said: 0 }
    }

    /// How long the file is.
    pub(super) fn position(&self, now: Instant) -> Duration {
        (self.paused_at.unwrap_or(now) - self.begun).saturating_sub(self.paused)
    }

    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(at) = self.paused_at.take() {
            self.paused += now - at;
        }
    }
}
