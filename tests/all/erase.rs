//! Erasure: two identities of two roles, a floor that only a statutory basis goes below, and a ledger that stays whole.

use std::fs;

use banqiao_proto::{
    exchange::v1::Trace,
    ledger::v1::{EntryFilter, Kind},
};
use banqiao_tests::{
    admin::{Role, grant},
    echo::DiscloseRequest,
    network::{Network, Plan, RULED, SYSTEM, free_address, set},
    wire::Head,
};
use toml::{Table, Value};
use uuid::Uuid;

use crate::commands::{Said, banqiao};

/// A synthetic number: its sequence is 000.
const NUMBER: &str = "370602198502020008";
const ADMINISTRATOR: &str = "bigdata/administrator";
const SECOND_ADMINISTRATOR: &str = "bigdata/deputy";
const AUDITOR: &str = "audit/auditor";

struct Scene {
    network: Network,
    _service: banqiao_tests::service::Service,
    target: String,
    exchange: Uuid,
}

impl Scene {
    /// Two cities; the ledger of the second holds a call about a person, and its admin listener has an address.
    async fn new() -> Self {
        let address = free_address().unwrap();
        let plan = Plan::cities(2).tweak(move |code, config: &mut Table| {
            if code != "370600" {
                return;
            }
            let id = |system: &str| format!("spiffe://yantai.jiaodong/{system}");
            let ids = |systems: &[&str]| systems.iter().map(|it| id(it)).collect::<Vec<_>>();
            set(config, "listeners.admin.address", address.to_string());
            let mut roles = Table::new();
            let administrators = ids(&[ADMINISTRATOR, SECOND_ADMINISTRATOR]);
            roles.insert("administrator".into(), Value::from(administrators));
            roles.insert("auditor".into(), Value::from(ids(&[AUDITOR])));
            set(config, "listeners.admin.roles", roles);
        });
        let network = plan.start().await.unwrap();
        let (qingdao, yantai) = (&network.cities[0], &network.cities[1]);
        let service = yantai.serve().await.unwrap();
        yantai.register().await.unwrap();
        let client = qingdao.id(SYSTEM);
        yantai.grant(grant(&client, RULED)).await.unwrap();
        let caller = qingdao.caller(SYSTEM).await.unwrap();
        let head = Head::new("/example.echo.v1.RuledService/Disclose", "370600");
        let request = DiscloseRequest {
            citizen: NUMBER.into(),
        };
        let answer = caller.unary(&head, &request).await.unwrap();
        assert_eq!(answer.code(), Some(0), "{answer:?}");
        let exchange = answer.exchange().unwrap().0;
        yantai
            .admin()
            .holds(exchange, Trace::OpenClose)
            .await
            .unwrap();
        let folder = network.folder();
        for (system, name) in [
            (ADMINISTRATOR, "administrator"),
            (SECOND_ADMINISTRATOR, "deputy"),
            (AUDITOR, "auditor"),
        ] {
            let credential = yantai.credential(system).unwrap();
            credential.write(folder, name).unwrap();
        }
        fs::write(folder.join("ca.crt"), yantai.authority.pem()).unwrap();
        fs::write(folder.join("number.txt"), NUMBER).unwrap();
        Self {
            network,
            _service: service,
            target: format!("https://{address}"),
            exchange,
        }
    }

    /// Runs a command at the second city's admin address as somebody.
    async fn run(&self, who: &str, arguments: &[&str]) -> Said {
        let (cert, key) = (format!("{who}.crt"), format!("{who}.key"));
        let mut line = arguments.to_vec();
        line.extend(["--admin", &self.target, "--cert", &cert, "--key", &key]);
        line.extend(["--ca", "ca.crt"]);
        banqiao(self.network.folder(), &line).await
    }

    async fn propose(&self, who: &str, basis: &str) -> Said {
        let mut line = vec!["audit", "erase", "propose", "--subject-file", "number.txt"];
        line.extend(["--request-number", "2026-17", "--basis", basis]);
        self.run(who, &line).await
    }

    /// Entries of the second city that a search by the person finds.
    async fn found(&self) -> usize {
        let filter = EntryFilter {
            subject: NUMBER.into(),
            ..EntryFilter::default()
        };
        let admin = self.network.cities[1].admin();
        admin.search(filter).await.unwrap().len()
    }
}

fn proposal(said: &Said) -> String {
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let id = said.out.split_whitespace().last().unwrap();
    assert!(id.parse::<Uuid>().is_ok(), "{}", said.out);
    id.to_owned()
}

fn refused(said: &Said, words: &str) {
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    assert!(said.err.contains(words), "{words}: {}", said.err);
}

#[tokio::test]
async fn private_parts_below_a_floor_go_on_a_basis_and_by_two_identities_only() {
    let scene = Scene::new().await;
    assert_eq!(scene.found().await, 2, "OPEN and CLOSE");

    // Below the floor without a basis: which floor, and until when.
    let said = scene.propose("administrator", "").await;
    refused(&said, "usage-records");
    let year = |said: &Said| said.err.contains("must be kept until 20");
    assert!(year(&said), "{}", said.err);
    // A basis does not name a person.
    refused(
        &scene
            .propose("administrator", &format!("statutory:{NUMBER}"))
            .await,
        "identity number",
    );
    // A socket is nobody in particular.
    let socket = scene.network.cities[1].admin().socket(Role::Auditor);
    let socket = format!("unix:{}", socket.display());
    let mut line = vec![
        "audit",
        "erase",
        "propose",
        "--index",
        "1",
        "--request-number",
        "1",
    ];
    line.extend(["--basis", "statutory:x", "--admin", &socket]);
    refused(
        &banqiao(scene.network.folder(), &line).await,
        "stands for nobody in particular",
    );

    let basis = "statutory:个人信息保护法 art. 47";
    let id = proposal(&scene.propose("administrator", basis).await);
    let approve = async |who: &str| scene.run(who, &["audit", "erase", "approve", &id]).await;
    refused(&approve("administrator").await, "your own proposal");
    refused(&approve("deputy").await, "the other one");
    assert_eq!(scene.found().await, 2, "a proposal erases nothing");
    let said = approve("auditor").await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("erased: 2 private parts"), "{}", said.out);
    refused(&approve("auditor").await, "no such proposal waits");

    // Gone: not found, not opened, and said so by an entry that names neither.
    assert_eq!(scene.found().await, 0);
    let yantai = &scene.network.cities[1];
    let records = yantai.admin().exchange(scene.exchange).await.unwrap();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.private.is_none()));
    let filter = EntryFilter {
        kinds: vec![Kind::Erase.into()],
        ..EntryFilter::default()
    };
    let entered = yantai.admin().search(filter).await.unwrap();
    let erase = entered[0].entry.erase.clone().unwrap();
    let indices: Vec<u64> = records.iter().map(|record| record.index).collect();
    assert_eq!((entered.len(), erase.indices), (1, indices));
    assert_eq!((erase.scope.as_str(), erase.private_parts), ("subject", 2));
    assert_eq!(erase.floors, ["network-logs", "usage-records"]);
    assert_eq!(erase.proposer, yantai.id(ADMINISTRATOR));
    assert_eq!(erase.approver, yantai.id(AUDITOR));
    assert_eq!(erase.basis, basis);

    // The other city's ledger is its own affair, and this one still verifies.
    let filter = EntryFilter {
        subject: NUMBER.into(),
        ..EntryFilter::default()
    };
    let theirs = scene.network.cities[0]
        .admin()
        .search(filter)
        .await
        .unwrap();
    assert_eq!(theirs.len(), 2);
    let folder = &yantai.gateway().folder;
    let key = yantai.ledger.verifier();
    let line = [
        "audit",
        "verify",
        "--database",
        "sqlite://gateway.db",
        "--key",
        &key,
    ];
    let verified = banqiao(folder, &line).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
}

#[tokio::test]
async fn proposals_are_listed_and_withdrawn_and_a_month_in_use_is_not_closed() {
    let scene = Scene::new().await;
    let id = proposal(&scene.propose("auditor", "statutory:x").await);
    let listed = scene.run("deputy", &["audit", "erase", "list"]).await;
    assert!(listed.out.contains(&id), "{}{}", listed.out, listed.err);
    assert!(listed.out.contains("usage-records") && !listed.out.contains(NUMBER));
    let said = scene
        .run("deputy", &["audit", "erase", "withdraw", &id])
        .await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let said = scene
        .run("deputy", &["audit", "erase", "approve", &id])
        .await;
    refused(&said, "no such proposal waits");
    assert_eq!(scene.found().await, 2);

    let month = {
        let time_us = scene.network.cities[1]
            .admin()
            .exchange(scene.exchange)
            .await
            .unwrap()[0]
            .entry
            .time_us;
        banqiao_ledger::Month::of(time_us).to_string()
    };
    let retire = async |month: &str| {
        let line = [
            "audit",
            "retire-month",
            month,
            "--request-number",
            "2026-18",
        ];
        scene.run("administrator", &line).await
    };
    refused(&retire(&month).await, "usage-records");
    refused(&retire("2019-07").await, "has no keys");
    refused(&retire("2019-13").await, "is a month");
}
