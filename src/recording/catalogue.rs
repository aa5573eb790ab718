//! The book of recordings: one SQLite table, and who may see what.
//!
//! The catalogue is also the journal: a row is written before the first byte of a file, so that a
//! start after a crash knows what was going on. Files are [`super::store`]'s.

use std::{path::Path, time::Duration};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use thiserror::Error;
use utoipa::ToSchema;

use super::{RoomKey, minutes::LayoutChange, tracks::RecordingFile};
use crate::{
    media::RecordingSpec,
    room::{
        id::RecordingId,
        model::{Marker, RecordingState, Spoken},
    },
};

mod life;
mod query;
mod removed;
mod row;
mod schema;

/// Rows one listing answers with at most.
pub const MAX_LISTED: u32 = 1_000;

/// A recording, as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Recording)]
pub struct Recording {
    /// Its identifier.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// The room it was made in; empty if a file was found that nobody knows.
    pub room: String,
    /// Whose PIN and name decide who may see it; `None`: only the server's owner.
    #[serde(skip)]
    pub key: Option<KeyHash>,
    /// Where it stands.
    pub state: RecordingState,
    /// As asked for.
    pub spec: RecordingSpec,
    /// When it was asked for.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When its first frame was written.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    /// When its file was closed.
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Timestamp>,
    /// How long it was paused, in milliseconds, without a pause that lasts; not part of its length.
    pub paused_ms: u64,
    /// Its named moments, in order; the first 255 are chapters of the file.
    pub markers: Vec<Marker>,
    /// How long it plays, in milliseconds; known once it is ready.
    pub duration_ms: Option<u64>,
    /// How large its files are together; known once it is ready.
    pub bytes: Option<u64>,
    /// The mix, and each track as it came: as they are now while it runs, all that play once it is over.
    pub files: Vec<RecordingFile>,
    /// While it is finalising, how far that has come: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Who spoke when, in order, to the second; known once it has ended.
    pub speakers: Vec<Spoken>,
    /// The room's layout at its beginning, and each that followed; empty if it has a layout of its own. Known
    /// once it has ended.
    pub layouts: Vec<LayoutChange>,
    /// There is a `chat.vtt`.
    pub has_chat: bool,
    /// There are `thumbnail.jpg`, `sprite.jpg` and `thumbnails.vtt`: some time after it is ready.
    pub has_thumbnails: bool,
    /// Nicknames of all who were in it, in the order they came; known once it has ended.
    pub participants: Vec<String>,
    /// Why it failed, or what is particular about it, in a sentence.
    pub reason: Option<String>,
    /// The file's name in the recordings folder.
    #[serde(skip)]
    pub file: String,
}

/// A room's name and PIN under the server's own key: equal for equal rooms, and of no use to
/// somebody who reads the catalogue and wonders about the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

/// What a closed file came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `Ready` or `Failed`.
    pub state: RecordingState,
    /// How long it plays.
    pub duration: Option<Duration>,
    /// How large its files are together.
    pub bytes: Option<u64>,
    /// Those that play.
    pub files: Vec<RecordingFile>,
    /// Why it failed, or what is particular about it.
    pub reason: Option<String>,
}

impl Outcome {
    /// The recording as it is with this outcome.
    pub fn apply(&self, recording: Recording) -> Recording {
        let duration_ms = self.duration.map(|duration| duration.as_millis() as u64);
        let (files, reason) = (self.files.clone(), self.reason.clone());
        Recording { state: self.state, duration_ms, bytes: self.bytes, files, reason, ..recording }
    }
}

/// The catalogue could not be read or written.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// What the database said.
    #[error("the catalogue: {0}")]
    Database(#[from] sqlx::Error),
    /// The folder of the database could not be made.
    #[error("the catalogue's folder: {0}")]
    Folder(#[from] std::io::Error),
    /// A newer Salon wrote it.
    #[error("the catalogue has version {found}, and this Salon knows versions up to {known}")]
    Newer {
        /// What it has.
        found: i64,
        /// What this program knows.
        known: usize,
    },
}

/// The open catalogue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue {
    pool: SqlitePool,
    secret: hmac::Key,
}

impl Catalogue {
    /// Opens the catalogue in `file`, made with its folder if it is not there.
    ///
    /// # Errors
    /// As [`CatalogueError`] says.
    pub async fn open(file: &Path) -> Result<Self, CatalogueError> {
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode this survives the death of the process; a power cut may take the last
            // rows, whose files are then found as orphans.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await?;
        schema::migrate(&pool).await?;
        let secret = schema::server_key(&pool).await?;
        Ok(Self { pool, secret })
    }

    /// What stands for a room's name and PIN in the catalogue.
    pub fn key_hash(&self, key: &RoomKey) -> KeyHash {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(&(key.name.len() as u64).to_be_bytes());
        context.update(key.name.as_bytes());
        // "No PIN" and "the empty PIN" are different rooms.
        context.update(&[u8::from(key.pin.is_some())]);
        context.update(key.pin.as_deref().unwrap_or_default().as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        KeyHash(hash)
    }

    /// Ends all connections; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
