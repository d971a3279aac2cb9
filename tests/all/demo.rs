//! `banqiao demo`, and every byte that its gateways write.

use std::{fs, path::Path, process::Stdio, time::Duration};

use banqiao_tests::process::program;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

/// Weights and check digits of GB 11643.
const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECK: &[u8; 11] = b"10X98765432";

/// Whether 18 bytes are an identity number of somebody born in the last two centuries.
fn is_identity_number(text: &[u8]) -> bool {
    let Some((last, digits)) = text.split_last() else {
        return false;
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        digits[range]
            .iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    };
    let born = (1900..2100).contains(&number(6..10))
        && (1..=12).contains(&number(10..12))
        && (1..=31).contains(&number(12..14));
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    born && digits.starts_with(b"37") && CHECK[(sum % 11) as usize] == last.to_ascii_uppercase()
}

/// The services' own files begin so: they hold people, rightly.
const SERVICES: [&str; 3] = ["card", "lab", "item"];

/// Files of a folder that gateways write: not the services' own, and no certificates.
fn gateway_files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "pki" {
            gateway_files(&path, found);
        } else if !SERVICES.iter().any(|own| name.starts_with(own)) && path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

async fn demo(folder: &Path, collector: &str) -> Value {
    let data = folder.join("network");
    let mut command = Command::new(program("banqiao").unwrap());
    command
        .args([
            "demo",
            "--once",
            "--json",
            "--fresh",
            "--base-port",
            "0",
            "--data",
        ])
        .arg(&data)
        .args(["--otlp", collector]);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(300), command.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {said}\n{faults}",
        output.status
    );
    serde_json::from_str(&said).unwrap()
}

#[tokio::test]
async fn demo_holds_its_checks_and_its_gateways_write_no_identity_number() {
    let folder = tempfile::tempdir().unwrap();
    let (collector, endpoint, _serving) = crate::telemetry::collector().await;
    let report = demo(folder.path(), &endpoint).await;
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["cities"].as_array().unwrap().len(), 5);
    let checks = report["checks"].as_array().unwrap();
    for name in [
        "eligibility recognised",
        "loss only investigated",
        "entitlement of the insured city",
    ] {
        let held = |check: &&Value| check["name"] == name && check["held"] == true;
        assert_eq!(checks.iter().filter(held).count(), 1, "{name}: {report}");
    }

    let held = |name: &str| {
        let checks = report["checks"].as_array().unwrap().iter();
        let mut named = checks.filter(|check| check["name"] == name);
        named.next().is_some_and(|check| check["held"] == true)
    };
    for what in [
        "quality round passed",
        "all cities asked",
        "recognition advised",
        "decisions counted",
        "decision delivered",
    ] {
        assert!(held(what), "{what}: {report}");
    }
    for what in [
        "passport identity",
        "passport corrected",
        "passport clock stopped",
        "passport watched",
        "passport timeline",
        "passport exchanges",
        "household register",
        "household needs both",
        "household timeline",
        "household exchanges",
    ] {
        assert!(held(what), "{what}: {report}");
    }
    for what in [
        "limit",
        "table refused",
        "needs both",
        "completed",
        "watched",
        "documents",
    ] {
        assert!(held(&format!("pension {what}")), "{what}: {report}");
    }

    let mut files = Vec::new();
    gateway_files(&folder.path().join("network"), &mut files);
    let databases = files
        .iter()
        .filter(|(name, bytes)| name.contains("gateway.db") && !bytes.is_empty());
    assert!(databases.count() >= 5, "each gateway has a database");
    assert!(
        files
            .iter()
            .filter(|(name, _)| name.ends_with("gateway.log"))
            .count()
            == 5
    );
    let sent = collector.bytes();
    assert!(
        sent.len() > 10_000,
        "{} bytes of traces and metrics",
        sent.len()
    );
    files.push(("what was sent to the collector".to_owned(), sent));
    for (name, bytes) in &files {
        let found = bytes.windows(18).find(|window| is_identity_number(window));
        let found = found.map(String::from_utf8_lossy);
        assert_eq!(found, None, "{name} holds an identity number");
        // The synthetic holders' names begin so.
        let named = bytes.windows(6).any(|window| window == "测试".as_bytes());
        assert!(!named, "{name} holds a name");
    }
    // The scan itself would find them: the card services' files, which rightly hold them, are full of them.
    let cards = fs::read(folder.path().join("network/weifang/card.db")).unwrap();
    let wal = fs::read(folder.path().join("network/weifang/card.db-wal")).unwrap_or_default();
    assert!(
        cards
            .windows(18)
            .chain(wal.windows(18))
            .any(is_identity_number)
    );
}

#[test]
fn identity_numbers_are_recognised() {
    for number in [
        "370202199001010007",
        "370602198506150002",
        "371102196609300004",
    ] {
        assert!(is_identity_number(number.as_bytes()), "{number}");
    }
    for other in [
        "370202199001010008",
        "370202199013010007",
        "110105194912310020",
    ] {
        assert!(!is_identity_number(other.as_bytes()), "{other}");
    }
}
