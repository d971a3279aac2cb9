//! Imported calendars.

use banqiao_kit::Database;

use super::{Store, StoreError};

impl Store {
    /// The imported calendars after an id, oldest first, each with its id.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn calendars(&self, after: i64) -> Result<Vec<(i64, String)>, StoreError> {
        Ok(match &self.database {
            Database::Postgres(pool) => {
                sqlx::query_as("SELECT id, text FROM calendar WHERE id > $1 ORDER BY id")
                    .bind(after)
                    .fetch_all(pool)
                    .await?
            }
            Database::Sqlite(database) => {
                sqlx::query_as("SELECT id, text FROM calendar WHERE id > ? ORDER BY id")
                    .bind(after)
                    .fetch_all(database.readers())
                    .await?
            }
        })
    }

    /// Adds a calendar. Its text was parsed before.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another import came at the same time; see [`StoreError`] for the rest.
    pub async fn add_calendar(&self, text: &str, now_us: i64) -> Result<(), StoreError> {
        match &self.database {
            Database::Postgres(pool) => {
                sqlx::query(
                    "INSERT INTO calendar (id, imported_at, text) \
                     SELECT coalesce(max(id), 0) + 1, $1, $2 FROM calendar",
                )
                .bind(now_us)
                .bind(text)
                .execute(pool)
                .await?;
            }
            Database::Sqlite(database) => {
                sqlx::query(
                    "INSERT INTO calendar (id, imported_at, text) \
                     SELECT coalesce(max(id), 0) + 1, ?, ? FROM calendar",
                )
                .bind(now_us)
                .bind(text)
                .execute(database.writer())
                .await?;
            }
        }
        Ok(())
    }
}
