//! Refused or ended by the provider's grants, and by the rights of the caller.

use banqiao_directory::Clock;
use banqiao_proto::{
    directory::v1::{Grant, Rate},
    exchange::v1::Reason,
};
use banqiao_tests::{
    admin::grant,
    echo::{DiscloseRequest, EchoRequest, WatchRequest},
    network::{ECHO as ECHO_SERVICE, Network, RULED},
    service::SCRIPT,
    wait::{PATIENCE, wait_for},
    wire::{Answer, Call, Caller, Head, Message},
};
use http::HeaderMap;

use super::{At, ECHO, Row, Scene, Seen, prove};

const WATCH: &str = "/example.echo.v1.RuledService/Watch";
const DISCLOSE: &str = "/example.echo.v1.RuledService/Disclose";

/// A call of a system that has only the grants that its row gives it.
async fn ask_as(scene: &Scene, system: &str, head: Head) -> Answer {
    let caller = scene.consumer().caller(system).await.unwrap();
    caller.unary(&head, &EchoRequest::default()).await.unwrap()
}

async fn watch(caller: &Caller) -> Call {
    let mut call = caller.open(&Scene::head(WATCH)).await.unwrap();
    call.send(&Message::of(&WatchRequest {})).await.unwrap();
    call.finish();
    call
}

/// Lets a watch begin, does `then`, and gives what the watch ends with.
async fn cut_off(call: Call, then: impl Future<Output = ()>) -> Answer {
    let (_request, headers, mut messages) = call.headers().await.unwrap();
    let first = messages.next().await.unwrap().unwrap();
    then.await;
    assert_eq!(messages.next().await.unwrap(), None);
    let trailers = messages.trailers().await.unwrap();
    Answer {
        http_status: 200,
        headers,
        messages: vec![first],
        trailers,
        reset: None,
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        reason: Reason::NotGranted,
        at: At::Provider,
        how: "a client without a grant",
        provoke: |scene| {
            Box::pin(async { Seen::from(ask_as(scene, "hrss/stranger", Scene::head(ECHO)).await) })
        },
    },
    Row {
        reason: Reason::ServiceUnknown,
        at: At::Consumer,
        how: "a service that nobody provides",
        provoke: |scene| {
            Box::pin(async {
                let head = Scene::head("/example.nowhere.v1.NoService/Nothing");
                Seen::from(ask_as(scene, "hrss/stranger", head).await)
            })
        },
    },
    Row {
        reason: Reason::ServiceUnknown,
        at: At::Consumer,
        how: "a method that a granted service does not have",
        provoke: |scene| {
            Box::pin(async {
                let head = Scene::head("/example.echo.v1.EchoService/Nothing");
                let request = EchoRequest::default();
                Seen::from(scene.caller.unary(&head, &request).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::PurposeNotAllowed,
        at: At::Provider,
        how: "a purpose that the grant does not name",
        provoke: |scene| {
            Box::pin(async {
                let head = Scene::head(ECHO).set("banqiao-purpose", "card-service");
                let request = EchoRequest::default();
                Seen::from(scene.caller.unary(&head, &request).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::PurposeNotAllowed,
        at: At::Provider,
        how: "a purpose that the method does not allow",
        provoke: |scene| {
            Box::pin(async {
                let head = Scene::head("/example.echo.v1.RuledService/Treat");
                let request = EchoRequest::default();
                Seen::from(scene.caller.unary(&head, &request).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::GrantExpired,
        at: At::Provider,
        how: "a grant whose time is not yet there",
        provoke: |scene| {
            Box::pin(async {
                let mut later = grant(&scene.consumer().id("hrss/early"), ECHO_SERVICE);
                later.not_before.as_mut().unwrap().seconds = Clock::system().now_s() + 3_600;
                scene.provider().grant(later).await.unwrap();
                Seen::from(ask_as(scene, "hrss/early", Scene::head(ECHO)).await)
            })
        },
    },
    Row {
        reason: Reason::GrantExpired,
        at: At::Provider,
        how: "a grant that has run out",
        provoke: |scene| {
            Box::pin(async {
                let mut short = grant(&scene.consumer().id("hrss/late"), ECHO_SERVICE);
                short.not_after.as_mut().unwrap().seconds = Clock::system().now_s() + 2;
                scene.provider().grant(short).await.unwrap();
                let caller = scene.consumer().caller("hrss/late").await.unwrap();
                let answer = wait_for("the end of the grant", PATIENCE, || async {
                    let request = EchoRequest::default();
                    let answer = caller.unary(&Scene::head(ECHO), &request).await.unwrap();
                    (answer.code() != Some(0)).then_some(answer)
                });
                Seen::from(answer.await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::RateExceeded,
        at: At::Provider,
        how: "the second call of a minute that has one",
        provoke: |scene| {
            Box::pin(async {
                let minute = prost_types::Duration {
                    seconds: 60,
                    nanos: 0,
                };
                let limited = Grant {
                    rate: Some(Rate {
                        calls: 1,
                        per: Some(minute),
                        burst: 1,
                    }),
                    ..grant(&scene.consumer().id("hrss/hasty"), ECHO_SERVICE)
                };
                scene.provider().grant(limited).await.unwrap();
                let first = ask_as(scene, "hrss/hasty", Scene::head(ECHO)).await;
                assert_eq!(first.code(), Some(0), "{:?}", first.grpc());
                Seen::from(ask_as(scene, "hrss/hasty", Scene::head(ECHO)).await)
            })
        },
    },
    Row {
        reason: Reason::GrantRevoked,
        at: At::Provider,
        how: "a stream whose grant is revoked",
        provoke: |scene| {
            Box::pin(async {
                let id = scene.consumer().id("hrss/watcher");
                let given = scene.provider().grant(grant(&id, RULED)).await.unwrap();
                let caller = scene.consumer().caller("hrss/watcher").await.unwrap();
                let call = watch(&caller).await;
                let revoke = async { scene.provider().admin().revoke(&given.id).await.unwrap() };
                Seen::from(cut_off(call, revoke).await)
            })
        },
    },
    Row {
        reason: Reason::CertificateWithdrawn,
        at: At::Consumer,
        how: "a stream whose caller is revoked",
        provoke: |scene| {
            Box::pin(async {
                let consumer = scene.consumer();
                let id = consumer.id("hrss/leaver");
                scene.provider().grant(grant(&id, RULED)).await.unwrap();
                let credential = consumer.credential("hrss/leaver").unwrap();
                let tls = consumer.authority.client(Some(&credential)).unwrap();
                let caller = Caller::connect(consumer.gateway().client, tls)
                    .await
                    .unwrap();
                let call = watch(&caller).await;
                let revoke = async {
                    consumer.authority.revoke(&credential);
                    consumer.publish_crl(86_400).unwrap();
                    consumer.admin().reload().await.unwrap();
                };
                Seen::from(cut_off(call, revoke).await)
            })
        },
    },
    Row {
        reason: Reason::DisclosureFailed,
        at: At::Provider,
        how: "a compressed answer under a grant that limits fields",
        provoke: |scene| {
            Box::pin(async {
                let limited = Grant {
                    disclosed_fields: vec!["group:basic".to_owned()],
                    ..grant(&scene.consumer().id("hrss/limited"), RULED)
                };
                scene.provider().grant(limited).await.unwrap();
                scene.service().script("compressed", |mut call| async move {
                    let mut headers = HeaderMap::new();
                    headers.insert("grpc-encoding", "gzip".parse()?);
                    let mut reply = call.answer(headers)?;
                    let bytes = bytes::Bytes::from_static(b"not looked at");
                    reply
                        .send(&Message {
                            compressed: true,
                            bytes,
                        })
                        .await?;
                    reply.ok()
                });
                let head = Scene::head(DISCLOSE).with(SCRIPT, "compressed");
                let caller = scene.consumer().caller("hrss/limited").await.unwrap();
                let request = DiscloseRequest {
                    citizen: "370602198506150002".to_owned(),
                };
                Seen::from(caller.unary(&head, &request).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::DisclosureFailed,
        at: At::Provider,
        how: "an answer that is no message, under a grant that limits fields",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("broken", |mut call| async move {
                    let mut reply = call.answer(HeaderMap::new())?;
                    // Field 1, a string of 100 bytes that are not there.
                    let bytes = bytes::Bytes::from_static(&[0x0a, 100, b'x']);
                    reply
                        .send(&Message {
                            compressed: false,
                            bytes,
                        })
                        .await?;
                    reply.ok()
                });
                let head = Scene::head(DISCLOSE).with(SCRIPT, "broken");
                let caller = scene.consumer().caller("hrss/limited").await.unwrap();
                let request = DiscloseRequest {
                    citizen: "370602198506150002".to_owned(),
                };
                Seen::from(caller.unary(&head, &request).await.unwrap())
            })
        },
    },
];

#[tokio::test]
async fn what_is_not_granted_is_refused_or_ended() {
    let mut scene = Scene::new(Network::echo().await.unwrap()).await;
    prove(&mut scene, ROWS).await;
}

/// Property 5: a stranger cannot tell what is forbidden from what does not exist.
#[tokio::test]
async fn unknown_and_forbidden_services_look_the_same_to_a_stranger() {
    let scene = Scene::new(Network::echo().await.unwrap()).await;
    let mut answers = Vec::new();
    for path in [
        ECHO,
        "/example.nowhere.v1.NoService/Nothing",
        "/example.echo.v1.EchoService/No",
    ] {
        let mut answer = ask_as(&scene, "hrss/stranger", Scene::head(path)).await;
        let (exchange, _) = answer.exchange().unwrap();
        let status = answer.grpc().unwrap();
        let text = (
            status.code(),
            status.message().replace(&exchange.to_string(), "ID"),
        );
        answer.headers.remove("banqiao-exchange-id");
        let names: Vec<_> = answer.last().keys().map(ToString::to_string).collect();
        answers.push((text, names, answer.reason()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}
