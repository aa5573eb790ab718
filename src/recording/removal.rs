//! Removing recordings: at once, or when the time to think better of it is over.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::{Keeper, RoomKey, catalogue::CatalogueError};
use crate::room::id::RecordingId;

/// How often old recordings are looked for.
const ROUND: Duration = Duration::from_secs(3600);

/// How long recordings are kept. What is not over is never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// After their end; `None`: for ever.
    pub max_age: Option<Duration>,
    /// All files together: the oldest go until they fit. `None`: as much as the disk has.
    pub max_bytes: Option<u64>,
}

impl Retention {
    /// Which of these, the oldest first, are to go.
    fn outdated(&self, kept: &[Kept], now: Timestamp) -> Vec<RecordingId> {
        let is_old = |kept: &&Kept| {
            let age = Duration::try_from(now.duration_since(kept.ended_at)).unwrap_or_default();
            self.max_age.is_some_and(|most| age > most)
        };
        let (old, rest): (Vec<&Kept>, Vec<&Kept>) = kept.iter().partition(is_old);
        let mut bytes: u64 = rest.iter().map(|kept| kept.bytes).sum();
        let too_much = rest.into_iter().take_while(|kept| {
            let is_too_much = self.max_bytes.is_some_and(|most| bytes > most);
            bytes -= kept.bytes;
            is_too_much
        });
        old.iter().copied().chain(too_much).map(|kept| kept.id.clone()).collect()
    }
}

/// A recording that is over, as the retention looks at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Which.
    pub id: RecordingId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Of all its files.
    pub bytes: u64,
}

/// Why a recording was not removed.
#[derive(Debug, Error)]
pub enum DeleteError {
    /// There is none of that id.
    #[error("no such recording")]
    Unknown,
    /// It is still being made.
    #[error("the recording is not over")]
    Running,
    /// It was not removed, so it cannot be brought back.
    #[error("the recording is not deleted")]
    NotDeleted,
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The disk.
    #[error("the file could not be removed: {0}")]
    File(#[from] std::io::Error),
}

impl Keeper {
    /// Removes a recording, its files and its description, at once; or hides it at once and removes it
    /// when `undo` is over, also across a restart.
    ///
    /// # Errors
    /// As [`DeleteError`] says.
    pub async fn delete(&self, id: &RecordingId, undo: Duration) -> Result<(), DeleteError> {
        let recording = self.get(id).await?.ok_or(DeleteError::Unknown)?;
        if !recording.state.is_final() {
            return Err(DeleteError::Running);
        }
        if undo.is_zero() {
            return self.remove(id).await;
        }
        let at = Timestamp::now().checked_add(undo).unwrap_or(Timestamp::MAX);
        self.shared.catalogue.hide(id, at).await?;
        self.changed();
        self.remove_at(id.clone(), at);
        Ok(())
    }

    /// Brings a recording back that was deleted with time to think better of it; one of that room, if a
    /// key is given.
    ///
    /// # Errors
    /// [`DeleteError::Unknown`] also once the time is over.
    pub async fn restore(&self, id: &RecordingId, key: Option<&RoomKey>) -> Result<(), DeleteError> {
        // Its files may be gone by now, before its entry.
        if self.shared.catalogue.is_due(id, Timestamp::now()).await? {
            return Err(DeleteError::Unknown);
        }
        if self.shared.catalogue.show(id, key.map(|key| self.key_hash(key))).await? {
            self.changed();
            return Ok(());
        }
        Err(if self.get(id).await?.is_some() { DeleteError::NotDeleted } else { DeleteError::Unknown })
    }

    /// Takes up what an earlier life was told to remove.
    pub(super) async fn resume_removals(&self) -> Result<(), CatalogueError> {
        for (id, at) in self.shared.catalogue.hidden().await? {
            self.remove_at(id, at);
        }
        Ok(())
    }

    fn remove_at(&self, id: RecordingId, at: Timestamp) {
        let keeper = self.clone();
        self.shared.jobs.spawn(async move {
            let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The next start takes it up.
                () = keeper.shared.stop.cancelled() => return,
            }
            // It may have been brought back, and deleted again with more time.
            match keeper.shared.catalogue.is_due(&id, Timestamp::now()).await {
                Ok(false) => {}
                Ok(true) => {
                    if let Err(error) = keeper.remove(&id).await {
                        tracing::error!(recording.id = %id, "failed to remove a deleted recording: {error}");
                    }
                }
                Err(error) => tracing::error!(recording.id = %id, "failed to look for a deleted recording: {error}"),
            }
        });
    }

    /// Removes what is to be kept no longer.
    pub(super) async fn clear_out(&self) {
        let retention = self.shared.retention;
        if retention == Retention::default() {
            return;
        }
        let kept = match self.shared.catalogue.over().await {
            Ok(kept) => kept,
            Err(error) => return tracing::error!("failed to look for old recordings: {error}"),
        };
        for id in retention.outdated(&kept, Timestamp::now()) {
            match self.remove(&id).await {
                Ok(()) => tracing::info!(recording.id = %id, "a recording was kept for as long as it may be"),
                Err(error) => tracing::error!(recording.id = %id, "failed to remove an old recording: {error}"),
            }
        }
    }

    /// At once and every hour.
    pub(super) fn clear_out_at_times(&self) {
        let keeper = self.clone();
        self.shared.jobs.spawn(async move {
            let mut rounds = tokio::time::interval(ROUND);
            loop {
                tokio::select! {
                    _ = rounds.tick() => keeper.clear_out().await,
                    () = keeper.shared.stop.cancelled() => return,
                }
            }
        });
    }

    async fn remove(&self, id: &RecordingId) -> Result<(), DeleteError> {
        let (store, removed) = (self.shared.store.clone(), id.clone());
        spawn_blocking(move || store.remove(&removed)).await.map_err(std::io::Error::other)??;
        self.shared.catalogue.delete(id).await?;
        self.changed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_must() {
        let now = Timestamp::now();
        let day = Duration::from_secs(86_400);
        let kept: Vec<_> = (1..=5)
            .rev()
            .map(|days| Kept { id: RecordingId::random(), ended_at: now - day * days, bytes: 100 })
            .collect();
        let gone = |max_age: Option<u32>, max_bytes| {
            let outdated = Retention { max_age: max_age.map(|days| day * days), max_bytes }.outdated(&kept, now);
            assert_eq!(outdated, kept[..outdated.len()].iter().map(|kept| kept.id.clone()).collect::<Vec<_>>());
            outdated.len()
        };
        assert_eq!(gone(None, None), 0);
        assert_eq!((gone(Some(3), None), gone(Some(1), None), gone(Some(9), None)), (2, 4, 0));
        assert_eq!((gone(None, Some(500)), gone(None, Some(499)), gone(None, Some(0))), (0, 1, 5));
        assert_eq!(gone(Some(3), Some(250)), 3);
    }
}
