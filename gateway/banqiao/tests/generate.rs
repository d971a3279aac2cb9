//! `banqiao audit generate` as it is run: what it writes is what `banqiao audit verify` accepts.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its scene cannot be set"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const ORIGIN: &str = "qingdao.jiaodong/ledger/1";

fn banqiao(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// Generates, with some more arguments.
fn generate(folder: &Path, database: &str, more: &[&str]) -> Output {
    let url = format!("sqlite://{}", at(folder, database));
    let (keys, key) = (at(folder, "keys"), at(folder, "ledger.key"));
    let mut arguments = vec!["audit", "generate", "--database", &url, "--keys", &keys];
    arguments.extend(["--signing-key", &key, "--entries", "3000"]);
    arguments.extend(more);
    banqiao(&arguments)
}

fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = at(folder.path(), "ledger.key");
    let made = banqiao(&["pki", "note-key", ORIGIN, "-o", &key]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    folder
}

#[test]
fn generated_ledger_is_one_that_verify_accepts() {
    let folder = scene();
    let more = ["--city", "370200", "--origin", ORIGIN, "--json"];
    let made = generate(folder.path(), "ledger.db", &more);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let report: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(report["synthetic"], true);
    assert_eq!(report["origin"], ORIGIN);
    assert_eq!(report["entries"], 3_000);
    assert!(report["exchanges"].as_u64().unwrap() > 1_200);

    let url = format!("sqlite://{}", at(folder.path(), "ledger.db"));
    let verified = banqiao(&["audit", "verify", "--database", &url, "--json"]);
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        text(&verified.stderr)
    );
    let verdict: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verdict["valid"], true);
    assert_eq!(verdict["entries"], 3_000);
    assert_eq!(verdict["origin"], ORIGIN);
}

#[test]
fn what_is_there_is_left_as_it_is() {
    let folder = scene();
    let more = ["--city", "370600"];
    let made = generate(folder.path(), "ledger.db", &more);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    assert!(
        text(&made.stdout)
            .starts_with("synthetic ledger synthetic.jiaodong/ledger/1 of 370600: 3000 entries")
    );
    let before = fs::read(folder.path().join("ledger.db")).unwrap();
    let again = generate(folder.path(), "ledger.db", &more);
    assert_eq!(again.status.code(), Some(64));
    assert!(
        text(&again.stderr).contains("not empty"),
        "{}",
        text(&again.stderr)
    );
    assert!(before == fs::read(folder.path().join("ledger.db")).unwrap());
}

#[test]
fn what_cannot_be_generated_is_a_fault_of_the_command_line() {
    let folder = scene();
    for (more, says) in [
        (&["--city", "370100"][..], "370200, 370600"),
        (
            &[
                "--city",
                "370200",
                "--from",
                "2026-01-02",
                "--until",
                "2026-01-01",
            ],
            "time between",
        ),
        (
            &["--city", "370200", "--from", "long ago"],
            "write a moment",
        ),
        (&["--city", "370200", "--clients", "0"], "a client"),
        (
            &["--city", "370200", "--origin", "qingdao.jiaodong/witness"],
            "--origin",
        ),
    ] {
        let refused = generate(folder.path(), "none.db", more);
        assert_eq!(refused.status.code(), Some(64), "{more:?}");
        let said = text(&refused.stderr);
        assert!(said.contains(says), "{more:?}: {said}");
        assert!(!folder.path().join("none.db").exists(), "{more:?}");
    }
}
