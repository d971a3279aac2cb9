//! The ledger before the eyes of the other cities: tiles and checkpoints that they read, their cosignatures under ours,
//! and ours under theirs (LEDGER.md §3; C2SP tlog-tiles, tlog-witness).
//!
//! Nothing here is on the path of a call.

pub(crate) mod cosigners;
mod forks;
pub(crate) mod links;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod served;
pub(crate) mod unlinked;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use banqiao_directory::{City, CityCode, Directory, NoteKeyKind};
use banqiao_tlog::{
    cosignature::{WitnessSigner, WitnessVerifier},
    hash::{Hash, TreeHead},
    note::Verifier,
};
pub use forks::Fork;
use forks::Forks;
pub use links::LinkState;
use parking_lot::Mutex;

use crate::worker::Shared;

/// How old the newest witnessed checkpoint may be while there is a newer one, before the gateway is degraded.
pub const DEFAULT_WITNESSED_WITHIN: Duration = Duration::from_secs(60);
/// A witness that has cosigned nothing for so long is missing: with the pause between two looks that is told within a
/// minute.
pub const DEFAULT_WITNESS_PATIENCE: Duration = Duration::from_secs(50);
/// How often what each witness saw of each other ledger is fetched (LEDGER.md §3, Monitors).
pub const DEFAULT_MONITOR_INTERVAL: Duration = Duration::from_secs(30);
/// Checkpoints that wait for their quorum; beyond it the oldest are given up.
const GATHERING: usize = 64;

/// How the other cities' witnesses are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransparencySettings {
    /// How long a witness may cosign nothing before it is missing.
    pub witness_patience: Duration,
    /// How often what each witness saw of each other ledger is fetched.
    pub monitor_interval: Duration,
    /// How old the newest witnessed checkpoint may be while there is a newer one, before the gateway is degraded.
    pub witnessed_within: Duration,
}

impl Default for TransparencySettings {
    fn default() -> Self {
        Self {
            witness_patience: DEFAULT_WITNESS_PATIENCE,
            monitor_interval: DEFAULT_MONITOR_INTERVAL,
            witnessed_within: DEFAULT_WITNESSED_WITHIN,
        }
    }
}

/// What this gateway knows of its ledger's standing with the other cities.
#[derive(Debug)]
pub(crate) struct Transparency {
    /// Cosigns other cities' checkpoints, where this gateway has the key of its city's witness.
    witness: Option<Arc<WitnessSigner>>,
    settings: TransparencySettings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    witnesses: BTreeMap<CityCode, WitnessState>,
    witnessed: Option<Witnessed>,
    /// By size, the checkpoints behind the witnessed one that wait for their quorum.
    gathering: BTreeMap<u64, Gathering>,
    /// Since when there is a published checkpoint that is not witnessed, seconds since 1970.
    waiting_since_s: Option<i64>,
    alarm: Option<Alarm>,
    links: BTreeMap<CityCode, LinkState>,
    forks: Forks,
    degraded: bool,
}

/// A published checkpoint without its quorum.
#[derive(Debug)]
struct Gathering {
    root: Hash,
    /// When it was first shown, seconds since 1970.
    since_s: i64,
    cosigned_by: BTreeSet<CityCode>,
}

/// What another city's witness has said of our ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitnessState {
    /// The newest of our checkpoints that it cosigned.
    pub cosigned: Option<TreeHead>,
    /// When, in seconds since 1970 by its own clock.
    pub cosigned_at_s: u64,
    /// When it last cosigned, or was first asked, in seconds since 1970 by our clock.
    pub heard_s: i64,
    /// By how many seconds its clock is ahead of ours, where that is more than clocks may differ: one of them was moved.
    pub clock_apart_s: Option<i64>,
    /// Since when it has cosigned nothing, in seconds since 1970, where that is longer than it may be.
    pub missing_since_s: Option<i64>,
    /// Why it did not cosign the last one.
    pub problem: Option<String>,
}

/// The newest checkpoint with a quorum of cosignatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Size and root.
    pub head: TreeHead,
    /// When the quorum was complete, in seconds since 1970.
    pub at_s: i64,
}

/// What only a person can set right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A witness holds a checkpoint of ours that does not lead to the present one: two histories were shown.
    Fork(CityCode),
    /// A witness holds a checkpoint of ours that is larger than the ledger: the database was rolled back.
    Rollback(CityCode),
}

impl Alarm {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork(_) => "fork",
            Self::Rollback(_) => "rollback",
        }
    }

    /// The city whose witness raised it.
    pub const fn city(self) -> CityCode {
        match self {
            Self::Fork(city) | Self::Rollback(city) => city,
        }
    }
}

/// The standing of the ledger, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Each other city's witness.
    pub witnesses: BTreeMap<CityCode, WitnessState>,
    /// The newest witnessed checkpoint.
    pub witnessed: Option<Witnessed>,
    /// What only a person can set right.
    pub alarm: Option<Alarm>,
    /// For how many seconds a checkpoint has waited for its quorum, where that is longer than it may
    /// ([`TransparencySettings::witnessed_within`]).
    pub unwitnessed_s: Option<i64>,
    /// How the receipts of each other city are linked to what its witnesses saw.
    pub links: BTreeMap<CityCode, LinkState>,
    /// Cities whose receipts wait longer than they may.
    pub unlinked: Vec<CityCode>,
}

impl Transparency {
    pub(crate) fn new(witness: Option<Arc<WitnessSigner>>, settings: TransparencySettings) -> Self {
        Self {
            witness,
            settings,
            state: Mutex::default(),
        }
    }

    /// Raises an alarm, once.
    fn alarm(&self, shared: &Shared, alarm: Alarm) {
        if self.state.lock().alarm.replace(alarm) != Some(alarm) {
            shared.metrics.ledger_alarm(alarm.name());
            tracing::error!(
                city = alarm.city().as_str(),
                alarm = alarm.name(),
                "the ledger contradicts what a witness holds of it"
            );
        }
    }

    /// The standing at a moment in seconds since 1970.
    pub(crate) fn standing(&self, now_s: i64) -> Standing {
        let state = self.state.lock();
        Standing {
            witnesses: state.witnesses.clone(),
            witnessed: state.witnessed,
            alarm: state.alarm,
            unwitnessed_s: state.unwitnessed_s(now_s, self.settings.witnessed_within),
            links: state.links.clone(),
            unlinked: state.unlinked(now_s),
        }
    }

    /// Tells when the gateway becomes degraded, and when it is no longer (LEDGER.md §3).
    fn tell_degraded(&self, shared: &Shared) {
        let now_s = shared.clock.now_s();
        let mut state = self.state.lock();
        let unwitnessed_s = state.unwitnessed_s(now_s, self.settings.witnessed_within);
        let unlinked = state.unlinked(now_s);
        let degraded = unwitnessed_s.is_some() || !unlinked.is_empty();
        shared.metrics.ledger_degraded(degraded);
        if degraded == mem::replace(&mut state.degraded, degraded) {
            return;
        }
        if degraded {
            let cities: Vec<_> = unlinked.iter().map(CityCode::as_str).collect();
            tracing::warn!(
                unwitnessed_s,
                unlinked = cities.join(" "),
                "degraded: what the ledger shows waits for witnesses longer than it may"
            );
        } else {
            tracing::info!("no longer degraded: witnesses have seen what they must");
        }
    }
}

impl State {
    fn unwitnessed_s(&self, now_s: i64, within: Duration) -> Option<i64> {
        let within_s = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
        let waited_s = now_s.saturating_sub(self.waiting_since_s?);
        (waited_s > within_s).then_some(waited_s)
    }

    fn unlinked(&self, now_s: i64) -> Vec<CityCode> {
        let late = |link: &LinkState| {
            let since = link.waiting_since_s;
            since.is_some_and(|since| now_s.saturating_sub(since) > links::DEGRADED_AFTER_S)
        };
        let links = self.links.iter();
        links
            .filter(|(_, link)| late(link))
            .map(|(city, _)| *city)
            .collect()
    }
}

/// The keys of a city's log, as its verifiers are.
pub(crate) fn log_keys(city: &City) -> Option<(&str, Vec<Verifier>)> {
    let ledger = city.ledger.as_ref()?;
    let keys = ledger.keys.iter().filter_map(|key| {
        let raw: [u8; 32] = key.key().try_into().ok()?;
        Verifier::new(key.name(), raw).ok()
    });
    Some((&ledger.origin, keys.collect()))
}

/// The keys of a city's witness that sign as cosignature/v1 (0x04).
pub(crate) fn witness_keys(city: &City) -> Vec<WitnessVerifier> {
    let keys = city.witness.iter().flat_map(|witness| &witness.keys);
    keys.filter(|key| key.kind() == NoteKeyKind::Cosignature)
        .filter_map(|key| {
            let raw: [u8; 32] = key.key().try_into().ok()?;
            WitnessVerifier::new(key.name(), raw).ok()
        })
        .collect()
}

/// The city whose log has an origin.
pub(crate) fn city_of_log<'d>(directory: &'d Directory, origin: &str) -> Option<&'d City> {
    directory.cities().iter().find(|city| {
        city.ledger
            .as_ref()
            .is_some_and(|ledger| ledger.origin == origin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_witnesses_longer_than_it_may_is_degraded() {
        let transparency = Transparency::new(None, TransparencySettings::default());
        let city: CityCode = "370600".parse().unwrap();
        {
            let mut state = transparency.state.lock();
            state.waiting_since_s = Some(1_000);
            state.links.entry(city).or_default().waiting_since_s = Some(1_000);
        }
        // The newest checkpoint after a minute, receipts after ten.
        let at = |now_s| {
            let standing = transparency.standing(now_s);
            (standing.unwitnessed_s, standing.unlinked)
        };
        assert_eq!(at(1_060), (None, vec![]));
        assert_eq!(at(1_061), (Some(61), vec![]));
        assert_eq!(at(1_600), (Some(600), vec![]));
        assert_eq!(at(1_601), (Some(601), vec![city]));
        {
            let mut state = transparency.state.lock();
            state.waiting_since_s = None;
            state.links.entry(city).or_default().waiting_since_s = None;
        }
        assert_eq!(at(9_000), (None, vec![]));
    }
}
