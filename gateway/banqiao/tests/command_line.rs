//! The program itself: exit codes, and what goes to which stream.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its scene cannot be set"
)]

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

fn banqiao(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao"))
        .args(arguments)
        .env_remove("BANQIAO_ADMIN")
        .env_remove("BANQIAO_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    for arguments in [
        &["no-such-command"][..],
        &[],
        &["call", "x.Y/Z"],
        &["audit", "search", "--limit", "many"],
        &["audit", "search", "--json", "--csv"],
        &["grant", "add", "--client", "x"],
        &["check"],
        &["check", "/nonexistent.toml"],
        &["gateway", "--config", "/nonexistent.toml"],
        &["reasons", "no-such-reason"],
        &["audit", "search", "--since", "yesterday"],
        &["status", "--admin", "tcp:localhost"],
    ] {
        let output = banqiao(arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["audit", "search", "--help"],
    ] {
        let output = banqiao(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            output.stderr.is_empty() && !output.stdout.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_gateway_that_does_not_answer_ends_with_69() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("unix:{}", folder.path().display());
    for command in [
        &["status"][..],
        &["audit", "search"],
        &["grant", "list"],
        &["reload"],
        &["drain"],
    ] {
        let output = banqiao(&[command, &["--admin", &target]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{command:?}: {said}");
        assert!(
            said.starts_with("error: the gateway does not answer at "),
            "{said}"
        );
    }
}

#[test]
fn check_prints_every_fault_for_people_and_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, "city = \"Qingdao\"\nunknown = 1\n\u{1b}[31m = 2\n").unwrap();
    let file = file.to_str().unwrap();
    let output = banqiao(&["check", file]);
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stdout);
    assert!(
        said.contains("error: city (line 1): ") && said.contains("  hint: "),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let output = banqiao(&["check", file, "--json"]);
    assert_eq!(output.status.code(), Some(64));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sound"], false);
    assert!(report["faults"].as_array().unwrap().len() > 5);
    let limits = banqiao(&["check", "--limits", "--json"]);
    let limits: serde_json::Value = serde_json::from_slice(&limits.stdout).unwrap();
    assert!(limits.as_array().unwrap().len() > 20);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_banqiao"))
        .args(["reasons", "--markdown"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_subject_is_read_from_standard_input_and_never_an_argument() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_banqiao"))
        .args([
            "audit",
            "search",
            "--subject",
            "--admin",
            "unix:/nonexistent",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"37020219900101000X\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let refused = banqiao(&["audit", "search", "--subject=37020219900101000X"]);
    assert_eq!(refused.status.code(), Some(64));
    let empty = banqiao(&["audit", "search", "--subject"]);
    assert_eq!(empty.status.code(), Some(64));
}

/// The crash tests know steps by their names; what stops a gateway at one would have to know them too.
#[test]
fn shipped_program_knows_no_step_by_its_name() {
    let program = fs::read(env!("CARGO_BIN_EXE_banqiao")).unwrap();
    let text = b"the ledger cannot be written";
    // One pass for each: the program has some hundred megabytes.
    let mut places = program.windows(text.len());
    assert!(places.any(|at| at == text), "its texts are there");
    let steps = banqiao_ledger::Step::ALL.iter().map(|step| step.name());
    let steps: Vec<_> = steps.collect();
    assert!(steps.iter().all(|name| name.starts_with("step:")));
    for (place, _) in program
        .windows(5)
        .enumerate()
        .filter(|(_, at)| at == b"step:")
    {
        let rest = &program[place..];
        let held = steps.iter().find(|name| rest.starts_with(name.as_bytes()));
        assert_eq!(held, None);
    }
}
