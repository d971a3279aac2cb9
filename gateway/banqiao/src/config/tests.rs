use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{fault::Faults, raw::Section, *};
use crate::testing::City;

/// Reads a `[limits]` table.
pub(crate) fn limits(text: &str) -> (Limits, Vec<Fault>) {
    let faults = Faults::new(text);
    let table = toml::de::DeTable::parse(text).unwrap();
    let limits = limits::read(Section::root(&faults, table.get_ref()));
    (limits, faults.into_sorted())
}

/// A city's folder with everything that the sound config names.
struct Scene {
    city: City,
    sound: String,
}

impl Scene {
    fn new() -> Self {
        let city = City::new("370200", "qingdao.jiaodong");
        let sound = city.sound_config();
        Self { city, sound }
    }

    fn load(&self, text: &str) -> Result<(Config, Vec<Fault>), ConfigError> {
        let file = self.city.path("gateway.toml");
        fs::write(&file, text).unwrap();
        Config::load(&file, &Clock::system())
    }

    fn faults(&self, text: &str) -> Vec<Fault> {
        match self.load(text) {
            Ok((_, warnings)) => warnings,
            Err(ConfigError::Faulty { faults, .. }) => faults,
            Err(error) => panic!("{error}"),
        }
    }

    /// The keys at fault in the sound config with a change.
    fn changed(&self, from: &str, to: &str) -> Vec<String> {
        assert!(self.sound.contains(from), "{from}");
        let faults = self.faults(&self.sound.replace(from, to));
        faults.into_iter().map(|fault| fault.key).collect()
    }
}

#[test]
fn a_sound_config_is_read_whole() {
    let scene = Scene::new();
    let (config, warnings) = scene.load(&scene.sound).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.city.as_str(), "370200");
    assert_eq!(config.data, scene.city.path("state"));
    assert_eq!(
        config.ledger.url.expose(),
        format!("sqlite://{}", scene.city.path("gateway.db").display())
    );
    assert_eq!(config.listeners.admin.sockets.len(), 3);
    assert_eq!(
        config.admin_socket(Role::Auditor),
        Some(scene.city.path("admin/auditor.sock").as_path())
    );
    assert_eq!(config.crls.grace, DEFAULT_CRL_GRACE);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.services[0].endpoints, ["127.0.0.1:9443"]);
    let sockets = admin_sockets(&scene.city.path("gateway.toml")).unwrap();
    assert_eq!(sockets, config.listeners.admin.sockets);
}

#[test]
fn every_fault_is_found_at_once_with_its_line() {
    let scene = Scene::new();
    let text = scene
        .sound
        .replace("370200", "37020")
        .replace("replica = \"qingdao-1\"\n", "")
        .replace(
            "certificate = \"gateway.crt\"",
            "certificate = \"other.crt\"",
        )
        .replace("[crls]", "[crls]\nrefrehs = \"5s\"\ngrace = 5")
        .replace("127.0.0.1:8444", "0.0.0.0:8443")
        .replace("sqlite://gateway.db", "mysql://x");
    let faults = scene.faults(&text);
    let found: Vec<_> = faults
        .iter()
        .map(|fault| (fault.key.as_str(), fault.line))
        .collect();
    assert_eq!(
        found,
        [
            ("city", Some(1)),
            ("identity.certificate", Some(4)),
            ("crls.refrehs", Some(12)),
            ("crls.grace", Some(13)),
            ("listeners.inter_city.address", Some(19)),
            ("ledger.url", Some(28)),
            ("replica", None),
        ]
        .map(|found| found),
        "{faults:#?}"
    );
    let unknown = faults
        .iter()
        .find(|fault| fault.key == "crls.refrehs")
        .unwrap();
    assert_eq!(unknown.hint, "did you mean refresh?");
}

#[test]
fn an_empty_file_lacks_every_required_key() {
    let scene = Scene::new();
    let keys: Vec<_> = scene
        .faults("")
        .into_iter()
        .map(|fault| fault.key)
        .collect();
    assert_eq!(
        keys,
        [
            "city",
            "replica",
            "identity.certificate",
            "identity.private_key",
            "directory.file",
            "directory.pin",
            "listeners.client.address",
            "listeners.inter_city.address",
            "listeners.admin",
            "ledger.url",
        ]
    );
}

#[test]
fn text_that_is_no_toml_is_a_fault_with_its_line() {
    let scene = Scene::new();
    let faults = scene.faults("city = \"370200\"\nreplica = = 1\n[identity\n");
    assert!(faults[0].problem.starts_with("not TOML"), "{faults:?}");
    assert_eq!(faults[0].line, Some(2));
    assert!(
        faults.iter().any(|fault| fault.line == Some(3)),
        "{faults:?}"
    );
}

#[test]
fn keys_that_others_may_read_are_refused() {
    let scene = Scene::new();
    let mode = |mode| {
        fs::set_permissions(
            scene.city.path("gateway.key"),
            fs::Permissions::from_mode(mode),
        )
        .unwrap();
    };
    mode(0o640);
    let faults = scene.faults(&scene.sound);
    assert_eq!(faults[0].key, "identity.private_key");
    assert!(faults[0].hint.starts_with("chmod 600 "), "{faults:?}");
    mode(0o400);
    assert_eq!(scene.faults(&scene.sound), []);
    fs::create_dir(scene.city.path("keys")).unwrap();
    fs::set_permissions(scene.city.path("keys"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(scene.faults(&scene.sound)[0].key, "ledger.keys");
}

#[test]
fn listeners_do_not_share_a_port() {
    let scene = Scene::new();
    let taken = |address: &str| scene.changed("127.0.0.1:9100", address);
    assert_eq!(taken("127.0.0.1:8443"), ["listeners.ops.address"]);
    assert_eq!(taken("127.0.0.2:8443"), Vec::<String>::new());
    assert_eq!(
        taken("[::]:8443"),
        ["listeners.ops.address"; 2],
        "a clash, and open to every network"
    );
    assert_eq!(taken("[::1]:8443"), Vec::<String>::new());
    assert_eq!(
        scene.changed("127.0.0.1:8444", "127.0.0.1:0"),
        Vec::<String>::new()
    );
}

#[test]
fn no_identity_has_two_roles() {
    let scene = Scene::new();
    let roles = r#"
[listeners.admin]
address = "127.0.0.1:9000"
[listeners.admin.roles]
administrator = ["spiffe://qingdao.jiaodong/admin/administrator/li"]
operator = ["spiffe://qingdao.jiaodong/admin/administrator/li", "spiffe://yantai.jiaodong/admin/operator/wu"]
auditor = ["spiffe://qingdao.jiaodong/gateway", "nobody"]
"#;
    let start = scene.sound.find("[listeners.admin]").unwrap();
    let end = scene.sound.find("[ledger]").unwrap();
    let text = format!("{}{roles}{}", &scene.sound[..start], &scene.sound[end..]);
    let keys: Vec<_> = scene
        .faults(&text)
        .into_iter()
        .map(|fault| fault.key)
        .collect();
    assert_eq!(
        keys,
        [
            "listeners",
            "listeners.admin.roles.operator[0]",
            "listeners.admin.roles.auditor[0]",
            "listeners.admin.roles.auditor[1]",
        ]
    );
}

#[test]
fn sockets_are_distinct_short_and_in_a_private_folder() {
    let scene = Scene::new();
    let long = format!("{}/x.sock", "a".repeat(108));
    assert_eq!(
        scene.changed("admin/operator.sock", &long),
        ["listeners.admin.operator_socket"]
    );
    assert_eq!(
        scene.changed("admin/operator.sock", "admin/administrator.sock"),
        ["listeners.admin.operator_socket"]
    );
    fs::create_dir(scene.city.path("open")).unwrap();
    fs::set_permissions(scene.city.path("open"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        scene.changed("admin/operator.sock", "open/operator.sock"),
        ["listeners.admin.operator_socket"]
    );
}

#[test]
fn services_must_be_described_and_of_this_city() {
    let scene = Scene::new();
    fs::write(
        scene.city.path("set.binpb"),
        banqiao_proto::FILE_DESCRIPTOR_SET,
    )
    .unwrap();
    let name = "name = \"banqiao.card.v1.CardService\"";
    let named = |name: &str, more: &str| {
        scene.changed(
            "name = \"banqiao.card.v1.CardService\"",
            &format!("name = \"{name}\"\n{more}"),
        )
    };
    assert_eq!(
        scene.changed(name, "name = \"echo.v1.Echo\""),
        ["services[0].name"]
    );
    let set = "descriptor_set = \"set.binpb\"";
    assert_eq!(
        named("banqiao.card.v1.CardService", set),
        Vec::<String>::new()
    );
    assert_eq!(named("echo.v1.Echo", set), ["services[0].descriptor_set"]);
    let wrong = "descriptor_set = \"gateway.crt\"";
    assert_eq!(named("echo.v1.Echo", wrong), ["services[0].descriptor_set"]);
    assert_eq!(named("grpc.health.v1.Health", ""), ["services[0].name"]);
    assert_eq!(
        scene.changed("qingdao.jiaodong/hrss", "yantai.jiaodong/hrss"),
        ["services[0]"]
    );
    assert_eq!(
        scene
            .changed("[\"127.0.0.1:9443\"]", "[\"https://x\", \"h:0\"]")
            .len(),
        3
    );
    let twice = format!(
        "{}{}",
        scene.sound,
        &scene.sound[scene.sound.find("[[services]]").unwrap()..]
    );
    assert_eq!(scene.faults(&twice)[0].key, "services[1]");
}

#[test]
fn city_certificate_and_directory_must_agree() {
    let scene = Scene::new();
    let faults = scene.faults(&scene.sound.replace("\"370200\"", "\"370700\""));
    assert_eq!(faults[0].key, "city");
    assert_eq!(faults[0].hint, "it lists 370200, 370600");
    let faults = scene.faults(&scene.sound.replace("\"370200\"", "\"370600\""));
    assert_eq!(faults[0].key, "city");
    assert!(faults[0].hint.contains("\"370200\""), "{faults:?}");
    let system = scene.city.issue_system("hrss/card");
    let text = scene
        .sound
        .replace("gateway.crt", system.certificate.to_str().unwrap())
        .replace("gateway.key", system.private_key.to_str().unwrap());
    assert!(scene.faults(&text)[0].problem.contains("is no gateway"));
    let text = scene
        .sound
        .replace("gateway.key", system.private_key.to_str().unwrap());
    assert_eq!(scene.faults(&text)[0].key, "identity");
    let pin = hex::encode(scene.city.envelope().digest());
    let text = scene.sound.replace(&pin, &"01".repeat(32));
    let faults = scene.faults(&text);
    assert_eq!(
        (faults[0].key.as_str(), faults[0].severity),
        ("directory", Severity::Error)
    );
    // Once a directory is kept, the file need not reach back to the pin.
    fs::create_dir(scene.city.path("state")).unwrap();
    fs::write(scene.city.path("state/directory.json"), "{}").unwrap();
    assert_eq!(scene.faults(&text)[0].severity, Severity::Warning);
}

#[test]
fn a_password_in_the_url_is_not_shown() {
    let scene = Scene::new();
    let url = "postgres://banqiao:s3cret@db.qingdao/ledger";
    let (config, _) = scene
        .load(&scene.sound.replace("sqlite://gateway.db", url))
        .unwrap();
    assert_eq!(config.ledger.url.expose(), url);
    assert_eq!(
        config.ledger.url.to_string(),
        "postgres://…@db.qingdao/ledger"
    );
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn telemetry_and_leases_are_checked() {
    let scene = Scene::new();
    let with = |more: &str| {
        let faults = scene.faults(&format!("{}{more}", scene.sound));
        faults
            .into_iter()
            .map(|fault| fault.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        with(
            "[telemetry]\nlog_format = \"xml\"\nlog_filter = \"x=shout\"\notlp_endpoint = \"localhost\"\ntrace_ratio = \"all\"\n"
        ),
        [
            "telemetry.log_format",
            "telemetry.log_filter",
            "telemetry.otlp_endpoint",
            "telemetry.trace_ratio"
        ]
    );
    assert_eq!(
        with("[reconcile]\ninterval = \"1ms\"\nwindow = 5\ngrace = \"2d\"\noften = true\n"),
        [
            "reconcile.interval",
            "reconcile.window",
            "reconcile.grace",
            "reconcile.often"
        ]
    );
    let lease = "url = \"sqlite://gateway.db\"\nlease_ttl = \"15s\"";
    assert_eq!(
        scene.changed("url = \"sqlite://gateway.db\"", lease),
        ["ledger.lease_renew"]
    );
    let unsound = "url = \"sqlite://gateway.db\"\nfailover = \"yes\"\nsummary_interval = \"1ms\"\nclock_error = \"2h\"";
    assert_eq!(
        scene.changed("url = \"sqlite://gateway.db\"", unsound),
        [
            "ledger.failover",
            "ledger.summary_interval",
            "ledger.clock_error"
        ]
    );
}

#[test]
fn anchor_is_for_sqlite_and_keys_are_private() {
    let scene = Scene::new();
    let url = "url = \"sqlite://gateway.db\"";
    let with = |more: &str| format!("{url}\n{more}");
    let text = scene
        .sound
        .replace(url, &with("anchor = \"elsewhere.anchor\""));
    let (config, _) = scene.load(&text).unwrap();
    let anchor = scene.city.path("elsewhere.anchor");
    assert_eq!(config.ledger.anchor, Some(anchor));
    assert_eq!(
        scene.changed(url, &with("anchor = \"/nowhere/anchor\"")),
        ["ledger.anchor"]
    );
    let postgres = "url = \"postgres://u@h/db\"\nanchor = \"elsewhere.anchor\"";
    assert_eq!(scene.changed(url, postgres), ["ledger.anchor"]);
    let open = scene.city.path("open.key");
    fs::write(&open, "").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        scene.changed(url, &with("previous_signing_key = \"open.key\"")),
        ["ledger.previous_signing_key"]
    );
}
