//! What the other cities' witnesses remember of our log (LEDGER.md §3, Start).
//!
//! A witness keeps the newest checkpoint that it cosigned, with our own signature under it. One that is larger than the
//! ledger, or does not lead to it, is therefore more than that witness's word: we have signed what we do not hold. The
//! ledger freezes then, at the start and later. What a witness merely says does not stop a city.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use banqiao_directory::{City, CityCode};
use banqiao_ledger::{FreezeReason, LedgerState, ProofError, StoreError};
use banqiao_telemetry::Chain;
use banqiao_tlog::{checkpoint::Checkpoint, note::Note};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use tokio::task::JoinSet;
use tonic::{body::Body, transport::Channel};
use tower::Service as _;

use super::{Alarm, log_keys};
use crate::{
    peers::{self, PeerError},
    state,
    worker::Shared,
};

/// Longest wait for a witness at the start, where calls wait for all of them.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before those who have not answered are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest answer: a signed note.
const MAX_NOTE: usize = 16 * 1024;

/// What a witness remembers.
#[derive(Debug)]
pub(super) enum Memory {
    /// A checkpoint that our ledger grew out of.
    Agrees,
    /// Nothing at all of this log.
    Nothing,
    /// A checkpoint of ours that contradicts the ledger.
    Contradicts(Box<Contradiction>),
}

/// A checkpoint with our own signature that the ledger does not grow out of.
#[derive(Debug)]
pub(super) struct Contradiction {
    alarm: Alarm,
    size: u64,
    held: u64,
    note: String,
}

/// Why nothing is known of a witness's memory.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unheard {
    #[error("the note is not a checkpoint of this ledger, signed by its key")]
    Foreign,
    #[error("the answer cannot be understood")]
    Malformed,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("a root cannot be computed")]
    Proof(#[from] ProofError),
    #[error("it answers with HTTP status {0}")]
    Status(u16),
    #[error("the ledger cannot be read")]
    Store(#[from] StoreError),
    #[error("the connection failed")]
    Transport(#[from] tonic::transport::Error),
}

/// Asks a witness what it cosigned last of our log, and compares.
pub(super) async fn recall(shared: &Arc<Shared>, city: &City) -> Result<Memory, Unheard> {
    let channel = peers::channel(shared, city).await?;
    match fetch(channel, shared.ledger.verifier().name()).await? {
        None => Ok(Memory::Nothing),
        Some(note) => compare(shared, city.code, note).await,
    }
}

/// What a witness has cosigned last of a log, as that log signed it.
pub(super) async fn fetch(channel: Channel, origin: &str) -> Result<Option<String>, Unheard> {
    note_at(channel, format!("/witness/checkpoint?origin={origin}")).await
}

/// Where a gateway shows a checkpoint of a log that it has found to be of a fork.
pub(super) fn fork_path(origin: &str) -> String {
    format!("/witness/fork?origin={origin}")
}

/// The note at a path of a gateway, if there is one.
pub(super) async fn note_at(mut channel: Channel, path: String) -> Result<Option<String>, Unheard> {
    let http = Request::builder()
        .method(Method::GET)
        .uri(path)
        .body(Body::new(Empty::new()))
        .map_err(|_| Unheard::Malformed)?;
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    let (head, body) = channel.call(http).await?.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => return Ok(None),
        status => return Err(Unheard::Status(status.as_u16())),
    }
    let body = Limited::new(body, MAX_NOTE).collect().await;
    let bytes = body.map_err(|_| Unheard::Malformed)?.to_bytes();
    String::from_utf8(bytes.into())
        .map(Some)
        .map_err(|_| Unheard::Malformed)
}

async fn compare(shared: &Shared, city: CityCode, note: String) -> Result<Memory, Unheard> {
    let own = shared.ledger.verifier();
    let snapshot = shared.rights.snapshot();
    // A key that was replaced has signed what came before.
    let mut keys = vec![own.clone()];
    let listed = snapshot.directory.city(shared.names.city);
    if let Some((origin, listed)) = listed.and_then(log_keys)
        && origin == own.name()
    {
        keys.extend(listed);
    }
    let parsed = Note::parse(note.as_bytes()).map_err(|_| Unheard::Malformed)?;
    let signed = Checkpoint::open(&parsed, own.name(), &keys).map_err(|_| Unheard::Foreign)?;
    // Behind the note: another replica may have published it since.
    let held = shared.ledger.reader().size().await?;
    let size = signed.size();
    let alarm = if size > held {
        Alarm::Rollback(city)
    } else if size > 0 && shared.ledger.reader().root(size).await? != signed.head().root {
        Alarm::Fork(city)
    } else {
        return Ok(Memory::Agrees);
    };
    Ok(Memory::Contradicts(Box::new(Contradiction {
        alarm,
        size,
        held,
        note,
    })))
}

/// Keeps the proof and freezes the ledger.
pub(super) async fn stop(shared: &Shared, proof: Contradiction) {
    let Contradiction {
        alarm,
        size,
        held,
        note,
    } = proof;
    if let Err(error) = state::save_proof(&shared.names.state, &note) {
        tracing::error!(%error, "the checkpoint that the ledger contradicts cannot be kept");
    }
    shared.transparency.alarm(shared, alarm);
    let city = alarm.city();
    let reason = match alarm {
        Alarm::Rollback(_) => format!(
            "LEDGER_ROLLBACK: the witness of {city} holds a checkpoint of {size} entries with this \
             ledger's own signature, and the database holds {held}"
        ),
        Alarm::Fork(_) => format!(
            "LEDGER_ROLLBACK: the witness of {city} holds a checkpoint of {size} entries with this \
             ledger's own signature, and the database holds other entries"
        ),
    };
    if let Err(error) = shared.ledger.freeze(reason).await {
        tracing::error!(error = %Chain(&error), "the ledger was not marked as frozen");
    }
}

/// Ends the ledger's read-only beginning, or freezes it: asks every witness, and again until enough has been heard.
///
/// One that proves a contradiction freezes it. Otherwise it is written to: with a database that was empty, restored or
/// begins an epoch once a witness agrees; with any other also when nobody answers.
pub(crate) async fn confirm(shared: Arc<Shared>) {
    let held = LedgerState::Frozen(FreezeReason::Unconfirmed);
    let mut states = shared.ledger.state();
    // It may fail before it is confirmed, and is held again when it returns.
    while states.wait_for(|state| *state == held).await.is_ok() {
        match hear(&shared).await {
            Verdict::Contradicted(proof) => stop(&shared, *proof).await,
            Verdict::Confirmed => match shared.ledger.confirm().await {
                Ok(()) => tracing::info!("no witness holds a newer state of the ledger"),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the ledger cannot be written yet");
                }
            },
            Verdict::Unheard => {
                tracing::warn!("the ledger waits for a witness: its database is new or restored");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Verdict {
    Confirmed,
    Contradicted(Box<Contradiction>),
    Unheard,
}

/// Asks every other city's witness at once.
async fn hear(shared: &Arc<Shared>) -> Verdict {
    let snapshot = shared.rights.snapshot();
    let ours = snapshot.directory.city(shared.names.city);
    let listed = ours.and_then(|city| city.ledger.as_ref());
    let mut asked = JoinSet::new();
    for city in snapshot.directory.cities() {
        let witness = city.code != shared.names.city && city.witness.is_some();
        // What the directory does not list nobody has cosigned.
        if witness && listed.is_some() {
            let (shared, city) = (Arc::clone(shared), city.clone());
            asked.spawn(async move {
                let heard = tokio::time::timeout(PATIENCE, recall(&shared, &city)).await;
                (city.code, heard.ok())
            });
        }
    }
    let witnesses = asked.len();
    let mut proven: Option<Box<Contradiction>> = None;
    let mut memories: BTreeMap<CityCode, bool> = BTreeMap::new();
    while let Some(answered) = asked.join_next().await {
        match answered {
            // The largest is what the ledger has to be brought back to.
            Ok((_, Some(Ok(Memory::Contradicts(proof))))) => {
                if proven.as_ref().is_none_or(|held| held.size < proof.size) {
                    proven = Some(proof);
                }
            }
            Ok((city, Some(Ok(Memory::Agrees)))) => drop(memories.insert(city, true)),
            Ok((city, Some(Ok(Memory::Nothing)))) => drop(memories.insert(city, false)),
            Ok((city, Some(Err(error)))) => {
                let city = city.as_str();
                tracing::info!(city, error = %Chain(&error), "a witness was not heard");
            }
            Ok((_, None)) | Err(_) => {}
        }
    }
    if let Some(proof) = proven {
        return Verdict::Contradicted(proof);
    }
    // A witness that knows nothing of a log that others know of says nothing about its newest state. While the log
    // is empty, or holds no more than the beginning of its epoch, that is what there is to know.
    let begins = shared.ledger.size() <= 1 || memories.len() == witnesses;
    let agrees = memories.values().any(|agrees| *agrees) || (!memories.is_empty() && begins);
    if witnesses == 0 || agrees || !shared.ledger.doubted() {
        Verdict::Confirmed
    } else {
        Verdict::Unheard
    }
}
