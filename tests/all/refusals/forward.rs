//! Failed on the way to the service and back.

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    echo::{EchoRequest, WatchRequest},
    network::{Network, Plan, SYSTEM, set},
    service::SCRIPT,
    wait::{PATIENCE, wait_for},
    wire::{Head, Message},
};
use http::HeaderMap;

use super::{At, ECHO, Row, Scene, Seen, prove, until_refused};

async fn ask(scene: &Scene, head: Head) -> Seen {
    Seen::from(
        scene
            .caller
            .unary(&head, &EchoRequest::default())
            .await
            .unwrap(),
    )
}

pub(super) const ROWS: &[Row] = &[
    Row {
        reason: Reason::UpstreamFailed,
        at: At::Provider,
        how: "a service that breaks off before headers",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("break", |mut call| async move {
                    call.reset(h2::Reason::INTERNAL_ERROR);
                    Ok(())
                });
                ask(scene, Scene::head(ECHO).with(SCRIPT, "break")).await
            })
        },
    },
    Row {
        reason: Reason::UpstreamFailed,
        at: At::Provider,
        how: "a service that breaks off within a message",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("break-late", |mut call| async move {
                    let mut reply = call.answer(HeaderMap::new())?;
                    reply
                        .send_raw(bytes::Bytes::from_static(&[0, 0, 0, 0, 9, 1]))
                        .await?;
                    reply.reset(h2::Reason::INTERNAL_ERROR);
                    Ok(())
                });
                ask(scene, Scene::head(ECHO).with(SCRIPT, "break-late")).await
            })
        },
    },
    Row {
        reason: Reason::UpstreamFailed,
        at: At::Provider,
        how: "a service that ends without a status",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("no-status", |mut call| async move {
                    let reply = call.answer(HeaderMap::new())?;
                    reply.end(HeaderMap::new())
                });
                ask(scene, Scene::head(ECHO).with(SCRIPT, "no-status")).await
            })
        },
    },
    Row {
        reason: Reason::DeadlineExceeded,
        at: At::Provider,
        how: "a service that takes longer than the method may",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("never", |mut call| async move {
                    call.cancelled().await;
                    Ok(())
                });
                let head = Scene::head("/example.echo.v1.RuledService/Quick");
                ask(scene, head.with(SCRIPT, "never")).await
            })
        },
    },
    Row {
        reason: Reason::Cancelled,
        at: At::Consumer,
        how: "a client that goes away",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("wait", |mut call| async move {
                    call.cancelled().await;
                    Ok(())
                });
                let head = Scene::head(ECHO)
                    .with(SCRIPT, "wait")
                    .with("x-call", "cancelled");
                let mut call = scene.caller.open(&head).await.unwrap();
                call.send(&Message::of(&EchoRequest::default()))
                    .await
                    .unwrap();
                call.finish();
                let service = scene.service();
                let exchange = wait_for("the call at the service", PATIENCE, || async {
                    let fits = |name: &str, value: &str| {
                        let seen = service.seen();
                        seen.into_iter()
                            .find(|s| s.headers.get(name).is_some_and(|v| v == value))
                    };
                    let seen = fits("x-call", "cancelled")?;
                    let id = seen.headers.get("banqiao-exchange-id")?.to_str().ok()?;
                    id.split('/').next()?.parse().ok()
                });
                let exchange = exchange.await.unwrap();
                call.cancel();
                Seen::Entered(exchange)
            })
        },
    },
];

#[tokio::test]
async fn what_fails_on_the_way_says_so() {
    let mut scene = Scene::new(Network::echo().await.unwrap()).await;
    prove(&mut scene, ROWS).await;
}

pub(super) const OUTAGES: &[Row] = &[
    Row {
        reason: Reason::ServiceUnreachable,
        at: At::Provider,
        how: "a service that is down",
        provoke: |scene| {
            Box::pin(async {
                if let Some(service) = scene.service.take() {
                    service.stop().await;
                }
                let head = Scene::head(ECHO);
                let answer = until_refused(scene, &head, Reason::ServiceUnreachable).await;
                scene.service = Some(scene.provider().serve().await.unwrap());
                Seen::from(answer)
            })
        },
    },
    Row {
        reason: Reason::PeerUnreachable,
        at: At::Consumer,
        how: "a provider's gateway that is down",
        provoke: |scene| {
            Box::pin(async {
                scene.network.cities[1].gateway_mut().kill().unwrap();
                let head = Scene::head(ECHO);
                let answer = until_refused(scene, &head, Reason::PeerUnreachable).await;
                scene.network.cities[1]
                    .gateway_mut()
                    .restart()
                    .await
                    .unwrap();
                Seen::from(answer)
            })
        },
    },
    Row {
        reason: Reason::Interrupted,
        at: At::Consumer,
        how: "the consumer's gateway is killed with a call open",
        provoke: |scene| {
            Box::pin(async {
                let caller = scene.consumer().caller(SYSTEM).await.unwrap();
                let head = Scene::head("/example.echo.v1.RuledService/Watch");
                let mut call = caller.open(&head).await.unwrap();
                call.send(&Message::of(&WatchRequest {})).await.unwrap();
                call.finish();
                let (_request, headers, mut messages) = call.headers().await.unwrap();
                assert!(messages.next().await.unwrap().is_some());
                let id = headers
                    .get("banqiao-exchange-id")
                    .unwrap()
                    .to_str()
                    .unwrap();
                let exchange = id.split('/').next().unwrap().parse().unwrap();
                scene.network.cities[0].gateway_mut().kill().unwrap();
                scene.network.cities[0]
                    .gateway_mut()
                    .restart()
                    .await
                    .unwrap();
                scene.caller = scene.consumer().caller(SYSTEM).await.unwrap();
                Seen::Entered(exchange)
            })
        },
    },
];

#[tokio::test]
async fn outages_are_told_apart() {
    let plan = Plan::cities(2).tweak(|_, config| {
        set(config, "ledger.lease_ttl", "2s");
        set(config, "ledger.lease_renew", "500ms");
    });
    let mut scene = Scene::new(Network::echo_of(plan).await.unwrap()).await;
    prove(&mut scene, OUTAGES).await;
}
