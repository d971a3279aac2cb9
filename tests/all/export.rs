//! The whole log as a static tile tree: for auditors, in a folder that a program which is not ours verifies.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use banqiao_proto::ledger::v1::{EntryFilter, Kind};
use banqiao_tests::{
    admin::Role,
    echo::EchoRequest,
    network::{City, Network, SYSTEM},
    wait::{PATIENCE, wait_until},
    wire::Head,
};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    clients::{python, repository},
    commands::banqiao,
};

/// Each is refused, because nobody grants it, and is an entry.
async fn entries(network: &Network, count: usize) {
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    for _ in 0..count {
        let head = Head::new("/example.echo.v1.EchoService/Echo", "370600");
        caller.unary(&head, &EchoRequest::default()).await.unwrap();
    }
}

/// What a verifier that shares nothing with ours says of a folder.
async fn stranger(folder: &Path, network: &Network, city: &City) -> Value {
    let mut command = Command::new(python());
    command
        .arg(repository().join("tests/clients/python/log_verifier.py"))
        .arg(folder)
        .args(["--entries", "--log", &city.ledger.verifier()]);
    for other in &network.cities {
        if other.code != city.code {
            command.args(["--witness", &other.witness.verifier()]);
        }
    }
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The queries of the READ entries that exports left.
async fn reads(city: &City) -> Vec<String> {
    let filter = EntryFilter {
        kinds: vec![Kind::Read.into()],
        ..EntryFilter::default()
    };
    let found = city.admin().search(filter).await.unwrap();
    let queries = found.into_iter().filter_map(|record| record.entry.read);
    let queries = queries.map(|read| format!("{}: {}", read.shown, read.query));
    queries.filter(|query| query.contains(": log ")).collect()
}

/// Every file below a folder, with its mode.
fn modes(folder: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        found.push((path.clone(), mode));
        if path.is_dir() {
            modes(&path, found);
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    modes(folder, &mut found);
    let mut files: Vec<PathBuf> = found.into_iter().map(|found| found.0).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

#[tokio::test]
async fn exported_log_is_verified_by_a_stranger_and_gone_on_with() {
    let network = Network::start(2).await.unwrap();
    let qingdao = &network.cities[0];
    entries(&network, 300).await;
    let base = network.folder();
    let folder = base.join("export");
    let socket = format!("unix:{}", qingdao.admin().socket(Role::Auditor).display());
    let export = ["audit", "export", "--tiles", "export", "--admin", &socket];
    let key = qingdao.ledger.verifier();
    let verify = ["audit", "verify", "--tiles", "export", "--key", &key];

    wait_until("a published checkpoint", PATIENCE, || async {
        qingdao.admin().status().await.unwrap().witnessed_size > 256
    })
    .await
    .unwrap();
    let said = banqiao(base, &export).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains(" 0 kept, 1 cosignatures"), "{}", said.out);
    let report = stranger(&folder, &network, qingdao).await;
    assert!(report["size"].as_u64() > Some(256), "{report}");
    assert_eq!(report["entries"], report["size"], "{report}");
    assert_eq!(
        report["cosigned"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );
    let said = banqiao(base, &verify).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let mut found = vec![(
        folder.clone(),
        fs::metadata(&folder).unwrap().permissions().mode() & 0o7777,
    )];
    modes(&folder, &mut found);
    for (path, mode) in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    // One entry for each question, which says how many entries it showed.
    let size = report["size"].as_u64().unwrap();
    let read = reads(qingdao).await;
    let shown = format!("{size}: log 2 files, entries 0..{size}");
    assert_eq!(
        read.iter().filter(|it| **it == shown).count(),
        1,
        "{read:?}"
    );
    assert!((4..=9).contains(&read.len()), "{read:?}");

    // Whatever is changed, both say so.
    let wide = (size - 256).to_string();
    for file in [
        "checkpoint".to_owned(),
        "tile/0/000".to_owned(),
        "tile/1/000.p/1".to_owned(),
        "tile/entries/000".to_owned(),
        format!("tile/entries/001.p/{wide}"),
    ] {
        let path = folder.join(&file);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        bytes[20] ^= 1;
        for changed in [bytes, sound[..sound.len() - 1].to_vec()] {
            fs::write(&path, &changed).unwrap();
            let report = stranger(&folder, &network, qingdao).await;
            assert!(report["invalid"].is_string(), "{file}: {report}");
            let said = banqiao(base, &verify).await;
            assert_eq!(said.code, Some(1), "{file}: {}{}", said.out, said.err);
        }
        fs::write(&path, &sound).unwrap();
    }

    // An interrupted run, a damaged file and a longer log: what is right is kept.
    entries(&network, 10).await;
    fs::remove_file(folder.join("checkpoint")).unwrap();
    fs::write(folder.join("tile/.aside-left"), "half").unwrap();
    let kept = fs::metadata(folder.join("tile/0/000")).unwrap();
    let mut bytes = fs::read(folder.join("tile/entries/000")).unwrap();
    bytes[20] ^= 1;
    fs::write(folder.join("tile/entries/000"), bytes).unwrap();
    wait_until("a longer log that is whole", PATIENCE, || async {
        let said = banqiao(base, &export).await;
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        let report = stranger(&folder, &network, qingdao).await;
        assert!(report["invalid"].is_null(), "{report}");
        report["size"].as_u64() > Some(size + 10)
    })
    .await
    .unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let still = fs::metadata(folder.join("tile/0/000")).unwrap();
    assert_eq!(
        still.ino(),
        kept.ino(),
        "a full tile that was right was written again"
    );
    let left: Vec<PathBuf> = files(&folder);
    assert_eq!(left.len(), 6, "{left:?}");

    // The same without the gateway, and a folder of another log is left alone.
    let database = qingdao.gateway().folder.join("gateway.db");
    let url = format!("sqlite://{}", database.display());
    let direct = [
        "audit",
        "export",
        "--tiles",
        "direct",
        "--from-database",
        &url,
    ];
    let said = banqiao(base, &direct).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let report = stranger(&base.join("direct"), &network, qingdao).await;
    assert!(report["invalid"].is_null(), "{report}");
    let before = fs::read(folder.join("checkpoint")).unwrap();
    let socket = network.cities[1].admin().socket(Role::Auditor);
    let socket = format!("unix:{}", socket.display());
    // It has an entry, or it has no checkpoint.
    network.cities[1]
        .admin()
        .search(EntryFilter::default())
        .await
        .unwrap();
    wait_until("the other log's checkpoint", PATIENCE, || async {
        network.cities[1]
            .admin()
            .status()
            .await
            .unwrap()
            .witnessed_size
            > 0
    })
    .await
    .unwrap();
    let other = ["audit", "export", "--tiles", "export", "--admin", &socket];
    let said = banqiao(base, &other).await;
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(said.err.contains("holds another log"), "{}", said.err);
    assert_eq!(fs::read(folder.join("checkpoint")).unwrap(), before);
}

#[tokio::test]
async fn log_is_shown_to_auditors_alone_and_by_its_paths() {
    let network = Network::start(2).await.unwrap();
    let qingdao = &network.cities[0];
    let base = network.folder();
    for role in [Role::Operator, Role::Administrator] {
        let socket = format!("unix:{}", qingdao.admin().socket(role).display());
        let export = ["audit", "export", "--tiles", "export", "--admin", &socket];
        let said = banqiao(base, &export).await;
        assert_eq!(said.code, Some(77), "{}{}", said.out, said.err);
        assert!(!base.join("export").exists());
    }
    for wrong in [
        &["--from-database", "mysql://x/y", "--tiles", "x"][..],
        &["--from-database", "sqlite://a.db"],
        &["--tiles", "x", "-o", "y"],
        &["--tiles", "x", "--city", "370200"],
        &[],
    ] {
        let said = banqiao(base, &[&["audit", "export"][..], wrong].concat()).await;
        assert_eq!(said.code, Some(64), "{wrong:?}: {}{}", said.out, said.err);
    }
    let absent = [
        "--from-database",
        "sqlite:///nonexistent/ledger.db",
        "--tiles",
        "x",
    ];
    let said = banqiao(base, &[&["audit", "export"][..], &absent].concat()).await;
    assert_eq!(said.code, Some(69), "{}{}", said.out, said.err);
}
