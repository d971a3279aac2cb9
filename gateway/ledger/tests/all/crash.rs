//! The process dies at every step of everything that it writes. What was acknowledged is there, once; the rest
//! verifies.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, Permissions},
    future::pending,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use banqiao_ledger::{
    Append, DocumentKind, Effect, FailureKind, KeptCosignature, LeaseSettings, Ledger,
    LedgerObserver, LedgerSettings, Step, WitnessStep,
    verify::{Step as Verdict, Verification},
};
use banqiao_proto::ledger::v1::Kind;
use banqiao_tlog::hash::{TreeHead, leaf_hash};
use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::bed::{
    Bed, ORIGIN, claiming, closing, entries, opening, private, ready, signer, wait_for,
};

/// Entries of a round: more than one full tile, so that each round has one.
const ROUND: usize = 280;
/// Rounds of a run that nobody ends: after the first it fails once, and goes on.
const ROUNDS: usize = 2;
/// Where the child finds the database, and what it does there.
const CHILD: &str = "BANQIAO_CRASH_URL";
const FOLDER: &str = "BANQIAO_CRASH_FOLDER";
const AT: &str = "BANQIAO_CRASH_STEP";

/// When a step is to be the last. Without a default, so that a new step needs an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The first time.
    AtOnce,
    /// After a round was acknowledged.
    Running,
    /// Never here: this store has no such step.
    Never,
}

const fn due(step: Step, postgres: bool) -> Due {
    match step {
        Step::Opened
        | Step::Verified
        | Step::Planting
        | Step::Planted
        | Step::LeaseTaken
        | Step::Fencing
        | Step::Fenced
        | Step::ClosingOrphans
        | Step::OrphansClosed => Due::AtOnce,
        Step::RowsStored if postgres => Due::Never,
        Step::HeadLocked
        | Step::LookedUp
        | Step::Planned
        | Step::DocumentsStored
        | Step::TilesStored
        | Step::RowsStored
        | Step::Committing
        | Step::Committed
        | Step::Answered
        | Step::Publishing
        | Step::Published
        | Step::SteppingWitness
        | Step::WitnessStepped
        | Step::KeepingCosignature
        | Step::CosignatureKept
        | Step::DroppingArchived
        | Step::ArchivedDropped
        | Step::Renewing
        | Step::Renewed
        | Step::Reopened
        | Step::Resolved
        | Step::Recovered
        | Step::Releasing
        | Step::Released => Due::Running,
    }
}

fn settings(bed_url: &str, keys: PathBuf) -> LedgerSettings {
    LedgerSettings {
        lease: LeaseSettings {
            // With PostgreSQL the calls of a dead boot are closed when it has run out.
            ttl: Duration::from_millis(1_500),
            renew: Duration::from_millis(50),
        },
        summary_interval: Duration::from_secs(3_600),
        ..LedgerSettings::new(
            bed_url,
            "370200".parse().unwrap(),
            "crashing",
            keys,
            signer(ORIGIN, 1),
        )
    }
}

/// A round's entries: calls that stay open, calls that end, private parts, claims, and a document.
fn round() -> Vec<(Uuid, Append)> {
    let mut appends: Vec<(Uuid, Append)> = (0..ROUND - 1)
        .map(|number| {
            let exchange = Uuid::now_v7();
            let append = match number % 3 {
                0 => opening(exchange),
                1 => opening(exchange).with_private(private()),
                _ => claiming(exchange),
            };
            (exchange, append)
        })
        .collect();
    let exchange = Uuid::now_v7();
    let put = Effect::PutDocument {
        kind: DocumentKind::Grant,
        key: "one".into(),
        bytes: exchange.as_bytes().to_vec(),
    };
    appends.push((exchange, claiming(exchange).with(put)));
    appends
}

/// What a process does until it dies, and in the same way in one that does not.
async fn work(
    ledger: &Ledger,
    rounds: usize,
    acknowledge: impl Fn(&str, Uuid, u64),
    harm: impl AsyncFn(usize),
) {
    let appender = ledger.appender();
    for number in 0..rounds {
        let waiting: Vec<_> = round()
            .into_iter()
            .map(|(exchange, append)| (exchange, appender.append(append)))
            .collect();
        let mut open = Vec::new();
        for (exchange, waiting) in waiting {
            if let Ok(appended) = waiting.await {
                acknowledge("open", exchange, appended.index);
                open.push(exchange);
            }
        }
        // Some calls end; those that are still open when the process dies are closed by the next.
        for exchange in open.into_iter().step_by(6).take(20) {
            if let Ok(appended) = appender.append_queued(closing(exchange)).await {
                acknowledge("close", exchange, appended.index);
            }
        }
        // Refused while the ledger cannot be written.
        let size = ledger.size();
        let _ = ledger
            .keep_cosignature(KeptCosignature {
                size,
                witness: "yantai.jiaodong/witness".into(),
                time_s: 1,
                line: "a line".into(),
            })
            .await;
        let _ = ledger
            .step_witness(WitnessStep {
                origin: format!("{number}.{}", Uuid::now_v7()),
                previous: None,
                next: TreeHead {
                    size: 1,
                    root: leaf_hash(b"a"),
                },
                note: "a note".into(),
            })
            .await;
        // There is nothing to drop, which takes the same steps.
        let _ = ledger.drop_archived().await;
        harm(number).await;
        if number + 1 < rounds {
            // Once a second: before it, the lease was renewed.
            let seen = *ledger.published().borrow();
            let mut published = ledger.published();
            let newer = published.wait_for(|times| *times > seen);
            let _ = tokio::time::timeout(Duration::from_secs(20), newer).await;
        }
    }
}

/// Makes the database unusable for a moment.
async fn harm(url: &str, ledger: &Ledger) {
    let mut states = ledger.state();
    states.mark_unchanged();
    if let Some(file) = url.strip_prefix("sqlite://") {
        fs::set_permissions(file, Permissions::from_mode(0o400)).unwrap();
        states.changed().await.unwrap();
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    } else {
        terminate_in_a_thread(url);
        // It may be back already, and stands as changed all the same.
        states.changed().await.unwrap();
    }
    ready(ledger).await;
}

/// Ends the server's process for the connection that writes, and waits until it is gone.
async fn terminate(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let ended: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'banqiao-ledger'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(ended.into_iter().all(|ended| ended));
    connection.close().await.unwrap();
}

/// From the thread that commits, which has a runtime of its own and must stand still.
fn terminate_in_a_thread(url: &str) {
    let url = url.to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(terminate(&url));
    })
    .join()
    .unwrap();
}

/// Ends the process at a step, as a power cut would.
struct Dies {
    at: Option<Step>,
    postgres: bool,
    acknowledged: Arc<AtomicBool>,
}

impl LedgerObserver for Dies {
    fn committed(&self, _: usize, _: usize, _: Duration) {}
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, _: FailureKind) {}
    fn reached(&self, step: Step) {
        if self.at != Some(step) {
            return;
        }
        let now = match due(step, self.postgres) {
            Due::AtOnce => true,
            Due::Running => self.acknowledged.load(Ordering::SeqCst),
            Due::Never => false,
        };
        if now {
            let id = std::process::id().to_string();
            let _ = Command::new("kill").args(["-KILL", &id]).status();
            thread::sleep(Duration::from_secs(60));
        }
    }
}

/// The process that is killed: this program again. Without a database to work on there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_process_that_dies() {
    let Ok(url) = env::var(CHILD) else { return };
    let folder = PathBuf::from(env::var(FOLDER).unwrap());
    let name = env::var(AT).unwrap();
    let at = Step::ALL.iter().copied().find(|step| step.name() == name);
    let acknowledged = Arc::new(AtomicBool::new(false));
    let observer = Arc::new(Dies {
        at,
        postgres: url.starts_with("postgres"),
        acknowledged: Arc::clone(&acknowledged),
    });
    let clock = banqiao_directory::Clock::system();
    let ledger = Ledger::open(settings(&url, folder.join("keys")), clock, observer)
        .await
        .unwrap();
    let acknowledge = |what: &str, exchange: Uuid, index: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {what} {exchange} {index}").unwrap();
        out.flush().unwrap();
    };
    let rounds = if at.is_some() { ROUNDS } else { 1 };
    work(&ledger, rounds, acknowledge, async |round| {
        acknowledged.store(true, Ordering::SeqCst);
        if rounds > 1 && round == 0 {
            harm(&url, &ledger).await;
        }
    })
    .await;
    if let Some(step) = at {
        if due(step, url.starts_with("postgres")) == Due::AtOnce {
            // With PostgreSQL the lease of the one before has to run out first: the end comes within it, or never.
            let _ = tokio::time::timeout(Duration::from_secs(20), pending::<()>()).await;
        }
        ledger.close().await;
        println!("ended");
    } else {
        // As abruptly, but with calls open and nothing in flight.
        std::process::abort();
    }
}

/// What a child was told: exchange and kind of each acknowledged entry, and its index.
type Acknowledged = BTreeMap<(String, Uuid), u64>;

/// Runs a child until its end; whether it was killed, and what it was told before.
async fn child(url: &str, folder: &Path, at: Option<Step>) -> (bool, Acknowledged, String) {
    let output = tokio::process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_dies", "--nocapture"])
        .env(CHILD, url)
        .env(FOLDER, folder)
        .env(AT, at.map_or("", Step::name))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = said
        .lines()
        .filter_map(|line| line.split_once("ack ").map(|(_, rest)| rest))
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            let kind = word().to_owned();
            let exchange = word().parse().unwrap();
            ((kind, exchange), word().parse().unwrap())
        })
        .collect();
    let all = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let killed = output.status.code().is_none();
    (killed, told, all)
}

/// The whole ledger is sound, and holds every acknowledged entry at its index, once.
async fn holds(url: &str, ledger: &Ledger, told: &Acknowledged, when: &str) {
    let mut verification =
        Verification::open(url, vec![signer(ORIGIN, 1).verifier().clone()], None)
            .await
            .unwrap();
    loop {
        match verification.step().await.unwrap() {
            Verdict::More(_) => {}
            Verdict::Sound => break,
            Verdict::Unsound(finding) => panic!("{when}: {finding:?}"),
        }
    }
    let entries = entries(ledger).await;
    let mut uids = BTreeSet::new();
    let mut seen: BTreeMap<(i32, Vec<u8>), Vec<usize>> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        assert!(uids.insert(entry.uid.clone()), "{when}: {index} twice");
        let key = (entry.kind, entry.exchange.clone());
        seen.entry(key).or_default().push(index);
    }
    for ((what, exchange), index) in told {
        let kind = i32::from(if what == "open" {
            Kind::Open
        } else {
            Kind::Close
        });
        let at = seen.get(&(kind, exchange.as_bytes().to_vec()));
        let expected = vec![usize::try_from(*index).unwrap()];
        assert_eq!(at, Some(&expected), "{when}: {what} {exchange}");
    }
    // Also what nobody was told of is there at most once.
    let twice: Vec<_> = seen
        .iter()
        .filter(|((_, exchange), indices)| !exchange.is_empty() && indices.len() > 1)
        .collect();
    assert!(twice.is_empty(), "{when}: {twice:?}");
}

/// Removes the tiles, so that the next start has to write them.
async fn without_tiles(bed: &Bed) {
    let drops: &[&'static str] = if bed.is_postgres() {
        &["DROP TRIGGER tile_is_final ON tile"]
    } else {
        &[
            "DROP TRIGGER tile_is_final_1",
            "DROP TRIGGER tile_is_final_2",
        ]
    };
    for sql in drops {
        bed.execute(sql).await.unwrap();
    }
    assert!(bed.execute("DELETE FROM tile").await.unwrap() > 0);
}

async fn killed_at(bed: Bed, step: Step) {
    let name = step.name();
    let folder = bed.folder.path();
    let (killed, mut told, output) = child(&bed.url, folder, None).await;
    assert!(killed && told.len() >= ROUND, "{name}: {output}");
    if matches!(step, Step::Planting | Step::Planted) {
        without_tiles(&bed).await;
    }
    let (killed, more, output) = child(&bed.url, folder, Some(step)).await;
    assert!(killed, "{name} was not reached: {output}");
    if due(step, bed.is_postgres()) == Due::Running {
        assert!(more.len() >= ROUND, "{name}: {output}");
    }
    told.extend(more);
    if !bed.is_postgres() {
        // It may have died while the file could not be written.
        fs::set_permissions(bed.file(), Permissions::from_mode(0o600)).unwrap();
    }
    let keys = folder.join("keys");
    let clock = banqiao_directory::Clock::system();
    // A process that has just died may still hold the file's lock for a moment.
    let ledger = wait_for("the restart", || async {
        let settings = settings(&bed.url, keys.clone());
        let opened = Ledger::open(settings, clock.clone(), Arc::new(())).await;
        match opened {
            Ok(ledger) => Some(ledger),
            Err(error) if crate::bed::chain(&error).contains("another process") => None,
            Err(error) => panic!("{name}: {}", crate::bed::chain(&error)),
        }
    })
    .await;
    let appender = ledger.appender();
    for (exchange, append) in round() {
        let appended = appender.append(append).await.unwrap();
        told.insert(("open".into(), exchange), appended.index);
    }
    // Nothing that a dead boot left open stays open.
    wait_for("the dead boots' calls to be closed", || async {
        let open = bed
            .count(
                "SELECT count(*) FROM in_flight i WHERE NOT EXISTS (SELECT 1 FROM lease l WHERE \
                 l.ledger = i.ledger AND l.boot = i.boot)",
            )
            .await;
        let boots = bed.count("SELECT count(*) FROM lease").await;
        (open == 0 && boots == 1).then_some(())
    })
    .await;
    holds(&bed.url, &ledger, &told, name).await;
    ledger.close().await;
}

/// Each step that a store has, three at a time.
fn at_every_step<F: Future<Output = ()>>(bed: fn() -> Bed, one: fn(Bed, Step) -> F) {
    let postgres = bed().is_postgres();
    let steps: Vec<Step> = Step::ALL
        .iter()
        .copied()
        .filter(|step| due(*step, postgres) != Due::Never)
        .collect();
    assert_eq!(steps.len(), Step::ALL.len() - usize::from(postgres));
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                while let Some(step) = steps.get(next.fetch_add(1, Ordering::SeqCst)) {
                    runtime.block_on(one(bed(), *step));
                }
            });
        }
    });
}

#[test]
fn sqlite_holds_what_it_acknowledged_wherever_the_process_dies() {
    at_every_step(Bed::sqlite, killed_at);
}

#[test]
fn postgres_holds_what_it_acknowledged_wherever_the_process_dies() {
    at_every_step(Bed::postgres, killed_at);
}

/// Cuts the ledger off its server at a step, once.
struct Cuts {
    url: String,
    at: Step,
    armed: AtomicBool,
    cut: AtomicUsize,
    failed: Mutex<Vec<FailureKind>>,
}

impl LedgerObserver for Cuts {
    fn committed(&self, _: usize, _: usize, _: Duration) {}
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, kind: FailureKind) {
        self.failed.lock().push(kind);
    }
    fn reached(&self, step: Step) {
        if step == self.at && self.armed.swap(false, Ordering::SeqCst) {
            self.cut.fetch_add(1, Ordering::SeqCst);
            terminate_in_a_thread(&self.url);
        }
    }
}

async fn cut_off_at(bed: Bed, step: Step) {
    let name = step.name();
    // Calls that a dead boot left open, so that there is something to close.
    let (killed, told, output) = child(&bed.url, bed.folder.path(), None).await;
    assert!(killed, "{name}: {output}");
    let early = due(step, true) == Due::AtOnce;
    let observer = Arc::new(Cuts {
        url: bed.url.clone(),
        at: step,
        armed: AtomicBool::new(early),
        cut: AtomicUsize::new(0),
        failed: Mutex::default(),
    });
    let told = Mutex::new(told);
    let settings = settings(&bed.url, bed.folder.path().join("keys"));
    let clock = banqiao_directory::Clock::system();
    let open = || {
        Ledger::open(
            settings.clone(),
            clock.clone(),
            Arc::<Cuts>::clone(&observer),
        )
    };
    // Cut off while it opens it does not open; the next time it does.
    let ledger = match open().await {
        Ok(ledger) => ledger,
        Err(_) if early => open().await.unwrap(),
        Err(error) => panic!("{name}: {}", crate::bed::chain(&error)),
    };
    let acknowledge = |what: &str, exchange: Uuid, index: u64| {
        told.lock().insert((what.into(), exchange), index);
    };
    let first = AtomicBool::new(!early);
    work(&ledger, ROUNDS, acknowledge, async |_| {
        ready(&ledger).await;
        if first.swap(false, Ordering::SeqCst) {
            observer.armed.store(true, Ordering::SeqCst);
            // These steps need a failure before they come.
            if matches!(step, Step::Reopened | Step::Resolved | Step::Recovered) {
                harm(&bed.url, &ledger).await;
            }
        }
    })
    .await;
    if matches!(step, Step::Releasing | Step::Released) {
        ledger.close().await;
        assert_eq!(observer.cut.load(Ordering::SeqCst), 1, "{name}");
        let ledger = open().await.unwrap();
        holds(&bed.url, &ledger, &told.into_inner(), name).await;
        return ledger.close().await;
    }
    wait_for("the cut", || async {
        (observer.cut.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    ready(&ledger).await;
    let exchange = Uuid::now_v7();
    // Queued: it may meet the cut that nothing has met yet.
    let appended = ledger.appender().append_queued(opening(exchange)).await;
    let appended = appended.unwrap();
    acknowledge("open", exchange, appended.index);
    holds(&bed.url, &ledger, &told.into_inner(), name).await;
    let unknown = observer
        .failed
        .lock()
        .contains(&FailureKind::OutcomeUnknown);
    assert_eq!(unknown, step == Step::Committing, "{name}");
    ledger.close().await;
}

#[test]
fn postgres_holds_what_it_acknowledged_wherever_the_server_goes_away() {
    at_every_step(Bed::postgres, cut_off_at);
}

#[test]
fn steps_have_names_of_their_own() {
    let names: BTreeSet<&str> = Step::ALL.iter().map(|step| step.name()).collect();
    assert_eq!(names.len(), Step::ALL.len());
    assert!(names.iter().all(|name| name.starts_with("step:")));
}
