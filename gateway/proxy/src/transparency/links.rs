//! Receipts before the eyes of witnesses: the checkpoint of every receipt is linked to one that the log's witnesses saw, so
//! that nobody can hand out receipts of a private fork (LEDGER.md §3).
//!
//! The proof rests on tiles that the log's own gateway serves. It need not be believed: a tile is used only where it leads
//! to the witnessed root, and then a signed head with another root is a fork, whoever served it.

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use banqiao_directory::{City, CityCode, Directory};
use banqiao_ledger::{Contradiction, KeptLinks, LedgerError};
use banqiao_telemetry::Chain;
use banqiao_tlog::{
    checkpoint::{Checkpoint, CheckpointError},
    cosignature::{QuorumError, witnessed},
    hash::{Hash, TreeHead},
    note::{Note, NoteError},
    proof::{
        ProofError, SourceError, consistency_proof, consistency_tiles, inclusion_proof,
        inclusion_tiles, prefix_root, verify_consistency,
    },
    tile::{Tile, TileError, TileId},
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use tonic::{body::Body, transport::Channel};
use tower::Service as _;

use super::{
    Transparency,
    forks::{self, Fork},
    log_keys, witness_keys,
};
use crate::{
    peers::{self, PeerError},
    receipts::Signed,
    worker::Shared,
};

/// Longest wait for one city.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer: a tile has 8 KiB, a checkpoint a few signatures.
const MAX_ANSWER: usize = 64 * 1024;
/// Heads that are linked in one turn.
const AT_ONCE: usize = 1_024;
/// Heads that are linked in one transaction.
const TOGETHER: usize = 256;
/// A city whose receipts wait so long is warned about, and so long makes the gateway degraded (LEDGER.md §3).
pub(super) const LATE_AFTER_S: i64 = 60;
pub(super) const DEGRADED_AFTER_S: i64 = 600;

/// How the receipts of another city stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The newest witnessed checkpoint that receipts were linked to.
    pub linked: Option<TreeHead>,
    /// Since when there is a receipt that is not linked, in seconds since 1970.
    pub waiting_since_s: Option<i64>,
    /// Why the last attempt failed.
    pub problem: Option<String>,
    /// The city has signed two histories: the newest that was found.
    pub fork: Option<Fork>,
    /// Entries that the city has signed and a witness saw, and how many fewer it shows since.
    pub behind: Option<(u64, u64)>,
    /// That receipts wait for more than a minute was told.
    pub late: bool,
}

/// The connections to the other cities' logs.
#[derive(Default)]
pub(crate) struct Links {
    channels: HashMap<CityCode, Channel>,
}

/// Why the receipts of a city are not linked.
#[derive(Debug, thiserror::Error)]
enum Unlinked {
    #[error("its newest checkpoint is older than its receipts")]
    Behind,
    #[error("its checkpoint is not one of its ledger")]
    Checkpoint(#[from] CheckpointError),
    #[error("its answer is too large or broke off")]
    Body,
    #[error("the links cannot be kept")]
    Ledger(#[from] LedgerError),
    #[error("its checkpoint is not a signed note")]
    Note(#[from] NoteError),
    #[error("it does not answer in time")]
    Patience,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("its tiles do not lead to its own checkpoint")]
    Proof(#[from] ProofError),
    #[error("its tiles are too few")]
    Source(#[from] SourceError),
    #[error("it answers with HTTP status {0}")]
    Status(StatusCode),
    #[error("a tile is malformed")]
    Tile(#[from] TileError),
    #[error("the connection failed")]
    Transport(#[from] tonic::transport::Error),
    #[error("the directory lists no ledger of that city")]
    Unlisted,
    #[error("its newest checkpoint has not enough witnesses yet")]
    Unwitnessed(#[source] QuorumError),
}

/// What came of an attempt.
#[derive(Default)]
struct Outcome {
    linked: Vec<(TreeHead, Vec<Hash>)>,
    /// Signed heads that are not of the witnessed history.
    forks: Vec<Signed>,
    /// Newer than the witnessed checkpoint: they wait.
    waiting: Vec<Signed>,
}

/// A witnessed checkpoint of another city's log.
struct Anchor {
    origin: String,
    note: String,
    head: TreeHead,
}

impl Links {
    /// Links what can be linked now. A city that does not answer delays no other.
    pub(crate) async fn run(&mut self, shared: &Arc<Shared>) {
        let snapshot = shared.rights.snapshot();
        let turns: Vec<_> = shared
            .receipts
            .waiting()
            .into_iter()
            .map(|city| {
                let channel = self.channels.remove(&city);
                turn(shared, &snapshot.directory, city, channel)
            })
            .collect();
        let done = futures_util::future::join_all(turns).await;
        self.channels.extend(done.into_iter().flatten());
    }
}

/// Links the receipts of one city. Gives the connection back if it is still good.
async fn turn(
    shared: &Arc<Shared>,
    directory: &Directory,
    code: CityCode,
    mut channel: Option<Channel>,
) -> Option<(CityCode, Channel)> {
    let signed = shared.receipts.take(code);
    // A city that has left the network: its receipts stay in the evidence.
    let city = directory.city(code)?;
    let linking = link(shared, directory, city, &mut channel, &signed);
    let linked = tokio::time::timeout(PATIENCE, linking)
        .await
        .unwrap_or(Err(Unlinked::Patience));
    let outcome = match linked {
        Ok((anchor, outcome)) => match keep(shared, code, &anchor, &outcome).await {
            Ok(()) => Ok((anchor, outcome)),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let waiting = match &outcome {
        Ok((_, outcome)) => outcome.waiting.clone(),
        Err(_) => signed,
    };
    for signed in waiting {
        shared.receipts.remember(code, signed);
    }
    let good = outcome.is_ok();
    shared.transparency.linked(shared, code, outcome);
    channel.filter(|_| good).map(|channel| (code, channel))
}

async fn link(
    shared: &Arc<Shared>,
    directory: &Directory,
    city: &City,
    channel: &mut Option<Channel>,
    signed: &[Signed],
) -> Result<(Anchor, Outcome), Unlinked> {
    let channel = match channel {
        Some(channel) => channel,
        None => channel.insert(peers::channel(shared, city).await?),
    };
    let anchor = anchor(channel, directory, city).await?;
    let mut outcome = Outcome::default();
    let mut tiles = HashMap::new();
    // A turn is bounded, in tiles and in time; the rest has the next.
    let (now, later) = signed.split_at(signed.len().min(AT_ONCE));
    outcome.waiting.extend_from_slice(later);
    for signed in now {
        if signed.head.size > anchor.head.size {
            outcome.waiting.push(signed.clone());
            continue;
        }
        match prove(channel, &mut tiles, &signed.head, &anchor.head).await? {
            Some(proof) => outcome.linked.push((signed.head, proof)),
            None => outcome.forks.push(signed.clone()),
        }
    }
    if outcome.linked.is_empty() && outcome.forks.is_empty() {
        return Err(Unlinked::Behind);
    }
    Ok((anchor, outcome))
}

/// The city's newest published checkpoint, signed by its key and cosigned by its quorum.
async fn anchor(
    channel: &mut Channel,
    directory: &Directory,
    city: &City,
) -> Result<Anchor, Unlinked> {
    let (origin, keys) = log_keys(city).ok_or(Unlinked::Unlisted)?;
    let bytes = get(channel, "/log/checkpoint".to_owned()).await?;
    let note = Note::parse(&bytes)?;
    let checkpoint = Checkpoint::open(&note, origin, &keys)?;
    let quorum = city
        .witness
        .as_ref()
        .and_then(|policy| usize::try_from(policy.quorum).ok())
        .and_then(NonZeroUsize::new);
    if let Some(quorum) = quorum {
        let witnesses: Vec<_> = directory
            .cities()
            .iter()
            .filter(|other| other.code != city.code)
            .flat_map(witness_keys)
            .collect();
        witnessed(&note, &witnesses, quorum).map_err(Unlinked::Unwitnessed)?;
    }
    Ok(Anchor {
        origin: origin.to_owned(),
        note: note.to_string(),
        head: checkpoint.head(),
    })
}

/// The proof that a signed head is the beginning of the witnessed one. `None`: it is proven not to be.
async fn prove(
    channel: &mut Channel,
    tiles: &mut HashMap<TileId, Vec<Hash>>,
    head: &TreeHead,
    anchor: &TreeHead,
) -> Result<Option<Vec<Hash>>, Unlinked> {
    if head.size == anchor.size {
        return Ok((head.root == anchor.root).then(Vec::new));
    }
    let Some(last) = head.size.checked_sub(1) else {
        return Err(Unlinked::Proof(ProofError::EmptyTree));
    };
    fetch(channel, tiles, consistency_tiles(head.size, anchor.size)?).await?;
    let hashes = |id: TileId| tiles.get(&id).map(Vec::as_slice);
    let proof = consistency_proof(head.size, anchor.size, &hashes)?;
    let Err(fault) = verify_consistency(head, anchor, &proof) else {
        return Ok(Some(proof));
    };
    // Either the tiles are not those of the witnessed tree, or the head is not: tiles that lead to the witnessed root tell
    // what the root of so many entries is.
    let leaf_tile = TileId::widest(0, last / 256, anchor.size);
    let wanted = inclusion_tiles(last, anchor.size)?;
    fetch(channel, tiles, wanted.into_iter().chain(leaf_tile)).await?;
    let hashes = |id: TileId| tiles.get(&id).map(Vec::as_slice);
    let leaf = leaf_tile
        .and_then(hashes)
        .and_then(|leaves| leaves.get(usize::try_from(last % 256).ok()?))
        .ok_or(ProofError::TooShort)?;
    let path = inclusion_proof(last, anchor.size, &hashes)?;
    if prefix_root(leaf, last, &path, anchor)? == head.root {
        return Err(fault.into());
    }
    Ok(None)
}

/// Reads the tiles that are not there yet.
async fn fetch(
    channel: &mut Channel,
    tiles: &mut HashMap<TileId, Vec<Hash>>,
    wanted: impl IntoIterator<Item = TileId>,
) -> Result<(), Unlinked> {
    for id in wanted {
        if let Entry::Vacant(missing) = tiles.entry(id) {
            let bytes = get(channel, format!("/log/{id}")).await?;
            missing.insert(Tile::from_bytes(id, &bytes)?.hashes().to_vec());
        }
    }
    Ok(())
}

async fn get(channel: &mut Channel, path: String) -> Result<bytes::Bytes, Unlinked> {
    let mut request = Request::new(Body::new(Empty::new()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = path.parse().map_err(|_| Unlinked::Body)?;
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    let (head, body) = channel.call(request).await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Unlinked::Status(head.status));
    }
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    Ok(body.map_err(|_| Unlinked::Body)?.to_bytes())
}

async fn keep(
    shared: &Shared,
    city: CityCode,
    anchor: &Anchor,
    outcome: &Outcome,
) -> Result<(), Unlinked> {
    for links in outcome.linked.chunks(TOGETHER) {
        let kept = KeptLinks {
            origin: anchor.origin.clone(),
            note: anchor.note.clone(),
            size: anchor.head.size,
            links: links.to_vec(),
        };
        shared.ledger.keep_links(kept).await?;
    }
    for fork in &outcome.forks {
        let kept = Contradiction {
            origin: anchor.origin.clone(),
            time_us: shared.clock.now_us(),
            first: anchor.note.clone(),
            second: fork.note.clone(),
        };
        forks::keep(shared, city, kept).await?;
    }
    Ok(())
}

impl Transparency {
    fn linked(
        &self,
        shared: &Shared,
        city: CityCode,
        outcome: Result<(Anchor, Outcome), Unlinked>,
    ) {
        let now_s = shared.clock.now_s();
        let mut state = self.state.lock();
        let link = state.links.entry(city).or_default();
        match outcome {
            Ok((anchor, outcome)) => {
                for _ in &outcome.linked {
                    shared.metrics.receipt("linked");
                }
                link.problem = None;
                link.late = false;
                // A head that no checkpoint reaches stays late, whatever else is linked meanwhile.
                link.waiting_since_s = outcome.waiting.iter().map(|signed| signed.since_s).min();
                if link
                    .waiting_since_s
                    .is_some_and(|since| now_s.saturating_sub(since) > LATE_AFTER_S)
                {
                    link.problem = Some(Unlinked::Behind.to_string());
                }
                if !outcome.linked.is_empty() {
                    link.linked = Some(anchor.head);
                }
            }
            Err(error) => {
                let since = *link.waiting_since_s.get_or_insert(now_s);
                link.problem = Some(Chain(&error).to_string());
                if now_s.saturating_sub(since) > LATE_AFTER_S && !link.late {
                    link.late = true;
                    tracing::warn!(
                        city = city.as_str(),
                        error = %Chain(&error),
                        "receipts are not linked to a witnessed checkpoint"
                    );
                }
            }
        }
    }
}
