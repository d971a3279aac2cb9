//! The bounded queue between the callers and the batcher, and the way back.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::{
    append::{AppendError, Appended},
    index::Unit,
    ledger::LedgerError,
    prepare::Prepared,
    reconcile::Turn,
    witness::{Contradiction, Credential, KeptCosignature, KeptLinks, WitnessStep},
};

/// How an append ended.
pub(crate) type Outcome = Result<Appended, AppendError>;

/// What happens to an entry while the ledger cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is refused.
    Refuse,
    /// It waits until it can be written, or until the lease is lost: an end of a call must not go unrecorded.
    Wait,
    /// The ledger's own: it waits whatever happens.
    Own,
}

/// An entry on its way.
pub(crate) struct Item {
    pub(crate) prepared: Box<Prepared>,
    pub(crate) patience: Patience,
    pub(crate) waiter: Option<Waiter>,
}

/// Who waits for an entry. Dropped without an answer, it answers that the ledger is unavailable.
pub(crate) struct Waiter {
    release: Arc<Release>,
    answer: Option<oneshot::Sender<Outcome>>,
}

impl Waiter {
    pub(crate) fn new(release: &Arc<Release>) -> (Self, oneshot::Receiver<Outcome>) {
        let (answer, receiver) = oneshot::channel();
        release.waiting.fetch_add(1, Ordering::AcqRel);
        (
            Self {
                release: Arc::clone(release),
                answer: Some(answer),
            },
            receiver,
        )
    }

    /// Whether the caller has given up.
    pub(crate) fn is_gone(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.release
                .answers
                .lock()
                .push((answer, Err(AppendError::Unavailable)));
            self.release.arrived.notify_one();
        }
    }
}

/// Answers on their way to the runtime where their callers wait. All answers of one commit are handed over
/// together, so that the runtime is woken once (PERFORMANCE.md 2).
#[derive(Default)]
pub(crate) struct Release {
    answers: Mutex<Vec<(oneshot::Sender<Outcome>, Outcome)>>,
    arrived: Notify,
    waiting: AtomicUsize,
    closed: AtomicBool,
}

impl Release {
    /// Passes answers on until the appender is gone and nobody waits any more.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let arrived = self.arrived.notified();
            let answers = mem::take(&mut *self.answers.lock());
            let passed = answers.len();
            for (sender, outcome) in answers {
                // The caller may have gone: its entry is committed all the same.
                let _ = sender.send(outcome);
            }
            let waiting = self.waiting.fetch_sub(passed, Ordering::AcqRel) - passed;
            if waiting == 0 && self.closed.load(Ordering::Acquire) {
                return;
            }
            if passed == 0 {
                arrived.await;
            }
        }
    }

    /// The appender is gone.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.arrived.notify_one();
    }
}

/// Hands answers to the runtimes that wait for them, each woken once.
pub(crate) fn release(answers: impl IntoIterator<Item = (Option<Waiter>, Outcome)>) {
    let mut woken: Vec<Arc<Release>> = Vec::new();
    for (waiter, outcome) in answers {
        let Some(mut waiter) = waiter else { continue };
        let Some(answer) = waiter.answer.take() else {
            continue;
        };
        let release = Arc::clone(&waiter.release);
        release.answers.lock().push((answer, outcome));
        if !woken.iter().any(|known| Arc::ptr_eq(known, &release)) {
            woken.push(release);
        }
    }
    for release in woken {
        release.arrived.notify_one();
    }
}

/// What else the batcher is asked to do.
pub(crate) enum Command {
    /// Write what is queued, release the lease and end.
    Close(oneshot::Sender<()>),
    /// Go on from the read-only beginning.
    Confirm(oneshot::Sender<Result<(), LedgerError>>),
    /// Freeze for good, for a reason.
    Freeze(String, oneshot::Sender<Result<(), LedgerError>>),
    /// Keep a witness's signature under one of our checkpoints.
    KeepCosignature(KeptCosignature, oneshot::Sender<Result<(), LedgerError>>),
    /// Keep the links of receipts to a witnessed checkpoint.
    KeepLinks(KeptLinks, oneshot::Sender<Result<(), LedgerError>>),
    /// Keep a certificate or CRL.
    KeepCredential(Credential, oneshot::Sender<Result<(), LedgerError>>),
    /// Keep two checkpoints of one log that contradict each other.
    KeepContradiction(Contradiction, oneshot::Sender<Result<(), LedgerError>>),
    /// Remove the oldest rows of archived entries, at most so many.
    DropArchived(u64, oneshot::Sender<Result<u64, LedgerError>>),
    /// Take a turn at comparing with another city.
    ClaimTurn(Turn, oneshot::Sender<Result<Option<i64>, LedgerError>>),
    /// Keep a unit of the search index.
    KeepUnit(Box<Unit>, oneshot::Sender<Result<(), LedgerError>>),
    /// Move the witness's memory of another log on.
    StepWitness(WitnessStep, oneshot::Sender<Result<bool, LedgerError>>),
    /// Take a new boot id and lease after a lost lease.
    Reopen(oneshot::Sender<Result<Uuid, LedgerError>>),
}

impl Command {
    /// Answers what cannot be done while the ledger cannot be written.
    pub(crate) fn refuse(self) {
        let unavailable = LedgerError::Unavailable;
        // Nobody may be waiting any more.
        match self {
            Self::Close(_) => {}
            Self::Confirm(answer)
            | Self::Freeze(_, answer)
            | Self::KeepContradiction(_, answer)
            | Self::KeepCosignature(_, answer)
            | Self::KeepCredential(_, answer)
            | Self::KeepLinks(_, answer)
            | Self::KeepUnit(_, answer) => {
                let _ = answer.send(Err(unavailable));
            }
            Self::ClaimTurn(_, answer) => {
                let _ = answer.send(Err(unavailable));
            }
            Self::DropArchived(_, answer) => {
                let _ = answer.send(Err(unavailable));
            }
            Self::StepWitness(_, answer) => {
                let _ = answer.send(Err(unavailable));
            }
            Self::Reopen(answer) => {
                let _ = answer.send(Err(unavailable));
            }
        }
    }
}

/// The queue. Its limits count entries that wait and entries that are being committed.
pub(crate) struct Queue {
    limit: usize,
    reserve: usize,
    inner: Mutex<Inner>,
    arrived: Notify,
    room: Notify,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    /// Items that were taken out and not yet answered.
    taken: usize,
    commands: VecDeque<Command>,
    closed: bool,
    abandoned: bool,
}

/// What the batcher takes from the queue at once.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) items: Vec<Item>,
    pub(crate) commands: Vec<Command>,
    pub(crate) abandoned: bool,
}

/// Why an item was not taken in; it is given back.
pub(crate) enum Refused {
    Closed(Item),
    Full(Item),
}

impl Queue {
    /// A queue for so many entries, and so many more of those that must not be refused.
    pub(crate) fn new(limit: usize, reserve: usize) -> Self {
        Self {
            limit,
            reserve,
            inner: Mutex::default(),
            arrived: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Puts an entry at the end.
    pub(crate) fn push(&self, item: Item) -> Result<(), Refused> {
        let limit = match item.patience {
            Patience::Refuse => self.limit,
            Patience::Wait => self.limit + self.reserve,
            Patience::Own => usize::MAX,
        };
        {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(Refused::Closed(item));
            }
            if inner.items.len() + inner.taken >= limit {
                return Err(Refused::Full(item));
            }
            inner.items.push_back(item);
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Puts an entry at the end, when there is room. `None` when the queue closes before that.
    pub(crate) async fn push_when_room(&self, item: Item) -> Option<()> {
        let mut item = item;
        loop {
            let room = self.room.notified();
            match self.push(item) {
                Ok(()) => return Some(()),
                Err(Refused::Closed(_)) => return None,
                Err(Refused::Full(back)) => item = back,
            }
            room.await;
        }
    }

    /// Asks for something.
    pub(crate) fn command(&self, command: Command) {
        self.inner.lock().commands.push_back(command);
        self.arrived.notify_one();
    }

    /// Entries that wait or are being committed.
    pub(crate) fn depth(&self) -> usize {
        let inner = self.inner.lock();
        inner.items.len() + inner.taken
    }

    /// Waits until there is something to take. Cancel-safe.
    pub(crate) async fn arrived(&self) {
        loop {
            let arrived = self.arrived.notified();
            {
                let inner = self.inner.lock();
                if !inner.items.is_empty() || !inner.commands.is_empty() || inner.abandoned {
                    return;
                }
            }
            arrived.await;
        }
    }

    /// Waits until there is a command, or nobody is left to send one. Cancel-safe.
    pub(crate) async fn commanded(&self) {
        loop {
            let arrived = self.arrived.notified();
            {
                let inner = self.inner.lock();
                if !inner.commands.is_empty() || inner.abandoned {
                    return;
                }
            }
            arrived.await;
        }
    }

    /// Takes entries from the front, at most so many and so many bytes but at least one, and every command.
    pub(crate) fn take(&self, entries: usize, bytes: usize) -> Taken {
        let mut inner = self.inner.lock();
        let mut room = bytes;
        let mut count = 0;
        for item in inner.items.iter().take(entries) {
            let weight = item.prepared.weight();
            if count > 0 && weight > room {
                break;
            }
            room = room.saturating_sub(weight);
            count += 1;
        }
        inner.taken += count;
        Taken {
            items: inner.items.drain(..count).collect(),
            commands: inner.commands.drain(..).collect(),
            abandoned: inner.abandoned,
        }
    }

    /// So many entries are committed that were never in the queue.
    pub(crate) fn lend(&self, count: usize) {
        self.inner.lock().taken += count;
    }

    /// Puts one of the ledger's own entries at the end, also when the queue is closed.
    pub(crate) fn push_own(&self, item: Item) {
        self.inner.lock().items.push_back(item);
        self.arrived.notify_one();
    }

    /// Puts entries back to the front, in their order.
    pub(crate) fn put_back(&self, items: Vec<Item>) {
        let mut inner = self.inner.lock();
        inner.taken -= items.len();
        for item in items.into_iter().rev() {
            inner.items.push_front(item);
        }
    }

    /// Takes every entry that does not wait for better times.
    pub(crate) fn take_impatient(&self, impatient: impl Fn(Patience) -> bool) -> Vec<Item> {
        let mut inner = self.inner.lock();
        let (leaving, staying): (Vec<Item>, Vec<Item>) = inner
            .items
            .drain(..)
            .partition(|item| impatient(item.patience));
        inner.taken += leaving.len();
        inner.items = staying.into();
        leaving
    }

    /// So many entries that were taken have their answer.
    pub(crate) fn answered(&self, count: usize) {
        self.inner.lock().taken -= count;
        self.room.notify_waiters();
    }

    /// Refuses everything from now on; what is in the queue can still be taken.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.room.notify_waiters();
    }

    /// The last handle is gone: the batcher ends without further ado.
    pub(crate) fn abandon(&self) {
        {
            let mut inner = self.inner.lock();
            inner.closed = true;
            inner.abandoned = true;
        }
        self.arrived.notify_one();
        self.room.notify_waiters();
    }
}
