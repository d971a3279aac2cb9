//! Clients that share no code with the gateways: grpcio, grpc-js, grpcurl.
//!
//! tests/run installs them and says where; without it they are looked for where it would have put them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use banqiao_tests::{
    ECHO_SET,
    admin::grant,
    network::{CARD, City, ECHO, Network, Plan, RULED, SYSTEM},
    process::Process,
    wait::{PATIENCE, wait_until},
};
use serde_json::Value;
use tokio::{net::TcpStream, process::Command, time::timeout};

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn repository() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .parent()
        .unwrap()
        .to_owned()
}

/// A tool that tests/run installs.
fn tool(variable: &str, in_cache: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let cache =
            std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        cache.join("banqiao").join(in_cache)
    });
    assert!(
        path.exists(),
        "{} is missing: run `tests/run tools`",
        path.display()
    );
    path
}

pub(crate) fn python() -> PathBuf {
    tool("BANQIAO_PYTHON", "venv/bin/python")
}

/// The client of logs that stands on Go's own libraries.
pub(crate) fn log_client() -> PathBuf {
    tool("BANQIAO_LOG_CLIENT", "log_client")
}

/// Flags by which every foreign client says who it is. Its files lie in `folder`.
fn identity(city: &City, system: &str, folder: &Path) -> Vec<String> {
    city.credential(system)
        .unwrap()
        .write(folder, "client")
        .unwrap();
    std::fs::write(folder.join("ca.crt"), city.authority.pem()).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    [
        "--ca",
        &path("ca.crt"),
        "--certificate",
        &path("client.crt"),
        "--key",
        &path("client.key"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Flags for a call through a city's gateway to Yantai.
fn through(city: &City, purpose: &str) -> Vec<String> {
    let address = city.gateway().client.to_string();
    let flags = [
        "--address",
        &address,
        "--server-name",
        "localhost",
        "--to",
        "370600",
    ];
    let why = [
        "--purpose",
        purpose,
        "--basis",
        "statutory:社会保险法第五十八条",
    ];
    flags
        .iter()
        .chain(&why)
        .map(|flag| (*flag).to_owned())
        .collect()
}

/// Runs a client to its end and gives its JSON lines.
async fn run(program: &Path, script: &str, arguments: &[String]) -> Vec<Value> {
    let mut command = Command::new(program);
    command
        .arg(repository().join("tests/clients").join(script))
        .args(arguments);
    command.env(
        "BANQIAO_NODE_MODULES",
        tool("BANQIAO_NODE_MODULES", "npm-client/node_modules"),
    );
    let output = timeout(
        LIMIT,
        command.stdin(Stdio::null()).kill_on_drop(true).output(),
    );
    let output = output.await.expect("the client ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script} {arguments:?}: {}\n{said}\n{faults}",
        output.status
    );
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The languages: the program, and the ending of its scripts.
fn languages() -> [(PathBuf, &'static str, &'static str); 2] {
    [
        (python(), "python", "py"),
        (PathBuf::from("node"), "node", "js"),
    ]
}

/// Two cities; behind the second stands the echo service of Python.
async fn foreign_echo() -> (Network, Process) {
    let network = Plan::cities(2).start().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let folder = network.folder().join("python-echo");
    std::fs::create_dir(&folder).unwrap();
    let mut arguments = vec![
        repository()
            .join("tests/clients/python/echo_server.py")
            .display()
            .to_string(),
    ];
    arguments.extend(["--listen".to_owned(), yantai.service_address.to_string()]);
    arguments.extend(identity(yantai, "example/echo", &folder));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let service = Process::start(&python(), &arguments, &folder, folder.join("log")).unwrap();
    let address = yantai.service_address;
    wait_until("the Python service", PATIENCE, || async move {
        TcpStream::connect(address).await.is_ok()
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {}", service.output()));
    yantai.register_set(ECHO_SET).await.unwrap();
    yantai
        .grant(grant(&qingdao.id(SYSTEM), ECHO))
        .await
        .unwrap();
    (network, service)
}

#[tokio::test]
async fn grpcio_and_grpc_js_use_a_foreign_service_of_all_four_kinds() {
    let (network, _service) = foreign_echo().await;
    let qingdao = &network.cities[0];
    for (program, folder, ending) in languages() {
        let files = network.folder().join(folder);
        std::fs::create_dir(&files).unwrap();
        let mut flags = through(qingdao, "case-handling");
        flags.extend(identity(qingdao, SYSTEM, &files));
        let lines = run(&program, &format!("{folder}/echo_client.{ending}"), &flags).await;
        let passed = lines.iter().filter(|line| line["ok"] == true).count();
        assert!(passed >= 9, "{folder}: {passed} checks in {lines:?}");
        // And it is told why it may not.
        let mut refused = flags.clone();
        refused.extend(["--purpose", "card-service"].map(str::to_owned));
        refused.extend(["--expect-status", "PERMISSION_DENIED"].map(str::to_owned));
        refused.extend(["--expect-reason", "PURPOSE_NOT_ALLOWED"].map(str::to_owned));
        run(
            &program,
            &format!("{folder}/echo_client.{ending}"),
            &refused,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_asks_all_cities_at_once_and_reads_what_became_of_each() {
    let mut scene = crate::all_cities::Scene::new(Plan::cities(3)).await;
    let files = scene.network.folder().join("python-all");
    std::fs::create_dir(&files).unwrap();
    let qingdao = &scene.network.cities[0];
    let mut flags = through(qingdao, "case-handling");
    flags.extend(identity(qingdao, SYSTEM, &files));
    flags.extend(["--to", "*"].map(str::to_owned));
    let lines = run(&python(), "python/all_client.py", &flags).await;
    let answered = |lines: &[Value]| {
        let answered = lines
            .iter()
            .filter(|line| line["result"] == "CITY_RESULT_ANSWERED");
        answered.count()
    };
    assert_eq!(answered(&lines), 3, "{lines:?}");
    scene.network.cities[2].gateway_mut().kill().unwrap();
    flags.extend(["--expect-status", "UNAVAILABLE"].map(str::to_owned));
    flags.extend(["--expect-reason", "PARTIAL_RESULT"].map(str::to_owned));
    let lines = run(&python(), "python/all_client.py", &flags).await;
    assert_eq!(answered(&lines), 2, "{lines:?}");
    let unreachable = lines
        .iter()
        .any(|line| line["outcome"] == "370700" && line["result"] == "CITY_RESULT_UNREACHABLE");
    assert!(unreachable, "{lines:?}");
}

#[tokio::test]
async fn grpcio_and_grpc_js_use_the_card_service() {
    let (network, cards) = Network::card(20).await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let mut own = grant(&yantai.id(SYSTEM), CARD);
    own.purposes = vec!["card-service".to_owned()];
    yantai.grant(own).await.unwrap();
    let holder = &cards.holders[3];
    for (program, folder, ending) in languages() {
        let files = network.folder().join(folder);
        std::fs::create_dir(&files).unwrap();
        let script = format!("{folder}/card_client.{ending}");
        let mut flags = through(qingdao, "card-service");
        flags.extend(identity(qingdao, SYSTEM, &files));
        let with = |more: &[&str]| -> Vec<String> {
            flags
                .iter()
                .cloned()
                .chain(more.iter().map(|flag| (*flag).to_owned()))
                .collect()
        };
        let number = holder.card_number.as_str();
        let verify = |name| {
            with(&[
                "verify",
                "--card-number",
                number,
                "--name",
                name,
                "--expect-match",
            ])
        };
        let mut right = verify(&holder.name);
        right.push("yes".to_owned());
        let lines = run(&program, &script, &right).await;
        assert!(lines.last().unwrap()["exchange"].is_string(), "{lines:?}");
        let mut wrong = verify("测试他人");
        wrong.push("no".to_owned());
        run(&program, &script, &wrong).await;
        // Server stream: from the first change, which the import was.
        let lines = run(
            &program,
            &script,
            &with(&["watch", "--cursor", "0", "--changes", "5"]),
        )
        .await;
        assert!(
            lines
                .iter()
                .filter(|line| line["response"]["change"].is_object())
                .count()
                >= 5
        );
        // Client stream: one new card and one that is refused.
        let code = format!("370600000000000000000000{:08}", folder.len());
        let record = |number: &str, person: &str| {
            serde_json::json!({
                "card_number": number,
                "social_security_number": person,
                "name": "测试新人",
                "card_identification_code": code,
                "issuing_division": "370602",
                "issued_on": "2025-01-01",
                "expires_on": "2035-01-01",
                "social_state": 2,
                "financial_state": 2,
                "specification_version": "SYNTHETIC",
            })
        };
        let sheet = files.join("cards.jsonl");
        let text = format!(
            "{}\n{}\n",
            record(&format!("N{folder}1"), "370602198506150002"),
            record(&format!("N{folder}2"), "370602198506150001"),
        );
        std::fs::write(&sheet, text).unwrap();
        let sheet = sheet.display().to_string();
        // Only the issuing city's own systems import its cards.
        let import = ["import", "--file", sheet.as_str()];
        let denied = ["--expect-status", "PERMISSION_DENIED"].map(str::to_owned);
        let flags_of_another = [
            flags.clone(),
            denied.to_vec(),
            import.map(str::to_owned).to_vec(),
        ];
        run(&program, &script, &flags_of_another.concat()).await;
        let own = network.folder().join(format!("{folder}-yantai"));
        std::fs::create_dir(&own).unwrap();
        let mut flags = through(yantai, "card-service");
        flags.extend(identity(yantai, SYSTEM, &own));
        flags.extend(import.map(str::to_owned));
        flags.extend(["--expect-refused", "1"].map(str::to_owned));
        run(&program, &script, &flags).await;
    }
    let filter = banqiao_proto::ledger::v1::EntryFilter {
        service: CARD.to_owned(),
        ..Default::default()
    };
    let entries = network.cities[0]
        .admin()
        .search(filter)
        .await
        .unwrap()
        .len();
    assert!(entries >= 12, "{entries} entries of the card service");
}

#[tokio::test]
async fn grpcurl_lists_describes_and_calls_through_one_gateway() {
    let (network, service) = Network::echo().await.unwrap();
    let qingdao = &network.cities[0];
    let folder = network.folder().join("grpcurl");
    std::fs::create_dir(&folder).unwrap();
    identity(qingdao, SYSTEM, &folder);
    let grpcurl = tool("BANQIAO_GRPCURL", "venv/bin/grpcurl");
    let ask = async |arguments: &[&str]| {
        let mut command = Command::new(&grpcurl);
        command.args([
            "-cacert",
            "ca.crt",
            "-cert",
            "client.crt",
            "-key",
            "client.key",
        ]);
        command.args(["-servername", "localhost", "-H", "banqiao-to: 370600"]);
        command.args([
            "-H",
            "banqiao-purpose: case-handling",
            "-H",
            "banqiao-basis: emergency",
        ]);
        command
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(LIMIT, command.output())
            .await
            .expect("grpcurl ends")
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let faults = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "grpcurl {arguments:?}: {said}\n{faults}"
        );
        said
    };
    let address = qingdao.gateway().client.to_string();
    // The consumer's gateway asks its peers for their catalogues each second here.
    wait_until("the services in the list", PATIENCE, || async {
        let listed = ask(&[&address, "list"]).await;
        [ECHO, RULED]
            .iter()
            .all(|name| listed.lines().any(|line| line == *name))
    })
    .await
    .unwrap();
    for (own, method) in [
        ("grpc.health.v1.Health", "rpc Check"),
        (
            "grpc.reflection.v1.ServerReflection",
            "rpc ServerReflectionInfo",
        ),
        (
            "grpc.reflection.v1alpha.ServerReflection",
            "rpc ServerReflectionInfo",
        ),
    ] {
        let described = ask(&[&address, "describe", own]).await;
        assert!(described.contains(method), "{described}");
    }
    let serving = ask(&[&address, "grpc.health.v1.Health/Check"]).await;
    assert!(serving.contains("\"SERVING\""), "{serving}");
    let described = ask(&[&address, "describe", ECHO]).await;
    assert!(described.contains("rpc Chat"), "{described}");
    let called = ask(&[
        "-d",
        "{\"text\":\"板桥\"}",
        &address,
        "example.echo.v1.EchoService/Echo",
    ])
    .await;
    let answer: Value = serde_json::from_str(&called).unwrap();
    assert_eq!(answer["text"], "板桥");
    let streamed = "{\"text\":\"x\",\"count\":3}";
    let called = ask(&[
        "-d",
        streamed,
        &address,
        "example.echo.v1.EchoService/Expand",
    ])
    .await;
    assert_eq!(called.matches("\"text\"").count(), 3, "{called}");
    assert!(
        service
            .seen()
            .iter()
            .any(|seen| seen.path.ends_with("/Echo"))
    );

    // A system without a grant sees nothing of it.
    let stranger = network.folder().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    identity(qingdao, "hrss/stranger", &stranger);
    for file in ["client.crt", "client.key"] {
        std::fs::copy(stranger.join(file), folder.join(file)).unwrap();
    }
    let listed = ask(&[&address, "list"]).await;
    assert!(!listed.contains("example.echo"), "{listed}");
}
