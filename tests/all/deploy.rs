//! The samples of `deploy/` fit the version that they come with.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use banqiao_proto::card::v1::{
    CardKey, CardState, LossKind, ReportLossRequest, VerifyCardRequest, VerifyCardResponse,
};
use banqiao_tests::{
    echo::EchoRequest,
    network::{Network, Plan, SYSTEM, set},
    postgres::Cluster,
    process::program,
    wire::Head,
};
use toml::Table;

fn samples() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .parent()
        .unwrap()
        .join("deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(samples().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The sample with the places of this machine instead of those of a city's.
fn here(name: &str, places: &[(&str, String)]) -> String {
    let mut config: Table = toml::from_str(&read(name)).unwrap();
    for (key, value) in places {
        set(&mut config, key, value.clone());
    }
    toml::to_string(&config).unwrap()
}

fn check(tool: &str, folder: &Path, file: &str) {
    let output = Command::new(program(tool).unwrap())
        .args(["check", file])
        .current_dir(folder)
        .output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{file}: {}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn sample_of_a_gateway_is_sound() {
    let network = Plan::cities(1).lay_out().unwrap();
    let folder = network.cities[0].gateway().folder.clone();
    let inside = |name: &str| folder.join(name).display().to_string();
    for name in ["state", "run", "keys"] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::copy(
        network.folder().join("directory.json"),
        folder.join("directory.json"),
    )
    .unwrap();
    fs::create_dir(folder.join("crls")).unwrap();
    let crl = "crls/qingdao.jiaodong.der";
    fs::copy(network.folder().join(crl), folder.join(crl)).unwrap();
    let config = here(
        "config/gateway.toml",
        &[
            ("data", inside("state")),
            ("directory.pin", network.directory.digest()),
            (
                "listeners.admin.administrator_socket",
                inside("run/administrator.sock"),
            ),
            (
                "listeners.admin.operator_socket",
                inside("run/operator.sock"),
            ),
            ("listeners.admin.auditor_socket", inside("run/auditor.sock")),
            ("ledger.url", format!("sqlite://{}", inside("ledger.db"))),
            ("ledger.keys", inside("keys")),
        ],
    );
    fs::write(folder.join("sample.toml"), config).unwrap();
    check("banqiao", &folder, "sample.toml");
}

#[test]
fn samples_of_the_services_are_sound() {
    let network = Plan::cities(1).lay_out().unwrap();
    let city = &network.cities[0];
    for (name, system, files) in [
        ("card", "hrss/card", &[][..]),
        ("lab", "health/lab", &["lab-institutions.tsv"]),
        ("item", "hall/item", &[]),
    ] {
        let folder = network.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let credential = city.credential(system).unwrap();
        credential.write(&folder, name).unwrap();
        fs::write(folder.join("ca.crt"), city.authority.pem()).unwrap();
        fs::write(folder.join("crl.der"), city.authority.crl(86_400).unwrap()).unwrap();
        for file in files {
            fs::write(folder.join(file), read(&format!("config/{file}"))).unwrap();
        }
        let database = format!("sqlite://{}", folder.join("service.db").display());
        let sample = format!("{name}.toml");
        let config = here(&format!("config/{sample}"), &[("database.url", database)]);
        fs::write(folder.join(&sample), config).unwrap();
        check(&format!("banqiao-{name}"), &folder, &sample);
    }
}

/// The bureau's tables, the service's rights in them and the mapping, as they come: checked, served, and seen by another city.
#[tokio::test]
async fn sample_of_a_bureaus_own_tables_carries_calls_between_cities() {
    let cluster = Cluster::start().unwrap();
    let administrator = cluster.database().unwrap();
    let role = "CREATE ROLE card LOGIN".to_owned();
    for sql in [read("bureau/schema.sql"), role, read("bureau/grants.sql")] {
        cluster.execute(&administrator, &sql).unwrap();
    }
    let mapping = samples().join("bureau/mapping.toml").display().to_string();
    let service = administrator.replace("//postgres@", "//card@");
    let (network, cards) = Network::card_with(20, |config| {
        set(config, "mapping", mapping);
        set(config, "database.url", service);
        set(config, "database.schema", "banqiao_card");
    })
    .await
    .unwrap();
    check("banqiao-card", &cards.folder, "card.toml");

    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let head = |method: &str| {
        let path = format!("/banqiao.card.v1.CardService/{method}");
        Head::new(&path, "370600").set("banqiao-purpose", "card-service")
    };
    let holder = &cards.holders[0];
    let key = Some(CardKey {
        card_number: holder.card_number.clone(),
        ..CardKey::default()
    });
    let request = VerifyCardRequest {
        key: key.clone(),
        name: holder.name.clone(),
        ..VerifyCardRequest::default()
    };
    let verified = async || -> VerifyCardResponse {
        let answer = caller.unary(&head("VerifyCard"), &request).await.unwrap();
        answer.only().unwrap()
    };
    let first = verified().await;
    assert!(first.r#match, "{first:?}");
    assert_eq!(first.social_state(), CardState::Normal);
    let loss = ReportLossRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        key,
        name: holder.name.clone(),
        kind: LossKind::Formal.into(),
        function: 1,
        reported_in: "370200".to_owned(),
    };
    let answer = caller.unary(&head("ReportLoss"), &loss).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    assert_eq!(verified().await.social_state(), CardState::Lost);
    // The bureau's own programs see it, and what they write counts at once.
    let at_bureau = format!(
        "DO $$ BEGIN ASSERT (SELECT aaz502 FROM hrss.card_base WHERE aaz500 = '{0}') = '3'; END $$; \
         UPDATE hrss.card_base SET aaz502 = '9' WHERE aaz500 = '{0}'",
        holder.card_number
    );
    cluster.execute(&administrator, &at_bureau).unwrap();
    assert_eq!(verified().await.social_state(), CardState::Cancelled);
}

#[test]
fn units_start_what_there_is() {
    for (unit, tool) in [
        ("banqiao-gateway", "banqiao"),
        ("banqiao-card", "banqiao-card"),
        ("banqiao-lab", "banqiao-lab"),
        ("banqiao-item", "banqiao-item"),
    ] {
        let text = read(&format!("systemd/{unit}.service"));
        let start = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .unwrap();
        let mut words = start.split_whitespace();
        assert_eq!(Path::new(words.next().unwrap()).file_name().unwrap(), tool);
        let subcommand = words.next().unwrap();
        let flag = words.next().unwrap();
        let help = Command::new(program(tool).unwrap())
            .args([subcommand, "--help"])
            .output()
            .unwrap();
        assert!(help.status.success(), "{unit}: no subcommand {subcommand}");
        assert!(
            String::from_utf8_lossy(&help.stdout).contains(flag),
            "{unit}: no flag {flag}"
        );
        // Every line is a section, a comment, a setting or the next line of one.
        let mut continued = false;
        for line in text.lines() {
            let known = line.is_empty()
                || line.starts_with(['#', '[', ';'])
                || line
                    .split_once('=')
                    .is_some_and(|(key, _)| key.chars().all(char::is_alphanumeric));
            assert!(known || continued, "{unit}: {line}");
            continued = line.ends_with('\\');
        }
    }
}

/// Names of our metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
    text.split(word)
        .filter(|name| name.starts_with("banqiao_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn alerts_and_dashboard_name_metrics_that_exist() {
    let (network, _service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    for (to, code) in [("370600", 0), ("110000", 5)] {
        let head = Head::new("/example.echo.v1.EchoService/Echo", to);
        let answer = caller.unary(&head, &EchoRequest::default()).await.unwrap();
        assert_eq!(answer.code(), Some(code));
    }
    let text = network.cities[0].gateway().metrics().await.unwrap();
    // A histogram is exposed as three series.
    let mut known = metrics_in(&text);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        if let Some(name) = line.strip_suffix(" histogram") {
            known.extend(["_bucket", "_sum", "_count"].map(|ending| format!("{name}{ending}")));
        }
    }
    // Counters appear with their first event, a gauge of cities with the first city; the source names them with dots.
    let source = samples().join("../gateway/telemetry/src");
    let events = ["metrics.rs", "metrics/gauge.rs"]
        .map(|file| fs::read_to_string(source.join(file)).unwrap())
        .concat()
        .replace('.', "_");
    for sample in ["prometheus/banqiao.rules.yml", "grafana/gateway.json"] {
        let named = metrics_in(&read(sample));
        assert!(!named.is_empty(), "{sample} names no metric");
        for name in named {
            let base = name.trim_end_matches("_total").to_owned();
            assert!(
                known.contains(&name) || events.contains(&format!("\"{base}\"")),
                "{sample}: no metric {name}"
            );
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana/gateway.json")).unwrap();
    assert!(!dashboard["panels"].as_array().unwrap().is_empty());
}
