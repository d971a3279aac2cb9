//! The key of a ledger is replaced: the network goes on with the new one, and what the old one signed stays proven.

use std::{fs, path::Path};

use banqiao_evidence::{Bundle, Verdict, verify};
use banqiao_proto::ledger::v1::{EntryFilter, Kind};
use banqiao_tests::{
    admin::Role,
    directory::NoteKey,
    echo::CollectRequest,
    network::{City, Network, Plan, SYSTEM, set},
    wait::{PATIENCE, wait_until},
    wire::{Answer, Head},
};
use toml::{Table, Value};
use uuid::Uuid;

use crate::commands::banqiao;

const CALL: &str = "/example.echo.v1.EchoService/Collect";
const YANTAI: &str = "370600";

async fn call(city: &City) -> (Answer, Uuid) {
    let caller = city.caller(SYSTEM).await.unwrap();
    let head = Head::new(CALL, YANTAI).with("banqiao-want-receipt", "1");
    let request = CollectRequest {
        text: "hello".into(),
    };
    let answer = caller.unary(&head, &request).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    let exchange = answer.exchange().unwrap().0;
    (answer, exchange)
}

/// Evidence of an exchange, made anew until it lacks nothing and proves the call.
async fn evidence(network: &Network, pin: [u8; 32], exchange: Uuid, name: &str) -> Bundle {
    let folder = network.folder();
    let socket = network.cities[0].admin().socket(Role::Auditor);
    let socket = format!("unix:{}", socket.display());
    let exchange = exchange.to_string();
    let line = [
        "audit", "evidence", &exchange, "-o", name, "--admin", &socket,
    ];
    let last = std::sync::Mutex::new(String::new());
    wait_until("evidence that proves the call", PATIENCE, || async {
        let _gone = fs::remove_file(folder.join(name));
        let made = banqiao(folder, &line).await;
        assert_eq!(made.code, Some(0), "{}{}", made.out, made.err);
        let bundle = read(folder, name);
        let report = verify(&bundle, &pin, &[]);
        *last.lock().unwrap() = format!("{:?} {report:#?}", bundle.made.lacking);
        bundle.made.lacking.is_empty() && report.verdict() == Verdict::Valid
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {}", last.lock().unwrap()));
    read(folder, name)
}

fn read(folder: &Path, name: &str) -> Bundle {
    Bundle::parse(&fs::read(folder.join(name)).unwrap()).unwrap()
}

/// Signs a directory in which Yantai's ledger has these keys, and waits until every city goes by it.
async fn listed(network: &mut Network, keys: &[&NoteKey]) {
    network.directory = network.directory.next(&network.signers(), 86_400);
    let cities = network.directory.document.get_mut("cities");
    let yantai: &mut Table = cities
        .and_then(Value::as_array_mut)
        .and_then(|cities| cities[1].as_table_mut())
        .unwrap();
    let keys: Vec<_> = keys.iter().map(|key| key.verifier()).collect();
    set(yantai, "ledger.keys", keys);
    network.publish_file().unwrap();
    let version = u64::try_from(network.directory.version()).unwrap();
    for city in &network.cities {
        wait_until("the directory", PATIENCE, || async {
            city.admin().status().await.unwrap().directory_version == version
        })
        .await
        .unwrap();
    }
}

/// Exit code of `audit verify-receipt` for the receipt in an answer, by a key.
async fn receipt_is_by(folder: &Path, answer: &Answer, key: &NoteKey) -> bool {
    let receipt = answer.last().get("banqiao-receipt-bin").unwrap();
    fs::write(folder.join("call.receipt"), receipt.as_bytes()).unwrap();
    let key = key.verifier();
    let line = ["audit", "verify-receipt", "call.receipt", "--key", &key];
    banqiao(folder, &line).await.code == Some(0)
}

/// What `audit verify` says of Yantai's database by a key.
async fn verified_by(network: &Network, key: &NoteKey) -> (Option<i32>, serde_json::Value) {
    let file = network.cities[1].gateway().folder.join("gateway.db");
    let (url, key) = (format!("sqlite://{}", file.display()), key.verifier());
    let line = [
        "audit",
        "verify",
        "--json",
        "--database",
        &url,
        "--key",
        &key,
    ];
    let said = banqiao(network.folder(), &line).await;
    (said.code, serde_json::from_str(&said.out).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_goes_on_with_a_new_key_and_the_old_one_proves_what_it_signed() {
    let plan = Plan::cities(3).receipts_required();
    let (mut network, _service) = Network::echo_of(plan).await.unwrap();
    let mut pin = [0; 32];
    hex::decode_to_slice(network.directory.digest(), &mut pin).unwrap();
    let folder = network.folder().to_owned();
    let old = network.cities[1].ledger.again();
    let new = NoteKey::new(old.name(), 0x01).unwrap();
    let (answer, before) = call(&network.cities[0]).await;
    assert!(receipt_is_by(&folder, &answer, &old).await);
    let kept = evidence(&network, pin, before, "kept.evidence").await;

    // The directory lists both, and then the gateway signs with the new one.
    listed(&mut network, &[&old, &new]).await;
    let gateway = network.cities[1].gateway_mut();
    gateway.stop().await.unwrap();
    new.write(&gateway.folder.join("ledger-2.key")).unwrap();
    set(&mut gateway.config, "ledger.signing_key", "ledger-2.key");
    let previous = "ledger.previous_signing_key";
    set(&mut gateway.config, previous, "ledger.key");
    gateway.write_config().unwrap();
    gateway.restart().await.unwrap();
    let (answer, after) = call(&network.cities[0]).await;
    assert!(receipt_is_by(&folder, &answer, &new).await);
    assert!(!receipt_is_by(&folder, &answer, &old).await);
    let filter = EntryFilter {
        kinds: vec![Kind::Key.into()],
        ..EntryFilter::default()
    };
    let changes = network.cities[1].admin().search(filter).await.unwrap();
    let [change] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    let change = change.entry.key.as_ref().unwrap();
    assert_eq!(change.old_key, old.verifier());
    assert_eq!(change.new_key, new.verifier());
    // Its checkpoints are witnessed as before, and continue those by the old key.
    evidence(&network, pin, after, "after.evidence").await;
    evidence(&network, pin, before, "before.evidence").await;
    // The old key vouches for the new one, which vouches for nothing before it.
    let (code, report) = verified_by(&network, &old).await;
    assert_eq!(
        (code, &report["valid"]),
        (Some(0), &true.into()),
        "{report}"
    );
    let (code, report) = verified_by(&network, &new).await;
    assert_eq!(
        (code, &report["valid"]),
        (Some(1), &false.into()),
        "{report}"
    );

    // The old key is gone from the config and from the directory.
    listed(&mut network, &[&new]).await;
    let gateway = network.cities[1].gateway_mut();
    gateway.stop().await.unwrap();
    let ledger = gateway.config["ledger"].as_table_mut().unwrap();
    ledger.remove("previous_signing_key").unwrap();
    gateway.write_config().unwrap();
    gateway.restart().await.unwrap();
    let (_, last) = call(&network.cities[0]).await;
    for (exchange, name) in [(last, "last"), (after, "after"), (before, "before")] {
        evidence(&network, pin, exchange, &format!("{name}.evidence")).await;
    }
    let report = verify(&kept, &pin, &[]);
    assert_eq!(report.verdict(), Verdict::Valid, "{report:#?}");
    let (code, report) = verified_by(&network, &old).await;
    assert_eq!(code, Some(0), "{report}");
    // No city takes the change for another history.
    for city in &network.cities {
        let status = city.admin().status().await.unwrap();
        let alarm = status.warnings.iter().find(|it| it.contains("ALARM"));
        assert_eq!(alarm, None, "{}", city.name);
    }
}
