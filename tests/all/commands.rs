//! The command line against real gateways.

use std::{path::Path, process::Stdio, time::Duration};

use banqiao_tests::{
    admin::Role,
    echo::EchoRequest,
    network::{Network, Plan, SYSTEM, set},
    process::program,
    wait::{PATIENCE, wait_until},
    wire::Head,
};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn banqiao(folder: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(program("banqiao").unwrap());
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(60), command.output())
        .await
        .unwrap()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

#[tokio::test]
async fn check_names_every_fault_of_a_config_and_exits_64() {
    let mut network = Plan::cities(1).lay_out().unwrap();
    let gateway = network.cities[0].gateway_mut();
    let sound = banqiao(&gateway.folder, &["check", "gateway.toml"]).await;
    assert_eq!(sound.code, Some(0), "{}{}", sound.out, sound.err);
    set(&mut gateway.config, "city", "Qingdao");
    set(&mut gateway.config, "identity.certificate", "missing.crt");
    set(&mut gateway.config, "listeners.client.address", "nowhere");
    set(&mut gateway.config, "limits.stream_idle", "-1s");
    set(&mut gateway.config, "limits.unheard_of", 1);
    set(&mut gateway.config, "ledger.url", "mysql://db");
    gateway.write_config().unwrap();
    let faulty = banqiao(&gateway.folder, &["check", "gateway.toml"]).await;
    assert_eq!(faulty.code, Some(64), "{}{}", faulty.out, faulty.err);
    let said = faulty.out + &faulty.err;
    for key in [
        "city",
        "identity.certificate",
        "listeners.client.address",
        "limits.stream_idle",
        "limits.unheard_of",
        "ledger.url",
    ] {
        assert!(said.contains(key), "{key} is not named:\n{said}");
    }
    // And the gateway does not start with it.
    let started = banqiao(&gateway.folder, &["gateway", "--config", "gateway.toml"]).await;
    assert_eq!(started.code, Some(64), "{}", started.err);
}

#[tokio::test]
async fn call_finds_the_method_and_speaks_json() {
    let (network, _service) = Network::echo().await.unwrap();
    let qingdao = &network.cities[0];
    qingdao
        .credential(SYSTEM)
        .unwrap()
        .write(network.folder(), "his")
        .unwrap();
    std::fs::write(network.folder().join("ca.crt"), qingdao.authority.pem()).unwrap();
    let gateway = qingdao.gateway().client.to_string();
    let own = [
        "--gateway",
        &gateway,
        "--cert",
        "his.crt",
        "--key",
        "his.key",
        "--ca",
        "ca.crt",
    ];
    let why = [
        "--to",
        "370600",
        "--purpose",
        "case-handling",
        "--basis",
        "emergency",
    ];
    let call = async |method: &str, data: &str, why: &[&str]| {
        let mut arguments = vec!["call", method, "-d", data];
        arguments.extend(own);
        arguments.extend(why);
        banqiao(network.folder(), &arguments).await
    };
    // The consumer's gateway asks its peers for their catalogues each second here.
    let mut list = vec!["call", "EchoService", "--list"];
    list.extend(own);
    wait_until("the service in the list", PATIENCE, || async {
        banqiao(network.folder(), &list)
            .await
            .out
            .contains("EchoService")
    })
    .await
    .unwrap();
    let said = call("EchoService/Echo", "{\"text\":\"板桥\"}", &why).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["text"], "板桥");
    let last = qingdao.admin().search(Default::default()).await.unwrap();
    let exchange = last
        .iter()
        .rev()
        .find(|record| !record.entry.exchange.is_empty())
        .unwrap();
    let exchange = uuid::Uuid::from_slice(&exchange.entry.exchange)
        .unwrap()
        .to_string();
    assert!(
        said.err.contains(&exchange),
        "{} is not in {}",
        exchange,
        said.err
    );

    let said = call("EchoService/Expand", "{\"text\":\"x\",\"count\":3}", &why).await;
    assert_eq!(
        (said.code, said.out.matches("\"text\"").count()),
        (Some(0), 3),
        "{}",
        said.out
    );
    let wrong = [
        "--to",
        "370600",
        "--purpose",
        "card-service",
        "--basis",
        "emergency",
    ];
    let said = call("EchoService/Echo", "{}", &wrong).await;
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("PURPOSE_NOT_ALLOWED"), "{}", said.err);
    let said = call("EchoService/Echo", "{\"no\":1}", &why).await;
    assert_eq!(said.code, Some(64), "{}", said.err);
}

#[tokio::test]
async fn audit_and_grants_are_shown_as_table_json_and_csv() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let head = Head::new("/example.echo.v1.EchoService/Echo", "370600");
    let answer = caller.unary(&head, &EchoRequest::default()).await.unwrap();
    let (exchange, _) = answer.exchange().unwrap();
    let exchange = exchange.to_string();
    let sockets = yantai.admin().socket(Role::Auditor);
    let admin = format!("unix:{}", sockets.parent().unwrap().display());
    let ask = async |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--admin", &admin]);
        let said = banqiao(network.folder(), &all).await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        said.out
    };
    let table = ask(&[
        "audit",
        "search",
        "--service",
        "example.echo.v1.EchoService",
    ])
    .await;
    assert!(
        table.contains("Echo") && table.lines().count() >= 2,
        "{table}"
    );
    let shown = ask(&["audit", "show", &exchange, "--json"]).await;
    assert!(shown.contains(&exchange), "{shown}");
    let lines = ask(&["audit", "search", "--json"]).await;
    let values = serde_json::Deserializer::from_str(&lines).into_iter::<Value>();
    assert!(values.map(Result::unwrap).count() >= 1);
    let sheet = ask(&["audit", "search", "--csv"]).await;
    assert!(sheet.lines().count() >= 3, "{sheet}");
    let columns = sheet.lines().next().unwrap().matches(',').count();
    assert!(columns >= 5, "{sheet}");
    let grants = ask(&["grant", "list"]).await;
    assert!(grants.contains(SYSTEM), "{grants}");
    let client = qingdao.id(SYSTEM);
    let mut question = vec!["grant", "explain", "--client", client.as_str()];
    question.extend(["--method", "/example.echo.v1.EchoService/Echo"]);
    question.extend(["--purpose", "case-handling"]);
    let explained = ask(&question).await;
    assert!(explained.contains("permitted"), "{explained}");
}

#[tokio::test]
async fn network_is_made_from_nothing_by_the_commands_of_the_readme() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut plan = Plan::cities(2).lay_out().unwrap();
    let folder = plan.folder().join("made");
    std::fs::create_dir(&folder).unwrap();
    let run = async |arguments: &[&str]| {
        let said = banqiao(&folder, arguments).await;
        assert_eq!(
            said.code,
            Some(0),
            "{arguments:?}: {}{}",
            said.out,
            said.err
        );
        assert!(
            !(said.out.clone() + &said.err).contains("PRIVATE KEY"),
            "{arguments:?}"
        );
        said.out
    };
    let mut members = Vec::new();
    for (city, name) in plan.cities.iter().zip(["qingdao", "yantai"]) {
        let domain = city.domain;
        run(&["pki", "init-city", "--ca", name, "--trust-domain", domain]).await;
        run(&["pki", "issue", "gateway", "--ca", name, "--loopback"]).await;
        run(&["pki", "issue", "system", SYSTEM, "--ca", name, "--loopback"]).await;
        run(&["directory", "init", "--key-only", name]).await;
        members.push(format!(
            "{}={name}@{}",
            city.code,
            city.gateway().inter_city
        ));
    }
    run(&[
        "directory",
        "init",
        "--city",
        &members[0],
        "--city",
        &members[1],
    ])
    .await;
    let sign = ["directory", "sign", "directory.json", "--key"];
    run(&[
        &sign[..],
        &["qingdao/directory.key", "--toml", "directory.toml"],
    ]
    .concat())
    .await;
    // One signature of two is not enough.
    let payload = std::fs::read(folder.join("directory.toml")).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &payload);
    let pin = hex::encode(digest);
    let verify = ["directory", "verify", "directory.json", "--pin", &pin];
    assert_eq!(banqiao(&folder, &verify).await.code, Some(1));
    run(&[&sign[..], &["yantai/directory.key"]].concat()).await;
    run(&verify).await;
    assert!(
        run(&["directory", "show", "directory.json"])
            .await
            .contains(&pin)
    );
    for file in [
        "qingdao/ca.key",
        "qingdao/gateway.key",
        "qingdao/directory.key",
    ] {
        let mode = std::fs::metadata(folder.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for (city, name) in plan.cities.iter_mut().zip(["qingdao", "yantai"]) {
        let gateway = city.gateway_mut();
        let made = |file: &str| folder.join(name).join(file).display().to_string();
        set(
            &mut gateway.config,
            "identity.certificate",
            made("gateway.crt"),
        );
        set(
            &mut gateway.config,
            "identity.private_key",
            made("gateway.key"),
        );
        let directory = folder.join("directory.json").display().to_string();
        set(&mut gateway.config, "directory.file", directory);
        set(&mut gateway.config, "directory.pin", pin.clone());
        let crls = ["qingdao", "yantai"].map(|name| format!("../made/{name}/crl.der"));
        set(&mut gateway.config, "crls.files", crls.to_vec());
        gateway.write_config().unwrap();
    }
    plan.run().await.unwrap();
}
