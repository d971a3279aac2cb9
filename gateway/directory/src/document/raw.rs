//! The document as it is written. No logic: every rule is in `parse`.
//!
//! Everything is optional here, so that missing keys are reported together with all other faults.

use serde::Deserialize;
use toml::value::Datetime;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directory {
    pub(super) version: Option<i64>,
    pub(super) issued: Option<Datetime>,
    pub(super) expires: Option<Datetime>,
    pub(super) emergency: Option<String>,
    pub(super) signers: Option<Signers>,
    #[serde(default)]
    pub(super) cities: Vec<City>,
    #[serde(default)]
    pub(super) purposes: Vec<Purpose>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signers {
    pub(super) threshold: Option<i64>,
    #[serde(default)]
    pub(super) keys: Vec<SignerKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignerKey {
    pub(super) city: Option<String>,
    pub(super) public_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    pub(super) zh: Option<String>,
    pub(super) en: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct City {
    pub(super) code: Option<String>,
    pub(super) name: Option<Name>,
    pub(super) trust_domain: Option<String>,
    pub(super) ca_bundle: Option<String>,
    #[serde(default)]
    pub(super) gateways: Vec<String>,
    #[serde(default)]
    pub(super) guest: bool,
    pub(super) protocol: Option<Protocol>,
    pub(super) features: Option<Features>,
    pub(super) ledger: Option<Ledger>,
    pub(super) witness: Option<Witness>,
    #[serde(default)]
    pub(super) agencies: Vec<Agency>,
    #[serde(default)]
    pub(super) systems: Vec<System>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Protocol {
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Features {
    pub(super) receipts: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) origin: Option<String>,
    #[serde(default)]
    pub(super) keys: Vec<String>,
    pub(super) predecessor: Option<Predecessor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Predecessor {
    pub(super) origin: Option<String>,
    pub(super) size: Option<i64>,
    pub(super) root: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Witness {
    #[serde(default)]
    pub(super) keys: Vec<String>,
    pub(super) quorum: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agency {
    pub(super) code: Option<String>,
    pub(super) name: Option<Name>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct System {
    pub(super) id: Option<String>,
    pub(super) title: Option<String>,
    pub(super) agency: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Purpose {
    pub(super) code: Option<String>,
    pub(super) title: Option<Name>,
    pub(super) description: Option<String>,
}
