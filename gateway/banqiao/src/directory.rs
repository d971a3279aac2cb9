//! `banqiao directory`: writes, signs, verifies, shows and compares directories, without any gateway.
//!
//! A new network: each city runs `banqiao pki` and `directory init --key-only` in its folder; one city collects the
//! folders' public files and runs `directory init`; everyone runs `directory sign`. Each later version is the edited
//! TOML, signed with `--previous`. A city's private key never leaves its folder.

pub mod draft;
mod show;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use banqiao_directory::{
    Clock, Directory, DirectoryError, Envelope, MAX_ENVELOPE_BYTES, SigningKey, Status, diff,
    missing_signatures, verify_first, verify_next,
};
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::{
    exit::{Exit, Stop},
    moment::{parse_duration, utc},
    text::clean,
};

use draft::{CityDraft, Draft, DraftCity};
pub use show::ShowCommand;

/// Name of a city's private directory key within its folder.
pub const KEY_FILE: &str = "directory.key";
/// Name of the public half.
pub const PUBLIC_FILE: &str = "directory.pub";

/// Arguments of `banqiao directory`.
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// Say what changes from one directory to another.
    Diff(DiffCommand),
    /// Write the TOML of a first directory from city folders, or make a city's directory key.
    Init(InitCommand),
    /// Print a directory.
    Show(ShowCommand),
    /// Add a city's signature.
    Sign(SignCommand),
    /// Verify a directory as a gateway does.
    Verify(VerifyCommand),
}

/// Arguments of `banqiao directory init`.
#[derive(Debug, Args)]
pub struct InitCommand {
    /// Make FOLDER/directory.key (Ed25519, PKCS#8 PEM, mode 0600) and FOLDER/directory.pub, and nothing else.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["city", "guest"])]
    key_only: Option<PathBuf>,
    /// A city that signs: its code, its folder with ca.crt, ca.json and directory.pub, and its gateways.
    #[arg(long, value_name = "CODE=FOLDER@HOST:PORT[,HOST:PORT]")]
    city: Vec<DraftCity>,
    /// A guest member, which does not sign.
    #[arg(long, value_name = "CODE=FOLDER@HOST:PORT[,HOST:PORT]")]
    guest: Vec<DraftCity>,
    /// Signatures that make a directory valid. Without it: the smallest majority.
    #[arg(long, requires = "city")]
    threshold: Option<usize>,
    /// How long the directory is valid.
    #[arg(long, default_value = "90d", value_parser = parse_duration)]
    valid: Duration,
    /// The file to write; it must not exist.
    #[arg(long, default_value = "directory.toml")]
    out: PathBuf,
}

/// Arguments of `banqiao directory sign`.
#[derive(Debug, Args)]
pub struct SignCommand {
    /// The envelope to add the signature to; made from the TOML where it does not exist.
    envelope: PathBuf,
    /// The city's directory key.
    #[arg(long)]
    key: PathBuf,
    /// The document, for a new envelope.
    #[arg(long)]
    toml: Option<PathBuf>,
    /// The envelope of the version in force, which a new envelope follows and carries.
    #[arg(long, requires = "toml")]
    previous: Option<PathBuf>,
    /// Take over the signatures of other copies of the envelope, which cities signed side by side.
    #[arg(long, value_name = "ENVELOPE")]
    with: Vec<PathBuf>,
}

/// Arguments of `banqiao directory verify`.
#[derive(Debug, Args)]
pub struct VerifyCommand {
    /// The envelope.
    envelope: PathBuf,
    /// SHA-256 of the first directory's TOML, as gateways' configs state it.
    #[arg(
        long,
        required_unless_present = "previous",
        conflicts_with = "previous"
    )]
    pin: Option<String>,
    /// The envelope of the version in force, which is trusted.
    #[arg(long)]
    previous: Option<PathBuf>,
}

/// Arguments of `banqiao directory diff`.
#[derive(Debug, Args)]
pub struct DiffCommand {
    /// The older envelope or TOML document.
    from: PathBuf,
    /// The newer one.
    to: PathBuf,
}

/// Runs a command and prints to standard output.
///
/// # Errors
///
/// As [`DirectoryCommand::run`].
pub fn run(command: DirectoryCommand) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    command.run(&mut out)?;
    out.flush()?;
    Ok(())
}

impl DirectoryCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] with [`Exit::Usage`] where a file cannot be read or written or has faults, which are all listed, and
    /// with [`Exit::Failed`] where a directory does not verify.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<Exit> {
        match self {
            Self::Diff(command) => command.run(out)?,
            Self::Init(command) => command.run(&Clock::system(), out)?,
            Self::Show(command) => command.run(out)?,
            Self::Sign(command) => command.run(out)?,
            Self::Verify(command) => command.run(&Clock::system(), out)?,
        }
        Ok(Exit::Done)
    }
}

impl InitCommand {
    fn run(&self, clock: &Clock, out: &mut dyn Write) -> anyhow::Result<()> {
        if let Some(folder) = &self.key_only {
            let key = make_key(folder)?;
            writeln!(
                out,
                "public key  {}\nkey id      {}",
                key.public(),
                key.public().id()
            )?;
            return Ok(());
        }
        if self.city.is_empty() {
            return Err(Stop::usage("name at least one --city, or --key-only").into());
        }
        let read = |guest| move |city: &DraftCity| CityDraft::read(city, guest);
        let cities = self
            .city
            .iter()
            .map(read(false))
            .chain(self.guest.iter().map(read(true)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let now_s = clock.now_s();
        let valid_s = i64::try_from(self.valid.as_secs()).unwrap_or(i64::MAX);
        let draft = Draft {
            version: 1,
            issued_s: now_s,
            expires_s: now_s.saturating_add(valid_s),
            threshold: self.threshold.unwrap_or(self.city.len() / 2 + 1),
            cities,
        };
        let toml = draft.toml();
        let directory = parse(toml.as_bytes(), Path::new("the new directory"))?;
        create(&self.out, toml.as_bytes(), 0o644)?;
        writeln!(
            out,
            "{}: version {}, {} cities, {} signatures needed; review it, then `banqiao directory sign`",
            self.out.display(),
            directory.version(),
            directory.cities().len(),
            directory.signers().threshold
        )?;
        Ok(())
    }
}

impl SignCommand {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut envelope = self.envelope()?;
        for path in &self.with {
            let other = read_envelope(path)?;
            envelope
                .merge(&other)
                .map_err(|error| fault(path, "cannot be taken over").caused_by(error))?;
        }
        let directory = parse(envelope.payload(), &self.envelope)?;
        let previous = match envelope.history().last() {
            Some(link) => Some(parse(link.payload(), &self.envelope)?),
            None => None,
        };
        let key = read_key(&self.key)?;
        let signer = std::iter::once(&directory)
            .chain(&previous)
            .find_map(|directory| {
                let mut keys = directory.signers().keys.iter();
                keys.find(|(_, public)| **public == key.public())
                    .map(|(city, _)| *city)
            });
        let Some(signer) = signer else {
            let message = format!("the key {} is no signer's in this directory", key.public());
            return Err(Stop::usage(message).into());
        };
        envelope.sign(&key);
        replace(&self.envelope, &envelope.to_json()?)?;
        if let Some(previous) = &previous {
            for change in diff(previous, &directory) {
                writeln!(out, "{}", clean(&change.to_string()))?;
            }
        }
        writeln!(
            out,
            "{}: version {} (sha256 {}) signed by {signer}",
            self.envelope.display(),
            directory.version(),
            hex::encode(envelope.digest()),
        )?;
        let missing = missing_signatures(previous.as_ref(), &envelope)?;
        for missing in &missing {
            writeln!(out, "still missing: {missing}")?;
        }
        if missing.is_empty() {
            writeln!(out, "complete")?;
        }
        Ok(())
    }

    /// The envelope as it stands, or a new one.
    fn envelope(&self) -> anyhow::Result<Envelope> {
        let toml = self.toml.as_deref().map(read).transpose()?;
        if self.envelope.exists() {
            let envelope = read_envelope(&self.envelope)?;
            if toml.is_some_and(|toml| toml != envelope.payload()) {
                return Err(fault(&self.envelope, "holds another document than --toml").into());
            }
            return Ok(envelope);
        }
        let (Some(toml), Some(path)) = (toml, &self.toml) else {
            return Err(fault(&self.envelope, "does not exist; make it with --toml").into());
        };
        let directory = parse(&toml, path)?;
        let mut envelope = Envelope::new(toml);
        if let Some(path) = &self.previous {
            let previous = read_envelope(path)?;
            let held = parse(previous.payload(), path)?.version();
            if directory.version() <= held {
                let text = format!("has version {held}; the new one must be higher");
                return Err(fault(path, &text).into());
            }
            envelope.follow(&previous);
        } else if directory.version() > 1 {
            let text = "is no first version: name the one in force with --previous";
            return Err(fault(path, text).into());
        }
        Ok(envelope)
    }
}

impl VerifyCommand {
    fn run(&self, clock: &Clock, out: &mut dyn Write) -> anyhow::Result<()> {
        let envelope = read_envelope(&self.envelope)?;
        let verified = match (&self.pin, &self.previous) {
            (Some(pin), _) => {
                let mut digest = [0; 32];
                hex::decode_to_slice(pin, &mut digest)
                    .map_err(|_| Stop::usage("--pin: a SHA-256 has 64 hexadecimal digits"))?;
                verify_first(&envelope, &digest)
            }
            (None, Some(path)) => {
                let previous = parse(read_envelope(path)?.payload(), path)?;
                match verify_next(&previous, &envelope) {
                    Err(DirectoryError::AlreadyHeld { .. }) => Ok(previous),
                    verified => verified,
                }
            }
            (None, None) => return Err(Stop::usage("name --pin or --previous").into()),
        };
        let directory = verified.map_err(|error| match error {
            DirectoryError::Document { faults } => faulty(&self.envelope, &faults),
            error => Stop::new(
                Exit::Failed,
                format!("{} is not valid", self.envelope.display()),
            )
            .caused_by(error),
        })?;
        let expires = utc(directory.expires_at_us());
        let version = directory.version();
        match directory.status(clock.now_us()) {
            Status::Expired => {
                let message = format!("version {version} is well signed, but expired at {expires}");
                return Err(Stop::new(Exit::Failed, message).into());
            }
            Status::Ageing => {
                writeln!(
                    out,
                    "warning: past half of its validity; publish the next version"
                )?;
            }
            Status::Fresh => {}
        }
        writeln!(out, "version {version} is valid until {expires}")?;
        Ok(())
    }
}

impl DiffCommand {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (from, _) = read_either(&self.from)?;
        let (to, _) = read_either(&self.to)?;
        let changes = diff(&from, &to);
        if changes.is_empty() {
            writeln!(out, "no change")?;
        }
        for change in changes {
            writeln!(out, "{}", clean(&change.to_string()))?;
        }
        Ok(())
    }
}

/// Makes a city's directory key in its folder. An existing key is never replaced.
///
/// # Errors
///
/// [`Stop`] where a key is there already, or the folder cannot be written.
pub fn make_key(folder: &Path) -> anyhow::Result<SigningKey> {
    let key = SigningKey::generate()?;
    create(&folder.join(KEY_FILE), key.to_pem()?.as_bytes(), 0o600)?;
    replace(
        &folder.join(PUBLIC_FILE),
        format!("{}\n", key.public()).as_bytes(),
    )?;
    Ok(key)
}

/// Reads a city's directory key.
///
/// # Errors
///
/// [`Stop`] where others than its owner may read the file, or it holds no such key.
pub fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let open = || -> io::Result<(u32, Zeroizing<String>)> {
        let mut file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut text = Zeroizing::new(String::with_capacity(4_096));
        io::Read::by_ref(&mut file)
            .take(4_096)
            .read_to_string(&mut text)?;
        Ok((mode, text))
    };
    let (mode, text) = open().map_err(|error| fault(path, "cannot be read").caused_by(error))?;
    if mode & 0o077 != 0 {
        return Err(fault(path, "may be read by others: set its mode to 0600").into());
    }
    SigningKey::from_pem(&text)
        .map_err(|error| fault(path, "is no directory key").caused_by(error).into())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_ENVELOPE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(path, "cannot be read").caused_by(error))?;
    Ok(bytes)
}

pub(crate) fn read_envelope(path: &Path) -> anyhow::Result<Envelope> {
    Envelope::parse(&read(path)?)
        .map_err(|error| fault(path, "is no envelope").caused_by(error).into())
}

/// An envelope, whose signatures are not checked here, or a bare document.
pub(crate) fn read_either(path: &Path) -> anyhow::Result<(Directory, Option<Envelope>)> {
    let bytes = read(path)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        let envelope = read_envelope(path)?;
        return Ok((parse(envelope.payload(), path)?, Some(envelope)));
    }
    Ok((parse(&bytes, path)?, None))
}

fn parse(toml: &[u8], path: &Path) -> anyhow::Result<Directory> {
    Directory::parse(toml).map_err(|faults| faulty(path, &faults).into())
}

fn faulty(path: &Path, faults: &[banqiao_directory::Fault]) -> Stop {
    let list: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    fault(path, &format!("is no sound directory:{list}"))
}

fn fault(path: &Path, text: &str) -> Stop {
    Stop::usage(format!("{} {text}", path.display()))
}

/// Writes a file that must not exist, durably.
fn create(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| fault(path, "cannot be created").caused_by(error).into())
}

/// Puts a file in place at once: a reader, or a crash, sees the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let write = || {
        let mut aside = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))?;
        aside.write_all(bytes)?;
        aside
            .as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))?;
        aside.as_file().sync_all()?;
        aside.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error: io::Error| fault(path, "cannot be written").caused_by(error).into())
}

#[cfg(test)]
mod tests;
