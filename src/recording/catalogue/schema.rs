//! The catalogue's tables, and how older ones become them.

use aws_lc_rs::hmac;
use sqlx::SqlitePool;

use rand::Rng;

use super::CatalogueError;

/// Each brings the table from one version to the next; `PRAGMA user_version` says how many are done.
const MIGRATIONS: [&str; 7] = [
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
    "ALTER TABLE recordings ADD COLUMN files TEXT NOT NULL DEFAULT '[]';",
    "
    ALTER TABLE recordings ADD COLUMN has_chat INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recordings ADD COLUMN has_thumbnails INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recordings ADD COLUMN remove_at TEXT;
",
    "ALTER TABLE recordings ADD COLUMN speakers TEXT NOT NULL DEFAULT '[]';",
    "ALTER TABLE recordings ADD COLUMN layouts TEXT NOT NULL DEFAULT '[]';",
];

/// Brings the tables to the newest version.
pub async fn migrate(pool: &SqlitePool) -> Result<(), CatalogueError> {
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

/// What room names and PINs are hashed with; made at the first start.
pub async fn server_key(pool: &SqlitePool) -> Result<hmac::Key, CatalogueError> {
    let fresh: [u8; 32] = rand::rng().random();
    sqlx::query("INSERT OR IGNORE INTO meta (name, value) VALUES ('room_key_secret', ?)")
        .bind(fresh.to_vec())
        .execute(pool)
        .await?;
    let kept: Vec<u8> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'room_key_secret'").fetch_one(pool).await?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &kept))
}
