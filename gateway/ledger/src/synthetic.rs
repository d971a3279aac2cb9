//! Synthetic ledgers, for tests and measurements: valid in every respect, and about nobody.
//!
//! They are written by the commit path that real entries take, so each is one that `banqiao audit verify` accepts. What
//! is made up says so: agencies, operators and cases begin with `synthetic-`, and so is the replica called.

mod draw;
mod scene;

use std::{collections::VecDeque, fmt, sync::Arc};

use banqiao_directory::ManualClock;

use crate::{
    append::AppendError,
    appender::Waiting,
    ledger::{Ledger, LedgerError, LedgerSettings},
    store::{StoreError, StoreUrl, is_empty},
};
use scene::Scene;

/// Name of the replica that writes synthetic ledgers.
pub const REPLICA: &str = "synthetic";
/// Entries on their way to a commit: some batches.
const AHEAD: usize = 4 * 1_024;

/// What a synthetic ledger is to hold. The same gives the same entries, apart from ids, salts and keys.
#[derive(Clone)]
pub struct Synthesis {
    /// Entries.
    pub entries: u64,
    /// Time of the first entry, microseconds since 1970-01-01 UTC.
    pub from_us: i64,
    /// No entry is made at or behind this time.
    pub until_us: i64,
    /// Another seed gives other entries.
    pub seed: u64,
    /// Client systems of each city.
    pub clients: u32,
    /// Numbers of the people whom the calls are about: synthetic ones, by the caller's word.
    pub subjects: Vec<String>,
}

/// Never shows the subjects, in case somebody's are real after all.
impl fmt::Debug for Synthesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Synthesis")
            .field("entries", &self.entries)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthesised {
    /// Entries.
    pub entries: u64,
    /// Exchanges among them, each with an OPEN and a CLOSE.
    pub exchanges: u64,
}

/// Why no synthetic ledger was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthesisError {
    /// An entry was not committed.
    #[error("an entry was not committed")]
    Append(#[source] AppendError),
    /// The city is none that scenes are known for.
    #[error("synthetic ledgers are of 370200, 370600, 370700, 371000 or 371100")]
    City,
    /// There is something in the database.
    #[error(
        "the database is not empty: a synthetic ledger is only written where nothing is; make a new one"
    )]
    NotEmpty,
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Open(#[source] LedgerError),
    /// The database cannot be looked into.
    #[error("the ledger's database cannot be used")]
    Store(#[source] StoreError),
    /// The times are in the wrong order, or there are no clients.
    #[error("there must be a client, and time between the first entry and the last")]
    Settings,
}

/// Writes a synthetic ledger into an empty database, and waits until its search index is complete. `progress` is told
/// how many entries are committed.
///
/// # Errors
///
/// When anything is in the database already, or it cannot be written. What was committed by then is a valid ledger.
pub async fn generate(
    mut settings: LedgerSettings,
    synthesis: &Synthesis,
    mut progress: impl FnMut(u64),
) -> Result<Synthesised, SynthesisError> {
    let mut scene = Scene::new(settings.city, synthesis)?;
    // Before the ledger is opened: a real one must not be touched, nor its open calls ended by a clock that is none.
    let url = StoreUrl::parse(&settings.url).map_err(SynthesisError::Store)?;
    if !is_empty(&url).await.map_err(SynthesisError::Store)? {
        return Err(SynthesisError::NotEmpty);
    }
    REPLICA.clone_into(&mut settings.replica);
    settings.queue = settings.queue.max(AHEAD + 1);
    let clock = ManualClock::new(synthesis.from_us);
    let ledger = Ledger::open(settings, clock.clock(), Arc::new(()))
        .await
        .map_err(SynthesisError::Open)?;
    let appender = ledger.appender();
    let mut waiting: VecDeque<Waiting> = VecDeque::with_capacity(AHEAD);
    let mut committed = 0;
    loop {
        let next = scene.next();
        while waiting.len() >= AHEAD || next.is_none() {
            let Some(oldest) = waiting.pop_front() else {
                break;
            };
            oldest.await.map_err(SynthesisError::Append)?;
            committed += 1;
            progress(committed);
        }
        let Some((time_us, append)) = next else { break };
        clock.set_us(time_us);
        waiting.push_back(appender.append(append));
    }
    let mut indexed = ledger.indexed();
    let whole = committed - committed % crate::index::Level::Segment.entries();
    // The index is made by a thread that lives as long as the ledger.
    let _ = indexed.wait_for(|indexed| *indexed >= whole).await;
    ledger.close().await;
    Ok(Synthesised {
        entries: committed,
        exchanges: scene.exchanges(),
    })
}
