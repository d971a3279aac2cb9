//! All cities asked at once: one request, one merged answer, a record for each city, and nothing that is missing looks like
//! nothing found.

#[path = "all_cities/crash.rs"]
mod crash;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use banqiao_evidence::{Bundle, Verdict, verify};
use banqiao_ledger::digest::sha256;
use banqiao_proto::{
    exchange::v1::{CityOutcome, CityResult, Outcomes, Reason},
    ledger::v1::{EntryFilter, Kind, Receipt, Side},
};
use banqiao_tests::{
    admin::{Record, Role, grant},
    echo::{FindRequest, FindResponse, WatchRequest},
    network::{CITIES, City, Network, Plan, RULED, SYSTEM, set},
    postgres::Cluster,
    service::{SCRIPT, Service},
    wait::{PATIENCE, wait_every, wait_for, wait_until},
    wire::{Answer, Caller, Head, Message},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message as _;
use serde_json::Value;
use uuid::Uuid;

use crate::commands::banqiao;

/// What the tests here provoke.
pub(crate) const PROVOKED: [Reason; 3] = [
    Reason::AskAllNotAllowed,
    Reason::CityFalse,
    Reason::PartialResult,
];

const FIND: &str = "/example.echo.v1.RuledService/Find";
const CITIZEN: &str = "370202199001010007";

/// Cities that each provide the service to a system of the first.
pub(crate) struct Scene {
    pub(crate) network: Network,
    services: Vec<Service>,
    caller: Caller,
}

impl Scene {
    pub(crate) async fn new(plan: Plan) -> Self {
        let network = plan.start().await.unwrap();
        let client = network.cities[0].id(SYSTEM);
        let mut services = Vec::new();
        for city in &network.cities {
            let service = city.serve().await.unwrap();
            answers(&service, "find", city.code, city.code);
            city.register().await.unwrap();
            city.grant(grant(&client, RULED)).await.unwrap();
            services.push(service);
        }
        let caller = network.cities[0].caller(SYSTEM).await.unwrap();
        let scene = Self {
            network,
            services,
            caller,
        };
        scene.described().await;
        scene
    }

    /// Every city has described the method to the first: a gateway that does not know it yet asks, and asks again only
    /// after a while.
    async fn described(&self) {
        for city in &self.network.cities {
            wait_until("the catalogue", PATIENCE, || async {
                let head = Head::new(FIND, city.code).with(SCRIPT, "find");
                let answer = self.caller.unary(&head, &request(1)).await.unwrap();
                answer.code() == Some(0)
            })
            .await
            .unwrap();
        }
    }

    async fn ask(&self, head: Head, request: &FindRequest) -> Asked {
        let answer = self.caller.unary(&head, request).await.unwrap();
        Asked::of(answer)
    }

    fn city(&self, code: &str) -> usize {
        let place = self
            .network
            .cities
            .iter()
            .position(|city| city.code == code);
        place.unwrap()
    }

    fn pin(&self) -> [u8; 32] {
        let mut pin = [0; 32];
        hex::decode_to_slice(self.network.directory.digest(), &mut pin).unwrap();
        pin
    }
}

/// A service of `city` that sends as many messages as it is asked for, in the name of `named`.
fn answers(service: &Service, script: &str, city: &'static str, named: &'static str) {
    service.script(script, move |mut call| async move {
        let first = call.messages.next().await?.unwrap();
        let request = FindRequest::decode(first.bytes)?;
        let mut reply = call.answer(http::HeaderMap::new())?;
        for number in 0..request.count {
            // A liar begins with the truth.
            let city = if number == 0 { city } else { named };
            let message = FindResponse {
                city: city.to_owned(),
                number,
                payload: vec![7; request.payload_bytes as usize],
            };
            reply.send(&Message::of(&message)).await?;
        }
        reply.ok()
    });
}

fn request(count: u32) -> FindRequest {
    FindRequest {
        citizen: CITIZEN.to_owned(),
        count,
        payload_bytes: 0,
    }
}

fn head() -> Head {
    Head::new(FIND, "*").with(SCRIPT, "find")
}

/// A merged answer.
#[derive(Debug)]
struct Asked {
    answer: Answer,
    /// Numbers of the messages by city, in their order.
    found: BTreeMap<String, Vec<u32>>,
    outcomes: BTreeMap<String, CityOutcome>,
}

impl Asked {
    fn of(answer: Answer) -> Self {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for message in &answer.messages {
            let message = FindResponse::decode(message.bytes.clone()).unwrap();
            found.entry(message.city).or_default().push(message.number);
        }
        Self {
            outcomes: outcomes(&answer),
            found,
            answer,
        }
    }

    fn exchange(&self) -> Uuid {
        self.answer.exchange().unwrap().0
    }

    fn result(&self, city: &str) -> (CityResult, u64, Reason) {
        let outcome = &self.outcomes[city];
        (outcome.result(), outcome.messages, outcome.reason())
    }
}

pub(crate) fn outcomes(answer: &Answer) -> BTreeMap<String, CityOutcome> {
    let Some(value) = answer.last().get("banqiao-outcomes-bin") else {
        return BTreeMap::new();
    };
    let bytes = STANDARD_NO_PAD
        .decode(value.to_str().unwrap().trim_end_matches('='))
        .unwrap();
    let outcomes = Outcomes::decode(&*bytes).unwrap();
    let by_city = outcomes.cities.into_iter();
    by_city.map(|it| (it.city.clone(), it)).collect()
}

/// Entries of one city's part, at the city that asked.
fn part<'a>(records: &'a [Record], city: &str) -> Vec<&'a Record> {
    let of = |record: &&Record| {
        let provider = record.entry.provider.as_ref();
        provider.is_some_and(|provider| provider.city == city)
    };
    records.iter().filter(of).collect()
}

fn kinds(records: &[&Record]) -> Vec<Kind> {
    records.iter().map(|record| record.entry.kind()).collect()
}

/// The CLOSE for the whole, once it is entered.
async fn summary(city: &City, exchange: Uuid) -> Vec<Record> {
    wait_for("the entry for the whole", PATIENCE, || async {
        let records = city.admin().exchange(exchange).await.ok()?;
        let whole = |record: &Record| record.entry.outcomes.is_some();
        records.iter().any(whole).then_some(records)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_city_answers_and_each_part_has_entries_and_receipts_at_both_ends() {
    let plan = Plan::cities(5).receipts_required().tweak(|_, config| {
        set(config, "reconcile.grace", "1s");
    });
    let scene = Scene::new(plan).await;
    let head = head()
        .with("banqiao-want-receipt", "1")
        .with("banqiao-operator", "synthetic-operator-3");
    let asked = scene.ask(head, &request(3)).await;
    assert_eq!(asked.answer.code(), Some(0), "{:?}", asked.answer.grpc());
    let exchange = asked.exchange();
    for (code, _, _) in CITIES {
        assert_eq!(asked.found[code], [0, 1, 2], "{code}: all, in order");
        let outcome = &asked.outcomes[code];
        assert_eq!(outcome.result(), CityResult::Answered, "{code}");
        assert_eq!((outcome.messages, outcome.status), (3, 0), "{code}");
        assert_eq!(
            sha256(&outcome.receipt),
            outcome.receipt_sha256[..],
            "{code}"
        );
        let receipt = Receipt::decode(&*outcome.receipt).unwrap();
        let entry = banqiao_proto::ledger::v1::Entry::decode(&*receipt.entry).unwrap();
        assert_eq!(entry.exchange, exchange.as_bytes(), "{code}");
        assert_eq!(entry.kind(), Kind::Close, "{code}");
    }
    let records = summary(&scene.network.cities[0], exchange).await;
    assert_eq!(records.len(), 11, "two of each city, and one of the whole");
    for (code, _, _) in CITIES {
        let part = part(&records, code);
        assert_eq!(kinds(&part), [Kind::Open, Kind::Close], "{code}");
        let close = &part[1].entry;
        assert_eq!(close.response.as_ref().unwrap().count, 3, "{code}");
        let own = code == scene.network.cities[0].code;
        let side = if own { Side::Local } else { Side::Consumer };
        assert_eq!(close.side(), side, "{code}");
        if own {
            continue;
        }
        assert_eq!(
            close.peer_receipt, asked.outcomes[code].receipt_sha256,
            "{code}"
        );
        let theirs = &scene.network.cities[scene.city(code)];
        let theirs = theirs.admin().exchange(exchange).await.unwrap();
        assert_eq!(
            kinds(&theirs.iter().collect::<Vec<_>>()),
            [Kind::Open, Kind::Close]
        );
        assert_eq!(theirs[1].entry.response, close.response, "{code}");
        assert_eq!(theirs[1].entry.request, close.request, "{code}");
    }
    let whole: Vec<_> = records
        .iter()
        .filter(|it| it.entry.provider.is_none())
        .collect();
    assert_eq!(kinds(&whole), [Kind::Close]);
    let entered = whole[0].entry.outcomes.as_ref().unwrap();
    assert_eq!(entered.cities.len(), 5);
    for city in &entered.cities {
        assert_eq!(
            city.receipt_sha256,
            asked.outcomes[&city.city].receipt_sha256
        );
        assert!(
            city.receipt.is_empty(),
            "a receipt is evidence, and no part of an entry"
        );
    }
    one_part_proves_offline(&scene, exchange).await;
    both_ends_reconcile(&scene).await;
    let metrics = scene.network.cities[0].gateway().metrics().await.unwrap();
    for (code, _, _) in CITIES {
        let asked = metrics.lines().any(|line| {
            line.starts_with("banqiao_asked_cities_total")
                && line.contains(code)
                && line.contains("answered")
        });
        assert!(asked, "{code} in {metrics}");
    }
}

/// Evidence of the part of each other city, as an auditor gets it.
async fn one_part_proves_offline(scene: &Scene, exchange: Uuid) {
    let city = &scene.network.cities[0];
    let socket = format!("unix:{}", city.admin().socket(Role::Auditor).display());
    let id = exchange.to_string();
    let folder = scene.network.folder();
    let unnamed = [
        "audit",
        "evidence",
        &id,
        "-o",
        "unnamed.evidence",
        "--admin",
        &socket,
    ];
    let said = banqiao(folder, &unnamed).await;
    assert_ne!(said.code, Some(0), "of which city?");
    assert!(said.err.contains("--city"), "{}", said.err);
    for code in ["370600", "371100", "370200"] {
        let name = format!("{code}.evidence");
        let path = folder.join(&name);
        wait_until("evidence that lacks nothing", PATIENCE, || async {
            let _gone = std::fs::remove_file(&path);
            let line = [
                "audit", "evidence", &id, "--city", code, "-o", &name, "--admin", &socket,
            ];
            let made = banqiao(folder, &line).await;
            assert_eq!(made.code, Some(0), "{}{}", made.out, made.err);
            let bundle = Bundle::parse(&std::fs::read(&path).unwrap()).unwrap();
            let report = verify(&bundle, &scene.pin(), &[]);
            bundle.made.lacking.is_empty() && report.verdict() == Verdict::Valid
        })
        .await
        .unwrap_or_else(|error| panic!("{code}: {error}"));
    }
    let shown = banqiao(folder, &["audit", "show", &id, "--admin", &socket]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains("all cities"), "{}", shown.out);
    assert!(
        shown.out.contains("\"result\": \"answered\""),
        "{}",
        shown.out
    );
}

/// Each city holds of its part what the city that asked holds: all of it is compared, and nothing is listed.
async fn both_ends_reconcile(scene: &Scene) {
    let own = &scene.network.cities[0];
    for city in &scene.network.cities[1..] {
        for (at, with) in [(own, city.code), (city, own.code)] {
            let calls = exchanges(at, with).await;
            assert!(
                calls >= 2,
                "{}: what it provides was asked for, and then found",
                at.name
            );
            let (compared, found) = reconciled(scene, at, with, calls).await;
            assert_eq!(compared, calls, "{} with {with}", at.name);
            assert!(found.is_empty(), "{} with {with}: {found:?}", at.name);
        }
    }
}

/// How many exchanges of a city another one is party to.
async fn exchanges(city: &City, with: &str) -> u64 {
    let filter = EntryFilter {
        city: with.to_owned(),
        kinds: vec![Kind::Open.into(), Kind::Close.into(), Kind::Refused.into()],
        ..EntryFilter::default()
    };
    let records = city.admin().search(filter).await.unwrap();
    let distinct: BTreeSet<_> = records.into_iter().map(|it| it.entry.exchange).collect();
    distinct.len() as u64
}

/// How many exchanges `audit reconcile` compares with another city, and the class of each that it lists, once so many are
/// out of their grace.
async fn reconciled(
    scene: &Scene,
    city: &City,
    with: &str,
    exchanges: u64,
) -> (u64, BTreeMap<Uuid, String>) {
    let socket = format!("unix:{}", city.admin().socket(Role::Auditor).display());
    let line = [
        "audit",
        "reconcile",
        "--admin",
        &socket,
        "--with",
        with,
        "--json",
    ];
    // Below the reads a minute that a city is allowed.
    let every = Duration::from_millis(500);
    wait_every("exchanges to be compared", PATIENCE, every, || async {
        let said = banqiao(scene.network.folder(), &line).await;
        let lines: Vec<Value> = said
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (summary, listed) = lines.split_last().unwrap();
        assert_eq!(
            summary["problem"],
            Value::Null,
            "{}: {}",
            city.name,
            said.out
        );
        let mut found = BTreeMap::new();
        for it in listed {
            assert_eq!(it["city"], with, "{it}");
            let exchange = it["exchange"].as_str().unwrap().split('/').next().unwrap();
            let class = it["class"].as_str().unwrap().to_owned();
            found.insert(exchange.parse().unwrap(), class);
        }
        let code = i32::from(!found.is_empty());
        assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
        let compared = summary["exchanges"].as_u64().unwrap();
        (compared >= exchanges).then_some((compared, found))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_city_fails_at_is_said_and_costs_the_others_nothing() {
    let mut scene = Scene::new(Plan::cities(5).receipts_required()).await;
    // Yantai speaks for another city, Weifang is slow, Weihai is down, Rizhao grants nothing any more.
    answers(
        &scene.services[scene.city("370600")],
        "find",
        "370600",
        "371000",
    );
    scene.services[scene.city("370700")].script("find", |mut call| async move {
        let mut reply = call.answer(http::HeaderMap::new())?;
        let message = FindResponse {
            city: "370700".to_owned(),
            ..FindResponse::default()
        };
        reply.send(&Message::of(&message)).await?;
        reply.cancelled().await;
        Ok(())
    });
    let weihai = scene.city("371000");
    scene.network.cities[weihai].gateway_mut().kill().unwrap();
    let rizhao = &scene.network.cities[scene.city("371100")];
    for id in rizhao.admin().granted().await.unwrap() {
        rizhao.admin().revoke(&id).await.unwrap();
    }
    let asking = head().with("grpc-timeout", "4S");
    let asked = scene.ask(asking, &request(3)).await;
    assert_eq!(asked.answer.code(), Some(14), "{:?}", asked.answer.grpc());
    assert_eq!(asked.answer.reason(), Some(Reason::PartialResult));
    assert_eq!(
        asked.found["370200"],
        [0, 1, 2],
        "its own city is one of them"
    );
    assert_eq!(
        asked.found["370600"],
        [0],
        "nothing from the false message on"
    );
    assert_eq!(asked.found["370700"], [0], "what came in time is delivered");
    assert_eq!(asked.found.len(), 3, "{:?}", asked.found);
    let said = |city| asked.result(city);
    assert_eq!(
        said("370200"),
        (CityResult::Answered, 3, Reason::Unspecified)
    );
    assert_eq!(said("370600"), (CityResult::Faulty, 1, Reason::CityFalse));
    assert_eq!(
        said("370700"),
        (CityResult::Deadline, 1, Reason::DeadlineExceeded)
    );
    assert_eq!(
        said("371000"),
        (CityResult::Unreachable, 0, Reason::PeerUnreachable)
    );
    assert_eq!(said("371100"), (CityResult::Refused, 0, Reason::NotGranted));
    let message = asked.answer.grpc().unwrap().message().to_owned();
    for word in [
        "1 of 5",
        "371000 unreachable",
        "371100 refused (NOT_GRANTED)",
    ] {
        assert!(message.contains(word), "{message}");
    }
    let records = summary(&scene.network.cities[0], asked.exchange()).await;
    for (code, reason) in [
        ("370600", Reason::CityFalse),
        ("370700", Reason::DeadlineExceeded),
        ("371000", Reason::PeerUnreachable),
        ("371100", Reason::Unspecified),
    ] {
        let part = part(&records, code);
        assert_eq!(kinds(&part), [Kind::Open, Kind::Close], "{code}");
        let result = part[1].entry.result.as_ref().unwrap();
        // A deadline that the provider's gateway tells of is relayed.
        let said = [result.reason(), result.peer_reason()];
        assert!(said.contains(&reason), "{code}: {said:?}");
    }
    let whole = records
        .iter()
        .find(|it| it.entry.outcomes.is_some())
        .unwrap();
    assert_eq!(
        whole.entry.result.as_ref().unwrap().reason(),
        Reason::PartialResult
    );
    // The service that was slow had less time than the caller, and has heard of the end.
    let slow = &scene.services[scene.city("370700")];
    let own = slow.seen().last().unwrap().headers["grpc-timeout"].clone();
    let (left, unit) = own.to_str().unwrap().split_at(own.len() - 1);
    let left: u64 = left.parse().unwrap();
    let left_ms = match unit {
        "m" => left,
        "u" => left / 1_000,
        unit => panic!("{own:?} has the unit {unit}"),
    };
    assert!(left_ms < 3_900, "{own:?}");
    wait_until("the cancel at the slow city", PATIENCE, || async {
        slow.seen().iter().any(|seen| seen.cancelled.is_some())
    })
    .await
    .unwrap();
    by_command(&scene).await;
}

/// The same by `banqiao call --to all`.
async fn by_command(scene: &Scene) {
    let folder = scene.network.folder();
    let city = &scene.network.cities[0];
    city.credential(SYSTEM)
        .unwrap()
        .write(folder, "client")
        .unwrap();
    std::fs::write(folder.join("ca.crt"), city.authority.pem()).unwrap();
    let gateway = city.gateway().client.to_string();
    let line = [
        "call",
        "example.echo.v1.RuledService/Find",
        "-d",
        "{\"count\":2}",
        "--to",
        "all",
        "--purpose",
        "case-handling",
        "--basis",
        "emergency",
        "--gateway",
        &gateway,
        "--cert",
        "client.crt",
        "--key",
        "client.key",
        "--ca",
        "ca.crt",
        "--deadline",
        "3s",
        "-H",
        "x-script: find",
        "--outcomes",
        "outcomes.json",
    ];
    let said = banqiao(folder, &line).await;
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    let own = said
        .out
        .lines()
        .filter(|line| line.contains("370200"))
        .count();
    assert_eq!(own, 2, "{}", said.out);
    for word in [
        "PARTIAL_RESULT",
        "371000",
        "unreachable",
        "371100",
        "NOT_GRANTED",
        "answered",
    ] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
    let written = std::fs::read(folder.join("outcomes.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["cities"].as_array().unwrap().len(), 5);
    assert_eq!(written["cities"][0]["result"], "answered", "{written}");
    assert_eq!(written["cities"][0]["messages"], 2, "{written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_option_allows_goes_to_all_cities() {
    let plan = Plan::cities(2).tweak(|_, config| {
        set(config, "limits.client_fan_outs", 1);
    });
    let scene = Scene::new(plan).await;
    let refused = |answer: &Answer, reason| {
        assert_eq!(answer.reason(), Some(reason), "{:?}", answer.grpc());
        answer.exchange().unwrap().0
    };
    let watch = Head::new("/example.echo.v1.RuledService/Watch", "*");
    let answer = scene.caller.unary(&watch, &WatchRequest {}).await.unwrap();
    let exchange = refused(&answer, Reason::AskAllNotAllowed);
    let own = &scene.network.cities[0];
    let records = own.admin().exchange(exchange).await.unwrap();
    assert_eq!(kinds(&records.iter().collect::<Vec<_>>()), [Kind::Refused]);
    let fenced = head().set("banqiao-purpose", "medical-treatment");
    let answer = scene.caller.unary(&fenced, &request(1)).await.unwrap();
    let exchange = refused(&answer, Reason::PurposeNotAllowed);
    let other = &scene.network.cities[1];
    assert!(other.admin().exchange(exchange).await.unwrap().is_empty());
    let unknown = Head::new("/example.echo.v1.RuledService/None", "*");
    let answer = scene.caller.unary(&unknown, &request(1)).await.unwrap();
    // Whether it exists is nobody's business.
    refused(&answer, Reason::NotGranted);
    // A gateway asks one city: each city's own gateway.
    let gateway = own.as_gateway(other).await.unwrap();
    let stated = head()
        .with("banqiao-client", &own.id(SYSTEM))
        .with("banqiao-exchange-id", &format!("{}/1", Uuid::now_v7()));
    let answer = gateway.unary(&stated, &request(1)).await.unwrap();
    refused(&answer, Reason::DestinationNotHere);
    // Two messages are no request of this method.
    let twice = [Message::of(&request(1)), Message::of(&request(1))];
    let answer = scene.caller.exchange(&head(), &twice).await.unwrap();
    refused(&answer, Reason::MessageMalformed);
    // And one client asks so often only.
    let (_request, mut messages) = waiting(&scene).await;
    let answer = scene.caller.unary(&head(), &request(1)).await.unwrap();
    refused(&answer, Reason::ClientBusy);
    assert!(messages.next().await.unwrap().is_some());
}

/// A call to all cities whose services have sent one message and wait.
async fn waiting(scene: &Scene) -> (h2::SendStream<bytes::Bytes>, banqiao_tests::wire::Messages) {
    for (service, city) in scene.services.iter().zip(&scene.network.cities) {
        let code = city.code;
        service.script("wait", move |mut call| async move {
            let mut reply = call.answer(http::HeaderMap::new())?;
            let message = FindResponse {
                city: code.to_owned(),
                ..FindResponse::default()
            };
            reply.send(&Message::of(&message)).await?;
            reply.cancelled().await;
            Ok(())
        });
    }
    let head = Head::new(FIND, "*").with(SCRIPT, "wait");
    let mut call = scene.caller.open(&head).await.unwrap();
    call.send(&Message::of(&request(1))).await.unwrap();
    call.finish();
    let (request, _, messages) = call.headers().await.unwrap();
    (request, messages)
}

/// The exchange that the second city's service heard of last.
fn asked_last(scene: &Scene) -> Uuid {
    let seen = scene.services[1].seen();
    let id = seen.last().unwrap().headers["banqiao-exchange-id"].to_str();
    id.unwrap().split('/').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_every_city() {
    let scene = Scene::new(Plan::cities(3)).await;
    let (mut request, mut messages) = waiting(&scene).await;
    for _ in 0..3 {
        assert!(messages.next().await.unwrap().is_some());
    }
    request.send_reset(h2::Reason::CANCEL);
    drop(messages);
    for service in &scene.services {
        wait_until("the cancel at the service", PATIENCE, || async {
            service.seen().iter().any(|seen| {
                seen.headers.get(SCRIPT).is_some_and(|name| name == "wait")
                    && seen.cancelled.is_some()
            })
        })
        .await
        .unwrap();
    }
    let own = &scene.network.cities[0];
    let records = summary(own, asked_last(&scene)).await;
    let whole = records
        .iter()
        .find(|it| it.entry.outcomes.is_some())
        .unwrap();
    assert_eq!(
        whole.entry.result.as_ref().unwrap().reason(),
        Reason::Cancelled
    );
    for city in &scene.network.cities {
        assert_eq!(kinds(&part(&records, city.code)), [Kind::Open, Kind::Close]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_while_the_caller_takes_its_time() {
    let mut scene = Scene::new(Plan::cities(5)).await;
    // More time than a busy machine needs.
    let head = head().with("grpc-timeout", "100S");
    let mut call = scene.caller.open(&head).await.unwrap();
    let much = FindRequest {
        count: 60,
        payload_bytes: 512 << 10,
        ..request(0)
    };
    call.send(&Message::of(&much)).await.unwrap();
    call.finish();
    let (_request, _, mut messages) = call.headers().await.unwrap();
    let (mut found, mut bytes) = (BTreeMap::new(), 0);
    while let Some(message) = messages.next().await.unwrap() {
        bytes += message.bytes.len();
        let message = FindResponse::decode(message.bytes).unwrap();
        let expected = found.entry(message.city).or_insert(0);
        assert_eq!(message.number, *expected, "whole messages, in order");
        *expected += 1;
    }
    let trailers = messages.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0", "{trailers:?}");
    assert!(
        found.len() == 5 && found.values().all(|count| *count == 60),
        "{found:?}"
    );
    assert!(bytes >= 150 << 20, "{bytes}");
    let process = scene.network.cities[0].gateway_mut().process().unwrap();
    let peak = process.peak_memory().unwrap();
    println!("peak {} MiB for {} MiB", peak >> 20, bytes >> 20);
    assert!(peak < 128 << 20, "{} MiB", peak >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_taken_once_by_whatever_replica_it_reaches() {
    let cluster = Arc::new(Cluster::start().unwrap());
    let url = cluster.database().unwrap();
    let own = cluster.database().unwrap();
    let plan = Plan::cities(2).replicas(2).tweak(move |code, config| {
        let consumer = code == "370200";
        let (url, keys) = if consumer {
            (&own, "../keys-a")
        } else {
            (&url, "../keys-b")
        };
        set(config, "ledger.url", url.clone());
        set(config, "ledger.keys", keys);
    });
    let scene = Scene::new(plan).await;
    let asked = scene.ask(head(), &request(2)).await;
    assert_eq!(asked.answer.code(), Some(0), "{:?}", asked.answer.grpc());
    let [consumer, provider] = scene.network.cities.as_slice() else {
        panic!("two cities")
    };
    let replay = Head::new(FIND, provider.code)
        .with("banqiao-client", &consumer.id(SYSTEM))
        .with("banqiao-exchange-id", &format!("{}/1", asked.exchange()));
    let gateway = consumer.credential("gateway").unwrap();
    let tls = provider.authority.client(Some(&gateway)).unwrap();
    for replica in &provider.gateways {
        let gateway = Caller::connect(replica.inter_city, Arc::clone(&tls))
            .await
            .unwrap();
        // Replicas hear of a grant with their next poll of the database.
        let answer = wait_for("the replica to know the grant", PATIENCE, || async {
            let answer = gateway.unary(&replay, &request(2)).await.ok()?;
            (answer.reason() != Some(Reason::NotGranted)).then_some(answer)
        });
        let answer = answer.await.unwrap();
        assert_eq!(
            answer.reason(),
            Some(Reason::Replayed),
            "{:?}",
            answer.grpc()
        );
    }
}
