//! Watches and searches.

use std::time::Duration;

use banqiao_item::{CaseFilter, CaseNumber, Event, EventFilter, Watches};
use banqiao_kit::{CallError, FollowFrom, FollowSettings, Seen};
use banqiao_proto::item::v1::{
    ActorRole::Window, Applicant, CaseAction as A, CaseState, LimitKind, SearchCasesRequest,
    Warning,
};
use futures_util::{StreamExt, TryStreamExt};
use prost_types::Timestamp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::scene::{DAY, NOON, PASSPORT, QINGDAO, QUERY, Scene, WEIHAI, YANTAI, applicant, city};

/// Fast enough for a test, slow enough not to spin.
const BRISK: FollowSettings = FollowSettings {
    poll: Duration::from_millis(10),
    heartbeat: Duration::from_secs(3_600),
    limit: 2,
};

fn watches(scene: &Scene, stopping: &CancellationToken) -> Watches {
    Watches::new(scene.store.clone(), BRISK, stopping.clone())
}

async fn take(
    watches: &Watches,
    filter: EventFilter,
    from: FollowFrom,
    count: usize,
) -> Vec<Seen<Event>> {
    let watch = watches.open(filter, from).await.unwrap();
    watch.take(count).try_collect().await.unwrap()
}

fn actions(seen: &[Seen<Event>]) -> Vec<A> {
    seen.iter()
        .filter_map(|seen| Some(seen.change.as_ref()?.action))
        .collect()
}

pub(crate) async fn a_watch_of_a_case_resumes_after_its_cursor(scene: Scene) {
    let stopping = CancellationToken::new();
    let watches = watches(&scene, &stopping);
    let number = scene.started(PASSPORT, WEIHAI).await;
    let other = scene.started(PASSPORT, WEIHAI).await;
    scene
        .step(number, A::Receive, Window, WEIHAI)
        .await
        .unwrap();
    let seen = take(&watches, EventFilter::Case(number), FollowFrom::After(0), 2).await;
    assert_eq!(actions(&seen), [A::Submit, A::Receive]);
    scene.step(other, A::Receive, Window, WEIHAI).await.unwrap();
    scene
        .step(number, A::HandOver, Window, WEIHAI)
        .await
        .unwrap();
    let from = FollowFrom::After(seen[1].cursor);
    let seen = take(&watches, EventFilter::Case(number), from, 1).await;
    assert_eq!(actions(&seen), [A::HandOver]);
    // A first message at once, and its cursor passes over what is of others.
    let seen = take(&watches, EventFilter::Case(other), FollowFrom::Now, 1).await;
    assert_eq!((seen[0].cursor, &seen[0].change), (5, &None));
    let beyond = watches
        .open(EventFilter::Case(number), FollowFrom::After(6))
        .await;
    assert!(matches!(beyond.err(), Some(CallError::CallerInvalid(_))));
}

pub(crate) async fn a_watch_of_a_department_sees_steps_of_other_replicas_and_warnings(
    scene: Scene,
) {
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    let watches = watches(&scene, &stopping);
    let follow = watches.clone();
    tasks.spawn(async move { follow.follow().await });
    let department = |department: &str, warnings_only| EventFilter::Department {
        department: department.into(),
        warnings_only,
    };
    let mut all = Box::pin(
        watches
            .open(department("公安（出入境管理）", false), FollowFrom::Now)
            .await
            .unwrap(),
    );
    let mut warnings = Box::pin(
        watches
            .open(department("", true), FollowFrom::Now)
            .await
            .unwrap(),
    );
    assert!(all.next().await.unwrap().unwrap().change.is_none());
    assert!(warnings.next().await.unwrap().unwrap().change.is_none());
    assert!(
        watches
            .open(department("", false), FollowFrom::Now)
            .await
            .is_err(),
        "watches are bounded"
    );
    let replica = scene.replica().await;
    replica.started(QUERY, WEIHAI).await;
    let number = replica.accepted(PASSPORT, WEIHAI).await;
    for action in [A::Submit, A::Receive, A::HandOver, A::Accept] {
        let seen = all.next().await.unwrap().unwrap().change.unwrap();
        assert_eq!((seen.number, seen.action), (number, action));
    }
    // The promise runs out on 2026-03-11, the law's limit on 2026-03-23.
    for (days, action, limit) in [
        (9, A::WarnYellow, LimitKind::Promised),
        (1, A::WarnRed, LimitKind::Promised),
        (9, A::WarnYellow, LimitKind::Legal),
        (4, A::WarnRed, LimitKind::Legal),
    ] {
        replica.pass(days * DAY).await;
        let seen = warnings.next().await.unwrap().unwrap().change.unwrap();
        let warned = (seen.number, seen.action, seen.detail.limit);
        assert_eq!(warned, (number, action, limit));
    }
    stopping.cancel();
    assert!(matches!(
        all.next().await,
        Some(Ok(_) | Err(CallError::Stopping))
    ));
    tasks.close();
    tasks.wait().await;
}

async fn search(
    scene: &Scene,
    request: SearchCasesRequest,
    from: &str,
) -> (Vec<CaseNumber>, String) {
    let filter = CaseFilter::parse(&request, scene.cases.today()).unwrap();
    let found = scene.cases.search(filter, city(from)).await.unwrap();
    let numbers = found.cases.iter().map(|case| case.number.parse().unwrap());
    (numbers.collect(), found.next_page_token)
}

pub(crate) async fn cases_are_found_by_each_of_their_marks(scene: Scene) {
    let passport = scene.accepted(PASSPORT, WEIHAI).await;
    let query = scene.started(QUERY, YANTAI).await;
    scene.decide(query, &[A::Receive]).await;
    let none = SearchCasesRequest::default;
    let due = |days: i64| {
        Some(Timestamp {
            seconds: (NOON + days * DAY) / 1_000_000,
            nanos: 0,
        })
    };
    let stranger = Applicant {
        citizen_id: "370202199001010007".into(),
        ..applicant()
    };
    for (request, expected) in [
        (none(), vec![passport, query]),
        (
            SearchCasesRequest {
                number: query.to_string(),
                ..none()
            },
            vec![query],
        ),
        (
            SearchCasesRequest {
                item_id: PASSPORT.into(),
                ..none()
            },
            vec![passport],
        ),
        (
            SearchCasesRequest {
                state: CaseState::Received.into(),
                ..none()
            },
            vec![query],
        ),
        (
            SearchCasesRequest {
                department: "公安".into(),
                ..none()
            },
            vec![query],
        ),
        (
            SearchCasesRequest {
                applicant: Some(applicant()),
                ..none()
            },
            vec![passport, query],
        ),
        (
            SearchCasesRequest {
                applicant: Some(stranger),
                ..none()
            },
            vec![],
        ),
        (
            SearchCasesRequest {
                due_before: due(8),
                ..none()
            },
            vec![query],
        ),
        (
            SearchCasesRequest {
                due_before: due(20),
                ..none()
            },
            vec![passport, query],
        ),
        (
            SearchCasesRequest {
                warning: Warning::Yellow.into(),
                ..none()
            },
            vec![],
        ),
        (
            SearchCasesRequest {
                warning: Warning::Yellow.into(),
                number: query.to_string(),
                ..none()
            },
            vec![],
        ),
    ] {
        let (mut found, _) = search(&scene, request.clone(), QINGDAO).await;
        found.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{request:?}");
    }
    cities_and_warnings(&scene, passport, query).await;
}

async fn cities_and_warnings(scene: &Scene, passport: CaseNumber, query: CaseNumber) {
    let none = SearchCasesRequest::default;
    assert_eq!(search(scene, none(), WEIHAI).await.0, [passport]);
    assert_eq!(search(scene, none(), YANTAI).await.0, [query]);
    scene.pass(8 * DAY).await;
    let warned = SearchCasesRequest {
        warning: Warning::Yellow.into(),
        ..none()
    };
    assert_eq!(search(scene, warned, QINGDAO).await.0.len(), 2);
}

pub(crate) async fn pages_hold_every_case_once(scene: Scene) {
    for _ in 0..7 {
        scene.accepted(PASSPORT, WEIHAI).await;
        scene.clock.advance_us(DAY);
    }
    for due_before in [
        None,
        Some(Timestamp {
            seconds: i64::MAX / 2_000_000,
            nanos: 0,
        }),
    ] {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let request = SearchCasesRequest {
                page_size: 3,
                page_token: token,
                due_before,
                ..SearchCasesRequest::default()
            };
            let (page, next) = search(&scene, request, QINGDAO).await;
            all.extend(page);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(all.len(), 7);
        assert_eq!(
            all.is_sorted(),
            due_before.is_some(),
            "by number from the newest, by limit from the most urgent"
        );
    }
}
