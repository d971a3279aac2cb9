//! Forks of other cities' ledgers: two checkpoints that a log has signed and that cannot be of one history.
//!
//! Whoever finds one keeps both notes, and shows the second to any gateway that asks. It need not be believed: the note bears
//! the log's own signature, and who gets it links it like the checkpoint of a receipt (see `links`). So a fork that one city
//! met is told in every city (LEDGER.md §3).

use std::collections::BTreeMap;

use banqiao_directory::{CityCode, Directory};
use banqiao_ledger::{Contradiction, LedgerError, StoreError};
use banqiao_telemetry::Chain;

use super::{Transparency, city_of_log};
use crate::worker::Shared;

/// Contradictions of one log that are kept: one is enough, and no signer can fill a database with more.
const KEPT: usize = 16;

/// A fork, as operators are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Origin of the log.
    pub origin: String,
    /// When it was found, microseconds UTC.
    pub time_us: i64,
    /// A checkpoint of the log: a signed note.
    pub first: String,
    /// Another one, which is not of the same history.
    pub second: String,
}

/// What is known, by origin; what one log may fill of it is bounded.
#[derive(Debug, Default)]
pub(super) struct Forks(BTreeMap<String, Vec<Fork>>);

impl Forks {
    /// The newest that was found of a log.
    fn newest(&self, origin: &str) -> Option<&Fork> {
        self.0.get(origin)?.last()
    }

    fn knows(&self, origin: &str, second: &str) -> bool {
        let known = self.0.get(origin);
        known.is_some_and(|known| known.iter().any(|fork| fork.second == second))
    }

    fn is_full(&self, origin: &str) -> bool {
        self.0.get(origin).is_some_and(|known| known.len() >= KEPT)
    }

    fn add(&mut self, fork: Fork) {
        self.0.entry(fork.origin.clone()).or_default().push(fork);
    }
}

/// Keeps two checkpoints that a log has signed, and tells of them, once.
///
/// # Errors
///
/// When they cannot be kept; they are told all the same, and again when they are met again.
pub(super) async fn keep(
    shared: &Shared,
    city: CityCode,
    found: Contradiction,
) -> Result<(), LedgerError> {
    let transparency = &shared.transparency;
    {
        let state = transparency.state.lock();
        let (origin, second) = (&found.origin, &found.second);
        if state.forks.knows(origin, second) || state.forks.is_full(origin) {
            return Ok(());
        }
    }
    tell(shared, city, &found.origin);
    shared.ledger.keep_contradiction(found.clone()).await?;
    transparency.know(city, found);
    Ok(())
}

/// As [`keep`], where nothing hangs on its being kept.
pub(super) async fn note(shared: &Shared, city: CityCode, found: Contradiction) {
    if let Err(error) = keep(shared, city, found).await {
        tracing::error!(error = %Chain(&error), "two contradicting checkpoints cannot be kept");
    }
}

/// Learns what is kept: found before a restart, or by another replica.
pub(super) async fn recall(shared: &Shared, directory: &Directory) -> Result<(), StoreError> {
    let kept = shared.ledger.reader().contradictions().await?;
    for found in kept {
        // A log that no city has any more: its contradictions stay as evidence.
        let Some(city) = city_of_log(directory, &found.origin) else {
            continue;
        };
        let known = {
            let state = shared.transparency.state.lock();
            state.forks.knows(&found.origin, &found.second)
        };
        if !known {
            tell(shared, city.code, &found.origin);
            shared.transparency.know(city.code, found);
        }
    }
    shared.transparency.forget_forks(directory);
    Ok(())
}

fn tell(shared: &Shared, city: CityCode, origin: &str) {
    shared.metrics.ledger_alarm("peer_fork");
    tracing::error!(
        city = city.as_str(),
        origin,
        "a city has signed two histories of its ledger; both are kept"
    );
}

impl Transparency {
    /// A checkpoint that shows, with another one, that a log was forked.
    pub(super) fn fork_of(&self, origin: &str) -> Option<String> {
        let state = self.state.lock();
        Some(state.forks.newest(origin)?.second.clone())
    }

    /// Whether a checkpoint of a log is known as that of a fork.
    pub(super) fn knows_fork(&self, origin: &str, second: &str) -> bool {
        self.state.lock().forks.knows(origin, second)
    }

    fn know(&self, city: CityCode, found: Contradiction) {
        let Contradiction {
            origin,
            time_us,
            first,
            second,
        } = found;
        let fork = Fork {
            origin,
            time_us,
            first,
            second,
        };
        let mut state = self.state.lock();
        state.links.entry(city).or_default().fork = Some(fork.clone());
        state.forks.add(fork);
    }

    /// A city that began a new epoch has another log: what its old one signed stays as evidence, and is no alarm any more.
    fn forget_forks(&self, directory: &Directory) {
        let mut state = self.state.lock();
        for link in state.links.values_mut() {
            let listed = |fork: &Fork| city_of_log(directory, &fork.origin).is_some();
            link.fork = link.fork.take().filter(listed);
        }
        let listed = |origin: &str| city_of_log(directory, origin).is_some();
        state.forks.0.retain(|origin, _| listed(origin));
    }
}
