//! The statements of referrals. Both stores read the same text here: PostgreSQL's `$1` is SQLite's too.

use banqiao_directory::SpiffeId;
use banqiao_kit::{Violations, document::DeclaredDocument, document::DocumentDigest};
use banqiao_proto::lab::v1::{Referral, ReferralStatus};
use prost::Message;
use sqlx::{Error, PgConnection, PgPool, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{FirstReferralAnswer, ReferralPull, ReferralWrite, StoreError, StoredReferral};
use crate::referral::{REFERRAL_DOCUMENTS, ReferralError};

#[derive(sqlx::FromRow)]
pub(super) struct ReferralRow {
    id: String,
    record: Vec<u8>,
    version: i64,
}

impl TryFrom<ReferralRow> for StoredReferral {
    type Error = StoreError;

    fn try_from(row: ReferralRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: Uuid::try_parse(&row.id).map_err(|_| StoreError::Corrupt("referral number"))?,
            record: Referral::decode(row.record.as_slice())
                .map_err(|_| StoreError::Corrupt("referral record"))?,
            version: row.version,
        })
    }
}

/// An event of the history.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredReferralEvent {
    /// Its number: events are numbered from 1 without gaps, in the order of their commits.
    pub seq: i64,
    /// Number of the referral.
    pub referral: String,
    /// Code.
    pub event: String,
    /// Status before, as in `banqiao.lab.v1.ReferralStatus`.
    pub from_status: i16,
    /// Status after.
    pub to_status: i16,
    /// City that acted.
    pub actor_city: String,
    /// System that asked.
    pub client: Option<String>,
    /// Exchange.
    pub exchange: Option<String>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct AnswerRow {
    request_digest: Vec<u8>,
    status: i16,
    seq: i64,
}

impl TryFrom<AnswerRow> for FirstReferralAnswer {
    type Error = StoreError;

    fn try_from(row: AnswerRow) -> Result<Self, StoreError> {
        let digest = row.request_digest.try_into();
        let status = ReferralStatus::try_from(i32::from(row.status));
        Ok(Self {
            digest: digest.map_err(|_| StoreError::Corrupt("digest"))?,
            status: status.map_err(|_| StoreError::Corrupt("referral status"))?,
            seq: row.seq,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct PullRow {
    referral: String,
    digest: Vec<u8>,
    city: String,
    size: i64,
    content_type: String,
}

impl TryFrom<PullRow> for ReferralPull {
    type Error = StoreError;

    fn try_from(row: PullRow) -> Result<Self, StoreError> {
        let size = u64::try_from(row.size).map_err(|_| StoreError::Corrupt("size"))?;
        let declared = (row.digest.as_slice(), size, row.content_type.as_str());
        let document =
            DeclaredDocument::parse(&REFERRAL_DOCUMENTS, declared, "", &mut Violations::new());
        Ok(Self {
            referral: Uuid::try_parse(&row.referral)
                .map_err(|_| StoreError::Corrupt("referral number"))?,
            city: row.city.parse().map_err(|_| StoreError::Corrupt("city"))?,
            document: document.ok_or(StoreError::Corrupt("document"))?,
        })
    }
}

/// The number of a status as a column has it.
const fn number(status: ReferralStatus) -> i16 {
    // The numbers of the enum are below 11.
    status as i16
}

macro_rules! statements {
    ($store:ident, $pool:ty, $connection:ty) => {
        pub(super) mod $store {
            use super::*;

            pub(crate) async fn find(
                pool: &$pool,
                id: &str,
            ) -> Result<Option<ReferralRow>, Error> {
                sqlx::query_as("SELECT id, record, version FROM referral WHERE id = $1")
                    .bind(id)
                    .fetch_optional(pool)
                    .await
            }

            pub(crate) async fn history(
                pool: &$pool,
                id: &str,
            ) -> Result<Vec<StoredReferralEvent>, Error> {
                sqlx::query_as(
                    "SELECT seq, referral, event, from_status, to_status, actor_city, client, \
                     exchange, at FROM referral_event WHERE referral = $1 ORDER BY seq",
                )
                .bind(id)
                .fetch_all(pool)
                .await
            }

            pub(crate) async fn events(
                pool: &$pool,
                institution: &str,
                after: i64,
                to: i64,
                limit: i64,
            ) -> Result<Vec<StoredReferralEvent>, Error> {
                sqlx::query_as(
                    "SELECT e.seq, e.referral, e.event, e.from_status, e.to_status, e.actor_city, \
                     e.client, e.exchange, e.at FROM referral_event e \
                     JOIN referral r ON r.id = e.referral WHERE e.seq > $1 AND e.seq <= $2 \
                     AND (r.from_institution = $3 OR r.to_institution = $3) \
                     ORDER BY e.seq LIMIT $4",
                )
                .bind(after)
                .bind(to)
                .bind(institution)
                .bind(limit)
                .fetch_all(pool)
                .await
            }

            pub(crate) async fn due(
                pool: &$pool,
                now_us: i64,
                limit: i64,
            ) -> Result<Vec<String>, Error> {
                sqlx::query_scalar(
                    "SELECT id FROM referral WHERE due_at IS NOT NULL AND due_at <= $1 \
                     ORDER BY due_at LIMIT $2",
                )
                .bind(now_us)
                .bind(limit)
                .fetch_all(pool)
                .await
            }

            pub(crate) async fn pulls(pool: &$pool, limit: i64) -> Result<Vec<PullRow>, Error> {
                sqlx::query_as(
                    "SELECT referral, digest, city, size, content_type FROM referral_pull \
                     ORDER BY tried_at LIMIT $1",
                )
                .bind(limit)
                .fetch_all(pool)
                .await
            }

            pub(crate) async fn awaited(pool: &$pool, id: &str) -> Result<Vec<Vec<u8>>, Error> {
                sqlx::query_scalar("SELECT digest FROM referral_pull WHERE referral = $1")
                    .bind(id)
                    .fetch_all(pool)
                    .await
            }

            pub(crate) async fn tried(
                pool: &$pool,
                id: &str,
                digest: &DocumentDigest,
                now_us: i64,
            ) -> Result<(), Error> {
                sqlx::query(
                    "UPDATE referral_pull SET tried_at = $1 WHERE referral = $2 AND digest = $3",
                )
                .bind(now_us)
                .bind(id)
                .bind(digest.as_bytes())
                .execute(pool)
                .await
                .map(|_| ())
            }

            pub(crate) async fn answer(
                pool: &$pool,
                client: &str,
                request_id: &str,
            ) -> Result<Option<AnswerRow>, Error> {
                sqlx::query_as(
                    "SELECT request_digest, status, seq FROM referral_answer \
                     WHERE client = $1 AND request_id = $2",
                )
                .bind(client)
                .bind(request_id)
                .fetch_optional(pool)
                .await
            }

            pub(crate) async fn head(pool: &$pool) -> Result<i64, Error> {
                sqlx::query_scalar("SELECT seq FROM referral_head WHERE id = 1")
                    .fetch_one(pool)
                    .await
            }

            /// Writes everything but parcel and documents, and gives the number of the event.
            pub(crate) async fn put(
                connection: &mut $connection,
                write: &ReferralWrite,
            ) -> Result<i64, ReferralError> {
                put_record(connection, write).await?;
                let seq = append(connection, write).await?;
                for pull in &write.awaited {
                    insert_pull(connection, pull).await?;
                }
                if let Some(digest) = &write.came {
                    let gone = sqlx::query(
                        "DELETE FROM referral_pull WHERE referral = $1 AND digest = $2",
                    )
                    .bind(write.id.to_string())
                    .bind(digest.as_bytes())
                    .execute(&mut *connection)
                    .await?;
                    if gone.rows_affected() == 0 {
                        return Err(StoreError::Conflict.into());
                    }
                }
                if let Some(new) = &write.answer {
                    sqlx::query(
                        "INSERT INTO referral_answer \
                         (client, request_id, request_digest, status, seq) \
                         VALUES ($1, $2, $3, $4, $5)",
                    )
                    .bind(new.client.as_str())
                    .bind(new.request_id.to_string())
                    .bind(&new.digest[..])
                    .bind(number(write.record.status()))
                    .bind(seq)
                    .execute(connection)
                    .await?;
                }
                Ok(seq)
            }

            async fn put_record(
                connection: &mut $connection,
                write: &ReferralWrite,
            ) -> Result<(), ReferralError> {
                let (from, to) = write.institutions();
                let query = match write.version {
                    None => sqlx::query(
                        "INSERT INTO referral (from_institution, to_institution, status, due_at, \
                         record, id, version) VALUES ($1, $2, $3, $4, $5, $6, 1)",
                    ),
                    Some(_) => sqlx::query(
                        "UPDATE referral SET from_institution = $1, to_institution = $2, \
                         status = $3, due_at = $4, record = $5, version = version + 1 \
                         WHERE id = $6 AND version = $7",
                    ),
                };
                let query = query
                    .bind(from)
                    .bind(to)
                    .bind(number(write.record.status()))
                    .bind(write.due_us)
                    .bind(write.body())
                    .bind(write.id.to_string());
                let query = match write.version {
                    None => query,
                    Some(version) => query.bind(version),
                };
                match query.execute(connection).await?.rows_affected() {
                    1 => Ok(()),
                    _ => Err(StoreError::Conflict.into()),
                }
            }

            async fn append(
                connection: &mut $connection,
                write: &ReferralWrite,
            ) -> Result<i64, Error> {
                let Some(event) = &write.event else {
                    return Ok(0);
                };
                let seq: i64 = sqlx::query_scalar(
                    "UPDATE referral_head SET seq = seq + 1 WHERE id = 1 RETURNING seq",
                )
                .fetch_one(&mut *connection)
                .await?;
                sqlx::query(
                    "INSERT INTO referral_event (seq, referral, event, from_status, to_status, \
                     actor_city, client, exchange, at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                )
                .bind(seq)
                .bind(write.id.to_string())
                .bind(&*event.event)
                .bind(event.from.map_or(0, number))
                .bind(number(write.record.status()))
                .bind(event.actor_city.as_str())
                .bind(event.client.as_ref().map(SpiffeId::as_str))
                .bind(event.exchange.map(|exchange| exchange.to_string()))
                .bind(event.at_us)
                .execute(connection)
                .await?;
                Ok(seq)
            }

            async fn insert_pull(
                connection: &mut $connection,
                pull: &ReferralPull,
            ) -> Result<(), ReferralError> {
                let size = i64::try_from(pull.document.size());
                sqlx::query(
                    "INSERT INTO referral_pull \
                     (referral, digest, city, size, content_type, tried_at) \
                     VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (referral, digest) DO NOTHING",
                )
                .bind(pull.referral.to_string())
                .bind(pull.document.digest().as_bytes())
                .bind(pull.city.as_str())
                .bind(size.map_err(|_| StoreError::Corrupt("size"))?)
                .bind(pull.document.content_type())
                .execute(connection)
                .await?;
                Ok(())
            }
        }
    };
}

statements!(postgres, PgPool, PgConnection);
statements!(sqlite, SqlitePool, SqliteConnection);
