//! Invariant 8: rights are live. A revoked grant or certificate ends what rests on it within 2 s.

use std::time::{Duration, Instant};

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    admin::grant,
    echo::WatchRequest,
    network::{City, Network, RULED},
    wire::{Answer, Call, Caller, Head, Message},
};
use tokio::task::JoinSet;

const WATCH: &str = "/example.echo.v1.RuledService/Watch";
const LIMIT: Duration = Duration::from_secs(2);

async fn open(caller: &Caller) -> Call {
    let mut call = caller.open(&Head::new(WATCH, "370600")).await.unwrap();
    call.send(&Message::of(&WatchRequest {})).await.unwrap();
    call.finish();
    call
}

/// Waits until the stream has begun, revokes, and measures how long the stream goes on.
async fn ended_by(call: Call, revoke: impl Future<Output = ()>) -> (Duration, http::HeaderMap) {
    let (_request, _, mut messages) = call.headers().await.unwrap();
    assert!(
        messages.next().await.unwrap().is_some(),
        "the watch's first event"
    );
    revoke.await;
    let revoked = Instant::now();
    assert_eq!(messages.next().await.unwrap(), None);
    (
        revoked.elapsed(),
        messages.trailers().await.unwrap().unwrap(),
    )
}

fn reason(trailers: http::HeaderMap) -> Option<Reason> {
    let answer = Answer {
        http_status: 200,
        headers: http::HeaderMap::new(),
        messages: Vec::new(),
        trailers: Some(trailers),
        reset: None,
    };
    answer.reason()
}

/// A client that only these tests revoke.
async fn watcher(consumer: &City, provider: &City) -> (String, Caller) {
    let granted = provider
        .grant(grant(&consumer.id("hrss/watcher"), RULED))
        .await
        .unwrap();
    (granted.id, consumer.caller("hrss/watcher").await.unwrap())
}

#[tokio::test]
async fn revoked_grant_ends_its_streams() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let (id, caller) = watcher(qingdao, yantai).await;
    let call = open(&caller).await;
    let (took, trailers) =
        ended_by(call, async { yantai.admin().revoke(&id).await.unwrap() }).await;
    assert_eq!(reason(trailers), Some(Reason::GrantRevoked));
    assert!(took < LIMIT, "{took:?}");
    // And no new one begins.
    let answer = open(&caller).await.answer().await;
    assert_eq!(answer.reason(), Some(Reason::NotGranted));
}

#[tokio::test]
async fn grant_that_runs_out_ends_its_streams() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let mut short = grant(&qingdao.id("hrss/watcher"), RULED);
    short.not_after.as_mut().unwrap().seconds = banqiao_directory::Clock::system().now_s() + 3;
    yantai.grant(short).await.unwrap();
    let caller = qingdao.caller("hrss/watcher").await.unwrap();
    let call = open(&caller).await;
    let (took, trailers) = ended_by(call, async {}).await;
    assert_eq!(reason(trailers), Some(Reason::GrantRevoked));
    assert!(took < Duration::from_secs(3) + LIMIT, "{took:?}");
}

#[tokio::test]
async fn revoked_certificate_of_a_client_ends_its_streams() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    yantai
        .grant(grant(&qingdao.id("hrss/watcher"), RULED))
        .await
        .unwrap();
    let credential = qingdao.credential("hrss/watcher").unwrap();
    let tls = qingdao.authority.client(Some(&credential)).unwrap();
    let caller = Caller::connect(qingdao.gateway().client, tls.clone())
        .await
        .unwrap();
    let other = qingdao.caller("hrss/watcher").await.unwrap();
    let (call, kept) = (open(&caller).await, open(&other).await);
    let revoke = async {
        qingdao.authority.revoke(&credential);
        qingdao.publish_crl(86_400).unwrap();
        qingdao.admin().reload().await.unwrap();
    };
    let (took, trailers) = ended_by(call, revoke).await;
    assert_eq!(reason(trailers), Some(Reason::CertificateWithdrawn));
    assert!(took < LIMIT, "{took:?}");
    let refused = banqiao_tests::wire::alert(qingdao.gateway().client, tls)
        .await
        .unwrap();
    assert_eq!(refused, "certificate_revoked");
    // The same system with another certificate goes on.
    let (_request, _, mut messages) = kept.headers().await.unwrap();
    assert!(messages.next().await.unwrap().is_some());
    let answer = open(&other).await;
    assert!(
        answer
            .headers()
            .await
            .unwrap()
            .1
            .get("grpc-status")
            .is_none()
    );
}

#[tokio::test]
async fn revoked_certificate_of_a_peer_gateway_ends_the_streams_over_it() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let (_, caller) = watcher(qingdao, yantai).await;
    let call = open(&caller).await;
    let pem = std::fs::read_to_string(qingdao.gateway().folder.join("gateway.crt")).unwrap();
    let revoke = async {
        qingdao.authority.revoke_pem(&pem).unwrap();
        qingdao.publish_crl(86_400).unwrap();
        yantai.admin().reload().await.unwrap();
    };
    let (took, _trailers) = ended_by(call, revoke).await;
    assert!(took < LIMIT, "{took:?}");
    let answer = open(&caller).await.answer().await;
    assert_ne!(answer.code(), Some(0));
}

/// Of several readers of the grants at once, the one that read first must not have the last word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_hold_as_soon_as_they_are_answered() {
    let (network, _service) = Network::echo().await.unwrap();
    let provider = network.cities[1].gateway();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let wanted = grant(&network.cities[0].id(&format!("hrss/desk{task}")), RULED);
        let admin = provider.admin.clone();
        tasks.spawn(async move {
            for round in 0..25 {
                let granted = admin.grant(wanted.clone()).await.unwrap();
                let listed = admin.granted().await.unwrap();
                assert!(listed.contains(&granted.id), "{task}: {round}: not granted");
                admin.revoke(&granted.id).await.unwrap();
                let listed = admin.granted().await.unwrap();
                assert!(!listed.contains(&granted.id), "{task}: {round}: not ended");
            }
        });
    }
    tasks.join_all().await;
}
