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
fn the_sample_configuration_is_sound() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/lab.toml");
    banqiao_lab::LabConfig::read(&deploy).unwrap();
}
