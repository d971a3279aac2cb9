//! A clock that was moved: each cosignature states the time by its witness's clock, so that it is told without any call.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use banqiao_tests::{
    authority::Authority,
    directory::NoteKey,
    network::{City, Plan, set},
    wait::{PATIENCE, wait_until},
};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Response, StatusCode};
use rustls::ServerConfig;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::witnesses::{an_entry, go_says, warned};

/// The requests that a witness was sent, as they came.
type Seen = Arc<Mutex<Vec<String>>>;

/// A witness that cosigns whatever it is shown, by a clock that is so many seconds ahead.
async fn witness(
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    key: NoteKey,
    ahead_s: i64,
    seen: Seen,
) {
    let listener = TcpListener::bind(address).await.unwrap();
    let key = Arc::new(key);
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, key) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&key));
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            let stream = acceptor.accept(tcp).await.ok()?;
            let mut connection = h2::server::handshake(stream).await.ok()?;
            let mut answers = JoinSet::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                answers.spawn(answer(
                    request.into_body(),
                    respond,
                    Arc::clone(&key),
                    ahead_s,
                    Arc::clone(&seen),
                ));
            }
            Some(())
        });
    }
}

/// Anything that is no checkpoint gets 404: this witness has no log.
async fn answer(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    key: Arc<NoteKey>,
    ahead_s: i64,
    seen: Seen,
) -> Option<()> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        bytes.extend_from_slice(&chunk.ok()?);
    }
    let request = String::from_utf8(bytes).ok()?;
    let mut parts = request.splitn(3, "\n\n");
    let checkpoint = parts.nth(1).map(|text| format!("{text}\n"));
    let (status, said) = match checkpoint {
        Some(text) => {
            seen.lock().unwrap().push(request.clone());
            let now = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
            let time = now.checked_add_signed(ahead_s)?;
            (StatusCode::OK, key.cosignature(&text, time))
        }
        None => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut head = Response::new(());
    *head.status_mut() = status;
    let mut stream = respond.send_response(head, false).ok()?;
    stream.send_data(Bytes::from(said), true).ok()
}

async fn alarms(city: &City) -> bool {
    let metrics = city.gateway().metrics().await.unwrap();
    let mut lines = metrics.lines();
    lines
        .any(|line| line.starts_with("banqiao_ledger_alarms_total{") && line.contains("peer_clock"))
}

#[tokio::test]
async fn moved_clock_is_told_by_the_next_cosignature() {
    for (ahead_s, told) in [
        (3_600, "s ahead of ours: one of them was moved"),
        (-3_600, "s behind ours: one of them was moved"),
    ] {
        let plan = Plan::cities(3).tweak(|_, config| {
            set(config, "ledger.witness_patience", "4s");
        });
        let mut network = plan.lay_out().unwrap();
        let idle = network.cities[1].gateways.split_off(0);
        let yantai = &network.cities[1];
        let credential = yantai.credential("gateway").unwrap();
        let authorities = network.cities.iter().map(|city| &city.authority);
        let tls = Authority::server_for(authorities, &credential).unwrap();
        let key = yantai.witness.again();
        let serving = witness(idle[0].inter_city, tls, key, ahead_s, Seen::default());
        let mut witnesses = JoinSet::new();
        witnesses.spawn(serving);
        network.run().await.unwrap();
        let qingdao = &network.cities[0];
        an_entry(qingdao).await;
        warned(qingdao, "ALARM: the clock of 370600 is ").await;
        let status = qingdao.admin().status().await.unwrap();
        let mut warnings = status.warnings.iter();
        let found = warnings.any(|warning| warning.ends_with(told));
        assert!(found, "{ahead_s}: {:?}", status.warnings);
        assert!(alarms(qingdao).await);
        let others = status.warnings.iter();
        assert!(!others.clone().any(|it| it.contains("the clock of 370700")));
    }
}

#[tokio::test]
async fn clocks_that_agree_raise_no_alarm() {
    let network = Plan::cities(2).start().await.unwrap();
    let qingdao = &network.cities[0];
    an_entry(qingdao).await;
    wait_until("a cosignature", PATIENCE, || async {
        qingdao.admin().status().await.unwrap().witnessed_size > 0
    })
    .await
    .unwrap();
    assert!(!alarms(qingdao).await);
}

/// Saves requests in the order in which they came.
fn save(folder: &Path, requests: &[String]) {
    fs::remove_dir_all(folder).ok();
    fs::create_dir_all(folder).unwrap();
    for (number, request) in requests.iter().enumerate() {
        fs::write(folder.join(format!("{number:04}")), request).unwrap();
    }
}

#[tokio::test]
async fn consistency_proofs_are_accepted_by_a_stranger_and_none_that_is_changed() {
    let mut network = Plan::cities(3).lay_out().unwrap();
    let idle = network.cities[1].gateways.split_off(0);
    let yantai = &network.cities[1];
    let credential = yantai.credential("gateway").unwrap();
    let authorities = network.cities.iter().map(|city| &city.authority);
    let tls = Authority::server_for(authorities, &credential).unwrap();
    let seen = Seen::default();
    let key = yantai.witness.again();
    let serving = witness(idle[0].inter_city, tls, key, 0, Arc::clone(&seen));
    let mut witnesses = JoinSet::new();
    witnesses.spawn(serving);
    network.run().await.unwrap();
    let qingdao = &network.cities[0];
    let ours = || -> Vec<String> {
        let seen = seen.lock().unwrap();
        let origin = format!("\n\n{}\n", qingdao.ledger.name());
        let ours = seen.iter().filter(|request| request.contains(&origin));
        ours.cloned().collect()
    };
    let proven = |request: &String| request.split("\n\n").next().unwrap().contains('\n');
    wait_until("four consistency proofs", PATIENCE, || async {
        an_entry(qingdao).await;
        ours().iter().filter(|request| proven(request)).count() >= 4
    })
    .await
    .unwrap();
    let requests = ours();
    let folder = network.folder().join("requests");
    save(&folder, &requests);
    let said = go_says("requests", &folder, qingdao, &[]).await;
    assert!(said["continued"].as_u64() >= Some(4), "{said}");

    // A hash of a proof, the size that it is from, the tree, its signature.
    let at = requests.iter().rposition(proven).unwrap();
    let request = &requests[at];
    let (head, note) = request.split_once("\n\n").unwrap();
    let hash = head.lines().nth(1).unwrap();
    let other = if hash.starts_with('A') { "B" } else { "A" };
    let root = note.lines().nth(2).unwrap();
    let signature = note.lines().last().unwrap();
    let earlier = requests[0].lines().last().unwrap();
    for (what, changed) in [
        (
            "hash",
            request.replacen(hash, &(other.to_owned() + &hash[1..]), 1),
        ),
        (
            "proof",
            request
                .replacen(&format!("{hash}\n"), "", 1)
                .replacen(hash, "", 1),
        ),
        ("old size", request.replacen("old ", "old 1", 1)),
        ("root", request.replacen(root, hash, 1)),
        ("signature", request.replacen(signature, earlier, 1)),
    ] {
        assert_ne!(*request, changed, "{what}");
        let mut requests = requests.clone();
        requests[at] = changed;
        save(&folder, &requests);
        let said = go_says("requests", &folder, qingdao, &[]).await;
        assert!(said["invalid"].is_string(), "{what}: {said}");
    }
}
