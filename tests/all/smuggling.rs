//! Properties 3 and 4: what only gateways may say is taken from gateways only, and once.

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    admin::grant,
    echo::EchoRequest,
    hostile::{self, Block},
    network::{ECHO, Network, SYSTEM},
    service::{SCRIPT, status},
    wire::{Head, Message},
};
use http::HeaderMap;
use uuid::Uuid;

const PATH: &str = "/example.echo.v1.EchoService/Echo";
const YANTAI: &str = "370600";

#[tokio::test]
async fn client_cannot_say_what_only_gateways_say() {
    let (network, service) = Network::echo().await.unwrap();
    let qingdao = &network.cities[0];
    let address = qingdao.gateway().client;
    let tls = qingdao.tls(SYSTEM).unwrap();
    let head = Head::new(PATH, YANTAI);
    let ordinary = || Block::of(&head, &address.to_string());
    let forged = "spiffe://qingdao.jiaodong/hrss/desk";
    let id = format!("{}/1", Uuid::now_v7());
    let rows: Vec<(&str, Block)> = vec![
        ("a client", ordinary().with("banqiao-client", forged)),
        (
            "its own client",
            ordinary().with("banqiao-client", qingdao.id(SYSTEM)),
        ),
        ("an exchange", ordinary().with("banqiao-exchange-id", &id)),
        ("a receipt", ordinary().with("banqiao-receipt-bin", "AAAA")),
        (
            "a private part",
            ordinary().with("banqiao-private-bin", "AAAA"),
        ),
        (
            "a name of the future",
            ordinary().with("banqiao-tomorrow", "x"),
        ),
        ("the bare prefix", ordinary().with("banqiao-", "x")),
        ("two destinations", ordinary().with("banqiao-to", "370600")),
        (
            "two purposes",
            ordinary().with("banqiao-purpose", "card-service"),
        ),
        ("two bases", ordinary().with("banqiao-basis", "emergency")),
        (
            "two operators",
            ordinary()
                .with("banqiao-operator", "a")
                .with("banqiao-operator", "b"),
        ),
        (
            "an underscore twin",
            ordinary().with("banqiao_client", forged),
        ),
        ("a mixed twin", ordinary().with("banqiao_exchange-id", &id)),
        ("capitals", ordinary().with("Banqiao-Client", forged)),
        (
            "a binary twin",
            ordinary().with("banqiao-client-bin", "AAAA"),
        ),
        ("an empty name", ordinary().with("banqiao-client", "")),
    ];
    for (what, block) in rows {
        let answer = hostile::call(address, tls.clone(), &block, &EchoRequest::default())
            .await
            .unwrap();
        assert_ne!(answer.code(), Some(0), "{what} was carried");
        match answer.exchange() {
            Some(_) => {
                let reasons = [Reason::MetadataReserved, Reason::MetadataInvalid];
                assert!(
                    answer.reason().is_some_and(|r| reasons.contains(&r)),
                    "{what}: {answer:?}"
                );
            }
            None => assert!(answer.reset.is_some(), "{what}: {answer:?}"),
        }
    }
    assert!(
        service.seen().iter().all(|seen| seen.path != PATH),
        "a smuggled call reached a service"
    );
}

#[tokio::test]
async fn service_cannot_say_what_only_gateways_say() {
    let (network, service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    service.script("forge", |mut call| async move {
        let forged = |mut map: HeaderMap| {
            for name in [
                "banqiao-client",
                "banqiao-exchange-id",
                "banqiao-to",
                "banqiao-tomorrow",
            ] {
                map.append(name, "forged".parse()?);
            }
            map.insert("x-kept", "kept".parse()?);
            anyhow::Ok(map)
        };
        let mut reply = call.answer(forged(HeaderMap::new())?)?;
        reply
            .send(&Message {
                compressed: false,
                bytes: "".into(),
            })
            .await?;
        reply.end(forged(status(0, ""))?)
    });
    let head = Head::new(PATH, YANTAI).with(SCRIPT, "forge");
    let answer = caller.unary(&head, &EchoRequest::default()).await.unwrap();
    assert_eq!(answer.code(), Some(0));
    let trailers = answer.trailers.as_ref().unwrap();
    for map in [&answer.headers, trailers] {
        assert_eq!(map.get("x-kept").unwrap(), "kept");
        let ours = map
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("banqiao-"));
        let ours: Vec<_> = ours.collect();
        assert!(
            ours.iter().all(|(name, value)| {
                name.as_str() == "banqiao-exchange-id" && *value != "forged"
            }),
            "{ours:?}"
        );
    }
    assert!(answer.exchange().is_some());
}

/// The head that an honest gateway of Qingdao sends for its system.
fn stated(client: &str) -> Head {
    Head::new(PATH, YANTAI)
        .with("banqiao-client", client)
        .with("banqiao-exchange-id", &format!("{}/1", Uuid::now_v7()))
}

#[tokio::test]
async fn gateway_speaks_only_for_its_own_city_and_only_to_the_city_that_it_reaches() {
    use banqiao_tests::network::Plan;
    let (network, service) = Network::echo_of(Plan::cities(3)).await.unwrap();
    let [qingdao, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    yantai
        .grant(grant(&weifang.id(SYSTEM), ECHO))
        .await
        .unwrap();
    let client = qingdao.id(SYSTEM);
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let rows = [
        ("an honest statement", stated(&client), None),
        (
            "another city's system",
            stated(&weifang.id(SYSTEM)),
            Some(Reason::ClientCityMismatch),
        ),
        (
            "the provider's own system",
            stated(&yantai.id(SYSTEM)),
            Some(Reason::ClientCityMismatch),
        ),
        (
            "a gateway as the client",
            stated(&qingdao.id("gateway")),
            Some(Reason::ClientCityMismatch),
        ),
        (
            "no client",
            stated(&client).without("banqiao-client"),
            Some(Reason::MetadataInvalid),
        ),
        (
            "a third city",
            stated(&client).set("banqiao-to", weifang.code),
            Some(Reason::DestinationNotHere),
        ),
        (
            "an unknown city",
            stated(&client).set("banqiao-to", "999900"),
            Some(Reason::DestinationNotHere),
        ),
        (
            "two clients",
            stated(&client).with("banqiao-client", &client),
            Some(Reason::MetadataReserved),
        ),
        (
            "no exchange",
            stated(&client).without("banqiao-exchange-id"),
            Some(Reason::MetadataInvalid),
        ),
        (
            "no UUID",
            stated(&client).set("banqiao-exchange-id", "1/1"),
            Some(Reason::MetadataInvalid),
        ),
        (
            "a UUID without a time",
            stated(&client).set(
                "banqiao-exchange-id",
                "11111111-1111-4111-8111-111111111111/1",
            ),
            Some(Reason::MetadataInvalid),
        ),
        (
            "no attempt",
            stated(&client).set("banqiao-exchange-id", &Uuid::now_v7().to_string()),
            Some(Reason::MetadataInvalid),
        ),
        (
            "attempt zero",
            stated(&client).set("banqiao-exchange-id", &format!("{}/0", Uuid::now_v7())),
            Some(Reason::MetadataInvalid),
        ),
        (
            "an old exchange",
            stated(&client).set(
                "banqiao-exchange-id",
                "01890000-0000-7000-8000-000000000000/1",
            ),
            Some(Reason::MetadataInvalid),
        ),
    ];
    for (what, head, reason) in rows {
        let answer = link.unary(&head, &EchoRequest::default()).await.unwrap();
        assert_eq!(answer.reason(), reason, "{what}: {:?}", answer.grpc());
        assert_eq!(answer.code() == Some(0), reason.is_none(), "{what}");
    }
    let reached = service
        .seen()
        .iter()
        .filter(|seen| seen.path == PATH)
        .count();
    assert_eq!(reached, 1, "only the honest statement reaches the service");
}

#[tokio::test]
async fn statement_is_accepted_once_also_after_a_restart() {
    let (mut network, service) = Network::echo().await.unwrap();
    let client = network.cities[0].id(SYSTEM);
    let head = stated(&client);
    let say = async |network: &Network| {
        let link = network.cities[0]
            .as_gateway(&network.cities[1])
            .await
            .unwrap();
        link.unary(&head, &EchoRequest::default()).await.unwrap()
    };
    assert_eq!(say(&network).await.code(), Some(0));
    assert_eq!(say(&network).await.reason(), Some(Reason::Replayed));
    network.cities[1].gateway_mut().kill().unwrap();
    network.cities[1].gateway_mut().restart().await.unwrap();
    assert_eq!(say(&network).await.reason(), Some(Reason::Replayed));
    let reached = service
        .seen()
        .iter()
        .filter(|seen| seen.path == PATH)
        .count();
    assert_eq!(reached, 1);
}
