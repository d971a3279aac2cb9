//! The server over real TLS: certificates of two cities, the gateway's and others'.

use std::{net::SocketAddr, path::Path, time::Duration};

use banqiao_card::Instance;
use banqiao_directory::Clock;
use banqiao_identity::{
    CertificateFault,
    pki::{CertificateRequest, DEFAULT_CRL_LIFETIME, RevocationReason},
};
use banqiao_proto::card::v1::{
    CardRecord, CardState, ImportCardsRequest, LossKind, VerifyCardRequest, WatchCardStatesRequest,
    card_service_client::CardServiceClient,
};
use futures_util::stream;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Status,
    metadata::MetadataKey,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

use crate::{
    certificates::{Certificates, ISSUER, PATIENCE, WINDOW, city, lines, request},
    scene::{config, loss, verify_request},
};

/// A card service of Qingdao on a free port.
struct Scene {
    certificates: Certificates,
    address: SocketAddr,
    cards: banqiao_card::Cards,
    telemetry: banqiao_telemetry::Telemetry,
    stop: CancellationToken,
    served: JoinHandle<Result<(), banqiao_card::RunError>>,
}

impl Scene {
    async fn start() -> Self {
        let certificates = Certificates::of_qingdao();
        let folder = certificates.folder.path();
        let url = format!("sqlite://{}", folder.join("card.db").display());
        let instance = Instance::start(config(folder, &url), Clock::system())
            .await
            .unwrap();
        let (address, cards) = (instance.local_addr(), instance.cards().clone());
        let telemetry = instance.telemetry().clone();
        let stop = CancellationToken::new();
        let served = TaskTracker::new().spawn(instance.serve(stop.clone().cancelled_owned()));
        Self {
            certificates,
            address,
            cards,
            telemetry,
            stop,
            served,
        }
    }

    async fn stopped(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.served)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    fn folder(&self) -> &Path {
        self.certificates.folder.path()
    }

    fn channel(&self, folder: &Path, name: &str) -> Channel {
        self.certificates.channel(self.address, folder, name)
    }

    async fn refusal(&self, folder: &Path, name: &str) -> Option<CertificateFault> {
        self.certificates.refusal(self.address, folder, name).await
    }

    fn gateway(&self) -> CardServiceClient<Channel> {
        self.certificates.gateway(self.address)
    }
}

fn reason(status: &Status) -> (Code, String, String) {
    let info = status.get_details_error_info().unwrap();
    (status.code(), info.reason, info.domain)
}

fn told(code: Code, reason: &str, domain: &str) -> (Code, String, String) {
    (code, reason.to_owned(), domain.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_works_through_the_gateways_connection() {
    let scene = Scene::start().await;
    let mut client = scene.gateway();
    let mut sent = lines(1_100);
    sent[3].card.as_mut().unwrap().name = String::new();
    let answer = client
        .import_cards(request(stream::iter(sent.clone()), ISSUER))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (answer.created, answer.refused, answer.results.len()),
        (1_099, 1, 1_100)
    );
    let refused = &answer.results[3];
    assert_eq!((refused.line, refused.field.as_str()), (4, "name"));
    assert!(
        answer
            .results
            .iter()
            .zip(1..)
            .all(|(result, line)| result.line == line)
    );

    let record: CardRecord = sent[0].card.clone().unwrap();
    let mut watch = client
        .watch_card_states(request(WatchCardStatesRequest::default(), WINDOW))
        .await
        .unwrap()
        .into_inner();
    let begin = watch.message().await.unwrap().unwrap();
    assert_eq!((begin.cursor.as_str(), begin.change), ("2198", None));
    let lost = client
        .report_loss(request(loss(&record, LossKind::Formal), WINDOW))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(lost.state(), CardState::Lost);
    let change = timeout(PATIENCE, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(change.cursor, lost.cursor);
    let verified = client
        .verify_card(request(verify_request(&record), WINDOW))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (verified.r#match, verified.social_state()),
        (true, CardState::Lost)
    );
    drop((watch, client));
    let metrics = scene.telemetry.prometheus();
    let verified = metrics
        .lines()
        .find(|line| line.contains("VerifyCard"))
        .unwrap();
    assert!(
        verified.contains("banqiao.card.v1.CardService"),
        "{verified}"
    );
    assert!(!metrics.contains(&record.social_security_number));
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_gateway_of_the_city_is_answered() {
    let scene = Scene::start().await;
    let system = scene.channel(scene.folder(), "window");
    // Proven, of this city, and still not the gateway: it is told so, on health too.
    let refused = CardServiceClient::new(system.clone())
        .verify_card(request(VerifyCardRequest::default(), WINDOW))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&refused),
        told(Code::PermissionDenied, "IDENTITY_NOT_ALLOWED", "banqiao")
    );
    let refused = HealthClient::new(system)
        .check(HealthCheckRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Another city's gateway does not get past the handshake.
    let elsewhere = TempDir::new().unwrap();
    let yantai = city(elsewhere.path(), "yantai.jiaodong");
    yantai
        .issue(&CertificateRequest::gateway(
            &"yantai.jiaodong".parse().unwrap(),
        ))
        .unwrap();
    let refused = scene.refusal(elsewhere.path(), "gateway").await;
    assert_eq!(refused, Some(CertificateFault::Untrusted));
    // A CA of another city that signs this city's name does not either.
    let forger = TempDir::new().unwrap();
    let forged = city(forger.path(), "qingdao.jiaodong");
    forged
        .issue(&CertificateRequest::gateway(
            &"qingdao.jiaodong".parse().unwrap(),
        ))
        .unwrap();
    let refused = scene.refusal(forger.path(), "gateway").await;
    assert_eq!(refused, Some(CertificateFault::Untrusted));
    assert_eq!(scene.refusal(scene.folder(), "gateway").await, None);
    // No TLS at all.
    let plain = Endpoint::from_shared(format!("http://{}", scene.address))
        .unwrap()
        .connect_lazy();
    assert!(
        HealthClient::new(plain)
            .check(HealthCheckRequest::default())
            .await
            .is_err()
    );
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_that_is_missing_or_reserved_is_refused() {
    let scene = Scene::start().await;
    let mut client = scene.gateway();
    let bare = client
        .verify_card(VerifyCardRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        reason(&bare),
        told(Code::InvalidArgument, "METADATA_INVALID", "banqiao")
    );
    let mut reserved = request(VerifyCardRequest::default(), WINDOW);
    reserved.metadata_mut().insert(
        MetadataKey::from_static("banqiao-to"),
        "370200".parse().unwrap(),
    );
    let reserved = client.verify_card(reserved).await.unwrap_err();
    assert_eq!(
        reason(&reserved),
        told(Code::InvalidArgument, "METADATA_RESERVED", "banqiao")
    );
    drop(client);
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_told_with_reason_field_and_rule() {
    let scene = Scene::start().await;
    let mut client = scene.gateway();
    let mut wrong = verify_request(&lines(1)[0].card.clone().unwrap());
    wrong.key.as_mut().unwrap().social_security_number = "370202199001010008".into();
    wrong.service_code = 99;
    let wrong = client
        .verify_card(request(wrong, WINDOW))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&wrong),
        told(Code::InvalidArgument, "FIELD_INVALID", "banqiao.card")
    );
    assert!(wrong.get_details_error_info().unwrap().metadata["exchange"].ends_with("/1"));
    let fields = wrong.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = fields
        .iter()
        .map(|fault| (fault.field.as_str(), fault.reason.as_str()))
        .collect();
    assert_eq!(
        fields,
        [
            ("key.social_security_number", "CITIZEN_ID_CHECK_DIGIT"),
            ("service_code", "SERVICE_CODE")
        ]
    );
    assert!(!wrong.message().contains("370202199001010008"));

    let foreign = client
        .import_cards(request(stream::iter(lines(1)), WINDOW))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&foreign),
        told(Code::PermissionDenied, "ISSUER_ONLY", "banqiao.card")
    );
    let mut sealed = lines(1)[0].card.clone().unwrap();
    sealed.social_state = CardState::Sealed.into();
    let line = ImportCardsRequest {
        line: 1,
        card: Some(sealed.clone()),
    };
    client
        .import_cards(request(stream::iter([line]), ISSUER))
        .await
        .unwrap();
    let sealed = client
        .report_loss(request(loss(&sealed, LossKind::Formal), WINDOW))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&sealed),
        told(
            Code::FailedPrecondition,
            "TRANSITION_NOT_ALLOWED",
            "banqiao.card"
        )
    );
    drop(client);
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_turns_health_ends_watches_and_finishes() {
    let scene = Scene::start().await;
    let channel = scene.channel(scene.folder(), "gateway");
    let service = "banqiao.card.v1.CardService".to_owned();
    let mut health = HealthClient::new(channel.clone());
    let mut states = health
        .watch(HealthCheckRequest { service })
        .await
        .unwrap()
        .into_inner();
    let state = states.message().await.unwrap().unwrap();
    assert_eq!(state.status(), ServingStatus::Serving);
    let mut client = CardServiceClient::new(channel);
    let watch = request(WatchCardStatesRequest::default(), WINDOW);
    let mut watch = client.watch_card_states(watch).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    scene.stop.cancel();
    let state = timeout(PATIENCE, states.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(state.status(), ServingStatus::NotServing);
    let ended = timeout(PATIENCE, watch.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        reason(&ended),
        told(Code::Unavailable, "DRAINING", "banqiao")
    );
    // What is open ends by itself, so that nobody waits for the limit.
    assert!(
        timeout(PATIENCE, states.message())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    let started = std::time::Instant::now();
    scene.stopped().await;
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "well before the drain limit of 15 s"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_reflections_name_the_service_and_keep_its_options() {
    use tonic_reflection::pb::{v1, v1alpha};
    let scene = Scene::start().await;
    let channel = scene.channel(scene.folder(), "gateway");
    let symbol = "banqiao.card.v1.CardService".to_owned();
    let message_request =
        v1::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.clone());
    let ask = v1::ServerReflectionRequest {
        message_request: Some(message_request),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client
        .server_reflection_info(stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1::server_reflection_response::MessageResponse::FileDescriptorResponse(files) = answer
    else {
        panic!("{answer:?}");
    };
    let title = "社会保障卡核验".as_bytes();
    assert!(
        files.file_descriptor_proto[0]
            .windows(title.len())
            .any(|window| window == title)
    );

    let message_request =
        v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(message_request),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client
        .server_reflection_info(stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer
    else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(names.contains(&symbol) && names.contains(&"grpc.health.v1.Health".to_owned()));
    drop((answers, client));
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_gateway_is_cut_off() {
    let scene = Scene::start().await;
    let mut client = scene.gateway();
    let watch = request(WatchCardStatesRequest::default(), WINDOW);
    let mut watch = client.watch_card_states(watch).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    scene
        .certificates
        .authority
        .revoke(
            "gateway",
            RevocationReason::KeyCompromise,
            DEFAULT_CRL_LIFETIME,
        )
        .unwrap();
    let cut = timeout(PATIENCE, watch.message()).await.unwrap();
    assert!(cut.is_err(), "{cut:?}");
    let refused = scene.refusal(scene.folder(), "gateway").await;
    assert_eq!(refused, Some(CertificateFault::Revoked));
    drop((watch, client));
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_at_once_are_few() {
    let scene = Scene::start().await;
    let mut open = Vec::new();
    let mut refused = None;
    // The third finds no place, whichever it is.
    for _ in 0..3 {
        let (line, sent) = tokio::sync::mpsc::channel(1);
        let mut client = scene.gateway();
        let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
        let call = TaskTracker::new()
            .spawn(async move { client.import_cards(request(sent, ISSUER)).await });
        // A second line is taken only by a call that goes on.
        for line_of in lines(2) {
            let _ = line.send(line_of).await;
        }
        open.push((line, call));
    }
    while refused.is_none() {
        let finished = open.iter().position(|(_, call)| call.is_finished());
        match finished {
            Some(at) => refused = Some(open.remove(at).1.await.unwrap().unwrap_err()),
            None => tokio::task::yield_now().await,
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        reason(&refused),
        told(Code::ResourceExhausted, "TOO_MANY_IMPORTS", "banqiao.card")
    );
    for (line, call) in open {
        drop(line);
        assert_eq!(call.await.unwrap().unwrap().into_inner().results.len(), 2);
    }
    scene.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_lines_are_not_held_at_once() {
    let scene = Scene::start().await;
    let mut client = scene.gateway();
    // One line again and again: nothing to store, so that the limit alone is what is met.
    let line = lines(1).remove(0);
    let endless = stream::iter(std::iter::repeat_n(
        ImportCardsRequest { card: None, ..line },
        250_000,
    ));
    let refused = client
        .import_cards(request(endless, ISSUER))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&refused),
        told(Code::ResourceExhausted, "IMPORT_TOO_LONG", "banqiao.card")
    );
    assert_eq!(scene.cards.store().poll_head().await.unwrap(), 0);
    drop(client);
    scene.stopped().await;
}
