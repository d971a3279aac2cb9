//! The directory document: who takes part in the network, and how to reach and recognise them.
//!
//! It is written as TOML and published inside an [`crate::Envelope`]. A [`Directory`] says nothing about
//! signatures: [`crate::verify_first`] and [`crate::verify_next`] do.

mod city;
mod note_key;
mod parse;
mod raw;

use std::{collections::BTreeMap, fmt};

pub use city::{
    Agency, City, GatewayEndpoint, LedgerPolicy, Predecessor, ProtocolRange, Receipts, System,
    WitnessPolicy,
};
pub use note_key::{NoteKey, NoteKeyKind};
pub use parse::MAX_DOCUMENT_BYTES;

use crate::{CityCode, PublicKey, SpiffeId, TrustDomain};

/// One fault of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `cities[1].systems[0].id`, or `line 7` where the text could not be read.
    pub path: String,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// A name in Chinese and English.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// In Chinese.
    pub zh: String,
    /// In English.
    pub en: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.zh, self.en)
    }
}

/// A purpose that a call may state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Code, such as `benefit-eligibility`.
    pub code: String,
    /// Title.
    pub title: Name,
    /// What it covers, and what it does not.
    pub description: String,
}

/// The cities whose signatures make a directory valid: `threshold` of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers {
    /// Signatures needed; more than half of the keys.
    pub threshold: usize,
    /// One key for each city.
    pub keys: BTreeMap<CityCode, PublicKey>,
}

/// How much of its validity a directory has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// In the first half of its validity.
    Fresh,
    /// In the second half: a new one is due, and operators are warned.
    Ageing,
    /// Past its expiry: calls are refused.
    Expired,
}

/// The parsed document.
#[derive(Clone, Debug)]
pub struct Directory {
    version: u64,
    issued_at_us: i64,
    expires_at_us: i64,
    emergency: Option<String>,
    signers: Signers,
    cities: Vec<City>,
    purposes: Vec<Purpose>,
    digest: [u8; 32],
    /// Place of each city by its domain.
    domains: BTreeMap<TrustDomain, usize>,
    /// Places of each system: city, and system within it.
    systems: BTreeMap<SpiffeId, (usize, usize)>,
}

impl Directory {
    /// The version; it only grows.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When it was issued, in microseconds since 1970.
    pub const fn issued_at_us(&self) -> i64 {
        self.issued_at_us
    }

    /// When it expires, in microseconds since 1970.
    pub const fn expires_at_us(&self) -> i64 {
        self.expires_at_us
    }

    /// Why this version is an emergency removal, if it is one.
    pub fn emergency(&self) -> Option<&str> {
        self.emergency.as_deref()
    }

    /// The cities whose signatures make the next version valid.
    pub const fn signers(&self) -> &Signers {
        &self.signers
    }

    /// SHA-256 of the TOML bytes: the digest of the envelope that it came in.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Every city, in the order of the document.
    pub fn cities(&self) -> &[City] {
        &self.cities
    }

    /// The city with a code.
    pub fn city(&self, code: CityCode) -> Option<&City> {
        self.cities.iter().find(|city| city.code == code)
    }

    /// The city with a trust domain.
    pub fn city_by_domain(&self, domain: &TrustDomain) -> Option<&City> {
        self.domains.get(domain).and_then(|&at| self.cities.get(at))
    }

    /// The system with a SPIFFE ID, and its city.
    pub fn system(&self, id: &SpiffeId) -> Option<(&City, &System)> {
        let &(city, system) = self.systems.get(id)?;
        let city = self.cities.get(city)?;
        Some((city, city.systems.get(system)?))
    }

    /// Every purpose, in the order of the document.
    pub fn purposes(&self) -> &[Purpose] {
        &self.purposes
    }

    /// The purpose with a code.
    pub fn purpose(&self, code: &str) -> Option<&Purpose> {
        self.purposes.iter().find(|purpose| purpose.code == code)
    }

    /// Where a call with this `banqiao-to` goes: a city by its code, or the city of a listed system by the
    /// system's SPIFFE ID, with that ID. Nothing for anything else.
    pub fn destination(&self, to: &str) -> Option<(&City, Option<SpiffeId>)> {
        if let Ok(code) = to.parse() {
            return self.city(code).map(|city| (city, None));
        }
        let id: SpiffeId = to.parse().ok()?;
        self.system(&id).map(|(city, _)| (city, Some(id)))
    }

    /// How much of its validity is left at a moment in microseconds since 1970.
    ///
    /// A moment before the issue is no fault: clocks of cities differ, and the version already orders documents.
    pub const fn status(&self, now_us: i64) -> Status {
        let half = self.issued_at_us + (self.expires_at_us - self.issued_at_us) / 2;
        if now_us >= self.expires_at_us {
            Status::Expired
        } else if now_us >= half {
            Status::Ageing
        } else {
            Status::Fresh
        }
    }

    /// Microseconds since it was issued, at least 0.
    pub fn age_us(&self, now_us: i64) -> i64 {
        now_us.saturating_sub(self.issued_at_us).max(0)
    }
}

#[cfg(test)]
mod tests;
