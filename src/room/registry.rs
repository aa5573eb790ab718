//! Finds rooms by name, and makes them.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{RoomHandle, error::CreateError, model::RoomSettings, policy::RoomPolicy};
use crate::{media::MediaEngine, recording::RecordingNotice};

/// All rooms of this server.
pub struct Registry {}

impl Registry {
    /// An empty one. Rooms are made with `engine`, tell `keeper` of their recordings, and keep to `policy`.
    pub fn new(policy: RoomPolicy, engine: Arc<dyn MediaEngine>, keeper: mpsc::Sender<RecordingNotice>) -> Arc<Self> {
        let _ = (policy, engine, keeper);
        Arc::new(Self {})
    }

    /// Makes a room.
    ///
    /// # Errors
    /// As [`CreateError`] says.
    pub fn create(&self, name: &str, settings: RoomSettings) -> Result<RoomHandle, CreateError> {
        let _ = (name, settings);
        Err(CreateError::ShuttingDown)
    }

    /// The room of that name, made with default settings if there is none.
    ///
    /// # Errors
    /// As [`CreateError`] says, but never [`CreateError::Exists`].
    pub fn find_or_create(&self, name: &str) -> Result<RoomHandle, CreateError> {
        self.create(name, RoomSettings::default())
    }

    /// The room of that name.
    pub fn find(&self, name: &str) -> Option<RoomHandle> {
        let _ = name;
        None
    }

    /// All rooms, by name.
    pub fn list(&self) -> Vec<(String, RoomHandle)> {
        Vec::new()
    }

    /// Closes all rooms at once and waits for them, at most until `deadline`; new ones are refused.
    pub async fn shutdown(&self, deadline: Duration) {
        let _ = deadline;
    }
}
