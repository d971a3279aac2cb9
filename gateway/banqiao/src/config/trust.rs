//! What must agree between the certificate, the directory and the config: all of them name one city.

use std::path::Path;

use banqiao_directory::{
    CityCode, Clock, Directory, Envelope, MAX_ENVELOPE_BYTES, SpiffeId, Status, TrustDomain,
    verify_first,
};
use banqiao_identity::{Identity, IdentityFiles, IdentitySettings};
use banqiao_telemetry::Chain;

use super::{
    AdminListener, DirectoryConfig, IdentityConfig, Place, ServiceConfig, fault::Faults, files,
    raw::Located,
};

/// What was read, as far as it could be.
pub(super) struct Stated<'a, 't> {
    pub(super) faults: &'a Faults<'t>,
    pub(super) clock: &'a Clock,
    pub(super) city: Option<&'a Located<CityCode>>,
    pub(super) identity: Option<&'a Located<IdentityConfig>>,
    pub(super) directory: Option<&'a Located<DirectoryConfig>>,
    /// Whether a directory is kept from an earlier run, so that the file need not reach back to the pin.
    pub(super) kept: bool,
    pub(super) admin: Option<(&'a Place, &'a AdminListener)>,
    pub(super) services: &'a [Located<ServiceConfig>],
}

impl Stated<'_, '_> {
    /// Checks the agreement of everything that could be read.
    pub(super) fn check(&self) {
        let own = self.own();
        let directory = self.directory();
        self.listed(own.as_ref(), directory.as_ref());
        let domain = own.as_ref().map(SpiffeId::trust_domain);
        let Some(domain) = domain else { return };
        for service in self.services {
            self.same_city(
                &service.at,
                &service.value.identity,
                domain,
                "a service of this city",
            );
        }
        if let Some((
            at,
            AdminListener {
                address: Some((_, roles)),
                ..
            },
        )) = self.admin
        {
            for (id, role) in roles {
                self.same_city(at, id, domain, &format!("an {role} of this gateway"));
            }
        }
    }

    /// The gateway's own identity, if certificate and key are good.
    fn own(&self) -> Option<SpiffeId> {
        let IdentityConfig {
            certificate,
            private_key,
        } = &self.identity?.value;
        let at = &self.identity?.at;
        // Missing and exposed files were reported where they are named.
        if !files::is_readable(certificate) || !files::is_private(private_key) {
            return None;
        }
        let files = IdentityFiles {
            certificate: certificate.clone(),
            private_key: private_key.clone(),
        };
        let identity = Identity::load(files, IdentitySettings::default(), self.clock.clone());
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => {
                let hint = "issue certificate and key with `banqiao pki`";
                self.faults.error(at, Chain(&error).to_string(), hint);
                return None;
            }
        };
        let id = identity.own().id.clone();
        if !id.is_gateway() {
            let problem = format!("the certificate is of {id}, which is no gateway");
            let hint = format!("issue one for {}", id.trust_domain().gateway());
            self.faults.error(at, problem, hint);
            return None;
        }
        Some(id)
    }

    /// The document of the directory file, if it can be read.
    fn directory(&self) -> Option<Directory> {
        let DirectoryConfig { file, pin, .. } = &self.directory?.value;
        let at = &self.directory?.at;
        if !file.is_file() {
            return None;
        }
        let envelope = read_envelope(file).and_then(|json| {
            Envelope::parse(&json)
                .map_err(|error| format!("is not a signed directory: {}", Chain(&error)))
        });
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(problem) => {
                let hint = "`banqiao directory sign` writes it";
                self.faults
                    .error(at, format!("{} {problem}", file.display()), hint);
                return None;
            }
        };
        if let Err(error) = verify_first(&envelope, pin) {
            let problem = format!(
                "{} does not verify from the pin: {}",
                file.display(),
                Chain(&error)
            );
            if self.kept {
                let hint = "the gateway starts from the directory that it has kept";
                self.faults.warning(at, problem, hint);
            } else {
                let hint =
                    "compare the pin with `banqiao directory show`, and collect missing signatures";
                self.faults.error(at, problem, hint);
            }
        }
        let directory = Directory::parse(envelope.payload()).ok()?;
        match directory.status(self.clock.now_us()) {
            Status::Fresh => {}
            Status::Ageing => {
                let hint = "a new version is due: `banqiao directory sign`";
                self.faults
                    .warning(at, "the directory is past half of its validity", hint);
            }
            Status::Expired => {
                let hint = "calls are refused until a new version is published";
                self.faults.warning(at, "the directory has expired", hint);
            }
        }
        Some(directory)
    }

    /// Checks that the directory lists the city with the certificate's trust domain.
    fn listed(&self, own: Option<&SpiffeId>, directory: Option<&Directory>) {
        let (Some(city), Some(directory)) = (self.city, directory) else {
            return;
        };
        let Some(listed) = directory.city(city.value) else {
            let known: Vec<_> = directory
                .cities()
                .iter()
                .map(|city| city.code.to_string())
                .collect();
            let hint = format!("it lists {}", known.join(", "));
            let problem = format!("the directory lists no city {}", city.value);
            self.faults.error(&city.at, problem, hint);
            return;
        };
        let Some(own) = own else { return };
        if listed.trust_domain != *own.trust_domain() {
            let problem = format!(
                "{} is the city {} of the directory, but the certificate is of {}",
                city.value,
                listed.trust_domain,
                own.trust_domain()
            );
            let hint = match directory.city_by_domain(own.trust_domain()) {
                Some(other) => format!(
                    "write city = \"{}\", or use a certificate of {}",
                    other.code, listed.trust_domain
                ),
                None => format!("use a certificate of {}", listed.trust_domain),
            };
            self.faults.error(&city.at, problem, hint);
        }
    }

    fn same_city(&self, at: &Place, id: &SpiffeId, domain: &TrustDomain, what: &str) {
        if id.trust_domain() != domain {
            let problem = format!("{id} is not of {domain}, so it cannot be {what}");
            self.faults
                .error(at, problem, format!("use an identity of {domain}"));
        }
    }
}

fn read_envelope(file: &Path) -> Result<Vec<u8>, String> {
    let limit = u64::try_from(MAX_ENVELOPE_BYTES).unwrap_or(u64::MAX);
    files::read_bounded(file, limit).map_err(|error| format!("cannot be read: {error}"))
}
