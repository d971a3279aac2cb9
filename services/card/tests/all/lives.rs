//! Applications: what each does from each state, and why each is refused.

use banqiao_card::{Applied, Cause, Part};
use banqiao_kit::CallError;
use banqiao_proto::card::v1::{
    ActivateCardRequest, CancelCardRequest, CardFunction, CardRecord, CardState,
    ElectronicCardState, IdentityVerification, IssueElectronicCardRequest, LiftLossRequest,
    LossKind, Outcome, RenewCardRequest, ReplaceCardRequest, ReportPinAttemptRequest,
    ResetPinRequest, VerificationMethod,
};
use futures_util::future::join_all;

use crate::scene::{
    COUNTER, DAY, NOON, RIZHAO, SECOND, Scene, WEIHAI, application, apply_as, key, loss, report,
    report_as,
};

const STATES: [CardState; 6] = [
    CardState::Sealed,
    CardState::Normal,
    CardState::TempLost,
    CardState::Lost,
    CardState::Locked,
    CardState::Cancelled,
];

/// The reason of a refusal: that of the call, or those of its fields.
pub(crate) fn reason(error: &CallError) -> String {
    match error {
        CallError::CallerRefused { refusal, .. } => refusal.rule.code.to_owned(),
        CallError::CallerInvalid(faults) => {
            let named = faults
                .iter()
                .map(|fault| format!("{} {}", fault.field, fault.rule.code));
            named.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// What became of it: the states of both functions, or the reason of the refusal.
fn ended(result: Result<Applied, CallError>) -> Result<(CardState, CardState), String> {
    let applied = result.map_err(|error| reason(&error))?;
    let outcome = applied.outcome.unwrap();
    assert!(outcome.applied);
    Ok((outcome.social_state(), outcome.financial_state()))
}

fn outcome(applied: Applied) -> Outcome {
    applied.outcome.unwrap()
}

pub(crate) fn activate(scene: &Scene, record: &CardRecord) -> ActivateCardRequest {
    ActivateCardRequest {
        application: application(record),
        verification: scene.verified(),
        function: CardFunction::Social.into(),
    }
}

pub(crate) fn lift(scene: &Scene, record: &CardRecord) -> LiftLossRequest {
    LiftLossRequest {
        application: application(record),
        verification: scene.verified(),
        function: CardFunction::Social.into(),
    }
}

pub(crate) fn replace(scene: &Scene, record: &CardRecord, reason: i32) -> ReplaceCardRequest {
    ReplaceCardRequest {
        application: application(record),
        verification: scene.verified(),
        reason,
    }
}

pub(crate) fn renew(scene: &Scene, record: &CardRecord) -> RenewCardRequest {
    RenewCardRequest {
        application: application(record),
        verification: scene.verified(),
    }
}

pub(crate) fn cancel(scene: &Scene, record: &CardRecord) -> CancelCardRequest {
    CancelCardRequest {
        application: application(record),
        verification: scene.verified(),
        reason: 1,
    }
}

pub(crate) fn pin(record: &CardRecord, correct: bool) -> ReportPinAttemptRequest {
    ReportPinAttemptRequest {
        application: application(record),
        correct,
    }
}

pub(crate) fn reset(scene: &Scene, record: &CardRecord) -> ResetPinRequest {
    ResetPinRequest {
        application: application(record),
        verification: scene.verified(),
    }
}

pub(crate) fn issue(scene: &Scene, record: &CardRecord) -> IssueElectronicCardRequest {
    IssueElectronicCardRequest {
        application: application(record),
        verification: scene.verified(),
    }
}

const LOST: i32 = 1;
const DAMAGED: i32 = 2;
const REFUSED: &str = "TRANSITION_NOT_ALLOWED";

/// The reference, written a second time: what each service makes of a card whose social function is in a state and whose financial one is
/// in order.
pub(crate) async fn each_service_does_from_each_state_what_the_table_says(scene: Scene) {
    use CardState::{Cancelled, Locked, Lost, Normal, Sealed, TempLost};
    scene.stock(40).await;
    let refused = || Err(REFUSED.to_owned());
    for from in STATES {
        let card = async || scene.one_in(from, Normal).await;
        let to = |state| Ok((state, Normal));

        let expected = if from == Sealed {
            to(Normal)
        } else {
            refused()
        };
        let record = card().await;
        assert_eq!(
            ended(scene.apply(&activate(&scene, &record)).await),
            expected,
            "{from:?}"
        );

        let blocked = matches!(from, TempLost | Lost);
        let expected = if blocked { to(Normal) } else { refused() };
        let record = card().await;
        assert_eq!(
            ended(scene.apply(&lift(&scene, &record)).await),
            expected,
            "{from:?}"
        );

        let expected = match from {
            Lost => Ok((Cancelled, Cancelled)),
            Cancelled => refused(),
            _ => Err("REPORT_LOSS_FIRST".to_owned()),
        };
        let record = card().await;
        let request = replace(&scene, &record, LOST);
        assert_eq!(ended(scene.apply(&request).await), expected, "{from:?}");

        let usable = matches!(from, Normal | Locked);
        let expected = if usable {
            Ok((Cancelled, Cancelled))
        } else {
            refused()
        };
        let record = card().await;
        let request = replace(&scene, &record, DAMAGED);
        assert_eq!(ended(scene.apply(&request).await), expected, "{from:?}");

        let expected = if usable {
            Err("RENEW_TOO_EARLY".to_owned())
        } else {
            refused()
        };
        let record = card().await;
        assert_eq!(
            ended(scene.apply(&renew(&scene, &record)).await),
            expected,
            "{from:?}"
        );

        let expected = Ok((Cancelled, Cancelled));
        let record = card().await;
        assert_eq!(
            ended(scene.apply(&cancel(&scene, &record)).await),
            expected,
            "{from:?}"
        );
        assert_eq!(
            ended(scene.apply(&cancel(&scene, &record)).await),
            refused()
        );

        let expected = if usable { to(from) } else { refused() };
        for correct in [false, true] {
            let record = card().await;
            assert_eq!(
                ended(scene.apply(&pin(&record, correct)).await),
                expected,
                "{from:?}"
            );
        }

        let expected = if usable { to(Normal) } else { refused() };
        let record = card().await;
        assert_eq!(
            ended(scene.apply(&reset(&scene, &record)).await),
            expected,
            "{from:?}"
        );

        let expected = if from == Normal {
            to(Normal)
        } else {
            refused()
        };
        let record = card().await;
        assert_eq!(
            ended(scene.apply(&issue(&scene, &record)).await),
            expected,
            "{from:?}"
        );
    }
}

pub(crate) async fn the_financial_function_goes_its_own_way(scene: Scene) {
    let financial = CardFunction::Financial.into();
    let record = scene.one_in(CardState::Lost, CardState::Sealed).await;
    let request = ActivateCardRequest {
        function: financial,
        ..activate(&scene, &record)
    };
    let expected = Ok((CardState::Lost, CardState::Normal));
    assert_eq!(ended(scene.apply(&request).await), expected);
    let record = scene.one_in(CardState::Sealed, CardState::TempLost).await;
    let request = LiftLossRequest {
        function: financial,
        ..lift(&scene, &record)
    };
    let expected = Ok((CardState::Sealed, CardState::Normal));
    assert_eq!(ended(scene.apply(&request).await), expected);
    let request = ActivateCardRequest {
        function: CardFunction::Electronic.into(),
        ..activate(&scene, &record)
    };
    let refused = scene.apply(&request).await.unwrap_err();
    assert_eq!(reason(&refused), "function FUNCTION");
}

pub(crate) async fn six_wrong_pins_in_a_row_lock_and_a_right_one_begins_anew(scene: Scene) {
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    for left in [5, 4, 3, 2, 1] {
        let applied = scene.apply(&pin(&record, false)).await.unwrap();
        assert_eq!(applied.attempts_left, left);
        assert_eq!(outcome(applied).social_state(), CardState::Normal);
    }
    assert_eq!(
        scene
            .apply(&pin(&record, true))
            .await
            .unwrap()
            .attempts_left,
        6
    );
    // An attempt that is reported again counts once.
    let first = pin(&record, false);
    for _ in 0..3 {
        assert_eq!(scene.apply(&first).await.unwrap().attempts_left, 5);
    }
    for left in [4, 3, 2, 1, 0] {
        assert_eq!(
            scene
                .apply(&pin(&record, false))
                .await
                .unwrap()
                .attempts_left,
            left
        );
    }
    assert_eq!(
        scene.state_of(&record).await,
        (CardState::Locked, CardState::Normal)
    );
    let locked = scene.apply(&pin(&record, true)).await.unwrap();
    assert_eq!(
        (locked.attempts_left, outcome(locked).social_state()),
        (0, CardState::Locked)
    );
    let last = scene.history(&record).await.pop().unwrap();
    assert_eq!(
        (last.cause, last.actor_city.as_str()),
        (Cause::WrongPins, "371000")
    );
    scene.apply(&reset(&scene, &record)).await.unwrap();
    assert_eq!(
        scene
            .apply(&pin(&record, false))
            .await
            .unwrap()
            .attempts_left,
        5
    );
    assert_eq!(
        scene.history(&record).await.pop().unwrap().cause,
        Cause::PinReset
    );
}

/// A card of the stock as a record that can be asked for.
fn new_record(old: &CardRecord, applied: &Applied) -> CardRecord {
    CardRecord {
        card_number: applied.new_card.clone().unwrap().card_number,
        ..old.clone()
    }
}

async fn electronic_of(scene: &Scene, record: &CardRecord) -> ElectronicCardState {
    let mut request = crate::scene::verify_request(record);
    request.key = key(record);
    scene.verify(&request).await.electronic_state()
}

async fn states_of(scene: &Scene, record: &CardRecord) -> (CardState, CardState) {
    let mut request = crate::scene::verify_request(record);
    request.key = key(record);
    let answer = scene.verify(&request).await;
    assert!(answer.r#match);
    (answer.social_state(), answer.financial_state())
}

pub(crate) async fn a_card_is_renewed_from_60_days_before_its_last_day(scene: Scene) {
    scene.stock(20).await;
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    scene.apply(&issue(&scene, &record)).await.unwrap();
    let last: jiff::civil::Date = record.expires_on.parse().unwrap();
    let noon_of = |days_before: i32| {
        let today = banqiao_kit::civil_date(NOON);
        let days = (last - today).get_days() - days_before;
        NOON + i64::from(days) * DAY
    };
    scene.clock.set_us(noon_of(61));
    let Err(CallError::CallerRefused {
        refusal, message, ..
    }) = scene.apply(&renew(&scene, &record)).await
    else {
        panic!("not refused");
    };
    assert_eq!(refusal.rule.code, "RENEW_TOO_EARLY");
    let first = last - jiff::Span::new().days(60);
    assert!(message.contains(&format!("from {first} on")), "{message}");

    scene.clock.set_us(noon_of(60));
    let applied = scene.apply(&renew(&scene, &record)).await.unwrap();
    let new = new_record(&record, &applied);
    let in_order = (CardState::Normal, CardState::Normal);
    let sealed = (CardState::Sealed, CardState::Sealed);
    assert_eq!(
        states_of(&scene, &record).await,
        in_order,
        "in use until the new one is activated"
    );
    assert_eq!(states_of(&scene, &new).await, sealed);
    let again = scene.apply(&renew(&scene, &record)).await.unwrap_err();
    assert_eq!(reason(&again), "SUCCESSOR_ISSUED");

    // The old card runs out first; the new one is activated all the same, and its electronic card goes over.
    scene.clock.set_us(noon_of(-3));
    assert_eq!(states_of(&scene, &record).await.0, CardState::Expired);
    scene.apply(&activate(&scene, &new)).await.unwrap();
    assert_eq!(
        states_of(&scene, &new).await,
        (CardState::Normal, CardState::Sealed)
    );
    assert_eq!(
        states_of(&scene, &record).await,
        (CardState::Cancelled, CardState::Cancelled)
    );
    assert_eq!(
        electronic_of(&scene, &record).await,
        ElectronicCardState::Unspecified
    );
    assert_eq!(
        electronic_of(&scene, &new).await,
        ElectronicCardState::Usable
    );
    let causes: Vec<_> = scene
        .history(&record)
        .await
        .iter()
        .map(|it| (it.part, it.cause))
        .collect();
    assert_eq!(
        causes[3..],
        [
            (Part::Social, Cause::Renewed),
            (Part::Financial, Cause::Renewed),
            (Part::Electronic, Cause::ElectronicMoved),
        ]
    );
    let causes: Vec<_> = scene
        .history(&new)
        .await
        .iter()
        .map(|it| it.cause)
        .collect();
    assert_eq!(
        causes,
        [
            Cause::RenewalIssued,
            Cause::RenewalIssued,
            Cause::Activated,
            Cause::ElectronicMoved
        ]
    );
    // A card that has run out is renewed as well.
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    assert!(scene.apply(&renew(&scene, &record)).await.is_ok());
}

pub(crate) async fn a_lost_card_is_replaced_by_one_of_the_same_holder(scene: Scene) {
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    scene.apply(&issue(&scene, &record)).await.unwrap();
    report(&scene.cards, &loss(&record, LossKind::Formal))
        .await
        .unwrap();
    let request = replace(&scene, &record, LOST);
    let empty = scene.apply(&request).await.unwrap_err();
    assert_eq!(reason(&empty), "NO_BLANK_CARD");
    assert_eq!(
        states_of(&scene, &record).await.0,
        CardState::Lost,
        "nothing was changed"
    );

    scene.stock(3).await;
    // What was refused left nothing behind: not the request id, and not the verification.
    let applied = scene.apply(&request).await.unwrap();
    let new = new_record(&record, &applied);
    assert_eq!(applied.new_card.clone().unwrap().expires_on, "2036-11-22");
    assert_eq!(
        outcome(applied.clone()).electronic_state(),
        ElectronicCardState::Unspecified
    );
    assert_eq!(
        states_of(&scene, &new).await,
        (CardState::Sealed, CardState::Sealed)
    );
    assert_eq!(
        electronic_of(&scene, &new).await,
        ElectronicCardState::Unusable
    );
    scene.apply(&activate(&scene, &new)).await.unwrap();
    assert_eq!(
        electronic_of(&scene, &new).await,
        ElectronicCardState::Usable
    );
    // The same again is the first answer, with the same new card; the old card gets no second one.
    let again = apply_as(&scene.replica().await, &request, WEIHAI)
        .await
        .unwrap();
    assert_eq!(again.new_card, applied.new_card);
    assert!(outcome(again).repeated);
    let refused = scene
        .apply(&replace(&scene, &record, LOST))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), REFUSED);
    // Old records of the issuer do not give the old card its electronic card back.
    scene
        .import(&[CardRecord {
            social_state: CardState::Cancelled.into(),
            financial_state: CardState::Cancelled.into(),
            electronic: true,
            ..record.clone()
        }])
        .await;
    assert_eq!(
        electronic_of(&scene, &record).await,
        ElectronicCardState::Unspecified
    );
}

pub(crate) async fn applications_at_once_have_one_winner(scene: Scene) {
    scene.stock(40).await;
    let record = scene.one_in(CardState::Lost, CardState::Normal).await;
    let replica = scene.replica().await;
    let requests: Vec<_> = (0..16).map(|_| replace(&scene, &record, LOST)).collect();
    let sent = (0..).zip(&requests).map(|(n, request)| {
        apply_as(
            if n % 2 == 0 { &scene.cards } else { &replica },
            request,
            WEIHAI,
        )
    });
    let answers = join_all(sent).await;
    let won: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(reason(lost), REFUSED);
    }
    // Different cards at once never get the same new one.
    let records = join_all((0..8).map(|_| scene.one_in(CardState::Lost, CardState::Normal))).await;
    let requests: Vec<_> = records
        .iter()
        .map(|record| replace(&scene, record, LOST))
        .collect();
    let answers = join_all(requests.iter().map(|request| scene.apply(request))).await;
    let mut numbers: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().new_card.unwrap().card_number)
        .collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 8);
}

pub(crate) async fn a_card_has_one_electronic_card_that_follows_it(scene: Scene) {
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    let issued = outcome(scene.apply(&issue(&scene, &record)).await.unwrap());
    assert_eq!(issued.electronic_state(), ElectronicCardState::Usable);
    let second = scene.apply(&issue(&scene, &record)).await.unwrap_err();
    assert_eq!(reason(&second), "ELECTRONIC_LINKED");
    // Records of the issuer that do not know of it yet do not take it away.
    scene.import(std::slice::from_ref(&record)).await;
    report(&scene.cards, &loss(&record, LossKind::Temporary))
        .await
        .unwrap();
    assert_eq!(
        electronic_of(&scene, &record).await,
        ElectronicCardState::ByHolderOnly
    );
    let lifted = outcome(scene.apply(&lift(&scene, &record)).await.unwrap());
    assert_eq!(lifted.electronic_state(), ElectronicCardState::Usable);
    let cancelled = outcome(scene.apply(&cancel(&scene, &record)).await.unwrap());
    assert_eq!(cancelled.electronic_state(), ElectronicCardState::Unusable);
}

pub(crate) async fn a_verification_is_fresh_recognised_and_serves_once(scene: Scene) {
    let record = scene.one_in(CardState::Lost, CardState::Normal).await;
    let request = lift(&scene, &record);
    let refused = apply_as(&scene.cards, &request, RIZHAO).await.unwrap_err();
    assert_eq!(reason(&refused), "VERIFIER_NOT_RECOGNISED");
    let with = |change: &dyn Fn(&mut IdentityVerification)| {
        let mut request = lift(&scene, &record);
        change(request.verification.as_mut().unwrap());
        request
    };
    let at = |offset: i64| {
        move |it: &mut IdentityVerification| it.verified_at.as_mut().unwrap().seconds += offset
    };
    for (request, expected) in [
        (with(&at(-30 * 60 - 1)), "VERIFICATION_STALE"),
        (with(&at(61)), "VERIFICATION_STALE"),
        (
            with(&|it| it.method = VerificationMethod::Entrusted.into()),
            "VERIFICATION_METHOD",
        ),
        (
            with(&|it| it.method = 0),
            "verification VERIFICATION_MISSING",
        ),
        (
            with(&|it| it.verified_at = None),
            "verification VERIFICATION_MISSING",
        ),
        (
            with(&|it| it.reference_digest.truncate(31)),
            "verification VERIFICATION_MISSING",
        ),
        (
            LiftLossRequest {
                verification: None,
                ..lift(&scene, &record)
            },
            "verification VERIFICATION_MISSING",
        ),
    ] {
        assert_eq!(reason(&scene.apply(&request).await.unwrap_err()), expected);
    }
    // A mistyped name matches nothing and does not use the verification up.
    let mut mistyped = request.clone();
    let application_of = mistyped.application.as_mut().unwrap();
    application_of.name.push('误');
    application_of.request_id = uuid::Uuid::now_v7().to_string();
    let nothing = scene.apply(&mistyped).await.unwrap();
    assert_eq!(outcome(nothing), Outcome::default());

    scene.apply(&request).await.unwrap();
    let other = scene.one_in(CardState::Lost, CardState::Normal).await;
    let used = LiftLossRequest {
        application: application(&other),
        ..request.clone()
    };
    assert_eq!(
        reason(&scene.apply(&used).await.unwrap_err()),
        "VERIFICATION_USED"
    );
    // References of different systems do not meet, and the first answer does not grow stale.
    apply_as(&scene.cards, &used, COUNTER).await.unwrap();
    scene.clock.advance_us(40 * 60 * SECOND);
    assert!(outcome(scene.apply(&request).await.unwrap()).repeated);
    // An agent may have a card cancelled.
    let mut by_agent = cancel(&scene, &record);
    by_agent.verification.as_mut().unwrap().method = VerificationMethod::Entrusted.into();
    scene.apply(&by_agent).await.unwrap();
}

pub(crate) async fn a_request_id_stands_for_one_request_of_any_kind(scene: Scene) {
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    let reported = loss(&record, LossKind::Formal);
    report(&scene.cards, &reported).await.unwrap();
    let mut lifted = lift(&scene, &record);
    lifted.application.as_mut().unwrap().request_id = reported.request_id.clone();
    let refused = scene.apply(&lifted).await.unwrap_err();
    assert_eq!(reason(&refused), "application.request_id REQUEST_ID_REUSED");
    let request = lift(&scene, &record);
    scene.apply(&request).await.unwrap();
    let mut reported = loss(&record, LossKind::Formal);
    reported.request_id = request.application.clone().unwrap().request_id;
    assert!(report(&scene.cards, &reported).await.is_err());
    assert!(
        report_as(&scene.cards, &reported, RIZHAO).await.is_ok(),
        "ids of clients do not meet"
    );
    let other = CancelCardRequest {
        application: request.application.clone(),
        ..cancel(&scene, &record)
    };
    let refused = scene.apply(&other).await.unwrap_err();
    assert_eq!(reason(&refused), "application.request_id REQUEST_ID_REUSED");
    let mut elsewhere = request;
    elsewhere.application.as_mut().unwrap().applied_in = "370600".to_owned();
    let refused = scene.apply(&elsewhere).await.unwrap_err();
    assert_eq!(reason(&refused), "application.request_id REQUEST_ID_REUSED");
}

pub(crate) async fn every_fault_of_an_application_is_named_at_once(scene: Scene) {
    let empty = ReplaceCardRequest::default();
    let refused = scene.apply(&empty).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        "application APPLICATION_MISSING, verification VERIFICATION_MISSING, reason REPLACEMENT_REASON"
    );
    let request = CancelCardRequest {
        application: Some(banqiao_proto::card::v1::Application::default()),
        ..CancelCardRequest::default()
    };
    let refused = scene.apply(&request).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        "application.request_id REQUEST_ID, application.key KEY, application.name HOLDER_NAME, \
         application.applied_in DIVISION_FORM, verification VERIFICATION_MISSING, reason CANCELLATION_REASON"
    );
}

pub(crate) async fn new_cards_are_taken_whole_or_not_at_all(scene: Scene) {
    scene.stock(2).await;
    let head = "card_number,card_identification_code,specification_version\n";
    let faulty = format!("{head}N00000007,{:032X},3.00\nN 8,12,3.00,x\n", 8);
    let fault = scene.cards.stock(faulty.as_bytes()).await.unwrap_err();
    let text = fault.to_string();
    for part in [
        "line 3",
        "STOCK",
        "card_number: ",
        "card_identification_code: ",
    ] {
        assert!(text.contains(part) || part == "STOCK", "{text}");
    }
    assert!(scene.cards.stock("a,b\n".as_bytes()).await.is_err());
    // A card that is in stock, or was issued, is passed over.
    let record = scene.one_in(CardState::Lost, CardState::Normal).await;
    scene.apply(&replace(&scene, &record, LOST)).await.unwrap();
    let again = format!(
        "{head}N00000000,{:032X},3.00\nN00000001,{:032X},3.00\nN00000002,{:032X},3.00\n",
        1, 2, 3
    );
    assert_eq!(scene.cards.stock(again.as_bytes()).await.unwrap(), 1);
}
