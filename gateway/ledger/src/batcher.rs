//! The thread that commits.
//!
//! It owns the one connection that writes. It commits at once when it is idle; what arrives while a commit is in
//! flight becomes the next batch. No timer, and no call that a cancelled caller could drop a transaction from.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use banqiao_proto::ledger::v1::Replica;
use banqiao_tlog::tile::TileBuilder;
use tokio::{
    sync::oneshot,
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use crate::{
    append::{Append, AppendError},
    digest::{Frontier, Hash},
    keyring::Month,
    ledger::{Core, FailureKind, FreezeReason, LedgerError, LedgerSettings, LedgerState},
    prepare::new_id,
    queue::{self, Command, Item, Patience},
    step::Step,
    store::{Fault, Ownership, StoreError, StoreUrl, Writer, WriterSettings},
};

mod commit;
mod lease;
mod recover;
mod standing;

use commit::Unresolved;

/// Most entries and bytes of one commit.
const BATCH_ENTRIES: usize = 1_024;
const BATCH_BYTES: usize = 1 << 20;
/// First and longest pause between attempts to reach the database again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The newest checkpoint is published once a second while the tree grows (LEDGER.md §3).
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// How long the first opening is tried again after transient failures.
const OPEN_FOR: Duration = Duration::from_secs(5);
/// How often a ledger that cannot write looks for callers that must not wait.
const SWEEP: Duration = Duration::from_millis(100);

/// What this boot knows of the ledger.
struct Session {
    boot: Uuid,
    /// Replica, boot, and how many entries this boot has written.
    replica: Replica,
    /// The highest head that was seen.
    head: Frontier,
    /// The last entry that this boot has committed.
    last: Option<(u64, Hash)>,
    /// The right edge of the tree at `head`, or behind it where other replicas have appended since.
    edge: TileBuilder,
    /// Size of the checkpoint that was published last.
    published: u64,
    /// Months whose keys are known to be the ones that the ledger uses.
    months: BTreeMap<Month, [u8; 8]>,
    /// Another replica has taken this boot for dead.
    lost: bool,
    /// Nobody has confirmed the ledger yet: nothing is appended to it.
    held: bool,
    /// The head was signed by the previous key: the first entry is the KEY entry.
    rotates: bool,
    /// The checkpoint of `head`, where this boot has made it.
    note: Option<Arc<str>>,
}

impl Session {
    fn new(replica: &str, now_us: i64) -> Self {
        let boot = new_id(now_us);
        Self {
            boot,
            replica: Replica {
                id: replica.to_owned(),
                boot: boot.as_bytes().to_vec(),
                counter: 0,
            },
            head: Frontier::new(),
            last: None,
            edge: TileBuilder::new(),
            published: 0,
            months: BTreeMap::new(),
            lost: false,
            held: false,
            rotates: false,
            note: None,
        }
    }
}

struct Batcher {
    core: Arc<Core>,
    settings: LedgerSettings,
    store: WriterSettings,
    /// The right to the file, with SQLite: as long as the thread lives, also while the file is closed.
    ownership: Option<Ownership>,
    writer: Option<Writer>,
    session: Session,
    unresolved: Option<Unresolved>,
    /// Entries that go one by one, after a batch was rejected and nobody knows for whose fault.
    careful: usize,
    pause: Duration,
    closing: Option<oneshot::Sender<()>>,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

/// Ends the wait of everybody, however the thread ends.
struct Ended(Arc<Core>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.send_replace(LedgerState::Closed);
        self.0.queue.close();
        // Dropped items and commands answer their callers.
        drop(self.0.queue.take(usize::MAX, usize::MAX));
    }
}

/// Starts the thread; returns once the ledger can be written.
pub(crate) async fn start(
    core: Arc<Core>,
    url: StoreUrl,
    settings: LedgerSettings,
) -> Result<(), LedgerError> {
    let (ready, started) = oneshot::channel();
    let body = move || {
        let _ended = Ended(Arc::clone(&core));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                // Nobody may be waiting any more.
                let _ = ready.send(Err(LedgerError::Thread(error)));
                return;
            }
        };
        runtime.block_on(async {
            let opened = Batcher::open(core, url, settings).await;
            let (answer, batcher) = match opened {
                Ok(batcher) => (Ok(()), Some(batcher)),
                Err(error) => (Err(error), None),
            };
            // Without anybody who waits there is no handle, and nobody will append.
            if let (Ok(()), Some(batcher)) = (ready.send(answer), batcher) {
                batcher.run().await;
            }
        });
    };
    thread::Builder::new()
        .name("banqiao-ledger".into())
        .spawn(body)
        .map_err(LedgerError::Thread)?;
    started.await.unwrap_or(Err(LedgerError::Closed))
}

impl Batcher {
    async fn open(
        core: Arc<Core>,
        url: StoreUrl,
        settings: LedgerSettings,
    ) -> Result<Self, LedgerError> {
        let ownership = match &url {
            StoreUrl::Sqlite(path) => Some(Ownership::take(path).map_err(LedgerError::Store)?),
            StoreUrl::Postgres(_) => None,
        };
        let store = WriterSettings {
            url,
            city: settings.city,
            failover: settings.failover,
            observer: Arc::clone(&core.observer),
        };
        let mut session = Session::new(&settings.replica, core.preparer.clock.now_us());
        session.held = settings.hold;
        let mut batcher = Self {
            core,
            settings,
            store,
            ownership,
            writer: None,
            session,
            unresolved: None,
            careful: 0,
            pause: FIRST_PAUSE,
            closing: None,
        };
        let begun = Instant::now();
        let mut opened = batcher.first_open().await;
        // Replicas that begin together on a new database stand in each other's way.
        while let Err(Fault::Transient(_)) = opened
            && begun.elapsed() < OPEN_FOR
        {
            sleep(jittered(FIRST_PAUSE)).await;
            opened = batcher.first_open().await;
        }
        match opened {
            Ok(()) => {}
            // Whoever has to find a way out can read it meanwhile, and is told why.
            Err(fault @ Fault::Storage(StoreError::Rollback | StoreError::Flagged))
                if batcher.settings.hold =>
            {
                batcher.fail(&fault, Vec::new());
            }
            Err(fault) => return Err(fault.into()),
        }
        batcher.announce_key().await;
        batcher.close_orphans().await;
        Ok(batcher)
    }

    async fn run(mut self) {
        let mut renew = ticks(self.settings.lease.renew);
        let mut summary = ticks(self.settings.summary_interval);
        let mut publish = ticks(PUBLISH_EVERY);
        loop {
            let flow = if self.writer.is_none() {
                self.while_down().await
            } else if self.session.lost {
                self.while_lost().await
            } else {
                tokio::select! {
                    () = self.core.queue.arrived(), if !self.session.held => self.next_batch().await,
                    () = self.core.queue.commanded(), if self.session.held => self.while_held().await,
                    () = sleep(SWEEP), if self.session.held => {
                        self.refuse(|patience| patience == Patience::Refuse);
                        Flow::Continue
                    }
                    _ = renew.tick() => {
                        self.keep_lease().await;
                        Flow::Continue
                    }
                    _ = summary.tick() => {
                        self.summarise();
                        Flow::Continue
                    }
                    _ = publish.tick() => {
                        self.publish().await;
                        Flow::Continue
                    }
                }
            };
            if flow == Flow::End {
                return;
            }
        }
    }

    /// Does what is asked and commits what is queued.
    async fn next_batch(&mut self) -> Flow {
        let entries = if self.careful > 0 { 1 } else { BATCH_ENTRIES };
        let taken = self.core.queue.take(entries, BATCH_BYTES);
        if taken.abandoned {
            return Flow::End;
        }
        for command in taken.commands {
            match command {
                Command::ClaimTurn(turn, answer) => {
                    let _ = answer.send(self.claim_turn(&turn).await);
                }
                Command::DropArchived(most, answer) => {
                    let _ = answer.send(self.drop_archived(most).await);
                }
                Command::KeepCosignature(kept, answer) => {
                    let _ = answer.send(self.keep_cosignature(&kept).await);
                }
                Command::KeepCredential(kept, answer) => {
                    let _ = answer.send(self.keep_credential(&kept).await);
                }
                Command::KeepContradiction(kept, answer) => {
                    let _ = answer.send(self.keep_contradiction(&kept).await);
                }
                Command::KeepLinks(kept, answer) => {
                    let _ = answer.send(self.keep_links(&kept).await);
                }
                Command::KeepUnit(unit, answer) => {
                    let _ = answer.send(self.keep_unit(&unit).await);
                }
                Command::StepWitness(step, answer) => {
                    let _ = answer.send(self.step_witness(&step).await);
                }
                Command::Confirm(answer) => {
                    let _ = answer.send(self.confirm().await);
                }
                Command::Freeze(reason, answer) => {
                    let _ = answer.send(self.freeze(&reason).await);
                }
                Command::Close(answer) => {
                    self.summarise();
                    self.closing = Some(answer);
                }
                // The lease is not lost: there is nothing to begin anew.
                Command::Reopen(answer) => {
                    let _ = answer.send(Ok(self.session.boot));
                }
            }
        }
        if !taken.items.is_empty() {
            self.careful = self.careful.saturating_sub(taken.items.len());
            self.commit(taken.items).await;
            self.core.observer.queue_depth(self.core.queue.depth());
        }
        if self.closing.is_some() && self.writer.is_some() && self.core.queue.depth() == 0 {
            self.finish().await;
            return Flow::End;
        }
        Flow::Continue
    }

    /// Waits a little, refuses who must not wait, and tries to write again.
    async fn while_down(&mut self) -> Flow {
        tokio::select! {
            () = sleep(jittered(self.pause)) => {}
            () = self.core.queue.commanded() => {}
        }
        self.refuse(|patience| patience == Patience::Refuse);
        if self.obey_while_down() == Flow::End {
            return Flow::End;
        }
        match self.recover().await {
            Ok(()) => self.pause = FIRST_PAUSE,
            Err(()) => self.pause = (self.pause * 2).min(LONGEST_PAUSE),
        }
        Flow::Continue
    }

    /// Waits until a new boot is asked for. Only the ledger's own entries outlive a lost lease.
    async fn while_lost(&mut self) -> Flow {
        self.refuse(|patience| patience != Patience::Own);
        tokio::select! {
            () = sleep(SWEEP) => return Flow::Continue,
            () = self.core.queue.commanded() => {}
        }
        let taken = self.core.queue.take(0, 0);
        if taken.abandoned {
            return Flow::End;
        }
        for command in taken.commands {
            match command {
                Command::Close(_) => return Flow::End,
                Command::Reopen(answer) => {
                    let reopened = self.begin_boot().await;
                    let _ = answer.send(reopened);
                }
                other => other.refuse(),
            }
        }
        Flow::Continue
    }

    fn obey_while_down(&mut self) -> Flow {
        let taken = self.core.queue.take(0, 0);
        if taken.abandoned {
            return Flow::End;
        }
        for command in taken.commands {
            match command {
                // Whoever closes a ledger that cannot be written does not wait until it can.
                Command::Close(_) => return Flow::End,
                other => other.refuse(),
            }
        }
        if self.closing.is_some() {
            Flow::End
        } else {
            Flow::Continue
        }
    }

    /// Answers what is queued and must not wait.
    fn refuse(&self, impatient: impl Fn(Patience) -> bool) {
        let items = self.core.queue.take_impatient(impatient);
        let error = refusal(*self.core.state.borrow());
        self.answer(
            items
                .into_iter()
                .map(|item| (item, Err(error.clone())))
                .collect(),
        );
    }

    fn answer(&self, answers: Vec<(Item, queue::Outcome)>) {
        // Before the callers are woken: whoever appends again at once must not meet a queue that is full of itself.
        self.core.queue.answered(answers.len());
        queue::release(
            answers
                .into_iter()
                .map(|(item, outcome)| (item.waiter, outcome)),
        );
    }

    /// Queues what was counted.
    fn summarise(&self) {
        let core = &self.core;
        for append in core.tally.take().into_iter().chain(core.gaps.take()) {
            self.queue_own(append);
        }
    }

    fn queue_own(&self, append: Append) {
        match self.core.preparer.prepare(append) {
            Ok(prepared) => {
                let item = Item {
                    prepared,
                    patience: Patience::Own,
                    waiter: None,
                };
                // Also a closed queue takes the ledger's own entries: this thread empties it.
                self.core.queue.push_own(item);
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a count is lost");
            }
        }
    }

    /// Releases the lease and ends.
    async fn finish(&mut self) {
        self.publish().await;
        if let Some(mut writer) = self.writer.take() {
            writer.reached(Step::Releasing);
            if let Err(fault) = writer.release_lease(self.session.boot).await {
                report(&fault, "the lease was not released; it runs out");
            }
            writer.reached(Step::Released);
            writer.close().await;
        }
        self.set_state(LedgerState::Closed);
        // Whoever waits for the end may open the file anew at once.
        drop(self.ownership.take());
        if let Some(answer) = self.closing.take() {
            // Nobody may be waiting any more.
            let _ = answer.send(());
        }
    }

    fn set_state(&self, state: LedgerState) {
        let changed = self.core.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
        if changed {
            tracing::info!(?state, "ledger");
        }
    }

    /// The database cannot be used: what may wait waits, the rest is refused.
    fn fail(&mut self, fault: &Fault, items: Vec<Item>) {
        let (state, kind) = match fault {
            Fault::Connection(_) | Fault::Transient(_) => {
                (LedgerState::Failing, FailureKind::Connection)
            }
            Fault::Rejected(error) | Fault::Storage(error) => (
                LedgerState::Frozen(freeze_reason(error)),
                FailureKind::Frozen,
            ),
        };
        // One that stays frozen is opened again and again: that is said once.
        if *self.core.state.borrow() != state {
            report(fault, "the ledger cannot be written");
        }
        self.writer = None;
        self.set_state(state);
        self.core.observer.failed(kind);
        self.hand_back(items);
    }

    fn hand_back(&self, items: Vec<Item>) {
        let (impatient, patient): (Vec<Item>, Vec<Item>) = items
            .into_iter()
            .partition(|item| item.patience == Patience::Refuse);
        self.core.queue.put_back(patient);
        let error = refusal(*self.core.state.borrow());
        self.answer(
            impatient
                .into_iter()
                .map(|item| (item, Err(error.clone())))
                .collect(),
        );
        self.refuse(|patience| patience == Patience::Refuse);
    }

    fn lose_lease(&mut self, items: Vec<Item>) {
        tracing::error!("another replica has taken this one for dead; its calls are being closed");
        self.session.lost = true;
        self.set_state(LedgerState::LeaseLost);
        self.core.observer.failed(FailureKind::LeaseLost);
        self.core.queue.put_back(items);
        self.refuse(|patience| patience != Patience::Own);
    }
}

/// What callers are told while the ledger is in a state.
const fn refusal(state: LedgerState) -> AppendError {
    match state {
        LedgerState::Frozen(_) => AppendError::Frozen,
        LedgerState::LeaseLost => AppendError::LeaseLost,
        LedgerState::Closed | LedgerState::Failing | LedgerState::Ready => AppendError::Unavailable,
    }
}

const fn freeze_reason(error: &StoreError) -> FreezeReason {
    match error {
        StoreError::Rollback => FreezeReason::Rollback,
        StoreError::Flagged => FreezeReason::Flagged,
        StoreError::KeyDiffers { .. } | StoreError::KeyMissing { .. } | StoreError::Keys(_) => {
            FreezeReason::Keys
        }
        _ => FreezeReason::Storage,
    }
}

fn report(fault: &Fault, what: &'static str) {
    let error: &(dyn std::error::Error + 'static) = fault.error();
    tracing::error!(error, "{what}");
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Between three quarters and five quarters of a pause, so that replicas do not return all at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0_u8];
    // Without randomness all replicas wait equally long.
    let _ = rand::fill(&mut random);
    pause.mul_f64(0.75 + f64::from(random[0]) / 512.0)
}
