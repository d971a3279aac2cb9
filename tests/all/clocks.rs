//! A clock that was moved: each cosignature states the time by its witness's clock, so that it is told without any call.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

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

use crate::witnesses::{an_entry, warned};

/// A witness that cosigns whatever it is shown, by a clock that is so many seconds ahead.
async fn witness(address: SocketAddr, tls: Arc<ServerConfig>, key: NoteKey, ahead_s: i64) {
    let listener = TcpListener::bind(address).await.unwrap();
    let key = Arc::new(key);
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, key) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&key));
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
        let serving = witness(idle[0].inter_city, tls, yantai.witness.again(), ahead_s);
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
