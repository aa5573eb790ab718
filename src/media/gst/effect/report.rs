//! What effects find, on its way to the room.

use std::fmt;

use tokio::sync::mpsc;

use crate::{
    media::{EffectReport, MediaEvent},
    room::id::TrackId,
};

/// Where an effect tells what it finds. Clones share it.
#[derive(Clone, Default)]
pub struct Reports {
    to: Option<(TrackId, mpsc::Sender<MediaEvent>)>,
}

impl Reports {
    /// Of a track's effects.
    pub fn of_track(track: &TrackId, events: &mpsc::Sender<MediaEvent>) -> Self {
        Self { to: Some((track.clone(), events.clone())) }
    }

    /// Called on streaming threads: a room that does not keep up misses it.
    pub fn send(&self, report: EffectReport) {
        if let Some((track, events)) = &self.to {
            let _ = events.try_send(MediaEvent::EffectReported { track: track.clone(), report });
        }
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reports({:?})", self.to.as_ref().map(|(track, _)| track))
    }
}
