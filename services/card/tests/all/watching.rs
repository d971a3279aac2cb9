//! Watching.

use std::{pin::pin, time::Duration};

use banqiao_card::parse_cursor;
use banqiao_kit::{CallError, FollowFrom, FollowSettings};
use banqiao_proto::card::v1::{CardState, LossKind, WatchCardStatesResponse};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::scene::{BRISK, Scene, loss, report};

/// Far beyond what any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(
    stream: &mut (impl Stream<Item = Result<WatchCardStatesResponse, CallError>> + Unpin),
) -> WatchCardStatesResponse {
    timeout(PATIENCE, stream.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

fn from(cursor: &str) -> FollowFrom {
    parse_cursor(cursor).unwrap()
}

pub(crate) async fn a_watch_resumes_after_its_cursor(scene: Scene) {
    let records = scene.holders(150).await;
    let watches = scene.watches(BRISK);
    let mut all = pin!(watches.open(from("0")).await.unwrap());
    let mut cursors = Vec::new();
    for seq in 1..=300 {
        let message = next(&mut all).await;
        assert_eq!(message.cursor, seq.to_string());
        assert_eq!(message.change.unwrap().cause, "imported");
        cursors.push(message.cursor);
    }
    let answer = report(&scene.cards, &loss(&records[7], LossKind::Temporary))
        .await
        .unwrap();
    let change = next(&mut all).await;
    assert_eq!(change.cursor, answer.cursor);
    let change = change.change.unwrap();
    assert_eq!(change.card_number, records[7].card_number);
    assert_eq!(
        (change.from(), change.to()),
        (CardState::Normal, CardState::TempLost)
    );
    assert_eq!(
        (change.actor_city.as_str(), change.cause.as_str()),
        ("371000", "loss-reported")
    );
    // Wherever a watch breaks off, the next one goes on with the change after it.
    for at in [0, 127, 128, 298, 299] {
        let mut resumed = pin!(watches.open(from(&cursors[at])).await.unwrap());
        assert_eq!(next(&mut resumed).await.cursor, (at + 2).to_string());
    }
    let beyond = watches.open(from("302")).await.err().unwrap();
    let CallError::CallerInvalid(faults) = beyond else {
        panic!("{beyond:?}")
    };
    assert_eq!(faults[0].field, "cursor");
}

pub(crate) async fn a_watch_sees_the_changes_of_another_replica(scene: Scene) {
    let records = scene.holders(2).await;
    let replica = scene.replica().await;
    let watches = scene.watches(BRISK);
    let tasks = TaskTracker::new();
    let follower = watches.clone();
    tasks.spawn(async move { follower.follow().await });
    let mut stream = pin!(watches.open(FollowFrom::Now).await.unwrap());
    let first = next(&mut stream).await;
    assert_eq!((first.cursor.as_str(), first.change), ("4", None));
    for (record, kind) in [
        (&records[0], LossKind::Temporary),
        (&records[1], LossKind::Formal),
    ] {
        let answer = report(&replica, &loss(record, kind)).await.unwrap();
        assert_eq!(next(&mut stream).await.cursor, answer.cursor);
    }
    scene.stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

pub(crate) async fn silence_moves_only_the_cursor(scene: Scene) {
    scene.holders(1).await;
    let settings = FollowSettings {
        heartbeat: Duration::from_millis(20),
        ..BRISK
    };
    let mut stream = pin!(scene.watches(settings).open(FollowFrom::Now).await.unwrap());
    for _ in 0..3 {
        let message = next(&mut stream).await;
        assert_eq!((message.cursor.as_str(), message.change), ("2", None));
    }
}

pub(crate) async fn watches_are_bounded_and_end_with_the_service(scene: Scene) {
    scene.holders(1).await;
    let watches = scene.watches(BRISK);
    let mut open = Vec::new();
    for _ in 0..BRISK.limit {
        open.push(Box::pin(watches.open(FollowFrom::Now).await.unwrap()));
    }
    let refused = watches.open(FollowFrom::Now).await.err().unwrap();
    assert!(matches!(
        refused,
        CallError::CallerRefused {
            refusal: banqiao_kit::Refusal {
                rule: banqiao_kit::Rule {
                    code: "TOO_MANY_WATCHES",
                    ..
                },
                ..
            },
            ..
        }
    ));
    open.pop();
    open.push(Box::pin(watches.open(FollowFrom::Now).await.unwrap()));
    for stream in &mut open {
        next(stream).await;
    }
    scene.stopping.cancel();
    for stream in &mut open {
        let ended = timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
        assert!(matches!(ended, Err(CallError::Stopping)));
        assert!(stream.next().await.is_none());
    }
}
