//! Cases from application to delivery.

use banqiao_item::{CaseError, NewCaseWrite, StoreError};
use banqiao_proto::item::v1::{
    ActOnCaseRequest,
    ActorRole::{Applicant, Department, Supervisor, Window},
    CaseAction as A, CaseState as S, Decision, StartCaseRequest,
};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::scene::{
    DAY, NOON, PASSPORT, QINGDAO, QUERY, Scene, WEIHAI, YANTAI, city, full, refusal, start_request,
};

pub(crate) async fn a_passport_goes_from_a_window_elsewhere_to_its_owner(scene: Scene) {
    let number = scene.started(PASSPORT, WEIHAI).await;
    assert!(number.as_str().starts_with("37020020260302"));
    // 收受分离: neither city does the other's part.
    assert_eq!(
        refusal(scene.step(number, A::Receive, Window, QINGDAO).await),
        "PLACE_NOT_ALLOWED"
    );
    assert_eq!(
        refusal(scene.step(number, A::Receive, Department, WEIHAI).await),
        "ROLE_NOT_ALLOWED"
    );
    scene
        .step(number, A::Receive, Window, WEIHAI)
        .await
        .unwrap();
    assert_eq!(
        refusal(scene.step(number, A::Accept, Department, QINGDAO).await),
        "NOT_HANDED_OVER"
    );
    scene
        .step(number, A::HandOver, Window, WEIHAI)
        .await
        .unwrap();
    assert_eq!(
        refusal(scene.step(number, A::HandOver, Window, WEIHAI).await),
        "HANDED_OVER_ALREADY"
    );
    assert_eq!(
        refusal(scene.step(number, A::Accept, Department, WEIHAI).await),
        "PLACE_NOT_ALLOWED"
    );
    scene.decide(number, &[A::NotifyCorrection]).await;
    scene
        .step(number, A::Supplement, Applicant, WEIHAI)
        .await
        .unwrap();
    scene
        .decide(
            number,
            &[
                A::Accept,
                A::BeginReview,
                A::BeginSpecial,
                A::EndSpecial,
                A::Grant,
                A::Conclude,
            ],
        )
        .await;
    scene
        .step(number, A::Deliver, Window, WEIHAI)
        .await
        .unwrap();
    scene.cases.note_evaluation(number).await.unwrap();
    told_by_its_history(&scene, number).await;
}

async fn told_by_its_history(scene: &Scene, number: banqiao_item::CaseNumber) {
    let case = scene.case(number).await;
    assert_eq!(
        (case.state, case.decision, case.notices),
        (S::Evaluated, Decision::Granted, 1)
    );
    assert_eq!(case.on_time, Some(true));
    let history = scene.history(number).await;
    assert_eq!(history.len(), 13);
    for (version, pair) in (1..).zip(history.windows(2)) {
        assert_eq!(
            (pair[0].version, pair[1].from),
            (version, pair[0].to),
            "a chain without a gap"
        );
    }
    let by_weihai: Vec<_> = history
        .iter()
        .filter(|event| event.city == city(WEIHAI))
        .map(|event| event.action)
        .collect();
    assert_eq!(
        by_weihai,
        [
            A::Submit,
            A::Receive,
            A::HandOver,
            A::Supplement,
            A::Deliver
        ]
    );
    let by_clients = &history[..12];
    assert!(
        by_clients.iter().all(|event| !event.exchange.is_empty()),
        "each hand-over is an exchange"
    );
}

pub(crate) async fn a_step_brings_what_it_must(scene: Scene) {
    let number = scene.started(PASSPORT, WEIHAI).await;
    let fields = |refused: Result<_, CaseError>| -> Vec<String> {
        match refused {
            Err(CaseError::Act(banqiao_item::ActError::CallerFields(faults))) => faults
                .into_iter()
                .map(|fault| fault.field.into_owned())
                .collect(),
            other => panic!("{other:?}"),
        }
    };
    let bare = |action, role: banqiao_proto::item::v1::ActorRole| ActOnCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        number: number.to_string(),
        action: i32::from(action),
        role: role.into(),
        ..ActOnCaseRequest::default()
    };
    assert_eq!(
        fields(scene.ask(&bare(A::Receive, Window), WEIHAI).await),
        ["identity_checked"]
    );
    scene
        .step(number, A::Receive, Window, WEIHAI)
        .await
        .unwrap();
    scene
        .step(number, A::HandOver, Window, WEIHAI)
        .await
        .unwrap();
    for (action, missing) in [
        (A::NotifyCorrection, &["corrections", "document"][..]),
        (A::RefuseAcceptance, &["document", "reason", "remedy"]),
        (A::Accept, &["document"]),
    ] {
        assert_eq!(
            fields(scene.ask(&bare(action, Department), QINGDAO).await),
            missing
        );
    }
    scene.decide(number, &[A::Accept, A::BeginReview]).await;
    for (action, missing) in [
        (A::BeginSpecial, &["special", "reason"][..]),
        (A::Extend, &["extension", "reason"]),
        (A::Grant, &["document"]),
        (A::Refuse, &["document", "reason", "remedy"]),
    ] {
        assert_eq!(
            fields(scene.ask(&bare(action, Department), QINGDAO).await),
            missing
        );
    }
    scene.decide(number, &[A::Grant]).await;
    assert_eq!(
        fields(scene.ask(&bare(A::Conclude, Department), QINGDAO).await),
        ["result"]
    );
    scene.decide(number, &[A::Conclude]).await;
    assert_eq!(
        fields(scene.ask(&bare(A::Deliver, Window), WEIHAI).await),
        ["delivery"]
    );
    assert_eq!(
        scene.history(number).await.len(),
        7,
        "refusals leave no entry"
    );
}

pub(crate) async fn refusals_and_other_ends_are_ends(scene: Scene) {
    let refused = scene.accepted(PASSPORT, WEIHAI).await;
    scene
        .decide(
            refused,
            &[A::BeginReview, A::Refuse, A::Conclude, A::Deliver],
        )
        .await;
    assert_eq!(scene.case(refused).await.decision, Decision::Refused);
    let withdrawn = scene.accepted(PASSPORT, WEIHAI).await;
    scene
        .step(withdrawn, A::Withdraw, Applicant, WEIHAI)
        .await
        .unwrap();
    let terminated = scene.accepted(PASSPORT, WEIHAI).await;
    scene
        .step(terminated, A::Terminate, Supervisor, QINGDAO)
        .await
        .unwrap();
    let not_accepted = scene.started(QUERY, WEIHAI).await;
    scene
        .decide(not_accepted, &[A::Receive, A::RefuseAcceptance])
        .await;
    for (number, state) in [
        (withdrawn, S::Withdrawn),
        (terminated, S::Terminated),
        (not_accepted, S::NotAccepted),
    ] {
        assert_eq!(scene.state(number).await, state);
        for action in [A::Receive, A::Accept, A::Grant, A::Withdraw] {
            let again = scene.step(number, action, Department, QINGDAO).await;
            assert_eq!(
                refusal(again),
                "TRANSITION_NOT_ALLOWED",
                "{action:?} after {state:?}"
            );
        }
    }
}

pub(crate) async fn the_first_answer_is_given_again(scene: Scene) {
    let request = start_request(PASSPORT, QINGDAO, WEIHAI);
    let first = scene.start(&request, WEIHAI).await.unwrap();
    let again = scene.replica().await.start(&request, WEIHAI).await.unwrap();
    assert_eq!(
        (again.standing, first.repeated, again.repeated),
        (first.standing, false, true)
    );
    let number = first.standing.number;
    let receive = full(number, A::Receive, Window);
    let first = scene.ask(&receive, WEIHAI).await.unwrap();
    scene
        .step(number, A::HandOver, Window, WEIHAI)
        .await
        .unwrap();
    let again = scene.ask(&receive, WEIHAI).await.unwrap();
    assert_eq!((again.standing, again.repeated), (first.standing, true));
    let other = ActOnCaseRequest {
        reason: "另一个".into(),
        ..receive.clone()
    };
    assert!(matches!(
        scene.ask(&other, WEIHAI).await,
        Err(CaseError::CallerReusedId)
    ));
    // Request ids of different clients do not meet.
    assert_eq!(
        refusal(scene.ask(&other, QINGDAO).await),
        "TRANSITION_NOT_ALLOWED"
    );
    assert_eq!(scene.history(number).await.len(), 3);
}

pub(crate) async fn one_case_stands_for_a_number_of_the_clients_own_system(scene: Scene) {
    let request = |item: &str| StartCaseRequest {
        local_number: "WH-2026-0001".into(),
        ..start_request(item, QINGDAO, WEIHAI)
    };
    let requests: Vec<_> = (0..8).map(|_| request(PASSPORT)).collect();
    let answers = join_all(requests.iter().map(|request| scene.start(request, WEIHAI))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.standing == answers[0].standing)
    );
    let other = scene.start(&request(QUERY), WEIHAI).await;
    assert!(matches!(other, Err(CaseError::CallerReusedLocalNumber)));
    let elsewhere = StartCaseRequest {
        receiving_city: YANTAI.into(),
        ..request(PASSPORT)
    };
    assert!(!scene.start(&elsewhere, YANTAI).await.unwrap().repeated);
}

pub(crate) async fn steps_at_once_cannot_both_win(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    scene.decide(number, &[A::BeginReview]).await;
    let replica = scene.replica().await;
    let requests: Vec<_> = (0..24)
        .map(|n| {
            full(
                number,
                if n % 2 == 0 { A::Grant } else { A::Refuse },
                Department,
            )
        })
        .collect();
    let sent = requests.iter().enumerate().map(|(n, request)| {
        let scene = if n % 3 == 0 { &scene } else { &replica };
        scene.ask(request, QINGDAO)
    });
    let answers = join_all(sent).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let decisions = scene.actions(number).await;
    let decisions = decisions
        .iter()
        .filter(|action| matches!(action, A::Grant | A::Refuse));
    assert_eq!(decisions.count(), 1);
    // Whoever says which version it saw is not overtaken.
    let stale = ActOnCaseRequest {
        version: 1,
        ..full(number, A::Conclude, Department)
    };
    assert_eq!(refusal(scene.ask(&stale, QINGDAO).await), "VERSION_STALE");
}

pub(crate) async fn many_cases_at_once_get_numbers_of_their_own(scene: Scene) {
    let replica = scene.replica().await;
    let started = (0..120).map(|n| {
        let scene = if n % 2 == 0 { &scene } else { &replica };
        scene.started(PASSPORT, WEIHAI)
    });
    let mut numbers = join_all(started).await;
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 120);
    let filter = banqiao_item::EventFilter::Department {
        department: String::new(),
        warnings_only: false,
    };
    let events = scene.store.events(&filter, 0, 1_000).await.unwrap();
    assert!(
        (1..=120).eq(events.iter().map(|event| event.seq)),
        "without a gap"
    );
}

pub(crate) async fn a_write_on_an_old_version_loses(scene: Scene) {
    let number = scene.started(PASSPORT, WEIHAI).await;
    let read = scene.case(number).await;
    let events = Vec::new();
    scene
        .step(number, A::Receive, Window, WEIHAI)
        .await
        .unwrap();
    for base in [Some(read.version), None] {
        let (case, events) = (read.clone(), events.clone());
        let lost = scene.store.write(NewCaseWrite { case, base, events }).await;
        assert!(matches!(lost, Err(StoreError::Conflict)), "{lost:?}");
    }
    assert_eq!(scene.state(number).await, S::Received);
}

pub(crate) async fn the_history_cannot_be_rewritten(scene: Scene) {
    scene.started(PASSPORT, WEIHAI).await;
    is_append_only(&scene, "UPDATE case_event SET city = '370600'").await;
    is_append_only(&scene, "DELETE FROM case_event WHERE seq = 1").await;
}

/// The database itself refuses a statement.
pub(crate) async fn is_append_only(scene: &Scene, statement: &'static str) {
    let refused = match &scene.settings.url {
        banqiao_kit::DatabaseUrl::Postgres(url) => {
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            sqlx::query(statement).execute(&pool).await.map(drop)
        }
        banqiao_kit::DatabaseUrl::Sqlite(path) => {
            let pool = sqlx::SqlitePool::connect(path.to_str().unwrap())
                .await
                .unwrap();
            sqlx::query(statement).execute(&pool).await.map(drop)
        }
    };
    assert!(
        refused.unwrap_err().to_string().contains("append-only"),
        "{statement}"
    );
}

pub(crate) async fn a_city_sees_the_cases_in_which_it_takes_part(scene: Scene) {
    let number = scene.started(PASSPORT, WEIHAI).await;
    for seen_by in [QINGDAO, WEIHAI] {
        let (case, history) = scene.cases.read(number, city(seen_by)).await.unwrap();
        assert_eq!((case.number, history.len()), (number, 1));
    }
    let hidden = scene.cases.read(number, city(YANTAI)).await;
    assert!(matches!(hidden, Err(CaseError::CallerUnknown)));
    let unknown = scene.step(number, A::Withdraw, Applicant, YANTAI).await;
    assert!(matches!(unknown, Err(CaseError::CallerUnknown)));
}

pub(crate) async fn a_draft_becomes_an_application(scene: Scene) {
    let request = StartCaseRequest {
        draft: true,
        ..start_request(PASSPORT, QINGDAO, WEIHAI)
    };
    let number = scene.start(&request, WEIHAI).await.unwrap().standing.number;
    assert_eq!(scene.state(number).await, S::Draft);
    scene.clock.advance_us(DAY);
    scene
        .step(number, A::Submit, Applicant, WEIHAI)
        .await
        .unwrap();
    let case = scene.case(number).await;
    assert_eq!(
        (case.state, case.times.submitted),
        (S::Submitted, Some(NOON + DAY))
    );
}
