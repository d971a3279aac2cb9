//! The restore drill: a backup under load, a lost database, a stale copy that is refused, and the way out.

use std::{fs, process::Output, process::Stdio};

use banqiao_proto::{exchange::v1::Reason, ledger::v1::Kind};
use banqiao_tests::{
    echo::EchoRequest,
    network::{City, Network, Plan, SYSTEM, set},
    process::program,
    wait::{PATIENCE, wait_until},
    wire::{Answer, Head},
};
use tokio::process::Command;
use toml::{Table, Value};

const ECHO: &str = "/example.echo.v1.EchoService/Echo";
const YANTAI: &str = "370600";

/// Runs the program in a gateway's folder, as its operator would.
async fn banqiao(city: &City, arguments: &[&str]) -> Output {
    Command::new(program("banqiao").unwrap())
        .args(arguments)
        .current_dir(&city.gateway().folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

async fn succeeds(city: &City, arguments: &[&str]) -> String {
    let output = banqiao(city, arguments).await;
    let told = String::from_utf8(output.stdout).unwrap();
    let faults = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {told}{faults}");
    told
}

async fn fails(city: &City, arguments: &[&str]) -> String {
    let output = banqiao(city, arguments).await;
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn call(city: &City) -> Answer {
    let caller = city.caller(SYSTEM).await.unwrap();
    let head = Head::new(ECHO, YANTAI);
    caller.unary(&head, &EchoRequest::default()).await.unwrap()
}

async fn size(city: &City) -> u64 {
    city.admin().status().await.unwrap().ledger_size
}

/// Until every other city has cosigned everything that the ledger holds.
async fn witnessed(city: &City, above: u64) {
    wait_until("cosignatures", PATIENCE, || async {
        let status = city.admin().status().await.unwrap();
        let all = status
            .witnesses
            .iter()
            .all(|witness| witness.cosigned_size > above);
        all && status.witnesses.len() == 2
    })
    .await
    .unwrap();
}

async fn version(city: &City, expected: u64) {
    wait_until("the directory", PATIENCE, || async {
        city.admin().status().await.unwrap().directory_version == expected
    })
    .await
    .unwrap();
}

/// Section of the first city in the directory to be signed next.
fn section(network: &mut Network) -> &mut Table {
    let cities = network.directory.document.get_mut("cities");
    let first = cities.and_then(Value::as_array_mut).unwrap().first_mut();
    first.and_then(Value::as_table_mut).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_ledger_is_followed_by_a_new_epoch_that_says_what_was_lost() {
    let (mut network, _service) = Network::echo_of(Plan::cities(3)).await.unwrap();
    let qingdao = &network.cities[0];
    for _ in 0..20 {
        assert_eq!(call(qingdao).await.code(), Some(0));
    }
    // While calls run.
    let calling = async {
        loop {
            assert_eq!(call(qingdao).await.code(), Some(0));
        }
    };
    let backup = [
        "backup",
        "--config",
        "gateway.toml",
        "-o",
        "copy",
        "--with-keys",
    ];
    let told = tokio::select! {
        told = succeeds(qingdao, &backup) => told,
        () = calling => unreachable!("it ends never"),
    };
    assert!(told.contains("verified"), "{told}");
    assert!(told.contains("WARNING"), "{told}");
    let keys = qingdao.gateway().folder.join("copy/month-keys");
    assert!(fs::read_dir(keys).unwrap().count() > 0);
    let refused = fails(qingdao, &backup).await;
    assert!(refused.contains("exists already"), "{refused}");

    // What comes now is in no backup, and the other cities have seen it.
    let before = size(qingdao).await;
    for _ in 0..5 {
        assert_eq!(call(qingdao).await.code(), Some(0));
    }
    witnessed(qingdao, before).await;

    // The disk is gone.
    network.cities[0].gateway_mut().kill().unwrap();
    let folder = network.cities[0].gateway().folder.clone();
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(folder.join(format!("gateway.db{ending}")));
    }
    let restore = [
        "restore",
        "copy",
        "--config",
        "gateway.toml",
        "--database",
        "sqlite://restored.db",
    ];
    let told = succeeds(&network.cities[0], &restore).await;
    assert!(told.contains("verified as a whole"), "{told}");
    let gateway = network.cities[0].gateway_mut();
    set(&mut gateway.config, "ledger.url", "sqlite://restored.db");
    gateway.write_config().unwrap();
    gateway.start().unwrap();
    let qingdao = &network.cities[0];
    wait_until("the alarm", PATIENCE, || async {
        let Ok(status) = qingdao.admin().status().await else {
            return false;
        };
        status
            .warnings
            .iter()
            .any(|warning| warning.contains("ALARM"))
    })
    .await
    .unwrap();
    assert_eq!(
        call(qingdao).await.reason(),
        Some(Reason::LedgerUnavailable)
    );

    // The way out is told, and does not go without the other cities.
    let told = succeeds(qingdao, &["recover", "--config", "gateway.toml"]).await;
    assert!(told.contains("LEDGER_ROLLBACK"), "{told}");
    let line = told
        .lines()
        .find(|line| line.contains("ledger.predecessor"))
        .unwrap();
    let predecessor: Table = line.trim().parse().unwrap();
    let predecessor = predecessor["ledger"]["predecessor"].clone();
    let lost_from = predecessor["size"].as_integer().unwrap();
    let made = [
        "pki",
        "note-key",
        "qingdao.jiaodong/ledger/2",
        "-o",
        "ledger-2.key",
    ];
    let told = succeeds(qingdao, &made).await;
    let key = told.lines().last().unwrap().trim().to_owned();
    let receipts = [[7_u8; 32], [9; 32]].map(hex::encode).join("\n");
    fs::write(folder.join("receipts"), receipts).unwrap();
    let begin = [
        "recover",
        "--config",
        "gateway.toml",
        "--new-epoch",
        "--database",
        "sqlite://epoch-2.db",
        "--signing-key",
        "ledger-2.key",
        "--receipts",
        "receipts",
    ];
    let refused = fails(qingdao, &begin).await;
    assert!(refused.contains("does not name"), "{refused}");
    assert!(!folder.join("epoch-2.db").exists());

    let next = network.directory.next(&network.signers(), 86_400);
    network.directory = next;
    let city = section(&mut network);
    set(city, "ledger.origin", "qingdao.jiaodong/ledger/2");
    set(city, "ledger.keys", vec![key.clone()]);
    // Another end than the one that Qingdao has signed.
    let mut other = predecessor.clone();
    other
        .as_table_mut()
        .unwrap()
        .insert("size".into(), (lost_from - 1).into());
    set(city, "ledger.predecessor", other);
    network.publish_file().unwrap();
    let refused = fails(&network.cities[0], &begin).await;
    assert!(refused.contains("does not name"), "{refused}");
    version(&network.cities[1], 2).await;

    network.directory = network.directory.next(&network.signers(), 86_400);
    set(section(&mut network), "ledger.predecessor", predecessor);
    network.publish_file().unwrap();
    for city in &network.cities[1..] {
        version(city, 3).await;
    }
    let restored = fs::read(folder.join("restored.db")).unwrap();
    let told = succeeds(&network.cities[0], &begin).await;
    assert!(told.contains("cites        2 receipts"), "{told}");
    let again = fails(&network.cities[0], &begin).await;
    assert!(again.contains("already holds"), "{again}");

    let gateway = network.cities[0].gateway_mut();
    gateway.kill().unwrap();
    assert_eq!(fs::read(folder.join("restored.db")).unwrap(), restored);
    set(&mut gateway.config, "ledger.url", "sqlite://epoch-2.db");
    set(&mut gateway.config, "ledger.epoch", 2);
    set(&mut gateway.config, "ledger.signing_key", "ledger-2.key");
    gateway.write_config().unwrap();
    gateway.restart().await.unwrap();
    let qingdao = &network.cities[0];
    assert_eq!(call(qingdao).await.code(), Some(0));
    let first = qingdao.admin().entries_from(0).await.unwrap().remove(0);
    assert_eq!(first.entry.kind(), Kind::Epoch);
    let epoch = first.entry.epoch.unwrap();
    assert_eq!((epoch.epoch, epoch.receipts.len()), (2, 2));
    assert_eq!(epoch.predecessor, "qingdao.jiaodong/ledger/1");
    assert!(epoch.lost >= 5, "{}", epoch.lost);
    let stated = format!("qingdao.jiaodong/ledger/1\n{lost_from}\n");
    assert!(
        epoch.checkpoint.starts_with(&stated),
        "{}",
        epoch.checkpoint
    );
    // The other cities' witnesses go on with it under its new origin.
    witnessed(qingdao, 1).await;
    let verify = [
        "audit",
        "verify",
        "--database",
        "sqlite://epoch-2.db",
        "--key",
        &key,
    ];
    let told = succeeds(qingdao, &verify).await;
    assert!(told.contains("valid: qingdao.jiaodong/ledger/2"), "{told}");
}
