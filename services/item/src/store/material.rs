//! What became of the materials of cases.

use banqiao_kit::{
    Database,
    document::{DocumentDigest, DocumentStore},
};
use sqlx::{Error, PgConnection, PgPool, SqliteConnection, SqlitePool};

use super::{Store, StoreError};
use crate::case::CaseNumber;

/// What became of a material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaterialEntryKind {
    /// A data call verified what it would prove.
    Verified = 1,
    /// The data calls were not answered, or did not confirm it.
    Unverified = 2,
    /// A document was uploaded.
    Uploaded = 3,
}

/// An entry about a material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterialEntry {
    /// Id of the material in the catalogue.
    pub material: String,
    /// What became of it.
    pub kind: MaterialEntryKind,
    /// Data call; empty for a document.
    pub call: String,
    /// City that was asked, or from which it was uploaded.
    pub city: String,
    /// Exchange of the data call: the proof; or of the upload.
    pub exchange: String,
    /// Why a data call does not count; empty otherwise.
    pub reason: String,
    /// The document.
    pub digest: Option<DocumentDigest>,
    /// Its bytes.
    pub size: u64,
    /// Its content type.
    pub content_type: String,
    /// Client that asked for it.
    pub client: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

#[derive(sqlx::FromRow)]
struct MaterialRow {
    material: String,
    kind: i16,
    data_call: String,
    city: String,
    exchange: String,
    reason: String,
    digest: Option<Vec<u8>>,
    size: i64,
    content_type: String,
    client: String,
    at: i64,
}

impl TryFrom<MaterialRow> for MaterialEntry {
    type Error = StoreError;

    fn try_from(row: MaterialRow) -> Result<Self, StoreError> {
        let digest = row.digest.as_deref().map(DocumentDigest::parse).transpose();
        Ok(Self {
            material: row.material,
            kind: match row.kind {
                1 => MaterialEntryKind::Verified,
                2 => MaterialEntryKind::Unverified,
                _ => MaterialEntryKind::Uploaded,
            },
            call: row.data_call,
            city: row.city,
            exchange: row.exchange,
            reason: row.reason,
            digest: digest.map_err(|_| StoreError::Corrupt("digest"))?,
            size: u64::try_from(row.size).map_err(|_| StoreError::Corrupt("size"))?,
            content_type: row.content_type,
            client: row.client,
            at_us: row.at,
        })
    }
}

macro_rules! statements {
    ($store:ident, $pool:ty, $connection:ty) => {
        mod $store {
            use super::*;

            pub(super) async fn entries(
                pool: &$pool,
                number: &str,
            ) -> Result<Vec<MaterialRow>, Error> {
                sqlx::query_as(
                    "SELECT material, kind, data_call, city, exchange, reason, digest, size, \
                     content_type, client, at FROM case_material \
                     WHERE case_number = $1 ORDER BY seq",
                )
                .bind(number)
                .fetch_all(pool)
                .await
            }

            pub(super) async fn insert(
                connection: &mut $connection,
                number: &str,
                new: &MaterialEntry,
            ) -> Result<(), StoreError> {
                let size = i64::try_from(new.size).map_err(|_| StoreError::Corrupt("size"))?;
                sqlx::query(
                    "INSERT INTO case_material (case_number, material, kind, data_call, city, \
                     exchange, reason, digest, size, content_type, client, at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                     ON CONFLICT (case_number, material, digest) DO NOTHING",
                )
                .bind(number)
                .bind(&new.material)
                .bind(new.kind as i16)
                .bind(&new.call)
                .bind(&new.city)
                .bind(&new.exchange)
                .bind(&new.reason)
                .bind(new.digest.as_ref().map(DocumentDigest::as_bytes))
                .bind(size)
                .bind(&new.content_type)
                .bind(&new.client)
                .bind(new.at_us)
                .execute(connection)
                .await?;
                Ok(())
            }
        }
    };
}

// Both stores read the same text here: PostgreSQL's `$1` is SQLite's too.
statements!(postgres, PgPool, PgConnection);
statements!(sqlite, SqlitePool, SqliteConnection);

impl Store {
    /// The database, for the documents in it.
    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// What became of the materials of a case, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn materials(&self, number: CaseNumber) -> Result<Vec<MaterialEntry>, StoreError> {
        let number = number.to_string();
        let rows = match &self.database {
            Database::Postgres(pool) => postgres::entries(pool, &number).await,
            Database::Sqlite(database) => sqlite::entries(database.readers(), &number).await,
        }?;
        rows.into_iter().map(MaterialEntry::try_from).collect()
    }

    /// Writes an entry, and keeps its document, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the document is not here; see [`StoreError`] for the rest.
    pub async fn write_material(
        &self,
        number: CaseNumber,
        new: &MaterialEntry,
    ) -> Result<(), StoreError> {
        let number = number.to_string();
        match &self.database {
            Database::Postgres(pool) => {
                Box::pin(async {
                    let mut transaction = pool.begin().await?;
                    if let Some(digest) = &new.digest
                        && !DocumentStore::keep_postgres(&mut transaction, digest).await?
                    {
                        return Err(StoreError::Conflict);
                    }
                    postgres::insert(&mut transaction, &number, new).await?;
                    Ok(transaction.commit().await?)
                })
                .await
            }
            Database::Sqlite(database) => {
                Box::pin(async {
                    let begun = database.writer().begin_with("BEGIN IMMEDIATE").await;
                    let mut transaction = begun?;
                    if let Some(digest) = &new.digest
                        && !DocumentStore::keep_sqlite(&mut transaction, digest).await?
                    {
                        return Err(StoreError::Conflict);
                    }
                    sqlite::insert(&mut transaction, &number, new).await?;
                    Ok(transaction.commit().await?)
                })
                .await
            }
        }
    }
}
