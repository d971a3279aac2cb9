//! What to put into a certificate.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use banqiao_directory::{SpiffeId, TrustDomain};
use rustls_pki_types::DnsName;

use super::{CertificateKind, PkiError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A quarter: long enough to be renewed by hand, short enough that the CRL stays small.
const DEFAULT_SYSTEM_LIFETIME: Duration = DAY.saturating_mul(90);
/// People leave and lose devices more often than machines do.
const DEFAULT_ADMIN_LIFETIME: Duration = DAY.saturating_mul(30);

/// Kind of key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on P-256: what every gRPC library can use.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519; some gRPC libraries cannot use it.
    Ed25519,
}

/// A role at the admin listener. No identity has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminRole {
    /// Changes directory, grants and keys.
    Administrator,
    /// Reads the ledger and its private parts.
    Auditor,
    /// Watches and drains.
    Operator,
}

impl fmt::Display for AdminRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Administrator => "administrator",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        })
    }
}

/// A certificate to issue.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    pub(super) id: SpiffeId,
    pub(super) kind: CertificateKind,
    pub(super) name: String,
    pub(super) dns: Vec<DnsName<'static>>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) key: KeyKind,
    pub(super) lifetime: Duration,
    pub(super) renew: bool,
}

impl CertificateRequest {
    /// For the city's gateway, in `gateway.crt`. Carries the host name `gateway.<trust domain>` where that is one,
    /// because grpcio and grpc-js check names.
    pub fn gateway(trust_domain: &TrustDomain) -> Self {
        let own_name = DnsName::try_from(format!("gateway.{trust_domain}"));
        Self {
            dns: own_name.into_iter().collect(),
            ..Self::of(
                trust_domain.gateway(),
                CertificateKind::Gateway,
                "gateway".to_owned(),
            )
        }
    }

    /// For a system of the city, such as `hrss/card`, in `hrss-card.crt`.
    ///
    /// # Errors
    ///
    /// When the path is not one of a SPIFFE ID, or is in a part that is reserved: `gateway`, `admin`.
    pub fn system(trust_domain: &TrustDomain, path: &str) -> Result<Self, PkiError> {
        let id = identity(trust_domain, path)?;
        if matches!(id.agency(), "admin" | "gateway") {
            return Err(name_error(
                path,
                "paths that begin with gateway or admin are reserved",
            ));
        }
        Self::of(id, CertificateKind::System, String::new()).file_name(&path.replace('/', "-"))
    }

    /// For a person at the admin listener: `spiffe://<trust domain>/admin/<role>/<name>`, in `<role>-<name>.crt`.
    ///
    /// # Errors
    ///
    /// When the name is not one segment of a SPIFFE ID.
    pub fn admin(
        trust_domain: &TrustDomain,
        role: AdminRole,
        name: &str,
    ) -> Result<Self, PkiError> {
        if name.contains('/') {
            return Err(name_error(name, "a name has no slash"));
        }
        let id = identity(trust_domain, &format!("admin/{role}/{name}"))?;
        Self {
            lifetime: DEFAULT_ADMIN_LIFETIME,
            ..Self::of(id, CertificateKind::Admin, String::new())
        }
        .file_name(&format!("{role}-{name}"))
    }

    const fn of(id: SpiffeId, kind: CertificateKind, name: String) -> Self {
        Self {
            id,
            kind,
            name,
            dns: Vec::new(),
            addresses: Vec::new(),
            key: KeyKind::EcdsaP256,
            lifetime: DEFAULT_SYSTEM_LIFETIME,
            renew: false,
        }
    }

    /// Adds a host name or an IP address under which the holder serves.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn host(mut self, host: &str) -> Result<Self, PkiError> {
        if let Ok(address) = IpAddr::from_str(host) {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
            return Ok(self);
        }
        let dns = DnsName::try_from(host.to_ascii_lowercase())
            .map_err(|_| name_error(host, "neither a DNS name nor an IP address"))?;
        if !self.dns.contains(&dns) {
            self.dns.push(dns);
        }
        Ok(self)
    }

    /// Adds `localhost`, `127.0.0.1` and `::1`.
    pub fn loopback(mut self) -> Self {
        for host in ["localhost", "127.0.0.1", "::1"] {
            // They are a DNS name and addresses.
            self = self.clone().host(host).unwrap_or(self);
        }
        self
    }

    /// Sets the file name, without extension.
    ///
    /// # Errors
    ///
    /// When it would leave the folder or overwrite one of the CA's own files.
    pub fn file_name(mut self, name: &str) -> Result<Self, PkiError> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(sound)
        {
            return Err(name_error(
                name,
                "a file name has 1 to 128 letters, digits, '.', '-' and '_'",
            ));
        }
        if matches!(name, "ca" | "crl") {
            return Err(name_error(name, "the CA's own files have this name"));
        }
        name.clone_into(&mut self.name);
        Ok(self)
    }

    /// Sets the kind of key; ECDSA P-256 otherwise.
    pub const fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Sets how long it is valid; 90 days otherwise, and 30 days for people.
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Whether to issue a new certificate even though the present one would do.
    pub const fn renew(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// Host names and addresses as text, as `ca.json` has them.
    pub(super) fn names(&self) -> Vec<String> {
        let dns = self.dns.iter().map(|name| name.as_ref().to_owned());
        dns.chain(self.addresses.iter().map(ToString::to_string))
            .collect()
    }
}

fn identity(trust_domain: &TrustDomain, path: &str) -> Result<SpiffeId, PkiError> {
    format!("spiffe://{trust_domain}/{path}")
        .parse()
        .map_err(|_| {
            name_error(
                path,
                "a path has one to eight segments of letters, digits, '.', '-' and '_'",
            )
        })
}

fn name_error(name: &str, rule: &'static str) -> PkiError {
    PkiError::Name {
        name: name.to_owned(),
        rule,
    }
}
