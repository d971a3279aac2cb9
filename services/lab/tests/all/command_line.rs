//! The binary.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::scene::config_text;

fn lab(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao-lab"))
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
fn check_reports_every_fault_of_configuration_and_reference_files_and_exits_64() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let listed = lab(&["institutions"], at);
    assert!(listed.status.success());
    fs::write(at.join("institutions.tsv"), &listed.stdout).unwrap();
    fs::write(at.join("lab.toml"), config_text("sqlite://lab.db")).unwrap();
    // A sound file whose certificates are not there.
    let checked = lab(&["check", "lab.toml"], at);
    assert_eq!(checked.status.code(), Some(64));
    assert!(
        text(&checked.stderr).starts_with("identity: "),
        "{}",
        text(&checked.stderr)
    );
    // Both reference files with faults.
    let institutions = text(&listed.stdout).replacen("THIRD", "FOURTH", 1);
    fs::write(at.join("institutions.tsv"), institutions).unwrap();
    fs::write(at.join("catalogue.tsv"), "#version 1\nwrong\n").unwrap();
    let config =
        config_text("sqlite://lab.db").replace("[lab]", "[lab]\ncatalogue = \"catalogue.tsv\"");
    fs::write(at.join("lab.toml"), config).unwrap();
    let checked = lab(&["check", "lab.toml"], at);
    assert_eq!(checked.status.code(), Some(64));
    let faults = text(&checked.stderr);
    for place in [
        "lab.catalogue: catalogue.tsv:2: the columns",
        "lab.institutions: institutions.tsv:5: level: ",
    ] {
        assert!(faults.contains(place), "{faults}");
    }
    assert_eq!(
        lab(&["serve", "--config", "none.toml"], at).status.code(),
        Some(64)
    );
}

#[test]
fn generated_bundles_are_imported_once_and_what_is_refused_is_listed() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(
        at.join("institutions.tsv"),
        lab(&["institutions"], at).stdout,
    )
    .unwrap();
    fs::write(at.join("lab.toml"), config_text("sqlite://lab.db")).unwrap();
    let generated = lab(&["generate", "--city", "370200", "--count", "1200"], at);
    assert!(generated.status.success(), "{}", text(&generated.stderr));
    fs::write(at.join("reports.ndjson"), &generated.stdout).unwrap();
    let import = |file: &str, more: &[&str]| {
        let arguments = [&["import", file, "--config", "lab.toml"], more].concat();
        lab(&arguments, at)
    };
    let imported = import("reports.ndjson", &[]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let counts = "1200 new, 0 superseded, 0 unchanged, 0 refused; 0 elements are not held\n";
    assert_eq!(text(&imported.stdout), counts);
    assert!(!at.join("reports.refused.csv").exists());
    // The second line loses its status, the third its end; a blank one is none.
    let mut lines: Vec<_> = text(&generated.stdout).lines().map(str::to_owned).collect();
    lines[1] = lines[1].replacen("\"status\":\"final\"", "\"status\":\"draft\"", 1);
    lines[2].truncate(100);
    lines.push(String::new());
    fs::write(at.join("more.ndjson"), lines.join("\n")).unwrap();
    let imported = import("more.ndjson", &["--json"]);
    assert_eq!(imported.status.code(), Some(3));
    let counts: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(
        (&counts["unchanged"], &counts["refused"]),
        (&1_198.into(), &2.into())
    );
    let listed = fs::read_to_string(at.join("more.refused.csv")).unwrap();
    assert!(
        listed.starts_with("line,field,code,rule\n3,resource,FHIR_JSON,"),
        "{listed}"
    );
    assert!(listed.contains("\n2,status,REPORT_STATUS,"), "{listed}");
    // Nothing of the patients themselves.
    for written in [listed, text(&imported.stderr)] {
        assert!(
            !written.contains("1950") && !written.contains("测试"),
            "{written}"
        );
    }
}

#[test]
fn rounds_and_results_are_imported_once_and_what_is_refused_is_listed() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let institutions = lab(&["institutions"], at).stdout;
    fs::write(at.join("institutions.tsv"), &institutions).unwrap();
    fs::write(at.join("lab.toml"), config_text("sqlite://lab.db")).unwrap();
    let hospital = text(&institutions);
    let hospital = hospital.lines().find(|line| line.contains("\t370200\t"));
    let hospital = &hospital.unwrap()[..18];
    // One sound round of five samples; another without an item; and a line with a field too few.
    let mut rounds = String::from(
        "round_id,organiser,scheme,scope,scope_code,opens_at,closes_at,item_code,sample,target\n",
    );
    let mut results = String::from("质评编号,机构代码,项目代码,样本编号,结果,单位\n");
    for sample in 1..=5 {
        rounds.push_str(&format!(
            "R1,测试中心,临床化学,REGION,,2026-01-01T00:00:00Z,2099-01-01T00:00:00Z,1500104A,S{sample},40\n"
        ));
        results.push_str(&format!("R1,{hospital},1500104A,S{sample},41.5,U/L\n"));
    }
    rounds.push_str("R2,测试中心,临床化学,REGION,,2026-01-01T00:00:00Z,soon,,S1,40\nR3,x\n");
    results.push_str(&format!("R1,{hospital},1500104A,S6,41.5,U/L\n"));
    fs::write(at.join("rounds.csv"), rounds).unwrap();
    fs::write(at.join("results.csv"), results).unwrap();
    let import = |command: &str, file: &str, more: &[&str]| {
        lab(
            &[&[command, file, "--config", "lab.toml"], more].concat(),
            at,
        )
    };
    let imported = import("import-rounds", "rounds.csv", &["--json"]);
    assert_eq!(
        imported.status.code(),
        Some(3),
        "{}",
        text(&imported.stderr)
    );
    let counts: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(
        (&counts["created"], &counts["refused"]),
        (&1.into(), &2.into())
    );
    let listed = fs::read_to_string(at.join("rounds.refused.csv")).unwrap();
    assert!(
        listed.contains("\n7,round.closes_at,ROUND_TIMES,"),
        "{listed}"
    );
    assert!(listed.contains("\n8,"), "{listed}");
    let again = import("import-rounds", "rounds.csv", &["--refused", "again.csv"]);
    assert_eq!(
        text(&again.stdout),
        "0 created, 1 unchanged, 2 refused\nwhat was refused is listed in again.csv\n"
    );
    let imported = import("import-results", "results.csv", &[]);
    assert_eq!(
        imported.status.code(),
        Some(3),
        "{}",
        text(&imported.stderr)
    );
    assert!(
        text(&imported.stdout).starts_with("5 created, 0 corrected, 0 unchanged, 1 refused\n"),
        "{}",
        text(&imported.stdout)
    );
    let listed = fs::read_to_string(at.join("results.refused.csv")).unwrap();
    assert!(listed.contains("\n7,sample,NOT_OF_ROUND,"), "{listed}");
    let open = lab(&["evaluate-round", "R1", "--config", "lab.toml"], at);
    assert_eq!(open.status.code(), Some(1));
    assert!(text(&open.stderr).contains("the round is open still"));
}

#[test]
fn files_of_another_kind_are_told_by_name_and_show_nothing_of_what_they_hold() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(
        at.join("institutions.tsv"),
        lab(&["institutions"], at).stdout,
    )
    .unwrap();
    fs::write(at.join("lab.toml"), config_text("sqlite://lab.db")).unwrap();
    let run = |command: &str, what: &str| lab(&[command, what, "--config", "lab.toml"], at);
    let reports = lab(&["generate", "--city", "370200", "--count", "2"], at).stdout;
    // What some programs begin a file with is no part of its first line; lines may end as on Windows.
    let marked = format!("\u{FEFF}{}", text(&reports).replace('\n', "\r\n"));
    fs::write(at.join("marked.ndjson"), marked).unwrap();
    let imported = run("import", "marked.ndjson");
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert!(text(&imported.stdout).starts_with("2 new, "));
    // Reports where a table should be, and a table without its header.
    fs::write(at.join("rounds.csv"), &reports).unwrap();
    fs::write(at.join("results.csv"), "R1,370202195001020004,x\n").unwrap();
    let long = [b"{\"a\":\"".as_slice(), &[b'a'; 4 * 1024 * 1024]].concat();
    fs::write(at.join("long.ndjson"), long).unwrap();
    for (command, what, told) in [
        ("import", "none.ndjson", "cannot open none.ndjson"),
        ("import", ".", "cannot read .: "),
        (
            "import",
            "long.ndjson",
            "line 1 is longer than 4194304 bytes",
        ),
        (
            "import-rounds",
            "rounds.csv",
            "cannot read rounds.csv: the header must name",
        ),
        (
            "import-results",
            "results.csv",
            "cannot read results.csv: the header must name",
        ),
        ("evaluate-round", "", "round_id: "),
        (
            "evaluate-round",
            "R9",
            "this city's service has no such round",
        ),
    ] {
        let refused = run(command, what);
        assert_eq!(refused.status.code(), Some(1), "{command} {what}");
        let said = text(&refused.stderr);
        assert!(said.contains(told), "{command} {what}: {said}");
        assert!(!said.contains("1950") && !said.contains("测试"), "{said}");
    }
}

#[test]
fn the_sample_configuration_is_sound() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/lab.toml");
    banqiao_lab::LabConfig::read(&deploy).unwrap();
}
