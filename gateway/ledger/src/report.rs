//! Who read a person's data: the calls that a number was the subject of, as this ledger holds them.

use std::collections::{BTreeMap, BTreeSet};

use banqiao_proto::ledger::v1::{
    AccessState, Entry, EntryFilter, Kind, SubjectAccess, SubjectNumber, subject_number::Number,
};
use uuid::Uuid;

use crate::{
    entry::Decoded,
    keyring::Month,
    query::{Query, QueryError},
    reader::{Order, Page, Reader, decode},
    store::StoreError,
};

/// Entries that are looked at for one page.
const PAGE: usize = 500;
/// Longest number in bytes. Every kind of number is shorter.
const MAX_NUMBER_BYTES: usize = 64;

/// What tells the calls of a ledger apart: exchange, attempt, side and provider's city.
type CallKey = (Vec<u8>, u32, i32, String);

/// The accesses to one person's data, page by page, newest first.
///
/// A call is listed once, however many of its entries name the person.
#[derive(Debug)]
pub struct SubjectReport {
    reader: Reader,
    query: Query,
    cursor: Option<u64>,
    end: Option<u64>,
    done: bool,
    listed: BTreeSet<CallKey>,
}

impl SubjectReport {
    /// A report of what a number was the subject of, from a moment until another, in microseconds since 1970; 0: no
    /// such bound. The number is found whatever its kind.
    ///
    /// # Errors
    ///
    /// The field that cannot be searched by.
    pub fn new(
        reader: Reader,
        subject: Option<&SubjectNumber>,
        from_us: i64,
        until_us: i64,
    ) -> Result<Self, QueryError> {
        let number = match subject.and_then(|subject| subject.number.as_ref()) {
            Some(Number::Card(number) | Number::Citizen(number) | Number::Organisation(number)) => {
                number.trim()
            }
            None => "",
        };
        let fault = |problem| QueryError {
            field: "subject",
            problem,
        };
        if number.is_empty() {
            return Err(fault("is missing"));
        }
        if number.len() > MAX_NUMBER_BYTES || number.chars().any(char::is_control) {
            return Err(fault("is no such number"));
        }
        let query = Query::parse(&EntryFilter {
            subject: number.to_owned(),
            from_us,
            until_us,
            ..EntryFilter::default()
        })?;
        Ok(Self {
            reader,
            query,
            cursor: None,
            end: None,
            done: false,
            listed: BTreeSet::new(),
        })
    }

    /// What is searched for, as a READ entry holds it: without the number.
    pub fn describe(&self) -> String {
        format!("accesses {}", self.query.describe())
    }

    /// Leaves out what was committed from an index on: the entries of the report itself.
    pub const fn end_at(&mut self, index: u64) {
        self.end = Some(index);
    }

    /// The next accesses; none: that were all.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn next(&mut self) -> Result<Vec<SubjectAccess>, StoreError> {
        let mut accesses = Vec::new();
        while accesses.is_empty() && !self.done {
            let page = Page {
                limit: PAGE,
                order: Order::Descending,
                cursor: self.cursor.or(self.end),
                open_private: false,
            };
            let found = self.reader.search(&self.query, page).await?;
            self.done = found.len() < PAGE;
            self.cursor = found.last().map(|stored| stored.index).or(self.cursor);
            for stored in found {
                if let Decoded::Entry(entry) = decode(&stored)?
                    && !entry.exchange.is_empty()
                {
                    accesses.extend(self.access(&entry).await?);
                }
            }
        }
        Ok(accesses)
    }

    /// Months whose keys are destroyed: what they held of anybody cannot be found by a number.
    ///
    /// # Errors
    ///
    /// When the database or a key cannot be read.
    pub async fn closed_months(&self) -> Result<Vec<Month>, StoreError> {
        let core = self.reader.core();
        let mut closed = Vec::new();
        for month in core.reads.months().await? {
            let keys = core.preparer.keyring.held(month);
            if keys.map_err(StoreError::Keys)?.is_none() {
                closed.push(month);
            }
        }
        Ok(closed)
    }

    /// The call of an entry, unless it is listed.
    async fn access(&mut self, found: &Entry) -> Result<Option<SubjectAccess>, StoreError> {
        let key = key(found);
        if self.listed.contains(&key) {
            return Ok(None);
        }
        let Ok(exchange) = Uuid::from_slice(&found.exchange) else {
            return Ok(None);
        };
        let mut calls: BTreeMap<CallKey, Vec<Entry>> = BTreeMap::new();
        for stored in self.reader.exchange(exchange, false).await? {
            if let Decoded::Entry(entry) = decode(&stored)? {
                calls.entry(self::key(&entry)).or_default().push(*entry);
            }
        }
        let access = calls
            .get(&key)
            .and_then(|entries| access(exchange, entries));
        self.listed.insert(key);
        Ok(access)
    }
}

fn key(entry: &Entry) -> CallKey {
    let provider = entry.provider.as_ref();
    (
        entry.exchange.clone(),
        entry.attempt,
        entry.side,
        provider.map(|it| it.city.clone()).unwrap_or_default(),
    )
}

/// What may be told of a call, of all its entries in order.
fn access(exchange: Uuid, entries: &[Entry]) -> Option<SubjectAccess> {
    let first = entries.first()?;
    let client = first.client.clone().unwrap_or_default();
    let provider = first.provider.clone().unwrap_or_default();
    let grant = entries
        .iter()
        .filter_map(|entry| entry.decision.as_ref())
        .find(|decision| !decision.grant_id.is_empty());
    let end = entries
        .iter()
        .find(|entry| matches!(entry.kind(), Kind::Close | Kind::Refused));
    let result = end.and_then(|end| end.result.as_ref());
    let state = match end.map(Entry::kind) {
        Some(Kind::Refused) => AccessState::Refused,
        Some(_) if result.is_some_and(|result| result.interrupted) => AccessState::Interrupted,
        Some(_) => AccessState::Ended,
        None => AccessState::Open,
    };
    let refused = end
        .and_then(|end| end.decision.as_ref())
        .map_or(0, |decision| decision.reason);
    let reason = result.map_or(0, |result| match result.reason {
        0 => result.peer_reason,
        reason => reason,
    });
    Some(SubjectAccess {
        exchange_id: exchange.to_string(),
        attempt: first.attempt,
        side: first.side,
        time_us: first.time_us,
        client: client.spiffe_id,
        client_city: client.city,
        agency: client.agency,
        provider_city: provider.city,
        method: first.method.clone(),
        purpose: first.purpose.clone(),
        basis: first.basis.clone(),
        grant_id: grant.map(|it| it.grant_id.clone()).unwrap_or_default(),
        state: state.into(),
        status: result.map_or(0, |result| result.status),
        reason: if refused == 0 { reason } else { refused },
    })
}
