//! `banqiao backup` and `banqiao restore`: a copy of a ledger, and the way back (LEDGER.md §3).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Result;
use banqiao_directory::{CityCode, Clock};
use banqiao_ledger::backup::{self, BackupError, Manifest, Progress};
use banqiao_tlog::note::Verifier;
use indicatif::ProgressBar;

use crate::{
    audit::listed_keys,
    config::Config,
    exit::{Exit, Stop},
    moment,
    text::{bar::bar, clean},
};

/// Arguments of `banqiao backup`.
#[derive(Debug, clap::Args)]
pub struct BackupCommand {
    /// The gateway's config, whose database is copied.
    #[arg(long, value_name = "FILE", required_unless_present = "database")]
    config: Option<PathBuf>,
    /// The database instead: sqlite://FILE or postgres://USER@HOST/DATABASE. It is only read, and gateways may run and
    /// write meanwhile. A password is better kept in PGPASSFILE than on the command line.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    database: Option<String>,
    /// The folder to write, which must not exist. It has its name only once it is whole and verified.
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Copy the month keys of private parts too. Keep them elsewhere: whoever has both reads every private part, and an
    /// erased month is erased only when every copy of its key is.
    #[arg(long, requires = "config")]
    with_keys: bool,
}

/// Arguments of `banqiao restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreCommand {
    /// The backup's folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The database to restore into, which must be empty.
    #[arg(long, value_name = "URL")]
    database: String,
    /// The gateway's config: city and keys must be its own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ledger's public key, `<origin>+<id>+<base64>`; several where a key was replaced. Without any key no signature is
    /// verified.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<Verifier>,
    /// The folder of the entries that had left the database, where some had. Default: the config's ledger.archive.
    #[arg(long, value_name = "FOLDER")]
    archive: Option<PathBuf>,
    /// The city that the backup must be of.
    #[arg(long, value_name = "CODE", conflicts_with = "config")]
    city: Option<CityCode>,
}

impl BackupCommand {
    /// Copies the ledger.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or the folder not written.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let config = self.config.as_deref().map(load).transpose()?;
        let url = match (&self.database, &config) {
            (Some(url), _) => url.as_str(),
            (None, Some(config)) => config.ledger.url.expose(),
            (None, None) => return Err(Stop::usage("name --config or --database").into()),
        };
        let bar = Bar::default();
        let now_us = Clock::system().now_us();
        let written = backup::write(url, &self.output, now_us, &mut |how| bar.show(how)).await;
        bar.0.finish_and_clear();
        let manifest = written.map_err(stop)?;
        let folder = self.output.display();
        writeln!(out, "wrote and verified {folder}")?;
        describe(&manifest, out)?;
        match (self.with_keys, &config) {
            (true, Some(config)) => {
                copy_keys(&config.ledger.keys, &self.output.join("month-keys"))?;
                writeln!(
                    out,
                    "WARNING: {folder}/month-keys opens every private part in this backup: keep the two apart"
                )?;
            }
            _ => writeln!(
                out,
                "the month keys of private parts are not in it: copy their folder to another place"
            )?,
        }
        Ok(Exit::Done)
    }
}

impl RestoreCommand {
    /// Restores a backup into an empty database.
    ///
    /// # Errors
    ///
    /// The backup is damaged or of another city, the database is not empty or cannot be written, or what is restored does not
    /// verify.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let config = self.config.as_deref().map(load).transpose()?;
        let city = self
            .city
            .or_else(|| config.as_ref().map(|config| config.city));
        let mut keys = self.keys.clone();
        if let Some(config) = &config {
            let (listed, _) = listed_keys(&config.directory.file, config.city)?;
            keys.extend(listed);
        }
        let signed = !keys.is_empty();
        let configured = config.as_ref().and_then(|it| it.ledger.archive.clone());
        let archive = self.archive.clone().or(configured);
        let bar = Bar::default();
        let database = &self.database;
        let mut show = |how| bar.show(how);
        let folder = &self.folder;
        let restored = backup::restore(folder, database, city, keys, archive, &mut show).await;
        bar.0.finish_and_clear();
        let manifest = restored.map_err(stop)?;
        writeln!(out, "restored and verified as a whole")?;
        describe(&manifest, out)?;
        if !signed {
            writeln!(out, "  signatures   none verified: no key was given")?;
        }
        writeln!(
            out,
            "a gateway writes to it once a witness has agreed that there is no newer state; with a larger one it stays \
             frozen, and `banqiao recover` says what to do"
        )?;
        Ok(Exit::Done)
    }
}

/// Reads a config; its warnings are of no concern here.
pub(crate) fn load(path: &Path) -> Result<Config> {
    let (config, _) = Config::load(path, &Clock::system()).map_err(Stop::from)?;
    Ok(config)
}

fn describe(manifest: &Manifest, out: &mut dyn io::Write) -> io::Result<()> {
    let origin = manifest.origin.as_deref().unwrap_or("no origin");
    writeln!(out, "  city         {}", clean(&manifest.city))?;
    writeln!(out, "  ledger       {}", clean(origin))?;
    writeln!(
        out,
        "  entries      {}, root {}",
        manifest.size,
        clean(&manifest.root)
    )?;
    if manifest.archived > 0 {
        writeln!(
            out,
            "  archived     {} of them: they are in the archive, which is to be copied too",
            manifest.archived
        )?;
    }
    writeln!(out, "  made         {}", moment::utc(manifest.created_us))
}

/// Copies a folder of key files, each for its owner alone.
fn copy_keys(from: &Path, to: &Path) -> Result<()> {
    let fault = |path: &Path, error| {
        Stop::usage(format!("cannot copy {}", path.display())).caused_by(error)
    };
    let mut builder = fs::DirBuilder::new();
    builder
        .mode(0o700)
        .create(to)
        .map_err(|error| fault(to, error))?;
    for file in fs::read_dir(from).map_err(|error| fault(from, error))? {
        let path = file.map_err(|error| fault(from, error))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        let copy = || -> io::Result<()> {
            let mut source = fs::File::open(&path)?;
            let mut options = fs::File::options();
            options.write(true).create_new(true).mode(0o600);
            let mut target = options.open(to.join(name))?;
            io::copy(&mut source, &mut target)?;
            target.sync_all()
        };
        copy().map_err(|error| fault(&path, error))?;
    }
    Ok(())
}

fn stop(error: BackupError) -> Stop {
    match error {
        BackupError::Store(error) => {
            Stop::unavailable("the ledger's database cannot be used").caused_by(error)
        }
        BackupError::Exists(_)
        | BackupError::File { .. }
        | BackupError::NotEmpty
        | BackupError::OtherCity { .. } => {
            Stop::new(Exit::Usage, "nothing was done").caused_by(error)
        }
        error => Stop::new(Exit::Failed, "the backup cannot be used").caused_by(error),
    }
}

/// A progress bar on a terminal.
struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        Self(bar(
            0,
            "{msg:18} {bar:30} {human_pos} of {human_len} rows, {per_sec}",
        ))
    }
}

impl Bar {
    fn show(&self, how: Progress) {
        if self.0.message() != how.table {
            self.0.set_message(how.table);
        }
        self.0.set_length(how.of.unwrap_or(how.rows));
        self.0.set_position(how.rows);
    }
}
