//! The binary.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{calendars::YEAR_2027, scene::config_text};

fn item(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao-item"))
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
fn the_catalogue_is_listed_and_says_what_it_is_not() {
    let folder = TempDir::new().unwrap();
    let listed = item(&["catalogue"], folder.path());
    let listed = text(&listed.stdout);
    assert!(
        listed.starts_with("示例目录, 非官方82项\nJD001\t户口迁移\tJOINT_HANDLING\t公安\tQ\t"),
        "{listed}"
    );
    assert_eq!(listed.lines().count(), 83);
    fs::write(
        folder.path().join("own.toml"),
        "label = 'x'\n[[item]]\nid = 'a b'\n",
    )
    .unwrap();
    let faulty = item(&["catalogue", "own.toml"], folder.path());
    assert_eq!(faulty.status.code(), Some(64));
    let faults = text(&faulty.stderr);
    assert!(
        faults
            .lines()
            .any(|line| line.starts_with("own.toml:3: item[0].id: ")),
        "{faults}"
    );
}

#[test]
fn a_calendar_is_imported_and_shown() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("item.toml"), config_text("sqlite://item.db")).unwrap();
    let shown = text(&item(&["calendar", "show"], at).stdout);
    assert_eq!((shown.lines().count(), &shown[..5]), (23, "2004\t"));
    let unknown = item(&["calendar", "show", "2027", "--config", "item.toml"], at);
    assert!(text(&unknown.stderr).contains("the working days of 2027 are not known"));
    fs::write(at.join("2027.json"), YEAR_2027.replace("example", "")).unwrap();
    let faulty = item(
        &["calendar", "import", "2027.json", "--config", "item.toml"],
        at,
    );
    assert_eq!(faulty.status.code(), Some(64));
    assert!(text(&faulty.stderr).starts_with("2027.json: 2027.source: "));
    fs::write(at.join("2027.json"), YEAR_2027).unwrap();
    let imported = item(
        &["calendar", "import", "2027.json", "--config", "item.toml"],
        at,
    );
    assert!(text(&imported.stdout).ends_with("2027\texample\n"));
    let shown = text(&item(&["calendar", "show", "2027", "--config", "item.toml"], at).stdout);
    let days: Vec<_> = shown.lines().take(3).collect();
    assert_eq!(days, ["2027\texample", "2027-01-02", "2027-01-04"]);
}

#[test]
fn the_report_is_written_in_each_form_and_language() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("item.toml"), config_text("sqlite://item.db")).unwrap();
    let report = |from: &str, more: &[&str]| {
        let first = [
            "report",
            "--config",
            "item.toml",
            "--from",
            from,
            "--to",
            "2026-06",
        ];
        item(&[&first[..], more].concat(), at)
    };
    let zh = report("2026-01", &["--format", "html", "--lang", "zh"]);
    assert!(
        text(&zh.stdout).contains("<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"zh-CN\">")
    );
    let en = report("2026-01", &["--format", "html", "--lang", "en"]);
    assert!(text(&en.stdout).contains("Items across cities: figures of the half-year"));
    let csv = report("2026-01", &["--format", "csv"]);
    assert!(text(&csv.stdout).starts_with("月份,"));
    let json = report("2026-01", &["--format", "json"]);
    assert!(json.status.success());
    fs::write(at.join("other.json"), &json.stdout).unwrap();
    let with = report("2026-01", &["--format", "json", "--with", "other.json"]);
    assert!(with.status.success(), "{}", text(&with.stderr));
    let with = report("2026-02", &["--format", "json", "--with", "other.json"]);
    assert_eq!(with.status.code(), Some(64));
    assert!(text(&with.stderr).starts_with("--with: other.json: it reports 2026-01 to 2026-06"));
    let faulty = report("2026-13", &["--format", "json"]);
    assert_eq!(faulty.status.code(), Some(64));
    assert!(text(&faulty.stderr).starts_with("--from, --to: months are written YYYY-MM"));
}

#[test]
fn check_reports_every_fault_at_once_and_exits_64() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let faulty = config_text("sqlite://item.db").replace("370200", "370299");
    fs::write(at.join("own.toml"), "label = 1\ncolour = 2\n").unwrap();
    fs::write(
        at.join("item.toml"),
        format!("catalogue = [\"own.toml\"]\n{faulty}"),
    )
    .unwrap();
    let checked = item(&["check", "item.toml"], at);
    assert_eq!(checked.status.code(), Some(64));
    let faults = text(&checked.stderr);
    let count = |start: &str| {
        faults
            .lines()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!((count("city: "), count("catalogue: ")), (1, 2), "{faults}");
    fs::write(at.join("item.toml"), config_text("sqlite://item.db")).unwrap();
    let checked = item(&["check", "item.toml"], at);
    assert!(text(&checked.stderr).starts_with("identity: "));
}

#[test]
fn the_sample_configuration_is_sound() {
    let sample = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../../deploy/config/item.toml");
    banqiao_item::ItemConfig::read(&sample).unwrap();
}
