//! Databases that fail, or that must not be used.

use banqiao_kit::{CallError, DatabaseError, DatabaseSettings};
use banqiao_lab::{FindReports, Store};
use tonic::Code;

use crate::{
    postgres::Postgres,
    scene::{DAY, DOCTOR, NOON, Scene, caller, report, search},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_database_is_told_and_its_return_needs_no_restart() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let scene = Scene::open(&postgres.create("lab")).await;
    let first = report(1, 1, DAY);
    scene.published(std::slice::from_ref(&first)).await;
    postgres.stop();
    let request = FindReports::parse(&search(&first), NOON).unwrap();
    let error = scene
        .reports
        .find(&request, &caller(DOCTOR))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::StoreUnavailable(_)), "{error:?}");
    let status = banqiao_kit::rescue(error, banqiao_lab::DOMAIN, None);
    assert_eq!(status.code(), Code::Unavailable);
    postgres.go_on();
    assert_eq!(scene.find(&search(&first), DOCTOR).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_would_lose_what_it_acknowledged_is_refused() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let url = postgres.create("lab") + "&options=-c%20synchronous_commit%3Doff";
    let refused = Store::open(&DatabaseSettings::new(url.parse().unwrap()))
        .await
        .unwrap_err();
    let DatabaseError::Unsafe { setting, .. } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(setting, "synchronous_commit");
}
