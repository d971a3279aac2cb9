//! What two cities hold of their exchanges, compared: what is equal reconciles, and whatever one of them loses, changes or
//! invents is found by both.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_proto::{
    exchange::v1::{Reason, Trace},
    ledger::v1::{
        CompareDetail, CompareExchangesRequest, CompareExchangesResponse, Discrepancy,
        DiscrepancyClass as Class, Entry, EntryFilter, GetEntriesRequest, GetEntriesResponse, Kind,
        ReconcileRequest, ReconcileSummary, Reconciled, Side,
        audit_service_client::AuditServiceClient, reconcile_response::Part,
    },
};
use banqiao_tests::{
    admin::Role,
    echo::{ChatRequest, CollectRequest, EchoRequest, ExpandRequest, LookRequest},
    network::{City, Network, Plan, SYSTEM, set},
    process::program,
    service::{SCRIPT, Service, status},
    wait::{PATIENCE, wait_for, wait_until},
    wire::{Answer, Caller, Head, Message},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
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
    wait_for("exchanges to be compared", PATIENCE, || async {
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
    assert_eq!(lines.len(), 6, "{said}");
    assert_eq!(lines[5]["counts"]["digest_differs"], 2, "{said}");
    let kept = std::fs::read_to_string(folder.join("report.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), 5);
    assert!(said.starts_with(&kept), "{kept}");
    let (code, said) = audit(&folder, &["--admin", &admin, "--with", WEIFANG]).await;
    assert_eq!(code, Some(0), "{said}");
    // A city that is away does not hide the others.
    network.cities[2].gateway_mut().kill().unwrap();
    let (code, said) = audit(&folder, &["--admin", &admin, "--with", "all"]).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("{lost}/1")), "{said}");
    assert!(said.contains("only this ledger has it"), "{said}");
    assert!(said.contains("370700: 0 exchanges compared"), "{said}");
    assert!(said.contains("cannot be reached"), "{said}");
    let (code, said) = audit(&folder, &["--admin", &admin, "--with", "110000"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("city"), "{said}");
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

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    digest(&SHA256, &parts.concat()).as_ref().to_vec()
}

/// Root of the tree that a leaf lies in (RFC 9162 §2.1.3.2).
fn root(entry: &[u8], index: u64, size: u64, path: &[Vec<u8>]) -> Vec<u8> {
    let (mut place, mut last) = (index, size - 1);
    let mut hash = sha256(&[&[0], entry]);
    for node in path {
        if place & 1 == 1 || place == last {
            hash = sha256(&[&[1], node, &hash]);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = sha256(&[&[1], &hash, node]);
        }
        place >>= 1;
        last >>= 1;
    }
    assert_eq!(last, 0, "the path is too short");
    hash
}

fn service(method: &str) -> Head {
    Head::bare(&format!("/banqiao.ledger.v1.CounterpartyService/{method}"))
}

fn shows_no_secret(answer: &Answer, more: &[&str]) {
    for message in &answer.messages {
        for secret in SECRETS.iter().chain(more) {
            let bytes = message.bytes.windows(secret.len());
            assert!(
                bytes.into_iter().all(|part| part != secret.as_bytes()),
                "{secret} is on the wire"
            );
        }
    }
}

#[tokio::test]
async fn counterparty_gets_the_entries_of_its_own_exchanges_and_of_no_other() {
    let (network, _service) = Network::echo_of(plan(3, "1h")).await.unwrap();
    let [qingdao, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let exchange = ok(&caller).await;
    let asked = |id: Uuid, attempt| GetEntriesRequest {
        exchange_id: id.to_string(),
        attempt,
    };
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let answer = link
        .unary(&service("GetEntries"), &asked(exchange, 1))
        .await
        .unwrap();
    let told: GetEntriesResponse = answer.only().unwrap();
    shows_no_secret(&answer, &[]);
    let kinds: Vec<_> = told
        .entries
        .iter()
        .map(|proven| Entry::decode(proven.entry.as_slice()).unwrap())
        .map(|entry| (entry.kind(), entry.side(), entry.exchange))
        .collect();
    let id = exchange.as_bytes().to_vec();
    assert_eq!(
        kinds,
        [
            (Kind::Open, Side::Provider, id.clone()),
            (Kind::Close, Side::Provider, id)
        ]
    );
    // Each is in the tree of the checkpoint, which is the city's own.
    let lines: Vec<_> = told.checkpoint.lines().collect();
    assert_eq!(lines[0], yantai.ledger.name());
    let size: u64 = lines[1].parse().unwrap();
    for proven in &told.entries {
        let computed = root(&proven.entry, proven.index, size, &proven.inclusion);
        assert_eq!(STANDARD.encode(computed), lines[2]);
    }
    assert!(lines[4].starts_with(&format!("— {} ", yantai.ledger.name())));

    // Another attempt, another city's exchange and one that is not known are all the same.
    let other = weifang.as_gateway(yantai).await.unwrap();
    let mut answers = Vec::new();
    for (link, request) in [
        (&link, asked(exchange, 2)),
        (&other, asked(exchange, 0)),
        (&other, asked(Uuid::now_v7(), 0)),
    ] {
        let answer = link.unary(&service("GetEntries"), &request).await.unwrap();
        assert_eq!(answer.code(), Some(5), "{:?}", answer.grpc());
        answers.push(answer.grpc().unwrap().message().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");

    // In digests only, and again of its own exchanges only.
    let whole = CompareExchangesRequest {
        from_ms: 0,
        until_ms: 1 << 47,
        detail: CompareDetail::Records.into(),
        exchanges: Vec::new(),
    };
    let answer = link
        .unary(&service("CompareExchanges"), &whole)
        .await
        .unwrap();
    let names = [
        qingdao.id(SYSTEM),
        "EchoService".to_owned(),
        "case-handling".to_owned(),
    ];
    shows_no_secret(&answer, &[&names[0], &names[1], &names[2]]);
    let told = CompareExchangesResponse::decode(answer.messages[0].bytes.clone()).unwrap();
    assert_eq!((answer.messages.len(), answer.code()), (1, Some(0)));
    assert!(told.part.is_some());
    let answer = other
        .unary(&service("CompareExchanges"), &whole)
        .await
        .unwrap();
    assert_eq!((answer.messages.len(), answer.code()), (0, Some(0)));

    // A system is no counterparty, on neither listener.
    let tls = yantai
        .authority
        .client(Some(&qingdao.credential(SYSTEM).unwrap()))
        .unwrap();
    let system = Caller::connect(yantai.gateway().inter_city, tls)
        .await
        .unwrap();
    let answer = system
        .unary(&service("GetEntries"), &asked(exchange, 0))
        .await
        .unwrap();
    assert_eq!(answer.reason(), Some(Reason::IdentityNotAllowed));
    let through = Head::new(&service("GetEntries").path, YANTAI);
    let answer = caller.unary(&through, &asked(exchange, 0)).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::NotGranted));

    // Whatever was read, or asked for in vain, is an entry.
    let reads = reads(yantai).await;
    let by = |city: &City| {
        let actor = city.id("gateway");
        reads.iter().filter(|(by, _)| *by == actor).count()
    };
    assert_eq!((by(qingdao), by(weifang)), (3, 3), "{reads:?}");
    let query = format!("entries of {exchange}");
    assert!(reads.iter().any(|(_, asked)| *asked == query), "{reads:?}");
}

#[tokio::test]
async fn counterparty_that_reads_too_much_is_held() {
    let network = plan(2, "1h").start().await.unwrap();
    let link = network.cities[0]
        .as_gateway(&network.cities[1])
        .await
        .unwrap();
    let request = GetEntriesRequest {
        exchange_id: Uuid::now_v7().to_string(),
        attempt: 0,
    };
    wait_until("a refusal", PATIENCE, || async {
        let answer = link.unary(&service("GetEntries"), &request).await.unwrap();
        answer.reason() == Some(Reason::RateExceeded)
    })
    .await
    .unwrap();
}

/// What a city compared with another by itself: the spans touch, so that nothing is compared twice or left out.
async fn by_itself(city: &City, with: &str) -> Vec<Reconciled> {
    let entered = reconciled(city).await;
    let own: Vec<_> = entered
        .into_iter()
        .filter(|it| it.actor == "gateway" && it.city == with)
        .collect();
    for pair in own.windows(2) {
        assert_eq!(pair[0].until_us, pair[1].from_us);
    }
    own
}

#[tokio::test]
async fn gateways_compare_by_themselves_each_exchange_once() {
    let (mut network, _service) = Network::echo_of(plan(2, "1s")).await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    // A stream that runs on is looked at again when it has ended.
    let mut chat = caller.open(&head("Chat")).await.unwrap();
    let message = Message::of(&ChatRequest {
        text: "a".to_owned(),
    });
    chat.send(&message).await.unwrap();
    let (mut sending, _, mut answers) = chat.headers().await.unwrap();
    assert_eq!(answers.next().await.unwrap(), Some(message));
    for _ in 0..4 {
        ok(&caller).await;
    }
    let compared = |network: &Network, expected: u64| {
        let cities: Vec<_> = [(0, YANTAI), (1, "370200")]
            .map(|(city, with)| (network.cities[city].admin().clone(), with))
            .into();
        async move {
            for (admin, with) in cities {
                let filter = EntryFilter {
                    kinds: vec![Kind::Reconciled.into()],
                    ..EntryFilter::default()
                };
                let entered = admin.search(filter).await.ok()?;
                let sum: u64 = entered
                    .iter()
                    .filter_map(|record| record.entry.reconciled.as_ref())
                    .filter(|it| it.city == with)
                    .map(|it| it.exchanges)
                    .sum();
                if sum < expected {
                    return None;
                }
            }
            Some(())
        }
    };
    wait_for("five exchanges", PATIENCE, || compared(&network, 5))
        .await
        .unwrap();
    for city in &network.cities {
        let status = city.admin().status().await.unwrap();
        let [with] = status.reconciliations.as_slice() else {
            panic!("{:?}", status.reconciliations)
        };
        assert_eq!((with.running, with.discrepancies), (1, 0), "{with:?}");
        assert!(with.compared_until.is_some() && with.compared_at.is_some());
    }
    // It goes on where it was, also in another life.
    network.cities[0].gateway_mut().stop().await.unwrap();
    network.cities[0].gateway_mut().restart().await.unwrap();
    assert!(answers.next().await.is_err() || answers.trailers().await.is_ok());
    let _ended = sending.send_data(bytes::Bytes::new(), true);
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let mut later = Vec::new();
    for _ in 0..3 {
        later.push(ok(&caller).await);
    }
    // Before its grace is over, the provider loses one.
    let mut there = tampered(&network.cities[1]).await;
    remove(&mut there, later[1]).await;
    wait_for("the others", PATIENCE, || async {
        let here = by_itself(&network.cities[0], YANTAI).await;
        let there = by_itself(&network.cities[1], "370200").await;
        let sum = |list: &[Reconciled]| list.iter().map(|it| it.exchanges).sum::<u64>();
        (sum(&here) >= 8 && sum(&there) >= 7).then_some(())
    })
    .await
    .unwrap();
    let sum = |list: Vec<Reconciled>| list.iter().map(|it| it.exchanges).sum::<u64>();
    assert_eq!(sum(by_itself(&network.cities[0], YANTAI).await), 8);
    assert_eq!(sum(by_itself(&network.cities[1], "370200").await), 7);
    // The stream is not open any more, and the loss is seen: as a metric, in the status and in the log.
    for (city, class, with) in [(0, "only_here", YANTAI), (1, "only_there", "370200")] {
        let city = &network.cities[city];
        wait_until(
            "the discrepancy and the end of the stream",
            PATIENCE,
            || async {
                let status = city.admin().status().await.unwrap();
                status.reconciliations[0].discrepancies == 1
                    && status.reconciliations[0].running == 0
            },
        )
        .await
        .unwrap();
        let metrics = city.gateway().metrics().await.unwrap();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("banqiao_reconciliation_discrepancies_total{"));
        let line = line.unwrap_or_default();
        assert!(
            line.contains(&format!("class=\"{class}\""))
                && line.contains(&format!("peer_city=\"{with}\""))
                && line.ends_with(" 1"),
            "{line}"
        );
        let log = std::fs::read_to_string(city.gateway().folder.join("gateway.log")).unwrap();
        assert!(log.contains(&later[1].to_string()), "{}", city.name);
    }
    // A peer that is away is no discrepancy, and said.
    network.cities[1].gateway_mut().kill().unwrap();
    wait_until(
        "the problem in the status",
        Duration::from_secs(30),
        || async {
            let status = network.cities[0].admin().status().await.unwrap();
            status.reconciliations[0]
                .problem
                .contains("cannot be reached")
        },
    )
    .await
    .unwrap();
}
