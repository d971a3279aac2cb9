//! Refused by what the headers say, before any grant is looked at.

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    echo::{EchoRequest, SmallRequest},
    hostile::{self, Block},
    network::{Network, SYSTEM},
    service::SCRIPT,
    wire::{Caller, Head, Message},
};
use http::HeaderMap;
use uuid::Uuid;

use super::{At, ECHO, Row, Scene, Seen, prove};

const SMALL: &str = "/example.echo.v1.RuledService/Small";

async fn ask(scene: &Scene, head: Head) -> Seen {
    Seen::from(
        scene
            .caller
            .unary(&head, &EchoRequest::default())
            .await
            .unwrap(),
    )
}

/// As a gateway of the consumer's city that is not honest.
async fn state(scene: &Scene, head: Head) -> Seen {
    let link = scene.consumer().as_gateway(scene.provider()).await.unwrap();
    Seen::from(link.unary(&head, &EchoRequest::default()).await.unwrap())
}

pub(super) const ROWS: &[Row] = &[
    Row {
        reason: Reason::IdentityNotAllowed,
        at: At::Consumer,
        how: "a system of another city at the client listener",
        provoke: |scene| {
            Box::pin(async {
                let credential = scene.provider().credential(SYSTEM).unwrap();
                let tls = scene
                    .consumer()
                    .authority
                    .client(Some(&credential))
                    .unwrap();
                let caller = Caller::connect(scene.consumer().gateway().client, tls)
                    .await
                    .unwrap();
                let head = Scene::head(ECHO);
                Seen::from(caller.unary(&head, &EchoRequest::default()).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::IdentityNotAllowed,
        at: At::Consumer,
        how: "a gateway at the client listener",
        provoke: |scene| {
            Box::pin(async {
                let caller = scene.consumer().caller("gateway").await.unwrap();
                let head = Scene::head(ECHO);
                Seen::from(caller.unary(&head, &EchoRequest::default()).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::IdentityNotAllowed,
        at: At::Provider,
        how: "a system at the inter-city listener",
        provoke: |scene| {
            Box::pin(async {
                let credential = scene.consumer().credential(SYSTEM).unwrap();
                let tls = scene
                    .provider()
                    .authority
                    .client(Some(&credential))
                    .unwrap();
                let address = scene.provider().gateway().inter_city;
                let caller = Caller::connect(address, tls).await.unwrap();
                let head = scene.stated(ECHO);
                Seen::from(caller.unary(&head, &EchoRequest::default()).await.unwrap())
            })
        },
    },
    Row {
        reason: Reason::NotGrpc,
        at: At::Consumer,
        how: "a content type of its own",
        provoke: |scene| {
            Box::pin(async {
                ask(
                    scene,
                    Scene::head(ECHO).set("content-type", "application/json"),
                )
                .await
            })
        },
    },
    Row {
        reason: Reason::NotGrpc,
        at: At::Consumer,
        how: "without te: trailers",
        provoke: |scene| Box::pin(async { ask(scene, Scene::head(ECHO).without("te")).await }),
    },
    Row {
        reason: Reason::NotGrpc,
        at: At::Provider,
        how: "a content type of its own, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let head = scene.stated(ECHO).set("content-type", "text/plain");
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::PathNotCanonical,
        at: At::Consumer,
        how: "a percent-escape",
        provoke: |scene| {
            Box::pin(async { ask(scene, Scene::head("/example.echo.v1.EchoService/%45cho")).await })
        },
    },
    Row {
        reason: Reason::PathNotCanonical,
        at: At::Provider,
        how: "a query, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let head = scene.stated("/example.echo.v1.EchoService/Echo?x");
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::MetadataReserved,
        at: At::Consumer,
        how: "a forged banqiao-client",
        provoke: |scene| {
            Box::pin(async {
                let forged = scene.consumer().id("hrss/desk");
                ask(scene, Scene::head(ECHO).with("banqiao-client", &forged)).await
            })
        },
    },
    Row {
        reason: Reason::MetadataReserved,
        at: At::Consumer,
        how: "an exchange id of its own",
        provoke: |scene| {
            Box::pin(async {
                let id = format!("{}/1", Uuid::now_v7());
                ask(scene, Scene::head(ECHO).with("banqiao-exchange-id", &id)).await
            })
        },
    },
    Row {
        reason: Reason::MetadataReserved,
        at: At::Provider,
        how: "a reserved name that no hop carries, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let head = scene.stated(ECHO).with("banqiao-tomorrow", "x");
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::MetadataInvalid,
        at: At::Consumer,
        how: "no purpose",
        provoke: |scene| {
            Box::pin(async { ask(scene, Scene::head(ECHO).without("banqiao-purpose")).await })
        },
    },
    Row {
        reason: Reason::MetadataInvalid,
        at: At::Consumer,
        how: "no destination",
        provoke: |scene| {
            Box::pin(async { ask(scene, Scene::head(ECHO).without("banqiao-to")).await })
        },
    },
    Row {
        reason: Reason::MetadataInvalid,
        at: At::Consumer,
        how: "a basis of no known kind",
        provoke: |scene| {
            Box::pin(async { ask(scene, Scene::head(ECHO).set("banqiao-basis", "because")).await })
        },
    },
    Row {
        reason: Reason::MetadataInvalid,
        at: At::Consumer,
        how: "a basis that holds an identity number",
        provoke: |scene| {
            Box::pin(async {
                let basis = "consent:370202199001010007";
                ask(scene, Scene::head(ECHO).set("banqiao-basis", basis)).await
            })
        },
    },
    Row {
        reason: Reason::PathNotCanonical,
        at: At::Provider,
        how: "a path that holds an identity number, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let head = scene.stated("/example.echo.v1.EchoService/Echo370202199001010007");
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::MetadataInvalid,
        at: At::Provider,
        how: "no exchange, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let head = scene.stated(ECHO).without("banqiao-exchange-id");
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::MetadataTooLarge,
        at: At::Consumer,
        how: "18 KiB of metadata",
        provoke: |scene| {
            Box::pin(async {
                let head = (0..18).fold(Scene::head(ECHO), |head, _| {
                    head.with("x-much", &"a".repeat(1_000))
                });
                ask(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::MessageTooLarge,
        at: At::Consumer,
        how: "a request over the method's limit",
        provoke: |scene| {
            Box::pin(async {
                let request = SmallRequest {
                    payload: vec![1; 2_000],
                };
                Seen::from(
                    scene
                        .caller
                        .unary(&Scene::head(SMALL), &request)
                        .await
                        .unwrap(),
                )
            })
        },
    },
    Row {
        reason: Reason::MessageTooLarge,
        at: At::Provider,
        how: "a response over the method's limit",
        provoke: |scene| {
            Box::pin(async {
                scene.service().script("large", |mut call| async move {
                    let mut reply = call.answer(HeaderMap::new())?;
                    let large = SmallRequest {
                        payload: vec![1; 2_000],
                    };
                    reply.send(&Message::of(&large)).await?;
                    reply.ok()
                });
                ask(scene, Scene::head(SMALL).with(SCRIPT, "large")).await
            })
        },
    },
    Row {
        reason: Reason::MessageMalformed,
        at: At::Consumer,
        how: "two messages in a unary call",
        provoke: |scene| {
            Box::pin(async {
                let message = Message::of(&EchoRequest::default());
                let twice = [message.clone(), message];
                Seen::from(
                    scene
                        .caller
                        .exchange(&Scene::head(ECHO), &twice)
                        .await
                        .unwrap(),
                )
            })
        },
    },
    Row {
        reason: Reason::MessageMalformed,
        at: At::Consumer,
        how: "no message in a unary call",
        provoke: |scene| {
            Box::pin(async {
                Seen::from(
                    scene
                        .caller
                        .exchange(&Scene::head(ECHO), &[])
                        .await
                        .unwrap(),
                )
            })
        },
    },
    Row {
        reason: Reason::MessageMalformed,
        at: At::Consumer,
        how: "a body that ends within a message",
        provoke: |scene| {
            Box::pin(async {
                let mut call = scene.caller.open(&Scene::head(ECHO)).await.unwrap();
                let cut = bytes::Bytes::from_static(&[0, 0, 0, 1, 0, 1, 2, 3]);
                banqiao_tests::wire::send(&mut call.request, cut, true)
                    .await
                    .unwrap();
                Seen::from(call.answer().await)
            })
        },
    },
    Row {
        reason: Reason::DestinationUnknown,
        at: At::Consumer,
        how: "a city that is no member",
        provoke: |scene| {
            Box::pin(async { ask(scene, Scene::head(ECHO).set("banqiao-to", "110000")).await })
        },
    },
    Row {
        reason: Reason::DestinationNotHere,
        at: At::Provider,
        how: "a call for a third city, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let head = scene.stated(ECHO).set("banqiao-to", "370200");
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::ClientCityMismatch,
        at: At::Provider,
        how: "a client of another city, from a gateway",
        provoke: |scene| {
            Box::pin(async {
                let other = scene.provider().id(SYSTEM);
                let head = scene.stated(ECHO).set("banqiao-client", &other);
                state(scene, head).await
            })
        },
    },
    Row {
        reason: Reason::Replayed,
        at: At::Provider,
        how: "one statement twice",
        provoke: |scene| {
            Box::pin(async {
                // The first one must leave no trace of its own, or there would be two.
                let head = scene.stated(ECHO);
                let link = scene.consumer().as_gateway(scene.provider()).await.unwrap();
                let first = link.unary(&head, &EchoRequest::default()).await.unwrap();
                assert_eq!(first.code(), Some(0), "{:?}", first.grpc());
                Seen::from(link.unary(&head, &EchoRequest::default()).await.unwrap())
            })
        },
    },
];

#[tokio::test]
async fn faulty_heads_are_refused() {
    let mut scene = Scene::new(Network::echo().await.unwrap()).await;
    prove(&mut scene, ROWS).await;
    // What `te` and the content type are to other protocols does not matter: nothing of it reached the service.
    let tls = scene.consumer().tls(SYSTEM).unwrap();
    let address = scene.consumer().gateway().client;
    let get = Block::of(&Scene::head(ECHO), &address.to_string()).set(":method", "GET");
    let answer = hostile::call(address, tls, &get, &EchoRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.http_status, 415, "{answer:?}");
}
