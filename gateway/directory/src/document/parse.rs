//! From the written document to the parsed one: every fault at once, with its key path.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use toml::value::Datetime;

use super::{City, Directory, Fault, Name, Purpose, Signers, raw};
use crate::{
    CityCode, PublicKey,
    text::{is_code, is_plain_text},
};

/// Largest document in bytes: thousands of systems fit in.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Longest validity: a directory that hardly expires protects against nothing.
const MAX_VALIDITY_US: i64 = 366 * 86_400 * 1_000_000;
/// Longest name or title, in characters.
pub(super) const MAX_TITLE: usize = 200;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 2_000;

impl Directory {
    /// Parses the TOML of a document. It says nothing about signatures.
    ///
    /// # Errors
    /// Every fault of the document with its key path. Text that is no TOML, a key that is not known and a value of
    /// another type hide the faults behind them.
    pub fn parse(toml: &[u8]) -> Result<Self, Vec<Fault>> {
        let text = readable(toml).map_err(|fault| vec![fault])?;
        let raw: raw::Directory =
            toml::from_str(text).map_err(|error| vec![unreadable(text, &error)])?;
        let mut faults = Faults::default();
        let version = version(raw.version, &mut faults);
        let issued = faults.moment("issued", raw.issued);
        let expires = faults.moment("expires", raw.expires);
        if let (Some(issued), Some(expires)) = (issued, expires) {
            if expires <= issued {
                faults.push("expires", "must lie after issued");
            } else if expires - issued > MAX_VALIDITY_US {
                faults.push("expires", "lies more than 366 days after issued");
            }
        }
        let emergency = raw
            .emergency
            .and_then(|text| faults.text("emergency", Some(text), MAX_DESCRIPTION));
        let cities: Vec<_> = raw
            .cities
            .into_iter()
            .enumerate()
            .map(|(at, city)| City::parse(city, &format!("cities[{at}]"), &mut faults))
            .collect();
        across(&cities, &mut faults);
        let signers = signers(raw.signers, &cities, emergency.is_some(), &mut faults);
        let purposes = purposes(raw.purposes, &mut faults);
        let (Some(version), Some(issued_at_us), Some(expires_at_us), Some(signers), true) =
            (version, issued, expires, signers, faults.0.is_empty())
        else {
            return Err(faults.0);
        };
        let cities: Vec<City> = cities.into_iter().flatten().collect();
        let domains = cities
            .iter()
            .enumerate()
            .map(|(at, city)| (city.trust_domain.clone(), at))
            .collect();
        let systems = places(&cities);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, toml).as_ref());
        Ok(Self {
            version,
            issued_at_us,
            expires_at_us,
            emergency,
            signers,
            cities,
            purposes,
            digest: sha256,
            domains,
            systems,
        })
    }
}

fn places(cities: &[City]) -> BTreeMap<crate::SpiffeId, (usize, usize)> {
    let mut places = BTreeMap::new();
    for (city_at, city) in cities.iter().enumerate() {
        for (at, system) in city.systems.iter().enumerate() {
            places.insert(system.id.clone(), (city_at, at));
        }
    }
    places
}

fn readable(toml: &[u8]) -> Result<&str, Fault> {
    let fault = |text: &str| Fault {
        path: "document".to_owned(),
        text: text.to_owned(),
    };
    if toml.len() > MAX_DOCUMENT_BYTES {
        return Err(fault("has more than 1 MiB"));
    }
    std::str::from_utf8(toml).map_err(|_| fault("is not UTF-8"))
}

fn unreadable(text: &str, error: &toml::de::Error) -> Fault {
    let line = error.span().map_or(1, |span| {
        text.get(..span.start)
            .map_or(1, |before| before.matches('\n').count() + 1)
    });
    Fault {
        path: format!("line {line}"),
        text: error.message().to_owned(),
    }
}

/// Collects faults, and turns what is sound into what it means.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.0.push(Fault {
            path: path.into(),
            text: text.into(),
        });
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        path: &str,
        raw: Option<String>,
    ) -> Option<T> {
        let Some(text) = raw else {
            self.push(path, "is missing");
            return None;
        };
        text.parse()
            .map_err(|error: T::Err| self.push(path, error.to_string()))
            .ok()
    }

    pub(super) fn text(&mut self, path: &str, raw: Option<String>, max: usize) -> Option<String> {
        let Some(text) = raw else {
            self.push(path, "is missing");
            return None;
        };
        if is_plain_text(&text, max) {
            return Some(text);
        }
        self.push(
            path,
            format!("has 1 to {max} characters and no control characters"),
        );
        None
    }

    pub(super) fn name(&mut self, path: &str, raw: Option<raw::Name>) -> Option<Name> {
        let raw = raw.unwrap_or_default();
        let zh = self.text(&format!("{path}.zh"), raw.zh, MAX_TITLE);
        let en = self.text(&format!("{path}.en"), raw.en, MAX_TITLE);
        Some(Name { zh: zh?, en: en? })
    }

    fn moment(&mut self, path: &str, raw: Option<Datetime>) -> Option<i64> {
        let Some(stated) = raw else {
            self.push(path, "is missing: a moment such as 2026-11-23T00:00:00Z");
            return None;
        };
        match stated.to_string().parse::<Timestamp>() {
            Ok(moment) if moment.as_microsecond() >= 0 => Some(moment.as_microsecond()),
            Ok(_) | Err(_) => {
                self.push(
                    path,
                    "needs date, time and offset, such as 2026-11-23T00:00:00Z",
                );
                None
            }
        }
    }
}

fn version(raw: Option<i64>, faults: &mut Faults) -> Option<u64> {
    let version = raw
        .and_then(|version| u64::try_from(version).ok())
        .filter(|&v| v > 0);
    if version.is_none() {
        faults.push(
            "version",
            "is a number of at least 1, and grows with each directory",
        );
    }
    version
}

/// What holds between cities.
fn across(cities: &[Option<City>], faults: &mut Faults) {
    if cities.is_empty() {
        faults.push("cities", "is missing: at least one city");
    }
    let count = cities.len();
    let mut codes = BTreeSet::new();
    let mut domains = BTreeSet::new();
    let mut certificates: BTreeMap<&[u8], CityCode> = BTreeMap::new();
    let mut gateways = BTreeSet::new();
    for (at, city) in cities.iter().enumerate() {
        let Some(city) = city else { continue };
        let path = format!("cities[{at}]");
        if !codes.insert(city.code) {
            faults.push(format!("{path}.code"), "stands twice");
        }
        if !domains.insert(&city.trust_domain) {
            faults.push(format!("{path}.trust_domain"), "stands twice");
        }
        for certificate in &city.ca_bundle {
            // A CA that two cities trust could speak for both.
            if let Some(other) = certificates.insert(certificate, city.code) {
                let text = format!("shares a certificate with the city {other}");
                faults.push(format!("{path}.ca_bundle"), text);
            }
        }
        for (gateway_at, gateway) in city.gateways.iter().enumerate() {
            if !gateways.insert(gateway) {
                faults.push(format!("{path}.gateways[{gateway_at}]"), "stands twice");
            }
        }
        if let Some(witness) = &city.witness
            && usize::try_from(witness.quorum).is_ok_and(|quorum| quorum >= count)
        {
            faults.push(
                format!("{path}.witness.quorum"),
                "is more than the other cities",
            );
        }
    }
}

fn signers(
    raw: Option<raw::Signers>,
    cities: &[Option<City>],
    emergency: bool,
    faults: &mut Faults,
) -> Option<Signers> {
    let Some(raw) = raw else {
        faults.push("signers", "is missing: threshold and keys");
        return None;
    };
    let mut keys: BTreeMap<CityCode, PublicKey> = BTreeMap::new();
    for (at, key) in raw.keys.into_iter().enumerate() {
        let path = format!("signers.keys[{at}]");
        let code = faults.parsed::<CityCode>(&format!("{path}.city"), key.city);
        let public = faults.parsed::<PublicKey>(&format!("{path}.public_key"), key.public_key);
        let (Some(code), Some(public)) = (code, public) else {
            continue;
        };
        match cities.iter().flatten().find(|city| city.code == code) {
            None => faults.push(format!("{path}.city"), "is no city of this directory"),
            Some(city) if city.guest => {
                faults.push(format!("{path}.city"), "is a guest, and guests do not sign");
            }
            Some(_) => {}
        }
        if keys.values().any(|held| *held == public) {
            faults.push(format!("{path}.public_key"), "stands twice");
        }
        if keys.insert(code, public).is_some() {
            faults.push(format!("{path}.city"), "stands twice");
        }
    }
    // Only an emergency removal may leave a member without a key; the next version gives it a new one.
    for (at, city) in cities.iter().enumerate() {
        if let Some(city) = city
            && !city.guest
            && !emergency
            && !keys.contains_key(&city.code)
        {
            let text = "is no guest and needs a key in signers.keys";
            faults.push(format!("cities[{at}]"), text);
        }
    }
    let threshold = raw
        .threshold
        .and_then(|threshold| usize::try_from(threshold).ok());
    let threshold = threshold.filter(|&m| m <= keys.len() && m * 2 > keys.len());
    if threshold.is_none() {
        // Half or less would let two groups sign two directories.
        let text = "is more than half of the keys, and at most all of them";
        faults.push("signers.threshold", text);
    }
    Some(Signers {
        threshold: threshold?,
        keys,
    })
}

fn purposes(raw: Vec<raw::Purpose>, faults: &mut Faults) -> Vec<Purpose> {
    if raw.is_empty() {
        faults.push("purposes", "is missing: at least one purpose");
    }
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .enumerate()
        .filter_map(|(at, purpose)| {
            let path = format!("purposes[{at}]");
            let code = purpose.code.unwrap_or_default();
            if !is_code(&code) {
                let text = "is 1 to 64 characters of a-z, 0-9, '-' and '_'";
                faults.push(format!("{path}.code"), text);
            } else if !seen.insert(code.clone()) {
                faults.push(format!("{path}.code"), "stands twice");
            }
            let title = faults.name(&format!("{path}.title"), purpose.title);
            let description = faults.text(
                &format!("{path}.description"),
                purpose.description,
                MAX_DESCRIPTION,
            );
            Some(Purpose {
                code,
                title: title?,
                description: description?,
            })
        })
        .collect()
}
