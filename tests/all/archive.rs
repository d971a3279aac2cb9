//! Old entries leave a gateway's database by one command, and its auditors find them as before.

use std::{fs, path::Path};

use banqiao_directory::Clock;
use banqiao_proto::ledger::v1::{EntryFilter, Kind};
use banqiao_tests::{
    admin::Role,
    network::{City, Network, Plan, set},
};
use jiff::{Timestamp, tz::Offset};
use serde_json::Value;

use crate::commands;

/// Entries of half a year, all older than 190 days.
const OLD: u64 = 21_000;
/// Whole segments of them but for the newest 8,192 entries of the ledger.
const ARCHIVED: u64 = 3 * 4_096;

/// Two cities, of which the first has had a gateway for a year.
async fn network() -> Network {
    let mut network = Plan::cities(2).lay_out().unwrap();
    let gateway = network.cities[0].gateway_mut();
    fs::create_dir(gateway.folder.join("archive")).unwrap();
    set(&mut gateway.config, "ledger.archive", "archive");
    gateway.write_config().unwrap();
    let entries = OLD.to_string();
    let line = [
        "audit",
        "generate",
        "--database",
        "sqlite://gateway.db",
        "--keys",
        "keys",
        "--signing-key",
        "ledger.key",
        "--origin",
        "qingdao.jiaodong/ledger/1",
        "--city",
        "370200",
        "--entries",
        &entries,
        "--from",
        "400d",
        "--until",
        "210d",
    ];
    let folder = gateway.folder.clone();
    let (code, said) = banqiao(&folder, &line).await;
    assert_eq!(code, Some(0), "{said}");
    network.run().await.unwrap();
    network
}

/// Exit code, and all that the program says.
async fn banqiao(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let said = commands::banqiao(folder, arguments).await;
    (said.code, format!("{}{}", said.out, said.err))
}

/// Runs the program in a gateway's folder with the socket of a role.
async fn run(city: &City, role: Role, arguments: &[&str]) -> (Option<i32>, String) {
    let socket = format!("unix:{}", city.admin().socket(role).display());
    let line = [arguments, &["--admin", &socket]].concat();
    banqiao(&city.gateway().folder, &line).await
}

async fn succeeds(city: &City, role: Role, arguments: &[&str]) -> String {
    let (code, said) = run(city, role, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

/// The date of so many days ago.
fn day(ago: i64) -> String {
    let us = Clock::system().now_us() - ago * 86_400_000_000;
    let time = Timestamp::from_microsecond(us).unwrap();
    Offset::UTC.to_datetime(time).date().to_string()
}

/// What an auditor sees of the old entries. Of a day, not of a time before now: asked again it is the same.
async fn seen(city: &City, [since, until]: [&str; 2]) -> Vec<String> {
    let mut seen = Vec::new();
    let search = ["audit", "search", "--json"];
    for more in [
        &["--until", "200d", "--limit", "3000", "--ascending"][..],
        &[
            "--until", "200d", "--limit", "40", "--city", "370600", "--kind", "close",
        ],
        &["--limit", "40", "--since", since, "--until", until],
        &[
            "--until",
            "200d",
            "--limit",
            "5",
            "--result",
            "refused",
            "--ascending",
        ],
    ] {
        seen.push(succeeds(city, Role::Auditor, &[&search[..], more].concat()).await);
    }
    let first: Value = serde_json::from_str(seen[1].lines().next().unwrap()).unwrap();
    let exchange = first["exchange"].as_str().unwrap();
    let show = ["audit", "show", exchange, "--json"];
    seen.push(succeeds(city, Role::Auditor, &show).await);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_are_archived_and_still_found() {
    let mut network = network().await;
    let qingdao = &network.cities[0];
    let (since, until) = (day(350), day(349));
    let before = seen(qingdao, [&since, &until]).await;
    let dry = succeeds(qingdao, Role::Operator, &["archive", "--dry-run"]).await;
    assert!(
        dry.contains("12288 entries would be archived, from index 0 to 12287"),
        "{dry}"
    );
    let (code, said) = run(qingdao, Role::Operator, &["archive", "--before", "10d"]).await;
    assert!(
        code != Some(0) && said.contains("the last 190 days stay"),
        "{said}"
    );
    let (code, said) = run(qingdao, Role::Auditor, &["archive"]).await;
    assert!(code != Some(0) && said.contains("ROLE_MISSING"), "{said}");
    let none = succeeds(qingdao, Role::Operator, &["archive", "--before", "399d"]).await;
    assert!(none.contains("nothing to archive"), "{none}");

    let said = succeeds(qingdao, Role::Operator, &["archive", "--json"]).await;
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["archived"], ARCHIVED);
    assert_eq!(told["dropped"], ARCHIVED);
    assert_eq!(seen(qingdao, [&since, &until]).await, before);
    let status = qingdao.admin().status().await.unwrap();
    assert_eq!(status.ledger_archived, ARCHIVED);
    let filter = EntryFilter {
        kinds: vec![Kind::Admin.into()],
        ..EntryFilter::default()
    };
    let changes = qingdao.admin().search(filter).await.unwrap();
    let change = changes
        .iter()
        .filter_map(|record| record.entry.admin.as_ref());
    let change: Vec<_> = change.filter(|it| it.action == "ledger.archive").collect();
    assert_eq!(change.len(), 1);
    assert_eq!(change[0].target, "0-12288");
    assert_eq!(change[0].actor, "socket:operator");
    sound(qingdao).await;

    // Who does not say where they are is told what to do, and what is young is read all the same.
    let gateway = network.cities[0].gateway_mut();
    gateway.config["ledger"]
        .as_table_mut()
        .unwrap()
        .remove("archive");
    gateway.write_config().unwrap();
    gateway.restart().await.unwrap();
    let qingdao = &network.cities[0];
    let old = ["audit", "search", "--since", "400d", "--until", "399d"];
    let (code, said) = run(qingdao, Role::Auditor, &old).await;
    assert!(
        code != Some(0) && said.contains("ledger.archive in the config"),
        "{said}"
    );
    succeeds(
        qingdao,
        Role::Auditor,
        &["audit", "search", "--since", "1h"],
    )
    .await;
    let (code, said) = run(qingdao, Role::Operator, &["archive"]).await;
    assert!(code != Some(0) && said.contains("has no archive"), "{said}");
}

/// Each way to verify what is in the database and what has left it.
async fn sound(city: &City) {
    let folder = &city.gateway().folder;
    let key = city.ledger.verifier();
    let verify = ["audit", "verify", "--key", &key];
    let database = ["--database", "sqlite://gateway.db"];
    let with = ["--archive", "archive"];
    let (code, said) = banqiao(folder, &[&verify[..], &database, &with].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = banqiao(folder, &[&verify[..], &database].concat()).await;
    assert!(
        code != Some(0) && said.contains("--archive on the command line"),
        "{said}"
    );
    let (code, said) = banqiao(folder, &[&verify[..], &["--tiles", "archive"]].concat()).await;
    assert!(code == Some(0) && said.contains("12288"), "{said}");
    // Through the gateway the whole log is exported, wherever it lies.
    let export = ["audit", "export", "--tiles", "export"];
    succeeds(city, Role::Auditor, &export).await;
    let (code, said) = banqiao(folder, &[&verify[..], &["--tiles", "export"]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    same_files(folder);
}

/// The archive has the bundles of the export.
fn same_files(folder: &Path) {
    for bundle in ["000", "047"] {
        let name = format!("tile/entries/{bundle}");
        let read = |tree: &str| fs::read(folder.join(tree).join(&name)).unwrap();
        assert!(read("archive") == read("export"), "{name}");
    }
    assert!(!folder.join("archive/tile/entries/048").exists());
}
