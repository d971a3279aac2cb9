//! Calls of every kind through two gateways, to a service that no gateway was built with.

use banqiao_proto::{
    exchange::v1::Trace,
    ledger::v1::{ClockSource, Kind, Side},
};
use banqiao_tests::{
    admin::grant,
    echo::{
        ChatRequest, CollectRequest, CollectResponse, EchoRequest, EchoResponse, ExpandRequest,
        LookRequest, LookResponse,
    },
    network::{ECHO, Network, RULED, SYSTEM},
    wire::{Head, Message},
};

const YANTAI: &str = "370600";

fn echo(method: &str) -> Head {
    Head::new(&format!("/example.echo.v1.EchoService/{method}"), YANTAI)
}

#[tokio::test]
async fn unary_call_is_answered_and_recorded_at_both_ends() {
    let (network, service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let request = EchoRequest {
        text: "你好".to_owned(),
        payload: vec![0, 255],
    };
    let head = echo("Echo")
        .with("banqiao-operator", "wang")
        .with("banqiao-case", "2026-17");
    let answer = caller.unary(&head, &request).await.unwrap();
    let echoed: EchoResponse = answer.only().unwrap();
    assert_eq!(
        (echoed.text.as_str(), echoed.payload.as_slice()),
        ("你好", [0, 255].as_slice())
    );

    let (exchange, attempt) = answer.exchange().expect("an exchange id");
    assert_eq!((exchange.get_version_num(), attempt), (7, 1));
    let consumer = qingdao
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    let provider = yantai
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    for (records, side) in [(&consumer, Side::Consumer), (&provider, Side::Provider)] {
        let close = &records
            .iter()
            .find(|r| r.entry.kind() == Kind::Close)
            .unwrap()
            .entry;
        assert_eq!(close.side(), side);
        assert_eq!(close.client.as_ref().unwrap().spiffe_id, qingdao.id(SYSTEM));
        assert_eq!(close.method, "/example.echo.v1.EchoService/Echo");
        assert_eq!(close.purpose, "case-handling");
        let clock = close.clock.as_ref().unwrap();
        assert_eq!(
            (clock.source(), clock.error_bound_us),
            (ClockSource::Synchronised, 20_000),
            "as the configuration says"
        );
        assert_eq!(close.result.as_ref().unwrap().status, 0);
        let open = records
            .iter()
            .find(|r| r.entry.kind() == Kind::Open)
            .unwrap();
        let private = open.private.as_ref().expect("a private part");
        assert_eq!(
            (private.operator.as_str(), private.case_number.as_str()),
            ("wang", "2026-17")
        );
    }
    // Both ends saw the same messages.
    let roots = |records: &[banqiao_tests::admin::Record]| {
        let close = records
            .iter()
            .find(|r| r.entry.kind() == Kind::Close)
            .unwrap();
        let direction = |direction: &Option<banqiao_proto::ledger::v1::Direction>| {
            let direction = direction.as_ref().unwrap();
            (
                direction.root.clone(),
                direction.count,
                direction.bytes,
                direction.complete,
            )
        };
        (
            direction(&close.entry.request),
            direction(&close.entry.response),
        )
    };
    assert_eq!(roots(&consumer), roots(&provider));
    assert!(roots(&consumer).0.3, "the request is complete");

    // What the service saw: who calls and why, and nothing that is meant for gateways.
    let seen = service
        .seen()
        .into_iter()
        .find(|seen| seen.path.ends_with("/Echo"))
        .unwrap();
    let header = |name: &str| {
        seen.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header("banqiao-client"), Some(qingdao.id(SYSTEM)));
    assert_eq!(header("banqiao-purpose").as_deref(), Some("case-handling"));
    assert_eq!(header("banqiao-operator").as_deref(), Some("wang"));
    assert_eq!(header("banqiao-exchange-id"), Some(format!("{exchange}/1")));
    assert_eq!(header("banqiao-to"), None);
}

#[tokio::test]
async fn method_without_side_effects_has_one_entry_at_its_provider() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let request = LookRequest {
        text: "x".to_owned(),
    };
    let answer = caller.unary(&echo("Look"), &request).await.unwrap();
    assert_eq!(answer.only::<LookResponse>().unwrap().text, "x");
    let (exchange, _) = answer.exchange().unwrap();
    qingdao
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    yantai.admin().holds(exchange, Trace::Close).await.unwrap();
}

#[tokio::test]
async fn client_stream_is_carried() {
    let (network, _service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let words: Vec<_> = (0..2_500).map(|n| n.to_string()).collect();
    let requests: Vec<_> = words
        .iter()
        .map(|text| Message::of(&CollectRequest { text: text.clone() }))
        .collect();
    let answer = caller.exchange(&echo("Collect"), &requests).await.unwrap();
    let collected: CollectResponse = answer.only().unwrap();
    assert_eq!((collected.count, collected.text), (2_500, words.join(" ")));
}

#[tokio::test]
async fn server_stream_is_carried_with_progress() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let request = ExpandRequest {
        text: "x".to_owned(),
        count: 5_000,
        payload_bytes: 100,
    };
    let answer = caller.unary(&echo("Expand"), &request).await.unwrap();
    assert_eq!((answer.messages.len(), answer.code()), (5_000, Some(0)));
    let (exchange, _) = answer.exchange().unwrap();
    for city in [qingdao, yantai] {
        let records = city
            .admin()
            .holds(exchange, Trace::OpenClose)
            .await
            .unwrap();
        let progress = records
            .iter()
            .filter(|r| r.entry.kind() == Kind::Progress)
            .count();
        assert!(
            progress >= 4,
            "{} has {progress} PROGRESS entries",
            city.name
        );
        let close = records
            .iter()
            .find(|r| r.entry.kind() == Kind::Close)
            .unwrap();
        let response = close.entry.response.as_ref().unwrap();
        assert_eq!((response.count, response.complete), (5_000, true));
    }
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let (network, _service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let mut call = caller.open(&echo("Chat")).await.unwrap();
    let message = |n: u32| {
        Message::of(&ChatRequest {
            text: n.to_string(),
        })
    };
    call.send(&message(0)).await.unwrap();
    let (mut request, _, mut answers) = call.headers().await.unwrap();
    // Each answer comes before the next question is asked.
    for n in 0..100 {
        assert_eq!(answers.next().await.unwrap(), Some(message(n)));
        banqiao_tests::wire::send(&mut request, message(n + 1).frame(), n == 99)
            .await
            .unwrap();
    }
    assert_eq!(answers.next().await.unwrap(), Some(message(100)));
    assert_eq!(answers.next().await.unwrap(), None);
    let trailers = answers.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
}

#[tokio::test]
async fn messages_of_sixty_four_mebibytes_pass() {
    let (network, _service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let head = Head::new("/example.echo.v1.RuledService/Large", YANTAI);
    let large = Message {
        compressed: false,
        bytes: vec![7; 64 << 20].into(),
    };
    let answer = caller
        .exchange(&head, std::slice::from_ref(&large))
        .await
        .unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    assert_eq!(answer.messages, [large]);
}

#[tokio::test]
async fn call_within_one_city_has_entries_of_both_sides_in_one_ledger() {
    let (network, _service) = Network::echo().await.unwrap();
    let yantai = &network.cities[1];
    yantai.grant(grant(&yantai.id(SYSTEM), ECHO)).await.unwrap();
    let caller = yantai.caller(SYSTEM).await.unwrap();
    let request = EchoRequest {
        text: "here".to_owned(),
        payload: Vec::new(),
    };
    let answer = caller.unary(&echo("Echo"), &request).await.unwrap();
    assert_eq!(answer.only::<EchoResponse>().unwrap().text, "here");
    let (exchange, _) = answer.exchange().unwrap();
    let records = yantai
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    assert!(
        records
            .iter()
            .all(|record| record.entry.side() == Side::Local)
    );
}

#[tokio::test]
async fn only_disclosed_fields_leave_the_city() {
    use banqiao_tests::echo::{DiscloseRequest, DiscloseResponse};
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let client = qingdao.id("hrss/desk");
    let limited = banqiao_proto::directory::v1::Grant {
        disclosed_fields: vec!["group:basic".to_owned()],
        ..grant(&client, RULED)
    };
    yantai.grant(limited).await.unwrap();
    let caller = qingdao.caller("hrss/desk").await.unwrap();
    let head = Head::new("/example.echo.v1.RuledService/Disclose", YANTAI);
    let request = DiscloseRequest {
        citizen: "370602198506150002".to_owned(),
    };
    let answer = caller.unary(&head, &request).await.unwrap();
    let record: DiscloseResponse = answer.only().unwrap();
    assert_eq!((record.citizen, record.found), (request.citizen, true));
    assert_eq!(record.balance, "");
    assert!(
        record.parts.iter().all(|part| part.remark.is_empty()),
        "{:?}",
        record.parts
    );
}

#[tokio::test]
async fn health_is_answered_by_the_gateway_itself() {
    let (network, service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let before = service.seen().len();
    let head = Head::bare("/grpc.health.v1.Health/Check");
    let answer = caller.unary(&head, &()).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    // Field 1, SERVING.
    assert_eq!(answer.messages[0].bytes.as_ref(), [8, 1]);
    let of_services = service
        .seen()
        .iter()
        .skip(before)
        .filter(|seen| !seen.path.contains("Health"))
        .count();
    assert_eq!(of_services, 0);
}
