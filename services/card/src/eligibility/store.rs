//! Eligibility in the database. Both databases understand the same statements here, so that each is written once, in
//! `store/statements.rs`; what differs is how a list comes as one parameter.

mod row;
mod statements;

use std::collections::{HashMap, HashSet};

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{Database, identifier::CitizenId, mapping::Mapped};
use banqiao_proto::card::v1::{CampaignStatus, InsuranceScheme, Investigation};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    decide::Effects,
    mapped::{self, Payments},
    record::{Event, Payment, Person, PersonKey},
};
use crate::{
    entitlement::list,
    people::PeoplePage,
    store::{Store, StoreError},
};
use statements::{postgres, sqlite};

/// A request with its first answer.
#[derive(Clone, Debug)]
pub(super) struct FirstRequest {
    pub(super) client: SpiffeId,
    pub(super) request_id: Uuid,
    pub(super) digest: [u8; 32],
    pub(super) answer: Vec<u8>,
}

/// What a writer finds when it holds the head.
#[derive(Debug)]
pub(super) struct Found {
    /// Number of the next entry.
    pub(super) next: i64,
    /// Digest and answer of the first request with this id.
    pub(super) first: Option<([u8; 32], Vec<u8>)>,
    /// Everybody of the numbers who is known.
    pub(super) people: Vec<Person>,
    /// Their payments in the bureau's own tables, where they are there.
    pub(super) payments: Option<Vec<(PersonKey, Payment)>>,
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// People and what their decision changes beside them, in order.
    pub(super) people: Vec<(Person, Effects)>,
    /// The request with its answer.
    pub(super) request: Option<FirstRequest>,
    /// Whether payments were handed over. Otherwise nothing but the day by which a check is due is written into a bureau's own tables.
    pub(super) recorded: bool,
}

/// A row of a campaign.
#[derive(Clone, Debug)]
pub(super) struct CampaignRow {
    pub(super) id: i64,
    pub(super) holder: String,
    pub(super) due_on: String,
    pub(super) status: i32,
    pub(super) verified_on: Option<String>,
    pub(super) city: String,
}

/// A month of a scheme, `YYYY-MM`.
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    pub(super) scheme: InsuranceScheme,
    pub(super) month: String,
}

#[derive(Clone, Debug)]
pub(super) struct EligibilityStore {
    database: Database,
    /// The bureau's own tables, where the payments are in them.
    mapped: Option<Mapped>,
    /// Number of the newest entry that this process knows of.
    head: watch::Sender<i64>,
}

macro_rules! read {
    ($store:expr, $function:ident($($argument:expr),*)) => {
        match &$store.database {
            Database::Postgres(pool) => postgres::$function(pool, $($argument),*).await,
            Database::Sqlite(database) => sqlite::$function(database.readers(), $($argument),*).await,
        }
    };
}

impl EligibilityStore {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            database: store.database().clone(),
            mapped: store.mapped(mapped::PAYMENT.name),
            head: watch::Sender::new(0),
        }
    }

    /// Reads people and the first request, decides, and writes, in one transaction that no other writer comes between; where the payments
    /// are in the bureau's own tables, its programs meet this service at the values that a statement names.
    pub(super) async fn change<T, E: From<StoreError>>(
        &self,
        holders: &[CitizenId],
        request: Option<(&SpiffeId, Uuid)>,
        decide: impl FnOnce(Found) -> Result<(Changes, T), E> + Send,
    ) -> Result<T, E> {
        let people = list(holders.iter());
        let failed = |error: sqlx::Error| E::from(StoreError::from(error));
        let (last, decided) = match &self.database {
            Database::Postgres(pool) => {
                let mut transaction = pool.begin().await.map_err(failed)?;
                let mut found = postgres::found(&mut transaction, &people, request).await?;
                let mut read = Payments::default();
                // A repetition is answered as the first time, whatever the bureau has now.
                if let (Some(mapped), None) = (&self.mapped, &found.first) {
                    read = mapped::read(mapped, &mut transaction, holders).await?;
                    found.payments = Some(read.standing());
                }
                let next = found.next;
                let (changes, decided) = decide(found)?;
                if let Some(mapped) = &self.mapped {
                    let people: Vec<_> = changes.people.iter().map(|(person, _)| person).collect();
                    let recorded = changes.recorded;
                    mapped::write(mapped, &mut transaction, &read, &people, recorded).await?;
                }
                let last = postgres::write(&mut transaction, next, &changes).await?;
                transaction.commit().await.map_err(failed)?;
                (last, decided)
            }
            Database::Sqlite(database) => {
                let begun = database.writer().begin_with("BEGIN IMMEDIATE").await;
                let mut transaction = begun.map_err(failed)?;
                let found = sqlite::found(&mut transaction, &people, request).await?;
                let next = found.next;
                let (changes, decided) = decide(found)?;
                let last = sqlite::write(&mut transaction, next, &changes).await?;
                transaction.commit().await.map_err(failed)?;
                (last, decided)
            }
        };
        self.advance(last);
        Ok(decided)
    }

    /// Everybody of these numbers who is known, under whatever scheme.
    pub(super) async fn people(&self, holders: &[CitizenId]) -> Result<Vec<Person>, StoreError> {
        let people = list(holders.iter());
        read!(self, people(&people))
    }

    /// Whether the payments are in the bureau's own tables.
    pub(super) const fn is_mapped(&self) -> bool {
        self.mapped.is_some()
    }

    /// What the bureau's own tables have of some people, and whose rows cannot be used. Nothing where they are not mapped.
    pub(super) async fn look(
        &self,
        holders: &[CitizenId],
    ) -> Result<(HashMap<PersonKey, Payment>, HashSet<CitizenId>), StoreError> {
        match (&self.database, &self.mapped) {
            (Database::Postgres(pool), Some(mapped)) => {
                Box::pin(mapped::look(mapped, pool, holders)).await
            }
            _ => Ok(Default::default()),
        }
    }

    /// People whom the city pays, after one of them: of the bureau's own tables, where the payments are there.
    pub(super) async fn people_page(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<PeoplePage, StoreError> {
        match (&self.database, &self.mapped) {
            (Database::Postgres(pool), Some(mapped)) => {
                let relation = mapped::PAYMENT.name;
                Box::pin(PeoplePage::of_bureau(mapped, pool, relation, after, limit)).await
            }
            _ => self.paid_page(after, limit).await,
        }
    }

    /// People whom the city pays, as far as this service has seen, after one of them.
    pub(super) async fn paid_page(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<PeoplePage, StoreError> {
        let people: Result<_, StoreError> = read!(self, paid_page(after, limit));
        Ok(PeoplePage::own(people?))
    }

    /// Entries after a number about people whom a city pays, oldest first.
    pub(super) async fn events_for(
        &self,
        city: CityCode,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        read!(self, events_for(city, after, limit))
    }

    /// Entries after a number about a person, oldest first.
    pub(super) async fn history(
        &self,
        key: &PersonKey,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        read!(self, history(key, after, limit))
    }

    /// The person of an investigation.
    pub(super) async fn investigated(&self, id: i64) -> Result<Option<PersonKey>, StoreError> {
        read!(self, investigated(id))
    }

    /// Investigations before a number, newest first.
    pub(super) async fn investigations(
        &self,
        before: i64,
        concluded: bool,
        limit: i64,
    ) -> Result<Vec<Investigation>, StoreError> {
        read!(self, investigations(before, concluded, limit))
    }

    /// How many stand how: status, city that checked, people.
    pub(super) async fn counts(
        &self,
        campaign: &Campaign,
    ) -> Result<Vec<(i32, String, i64)>, StoreError> {
        read!(self, counts(campaign))
    }

    /// Rows of a campaign after a number.
    pub(super) async fn campaign(
        &self,
        campaign: &Campaign,
        status: CampaignStatus,
        after: i64,
        limit: i64,
    ) -> Result<Vec<CampaignRow>, StoreError> {
        read!(self, campaign(campaign, status, after, limit))
    }

    /// Number of the newest entry in the database, of whatever replica; wakes the waiters of [`EligibilityStore::heads`].
    pub(super) async fn poll_head(&self) -> Result<i64, StoreError> {
        let head = read!(self, head())?;
        self.advance(head);
        Ok(head)
    }

    /// The number of the newest entry that this process knows of, as it grows.
    pub(super) fn heads(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
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
