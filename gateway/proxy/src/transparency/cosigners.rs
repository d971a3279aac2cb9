//! The log's side of witnessing: each published checkpoint goes to the other cities' witnesses, and what they answer is
//! verified, kept and watched.

use std::{collections::HashMap, sync::Arc, time::Duration};

use banqiao_directory::{City, CityCode};
use banqiao_ledger::{KeptCosignature, ProofError, StoreError};
use banqiao_telemetry::Chain;
use banqiao_tlog::{
    checkpoint::Checkpoint,
    hash::TreeHead,
    note::Note,
    witness::{AddCheckpoint, Reply, RequestError},
};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use tonic::{body::Body, transport::Channel};
use tower::Service as _;

use super::{
    Alarm, Transparency, Witnessed,
    memory::{self, Memory},
    witness_keys,
};
use crate::{
    peers::{self, PeerError},
    worker::Shared,
};

/// Longest wait for a witness.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer: a few signature lines.
const MAX_REPLY: usize = 16 * 1024;

/// The connections to the other cities' witnesses, and how far each of them is.
#[derive(Default)]
pub(crate) struct Cosigners {
    channels: HashMap<CityCode, Channel>,
    /// What each witness is known to have cosigned last.
    known: HashMap<CityCode, u64>,
}

/// Why a witness has not cosigned.
#[derive(Debug, thiserror::Error)]
enum Uncosigned {
    #[error("its witness holds another history of this ledger")]
    Fork,
    #[error("the answer cannot be understood")]
    Malformed,
    #[error("it does not answer in time")]
    Patience,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("a proof cannot be made")]
    Proof(#[from] ProofError),
    #[error("the request cannot be made")]
    Request(#[from] RequestError),
    #[error("its witness holds a larger checkpoint of this ledger than there is")]
    Rollback,
    #[error("its witness answers with HTTP status {0}")]
    Status(u16),
    #[error("the ledger cannot be read")]
    Store(#[from] StoreError),
    #[error("the connection failed")]
    Transport(#[from] tonic::transport::Error),
}

impl Cosigners {
    /// Brings the newest published checkpoint before every witness that has not cosigned it.
    pub(crate) async fn submit(&mut self, shared: &Arc<Shared>) {
        let reader = shared.ledger.reader();
        let note = match reader.checkpoint().await {
            Ok(Some(note)) => note,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "a checkpoint cannot be read");
                return;
            }
        };
        let Some((note, checkpoint)) = read(&note) else {
            tracing::error!("the newest checkpoint is none");
            return;
        };
        let snapshot = shared.rights.snapshot();
        let others = snapshot
            .directory
            .cities()
            .iter()
            .filter(|city| city.code != shared.names.city && city.witness.is_some());
        for city in others {
            if shared.transparency.has_cosigned(city.code, &checkpoint) {
                continue;
            }
            let asked = tokio::time::timeout(PATIENCE, self.ask(shared, city, &note, &checkpoint));
            let outcome = asked.await.unwrap_or(Err(Uncosigned::Patience));
            if let Err(error) = &outcome {
                self.channels.remove(&city.code);
                if matches!(error, Uncosigned::Fork | Uncosigned::Rollback) {
                    contradicted(shared, city).await;
                }
                shared.metrics.cosignature_missing();
                tracing::info!(city = city.code.as_str(), error = %Chain(error), "not cosigned");
            }
            shared.transparency.heard(shared, city.code, outcome);
        }
        let quorum = snapshot
            .directory
            .city(shared.names.city)
            .and_then(|city| city.witness.as_ref())
            .map(|witness| witness.quorum);
        if let Some(quorum) = quorum {
            shared.transparency.count(shared, &checkpoint, quorum);
        }
    }

    /// Asks a witness; at most twice, because the first answer may be how far it is.
    async fn ask(
        &mut self,
        shared: &Arc<Shared>,
        city: &City,
        note: &Note,
        checkpoint: &Checkpoint,
    ) -> Result<(TreeHead, u64), Uncosigned> {
        let size = checkpoint.size();
        for _ in 0..2 {
            let old = self.known.get(&city.code).copied().unwrap_or(0).min(size);
            let proof = if old == 0 || old == size {
                Vec::new()
            } else {
                shared.ledger.reader().consistency(old, size).await?
            };
            let request = AddCheckpoint::new(old, proof, note.clone())?;
            match self.post(shared, city, &request).await? {
                Reply::Cosigned(signatures) => {
                    let keys = witness_keys(city);
                    let (line, key, time) = signatures
                        .iter()
                        .find_map(|signature| {
                            keys.iter().find_map(|key| {
                                let time = key.verify(note.text(), signature).ok()?;
                                Some((signature.to_string(), key, time))
                            })
                        })
                        .ok_or(Uncosigned::Malformed)?;
                    self.known.insert(city.code, size);
                    let kept = KeptCosignature {
                        size,
                        witness: key.name().to_owned(),
                        time_s: time,
                        line,
                    };
                    if let Err(error) = shared.ledger.keep_cosignature(kept).await {
                        tracing::warn!(error = %Chain(&error), "a cosignature was not kept");
                    }
                    return Ok((checkpoint.head(), time));
                }
                Reply::Conflict(theirs) if theirs > size => {
                    // Another replica may have published more since; nobody else may.
                    if theirs > shared.ledger.reader().size().await? {
                        return Err(Uncosigned::Rollback);
                    }
                    self.known.insert(city.code, theirs);
                    return Err(Uncosigned::Status(409));
                }
                Reply::Conflict(theirs) => {
                    self.known.insert(city.code, theirs);
                }
                Reply::Refused(422) => return Err(Uncosigned::Fork),
                Reply::Refused(status) => return Err(Uncosigned::Status(status)),
                _ => return Err(Uncosigned::Malformed),
            }
        }
        Err(Uncosigned::Status(409))
    }

    async fn post(
        &mut self,
        shared: &Arc<Shared>,
        city: &City,
        request: &AddCheckpoint,
    ) -> Result<Reply, Uncosigned> {
        let channel = match self.channels.get_mut(&city.code) {
            Some(channel) => channel,
            None => {
                let channel = peers::channel(shared, city).await?;
                self.channels.entry(city.code).or_insert(channel)
            }
        };
        let http = Request::builder()
            .method(Method::POST)
            .uri("/witness/add-checkpoint")
            .header(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Body::new(Full::from(request.to_string())))
            .map_err(|_| Uncosigned::Malformed)?;
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
        let (head, body) = channel.call(http).await?.into_parts();
        let body = Limited::new(body, MAX_REPLY)
            .collect()
            .await
            .map_err(|_| Uncosigned::Malformed)?;
        Reply::parse(head.status.as_u16(), &body.to_bytes()).map_err(|_| Uncosigned::Malformed)
    }
}

/// A witness says that it holds something else. If it can show it, with our own signature, the ledger freezes.
async fn contradicted(shared: &Arc<Shared>, city: &City) {
    match tokio::time::timeout(PATIENCE, memory::recall(shared, city)).await {
        Ok(Ok(Memory::Contradicts(proof))) => memory::stop(shared, *proof).await,
        Ok(Err(error)) => {
            tracing::warn!(city = city.code.as_str(), error = %Chain(&error), "it shows nothing");
        }
        Ok(Ok(Memory::Agrees | Memory::Nothing)) | Err(_) => {}
    }
}

fn read(note: &str) -> Option<(Note, Checkpoint)> {
    let note = Note::parse(note.as_bytes()).ok()?;
    let checkpoint = note.text().parse().ok()?;
    Some((note, checkpoint))
}

impl Transparency {
    fn has_cosigned(&self, city: CityCode, checkpoint: &Checkpoint) -> bool {
        let state = self.state.lock();
        state
            .witnesses
            .get(&city)
            .is_some_and(|witness| witness.cosigned == Some(checkpoint.head()))
    }

    fn heard(&self, shared: &Shared, city: CityCode, outcome: Result<(TreeHead, u64), Uncosigned>) {
        let alarm = match &outcome {
            Err(Uncosigned::Fork) => Some(Alarm::Fork(city)),
            Err(Uncosigned::Rollback) => Some(Alarm::Rollback(city)),
            _ => None,
        };
        if let Some(alarm) = alarm {
            self.alarm(shared, alarm);
        }
        let mut state = self.state.lock();
        let witness = state.witnesses.entry(city).or_default();
        match outcome {
            Ok((head, time_s)) => {
                witness.cosigned = Some(head);
                witness.cosigned_at_s = time_s;
                witness.problem = None;
            }
            Err(error) => witness.problem = Some(Chain(&error).to_string()),
        }
    }

    /// Whether a checkpoint has its quorum now, and since when one has not.
    fn count(&self, shared: &Shared, checkpoint: &Checkpoint, quorum: u32) {
        let now_s = shared.clock.now_s();
        let mut state = self.state.lock();
        let head = checkpoint.head();
        let cosigned = state
            .witnesses
            .values()
            .filter(|witness| witness.cosigned == Some(head))
            .count();
        if usize::try_from(quorum).is_ok_and(|quorum| cosigned >= quorum) {
            if state.witnessed.is_none_or(|held| held.head != head) {
                state.witnessed = Some(Witnessed { head, at_s: now_s });
            }
            state.waiting_since_s = None;
        } else {
            state.waiting_since_s.get_or_insert(now_s);
        }
        let witnessed = state.witnessed.map_or(0, |witnessed| witnessed.head.size);
        let waiting_s = state
            .waiting_since_s
            .map_or(0, |since| now_s.saturating_sub(since));
        shared.metrics.ledger_witnessed(witnessed, waiting_s);
    }
}
