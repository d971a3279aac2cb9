//! Evidence: one file proves one call offline, and no change of it passes.

use std::{collections::BTreeMap, fs, path::Path};

use banqiao_evidence::{Bundle, Link, Report, Standing, Verdict, names, verify};
use banqiao_ledger::digest::leaf_hash;
use banqiao_proto::ledger::v1::{Entry, Kind, PrivateOpening, PrivatePart, Receipt};
use banqiao_tests::{
    admin::{Role, grant},
    echo::{CollectRequest, ExpandRequest},
    network::{City, ECHO, Network, Plan, SYSTEM},
    service::Service,
    wait::{PATIENCE, wait_until},
    wire::{Answer, Caller, Head},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use uuid::Uuid;

use crate::{commands::banqiao, witnesses::go_says};

const CALL: &str = "/example.echo.v1.EchoService/Collect";
const STREAM: &str = "/example.echo.v1.EchoService/Expand";
const YANTAI: &str = "370600";

struct Scene {
    network: Network,
    _service: Service,
    caller: Caller,
}

impl Scene {
    /// Five cities: three of the four others are a quorum.
    async fn new() -> Self {
        let plan = Plan::cities(5).receipts_required();
        let (network, service) = Network::echo_of(plan).await.unwrap();
        let caller = network.cities[0].caller(SYSTEM).await.unwrap();
        Self {
            network,
            _service: service,
            caller,
        }
    }

    fn pin(&self) -> [u8; 32] {
        let mut pin = [0; 32];
        hex::decode_to_slice(self.network.directory.digest(), &mut pin).unwrap();
        pin
    }

    async fn call(&self) -> (Answer, Uuid) {
        let head = Head::new(CALL, YANTAI)
            .with("banqiao-operator", "synthetic-operator-9")
            .with("banqiao-case", "synthetic-case-9");
        let answer = self.caller.unary(&head, &hello()).await.unwrap();
        assert_eq!(answer.code(), Some(0), "{answer:?}");
        let (exchange, _) = answer.exchange().unwrap();
        (answer, exchange)
    }

    /// Evidence as an auditor of a city gets it, once everything is witnessed and linked.
    async fn evidence(&self, city: &City, exchange: Uuid, more: &[&str]) -> Bundle {
        let folder = self.network.folder();
        let socket = city.admin().socket(Role::Auditor);
        let socket = format!("unix:{}", socket.display());
        let exchange = exchange.to_string();
        let name = format!("{}.evidence", city.code);
        let path = folder.join(&name);
        let said = std::sync::Mutex::new(String::new());
        wait_until("evidence that lacks nothing", PATIENCE, || async {
            let _gone = fs::remove_file(&path);
            let mut arguments = vec!["audit", "evidence", &exchange, "-o", &name];
            arguments.extend_from_slice(&["--admin", &socket]);
            arguments.extend_from_slice(more);
            let made = banqiao(folder, &arguments).await;
            assert_eq!(made.code, Some(0), "{}{}", made.out, made.err);
            let bundle = Bundle::parse(&fs::read(&path).unwrap()).unwrap();
            let report = verify(&bundle, &self.pin(), &[]);
            *said.lock().unwrap() = format!("{}{report:#?}", made.out);
            bundle.made.lacking.is_empty() && report.verdict() == Verdict::Valid
        })
        .await
        .unwrap_or_else(|error| panic!("{error}: {}", said.lock().unwrap()));
        Bundle::parse(&fs::read(&path).unwrap()).unwrap()
    }
}

/// The answer is another message than the request.
fn hello() -> CollectRequest {
    CollectRequest {
        text: "hello".into(),
    }
}

fn has(report: &Report, standing: Standing, check: &str) -> bool {
    let mut findings = report.findings.iter();
    findings.any(|it| it.standing == standing && it.check == check)
}

async fn says(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let said = banqiao(folder, arguments).await;
    (said.code, said.out + &said.err)
}

/// The inclusion proofs of both cities, by a program that shares nothing with ours.
async fn a_stranger_agrees(scene: &Scene, city: &City, bundle: &Bundle) {
    let place = scene.network.folder().join("stranger.evidence");
    fs::write(&place, bundle.to_bytes().unwrap()).unwrap();
    for of in &scene.network.cities[..2] {
        let said = go_says("evidence", &place, of, &[]).await;
        assert!(said["proven"].as_u64() >= Some(2), "{said}");
    }
    let other = &scene.network.cities[2];
    let said = go_says("evidence", &place, other, &[]).await;
    assert!(said["invalid"].is_string(), "{said}");
    // None of an entry that was changed.
    let (name, ..) = name_of(bundle, city.code, Kind::Close);
    let changed = forge(bundle, |files| files.get_mut(&name).unwrap()[0] ^= 1);
    fs::write(&place, changed.to_bytes().unwrap()).unwrap();
    let said = go_says("evidence", &place, city, &[]).await;
    assert!(said["invalid"].is_string(), "{said}");
}

#[tokio::test]
async fn either_city_proves_a_call_with_one_file() {
    let scene = Scene::new().await;
    let (answer, exchange) = scene.call().await;
    let folder = scene.network.folder();
    let pin = scene.network.directory.digest();
    fs::write(folder.join("request.bin"), hello().encode_to_vec()).unwrap();
    fs::write(folder.join("response.bin"), &answer.messages[0].bytes).unwrap();
    fs::write(folder.join("other.bin"), b"something else").unwrap();

    for city in &scene.network.cities[..2] {
        let bundle = scene.evidence(city, exchange, &["--open-private"]).await;
        assert_eq!(bundle.made.by, city.code);
        let file = format!("{}.evidence", city.code);
        a_stranger_agrees(&scene, city, &bundle).await;
        let verified = says(
            folder,
            &[
                "verify",
                &file,
                "--pin",
                &pin,
                "--request",
                "request.bin",
                "--payload",
                "response.bin",
            ],
        )
        .await;
        assert_eq!(verified.0, Some(0), "{}", verified.1);
        for words in [
            "VALID: everything that is needed is proven",
            "both cities entered the same request",
            "both cities entered the same response",
            "cannot deny it",
            "was cosigned by",
            "the caller proved to be spiffe://qingdao.jiaodong/hospital/his",
            "request.bin is the request that was exchanged",
            "response.bin is the response that was exchanged",
            &format!(
                "the operator was synthetic-operator-9: the word of {}",
                city.code
            ),
        ] {
            assert!(verified.1.contains(words), "{words}: {}", verified.1);
        }
        if city.code == YANTAI {
            let words = "the consumer's city committed to the operator \"synthetic-operator-9\"";
            assert!(verified.1.contains(words), "{}", verified.1);
        }
        let wrong = ["verify", &file, "--pin", &pin, "--payload", "other.bin"];
        let wrong = says(folder, &wrong).await;
        assert_eq!(wrong.0, Some(1), "{}", wrong.1);
        assert!(wrong.1.contains("other.bin is not what was exchanged"));
        let swapped = ["verify", &file, "--pin", &pin, "--response", "request.bin"];
        assert_eq!(says(folder, &swapped).await.0, Some(1));
        let json = says(folder, &["verify", &file, "--pin", &pin, "--json"]).await;
        let report: serde_json::Value = serde_json::from_str(&json.1).unwrap();
        assert_eq!(report["verdict"], "valid");
    }

    // The same content is the same bytes.
    let bundle = Bundle::parse(&fs::read(folder.join("370200.evidence")).unwrap()).unwrap();
    assert_eq!(
        bundle.to_bytes().unwrap(),
        fs::read(folder.join("370200.evidence")).unwrap()
    );

    // Without the other city, what it gave during the call proves its side.
    let alone = scene
        .evidence(&scene.network.cities[0], exchange, &["--offline"])
        .await;
    assert!(alone.files().all(|(name, _)| !name.starts_with("370600/")));

    let socket = scene.network.cities[0].admin().socket(Role::Auditor);
    let socket = format!("unix:{}", socket.display());
    let json = folder.join("evidence.json");
    let made = [
        "audit",
        "evidence",
        &exchange.to_string(),
        "--json",
        "-o",
        "evidence.json",
        "--admin",
        &socket,
    ];
    assert_eq!(says(folder, &made).await.0, Some(0));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(json["manifest"]["exchange"], exchange.to_string());
}

#[tokio::test]
async fn a_stream_has_evidence_too() {
    let scene = Scene::new().await;
    let request = ExpandRequest {
        text: "again".into(),
        count: 7,
        ..ExpandRequest::default()
    };
    let head = Head::new(STREAM, YANTAI);
    let answer = scene.caller.unary(&head, &request).await.unwrap();
    let (exchange, _) = answer.exchange().unwrap();
    let bundle = scene
        .evidence(&scene.network.cities[0], exchange, &[])
        .await;
    let frames: Vec<u8> = answer
        .messages
        .iter()
        .flat_map(|message| message.frame().to_vec())
        .collect();
    let kept = banqiao_evidence::Payload {
        name: "frames".into(),
        kind: banqiao_evidence::PayloadKind::Response,
        bytes: frames,
    };
    let report = verify(&bundle, &scene.pin(), &[kept]);
    assert_eq!(report.verdict(), Verdict::Valid, "{report:#?}");
    assert!(has(&report, Standing::Proven, "payload"));
}

#[tokio::test]
async fn refused_calls_and_calls_within_a_city_have_evidence_too() {
    let scene = Scene::new().await;
    let qingdao = &scene.network.cities[0];
    let purpose = Head::new(CALL, YANTAI).set("banqiao-purpose", "medical-treatment");
    let refused = scene.caller.unary(&purpose, &hello()).await.unwrap();
    assert_ne!(refused.code(), Some(0));
    let (exchange, _) = refused.exchange().unwrap();
    let bundle = scene.evidence(qingdao, exchange, &[]).await;
    let (_, _, entry) = name_of(&bundle, YANTAI, Kind::Refused);
    assert_eq!(entry.purpose, "medical-treatment");
    let report = verify(&bundle, &scene.pin(), &[]);
    assert!(has(&report, Standing::Proven, "status"), "{report:#?}");

    let _own = qingdao.serve().await.unwrap();
    qingdao.register().await.unwrap();
    qingdao
        .grant(grant(&qingdao.id(SYSTEM), ECHO))
        .await
        .unwrap();
    let local = Head::new(CALL, "370200").with("banqiao-want-receipt", "1");
    let answer = scene.caller.unary(&local, &hello()).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    assert!(answer.last().contains_key("banqiao-receipt-bin"));
    let (exchange, _) = answer.exchange().unwrap();
    let bundle = scene.evidence(qingdao, exchange, &[]).await;
    let report = verify(&bundle, &scene.pin(), &[]);
    assert!(has(&report, Standing::Proven, "terms"), "{report:#?}");
    assert!(has(&report, Standing::Proven, "client"), "{report:#?}");
}

/// Changes a file and lists the change in its manifest, as a forger would.
fn forge(bundle: &Bundle, edit: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Bundle {
    let mut files: BTreeMap<String, Vec<u8>> = bundle
        .files()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect();
    edit(&mut files);
    Bundle::new(bundle.made.clone(), files)
}

fn name_of(bundle: &Bundle, city: &str, kind: Kind) -> (String, u64, Entry) {
    bundle
        .files()
        .filter(|(name, _)| name.starts_with(city))
        .find_map(|(name, bytes)| {
            let index = name
                .strip_suffix(".entry")?
                .rsplit('/')
                .next()?
                .parse()
                .ok()?;
            let entry = Entry::decode(bytes).unwrap();
            (entry.kind() == kind).then(|| (name.to_owned(), index, entry))
        })
        .unwrap()
}

type Edit<'a> = Box<dyn FnOnce(&mut BTreeMap<String, Vec<u8>>) + 'a>;

#[tokio::test]
async fn no_change_of_the_file_passes() {
    let scene = Scene::new().await;
    let (_, exchange) = scene.call().await;
    let (_, another) = scene.call().await;
    let [qingdao, yantai, ..] = scene.network.cities.as_slice() else {
        panic!("cities")
    };
    let bundle = scene.evidence(qingdao, exchange, &["--open-private"]).await;
    let other = scene.evidence(yantai, another, &[]).await;
    let pin = scene.pin();

    // Any byte of the file, where the manifest is left alone.
    let bytes = bundle.to_bytes().unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        match Bundle::parse(&changed) {
            Err(_) => refused += 1,
            // What the manifest says of the file itself proves nothing: it must not matter.
            Ok(parsed) => assert!(
                parsed == bundle
                    || verify(&parsed, &pin, &[]).exchange != exchange.to_string()
                    || parsed.made != bundle.made,
                "byte {at}"
            ),
        }
    }
    assert!(refused > bytes.len() / 97 * 8 / 10, "{refused}");

    let (ours, our_index, our_close) = name_of(&bundle, "370200", Kind::Close);
    let (theirs, their_index, their_close) = name_of(&bundle, YANTAI, Kind::Close);
    let receipt = names::receipt(&our_close.peer_receipt);
    let link = names::link(&our_close.peer_receipt);
    let proof = names::proof("370200", our_index);
    let their_proof = names::proof(YANTAI, their_index);
    let certificate = bundle
        .files()
        .map(|(name, _)| name.to_owned())
        .find(|name| name.starts_with("certificates/"))
        .unwrap();
    let crl = names::crl("qingdao.jiaodong");
    let (_, open_index, _) = name_of(&bundle, "370200", Kind::Open);
    let private = names::private("370200", open_index);
    // A fork of Yantai's that it signs itself: its entry says another status.
    let mut forked = their_close;
    forked.result.get_or_insert_default().status = 5;
    let forked = forked.encode_to_vec();
    let note = yantai.ledger.note(&format!(
        "{}\n1\n{}\n",
        yantai.ledger.name(),
        STANDARD.encode(leaf_hash(&forked))
    ));
    let stranger = scene.network.cities[2].credential("hospital/his").unwrap();

    let cases: Vec<(&str, Edit<'_>, Verdict, &str)> = vec![
        (
            "an edited entry",
            Box::new(|files| {
                let mut entry = our_close.clone();
                entry.purpose = "statistics".into();
                files.insert(ours.clone(), entry.encode_to_vec());
            }),
            Verdict::Invalid,
            "inclusion",
        ),
        (
            "an entry that is none",
            Box::new(|files| {
                files.insert(ours.clone(), b"hello".to_vec());
            }),
            Verdict::Invalid,
            "entry",
        ),
        (
            "entries at each other's places",
            Box::new(|files| {
                let (open, _, _) = name_of(&bundle, "370200", Kind::Open);
                let (a, b) = (files[&open].clone(), files[&ours].clone());
                files.insert(open, b);
                files.insert(ours.clone(), a);
            }),
            Verdict::Invalid,
            "inclusion",
        ),
        (
            "an entry under another city's name",
            Box::new(|files| {
                let entry = files.remove(&theirs).unwrap();
                let proof = files.remove(&their_proof).unwrap();
                files.insert(names::entry("370700", their_index), entry);
                files.insert(names::proof("370700", their_index), proof);
            }),
            Verdict::Invalid,
            "side",
        ),
        (
            "a side that its city was not on",
            Box::new(|files| {
                let mut entry = our_close.clone();
                let client = entry.client.get_or_insert_default();
                client.spiffe_id = "spiffe://yantai.jiaodong/hospital/his".into();
                files.insert(ours.clone(), entry.encode_to_vec());
            }),
            Verdict::Invalid,
            "side",
        ),
        (
            "a forked ledger that its own city signs",
            Box::new(|files| {
                let text = format!("c2sp.org/tlog-proof@v1\nindex 0\n\n{note}");
                files.remove(&theirs);
                files.remove(&their_proof);
                files.insert(names::entry(YANTAI, 0), forked.clone());
                files.insert(names::proof(YANTAI, 0), text.into_bytes());
            }),
            // The receipt that it gave says otherwise.
            Verdict::Invalid,
            "receipt",
        ),
        (
            "a proof without cosignatures",
            Box::new(|files| {
                let text = String::from_utf8(files[&proof].clone()).unwrap();
                let kept: Vec<_> = text
                    .lines()
                    .filter(|line| !line.contains("/witness "))
                    .collect();
                files.insert(proof.clone(), (kept.join("\n") + "\n").into_bytes());
            }),
            Verdict::Incomplete,
            "witnesses",
        ),
        (
            "a changed cosignature",
            Box::new(|files| {
                let text = String::from_utf8(files[&proof].clone()).unwrap();
                let at = text.rfind("/witness ").unwrap() + 40;
                let letter = if text.as_bytes()[at] == b'A' {
                    "B"
                } else {
                    "A"
                };
                let mut text = text;
                text.replace_range(at..=at, letter);
                files.insert(proof.clone(), text.into_bytes());
            }),
            Verdict::Invalid,
            "witnesses",
        ),
        (
            "the receipt of another call",
            Box::new(|files| {
                let (name, bytes) = other
                    .files()
                    .find(|(name, _)| name.ends_with(".receipt"))
                    .unwrap();
                assert_ne!(name, receipt);
                files.insert(receipt.clone(), bytes.to_vec());
            }),
            Verdict::Invalid,
            "receipt",
        ),
        (
            "a receipt that was altered",
            Box::new(|files| {
                let mut altered = Receipt::decode(files[&receipt].as_slice()).unwrap();
                altered.index += 1;
                files.insert(receipt.clone(), altered.encode_to_vec());
            }),
            Verdict::Invalid,
            "receipt",
        ),
        (
            "no receipt",
            Box::new(|files| {
                files.remove(&receipt);
            }),
            Verdict::Incomplete,
            "receipt",
        ),
        (
            "a link that leads elsewhere",
            Box::new(|files| {
                let mut altered = Link::parse(&files[&link]).unwrap();
                altered.old.root[0] ^= 1;
                files.insert(link.clone(), altered.to_string().into_bytes());
            }),
            Verdict::Invalid,
            "link",
        ),
        (
            "a swapped certificate",
            Box::new(|files| {
                files.insert(certificate.clone(), stranger.der());
            }),
            Verdict::Invalid,
            "client",
        ),
        (
            "no certificate",
            Box::new(|files| {
                files.remove(&certificate);
            }),
            Verdict::Incomplete,
            "client",
        ),
        (
            "another city's CRL",
            Box::new(|files| {
                let der = scene.network.cities[2].authority.crl(86_400).unwrap();
                files.insert(crl.clone(), der);
            }),
            Verdict::Incomplete,
            "client",
        ),
        (
            "another operator",
            Box::new(|files| {
                let mut opening = PrivateOpening::decode(files[&private].as_slice()).unwrap();
                let mut part = PrivatePart::decode(opening.content.as_slice()).unwrap();
                part.operator = "somebody-else".into();
                opening.content = part.encode_to_vec();
                files.insert(private.clone(), opening.encode_to_vec());
            }),
            Verdict::Invalid,
            "private",
        ),
        (
            "a directory that was altered",
            Box::new(|files| {
                let text = String::from_utf8(files[names::DIRECTORY].clone()).unwrap();
                let mut envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
                let payload = envelope["payload"].as_str().unwrap();
                let payload = String::from_utf8(STANDARD.decode(payload).unwrap()).unwrap();
                let changed = payload.replace("青岛", "济南");
                assert_ne!(payload, changed);
                envelope["payload"] = STANDARD.encode(changed).into();
                files.insert(
                    names::DIRECTORY.to_owned(),
                    envelope.to_string().into_bytes(),
                );
            }),
            Verdict::Invalid,
            "directory",
        ),
        (
            "no directory",
            Box::new(|files| {
                files.remove(names::DIRECTORY);
            }),
            Verdict::Incomplete,
            "directory",
        ),
    ];
    for (what, edit, verdict, check) in cases {
        println!("{what}");
        let forged = forge(&bundle, edit);
        let forged = Bundle::parse(&forged.to_bytes().unwrap()).unwrap();
        let report = verify(&forged, &pin, &[]);
        assert_eq!(report.verdict(), verdict, "{what}: {report:#?}");
        let standing = match verdict {
            Verdict::Invalid => Standing::Broken,
            _ => Standing::Missing,
        };
        assert!(has(&report, standing, check), "{what}: {report:#?}");
    }
    // Evidence of one call under the name of another, and trust that begins elsewhere.
    let mut renamed = bundle.clone();
    renamed.made.exchange = another.to_string();
    assert!(has(
        &verify(&renamed, &pin, &[]),
        Standing::Broken,
        "exchange"
    ));
    assert!(has(
        &verify(&bundle, &[7; 32], &[]),
        Standing::Broken,
        "directory"
    ));
}

#[tokio::test]
async fn a_client_checks_its_receipt_without_a_gateway() {
    let scene = Scene::new().await;
    let folder = scene.network.folder();
    let asked = Head::new(CALL, YANTAI).with("banqiao-want-receipt", "1");
    let answer = scene.caller.unary(&asked, &hello()).await.unwrap();
    let receipt = answer.last().get("banqiao-receipt-bin").unwrap();
    fs::write(folder.join("call.receipt"), receipt.as_bytes()).unwrap();
    let key = scene.network.cities[1].ledger.verifier();
    let verify = ["audit", "verify-receipt", "call.receipt", "--key"];
    let said = says(folder, &[&verify[..], &[&key]].concat()).await;
    assert_eq!(said.0, Some(0), "{}", said.1);
    assert!(
        said.1
            .contains("valid: the ledger yantai.jiaodong/ledger/1 holds this entry")
    );
    let by_directory = ["--directory", "directory.json", "--city", YANTAI];
    let said = says(folder, &[&verify[..3], &by_directory[..]].concat()).await;
    assert_eq!(said.0, Some(0), "{}", said.1);
    let foreign = scene.network.cities[0].ledger.verifier();
    let said = says(folder, &[&verify[..], &[&foreign]].concat()).await;
    assert_eq!(said.0, Some(1), "{}", said.1);
    assert!(said.1.contains("INVALID"), "{}", said.1);
}
