//! Which directory a gateway may take over: the rules of The Update Framework (specification §5.3), with the
//! cities' own say about their sections.
//!
//! | the offered version | rule |
//! |---|---|
//! | the first one | its digest is pinned in the gateway's config, and the threshold of its own signers signed it |
//! | a later one | the thresholds of the signers of the held *and* of the offered version signed it |
//! | with a changed section | that city signed it too, with the key of the held version, and with its new key if that changed |
//! | marked as emergency | instead: nothing is in it that was not in the held version |
//!
//! Expiry is not looked at here: an expired version is still the one that the next one follows.

use std::{collections::BTreeSet, fmt};

use banqiao_proto::exchange::v1::Reason;

use crate::{
    Change, ChangeKind, CityCode, Directory, Envelope, EnvelopeError, Fault, PublicKey, Scope,
    Signers, diff,
};

/// Why a directory is not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Nothing new.
    #[error("version {version} is the one in force")]
    AlreadyHeld {
        /// The version.
        version: u64,
    },
    /// Cities whose sections or keys change have not signed.
    #[error(
        "the sections of {} change without these cities' signatures",
        Codes(missing)
    )]
    CityUnsigned {
        /// The cities.
        missing: Vec<CityCode>,
    },
    /// The document is not sound.
    #[error("the document has faults: {}", Joined(faults))]
    Document {
        /// All of them.
        faults: Vec<Fault>,
    },
    /// An emergency removal does more than remove.
    #[error("an emergency removal may only remove: {}", Joined(changes))]
    Emergency {
        /// What it does besides.
        changes: Vec<Change>,
    },
    /// Not an envelope.
    #[error("the envelope cannot be read")]
    Envelope(#[from] EnvelopeError),
    /// Neither the envelope nor its history holds the document that the config pins.
    #[error(
        "the directory has the digest {}, but {} is pinned",
        hex::encode(found),
        hex::encode(pin)
    )]
    NotPinned {
        /// What the config says.
        pin: [u8; 32],
        /// Digest of the envelope's document.
        found: [u8; 32],
    },
    /// Older than the one in force, or another document with the same version.
    #[error("version {offered} is offered, but version {held} is in force")]
    RolledBack {
        /// Version in force.
        held: u64,
        /// Version that was offered.
        offered: u64,
    },
    /// Too few signatures.
    #[error(
        "{have} of the {need} signatures that the {of} signers must give; not signed by {}",
        Codes(missing)
    )]
    Unsigned {
        /// Whose signers.
        of: SignersOf,
        /// Valid signatures.
        have: usize,
        /// The threshold.
        need: usize,
        /// Cities that could still sign.
        missing: Vec<CityCode>,
    },
}

impl DirectoryError {
    /// The reason of refusal that this is, if it is one: the rest are faults of form, or nothing new.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::CityUnsigned { .. }
            | Self::Emergency { .. }
            | Self::NotPinned { .. }
            | Self::Unsigned { .. } => Some(Reason::DirectoryUnsigned),
            Self::RolledBack { .. } => Some(Reason::DirectoryRolledBack),
            Self::AlreadyHeld { .. } | Self::Document { .. } | Self::Envelope(_) => None,
        }
    }
}

/// The version that names a set of signers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignersOf {
    /// The one in force.
    Held,
    /// The one that is offered.
    Offered,
}

impl fmt::Display for SignersOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held version's",
            Self::Offered => "offered version's",
        })
    }
}

/// Verifies the directory that a gateway starts from: the envelope's own document or one in its history has the
/// pinned SHA-256, and what follows it verifies step by step.
///
/// # Errors
/// [`DirectoryError`] if nothing has the digest, or a signature is missing.
pub fn verify_first(envelope: &Envelope, pin: &[u8; 32]) -> Result<Directory, DirectoryError> {
    let pinned = std::iter::once(envelope)
        .chain(envelope.history())
        .find(|e| e.digest() == *pin);
    let Some(pinned) = pinned else {
        return Err(DirectoryError::NotPinned {
            pin: *pin,
            found: envelope.digest(),
        });
    };
    let first = parse(pinned)?;
    threshold(first.signers(), SignersOf::Offered, pinned)?;
    if pinned.payload() == envelope.payload() {
        Ok(first)
    } else {
        verify_next(&first, envelope)
    }
}

/// Verifies a directory that is offered to a gateway that holds `current`.
///
/// Where the offered version is more than one ahead, or its signatures do not reach from `current`, the versions in
/// its history are followed in between; links that do not verify are passed over.
///
/// # Errors
/// [`DirectoryError::AlreadyHeld`] for the same version and document; else why it may not be taken over.
pub fn verify_next(current: &Directory, envelope: &Envelope) -> Result<Directory, DirectoryError> {
    let offered = parse(envelope)?;
    newer(current, &offered)?;
    let direct = match admit(current, &offered, envelope) {
        Ok(()) => return Ok(offered),
        Err(error) => error,
    };
    let mut links: Vec<_> = envelope
        .history()
        .iter()
        .filter_map(|link| Some((parse(link).ok()?, link)))
        .filter(|(link, _)| (current.version() + 1..offered.version()).contains(&link.version()))
        .collect();
    links.sort_by_key(|(link, _)| link.version());
    let mut held: Option<Directory> = None;
    for (link, signed) in links {
        let from = held.as_ref().unwrap_or(current);
        if newer(from, &link).is_ok() && admit(from, &link, signed).is_ok() {
            held = Some(link);
        }
    }
    match held {
        None => Err(direct),
        Some(held) => admit(&held, &offered, envelope).map(|()| offered),
    }
}

/// Every version that an envelope shows on the way from the pinned first one, in order of version: what was in force when.
///
/// # Errors
/// As of [`verify_first`]. Links of the history that do not verify are passed over.
pub fn verify_history(
    envelope: &Envelope,
    pin: &[u8; 32],
) -> Result<Vec<Directory>, DirectoryError> {
    let last = verify_first(envelope, pin)?;
    let mut links: Vec<(Directory, &Envelope)> = envelope
        .history()
        .iter()
        .filter_map(|link| Some((parse(link).ok()?, link)))
        .collect();
    links.sort_by_key(|(link, _)| link.version());
    let mut versions: Vec<Directory> = Vec::new();
    for (link, signed) in links {
        let follows = match versions.last() {
            None => signed.digest() == *pin,
            Some(held) => newer(held, &link).is_ok() && admit(held, &link, signed).is_ok(),
        };
        if follows {
            versions.push(link);
        }
    }
    versions.push(last);
    Ok(versions)
}

/// What is still to be signed before an envelope can follow `current` (or stand first), in plain words.
///
/// # Errors
/// [`DirectoryError::Document`] if the document is not sound.
pub fn missing_signatures(
    current: Option<&Directory>,
    envelope: &Envelope,
) -> Result<Vec<String>, DirectoryError> {
    let offered = parse(envelope)?;
    let mut missing = Vec::new();
    if let Some(current) = current {
        missing.extend(threshold(current.signers(), SignersOf::Held, envelope).err());
    }
    missing.extend(threshold(offered.signers(), SignersOf::Offered, envelope).err());
    if let Some(current) = current {
        missing.extend(sections(current, &offered, envelope).err());
    }
    Ok(missing.iter().map(ToString::to_string).collect())
}

fn parse(envelope: &Envelope) -> Result<Directory, DirectoryError> {
    Directory::parse(envelope.payload()).map_err(|faults| DirectoryError::Document { faults })
}

fn newer(current: &Directory, offered: &Directory) -> Result<(), DirectoryError> {
    let (held, version) = (current.version(), offered.version());
    if version == held && offered.digest() == current.digest() {
        Err(DirectoryError::AlreadyHeld { version })
    } else if version <= held {
        Err(DirectoryError::RolledBack {
            held,
            offered: version,
        })
    } else {
        Ok(())
    }
}

/// Whether the signatures carry the step from `current` to `offered`.
fn admit(
    current: &Directory,
    offered: &Directory,
    envelope: &Envelope,
) -> Result<(), DirectoryError> {
    threshold(current.signers(), SignersOf::Held, envelope)?;
    threshold(offered.signers(), SignersOf::Offered, envelope)?;
    sections(current, offered, envelope)
}

fn threshold(signers: &Signers, of: SignersOf, envelope: &Envelope) -> Result<(), DirectoryError> {
    let missing: Vec<CityCode> = signers
        .keys
        .iter()
        .filter(|(_, key)| !envelope.is_signed_by(key))
        .map(|(code, _)| *code)
        .collect();
    let have = signers.keys.len() - missing.len();
    if have >= signers.threshold {
        return Ok(());
    }
    Err(DirectoryError::Unsigned {
        of,
        have,
        need: signers.threshold,
        missing,
    })
}

/// The cities' own say: each signs what changes of itself, except in an emergency, which may only remove.
fn sections(
    current: &Directory,
    offered: &Directory,
    envelope: &Envelope,
) -> Result<(), DirectoryError> {
    let changes = diff(current, offered);
    if offered.emergency().is_some() {
        return only_removes(current, offered, changes);
    }
    let mut cities: BTreeSet<CityCode> = changes
        .iter()
        .filter_map(|change| match change.scope {
            Scope::City(code) => Some(code),
            Scope::Document | Scope::Purposes | Scope::Signers => None,
        })
        .collect();
    let held = &current.signers().keys;
    let next = &offered.signers().keys;
    cities.extend(
        held.keys()
            .chain(next.keys())
            .filter(|code| held.get(code) != next.get(code)),
    );
    let signed = |key: Option<&PublicKey>| key.is_none_or(|key| envelope.is_signed_by(key));
    // A city without a key (a guest, or one that joins as a guest) has no say of its own.
    let missing: Vec<CityCode> = cities
        .into_iter()
        .filter(|code| !signed(held.get(code)) || !signed(next.get(code)))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(DirectoryError::CityUnsigned { missing })
    }
}

fn only_removes(
    current: &Directory,
    offered: &Directory,
    mut changes: Vec<Change>,
) -> Result<(), DirectoryError> {
    let longer = offered.expires_at_us() > current.expires_at_us();
    changes.retain(|change| match change.scope {
        // A new version has other times, but must not live longer than what it cuts down.
        Scope::Document => longer && change.text.starts_with("expires "),
        Scope::City(_) | Scope::Purposes | Scope::Signers => change.kind != ChangeKind::Removed,
    });
    if changes.is_empty() {
        Ok(())
    } else {
        Err(DirectoryError::Emergency { changes })
    }
}

struct Codes<'a>(&'a [CityCode]);

impl fmt::Display for Codes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, code) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{code}")?;
        }
        Ok(())
    }
}

struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{item}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
