//! What reconciliation reads, the same from both stores.

use super::{Reads, StoreError, Tables, number};
use crate::reconcile::{Compared, OpenAttempt};

/// An entry of a call that begins or ends it, by its exchange.
#[derive(Clone, Debug)]
pub(crate) struct CallRow {
    pub(crate) exchange: [u8; 16],
    pub(crate) index: u64,
    pub(crate) bytes: Vec<u8>,
}

impl CallRow {
    pub(super) fn of(exchange: Vec<u8>, index: i64, bytes: Vec<u8>) -> Result<Self, StoreError> {
        Ok(Self {
            exchange: exchange
                .try_into()
                .map_err(|_| StoreError::Corrupt("exchange"))?,
            index: number(index)?,
            bytes,
        })
    }
}

/// City, until, at, found, and how many are open.
pub(super) type ComparedRow = (String, i64, i64, i64, i64);

pub(super) fn compared(rows: Vec<ComparedRow>) -> Result<Vec<Compared>, StoreError> {
    rows.into_iter()
        .map(|(city, until_ms, at_us, found, open)| {
            Ok(Compared {
                city,
                until_ms,
                at_us,
                found: number(found)?,
                open: number(open)?,
            })
        })
        .collect()
}

pub(super) fn open_attempt(exchange: Vec<u8>, attempt: i64) -> Result<OpenAttempt, StoreError> {
    Ok(OpenAttempt {
        exchange: exchange
            .try_into()
            .map_err(|_| StoreError::Corrupt("exchange"))?,
        attempt: u32::try_from(attempt).map_err(|_| StoreError::Corrupt("attempt"))?,
    })
}

impl Reads {
    /// How far this ledger is compared with each other city.
    pub(crate) async fn compared(&self) -> Result<Vec<Compared>, StoreError> {
        tables!(self, store => store.compared().await)
    }

    /// Attempts that had not ended when they were compared with a city, by exchange, behind one of them.
    pub(crate) async fn open_attempts(
        &self,
        city: &str,
        behind: Option<OpenAttempt>,
        limit: u32,
    ) -> Result<Vec<OpenAttempt>, StoreError> {
        let behind = behind.unwrap_or(OpenAttempt {
            exchange: [0; 16],
            attempt: 0,
        });
        tables!(self, store => store.open_attempts(city, behind, limit).await)
    }
}
