//! A service that calls other cities through its own gateway, with the kit's client and real gateways.

use std::{fs, path::Path};

use banqiao_directory::Clock;
use banqiao_kit::{
    Answer, Asserted, Basis, CallRefusal, Destination, Gateway, GatewayChannel, GatewaySettings,
    OutgoingCall, Purpose, RefusalKind, ServiceIdentity, TrustSettings,
};
use banqiao_proto::{
    card::v1::{
        CardKey, VerifyCardRequest, VerifyCardResponse, WatchCardStatesRequest,
        card_service_client::CardServiceClient,
    },
    exchange::v1::Trace,
};
use banqiao_tests::{
    authority::Credential,
    cards::{Cards, Holder},
    network::{City, Network, SYSTEM},
    wait::{PATIENCE, wait_until},
};
use tonic::Code;

/// A system of a city as the kit knows it, its files in a folder of its own.
pub(crate) struct System {
    trust: TrustSettings,
    identity: ServiceIdentity,
    pub(crate) gateway: Gateway,
}

impl System {
    pub(crate) fn of(network: &Network, city: &City, name: &str, credential: &Credential) -> Self {
        let folder = network.folder().join(name);
        fs::create_dir(&folder).unwrap();
        credential.write(&folder, "system").unwrap();
        fs::write(folder.join("ca.crt"), city.authority.pem()).unwrap();
        let text = format!(
            "[identity]\ncertificate = 'system.crt'\nprivate_key = 'system.key'\nca_bundle = 'ca.crt'\n\
             crl = '../crls/{}.der'\n[gateway]\naddress = '{}'\n",
            city.domain,
            city.gateway().client
        );
        let (trust, settings) = settings(&text, &folder);
        let identity = ServiceIdentity::load(trust.clone(), Clock::system()).unwrap();
        let gateway = Gateway::new(settings, &identity);
        Self {
            trust,
            identity,
            gateway,
        }
    }

    fn cards(&self, purpose: &str) -> CardServiceClient<GatewayChannel> {
        CardServiceClient::new(self.gateway.channel(&call(purpose)))
    }

    async fn verify(&self, holder: &Holder) -> Result<Answer<VerifyCardResponse>, CallRefusal> {
        let answer = self.cards("card-service").verify_card(verify(holder)).await;
        Answer::of(answer)
    }
}

fn settings(text: &str, folder: &Path) -> (TrustSettings, GatewaySettings) {
    let file = banqiao_kit::SettingsFile::parse(text, folder).unwrap();
    let read = file.finish(|top| {
        let trust = TrustSettings::read(&mut top.section("identity"));
        let gateway = GatewaySettings::read_optional(top);
        Some((trust?, gateway?))
    });
    read.unwrap()
}

fn call(purpose: &str) -> OutgoingCall {
    OutgoingCall::new(
        Destination::City("370600".parse().unwrap()),
        Purpose::parse(purpose).unwrap(),
        Basis::Statutory("社会保险经办条例第七条".to_owned()),
    )
    .case(Asserted::parse("办件-1").unwrap())
    .operator(Asserted::parse("窗口三号").unwrap())
}

fn verify(holder: &Holder) -> VerifyCardRequest {
    VerifyCardRequest {
        key: Some(CardKey {
            card_number: holder.card_number.clone(),
            ..Default::default()
        }),
        name: holder.name.clone(),
        ..Default::default()
    }
}

async fn scene() -> (Network, Cards, System) {
    let (network, cards) = Network::card(10).await.unwrap();
    let city = &network.cities[0];
    let credential = city.credential(SYSTEM).unwrap();
    let system = System::of(&network, city, "outgoing", &credential);
    (network, cards, system)
}

#[tokio::test]
async fn a_service_calls_another_citys_service_and_both_ledgers_hold_the_exchange() {
    let (network, cards, system) = scene().await;
    let answer = system.verify(&cards.holders[0]).await.unwrap();
    assert!(answer.message.r#match);
    let exchange = answer.exchange.expect("an answer names its exchange");
    // The method has no side effects, so the provider's one entry is written as it answers.
    for (city, trace) in network.cities.iter().zip([Trace::OpenClose, Trace::Close]) {
        let held = city.admin().holds(exchange.exchange, trace).await.unwrap();
        assert!(!held.is_empty(), "{}", city.name);
    }

    // A stream without a deadline, on the same connection.
    let channel = system.gateway.channel(&call("card-service").unlimited());
    let mut cards_there = CardServiceClient::new(channel);
    let watch = cards_there
        .watch_card_states(WatchCardStatesRequest::default())
        .await;
    let mut watch = Answer::of(watch).unwrap();
    assert!(watch.exchange.is_some_and(|other| other != exchange));
    assert!(watch.message.message().await.unwrap().is_some());
}

#[tokio::test]
async fn refusals_say_who_refused_and_whether_to_ask_again() {
    let (mut network, cards, system) = scene().await;
    let holder = &cards.holders[0];

    let refused = system
        .cards("medical-treatment")
        .verify_card(verify(holder))
        .await;
    let refused = Answer::of(refused).unwrap_err();
    assert_eq!(
        (refused.kind, refused.code, refused.reason.as_deref()),
        (
            RefusalKind::Refused,
            Code::PermissionDenied,
            Some("PURPOSE_NOT_ALLOWED")
        )
    );
    assert!(!refused.is_retryable() && !refused.is_by_service() && refused.exchange.is_some());

    let invalid = system
        .cards("card-service")
        .verify_card(VerifyCardRequest::default())
        .await;
    let invalid = Answer::of(invalid).unwrap_err();
    assert_eq!(
        (invalid.kind, invalid.domain.as_deref()),
        (RefusalKind::Invalid, Some("banqiao.card"))
    );
    assert!(invalid.is_by_service() && invalid.exchange.is_some());

    // The other city's gateway is down: its own city's says so, and the call was not delivered.
    network.cities[1].gateway_mut().stop().await.unwrap();
    let away = system.verify(holder).await.unwrap_err();
    assert_eq!(
        (away.kind, away.reason.as_deref()),
        (RefusalKind::Unreachable, Some("PEER_UNREACHABLE"))
    );
    network.cities[1].gateway_mut().restart().await.unwrap();

    // The own gateway is down: nobody gives a reason. When it is back, the same client goes on.
    network.cities[0].gateway_mut().stop().await.unwrap();
    let down = system.verify(holder).await.unwrap_err();
    assert!(down.is_retryable(), "{down:?}");
    assert_eq!(down.reason, None);
    network.cities[0].gateway_mut().restart().await.unwrap();
    wait_until("the client to go on", PATIENCE, || async {
        system.verify(holder).await.is_ok()
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_call_on() {
    let (network, cards, system) = scene().await;
    let (city, holder) = (&network.cities[0], &cards.holders[0]);
    let renewed = city.credential(SYSTEM).unwrap();
    let outdated = city.credential(SYSTEM).unwrap();
    let left_behind = System::of(&network, city, "left-behind", &outdated);
    system.verify(holder).await.unwrap();
    left_behind.verify(holder).await.unwrap();

    let first = fs::read_to_string(&system.trust.certificate).unwrap();
    let folder = system.trust.certificate.parent().unwrap();
    renewed.write(folder, "system").unwrap();
    assert!(system.identity.identity().reload().unwrap());
    city.authority.revoke_pem(&first).unwrap();
    city.authority.revoke(&outdated);
    city.publish_crl(86_400).unwrap();

    // Whoever still shows a revoked certificate is refused as soon as the gateway knows.
    wait_until(
        "the gateway to refuse the old certificate",
        PATIENCE,
        || async { left_behind.verify(holder).await.is_err() },
    )
    .await
    .unwrap();
    system.verify(holder).await.unwrap();
}
