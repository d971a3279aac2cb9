//! What gateways learn from each other: newer directories, CRLs, and the catalogues of what this city may call.

mod client;

use std::{collections::HashMap, sync::Arc, time::Duration};

use banqiao_directory::{Catalog, City, CityCode, Envelope, ServiceSet};
use banqiao_identity::CrlOutcome;
use banqiao_policy::ClientPattern;
use banqiao_proto::directory::v1::{
    CatalogEntry, GetCatalogRequest, GetDescriptorSetRequest, GetDirectoryRequest, ListCrlsRequest,
};
use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    adopt,
    carried::{Carried, MethodPlan},
    state,
    worker::Shared,
};
use client::PeerClient;
pub(crate) use client::channel;

/// A method that was not in the catalogue a moment ago is not asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Why a method of another city is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatalogFault {
    /// Its gateway does not show it to this city.
    Unknown,
    /// Its gateway cannot be asked.
    Unreachable,
}

/// When each city's catalogue was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<CityCode, Arc<AsyncMutex<Option<Instant>>>>>);

/// Why a peer could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("the gateway of {city} cannot be reached")]
    Unreachable {
        city: CityCode,
        /// Of the last address; `None` where the directory lists none.
        #[source]
        source: Option<Box<tonic::transport::Error>>,
    },
    #[error("the gateway of {city} answered with an error")]
    Status {
        city: CityCode,
        #[source]
        source: Box<tonic::Status>,
    },
    #[error("the gateway of {city} sent what cannot be read")]
    Malformed { city: CityCode },
}

impl Peers {
    /// Looks up a method that the held catalogue of a city does not have, by asking its gateway once.
    pub(crate) async fn method(
        &self,
        shared: &Arc<Shared>,
        city: CityCode,
        path: &str,
    ) -> Result<Arc<MethodPlan>, CatalogFault> {
        let turn = Arc::clone(self.0.lock().entry(city).or_default());
        let mut asked = turn.lock().await;
        let held = |shared: &Shared| {
            let snapshot = shared.rights.snapshot();
            snapshot
                .remote
                .get(&city)
                .and_then(|carried| carried.method(path))
                .cloned()
        };
        // Another call may have brought it while this one waited.
        if let Some(plan) = held(shared) {
            return Ok(plan);
        }
        if asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return Err(CatalogFault::Unknown);
        }
        let snapshot = shared.rights.snapshot();
        let Some(city) = snapshot.directory.city(city) else {
            return Err(CatalogFault::Unknown);
        };
        match catalog(shared, city).await {
            Ok(()) => {
                *asked = Some(Instant::now());
                held(shared).ok_or(CatalogFault::Unknown)
            }
            Err(error) => {
                tracing::info!(error = %banqiao_telemetry::Chain(&error), "no catalogue");
                Err(CatalogFault::Unreachable)
            }
        }
    }

    /// Asks every other city's gateway for everything. Returns what changed, in plain words.
    pub(crate) async fn refresh(&self, shared: &Arc<Shared>) -> Vec<String> {
        let snapshot = shared.rights.snapshot();
        let mut changes = Vec::new();
        for city in snapshot.directory.cities() {
            if city.code == shared.names.city {
                continue;
            }
            match refresh_from(shared, city).await {
                Ok(news) => changes.extend(news),
                Err(error) => {
                    tracing::info!(error = %banqiao_telemetry::Chain(&error), "peer not refreshed");
                }
            }
        }
        changes
    }
}

async fn refresh_from(shared: &Arc<Shared>, city: &City) -> Result<Vec<String>, PeerError> {
    let mut changes = Vec::new();
    let mut client = PeerClient::connect(shared, city).await?;
    let held_version = shared.rights.snapshot().directory.version();
    let newest = client.ask(GetDirectoryRequest { held_version }).await?;
    if newest.version > held_version {
        let envelope = Envelope::parse(&newest.envelope)
            .map_err(|_| PeerError::Malformed { city: city.code })?;
        match adopt::directory(shared, &envelope, "gateway", "peer").await {
            Ok(version) => changes.push(format!("directory {version} from {}", city.code)),
            Err(error) => tracing::warn!(
                city = city.code.as_str(),
                error = %banqiao_telemetry::Chain(&error),
                "a peer's directory was not taken over"
            ),
        }
    }
    for der in client.ask(ListCrlsRequest {}).await?.crls {
        match shared.identity.offer_crl(&der) {
            Ok(CrlOutcome::Taken) => changes.push(format!("a CRL from {}", city.code)),
            Ok(CrlOutcome::Known | CrlOutcome::Older) => {}
            Err(error) => tracing::warn!(
                city = city.code.as_str(),
                error = %banqiao_telemetry::Chain(&error),
                "a peer's CRL was refused"
            ),
        }
    }
    if !changes.is_empty() {
        state::save_crls(shared);
    }
    if fetch_catalog(shared, city, &mut client).await? {
        changes.push(format!("the catalogue of {}", city.code));
    }
    Ok(changes)
}

async fn catalog(shared: &Arc<Shared>, city: &City) -> Result<(), PeerError> {
    let mut client = PeerClient::connect(shared, city).await?;
    fetch_catalog(shared, city, &mut client).await.map(drop)
}

/// Fetches a city's catalogue and what descriptors are new in it. True when it changed.
async fn fetch_catalog(
    shared: &Arc<Shared>,
    city: &City,
    client: &mut PeerClient,
) -> Result<bool, PeerError> {
    let entries = client.ask(GetCatalogRequest {}).await?.entries;
    let remote = Arc::clone(&shared.rights.snapshot().remote);
    let mut sets: HashMap<[u8; 32], Vec<u8>> = HashMap::new();
    for entry in &entries {
        let digest = digest(entry, city)?;
        if sets.contains_key(&digest) {
            continue;
        }
        let bytes = match known(&remote, &digest) {
            Some(set) => set.bytes().to_vec(),
            None => {
                client
                    .ask(GetDescriptorSetRequest {
                        digest: digest.to_vec(),
                    })
                    .await?
                    .descriptor_set
            }
        };
        if banqiao_ledger::digest::sha256(&bytes) != digest {
            return Err(PeerError::Malformed { city: city.code });
        }
        sets.insert(digest, bytes);
    }
    // Descriptors of a stranger take their time: not on the thread that carries calls.
    let (entries, sets) = (Arc::new(entries), Arc::new(sets));
    let work = (Arc::clone(&entries), Arc::clone(&sets), Arc::clone(&remote));
    let next = tokio::task::spawn_blocking(move || assemble(&work.0, &work.1, &work.2));
    let next = next
        .await
        .ok()
        .flatten()
        .ok_or(PeerError::Malformed { city: city.code })?;
    let held = remote.get(&city.code);
    if held.is_some_and(|held| held.same_as(&next)) {
        return Ok(false);
    }
    state::save_catalog(shared, city.code, &entries, &sets);
    let next = Arc::new(next);
    shared.rights.change(|snapshot| {
        let mut remote = HashMap::clone(&snapshot.remote);
        remote.insert(city.code, next);
        snapshot.remote = Arc::new(remote);
    });
    Ok(true)
}

fn digest(entry: &CatalogEntry, city: &City) -> Result<[u8; 32], PeerError> {
    let malformed = |_| PeerError::Malformed { city: city.code };
    entry
        .descriptor_digest
        .as_slice()
        .try_into()
        .map_err(malformed)
}

/// The catalogue that each other city has shown.
type Remote = HashMap<CityCode, Arc<Carried>>;

/// A set that any city has shown: cities that provide the same services describe them by the same set.
fn known<'r>(remote: &'r Remote, digest: &[u8; 32]) -> Option<&'r Arc<ServiceSet>> {
    let mut catalogs = remote.values().map(|carried| carried.catalog());
    catalogs.find_map(|catalog| catalog.set_by_digest(digest))
}

/// A catalogue of exactly the services that the entries name. A set that is held already, of whatever city, is not decoded
/// again.
pub(crate) fn assemble(
    entries: &[CatalogEntry],
    sets: &HashMap<[u8; 32], Vec<u8>>,
    remote: &Remote,
) -> Option<Carried> {
    let mut clients = HashMap::new();
    let mut services: HashMap<[u8; 32], Vec<&str>> = HashMap::new();
    for entry in entries {
        let digest: [u8; 32] = entry.descriptor_digest.as_slice().try_into().ok()?;
        services.entry(digest).or_default().push(&entry.service);
        let patterns: Vec<ClientPattern> = entry
            .clients
            .iter()
            .filter_map(|pattern| pattern.parse().ok())
            .collect();
        clients.insert(entry.service.clone(), patterns);
    }
    let mut restricted = Vec::new();
    for (digest, names) in services {
        // It was cut to what that city has shown.
        let held = known(remote, &digest).map(|set| set.whole());
        let set = match held.and_then(|set| set.restrict(&names).ok()) {
            Some(set) => set,
            None => {
                let set = ServiceSet::decode_offered(sets.get(&digest)?).ok()?;
                set.restrict(&names).ok()?
            }
        };
        restricted.push(set);
    }
    Some(Carried::remote(Catalog::new(restricted).ok()?, clients))
}
