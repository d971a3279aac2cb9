//! One commit, and what follows when it fails.

use std::time::{Duration, Instant};

use banqiao_tlog::note::Signer;
use tokio::time::sleep;

use super::{Batcher, Session, jittered, recover, report};
use crate::{
    append::AppendError,
    digest::Frontier,
    ledger::FailureKind,
    plan::{Head, Plan, Wanted, plan},
    queue::{Item, Outcome},
    step::Step,
    store::{CommitFault, Fault, StoreError, Writer},
};

/// How long a batch is tried again after transient failures.
const RETRY_FOR: Duration = Duration::from_secs(5);
/// Pause between these attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Most leaves of other replicas that are read one by one; beyond that the edge is read anew.
const CATCH_UP: u64 = 4_096;

/// A batch whose COMMIT was sent and not answered.
pub(super) struct Unresolved {
    pub(super) items: Vec<Item>,
    outcomes: Vec<Outcome>,
    /// The first entry that it holds: the batch is there when this one is.
    pub(super) uid: [u8; 16],
    accepted: u64,
}

/// Why a batch was not committed.
enum Failure {
    /// Nothing was written.
    Known(Fault),
    /// Another replica closes this boot's calls.
    LeaseLost,
    /// It may have been committed.
    Unknown {
        fault: Fault,
        outcomes: Vec<Outcome>,
        uid: [u8; 16],
        accepted: u64,
    },
}

/// A committed batch.
struct Committed {
    outcomes: Vec<Outcome>,
    entries: usize,
    bytes: usize,
}

impl Batcher {
    /// Commits items, or does with them what the failure asks for.
    pub(super) async fn commit(&mut self, items: Vec<Item>) {
        let begun = Instant::now();
        loop {
            let Some(writer) = &mut self.writer else {
                self.hand_back(items);
                return;
            };
            let signer = &self.settings.signer;
            match attempt(writer, &mut self.session, signer, &items).await {
                Ok(committed) => {
                    self.core.size.send_replace(self.session.head.count());
                    if committed.entries > 0 {
                        let took = begun.elapsed();
                        self.core
                            .observer
                            .committed(committed.entries, committed.bytes, took);
                    }
                    self.answer(items.into_iter().zip(committed.outcomes).collect());
                    self.core.observer.reached(Step::Answered);
                    return;
                }
                Err(Failure::Known(Fault::Transient(error))) if begun.elapsed() < RETRY_FOR => {
                    self.core.observer.failed(FailureKind::Transient);
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::debug!(error, "a commit is tried again");
                    sleep(jittered(RETRY_PAUSE)).await;
                }
                Err(Failure::Known(fault @ Fault::Rejected(_))) => {
                    self.reject(&fault, items);
                    return;
                }
                Err(Failure::Known(fault)) => {
                    self.fail(&fault, items);
                    return;
                }
                Err(Failure::LeaseLost) => {
                    self.lose_lease(items);
                    return;
                }
                Err(Failure::Unknown {
                    fault,
                    outcomes,
                    uid,
                    accepted,
                }) => {
                    self.core.observer.failed(FailureKind::OutcomeUnknown);
                    self.unresolved = Some(Unresolved {
                        items,
                        outcomes,
                        uid,
                        accepted,
                    });
                    self.fail(&fault, Vec::new());
                    return;
                }
            }
        }
    }

    /// The database refuses what a batch holds. Of several, each is tried alone; a single one is given up,
    /// and the database verified before anything else is written.
    fn reject(&mut self, fault: &Fault, mut items: Vec<Item>) {
        if items.len() > 1 {
            report(
                fault,
                "a batch was rejected; its entries are tried one by one",
            );
            self.careful = items.len();
            self.core.queue.put_back(items);
        } else {
            let refused = items
                .drain(..)
                .map(|item| (item, Err(AppendError::Unavailable)));
            self.answer(refused.collect());
            self.fail(fault, Vec::new());
        }
    }

    /// The outcome of an unresolved batch is known now.
    pub(super) fn settle(&mut self, unresolved: Unresolved, committed: bool) {
        let Unresolved {
            items,
            outcomes,
            accepted,
            ..
        } = unresolved;
        if committed {
            self.session.replica.counter += accepted;
            self.answer(items.into_iter().zip(outcomes).collect());
            return;
        }
        // Whoever has given up in the meantime was told nothing, and needs no entry; ends of calls stay.
        let (gone, wanted): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| {
            item.patience == crate::queue::Patience::Refuse
                && item
                    .waiter
                    .as_ref()
                    .is_some_and(crate::queue::Waiter::is_gone)
        });
        self.answer(
            gone.into_iter()
                .map(|item| (item, Err(AppendError::Unavailable)))
                .collect(),
        );
        self.core.queue.put_back(wanted);
    }
}

/// One attempt: one transaction.
async fn attempt(
    writer: &mut Writer,
    session: &mut Session,
    signer: &Signer,
    items: &[Item],
) -> Result<Committed, Failure> {
    match planned(writer, session, signer, items).await {
        Ok((plan, before)) if plan.entries.is_empty() => {
            let outcomes = plan.answers(before);
            writer.rollback().await.map_err(Failure::Known)?;
            Ok(Committed {
                outcomes,
                entries: 0,
                bytes: 0,
            })
        }
        Ok((plan, before)) => match writer.finish(session.boot, &plan).await {
            Ok(()) => {
                writer.reached(Step::Committed);
                Ok(learn(session, plan, before))
            }
            Err(CommitFault::Refused(fault)) => undo(writer, Failure::Known(fault)).await,
            Err(CommitFault::Unknown(fault)) => {
                let uid = plan.entries.first().map_or([0; 16], |row| row.prepared.uid);
                let accepted = u64::try_from(plan.entries.len()).unwrap_or(u64::MAX);
                Err(Failure::Unknown {
                    fault,
                    outcomes: plan.answers(before),
                    uid,
                    accepted,
                })
            }
        },
        Err(failure) => undo(writer, failure).await,
    }
}

/// Rolls back. When that fails too, the connection is of no more use.
async fn undo<T>(writer: &mut Writer, failure: Failure) -> Result<T, Failure> {
    if matches!(failure, Failure::Known(Fault::Connection(_))) {
        // The server rolls back by itself, and may not answer.
        return Err(failure);
    }
    match (writer.rollback().await, failure) {
        (Err(fault), Failure::Known(Fault::Transient(_) | Fault::Rejected(_))) => {
            Err(Failure::Known(Fault::Connection(fault.into_error())))
        }
        (_, failure) => Err(failure),
    }
}

/// Begins a transaction, and plans what it will write behind which tree.
async fn planned<'a>(
    writer: &mut Writer,
    session: &mut Session,
    signer: &Signer,
    items: &'a [Item],
) -> Result<(Plan<'a>, Frontier), Failure> {
    let known = Failure::Known;
    let head = writer.begin(session.boot).await.map_err(known)?;
    writer.reached(Step::HeadLocked);
    check_head(session, &head).map_err(|error| known(Fault::Storage(error)))?;
    catch_up(writer, session, &head).await.map_err(known)?;
    let wanted = Wanted::of(items, &session.months);
    let found = writer.look_up(session.boot, &wanted).await.map_err(known)?;
    writer.reached(Step::LookedUp);
    if !found.leased {
        return Err(Failure::LeaseLost);
    }
    let mut new_months = wanted.months;
    for (month, id) in &found.months {
        if new_months.get(month).is_some_and(|ours| ours != id) {
            return Err(known(Fault::Storage(StoreError::KeyDiffers {
                month: *month,
            })));
        }
        new_months.remove(month);
        session.months.insert(*month, *id);
    }
    let mut plan = plan(items, &head, found, &session.replica);
    plan.months = new_months;
    if !plan.entries.is_empty() {
        plan.grow(&session.edge, signer)
            .map_err(|error| known(Fault::Storage(error)))?;
        writer.reached(Step::Planned);
    }
    Ok((plan, head.frontier))
}

/// Reads the leaves that other replicas have appended since.
async fn catch_up(writer: &mut Writer, session: &mut Session, head: &Head) -> Result<(), Fault> {
    let (known, size) = (session.edge.size(), head.frontier.count());
    if known == size {
        return Ok(());
    }
    if size.saturating_sub(known) > CATCH_UP {
        session.edge = recover::edge_of(writer, head).await?;
        return Ok(());
    }
    for leaf in writer.leaves(known, size).await? {
        // The tiles were stored by the replica that made them full.
        session
            .edge
            .push(recover::hash(&leaf).map_err(Fault::Storage)?);
    }
    if session.edge.frontier() == head.frontier {
        Ok(())
    } else {
        Err(Fault::Storage(StoreError::Corrupt("tree")))
    }
}

/// The head must be at least what was seen of it, and the same where it has not grown (LEDGER.md §2.3).
pub(super) fn check_head(session: &mut Session, head: &Head) -> Result<(), StoreError> {
    let (seen, now) = (session.head.count(), head.frontier.count());
    if now < seen || (now == seen && head.frontier != session.head) {
        return Err(StoreError::Rollback);
    }
    if head.frozen {
        return Err(StoreError::Flagged);
    }
    if now > seen {
        session.head = head.frontier.clone();
    }
    Ok(())
}

/// What is committed is known from now on.
fn learn(session: &mut Session, plan: Plan<'_>, before: Frontier) -> Committed {
    let outcomes = plan.answers(before);
    session.months.extend(&plan.months);
    session.last = plan.entries.last().map(|row| (row.index, row.leaf));
    let entries = plan.entries.len();
    session.replica.counter += u64::try_from(entries).unwrap_or(0);
    let bytes = plan.bytes;
    session.head = plan.frontier;
    session.note = Some(plan.note);
    session.edge = plan.edge;
    Committed {
        outcomes,
        entries,
        bytes,
    }
}
