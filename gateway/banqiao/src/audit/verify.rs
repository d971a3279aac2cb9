//! `banqiao audit verify`: a whole ledger verified again, from its database or from an exported tile tree, with no gateway.

use std::{
    cmp::min,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use banqiao_directory::CityCode;
use banqiao_ledger::{
    StoreError,
    verify::{FolderVerification, Progress, StateError, Step, Summary, Verification},
};
use banqiao_tlog::note::{MAX_NOTE_BYTES, Verifier};
use indicatif::ProgressBar;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::fetch::{Site, WebArgs};
use crate::{
    directory::{read_either, replace},
    exit::{Exit, Stop},
    text::{bar::entries_bar, clean, json::write_pretty},
};

/// How often the state is saved.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Largest state that is read, in bytes: 64 KiB, and 24 bytes for each boot of a replica.
const MAX_STATE_BYTES: u64 = 64 << 20;

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The ledger's database, as in the gateway's config: sqlite://FILE or postgres://USER@HOST/DATABASE. It is only
    /// read, and a gateway may run meanwhile. A password is better kept in PGPASSFILE than on the command line.
    #[arg(long, value_name = "URL", required_unless_present = "tiles")]
    database: Option<String>,
    /// An exported tile tree (C2SP tlog-tiles) instead: a folder with `checkpoint`, `tile/` and `tile/entries/`, or the
    /// http:// or https:// URL of one.
    #[arg(long, value_name = "FOLDER|URL", conflicts_with = "database")]
    tiles: Option<String>,
    /// The folder of the entries that have left the database (ledger.archive of the gateway), with --database.
    #[arg(long, value_name = "FOLDER", requires = "database")]
    archive: Option<PathBuf>,
    #[command(flatten)]
    web: WebArgs,
    #[command(flatten)]
    keys: KeyArgs,
    /// Keep the state here, so that an interrupted verification can be gone on with by the same command. The file is
    /// removed when there is a verdict.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Whose ledger it is.
#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// The ledger's public key, `<origin>+<id>+<base64>`; several where a key was replaced. Without any key no signature is
    /// verified, and what is proven is only that the ledger agrees with itself.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<Verifier>,
    /// Take origin and keys from this directory, an envelope or TOML. Its own signatures are not verified here: see
    /// `banqiao directory verify`.
    #[arg(long, value_name = "FILE", requires = "city")]
    directory: Option<PathBuf>,
    /// The city in that directory whose ledger it is.
    #[arg(long, value_name = "CODE", requires = "directory")]
    city: Option<CityCode>,
}

impl KeyArgs {
    /// Keys of the command line and of the directory, and the origin by the directory.
    pub(super) fn read(&self) -> Result<(Vec<Verifier>, Option<String>)> {
        let mut keys = self.keys.clone();
        let (Some(path), Some(code)) = (&self.directory, self.city) else {
            return Ok((keys, None));
        };
        let (listed, origin) = listed_keys(path, code)?;
        keys.extend(listed);
        Ok((keys, Some(origin)))
    }
}

/// How a verification ended.
struct Verdict {
    summary: Summary,
    /// Index and words of what is wrong first.
    finding: Option<(u64, String)>,
    keys: usize,
}

impl Verify {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let (keys, origin) = self.keys.read()?;
        let count = keys.len();
        let ended = match (&self.database, &self.tiles) {
            (Some(url), _) => self.database(url, keys, origin).await?,
            (None, Some(url)) if url.starts_with("http://") || url.starts_with("https://") => {
                fetched(self, &Site::new(url, &self.web)?, keys, origin).await?
            }
            (None, Some(folder)) => tiles(self, Path::new(folder), keys, origin).await?,
            (None, None) => return Err(Stop::usage("name --database or --tiles").into()),
        };
        let Some((summary, finding)) = ended else {
            return Ok(Exit::Interrupted);
        };
        let verdict = Verdict {
            summary,
            finding,
            keys: count,
        };
        if self.json {
            verdict.json(out)?;
        } else {
            verdict.words(out)?;
        }
        Ok(match verdict.finding {
            None => Exit::Done,
            Some(_) => Exit::Failed,
        })
    }

    /// `None`: interrupted.
    async fn database(
        &self,
        url: &str,
        keys: Vec<Verifier>,
        origin: Option<String>,
    ) -> Result<Option<Ended>> {
        let archive = self.archive.clone();
        let opened = Verification::open_archived(url, keys, origin, archive).await;
        let mut verification = opened.map_err(unreadable)?;
        if let Some(path) = &self.state
            && let Some(state) = read_state(path)?
        {
            verification
                .resume(&state)
                .map_err(|error| other_state(path, error))?;
        }
        let bar =
            entries_bar(verification.progress().size).with_position(verification.progress().done);
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut interrupted = false;
        let mut saved = Instant::now();
        let ended = loop {
            let step = {
                let step = verification.step();
                tokio::pin!(step);
                // A step is not cancelled: it takes milliseconds, and the state is that behind it.
                loop {
                    tokio::select! {
                        stepped = &mut step => break stepped,
                        _ = &mut interrupt, if !interrupted => interrupted = true,
                    }
                }
            };
            match step {
                Ok(Step::More(progress)) => bar.set_position(progress.done),
                Ok(Step::Sound) => break Some(None),
                Ok(Step::Unsound(finding)) => {
                    break Some(Some((finding.index, chain(&finding.problem))));
                }
                Err(error) => {
                    self.save(|| verification.state())?;
                    return Err(unreadable(error).into());
                }
            }
            if interrupted {
                self.save(|| verification.state())?;
                break None;
            }
            if saved.elapsed() >= SAVE_EVERY {
                self.save(|| verification.state())?;
                saved = Instant::now();
            }
        };
        bar.finish_and_clear();
        let Some(finding) = ended else {
            self.say_interrupted(verification.progress());
            return Ok(None);
        };
        self.forget()?;
        Ok(Some((verification.summary(), finding)))
    }

    fn save(&self, state: impl FnOnce() -> Vec<u8>) -> Result<()> {
        match &self.state {
            Some(path) => replace(path, &state()),
            None => Ok(()),
        }
    }

    /// There is a verdict: nothing is left to go on with.
    fn forget(&self) -> Result<()> {
        let Some(path) = &self.state else {
            return Ok(());
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let text = format!("cannot remove {}", path.display());
                Err(Stop::usage(text).caused_by(error).into())
            }
            _ => Ok(()),
        }
    }

    fn say_interrupted(&self, Progress { done, size }: Progress) {
        let then = match &self.state {
            Some(_) => "the same command goes on from there",
            None => "with --state FILE it could be gone on with",
        };
        // A failing terminal leaves nowhere to say so.
        let _ = io::Write::write_fmt(
            &mut io::stderr(),
            format_args!("interrupted behind {done} of {size} entries; {then}\n"),
        );
    }
}

/// Keys and origin of a city's ledger, as a directory lists them.
pub(crate) fn listed_keys(path: &Path, code: CityCode) -> Result<(Vec<Verifier>, String)> {
    let (directory, _) = read_either(path)?;
    let ledger = directory.city(code).and_then(|city| city.ledger.as_ref());
    let Some(ledger) = ledger else {
        let message = format!("{} lists no ledger of {code}", path.display());
        return Err(Stop::usage(message).into());
    };
    let mut keys = Vec::new();
    for key in &ledger.keys {
        let key: Verifier = key.as_str().parse().map_err(|error| {
            Stop::usage(format!("{}: a ledger's key", path.display())).caused_by(error)
        })?;
        keys.push(key);
    }
    Ok((keys, ledger.origin.clone()))
}

/// What was verified, and the first index that fails with what is wrong.
type Ended = (Summary, Option<(u64, String)>);

/// Whether somebody has asked the program to end.
fn interrupts() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&interrupted);
    // It ends with the program.
    TaskTracker::new().spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            told.store(true, Ordering::Relaxed);
        }
    });
    interrupted
}

/// The verification of a tile tree, and what has to be done between its steps.
struct Stepping<'v> {
    verify: &'v Verify,
    bar: ProgressBar,
    saved: Instant,
    interrupted: Arc<AtomicBool>,
}

/// What follows a step.
enum Then {
    Ended(Option<(u64, String)>),
    GoOn,
    Stop,
}

impl<'v> Stepping<'v> {
    /// Goes on where an earlier one was interrupted.
    fn begin(verify: &'v Verify, verification: &mut FolderVerification) -> Result<Self> {
        if let Some(path) = &verify.state
            && let Some(state) = read_state(path)?
        {
            verification
                .resume(&state)
                .map_err(|error| other_state(path, error))?;
        }
        let Progress { done, size } = verification.progress();
        Ok(Self {
            verify,
            bar: entries_bar(size).with_position(done),
            saved: Instant::now(),
            interrupted: interrupts(),
        })
    }

    fn after(&mut self, step: Step, verification: &FolderVerification) -> Result<Then> {
        match step {
            Step::More(progress) => self.bar.set_position(progress.done),
            Step::Sound => return Ok(Then::Ended(None)),
            Step::Unsound(finding) => {
                return Ok(Then::Ended(Some((finding.index, chain(&finding.problem)))));
            }
        }
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        if interrupted || self.saved.elapsed() >= SAVE_EVERY {
            self.verify.save(|| verification.state())?;
            self.saved = Instant::now();
        }
        Ok(if interrupted { Then::Stop } else { Then::GoOn })
    }

    /// `None`: interrupted.
    fn end(
        self,
        finding: Option<Option<(u64, String)>>,
        verification: &FolderVerification,
    ) -> Result<Option<Ended>> {
        self.bar.finish_and_clear();
        let Some(finding) = finding else {
            self.verify.say_interrupted(verification.progress());
            return Ok(None);
        };
        self.verify.forget()?;
        Ok(Some((verification.summary(), finding)))
    }
}

async fn tiles(
    verify: &Verify,
    folder: &Path,
    keys: Vec<Verifier>,
    origin: Option<String>,
) -> Result<Option<Ended>> {
    let unreadable = |error| Stop::unavailable("the tile tree cannot be read").caused_by(error);
    if !folder.is_dir() {
        let message = format!("--tiles: {} is no folder", folder.display());
        return Err(Stop::usage(message).into());
    }
    let mut verification =
        FolderVerification::open(folder, keys, origin.as_deref()).map_err(unreadable)?;
    let mut stepping = Stepping::begin(verify, &mut verification)?;
    let finding = loop {
        let step = verification.step().map_err(unreadable)?;
        match stepping.after(step, &verification)? {
            Then::Ended(finding) => break Some(finding),
            Then::Stop => break None,
            // Whoever waits for the interrupt gets a turn.
            Then::GoOn => tokio::task::yield_now().await,
        }
    };
    stepping.end(finding, &verification)
}

async fn fetched(
    verify: &Verify,
    site: &Site,
    keys: Vec<Verifier>,
    origin: Option<String>,
) -> Result<Option<Ended>> {
    let unreachable = |error| Stop::unavailable("the tile tree cannot be fetched").caused_by(error);
    let note = site.file("checkpoint", MAX_NOTE_BYTES).await;
    let note = note
        .map_err(unreachable)?
        .ok_or_else(|| Stop::unavailable("there is no tile tree: it has no checkpoint"))?;
    let mut verification = FolderVerification::fetched(&note, keys, origin.as_deref());
    let mut stepping = Stepping::begin(verify, &mut verification)?;
    let mut ahead = None;
    let finding = loop {
        let Progress { done, size } = verification.progress();
        let files = match ahead.take() {
            Some(files) => files,
            None => site.fetch(verification.wanted(done)).await,
        };
        verification.give(files.map_err(unreachable)?);
        let next = min(done.saturating_add(FolderVerification::STEP), size);
        let wanted = verification.wanted(next);
        let working = tokio::task::spawn_blocking(move || {
            let step = verification.step();
            (verification, step)
        });
        // The files of the next step come while this one is verified. Behind the last there are none.
        let fetching = async {
            if done < size {
                Some(site.fetch(wanted).await)
            } else {
                None
            }
        };
        let (stepped, fetched) = tokio::join!(working, fetching);
        let step;
        (verification, step) = stepped?;
        ahead = fetched;
        let step = step.map_err(|error| Stop::unavailable("a file is missing").caused_by(error))?;
        match stepping.after(step, &verification)? {
            Then::Ended(finding) => break Some(finding),
            Then::Stop => break None,
            Then::GoOn => {}
        }
    };
    stepping.end(finding, &verification)
}

/// A state that is not of this verification.
fn other_state(path: &Path, error: StateError) -> Stop {
    let text = format!(
        "cannot go on from {}; remove it to begin anew",
        path.display()
    );
    Stop::usage(text).caused_by(error)
}

/// A URL that is none is the caller's fault; all else is a database that cannot be read.
fn unreadable(error: StoreError) -> Stop {
    match error {
        StoreError::Url => Stop::usage("--database").caused_by(error),
        error => Stop::unavailable("the ledger's database cannot be read").caused_by(error),
    }
}

fn read_state(path: &Path) -> Result<Option<Vec<u8>>> {
    let fault = |error| Stop::usage(format!("cannot read {}", path.display())).caused_by(error);
    let mut state = Vec::new();
    match fs::File::open(path) {
        Ok(file) => {
            let mut file = io::Read::take(file, MAX_STATE_BYTES);
            io::Read::read_to_end(&mut file, &mut state).map_err(fault)?;
            Ok(Some(state))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(error).into()),
    }
}

/// A problem with its causes, in one line.
fn chain(problem: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(problem), |error| error.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    words.join(": ")
}

impl Verdict {
    fn words(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let summary = &self.summary;
        let origin = clean(&summary.origin);
        match &self.finding {
            None => writeln!(out, "valid: {origin}")?,
            Some((index, problem)) => {
                writeln!(out, "invalid: index {index}: {}", clean(problem))?;
                writeln!(out, "verified until that was found, of {origin}:")?;
            }
        }
        let root = hex::encode(summary.head.root);
        writeln!(out, "  entries      {}, root {root}", summary.head.size)?;
        if summary.uninterpreted > 0 {
            let newer = summary.uninterpreted;
            writeln!(
                out,
                "  newer        {newer} of a newer version: verified as leaves, not looked into"
            )?;
        }
        writeln!(
            out,
            "  hash tiles   {} as computed from the entries",
            summary.tiles
        )?;
        writeln!(
            out,
            "  checkpoints  {} with the root of their entries",
            summary.checkpoints
        )?;
        match (self.keys, summary.signatures) {
            (0, _) => writeln!(out, "  signatures   none verified: no key was given")?,
            (1, by) => writeln!(out, "  signatures   {by} by the key")?,
            (keys, by) => writeln!(out, "  signatures   {by} by one of {keys} keys")?,
        }
        if let Some(present) = summary.private {
            let committed = summary.committed;
            writeln!(
                out,
                "  private      {present} parts stored of {committed}; what is missing was erased"
            )?;
        }
        writeln!(
            out,
            "  boots        {}, counters without a hole",
            summary.boots
        )
    }

    fn json(&self, out: &mut dyn io::Write) -> Result<()> {
        let summary = &self.summary;
        let object = json!({
            "valid": self.finding.is_none(),
            "index": self.finding.as_ref().map(|(index, _)| index),
            "problem": self.finding.as_ref().map(|(_, problem)| problem),
            "origin": summary.origin,
            "entries": summary.head.size,
            "root": hex::encode(summary.head.root),
            "tiles": summary.tiles,
            "checkpoints": summary.checkpoints,
            "keys": self.keys,
            "signatures": summary.signatures,
            "private_committed": summary.committed,
            "private_stored": summary.private,
            "boots": summary.boots,
            "uninterpreted": summary.uninterpreted,
        });
        write_pretty(out, &object)?;
        writeln!(out)?;
        Ok(())
    }
}
