//! The directory of a sandbox: written, signed by every city, and replaced by a newer version when ports or dates ask
//! for it.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use banqiao_directory::{Clock, Directory, Envelope, Receipts, SigningKey, Status, verify_first};
use toml::{Table, Value};

use super::{SandboxCity, city::SYSTEMS};
use crate::notekey::NoteKeyUse;

/// Validity of a sandbox's directory.
const VALID_DAYS: i64 = 30;

/// Purposes of the first network: code, Chinese, English.
const PURPOSES: [(&str, &str, &str); 7] = [
    ("medical-treatment", "诊疗", "medical treatment"),
    ("benefit-eligibility", "待遇资格核查", "benefit eligibility"),
    ("card-service", "社会保障卡服务", "card service"),
    ("case-handling", "政务服务办件", "case handling"),
    ("quality-control", "质量控制", "quality control"),
    ("statistics", "统计", "statistics"),
    ("audit", "审计", "audit"),
];

/// Writes a first directory, or the next version where the one that stands does not fit any more. Returns the version.
pub(super) fn bring_up_to_date(root: &Path, cities: &[SandboxCity], clock: &Clock) -> Result<u64> {
    let file = root.join("directory.json");
    let keys: Vec<SigningKey> = cities
        .iter()
        .map(|city| {
            let path = city.folder.join("directory.key");
            let pem = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok(SigningKey::from_pem(&pem)?)
        })
        .collect::<Result<_>>()?;
    let held = held(root, &file)?;
    if let Some((directory, _)) = &held
        && directory.status(clock.now_us()) == Status::Fresh
        && cities
            .iter()
            .all(|city| stands(directory, city, cities.len()))
    {
        return Ok(directory.version());
    }
    let version = held
        .as_ref()
        .map_or(1, |(directory, _)| directory.version() + 1);
    let payload = document(version, cities, &keys, clock)?;
    let mut envelope = Envelope::new(payload.into_bytes());
    if let Some((_, before)) = &held {
        envelope.follow(before);
    }
    for key in &keys {
        envelope.sign(key);
    }
    if held.is_none() {
        fs::write(root.join("directory.pin"), hex::encode(envelope.digest()))?;
    }
    fs::write(&file, envelope.to_json()?)?;
    Ok(version)
}

fn held(root: &Path, file: &Path) -> Result<Option<(Directory, Envelope)>> {
    if !file.exists() {
        return Ok(None);
    }
    let pin: [u8; 32] = hex::decode(fs::read_to_string(root.join("directory.pin"))?.trim())?
        .try_into()
        .ok()
        .context("directory.pin is not a SHA-256")?;
    let envelope = Envelope::parse(&fs::read(file)?)?;
    let directory = verify_first(&envelope, &pin)?;
    Ok(Some((directory, envelope)))
}

fn stands(directory: &Directory, city: &SandboxCity, cities: usize) -> bool {
    let address = city.inter_city.to_string();
    directory
        .city_by_domain(&city.domain)
        .is_some_and(|listed| {
            listed
                .gateways
                .iter()
                .any(|gateway| gateway.address == address)
                // A sandbox from before a service joined gets a new version, too.
                && listed.systems.len() == SYSTEMS.len()
                // A sandbox from before ledgers had keys, or receipts, gets a new version.
                && (cities == 1
                    || listed.ledger.is_some() && listed.receipts == Receipts::Required)
        })
}

/// Cosignatures of other cities that make a checkpoint witnessed: three of four (LEDGER.md §3), fewer in a small one.
fn quorum(cities: usize) -> Result<i64> {
    Ok(i64::try_from(cities.saturating_sub(1).clamp(1, 3))?)
}

/// Origin and keys of a city's ledger, and its witness.
fn notes(city: &SandboxCity, cities: usize) -> Result<[(&'static str, Value); 2]> {
    let ledger = NoteKeyUse::ledger(&city.domain, 1);
    let witness = NoteKeyUse::witness(&city.domain);
    let keys = |key: &NoteKeyUse, path: &Path| -> Result<Value> {
        Ok(Value::Array(vec![text(&key.verifier(path)?)]))
    };
    Ok([
        (
            "ledger",
            table([
                ("origin", text(&ledger.to_string())),
                ("keys", keys(&ledger, &city.ledger_key())?),
            ]),
        ),
        (
            "witness",
            table([
                ("keys", keys(&witness, &city.witness_key())?),
                ("quorum", Value::Integer(quorum(cities)?)),
            ]),
        ),
    ])
}

fn document(
    version: u64,
    cities: &[SandboxCity],
    keys: &[SigningKey],
    clock: &Clock,
) -> Result<String> {
    let now = clock.now_s();
    let date = |at: i64| -> Result<Value> {
        let at = jiff::Timestamp::from_second(at)?.to_string();
        Ok(Value::Datetime(at.parse()?))
    };
    let name = |zh: &str, en: &str| table([("zh", text(zh)), ("en", text(en))]);
    let signers = cities.iter().zip(keys).map(|(city, key)| {
        table([
            ("city", text(city.founder.code)),
            ("public_key", text(&key.public().to_string())),
        ])
    });
    let listed: Vec<Value> = cities
        .iter()
        .map(|city| {
            let systems = SYSTEMS.iter().map(|(path, title, agency)| {
                table([
                    ("id", text(&format!("spiffe://{}/{path}", city.domain))),
                    ("title", text(title)),
                    ("agency", text(agency)),
                ])
            });
            let agencies = [
                ("bank", "社会保障卡合作银行", "Partner bank"),
                ("hall", "行政审批服务局", "Administrative approval bureau"),
                ("health", "卫生健康委员会", "Health commission"),
                ("hospital", "市立医院", "Municipal hospital"),
                ("hospital-1", "测试第一医院", "First test hospital"),
                (
                    "hrss",
                    "人力资源和社会保障局",
                    "Human resources and social security bureau",
                ),
                ("psb", "公安局", "Public security bureau"),
            ];
            let agencies = agencies
                .iter()
                .map(|(code, zh, en)| table([("code", text(code)), ("name", name(zh, en))]));
            let mut section = table([
                ("code", text(city.founder.code)),
                ("name", name(city.founder.zh, city.founder.en)),
                ("trust_domain", text(city.domain.as_str())),
                ("ca_bundle", text(&fs::read_to_string(city.ca())?)),
                (
                    "gateways",
                    Value::Array(vec![text(&city.inter_city.to_string())]),
                ),
                (
                    "protocol",
                    table([("min", Value::Integer(1)), ("max", Value::Integer(1))]),
                ),
                ("agencies", Value::Array(agencies.collect())),
                ("systems", Value::Array(systems.collect())),
            ]);
            if cities.len() > 1
                && let Value::Table(section) = &mut section
            {
                // Every gateway here gives receipts, so that every gateway can demand them.
                let receipts = table([("receipts", text("required"))]);
                section.insert("features".to_owned(), receipts);
                let notes = notes(city, cities.len())?;
                section.extend(notes.map(|(key, value)| (key.to_owned(), value)));
            }
            Ok(section)
        })
        .collect::<Result<_>>()?;
    let purposes = PURPOSES.iter().map(|(code, zh, en)| {
        let description = format!("{zh} ({en})");
        table([
            ("code", text(code)),
            ("title", name(zh, en)),
            ("description", text(&description)),
        ])
    });
    // Most of the cities: three of five.
    let threshold = i64::try_from(cities.len() / 2 + 1)?;
    let mut document = Table::new();
    document.insert(
        "version".to_owned(),
        Value::Integer(i64::try_from(version)?),
    );
    document.insert("issued".to_owned(), date(now - 1)?);
    document.insert("expires".to_owned(), date(now + VALID_DAYS * 86_400)?);
    document.insert(
        "signers".to_owned(),
        table([
            ("threshold", Value::Integer(threshold)),
            ("keys", Value::Array(signers.collect())),
        ]),
    );
    document.insert("cities".to_owned(), Value::Array(listed));
    document.insert("purposes".to_owned(), Value::Array(purposes.collect()));
    Ok(toml::to_string(&document)?)
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// Writes a signing key so that only its owner can read it.
pub(super) fn write_key(path: &Path, key: &SigningKey) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key.to_pem()?.as_bytes())?;
    Ok(())
}
