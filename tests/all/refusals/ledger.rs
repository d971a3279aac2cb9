//! Nothing crosses that cannot be recorded.

use std::{path::PathBuf, process::Command};

use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{EntryFilter, Kind},
};
use banqiao_tests::{
    echo::{EchoRequest, WatchRequest},
    network::{Network, Plan, set},
    postgres::Cluster,
    wait::{PATIENCE, wait_until},
    wire::{Answer, Message},
};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use super::{At, ECHO, Row, Scene, Seen, prove, until_refused};

/// Waits until calls are carried again.
async fn carried(scene: &Scene) {
    let caller = &scene.caller;
    wait_until("calls again", PATIENCE, || async {
        let answer = caller
            .unary(&Scene::head(ECHO), &EchoRequest::default())
            .await;
        answer.is_ok_and(|answer| answer.code() == Some(0))
    })
    .await
    .unwrap();
}

/// Whether a SUMMARY of a gap was entered.
async fn gap(scene: &Scene, city: usize) -> bool {
    let filter = EntryFilter {
        kinds: vec![Kind::Summary.into()],
        ..Default::default()
    };
    let found = scene.network.cities[city]
        .admin()
        .search(filter)
        .await
        .unwrap_or_default();
    found.iter().any(|record| {
        record
            .entry
            .summary
            .as_ref()
            .is_some_and(|summary| summary.gap)
    })
}

pub(super) const SQLITE: &[Row] = &[Row {
    reason: Reason::LedgerUnavailable,
    at: At::Consumer,
    how: "the consumer's SQLite file cannot be written",
    provoke: |scene| {
        Box::pin(async {
            let file = scene.consumer().gateway().folder.join("gateway.db");
            let url = format!("sqlite://{}", file.display());
            // What a read-only disk does to a write, whoever the gateway runs as: the write lock is never free.
            let mut lock = SqliteConnection::connect(&url).await.unwrap();
            sqlx::query("BEGIN IMMEDIATE")
                .execute(&mut lock)
                .await
                .unwrap();
            let answer = until_refused(scene, &Scene::head(ECHO), Reason::LedgerUnavailable).await;
            sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
            carried(scene).await;
            Seen::from(answer)
        })
    },
}];

#[tokio::test]
async fn locked_sqlite_file_stops_calls_and_leaves_a_gap_entry() {
    let mut scene = Scene::new(Network::echo().await.unwrap()).await;
    prove(&mut scene, SQLITE).await;
    wait_until("the gap's entry", PATIENCE, || gap(&scene, 0))
        .await
        .unwrap();
    let reached = scene.service().seen().len();
    let answered = scene.service().count("x-never", "x");
    assert!(reached > 0 && answered == 0);
}

/// Files with the immutable flag, which holds against root and against files that are open.
struct ReadOnly(Vec<PathBuf>);

impl ReadOnly {
    fn set(files: Vec<PathBuf>) -> Option<Self> {
        Self::change("+i", &files).then_some(Self(files))
    }

    fn change(flag: &str, files: &[PathBuf]) -> bool {
        let changed = Command::new("chattr").arg(flag).args(files).status();
        changed.is_ok_and(|status| status.success())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        Self::change("-i", &self.0);
    }
}

#[tokio::test]
async fn sqlite_file_made_read_only_stops_calls() {
    let scene = Scene::new(Network::echo().await.unwrap()).await;
    let folder = scene.consumer().gateway().folder.clone();
    let files = ["gateway.db", "gateway.db-wal"].map(|name| folder.join(name));
    let Some(read_only) = ReadOnly::set(files.to_vec()) else {
        // Not every file system has the flag; the locked file above shows the same refusal.
        println!("skipped: no immutable files here");
        return;
    };
    // The call whose commit met the fault may wait for its own deadline; those after it are refused at once.
    let head = Scene::head(ECHO).with("grpc-timeout", "5S");
    let refused = until_refused(&scene, &head, Reason::LedgerUnavailable).await;
    assert!(refused.exchange().is_some());
    drop(read_only);
    carried(&scene).await;
}

pub(super) const POSTGRES: &[Row] = &[
    Row {
        reason: Reason::GrantsStale,
        at: At::Provider,
        how: "the grants' revision cannot be read",
        provoke: |scene| {
            Box::pin(async {
                let mut lock = PgConnection::connect(&url(scene, 1)).await.unwrap();
                sqlx::query("BEGIN").execute(&mut lock).await.unwrap();
                sqlx::query("LOCK TABLE document_revision, document IN ACCESS EXCLUSIVE MODE")
                    .execute(&mut lock)
                    .await
                    .unwrap();
                let answer = until_refused(scene, &Scene::head(ECHO), Reason::GrantsStale).await;
                sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
                carried(scene).await;
                Seen::from(answer)
            })
        },
    },
    Row {
        reason: Reason::LedgerUnavailable,
        at: At::Provider,
        how: "somebody holds the head of the provider's ledger",
        provoke: |scene| {
            Box::pin(async {
                let mut lock = PgConnection::connect(&url(scene, 1)).await.unwrap();
                sqlx::query("BEGIN").execute(&mut lock).await.unwrap();
                sqlx::query("LOCK TABLE head IN ACCESS EXCLUSIVE MODE")
                    .execute(&mut lock)
                    .await
                    .unwrap();
                let head = Scene::head(ECHO);
                let answer = until_refused(scene, &head, Reason::LedgerUnavailable).await;
                sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
                carried(scene).await;
                Seen::from(answer)
            })
        },
    },
    Row {
        reason: Reason::LeaseLost,
        at: At::Provider,
        how: "another replica has taken the lease for dead",
        provoke: |scene| {
            Box::pin(async {
                let head = Scene::head("/example.echo.v1.RuledService/Watch");
                let mut call = scene.caller.open(&head).await.unwrap();
                call.send(&Message::of(&WatchRequest {})).await.unwrap();
                call.finish();
                let (_request, headers, mut messages) = call.headers().await.unwrap();
                let first = messages.next().await.unwrap().unwrap();
                let mut connection = PgConnection::connect(&url(scene, 1)).await.unwrap();
                sqlx::query("UPDATE lease SET fenced = TRUE")
                    .execute(&mut connection)
                    .await
                    .unwrap();
                assert_eq!(messages.next().await.unwrap(), None);
                let trailers = messages.trailers().await.unwrap();
                carried(scene).await;
                let messages = vec![first];
                Seen::from(Answer {
                    http_status: 200,
                    headers,
                    messages,
                    trailers,
                    reset: None,
                })
            })
        },
    },
];

/// URL of a city's ledger.
fn url(scene: &Scene, city: usize) -> String {
    let config = &scene.network.cities[city].gateway().config;
    config["ledger"]["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn postgres_that_cannot_be_read_or_written_stops_calls() {
    let cluster = Cluster::start().unwrap();
    let urls = [cluster.database().unwrap(), cluster.database().unwrap()];
    let plan = Plan::cities(2).tweak(move |code, config| {
        let url = &urls[usize::from(code != "370200")];
        set(config, "ledger.url", url.clone());
        set(config, "ledger.lease_ttl", "4s");
        set(config, "ledger.lease_renew", "500ms");
    });
    let mut scene = Scene::new(Network::echo_of(plan).await.unwrap()).await;
    prove(&mut scene, POSTGRES).await;

    // PostgreSQL stopped: both cities refuse, and nothing reaches the service.
    cluster.stop().unwrap();
    let refused = until_refused(&scene, &Scene::head(ECHO), Reason::LedgerUnavailable).await;
    assert_eq!(refused.code(), Some(14));
    let before = scene
        .service()
        .seen()
        .iter()
        .filter(|seen| seen.path == ECHO)
        .count();
    for _ in 0..20 {
        scene
            .caller
            .unary(&Scene::head(ECHO), &EchoRequest::default())
            .await
            .unwrap();
    }
    let after = scene
        .service()
        .seen()
        .iter()
        .filter(|seen| seen.path == ECHO)
        .count();
    assert_eq!(before, after);
    cluster.restart().unwrap();
    carried(&scene).await;
    wait_until("the gap's entry", PATIENCE, || gap(&scene, 0))
        .await
        .unwrap();
}
