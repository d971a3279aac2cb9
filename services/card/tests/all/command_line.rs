//! The binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::scene::config_text;

fn card(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao-card"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn generated_cards_are_imported_and_faulty_lines_are_listed() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("card.toml"), config_text("sqlite://card.db")).unwrap();
    let generated = card(&["generate", "--city", "370200", "--count", "1200"], at);
    assert!(generated.status.success());
    assert_eq!(
        generated.stdout,
        card(&["generate", "--city", "370200", "--count", "1200"], at).stdout
    );
    fs::write(at.join("cards.csv"), &generated.stdout).unwrap();
    let imported = card(&["import", "cards.csv", "--config", "card.toml"], at);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert_eq!(
        text(&imported.stdout),
        "1200 new, 0 changed, 0 unchanged, 0 refused\n"
    );
    assert!(!at.join("cards.refused.csv").exists());

    let faulty = text(&generated.stdout)
        .replacen("370202", "370299", 2)
        .replacen("测试", "\u{7}", 2);
    fs::write(at.join("more.csv"), faulty).unwrap();
    let imported = card(
        &["import", "more.csv", "--config", "card.toml", "--json"],
        at,
    );
    assert_eq!(imported.status.code(), Some(3));
    let counts: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(counts["refused"], 2);
    assert_eq!(counts["unchanged"], 1_198);
    let report = fs::read_to_string(at.join("more.refused.csv")).unwrap();
    assert!(report.starts_with("line,field,code,rule\n2,"), "{report}");
    assert!(report.contains("HOLDER_NAME"));
    // Nothing of the lines themselves, and nothing of them on the way.
    for written in [report, text(&imported.stderr)] {
        assert!(!written.contains("19500101"), "{written}");
    }
    let mode = fs::metadata(at.join("card.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn check_reports_every_fault_at_once_and_exits_64() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let faulty = config_text("sqlite://card.db")
        .replace("370200", "370299")
        .replace("127.0.0.1:0", "nowhere");
    fs::write(at.join("card.toml"), format!("{faulty}colour = 1\n")).unwrap();
    let checked = card(&["check", "card.toml"], at);
    assert_eq!(checked.status.code(), Some(64));
    let faults = text(&checked.stderr);
    for key in ["city: ", "listen: ", "telemetry: "] {
        assert!(faults.lines().any(|line| line.starts_with(key)), "{faults}");
    }
    // A sound file whose certificates are not there.
    fs::write(at.join("card.toml"), config_text("sqlite://card.db")).unwrap();
    let checked = card(&["check", "card.toml"], at);
    assert_eq!(checked.status.code(), Some(64));
    assert!(
        text(&checked.stderr).starts_with("identity: "),
        "{}",
        text(&checked.stderr)
    );
    assert_eq!(
        card(&["serve", "--config", "none.toml"], at).status.code(),
        Some(64)
    );
}
