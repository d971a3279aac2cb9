//! What another city may read of this one's ledger: its own exchanges, with their proofs, and nothing private.

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{
        CompareDetail, CompareExchangesRequest, CompareExchangesResponse, Entry, GetEntriesRequest,
        GetEntriesResponse, Kind, Side,
    },
};
use banqiao_tests::{
    network::{City, Network, SYSTEM},
    wait::{PATIENCE, wait_until},
    wire::{Answer, Caller, Head},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use uuid::Uuid;

use super::{SECRETS, YANTAI, ok, plan, reads};

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    digest(&SHA256, &parts.concat()).as_ref().to_vec()
}

/// Root of the tree that a leaf lies in (RFC 9162 §2.1.3.2).
fn root(entry: &[u8], index: u64, size: u64, path: &[Vec<u8>]) -> Vec<u8> {
    let (mut place, mut last) = (index, size - 1);
    let mut hash = sha256(&[&[0], entry]);
    for node in path {
        if place & 1 == 1 || place == last {
            hash = sha256(&[&[1], node, &hash]);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = sha256(&[&[1], &hash, node]);
        }
        place >>= 1;
        last >>= 1;
    }
    assert_eq!(last, 0, "the path is too short");
    hash
}

fn service(method: &str) -> Head {
    Head::bare(&format!("/banqiao.ledger.v1.CounterpartyService/{method}"))
}

fn shows_no_secret(answer: &Answer, more: &[&str]) {
    for message in &answer.messages {
        for secret in SECRETS.iter().chain(more) {
            let bytes = message.bytes.windows(secret.len());
            assert!(
                bytes.into_iter().all(|part| part != secret.as_bytes()),
                "{secret} is on the wire"
            );
        }
    }
}

#[tokio::test]
async fn counterparty_gets_the_entries_of_its_own_exchanges_and_of_no_other() {
    let (network, _service) = Network::echo_of(plan(3, "1h")).await.unwrap();
    let [qingdao, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let exchange = ok(&caller).await;
    let asked = |id: Uuid, attempt| GetEntriesRequest {
        exchange_id: id.to_string(),
        attempt,
    };
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let answer = link
        .unary(&service("GetEntries"), &asked(exchange, 1))
        .await
        .unwrap();
    let told: GetEntriesResponse = answer.only().unwrap();
    shows_no_secret(&answer, &[]);
    let kinds: Vec<_> = told
        .entries
        .iter()
        .map(|proven| Entry::decode(proven.entry.as_slice()).unwrap())
        .map(|entry| (entry.kind(), entry.side(), entry.exchange))
        .collect();
    let id = exchange.as_bytes().to_vec();
    assert_eq!(
        kinds,
        [
            (Kind::Open, Side::Provider, id.clone()),
            (Kind::Close, Side::Provider, id)
        ]
    );
    // Each is in the tree of the checkpoint, which is the city's own.
    let lines: Vec<_> = told.checkpoint.lines().collect();
    assert_eq!(lines[0], yantai.ledger.name());
    let size: u64 = lines[1].parse().unwrap();
    for proven in &told.entries {
        let computed = root(&proven.entry, proven.index, size, &proven.inclusion);
        assert_eq!(STANDARD.encode(computed), lines[2]);
    }
    assert!(lines[4].starts_with(&format!("— {} ", yantai.ledger.name())));

    // Another attempt, another city's exchange and one that is not known are all the same.
    let other = weifang.as_gateway(yantai).await.unwrap();
    let mut answers = Vec::new();
    for (link, request) in [
        (&link, asked(exchange, 2)),
        (&other, asked(exchange, 0)),
        (&other, asked(Uuid::now_v7(), 0)),
    ] {
        let answer = link.unary(&service("GetEntries"), &request).await.unwrap();
        assert_eq!(answer.code(), Some(5), "{:?}", answer.grpc());
        answers.push(answer.grpc().unwrap().message().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");

    // In digests only, and again of its own exchanges only.
    let whole = CompareExchangesRequest {
        from_ms: 0,
        until_ms: 1 << 47,
        detail: CompareDetail::Records.into(),
        exchanges: Vec::new(),
    };
    let answer = link
        .unary(&service("CompareExchanges"), &whole)
        .await
        .unwrap();
    let names = [
        qingdao.id(SYSTEM),
        "EchoService".to_owned(),
        "case-handling".to_owned(),
    ];
    shows_no_secret(&answer, &[&names[0], &names[1], &names[2]]);
    let told = CompareExchangesResponse::decode(answer.messages[0].bytes.clone()).unwrap();
    assert_eq!((answer.messages.len(), answer.code()), (1, Some(0)));
    assert!(told.part.is_some());
    let answer = other
        .unary(&service("CompareExchanges"), &whole)
        .await
        .unwrap();
    assert_eq!((answer.messages.len(), answer.code()), (0, Some(0)));

    // A system is no counterparty, on neither listener.
    let tls = yantai
        .authority
        .client(Some(&qingdao.credential(SYSTEM).unwrap()))
        .unwrap();
    let system = Caller::connect(yantai.gateway().inter_city, tls)
        .await
        .unwrap();
    let answer = system
        .unary(&service("GetEntries"), &asked(exchange, 0))
        .await
        .unwrap();
    assert_eq!(answer.reason(), Some(Reason::IdentityNotAllowed));
    let through = Head::new(&service("GetEntries").path, YANTAI);
    let answer = caller.unary(&through, &asked(exchange, 0)).await.unwrap();
    assert_eq!(answer.reason(), Some(Reason::NotGranted));

    // Whatever was read, or asked for in vain, is an entry.
    let reads = reads(yantai).await;
    let by = |city: &City| {
        let actor = city.id("gateway");
        reads.iter().filter(|(by, _)| *by == actor).count()
    };
    assert_eq!((by(qingdao), by(weifang)), (3, 3), "{reads:?}");
    let query = format!("entries of {exchange}");
    assert!(reads.iter().any(|(_, asked)| *asked == query), "{reads:?}");
}

#[tokio::test]
async fn counterparty_that_reads_too_much_is_held() {
    let network = plan(2, "1h").start().await.unwrap();
    let link = network.cities[0]
        .as_gateway(&network.cities[1])
        .await
        .unwrap();
    let request = GetEntriesRequest {
        exchange_id: Uuid::now_v7().to_string(),
        attempt: 0,
    };
    wait_until("a refusal", PATIENCE, || async {
        let answer = link.unary(&service("GetEntries"), &request).await.unwrap();
        answer.reason() == Some(Reason::RateExceeded)
    })
    .await
    .unwrap();
}
