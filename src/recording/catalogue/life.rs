//! What is noted of a recording while it runs, and once it is over.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Catalogue, CatalogueError, Outcome, Recording,
    row::{encode, state_word, to_column},
};
use crate::{
    recording::Minutes,
    room::{
        id::RecordingId,
        model::{Marker, RecordingState},
    },
};

impl Catalogue {
    /// Notes a recording that was asked for, or found.
    ///
    /// # Errors
    /// [`CatalogueError::Database`], also if the id is there already.
    pub async fn insert(&self, recording: &Recording) -> Result<(), CatalogueError> {
        sqlx::query(
            "INSERT INTO recordings (id, room, room_key, state, spec, created_at, started_at, ended_at,
             duration_ms, bytes, participants, reason, file, paused_ms, markers, files, has_chat, speakers,
             layouts)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        .bind(serde_json::to_string(&recording.files).map_err(encode)?)
        .bind(recording.has_chat)
        .bind(serde_json::to_string(&recording.speakers).map_err(encode)?)
        .bind(serde_json::to_string(&recording.layouts).map_err(encode)?)
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

    /// Something was written while it ran.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn said(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        sqlx::query("UPDATE recordings SET has_chat = 1 WHERE id = ? AND has_chat = 0")
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Its file is closed and waits to be finalised.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn ended(&self, id: &RecordingId, at: Timestamp, minutes: &Minutes) -> Result<(), CatalogueError> {
        let Minutes { participants, speakers, layouts } = minutes;
        sqlx::query(
            "UPDATE recordings SET state = 'finalising', ended_at = ?, participants = ?, speakers = ?, layouts = ?
             WHERE id = ?",
        )
        .bind(at.to_string())
        .bind(serde_json::to_string(participants).map_err(encode)?)
        .bind(serde_json::to_string(speakers).map_err(encode)?)
        .bind(serde_json::to_string(layouts).map_err(encode)?)
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
        sqlx::query("UPDATE recordings SET state = ?, duration_ms = ?, bytes = ?, reason = ?, files = ? WHERE id = ?")
            .bind(state_word(outcome.state))
            .bind(outcome.duration.map(|duration| to_column(duration.as_millis() as u64)))
            .bind(outcome.bytes.map(to_column))
            .bind(outcome.reason.as_deref())
            .bind(serde_json::to_string(&outcome.files).map_err(encode)?)
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Its pictures are there.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn photographed(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        let query = sqlx::query("UPDATE recordings SET has_thumbnails = 1 WHERE id = ?");
        query.bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// Forgets a recording.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn delete(&self, id: &RecordingId) -> Result<(), CatalogueError> {
        sqlx::query("DELETE FROM recordings WHERE id = ?").bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }
}
