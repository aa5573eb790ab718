//! The keeper: the one task that owns catalogue and files.
//!
//! Rooms tell it what happens to their recordings ([`RecordingNotice`]); it notes, finalises, and
//! answers through the room's handle. A notice is never waited for and an answer never holds up the
//! next notice, so a busy room and a slow disk cannot block each other. Files are finalised one
//! after the other: they compete for one disk.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use thiserror::Error;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    RecordingNotice, RoomKey,
    catalogue::{Catalogue, CatalogueError, KeyHash, Outcome, Recording},
    store::{Finaliser, Finished, Manifest, Orphan, Store, StoreError},
};
use crate::{
    media::{MediaError, RecordingSpec},
    room::{RoomHandle, error::RecordError, id::RecordingId, model::RecordingState},
};

/// Notices that may wait for the keeper.
const NOTICES: usize = 1_024;

/// Where recordings and their catalogue are.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// The recordings folder.
    pub recordings: PathBuf,
    /// The catalogue's SQLite file.
    pub database: PathBuf,
    /// Space that recordings leave free.
    pub reserve_bytes: u64,
    /// How fragmented files become progressive ones.
    pub finalise: Finaliser,
}

/// The keeper could not begin.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Looking through the folder failed.
    #[error("the recordings folder: {0}")]
    Folder(#[from] std::io::Error),
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
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The disk.
    #[error("the file could not be removed: {0}")]
    File(#[from] std::io::Error),
}

/// The keeper, from outside. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    catalogue: Catalogue,
    store: Arc<Store>,
    /// Counts changes of any recording's state; whoever waits for one looks again at each.
    changes: watch::Sender<u64>,
    /// One file at a time.
    disk: Semaphore,
    jobs: TaskTracker,
    stop: CancellationToken,
}

/// The keeper's task, and how to end it.
#[derive(Debug)]
pub struct KeeperTask {
    keeper: Keeper,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Opens folder and catalogue, begins to mend what an earlier life left behind, and listens.
    ///
    /// # Errors
    /// As [`KeeperError`] says.
    pub async fn start(
        settings: KeeperSettings,
    ) -> Result<(Self, KeeperTask, mpsc::Sender<RecordingNotice>), KeeperError> {
        let KeeperSettings { recordings, database, reserve_bytes, finalise } = settings;
        let store = Store::open(&recordings, reserve_bytes, finalise)?;
        let catalogue = Catalogue::open(&database).await?;
        let keeper = Self {
            shared: Arc::new(Shared {
                catalogue,
                store: Arc::new(store),
                changes: watch::Sender::new(0),
                disk: Semaphore::new(1),
                jobs: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        };
        keeper.recover().await?;
        let (sender, notices) = mpsc::channel(NOTICES);
        let task = tokio::spawn(keeper.clone().run(notices));
        Ok((keeper.clone(), KeeperTask { keeper, task }, sender))
    }

    /// One recording.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn get(&self, id: &RecordingId) -> Result<Option<Recording>, CatalogueError> {
        self.shared.catalogue.get(id).await
    }

    /// The newest recordings, newest first: of a room's name, of a room's name and PIN, or all.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn list(&self, room: Option<&str>, key: Option<&RoomKey>) -> Result<Vec<Recording>, CatalogueError> {
        self.shared.catalogue.list(room, key.map(|key| self.key_hash(key))).await
    }

    /// What stands for a room's name and PIN in [`Recording::key`].
    pub fn key_hash(&self, key: &RoomKey) -> KeyHash {
        self.shared.catalogue.key_hash(key)
    }

    /// How many recordings are in each state.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn counts(&self) -> Result<BTreeMap<&'static str, u64>, CatalogueError> {
        self.shared.catalogue.counts().await
    }

    /// Where a recording's file is.
    pub fn path(&self, id: &RecordingId) -> Option<PathBuf> {
        self.shared.store.path(id)
    }

    /// Its room was told to stop it: whoever asks from now on hears `finalising`.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn stopping(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        self.shared.catalogue.stopping(id).await?;
        self.changed();
        Ok(())
    }

    /// Waits until `enough` says so of the recording, at most for `limit`; answers with the
    /// recording as it is then, `None` if there is none.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn wait(
        &self,
        id: &RecordingId,
        limit: Duration,
        enough: impl Fn(Option<&Recording>) -> bool,
    ) -> Result<Option<Recording>, CatalogueError> {
        let deadline = Instant::now() + limit;
        let mut changes = self.shared.changes.subscribe();
        loop {
            // Marked before the look, so that a change during it is not missed.
            changes.mark_unchanged();
            let recording = self.get(id).await?;
            if enough(recording.as_ref()) {
                return Ok(recording);
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(recording);
            }
        }
    }

    /// Removes a recording, its file and its description.
    ///
    /// # Errors
    /// As [`DeleteError`] says.
    pub async fn delete(&self, id: &RecordingId) -> Result<(), DeleteError> {
        let recording = self.get(id).await?.ok_or(DeleteError::Unknown)?;
        if !recording.state.is_final() {
            return Err(DeleteError::Running);
        }
        let (store, id) = (self.shared.store.clone(), id.clone());
        let removed = id.clone();
        spawn_blocking(move || store.remove(&removed)).await.map_err(std::io::Error::other)??;
        self.shared.catalogue.delete(&id).await?;
        self.changed();
        Ok(())
    }

    /// Whether the disk has space for recordings left.
    ///
    /// # Errors
    /// [`RecordError::DiskFull`], or [`RecordError::Catalogue`] if the disk does not answer.
    fn check_space(&self) -> Result<(), RecordError> {
        let (free_bytes, reserve_bytes) =
            self.shared.store.space().map_err(|error| RecordError::Catalogue(error.to_string()))?;
        if free_bytes <= reserve_bytes {
            return Err(RecordError::DiskFull { free_bytes, reserve_bytes });
        }
        Ok(())
    }

    async fn run(self, mut notices: mpsc::Receiver<RecordingNotice>) {
        let mut rooms = HashMap::new();
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                // What is queued is still done: it is about files that exist.
                () = self.shared.stop.cancelled(), if !notices.is_closed() => {
                    notices.close();
                    continue;
                }
            };
            match notice {
                Some(notice) => self.take(notice, &mut rooms).await,
                None => return,
            }
        }
    }

    async fn take(&self, notice: RecordingNotice, rooms: &mut HashMap<RecordingId, RoomHandle>) {
        match notice {
            RecordingNotice::Begin { recording, room, key, spec } => {
                let result = self.begin(&recording, &key, spec).await;
                match &result {
                    Ok(_) => drop(rooms.insert(recording.clone(), room.clone())),
                    Err(error) => tracing::error!(recording.id = %recording, "failed to begin a recording: {error}"),
                }
                self.shared.jobs.spawn(async move { room.journalled(recording, result).await });
            }
            RecordingNotice::Started { recording, at } => {
                let noted = self.shared.catalogue.started(&recording, at).await;
                self.note(&recording, noted);
            }
            RecordingNotice::Paused { recording, paused, total } => {
                let noted = self.shared.catalogue.paused(&recording, paused, total).await;
                self.note(&recording, noted);
            }
            RecordingNotice::Marked { recording, marker } => {
                let noted = self.shared.catalogue.marked(&recording, &marker).await;
                self.note(&recording, noted);
                if let Ok(Some(recording)) = self.get(&recording).await {
                    self.write_manifest(recording).await;
                }
            }
            RecordingNotice::Ended { recording, result, at, participants } => {
                let noted = self.shared.catalogue.ended(&recording, at, &participants).await;
                self.note(&recording, noted);
                let room = rooms.remove(&recording);
                let keeper = self.clone();
                self.shared.jobs.spawn(async move { keeper.finish(recording, room, result).await });
            }
        }
    }

    async fn begin(&self, id: &RecordingId, key: &RoomKey, spec: RecordingSpec) -> Result<PathBuf, RecordError> {
        self.check_space()?;
        let file = self.path(id).ok_or_else(|| RecordError::Catalogue("not an identifier of ours".into()))?;
        let recording = Recording {
            id: id.clone(),
            room: key.name.clone(),
            key: Some(self.key_hash(key)),
            state: RecordingState::Starting,
            spec,
            created_at: Timestamp::now(),
            started_at: None,
            ended_at: None,
            paused_ms: 0,
            markers: Vec::new(),
            duration_ms: None,
            bytes: None,
            participants: Vec::new(),
            reason: None,
            file: Store::file_name(id),
        };
        let noted = self.shared.catalogue.insert(&recording).await;
        noted.map_err(|error| RecordError::Catalogue(error.to_string()))?;
        self.write_manifest(recording).await;
        self.changed();
        Ok(file)
    }

    /// Finalises a closed file, notes what came of it, and tells the room, if it still stands.
    async fn finish(&self, id: RecordingId, room: Option<RoomHandle>, result: Result<(), MediaError>) {
        if let Some(room) = &room {
            room.kept(id.clone(), RecordingState::Finalising, None).await;
        }
        let outcome = self.finalise(&id, result).await;
        // The description comes first: once the catalogue says that it is over, nothing of ours
        // touches the files any more, and they may be removed.
        if let Ok(Some(recording)) = self.get(&id).await {
            self.write_manifest(outcome.apply(recording)).await;
        }
        let noted = self.shared.catalogue.finish(&id, &outcome).await;
        self.note(&id, noted);
        let duration_ms = outcome.duration.map(|duration| duration.as_millis() as u64);
        tracing::info!(recording.id = %id, duration_ms, bytes = outcome.bytes, "recording is {:?}", outcome.state);
        if let Some(room) = room {
            room.kept(id, outcome.state, outcome.reason).await;
        }
    }

    async fn finalise(&self, id: &RecordingId, result: Result<(), MediaError>) -> Outcome {
        let ended_early = result.err().map(|error| format!("it ended by itself: {error}"));
        let Ok(_one) = self.shared.disk.acquire().await else { return failed("the server is going down".into()) };
        let (store, file) = (self.shared.store.clone(), id.clone());
        // Without its markers it is a file all the same.
        let markers = self.get(id).await.ok().flatten().map(|recording| recording.markers).unwrap_or_default();
        match spawn_blocking(move || store.finish(&file, &markers)).await {
            Ok(Finished::Progressive(made)) => Outcome {
                state: RecordingState::Ready,
                duration: Some(made.duration),
                bytes: Some(made.bytes),
                reason: ended_early,
            },
            Ok(Finished::Fragmented { bytes, reason }) => {
                tracing::warn!(recording.id = %id, "a recording was not rewritten: {reason}");
                let reason = ended_early.map_or(reason.clone(), |early| format!("{early}; {reason}"));
                let duration = self.measured(id).await;
                Outcome { state: RecordingState::Ready, duration, bytes: Some(bytes), reason: Some(reason) }
            }
            Ok(Finished::Nothing(reason)) => failed(ended_early.unwrap_or(reason)),
            Err(panic) => failed(format!("finalising failed: {panic}")),
        }
    }

    /// How long a recording ran by the clock, without its pauses: for files whose length nobody has counted.
    async fn measured(&self, id: &RecordingId) -> Option<Duration> {
        let recording = self.get(id).await.ok()??;
        let ran = Duration::try_from(recording.ended_at?.duration_since(recording.started_at?)).ok()?;
        Some(ran.saturating_sub(Duration::from_millis(recording.paused_ms)))
    }

    /// Takes up what an earlier life left: entries that were not over, and files without an entry.
    /// Finalising goes on behind our back; until then they are shown as `finalising`.
    async fn recover(&self) -> Result<(), KeeperError> {
        let unfinished = self.shared.catalogue.unfinished().await?;
        let known: HashSet<_> = self.shared.catalogue.ids().await?;
        let (store, jobs) = (self.shared.store.clone(), self.shared.jobs.clone());
        let orphans = spawn_blocking(move || store.orphans(&known)).await.map_err(std::io::Error::other)??;
        for recording in &unfinished {
            let ended_at = recording.ended_at.unwrap_or_else(|| self.shared.store.modified(&recording.id));
            self.shared.catalogue.ended(&recording.id, ended_at, &recording.participants).await?;
        }
        let mut ids: Vec<RecordingId> = unfinished.into_iter().map(|recording| recording.id).collect();
        for orphan in orphans {
            tracing::info!(recording.id = %orphan.id, "found a recording that the catalogue does not know");
            ids.push(orphan.id.clone());
            self.shared.catalogue.insert(&adopt(orphan)).await?;
        }
        if !ids.is_empty() {
            tracing::info!(count = ids.len(), "finalising recordings that were interrupted");
            let keeper = self.clone();
            jobs.spawn(async move {
                for id in ids {
                    keeper.finish(id, None, Ok(())).await;
                }
            });
        }
        Ok(())
    }

    fn note(&self, id: &RecordingId, noted: Result<(), CatalogueError>) {
        if let Err(error) = noted {
            tracing::error!(recording.id = %id, "failed to note a recording's state: {error}");
        }
        self.changed();
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn write_manifest(&self, recording: Recording) {
        let (store, id) = (self.shared.store.clone(), recording.id.clone());
        let written = spawn_blocking(move || store.write_manifest(&recording)).await;
        if let Err(error) = written.map_err(std::io::Error::other).and_then(|result| result) {
            tracing::warn!(recording.id = %id, "failed to write a recording's description: {error}");
        }
    }
}

impl KeeperTask {
    /// Takes what is queued, finishes files until `deadline`, and closes the catalogue. What is not
    /// done by then is done at the next start.
    pub async fn shutdown(self, deadline: Duration) {
        let Self { keeper, task } = self;
        let shared = &keeper.shared;
        shared.stop.cancel();
        let drained = async {
            let _ = task.await;
            shared.jobs.close();
            shared.jobs.wait().await;
        };
        if tokio::time::timeout(deadline, drained).await.is_err() {
            tracing::warn!(left = shared.jobs.len(), "recordings are left to be finalised at the next start");
        }
        shared.catalogue.close().await;
    }
}

fn adopt(orphan: Orphan) -> Recording {
    let Orphan { id, manifest, modified } = orphan;
    let manifest = manifest.unwrap_or_else(|| Manifest::unknown(modified));
    let Manifest { room, spec, created_at, started_at, participants, paused_ms, markers } = manifest;
    Recording {
        file: Store::file_name(&id),
        id,
        room,
        // Whose PIN it was is not known any more: only the server's owner sees it.
        key: None,
        state: RecordingState::Finalising,
        spec,
        created_at,
        started_at,
        ended_at: Some(modified),
        paused_ms,
        markers,
        duration_ms: None,
        bytes: None,
        participants,
        reason: None,
    }
}

fn failed(reason: String) -> Outcome {
    Outcome { state: RecordingState::Failed, duration: None, bytes: None, reason: Some(reason) }
}
