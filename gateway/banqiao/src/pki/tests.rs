//! The commands as people type them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::exit::exit_of;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: PkiCommand,
}

/// What a command prints; `{}` in its arguments is the folder.
fn pki(dir: &Path, line: &str) -> anyhow::Result<String> {
    let words = line
        .split_whitespace()
        .map(|word| word.replace("{}", dir.to_str().unwrap()));
    let cli = Cli::try_parse_from(std::iter::once("pki".to_owned()).chain(words))?;
    let mut out = Vec::new();
    cli.command.run(&mut out)?;
    Ok(String::from_utf8(out)?)
}

fn city() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = pki(
        dir.path(),
        "init-city --ca {} --trust-domain qingdao.jiaodong",
    )
    .unwrap();
    assert!(
        made.starts_with("made the CA of qingdao.jiaodong"),
        "{made}"
    );
    dir
}

#[test]
fn a_city_is_set_up_and_shown() {
    let dir = city();
    let dir = dir.path();
    let again = pki(dir, "init-city --ca {} --trust-domain qingdao.jiaodong").unwrap();
    assert!(again.starts_with("kept the CA"), "{again}");

    let printed = [
        pki(
            dir,
            "issue gateway --ca {} --loopback --host gw.qingdao.example",
        )
        .unwrap(),
        pki(dir, "issue system hrss/card --ca {} --key p384 --valid 30d").unwrap(),
        pki(dir, "issue admin auditor synthetic-1 --ca {}").unwrap(),
    ];
    for (text, name) in printed
        .iter()
        .zip(["gateway", "hrss-card", "auditor-synthetic-1"])
    {
        let key = dir.join(format!("{name}.key"));
        assert!(
            text.starts_with("made ") && text.contains(&*key.to_string_lossy()),
            "{text}"
        );
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let secret = fs::read_to_string(&key).unwrap();
        assert!(
            printed
                .iter()
                .all(|text| !text.contains(secret.lines().nth(1).unwrap()))
        );
    }
    assert!(
        pki(dir, "issue system hrss/card --ca {}")
            .unwrap()
            .starts_with("kept ")
    );

    let table = pki(dir, "show {}").unwrap();
    assert!(
        table.contains("spiffe://qingdao.jiaodong/admin/auditor/synthetic-1"),
        "{table}"
    );
    let shown: Value = serde_json::from_str(&pki(dir, "show {} --json").unwrap()).unwrap();
    assert_eq!(shown["kind"], "authority");
    assert_eq!(
        shown["certificates"][0]["hosts"][0],
        "gateway.qingdao.jiaodong"
    );
    assert_eq!(shown["certificates"][1]["state"], "valid");

    let shown: Value =
        serde_json::from_str(&pki(dir, "show {}/gateway.crt --json").unwrap()).unwrap();
    assert_eq!(shown["id"], "spiffe://qingdao.jiaodong/gateway");
    assert_eq!(shown["fault"], Value::Null);
    assert!(
        pki(dir, "show {}/ca.crt")
            .unwrap()
            .contains("certificate of a CA")
    );
}

#[test]
fn revoking_writes_the_crl_that_says_so() {
    let dir = city();
    let dir = dir.path();
    pki(dir, "issue system hrss/card --ca {}").unwrap();
    let revoked = pki(dir, "revoke hrss-card --ca {} --reason key-compromise").unwrap();
    assert!(revoked.contains("number 2, 1 revoked"), "{revoked}");
    let again = pki(dir, "revoke hrss-card --ca {}").unwrap();
    assert!(again.starts_with("nothing to do"), "{again}");
    let shown: Value = serde_json::from_str(&pki(dir, "show {} --json").unwrap()).unwrap();
    assert_eq!(
        shown["certificates"][0]["revoked"]["reason"],
        "key-compromise"
    );
    assert_eq!(
        shown["crl"]["revoked"][0]["serial"],
        shown["certificates"][0]["serial"]
    );

    assert!(
        pki(dir, "crl --ca {} --if-due")
            .unwrap()
            .starts_with("kept ")
    );
    assert!(
        pki(dir, "crl --ca {} --crl-valid 12h")
            .unwrap()
            .contains("number 3, 1 revoked")
    );
    assert!(pki(dir, "show {}/crl.der").unwrap().contains("number: 3"));
}

#[test]
fn what_is_typed_wrong_is_a_usage_error() {
    let dir = city();
    let dir = dir.path();
    for line in [
        "init-city --ca {} --trust-domain yantai.jiaodong",
        "issue system gateway --ca {}",
        "issue gateway --ca {} --file ../x",
        "issue gateway --ca {} --host a/b",
        "issue gateway --ca {} --valid 5000d",
        "revoke nobody --ca {}",
        "crl --ca {}/nowhere",
        "show {}/ca.json",
    ] {
        let error = pki(dir, line).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage, "{line}: {error:#}");
    }
}
