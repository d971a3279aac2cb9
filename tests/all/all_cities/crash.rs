//! The gateway that asks all cities dies in the middle: nothing stays open, nothing is told that is not so, and what was cut
//! off is found.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::timeout};

use super::*;
use crate::crash::verified;

/// Compared down to the last second.
fn plan() -> Plan {
    Plan::cities(3).receipts_required().tweak(|_, config| {
        set(config, "reconcile.grace", "1s");
    })
}

/// Entries of an exchange at a city, once no part of it is open there.
async fn closed(city: &City, exchange: Uuid, parts: usize) -> Vec<Record> {
    wait_for("the end of every part", PATIENCE, || async {
        let records = city.admin().exchange(exchange).await.ok()?;
        let count = |kind| records.iter().filter(|it| it.entry.kind() == kind).count();
        let whole = records.iter().filter(|it| it.entry.outcomes.is_some());
        let ended = count(Kind::Close) - whole.count();
        (count(Kind::Open) == parts && ended == parts).then_some(records)
    })
    .await
    .unwrap_or_else(|error| panic!("{}: {error}", city.name))
}

fn interrupted(record: &Record) -> bool {
    let result = record.entry.result.as_ref();
    result.is_some_and(|result| result.interrupted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_that_its_gateway_died_in_is_interrupted_in_every_part() {
    let mut scene = Scene::new(plan()).await;
    let (_request, mut messages) = waiting(&scene).await;
    for _ in 0..3 {
        assert!(messages.next().await.unwrap().is_some());
    }
    let exchange = asked_last(&scene);
    scene.network.cities[0].gateway_mut().kill().unwrap();
    assert!(messages.next().await.is_err(), "no end without a status");
    scene.network.cities[0]
        .gateway_mut()
        .restart()
        .await
        .unwrap();

    // The lease closes each part, also that of its own city. Nothing is made up about the whole.
    let own = &scene.network.cities[0];
    let records = closed(own, exchange, 3).await;
    assert_eq!(records.len(), 6, "no entry for the whole");
    for city in &scene.network.cities {
        let part = part(&records, city.code);
        assert_eq!(kinds(&part), [Kind::Open, Kind::Close], "{}", city.name);
        assert!(interrupted(part[1]), "{}", city.name);
        assert_eq!(part[1].entry.side(), part[0].entry.side());
        let result = part[1].entry.result.as_ref().unwrap();
        assert_eq!(result.reason(), Reason::Interrupted);
    }
    // The others saw their peer go and ended by themselves; their services heard of it.
    for city in &scene.network.cities[1..] {
        let records = closed(city, exchange, 1).await;
        assert!(records.iter().all(|it| !interrupted(it)), "{}", city.name);
    }
    for service in &scene.services[1..] {
        wait_until("the cancel at the service", PATIENCE, || async {
            service.seen().iter().any(|seen| seen.cancelled.is_some())
        })
        .await
        .unwrap();
    }
    let socket = format!("unix:{}", own.admin().socket(Role::Auditor).display());
    let line = ["audit", "show", &exchange.to_string(), "--admin", &socket];
    let shown = banqiao(scene.network.folder(), &line).await;
    assert!(shown.err.contains("INTERRUPTED as a whole"), "{shown:?}");

    // Each part is compared with its city.
    for city in &scene.network.cities[1..] {
        let expected = |class: &str| BTreeMap::from([(exchange, class.to_owned())]);
        let (_, here) = reconciled(&scene, own, city.code, exchanges(own, city.code).await).await;
        assert_eq!(here, expected("interrupted_here"), "{}", city.name);
        let (_, there) = reconciled(&scene, city, own.code, exchanges(city, own.code).await).await;
        assert_eq!(there, expected("interrupted_there"), "{}", city.name);
    }
    for city in &scene.network.cities {
        let file = city.gateway().folder.join("gateway.db");
        verified(city, &format!("sqlite://{}", file.display())).await;
    }
    // And it asks all again.
    let caller = own.caller(SYSTEM).await.unwrap();
    let again = Asked::of(caller.unary(&head(), &request(2)).await.unwrap());
    assert_eq!(again.answer.code(), Some(0), "{:?}", again.answer.grpc());
    assert_eq!(summary(own, again.exchange()).await.len(), 7);
}

/// What callers were told: the outcomes of each exchange, and its status.
type Told = Mutex<BTreeMap<Uuid, (Option<u32>, BTreeMap<String, CityOutcome>)>>;

/// Asks all cities again and again, and connects again when cut off.
async fn asks(
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    (told, stop): (Arc<Told>, Arc<AtomicBool>),
) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(caller) = &connection else {
            connection = Caller::connect(address, Arc::clone(&tls)).await.ok();
            tokio::task::yield_now().await;
            continue;
        };
        let answer = timeout(Duration::from_secs(20), caller.unary(&head(), &request(2))).await;
        match answer {
            Ok(Ok(answer)) if answer.reset.is_none() && !outcomes(&answer).is_empty() => {
                let exchange = answer.exchange().unwrap().0;
                let told_so = (answer.code(), outcomes(&answer));
                told.lock().unwrap().insert(exchange, told_so);
            }
            Ok(Ok(answer)) if answer.reset.is_none() => tokio::task::yield_now().await,
            _ => connection = None,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_of_all_cities_survives_kills_under_load() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(plan()).await;
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let mut load = JoinSet::new();
    for _ in 0..6 {
        let own = &scene.network.cities[0];
        let shared = (Arc::clone(&told), Arc::clone(&stop));
        load.spawn(asks(own.gateway().client, own.tls(SYSTEM).unwrap(), shared));
    }
    for kill in 0..6 {
        let before = told.lock().unwrap().len();
        let more = rng.random_range(1..40);
        wait_until("answers under load", PATIENCE, || async {
            told.lock().unwrap().len() >= before + more
        })
        .await
        .unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        let gateway = scene.network.cities[0].gateway_mut();
        gateway.kill().unwrap();
        gateway.restart().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    load.join_all().await;

    let own = &scene.network.cities[0];
    let exchanges = every_part_ended(own).await;
    let told = told.lock().unwrap().clone();
    for (exchange, (status, outcomes)) in &told {
        let records = &exchanges[exchange];
        let whole = records.iter().find(|it| it.entry.outcomes.is_some());
        let whole = whole.unwrap_or_else(|| panic!("{exchange} was told and is not entered"));
        assert_eq!(whole.entry.result.as_ref().map(|it| it.status), *status);
        let entered = whole.entry.outcomes.as_ref().unwrap();
        assert_eq!(entered.cities.len(), 3, "{exchange}");
        for city in &entered.cities {
            assert_eq!(city, &outcomes[&city.city], "{exchange}");
        }
        assert!(!records.iter().any(interrupted), "{exchange} had ended");
    }
    let cut: Vec<Uuid> = exchanges
        .iter()
        .filter(|(_, records)| records.iter().any(interrupted))
        .map(|(exchange, _)| *exchange)
        .collect();
    println!("{} told, {} interrupted", told.len(), cut.len());
    assert!(!cut.is_empty(), "no kill met an open call");
    for city in &scene.network.cities {
        every_part_ended(city).await;
        let file = city.gateway().folder.join("gateway.db");
        verified(city, &format!("sqlite://{}", file.display())).await;
    }
    // Exactly what was cut off between two cities is listed, and nothing else.
    for city in &scene.network.cities[1..] {
        let expected: BTreeMap<Uuid, String> = cut
            .iter()
            .filter(|exchange| {
                part(&exchanges[*exchange], city.code)
                    .into_iter()
                    .any(interrupted)
            })
            .map(|exchange| (*exchange, "interrupted_here".to_owned()))
            .collect();
        let all = super::exchanges(own, city.code).await;
        let (compared, found) = reconciled(&scene, own, city.code, all).await;
        assert_eq!((compared, found), (all, expected), "{}", city.name);
    }
}

/// Every entry of a city by its exchange, once each OPEN has its CLOSE.
async fn every_part_ended(city: &City) -> BTreeMap<Uuid, Vec<Record>> {
    wait_for("the end of every part", PATIENCE, || async {
        let mut exchanges = BTreeMap::<Uuid, Vec<Record>>::new();
        for record in city.admin().entries_from(0).await.ok()? {
            if let Ok(id) = Uuid::from_slice(&record.entry.exchange) {
                exchanges.entry(id).or_default().push(record);
            }
        }
        let ended = exchanges.values().all(|records| {
            let providers = records.iter().filter_map(|it| it.entry.provider.as_ref());
            let mut cities: Vec<_> = providers.map(|it| it.city.as_str()).collect();
            cities.sort_unstable();
            cities.dedup();
            cities.into_iter().all(|city| {
                let kinds = kinds(&part(records, city));
                !kinds.contains(&Kind::Open) || kinds.contains(&Kind::Close)
            })
        });
        ended.then_some(exchanges)
    })
    .await
    .unwrap_or_else(|error| panic!("{}: {error}", city.name))
}
