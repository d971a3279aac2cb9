//! The referrals of a city with their history, first answers, messages that wait and documents that are still to be got.

mod statement;

use std::borrow::Cow;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{
    Database, ExchangeId, NewParcel, Outbox,
    document::{DeclaredDocument, DocumentDigest, DocumentStore},
    identifier::CreditCode,
};
use banqiao_proto::lab::v1::{Referral, ReferralStatus};
use prost::Message;
use tokio::sync::watch;
use uuid::Uuid;

use super::StoreError;
use crate::referral::ReferralError;
pub use statement::StoredReferralEvent;
use statement::{postgres, sqlite};

/// A referral as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredReferral {
    /// Its number.
    pub id: Uuid,
    /// Everything about it.
    pub record: Referral,
    /// Grows by one with each change of the row.
    pub version: i64,
}

/// Something that happened, to be written.
#[derive(Clone, Debug)]
pub struct NewReferralEvent {
    /// Code of the table of transitions, or of a message's fate.
    pub event: Cow<'static, str>,
    /// Status before; none for the first event.
    pub from: Option<ReferralStatus>,
    /// City that acted.
    pub actor_city: CityCode,
    /// System that asked; none where the service acts by itself.
    pub client: Option<SpiffeId>,
    /// Exchange of the call, or of the message's delivery.
    pub exchange: Option<ExchangeId>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// A first answer, to be written beside the event that it is about.
#[derive(Clone, Debug)]
pub(crate) struct NewReferralAnswer {
    pub(crate) client: SpiffeId,
    pub(crate) request_id: Uuid,
    pub(crate) digest: [u8; 32],
}

/// A first answer as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstReferralAnswer {
    pub(crate) digest: [u8; 32],
    pub(crate) status: ReferralStatus,
    pub(crate) seq: i64,
}

/// A document that is still to be got from another city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferralPull {
    /// The referral.
    pub referral: Uuid,
    /// The city.
    pub city: CityCode,
    /// The document as the other hospital declared it.
    pub document: DeclaredDocument,
}

/// What one transaction writes. All of it or nothing.
#[derive(Debug)]
pub(crate) struct ReferralWrite {
    pub(crate) id: Uuid,
    /// Version at which it was read; none for a new one.
    pub(crate) version: Option<i64>,
    pub(crate) record: Referral,
    /// When the service ends it by itself.
    pub(crate) due_us: Option<i64>,
    pub(crate) event: Option<NewReferralEvent>,
    /// A message for the other city.
    pub(crate) parcel: Option<NewParcel>,
    /// The message whose answer this is.
    pub(crate) take_off: Option<i64>,
    pub(crate) answer: Option<NewReferralAnswer>,
    /// Documents that the record names, which are here.
    pub(crate) kept: Vec<DocumentDigest>,
    /// Documents that the record names, which are not.
    pub(crate) awaited: Vec<ReferralPull>,
    /// The document that came, of those that were awaited.
    pub(crate) came: Option<DocumentDigest>,
}

/// The part of a city's database that holds referrals. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReferralStore {
    database: Database,
    outbox: Outbox,
    /// Number of the newest event that this process knows of.
    head: watch::Sender<i64>,
}

macro_rules! on {
    ($store:expr, $function:ident($($argument:expr),*)) => {
        match &$store.database {
            Database::Postgres(pool) => postgres::$function(pool, $($argument),*).await,
            Database::Sqlite(database) => {
                sqlite::$function(database.readers(), $($argument),*).await
            }
        }
    };
}

impl super::Store {
    /// The referrals in this database.
    pub fn referrals(&self) -> ReferralStore {
        ReferralStore {
            database: self.database.clone(),
            outbox: self.outbox.clone(),
            head: watch::Sender::new(0),
        }
    }
}

impl ReferralStore {
    /// The database, for the documents in it.
    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    /// A referral.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find(&self, id: Uuid) -> Result<Option<StoredReferral>, StoreError> {
        on!(self, find(&id.to_string()))?
            .map(StoredReferral::try_from)
            .transpose()
    }

    /// Events of a referral, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn history(&self, id: Uuid) -> Result<Vec<StoredReferralEvent>, StoreError> {
        Ok(on!(self, history(&id.to_string()))?)
    }

    /// Events of an institution's referrals after one number and up to another, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(
        &self,
        institution: CreditCode,
        (after, to): (i64, i64),
        limit: i64,
    ) -> Result<Vec<StoredReferralEvent>, StoreError> {
        Ok(on!(self, events(institution.as_str(), after, to, limit))?)
    }

    /// Referrals that the service ends by itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn due(&self, now_us: i64, limit: i64) -> Result<Vec<Uuid>, StoreError> {
        let due: Vec<String> = on!(self, due(now_us, limit))?;
        let ids = due.iter().map(|id| Uuid::try_parse(id));
        let ids: Result<_, _> = ids.collect();
        ids.map_err(|_| StoreError::Corrupt("number of a referral"))
    }

    /// Documents that are to be got, those first that were not tried for longest.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pulls(&self, limit: i64) -> Result<Vec<ReferralPull>, StoreError> {
        let rows: Vec<statement::PullRow> = on!(self, pulls(limit))?;
        rows.into_iter().map(ReferralPull::try_from).collect()
    }

    /// Digests of documents of a referral that are to be got.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn awaited(&self, id: Uuid) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(on!(self, awaited(&id.to_string()))?)
    }

    /// Notes that a document did not come, so that others are tried first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tried(&self, pull: &ReferralPull, now_us: i64) -> Result<(), StoreError> {
        let (id, digest) = (pull.referral.to_string(), *pull.document.digest());
        match &self.database {
            Database::Postgres(pool) => postgres::tried(pool, &id, &digest, now_us).await,
            Database::Sqlite(database) => {
                sqlite::tried(database.writer(), &id, &digest, now_us).await
            }
        }?;
        Ok(())
    }

    pub(crate) async fn answer(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<FirstReferralAnswer>, StoreError> {
        let row: Option<statement::AnswerRow> =
            on!(self, answer(client.as_str(), &request_id.to_string()))?;
        row.map(FirstReferralAnswer::try_from).transpose()
    }

    /// Number of the newest event in the database, of whatever replica; wakes the waiters of [`ReferralStore::heads`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll_head(&self) -> Result<i64, StoreError> {
        let head = on!(self, head())?;
        self.advance(head);
        Ok(head)
    }

    /// The number of the newest event that this process knows of, as it grows.
    pub fn heads(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// Writes everything in one transaction, and gives the number of the event; 0 where there is none, and where the message had been
    /// taken off before, when nothing is written.
    pub(crate) async fn write(&self, write: &ReferralWrite) -> Result<i64, ReferralError> {
        let seq = match &self.database {
            Database::Postgres(pool) => Box::pin(self.write_postgres(pool, write)).await,
            Database::Sqlite(database) => Box::pin(self.write_sqlite(database, write)).await,
        }?;
        self.advance(seq);
        if write.parcel.is_some() {
            self.outbox.wake();
        }
        Ok(seq)
    }

    async fn write_postgres(
        &self,
        pool: &sqlx::PgPool,
        write: &ReferralWrite,
    ) -> Result<i64, ReferralError> {
        let mut transaction = pool.begin().await?;
        if let Some(seq) = write.take_off
            && !Outbox::take_off_postgres(&mut transaction, seq).await?
        {
            return Ok(0);
        }
        for digest in write.kept.iter().chain(&write.came) {
            if !DocumentStore::keep_postgres(&mut transaction, digest).await? {
                return Err(StoreError::Conflict.into());
            }
        }
        let seq = postgres::put(&mut transaction, write).await?;
        if let Some(parcel) = &write.parcel {
            Outbox::post_postgres(&mut transaction, parcel).await?;
        }
        transaction.commit().await?;
        Ok(seq)
    }

    async fn write_sqlite(
        &self,
        database: &banqiao_kit::SqliteDatabase,
        write: &ReferralWrite,
    ) -> Result<i64, ReferralError> {
        let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
        if let Some(seq) = write.take_off
            && !Outbox::take_off_sqlite(&mut transaction, seq).await?
        {
            return Ok(0);
        }
        for digest in write.kept.iter().chain(&write.came) {
            if !DocumentStore::keep_sqlite(&mut transaction, digest).await? {
                return Err(StoreError::Conflict.into());
            }
        }
        let seq = sqlite::put(&mut transaction, write).await?;
        if let Some(parcel) = &write.parcel {
            Outbox::post_sqlite(&mut transaction, parcel).await?;
        }
        transaction.commit().await?;
        Ok(seq)
    }

    fn advance(&self, head: i64) {
        self.head.send_if_modified(|known| {
            let newer = head > *known;
            if newer {
                *known = head;
            }
            newer
        });
    }
}

impl ReferralWrite {
    /// The content's institutions, by which a referral is found.
    fn institutions(&self) -> (&str, &str) {
        let content = self.record.content.as_ref();
        content.map_or(("", ""), |content| {
            (&content.from_institution, &content.to_institution)
        })
    }

    fn body(&self) -> Vec<u8> {
        self.record.encode_to_vec()
    }
}
