//! 好差评 and 差评整改.

use banqiao_item::{
    ActOnRectification, Actor, CaseNumber, NewRatingWrite, RateCase, Rating, RatingError,
    RatingFilter, RatingId, Ratings, RectificationFilter, Watches, rated_by_case,
};
use banqiao_kit::{FollowFrom, FollowSettings};
use banqiao_proto::item::v1::{
    ActOnRectificationRequest, ActOnRectificationResponse, ActorRole,
    ActorRole::{Applicant, Department, Supervisor, Window},
    Applicant as ProtoApplicant, CaseAction as A, CaseState, ListRatingsRequest, RateCaseRequest,
    RateCaseResponse, RatingChannel, RectificationAction as R, RectificationState as S,
    Satisfaction, SearchRectificationsRequest, Warning, WatchRectificationsResponse,
};
use futures_util::{StreamExt, future::join_all};
use prost::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scene::{
    DAY, PASSPORT, QINGDAO, QUERY, Scene, WEIHAI, YANTAI, actor, applicant, sha256,
};

/// The versions of a passport case that the window in Weihai received, handed over, and Qingdao accepted.
const RECEIPT: u64 = 2;
const HAND_OVER: u64 = 3;
const ACCEPTANCE: u64 = 4;

pub(crate) fn rating(
    number: CaseNumber,
    contact: u64,
    satisfaction: Satisfaction,
) -> RateCaseRequest {
    let known = applicant();
    RateCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        number: number.to_string(),
        contact,
        role: Applicant.into(),
        comment: format!("{}等了两小时, 电话{}", known.name, known.phone),
        applicant: Some(known),
        satisfaction: satisfaction.into(),
        channel: RatingChannel::Mobile.into(),
        real_name: true,
    }
}

pub(crate) async fn rate(
    scene: &Scene,
    request: &RateCaseRequest,
    from: &str,
) -> Result<RateCaseResponse, RatingError> {
    let given = RateCase::parse(request, scene.cases.today()).unwrap();
    let ratings = Ratings::new(scene.cases.clone());
    ratings
        .rate(&given, sha256(request), &actor(from, given.role))
        .await
}

async fn step(
    scene: &Scene,
    id: &str,
    action: R,
    role: ActorRole,
    from: &str,
) -> Result<ActOnRectificationResponse, RatingError> {
    let request = ActOnRectificationRequest {
        request_id: Uuid::now_v7().to_string(),
        id: id.to_owned(),
        action: action.into(),
        role: role.into(),
        text: "已核实".into(),
        version: 0,
    };
    let act = ActOnRectification::parse(&request).unwrap();
    let ratings = Ratings::new(scene.cases.clone());
    ratings
        .act(&act, sha256(&request), &actor(from, role))
        .await
}

fn refused<T: std::fmt::Debug>(refused: Result<T, RatingError>) -> &'static str {
    match refused {
        Err(RatingError::Rectification(error)) => error.reason(),
        Err(RatingError::CallerRatedAlready) => "RATED_ALREADY",
        Err(RatingError::CallerNotOver) => "CASE_NOT_OVER",
        Err(RatingError::CallerNoContact) => "CONTACT_UNKNOWN",
        Err(RatingError::CallerUnknownCase) => "CASE_UNKNOWN",
        Err(RatingError::CallerUnknown) => "RATING_UNKNOWN",
        Err(RatingError::CallerReusedId) => "REQUEST_ID_REUSED",
        other => panic!("{other:?}"),
    }
}

/// Every message that an office of a city gets, as its bytes on the wire.
async fn seen_by_offices(scene: &Scene, role: ActorRole, from: &str) -> (usize, Vec<u8>) {
    let ratings = Ratings::new(scene.cases.clone());
    let list = ListRatingsRequest {
        role: role.into(),
        ..ListRatingsRequest::default()
    };
    let filter = RatingFilter::parse(&list).unwrap();
    let by: Actor = actor(from, role);
    let list = ratings.list(filter, &by).await.unwrap();
    let search = SearchRectificationsRequest {
        role: role.into(),
        ..SearchRectificationsRequest::default()
    };
    let filter = RectificationFilter::parse(&search).unwrap();
    let search = ratings.search(filter, &by).await.unwrap();
    let count = list.ratings.len() + search.rectifications.len();
    (
        count,
        [list.encode_to_vec(), search.encode_to_vec()].concat(),
    )
}

pub(crate) fn hides_everybody(number: CaseNumber, wire: &[u8]) {
    let known = applicant();
    let number = number.to_string();
    for secret in [&known.citizen_id, &known.name, &known.phone, &number] {
        let found = wire
            .windows(secret.len())
            .any(|bytes| bytes == secret.as_bytes());
        assert!(!found, "{secret} is on the wire");
    }
}

pub(crate) async fn a_bad_rating_is_put_right_and_never_names_who_gave_it(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    let request = rating(number, RECEIPT, Satisfaction::Dissatisfied);
    let rated = rate(&scene, &request, WEIHAI).await.unwrap();
    assert_eq!(rated.rectification(), S::Open);
    let good = rating(number, ACCEPTANCE, Satisfaction::VerySatisfied);
    let good = rate(&scene, &good, WEIHAI).await.unwrap();
    assert_eq!(good.rectification(), S::Unspecified);
    // Each city sees what is about its own offices: the receipt was Weihai's, the acceptance Qingdao's.
    for (role, from, count) in [
        (Window, WEIHAI, 2),
        (Department, QINGDAO, 1),
        (Department, YANTAI, 0),
        (Supervisor, QINGDAO, 3),
    ] {
        let (seen, wire) = seen_by_offices(&scene, role, from).await;
        assert_eq!(seen, count, "{role:?} of {from}");
        hides_everybody(number, &wire);
    }
    let id = rated.id.as_str();
    assert_eq!(
        refused(step(&scene, id, R::Close, Supervisor, WEIHAI).await),
        "RECTIFICATION_NOT_ALLOWED"
    );
    assert_eq!(
        refused(step(&scene, id, R::Report, Supervisor, WEIHAI).await),
        "RECTIFICATION_ROLE"
    );
    assert_eq!(
        refused(step(&scene, id, R::Report, Department, YANTAI).await),
        "RATING_UNKNOWN"
    );
    step(&scene, id, R::Report, Window, WEIHAI).await.unwrap();
    assert_eq!(
        refused(step(&scene, id, R::Close, Supervisor, WEIHAI).await),
        "CALLBACK_REQUIRED"
    );
    step(&scene, id, R::CallBack, Supervisor, WEIHAI)
        .await
        .unwrap();
    step(&scene, id, R::Return, Supervisor, QINGDAO)
        .await
        .unwrap();
    step(&scene, id, R::Report, Window, WEIHAI).await.unwrap();
    let closed = step(&scene, id, R::Close, Supervisor, WEIHAI)
        .await
        .unwrap();
    assert_eq!((closed.state(), closed.version), (S::Closed, 6));
    the_watch_tells_every_step(&scene, number).await;
    the_supervising_office_alone_can_call_back(&scene, number, id).await;
}

async fn the_watch_tells_every_step(scene: &Scene, number: CaseNumber) {
    let stopping = CancellationToken::new();
    let watches = Watches::new(scene.store.clone(), FollowSettings::DEFAULT, stopping);
    let watch = watches.open_rectifications(FollowFrom::After(0)).await;
    let seen: Vec<_> = watch.unwrap().take(6).collect().await;
    let mut actions = Vec::new();
    for seen in seen {
        let seen = seen.unwrap();
        let step = seen.change.unwrap();
        actions.push(step.action);
        let message = WatchRectificationsResponse {
            cursor: seen.cursor.to_string(),
            event: Some(step.shown()),
        };
        hides_everybody(number, &message.encode_to_vec());
    }
    assert_eq!(
        actions,
        [
            R::Open,
            R::Report,
            R::CallBack,
            R::Return,
            R::Report,
            R::Close
        ]
    );
}

async fn the_supervising_office_alone_can_call_back(scene: &Scene, number: CaseNumber, id: &str) {
    let ratings = Ratings::new(scene.cases.clone());
    let rating_id: RatingId = id.parse().unwrap();
    let office = ratings.read(rating_id, &actor(WEIHAI, Window)).await;
    assert_eq!(refused(office), "RATING_UNKNOWN");
    let elsewhere = ratings.read(rating_id, &actor(YANTAI, Supervisor)).await;
    assert_eq!(refused(elsewhere), "RATING_UNKNOWN");
    let read = ratings.read(rating_id, &actor(WEIHAI, Supervisor)).await;
    let read = read.unwrap();
    let rater = read.rater.unwrap();
    assert_eq!(rater.number, number.to_string());
    assert_eq!(rater.applicant, Some(applicant()));
    assert!(rater.comment.contains(&applicant().phone));
    assert_eq!(read.rating.unwrap().comment, "＊＊＊等了两小时, 电话＊＊＊");
    // Without the own name nobody is shown, not even there.
    let other = scene.accepted(PASSPORT, WEIHAI).await;
    let unnamed = RateCaseRequest {
        real_name: false,
        ..rating(other, RECEIPT, Satisfaction::VeryDissatisfied)
    };
    let unnamed = rate(scene, &unnamed, WEIHAI).await.unwrap();
    let supervisor = actor(QINGDAO, Supervisor);
    let read = ratings.read(unnamed.id.parse().unwrap(), &supervisor);
    let read = read.await.unwrap();
    assert_eq!(read.rater, None);
    hides_everybody(other, &read.encode_to_vec());
    // It closes without a call back, which nobody could make.
    step(scene, &unnamed.id, R::Report, Window, WEIHAI)
        .await
        .unwrap();
    step(scene, &unnamed.id, R::Close, Supervisor, WEIHAI)
        .await
        .unwrap();
}

pub(crate) async fn a_contact_is_rated_once_and_for_good(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    let requests: Vec<_> = (0..8)
        .map(|_| rating(number, RECEIPT, Satisfaction::Dissatisfied))
        .collect();
    let replica = scene.replica().await;
    let sent = requests.iter().enumerate().map(|(n, request)| {
        let scene = if n % 2 == 0 { &scene } else { &replica };
        rate(scene, request, WEIHAI)
    });
    let answers = join_all(sent).await;
    let won: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    let place = answers.iter().position(Result::is_ok).unwrap();
    let again = rate(&scene, &requests[place], WEIHAI).await.unwrap();
    assert_eq!((&again.id, again.repeated), (&won[0].id, true));
    assert_eq!(again.rectification(), S::Open);
    let other = RateCaseRequest {
        satisfaction: Satisfaction::Fair.into(),
        ..requests[place].clone()
    };
    assert_eq!(
        refused(rate(&scene, &other, WEIHAI).await),
        "REQUEST_ID_REUSED"
    );
    let fresh = rating(number, RECEIPT, Satisfaction::VerySatisfied);
    assert_eq!(refused(rate(&scene, &fresh, WEIHAI).await), "RATED_ALREADY");
    for contact in [HAND_OVER, 1, 99] {
        let none = rating(number, contact, Satisfaction::Fair);
        assert_eq!(
            refused(rate(&scene, &none, WEIHAI).await),
            "CONTACT_UNKNOWN"
        );
    }
    let stranger = RateCaseRequest {
        applicant: Some(ProtoApplicant {
            citizen_id: "370202199001010007".into(),
            ..applicant()
        }),
        ..rating(number, ACCEPTANCE, Satisfaction::Fair)
    };
    assert_eq!(
        refused(rate(&scene, &stranger, WEIHAI).await),
        "CASE_UNKNOWN"
    );
    crate::cases::is_append_only(&scene, "UPDATE rating SET satisfaction = 1").await;
    crate::cases::is_append_only(&scene, "DELETE FROM rating WHERE seq = 1").await;
    crate::cases::is_append_only(&scene, "DELETE FROM rectification_step").await;
}

pub(crate) async fn a_whole_case_is_rated_when_it_is_over(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    let whole = rating(number, 0, Satisfaction::Satisfied);
    assert_eq!(refused(rate(&scene, &whole, WEIHAI).await), "CASE_NOT_OVER");
    scene
        .decide(number, &[A::BeginReview, A::Grant, A::Conclude, A::Deliver])
        .await;
    rate(&scene, &whole, WEIHAI).await.unwrap();
    assert_eq!(scene.state(number).await, CaseState::Evaluated);
    assert!(scene.store.evaluations_due(9).await.unwrap().is_empty());
    let again = rating(number, 0, Satisfaction::Satisfied);
    assert_eq!(refused(rate(&scene, &again, WEIHAI).await), "RATED_ALREADY");
    // Whoever was refused or withdrew rates, too; the state stays.
    let withdrawn = scene.accepted(QUERY, WEIHAI).await;
    scene
        .step(withdrawn, A::Withdraw, Applicant, WEIHAI)
        .await
        .unwrap();
    let whole = rating(withdrawn, 0, Satisfaction::Fair);
    rate(&scene, &whole, WEIHAI).await.unwrap();
    assert_eq!(scene.state(withdrawn).await, CaseState::Withdrawn);
}

pub(crate) async fn an_appeal_takes_a_rating_out_of_the_figures_and_keeps_it(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    let mut ids = Vec::new();
    for contact in [RECEIPT, ACCEPTANCE] {
        let request = rating(number, contact, Satisfaction::VeryDissatisfied);
        ids.push(rate(&scene, &request, WEIHAI).await.unwrap().id);
    }
    assert_eq!(crate::figures::total(&scene).await.ratings, [0, 0, 0, 0, 2]);
    // The rating is counted in its month, and taken back from there.
    scene.clock.advance_us(40 * DAY);
    for (id, city, office) in [(&ids[0], WEIHAI, Window), (&ids[1], QINGDAO, Department)] {
        step(&scene, id, R::Appeal, office, city).await.unwrap();
    }
    step(&scene, &ids[0], R::Exclude, Supervisor, WEIHAI)
        .await
        .unwrap();
    step(&scene, &ids[1], R::Dismiss, Supervisor, QINGDAO)
        .await
        .unwrap();
    let again = step(&scene, &ids[1], R::Appeal, Department, QINGDAO).await;
    assert_eq!(refused(again), "APPEALED_ALREADY");
    let figures = crate::figures::total(&scene).await;
    assert_eq!(figures.ratings, [0, 0, 0, 0, 1]);
    assert_eq!(
        (
            figures.excluded_ratings,
            figures.rectifications,
            figures.rectified
        ),
        (1, 2, 1)
    );
    let march = scene.figures("2026-03", "2026-03").await;
    let excluded: i64 = march.iter().map(|row| row.figures.excluded_ratings).sum();
    assert_eq!(excluded, 1);
    let kept = scene
        .store
        .rating(ids[0].parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.satisfaction, Satisfaction::VeryDissatisfied);
    let stays = step(&scene, &ids[0], R::Report, Window, WEIHAI).await;
    assert_eq!(refused(stays), "RECTIFICATION_NOT_ALLOWED");
}

pub(crate) async fn a_rectification_that_waits_is_warned(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    let ratings = Ratings::new(scene.cases.clone());
    let request = rating(number, RECEIPT, Satisfaction::Dissatisfied);
    let id = rate(&scene, &request, WEIHAI).await.unwrap().id;
    let task = || async {
        let rating = scene.store.rating(id.parse().unwrap()).await.unwrap();
        rating.unwrap().rectification.unwrap()
    };
    // 15 working days after 2026-03-02: yellow with 3 left, red at the end of 2026-03-23.
    scene.clock.advance_us(15 * DAY);
    assert_eq!(ratings.run_clocks().await.unwrap(), 0);
    scene.clock.advance_us(3 * DAY);
    assert_eq!(ratings.run_clocks().await.unwrap(), 1);
    assert_eq!(task().await.warning, Warning::Yellow);
    // While the supervising office has it, no time of the rated office runs.
    step(&scene, &id, R::Report, Window, WEIHAI).await.unwrap();
    scene.clock.advance_us(60 * DAY);
    assert_eq!(ratings.run_clocks().await.unwrap(), 0);
    step(&scene, &id, R::Return, Supervisor, WEIHAI)
        .await
        .unwrap();
    scene.clock.advance_us(7 * DAY);
    assert_eq!(ratings.run_clocks().await.unwrap(), 1);
    assert_eq!(task().await.warning, Warning::Red);
    assert_eq!(ratings.run_clocks().await.unwrap(), 0);
    let overdue = SearchRectificationsRequest {
        role: Supervisor.into(),
        warning: Warning::Red.into(),
        ..SearchRectificationsRequest::default()
    };
    let filter = RectificationFilter::parse(&overdue).unwrap();
    let found = ratings
        .search(filter, &actor(QINGDAO, Supervisor))
        .await
        .unwrap();
    assert_eq!(found.rectifications.len(), 1);
    assert_eq!(
        crate::figures::total(&scene).await.overdue_rectifications,
        1
    );
}

pub(crate) async fn a_rating_whose_case_was_not_noted_is_noted_by_the_next_pass(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    scene
        .decide(number, &[A::BeginReview, A::Grant, A::Conclude, A::Deliver])
        .await;
    let request = rating(number, 0, Satisfaction::Satisfied);
    let given = RateCase::parse(&request, scene.cases.today()).unwrap();
    // What is written when the process ends before it says so in the history.
    let write = NewRatingWrite {
        rating: Rating {
            id: RatingId::random([7; 16]),
            given,
            rated: rated_by_case(&scene.case(number).await).unwrap(),
            masked: String::new(),
            client: actor(WEIHAI, Applicant).client.unwrap(),
            at_us: scene.clock.clock().now_us(),
        },
        digest: sha256(&request),
        rectification: None,
        evaluates: true,
        tallies: Vec::new(),
    };
    scene.store.rate(&write).await.unwrap();
    assert_eq!(scene.state(number).await, CaseState::Delivered);
    let after = scene.replica().await;
    let ratings = Ratings::new(after.cases.clone());
    assert_eq!(ratings.run_clocks().await.unwrap(), 1);
    assert_eq!(after.state(number).await, CaseState::Evaluated);
    assert_eq!(ratings.run_clocks().await.unwrap(), 0);
}
