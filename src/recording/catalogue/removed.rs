//! Recordings that are hidden until they are removed, and those that may have to go.

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    Catalogue, CatalogueError, KeyHash,
    row::{decode, from_column, parse_id},
};
use crate::{recording::removal::Kept, room::id::RecordingId};

impl Catalogue {
    /// Nobody sees it any more, and it is to be removed at that time.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn hide(&self, id: &RecordingId, remove_at: Timestamp) -> Result<(), CatalogueError> {
        let query = sqlx::query("UPDATE recordings SET remove_at = ? WHERE id = ?");
        query.bind(remove_at.to_string()).bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// It is seen again, if it is of that room's key where one is given. False if nothing was hidden.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn show(&self, id: &RecordingId, key: Option<KeyHash>) -> Result<bool, CatalogueError> {
        let query = sqlx::query(
            "UPDATE recordings SET remove_at = NULL
             WHERE id = ?1 AND remove_at IS NOT NULL AND (?2 IS NULL OR room_key = ?2)",
        );
        let bound = query.bind(id.as_str()).bind(key.map(|key| key.0.to_vec()));
        Ok(bound.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Those that are hidden, and when they are to be removed.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn hidden(&self) -> Result<Vec<(RecordingId, Timestamp)>, CatalogueError> {
        let query = sqlx::query("SELECT id, remove_at FROM recordings WHERE remove_at IS NOT NULL");
        let rows = query.fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| -> Result<_, sqlx::Error> {
            let (id, at): (String, String) = (row.try_get("id")?, row.try_get("remove_at")?);
            Ok((parse_id(&id), at.parse().map_err(decode)?))
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// It is hidden, and its time is over.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn is_due(&self, id: &RecordingId, now: Timestamp) -> Result<bool, CatalogueError> {
        Ok(self.hidden().await?.iter().any(|(known, at)| known == id && *at <= now))
    }

    /// Those that are over and not hidden, the oldest first.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn over(&self) -> Result<Vec<Kept>, CatalogueError> {
        let rows = sqlx::query(
            "SELECT id, COALESCE(ended_at, created_at) AS at, bytes FROM recordings
             WHERE state IN ('ready', 'failed') AND remove_at IS NULL",
        )
        .fetch_all(&self.pool)
        .await?;
        let read = |row: &SqliteRow| -> Result<Kept, sqlx::Error> {
            let (id, at): (String, String) = (row.try_get("id")?, row.try_get("at")?);
            let bytes = row.try_get::<Option<i64>, _>("bytes")?.map_or(0, from_column);
            Ok(Kept { id: parse_id(&id), ended_at: at.parse().map_err(decode)?, bytes })
        };
        let mut over = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // By time, not by its text, whose fractions differ in length.
        over.sort_by_key(|kept| kept.ended_at);
        Ok(over)
    }
}
