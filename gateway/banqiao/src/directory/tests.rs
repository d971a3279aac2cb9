use std::os::unix::fs::PermissionsExt as _;

use banqiao_directory::ManualClock;
use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::exit::exit_of;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: DirectoryCommand,
}

/// A working folder in which commands run.
struct Desk(TempDir);

impl Desk {
    /// Five folders as `banqiao pki` leaves them, each with its directory key.
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        for (at, city) in CITIES.iter().enumerate() {
            let folder = desk.path(city);
            fs::create_dir(&folder).unwrap();
            // DER of the three bytes 30 01 00, 30 01 01, ….
            let base64 = ["MAEA", "MAEB", "MAEC", "MAED", "MAEE"][at];
            let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
            fs::write(folder.join("ca.crt"), pem).unwrap();
            let certificate = |kind: &str, path: &str, revoked: bool| {
                serde_json::json!({
                    "serial": "01", "id": format!("spiffe://{city}.jiaodong/{path}"), "kind": kind,
                    "name": path.rsplit('/').next(), "names": [], "issued_at_s": 0, "not_after_s": 1,
                    "revoked": revoked.then(|| serde_json::json!({ "at_s": 0, "reason": "superseded" })),
                })
            };
            let ca = serde_json::json!({
                "version": 1, "trust_domain": format!("{city}.jiaodong"), "crl_number": 1,
                "certificates": [
                    certificate("gateway", "gateway", false),
                    certificate("system", "hrss/card", false),
                    certificate("system", "hrss/card", false),
                    certificate("system", "lost/system", true),
                ],
            });
            fs::write(folder.join("ca.json"), ca.to_string()).unwrap();
            desk.run(&format!("init --key-only {city}")).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command line; words with a dot, a slash or a city's name are paths of the desk.
    fn run(&self, line: &str) -> anyhow::Result<String> {
        let root = self.0.path().display();
        let words = line
            .split_whitespace()
            .map(|word| match word.split_once('=') {
                Some((code, rest)) => format!("{code}={root}/{rest}"),
                None if word.contains('.') || CITIES.contains(&word) => format!("{root}/{word}"),
                None => word.to_owned(),
            });
        let cli = Cli::try_parse_from(std::iter::once("directory".to_owned()).chain(words))?;
        let mut out = Vec::new();
        cli.command.run(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn init(&self) -> String {
        let codes = ["370200", "370600", "370700", "371000", "371100"];
        let cities: Vec<_> = codes
            .iter()
            .zip(CITIES)
            .map(|(code, city)| format!("--city {code}={city}@gateway.{city}.example:7443"))
            .collect();
        self.run(&format!("init {} --out directory.toml", cities.join(" ")))
            .unwrap()
    }
}

const CITIES: [&str; 5] = ["qingdao", "yantai", "weifang", "weihai", "rizhao"];

fn message(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" | ")
}

#[test]
fn a_network_is_founded_and_changed_by_its_cities() {
    let desk = Desk::new();
    assert!(
        desk.init()
            .contains("version 1, 5 cities, 3 signatures needed")
    );
    let toml = fs::read_to_string(desk.path("directory.toml")).unwrap();
    let founded = Directory::parse(toml.as_bytes()).unwrap();
    assert_eq!(founded.purposes().len(), 7);
    let qingdao = founded.city("370200".parse().unwrap()).unwrap();
    assert_eq!(
        (qingdao.name.zh.as_str(), qingdao.systems.len()),
        ("青岛", 1)
    );
    assert_eq!(
        qingdao.agency("hrss").unwrap().name.zh,
        "人力资源和社会保障局"
    );

    // Two cities sign one after the other, the third side by side.
    let sign =
        |city: &str, rest: &str| desk.run(&format!("sign --key {city}/directory.key {rest}"));
    let first = sign("qingdao", "first.json --toml directory.toml").unwrap();
    assert!(first.contains("signed by 370200"), "{first}");
    assert!(first.contains("1 of the 3 signatures"), "{first}");
    sign("yantai", "first.json").unwrap();
    sign("weihai", "copy.json --toml directory.toml").unwrap();
    let complete = sign("weifang", "first.json --with copy.json").unwrap();
    assert!(complete.ends_with("complete\n"), "{complete}");
    let pin = hex::encode(founded.digest());
    assert!(
        desk.run(&format!("verify first.json --pin {pin}"))
            .unwrap()
            .contains("version 1 is valid")
    );
    let other = "0".repeat(64);
    let error = desk
        .run(&format!("verify first.json --pin {other}"))
        .unwrap_err();
    assert_eq!(exit_of(&error), Exit::Failed);
    assert!(message(&error).contains("is pinned"), "{}", message(&error));

    // The second version moves Rizhao's gateway.
    let next = toml
        .replace("version = 1", "version = 2")
        .replace("rizhao.example:7443", "rizhao.example:8443");
    fs::write(desk.path("next.toml"), &next).unwrap();
    let first = sign(
        "qingdao",
        "second.json --toml next.toml --previous first.json",
    )
    .unwrap();
    assert!(
        first.contains("city 371100: gateway gateway.rizhao.example:8443 is added"),
        "{first}"
    );
    sign("yantai", "second.json").unwrap();
    let lacking = sign("weihai", "second.json").unwrap();
    assert!(
        lacking.contains("still missing: the sections of 371100 change"),
        "{lacking}"
    );
    let error = desk
        .run("verify second.json --previous first.json")
        .unwrap_err();
    assert_eq!(exit_of(&error), Exit::Failed);
    assert!(
        sign("rizhao", "second.json")
            .unwrap()
            .ends_with("complete\n")
    );
    assert!(desk.run("verify second.json --previous first.json").is_ok());
    assert!(
        desk.run(&format!("verify second.json --pin {pin}")).is_ok(),
        "by its history"
    );
    let back = desk
        .run("verify first.json --previous second.json")
        .unwrap_err();
    assert!(message(&back).contains("version 1 is offered, but version 2 is in force"));
    assert_eq!(
        desk.run("diff directory.toml second.json").unwrap(),
        "directory: version is 2 instead of 1\n\
         city 371100: gateway gateway.rizhao.example:7443 is removed\n\
         city 371100: gateway gateway.rizhao.example:8443 is added\n"
    );
    assert_eq!(
        desk.run("diff next.toml second.json").unwrap(),
        "no change\n"
    );

    let shown = desk.run("show second.json").unwrap();
    assert!(shown.contains("370200  青岛 Qingdao"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&desk.run("show --json second.json").unwrap()).unwrap();
    assert_eq!(json["version"], 2);
    assert_eq!(json["signers"]["keys"][2]["signed"], false);
    assert_eq!(
        json["cities"][4]["gateways"][0],
        "gateway.rizhao.example:8443"
    );
}

#[test]
fn keys_stay_secret_and_are_never_replaced() {
    let desk = Desk::new();
    let path = desk.path("qingdao/directory.key");
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let error = desk.run("init --key-only qingdao").unwrap_err();
    assert_eq!(exit_of(&error), Exit::Usage);
    assert_eq!(fs::read_to_string(&path).unwrap(), key);
    desk.init();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = desk
        .run("sign first.json --toml directory.toml --key qingdao/directory.key")
        .unwrap_err();
    assert!(
        message(&error).contains("may be read by others"),
        "{}",
        message(&error)
    );
    assert!(!desk.path("first.json").exists());
}

#[test]
fn what_cannot_be_signed_is_said_with_every_fault() {
    let desk = Desk::new();
    desk.init();
    let sign = |rest: &str| {
        let error = desk
            .run(&format!("sign --key qingdao/directory.key {rest}"))
            .unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        message(&error)
    };
    assert!(sign("first.json").contains("does not exist; make it with --toml"));
    let toml = fs::read_to_string(desk.path("directory.toml")).unwrap();
    let broken = toml
        .replace("threshold = 3", "threshold = 2")
        .replace("370600", "370601");
    fs::write(desk.path("broken.toml"), broken).unwrap();
    let faults = sign("first.json --toml broken.toml");
    assert!(faults.contains("\n  cities[1].code: "), "{faults}");
    assert!(faults.contains("\n  signers.keys[1].city: "), "{faults}");
    fs::write(
        desk.path("next.toml"),
        toml.replace("version = 1", "version = 2"),
    )
    .unwrap();
    assert!(sign("next.json --toml next.toml").contains("name the one in force with --previous"));
    desk.run("sign --key qingdao/directory.key first.json --toml directory.toml")
        .unwrap();
    assert!(sign("first.json --toml next.toml").contains("holds another document"));
    assert!(
        sign("other.json --toml directory.toml --previous first.json").contains("must be higher")
    );
    fs::create_dir(desk.path("stranger.d")).unwrap();
    desk.run("init --key-only stranger.d").unwrap();
    let error = desk
        .run("sign --key stranger.d/directory.key first.json")
        .unwrap_err();
    assert!(
        message(&error).contains("is no signer's"),
        "{}",
        message(&error)
    );
}

#[test]
fn an_expired_directory_does_not_verify() {
    let desk = Desk::new();
    desk.init();
    for city in &CITIES[..3] {
        let line = format!("sign --key {city}/directory.key first.json --toml directory.toml");
        desk.run(&line).unwrap();
    }
    let directory = Directory::parse(&fs::read(desk.path("directory.toml")).unwrap()).unwrap();
    let verify = VerifyCommand {
        envelope: desk.path("first.json"),
        pin: Some(hex::encode(directory.digest())),
        previous: None,
    };
    let clock = ManualClock::new(directory.expires_at_us() - 1);
    let mut out = Vec::new();
    verify.run(&clock.clock(), &mut out).unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .starts_with("warning: past half of its validity")
    );
    clock.advance_us(1);
    let error = verify.run(&clock.clock(), &mut Vec::new()).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Failed);
}
