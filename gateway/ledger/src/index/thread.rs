//! The thread that makes the index, behind the commits.
//!
//! It reads and computes by itself and hands what is to be written to the batcher, whose connection is the one that
//! writes. Replicas that index the same at once do no harm: whoever comes second writes nothing.

use std::{sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, time::sleep};

use super::{Gathering, Level, Unit, UnitId, group, merge, range, segment};
use crate::{
    ledger::{Core, LedgerError, LedgerState},
    queue::Command,
    store::StoreError,
};

/// Pause after a failure. Meanwhile searches read what is not indexed.
const PAUSE: Duration = Duration::from_secs(2);

/// Why a unit was not written.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the search index cannot be made")]
    Read(#[from] StoreError),
    #[error("the search index cannot be written")]
    Write(#[source] LedgerError),
}

/// Starts the thread. It ends when the ledger is closed.
pub(crate) fn start(core: Arc<Core>) -> Result<(), LedgerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LedgerError::Thread)?;
    thread::Builder::new()
        .name("banqiao-index".into())
        .spawn(move || runtime.block_on(run(&core)))
        .map_err(LedgerError::Thread)?;
    Ok(())
}

async fn run(core: &Core) {
    let mut state = core.state.subscribe();
    // The batcher answers every command or ends, and says so by the state.
    let closed = state.wait_for(|state| *state == LedgerState::Closed);
    tokio::select! {
        _ = closed => {}
        () = keep_up(core) => {}
    }
}

async fn keep_up(core: &Core) {
    let mut size = core.size.subscribe();
    loop {
        size.mark_unchanged();
        match step(core).await {
            Ok(true) => {}
            Ok(false) => {
                // What other replicas commit, they index.
                let whole = *core.indexed.borrow() + Level::Segment.entries();
                if size.wait_for(|size| *size >= whole).await.is_err() {
                    return;
                }
            }
            Err(failure) => {
                let error: &(dyn std::error::Error + 'static) = &failure;
                tracing::warn!(error, "searches are slower until it can");
                // A ledger that grows is no reason to try sooner.
                sleep(PAUSE).await;
            }
        }
    }
}

/// Indexes one unit. `false`: there is none.
async fn step(core: &Core) -> Result<bool, Failure> {
    let extent = core.reads.index_extent(core.group).await?;
    core.indexed.send_replace(extent.indexed());
    let Some(id) = extent.next() else {
        return Ok(false);
    };
    let unit = make(core, id).await?;
    let (answer, receiver) = oneshot::channel();
    core.queue
        .command(Command::KeepUnit(Box::new(unit), answer));
    receiver
        .await
        .unwrap_or(Err(LedgerError::Closed))
        .map_err(Failure::Write)?;
    Ok(true)
}

async fn make(core: &Core, UnitId { level, n }: UnitId) -> Result<Unit, StoreError> {
    let reads = &core.reads;
    match level {
        Level::Segment => {
            let (from, until) = (n * level.entries(), (n + 1) * level.entries());
            let entries = reads.timed(from, until).await?;
            if entries.len() as u64 != level.entries() {
                return Err(StoreError::Corrupt("entries"));
            }
            segment(n, &entries)
        }
        Level::Chunk => {
            let within = parts(level, n, Level::Segment);
            let spans = spans(core, Level::Segment, within.clone()).await?;
            merge(n, &spans, &reads.unit_rows(Level::Segment, within).await?)
        }
        Level::Group(_) => {
            let within = parts(level, n, Level::Chunk);
            let mut gathering = Gathering::new(level);
            // Chunk by chunk: a group has a million tokens and more.
            for (place, chunk) in (0..).zip(within.clone()) {
                let segments = parts(Level::Chunk, chunk, Level::Segment);
                for token in reads.tokens_of(segments).await? {
                    gathering.add(&token, place);
                }
            }
            group(n, &spans(core, Level::Chunk, within).await?, gathering)
        }
        Level::Range => {
            let within = parts(level, n, Level::Chunk);
            range(n, &spans(core, Level::Chunk, within).await?)
        }
    }
}

/// The smaller units of a unit.
const fn parts(level: Level, n: u64, smaller: Level) -> std::ops::Range<u64> {
    let parts = level.holds(smaller);
    n * parts..(n + 1) * parts
}

/// The times that units span, all of which are there.
async fn spans(
    core: &Core,
    level: Level,
    units: std::ops::Range<u64>,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let count = units.end - units.start;
    let spans = core.reads.spans(level, units).await?;
    if spans.len() as u64 != count {
        return Err(StoreError::Corrupt("index"));
    }
    Ok(spans
        .into_iter()
        .map(|span| (span.first_us, span.last_us))
        .collect())
}
