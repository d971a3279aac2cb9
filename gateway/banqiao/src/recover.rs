//! `banqiao recover`: what a frozen ledger is frozen for, and the ways out of it (LEDGER.md §3, Epochs).
//!
//! The better way is a better backup. Where there is none, a new epoch: a new ledger under a new origin, which the cities put
//! into the directory with the last checkpoint of the old one, and whose first entry says what was lost.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;
use banqiao_directory::{Clock, Directory, Predecessor, TrustDomain, verify_first};
use banqiao_ledger::{LedgerSettings, Standing, begin_epoch, standing};
use banqiao_proto::ledger::v1::Epoch;
use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::{Note, Verifier},
};

use crate::{
    backup::load,
    config::Config,
    directory::read_envelope,
    exit::{Exit, Stop},
    notekey::{self, NoteKeyUse},
    text::clean,
};

/// Where the gateway keeps the checkpoint that its database contradicts.
const PROOF: &str = "contradicted-checkpoint.note";
/// Where it keeps the directory.
const KEPT_DIRECTORY: &str = "directory.json";
/// Most receipts that the first entry can cite: it has 65,535 bytes.
const MAX_RECEIPTS: usize = 1_500;

/// Arguments of `banqiao recover`.
#[derive(Debug, clap::Args)]
pub struct RecoverCommand {
    /// The gateway's config, as it was before.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Begin a new epoch. The directory must name it first: without this option the steps are printed.
    #[arg(long, requires_all = ["database", "signing_key"])]
    new_epoch: bool,
    /// The database of the new epoch, which must be empty. The old one stays as it is.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The new epoch's key, as `banqiao pki note-key` makes it.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// A later checkpoint of the old ledger than the gateway has found: a signed note, as witnesses hold it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// SHA-256 of the receipts that other cities hold of lost entries: 64 hexadecimal digits a line.
    #[arg(long, value_name = "FILE")]
    receipts: Option<PathBuf>,
}

/// What is known of the old ledger.
struct Old {
    origin: String,
    /// What its database says, where it can be read.
    held: Option<Standing>,
    /// The largest checkpoint with its own signature.
    last: Option<(Checkpoint, String)>,
}

impl RecoverCommand {
    /// Prints the ways out, or begins a new epoch.
    ///
    /// # Errors
    ///
    /// The config or a file is at fault, the directory does not name the epoch, or its database is not empty.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let config = load(&self.config)?;
        let old = self.old(&config).await?;
        match (self.new_epoch, &self.database, &self.signing_key) {
            (true, Some(database), Some(key)) => {
                self.begin(&config, &old, database, key, out).await?;
            }
            _ => explain(&config, &old, out)?,
        }
        Ok(Exit::Done)
    }

    async fn old(&self, config: &Config) -> Result<Old> {
        let ledger = &config.ledger;
        let domain = own_domain(config)?;
        let name = NoteKeyUse::ledger(&domain, ledger.epoch);
        let origin = name.to_string();
        let mut keys = vec![
            notekey::ledger_signer(&ledger.signing_key, &origin)?
                .verifier()
                .clone(),
        ];
        let listed = directory(config)?;
        if let Some(policy) = listed
            .city(config.city)
            .and_then(|city| city.ledger.as_ref())
        {
            keys.extend(
                policy
                    .keys
                    .iter()
                    .filter_map(|key| key.as_str().parse::<Verifier>().ok()),
            );
        }
        let held = standing(ledger.url.expose()).await.ok();
        let mut notes = Vec::new();
        if let Some(path) = &self.checkpoint {
            let note = read(path)?;
            if signed(&note, &origin, &keys).is_none() {
                let text = format!(
                    "{} is no checkpoint of {origin}, signed by its key",
                    path.display()
                );
                return Err(Stop::usage(text).into());
            }
            notes.push(note);
        }
        notes.extend(fs::read_to_string(config.data.join(PROOF)).ok());
        notes.extend(held.as_ref().and_then(|held| held.checkpoint.clone()));
        let known = notes
            .into_iter()
            .filter_map(|note| Some((signed(&note, &origin, &keys)?, note)));
        // Of several of one size the first: what witnesses hold goes before what the database says.
        let last = known.reduce(|best, next| {
            if next.0.size() > best.0.size() {
                next
            } else {
                best
            }
        });
        Ok(Old { origin, held, last })
    }

    async fn begin(
        &self,
        config: &Config,
        old: &Old,
        database: &str,
        key: &Path,
        out: &mut dyn io::Write,
    ) -> Result<()> {
        let domain = own_domain(config)?;
        let number = config.ledger.epoch + 1;
        let origin = NoteKeyUse::ledger(&domain, number).to_string();
        let signer = notekey::ledger_signer(key, &origin)?;
        let Some((last, note)) = &old.last else {
            let text = "no checkpoint of the old ledger is known: name one by --checkpoint";
            return Err(Stop::usage(text).into());
        };
        let listed = directory(config)?;
        let policy = listed
            .city(config.city)
            .and_then(|city| city.ledger.as_ref());
        let expected = Predecessor {
            origin: old.origin.clone(),
            size: last.size(),
            root: last.head().root,
        };
        let verifier = signer.verifier().to_string();
        let named = policy.is_some_and(|policy| {
            policy.origin == origin
                && policy.predecessor.as_ref() == Some(&expected)
                && policy.keys.iter().any(|key| key.as_str() == verifier)
        });
        if !named {
            let text = format!(
                "the directory, version {}, does not name {origin} with this key and its predecessor {expected}: \
                 without its signers' word there is no new epoch",
                listed.version()
            );
            return Err(Stop::usage(text).into());
        }
        let receipts = match &self.receipts {
            Some(path) => receipts(path)?,
            None => BTreeSet::new(),
        };
        let held = old.held.as_ref().map_or(0, |held| held.size);
        let epoch = Epoch {
            epoch: number,
            predecessor: old.origin.clone(),
            checkpoint: note.clone(),
            receipts: receipts.iter().map(|hash| hash.to_vec()).collect(),
            lost: last.size().saturating_sub(held),
        };
        let lost = epoch.lost;
        let settings = LedgerSettings::new(
            database,
            config.city,
            config.replica.clone(),
            config.ledger.keys.clone(),
            signer,
        );
        begin_epoch(settings, Clock::system(), epoch)
            .await
            .map_err(|error| Stop::new(Exit::Failed, "the epoch was not begun").caused_by(error))?;
        writeln!(out, "began {origin}")?;
        writeln!(out, "  follows      {expected}")?;
        writeln!(
            out,
            "  lost         {lost} entries of it, and what came behind"
        )?;
        writeln!(
            out,
            "  cites        {} receipts of other cities",
            receipts.len()
        )?;
        writeln!(
            out,
            "in the config, under [ledger]: epoch = {number}, the new url, signing_key = {:?}, and another anchor if there is one",
            key
        )?;
        writeln!(
            out,
            "then start the gateway: it writes once a witness has agreed. Grants and registered descriptors are entered anew"
        )?;
        Ok(())
    }
}

fn explain(config: &Config, old: &Old, out: &mut dyn io::Write) -> Result<()> {
    let number = config.ledger.epoch + 1;
    let origin = &old.origin;
    writeln!(out, "{origin}")?;
    match &old.held {
        Some(held) => {
            writeln!(out, "  database     {} entries", held.size)?;
            let frozen = held.frozen.as_deref().unwrap_or("no");
            writeln!(out, "  frozen       {}", clean(frozen))?;
        }
        None => writeln!(out, "  database     cannot be read")?,
    }
    let Some((last, _)) = &old.last else {
        writeln!(out, "  signed       no checkpoint is known")?;
        return Ok(());
    };
    let root = hex::encode(last.head().root);
    writeln!(out, "  signed       {} entries, root {root}", last.size())?;
    let domain = own_domain(config)?;
    let next = NoteKeyUse::ledger(&domain, number);
    writeln!(
        out,
        "
Either restore a backup with at least {size} entries into an empty database:
  banqiao restore FOLDER --config {config} --database URL
and name it in the config.

Or, where there is none, begin a new epoch. Nobody can bring back what is lost; everybody will see what it was.
  1. Make its key:
       banqiao pki note-key {next} -o ledger-{number}.key
  2. Propose a directory in which this city's section has
       ledger.origin = \"{next}\"
       ledger.keys = [ the line that step 1 printed ]
       ledger.predecessor = {{ origin = \"{origin}\", size = {size}, root = \"{root}\" }}
     have it signed, and publish it: banqiao publish FILE
  3. Begin it in an empty database:
       banqiao recover --config {config} --new-epoch --database URL --signing-key ledger-{number}.key
  4. Change url, epoch and signing_key in the config as step 3 says, and start the gateway.",
        size = last.size(),
        config = config.file.display(),
    )?;
    Ok(())
}

/// A checkpoint, if it is one of this log with its own signature.
fn signed(note: &str, origin: &str, keys: &[Verifier]) -> Option<Checkpoint> {
    let note = Note::parse(note.as_bytes()).ok()?;
    Checkpoint::open(&note, origin, keys).ok()
}

/// The newer of the kept directory and the one in the file, verified from the pinned first one. A gateway that is frozen
/// cannot take over the one in the file: that would be an entry.
fn directory(config: &Config) -> Result<Directory> {
    let verified = |path: &Path| -> Result<Directory> {
        let fault = || {
            Stop::usage(format!(
                "{} is no directory of this network",
                path.display()
            ))
        };
        let envelope = read_envelope(path)?;
        let directory = verify_first(&envelope, &config.directory.pin);
        Ok(directory.map_err(|error| fault().caused_by(error))?)
    };
    let kept = config.data.join(KEPT_DIRECTORY);
    let file = &config.directory.file;
    match (kept.exists(), file.exists()) {
        (false, _) => verified(file),
        (true, false) => verified(&kept),
        (true, true) => {
            let (kept, file) = (verified(&kept)?, verified(file)?);
            Ok(if kept.version() >= file.version() {
                kept
            } else {
                file
            })
        }
    }
}

fn own_domain(config: &Config) -> Result<TrustDomain> {
    let listed = directory(config)?;
    let city = listed.city(config.city);
    let domain = city.map(|city| city.trust_domain.clone());
    Ok(domain.ok_or_else(|| Stop::usage("the directory does not list this city"))?)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        Stop::usage(format!("cannot read {}", path.display()))
            .caused_by(error)
            .into()
    })
}

/// Hashes, one a line, each once and in rising order.
fn receipts(path: &Path) -> Result<BTreeSet<[u8; 32]>> {
    let mut hashes = BTreeSet::new();
    for (line, number) in read(path)?.lines().zip(1..) {
        let mut hash = [0; 32];
        if hex::decode_to_slice(line.trim(), &mut hash).is_err() {
            let text = format!(
                "{} line {number} is not 64 hexadecimal digits",
                path.display()
            );
            return Err(Stop::usage(text).into());
        }
        hashes.insert(hash);
    }
    if hashes.len() > MAX_RECEIPTS {
        let text = format!("{} has more than {MAX_RECEIPTS} hashes", path.display());
        return Err(Stop::usage(text).into());
    }
    Ok(hashes)
}
