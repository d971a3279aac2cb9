//! The handle of a city's ledger.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use banqiao_directory::{CityCode, Clock, SpiffeId};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{self as proto, ClockSource},
};
use banqiao_tlog::note::{Signer, Verifier};
use parking_lot::RwLock;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    append::{Document, DocumentKind},
    appender::Appender,
    batcher,
    index::{self, GroupSize, Level},
    keyring::{Keyring, KeyringError},
    prepare::Preparer,
    queue::{Command, Queue},
    reader::{Reader, Recent},
    reconcile::Turn,
    step::Step,
    store::{Reads, StoreError, StoreUrl},
    tally::Tally,
    witness::{Contradiction, Credential, KeptCosignature, KeptLinks, WitnessStep},
};

/// Appends that may wait at once. At 20,000 entries a second this is a fifth of a second.
pub const DEFAULT_QUEUE: usize = 4_096;
/// Room beyond the queue for entries that must not be refused: one for each call that may be open.
pub const DEFAULT_RESERVE: usize = 65_536;
/// How long an old key may sign beside a new one: enough to restart every replica, and to renew a directory.
pub const DEFAULT_KEY_OVERLAP: Duration = Duration::from_secs(7 * 86_400);
/// Time between SUMMARY entries.
pub const DEFAULT_SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// 2^this entries form a group whose search tokens are looked up at once: 262,144. A search that finds nothing looks once
/// into each group, and at most 64 times behind the last one.
pub const DEFAULT_TOKEN_GROUP: u8 = 18;

/// How long a replica counts as alive without a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Life of a lease. After it, any replica closes the calls that were open.
    pub ttl: Duration,
    /// Time between renewals.
    pub renew: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            renew: Duration::from_secs(10),
        }
    }
}

/// Settings of a ledger.
#[derive(Clone)]
pub struct LedgerSettings {
    /// `sqlite://path/to/file.db`, or `postgres://…` (RFC 3986; parameters as libpq has them).
    pub url: String,
    /// The city whose ledger it is.
    pub city: CityCode,
    /// Name of this replica, unique among the replicas of the city.
    pub replica: String,
    /// Folder of the monthly keys, outside the database, shared by the replicas.
    pub keys: PathBuf,
    /// The key that signs checkpoints; its name is the log's origin. Replicas share it.
    pub signer: Arc<Signer>,
    /// The key that signed before `signer`, while it is being replaced: a KEY entry says so then.
    pub previous_signer: Option<Arc<Signer>>,
    /// How long the previous key may sign beside the new one, from the KEY entry on.
    pub key_overlap: Duration,
    /// Appends that may wait at once before they are refused.
    pub queue: usize,
    /// Room beyond `queue` for entries that must not be refused.
    pub reserve: usize,
    /// The lease.
    pub lease: LeaseSettings,
    /// Time between SUMMARY entries.
    pub summary_interval: Duration,
    /// Where the machine's time comes from, and its known error bound.
    pub clock: proto::Clock,
    /// The PostgreSQL server may fail over to a standby: then it is refused unless standbys are synchronous.
    pub failover: bool,
    /// 2^this entries are a group of the search index, see [`DEFAULT_TOKEN_GROUP`]: 15 to 21. After a change the index is
    /// made for the new groups.
    pub token_group: u8,
    /// A file on another disk than an SQLite database, where the newest checkpoint stands within a second. A database
    /// that holds less was rolled back. PostgreSQL has none.
    pub anchor: Option<PathBuf>,
    /// The folder that old entries are moved to, shared by the replicas.
    pub archive: Option<PathBuf>,
    /// Begin read-only, until [`Ledger::confirm`]; and begin frozen, rather than not at all, with a database that was
    /// rolled back.
    pub hold: bool,
}

impl LedgerSettings {
    /// Settings with defaults for everything that has one.
    pub fn new(
        url: impl Into<String>,
        city: CityCode,
        replica: impl Into<String>,
        keys: PathBuf,
        signer: Arc<Signer>,
    ) -> Self {
        Self {
            url: url.into(),
            city,
            replica: replica.into(),
            keys,
            signer,
            previous_signer: None,
            key_overlap: DEFAULT_KEY_OVERLAP,
            queue: DEFAULT_QUEUE,
            reserve: DEFAULT_RESERVE,
            lease: LeaseSettings::default(),
            summary_interval: DEFAULT_SUMMARY_INTERVAL,
            clock: proto::Clock {
                source: ClockSource::System.into(),
                error_bound_us: 0,
            },
            failover: false,
            token_group: DEFAULT_TOKEN_GROUP,
            anchor: None,
            archive: None,
            hold: false,
        }
    }
}

/// Never shows the URL, which may hold a password.
impl fmt::Debug for LedgerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerSettings")
            .field("city", &self.city)
            .field("replica", &self.replica)
            .field("keys", &self.keys)
            .field("queue", &self.queue)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// Whether the ledger can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerState {
    /// It was closed.
    Closed,
    /// The database does not answer; the ledger connects again, with growing pauses.
    Failing,
    /// Read-only. The storage is opened and verified again, with growing pauses.
    Frozen(FreezeReason),
    /// Another replica took this one for dead and closes its calls. [`Ledger::reopen`] begins a new boot.
    LeaseLost,
    /// It can.
    Ready,
}

/// Why a ledger is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FreezeReason {
    /// The head in the database is marked as frozen.
    Flagged,
    /// Another replica uses a different key for the month, or the month's key is gone.
    Keys,
    /// The database holds less than was committed, or something else: `LEDGER_ROLLBACK`.
    Rollback,
    /// Writing failed: disk full, read-only, input/output error, or corrupt.
    Storage,
    /// Nobody has confirmed yet that this is the newest state of the ledger: see [`LedgerSettings::hold`].
    Unconfirmed,
}

/// What the ledger tells its surroundings. Called from the thread that commits: it must return at once.
pub trait LedgerObserver: Send + Sync + 'static {
    /// A batch was committed.
    fn committed(&self, entries: usize, bytes: usize, took: Duration);
    /// So many appends are waiting.
    fn queue_depth(&self, depth: usize);
    /// Something failed.
    fn failed(&self, kind: FailureKind);
    /// A step of whatever is written was reached. Crash tests end the process here; nobody else needs it.
    fn reached(&self, step: Step) {
        let _ = step;
    }
}

/// An observer that does not care.
impl LedgerObserver for () {
    fn committed(&self, _: usize, _: usize, _: Duration) {}
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, _: FailureKind) {}
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The database does not answer.
    Connection,
    /// The ledger was frozen.
    Frozen,
    /// The lease was lost.
    LeaseLost,
    /// The outcome of a COMMIT was not known at first.
    OutcomeUnknown,
    /// A lock or statement timeout, a deadlock or a serialisation failure; tried again.
    Transient,
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A key file is missing, open to others or malformed.
    #[error("the keys of the ledger cannot be used")]
    Keys(#[source] KeyringError),
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// The thread that commits could not be started.
    #[error("the ledger's thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The database cannot be written now.
    #[error("the ledger cannot be written")]
    Unavailable,
    /// The database cannot be used.
    #[error("the ledger's database cannot be used")]
    Store(#[source] StoreError),
}

/// A city's ledger. Clones are handles of the same one; its batcher runs on a thread of its own.
///
/// When the last handle and appender is dropped without [`Ledger::close`], the thread ends as in a crash: what is not
/// committed is lost, and the lease runs out.
#[derive(Clone)]
pub struct Ledger(Arc<Handle>);

pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.queue.abandon();
    }
}

/// What the handle, the appenders and the batcher share.
pub(crate) struct Core {
    pub(crate) queue: Queue,
    pub(crate) state: watch::Sender<LedgerState>,
    pub(crate) size: watch::Sender<u64>,
    /// Entries that the search index is known to cover.
    pub(crate) indexed: watch::Sender<u64>,
    /// The times of what it does not cover.
    pub(crate) recent: Recent,
    /// The level of the search index's groups.
    pub(crate) group: Level,
    /// Counts how often a checkpoint was published.
    pub(crate) published: watch::Sender<u64>,
    pub(crate) boot: RwLock<Uuid>,
    /// Somebody else has to agree before it is written: it is empty, or was restored.
    pub(crate) doubted: AtomicBool,
    pub(crate) preparer: Preparer,
    pub(crate) signer: Arc<Signer>,
    pub(crate) tally: Tally,
    pub(crate) gaps: Tally,
    pub(crate) reads: Reads,
    pub(crate) observer: Arc<dyn LedgerObserver>,
    pub(crate) releasers: TaskTracker,
}

impl Ledger {
    /// Opens the ledger: makes or migrates the tables, verifies what is there, takes a lease under a new boot id,
    /// and starts the thread that commits.
    ///
    /// # Errors
    ///
    /// When the database or the keys cannot be used, do not pass the start checks, belong to another city, or, with
    /// SQLite, belong to another process.
    pub async fn open(
        settings: LedgerSettings,
        clock: Clock,
        observer: Arc<dyn LedgerObserver>,
    ) -> Result<Self, LedgerError> {
        let keyring =
            Keyring::open(settings.keys.clone(), settings.city).map_err(LedgerError::Keys)?;
        let url = StoreUrl::parse(&settings.url).map_err(LedgerError::Store)?;
        let core = Arc::new(Core {
            queue: Queue::new(settings.queue, settings.reserve),
            state: watch::Sender::new(LedgerState::Failing),
            size: watch::Sender::new(0),
            indexed: watch::Sender::new(0),
            recent: Recent::default(),
            group: Level::Group(GroupSize::nearest(settings.token_group)),
            published: watch::Sender::new(0),
            boot: RwLock::new(Uuid::nil()),
            doubted: AtomicBool::new(false),
            preparer: Preparer {
                clock,
                quality: settings.clock,
                replica: settings.replica.clone(),
                keyring,
            },
            signer: Arc::clone(&settings.signer),
            tally: Tally::new(false),
            gaps: Tally::new(true),
            reads: Reads::new(&url, settings.archive.clone()),
            observer,
            releasers: TaskTracker::new(),
        });
        batcher::start(Arc::clone(&core), url, settings).await?;
        index::start(Arc::clone(&core))?;
        Ok(Self(Arc::new(Handle { core })))
    }

    /// An appender for the runtime that this is called in: its callers are woken as a group.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.0))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Whether entries can be appended now.
    pub fn writable(&self) -> bool {
        *self.0.core.state.borrow() == LedgerState::Ready
    }

    /// The state, and each change of it.
    pub fn state(&self) -> watch::Receiver<LedgerState> {
        self.0.core.state.subscribe()
    }

    /// Entries that are known to be committed.
    pub fn size(&self) -> u64 {
        *self.0.core.size.borrow()
    }

    /// Entries that the search index covers, and each change of it: a multiple of 4,096. The index follows the commits by
    /// itself, and what it does not cover yet is found all the same, only slower.
    pub fn indexed(&self) -> watch::Receiver<u64> {
        self.0.core.indexed.subscribe()
    }

    /// The key that checkpoints of this log are verified with, named by the log's origin.
    pub fn verifier(&self) -> &Verifier {
        self.0.core.signer.verifier()
    }

    /// The known error bound of this machine's clock in microseconds; 0: unknown.
    pub fn clock_error_us(&self) -> u64 {
        self.0.core.preparer.quality.error_bound_us
    }

    /// Changes whenever this replica has published a checkpoint.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.0.core.published.subscribe()
    }

    /// The id of this boot.
    pub fn boot(&self) -> Uuid {
        *self.0.core.boot.read()
    }

    /// Begins a new boot with a new lease, after the old one was lost and its calls were ended.
    ///
    /// # Errors
    ///
    /// When the ledger is closed or the database cannot be written.
    pub async fn reopen(&self) -> Result<Uuid, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0.core.queue.command(Command::Reopen(answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Whether the database alone says too little to be written to: it is empty, or was restored from a backup, or
    /// begins an epoch. Then a witness has to agree (LEDGER.md §3).
    pub fn doubted(&self) -> bool {
        self.0.core.doubted.load(Ordering::Relaxed)
    }

    /// Ends the read-only beginning of [`LedgerSettings::hold`]: nobody holds a newer state of this ledger.
    ///
    /// # Errors
    ///
    /// When the ledger is closed, or the database cannot be written.
    pub async fn confirm(&self) -> Result<(), LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0.core.queue.command(Command::Confirm(answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Freezes the ledger for good: the database states less than this city has signed, or something else. The reason is
    /// kept in the database, so that also a restart finds it.
    ///
    /// # Errors
    ///
    /// When the ledger is closed, or the database cannot be written.
    pub async fn freeze(&self, reason: String) -> Result<(), LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0.core.queue.command(Command::Freeze(reason, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Moves our witness's memory of another log on, durably. `false`: it is not any more what the step begins with.
    ///
    /// # Errors
    ///
    /// When the database cannot be written: then nothing may be cosigned.
    pub async fn step_witness(&self, step: WitnessStep) -> Result<bool, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0
            .core
            .queue
            .command(Command::StepWitness(step, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Keeps a witness's signature under one of our checkpoints. The caller has verified it.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub async fn keep_cosignature(&self, kept: KeptCosignature) -> Result<(), LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0
            .core
            .queue
            .command(Command::KeepCosignature(kept, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Keeps what links receipts of another log to a checkpoint that its witnesses saw. The caller has verified it.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub async fn keep_links(&self, kept: KeptLinks) -> Result<(), LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0.core.queue.command(Command::KeepLinks(kept, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Keeps a certificate or CRL for evidence of the calls that rest on it.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub async fn keep_credential(&self, kept: Credential) -> Result<(), LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0
            .core
            .queue
            .command(Command::KeepCredential(kept, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Keeps two checkpoints of one log that contradict each other. The caller has verified their signatures.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub async fn keep_contradiction(&self, kept: Contradiction) -> Result<(), LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0
            .core
            .queue
            .command(Command::KeepContradiction(kept, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Takes a turn at comparing with another city, or renews the one that this boot has. Returns up to where it is
    /// compared, in milliseconds since 1970. `None`: another replica has the turn.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub async fn claim_turn(&self, turn: Turn) -> Result<Option<i64>, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.0.core.queue.command(Command::ClaimTurn(turn, answer));
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Counts a refusal that has no entry of its own into the next SUMMARY entry.
    pub fn count(&self, reason: Reason, client: Option<&SpiffeId>) {
        let core = &self.0.core;
        core.tally
            .count(reason, client, core.preparer.clock.now_us());
    }

    /// Counts a refusal while the ledger cannot be written. A SUMMARY entry marked as a gap follows on recovery.
    pub fn count_gap(&self, reason: Reason, client: Option<&SpiffeId>) {
        let core = &self.0.core;
        core.gaps
            .count(reason, client, core.preparer.clock.now_us());
    }

    /// Every document of a kind by key, and the revision that they are of.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn documents(&self, kind: DocumentKind) -> Result<(u64, Vec<Document>), StoreError> {
        self.0.core.reads.documents(kind).await
    }

    /// The revision of the documents: it grows with each change of one.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn revision(&self) -> Result<u64, StoreError> {
        self.0.core.reads.revision().await
    }

    /// Reads entries, through connections of its own.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.0.core))
    }

    /// Refuses further appends, commits what is queued with the last counts, releases the lease and ends the thread.
    ///
    /// Calls should be closed by then: those that are not are left to the lease, which ends now.
    pub async fn close(self) {
        let (answer, receiver) = oneshot::channel();
        self.0.core.queue.close();
        self.0.core.queue.command(Command::Close(answer));
        // The thread may have ended already.
        let _ = receiver.await;
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("state", &*self.0.core.state.borrow())
            .finish_non_exhaustive()
    }
}
