//! People of a relation of the bureau's own tables, page by page.

use banqiao_kit::{
    identifier::CitizenId,
    mapping::{Mapped, Record},
};
use jiff::civil::Date;
use sqlx::PgPool;

use crate::store::{StoreError, parsed, unreadable};

const NUMBER: &str = "social_security_number";

/// A page of people.
#[derive(Debug, Default)]
pub(crate) struct PeoplePage {
    /// Who; the first one may be the last of the page before.
    pub(crate) people: Vec<CitizenId>,
    /// Rows whose number is nobody's.
    pub(crate) unusable: u64,
    /// After whom the next page begins; none at the end.
    pub(crate) last: Option<String>,
}

impl PeoplePage {
    /// A page of this service's own tables.
    pub(crate) fn own(people: Vec<CitizenId>) -> Self {
        let last = people.last().map(|holder| holder.as_str().to_owned());
        Self {
            people,
            last,
            unusable: 0,
        }
    }

    /// People in the order of the bureau's table, after a number as it stands there. A page may end between rows of one person, so all
    /// rows of its people are to be read.
    pub(crate) async fn of_bureau(
        mapped: &Mapped,
        pool: &PgPool,
        relation: &'static str,
        after: &str,
        limit: i64,
    ) -> Result<Self, StoreError> {
        let mut connection = pool.acquire().await?;
        let records = mapped.page(&mut connection, relation, after, limit).await?;
        let mut page = Self::default();
        for record in &records {
            match holder_of(record) {
                Ok(holder) if page.people.last() != Some(&holder) => page.people.push(holder),
                Ok(_) => {}
                Err(_) => page.unusable += 1,
            }
        }
        let last = records.last().and_then(|record| record.text(NUMBER).ok());
        page.last = last.map(str::to_owned);
        Ok(page)
    }
}

/// Whom a record is about. Bureaus write the check digit X in either case.
pub(crate) fn holder_of(record: &Record) -> Result<CitizenId, StoreError> {
    let text = record.text(NUMBER);
    let text = text.map_err(|fault| unreadable(fault.field(), &fault))?;
    parsed(
        NUMBER,
        CitizenId::parse(&text.to_ascii_uppercase(), Date::MAX),
    )
}
