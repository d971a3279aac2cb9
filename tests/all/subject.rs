//! Who read a person's data: each city tells it from its own ledger, and every such read is entered itself.

use std::{fs, net::SocketAddr};

use banqiao_proto::{
    exchange::v1::Trace,
    ledger::v1::{EntryFilter, Kind, ListAccessesRequest, SubjectNumber, subject_number::Number},
};
use banqiao_tests::{
    admin::{Role, grant},
    echo::DiscloseRequest,
    network::{Network, Plan, RULED, SYSTEM},
    wait::{PATIENCE, wait_until},
    wire::{Caller, Head},
};
use serde_json::Value;
use uuid::Uuid;

use crate::commands::{Said, banqiao};

const QINGDAO: &str = "370200";
const YANTAI: &str = "370600";
const WEIFANG: &str = "370700";
const OWN_SERVICE: &str = "banqiao.ledger.v1.SubjectService";
const AUDITS: &str = "audit/office";
/// Synthetic numbers: their sequence is 000.
const NUMBER: &str = "370602198502020008";
const OTHER: &str = "370202199001010007";

struct Scene {
    network: Network,
    _service: banqiao_tests::service::Service,
    grant_id: String,
    exchange: Uuid,
}

impl Scene {
    /// Three cities; a hospital of the first has read a record of the second.
    async fn new() -> Self {
        let network = Plan::cities(3).start().await.unwrap();
        let service = network.cities[1].serve().await.unwrap();
        network.cities[1].register().await.unwrap();
        let client = network.cities[0].id(SYSTEM);
        let given = network.cities[1]
            .grant(grant(&client, RULED))
            .await
            .unwrap();
        let caller = network.cities[0].caller(SYSTEM).await.unwrap();
        let head = Head::new("/example.echo.v1.RuledService/Disclose", YANTAI);
        let mut exchange = Uuid::nil();
        for number in [OTHER, NUMBER] {
            let request = DiscloseRequest {
                citizen: number.into(),
            };
            let answer = caller.unary(&head, &request).await.unwrap();
            assert_eq!(answer.code(), Some(0), "{answer:?}");
            exchange = answer.exchange().unwrap().0;
        }
        network.cities[0]
            .admin()
            .holds(exchange, Trace::OpenClose)
            .await
            .unwrap();
        let folder = network.folder();
        fs::write(folder.join("number.txt"), format!("{NUMBER}\n")).unwrap();
        let qingdao = &network.cities[0];
        let credential = qingdao.credential(AUDITS).unwrap();
        credential.write(folder, "audits").unwrap();
        fs::write(folder.join("ca.crt"), qingdao.authority.pem()).unwrap();
        Self {
            network,
            _service: service,
            grant_id: given.id,
            exchange,
        }
    }

    /// Lets the audit office of the first city ask a city for accesses.
    async fn grant_audit(&self, city: usize) {
        let mut wanted = grant(&self.network.cities[0].id(AUDITS), OWN_SERVICE);
        wanted.purposes = vec!["audit".to_owned()];
        self.network.cities[city].grant(wanted).await.unwrap();
    }

    async fn report(&self, more: &[&str]) -> Said {
        let socket = self.network.cities[0].admin().socket(Role::Auditor);
        let socket = format!("unix:{}", socket.display());
        let gateway = self.network.cities[0].gateway().client.to_string();
        let mut line = vec![
            "audit",
            "subject",
            "--file",
            "number.txt",
            "--admin",
            &socket,
        ];
        if !more.is_empty() {
            line.extend([
                "--via-gateway",
                &gateway,
                "--basis",
                "statutory:个人信息保护法 art. 45",
            ]);
            line.extend([
                "--cert",
                "audits.crt",
                "--key",
                "audits.key",
                "--ca",
                "ca.crt",
            ]);
            line.extend(more);
        }
        line.push("--json");
        banqiao(self.network.folder(), &line).await
    }

    /// The queries that a city's ledger holds as READ entries.
    async fn reads(&self, city: usize) -> Vec<(String, String, u64)> {
        let filter = EntryFilter {
            kinds: vec![Kind::Read.into()],
            ..EntryFilter::default()
        };
        let found = self.network.cities[city].admin().search(filter).await;
        let reads = found.unwrap().into_iter().filter_map(|it| it.entry.read);
        let reads = reads.filter(|read| read.query.starts_with("accesses"));
        reads
            .map(|read| (read.actor, read.query, read.shown))
            .collect()
    }
}

fn lines(said: &Said) -> Vec<Value> {
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// Calls of the ruled service in a report: exchange, ledger, grant.
fn calls(lines: &[Value]) -> Vec<(&str, &str, &str)> {
    let text = |line: &'static str| move |value: &Value| value[line].as_str().is_some();
    let calls = lines.iter().filter(|line| text("exchange")(line));
    let calls = calls.filter(|line| line["method"] == "/example.echo.v1.RuledService/Disclose");
    calls
        .map(|line| {
            (
                line["exchange"].as_str().unwrap(),
                line["ledger"].as_str().unwrap(),
                line["grant"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn every_city_tells_who_read_a_persons_data_and_each_such_read_is_an_entry() {
    let scene = Scene::new().await;
    let exchange = scene.exchange.to_string();

    // The own ledger: one call, and neither the other person's nor a word about the number.
    let own = scene.report(&[]).await;
    assert_eq!(own.code, Some(0), "{}{}", own.out, own.err);
    let told = lines(&own);
    assert_eq!(calls(&told), [(exchange.as_str(), QINGDAO, "")]);
    let access = &told[0];
    assert_eq!(access["client"], scene.network.cities[0].id(SYSTEM));
    assert_eq!(access["agency"], "hospital");
    assert_eq!(access["purpose"], "case-handling");
    assert_eq!(
        (&access["side"], &access["state"]),
        (&"consumer".into(), &"ended".into())
    );
    let silent: Vec<&str> = told
        .iter()
        .filter(|line| line["asked"] == false)
        .filter_map(|line| line["city"].as_str())
        .collect();
    assert_eq!(silent, [YANTAI, WEIFANG], "who was not asked is named");
    assert!(!own.out.contains(NUMBER) && !own.out.contains(OTHER));
    let reads = scene.reads(0).await;
    assert_eq!(
        reads,
        [(
            "socket:auditor".to_owned(),
            "accesses subject".to_owned(),
            1
        )]
    );

    // Other cities: a grant for the purpose audit, or a refusal that is shown.
    scene.grant_audit(1).await;
    let part = scene.report(&["--cities", "all"]).await;
    assert_eq!(part.code, Some(1), "{}{}", part.out, part.err);
    let told = lines(&part);
    let weifang = told.iter().find(|line| line["city"] == WEIFANG).unwrap();
    assert_eq!(weifang["whole"], false);

    scene.grant_audit(2).await;
    wait_until(
        "the service in the catalogue of each city",
        PATIENCE,
        || async { scene.report(&["--cities", "all"]).await.code == Some(0) },
    )
    .await
    .unwrap();
    let all = scene.report(&["--cities", "all"]).await;
    assert_eq!(all.code, Some(0), "{}{}", all.out, all.err);
    let told = lines(&all);
    assert_eq!(
        calls(&told),
        [
            (exchange.as_str(), QINGDAO, ""),
            (exchange.as_str(), YANTAI, scene.grant_id.as_str()),
        ],
        "the provider says by which grant"
    );
    assert!(!all.out.contains(NUMBER) && !all.out.contains(OTHER));
    // The reports are calls about that person themselves, and stand in the list.
    let own_service = format!("/{OWN_SERVICE}/ListAccesses");
    assert!(
        told.iter()
            .any(|line| line["method"] == own_service.as_str())
    );
    let reads = scene.reads(1).await;
    let (actor, query, shown) = reads.last().unwrap();
    assert_eq!(*actor, scene.network.cities[0].id(AUDITS));
    assert!(query.starts_with("accesses subject exchange="), "{query}");
    assert!(*shown >= 1 && !query.contains(NUMBER));

    // The gateway's own service lets nobody in but the gateway: not even a system of its own city.
    let yantai = &scene.network.cities[1];
    let status = yantai.admin().status().await.unwrap();
    let own = status.endpoints.iter().map(|it| it.address.as_str());
    let own = own.filter(|address| address.starts_with("127.0.0.1:"));
    let own: Vec<SocketAddr> = own.map(|address| address.parse().unwrap()).collect();
    assert_eq!(own.len(), 1, "{:?}", status.endpoints);
    let request = ListAccessesRequest {
        subject: Some(SubjectNumber {
            number: Some(Number::Citizen(NUMBER.into())),
        }),
        ..ListAccessesRequest::default()
    };
    let head =
        Head::new(&own_service, YANTAI).with("banqiao-client", "spiffe://yantai.jiaodong/x/y");
    let before = scene.reads(1).await.len();
    if let Ok(caller) = Caller::connect(own[0], yantai.tls(AUDITS).unwrap()).await {
        assert!(caller.unary(&head, &request).await.is_err());
    }
    assert_eq!(scene.reads(1).await.len(), before);

    // A city that is down is named.
    let mut scene = scene;
    scene.network.cities[2].gateway_mut().kill().unwrap();
    let down = scene.report(&["--cities", "all"]).await;
    assert_eq!(down.code, Some(1), "{}{}", down.out, down.err);
    let told = lines(&down);
    let city = |code: &str| {
        told.iter()
            .find(|line| line["city"] == code)
            .unwrap()
            .clone()
    };
    assert_eq!(city(YANTAI)["whole"], true);
    assert_eq!(city(WEIFANG)["whole"], false);
    assert!(
        city(WEIFANG)["problem"]
            .as_str()
            .is_some_and(|it| !it.is_empty())
    );
}

#[tokio::test]
async fn accesses_are_told_only_for_audit_and_never_by_a_number_on_the_command_line() {
    let scene = Scene::new().await;
    // Granted for another purpose, the method's own rule still refuses it.
    let wanted = grant(&scene.network.cities[0].id(AUDITS), OWN_SERVICE);
    let refused = scene.network.cities[1].grant(wanted).await;
    assert!(
        refused.is_err(),
        "a grant for another purpose than the method allows"
    );
    let said = banqiao(scene.network.folder(), &["audit", "subject", NUMBER]).await;
    assert_eq!(said.code, Some(64), "{}{}", said.out, said.err);
    let told = scene.report(&["--cities", YANTAI]).await;
    assert_eq!(
        told.code,
        Some(1),
        "without a grant: {}{}",
        told.out,
        told.err
    );
    assert!(told.out.contains("\"whole\":false"), "{}", told.out);
    assert_eq!(
        scene.reads(1).await,
        [],
        "what was refused has read nothing"
    );
}
