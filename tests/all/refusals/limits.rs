//! Refused or ended by a limit: concurrency, idleness, memory, the directory's expiry, drain.

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    echo::{ChatRequest, EchoRequest, WatchRequest},
    network::{Network, Plan, SYSTEM, set},
    process::Signal,
    wait::{PATIENCE, wait_until},
    wire::{Answer, Call, Message},
};

use super::{At, ECHO, Row, Scene, Seen, prove, until_refused};

const WATCH: &str = "/example.echo.v1.RuledService/Watch";
const CHAT: &str = "/example.echo.v1.EchoService/Chat";

async fn watch(scene: &Scene) -> Call {
    let mut call = scene.caller.open(&Scene::head(WATCH)).await.unwrap();
    call.send(&Message::of(&WatchRequest {})).await.unwrap();
    call.finish();
    call
}

pub(super) const ROWS: &[Row] = &[
    Row {
        reason: Reason::ClientBusy,
        at: At::Consumer,
        how: "one call more than a client may have open",
        provoke: |scene| {
            Box::pin(async {
                let mut open = Vec::new();
                for _ in 0..2 {
                    let (request, _, mut messages) = watch(scene).await.headers().await.unwrap();
                    assert!(messages.next().await.unwrap().is_some());
                    open.push((request, messages));
                }
                let answer = scene
                    .caller
                    .unary(&Scene::head(ECHO), &EchoRequest::default())
                    .await;
                for (request, _) in &mut open {
                    request.send_reset(h2::Reason::CANCEL);
                }
                let caller = &scene.caller;
                wait_until("room for calls", PATIENCE, || async {
                    let head = Scene::head(ECHO);
                    let answer = caller.unary(&head, &EchoRequest::default()).await;
                    answer.is_ok_and(|answer| answer.code() == Some(0))
                })
                .await
                .unwrap();
                Seen::from(answer.unwrap())
            })
        },
    },
    Row {
        reason: Reason::StreamIdle,
        at: At::Consumer,
        how: "a stream on which nothing moves",
        provoke: |scene| {
            Box::pin(async {
                let mut call = scene.caller.open(&Scene::head(CHAT)).await.unwrap();
                call.send(&Message::of(&ChatRequest::default()))
                    .await
                    .unwrap();
                Seen::from(call.answer().await)
            })
        },
    },
];

#[tokio::test]
async fn limits_of_a_client_and_a_stream_bite() {
    let plan = Plan::cities(2).tweak(|code, config| {
        if code == "370200" {
            set(config, "limits.client_concurrency", 2);
            set(config, "limits.stream_idle", "1s");
        }
    });
    let mut scene = Scene::new(Network::echo_of(plan).await.unwrap()).await;
    prove(&mut scene, ROWS).await;
}

pub(super) const DIRECTORY: &[Row] = &[Row {
    reason: Reason::DirectoryExpired,
    at: At::Consumer,
    how: "a directory that nobody has renewed",
    provoke: |scene| {
        Box::pin(async {
            // The first refusal may be the provider's, whose clock reads the same file; then both have noticed.
            let head = Scene::head(ECHO);
            until_refused(scene, &head, Reason::DirectoryExpired).await;
            Seen::from(until_refused(scene, &head, Reason::DirectoryExpired).await)
        })
    },
}];

#[tokio::test]
async fn expired_directory_ends_the_service() {
    let plan = Plan::cities(2).directory_lifetime_s(12);
    let mut scene = Scene::new(Network::echo_of(plan).await.unwrap()).await;
    let answer = scene
        .caller
        .unary(&Scene::head(ECHO), &EchoRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    prove(&mut scene, DIRECTORY).await;
}

pub(super) const PRESSURE: &[Row] = &[Row {
    reason: Reason::Overloaded,
    at: At::Consumer,
    how: "memory near its limit",
    provoke: |scene| {
        Box::pin(async {
            let answer = until_refused(scene, &Scene::head(ECHO), Reason::Overloaded).await;
            Seen::from(answer)
        })
    },
}];

#[tokio::test]
async fn gateway_short_of_memory_sheds_calls() {
    let (mut network, service) = Network::echo().await.unwrap();
    // What the gateway needs with a call behind it is nine tenths of what it is then given: between the share
    // where calls are refused and the one where connections are.
    let mut scene = Scene::new((network, service)).await;
    for _ in 0..20 {
        scene
            .caller
            .unary(&Scene::head(ECHO), &EchoRequest::default())
            .await
            .unwrap();
    }
    network = scene.network;
    let gateway = network.cities[0].gateway_mut();
    let needed = gateway.process().unwrap().resident_memory().unwrap();
    let limit = i64::try_from(needed / 9 * 10).unwrap();
    gateway.stop().await.unwrap();
    set(&mut gateway.config, "limits.memory", limit.max(32 << 20));
    gateway.write_config().unwrap();
    gateway.restart().await.unwrap();
    scene.caller = network.cities[0].caller(SYSTEM).await.unwrap();
    scene.network = network;
    prove(&mut scene, PRESSURE).await;
}

pub(super) const DRAIN: &[Row] = &[Row {
    reason: Reason::Draining,
    at: At::Consumer,
    how: "a stream that outlasts the drain",
    provoke: |scene| {
        Box::pin(async {
            let call = watch(scene).await;
            let (_request, headers, mut messages) = call.headers().await.unwrap();
            let first = messages.next().await.unwrap().unwrap();
            let gateway = scene.network.cities[0].gateway_mut();
            gateway
                .process()
                .unwrap()
                .signal(Signal::Terminate)
                .unwrap();
            assert_eq!(messages.next().await.unwrap(), None);
            let trailers = messages.trailers().await.unwrap();
            let gateway = scene.network.cities[0].gateway_mut();
            wait_until("the end of the gateway", PATIENCE, || {
                let ended = gateway.process().unwrap().exited().unwrap().is_some();
                async move { ended }
            })
            .await
            .unwrap();
            gateway.restart().await.unwrap();
            Seen::from(Answer {
                http_status: 200,
                headers,
                messages: vec![first],
                trailers,
                reset: None,
            })
        })
    },
}];

#[tokio::test]
async fn stream_that_outlasts_the_drain_ends_with_a_status() {
    let plan = Plan::cities(2).tweak(|_, config| set(config, "limits.drain", "1s"));
    let mut scene = Scene::new(Network::echo_of(plan).await.unwrap()).await;
    prove(&mut scene, DRAIN).await;
}
