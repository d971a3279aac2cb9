//! Memory is bounded, whatever the length of a stream and the number of connections.

use std::process::Command;

use banqiao_tests::{
    echo::{ExpandRequest, LookRequest},
    network::{Network, SYSTEM},
    wire::{Caller, Head, Message},
};

/// Of the 128 MiB that a gateway may take, 32 are left for the pages of the program.
const LIMIT: u64 = 96 << 20;
const CONNECTIONS: usize = 1_000;
const MEBIBYTE: u32 = 1 << 20;
const YANTAI: &str = "370600";

/// Raises the limit of open files of this process, which the gateways inherit.
fn room_for_connections() {
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &own, "--nofile=8192:"])
        .status();
    assert!(
        raised.unwrap().success(),
        "the hard limit of open files is under 8192"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gibibyte_and_a_thousand_connections_pass_in_128_mebibytes() {
    room_for_connections();
    let (mut network, _service) = Network::echo().await.unwrap();
    let mut idle = Vec::new();
    for number in 0..CONNECTIONS {
        let qingdao = &network.cities[0];
        // Each system may have 200.
        let system = if number < 150 {
            SYSTEM.to_owned()
        } else {
            format!("hrss/idle-{}", number / 150)
        };
        if number % 150 == 0 && number > 0 {
            let grant =
                banqiao_tests::admin::grant(&qingdao.id(&system), banqiao_tests::network::ECHO);
            network.cities[1].grant(grant).await.unwrap();
        }
        let caller = qingdao.caller(&system).await.unwrap();
        // Idle is what has called and waits; what never calls is closed soon.
        let head = Head::new("/example.echo.v1.EchoService/Look", YANTAI);
        let answer = caller.unary(&head, &LookRequest::default()).await.unwrap();
        assert_eq!(
            answer.code(),
            Some(0),
            "connection {number}: {:?}",
            answer.grpc()
        );
        idle.push(caller);
    }
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let mut call = caller
        .open(&Head::new("/example.echo.v1.EchoService/Expand", YANTAI))
        .await
        .unwrap();
    let request = ExpandRequest {
        text: String::new(),
        count: 1_024,
        payload_bytes: MEBIBYTE,
    };
    call.send(&Message::of(&request)).await.unwrap();
    call.finish();
    let (_request, _, mut messages) = call.headers().await.unwrap();
    let mut received = 0;
    while let Some(message) = messages.next().await.unwrap() {
        received += message.bytes.len() as u64;
    }
    let trailers = messages.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert!(received >= 1 << 30, "{received} bytes");
    for city in &mut network.cities {
        let process = city.gateway_mut().process().unwrap();
        let peak = process.peak_held().unwrap();
        let whole = process.peak_memory().unwrap();
        println!(
            "{}: peak {} MiB, with the program's pages {} MiB",
            city.name,
            peak >> 20,
            whole >> 20
        );
        assert!(peak < LIMIT, "{}: {} MiB", city.name, peak >> 20);
    }
    assert_eq!(idle.len(), CONNECTIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_of_a_million_messages_passes() {
    let (mut network, _service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let head = Head::new("/example.echo.v1.EchoService/Expand", YANTAI);
    let mut call = caller.open(&head).await.unwrap();
    let request = ExpandRequest {
        text: "x".to_owned(),
        count: 1_000_000,
        payload_bytes: 0,
    };
    call.send(&Message::of(&request)).await.unwrap();
    call.finish();
    let (_request, _, mut messages) = call.headers().await.unwrap();
    let mut received = 0;
    while messages.next().await.unwrap().is_some() {
        received += 1;
    }
    let trailers = messages.trailers().await.unwrap().unwrap();
    assert_eq!(
        trailers.get("grpc-status").unwrap(),
        "0",
        "after {received}: {trailers:?}"
    );
    assert_eq!(received, 1_000_000);
    for city in &mut network.cities {
        let peak = city.gateway_mut().process().unwrap().peak_held().unwrap();
        assert!(peak < LIMIT, "{}: {} MiB", city.name, peak >> 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_holds_the_service_back() {
    let (mut network, service) = Network::echo().await.unwrap();
    let caller: Caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&sent);
    service.script("flood", move |mut call| {
        let counter = std::sync::Arc::clone(&counter);
        async move {
            let mut reply = call.answer(http::HeaderMap::new())?;
            let message = Message {
                compressed: false,
                bytes: vec![0; 1 << 16].into(),
            };
            loop {
                reply.send(&message).await?;
                counter.fetch_add(1 << 16, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    let head = Head::new("/example.echo.v1.EchoService/Expand", YANTAI);
    let mut call = caller
        .open(&head.with(banqiao_tests::service::SCRIPT, "flood"))
        .await
        .unwrap();
    call.send(&Message::of(&ExpandRequest::default()))
        .await
        .unwrap();
    call.finish();
    let (mut request, _, mut messages) = call.headers().await.unwrap();
    assert!(messages.next().await.unwrap().is_some());
    // Nothing more is read: the windows fill, and then nothing moves.
    let mut last = 0;
    banqiao_tests::wait::wait_until("a standstill", banqiao_tests::wait::PATIENCE, || {
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        let still = now == last && now > 0;
        last = now;
        async move { still }
    })
    .await
    .unwrap();
    assert!(
        last < 64 << 20,
        "{} MiB went ahead of a reader that stands still",
        last >> 20
    );
    for city in &mut network.cities {
        let peak = city.gateway_mut().process().unwrap().peak_held().unwrap();
        assert!(peak < LIMIT, "{}: {} MiB", city.name, peak >> 20);
    }
    request.send_reset(h2::Reason::CANCEL);
}
