//! The one writer of a process: it takes what waits, and writes it in one transaction.

use std::collections::HashSet;

use banqiao_kit::Database;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{NewCaseWrite, postgres, sqlite};
use crate::store::{
    StoreError,
    row::{CaseRow, NewEventRow},
    tally::tallies,
};

/// Writes in one transaction: some 0.5 MiB of JSON.
const BATCH: usize = 256;
/// Writes that wait. Whoever comes then waits for a place, as its caller's deadline allows.
const QUEUE: usize = 1_024;

#[derive(Debug)]
struct Queued {
    write: NewCaseWrite,
    answer: oneshot::Sender<Result<i64, StoreError>>,
}

/// The way to the writer. It ends with the last of its clones, after everything that waited was written.
#[derive(Clone, Debug)]
pub(in crate::store) struct Writer {
    queue: mpsc::Sender<Queued>,
    /// Number of the newest entry that this process knows of.
    head: watch::Sender<i64>,
}

impl Writer {
    pub(in crate::store) fn start(database: Database) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let head = watch::Sender::new(0);
        let tasks = TaskTracker::new();
        tasks.spawn(run(database, waiting, head.clone()));
        Self { queue, head }
    }

    pub(super) async fn write(&self, write: NewCaseWrite) -> Result<i64, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let queued = self.queue.send(Queued { write, answer }).await;
        queued.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    pub(super) fn heads(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    pub(super) fn advance(&self, head: i64) {
        advance(&self.head, head);
    }
}

fn advance(known: &watch::Sender<i64>, head: i64) {
    known.send_if_modified(|known| {
        let newer = head > *known;
        if newer {
            *known = head;
        }
        newer
    });
}

async fn run(database: Database, mut waiting: mpsc::Receiver<Queued>, head: watch::Sender<i64>) {
    let mut queued = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut queued, BATCH).await > 0 {
        let (writes, answers): (Vec<_>, Vec<_>) =
            queued.drain(..).map(|one| (one.write, one.answer)).unzip();
        let outcomes = write_all(&database, &writes).await;
        for (outcome, answer) in outcomes.into_iter().zip(answers) {
            if let Ok(last) = outcome {
                advance(&head, last);
            }
            // Whoever does not wait any more repeats its request, and gets this answer then.
            let _ = answer.send(outcome);
        }
    }
}

/// The outcome of each write.
async fn write_all(database: &Database, writes: &[NewCaseWrite]) -> Vec<Result<i64, StoreError>> {
    let error = match write_batch(database, writes).await {
        Ok(outcomes) => {
            let outcomes = outcomes.into_iter();
            return outcomes
                .map(|last| last.ok_or(StoreError::Conflict))
                .collect();
        }
        Err(error) => error,
    };
    if writes.len() == 1 {
        return vec![Err(error)];
    }
    let mut outcomes = Vec::with_capacity(writes.len());
    if let StoreError::Unavailable(_) = error {
        // Each by itself would wait as long again.
        outcomes.push(Err(error));
        let away = || Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        outcomes.resize_with(writes.len(), away);
        return outcomes;
    }
    // One of them is at fault: it must not take the others with it.
    for write in writes {
        let alone = write_batch(database, std::slice::from_ref(write)).await;
        let last = |outcomes: Vec<Option<i64>>| outcomes.into_iter().next().flatten();
        outcomes.push(alone.and_then(|outcomes| last(outcomes).ok_or(StoreError::Conflict)));
    }
    outcomes
}

/// What both stores do within the transaction of a batch, apart from their SQL.
pub(super) trait Batch {
    /// The number of the last entry; from here on no other writer goes on until the end.
    async fn lock(&mut self) -> Result<i64, StoreError>;
    /// Which of these request ids stand in the history, with their clients.
    async fn used(&mut self, ids: &str) -> Result<Vec<(String, String)>, StoreError>;
    /// Inserts new cases, and gives the numbers of those that were not there.
    async fn insert(&mut self, rows: &str) -> Result<Vec<String>, StoreError>;
    /// Updates cases, and gives the numbers of those that were at their version.
    async fn update(&mut self, rows: &str) -> Result<Vec<String>, StoreError>;
    /// Appends entries.
    async fn append(&mut self, rows: &str, last: i64) -> Result<(), StoreError>;
    /// Adds to the counts of months.
    async fn tally(&mut self, rows: &str) -> Result<(), StoreError>;
}

async fn write_batch(
    database: &Database,
    writes: &[NewCaseWrite],
) -> Result<Vec<Option<i64>>, StoreError> {
    match database {
        Database::Postgres(pool) => {
            let mut batch = postgres::Transacted(pool.begin().await?);
            let outcomes = write_within(&mut batch, writes).await?;
            batch.0.commit().await?;
            Ok(outcomes)
        }
        Database::Sqlite(database) => {
            let transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
            let mut batch = sqlite::Transacted(transaction);
            let outcomes = write_within(&mut batch, writes).await?;
            batch.0.commit().await?;
            Ok(outcomes)
        }
    }
}

/// The number of the last entry of each write; none for those that lost.
async fn write_within(
    batch: &mut impl Batch,
    writes: &[NewCaseWrite],
) -> Result<Vec<Option<i64>>, StoreError> {
    let mut last = batch.lock().await?;
    let candidates = distinct(batch, writes).await?;
    let (mut inserts, mut updates) = (Vec::new(), Vec::new());
    for write in candidates.iter().map(|index| &writes[*index]) {
        let rows = if write.base.is_some() {
            &mut updates
        } else {
            &mut inserts
        };
        rows.push(CaseRow::of(write)?);
    }
    let mut won = HashSet::new();
    if !inserts.is_empty() {
        won.extend(batch.insert(&json(&inserts)?).await?);
    }
    if !updates.is_empty() {
        won.extend(batch.update(&json(&updates)?).await?);
    }
    let mut outcomes = vec![None; writes.len()];
    let mut events = Vec::new();
    for index in candidates {
        let write = &writes[index];
        if !won.contains(write.case.number.as_str()) {
            continue;
        }
        for event in &write.events {
            last += 1;
            events.push(NewEventRow::of(&write.case, event, last)?);
        }
        outcomes[index] = Some(last);
    }
    if !events.is_empty() {
        batch.append(&json(&events)?, last).await?;
        let won = writes.iter().zip(&outcomes);
        let won = won.filter_map(|(write, outcome)| outcome.map(|_| write));
        batch.tally(&json(&tallies(won))?).await?;
    }
    Ok(outcomes)
}

/// The places of the writes that may win: the first of each case and of each request, if the request was not written before.
async fn distinct(
    batch: &mut impl Batch,
    writes: &[NewCaseWrite],
) -> Result<Vec<usize>, StoreError> {
    let request = |write: &NewCaseWrite| {
        write.events.iter().find_map(|event| {
            let client = event.actor.client.as_ref()?;
            let (id, _) = event.request?;
            Some((id.to_string(), client.id.to_string()))
        })
    };
    let requests: Vec<_> = writes.iter().map(request).collect();
    let ids: Vec<_> = requests.iter().flatten().map(|(id, _)| id).collect();
    let mut used = HashSet::new();
    if !ids.is_empty() {
        used.extend(batch.used(&json(&ids)?).await?);
    }
    let mut numbers = HashSet::new();
    let mut places = Vec::with_capacity(writes.len());
    for (index, (write, request)) in writes.iter().zip(requests).enumerate() {
        let fresh = request.is_none_or(|request| used.insert(request));
        if fresh && numbers.insert(write.case.number) {
            places.push(index);
        }
    }
    Ok(places)
}

fn json(rows: &[impl serde::Serialize]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|_| StoreError::Corrupt("row"))
}
