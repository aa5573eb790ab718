//! The book of recordings: one SQLite table, and who may see what.
//!
//! The catalogue is also the journal: a row is written before the first byte of a file, so that a
//! start after a crash knows what was going on. Files are [`super::store`]'s.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    str::FromStr,
    time::Duration,
};

use jiff::Timestamp;
use rand::Rng;
use ring::hmac;
use serde::Serialize;
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use thiserror::Error;
use utoipa::ToSchema;

use super::RoomKey;
use crate::{
    media::RecordingSpec,
    room::{
        id::RecordingId,
        model::{Marker, RecordingState},
    },
};

/// Rows one listing answers with at most.
pub const MAX_LISTED: u32 = 1_000;

/// Each brings the table from one version to the next; `PRAGMA user_version` says how many are done.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE recordings (
        id TEXT PRIMARY KEY,
        room TEXT NOT NULL,
        room_key BLOB,
        state TEXT NOT NULL,
        spec TEXT NOT NULL,
        created_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        duration_ms INTEGER,
        bytes INTEGER,
        participants TEXT NOT NULL DEFAULT '[]',
        reason TEXT,
        file TEXT NOT NULL
    ) STRICT;
    CREATE INDEX recordings_room ON recordings (room, created_at);
    CREATE INDEX recordings_room_key ON recordings (room_key, created_at);
    CREATE INDEX recordings_state ON recordings (state);
",
    "ALTER TABLE recordings ADD COLUMN paused_ms INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE recordings ADD COLUMN markers TEXT NOT NULL DEFAULT '[]';",
];

/// What is read of a recording. Not `*`: a connection that was opened before a migration prepares that
/// for the old columns, gets the new ones, and sqlx panics over the difference.
macro_rules! columns {
    () => {
        "id, room, room_key, state, spec, created_at, started_at, ended_at, paused_ms, duration_ms, bytes, \
         participants, reason, markers, file"
    };
}

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
    /// How large its file is; known once it is ready.
    pub bytes: Option<u64>,
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
    /// How large it is.
    pub bytes: Option<u64>,
    /// Why it failed, or what is particular about it.
    pub reason: Option<String>,
}

impl Outcome {
    /// The recording as it is with this outcome.
    pub fn apply(&self, recording: Recording) -> Recording {
        let duration_ms = self.duration.map(|duration| duration.as_millis() as u64);
        Recording { state: self.state, duration_ms, bytes: self.bytes, reason: self.reason.clone(), ..recording }
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
        migrate(&pool).await?;
        let secret = server_key(&pool).await?;
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

    /// Notes a recording that was asked for, or found.
    ///
    /// # Errors
    /// [`CatalogueError::Database`], also if the id is there already.
    pub async fn insert(&self, recording: &Recording) -> Result<(), CatalogueError> {
        sqlx::query(
            "INSERT INTO recordings (id, room, room_key, state, spec, created_at, started_at, ended_at,
             duration_ms, bytes, participants, reason, file, paused_ms, markers)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(recording.id.as_str())
        .bind(&recording.room)
        .bind(recording.key.map(|key| key.0.to_vec()))
        .bind(state_word(recording.state))
        .bind(serde_json::to_string(&recording.spec).map_err(encode)?)
        .bind(recording.created_at.to_string())
        .bind(recording.started_at.map(|at| at.to_string()))
        .bind(recording.ended_at.map(|at| at.to_string()))
        .bind(recording.duration_ms.map(to_column))
        .bind(recording.bytes.map(to_column))
        .bind(serde_json::to_string(&recording.participants).map_err(encode)?)
        .bind(recording.reason.as_deref())
        .bind(&recording.file)
        .bind(to_column(recording.paused_ms))
        .bind(serde_json::to_string(&recording.markers).map_err(encode)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Its first frame was written.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn started(&self, id: &RecordingId, at: Timestamp) -> Result<(), CatalogueError> {
        sqlx::query(
            "UPDATE recordings SET started_at = ?,
             state = CASE state WHEN 'starting' THEN 'recording' ELSE state END WHERE id = ?",
        )
        .bind(at.to_string())
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// It was paused or resumed; `total` is the length of all pauses that are over.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn paused(&self, id: &RecordingId, paused: bool, total: Duration) -> Result<(), CatalogueError> {
        let state = if paused { RecordingState::Paused } else { RecordingState::Recording };
        sqlx::query(
            "UPDATE recordings SET paused_ms = ?,
             state = CASE WHEN state IN ('recording', 'paused') THEN ? ELSE state END WHERE id = ?",
        )
        .bind(to_column(total.as_millis() as u64))
        .bind(state_word(state))
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A moment of it was named.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn marked(&self, id: &RecordingId, marker: &Marker) -> Result<(), CatalogueError> {
        sqlx::query("UPDATE recordings SET markers = json_insert(markers, '$[#]', json(?)) WHERE id = ?")
            .bind(serde_json::to_string(marker).map_err(encode)?)
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// It was told to stop, and its file will be closed in a moment.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn stopping(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        sqlx::query(
            "UPDATE recordings SET state = 'finalising' WHERE id = ? AND state IN ('starting', 'recording', 'paused')",
        )
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Its file is closed and waits to be finalised.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn ended(&self, id: &RecordingId, at: Timestamp, participants: &[String]) -> Result<(), CatalogueError> {
        sqlx::query("UPDATE recordings SET state = 'finalising', ended_at = ?, participants = ? WHERE id = ?")
            .bind(at.to_string())
            .bind(serde_json::to_string(participants).map_err(encode)?)
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// It is over.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn finish(&self, id: &RecordingId, outcome: &Outcome) -> Result<(), CatalogueError> {
        sqlx::query("UPDATE recordings SET state = ?, duration_ms = ?, bytes = ?, reason = ? WHERE id = ?")
            .bind(state_word(outcome.state))
            .bind(outcome.duration.map(|duration| to_column(duration.as_millis() as u64)))
            .bind(outcome.bytes.map(to_column))
            .bind(outcome.reason.as_deref())
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// One recording.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn get(&self, id: &RecordingId) -> Result<Option<Recording>, CatalogueError> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM recordings WHERE id = ?"))
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(read_row).transpose()?)
    }

    /// The newest [`MAX_LISTED`] recordings, newest first: of a room's name, of a room's key, or all.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn list(&self, room: Option<&str>, key: Option<KeyHash>) -> Result<Vec<Recording>, CatalogueError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM recordings WHERE (?1 IS NULL OR room = ?1)
                 AND (?2 IS NULL OR room_key = ?2) ORDER BY created_at DESC, id LIMIT ?3",
        ))
        .bind(room)
        .bind(key.map(|key| key.0.to_vec()))
        .bind(MAX_LISTED)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(read_row).collect::<Result<_, _>>()?)
    }

    /// Those whose files somebody was, or should have been, working on.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn unfinished(&self) -> Result<Vec<Recording>, CatalogueError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM recordings WHERE state NOT IN ('ready', 'failed') ORDER BY created_at, id",
        ))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(read_row).collect::<Result<_, _>>()?)
    }

    /// All identifiers.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn ids(&self) -> Result<HashSet<RecordingId>, CatalogueError> {
        let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM recordings").fetch_all(&self.pool).await?;
        Ok(ids.iter().map(|id| parse_id(id)).collect())
    }

    /// Forgets a recording.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn delete(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        sqlx::query("DELETE FROM recordings WHERE id = ?").bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// How many there are in each state.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn counts(&self) -> Result<BTreeMap<&'static str, u64>, CatalogueError> {
        let mut counts: BTreeMap<_, _> = STATES.iter().map(|(_, word)| (*word, 0)).collect();
        let rows =
            sqlx::query("SELECT state, COUNT(*) AS count FROM recordings GROUP BY state").fetch_all(&self.pool).await?;
        for row in rows {
            let state: String = row.try_get("state")?;
            if let Some(count) = counts.get_mut(state.as_str()) {
                *count = from_column(row.try_get("count")?);
            }
        }
        Ok(counts)
    }

    /// Ends all connections; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn migrate(pool: &SqlitePool) -> Result<(), CatalogueError> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(pool).await?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(CatalogueError::Newer { found, known: MIGRATIONS.len() });
    }
    for (version, statements) in MIGRATIONS.iter().enumerate().skip(done) {
        let mut transaction = pool.begin().await?;
        sqlx::raw_sql(*statements).execute(&mut *transaction).await?;
        sqlx::raw_sql(version_pragma(version + 1)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// `PRAGMA` takes no bound values; the number is our own.
fn version_pragma(version: usize) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"))
}

async fn server_key(pool: &SqlitePool) -> Result<hmac::Key, CatalogueError> {
    let fresh: [u8; 32] = rand::rng().random();
    sqlx::query("INSERT OR IGNORE INTO meta (name, value) VALUES ('room_key_secret', ?)")
        .bind(fresh.to_vec())
        .execute(pool)
        .await?;
    let kept: Vec<u8> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'room_key_secret'").fetch_one(pool).await?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &kept))
}

fn read_row(row: &SqliteRow) -> Result<Recording, sqlx::Error> {
    let id: String = row.try_get("id")?;
    let key: Option<Vec<u8>> = row.try_get("room_key")?;
    let state: String = row.try_get("state")?;
    let spec: String = row.try_get("spec")?;
    let participants: String = row.try_get("participants")?;
    let created_at: String = row.try_get("created_at")?;
    Ok(Recording {
        id: parse_id(&id),
        room: row.try_get("room")?,
        key: key.and_then(|bytes| bytes.try_into().ok()).map(KeyHash),
        state: parse_state(&state)?,
        spec: serde_json::from_str(&spec).map_err(decode)?,
        created_at: created_at.parse().map_err(decode)?,
        started_at: time_column(row, "started_at")?,
        ended_at: time_column(row, "ended_at")?,
        paused_ms: from_column(row.try_get("paused_ms")?),
        markers: serde_json::from_str(&row.try_get::<String, _>("markers")?).map_err(decode)?,
        duration_ms: row.try_get::<Option<i64>, _>("duration_ms")?.map(from_column),
        bytes: row.try_get::<Option<i64>, _>("bytes")?.map(from_column),
        participants: serde_json::from_str(&participants).map_err(decode)?,
        reason: row.try_get("reason")?,
        file: row.try_get("file")?,
    })
}

fn parse_id(text: &str) -> RecordingId {
    RecordingId::from_str(text).unwrap_or_else(|never| match never {})
}

fn time_column(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(decode)).transpose()
}

const STATES: [(RecordingState, &str); 6] = [
    (RecordingState::Starting, "starting"),
    (RecordingState::Recording, "recording"),
    (RecordingState::Paused, "paused"),
    (RecordingState::Finalising, "finalising"),
    (RecordingState::Ready, "ready"),
    (RecordingState::Failed, "failed"),
];

fn state_word(state: RecordingState) -> &'static str {
    match state {
        RecordingState::Starting => "starting",
        RecordingState::Recording => "recording",
        RecordingState::Paused => "paused",
        RecordingState::Finalising => "finalising",
        RecordingState::Ready => "ready",
        RecordingState::Failed => "failed",
    }
}

fn parse_state(word: &str) -> Result<RecordingState, sqlx::Error> {
    STATES
        .iter()
        .find(|(_, known)| *known == word)
        .map(|(state, _)| *state)
        .ok_or_else(|| decode(std::io::Error::other(format!("unknown state `{word}`"))))
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

fn encode(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Encode(Box::new(error))
}

/// SQLite's integers are signed; sizes and times stay far below the difference.
fn to_column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_column(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
