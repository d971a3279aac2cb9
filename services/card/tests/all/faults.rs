//! Databases that fail, or that must not be used.

use banqiao_card::{Store, Verify};
use banqiao_kit::{CallError, DatabaseError, DatabaseSettings, civil_date};
use tonic::Code;

use crate::{
    postgres::Postgres,
    scene::{Scene, verify_request},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_database_is_told_and_its_return_needs_no_restart() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let scene = Scene::open(&postgres.create("card")).await;
    let records = scene.holders(1).await;
    postgres.stop();
    let today = civil_date(scene.cards.clock().now_us());
    let request = Verify::parse(&verify_request(&records[0]), today).unwrap();
    let error: CallError = scene.cards.verify(&request).await.unwrap_err().into();
    assert!(matches!(error, CallError::StoreUnavailable(_)), "{error:?}");
    let status = banqiao_kit::rescue(error, banqiao_card::DOMAIN, None);
    assert_eq!(status.code(), Code::Unavailable);
    postgres.go_on();
    assert!(scene.verify(&verify_request(&records[0])).await.r#match);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_would_lose_what_it_acknowledged_is_refused() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let url = postgres.create("card") + "&options=-c%20synchronous_commit%3Doff";
    let refused = Store::open(&DatabaseSettings::new(url.parse().unwrap()))
        .await
        .unwrap_err();
    let DatabaseError::Unsafe { setting, .. } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(setting, "synchronous_commit");
}
