//! Gateways compare by themselves, each exchange once, also over restarts.

use std::time::Duration;

use banqiao_proto::ledger::v1::{EntryFilter, Kind, Reconciled};
use banqiao_tests::{
    echo::ChatRequest,
    network::{City, Network, SYSTEM},
    wait::{PATIENCE, wait_for, wait_until},
    wire::Message,
};

use super::{YANTAI, head, ok, plan, reconciled, remove, tampered};

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
