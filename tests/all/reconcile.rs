//! What two cities hold of their exchanges, compared: what is equal reconciles, and whatever one of them loses, changes or
//! invents is found by both.

#[path = "reconcile/counterparty.rs"]
mod counterparty;
#[path = "reconcile/itself.rs"]
mod itself;

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_proto::{
    exchange::v1::{Reason, Trace},
    ledger::v1::{
        Discrepancy, DiscrepancyClass as Class, Entry, EntryFilter, Kind, ReconcileRequest,
        ReconcileSummary, Reconciled, audit_service_client::AuditServiceClient,
        reconcile_response::Part,
    },
};
use banqiao_tests::{
    admin::Role,
    echo::{ChatRequest, CollectRequest, EchoRequest, ExpandRequest, LookRequest},
    network::{City, Network, Plan, SYSTEM, set},
    process::program,
    service::{SCRIPT, Service, status},
    wait::{PATIENCE, wait_every},
    wire::{Answer, Caller, Head, Message},
};
use prost::Message as _;
use sqlx::{Connection as _, SqliteConnection};
use tokio::process::Command;
use uuid::Uuid;

const YANTAI: &str = "370600";
const WEIFANG: &str = "370700";

/// A payload, an operator and a case that no other city may ever be shown.
const SECRETS: [&str; 3] = ["synthetic-payload-7", "synthetic-operator-7", "2026-000-7"];

/// Compared at once by nobody but the test, down to the last second.
fn plan(cities: usize, interval: &'static str) -> Plan {
    Plan::cities(cities).tweak(move |_, config| {
        set(config, "limits.drain", "1s");
        set(config, "reconcile.interval", interval);
        set(config, "reconcile.grace", "1s");
    })
}

fn head(method: &str) -> Head {
    Head::new(&format!("/example.echo.v1.EchoService/{method}"), YANTAI)
        .with("banqiao-operator", SECRETS[1])
        .with("banqiao-case", SECRETS[2])
}

fn request() -> EchoRequest {
    EchoRequest {
        text: SECRETS[0].to_owned(),
        payload: Vec::new(),
    }
}

/// What came of a comparison on demand.
struct Compared {
    found: Vec<Discrepancy>,
    summaries: BTreeMap<String, ReconcileSummary>,
}

impl Compared {
    fn exchanges(&self, city: &str) -> u64 {
        let summary = &self.summaries[city];
        summary.outcome.as_ref().unwrap().exchanges
    }

    /// Class and field of each exchange, apart from those that may differ.
    fn classes(&self) -> BTreeMap<Uuid, (Class, String)> {
        let looked_at = |class| !matches!(class, Class::Open | Class::HonestDifference);
        self.found
            .iter()
            .filter(|found| looked_at(found.discrepancy_class()))
            .map(|found| {
                let record = found.here.as_ref().or(found.there.as_ref()).unwrap();
                let id = Uuid::from_slice(&record.exchange).unwrap();
                (id, (found.discrepancy_class(), found.field.clone()))
            })
            .collect()
    }
}

async fn compare(city: &City, with: &[&str]) -> Compared {
    let mut auditor = AuditServiceClient::new(city.admin().channel(Role::Auditor));
    let request = ReconcileRequest {
        cities: with.iter().map(|code| (*code).to_owned()).collect(),
        ..ReconcileRequest::default()
    };
    let mut told = auditor.reconcile(request).await.unwrap().into_inner();
    let mut compared = Compared {
        found: Vec::new(),
        summaries: BTreeMap::new(),
    };
    while let Some(message) = told.message().await.unwrap() {
        match message.part.unwrap() {
            Part::Discrepancy(found) => compared.found.push(found),
            Part::Summary(summary) => {
                let city = summary.outcome.as_ref().unwrap().city.clone();
                compared.summaries.insert(city, summary);
            }
            Part::Progress(progress) => assert!(progress.done_ms <= progress.span_ms),
        }
    }
    compared
}

/// Compares until so many exchanges are out of their grace.
async fn settled(city: &City, with: &str, exchanges: u64) -> Compared {
    // Below the 600 reads a minute that a city is allowed.
    let every = Duration::from_millis(500);
    wait_every("exchanges to be compared", PATIENCE, every, || async {
        let compared = compare(city, &[with]).await;
        let problem = &compared.summaries[with].problem;
        assert_eq!(problem, "", "{}", city.name);
        (compared.exchanges(with) >= exchanges).then_some(compared)
    })
    .await
    .unwrap()
}

/// Exchanges of a city that another one is party to: what a comparison counts.
async fn exchanges(city: &City, with: &str) -> u64 {
    let filter = EntryFilter {
        city: with.to_owned(),
        kinds: vec![Kind::Open.into(), Kind::Close.into(), Kind::Refused.into()],
        ..EntryFilter::default()
    };
    let records = city.admin().search(filter).await.unwrap();
    let mut attempts: Vec<_> = records
        .iter()
        .map(|record| (record.entry.exchange.clone(), record.entry.attempt))
        .collect();
    attempts.sort();
    attempts.dedup();
    attempts.len() as u64
}

async fn ok(caller: &Caller) -> Uuid {
    let answer = caller.unary(&head("Echo"), &request()).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    answer.exchange().unwrap().0
}

/// Every kind of end that a call can honestly have.
async fn every_end(network: &mut Network, service: &Service) {
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    for _ in 0..3 {
        ok(&caller).await;
    }
    let look = LookRequest {
        text: "x".to_owned(),
    };
    let answer = caller.unary(&head("Look"), &look).await.unwrap();
    assert_eq!(answer.code(), Some(0));
    let expand = ExpandRequest {
        text: "x".to_owned(),
        count: 1_500,
        payload_bytes: 10,
    };
    let answer = caller.unary(&head("Expand"), &expand).await.unwrap();
    assert_eq!(answer.messages.len(), 1_500);
    let text = |n: u32| CollectRequest {
        text: n.to_string(),
    };
    let parts: Vec<_> = (0..50).map(|n| Message::of(&text(n))).collect();
    let answer = caller.exchange(&head("Collect"), &parts).await.unwrap();
    assert_eq!(answer.code(), Some(0));

    // Refused: by the provider, and before anything left.
    let purpose = head("Echo").set("banqiao-purpose", "other-purpose");
    let answer = caller.unary(&purpose, &request()).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::PurposeNotAllowed));
    let stranger = network.cities[0].caller("hrss/stranger").await.unwrap();
    let answer = stranger.unary(&head("Echo"), &request()).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::NotGranted));
    let nowhere = head("Echo").set("banqiao-to", "110000");
    let answer = caller.unary(&nowhere, &request()).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::DestinationUnknown));

    // The service's own error.
    service.script("refuse", |mut call| async move {
        call.trailers_only(status(9, "no"))
    });
    let refused = head("Echo").with(SCRIPT, "refuse");
    let answer = caller.unary(&refused, &request()).await.unwrap();
    assert_eq!(answer.code(), Some(9));

    // Cancelled in the middle of a stream, and out of time.
    let mut chat = caller.open(&head("Chat")).await.unwrap();
    let message = Message::of(&ChatRequest {
        text: "a".to_owned(),
    });
    chat.send(&message).await.unwrap();
    let (mut sending, headers, mut answers) = chat.headers().await.unwrap();
    assert_eq!(answers.next().await.unwrap(), Some(message));
    let id = headers["banqiao-exchange-id"].to_str().unwrap();
    let cancelled: Uuid = id.split('/').next().unwrap().parse().unwrap();
    sending.send_reset(h2::Reason::CANCEL);
    service.script("never", |mut call| async move {
        call.cancelled().await;
        Ok(())
    });
    let late = head("Echo")
        .with(SCRIPT, "never")
        .with("grpc-timeout", "150m");
    let answer = caller.unary(&late, &request()).await.unwrap();
    assert_eq!(answer.code(), Some(4));
    let timed_out = answer.exchange().unwrap().0;

    // The provider's gateway is away.
    network.cities[1].gateway_mut().stop().await.unwrap();
    let answer: Answer = caller.unary(&head("Echo"), &request()).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::PeerUnreachable));
    network.cities[1].gateway_mut().restart().await.unwrap();
    for exchange in [cancelled, timed_out] {
        for city in &network.cities[..2] {
            city.admin()
                .holds(exchange, Trace::OpenClose)
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn equal_ledgers_reconcile_whatever_became_of_the_calls() {
    let (mut network, service) = Network::echo_of(plan(3, "1h")).await.unwrap();
    every_end(&mut network, &service).await;
    // And the service behind it.
    service.stop().await;
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let answer = caller.unary(&head("Echo"), &request()).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::ServiceUnreachable));
    let [qingdao, yantai, _] = network.cities.as_slice() else {
        panic!("three cities")
    };
    for (city, with) in [(qingdao, YANTAI), (yantai, "370200")] {
        let expected = exchanges(city, with).await;
        assert!(expected >= 11, "{}: {expected}", city.name);
        let compared = settled(city, with, expected).await;
        assert_eq!(compared.exchanges(with), expected);
        let found = compared.classes();
        assert!(found.is_empty(), "{}: {found:?}", city.name);
        let open = compared.found.iter();
        let open = open.filter(|it| it.discrepancy_class() == Class::Open);
        assert_eq!(open.count(), 0);
    }
    // A city without calls is compared too, and everything is entered.
    let compared = compare(qingdao, &[]).await;
    assert_eq!(compared.exchanges(WEIFANG), 0);
    let entered = reconciled(qingdao).await;
    let last = entered.last().unwrap();
    assert_eq!(
        (last.actor.as_str(), last.city.as_str()),
        ("socket:auditor", WEIFANG)
    );
    let reads = reads(qingdao).await;
    assert!(
        reads.iter().any(|(actor, query)| actor == "socket:auditor"
            && query.starts_with("reconcile 370600 370700 ")),
        "{reads:?}"
    );
}

/// What was entered of comparisons, oldest first.
async fn reconciled(city: &City) -> Vec<Reconciled> {
    let filter = EntryFilter {
        kinds: vec![Kind::Reconciled.into()],
        ..EntryFilter::default()
    };
    let records = city.admin().search(filter).await.unwrap();
    records
        .into_iter()
        .map(|record| record.entry.reconciled.unwrap())
        .collect()
}

async fn reads(city: &City) -> Vec<(String, String)> {
    let filter = EntryFilter {
        kinds: vec![Kind::Read.into()],
        ..EntryFilter::default()
    };
    let records = city.admin().search(filter).await.unwrap();
    let reads = records.into_iter().filter_map(|record| record.entry.read);
    reads.map(|read| (read.actor, read.query)).collect()
}

/// A city's database, opened behind its gateway's back, and no longer guarded.
async fn tampered(city: &City) -> SqliteConnection {
    let file = city.gateway().folder.join("gateway.db");
    let url = format!("sqlite://{}", file.display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    for trigger in [
        "DROP TRIGGER IF EXISTS entry_is_final_1",
        "DROP TRIGGER IF EXISTS entry_is_final_2",
    ] {
        sqlx::query(trigger).execute(&mut database).await.unwrap();
    }
    database
}

async fn remove(database: &mut SqliteConnection, exchange: Uuid) {
    let removed = sqlx::query("DELETE FROM entry WHERE exchange = ?1")
        .bind(exchange)
        .execute(database)
        .await
        .unwrap();
    assert!(removed.rows_affected() > 0);
}

/// Changes the CLOSE of an exchange.
async fn edit(database: &mut SqliteConnection, exchange: Uuid, change: impl Fn(&mut Entry)) {
    let (index, bytes): (i64, Vec<u8>) =
        sqlx::query_as("SELECT idx, bytes FROM entry WHERE exchange = ?1 AND kind = 3")
            .bind(exchange)
            .fetch_one(&mut *database)
            .await
            .unwrap();
    let mut entry = Entry::decode(bytes.as_slice()).unwrap();
    change(&mut entry);
    sqlx::query("UPDATE entry SET bytes = ?2 WHERE idx = ?1")
        .bind(index)
        .bind(entry.encode_to_vec())
        .execute(database)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_one_city_loses_or_changes_is_found_by_both() {
    let (mut network, _service) = Network::echo_of(plan(3, "1h")).await.unwrap();
    let [qingdao, yantai, _] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..6 {
        let exchange = ok(&caller).await;
        qingdao
            .admin()
            .holds(exchange, Trace::OpenClose)
            .await
            .unwrap();
        calls.push(exchange);
    }
    let [lost, forgotten, status, root, purpose, _sound] = *calls else {
        panic!("six calls")
    };
    let mut there = tampered(yantai).await;
    remove(&mut there, lost).await;
    edit(&mut there, status, |entry| {
        entry.result.as_mut().unwrap().status = 5
    })
    .await;
    edit(&mut there, root, |entry| {
        entry.request.as_mut().unwrap().root[0] ^= 1;
    })
    .await;
    edit(&mut there, purpose, |entry| {
        entry.purpose = "another".to_owned()
    })
    .await;
    let mut here = tampered(qingdao).await;
    remove(&mut here, forgotten).await;

    let expected = |only, missing| {
        let field = |class, field: &str| (class, field.to_owned());
        BTreeMap::from([
            (lost, field(only, "state")),
            (forgotten, field(missing, "state")),
            (status, field(Class::StatusDiffers, "status")),
            (root, field(Class::DigestDiffers, "request")),
            (purpose, field(Class::DigestDiffers, "purpose")),
        ])
    };
    let compared = settled(qingdao, YANTAI, 5).await;
    assert_eq!(
        compared.classes(),
        expected(Class::OnlyHere, Class::OnlyThere)
    );
    let compared = settled(yantai, "370200", 5).await;
    assert_eq!(
        compared.classes(),
        expected(Class::OnlyThere, Class::OnlyHere)
    );
    // What is found is entered with its digest.
    let entered = reconciled(yantai).await.pop().unwrap();
    assert_eq!(entered.counts.iter().map(|it| it.count).sum::<u64>(), 5);
    assert_eq!(entered.report_digest.len(), 32);
    let empty = digest(&SHA256, &[]);
    assert_ne!(entered.report_digest, empty.as_ref());

    // On the command line.
    let folder = network.folder().to_owned();
    let admin = format!(
        "unix:{}",
        network.cities[0].gateway().folder.join("admin").display()
    );
    let json = [
        "--admin",
        &admin,
        "--with",
        YANTAI,
        "--json",
        "-o",
        "report.jsonl",
    ];
    let (code, said) = audit(&folder, &json).await;
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, listed) = lines.split_last().unwrap();
    let listed: BTreeMap<Uuid, (Class, String)> = listed.iter().map(shown).collect();
    assert_eq!(listed, expected(Class::OnlyHere, Class::OnlyThere));
    let counts = serde_json::json!({
        "only_here": 1, "only_there": 1, "status_differs": 1, "digest_differs": 2,
    });
    assert_eq!(summary["counts"], counts, "{said}");
    assert_eq!(summary["exchanges"], 5, "its own of the six: {said}");
    let kept = std::fs::read_to_string(folder.join("report.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), 5);
    assert!(said.starts_with(&kept), "{kept}");
    let (code, said) = audit(&folder, &["--admin", &admin, "--with", WEIFANG]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("370700: 0 exchanges compared"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    // A city that is away does not hide the others.
    network.cities[2].gateway_mut().kill().unwrap();
    let (code, said) = audit(&folder, &["--admin", &admin, "--with", "all"]).await;
    assert_eq!(code, Some(69), "{said}");
    for (exchange, words) in [
        (lost, "only this ledger has it: ended OK"),
        (forgotten, "only the other ledger has it: ended OK"),
        (
            status,
            "the status differs: here ended OK, there ended NOT_FOUND",
        ),
        (root, "the request differs"),
        (purpose, "the purpose differs"),
    ] {
        let line = said
            .lines()
            .find(|it| it.contains(&format!("{exchange}/1")));
        let line = line.unwrap_or_else(|| panic!("{exchange} in {said}"));
        assert!(line.contains(words) && line.contains(YANTAI), "{line}");
    }
    assert!(said.contains("370700: 0 exchanges compared"), "{said}");
    assert!(said.contains("cannot be reached"), "{said}");
    let (code, said) = audit(&folder, &["--admin", &admin, "--with", "110000"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("city"), "{said}");
}

/// Exchange, class and field of a discrepancy as the command prints it.
fn shown(line: &serde_json::Value) -> (Uuid, (Class, String)) {
    assert_eq!(line["city"], YANTAI, "{line}");
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    let exchange = text("exchange")
        .strip_suffix("/1")
        .unwrap()
        .parse()
        .unwrap();
    let class = format!("DISCREPANCY_CLASS_{}", text("class").to_uppercase());
    let class = Class::from_str_name(&class).unwrap();
    (exchange, (class, text("field")))
}

async fn audit(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program("banqiao").unwrap())
        .args(["audit", "reconcile"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut said = text(&output.stdout);
    if said.is_empty() {
        said = text(&output.stderr);
    }
    (output.status.code(), said)
}

#[tokio::test]
async fn calls_that_a_dead_gateway_left_open_are_named() {
    let (mut network, _service) = Network::echo_of(plan(2, "1h")).await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let mut chat = caller.open(&head("Chat")).await.unwrap();
    let message = Message::of(&ChatRequest {
        text: "a".to_owned(),
    });
    chat.send(&message).await.unwrap();
    let (_sending, headers, mut answers) = chat.headers().await.unwrap();
    assert_eq!(answers.next().await.unwrap(), Some(message));
    let id = headers["banqiao-exchange-id"].to_str().unwrap();
    let exchange: Uuid = id.split('/').next().unwrap().parse().unwrap();
    // While it runs, it is open.
    let compared = settled(&network.cities[0], YANTAI, 1).await;
    let [open] = compared.found.as_slice() else {
        panic!("{:?}", compared.found)
    };
    assert_eq!(open.discrepancy_class(), Class::Open);

    network.cities[1].gateway_mut().kill().unwrap();
    network.cities[1].gateway_mut().restart().await.unwrap();
    for city in &network.cities {
        city.admin()
            .holds(exchange, Trace::OpenClose)
            .await
            .unwrap();
    }
    for (city, with, class) in [
        (0, YANTAI, Class::InterruptedThere),
        (1, "370200", Class::InterruptedHere),
    ] {
        let compared = settled(&network.cities[city], with, 1).await;
        let expected = BTreeMap::from([(exchange, (class, "state".to_owned()))]);
        assert_eq!(compared.classes(), expected);
    }
}
