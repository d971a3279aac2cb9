//! The statements of documents. Both stores read the same text here: PostgreSQL's `$1` is SQLite's too.

use sqlx::{PgConnection, SqliteConnection};

#[derive(sqlx::FromRow)]
pub(super) struct DocumentRow {
    pub(super) size: i64,
    pub(super) content_type: String,
    pub(super) upload: String,
}

#[derive(sqlx::FromRow)]
pub(super) struct UploadRow {
    pub(super) upload: String,
    pub(super) size: i64,
    pub(super) received: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct ChunkRow {
    pub(super) digest: Vec<u8>,
    pub(super) content: Vec<u8>,
}

/// An upload, to be written.
pub(super) struct NewUpload<'a> {
    pub(super) upload: &'a str,
    pub(super) digest: &'a [u8],
    pub(super) owner: &'a str,
    pub(super) size: i64,
    pub(super) content_type: &'a str,
}

/// A chunk, to be written.
pub(super) struct NewChunk<'a> {
    pub(super) ordinal: i64,
    pub(super) digest: &'a [u8],
    pub(super) content: &'a [u8],
}

/// Runs a block on a connection within a transaction, and gives what it gives. Boxed: it holds a transaction and its statements.
macro_rules! transact {
    ($database:expr, $statements:ident, $connection:ident, $block:block) => {
        match $database {
            crate::database::Database::Postgres(pool) => {
                Box::pin(async {
                    use crate::document::statement::postgres as $statements;
                    let mut transaction = pool.begin().await?;
                    let $connection: &mut sqlx::PgConnection = &mut transaction;
                    let outcome: Result<_, sqlx::Error> = async { $block }.await;
                    let outcome = outcome?;
                    transaction.commit().await?;
                    Ok::<_, sqlx::Error>(outcome)
                })
                .await
            }
            crate::database::Database::Sqlite(database) => {
                Box::pin(async {
                    use crate::document::statement::sqlite as $statements;
                    let begun = database.writer().begin_with("BEGIN IMMEDIATE").await;
                    let mut transaction = begun?;
                    let $connection: &mut sqlx::SqliteConnection = &mut transaction;
                    let outcome: Result<_, sqlx::Error> = async { $block }.await;
                    let outcome = outcome?;
                    transaction.commit().await?;
                    Ok::<_, sqlx::Error>(outcome)
                })
                .await
            }
        }
    };
}
/// Runs a block that only reads on a connection.
macro_rules! reading {
    ($database:expr, $statements:ident, $connection:ident, $block:block) => {
        match $database {
            crate::database::Database::Postgres(pool) => {
                Box::pin(async {
                    use crate::document::statement::postgres as $statements;
                    let mut acquired = pool.acquire().await?;
                    let $connection: &mut sqlx::PgConnection = &mut acquired;
                    $block
                })
                .await
            }
            crate::database::Database::Sqlite(database) => {
                Box::pin(async {
                    use crate::document::statement::sqlite as $statements;
                    let mut acquired = database.readers().acquire().await?;
                    let $connection: &mut sqlx::SqliteConnection = &mut acquired;
                    $block
                })
                .await
            }
        }
    };
}
pub(super) use reading;
pub(super) use transact;

macro_rules! statements {
    ($store:ident, $connection:ty, $lock:literal) => {
        pub(super) mod $store {
            use sqlx::Error;

            use super::*;

            pub(crate) async fn find(
                connection: &mut $connection,
                digest: &[u8],
            ) -> Result<Option<DocumentRow>, Error> {
                sqlx::query_as("SELECT size, content_type, upload FROM document WHERE digest = $1")
                    .bind(digest)
                    .fetch_optional(connection)
                    .await
            }

            pub(crate) async fn is_held(
                connection: &mut $connection,
                digest: &[u8],
                owner: &str,
            ) -> Result<bool, Error> {
                sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM document_holder \
                     WHERE digest = $1 AND owner = $2)",
                )
                .bind(digest)
                .bind(owner)
                .fetch_one(connection)
                .await
            }

            /// Writes down that an owner has brought a document.
            pub(crate) async fn insert_holder(
                connection: &mut $connection,
                digest: &[u8],
                owner: &str,
            ) -> Result<(), Error> {
                sqlx::query(
                    "INSERT INTO document_holder (digest, owner) VALUES ($1, $2) \
                     ON CONFLICT (digest, owner) DO NOTHING",
                )
                .bind(digest)
                .bind(owner)
                .execute(connection)
                .await
                .map(|_| ())
            }

            pub(crate) async fn keep(
                connection: &mut $connection,
                digest: &[u8],
            ) -> Result<bool, Error> {
                let kept = sqlx::query("UPDATE document SET kept = 1 WHERE digest = $1")
                    .bind(digest)
                    .execute(connection)
                    .await?;
                Ok(kept.rows_affected() == 1)
            }

            /// Puts off the end of a document that no record names yet.
            pub(crate) async fn touch(
                connection: &mut $connection,
                digest: &[u8],
                now_us: i64,
            ) -> Result<(), Error> {
                sqlx::query("UPDATE document SET touched_at = $1 WHERE digest = $2 AND kept = 0")
                    .bind(now_us)
                    .bind(digest)
                    .execute(connection)
                    .await
                    .map(|_| ())
            }

            pub(crate) async fn open_uploads(
                connection: &mut $connection,
                owner: &str,
            ) -> Result<i64, Error> {
                sqlx::query_scalar("SELECT count(*) FROM document_upload WHERE owner = $1")
                    .bind(owner)
                    .fetch_one(connection)
                    .await
            }

            pub(crate) async fn upload_of(
                connection: &mut $connection,
                owner: &str,
                digest: &[u8],
            ) -> Result<Option<UploadRow>, Error> {
                sqlx::query_as(
                    "SELECT upload, size, received FROM document_upload \
                     WHERE owner = $1 AND digest = $2",
                )
                .bind(owner)
                .bind(digest)
                .fetch_optional(connection)
                .await
            }

            pub(crate) async fn insert_upload(
                connection: &mut $connection,
                new: &NewUpload<'_>,
                now_us: i64,
            ) -> Result<(), Error> {
                sqlx::query(
                    "INSERT INTO document_upload \
                     (upload, digest, owner, size, content_type, received, touched_at) \
                     VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT (owner, digest) DO NOTHING",
                )
                .bind(new.upload)
                .bind(new.digest)
                .bind(new.owner)
                .bind(new.size)
                .bind(new.content_type)
                .bind(now_us)
                .execute(connection)
                .await
                .map(|_| ())
            }

            /// How much of an upload was received; nobody else goes on with it before the transaction ends.
            pub(crate) async fn hold_upload(
                connection: &mut $connection,
                upload: &str,
            ) -> Result<Option<i64>, Error> {
                sqlx::query_scalar(concat!(
                    "SELECT received FROM document_upload WHERE upload = $1",
                    $lock
                ))
                .bind(upload)
                .fetch_optional(connection)
                .await
            }

            pub(crate) async fn insert_chunk(
                connection: &mut $connection,
                upload: &str,
                new: &NewChunk<'_>,
                (received, now_us): (i64, i64),
            ) -> Result<(), Error> {
                sqlx::query(
                    "INSERT INTO document_chunk (upload, ordinal, digest, content) \
                     VALUES ($1, $2, $3, $4)",
                )
                .bind(upload)
                .bind(new.ordinal)
                .bind(new.digest)
                .bind(new.content)
                .execute(&mut *connection)
                .await?;
                sqlx::query(
                    "UPDATE document_upload SET received = $1, touched_at = $2 WHERE upload = $3",
                )
                .bind(received)
                .bind(now_us)
                .bind(upload)
                .execute(connection)
                .await
                .map(|_| ())
            }

            pub(crate) async fn chunk_digest(
                connection: &mut $connection,
                upload: &str,
                ordinal: i64,
            ) -> Result<Option<Vec<u8>>, Error> {
                sqlx::query_scalar(
                    "SELECT digest FROM document_chunk WHERE upload = $1 AND ordinal = $2",
                )
                .bind(upload)
                .bind(ordinal)
                .fetch_optional(connection)
                .await
            }

            pub(crate) async fn chunk(
                connection: &mut $connection,
                upload: &str,
                ordinal: i64,
            ) -> Result<Option<ChunkRow>, Error> {
                sqlx::query_as(
                    "SELECT digest, content FROM document_chunk \
                     WHERE upload = $1 AND ordinal = $2",
                )
                .bind(upload)
                .bind(ordinal)
                .fetch_optional(connection)
                .await
            }

            /// Makes an upload a document; false when the same bytes are one already, and then the upload's are not needed.
            pub(crate) async fn insert_document(
                connection: &mut $connection,
                new: &NewUpload<'_>,
                now_us: i64,
            ) -> Result<bool, Error> {
                let inserted = sqlx::query(
                    "INSERT INTO document (digest, size, content_type, upload, kept, touched_at) \
                     VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (digest) DO NOTHING",
                )
                .bind(new.digest)
                .bind(new.size)
                .bind(new.content_type)
                .bind(new.upload)
                .bind(now_us)
                .execute(connection)
                .await?;
                Ok(inserted.rows_affected() == 1)
            }

            pub(crate) async fn end_upload(
                connection: &mut $connection,
                upload: &str,
            ) -> Result<bool, Error> {
                let ended = sqlx::query("DELETE FROM document_upload WHERE upload = $1")
                    .bind(upload)
                    .execute(connection)
                    .await?;
                Ok(ended.rows_affected() == 1)
            }

            pub(crate) async fn drop_chunks(
                connection: &mut $connection,
                upload: &str,
            ) -> Result<(), Error> {
                sqlx::query("DELETE FROM document_chunk WHERE upload = $1")
                    .bind(upload)
                    .execute(connection)
                    .await
                    .map(|_| ())
            }

            pub(crate) async fn drop_uploads(
                connection: &mut $connection,
                before: i64,
                limit: i64,
            ) -> Result<Vec<String>, Error> {
                sqlx::query_scalar(
                    "DELETE FROM document_upload WHERE touched_at < $1 AND upload IN \
                     (SELECT upload FROM document_upload WHERE touched_at < $1 \
                      ORDER BY touched_at LIMIT $2) RETURNING upload",
                )
                .bind(before)
                .bind(limit)
                .fetch_all(connection)
                .await
            }

            pub(crate) async fn drop_loose(
                connection: &mut $connection,
                before: i64,
                limit: i64,
            ) -> Result<Vec<String>, Error> {
                sqlx::query_scalar(
                    "DELETE FROM document WHERE kept = 0 AND touched_at < $1 AND digest IN \
                     (SELECT digest FROM document WHERE kept = 0 AND touched_at < $1 \
                      ORDER BY touched_at LIMIT $2) RETURNING upload",
                )
                .bind(before)
                .bind(limit)
                .fetch_all(connection)
                .await
            }
        }
    };
}

statements!(postgres, PgConnection, " FOR UPDATE");
statements!(sqlite, SqliteConnection, "");
