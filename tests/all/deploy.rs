//! The samples of `deploy/` fit the version that they come with.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use banqiao_tests::{
    echo::EchoRequest,
    network::{Network, Plan, SYSTEM, set},
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
