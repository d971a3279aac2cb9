//! How long what must be kept, and what may be erased of it.
//!
//! A floor is the time below which private parts are erased only on a statutory basis, and a month's keys never.
//! Entries themselves, leaves, tiles and proofs are never erased.

use std::fmt;

use banqiao_proto::ledger::v1::{Entry, EntryFilter, Kind};
use jiff::{Span, Timestamp, tz::Offset};

use crate::{
    entry::Decoded,
    keyring::Month,
    query::Query,
    reader::{Order, Page, Reader, decode},
    store::StoreError,
};

/// How long a floor keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Days of 24 hours.
    Days(i32),
    /// Calendar years.
    Years(i32),
}

/// How sure a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Its text was read.
    Quoted,
    /// The duty is quoted; that it covers these entries, and for exactly so long, is this project's proposal.
    Proposal,
}

/// A retention floor: data, not code, so that it can be held against its source.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Name, as ERASE entries have it.
    pub name: &'static str,
    /// Kinds of entries that it covers.
    pub kinds: &'static [Kind],
    /// How long.
    pub term: Term,
    /// The rule.
    pub source: &'static str,
    /// How sure the rule is.
    pub certainty: Certainty,
}

/// Every floor. An entry must have passed all that cover it.
pub static FLOORS: [Floor; 2] = [
    Floor {
        name: "usage-records",
        // What was used, for what: a call that was let through. Refused calls have used nothing.
        kinds: &[Kind::Open, Kind::Progress, Kind::Close],
        term: Term::Years(3),
        source: "政务数据共享条例 art. 29: records of use are kept for at least 3 years",
        certainty: Certainty::Quoted,
    },
    Floor {
        name: "network-logs",
        kinds: &[
            Kind::Open,
            Kind::Progress,
            Kind::Close,
            Kind::Refused,
            Kind::Summary,
            Kind::Admin,
            Kind::Read,
            Kind::Key,
            Kind::Epoch,
            Kind::Erase,
            Kind::Reconciled,
        ],
        // Six calendar months are up to 184 days; the rest is reserve.
        term: Term::Days(190),
        source: "网络安全法 art. 23 (3): network logs are kept for at least 6 months",
        certainty: Certainty::Proposal,
    },
];

/// Time since which entries stay in the database, microseconds UTC, at some moment: what may be asked for at any time is not
/// archived (LEDGER.md §6: 190 days, as the floor of network logs has them).
pub const fn hot_since_us(now_us: i64) -> i64 {
    now_us.saturating_sub(190 * 86_400 * 1_000_000)
}

/// Day and floor until which something must be kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The floor.
    pub floor: &'static Floor,
    /// First moment that is behind it, microseconds since 1970.
    pub until_us: i64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = Timestamp::from_microsecond(self.until_us).unwrap_or(Timestamp::MAX);
        let day = Offset::UTC.to_datetime(until).date();
        write!(
            f,
            "until {day} (UTC) by the floor {} ({})",
            self.floor.name, self.floor.source
        )
    }
}

impl Floor {
    /// First moment behind the floor of something of a time, both in microseconds since 1970.
    pub fn until_us(&self, time_us: i64) -> i64 {
        let Ok(time) = Timestamp::from_microsecond(time_us) else {
            return i64::MAX;
        };
        let civil = Offset::UTC.to_datetime(time);
        let span = match self.term {
            Term::Days(days) => Span::new().try_days(days),
            Term::Years(years) => Span::new().try_years(years),
        };
        span.ok()
            .and_then(|span| civil.checked_add(span).ok())
            .and_then(|until| Offset::UTC.to_timestamp(until).ok())
            .map_or(i64::MAX, Timestamp::as_microsecond)
    }
}

/// The floors that an entry has not passed by now, the one that keeps it longest first.
pub fn kept(entry: &Entry, now_us: i64) -> Vec<Kept> {
    unpassed(now_us, |floor| {
        floor.kinds.contains(&entry.kind()).then_some(entry.time_us)
    })
}

/// The floors that something has not passed, of those that have it of some time.
fn unpassed(now_us: i64, time_us: impl Fn(&Floor) -> Option<i64>) -> Vec<Kept> {
    let kept = FLOORS.iter().filter_map(|floor| {
        let until_us = floor.until_us(time_us(floor)?);
        (until_us > now_us).then_some(Kept { floor, until_us })
    });
    let mut kept: Vec<Kept> = kept.collect();
    kept.sort_by_key(|kept| std::cmp::Reverse(kept.until_us));
    kept
}

/// An entry that has a private part.
#[derive(Clone, Debug)]
pub struct Erasable {
    /// Its index.
    pub index: u64,
    /// The entry.
    pub entry: Box<Entry>,
}

impl Reader {
    /// Of some entries those that still have a private part, by index.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or holds what is no entry.
    pub async fn erasable(&self, indices: &[u64]) -> Result<Vec<Erasable>, StoreError> {
        let mut indices = indices.to_vec();
        indices.sort_unstable();
        indices.dedup();
        let mut erasable = Vec::new();
        for stored in self.core().reads.at(&indices).await? {
            let index = stored.index;
            let private = self.core().reads.private_indices(index, index + 1).await?;
            if !private.is_empty()
                && let Decoded::Entry(entry) = decode(&stored)?
            {
                erasable.push(Erasable { index, entry });
            }
        }
        Ok(erasable)
    }

    /// The floor that keeps entries of a month longest. `None`: every entry of it has passed them all.
    ///
    /// The last moment of the month counts, whenever in it the entries were made.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn month_kept(&self, month: Month, now_us: i64) -> Result<Option<Kept>, StoreError> {
        let (from_us, until_us) = month.bounds_us();
        let mut held = Vec::new();
        for floor in &FLOORS {
            let query = Query::parse(&EntryFilter {
                // 0 would be no bound: the month that 1970 began with has no entries before it either.
                from_us,
                until_us,
                kinds: floor.kinds.iter().map(|kind| (*kind).into()).collect(),
                ..EntryFilter::default()
            })
            .map_err(|_| StoreError::Corrupt("month"))?;
            let page = Page {
                limit: 1,
                order: Order::Descending,
                cursor: None,
                open_private: false,
            };
            if !self.search(&query, page).await?.is_empty() {
                held.push(floor.name);
            }
        }
        let kept = unpassed(now_us, |floor| {
            held.contains(&floor.name).then_some(until_us - 1)
        });
        Ok(kept.into_iter().next())
    }

    /// Whether the keys of a month are there.
    ///
    /// # Errors
    ///
    /// When a key file cannot be read.
    pub fn has_keys(&self, month: Month) -> Result<bool, StoreError> {
        let keys = self.core().preparer.keyring.held(month);
        Ok(keys.map_err(StoreError::Keys)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29 12:00 UTC.
    const LEAP: i64 = 1_709_208_000_000_000;
    const DAY: i64 = 86_400_000_000;

    fn entry(kind: Kind) -> Entry {
        Entry {
            kind: kind.into(),
            time_us: LEAP,
            ..Entry::default()
        }
    }

    #[test]
    fn calls_are_kept_for_three_calendar_years_and_everything_for_190_days() {
        let day = |kind, now| kept(&entry(kind), now).first().map(Kept::to_string);
        let call = day(Kind::Open, LEAP + 400 * DAY).unwrap();
        assert!(call.starts_with("until 2027-02-28 (UTC) by the floor usage-records"));
        assert!(
            day(Kind::Refused, LEAP + 189 * DAY)
                .unwrap()
                .contains("network-logs")
        );
        assert_eq!(day(Kind::Refused, LEAP + 190 * DAY), None);
        assert_eq!(day(Kind::Close, LEAP + 4 * 366 * DAY), None);
        let floor = &FLOORS[0];
        let until = floor.until_us(LEAP);
        assert_eq!(kept(&entry(Kind::Progress), until - 1).len(), 1);
        assert_eq!(kept(&entry(Kind::Progress), LEAP).len(), 2);
        assert!(kept(&entry(Kind::Progress), until).is_empty());
    }

    #[test]
    fn every_kind_is_under_the_floor_of_logs() {
        for number in 1..=11 {
            let kind = Kind::try_from(number).unwrap();
            assert!(FLOORS[1].kinds.contains(&kind), "{kind:?}");
        }
        assert!(Kind::try_from(12).is_err(), "a new kind needs its floors");
    }
}
