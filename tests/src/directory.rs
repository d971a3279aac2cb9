//! The signed directory of a test network, written and signed independently of `banqiao directory`.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use banqiao_directory::Clock;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use toml::{Table, Value};

use crate::network::{City, set};

/// Media type of the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.banqiao.directory.v1+toml";

/// A city's key for signing directories.
pub struct Signer(Ed25519KeyPair);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// A fresh key.
    ///
    /// # Errors
    ///
    /// Fails when the machine has no randomness.
    pub fn new() -> Result<Self> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .ok()
            .context("key")?;
        Ok(Self(
            Ed25519KeyPair::from_pkcs8(document.as_ref())
                .ok()
                .context("key")?,
        ))
    }

    /// The raw public key.
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }
}

/// A key that signs notes (C2SP signed-note), written independently of the gateway's own.
pub struct NoteKey {
    name: String,
    kind: u8,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.verifier())
    }
}

impl NoteKey {
    /// A fresh key of a signature type under a name.
    ///
    /// # Errors
    ///
    /// Fails when the machine has no randomness.
    pub fn new(name: &str, kind: u8) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            kind,
            pair: Ed25519KeyPair::generate().ok().context("key")?,
        })
    }

    /// The same key once more.
    ///
    /// # Panics
    ///
    /// Never: the key was read before.
    #[expect(clippy::expect_used, reason = "a key that is held can be written")]
    #[must_use]
    pub fn again(&self) -> Self {
        let der = self.pair.to_pkcs8v1().expect("a key");
        Self {
            name: self.name.clone(),
            kind: self.kind,
            pair: Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key"),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key as the directory lists it: `<name>+<id>+<base64 of type and key>`.
    pub fn verifier(&self) -> String {
        let public = self.pair.public_key();
        let typed = [&[self.kind], public.as_ref()].concat();
        let id = digest(
            &SHA256,
            &[self.name.as_bytes(), b"\n", typed.as_slice()].concat(),
        );
        let id = hex::encode(&id.as_ref()[..4]);
        format!("{}+{id}+{}", self.name, STANDARD.encode(typed))
    }

    /// A note of this text with this key's signature (0x01).
    pub fn note(&self, text: &str) -> String {
        let verifier = self.verifier();
        let id = verifier.split('+').nth(1).unwrap_or_default();
        let mut signature = hex::decode(id).unwrap_or_default();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n— {} {}\n", self.name, STANDARD.encode(signature))
    }

    /// The line of this key's cosignature/v1 (C2SP tlog-cosignature, 0x04) under a checkpoint's text, with its newline.
    pub fn cosignature(&self, text: &str, time_s: u64) -> String {
        let verifier = self.verifier();
        let id = verifier.split('+').nth(1).unwrap_or_default();
        let mut signature = hex::decode(id).unwrap_or_default();
        signature.extend_from_slice(&time_s.to_be_bytes());
        let message = format!("cosignature/v1\ntime {time_s}\n{text}");
        signature.extend_from_slice(self.pair.sign(message.as_bytes()).as_ref());
        format!("— {} {}\n", self.name, STANDARD.encode(signature))
    }

    /// Writes the private half as PKCS#8 PEM of mode 0600.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let der = self.pair.to_pkcs8v1().ok().context("key")?;
        let text = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// A directory that is not signed yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The document, to be changed by tests.
    pub document: Table,
    history: Vec<serde_json::Value>,
}

impl Draft {
    /// Version 1 with these cities, valid for so many seconds from now.
    pub fn new(cities: &[City], lifetime_s: i64) -> Self {
        Self {
            document: document(cities, lifetime_s),
            history: Vec::new(),
        }
    }

    /// The exact bytes that are signed.
    pub fn payload(&self) -> String {
        toml::to_string(&self.document).unwrap_or_default()
    }

    /// Hex SHA-256 of the payload: the pin of a first directory.
    pub fn digest(&self) -> String {
        hex::encode(digest(&SHA256, self.payload().as_bytes()))
    }

    /// The DSSE envelope (JSON) with the signatures of these cities.
    ///
    /// # Errors
    ///
    /// Never in practice: the envelope is plain JSON.
    pub fn sign(&self, signers: &[&Signer]) -> Result<Vec<u8>> {
        let mut envelope = self.envelope(signers);
        if !self.history.is_empty() {
            envelope["history"] = self.history.clone().into();
        }
        Ok(serde_json::to_vec(&envelope)?)
    }

    fn envelope(&self, signers: &[&Signer]) -> serde_json::Value {
        let payload = self.payload();
        // DSSE, pre-authentication encoding.
        let signed = format!(
            "DSSEv1 {} {PAYLOAD_TYPE} {} {payload}",
            PAYLOAD_TYPE.len(),
            payload.len(),
        );
        let signatures: Vec<_> = signers
            .iter()
            .map(|signer| {
                json!({
                    "keyid": hex::encode(digest(&SHA256, &signer.public())),
                    "sig": STANDARD.encode(signer.0.sign(signed.as_bytes())),
                })
            })
            .collect();
        json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": STANDARD.encode(payload),
            "signatures": signatures,
        })
    }

    /// The version.
    pub fn version(&self) -> i64 {
        self.document
            .get("version")
            .and_then(Value::as_integer)
            .unwrap_or_default()
    }

    /// The next version, valid for so many seconds from now, which carries this one, signed, as its history.
    #[must_use]
    pub fn next(&self, signers: &[&Signer], lifetime_s: i64) -> Self {
        let mut next = self.clone();
        next.history.push(self.envelope(signers));
        let now = Clock::system().now_s();
        set(&mut next.document, "version", self.version() + 1);
        set(&mut next.document, "issued", moment(now - 1));
        set(&mut next.document, "expires", moment(now + lifetime_s));
        next
    }
}

fn document(cities: &[City], lifetime_s: i64) -> Table {
    let now = Clock::system().now_s();
    let mut document = Table::new();
    set(&mut document, "version", 1);
    set(&mut document, "issued", moment(now - 1));
    set(&mut document, "expires", moment(now + lifetime_s));
    set(
        &mut document,
        "signers.threshold",
        i64::try_from(cities.len() / 2 + 1).unwrap_or(1),
    );
    let keys = cities.iter().map(|city| {
        table(&[
            ("city", city.code),
            ("public_key", &hex::encode(city.signer.public())),
        ])
    });
    set(&mut document, "signers.keys", keys.collect::<Vec<_>>());
    set(
        &mut document,
        "cities",
        cities
            .iter()
            .map(|city| section(city, cities.len()))
            .collect::<Vec<_>>(),
    );
    let purposes = [
        "case-handling",
        "card-service",
        "benefit-eligibility",
        "medical-treatment",
        "quality-control",
        "statistics",
        "audit",
    ];
    let purposes = purposes.map(|code| {
        let mut purpose = Table::new();
        set(&mut purpose, "code", code);
        set(&mut purpose, "title", name(code));
        set(&mut purpose, "description", "for tests");
        Value::Table(purpose)
    });
    set(&mut document, "purposes", purposes.to_vec());
    document
}

fn section(city: &City, cities: usize) -> Value {
    let mut section = Table::new();
    set(&mut section, "code", city.code);
    set(&mut section, "name", name(city.name));
    set(&mut section, "trust_domain", city.domain);
    set(&mut section, "ca_bundle", city.authority.pem());
    let gateways = city
        .gateways
        .iter()
        .map(|gateway| gateway.inter_city.to_string());
    set(&mut section, "gateways", gateways.collect::<Vec<_>>());
    let agencies = ["hospital", "hospital-1", "health", "hrss", "example"].map(|code| {
        let mut agency = Table::new();
        set(&mut agency, "code", code);
        set(&mut agency, "name", name(code));
        Value::Table(agency)
    });
    set(&mut section, "agencies", agencies.to_vec());
    let systems = ["hospital/his", "hrss/card", "example/echo"].map(|system| {
        let agency = system.split('/').next().unwrap_or_default();
        table(&[
            ("id", &city.id(system)),
            ("title", system),
            ("agency", agency),
        ])
    });
    set(&mut section, "systems", systems.to_vec());
    if cities > 1 {
        set(&mut section, "ledger.origin", city.ledger.name());
        set(&mut section, "ledger.keys", vec![city.ledger.verifier()]);
        set(&mut section, "witness.keys", vec![city.witness.verifier()]);
        // Three of four, as in the network; fewer where there are fewer.
        let quorum = i64::try_from(cities - 1).unwrap_or(1).min(3);
        set(&mut section, "witness.quorum", quorum);
    }
    Value::Table(section)
}

fn name(text: &str) -> Value {
    table(&[("zh", text), ("en", text)])
}

fn table(fields: &[(&str, &str)]) -> Value {
    let fields = fields
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
    Value::Table(fields.collect())
}

/// An offset date-time of TOML.
fn moment(seconds: i64) -> Value {
    let text = jiff::Timestamp::from_second(seconds)
        .map(|at| at.to_string())
        .unwrap_or_default();
    text.parse().map_or(Value::Boolean(false), Value::Datetime)
}
