//! Nothing acknowledged is lost: gateways are killed at random moments under load.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use banqiao_proto::{
    exchange::v1::{Reason, Trace},
    ledger::v1::{Kind, Side},
};
use banqiao_tests::{
    admin::{Record, held},
    echo::{EchoRequest, WatchRequest},
    network::{City, Network, Plan, SYSTEM, set},
    postgres::Cluster,
    process::program,
    service::Service,
    wait::{PATIENCE, wait_for, wait_until},
    wire::{Caller, Head, Message},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{process::Command, task::JoinSet, time::timeout};
use uuid::Uuid;

const ECHO: &str = "/example.echo.v1.EchoService/Echo";
const YANTAI: &str = "370600";
const KILLS: u64 = 20;
const CALLERS: usize = 8;

/// A lease short enough for a test; what it is by default changes nothing of the mechanism.
fn short_lease(plan: Plan) -> Plan {
    plan.tweak(|_, config| {
        set(config, "ledger.lease_ttl", "2s");
        set(config, "ledger.lease_renew", "300ms");
    })
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    /// Number of a call, and the exchange of its OK answer.
    answered: Mutex<BTreeMap<u64, Uuid>>,
    next: AtomicU64,
    stop: AtomicBool,
}

/// Calls one after the other, each with a number of its own, never twice; connects again when cut off.
async fn caller(address: std::net::SocketAddr, tls: Arc<rustls::ClientConfig>, told: Arc<Told>) {
    let mut connection = None;
    while !told.stop.load(Ordering::Relaxed) {
        let Some(caller) = &connection else {
            connection = Caller::connect(address, Arc::clone(&tls)).await.ok();
            tokio::task::yield_now().await;
            continue;
        };
        let number = told.next.fetch_add(1, Ordering::Relaxed);
        let head = Head::new(ECHO, YANTAI).with("x-number", &number.to_string());
        let request = EchoRequest {
            text: number.to_string(),
            payload: Vec::new(),
        };
        match timeout(Duration::from_secs(10), caller.unary(&head, &request)).await {
            Ok(Ok(answer)) if answer.code() == Some(0) => {
                let (exchange, _) = answer.exchange().expect("every answer has an exchange");
                told.answered.lock().unwrap().insert(number, exchange);
            }
            // Refused while a gateway is away: the connection is still good.
            Ok(Ok(answer)) if answer.reset.is_none() => tokio::task::yield_now().await,
            _ => connection = None,
        }
    }
}

/// Every entry of a city by its exchange, once nothing is open any more.
async fn settled(city: &City) -> BTreeMap<Uuid, Vec<Record>> {
    wait_for("every exchange closed", PATIENCE, || async {
        let mut exchanges = BTreeMap::<Uuid, Vec<Record>>::new();
        for record in city.admin().entries_from(0).await.ok()? {
            if let Ok(id) = Uuid::from_slice(&record.entry.exchange) {
                exchanges.entry(id).or_default().push(record);
            }
        }
        exchanges
            .values()
            .all(|records| held(records).is_some())
            .then_some(exchanges)
    })
    .await
    .unwrap()
}

/// Computes a city's whole ledger anew, from its database.
pub(crate) async fn verified(city: &City, database: &str) {
    let output = Command::new(program("banqiao").unwrap())
        .args(["audit", "verify", "--json", "--database", database])
        .args(["--key", &city.ledger.verifier()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}\n{faults}", city.name);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["valid"], true, "{report}");
    assert!(report["signatures"].as_u64() > Some(0), "{report}");
}

fn interrupted(records: &[Record]) -> bool {
    let closed = records
        .iter()
        .filter_map(|record| record.entry.result.as_ref());
    closed.into_iter().any(|result| result.interrupted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_were_answered_survives_twenty_kills() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = short_lease(Plan::cities(2));
    let (mut network, service) = Network::echo_of(plan).await.unwrap();
    let told = Arc::new(Told::default());
    let mut load = JoinSet::new();
    for _ in 0..CALLERS {
        let qingdao = &network.cities[0];
        let tls = qingdao.tls(SYSTEM).unwrap();
        load.spawn(caller(qingdao.gateway().client, tls, Arc::clone(&told)));
    }
    for kill in 0..KILLS {
        // A random moment: after so many more answers, so that each round has some, however slow the machine is.
        let more = rng.random_range(1..150);
        let before = told.answered.lock().unwrap().len();
        wait_until("answers under load", PATIENCE, || async {
            told.answered.lock().unwrap().len() >= before + more
        })
        .await
        .unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let city = rng.random_range(0..2);
        let gateway = network.cities[city].gateway_mut();
        gateway.kill().unwrap();
        gateway.restart().await.unwrap();
    }
    told.stop.store(true, Ordering::Relaxed);
    load.join_all().await;

    let consumer = settled(&network.cities[0]).await;
    let provider = settled(&network.cities[1]).await;
    let answered = told.answered.lock().unwrap().clone();
    for (number, exchange) in answered.iter() {
        let at = |city: &BTreeMap<Uuid, Vec<Record>>| city.get(exchange).and_then(|r| held(r));
        assert_eq!(
            at(&consumer),
            Some(Trace::OpenClose),
            "call {number} at the consumer"
        );
        assert_eq!(
            at(&provider),
            Some(Trace::OpenClose),
            "call {number} at the provider"
        );
        // The provider's CLOSE was durable before the answer left: it is the service's, never a lease's.
        assert!(
            !interrupted(&provider[exchange]),
            "call {number} was answered and is interrupted"
        );
        assert_eq!(
            service.count("x-number", &number.to_string()),
            1,
            "call {number}"
        );
    }
    for number in 0..told.next.load(Ordering::Relaxed) {
        assert!(
            service.count("x-number", &number.to_string()) <= 1,
            "call {number} was repeated"
        );
    }
    for city in &network.cities {
        let file = city.gateway().folder.join("gateway.db");
        verified(city, &format!("sqlite://{}", file.display())).await;
    }
    let cut = [&consumer, &provider].map(|city| city.values().filter(|r| interrupted(r)).count());
    println!("{} answers, {cut:?} interrupted exchanges", answered.len());
    assert!(
        cut.iter().sum::<usize>() > 0,
        "no kill met an open exchange"
    );
}

/// Two replicas of each city on one PostgreSQL.
async fn replicated() -> (Cluster, Network, Service, [String; 2]) {
    let cluster = Cluster::start().unwrap();
    let urls = [cluster.database().unwrap(), cluster.database().unwrap()];
    let places = urls.clone();
    let plan = Plan::cities(2).replicas(2).tweak(move |code, config| {
        let consumer = code == "370200";
        set(config, "ledger.url", places[usize::from(!consumer)].clone());
        set(
            config,
            "ledger.keys",
            if consumer { "../keys-a" } else { "../keys-b" },
        );
        set(config, "ledger.lease_ttl", "2s");
        set(config, "ledger.lease_renew", "300ms");
    });
    let (network, service) = Network::echo_of(plan).await.unwrap();
    (cluster, network, service, urls)
}

/// The head that an honest gateway of the consumer sends.
fn stated(consumer: &City, exchange: Uuid) -> Head {
    Head::new(ECHO, YANTAI)
        .with("banqiao-client", &consumer.id(SYSTEM))
        .with("banqiao-exchange-id", &format!("{exchange}/1"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_closes_what_a_dead_one_left_open() {
    let (_cluster, mut network, _service, _) = replicated().await;
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let mut call = caller
        .open(&Head::new("/example.echo.v1.RuledService/Watch", YANTAI))
        .await
        .unwrap();
    call.send(&Message::of(&WatchRequest {})).await.unwrap();
    call.finish();
    let (_request, headers, mut messages) = call.headers().await.unwrap();
    assert!(messages.next().await.unwrap().is_some());
    let id = headers
        .get("banqiao-exchange-id")
        .unwrap()
        .to_str()
        .unwrap();
    let exchange: Uuid = id.split('/').next().unwrap().parse().unwrap();

    // Its own replica is dead for good; the other one closes.
    network.cities[0].gateways[0].kill().unwrap();
    let survivor = &network.cities[0].gateways[1];
    let records = survivor
        .admin
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    let close = records
        .iter()
        .find(|record| record.entry.kind() == Kind::Close)
        .unwrap();
    let result = close.entry.result.as_ref().unwrap();
    assert!(result.interrupted);
    assert_eq!(result.reason(), Reason::Interrupted);
    assert_eq!(result.closed_by, "qingdao-1");
    let open = records
        .iter()
        .find(|record| record.entry.kind() == Kind::Open)
        .unwrap();
    let boot = |record: &Record| record.entry.replica.as_ref().unwrap().boot.clone();
    assert_ne!(boot(open), boot(close));
    assert_eq!(
        (close.entry.side(), open.entry.side()),
        (Side::Consumer, Side::Consumer)
    );
    assert_eq!(close.entry.client, open.entry.client);
    // The provider saw its peer go, and closed by itself.
    let yantai = &network.cities[1];
    let records = yantai
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    assert!(!interrupted(&records));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_refuses_what_another_has_accepted() {
    let (_cluster, mut network, service, _) = replicated().await;
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let exchange = Uuid::now_v7();
    let head = stated(qingdao, exchange).with("x-number", "once");
    let credential = qingdao.credential("gateway").unwrap();
    let tls = yantai.authority.client(Some(&credential)).unwrap();
    let say = async |address| {
        let link = Caller::connect(address, Arc::clone(&tls)).await.unwrap();
        link.unary(&head, &EchoRequest::default()).await.unwrap()
    };
    let replicas: Vec<_> = yantai
        .gateways
        .iter()
        .map(|gateway| gateway.inter_city)
        .collect();
    assert_eq!(say(replicas[0]).await.code(), Some(0));
    for address in &replicas {
        // The other replica reads the grants twice a second; until it has them, it refuses for that.
        let refused = wait_for("the grant at this replica", PATIENCE, async || {
            let reason = say(*address).await.reason();
            (reason != Some(Reason::NotGranted)).then_some(reason)
        });
        assert_eq!(refused.await.unwrap(), Some(Reason::Replayed));
    }
    for gateway in &mut network.cities[1].gateways {
        gateway.kill().unwrap();
        gateway.restart().await.unwrap();
    }
    for address in &replicas {
        assert_eq!(say(*address).await.reason(), Some(Reason::Replayed));
    }
    assert_eq!(service.count("x-number", "once"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grant_reaches_every_replica_within_two_seconds() {
    let (_cluster, network, _service, _) = replicated().await;
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let client = qingdao.id("hrss/desk");
    let granted = yantai
        .grant(banqiao_tests::admin::grant(
            &client,
            banqiao_tests::network::ECHO,
        ))
        .await
        .unwrap();
    let credential = qingdao.credential("gateway").unwrap();
    let tls = yantai.authority.client(Some(&credential)).unwrap();
    let other = yantai.gateways[1].inter_city;
    let link = Caller::connect(other, tls).await.unwrap();
    let say = async || {
        let head = stated(qingdao, Uuid::now_v7()).set("banqiao-client", &client);
        link.unary(&head, &EchoRequest::default())
            .await
            .unwrap()
            .code()
    };
    let limit = Duration::from_secs(2);
    wait_until("the grant at the other replica", limit, || async {
        say().await == Some(0)
    })
    .await
    .unwrap();
    yantai.admin().revoke(&granted.id).await.unwrap();
    wait_until("its end at the other replica", limit, || async {
        say().await == Some(7)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_one_ledger_while_one_is_killed_again_and_again() {
    let (_cluster, mut network, _service, urls) = replicated().await;
    let told = Arc::new(Told::default());
    let mut load = JoinSet::new();
    for gateway in &network.cities[0].gateways {
        for _ in 0..CALLERS / 2 {
            let tls = network.cities[0].tls(SYSTEM).unwrap();
            load.spawn(caller(gateway.client, tls, Arc::clone(&told)));
        }
    }
    for kill in 0..6 {
        let before = told.answered.lock().unwrap().len();
        wait_until("answers under load", PATIENCE, || async {
            told.answered.lock().unwrap().len() >= before + 60
        })
        .await
        .unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let gateway = network.cities[kill % 2].gateway_mut();
        gateway.kill().unwrap();
        gateway.restart().await.unwrap();
    }
    told.stop.store(true, Ordering::Relaxed);
    load.join_all().await;
    let answered = told.answered.lock().unwrap().clone();
    for (city, url) in network.cities.iter().zip(&urls) {
        let held = settled(city).await;
        for exchange in answered.values() {
            assert!(
                held.contains_key(exchange),
                "{} lacks {exchange}",
                city.name
            );
        }
        verified(city, url).await;
    }
}
