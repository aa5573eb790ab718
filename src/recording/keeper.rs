//! The keeper: the one task that owns catalogue and files.
//!
//! Rooms tell it what happens to their recordings ([`RecordingNotice`]); it notes, finalises, and
//! answers through the room's handle. A notice is never waited for and an answer never holds up the
//! next notice, so a busy room and a slow disk cannot block each other. Files are finalised one
//! after the other: they compete for one disk.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex},
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
    Minutes, RecordingNotice, RoomKey,
    album::Photographer,
    catalogue::{Catalogue, CatalogueError, KeyHash, Outcome, Recording},
    removal::Retention,
    store::{Finaliser, Finished, Manifest, Orphan, Store, StoreError, composite_file, wait_for_writer},
    tracks::{self, FileKind, RecordingFile},
};
use crate::{
    media::{RecordingMode, RecordingSpec},
    room::{RoomHandle, error::RecordError, id::RecordingId, model::RecordingState},
};

/// Notices that may wait for the keeper.
const NOTICES: usize = 1_024;

/// A recorder whose room broke down has written its last by then.
const WRITER_LIMIT: Duration = Duration::from_secs(15);

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
    /// Who takes pictures of finished recordings; `None`: nobody.
    pub photographer: Option<Photographer>,
    /// How long recordings are kept.
    pub retention: Retention,
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

/// The keeper, from outside. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalogue: Catalogue,
    pub(super) store: Arc<Store>,
    /// Counts changes of any recording's state; whoever waits for one looks again at each.
    changes: watch::Sender<u64>,
    /// One file at a time.
    disk: Semaphore,
    /// How far the file that is being finalised has come, 0 to 1.
    progress: Mutex<Option<(RecordingId, f64)>>,
    pub(super) retention: Retention,
    pub(super) photographer: Option<Photographer>,
    /// Pictures of one recording at a time.
    pub(super) darkroom: Semaphore,
    pub(super) jobs: TaskTracker,
    pub(super) stop: CancellationToken,
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
        let KeeperSettings { recordings, database, reserve_bytes, finalise, photographer, retention } = settings;
        let store = Store::open(&recordings, reserve_bytes, finalise)?;
        let catalogue = Catalogue::open(&database).await?;
        let keeper = Self {
            shared: Arc::new(Shared {
                catalogue,
                store: Arc::new(store),
                changes: watch::Sender::new(0),
                disk: Semaphore::new(1),
                progress: Mutex::default(),
                retention,
                photographer,
                darkroom: Semaphore::new(1),
                jobs: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        };
        keeper.recover().await?;
        keeper.resume_removals().await?;
        keeper.clear_out_at_times();
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

    /// One recording, with its files as they are now.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn get_with_files(&self, id: &RecordingId) -> Result<Option<Recording>, CatalogueError> {
        let Some(recording) = self.get(id).await? else { return Ok(None) };
        Ok(self.with_files(vec![recording]).await.pop())
    }

    /// Those that are not over, as they are now.
    async fn with_files(&self, mut recordings: Vec<Recording>) -> Vec<Recording> {
        let open = recordings.iter().filter(|recording| !recording.state.is_final());
        let open: Vec<RecordingId> = open.map(|recording| recording.id.clone()).collect();
        let store = self.shared.store.clone();
        let looked = spawn_blocking(move || open.into_iter().map(|id| (id.clone(), store.files_now(&id))).collect());
        let mut files: HashMap<RecordingId, Vec<RecordingFile>> = looked.await.unwrap_or_default();
        for recording in &mut recordings {
            if let Some(files) = files.remove(&recording.id) {
                recording.progress = self.progress(recording);
                recording.files = files;
            }
        }
        recordings
    }

    /// The newest recordings, newest first, with their files as they are now: of a room's name, of a room's name
    /// and PIN, or all.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub async fn list(&self, room: Option<&str>, key: Option<&RoomKey>) -> Result<Vec<Recording>, CatalogueError> {
        let listed = self.shared.catalogue.list(room, key.map(|key| self.key_hash(key))).await?;
        Ok(self.with_files(listed).await)
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

    /// How far finalising has come, 0 to 1; `None` if it is not finalising.
    fn progress(&self, recording: &Recording) -> Option<f64> {
        let current = self.shared.progress.lock().expect("nothing panics under this lock").clone();
        // It waits for its turn.
        let done = current.filter(|(id, _)| *id == recording.id).map_or(0.0, |(_, done)| done);
        (recording.state == RecordingState::Finalising).then_some(done)
    }

    /// Where one of a recording's files is, by its name; `None` for names that are not ours.
    pub fn file(&self, id: &RecordingId, name: &str) -> Option<PathBuf> {
        self.shared.store.file(id, name)
    }

    /// Where a recording's mix is.
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

    /// Whether the disk has space for recordings left.
    ///
    /// # Errors
    /// [`RecordError::DiskFull`], or [`RecordError::Catalogue`] if the disk does not answer.
    async fn check_space(&self) -> Result<(), RecordError> {
        let store = self.shared.store.clone();
        let space = spawn_blocking(move || store.space()).await.map_err(std::io::Error::other).and_then(|space| space);
        let (free_bytes, reserve_bytes) = space.map_err(|error| RecordError::Catalogue(error.to_string()))?;
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
            RecordingNotice::Said { recording, message } => {
                let (store, id) = (self.shared.store.clone(), recording.clone());
                let written = spawn_blocking(move || store.append_chat(&id, &message)).await;
                match written.map_err(std::io::Error::other).and_then(|result| result) {
                    Ok(()) => {
                        let noted = self.shared.catalogue.said(&recording).await;
                        self.note(&recording, noted);
                    }
                    Err(error) => {
                        tracing::warn!(recording.id = %recording, "failed to write a recording's chat: {error}");
                    }
                }
            }
            RecordingNotice::Noted { recording, entries } => {
                // One that could not begin has no file to lie beside.
                if rooms.contains_key(&recording) {
                    let (store, id) = (self.shared.store.clone(), recording.clone());
                    let written = spawn_blocking(move || store.append_minutes(&id, &entries)).await;
                    if let Err(error) = written.map_err(std::io::Error::other).and_then(|result| result) {
                        tracing::warn!(recording.id = %recording, "failed to write a recording's minutes: {error}");
                    }
                }
            }
            RecordingNotice::Ended { recording, result, at, minutes } => {
                let noted = self.shared.catalogue.ended(&recording, at, &minutes).await;
                self.note(&recording, noted);
                let room = rooms.remove(&recording);
                let result = result.map_err(|error| format!("it ended by itself: {error}"));
                let keeper = self.clone();
                self.shared.jobs.spawn(async move { keeper.finish(recording, room, result).await });
            }
            RecordingNotice::RoomFailed { room } => {
                let its = rooms.extract_if(|_, other| other.is_same(&room));
                let ids: Vec<RecordingId> = its.map(|(id, _)| id).collect();
                for id in ids {
                    self.cut_off(&id).await;
                    let keeper = self.clone();
                    self.shared.jobs.spawn(async move {
                        let path = keeper.path(&id);
                        let last = spawn_blocking(move || {
                            for path in path.iter().flat_map(|path| [path.clone(), tracks::journal_of(path)]) {
                                wait_for_writer(&path);
                            }
                        });
                        // A recorder that hangs is not waited for any longer.
                        let _ = tokio::time::timeout(WRITER_LIMIT, last).await;
                        keeper
                            .finish(id, None, Err("its room failed; what was recorded until then is kept".into()))
                            .await;
                    });
                }
            }
        }
    }

    /// Its room cannot say any more who was in it: what was noted until now stands.
    async fn cut_off(&self, id: &RecordingId) {
        let at = Timestamp::now();
        let Ok(Some(recording)) = self.get(id).await else { return };
        let store = self.shared.store.clone();
        let minutes = spawn_blocking(move || minutes_of(&store, &recording, at)).await.unwrap_or_default();
        let noted = self.shared.catalogue.ended(id, at, &minutes).await;
        self.note(id, noted);
    }

    async fn begin(&self, id: &RecordingId, key: &RoomKey, spec: RecordingSpec) -> Result<PathBuf, RecordError> {
        self.check_space().await?;
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
            files: Vec::new(),
            progress: None,
            speakers: Vec::new(),
            layouts: Vec::new(),
            has_chat: false,
            has_thumbnails: false,
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

    /// Finalises a closed file, notes what came of it, and tells the room, if it still stands. `Err`:
    /// why the recording ended without being told to.
    async fn finish(&self, id: RecordingId, room: Option<RoomHandle>, result: Result<(), String>) {
        if let Some(room) = &room {
            room.kept(id.clone(), RecordingState::Finalising, None).await;
        }
        let outcome = self.finalise(&id, result).await;
        // The description comes first: once the catalogue says that it is over, nothing of ours
        // touches the files any more, and they may be removed.
        if let Ok(Some(recording)) = self.get(&id).await {
            let has_minutes = recording.ended_at.is_some();
            self.write_manifest(outcome.apply(recording)).await;
            if has_minutes {
                let (store, id) = (self.shared.store.clone(), id.clone());
                let _ = spawn_blocking(move || store.remove_minutes(&id)).await;
            }
        }
        let noted = self.shared.catalogue.finish(&id, &outcome).await;
        self.note(&id, noted);
        let duration_ms = outcome.duration.map(|duration| duration.as_millis() as u64);
        tracing::info!(recording.id = %id, duration_ms, bytes = outcome.bytes, "recording is {:?}", outcome.state);
        self.clear_out().await;
        let film = outcome.files.iter().any(|file| file.kind == FileKind::Composite).then_some(outcome.duration);
        if let Some(duration) = film.flatten() {
            self.photograph(id.clone(), duration);
        }
        if let Some(room) = room {
            room.kept(id, outcome.state, outcome.reason).await;
        }
    }

    async fn finalise(&self, id: &RecordingId, result: Result<(), String>) -> Outcome {
        let ended_early = result.err();
        let Ok(_one) = self.shared.disk.acquire().await else { return failed("the server is going down".into()) };
        let (store, file) = (self.shared.store.clone(), id.clone());
        // Without its markers it is a file all the same.
        let known = self.get(id).await.ok().flatten();
        let has_composite = known.as_ref().is_none_or(|recording| recording.spec.mode.has_composite());
        let markers = known.map(|recording| recording.markers).unwrap_or_default();
        let keeper = self.clone();
        let finished = spawn_blocking(move || {
            let progress = |done: f64| {
                *keeper.shared.progress.lock().expect("nothing panics under this lock") = Some((file.clone(), done));
            };
            let composite = has_composite.then(|| store.finish(&file, &markers, &progress));
            (composite, store.finish_tracks(&file))
        });
        let (composite, tracks) = match finished.await {
            Ok(finished) => finished,
            Err(panic) => return failed(format!("finalising failed: {panic}")),
        };
        let (mut duration, mut files, mut remarks) = (None, Vec::new(), Vec::from_iter(ended_early));
        match composite {
            Some(Finished::Progressive(made)) => {
                duration = Some(made.duration);
                files.push(composite_file(id, made.bytes));
            }
            Some(Finished::Fragmented { bytes, reason }) => {
                tracing::warn!(recording.id = %id, "a recording was not rewritten: {reason}");
                duration = self.measured(id).await;
                files.push(composite_file(id, bytes));
                remarks.push(reason);
            }
            // That it ended early says why.
            Some(Finished::Nothing(reason)) if remarks.is_empty() => remarks.push(reason),
            Some(Finished::Nothing(_)) | None => {}
        }
        match tracks {
            Some(Ok(finished)) => {
                duration = duration.or(Some(finished.duration).filter(|duration| !duration.is_zero()));
                files.extend(finished.files);
                remarks.extend(finished.remarks);
            }
            Some(Err(error)) => remarks.push(format!("its single tracks cannot be read: {error}")),
            None => {}
        }
        if files.is_empty() {
            return failed(if remarks.is_empty() { "nothing was recorded".into() } else { remarks.join("; ") });
        }
        let files = self.with_sums(id, files).await;
        Outcome {
            state: RecordingState::Ready,
            duration,
            bytes: Some(files.iter().map(|file| file.bytes).sum()),
            files,
            reason: (!remarks.is_empty()).then(|| remarks.join("; ")),
        }
    }

    /// The files with their checksums, as far as they can be read.
    async fn with_sums(&self, id: &RecordingId, files: Vec<RecordingFile>) -> Vec<RecordingFile> {
        let (store, id) = (self.shared.store.clone(), id.clone());
        let bare = files.clone();
        let summed = spawn_blocking(move || files.into_iter().map(|file| store.with_sum(&id, file)).collect());
        summed.await.unwrap_or(bare)
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
        let found = spawn_blocking(move || {
            let cut_off = unfinished.into_iter().map(|recording| {
                let ended_at = recording.ended_at.unwrap_or_else(|| store.modified(&recording.id));
                let minutes = minutes_of(&store, &recording, ended_at);
                (recording.id, ended_at, minutes)
            });
            let cut_off: Vec<_> = cut_off.collect();
            store.orphans(&known).map(|orphans| (cut_off, orphans))
        });
        let (cut_off, orphans) = found.await.map_err(std::io::Error::other)??;
        for (id, ended_at, minutes) in &cut_off {
            self.shared.catalogue.ended(id, *ended_at, minutes).await?;
        }
        let mut ids: Vec<RecordingId> = cut_off.into_iter().map(|(id, ..)| id).collect();
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

    pub(super) fn note(&self, id: &RecordingId, noted: Result<(), CatalogueError>) {
        if let Err(error) = noted {
            tracing::error!(recording.id = %id, "failed to note a recording's state: {error}");
        }
        self.changed();
    }

    pub(super) fn changed(&self) {
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

/// Who was in a recording that ended at `ended_at`, as the catalogue has it; if the room never got to say so, as it
/// was noted meanwhile. Reads a file.
fn minutes_of(store: &Store, recording: &Recording, ended_at: Timestamp) -> Minutes {
    let Recording { participants, speakers, layouts, .. } = recording.clone();
    let known = Minutes { participants, speakers, layouts };
    if recording.ended_at.is_some() {
        return known;
    }
    let ran = recording.started_at.and_then(|at| Duration::try_from(ended_at.duration_since(at)).ok());
    let length_ms = ran.map_or(0, |ran| ran.as_millis() as u64).saturating_sub(recording.paused_ms);
    store.minutes(&recording.id, length_ms).unwrap_or(known)
}

fn adopt(orphan: Orphan) -> Recording {
    let Orphan { id, manifest, minutes, modified, has_composite, has_tracks, has_chat } = orphan;
    let manifest = manifest.unwrap_or_else(|| {
        let mode = match (has_composite, has_tracks) {
            (_, false) => RecordingMode::Composite,
            (false, true) => RecordingMode::Individual,
            (true, true) => RecordingMode::Both,
        };
        Manifest { spec: RecordingSpec { mode, ..Default::default() }, ..Manifest::unknown(modified) }
    });
    let Manifest { room, spec, created_at, started_at, participants, paused_ms, markers, speakers, layouts } = manifest;
    let Minutes { participants, speakers, layouts } = minutes.unwrap_or(Minutes { participants, speakers, layouts });
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
        files: Vec::new(),
        progress: None,
        speakers,
        layouts,
        has_chat,
        has_thumbnails: false,
        participants,
        reason: None,
    }
}

fn failed(reason: String) -> Outcome {
    Outcome { state: RecordingState::Failed, duration: None, bytes: None, files: Vec::new(), reason: Some(reason) }
}
