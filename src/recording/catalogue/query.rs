//! What is asked of the catalogue.

use std::collections::{BTreeMap, HashSet};

use sqlx::Row;

use super::{
    Catalogue, CatalogueError, KeyHash, MAX_LISTED, Recording,
    row::{STATES, columns, from_column, parse_id, read_row},
};
use crate::room::id::RecordingId;

impl Catalogue {
    /// One recording that is not hidden.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn get(&self, id: &RecordingId) -> Result<Option<Recording>, CatalogueError> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM recordings WHERE id = ? AND remove_at IS NULL"))
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
            " FROM recordings WHERE remove_at IS NULL AND (?1 IS NULL OR room = ?1)
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

    /// How many there are in each state, without those that are hidden.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub async fn counts(&self) -> Result<BTreeMap<&'static str, u64>, CatalogueError> {
        let mut counts: BTreeMap<_, _> = STATES.iter().map(|(_, word)| (*word, 0)).collect();
        let rows =
            sqlx::query("SELECT state, COUNT(*) AS count FROM recordings WHERE remove_at IS NULL GROUP BY state")
                .fetch_all(&self.pool)
                .await?;
        for row in rows {
            let state: String = row.try_get("state")?;
            if let Some(count) = counts.get_mut(state.as_str()) {
                *count = from_column(row.try_get("count")?);
            }
        }
        Ok(counts)
    }
}
