//! Receipts: no answer is released that the other city could later deny, and none that it could later change.

use std::sync::{Arc, Mutex};

use banqiao_ledger::{
    digest::{leaf_hash, sha256},
    receipt::{KnownCheckpoints, Proven, verify},
};
use banqiao_proto::{
    exchange::v1::{Reason, Trace},
    ledger::v1::{Entry, Kind, Receipt, Side},
};
use banqiao_tests::{
    admin::{Record, grant},
    authority::Authority,
    directory::NoteKey,
    echo::{EchoRequest, ExpandRequest},
    middle::{Change, Middle, Tampering},
    network::{City, ECHO, Network, Plan, RULED, SYSTEM, free_address, set},
    service::{Service, status},
    wait::{PATIENCE, wait_for},
    wire::{Answer, Caller, Head, Message},
};
use banqiao_tlog::note::Verifier;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;

use crate::witnesses::warned;

/// What the tests here provoke.
pub(crate) const PROVOKED: [Reason; 5] = [
    Reason::ReceiptMissing,
    Reason::ReceiptInvalid,
    Reason::ReceiptForeign,
    Reason::ReceiptStale,
    Reason::PrivatePartInvalid,
];

const UNARY: &str = "/example.echo.v1.EchoService/Echo";
const STREAM: &str = "/example.echo.v1.EchoService/Expand";
const YANTAI: &str = "370600";
const RECEIPT: &str = "banqiao-receipt-bin";
const PRIVATE: &str = "banqiao-private-bin";

/// Qingdao calls, Yantai provides; between them stands a gateway that may lie in either direction.
struct Scene {
    network: Network,
    _service: Service,
    middle: Middle,
    caller: Caller,
}

impl Scene {
    async fn new(plan: Plan) -> Self {
        // Where the real gateway listens; the directory names the other address.
        let real = free_address().unwrap();
        let plan = plan.tweak(move |code, config| {
            if code == YANTAI {
                set(config, "listeners.inter_city.address", real.to_string());
            }
        });
        let mut network = plan.lay_out().unwrap();
        let [qingdao, yantai, ..] = network.cities.as_slice() else {
            panic!("two cities")
        };
        let (ours, theirs) = (
            qingdao.credential("gateway").unwrap(),
            yantai.credential("gateway").unwrap(),
        );
        // A gateway of Qingdao towards Yantai's, one of Yantai's towards all others.
        let cities = network.cities.iter();
        let middle = Middle::start(
            yantai.gateway().inter_city,
            Authority::server_for(cities.map(|city| &city.authority), &theirs).unwrap(),
            real,
            yantai.authority.client(Some(&ours)).unwrap(),
        )
        .await
        .unwrap();
        network.run().await.unwrap();
        let yantai = &network.cities[1];
        let service = yantai.serve().await.unwrap();
        yantai.register().await.unwrap();
        let client = network.cities[0].id(SYSTEM);
        for service in [ECHO, RULED] {
            yantai.grant(grant(&client, service)).await.unwrap();
        }
        let caller = network.cities[0].caller(SYSTEM).await.unwrap();
        Self {
            network,
            _service: service,
            middle,
            caller,
        }
    }

    fn qingdao(&self) -> &City {
        &self.network.cities[0]
    }

    fn yantai(&self) -> &City {
        &self.network.cities[1]
    }

    async fn call(&self, tampering: Tampering) -> Answer {
        self.middle.tamper(tampering);
        let head = Head::new(UNARY, YANTAI).with("banqiao-operator", "synthetic-operator-9");
        let answer = self.caller.unary(&head, &hello()).await.unwrap();
        self.middle.tamper(Tampering::default());
        answer
    }

    /// A refused call, with what both ledgers hold of it.
    async fn refused(&self, what: &str, tampering: Tampering, reason: Reason) -> [Vec<Record>; 2] {
        println!("{what}");
        let answer = self.call(tampering).await;
        assert_eq!(answer.reason(), Some(reason), "{what}: {answer:?}");
        assert!(answer.messages.is_empty(), "{what}: nothing is released");
        let (exchange, _) = answer.exchange().unwrap();
        let consumer = self.qingdao().admin();
        let consumer = consumer.holds(exchange, Trace::OpenClose).await.unwrap();
        let provider = self.yantai().admin().exchange(exchange).await.unwrap();
        [consumer, provider]
    }
}

fn hello() -> EchoRequest {
    EchoRequest {
        text: "hello".into(),
        ..EchoRequest::default()
    }
}

fn receipt_of(headers: &HeaderMap) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(headers.get(RECEIPT)?).ok()
}

fn value(bytes: &[u8]) -> HeaderValue {
    STANDARD_NO_PAD.encode(bytes).parse().unwrap()
}

fn change(change: impl FnMut(&mut HeaderMap) + Send + 'static) -> Option<Change> {
    Some(Box::new(change))
}

/// Changes the receipt in a block that has one.
fn forge(mut forge: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static) -> Option<Change> {
    change(move |headers| {
        if let Some(receipt) = receipt_of(headers) {
            headers.insert(RECEIPT, value(&forge(receipt)));
        }
    })
}

fn remove(name: &'static str) -> Option<Change> {
    change(move |headers| {
        headers.remove(name);
    })
}

fn proven(city: &City, receipt: &[u8]) -> Proven {
    let verifier: Verifier = city.ledger.verifier().parse().unwrap();
    let known = KnownCheckpoints::new();
    verify(receipt, city.ledger.name(), || vec![verifier], &known).unwrap()
}

fn of_kind(records: &[Record], kind: Kind) -> &Entry {
    let mut found = records.iter().filter(|record| record.entry.kind() == kind);
    let record = found.next().expect("an entry of the kind");
    assert!(found.next().is_none(), "one entry of the kind");
    &record.entry
}

#[tokio::test]
async fn both_sides_name_each_others_receipts_and_a_client_gets_the_providers() {
    let (network, _service) = Network::echo_of(Plan::cities(2).receipts_required())
        .await
        .unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();

    let answer = caller
        .unary(&Head::new(UNARY, YANTAI), &hello())
        .await
        .unwrap();
    assert_eq!(answer.code(), Some(0));
    assert!(!answer.headers.contains_key(RECEIPT) && !answer.last().contains_key(RECEIPT));

    let asked = Head::new(UNARY, YANTAI)
        .with("banqiao-want-receipt", "1")
        .with("banqiao-operator", "synthetic-operator-9")
        .with("banqiao-case", "synthetic-case-9");
    let answer = caller.unary(&asked, &hello()).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    let receipt = receipt_of(answer.last()).expect("a receipt");
    assert!(receipt.len() <= 4_096);
    let closed = proven(yantai, &receipt);
    let (exchange, _) = answer.exchange().unwrap();
    assert_eq!(closed.entry.exchange, exchange.as_bytes());
    assert_eq!(
        (closed.entry.kind(), closed.entry.side()),
        (Kind::Close, Side::Provider)
    );

    let consumer = qingdao
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    let provider = yantai
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
    assert_eq!(*of_kind(&provider, Kind::Close), *closed.entry);
    let close = of_kind(&consumer, Kind::Close);
    assert_eq!(close.peer_receipt, sha256(&receipt));
    assert!(of_kind(&consumer, Kind::Open).peer_receipt.is_empty());
    let (theirs, close_there) = (
        of_kind(&provider, Kind::Open),
        of_kind(&provider, Kind::Close),
    );
    assert_eq!(theirs.peer_receipt.len(), 32);
    assert_eq!(theirs.peer_receipt, close_there.peer_receipt);
    assert_eq!(
        close_there.request.as_ref().unwrap().root,
        close.request.as_ref().unwrap().root
    );

    // The provider keeps what the consumer's entry commits to, beside its own.
    let opened = provider
        .iter()
        .find(|record| record.entry.kind() == Kind::Open);
    let private = opened.unwrap().private.clone().unwrap();
    let opening = private.peer.expect("the consumer's private part");
    let open = of_kind(&consumer, Kind::Open);
    let part = banqiao_ledger::check_opening(&open.private_commitment, &opening).unwrap();
    assert_eq!(
        (part.operator.as_str(), part.case_number.as_str()),
        ("synthetic-operator-9", "synthetic-case-9")
    );
}

#[tokio::test]
async fn refusals_and_streams_have_receipts_too() {
    let (network, service) = Network::echo_of(Plan::cities(2).receipts_required())
        .await
        .unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let wants = |path| Head::new(path, YANTAI).with("banqiao-want-receipt", "1");

    let purpose = wants(UNARY).set("banqiao-purpose", "medical-treatment");
    let answer = caller.unary(&purpose, &hello()).await.unwrap();
    assert_eq!(
        answer.reason(),
        Some(Reason::PurposeNotAllowed),
        "{answer:?}"
    );
    let refused = proven(yantai, &receipt_of(answer.last()).expect("a receipt"));
    assert_eq!(refused.entry.kind(), Kind::Refused);
    assert_eq!(refused.entry.peer_receipt.len(), 32);

    let request = ExpandRequest {
        text: "again".into(),
        count: 5,
        ..ExpandRequest::default()
    };
    let answer = caller.unary(&wants(STREAM), &request).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    assert!(!answer.headers.contains_key(RECEIPT));
    let closed = proven(yantai, &receipt_of(answer.last()).expect("a receipt"));
    let messages = u64::try_from(answer.messages.len()).unwrap();
    assert_eq!(closed.entry.response.as_ref().unwrap().count, messages);

    // A service that fails is an answer like others.
    service.script("fail", |mut call| async move {
        call.trailers_only(status(5, "synthetic"))
    });
    let failing = wants(UNARY).with("x-script", "fail");
    let answer = caller.unary(&failing, &hello()).await.unwrap();
    let closed = proven(yantai, &receipt_of(answer.last()).expect("a receipt"));
    let status = closed.entry.result.as_ref().unwrap().status;
    assert_eq!(Some(status), answer.code());
}

#[tokio::test]
async fn a_lie_of_the_providers_side_is_not_released() {
    let scene = Scene::new(Plan::cities(2).receipts_required()).await;
    // One that is genuine, and of another call.
    let old: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = Arc::clone(&old);
    let last = change(move |trailers| {
        *keep.lock().unwrap() = receipt_of(trailers).unwrap_or_default();
    });
    let honest = scene
        .call(Tampering {
            last,
            ..Tampering::default()
        })
        .await;
    assert_eq!(honest.code(), Some(0), "{honest:?}");
    let old = old.lock().unwrap().clone();
    proven(scene.yantai(), &old);

    let with_last = |last| Tampering {
        last,
        ..Tampering::default()
    };
    // What the city's own key could sign.
    let key = Arc::new(scene.yantai().ledger.again());
    let replayed = old.clone();
    let cases: Vec<(&str, Tampering, Reason)> = vec![
        (
            "no receipt",
            with_last(remove(RECEIPT)),
            Reason::ReceiptMissing,
        ),
        (
            "no base64",
            with_last(change(|trailers| {
                trailers.insert(RECEIPT, HeaderValue::from_static("!"));
            })),
            Reason::ReceiptInvalid,
        ),
        (
            "a changed entry",
            with_last(forge(|receipt| {
                let mut receipt = Receipt::decode(&*receipt).unwrap();
                let mut entry = Entry::decode(&*receipt.entry).unwrap();
                entry.purpose = "statistics".into();
                receipt.entry = entry.encode_to_vec();
                receipt.encode_to_vec()
            })),
            Reason::ReceiptInvalid,
        ),
        (
            "a changed proof",
            with_last(forge(|receipt| {
                let mut receipt = Receipt::decode(&*receipt).unwrap();
                receipt.inclusion_path[7] ^= 1;
                receipt.encode_to_vec()
            })),
            Reason::ReceiptInvalid,
        ),
        (
            "a changed signature",
            with_last(forge(|receipt| {
                let mut receipt = Receipt::decode(&*receipt).unwrap();
                let at = receipt.checkpoint.len() - 12;
                let letter = if receipt.checkpoint.as_bytes()[at] == b'A' {
                    "B"
                } else {
                    "A"
                };
                receipt.checkpoint.replace_range(at..=at, letter);
                receipt.encode_to_vec()
            })),
            Reason::ReceiptInvalid,
        ),
        (
            "the receipt of another call",
            with_last(forge(move |_| replayed.clone())),
            Reason::ReceiptForeign,
        ),
        (
            "a receipt that leaves the answer open",
            with_last(forge({
                let key = Arc::clone(&key);
                move |receipt| signed_anew(&key, &receipt, |entry| entry.response = None)
            })),
            Reason::ReceiptForeign,
        ),
        (
            "a receipt that leaves the request open",
            with_last(forge({
                let key = Arc::clone(&key);
                move |receipt| {
                    signed_anew(&key, &receipt, |entry| {
                        entry.request.get_or_insert_default().complete = false;
                    })
                }
            })),
            Reason::ReceiptForeign,
        ),
        (
            "an hour ago by a clock that claims to be anything",
            with_last(forge({
                let key = Arc::clone(&key);
                move |receipt| {
                    signed_anew(&key, &receipt, |entry| {
                        entry.time_us -= 3_600_000_000;
                        entry.clock.get_or_insert_default().error_bound_us = u64::MAX;
                    })
                }
            })),
            Reason::ReceiptStale,
        ),
        (
            "another answer",
            Tampering {
                response_body: Some(Box::new(flipped)),
                ..Tampering::default()
            },
            Reason::ReceiptForeign,
        ),
        (
            "an answer turned into an error",
            with_last(change(|trailers| {
                trailers.insert("grpc-status", HeaderValue::from_static("5"));
            })),
            Reason::ReceiptForeign,
        ),
    ];
    for (what, tampering, reason) in cases {
        let [consumer, provider] = scene.refused(what, tampering, reason).await;
        let close = of_kind(&consumer, Kind::Close);
        assert_eq!(close.result.as_ref().unwrap().reason(), reason, "{what}");
        let kept = !matches!(what, "no receipt" | "no base64");
        assert_eq!(!close.peer_receipt.is_empty(), kept, "{what}: it is kept");
        assert_eq!(
            of_kind(&provider, Kind::Close)
                .result
                .as_ref()
                .unwrap()
                .status,
            0
        );
    }

    // Two statuses are none, and data beside an error without a receipt does not pass.
    let two = scene
        .call(Tampering {
            last: change(|trailers| {
                trailers.remove(RECEIPT);
                trailers.insert("grpc-status", HeaderValue::from_static("5"));
                trailers.append("grpc-status", HeaderValue::from_static("0"));
            }),
            ..Tampering::default()
        })
        .await;
    assert_eq!(two.reason(), Some(Reason::UpstreamFailed), "{two:?}");
    assert!(two.messages.is_empty());
    let data = scene
        .call(Tampering {
            last: change(|trailers| {
                trailers.remove(RECEIPT);
                trailers.insert("grpc-status", HeaderValue::from_static("5"));
            }),
            ..Tampering::default()
        })
        .await;
    assert_eq!(data.code(), Some(5), "{data:?}");
    assert!(data.messages.is_empty(), "{data:?}");

    // An honest error without a receipt keeps its cause.
    let error = scene
        .call(Tampering {
            request: change(|headers| {
                headers.insert("banqiao-purpose", HeaderValue::from_static("nothing-known"));
            }),
            last: remove(RECEIPT),
            ..Tampering::default()
        })
        .await;
    assert_eq!(error.reason(), Some(Reason::PurposeNotAllowed), "{error:?}");
}

/// The last byte of a body's chunk is another.
fn flipped(chunk: Bytes) -> Bytes {
    let mut bytes = chunk.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

#[tokio::test]
async fn a_lie_of_the_consumers_side_does_not_reach_the_service() {
    let scene = Scene::new(Plan::cities(2).receipts_required()).await;
    let old: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = Arc::clone(&old);
    let honest = Tampering {
        request: change(move |headers| {
            *keep.lock().unwrap() = receipt_of(headers).unwrap_or_default();
        }),
        ..Tampering::default()
    };
    assert_eq!(scene.call(honest).await.code(), Some(0));
    let replayed = old.lock().unwrap().clone();
    proven(scene.qingdao(), &replayed);

    let with_request = |request| Tampering {
        request,
        ..Tampering::default()
    };
    let cases: Vec<(&str, Tampering, Reason)> = vec![
        (
            "no receipt",
            with_request(remove(RECEIPT)),
            Reason::ReceiptMissing,
        ),
        (
            "a changed receipt",
            with_request(forge(|mut receipt| {
                receipt[40] ^= 1;
                receipt
            })),
            Reason::ReceiptInvalid,
        ),
        (
            "the receipt of another call",
            with_request(forge(move |_| replayed.clone())),
            Reason::ReceiptForeign,
        ),
        (
            "another request",
            Tampering {
                request_body: Some(Box::new(flipped)),
                ..Tampering::default()
            },
            Reason::ReceiptForeign,
        ),
        (
            "another basis",
            with_request(change(|headers| {
                headers.insert("banqiao-basis", HeaderValue::from_static("emergency"));
            })),
            Reason::ReceiptForeign,
        ),
        (
            "no private part",
            with_request(remove(PRIVATE)),
            Reason::PrivatePartInvalid,
        ),
        (
            "a changed private part",
            with_request(change(|headers| {
                let mut opening = STANDARD_NO_PAD.decode(&headers[PRIVATE]).unwrap();
                *opening.last_mut().unwrap() ^= 1;
                headers.insert(PRIVATE, value(&opening));
            })),
            Reason::PrivatePartInvalid,
        ),
        (
            "another operator",
            with_request(change(|headers| {
                headers.insert(
                    "banqiao-operator",
                    HeaderValue::from_static("somebody-else"),
                );
            })),
            Reason::PrivatePartInvalid,
        ),
    ];
    for (what, tampering, reason) in cases {
        let [consumer, provider] = scene.refused(what, tampering, reason).await;
        assert_eq!(provider.len(), 1, "{what}: {provider:?}");
        let refused = of_kind(&provider, Kind::Refused);
        assert_eq!(
            refused.decision.as_ref().unwrap().reason(),
            reason,
            "{what}"
        );
        let kept = what != "no receipt";
        assert_eq!(!refused.peer_receipt.is_empty(), kept, "{what}: it is kept");
        let close = of_kind(&consumer, Kind::Close);
        assert_eq!(
            close.result.as_ref().unwrap().peer_reason(),
            reason,
            "{what}"
        );
    }
}

#[tokio::test]
async fn cities_that_do_not_demand_receipts_do_without() {
    let scene = Scene::new(Plan::cities(2)).await;
    // As between gateways of which one is older.
    let answer = scene
        .call(Tampering {
            request: change(|headers| {
                headers.remove(RECEIPT);
                headers.remove(PRIVATE);
            }),
            last: remove(RECEIPT),
            ..Tampering::default()
        })
        .await;
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    let (exchange, _) = answer.exchange().unwrap();
    for city in [scene.qingdao(), scene.yantai()] {
        let held = city
            .admin()
            .holds(exchange, Trace::OpenClose)
            .await
            .unwrap();
        assert!(
            held.iter()
                .all(|record| record.entry.peer_receipt.is_empty())
        );
    }
    // What comes is verified all the same.
    let reason = Reason::ReceiptInvalid;
    let last = forge(|mut receipt| {
        receipt[40] ^= 1;
        receipt
    });
    let tampering = Tampering {
        last,
        ..Tampering::default()
    };
    scene.refused("a changed receipt", tampering, reason).await;
}

/// A receipt that the city's own key signs, of a ledger that nobody has seen: one entry, alone in its tree.
fn forked(city: &City, receipt: &[u8], edit: impl FnOnce(&mut Entry)) -> Vec<u8> {
    signed_anew(&city.ledger, receipt, edit)
}

fn signed_anew(key: &NoteKey, receipt: &[u8], edit: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut receipt = Receipt::decode(receipt).unwrap();
    let mut entry = Entry::decode(&*receipt.entry).unwrap();
    edit(&mut entry);
    receipt.entry = entry.encode_to_vec();
    let root = leaf_hash(&receipt.entry);
    let root = base64::engine::general_purpose::STANDARD.encode(root);
    let origin = key.name();
    receipt.index = 0;
    receipt.inclusion_path = Vec::new();
    receipt.checkpoint = key.note(&format!("{origin}\n1\n{root}\n"));
    receipt.encode_to_vec()
}

#[tokio::test]
async fn receipts_of_a_private_fork_and_of_another_time_are_found() {
    let plan = Plan::cities(3).receipts_required().tweak(|_, config| {
        set(config, "ledger.monitor_interval", "1s");
    });
    let scene = Arc::new(Scene::new(plan).await);
    let shared = Arc::clone(&scene);
    let hour_ago = forge(move |receipt| {
        forked(shared.yantai(), &receipt, |entry| {
            entry.time_us -= 3_600_000_000;
        })
    });
    let tampering = Tampering {
        last: hour_ago,
        ..Tampering::default()
    };
    scene
        .refused("an hour ago", tampering, Reason::ReceiptStale)
        .await;

    // Nothing in hand tells a fork: the answer is released, and the links to what witnesses saw find it.
    let shared = Arc::clone(&scene);
    let fork = forge(move |receipt| forked(shared.yantai(), &receipt, |_| {}));
    let answer = scene
        .call(Tampering {
            last: fork,
            ..Tampering::default()
        })
        .await;
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    let (exchange, _) = answer.exchange().unwrap();
    let ledger = scene.qingdao().admin();
    ledger.holds(exchange, Trace::OpenClose).await.unwrap();
    // Killed before the receipt is linked: it stands beside its entry, and is linked by whoever comes next.
    let mut scene = Arc::into_inner(scene).expect("nothing tampers any more");
    let gateway = scene.network.cities[0].gateway_mut();
    gateway.kill().unwrap();
    gateway.restart().await.unwrap();
    let signed = "ALARM: 370600 has signed two histories";
    warned(scene.qingdao(), signed).await;
    let metrics = scene.qingdao().gateway().metrics().await.unwrap();
    let counted = metrics
        .lines()
        .any(|line| line.starts_with("banqiao_ledger_alarms_total{") && line.contains("peer_fork"));
    assert!(counted, "{metrics}");
    // Both notes are at hand for whoever has to be shown them.
    let status = scene.qingdao().admin().status().await.unwrap();
    let forked = status.peer_ledgers.iter().find(|ledger| ledger.forked);
    let notes = &forked.unwrap().contradicting_checkpoints;
    assert_eq!(notes.len(), 2, "{status:?}");
    assert_ne!(notes[0], notes[1]);
    // A city that never saw the receipt proves it for itself.
    warned(&scene.network.cities[2], signed).await;
}

#[tokio::test]
async fn receipts_are_linked_to_what_witnesses_saw() {
    let (network, _service) = Network::echo_of(Plan::cities(3).receipts_required())
        .await
        .unwrap();
    let qingdao = &network.cities[0];
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let many: Vec<Message> = vec![Message::of(&hello())];
    for _ in 0..20 {
        let answer = caller
            .exchange(&Head::new(UNARY, YANTAI), &many)
            .await
            .unwrap();
        assert_eq!(answer.code(), Some(0));
    }
    let linked = wait_for("links", PATIENCE, || async {
        let metrics = qingdao.gateway().metrics().await.unwrap();
        let line = metrics.lines().find(|line| {
            line.starts_with("banqiao_receipts_total") && line.contains("\"linked\"")
        })?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    })
    .await
    .unwrap();
    assert!(linked >= 1.0);
    let status = qingdao.admin().status().await.unwrap();
    let yantai = status.peer_ledgers.iter().find(|peer| peer.city == YANTAI);
    assert!(yantai.unwrap().linked_size > 0, "{status:?}");
}
