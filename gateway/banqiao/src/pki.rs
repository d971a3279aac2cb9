//! `banqiao pki`: a city's CA and what it issues.
//!
//! Runs where the CA's folder is, which is not where a gateway runs. Each command may be run again: what is there and
//! still good is kept. Private keys are written to files of mode 0600 and never printed.

pub mod show;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use banqiao_directory::{Clock, TrustDomain};
use banqiao_identity::pki::{
    self, CertificateRequest, CityAuthority, CrlSummary, NewAuthority, Outcome, PkiError,
    WrittenCrl,
};
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    exit::{Exit, Stop},
    moment::{parse_duration, utc},
    notekey::{self, NoteKeyUse},
    text::clean,
};

use show::ShowCommand;

/// Arguments of `banqiao pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Write the next CRL. Run it at least once in its lifetime: without a fresh CRL the city is cut off.
    Crl(CrlCommand),
    /// Make a city's CA with its first CRL.
    InitCity(InitCityCommand),
    /// Issue a certificate with a new key, or renew it when two thirds of its time are over.
    #[command(subcommand)]
    Issue(IssueCommand),
    /// Make the key of a city's ledger or witness, and print what the directory lists of it.
    NoteKey(NoteKeyCommand),
    /// Revoke certificates and write the CRL that says so.
    Revoke(RevokeCommand),
    /// Show a CA and what it has issued, or what a certificate or CRL says.
    Show(ShowCommand),
}

/// Arguments of `banqiao pki init-city`.
#[derive(Debug, Args)]
pub struct InitCityCommand {
    #[command(flatten)]
    folder: Folder,
    /// The city's trust domain, such as qingdao.jiaodong.
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// Name of the body that runs the CA.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Kind of the CA's key.
    #[arg(long, value_enum, default_value_t)]
    key: KeyKind,
    /// How long the CA is valid.
    #[arg(long, default_value = "3652d", value_parser = parse_duration)]
    valid: Duration,
    #[command(flatten)]
    crl: CrlLifetime,
}

/// Arguments of `banqiao pki issue`.
#[derive(Debug, Subcommand)]
pub enum IssueCommand {
    /// For a person at the admin listener: spiffe://DOMAIN/admin/ROLE/NAME.
    Admin {
        /// The role; an identity has one.
        #[arg(value_enum)]
        role: AdminRole,
        /// Name of the person or console: one segment of a SPIFFE ID.
        name: String,
        /// What to put into the certificate.
        #[command(flatten)]
        certificate: CertificateArgs,
    },
    /// For the city's gateway: spiffe://DOMAIN/gateway.
    Gateway {
        /// What to put into the certificate.
        #[command(flatten)]
        certificate: CertificateArgs,
    },
    /// For a system of the city: spiffe://DOMAIN/PATH.
    System {
        /// Agency and system, such as hrss/card.
        path: String,
        /// What to put into the certificate.
        #[command(flatten)]
        certificate: CertificateArgs,
    },
}

/// What every certificate can have.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    #[command(flatten)]
    folder: Folder,
    /// Host name or IP address under which the holder serves; may be repeated.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Add localhost, 127.0.0.1 and ::1.
    #[arg(long)]
    loopback: bool,
    /// How long it is valid; 90d without it, and 30d for people.
    #[arg(long, value_parser = parse_duration)]
    valid: Option<Duration>,
    /// Kind of its key.
    #[arg(long, value_enum, default_value_t)]
    key: KeyKind,
    /// File name without extension.
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    /// Issue a new one even though the present one would do.
    #[arg(long)]
    renew: bool,
}

/// Arguments of `banqiao pki note-key`.
#[derive(Debug, Args)]
pub struct NoteKeyCommand {
    /// What it signs: DOMAIN/ledger/EPOCH, such as qingdao.jiaodong/ledger/1, or DOMAIN/witness.
    #[arg(value_name = "NAME")]
    name: NoteKeyUse,
    /// Its file, of mode 0600. One that is there stays.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Arguments of `banqiao pki revoke`.
#[derive(Debug, Args)]
pub struct RevokeCommand {
    #[command(flatten)]
    folder: Folder,
    /// Serial, SPIFFE ID or file name; of the latter two every certificate that is valid.
    #[arg(value_name = "CERTIFICATE")]
    which: String,
    /// Why.
    #[arg(long, value_enum, default_value_t)]
    reason: Reason,
    #[command(flatten)]
    crl: CrlLifetime,
}

/// Arguments of `banqiao pki crl`.
#[derive(Debug, Args)]
pub struct CrlCommand {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    crl: CrlLifetime,
    /// Do nothing while the present one is in the first half of its lifetime: for timers.
    #[arg(long)]
    if_due: bool,
}

#[derive(Debug, Args)]
struct Folder {
    /// The CA's folder.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    ca: PathBuf,
}

impl Folder {
    fn open(&self) -> anyhow::Result<CityAuthority> {
        CityAuthority::load(&self.ca, Clock::system()).map_err(stop)
    }
}

#[derive(Debug, Args)]
struct CrlLifetime {
    /// How long the CRL is current.
    #[arg(long = "crl-valid", default_value = "24h", value_parser = parse_duration)]
    lifetime: Duration,
}

/// A role at the admin listener.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AdminRole {
    /// Changes directory, grants and keys.
    Administrator,
    /// Reads the ledger and its private parts.
    Auditor,
    /// Watches and drains.
    Operator,
}

/// Kind of key.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519, which some gRPC libraries cannot use.
    Ed25519,
}

impl KeyKind {
    const fn kind(self) -> pki::KeyKind {
        match self {
            Self::P256 => pki::KeyKind::EcdsaP256,
            Self::P384 => pki::KeyKind::EcdsaP384,
            Self::Ed25519 => pki::KeyKind::Ed25519,
        }
    }
}

/// Why a certificate is revoked.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Reason {
    /// The system has moved to another agency or city.
    AffiliationChanged,
    /// The system is shut down.
    CessationOfOperation,
    /// The key may be known to others.
    KeyCompromise,
    /// The right to take part was withdrawn.
    PrivilegeWithdrawn,
    /// Another certificate replaces it.
    Superseded,
    /// Not stated.
    #[default]
    Unspecified,
}

impl Reason {
    const fn reason(self) -> pki::RevocationReason {
        match self {
            Self::AffiliationChanged => pki::RevocationReason::AffiliationChanged,
            Self::CessationOfOperation => pki::RevocationReason::CessationOfOperation,
            Self::KeyCompromise => pki::RevocationReason::KeyCompromise,
            Self::PrivilegeWithdrawn => pki::RevocationReason::PrivilegeWithdrawn,
            Self::Superseded => pki::RevocationReason::Superseded,
            Self::Unspecified => pki::RevocationReason::Unspecified,
        }
    }
}

impl PkiCommand {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// When the CA refuses, a file cannot be read or written, or the writer fails.
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<Exit> {
        match self {
            Self::Crl(command) => write_crl(&command, out)?,
            Self::InitCity(command) => init_city(&command, out)?,
            Self::Issue(command) => issue(&command, out)?,
            Self::NoteKey(command) => note_key(&command, out)?,
            Self::Revoke(command) => revoke(&command, out)?,
            Self::Show(command) => command.run(out)?,
        }
        Ok(Exit::Done)
    }
}

fn init_city(command: &InitCityCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let domain = &command.trust_domain;
    let new = NewAuthority {
        organization: command
            .organization
            .clone()
            .unwrap_or_else(|| domain.to_string()),
        key: command.key.kind(),
        lifetime: command.valid,
        crl_lifetime: command.crl.lifetime,
        ..NewAuthority::new(domain.clone())
    };
    let (authority, outcome) =
        CityAuthority::create(&command.folder.ca, &new, Clock::system()).map_err(stop)?;
    let status = authority.status().map_err(stop)?;
    writeln!(
        out,
        "{} the CA of {domain} in {}, valid until {}",
        verb(outcome),
        shown(&command.folder.ca),
        day(status.not_after_s)
    )?;
    writeln!(
        out,
        "  SHA-256 of its certificate: {}",
        hex::encode(status.certificate_sha256)
    )?;
    Ok(())
}

fn issue(command: &IssueCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let (IssueCommand::Admin { certificate, .. }
    | IssueCommand::Gateway { certificate }
    | IssueCommand::System { certificate, .. }) = command;
    let authority = certificate.folder.open()?;
    let domain = authority.trust_domain();
    let mut request = match command {
        IssueCommand::Admin { role, name, .. } => {
            let role = match role {
                AdminRole::Administrator => pki::AdminRole::Administrator,
                AdminRole::Auditor => pki::AdminRole::Auditor,
                AdminRole::Operator => pki::AdminRole::Operator,
            };
            CertificateRequest::admin(domain, role, name).map_err(stop)?
        }
        IssueCommand::Gateway { .. } => CertificateRequest::gateway(domain),
        IssueCommand::System { path, .. } => {
            CertificateRequest::system(domain, path).map_err(stop)?
        }
    };
    for host in &certificate.host {
        request = request.host(host).map_err(stop)?;
    }
    if certificate.loopback {
        request = request.loopback();
    }
    if let Some(lifetime) = certificate.valid {
        request = request.lifetime(lifetime);
    }
    if let Some(name) = &certificate.file {
        request = request.file_name(name).map_err(stop)?;
    }
    let request = request.key(certificate.key.kind()).renew(certificate.renew);
    let issued = authority.issue(&request).map_err(stop)?;
    writeln!(
        out,
        "{} {} for {}, valid until {}",
        verb(issued.outcome),
        shown(&issued.certificate),
        issued.record.id,
        day(issued.record.not_after_s)
    )?;
    writeln!(out, "  private key: {}", shown(&issued.private_key))?;
    Ok(())
}

fn note_key(command: &NoteKeyCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let verb = if notekey::make(&command.output)? {
        "made"
    } else {
        "kept"
    };
    let verifier = command.name.verifier(&command.output)?;
    let section = match command.name {
        NoteKeyUse::Ledger(_) => "cities.ledger",
        NoteKeyUse::Witness(_) => "cities.witness",
    };
    writeln!(
        out,
        "{verb} the key of {} in {}",
        command.name,
        shown(&command.output)
    )?;
    writeln!(out, "  the directory lists under [{section}] keys:")?;
    writeln!(out, "  {verifier}")?;
    Ok(())
}

fn revoke(command: &RevokeCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let revoked = command
        .folder
        .open()?
        .revoke(
            &command.which,
            command.reason.reason(),
            command.crl.lifetime,
        )
        .map_err(stop)?;
    for certificate in &revoked.certificates {
        writeln!(out, "revoked {} of {}", certificate.serial, certificate.id)?;
    }
    match revoked.crl {
        Some(crl) => wrote_crl(&crl, out),
        None => {
            writeln!(out, "nothing to do: revoked or expired already")?;
            Ok(())
        }
    }
}

fn write_crl(command: &CrlCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    let authority = command.folder.open()?;
    let path = authority.crl_path();
    let present = if command.if_due {
        present_crl(&path)?
    } else {
        None
    };
    if let Some(CrlSummary {
        this_update_s,
        next_update_s: Some(next_update_s),
        ..
    }) = present
    {
        let half_s = this_update_s + (next_update_s - this_update_s) / 2;
        if Clock::system().now_s() <= half_s {
            let due = moment(half_s);
            writeln!(out, "kept {}, due again at {due}", shown(&path))?;
            return Ok(());
        }
    }
    wrote_crl(
        &authority.write_crl(command.crl.lifetime).map_err(stop)?,
        out,
    )
}

fn present_crl(path: &Path) -> anyhow::Result<Option<CrlSummary>> {
    match fs::read(path) {
        Ok(der) => Ok(CrlSummary::read(&der)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", shown(path))),
    }
}

fn wrote_crl(crl: &WrittenCrl, out: &mut dyn Write) -> anyhow::Result<()> {
    let WrittenCrl {
        number,
        next_update_s,
        revoked,
        path,
        ..
    } = crl;
    let (path, next) = (shown(path), moment(*next_update_s));
    writeln!(
        out,
        "made {path}: number {number}, {revoked} revoked, next update by {next}"
    )?;
    Ok(())
}

const fn verb(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "kept",
        Outcome::Made => "made",
    }
}

/// A path, safe for a terminal.
fn shown(path: &Path) -> String {
    clean(&path.display().to_string()).into_owned()
}

/// A moment in RFC 3339, UTC, to the second.
fn moment(seconds: i64) -> String {
    let text = utc(seconds.saturating_mul(1_000_000));
    text.replacen(".000000", "", 1)
}

/// The day of a moment, UTC.
fn day(seconds: i64) -> String {
    let text = moment(seconds);
    text.split('T').next().unwrap_or(&text).to_owned()
}

/// The error with its exit code: what the person asked for is wrong, or the machine failed.
fn stop(error: PkiError) -> anyhow::Error {
    match error {
        PkiError::Leftover { .. }
        | PkiError::Name { .. }
        | PkiError::NoAuthority { .. }
        | PkiError::OtherCity { .. }
        | PkiError::OutlivesAuthority
        | PkiError::Taken { .. }
        | PkiError::Unknown(_) => Stop::usage(error.to_string()).into(),
        _ => error.into(),
    }
}
