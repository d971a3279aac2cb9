//! The log's side of witnessing: each published checkpoint goes to the other cities' witnesses, and what they answer is
//! verified, kept and watched.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

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
use tokio::{
    task::{self, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tonic::{body::Body, transport::Channel};
use tower::Service as _;

use super::{
    Alarm, GATHERING, Gathering, Transparency, WitnessState, Witnessed,
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

/// Seconds that two cities' clocks may differ, beside what is known of their error: as far as a receipt may be old
/// (LEDGER.md §3).
const CLOCKS_APART_S: u64 = 60;
/// How often a witness that has not cosigned is asked again.
const EVERY: Duration = Duration::from_secs(5);

/// What is known of the other cities' witnesses, and who is being asked.
#[derive(Default)]
struct Cosigners {
    /// Those that nobody is asking at the moment.
    idle: HashMap<CityCode, Witness>,
    asked: JoinSet<Answered>,
    /// Whom each task asks.
    busy: HashMap<task::Id, CityCode>,
}

/// The connection to a witness, and how far it is.
#[derive(Default)]
struct Witness {
    channel: Option<Channel>,
    /// The size that it is known to have cosigned last.
    known: u64,
}

/// What came of asking a witness.
struct Answered {
    city: CityCode,
    witness: Witness,
    outcome: Result<(TreeHead, u64), Uncosigned>,
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

/// Brings each newest published checkpoint before every witness that has not cosigned it, each at its own pace: one that
/// hangs delays no other.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut cosigners = Cosigners::default();
    let mut published = shared.ledger.published();
    let patience = shared.transparency.settings.witness_patience;
    let mut ticks = interval(EVERY.min(patience / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // A checkpoint that was published meanwhile does not wait for the tick; a witness that was away does.
        tokio::select! {
            _ = ticks.tick() => cosigners.submit(&shared).await,
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
                cosigners.submit(&shared).await;
            }
            Some(ended) = cosigners.asked.join_next_with_id() => {
                if cosigners.ended(&shared, ended) {
                    cosigners.submit(&shared).await;
                }
            }
        }
    }
}

impl Cosigners {
    /// Shows the newest published checkpoint to those who have not cosigned it, and to those not heard of for half of
    /// their patience: an idle ledger notices a missing witness too.
    async fn submit(&mut self, shared: &Arc<Shared>) {
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
        let others = || {
            let cities = snapshot.directory.cities().iter();
            cities.filter(|city| city.code != shared.names.city && city.witness.is_some())
        };
        let transparency = &shared.transparency;
        transparency.watch(shared, &others().map(|city| city.code).collect());
        transparency.tell_degraded(shared);
        if let Some(quorum) = quorum(shared) {
            transparency.gather(shared, &checkpoint.head(), quorum);
        }
        for city in others() {
            let busy = self.busy.values().any(|busy| *busy == city.code);
            if busy || transparency.has_cosigned(shared, city.code, &checkpoint) {
                continue;
            }
            let witness = self.idle.remove(&city.code).unwrap_or_default();
            let asking = ask(
                Arc::clone(shared),
                city.clone(),
                witness,
                note.clone(),
                checkpoint.clone(),
            );
            let task = self.asked.spawn(asking);
            self.busy.insert(task.id(), city.code);
        }
    }

    /// Takes what a witness answered. Whether it can be shown what was published meanwhile: one that failed waits.
    fn ended(
        &mut self,
        shared: &Shared,
        ended: Result<(task::Id, Answered), task::JoinError>,
    ) -> bool {
        let (id, answered) = match ended {
            Ok((id, answered)) => (id, Some(answered)),
            Err(error) => (error.id(), None),
        };
        self.busy.remove(&id);
        let Some(answered) = answered else {
            return false;
        };
        let cosigned = answered.outcome.is_ok();
        self.idle.insert(answered.city, answered.witness);
        let transparency = &shared.transparency;
        transparency.heard(shared, answered.city, answered.outcome);
        if let Some(quorum) = quorum(shared) {
            transparency.count(shared, quorum);
        }
        cosigned
    }
}

/// How many cosignatures make a checkpoint of ours witnessed.
fn quorum(shared: &Shared) -> Option<u32> {
    let snapshot = shared.rights.snapshot();
    let city = snapshot.directory.city(shared.names.city)?;
    city.witness.as_ref().map(|witness| witness.quorum)
}

async fn ask(
    shared: Arc<Shared>,
    city: City,
    mut witness: Witness,
    note: Note,
    checkpoint: Checkpoint,
) -> Answered {
    let asked = tokio::time::timeout(PATIENCE, witness.ask(&shared, &city, &note, &checkpoint));
    let outcome = asked.await.unwrap_or(Err(Uncosigned::Patience));
    if let Err(error) = &outcome {
        witness.channel = None;
        if matches!(error, Uncosigned::Fork | Uncosigned::Rollback) {
            contradicted(&shared, &city).await;
        }
        shared.metrics.cosignature_missing();
        tracing::info!(city = city.code.as_str(), error = %Chain(error), "not cosigned");
    }
    Answered {
        city: city.code,
        witness,
        outcome,
    }
}

impl Witness {
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
            let old = self.known.min(size);
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
                    self.known = size;
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
                    self.known = theirs;
                    return Err(Uncosigned::Status(409));
                }
                Reply::Conflict(theirs) => {
                    self.known = theirs;
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
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => none.insert(peers::channel(shared, city).await?),
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

/// By how many seconds a witness's clock is ahead, where that is more than clocks may differ.
fn apart_s(theirs_s: u64, ours_s: i64, error_us: u64) -> Option<i64> {
    let apart_s = i64::try_from(theirs_s).ok()?.saturating_sub(ours_s);
    let bound_s = CLOCKS_APART_S.saturating_add(error_us.div_ceil(1_000_000));
    (apart_s.unsigned_abs() > bound_s).then_some(apart_s)
}

fn read(note: &str) -> Option<(Note, Checkpoint)> {
    let note = Note::parse(note.as_bytes()).ok()?;
    let checkpoint = note.text().parse().ok()?;
    Some((note, checkpoint))
}

impl Transparency {
    fn has_cosigned(&self, shared: &Shared, city: CityCode, checkpoint: &Checkpoint) -> bool {
        let state = self.state.lock();
        let half_s = self.patience_s() / 2;
        state.witnesses.get(&city).is_some_and(|witness| {
            witness.cosigned == Some(checkpoint.head())
                && shared.clock.now_s().saturating_sub(witness.heard_s) < half_s.max(1)
        })
    }

    fn patience_s(&self) -> i64 {
        i64::try_from(self.settings.witness_patience.as_secs()).unwrap_or(i64::MAX)
    }

    /// Says of every witness that the directory lists whether it is missing, once each time.
    fn watch(&self, shared: &Shared, listed: &BTreeSet<CityCode>) {
        let now_s = shared.clock.now_s();
        let mut state = self.state.lock();
        state.witnesses.retain(|city, _| listed.contains(city));
        for city in listed {
            let witness = state
                .witnesses
                .entry(*city)
                .or_insert_with(|| WitnessState {
                    heard_s: now_s,
                    ..WitnessState::default()
                });
            let late = now_s.saturating_sub(witness.heard_s) > self.patience_s();
            if late && witness.missing_since_s.is_none() {
                witness.missing_since_s = Some(witness.heard_s);
                tracing::warn!(
                    city = city.as_str(),
                    problem = witness
                        .problem
                        .as_deref()
                        .unwrap_or("it has not answered yet"),
                    "a witness is missing: it cosigns nothing"
                );
            }
        }
        let witnesses = state.witnesses.iter();
        let missing =
            witnesses.map(|(city, witness)| (city.as_str(), witness.missing_since_s.is_some()));
        shared.metrics.witnesses(missing);
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
                let now_s = shared.clock.now_s();
                let apart_s = apart_s(time_s, now_s, shared.ledger.clock_error_us());
                if apart_s.is_some() && witness.clock_apart_s.is_none() {
                    shared.metrics.ledger_alarm("peer_clock");
                    tracing::error!(
                        city = city.as_str(),
                        apart_s,
                        "a witness's clock differs from ours: one of them was moved"
                    );
                }
                witness.clock_apart_s = apart_s;
                witness.cosigned = Some(head);
                witness.cosigned_at_s = time_s;
                witness.heard_s = now_s;
                witness.problem = None;
                if witness.missing_since_s.take().is_some() {
                    tracing::info!(city = city.as_str(), "a witness is back");
                }
                let gathering = state.gathering.get_mut(&head.size);
                if let Some(gathering) = gathering.filter(|it| it.root == head.root) {
                    gathering.cosigned_by.insert(city);
                }
            }
            Err(error) => witness.problem = Some(Chain(&error).to_string()),
        }
    }

    /// A checkpoint is shown: it waits for its quorum, unless it has it.
    fn gather(&self, shared: &Shared, head: &TreeHead, quorum: u32) {
        let mut state = self.state.lock();
        if state.witnessed.is_none_or(|held| held.head != *head) {
            let since_s = shared.clock.now_s();
            state.waiting_since_s.get_or_insert(since_s);
            state.gathering.entry(head.size).or_insert(Gathering {
                root: head.root,
                since_s,
                cosigned_by: BTreeSet::new(),
            });
            while state.gathering.len() > GATHERING {
                state.gathering.pop_first();
            }
        }
        drop(state);
        self.count(shared, quorum);
    }

    /// Which is the newest checkpoint with its quorum now, and since when one has not.
    fn count(&self, shared: &Shared, quorum: u32) {
        let now_s = shared.clock.now_s();
        let mut state = self.state.lock();
        let complete = state.gathering.iter().rev().find(|(_, gathering)| {
            usize::try_from(quorum).is_ok_and(|quorum| gathering.cosigned_by.len() >= quorum)
        });
        if let Some((&size, gathering)) = complete {
            let head = TreeHead {
                size,
                root: gathering.root,
            };
            state.witnessed = Some(Witnessed { head, at_s: now_s });
            state.gathering.retain(|waiting, _| *waiting > size);
            let waiting = state.gathering.values().map(|it| it.since_s).min();
            state.waiting_since_s = waiting;
        }
        let witnessed = state.witnessed.map_or(0, |witnessed| witnessed.head.size);
        let waiting_s = state
            .waiting_since_s
            .map_or(0, |since| now_s.saturating_sub(since));
        shared.metrics.ledger_witnessed(witnessed, waiting_s);
    }
}
