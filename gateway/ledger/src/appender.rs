//! The side of the ledger that a worker sees.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use crate::{
    append::{Append, AppendError},
    ledger::{Handle, LedgerState},
    queue::{Item, Outcome, Patience, Refused, Release, Waiter},
};

/// Appends entries from one runtime, whose waiting tasks are released as a group after each commit.
///
/// Clones share the group.
#[derive(Clone)]
pub struct Appender(Arc<Inner>);

struct Inner {
    ledger: Arc<Handle>,
    release: Arc<Release>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.release.close();
    }
}

impl Appender {
    pub(crate) fn new(ledger: Arc<Handle>) -> Self {
        let release = Arc::new(Release::default());
        ledger.core.releasers.spawn(Arc::clone(&release).run());
        Self(Arc::new(Inner { ledger, release }))
    }

    /// Appends an entry. It is in the queue when this returns; the future only waits for the commit.
    ///
    /// Dropping the future never cancels the commit. A caller that gives up on an entry with
    /// [`Effect::Open`](crate::Effect::Open) sends the entry with [`Effect::Close`](crate::Effect::Close) behind it
    /// by [`Self::append_queued`]; [`AppendError::AlreadyClosed`] then says that there was nothing to close.
    ///
    /// When the answer to a COMMIT is lost, those whose entries were in it wait until the database answers again and
    /// the outcome is known: a caller brings its own deadline.
    ///
    /// # Errors
    ///
    /// The future fails at once when the ledger cannot be written or the queue is full.
    pub fn append(&self, append: Append) -> Waiting {
        match self.item(append, Patience::Refuse) {
            Ok((item, receiver)) => match self.0.ledger.core.queue.push(item) {
                Ok(()) => Waiting(Step::Committing(receiver)),
                Err(Refused::Closed(item)) => answered(item, AppendError::Unavailable),
                Err(Refused::Full(item)) => answered(item, AppendError::QueueFull),
            },
            Err(error) => Waiting::failed(error),
        }
    }

    /// Appends an entry that must not be lost, such as the end of a call: it is not refused when the queue is full, and
    /// while the ledger cannot be written it waits until it can.
    ///
    /// It has a reserve of room of its own, in which it is when this returns, as with [`Self::append`]. When
    /// even the reserve is used up, the future waits for room, and dropping it before there is some forgets the entry.
    ///
    /// # Errors
    ///
    /// The future fails when the lease is lost or the ledger is closed.
    pub fn append_queued(&self, append: Append) -> Waiting {
        match self.item(append, Patience::Wait) {
            Ok((item, receiver)) => match self.0.ledger.core.queue.push(item) {
                Ok(()) => Waiting(Step::Committing(receiver)),
                Err(Refused::Closed(item)) => answered(item, AppendError::Unavailable),
                Err(Refused::Full(item)) => {
                    let ledger = Arc::clone(&self.0.ledger);
                    Waiting(Step::Queueing(Box::pin(async move {
                        match ledger.core.queue.push_when_room(item).await {
                            Some(()) => receiver.await.unwrap_or(Err(AppendError::Unavailable)),
                            None => Err(AppendError::Unavailable),
                        }
                    })))
                }
            },
            Err(error) => Waiting::failed(error),
        }
    }

    fn item(
        &self,
        append: Append,
        patience: Patience,
    ) -> Result<(Item, oneshot::Receiver<Outcome>), AppendError> {
        let core = &self.0.ledger.core;
        match (&*core.state.borrow(), patience) {
            (LedgerState::Ready, _)
            | (LedgerState::Failing | LedgerState::Frozen(_), Patience::Wait | Patience::Own) => {}
            (LedgerState::Closed | LedgerState::Failing, _) => {
                return Err(AppendError::Unavailable);
            }
            (LedgerState::Frozen(_), _) => return Err(AppendError::Frozen),
            (LedgerState::LeaseLost, _) => return Err(AppendError::LeaseLost),
        }
        let prepared = core.preparer.prepare(append)?;
        let (waiter, receiver) = Waiter::new(&self.0.release);
        Ok((
            Item {
                prepared,
                patience,
                waiter: Some(waiter),
            },
            receiver,
        ))
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Appender")
    }
}

/// The wait for a commit: `Ok` with the entry's place once it is durable.
#[must_use = "an entry counts only once its commit is known"]
pub struct Waiting(Step);

enum Step {
    Committing(oneshot::Receiver<Outcome>),
    Failed(Option<AppendError>),
    Queueing(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

impl Waiting {
    const fn failed(error: AppendError) -> Self {
        Self(Step::Failed(Some(error)))
    }
}

/// The item never reached the queue; its waiter must not be counted as waiting.
fn answered(item: Item, error: AppendError) -> Waiting {
    crate::queue::release([(item.waiter, Err(error.clone()))]);
    Waiting::failed(error)
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            // A batcher that ended without an answer wrote nothing that it knows of.
            Step::Committing(receiver) => {
                let outcome = ready!(Pin::new(receiver).poll(cx));
                Poll::Ready(outcome.unwrap_or(Err(AppendError::Unavailable)))
            }
            Step::Failed(error) => {
                Poll::Ready(Err(error.take().unwrap_or(AppendError::Unavailable)))
            }
            Step::Queueing(queueing) => queueing.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}
