use std::path::PathBuf;

use banqiao_ledger::{LedgerState, Order, Page, Query};
use banqiao_proto::ledger::v1::EntryFilter;
use banqiao_proxy::Gateway;
use banqiao_telemetry::Telemetry;
use tokio::time::timeout;

use super::*;
use crate::{
    audit::AuditCommand,
    exit::{Exit, exit_of},
    grant::GrantCommand,
    operate::{CatalogCommand, DrainCommand, PublishCommand, ReloadCommand, StatusCommand},
    testing::{City, PATIENCE, parse, wait_for},
};

/// The commands of the admin listener, as the program has them.
#[derive(Debug, clap::Parser)]
enum Line {
    #[command(subcommand)]
    Audit(AuditCommand),
    #[command(subcommand)]
    Catalog(CatalogCommand),
    Drain(DrainCommand),
    #[command(subcommand)]
    Grant(GrantCommand),
    Publish(PublishCommand),
    Reload(ReloadCommand),
    Status(StatusCommand),
}

/// A running gateway with its admin listener.
struct Scene {
    city: City,
    gateway: Gateway,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

const CARD: &str = "banqiao.card.v1.CardService";
const HALL: &str = "spiffe://yantai.jiaodong/hrss/hall";

impl Scene {
    async fn new() -> Self {
        Self::with("").await
    }

    /// A gateway whose `[listeners.admin]` has more keys.
    async fn with(admin: &str) -> Self {
        let city = City::new("370200", "qingdao.jiaodong");
        let mut text = city
            .sound_config()
            .replace(":8443", ":0")
            .replace(":8444", ":0");
        text = text.replace(
            "[listeners.admin]\n",
            &format!("[listeners.admin]\n{admin}"),
        );
        let file = city.path("gateway.toml");
        fs::write(&file, text).unwrap();
        let clock = Clock::system();
        let (config, _) = Config::load(&file, &clock).unwrap();
        let telemetry = Telemetry::build(config.telemetry.clone(), clock.clone()).unwrap();
        let gateway = crate::serve::build(&config, &telemetry, clock, 1)
            .await
            .unwrap();
        // Nothing is entered before the gateway has made sure that no witness holds a newer state.
        let mut ledger = gateway.control().ledger().state();
        let ready = ledger.wait_for(|state| *state == LedgerState::Ready);
        timeout(PATIENCE, ready).await.unwrap().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let address = start(&config, gateway.control().clone(), &tasks, &stop)
            .await
            .unwrap();
        Self {
            city,
            gateway,
            address,
            stop,
            tasks,
        }
    }

    fn admin(&self) -> PathBuf {
        self.city.path("admin")
    }

    /// Runs a command against the sockets of the folder.
    async fn run(&self, arguments: &[&str]) -> (Result<Exit>, String) {
        let target = format!("unix:{}", self.admin().display());
        self.run_at(&target, arguments).await
    }

    async fn run_at(&self, target: &str, arguments: &[&str]) -> (Result<Exit>, String) {
        let mut line = arguments.to_vec();
        line.extend(["--admin", target]);
        let mut out = Vec::new();
        let ended = match parse::<Line>(&line).unwrap() {
            Line::Audit(command) => command.run(&mut out).await,
            Line::Catalog(command) => command.run(&mut out).await,
            Line::Drain(command) => command.run(&mut out).await,
            Line::Grant(command) => command.run(&mut out).await,
            Line::Publish(command) => command.run(&mut out).await,
            Line::Reload(command) => command.run(&mut out).await,
            Line::Status(command) => command.run(&mut out).await,
        };
        (ended, String::from_utf8(out).unwrap())
    }

    /// What a command that must succeed prints.
    async fn said(&self, arguments: &[&str]) -> String {
        let (ended, out) = self.run(arguments).await;
        assert_eq!(ended.unwrap(), Exit::Done, "{arguments:?}: {out}");
        out
    }

    /// The error of a command that must fail, with its exit code.
    async fn refused(&self, arguments: &[&str]) -> (Exit, String) {
        let (ended, out) = self.run(arguments).await;
        let error = ended.expect_err(&out);
        (exit_of(&error), format!("{error:#}"))
    }

    async fn add_grant(&self, more: &[&str]) -> String {
        let mut line = vec!["grant", "add", "--client", HALL, "--service", CARD];
        line.extend(["--purpose", "card-service", "--until", "180d"]);
        line.extend(["--legal-basis", "社会保险经办条例 art. 7"]);
        line.extend(["--request-number", "2026-0001"]);
        line.extend(more);
        self.said(&line).await.trim().to_owned()
    }

    /// Every entry, oldest first.
    async fn entries(&self) -> Vec<Entry> {
        let reader = self.gateway.control().ledger().reader();
        let query = Query::parse(&EntryFilter::default()).unwrap();
        let page = Page {
            limit: 10_000,
            order: Order::Ascending,
            cursor: None,
            open_private: false,
        };
        let found = reader.search(&query, page).await.unwrap();
        found
            .iter()
            .map(|stored| match banqiao_ledger::decode(&stored.bytes) {
                Ok(banqiao_ledger::Decoded::Entry(entry)) => *entry,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Actions of the ADMIN entries, oldest first, refusals with their reason.
    async fn actions(&self) -> Vec<String> {
        let entries = self.entries().await;
        let admin = entries.iter().filter_map(|entry| {
            let admin = entry.admin.as_ref()?;
            let refused = entry.decision.as_ref().map(Decision::reason);
            Some(match refused {
                Some(reason) => format!("{}! {reason:?}", admin.action),
                None => format!("{} by {}", admin.action, admin.actor),
            })
        });
        admin.collect()
    }

    async fn end(self) {
        let ledger = self.gateway.control().ledger().clone();
        self.gateway.drain().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        ledger.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_are_added_explained_and_revoked_and_each_change_is_entered() {
    let scene = Scene::new().await;
    let id = scene
        .add_grant(&["--method", "VerifyCard", "--rate", "5/1s"])
        .await;
    assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
    let listed = scene.said(&["grant", "list"]).await;
    assert!(
        listed.contains(&id) && listed.contains("in force"),
        "{listed}"
    );
    let question = ["grant", "explain", "--client", HALL, "--purpose"];
    let method = "banqiao.card.v1.CardService/VerifyCard";
    let permitted = [&question[..], &["card-service", "--method", method]].concat();
    assert!(
        scene
            .said(&permitted)
            .await
            .starts_with(&format!("permitted by grant {id}"))
    );
    let other = [&question[..], &["case-handling", "--method", method]].concat();
    let (ended, out) = scene.run(&other).await;
    assert_eq!(ended.unwrap(), Exit::Failed);
    assert!(out.starts_with("refused: PURPOSE_NOT_ALLOWED"), "{out}");

    scene
        .said(&[
            "grant",
            "revoke",
            &id,
            "--reason",
            "the agreement has ended",
        ])
        .await;
    let (ended, _) = scene.run(&permitted).await;
    assert_eq!(ended.unwrap(), Exit::Failed);
    assert_eq!(scene.said(&["grant", "list"]).await.lines().count(), 1);
    let all = scene.said(&["grant", "list", "--all", "--json"]).await;
    let grant: serde_json::Value = serde_json::from_str(all.trim()).unwrap();
    assert_eq!(grant["state"], "revoked");
    assert_eq!(grant["revoked_by"], "socket:administrator");
    assert_eq!(
        scene.actions().await,
        [
            "grant.add by socket:administrator",
            "grant.revoke by socket:administrator"
        ]
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_grant_is_told_at_once_and_nothing_is_entered() {
    let scene = Scene::new().await;
    let (exit, error) = scene
        .refused(&[
            "grant",
            "add",
            "--client",
            "spiffe://nowhere.jiaodong/a/b",
            "--service",
            CARD,
            "--method",
            "Gone",
            "--purpose",
            "statistics",
            "--until",
            "180d",
            "--legal-basis",
            " ",
            "--request-number",
            "1",
        ])
        .await;
    assert_eq!(exit, Exit::Failed);
    for field in [
        "grant.client",
        "grant.methods[0]",
        "grant.purposes[0]",
        "grant.legal_basis",
    ] {
        assert!(error.contains(field), "{field} is not in {error}");
    }
    assert_eq!(scene.actions().await, Vec::<String>::new());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_does_what_its_table_says_and_refusals_are_entered() {
    let scene = Scene::new().await;
    let socket = |role: Role| {
        format!(
            "unix:{}",
            scene.admin().join(format!("{role}.sock")).display()
        )
    };
    for (arguments, allowed) in [
        (vec!["audit", "search"], vec![Role::Auditor]),
        (vec!["reload"], vec![Role::Operator]),
        (vec!["publish", "DIRECTORY"], vec![Role::Administrator]),
        (vec!["grant", "list"], Role::ALL.to_vec()),
        (vec!["catalog", "list"], Role::ALL.to_vec()),
    ] {
        let directory = scene.city.path("directory.json");
        let arguments: Vec<&str> = arguments
            .into_iter()
            .map(|it| {
                if it == "DIRECTORY" {
                    directory.to_str().unwrap()
                } else {
                    it
                }
            })
            .collect();
        for role in Role::ALL {
            let (ended, out) = scene.run_at(&socket(role), &arguments).await;
            let exit = ended.as_ref().map_or_else(exit_of, |exit| *exit);
            let not_permitted = exit == Exit::NotPermitted;
            assert_eq!(
                !not_permitted,
                allowed.contains(&role),
                "{role} {arguments:?}: {ended:?} {out}"
            );
        }
    }
    let refusals = scene.actions().await;
    let refusals: Vec<_> = refusals
        .iter()
        .filter(|it| it.ends_with("! RoleMissing"))
        .collect();
    assert_eq!(refusals.len(), 6, "{refusals:?}");
    assert_eq!(
        *refusals[0],
        "banqiao.ledger.v1.AuditService/SearchEntries! RoleMissing"
    );
    scene.end().await;
}

#[test]
fn sockets_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin/operator.sock");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let socket = bind(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(
            bind(&path).is_err(),
            "a socket that is served is not taken over"
        );
        drop(socket);
        bind(&path).unwrap();
    });
}

const ECHO: &str = r#"syntax = "proto3";
package echo.v1;
message EchoRequest { string text = 1; }
service EchoService { rpc Echo(EchoRequest) returns (stream EchoRequest); }
service OtherService { rpc Echo(EchoRequest) returns (EchoRequest); }
"#;

const TERMS: &str = r#"syntax = "proto3";
package terms.v1;
import "banqiao/exchange/v1/options.proto";
message Void {}
service TermsService {
  rpc Get(Void) returns (Void) {
    option (banqiao.exchange.v1.method) = { sharing: SHARING_ATTRIBUTE_CONDITIONAL };
  }
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_services_are_registered_from_their_protos_and_the_last_one_holds() {
    let scene = Scene::new().await;
    let file = scene.city.path("echo.proto");
    let file = file.to_str().unwrap();
    fs::write(file, ECHO).unwrap();
    let identity = "spiffe://qingdao.jiaodong/example/echo";
    let register = |service: &'static str, endpoint: &'static str| {
        let mut line = vec!["catalog", "register", file, "--service", service];
        line.extend(["--endpoint", endpoint, "--identity", identity]);
        line
    };
    let out = scene
        .said(&register("echo.v1.EchoService", "127.0.0.1:7001"))
        .await;
    assert!(out.contains("echo.v1.EchoService"), "{out}");
    assert!(out.contains("to correct: echo.v1.EchoService"), "{out}");
    scene
        .said(&register("echo.v1.OtherService", "127.0.0.1:7002"))
        .await;
    let listed = scene.said(&["catalog", "list"]).await;
    for part in [CARD, "127.0.0.1:7001", "127.0.0.1:7002"] {
        assert!(listed.contains(part), "{part} is not in {listed}");
    }
    // Each newer version of the set takes the place of the one before, whatever their digests; the address stays.
    for number in 2..6 {
        fs::write(file, ECHO.replace("text = 1", &format!("text = {number}"))).unwrap();
        let line = [
            "catalog",
            "register",
            file,
            "--service",
            "echo.v1.EchoService",
        ];
        let out = scene.said(&line).await;
        let digest = out.lines().next().unwrap().to_owned();
        let listed = scene.said(&["catalog", "list", "--json"]).await;
        let services: Vec<serde_json::Value> = listed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let echo = services
            .iter()
            .find(|it| it["service"] == "echo.v1.EchoService")
            .unwrap();
        assert_eq!(echo["descriptor_digest"], digest.as_str());
        assert_eq!(echo["endpoints"][0], "127.0.0.1:7001");
    }
    assert_eq!(scene.actions().await.len(), 6);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_carried_or_published_is_not_registered() {
    let scene = Scene::new().await;
    let write = |name: &str, text: &str| {
        let path = scene.city.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (echo, terms) = (write("echo.proto", ECHO), write("terms.proto", TERMS));
    let broken = write("broken.proto", "syntax = \"proto3\";\nmessage {");
    let noise = write("noise.binpb", "noise");
    let at = |file: &str, identity: &str| {
        let mut line = vec!["catalog".to_owned(), "register".to_owned(), file.to_owned()];
        line.extend(["--endpoint", "127.0.0.1:7001", "--identity", identity].map(str::to_owned));
        line
    };
    let own = "spiffe://qingdao.jiaodong/example/echo";
    for (line, exit, words) in [
        (at(&terms, own), Exit::Failed, "art. 15"),
        (
            at(&echo, "spiffe://yantai.jiaodong/example/echo"),
            Exit::Failed,
            "identity",
        ),
        (at(&noise, own), Exit::Failed, "descriptor_set"),
        (at(&broken, own), Exit::Usage, "broken.proto"),
        (at("/nonexistent.binpb", own), Exit::Usage, "nonexistent"),
        (
            ["catalog", "register", &echo].map(str::to_owned).to_vec(),
            Exit::Failed,
            "say where it is",
        ),
    ] {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let (found, error) = scene.refused(&line).await;
        assert_eq!(found, exit, "{line:?}: {error}");
        assert!(error.contains(words), "{words} is not in {error}");
    }
    assert_eq!(scene.actions().await, Vec::<String>::new());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_is_entered_before_its_answer_and_holds_nothing_private() {
    let scene = Scene::new().await;
    let id = scene.add_grant(&[]).await;
    let subject = scene.city.path("subject");
    fs::write(&subject, "37020219900101000X\n").unwrap();
    let subject = subject.to_str().unwrap();
    let search = ["audit", "search"];
    let found = scene
        .said(&[&search[..], &["--kind", "admin"]].concat())
        .await;
    assert!(found.contains(&format!("grant.add {id}")), "{found}");
    let private = [
        "--subject-file",
        subject,
        "--case",
        "C-1",
        "--operator",
        "li",
        "--since",
        "1h",
    ];
    scene.said(&[&search[..], &private].concat()).await;
    let (exit, _) = scene
        .refused(&["audit", "show", "019ab000-0000-7000-8000-000000000000"])
        .await;
    assert_eq!(exit, Exit::Failed);
    scene
        .said(&["audit", "tail", "--from", "0", "--stop-at-end", "--json"])
        .await;
    // A number in the wrong field must not stay in the ledger for ever.
    for field in ["--purpose", "--service", "--method", "--client"] {
        let line = [&search[..], &[field, "37020219900101000X"]].concat();
        let (exit, error) = scene.refused(&line).await;
        assert_eq!(exit, Exit::Failed);
        assert!(!error.contains("37020219900101000X"), "{error}");
    }
    // The end of the tail is entered behind its answer.
    let reads = wait_for("the end of the tail", || async {
        let entries = scene.entries().await;
        let reads: Vec<_> = entries.into_iter().filter_map(|it| it.read).collect();
        let ended = reads.iter().any(|read| read.query.ends_with(", ended"));
        ended.then_some(reads)
    })
    .await;
    let queries: Vec<_> = reads
        .iter()
        .map(|read| (read.query.as_str(), read.shown))
        .collect();
    assert_eq!(queries[0], ("search kind=KIND_ADMIN", 1));
    assert!(
        queries[1].0.ends_with(" operator case_number subject"),
        "{queries:?}"
    );
    assert_eq!(queries[2], ("show 019ab000-0000-7000-8000-000000000000", 0));
    assert_eq!(queries[3], ("tail from 0", 0));
    assert_eq!(queries.len(), 5, "{queries:?}");
    assert_eq!(queries[4], ("tail from 0, ended", 4));
    assert!(reads.iter().all(|read| read.actor == "socket:auditor"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_whole_and_for_its_owner_only() {
    let scene = Scene::new().await;
    for _ in 0..3 {
        scene.add_grant(&[]).await;
    }
    let file = scene.city.path("export.jsonl");
    let line = ["audit", "export", "-o", file.to_str().unwrap()];
    scene.said(&line).await;
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&file).unwrap();
    let indices: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["index"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(indices, (0..indices.len() as u64).collect::<Vec<_>>());
    assert!(indices.len() >= 3);
    let (exit, _) = scene.refused(&line).await;
    assert_eq!(exit, Exit::Usage, "an export does not overwrite another");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_without_a_role_gets_in_nowhere_and_a_revoked_one_is_cut_off() {
    let auditor = "spiffe://qingdao.jiaodong/audit-office/wu";
    let scene = Scene::with(&format!(
        "address = \"127.0.0.1:0\"\nroles = {{ auditor = [{auditor:?}] }}\n"
    ))
    .await;
    let target = format!("https://{}", scene.address.unwrap());
    let wu = scene.city.issue_system("audit-office/wu");
    let hall = scene.city.issue_system("hrss/hall");
    let ca = scene.city.path("ca.crt");
    let as_system = |issued: &banqiao_identity::pki::Issued, arguments: &[&str]| {
        let mut line: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for (flag, path) in [
            ("--cert", &issued.certificate),
            ("--key", &issued.private_key),
            ("--ca", &ca),
        ] {
            line.extend([flag.to_owned(), path.display().to_string()]);
        }
        line
    };
    let run = async |line: &[String]| {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        scene.run_at(&target, &line).await.0
    };
    let search = ["audit", "search", "--limit", "1"];
    assert_eq!(run(&as_system(&wu, &search)).await.unwrap(), Exit::Done);
    let error = run(&as_system(&wu, &["reload"])).await.unwrap_err();
    assert_eq!(exit_of(&error), Exit::NotPermitted, "{error:#}");
    assert!(run(&as_system(&hall, &search)).await.is_err());

    let tail = as_system(&wu, &["audit", "tail"]);
    let revoke = async {
        // The tail is open once its query is entered.
        wait_for("the tail to be open", || async {
            let reads = scene.entries().await.into_iter().filter_map(|it| it.read);
            reads.into_iter().find(|read| read.query == "tail from now")
        })
        .await;
        scene.city.revoke(&wu);
        std::time::Instant::now()
    };
    let (ended, revoked) = tokio::join!(run(&tail), revoke);
    assert!(ended.is_err(), "{ended:?}");
    assert!(
        revoked.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        revoked.elapsed()
    );
    assert!(run(&as_system(&wu, &search)).await.is_err());
    let reads = scene.entries().await.into_iter().filter_map(|it| it.read);
    assert!(reads.filter(|read| *read.actor == *auditor).count() >= 2);
    scene.end().await;
}
