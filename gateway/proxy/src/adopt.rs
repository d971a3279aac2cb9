//! Taking over a directory: verified, kept on disk, entered, and in force at once.

use std::{collections::BTreeMap, sync::Arc};

use banqiao_directory::{Directory, DirectoryError, Envelope, TrustDomain, verify_next};
use banqiao_identity::BundleError;
use banqiao_ledger::{Append, AppendError, DocumentKind, Effect};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{AdminChange, Decision, Entry, Kind, Result as EntryResult},
};
use rustls::pki_types::CertificateDer;

use crate::{state, worker::Shared};

/// Why a directory was not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// A CA bundle in it cannot be used.
    #[error("a CA bundle of the directory cannot be used")]
    Bundles(#[source] BundleError),
    /// The change could not be entered in the ledger.
    #[error("the change could not be entered")]
    Ledger(#[source] AppendError),
    /// It does not follow the one in force.
    #[error("the directory was refused")]
    Refused(#[source] DirectoryError),
    /// It could not be kept on disk.
    #[error("the directory could not be kept")]
    Store(#[source] std::io::Error),
}

impl AdoptError {
    /// The reason that the one who offered it hears.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(error) => error.reason(),
            Self::Ledger(error) => Some(error.reason()),
            Self::Bundles(_) | Self::Store(_) => None,
        }
    }
}

/// Verifies a directory against the one in force and takes it over. The same one again changes nothing.
pub(crate) async fn directory(
    shared: &Arc<Shared>,
    envelope: &Envelope,
    actor: &str,
    source: &str,
) -> Result<u64, AdoptError> {
    let _turn = shared.adopting.lock().await;
    let before = shared.rights.snapshot();
    let next = match verify_next(&before.directory, envelope) {
        Ok(next) => next,
        Err(DirectoryError::AlreadyHeld { version }) => return Ok(version),
        Err(error) => {
            refused(shared, envelope, &error, actor, source).await;
            return Err(AdoptError::Refused(error));
        }
    };
    let json = envelope
        .to_json()
        .map_err(|error| AdoptError::Store(std::io::Error::other(error)))?;
    // Tried before anything is written: a bundle that cannot be used leaves everything as it was.
    let bundles = bundles(&next);
    let entry = entry(
        "directory.publish",
        actor,
        source,
        Some(&before.directory),
        envelope.digest(),
    );
    let append = Append::new(entry).with(Effect::PutDocument {
        kind: DocumentKind::Directory,
        key: "current".to_owned(),
        bytes: json.clone(),
    });
    shared
        .identity
        .replace_bundles(bundles)
        .map_err(AdoptError::Bundles)?;
    if let Err(error) = shared.appender.append(append).await {
        // What is not entered does not hold.
        let _ = shared
            .identity
            .replace_bundles(self::bundles(&before.directory));
        return Err(AdoptError::Ledger(error));
    }
    state::save_directory(&shared.names.state, &json).map_err(AdoptError::Store)?;
    let version = next.version();
    let fetched_at_us = shared.clock.now_us();
    shared.rights.change(|snapshot| {
        snapshot.directory = Arc::new(next);
        snapshot.envelope = json.into();
        snapshot.fetched_at_us = fetched_at_us;
    });
    shared.metrics.reloaded("directory", true);
    tracing::info!(version, source, "directory taken over");
    Ok(version)
}

async fn refused(
    shared: &Shared,
    envelope: &Envelope,
    error: &DirectoryError,
    actor: &str,
    source: &str,
) {
    let digest = envelope.digest();
    // A file or peer that offers the same refused document again is one event.
    if shared.refused_directory.lock().replace(digest) == Some(digest) && actor == "gateway" {
        return;
    }
    shared.metrics.reloaded("directory", false);
    let before = shared.rights.snapshot();
    let mut entry = entry(
        "directory.publish",
        actor,
        source,
        Some(&before.directory),
        digest,
    );
    let reason = error.reason().unwrap_or(Reason::DirectoryUnsigned);
    entry.decision = Some(Decision {
        reason: reason.into(),
        directory_version: before.directory.version(),
        ..Decision::default()
    });
    entry.result = Some(EntryResult {
        status: banqiao_proto::reasons().rule(reason).status,
        reason: reason.into(),
        ..EntryResult::default()
    });
    if let Err(error) = shared.appender.append(Append::new(entry)).await {
        tracing::warn!(%error, "the refusal of a directory could not be entered");
    }
}

fn entry(
    action: &str,
    actor: &str,
    target: &str,
    before: Option<&Directory>,
    after: [u8; 32],
) -> Entry {
    Entry {
        kind: Kind::Admin.into(),
        admin: Some(AdminChange {
            action: action.to_owned(),
            actor: actor.to_owned(),
            target: target.to_owned(),
            before: before
                .map(|directory| directory.digest().to_vec())
                .unwrap_or_default(),
            after: after.to_vec(),
        }),
        ..Entry::default()
    }
}

/// The CA bundles of every city.
pub(crate) fn bundles(
    directory: &Directory,
) -> BTreeMap<TrustDomain, Vec<CertificateDer<'static>>> {
    let der = |city: &banqiao_directory::City| {
        city.ca_bundle
            .iter()
            .cloned()
            .map(CertificateDer::from)
            .collect()
    };
    directory
        .cities()
        .iter()
        .map(|city| (city.trust_domain.clone(), der(city)))
        .collect()
}
