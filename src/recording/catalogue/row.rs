//! A row of the catalogue, and the words and numbers that its columns hold.

use std::str::FromStr;

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{KeyHash, Recording};
use crate::room::{id::RecordingId, model::RecordingState};

/// What is read of a recording. Not `*`: a connection that was opened before a migration prepares that
/// for the old columns, gets the new ones, and sqlx panics over the difference.
macro_rules! columns {
    () => {
        "id, room, room_key, state, spec, created_at, started_at, ended_at, paused_ms, duration_ms, bytes, \
         participants, reason, markers, files, speakers, layouts, has_chat, has_thumbnails, file"
    };
}

pub(super) use columns;

pub fn read_row(row: &SqliteRow) -> Result<Recording, sqlx::Error> {
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
        progress: None,
        layouts: serde_json::from_str(&row.try_get::<String, _>("layouts")?).map_err(decode)?,
        speakers: serde_json::from_str(&row.try_get::<String, _>("speakers")?).map_err(decode)?,
        has_chat: row.try_get("has_chat")?,
        has_thumbnails: row.try_get("has_thumbnails")?,
        files: serde_json::from_str(&row.try_get::<String, _>("files")?).map_err(decode)?,
        participants: serde_json::from_str(&participants).map_err(decode)?,
        reason: row.try_get("reason")?,
        file: row.try_get("file")?,
    })
}

pub fn parse_id(text: &str) -> RecordingId {
    RecordingId::from_str(text).unwrap_or_else(|never| match never {})
}

fn time_column(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(decode)).transpose()
}

pub const STATES: [(RecordingState, &str); 6] = [
    (RecordingState::Starting, "starting"),
    (RecordingState::Recording, "recording"),
    (RecordingState::Paused, "paused"),
    (RecordingState::Finalising, "finalising"),
    (RecordingState::Ready, "ready"),
    (RecordingState::Failed, "failed"),
];

pub fn state_word(state: RecordingState) -> &'static str {
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

pub fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

pub fn encode(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Encode(Box::new(error))
}

/// SQLite's integers are signed; sizes and times stay far below the difference.
pub fn to_column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub fn from_column(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
