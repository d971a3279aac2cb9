//! Watches the other cities' ledgers through the eyes of their witnesses (LEDGER.md §3, Monitors).
//!
//! Each witness is asked what it has cosigned of each other ledger, with that ledger's own signature. Two signed trees of
//! one size with different roots are a fork; trees of different sizes are linked like receipts are (see `links`). A ledger
//! that shows fewer entries than it had signed before was rolled back.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use banqiao_directory::{City, CityCode, Directory};
use banqiao_ledger::Contradiction;
use banqiao_telemetry::Chain;
use banqiao_tlog::{
    checkpoint::Checkpoint,
    hash::{Hash, TreeHead},
    note::{Note, Verifier},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::transport::Channel;

use super::{
    Transparency, forks, log_keys,
    memory::{self, Unheard},
};
use crate::{peers, receipts::Signed, worker::Shared};

/// Longest wait for what one gateway has seen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Signed trees of one log that are remembered, by size.
const REMEMBERED: usize = 1_024;
/// Rounds in a row in which a ledger shows fewer entries than it had signed, before that is told: it may be restarting.
const BEHIND_ROUNDS: u32 = 2;
/// A ledger that shows fewer entries is looked at again after this part of the interval, so that it is told within a minute.
const AGAIN: u32 = 6;

/// What one gateway told: by origin, the signed tree.
type Seen = Vec<(String, Signed)>;

/// A round's answer of one gateway. Its connection, where it can be used again.
struct Told {
    city: CityCode,
    channel: Option<Channel>,
    /// What its witness saw of the other ledgers.
    seen: Seen,
    /// Its own newest checkpoint.
    shows: Option<(String, Signed)>,
    /// Checkpoints of other logs that it has found to be of forks.
    forks: Vec<(CityCode, Signed)>,
}

/// What is remembered of one log.
#[derive(Default)]
struct History {
    heads: BTreeMap<u64, (Hash, String)>,
    behind: u32,
}

/// Asks in rounds, until it is cancelled.
pub(crate) async fn run(shared: Arc<Shared>) {
    let every = shared.transparency.settings.monitor_interval;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut channels = HashMap::new();
    let mut histories: HashMap<String, History> = HashMap::new();
    loop {
        ticks.tick().await;
        round(&shared, &mut channels, &mut histories).await;
        let doubted = |history: &History| (1..BEHIND_ROUNDS).contains(&history.behind);
        if histories.values().any(doubted) {
            ticks.reset_after(every / AGAIN);
        }
    }
}

async fn round(
    shared: &Arc<Shared>,
    channels: &mut HashMap<CityCode, Channel>,
    histories: &mut HashMap<String, History>,
) {
    let directory = Arc::clone(&shared.rights.snapshot().directory);
    let own = shared.names.city;
    let others = || directory.cities().iter().filter(|city| city.code != own);
    let origins: HashSet<&str> = others().filter_map(log_keys).map(|log| log.0).collect();
    histories.retain(|origin, _| origins.contains(origin.as_str()));
    let mut asked = JoinSet::new();
    for city in others() {
        let channel = channels.remove(&city.code);
        asked.spawn(ask(
            Arc::clone(shared),
            Arc::clone(&directory),
            city.clone(),
            channel,
        ));
    }
    // Trees that were signed before this round: what a ledger shows now must not be less.
    let signed: HashMap<String, u64> = histories
        .iter()
        .filter_map(|(origin, history)| Some((origin.clone(), *history.heads.last_key_value()?.0)))
        .collect();
    if let Err(error) = forks::recall(shared, &directory).await {
        tracing::warn!(error = %Chain(&error), "the forks that were found cannot be read");
    }
    let mut seen = witnessed_here(shared, &directory).await;
    let mut shown = Vec::new();
    while let Some(told) = asked.join_next().await {
        let Ok(told) = told else { continue };
        if let Some(channel) = told.channel {
            channels.insert(told.city, channel);
        }
        seen.extend(told.seen);
        // Linked here like any receipt's: what the other city says of them need not be believed.
        for (of, fork) in told.forks {
            shared.receipts.remember(of, fork);
        }
        if let Some((origin, signed)) = told.shows {
            shown.push((told.city, origin.clone(), signed.head.size));
            seen.push((origin, signed));
        }
    }
    for city in others() {
        let Some((origin, _)) = log_keys(city) else {
            continue;
        };
        let history = histories.entry(origin.to_owned()).or_default();
        for (_, signed) in seen.iter().filter(|(of, _)| of == origin) {
            take(shared, city.code, origin, history, signed).await;
        }
    }
    for (city, origin, shows) in shown {
        let Some(history) = histories.get_mut(&origin) else {
            continue;
        };
        let before = signed.get(&origin).copied().unwrap_or(0);
        history.behind = if shows < before {
            history.behind.saturating_add(1)
        } else {
            0
        };
        let behind = (history.behind >= BEHIND_ROUNDS).then_some((before, shows));
        shared.transparency.behind(shared, city, behind);
    }
}

/// Takes a signed tree of a log: it is linked, unless another one of its size has another root.
async fn take(
    shared: &Shared,
    city: CityCode,
    origin: &str,
    history: &mut History,
    signed: &Signed,
) {
    let TreeHead { size, root } = signed.head;
    let (known, note) = match history.heads.entry(size) {
        Entry::Vacant(free) => {
            free.insert((root, signed.note.clone()));
            while history.heads.len() > REMEMBERED {
                history.heads.pop_first();
            }
            shared.receipts.remember(city, signed.clone());
            return;
        }
        Entry::Occupied(held) => held.get().clone(),
    };
    // One that is known was told; which of the two came first is chance.
    if known == root || shared.transparency.knows_fork(origin, &note) {
        return;
    }
    let found = Contradiction {
        origin: origin.to_owned(),
        time_us: shared.clock.now_us(),
        first: note,
        second: signed.note.clone(),
    };
    forks::note(shared, city, found).await;
}

/// What our own witness has cosigned of the other ledgers.
async fn witnessed_here(shared: &Shared, directory: &Directory) -> Seen {
    let mut seen = Vec::new();
    for city in directory.cities() {
        if city.code == shared.names.city {
            continue;
        }
        let Some((origin, keys)) = log_keys(city) else {
            continue;
        };
        match shared.ledger.reader().witnessed_note(origin).await {
            Ok(note) => {
                seen.extend(note.and_then(|note| read(origin, &keys, note, shared.clock.now_s())))
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "what was witnessed cannot be read");
            }
        }
    }
    seen
}

/// Asks a gateway for its newest checkpoint, and its witness for those of the other ledgers.
async fn ask(
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    city: City,
    channel: Option<Channel>,
) -> Told {
    let mut told = Told {
        city: city.code,
        channel: None,
        seen: Vec::new(),
        shows: None,
        forks: Vec::new(),
    };
    let asking = async {
        let channel = match channel {
            Some(channel) => channel,
            None => peers::channel(&shared, &city).await?,
        };
        if let Some((origin, keys)) = log_keys(&city) {
            let note = memory::note_at(channel.clone(), "/log/checkpoint".to_owned()).await;
            // It has none before its first entry.
            told.shows = match note {
                Err(Unheard::Status(404)) => None,
                note => note?.and_then(|note| read(origin, &keys, note, shared.clock.now_s())),
            };
        }
        for other in directory.cities() {
            let watched = other.code != city.code && other.code != shared.names.city;
            let Some((origin, keys)) = log_keys(other).filter(|_| watched) else {
                continue;
            };
            let now_s = shared.clock.now_s();
            let fork = memory::note_at(channel.clone(), memory::fork_path(origin)).await;
            // A gateway of before does not know the question.
            let fork = match fork {
                Err(Unheard::Status(404)) => None,
                fork => fork?.filter(|note| !shared.transparency.knows_fork(origin, note)),
            };
            let fork = fork.and_then(|note| read(origin, &keys, note, now_s));
            told.forks
                .extend(fork.map(|(_, signed)| (other.code, signed)));
            if city.witness.is_some() {
                let note = memory::fetch(channel.clone(), origin).await?;
                told.seen
                    .extend(note.and_then(|note| read(origin, &keys, note, now_s)));
            }
        }
        Ok::<_, Unheard>(channel)
    };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(channel)) => told.channel = Some(channel),
        Ok(Err(error)) => {
            tracing::info!(city = city.code.as_str(), error = %Chain(&error), "it does not tell what it has witnessed");
        }
        Err(_) => {
            tracing::info!(
                city = city.code.as_str(),
                "it does not tell in time what it has witnessed"
            );
        }
    }
    told
}

/// A note as the log signed it. What is not signed by the log proves nothing about it.
fn read(origin: &str, keys: &[Verifier], text: String, now_s: i64) -> Option<(String, Signed)> {
    let note = Note::parse(text.as_bytes()).ok()?;
    let head = Checkpoint::open(&note, origin, keys).ok()?.head();
    Some((
        origin.to_owned(),
        Signed {
            head,
            note: text,
            since_s: now_s,
        },
    ))
}

impl Transparency {
    /// Whether a city shows fewer entries than it has signed: how many, and how many it shows.
    fn behind(&self, shared: &Shared, city: CityCode, behind: Option<(u64, u64)>) {
        let mut state = self.state.lock();
        let link = state.links.entry(city).or_default();
        if let Some((signed, shows)) = behind
            && link.behind.is_none()
        {
            shared.metrics.ledger_alarm("peer_rollback");
            tracing::error!(
                city = city.as_str(),
                signed,
                shows,
                "a city shows fewer entries of its ledger than it has signed"
            );
        }
        link.behind = behind;
    }
}
