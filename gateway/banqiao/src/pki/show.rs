//! `banqiao pki show`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use banqiao_directory::Clock;
use banqiao_identity::pki::{CertificateSummary, CityAuthority, CrlSummary, IssuedCertificate};
use clap::Args;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;

use super::{moment, present_crl, shown, stop};
use crate::{
    exit::Stop,
    text::{clean, json, table::Table},
};

/// Arguments of `banqiao pki show`.
#[derive(Debug, Args)]
pub struct ShowCommand {
    /// A CA's folder, a certificate in PEM, or a CRL in DER.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What there is to show. Serialised, it is the JSON form.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Shown {
    Authority(ShownAuthority),
    Certificate(ShownCertificate),
    Crl(ShownCrl),
}

#[derive(Debug, Serialize)]
struct ShownAuthority {
    trust_domain: String,
    sha256: String,
    not_after: String,
    crl: Option<ShownCrl>,
    certificates: Vec<ShownIssued>,
}

#[derive(Debug, Serialize)]
struct ShownIssued {
    serial: String,
    id: String,
    purpose: String,
    file: String,
    hosts: Vec<String>,
    issued_at: String,
    not_after: String,
    state: &'static str,
    revoked: Option<ShownRevoked>,
}

#[derive(Debug, Serialize)]
struct ShownRevoked {
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownCertificate {
    id: Option<String>,
    authority: bool,
    subject: String,
    issuer: String,
    serial: String,
    not_before: String,
    not_after: String,
    hosts: Vec<String>,
    sha256: String,
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownCrl {
    issuer: String,
    number: Option<String>,
    this_update: String,
    next_update: Option<String>,
    revoked: Vec<ShownRevoked>,
}

impl ShowCommand {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let shown = if self.path.is_dir() {
            Shown::Authority(ShownAuthority::read(&self.path, &Clock::system())?)
        } else {
            Shown::read_file(&self.path)?
        };
        if self.json {
            json::write_pretty(out, &shown)?;
            writeln!(out)?;
            return Ok(());
        }
        match shown {
            Shown::Authority(authority) => authority.write(out)?,
            Shown::Certificate(certificate) => certificate.write(out)?,
            Shown::Crl(crl) => crl.write(out)?,
        }
        Ok(())
    }
}

impl Shown {
    fn read_file(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", shown(path)))?;
        if let Some(crl) = CrlSummary::read(&bytes) {
            return Ok(Self::Crl(crl.into()));
        }
        let neither = || {
            Stop::usage(format!(
                "{} is neither a PEM certificate nor a DER CRL",
                shown(path)
            ))
        };
        let der = CertificateDer::from_pem_slice(&bytes).map_err(|_| neither())?;
        let summary = CertificateSummary::read(&der).map_err(|fault| neither().caused_by(fault))?;
        Ok(Self::Certificate(summary.into()))
    }
}

impl ShownAuthority {
    fn read(dir: &Path, clock: &Clock) -> anyhow::Result<Self> {
        let authority = CityAuthority::load(dir, clock.clone()).map_err(stop)?;
        let status = authority.status().map_err(stop)?;
        let now_s = clock.now_s();
        let issued = |record| ShownIssued::of(record, now_s);
        Ok(Self {
            trust_domain: status.trust_domain.to_string(),
            sha256: hex::encode(status.certificate_sha256),
            not_after: moment(status.not_after_s),
            crl: present_crl(&authority.crl_path())?.map(ShownCrl::from),
            certificates: status.certificates.iter().map(issued).collect(),
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "CA of {}, valid until {}",
            self.trust_domain, self.not_after
        )?;
        writeln!(out, "  SHA-256 of its certificate: {}", self.sha256)?;
        match &self.crl {
            Some(ShownCrl {
                number,
                next_update,
                revoked,
                ..
            }) => {
                let number = number.as_deref().unwrap_or("none");
                let next = next_update.as_deref().unwrap_or("never");
                writeln!(
                    out,
                    "  CRL number {number}: {} revoked, next update by {next}",
                    revoked.len()
                )?;
            }
            None => writeln!(out, "  no CRL: run `banqiao pki crl`")?,
        }
        if self.certificates.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let mut table = Table::new(&["IDENTITY", "FILE", "STATE", "UNTIL", "SERIAL"]);
        for issued in &self.certificates {
            let until = issued
                .revoked
                .as_ref()
                .map_or(&issued.not_after, |revoked| &revoked.at);
            let until = until.split('T').next().unwrap_or(until);
            table.row([
                &issued.id,
                &issued.file,
                issued.state,
                until,
                &issued.serial,
            ]);
        }
        table.write(out)
    }
}

impl ShownIssued {
    fn of(record: &IssuedCertificate, now_s: i64) -> Self {
        Self {
            serial: record.serial.clone(),
            id: record.id.to_string(),
            purpose: record.kind.to_string(),
            file: record.name.clone(),
            hosts: record.names.clone(),
            issued_at: moment(record.issued_at_s),
            not_after: moment(record.not_after_s),
            state: if record.revoked.is_some() {
                "revoked"
            } else if record.is_live_at(now_s) {
                "valid"
            } else {
                "expired"
            },
            revoked: record.revoked.map(|revocation| ShownRevoked {
                serial: None,
                at: moment(revocation.at_s),
                reason: Some(revocation.reason.to_string()),
            }),
        }
    }
}

impl From<CertificateSummary> for ShownCertificate {
    fn from(summary: CertificateSummary) -> Self {
        Self {
            id: summary.id.map(|id| id.to_string()),
            authority: summary.authority,
            subject: summary.subject,
            issuer: summary.issuer,
            serial: summary.serial,
            not_before: moment(summary.not_before_s),
            not_after: moment(summary.not_after_s),
            hosts: summary.dns,
            sha256: hex::encode(summary.sha256),
            fault: summary.fault.map(|fault| fault.to_string()),
        }
    }
}

impl ShownCertificate {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let kind = if self.authority {
            "a CA"
        } else {
            self.id.as_deref().unwrap_or("nobody")
        };
        writeln!(out, "certificate of {kind}")?;
        writeln!(out, "  subject: {}", clean(&self.subject))?;
        writeln!(out, "  issuer: {}", clean(&self.issuer))?;
        writeln!(out, "  serial: {}", self.serial)?;
        writeln!(out, "  valid: {} to {}", self.not_before, self.not_after)?;
        if !self.hosts.is_empty() {
            writeln!(out, "  hosts: {}", clean(&self.hosts.join(", ")))?;
        }
        writeln!(out, "  SHA-256: {}", self.sha256)?;
        match &self.fault {
            Some(fault) => writeln!(out, "  gateways refuse it: {fault}"),
            None => writeln!(out, "  keeps to the profile"),
        }
    }
}

impl From<CrlSummary> for ShownCrl {
    fn from(summary: CrlSummary) -> Self {
        let revoked = summary
            .revoked
            .into_iter()
            .map(|(serial, at_s)| ShownRevoked {
                serial: Some(serial),
                at: moment(at_s),
                reason: None,
            });
        Self {
            issuer: summary.issuer,
            number: summary.number,
            this_update: moment(summary.this_update_s),
            next_update: summary.next_update_s.map(moment),
            revoked: revoked.collect(),
        }
    }
}

impl ShownCrl {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "CRL of {}", clean(&self.issuer))?;
        writeln!(
            out,
            "  number: {}",
            self.number.as_deref().unwrap_or("none")
        )?;
        let next = self.next_update.as_deref().unwrap_or("never");
        writeln!(out, "  made {}, next update by {next}", self.this_update)?;
        if self.revoked.is_empty() {
            return writeln!(out, "  nothing is revoked");
        }
        writeln!(out)?;
        let mut table = Table::new(&["SERIAL", "REVOKED"]);
        for revoked in &self.revoked {
            table.row([revoked.serial.as_deref().unwrap_or_default(), &revoked.at]);
        }
        table.write(out)
    }
}
