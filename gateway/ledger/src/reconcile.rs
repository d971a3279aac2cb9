//! Reconciliation: what this ledger holds of the exchanges with another city, in digests, and what of it differs from
//! what the other's holds (LEDGER.md §1: a table lists which pairs agree).
//!
//! Sides share the exchange ids and the time in them (UUIDv7), but no clock; so everything goes by that time. A span is
//! compared by one digest for each minute first ([`Windows`]); only minutes that differ are compared exchange by
//! exchange ([`compare`]). Nothing here speaks to another city.

mod compare;
mod record;
mod records;
mod window;

use std::time::Duration;

use banqiao_directory::CityCode;

pub use compare::{Verdict, compare, is_discrepancy};
pub use record::{Key, Malformed};
pub use records::Records;
pub use window::{WINDOW_MS, Window, Windows, bounds, made_ms};

/// Two cities, seen from the one whose ledger it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The city whose ledger it is.
    pub here: CityCode,
    /// The other city.
    pub there: CityCode,
}

impl Pair {
    /// The same two, seen from the other.
    #[must_use]
    pub const fn turned(self) -> Self {
        Self {
            here: self.there,
            there: self.here,
        }
    }
}

/// A turn at comparing with another city: one replica does it at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Code of the other city.
    pub city: String,
    /// Where to begin if nothing was compared yet, milliseconds since 1970.
    pub first_ms: i64,
    /// How long the turn lasts, if it is not renewed.
    pub lasts: Duration,
}

impl Turn {
    /// How long it lasts, in microseconds.
    pub(crate) fn micros(&self) -> i64 {
        i64::try_from(self.lasts.as_micros()).unwrap_or(i64::MAX)
    }
}

/// An exchange and attempt that had not ended when it was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenAttempt {
    /// Exchange id.
    pub exchange: [u8; 16],
    /// Attempt.
    pub attempt: u32,
}

/// A part of the exchanges that was compared: it is kept in the transaction of the entry that says what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconcileStep {
    /// Code of the other city.
    pub city: String,
    /// Where the step begins, milliseconds since 1970: what was compared before it.
    pub from_ms: i64,
    /// Where it ends.
    pub until_ms: i64,
    /// When it was made, microseconds since 1970.
    pub at_us: i64,
    /// Discrepancies that were found.
    pub found: u64,
    /// What has not ended and is looked at again.
    pub open: Vec<OpenAttempt>,
    /// What had not ended before and has now.
    pub ended: Vec<OpenAttempt>,
}

/// How far this ledger is compared with that of another city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Code of the other city.
    pub city: String,
    /// Exchanges before this are compared, milliseconds since 1970.
    pub until_ms: i64,
    /// When that was, microseconds since 1970; 0: never.
    pub at_us: i64,
    /// Discrepancies that were found so far.
    pub found: u64,
    /// Attempts that had not ended and are looked at again.
    pub open: u64,
}

#[cfg(test)]
mod tests;
