//! Invariant 5: no city can rewrite its history, or show different ones, unnoticed.

use std::{fs, path::Path, process::Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_proto::ledger::v1::EntryFilter;
use banqiao_tests::{
    echo::EchoRequest,
    network::{City, Network, Plan, SYSTEM},
    wait::{PATIENCE, wait_for, wait_until},
    wire::{Caller, Head},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};
use tokio::process::Command;

use crate::clients::{log_client, python, repository};

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
    hash
}

/// RFC 6962 §2.1.
pub(crate) fn leaf(content: &[u8]) -> [u8; 32] {
    sha256(&[&[0], content])
}

pub(crate) fn node(left: &[u8], right: &[u8]) -> [u8; 32] {
    sha256(&[&[1], left, right])
}

/// A checkpoint of a city's log, signed by its own key.
pub(crate) fn signed(city: &City, size: u64, root: &[u8]) -> String {
    let text = format!(
        "{}\n{size}\n{}\n",
        city.ledger.name(),
        STANDARD.encode(root)
    );
    city.ledger.note(&text)
}

/// Body of add-checkpoint (C2SP tlog-witness).
pub(crate) fn request(old: u64, proof: &[&[u8]], note: &str) -> String {
    let proof: String = proof
        .iter()
        .map(|hash| format!("{}\n", STANDARD.encode(hash)))
        .collect();
    format!("old {old}\n{proof}\n{note}")
}

pub(crate) async fn submit(link: &Caller, body: String) -> (u16, String) {
    let (status, _, answer) = link
        .http(Method::POST, "/witness/add-checkpoint", body)
        .await
        .unwrap();
    (status, String::from_utf8(answer).unwrap())
}

/// An auditor's look is an entry: without one, a ledger has no checkpoint.
pub(crate) async fn an_entry(city: &City) {
    let all = EntryFilter::default();
    city.admin().search(all).await.unwrap();
}

/// Three cities, of which the third's gateway does not run: a test speaks in its name.
pub(crate) async fn two_of_three(plan: Plan) -> Network {
    let mut network = plan.lay_out().unwrap();
    let idle = network.cities[2].gateways.split_off(0);
    network.run().await.unwrap();
    network.cities[2].gateways = idle;
    network
}

/// A message of the status, as `banqiao status` shows it.
pub(crate) async fn warned(city: &City, what: &str) {
    wait_until(what, PATIENCE, || async {
        // It may only just be starting.
        let Ok(status) = city.admin().status().await else {
            return false;
        };
        status.warnings.iter().any(|warning| warning.contains(what))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn witness_cosigns_what_continues_and_nothing_else() {
    let mut network = two_of_three(Plan::cities(3)).await;
    let [_, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let (a, b, c) = (leaf(b"a"), leaf(b"b"), leaf(b"c"));
    let one = signed(weifang, 1, &a);
    let two = signed(weifang, 2, &node(&a, &b));
    let fork = signed(weifang, 2, &node(&c, &b));
    let link = weifang.as_gateway(yantai).await.unwrap();

    let forged = one.replace("\n1\n", "\n2\n");
    let told = "ALARM: 370700 has signed two histories";
    for (what, body, status, answer) in [
        ("no request", "hello".to_owned(), 400, ""),
        ("a signature of nobody", request(0, &[], &forged), 403, ""),
        (
            "an old size that is not held",
            request(1, &[], &two),
            409,
            "0\n",
        ),
        (
            "a first checkpoint",
            request(0, &[], &one),
            200,
            "— yantai.jiaodong/witness ",
        ),
        (
            "the same again",
            request(1, &[], &one),
            200,
            "— yantai.jiaodong/witness ",
        ),
        ("as if nothing were held", request(0, &[], &one), 409, "1\n"),
        ("a fork", request(1, &[&b], &fork), 422, ""),
        ("no proof", request(1, &[], &two), 422, ""),
        ("another proof", request(1, &[&c], &two), 422, ""),
        (
            "what continues",
            request(1, &[&b], &two),
            200,
            "— yantai.jiaodong/witness ",
        ),
        ("a step back", request(2, &[], &one), 400, ""),
        ("a rollback", request(1, &[], &one), 409, "2\n"),
    ] {
        let got = submit(&link, body).await;
        assert_eq!(got.0, status, "{what}: {got:?}");
        assert!(got.1.starts_with(answer), "{what}: {got:?}");
    }
    // In nobody else's name: the log is known, and its city is not the one that speaks.
    let qingdao = &network.cities[0];
    let other = qingdao.as_gateway(yantai).await.unwrap();
    assert_eq!(submit(&other, request(2, &[], &two)).await.0, 404);
    let unknown = yantai
        .ledger
        .note(&format!("elsewhere/ledger/1\n1\n{}\n", STANDARD.encode(a)));
    assert_eq!(submit(&link, request(0, &[], &unknown)).await.0, 404);

    // A log that cannot show that it continues what it signed has another history.
    warned(yantai, told).await;
    let fork_of = async |link: &Caller| {
        let path = "/witness/fork?origin=weifang.jiaodong/ledger/1";
        let (status, _, body) = link.http(Method::GET, path, "").await.unwrap();
        (status, String::from_utf8(body).unwrap())
    };
    let (status, shown) = fork_of(&other).await;
    assert_eq!(status, 200);
    assert!(
        shown.starts_with("weifang.jiaodong/ledger/1\n2\n"),
        "{shown}"
    );

    // What it has cosigned outlives a kill, and so does what it has found.
    let yantai = &mut network.cities[1];
    yantai.gateway_mut().kill().unwrap();
    yantai.gateway_mut().restart().await.unwrap();
    let [_, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let link = weifang.as_gateway(yantai).await.unwrap();
    let again = submit(&link, request(0, &[], &one)).await;
    assert_eq!(again, (409, "2\n".to_owned()));
    warned(yantai, told).await;
    let metrics = yantai.gateway().metrics().await.unwrap();
    assert!(metrics.contains("banqiao_witness_total{"), "{metrics}");
}

#[tokio::test]
async fn peers_read_tiles_and_checkpoints_and_no_entries() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let get = async |path: &str| link.http(Method::GET, path, "").await.unwrap();
    let (_, headers, note) = wait_for("a checkpoint", PATIENCE, || async {
        let answer = get("/log/checkpoint").await;
        (answer.0 == 200).then_some(answer)
    })
    .await
    .unwrap();
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    assert!(note.starts_with(b"yantai.jiaodong/ledger/1\n"));
    let (status, headers, tile) = get("/log/tile/0/000.p/1").await;
    assert_eq!((status, tile.len()), (200, 32));
    assert_eq!(headers["content-type"], "application/octet-stream");
    for (path, expected) in [
        ("/log/tile/entries/000.p/1", 403),
        ("/log/tile/0/000", 404),
        ("/log/tile/0/0", 404),
        ("/log/tile/0/999.p/1", 404),
        ("/log/tile/64/000.p/1", 404),
        ("/log/tile/0/../0/000.p/1", 404),
        ("/log/", 404),
        ("/witness/add-checkpoint", 404),
        ("/witness/", 404),
    ] {
        assert_eq!(get(path).await.0, expected, "{path}");
    }
    let (status, ..) = link
        .http(Method::POST, "/log/checkpoint", "")
        .await
        .unwrap();
    assert_eq!(status, 405);
    // Systems are no peers: at their listener there is no such thing.
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let (_, headers, body) = caller
        .http(Method::GET, "/log/checkpoint", "")
        .await
        .unwrap();
    assert!(headers.contains_key("grpc-status"), "{headers:?}: {body:?}");
}

#[tokio::test]
async fn five_cities_witness_each_other_and_a_stranger_verifies_them() {
    let network = Network::start(5).await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    for _ in 0..300 {
        // Refused, because nobody grants it: each is an entry.
        let head = Head::new("/example.echo.v1.EchoService/Echo", "370600");
        caller.unary(&head, &EchoRequest::default()).await.unwrap();
    }
    let folder = network.folder().join("log");
    for city in &network.cities {
        an_entry(city).await;
        wait_until(
            "four cosignatures under the newest checkpoint",
            PATIENCE,
            || async {
                let status = city.admin().status().await.unwrap();
                let all = status
                    .witnesses
                    .iter()
                    .filter(|witness| witness.cosigned_size == status.witnessed_size)
                    .count();
                status.witnessed_size > 0 && all == 4
            },
        )
        .await
        .unwrap();
        let metrics = city.gateway().metrics().await.unwrap();
        assert!(metrics.contains("banqiao_ledger_witnessed"), "{metrics}");
    }
    // Qingdao's log, as Rizhao may read it, verified by a program that shares nothing with ours.
    let [qingdao, .., rizhao] = network.cities.as_slice() else {
        panic!("five cities")
    };
    let link = rizhao.as_gateway(qingdao).await.unwrap();
    let size = wait_for(
        "a log with a full tile and its cosignatures",
        PATIENCE,
        || async {
            let size = download(&link, &folder).await?;
            let report = verify(&folder, &network, qingdao).await;
            (size > 256 && report["cosigned"].as_array().map(Vec::len) == Some(4)).then_some(size)
        },
    )
    .await
    .unwrap();
    let report = verify(&folder, &network, qingdao).await;
    assert_eq!(report["size"], size);

    // Whatever is changed, it says so.
    for (file, needle, with) in [
        ("checkpoint", &b"/ledger/1"[..], &b"/ledger/2"[..]),
        ("checkpoint", "— qingdao".as_bytes(), "— Qingdao".as_bytes()),
    ] {
        tampered(&folder, &network, qingdao, file, |bytes| {
            let at = bytes
                .windows(needle.len())
                .position(|window| window == needle)
                .unwrap();
            bytes[at..at + needle.len()].copy_from_slice(with);
        })
        .await;
    }
    for file in ["tile/0/000", "tile/1/000.p/1"] {
        for at in [0, 31] {
            tampered(&folder, &network, qingdao, file, |bytes| bytes[at] ^= 1).await;
        }
        tampered(&folder, &network, qingdao, file, |bytes| bytes.truncate(31)).await;
    }
}

async fn tampered(
    folder: &Path,
    network: &Network,
    city: &City,
    file: &str,
    change: impl FnOnce(&mut Vec<u8>),
) {
    let path = folder.join(file);
    let sound = fs::read(&path).unwrap();
    let mut bytes = sound.clone();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let report = verify(folder, network, city).await;
    assert!(report["invalid"].is_string(), "{file}: {report}");
    fs::write(&path, &sound).unwrap();
}

/// Saves checkpoint and tiles; the size, once they are all there.
async fn download(link: &Caller, folder: &Path) -> Option<u64> {
    fs::remove_dir_all(folder).ok();
    let save = async |path: &str| {
        let (status, _, body) = link
            .http(Method::GET, &format!("/log/{path}"), "")
            .await
            .unwrap();
        assert_eq!(status, 200, "{path}");
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &body).unwrap();
        body
    };
    let note = String::from_utf8(save("checkpoint").await).unwrap();
    let size: u64 = note.lines().nth(1)?.parse().ok()?;
    let mut nodes = size;
    for level in 0.. {
        for number in 0..nodes.div_ceil(256) {
            let width = (nodes - 256 * number).min(256);
            let partial = if width < 256 {
                format!(".p/{width}")
            } else {
                String::new()
            };
            save(&format!("tile/{level}/{number:03}{partial}")).await;
        }
        nodes /= 256;
        if nodes == 0 {
            break;
        }
    }
    Some(size)
}

async fn verify(folder: &Path, network: &Network, city: &City) -> Value {
    let mut command = Command::new(python());
    command
        .arg(repository().join("tests/clients/python/log_verifier.py"))
        .arg(folder)
        .args(["--log", &city.ledger.verifier()]);
    for other in network
        .cities
        .iter()
        .filter(|other| other.code != city.code)
    {
        command.args(["--witness", &other.witness.verifier()]);
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        output.status.success(),
        report["invalid"].is_null(),
        "{report}"
    );
    // Go's libraries say the same, and they prove each leaf.
    let witnesses = network.cities.iter().filter(|it| it.code != city.code);
    let witnesses: Vec<String> = witnesses.map(|it| it.witness.verifier()).collect();
    let go = go_says("tiles", folder, city, &witnesses).await;
    assert_eq!(
        report["invalid"].is_null(),
        go["invalid"].is_null(),
        "{report} {go}"
    );
    if go["invalid"].is_null() {
        assert_eq!(go["proven"], report["size"]);
        assert_eq!(
            go["cosigned"].as_u64(),
            report["cosigned"].as_array().map(|all| all.len() as u64)
        );
    }
    report
}

/// What the client on Go's libraries says.
pub(crate) async fn go_says(what: &str, place: &Path, city: &City, witnesses: &[String]) -> Value {
    let mut command = Command::new(log_client());
    command.arg(what).arg(place);
    command.args(["--log", &city.ledger.verifier()]);
    for witness in witnesses {
        command.args(["--witness", witness]);
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), said["invalid"].is_null(), "{said}");
    said
}

/// What a gateway that is frozen says.
async fn frozen(city: &City, alarm: &str) {
    warned(city, "ALARM").await;
    wait_until("the alarm in the metrics", PATIENCE, || async {
        let metrics = city.gateway().metrics().await.unwrap();
        metrics
            .lines()
            .any(|line| line.starts_with("banqiao_ledger_alarms_total{") && line.contains(alarm))
    })
    .await
    .unwrap();
    // The alarm is told before the database has it.
    wait_until("a ledger that is not written", PATIENCE, || async {
        !city.admin().status().await.unwrap().ledger_writable
    })
    .await
    .unwrap();
    let status = city.admin().status().await.unwrap();
    assert!(
        status
            .warnings
            .iter()
            .any(|told| told.contains("banqiao recover")),
        "{:?}",
        status.warnings
    );
}

#[tokio::test]
async fn larger_checkpoint_with_its_own_signature_stops_a_city() {
    let mut network = two_of_three(Plan::cities(3)).await;
    let [_, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    // What Weifang has signed is more than what it will have.
    let link = weifang.as_gateway(yantai).await.unwrap();
    let note = signed(weifang, 1_000_000, &leaf(b"a longer log"));
    assert_eq!(submit(&link, request(0, &[], &note)).await.0, 200);
    let weifang = &mut network.cities[2];
    weifang.gateway_mut().start().unwrap();
    frozen(weifang, "rollback").await;
    // It keeps the proof, and a restart changes nothing, also when nobody is left to say it.
    let proof = weifang
        .gateway()
        .folder
        .join("state/contradicted-checkpoint.note");
    assert_eq!(fs::read_to_string(proof).unwrap(), note);
    network.cities[0].gateway_mut().kill().unwrap();
    network.cities[1].gateway_mut().kill().unwrap();
    let weifang = &mut network.cities[2];
    weifang.gateway_mut().kill().unwrap();
    weifang.gateway_mut().start().unwrap();
    warned(weifang, "Flagged").await;
}

/// Lets a city's log grow until its witness has cosigned a full tree of it, and forges with the log's own key what comes
/// behind: twice as many entries. Returns their number.
pub(crate) async fn forged(qingdao: &City, link: &Caller) -> (u64, String) {
    an_entry(qingdao).await;
    let (size, root) = wait_for("a full tree", PATIENCE, || async {
        let path = "/witness/checkpoint?origin=qingdao.jiaodong/ledger/1";
        let (status, _, note) = link.http(Method::GET, path, "").await.unwrap();
        let note = String::from_utf8(note).unwrap();
        let size: u64 = (status == 200)
            .then(|| note.lines().nth(1))??
            .parse()
            .ok()?;
        let root = STANDARD.decode(note.lines().nth(2)?).ok()?;
        // Nothing is on its way to the witness any more.
        let all = qingdao.admin().status().await.unwrap().ledger_size == size;
        let full = size >= 4 && size.is_power_of_two();
        if all && !full {
            an_entry(qingdao).await;
        }
        (all && full).then_some((size, root))
    })
    .await
    .unwrap();
    let behind = leaf(b"other entries");
    let note = signed(qingdao, 2 * size, &node(&root, &behind));
    (2 * size, request(size, &[&behind], &note))
}

#[tokio::test]
async fn larger_checkpoint_stops_a_city_while_it_runs() {
    let network = Network::start(2).await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let (_, forgery) = forged(qingdao, &link).await;
    assert_eq!(submit(&link, forgery).await.0, 200);
    // The next checkpoint meets it.
    an_entry(qingdao).await;
    frozen(qingdao, "rollback").await;
}

#[tokio::test]
async fn another_history_stops_a_city_at_its_start() {
    // The third city lets the second start without the first.
    let mut network = Network::start(3).await.unwrap();
    let [qingdao, yantai, _] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let link = qingdao.as_gateway(yantai).await.unwrap();
    let (size, forgery) = forged(qingdao, &link).await;
    // It goes on without its witness, and is away when the witness returns.
    network.cities[1].gateway_mut().kill().unwrap();
    let qingdao = &network.cities[0];
    wait_until("more entries than were forged", PATIENCE, || async {
        an_entry(qingdao).await;
        qingdao.admin().status().await.unwrap().ledger_size > size
    })
    .await
    .unwrap();
    network.cities[0].gateway_mut().kill().unwrap();
    network.cities[1].gateway_mut().restart().await.unwrap();
    let link = network.cities[0]
        .as_gateway(&network.cities[1])
        .await
        .unwrap();
    assert_eq!(submit(&link, forgery).await.0, 200);
    network.cities[0].gateway_mut().start().unwrap();
    frozen(&network.cities[0], "fork").await;
}

/// A city that lies about another one raises an alarm there, and no more.
#[tokio::test]
async fn witness_alone_stops_nobody() {
    let mut network = Network::start(2).await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    an_entry(qingdao).await;
    wait_until("a cosignature", PATIENCE, || async {
        qingdao.admin().status().await.unwrap().witnessed_size > 0
    })
    .await
    .unwrap();
    let text = format!(
        "qingdao.jiaodong/ledger/1\n1000000\n{}\n",
        STANDARD.encode(leaf(b"what was never there"))
    );
    let file = yantai.gateway().folder.join("gateway.db");
    let url = format!("sqlite://{}", file.display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("UPDATE witness_state SET size = 1000000, note = ?1 WHERE origin = ?2")
        .bind(yantai.ledger.note(&text))
        .bind("qingdao.jiaodong/ledger/1")
        .execute(&mut database)
        .await
        .unwrap();
    an_entry(qingdao).await;
    warned(qingdao, "ALARM").await;
    let size = qingdao.admin().status().await.unwrap().ledger_size;
    an_entry(qingdao).await;
    let status = qingdao.admin().status().await.unwrap();
    assert!(status.ledger_writable && status.ledger_size > size);
    // Nor at the start.
    let qingdao = network.cities[0].gateway_mut();
    qingdao.kill().unwrap();
    qingdao.restart().await.unwrap();
    an_entry(&network.cities[0]).await;
}

#[tokio::test]
async fn witness_tells_what_it_has_cosigned() {
    let network = two_of_three(Plan::cities(3)).await;
    let [qingdao, yantai, weifang] = network.cities.as_slice() else {
        panic!("three cities")
    };
    let link = weifang.as_gateway(yantai).await.unwrap();
    let ask = async |link: &Caller, query: &str| {
        let path = format!("/witness/checkpoint{query}");
        let (status, _, body) = link.http(Method::GET, &path, "").await.unwrap();
        (status, String::from_utf8(body).unwrap())
    };
    let of = |origin: &str| format!("?origin={origin}");
    let ours = of("weifang.jiaodong/ledger/1");
    assert_eq!(ask(&link, &ours).await, (204, String::new()));
    let one = signed(weifang, 1, &leaf(b"a"));
    assert_eq!(submit(&link, request(0, &[], &one)).await.0, 200);
    assert_eq!(ask(&link, &ours).await, (200, one.clone()));
    // To every city: what a log shows to one it shows to all.
    let other = qingdao.as_gateway(yantai).await.unwrap();
    assert_eq!(ask(&other, &ours).await, (200, one));
    assert_eq!(ask(&link, &of("weifang.jiaodong/ledger/2")).await.0, 404);
    assert_eq!(ask(&link, "").await.0, 400);
}

#[tokio::test]
async fn new_ledger_waits_for_a_witness_and_an_old_one_does_not() {
    let mut network = Plan::cities(2).lay_out().unwrap();
    let qingdao = network.cities[0].gateway_mut();
    qingdao.start().unwrap();
    warned(&network.cities[0], "Unconfirmed").await;
    assert!(
        !network.cities[0]
            .admin()
            .status()
            .await
            .unwrap()
            .ledger_writable
    );
    let yantai = network.cities[1].gateway_mut();
    yantai.start().unwrap();
    yantai.ready().await.unwrap();
    network.cities[0].gateway_mut().ready().await.unwrap();
    an_entry(&network.cities[0]).await;
    // Alone, with a ledger that contradicts nothing.
    network.cities[1].gateway_mut().kill().unwrap();
    let qingdao = network.cities[0].gateway_mut();
    qingdao.kill().unwrap();
    qingdao.restart().await.unwrap();
    an_entry(&network.cities[0]).await;
}
