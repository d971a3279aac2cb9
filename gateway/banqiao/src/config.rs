//! The configuration of a gateway: one TOML file, parsed whole into types, with every fault at once.
//!
//! Paths in it are relative to the file's own folder. Nothing downstream checks a value again.

pub mod check;
mod document;
mod fault;
mod files;
mod limits;
mod listeners;
mod raw;
mod services;
mod trust;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use banqiao_directory::{CityCode, Clock, SpiffeId};
use banqiao_proxy::{Limits, ReconcileSettings, TransparencySettings};
use banqiao_telemetry::TelemetrySettings;

use crate::exit::Stop;

pub use fault::{Fault, Place, Severity};
pub use limits::{LimitInfo, limit_infos};

/// A directory or CRL is looked for at peers and in its files this often (DESIGN §3).
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(600);
/// A CRL past its next update is believed for so long, while its city is warned about (DESIGN §3).
pub const DEFAULT_CRL_GRACE: Duration = Duration::from_secs(24 * 3_600);
/// Entries that may wait for a commit. A full batch has 1,024; four of them are some 50 ms of a fast disk, and beyond
/// that a refusal serves callers better than the wait.
pub const DEFAULT_LEDGER_QUEUE: u64 = 4_096;
/// Life of a replica's lease: its open calls are closed as interrupted by another one after that (DESIGN §4).
pub const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(60);
/// File of the key that signs checkpoints, beside the config.
pub const DEFAULT_SIGNING_KEY: &str = "ledger.key";
/// Interval at which a replica renews its lease.
pub const DEFAULT_LEASE_RENEW: Duration = Duration::from_secs(10);
/// Folder for the cached directory and CRLs, beside the config.
pub const DEFAULT_DATA: &str = "state";
/// Folder of the month keys of private parts, beside the config.
pub const DEFAULT_LEDGER_KEYS: &str = "keys";
/// Largest config file that is read, in bytes: a hundred services take some 20 KiB.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A gateway's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The city.
    pub city: CityCode,
    /// Name of this replica, unique among the replicas of the city.
    pub replica: String,
    /// Folder for the cached directory and CRLs.
    pub data: PathBuf,
    /// The gateway's own certificate.
    pub identity: IdentityConfig,
    /// The directory.
    pub directory: DirectoryConfig,
    /// Certificate revocation lists.
    pub crls: CrlConfig,
    /// The four listeners.
    pub listeners: Listeners,
    /// The ledger.
    pub ledger: LedgerConfig,
    /// When the ledger is compared with those of the other cities.
    pub reconcile: ReconcileSettings,
    /// Services of the city that the gateway carries.
    pub services: Vec<ServiceConfig>,
    /// Limits of the data plane.
    pub limits: Limits,
    /// Logs, traces and metrics.
    pub telemetry: TelemetrySettings,
}

/// `[identity]`
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// PEM file of the gateway's certificate.
    pub certificate: PathBuf,
    /// PEM file of its private key, mode 0600 or stricter.
    pub private_key: PathBuf,
}

/// `[directory]`
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    /// File with a signed directory, watched for newer versions.
    pub file: PathBuf,
    /// SHA-256 of the first directory's payload, by which trust begins.
    pub pin: [u8; 32],
    /// Interval of asking peers and the file.
    pub refresh: Duration,
}

/// `[crls]`
#[derive(Clone, Debug)]
pub struct CrlConfig {
    /// DER files, or folders of them.
    pub files: Vec<PathBuf>,
    /// Interval of asking peers and the files.
    pub refresh: Duration,
    /// How long a CRL is believed past its next update.
    pub grace: Duration,
}

/// `[listeners]`
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Where the city's systems connect.
    pub client: SocketAddr,
    /// Where other cities' gateways connect.
    pub inter_city: SocketAddr,
    /// Health, readiness and metrics, over plain HTTP. `None`: not served.
    pub ops: Option<SocketAddr>,
    /// Administration.
    pub admin: AdminListener,
}

/// `[listeners.admin]`: sockets, an address, or both; never neither.
#[derive(Clone, Debug, Default)]
pub struct AdminListener {
    /// Unix sockets, one for each role.
    pub sockets: Vec<(Role, PathBuf)>,
    /// mTLS address with the identities of each role.
    pub address: Option<(SocketAddr, Vec<(SpiffeId, Role)>)>,
}

/// `[ledger]`
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// `sqlite://…` with an absolute path, or `postgres://…`.
    pub url: LedgerUrl,
    /// Folder of the month keys.
    pub keys: PathBuf,
    /// The key that signs checkpoints of the ledger.
    pub signing_key: PathBuf,
    /// The key before it, while it is being replaced.
    pub previous_signing_key: Option<PathBuf>,
    /// Epoch of the log: its origin is `<trust domain>/ledger/<epoch>`.
    pub epoch: u64,
    /// The key that cosigns other cities' checkpoints, where this gateway is a witness.
    pub witness_key: Option<PathBuf>,
    /// How the other cities' witnesses are watched.
    pub transparency: TransparencySettings,
    /// Entries that may wait for a commit.
    pub queue: usize,
    /// The PostgreSQL server may fail over to a standby: then it must replicate synchronously.
    pub failover: bool,
    /// With SQLite: a file on another disk, where the newest checkpoint stands within a second.
    pub anchor: Option<PathBuf>,
    /// The folder that old entries are moved to, shared by the replicas.
    pub archive: Option<PathBuf>,
    /// Time between SUMMARY entries, which count what has no entry of its own.
    pub summary_interval: Duration,
    /// Bound of the machine's clock error where it is kept by NTP or PTP; zero: not known.
    pub clock_error: Duration,
    /// Life of the lease.
    pub lease_ttl: Duration,
    /// Interval of its renewal.
    pub lease_renew: Duration,
}

/// URL of a ledger's database. `Debug` and `Display` leave a password out.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerUrl(String);

impl LedgerUrl {
    /// The whole URL, with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // scheme://user:password@host/…: what stands between the scheme and the last @ is credentials.
        match (self.0.split_once("://"), self.0.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, place))) => write!(f, "{scheme}://…@{place}"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[[services]]`: a service of the city.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Full name.
    pub name: String,
    /// File with an encoded descriptor set. `None`: the service is one of Banqiao's own.
    pub descriptor_set: Option<PathBuf>,
    /// Addresses, `host:port`.
    pub endpoints: Vec<String>,
    /// The identity that every endpoint must prove.
    pub identity: SpiffeId,
}

/// A role on the admin listener. No identity has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Role {
    /// Changes grants, directory and descriptors.
    Administrator,
    /// Watches, reloads and drains.
    Operator,
    /// Reads the ledger.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Administrator, Self::Operator, Self::Auditor];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a config is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It has faults; warnings are among them.
    #[error("{} has {} that must be corrected", file.display(), errors(faults))]
    Faulty {
        /// The file.
        file: PathBuf,
        /// Every fault.
        faults: Vec<Fault>,
    },
    /// It cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<ConfigError> for Stop {
    /// Every fault, a line or two each.
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Faulty { faults, .. } => {
                let faults = faults
                    .iter()
                    .map(|fault| format!("\n{fault}"))
                    .collect::<String>();
                Self::usage(format!("{error}:{faults}"))
            }
            ConfigError::Unreadable { .. } => {
                Self::usage("the config was not read").caused_by(error)
            }
        }
    }
}

/// How many errors there are, in words.
fn errors(faults: &[Fault]) -> String {
    match faults
        .iter()
        .filter(|fault| fault.severity == Severity::Error)
        .count()
    {
        1 => "one fault".to_owned(),
        count => format!("{count} faults"),
    }
}

impl Config {
    /// Reads and checks a config file, and the files that it names. Returns it with its warnings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every fault at once.
    pub fn load(file: &Path, clock: &Clock) -> Result<(Self, Vec<Fault>), ConfigError> {
        let (file, text) = read(file)?;
        document::parse(&file, &text, clock)
    }

    /// The socket of a role on the admin listener, if it has one.
    pub fn admin_socket(&self, role: Role) -> Option<&Path> {
        let sockets = &self.listeners.admin.sockets;
        sockets
            .iter()
            .find(|(known, _)| *known == role)
            .map(|(_, path)| path.as_path())
    }
}

/// The sockets of the admin listener in a config file, whatever else is in it: whoever administers a gateway may not
/// read its keys.
///
/// # Errors
///
/// [`ConfigError`] where the file cannot be read or the sockets are at fault.
pub fn admin_sockets(file: &Path) -> Result<Vec<(Role, PathBuf)>, ConfigError> {
    let (file, text) = read(file)?;
    document::admin_sockets(&file, &text)
}

/// The absolute path of a config file, and its text.
fn read(file: &Path) -> Result<(PathBuf, String), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        file: file.to_path_buf(),
        source,
    };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_CONFIG_BYTES {
        let reason = format!("it has {size} bytes, more than {MAX_CONFIG_BYTES}");
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            reason,
        )));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok((std::path::absolute(file).map_err(unreadable)?, text))
}

#[cfg(test)]
pub(crate) mod tests;
