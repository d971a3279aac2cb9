//! `banqiao audit verify` as it is run: exit codes, and what it says, about a real ledger in a file.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its scene cannot be set"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use banqiao_directory::Clock;
use banqiao_ledger::{Append, Ledger, LedgerSettings, verify::Verification};
use banqiao_proto::ledger::v1::{Entry, Kind, PrivatePart};
use banqiao_tlog::{
    note::Signer,
    tile::{bundles, tiles},
};
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;
use tokio::time::timeout;

const ORIGIN: &str = "qingdao.jiaodong/ledger/1";
const ENTRIES: u64 = 600;
/// A machine that is busy with a build passes too.
const PATIENCE: Duration = Duration::from_secs(60);

fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banqiao"))
        .args(["audit", "verify"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn key(seed: u8) -> String {
    let signer = Signer::from_seed(ORIGIN, &[seed; 32]).unwrap();
    signer.verifier().to_string()
}

/// A closed ledger, and its tile tree.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(scene.fill());
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.path("ledger.db").display())
    }

    async fn fill(&self) {
        let signer = Arc::new(Signer::from_seed(ORIGIN, &[1; 32]).unwrap());
        let city = "370200".parse().unwrap();
        let settings = LedgerSettings::new(self.url(), city, "a", self.path("keys"), signer);
        let ledger = Ledger::open(settings, Clock::system(), Arc::new(()))
            .await
            .unwrap();
        let appender = ledger.appender();
        let waiting: Vec<_> = (0..ENTRIES)
            .map(|number| {
                let entry = Entry {
                    kind: Kind::Admin.into(),
                    ..Entry::default()
                };
                let private = PrivatePart {
                    operator: format!("synthetic-operator-{number}"),
                    ..PrivatePart::default()
                };
                appender.append(Append::new(entry).with_private(private))
            })
            .collect();
        for appended in waiting {
            appended.await.unwrap();
        }
        let reader = ledger.reader();
        let mut published = ledger.published();
        let whole = async {
            while reader.head().await.unwrap().map(|head| head.size()) != Some(ENTRIES) {
                published.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, whole).await.unwrap();
        let note = reader.checkpoint().await.unwrap().unwrap();
        let write = |name: String, bytes: &[u8]| {
            let path = self.path("tiles").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("checkpoint".into(), note.as_bytes());
        for id in tiles(ENTRIES) {
            let hashes = reader.tile(id).await.unwrap().unwrap();
            write(id.to_string(), hashes.as_flattened());
        }
        for id in bundles(ENTRIES) {
            write(id.to_string(), &reader.bundle(id).await.unwrap().unwrap());
        }
        ledger.close().await;
    }

    /// Executes SQL behind the ledger's back.
    fn execute(&self, statements: &[&'static str]) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
            for sql in statements {
                connection.execute(*sql).await.unwrap();
            }
            connection.close().await.unwrap();
        });
    }
}

#[test]
fn sound_ledger_is_valid_and_a_changed_one_names_the_first_index() {
    let scene = Scene::new();
    let url = scene.url();
    let output = verify(&["--database", &url, "--key", &key(1)]);
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        text(&output.stderr)
    );
    assert!(output.stderr.is_empty());
    for words in [
        "valid: qingdao.jiaodong/ledger/1\n",
        "entries      600, root ",
        "hash tiles   2 as",
        " by the key\n",
        "private      600 parts stored of 600;",
        "boots        1, counters without a hole",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let output = verify(&["--database", &url]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("none verified: no key was given"), "{said}");

    let output = verify(&["--database", &url, "--key", &key(2), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["valid"], false);
    let problem = object["problem"].as_str().unwrap();
    assert!(
        problem.contains("no signature is by a known key"),
        "{problem}"
    );

    scene.execute(&[
        "DROP TRIGGER entry_is_final_1",
        "UPDATE entry SET bytes = CAST(x'0801' || bytes AS BLOB) WHERE idx = 300",
    ]);
    let state = scene.path("state");
    let state = state.to_str().unwrap();
    let output = verify(&["--database", &url, "--key", &key(1), "--state", state]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let first = "invalid: index 300: its stored leaf hash is not that of its bytes\n";
    assert!(said.starts_with(first), "{said}");
    assert!(!fs::exists(state).unwrap(), "there is a verdict");
    let output = verify(&["--database", &url, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["index"], 300);
    assert_eq!(object["entries"], 300);
}

#[test]
fn tile_tree_is_verified_from_its_folder() {
    let scene = Scene::new();
    let folder = scene.path("tiles");
    let folder = folder.to_str().unwrap();
    let output = verify(&["--tiles", folder, "--key", &key(1), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["entries"], 600);
    assert_eq!(
        (&object["tiles"], &object["signatures"]),
        (&4.into(), &1.into())
    );
    assert_eq!(object["private_stored"], Value::Null);
    fs::remove_file(scene.path("tiles/tile/0/001")).unwrap();
    let output = verify(&["--tiles", folder]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("invalid: index 256: tile/0/001 is not stored\n"),
        "{said}"
    );
}

/// A web server over a folder, until it is dropped.
struct Web {
    server: Child,
    port: String,
}

/// Arguments: the folder; certificate and key, for TLS; CA, to ask clients for theirs.
const SERVER: &str = "
import functools, http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *arguments):
        pass
handler = functools.partial(Handler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    if len(sys.argv) > 4:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

impl Web {
    fn serve(arguments: &[PathBuf]) -> Self {
        let mut server = Command::new("python3")
            .args(["-c", SERVER])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let said = server.stdout.take().unwrap();
        BufReader::new(said.take(16)).read_line(&mut port).unwrap();
        Self {
            server,
            port: port.trim().to_owned(),
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[test]
fn tile_tree_is_verified_from_a_web_server() {
    let scene = Scene::new();
    let web = Web::serve(&[scene.folder.path().to_owned()]);
    let url = format!("http://127.0.0.1:{}/tiles/", web.port);
    let output = verify(&["--tiles", &url, "--key", &key(1), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let fetched: Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = scene.path("tiles");
    let output = verify(&[
        "--tiles",
        folder.to_str().unwrap(),
        "--key",
        &key(1),
        "--json",
    ]);
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(fetched, read);
    assert_eq!(fetched["entries"], 600);

    let bundle = scene.path("tiles/tile/entries/001");
    let sound = fs::read(&bundle).unwrap();
    let mut bytes = sound.clone();
    // The last entry of the bundle: its last byte is of its counter.
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let output = verify(&["--tiles", &url, "--key", &key(1)]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("invalid: index 511: "), "{said}");
    // One that is far too long is not read to its end.
    fs::write(&bundle, vec![0_u8; 20 << 20]).unwrap();
    let output = verify(&["--tiles", &url]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("invalid: index 256: "), "{said}");
    fs::write(&bundle, sound).unwrap();
    let leaves = fs::read(scene.path("tiles/tile/0/001")).unwrap();
    fs::remove_file(scene.path("tiles/tile/0/001")).unwrap();
    let output = verify(&["--tiles", &url]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let first = "invalid: index 256: tile/0/001 is not stored\n";
    assert!(said.starts_with(first), "{said}");

    // A partial file that has become full in the meantime stands for it.
    let (partial, full) = ("tiles/tile/entries/002.p/88", "tiles/tile/entries/002");
    let entries = fs::read(scene.path(partial)).unwrap();
    let tile = fs::read(scene.path("tiles/tile/0/002.p/88")).unwrap();
    let mut longer = entries;
    (88..256).for_each(|_| longer.extend_from_slice(&[0, 1, 7]));
    fs::remove_dir_all(scene.path("tiles/tile/entries/002.p")).unwrap();
    fs::remove_dir_all(scene.path("tiles/tile/0/002.p")).unwrap();
    fs::write(scene.path(full), longer).unwrap();
    fs::write(
        scene.path("tiles/tile/0/002"),
        [&tile[..], &[7; 32 * 168]].concat(),
    )
    .unwrap();
    fs::write(scene.path("tiles/tile/0/001"), leaves).unwrap();
    let output = verify(&["--tiles", &url, "--key", &key(1)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));

    let elsewhere = format!("http://127.0.0.1:{}/elsewhere", web.port);
    let output = verify(&["--tiles", &elsewhere]);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("no checkpoint"));
    drop(web);
    let output = verify(&["--tiles", &url]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("cannot connect to 127.0.0.1:"), "{said}");
}

#[test]
fn web_server_must_prove_its_name_and_may_ask_for_ours() {
    let scene = Scene::new();
    let issue = |name: &str, of: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![of.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let (file, secret) = (
            scene.path(&format!("{name}.pem")),
            scene.path(&format!("{name}.key")),
        );
        fs::write(&file, certificate.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        (file, secret)
    };
    let (server, server_key) = issue("server", "127.0.0.1");
    let (client, client_key) = issue("client", "auditor.example");
    let (other, _) = issue("other", "127.0.0.1");
    let folder = scene.path("tiles");
    let web = Web::serve(&[folder, server.clone(), server_key, client.clone()]);
    let url = format!("https://127.0.0.1:{}", web.port);
    let with = |files: &[(&str, &PathBuf)]| {
        let mut arguments = vec!["--tiles", &url];
        for (option, file) in files {
            arguments.extend([option, file.to_str().unwrap()]);
        }
        let output = verify(&arguments);
        (output.status.code(), text(&output.stderr))
    };
    let own = [
        ("--ca", &server),
        ("--cert", &client),
        ("--cert-key", &client_key),
    ];
    assert_eq!(with(&own), (Some(0), String::new()));
    let refused = with(&own[..1]);
    assert_eq!(refused.0, Some(69), "{}", refused.1);
    let stranger = with(&[("--ca", &other), own[1], own[2]]);
    assert_eq!(stranger.0, Some(69), "{}", stranger.1);
    let nobody = with(&[]);
    assert_eq!(nobody.0, Some(64), "{}", nobody.1);
    assert!(nobody.1.contains("--ca FILE"), "{}", nobody.1);
}

#[test]
fn saved_state_is_gone_on_with_or_refused() {
    let scene = Scene::new();
    let (url, state) = (scene.url(), scene.path("state"));
    let saved = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let keys = vec![key(1).parse().unwrap()];
        let mut verification = Verification::open(&url, keys, None).await.unwrap();
        verification.step().await.unwrap();
        verification.state()
    });
    let tiles = scene.path("tiles");
    for source in [["--database", &url], ["--tiles", tiles.to_str().unwrap()]] {
        let with = |key: &str| {
            fs::write(&state, &saved).unwrap();
            let keys = ["--key", key, "--state", state.to_str().unwrap()];
            verify(&[&source[..], &keys].concat())
        };
        let output = with(&key(1));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("entries      600,"));
        assert!(!state.exists(), "there is a verdict");
        // Without a key nothing is demanded, and what was verified with one is another question.
        fs::write(&state, &saved).unwrap();
        let output = verify(&[&source[..], &["--state", state.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(64));
        let said = text(&output.stderr);
        assert!(said.contains("made with other keys"), "{said}");
        assert!(state.exists());
    }
}

#[test]
fn wrong_command_line_ends_with_64_and_a_database_that_is_not_there_with_69() {
    for arguments in [
        &[][..],
        &["--database", "mysql://x/y"],
        &["--database", "sqlite://a.db", "--tiles", "b"],
        &[
            "--database",
            "sqlite://a.db",
            "--key",
            "qingdao.jiaodong/ledger/1+00000000+AA==",
        ],
        &["--database", "sqlite://a.db", "--directory", "d"],
        &["--tiles", "/nonexistent"],
        &["--tiles", "http://"],
        &["--tiles", "http://127.0.0.1:1/?x"],
        &["--tiles", "http://127.0.0.1:1", "--ca", "/nonexistent"],
    ] {
        let output = verify(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    for url in [
        "sqlite:///nonexistent/ledger.db",
        "postgres://u:geheim@127.0.0.1:1/d",
    ] {
        let output = verify(&["--database", url]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(
            said.contains("the ledger's database cannot be read"),
            "{said}"
        );
        assert!(!said.contains("geheim"), "{said}");
    }
}
