//! Who is told of what supersedes a report.

use std::time::Duration;

use banqiao_kit::CallError;
use banqiao_lab::{WatchFrom, Watches};
use banqiao_proto::lab::v1::{ReportStatus, Superseded, WatchSupersededResponse};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::scene::{BRISK, DAY, DOCTOR, Scene, corrected, publish, report, search};

/// Far beyond what any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);
const OTHER: &str = "spiffe://weihai.jiaodong/hospital-1/emr";

type Next = Result<WatchSupersededResponse, CallError>;

async fn open(
    watches: &Watches,
    client: &str,
    from: WatchFrom,
) -> std::pin::Pin<Box<dyn Stream<Item = Next> + Send>> {
    watches
        .open(client.parse().unwrap(), from)
        .await
        .unwrap()
        .boxed()
}

async fn next(watch: &mut (impl Stream<Item = Next> + Unpin)) -> WatchSupersededResponse {
    timeout(PATIENCE, watch.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

/// The next superseding, past messages that only move the cursor.
async fn superseded(watch: &mut (impl Stream<Item = Next> + Unpin)) -> Superseded {
    loop {
        if let Some(superseded) = next(watch).await.superseded {
            return superseded;
        }
    }
}

pub(crate) async fn who_read_the_old_version_is_told_and_nobody_else(scene: Scene) {
    let reports: Vec<_> = (0..3).map(|index| report(index, index, DAY)).collect();
    scene.published(&reports).await;
    scene.find(&search(&reports[0]), DOCTOR).await;
    scene.find(&search(&reports[2]), DOCTOR).await;
    scene.find(&search(&reports[1]), OTHER).await;
    let watches = scene.watches(BRISK);
    let mut doctor = open(&watches, DOCTOR, WatchFrom::Now).await;
    let mut other = open(&watches, OTHER, WatchFrom::After(0)).await;
    assert_eq!(next(&mut doctor).await.superseded, None);
    for (place, status) in [
        (1, ReportStatus::Corrected),
        (2, ReportStatus::Cancelled),
        (0, ReportStatus::Amended),
    ] {
        scene.publish(&[corrected(&reports[place], status)]).await;
    }
    let first = superseded(&mut doctor).await;
    assert_eq!(
        (first.report_number.as_str(), first.status()),
        (&*reports[2].report_number, ReportStatus::Cancelled)
    );
    assert_eq!(
        (first.version, first.read_version, first.city.as_str()),
        (2, 1, "370200")
    );
    assert_eq!(
        superseded(&mut doctor).await.report_number,
        reports[0].report_number
    );
    assert_eq!(
        superseded(&mut other).await.report_number,
        reports[1].report_number
    );
}

pub(crate) async fn a_watch_resumes_after_its_cursor(scene: Scene) {
    let reports: Vec<_> = (0..5).map(|index| report(index, 1, DAY)).collect();
    scene.published(&reports).await;
    scene.find(&search(&reports[0]), DOCTOR).await;
    let next_versions: Vec<_> = reports
        .iter()
        .map(|report| corrected(report, ReportStatus::Corrected))
        .collect();
    scene.publish(&next_versions).await;
    let watches = scene.watches(BRISK);
    let mut watch = open(&watches, DOCTOR, WatchFrom::After(0)).await;
    let mut cursor = String::new();
    for report in &reports[..2] {
        let message = next(&mut watch).await;
        assert_eq!(
            message.superseded.unwrap().report_number,
            report.report_number
        );
        cursor = message.cursor;
    }
    drop(watch);
    let mut watch = open(&watches, DOCTOR, WatchFrom::parse(&cursor).unwrap()).await;
    for report in &reports[2..] {
        assert_eq!(
            superseded(&mut watch).await.report_number,
            report.report_number
        );
    }
    for bad in ["x", "-1", "99999999999999999999", "+1"] {
        assert!(WatchFrom::parse(bad).is_err(), "{bad}");
    }
    let beyond = watches
        .open(DOCTOR.parse().unwrap(), WatchFrom::After(6))
        .await;
    assert!(matches!(beyond.err(), Some(CallError::CallerInvalid(_))));
}

pub(crate) async fn a_watch_sees_the_changes_of_another_replica(scene: Scene) {
    let first = report(1, 1, DAY);
    scene.published(std::slice::from_ref(&first)).await;
    scene.find(&search(&first), DOCTOR).await;
    let watches = scene.watches(BRISK);
    let tasks = TaskTracker::new();
    let follower = watches.clone();
    tasks.spawn(async move { follower.follow().await });
    let mut watch = open(&watches, DOCTOR, WatchFrom::Now).await;
    next(&mut watch).await;
    let replica = scene.replica().await;
    publish(&replica, &[corrected(&first, ReportStatus::Corrected)]).await;
    assert_eq!(superseded(&mut watch).await.version, 2);
    scene.stopping.cancel();
    tasks.close();
    timeout(PATIENCE, tasks.wait()).await.unwrap();
}

pub(crate) async fn a_reader_of_the_new_version_is_not_told_of_it(scene: Scene) {
    let first = report(1, 1, DAY);
    scene.published(std::slice::from_ref(&first)).await;
    let second = corrected(&first, ReportStatus::Corrected);
    scene.publish(std::slice::from_ref(&second)).await;
    scene.find(&search(&first), DOCTOR).await;
    let watches = scene.watches(BRISK);
    let mut watch = open(&watches, DOCTOR, WatchFrom::After(0)).await;
    let message = next(&mut watch).await;
    assert_eq!((message.cursor.as_str(), message.superseded), ("1", None));
    // The next version is told, and which one was read.
    scene
        .publish(&[corrected(&second, ReportStatus::Cancelled)])
        .await;
    let told = superseded(&mut watch).await;
    assert_eq!((told.version, told.read_version), (3, 2));
}

pub(crate) async fn silence_moves_only_the_cursor(scene: Scene) {
    let watches = scene.watches(banqiao_lab::WatchSettings {
        heartbeat: Duration::from_millis(20),
        ..BRISK
    });
    let mut watch = open(&watches, DOCTOR, WatchFrom::Now).await;
    for _ in 0..3 {
        let message = next(&mut watch).await;
        assert_eq!((message.cursor.as_str(), message.superseded), ("0", None));
    }
}

pub(crate) async fn watches_are_bounded_and_end_with_the_service(scene: Scene) {
    let watches = scene.watches(BRISK);
    let mut open_ones = Vec::new();
    for _ in 0..BRISK.limit {
        open_ones.push(open(&watches, DOCTOR, WatchFrom::Now).await);
    }
    let one_more = watches.open(DOCTOR.parse().unwrap(), WatchFrom::Now).await;
    let Some(CallError::CallerRefused { refusal, .. }) = one_more.err() else {
        panic!("one more than the limit")
    };
    assert_eq!(refusal.rule.code, "TOO_MANY_WATCHES");
    scene.stopping.cancel();
    for watch in &mut open_ones {
        let mut last = timeout(PATIENCE, watch.next()).await.unwrap();
        if matches!(last, Some(Ok(_))) {
            last = timeout(PATIENCE, watch.next()).await.unwrap();
        }
        assert!(matches!(last, Some(Err(CallError::Stopping))), "{last:?}");
    }
    drop(open_ones);
}
