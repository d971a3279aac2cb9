//! A witness that is missing, and a city that shows one history to one witness and another to the next: who says so.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use banqiao_tests::{
    network::{City, Network, Plan, set},
    wait::{PATIENCE, wait_until},
};

use crate::witnesses::{
    an_entry, forged, leaf, node, request, signed, submit, two_of_three, warned,
};

/// Cities whose watches are as fast as may be.
fn watchful(cities: usize) -> Plan {
    Plan::cities(cities).tweak(|_, config| {
        set(config, "ledger.witness_patience", "2s");
        set(config, "ledger.monitor_interval", "1s");
        set(config, "ledger.witnessed_within", "2s");
    })
}

const MISSING: &str = "the witness of 370600 is missing";
const DEGRADED: &str = "DEGRADED: the newest checkpoint has waited for its witnesses";

/// The gauge of a city's missing witness.
async fn missing(city: &City, witness: &str) -> Option<String> {
    let metrics = city.gateway().metrics().await.unwrap();
    let label = format!("peer_city=\"{witness}\"");
    let mut lines = metrics.lines();
    let line = lines
        .find(|line| line.starts_with("banqiao_ledger_witness_missing{") && line.contains(&label));
    line.and_then(|line| Some(line.rsplit_once(' ')?.1.to_owned()))
}

async fn warns(city: &City, what: &str) -> bool {
    let status = city.admin().status().await.unwrap();
    status.warnings.iter().any(|warning| warning.contains(what))
}

#[tokio::test]
async fn stopped_witness_is_told_until_it_is_back() {
    let mut network = watchful(3).start().await.unwrap();
    an_entry(&network.cities[0]).await;
    wait_until("nobody missing", PATIENCE, || async {
        let qingdao = &network.cities[0];
        missing(qingdao, "370600").await.as_deref() == Some("0")
            && missing(qingdao, "370700").await.as_deref() == Some("0")
    })
    .await
    .unwrap();
    network.cities[1].gateway_mut().kill().unwrap();
    // Nothing is committed meanwhile: an idle ledger notices too.
    let qingdao = &network.cities[0];
    warned(qingdao, MISSING).await;
    assert_eq!(missing(qingdao, "370600").await.as_deref(), Some("1"));
    assert_eq!(missing(qingdao, "370700").await.as_deref(), Some("0"));
    assert!(!warns(qingdao, "the witness of 370700").await);
    network.cities[1].gateway_mut().restart().await.unwrap();
    let qingdao = &network.cities[0];
    wait_until("the witness is back", PATIENCE, || async {
        !warns(qingdao, MISSING).await && missing(qingdao, "370600").await.as_deref() == Some("0")
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn gateway_without_a_quorum_of_witnesses_is_degraded_until_it_has_one() {
    let mut network = watchful(3).start().await.unwrap();
    let gauge = async |city: &City| {
        let metrics = city.gateway().metrics().await.unwrap();
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("banqiao_ledger_degraded"));
        line.and_then(|line| Some(line.rsplit_once(' ')?.1.to_owned()))
    };
    an_entry(&network.cities[0]).await;
    wait_until("a gateway that is not degraded", PATIENCE, || async {
        gauge(&network.cities[0]).await.as_deref() == Some("0")
    })
    .await
    .unwrap();
    network.cities[1].gateway_mut().kill().unwrap();
    let qingdao = &network.cities[0];
    an_entry(qingdao).await;
    warned(qingdao, DEGRADED).await;
    wait_until("the gauge", PATIENCE, || async {
        gauge(qingdao).await.as_deref() == Some("1")
    })
    .await
    .unwrap();
    network.cities[1].gateway_mut().restart().await.unwrap();
    let qingdao = &network.cities[0];
    wait_until("the quorum is back", PATIENCE, || async {
        !warns(qingdao, DEGRADED).await && gauge(qingdao).await.as_deref() == Some("0")
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn hanging_witness_delays_no_other() {
    let plan = watchful(3).tweak(|_, config| {
        set(config, "ledger.witness_patience", "2s");
        set(config, "limits.connect_timeout", "20s");
    });
    let mut network = plan.start().await.unwrap();
    an_entry(&network.cities[0]).await;
    let address = network.cities[1].gateway().inter_city;
    network.cities[1].gateway_mut().kill().unwrap();
    // It takes every connection, and says nothing.
    let silent = TcpListener::bind(address).unwrap();
    let (accepted, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept() {
            held.push(stream);
            if accepted.send(()).is_err() {
                return;
            }
        }
    });
    let qingdao = &network.cities[0];
    warned(qingdao, MISSING).await;
    assert!(first.try_recv().is_ok(), "nobody came to the silent one");
    let began = Instant::now();
    for _ in 0..3 {
        an_entry(qingdao).await;
        let size = qingdao.admin().status().await.unwrap().ledger_size;
        wait_until("the other one's cosignature", PATIENCE, || async {
            let status = qingdao.admin().status().await.unwrap();
            let mut witnesses = status.witnesses.iter();
            witnesses.any(|it| it.city == "370700" && it.cosigned_size >= size)
        })
        .await
        .unwrap();
    }
    // One after the other, each of them would have waited 10 s.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(warns(qingdao, MISSING).await);
}

#[tokio::test]
async fn two_histories_shown_to_two_witnesses_are_told_by_both() {
    let network = two_of_three(watchful(3)).await;
    let [qingdao, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let (a, b, c) = (leaf(b"a"), leaf(b"b"), leaf(b"c"));
    let one = signed(weifang, 1, &a);
    for (witness, second) in [(qingdao, b), (yantai, c)] {
        let link = weifang.as_gateway(witness).await.unwrap();
        assert_eq!(submit(&link, request(0, &[], &one)).await.0, 200);
        let two = signed(weifang, 2, &node(&a, &second));
        assert_eq!(submit(&link, request(1, &[&second], &two)).await.0, 200);
    }
    for city in [qingdao, yantai] {
        warned(city, "ALARM: 370700 has signed two histories").await;
        let metrics = city.gateway().metrics().await.unwrap();
        let mut lines = metrics.lines();
        assert!(
            lines.any(|line| line.starts_with("banqiao_ledger_alarms_total{")
                && line.contains("kind=\"peer_fork\"")),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn city_that_shows_less_than_it_has_signed_is_told_by_the_others() {
    let network = watchful(3).start().await.unwrap();
    let [qingdao, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let (_, forgery) = forged(qingdao, &link).await;
    assert!(!warns(weifang, "ALARM").await);
    assert_eq!(submit(&link, forgery).await.0, 200);
    warned(weifang, "it was rolled back").await;
}

/// The same history at every witness raises nothing: what is told above is not told of everybody.
#[tokio::test]
async fn cities_that_agree_raise_no_alarm() {
    let network: Network = watchful(3).start().await.unwrap();
    for city in &network.cities {
        an_entry(city).await;
    }
    for city in &network.cities {
        wait_until("every other ledger is linked", PATIENCE, || async {
            let status = city.admin().status().await.unwrap();
            let linked = status.peer_ledgers.iter().filter(|it| it.linked_size > 0);
            linked.count() == 2
        })
        .await
        .unwrap();
        assert!(!warns(city, "ALARM").await);
    }
}
