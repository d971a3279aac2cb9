//! The binary.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use banqiao_proto::card::v1::LossKind;

use tempfile::TempDir;

use crate::{
    bureau,
    certificates::{Certificates, ISSUER, WINDOW, lines, request},
    postgres::Postgres,
    scene::{config_text, loss, verify_request},
};

pub(crate) fn card(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao-card"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A service in a process of its own, with everything that it writes.
pub(crate) struct Process {
    child: Child,
    written: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Process {
    /// Starts and waits until it serves; gives its address too.
    pub(crate) fn serve(folder: &Path) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_banqiao-card"))
            .args(["serve", "--config", "card.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::new(Mutex::new(String::new()));
        let (serving, address) = mpsc::channel();
        let log = Arc::clone(&written);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains(" serving") || line.contains("serving ") {
                    let after = line.split("address=").nth(1);
                    if let Some(address) = after.and_then(|rest| rest.split_whitespace().next()) {
                        let _ = serving.send(address.parse().unwrap());
                    }
                }
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = address.recv_timeout(Duration::from_secs(30));
        let address = address.unwrap_or_else(|_| panic!("{}", written.lock().unwrap()));
        (
            Self {
                child,
                written,
                reader,
            },
            address,
        )
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
    }

    /// Sends SIGTERM and gives the exit status and the log.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        let process = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &process])
                .status()
                .unwrap()
                .success()
        );
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let log = self.written.lock().unwrap().clone();
        (status, log)
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
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

#[test]
fn every_kind_of_record_is_exported_and_taken_again() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("card.toml"), config_text("sqlite://card.db")).unwrap();
    fs::write(
        at.join("new.csv"),
        format!(
            "card_number,card_identification_code,specification_version\nN1,{:032X},3\n",
            1
        ),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let done = card(&[arguments, &["--config", "card.toml"]].concat(), at);
        assert!(
            done.status.success(),
            "{arguments:?}: {}",
            text(&done.stderr)
        );
        text(&done.stdout)
    };
    for kind in ["insurance", "beneficiaries"] {
        let generate = format!("generate-{kind}");
        let made = card(
            &["benefits", &generate, "--city", "370200", "--count", "90"],
            at,
        );
        fs::write(at.join(format!("{kind}.csv")), made.stdout).unwrap();
    }
    for (kind, taken, again) in [
        (
            "insurance",
            &["benefits", "import-insurance"][..],
            " 0 refused\n",
        ),
        (
            "beneficiaries",
            &["benefits", "import-beneficiaries"],
            " 0 refused\n",
        ),
        ("stock", &["stock"], "0 new cards in stock\n"),
    ] {
        let given = if kind == "stock" {
            "new.csv"
        } else {
            &format!("{kind}.csv")
        };
        run(&[taken, &[given]].concat());
        let output = format!("out-{kind}.xlsx");
        let said = run(&["export", kind, "-o", &output]);
        assert!(
            said.ends_with(&format!(" in {output}\n")) && !said.starts_with("0 "),
            "{said}"
        );
        let mode = fs::metadata(at.join(&output)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let said = run(&[taken, &[&output]].concat());
        assert!(said.ends_with(again) && said.starts_with("0 new"), "{said}");
        // It is not written over.
        let refused = card(
            &["export", kind, "-o", &output, "--config", "card.toml"],
            at,
        );
        assert_eq!(refused.status.code(), Some(1));
        run(&["export", kind, "-o", &output, "--force"]);
    }
    // A filter that would not be applied is refused before anything is written.
    for (kind, filter, fault) in [
        (
            "insurance",
            ["--state", "NORMAL"],
            "choose cards, not periods of insured persons",
        ),
        ("stock", ["--division", "370202"], "not new cards"),
    ] {
        let arguments = [
            "export",
            kind,
            "-o",
            "no.csv",
            "--config",
            "card.toml",
            filter[0],
            filter[1],
        ];
        let refused = card(&arguments, at);
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            text(&refused.stderr).contains(fault),
            "{}",
            text(&refused.stderr)
        );
        assert!(!at.join("no.csv").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_compares_a_mapping_with_the_database() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let url = postgres.create("bureau");
    bureau::create(&url).await;
    let certificates = Certificates::of_qingdao();
    let at = certificates.folder.path();
    let url = url.replace("user=postgres", "user=card");
    let config =
        config_text(&url).replacen("[identity]", "mapping = \"mapping.toml\"\n[identity]", 1);
    let config = config.replace("[card]", "schema = \"banqiao_card\"\n[card]");
    fs::write(at.join("card.toml"), config).unwrap();
    fs::write(at.join("mapping.toml"), bureau::MAPPING).unwrap();
    let checked = card(&["check", "card.toml"], at);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let faulty = bureau::MAPPING
        .replace("\"AAC003\"", "\"AAC099\"")
        .replace("aaz502 = :social_state", "aaz599 = :social_state");
    fs::write(at.join("mapping.toml"), faulty).unwrap();
    for arguments in [
        &["check", "card.toml"][..],
        &["serve", "--config", "card.toml"],
    ] {
        let checked = card(arguments, at);
        assert_eq!(checked.status.code(), Some(64));
        let faults = text(&checked.stderr);
        for fault in [
            "card.name: there is no column AAC099",
            "statements.set_card_state: the database does not take it",
            "statements.update_card: the database does not take it",
        ] {
            assert!(faults.contains(fault), "{faults}");
        }
    }
    // A fault of the file itself.
    fs::write(
        at.join("mapping.toml"),
        bureau::MAPPING.replace("name = \"AAC003\"", ""),
    )
    .unwrap();
    let checked = card(&["check", "card.toml"], at);
    assert_eq!(checked.status.code(), Some(64));
    assert!(text(&checked.stderr).contains("mapping: card.name: is required"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_serves_writes_nobody_into_its_log_and_stops_at_sigterm() {
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path().to_owned();
    let config = config_text("sqlite://card.db").replace("\"warn\"", "\"debug\"");
    fs::write(folder.join("card.toml"), config).unwrap();
    let (process, address) = Process::serve(&folder);
    let mut client = certificates.gateway(address);
    client
        .import_cards(request(futures_util::stream::iter(lines(5)), ISSUER))
        .await
        .unwrap();
    let records: Vec<_> = lines(5).into_iter().filter_map(|line| line.card).collect();
    client
        .report_loss(request(loss(&records[0], LossKind::Formal), WINDOW))
        .await
        .unwrap();
    client
        .verify_card(request(verify_request(&records[1]), WINDOW))
        .await
        .unwrap();
    let mut wrong = verify_request(&records[2]);
    wrong
        .key
        .as_mut()
        .unwrap()
        .social_security_number
        .replace_range(17.., "?");
    client
        .verify_card(request(wrong, WINDOW))
        .await
        .unwrap_err();
    drop(client);
    let (status, log) = tokio::task::spawn_blocking(move || process.stop())
        .await
        .unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("stopped"), "{log}");
    for record in &records {
        let number = &record.social_security_number[..17];
        for secret in [
            number,
            &record.card_number,
            &record.name,
            &record.card_identification_code,
        ] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    }
}

#[test]
fn the_sample_configuration_is_sound() {
    let deploy = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../../deploy/config/card.toml");
    banqiao_card::CardConfig::read(&deploy).unwrap();
}
