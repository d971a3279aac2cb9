//! Eligibility: checks that are recognised, signs that are investigated, and payments that nothing here stops.

use std::{pin::pin, time::Duration};

use banqiao_card::{
    LineOutcome, WatchFrom,
    eligibility::{
        Eligibility, EligibilityServer, EligibilityTerms, EligibilityWatches, WatchedBy,
    },
};
use banqiao_proto::card::v1::{
    Beneficiary, CampaignStatus, CheckEligibilityRequest, ConcludeInvestigationRequest,
    ConcludeInvestigationResponse, EligibilityEventKind, EligibilityMethod, EligibilityResult,
    EligibilityVerdict, ImportBeneficiariesRequest, InsuranceScheme, InvestigationOutcome,
    LifeEvidenceType, ListCampaignRequest, ListEligibilityHistoryRequest,
    ListInvestigationsRequest, LossEvidenceType, MatchEligibilityRequest, PaymentState,
    ReportLifeRequest, ReportLifeResponse, ReportLossSignRequest, ReportLossSignResponse,
    ReportUnreachableRequest, SummariseCampaignRequest, WatchEligibilityResponse,
    eligibility_service_server::EligibilityService,
};
use futures_util::{Stream, StreamExt, future::join_all};
use jiff::{
    ToSpan,
    civil::{Date, date},
};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    entitlements::{HALL, TODAY, WEIHAI, cities, from, person},
    scene::{BRISK, DAY, Scene, qingdao},
};

/// Far beyond what any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);
const YANTAI: &str = "spiffe://yantai.jiaodong/hrss/hall";

fn eligibility(scene: &Scene) -> Eligibility {
    let store = scene.cards.store();
    Eligibility::new(
        store,
        qingdao(),
        scene.clock.clock(),
        EligibilityTerms::DEFAULT,
    )
}

fn server(scene: &Scene) -> EligibilityServer {
    let eligibility = eligibility(scene);
    let watches = EligibilityWatches::new(&eligibility, BRISK, scene.stopping.clone());
    EligibilityServer::new(eligibility, watches, cities())
}

fn paid(index: u32, due_on: &str) -> Beneficiary {
    Beneficiary {
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
        payment_state: PaymentState::Paying.into(),
        not_paid_from: String::new(),
        due_on: due_on.to_owned(),
    }
}

fn paused(index: u32, since: &str, due_on: &str) -> Beneficiary {
    Beneficiary {
        payment_state: PaymentState::Paused.into(),
        not_paid_from: since.to_owned(),
        ..paid(index, due_on)
    }
}

async fn import(scene: &Scene, people: &[Beneficiary]) -> Vec<LineOutcome> {
    let lines: Vec<_> = (1..)
        .zip(people)
        .map(|(line, beneficiary)| ImportBeneficiariesRequest {
            line,
            beneficiary: Some(beneficiary.clone()),
        })
        .collect();
    eligibility(scene).import(&lines, None).await.unwrap()
}

fn life(index: u32, day: Date) -> ReportLifeRequest {
    ReportLifeRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
        method: EligibilityMethod::Face.into(),
        evidence_type: LifeEvidenceType::LiveFace.into(),
        verified_on: day.to_string(),
        verifying_city: "371000".to_owned(),
        paying_city: "370200".to_owned(),
    }
}

fn by_data(index: u32, day: Date) -> ReportLifeRequest {
    ReportLifeRequest {
        method: EligibilityMethod::DataMatch.into(),
        evidence_type: LifeEvidenceType::RegisterActivity.into(),
        ..life(index, day)
    }
}

fn sign(index: u32, day: Date) -> ReportLossSignRequest {
    ReportLossSignRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
        method: EligibilityMethod::DataMatch.into(),
        evidence_type: LossEvidenceType::DeathRecord.into(),
        noticed_on: day.to_string(),
        verifying_city: "371000".to_owned(),
        paying_city: "370200".to_owned(),
    }
}

async fn report(
    scene: &Scene,
    client: &str,
    request: &ReportLifeRequest,
) -> Result<ReportLifeResponse, Status> {
    let answer = server(scene)
        .report_life(from(client, request.clone()))
        .await;
    answer.map(tonic::Response::into_inner)
}

async fn suspect(scene: &Scene, request: &ReportLossSignRequest) -> ReportLossSignResponse {
    let answer = server(scene)
        .report_loss_sign(from(WEIHAI, request.clone()))
        .await;
    answer.unwrap().into_inner()
}

async fn verdict(scene: &Scene, index: u32) -> EligibilityVerdict {
    let request = CheckEligibilityRequest {
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
    };
    let answer = server(scene).check_eligibility(from(YANTAI, request)).await;
    answer.unwrap().into_inner().verdict.unwrap()
}

async fn conclude(
    scene: &Scene,
    client: &str,
    request: &ConcludeInvestigationRequest,
) -> Result<ConcludeInvestigationResponse, Status> {
    let request = from(client, request.clone());
    let answer = server(scene).conclude_investigation(request).await;
    answer.map(tonic::Response::into_inner)
}

fn conclusion(investigation: &str, outcome: InvestigationOutcome) -> ConcludeInvestigationRequest {
    ConcludeInvestigationRequest {
        request_id: Uuid::now_v7().to_string(),
        investigation: investigation.to_owned(),
        outcome: outcome.into(),
        actor: "测试核查员".to_owned(),
        reason: "seen at home".to_owned(),
    }
}

/// What happened to a person, in order.
async fn history(scene: &Scene, index: u32) -> Vec<EligibilityEventKind> {
    let request = ListEligibilityHistoryRequest {
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
        cursor: String::new(),
    };
    let answer = server(scene)
        .list_eligibility_history(from(HALL, request))
        .await;
    let entries = answer.unwrap().into_inner().entries;
    entries.iter().map(|entry| entry.kind()).collect()
}

async fn counts(scene: &Scene, month: &str) -> Vec<(CampaignStatus, String, u64)> {
    let request = SummariseCampaignRequest {
        month: month.to_owned(),
        scheme: InsuranceScheme::Pension.into(),
    };
    let answer = server(scene).summarise_campaign(from(HALL, request)).await;
    let answer = answer.unwrap().into_inner();
    let sum: u64 = answer.counts.iter().map(|count| count.people).sum();
    assert_eq!(answer.due, sum);
    answer
        .counts
        .iter()
        .map(|count| (count.status(), count.verifying_city.clone(), count.people))
        .collect()
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

pub(crate) async fn a_check_of_another_city_is_recognised_until_its_last_day(scene: Scene) {
    import(&scene, &[paid(0, "2026-12-31")]).await;
    assert_eq!(verdict(&scene, 0).await, EligibilityVerdict::default());
    let answer = report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    assert_eq!(answer.valid_until, "2027-11-23");
    assert!(!answer.repeated && !answer.resumption_instructed);
    let confirmed = EligibilityVerdict {
        result: EligibilityResult::Confirmed.into(),
        verified_on: "2026-11-23".to_owned(),
        valid_until: "2027-11-23".to_owned(),
        verifying_city: "371000".to_owned(),
        method: EligibilityMethod::Face.into(),
    };
    assert_eq!(verdict(&scene, 0).await, confirmed);
    scene.clock.advance_us(365 * DAY);
    assert_eq!(verdict(&scene, 0).await, confirmed, "the last day");
    scene.clock.advance_us(DAY);
    assert_eq!(verdict(&scene, 0).await, EligibilityVerdict::default());
}

pub(crate) async fn an_older_check_does_not_replace_a_newer_one(scene: Scene) {
    import(&scene, &[paid(0, "2026-12-31")]).await;
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    let older = ReportLifeRequest {
        verifying_city: "370600".to_owned(),
        ..life(0, date(2026, 3, 1))
    };
    report(&scene, YANTAI, &older).await.unwrap();
    assert_eq!(verdict(&scene, 0).await.verifying_city, "371000");
    // The last day of the month stands in for a day that the next year lacks.
    scene.clock.set_us(1_709_200_800_000_000);
    let leap = report(&scene, WEIHAI, &life(1, date(2024, 2, 29)))
        .await
        .unwrap();
    assert_eq!(leap.valid_until, "2025-02-28");
}

pub(crate) async fn a_sign_of_loss_opens_one_investigation_and_stops_nothing(scene: Scene) {
    let people = [paid(0, "2026-12-31"), paid(1, "2026-12-31")];
    import(&scene, &people).await;
    let opened = suspect(&scene, &sign(0, TODAY)).await;
    assert_eq!(opened.investigation, "2");
    let second = suspect(&scene, &sign(0, TODAY)).await;
    assert_eq!(second.investigation, "", "it is open already");
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::LostSuspected
    );
    assert_eq!(verdict(&scene, 0).await.valid_until, "");
    // The bureau's record of the payment stands as it was imported.
    assert_eq!(
        import(&scene, &people).await,
        [LineOutcome::Unchanged, LineOutcome::Unchanged]
    );
    assert_eq!(
        counts(&scene, "2026-12").await,
        [
            (CampaignStatus::Pending, String::new(), 1),
            (CampaignStatus::LostSuspected, "371000".to_owned(), 1),
        ]
    );
    // The loss is established: still the payment is what the bureau says it is.
    let request = conclusion("2", InvestigationOutcome::LossEstablished);
    let answer = conclude(&scene, HALL, &request).await.unwrap();
    assert!(!answer.resumption_instructed);
    assert_eq!(
        import(&scene, &people).await,
        [LineOutcome::Unchanged, LineOutcome::Unchanged]
    );
    assert_eq!(
        history(&scene, 0).await,
        [
            EligibilityEventKind::Checked,
            EligibilityEventKind::InvestigationOpened,
            EligibilityEventKind::Checked,
            EligibilityEventKind::InvestigationConcluded,
        ]
    );
    // Nobody is paid here: the sign is kept, and there is nothing to investigate.
    assert_eq!(suspect(&scene, &sign(2, TODAY)).await.investigation, "");
}

pub(crate) async fn a_sign_that_came_before_the_bureaus_record_is_investigated(scene: Scene) {
    suspect(&scene, &sign(0, TODAY)).await;
    let lines = [paid(1, "2026-12-31"), paid(0, "2026-12-31")];
    assert_eq!(
        import(&scene, &lines).await,
        [LineOutcome::Created, LineOutcome::Created]
    );
    let request = from(HALL, ListInvestigationsRequest::default());
    let listed = server(&scene)
        .list_investigations(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.investigations.len(), 1);
    assert_eq!(listed.investigations[0].social_security_number, person(0));
    assert_eq!(listed.investigations[0].verifying_city, "371000");
}

pub(crate) async fn a_confirmation_after_a_pause_instructs_to_resume_once(scene: Scene) {
    import(&scene, &[paused(0, "2026-09-01", "2026-08-31")]).await;
    let answer = report(&scene, WEIHAI, &by_data(0, TODAY)).await.unwrap();
    assert!(answer.resumption_instructed);
    let again = report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    assert!(!again.resumption_instructed, "the first instruction stands");
    let request = ListEligibilityHistoryRequest {
        social_security_number: person(0),
        scheme: InsuranceScheme::Pension.into(),
        cursor: "1".to_owned(),
    };
    let entries = server(&scene)
        .list_eligibility_history(from(HALL, request))
        .await;
    let instruction = entries.unwrap().into_inner().entries.remove(0);
    assert_eq!(
        instruction.kind(),
        EligibilityEventKind::ResumptionInstructed
    );
    assert_eq!(instruction.arrears_from, "2026-09-01");
    // The bureau pays again, pauses again, and is instructed again.
    assert_eq!(
        import(&scene, &[paid(0, "2026-08-31")]).await,
        [LineOutcome::Updated]
    );
    import(&scene, &[paused(0, "2026-11-01", "2026-08-31")]).await;
    assert!(
        report(&scene, WEIHAI, &life(0, TODAY))
            .await
            .unwrap()
            .resumption_instructed
    );
}

pub(crate) async fn data_clear_no_sign_and_a_check_in_person_does(scene: Scene) {
    import(&scene, &[paused(0, "2026-09-01", "2026-12-31")]).await;
    suspect(&scene, &sign(0, date(2026, 11, 20))).await;
    let answer = report(&scene, WEIHAI, &by_data(0, TODAY)).await.unwrap();
    assert!(!answer.resumption_instructed);
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::LostSuspected
    );
    // Seen before the sign is no answer to it.
    report(&scene, WEIHAI, &life(0, date(2026, 11, 19)))
        .await
        .unwrap();
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::LostSuspected
    );
    let answer = report(&scene, WEIHAI, &life(0, date(2026, 11, 20)))
        .await
        .unwrap();
    assert!(answer.resumption_instructed);
    // The newest check is the match of data of the 23rd, which counts now that nothing stands against it.
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::Confirmed
    );
    let request = from(HALL, ListInvestigationsRequest::default());
    let open = server(&scene)
        .list_investigations(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(open.investigations, []);
    let kinds = history(&scene, 0).await;
    assert_eq!(
        kinds[kinds.len() - 3..],
        [
            EligibilityEventKind::Checked,
            EligibilityEventKind::InvestigationConcluded,
            EligibilityEventKind::ResumptionInstructed,
        ]
    );
    // A sign of a day before the person was seen changes nothing.
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    suspect(&scene, &sign(0, date(2026, 11, 22))).await;
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::Confirmed
    );
}

pub(crate) async fn who_was_not_reached_is_neither_alive_nor_lost(scene: Scene) {
    import(&scene, &[paid(0, "2026-11-30")]).await;
    let tried = |day: Date| ReportUnreachableRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: person(0),
        scheme: InsuranceScheme::Pension.into(),
        method: EligibilityMethod::Office.into(),
        tried_on: day.to_string(),
        verifying_city: "371000".to_owned(),
        paying_city: "370200".to_owned(),
    };
    let request = from(WEIHAI, tried(TODAY));
    server(&scene).report_unreachable(request).await.unwrap();
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::Unreachable
    );
    assert_eq!(
        counts(&scene, "2026-11").await,
        [(CampaignStatus::Unreachable, "371000".to_owned(), 1)]
    );
    assert_eq!(history(&scene, 0).await, [EligibilityEventKind::Checked]);
    report(&scene, WEIHAI, &by_data(0, TODAY)).await.unwrap();
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::Confirmed
    );
    let request = from(WEIHAI, tried(date(2026, 11, 23)));
    server(&scene).report_unreachable(request).await.unwrap();
    assert_eq!(
        verdict(&scene, 0).await.result(),
        EligibilityResult::Confirmed
    );
}

pub(crate) async fn a_conclusion_is_recorded_once_with_actor_and_reason(scene: Scene) {
    import(&scene, &[paused(0, "2026-11-01", "2026-10-31")]).await;
    let opened = suspect(&scene, &sign(0, TODAY)).await;
    let request = conclusion(&opened.investigation, InvestigationOutcome::Entitled);
    let refused = conclude(&scene, WEIHAI, &request).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "BENEFITS_OWN_CITY_ONLY")
    );
    let nameless = ConcludeInvestigationRequest {
        actor: " ".to_owned(),
        reason: String::new(),
        ..request.clone()
    };
    let refused = conclude(&scene, HALL, &nameless).await.unwrap_err();
    let faults = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["actor", "reason"]);
    let answer = conclude(&scene, HALL, &request).await.unwrap();
    assert!(answer.resumption_instructed && !answer.repeated);
    let again = conclude(&scene, HALL, &request).await.unwrap();
    assert_eq!(
        again,
        ConcludeInvestigationResponse {
            repeated: true,
            ..answer
        }
    );
    let other = conclusion(&opened.investigation, InvestigationOutcome::LossEstablished);
    let refused = conclude(&scene, HALL, &other).await.unwrap_err();
    assert_eq!(reason(&refused), "INVESTIGATION_NOT_OPEN");
    let none = conclusion("99", InvestigationOutcome::Entitled);
    assert_eq!(
        reason(&conclude(&scene, HALL, &none).await.unwrap_err()),
        "INVESTIGATION_NOT_OPEN"
    );
    let all = ListInvestigationsRequest {
        concluded: true,
        ..ListInvestigationsRequest::default()
    };
    let listed = server(&scene)
        .list_investigations(from(HALL, all))
        .await
        .unwrap()
        .into_inner();
    let investigation = &listed.investigations[0];
    assert_eq!(investigation.outcome(), InvestigationOutcome::Entitled);
    assert_eq!(investigation.evidence_type(), LossEvidenceType::DeathRecord);
    assert_eq!(
        (investigation.actor.as_str(), investigation.reason.as_str()),
        ("测试核查员", "seen at home")
    );
}

pub(crate) async fn the_first_answer_of_a_check_is_given_again(scene: Scene) {
    import(&scene, &[paused(0, "2026-09-01", "2026-12-31")]).await;
    let request = life(0, TODAY);
    let sent = (0..12).map(|_| report(&scene, WEIHAI, &request));
    let answers: Vec<_> = join_all(sent)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.resumption_instructed && answer.cursor == "1")
    );
    assert_eq!(history(&scene, 0).await.len(), 2);
    let changed = ReportLifeRequest {
        verified_on: "2026-11-22".to_owned(),
        ..request.clone()
    };
    let refused = report(&scene, WEIHAI, &changed).await.unwrap_err();
    let fault = refused
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .remove(0);
    assert_eq!(
        (fault.field.as_str(), fault.reason.as_str()),
        ("request_id", "REQUEST_ID_REUSED")
    );
    // The id of another client is another id.
    let other = ReportLifeRequest {
        verifying_city: "370600".to_owned(),
        ..request
    };
    assert!(!report(&scene, YANTAI, &other).await.unwrap().repeated);
}

pub(crate) async fn signs_at_once_open_one_investigation(scene: Scene) {
    import(&scene, &[paid(0, "2026-12-31")]).await;
    let requests: Vec<_> = (0..8).map(|_| sign(0, TODAY)).collect();
    let answers = join_all(requests.iter().map(|request| suspect(&scene, request))).await;
    let opened = answers
        .iter()
        .filter(|answer| !answer.investigation.is_empty());
    assert_eq!(opened.count(), 1);
    let kinds = history(&scene, 0).await;
    assert_eq!(kinds.len(), 9);
}

pub(crate) async fn a_city_reports_its_own_checks_alone(scene: Scene) {
    let foreign = report(&scene, YANTAI, &life(0, TODAY)).await.unwrap_err();
    assert_eq!(
        (foreign.code(), reason(&foreign).as_str()),
        (Code::PermissionDenied, "CITY_NOT_LISTED")
    );
    let unlisted = report(
        &scene,
        "spiffe://rizhao.jiaodong/hrss/hall",
        &life(0, TODAY),
    )
    .await;
    assert_eq!(reason(&unlisted.unwrap_err()), "CITY_NOT_LISTED");
    for (request, field, code) in [
        (life(0, date(2026, 11, 24)), "verified_on", "DAY_IN_FUTURE"),
        (life(0, date(2025, 11, 22)), "verified_on", "CHECK_TOO_OLD"),
        (
            ReportLifeRequest {
                method: EligibilityMethod::DataMatch.into(),
                ..life(0, TODAY)
            },
            "evidence_type",
            "LIFE_EVIDENCE",
        ),
        (
            ReportLifeRequest {
                scheme: InsuranceScheme::Medical.into(),
                ..life(0, TODAY)
            },
            "scheme",
            "ELIGIBILITY_SCHEME",
        ),
    ] {
        let refused = report(&scene, WEIHAI, &request).await.unwrap_err();
        let fault = refused
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .remove(0);
        assert_eq!((fault.field.as_str(), fault.reason.as_str()), (field, code));
    }
    assert!(
        report(&scene, WEIHAI, &life(0, date(2025, 11, 23)))
            .await
            .is_ok(),
        "the last day"
    );
    for refused in [
        server(&scene)
            .summarise_campaign(from(WEIHAI, SummariseCampaignRequest::default()))
            .await
            .map(drop),
        server(&scene)
            .list_campaign(from(WEIHAI, ListCampaignRequest::default()))
            .await
            .map(drop),
        server(&scene)
            .list_investigations(from(WEIHAI, ListInvestigationsRequest::default()))
            .await
            .map(drop),
        server(&scene)
            .list_eligibility_history(from(WEIHAI, ListEligibilityHistoryRequest::default()))
            .await
            .map(drop),
    ] {
        assert_eq!(reason(&refused.unwrap_err()), "BENEFITS_OWN_CITY_ONLY");
    }
}

pub(crate) async fn a_campaign_tells_who_is_due_confirmed_where_and_not_reached(scene: Scene) {
    let people: Vec<_> = (0..7).map(|index| paid(index, "2026-12-15")).collect();
    import(&scene, &people).await;
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    let here = ReportLifeRequest {
        verifying_city: "370200".to_owned(),
        ..life(1, TODAY)
    };
    report(&scene, HALL, &here).await.unwrap();
    suspect(&scene, &sign(2, TODAY)).await;
    // Stopped by the bureau's own decision: due no more.
    let stopped = Beneficiary {
        payment_state: PaymentState::Stopped.into(),
        not_paid_from: "2026-11-01".to_owned(),
        ..paid(3, "2026-12-15")
    };
    // The bureau has moved the day itself.
    let moved = paid(4, "2027-01-15");
    assert_eq!(
        import(&scene, &[stopped, moved]).await,
        [LineOutcome::Updated, LineOutcome::Updated]
    );
    let expected = [
        (CampaignStatus::Pending, String::new(), 2),
        (CampaignStatus::ConfirmedHere, "370200".to_owned(), 1),
        (CampaignStatus::ConfirmedElsewhere, "371000".to_owned(), 1),
        (CampaignStatus::LostSuspected, "371000".to_owned(), 1),
    ];
    assert_eq!(counts(&scene, "2026-12").await, expected);
    // Older records of the bureau do not undo what a check has moved.
    assert_eq!(import(&scene, &people[..1]).await, [LineOutcome::Unchanged]);
    assert_eq!(counts(&scene, "2026-12").await, expected);
    assert_eq!(
        counts(&scene, "2027-11").await,
        [(CampaignStatus::Pending, String::new(), 2)]
    );
    assert_eq!(
        counts(&scene, "2027-01").await,
        [(CampaignStatus::Pending, String::new(), 1)]
    );
    let mut request = ListCampaignRequest {
        month: "2026-12".to_owned(),
        scheme: InsuranceScheme::Pension.into(),
        page_size: 2,
        ..ListCampaignRequest::default()
    };
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let page = server(&scene)
            .list_campaign(from(HALL, request.clone()))
            .await;
        let page = page.unwrap().into_inner();
        listed.extend(page.people);
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((listed.len(), pages), (5, 3));
    assert_eq!(listed[0].social_security_number, person(0));
    assert_eq!(
        (
            listed[0].verified_on.as_str(),
            listed[0].verifying_city.as_str()
        ),
        ("2026-11-23", "371000")
    );
    request.page_token.clear();
    request.set_status(CampaignStatus::Pending);
    let pending = server(&scene)
        .list_campaign(from(HALL, request))
        .await
        .unwrap()
        .into_inner();
    let numbers: Vec<_> = pending
        .people
        .iter()
        .map(|one| one.social_security_number.clone())
        .collect();
    assert_eq!(numbers, [person(5), person(6)]);
    let bad = SummariseCampaignRequest {
        month: "2026-13".to_owned(),
        scheme: 0,
    };
    let refused = server(&scene)
        .summarise_campaign(from(HALL, bad))
        .await
        .unwrap_err();
    assert_eq!(
        refused
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .len(),
        2
    );
}

pub(crate) async fn a_match_answers_each_line_alone(scene: Scene) {
    report(&scene, WEIHAI, &life(1, TODAY)).await.unwrap();
    let line = |line, number: &str| MatchEligibilityRequest {
        line,
        social_security_number: number.to_owned(),
        scheme: InsuranceScheme::Pension.into(),
    };
    let lines = [
        line(7, &person(1)),
        line(8, "370202199001010008"),
        line(9, &person(2)),
        line(10, &person(1)),
    ];
    let answers = eligibility(&scene).match_lines(&lines).await.unwrap();
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            (
                answer.line,
                answer.verdict.as_ref().map(|verdict| verdict.result()),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (7, Some(EligibilityResult::Confirmed)),
            (8, None),
            (9, Some(EligibilityResult::Unspecified)),
            (10, Some(EligibilityResult::Confirmed)),
        ]
    );
    assert_eq!(answers[1].field, "social_security_number");
    assert!(answers[1].rule.contains("GB 11643-1999"));
}

async fn next(
    stream: &mut (impl Stream<Item = Result<WatchEligibilityResponse, banqiao_kit::CallError>> + Unpin),
) -> WatchEligibilityResponse {
    timeout(PATIENCE, stream.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

pub(crate) async fn a_watch_tells_a_city_of_its_own_people_and_resumes(scene: Scene) {
    import(&scene, &[paid(0, "2026-12-31")]).await;
    let here = eligibility(&scene);
    let watches = EligibilityWatches::new(&here, BRISK, scene.stopping.clone());
    let by = |code: &str| WatchedBy {
        city: code.parse().unwrap(),
    };
    let open = async |code, cursor: &str| {
        watches
            .open(by(code), WatchFrom::parse(cursor).unwrap())
            .await
            .unwrap()
    };
    let mut own = pin!(open("370200", "").await);
    assert_eq!(
        next(&mut own).await,
        WatchEligibilityResponse {
            cursor: "0".to_owned(),
            change: None
        }
    );
    // A check here of somebody whom Weihai pays, then a sign and a check from Weihai of somebody whom this city pays.
    let theirs = ReportLifeRequest {
        verifying_city: "370200".to_owned(),
        paying_city: "371000".to_owned(),
        ..life(1, TODAY)
    };
    report(&scene, HALL, &theirs).await.unwrap();
    suspect(&scene, &sign(0, TODAY)).await;
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = next(&mut own).await;
        let change = message.change.unwrap();
        assert_eq!(change.social_security_number, person(0));
        seen.push((message.cursor, change.kind(), change.verdict.is_some()));
    }
    let expected = [
        ("2", EligibilityEventKind::Checked, true),
        ("3", EligibilityEventKind::InvestigationOpened, false),
        ("4", EligibilityEventKind::Checked, true),
        ("5", EligibilityEventKind::InvestigationConcluded, false),
    ];
    assert_eq!(
        seen,
        expected.map(|(cursor, kind, verdict)| (cursor.to_owned(), kind, verdict))
    );
    let mut again = pin!(open("370200", "3").await);
    assert_eq!(next(&mut again).await.cursor, "4");
    // Weihai is told of its own people, and nothing of what this city investigates.
    let mut weihai = pin!(open("371000", "0").await);
    let first = next(&mut weihai).await.change.unwrap();
    assert_eq!(first.social_security_number, person(1));
    assert_eq!(first.verdict.unwrap().verifying_city, "370200");
    let later = ReportLifeRequest {
        request_id: Uuid::now_v7().to_string(),
        ..theirs
    };
    report(&scene, HALL, &later).await.unwrap();
    assert_eq!(next(&mut weihai).await.cursor, "6");
    // What a replica writes is found, too.
    let replica = scene.replica().await;
    let there = Eligibility::new(
        replica.store(),
        qingdao(),
        scene.clock.clock(),
        EligibilityTerms::DEFAULT,
    );
    let following = watches.clone();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move { following.follow().await });
    let watches = EligibilityWatches::new(&there, BRISK, scene.stopping.clone());
    let server = EligibilityServer::new(there, watches, cities());
    server
        .report_life(from(WEIHAI, life(0, TODAY)))
        .await
        .unwrap();
    assert_eq!(next(&mut again).await.cursor, "5");
    assert_eq!(next(&mut again).await.cursor, "7");
    scene.stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

pub(crate) async fn the_history_of_checks_cannot_be_rewritten(scene: Scene) {
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    for statement in [
        "UPDATE eligibility_event SET city = '370600'",
        "DELETE FROM eligibility_event WHERE seq = 1",
        "UPDATE eligibility_request SET client = ''",
        "DELETE FROM eligibility_request",
    ] {
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
}

/// What a person's standing is by the history alone, folded by a simple reference.
#[derive(Clone, Copy, Default)]
struct Model {
    /// Newest check: day and whether it was in person.
    confirmed: Option<(Date, bool)>,
    suspected: Option<Date>,
    unreached: Option<Date>,
    open: bool,
    paused: bool,
    instructed: bool,
}

impl Model {
    fn expected(&self, today: Date) -> EligibilityResult {
        let valid = |day: Date| day + 12.months() >= today;
        if self.suspected.is_some() {
            EligibilityResult::LostSuspected
        } else if self.unreached.is_some() {
            EligibilityResult::Unreachable
        } else if self.confirmed.is_some_and(|(day, _)| valid(day)) {
            EligibilityResult::Confirmed
        } else {
            EligibilityResult::Unspecified
        }
    }
}

pub(crate) async fn a_random_run_of_checks_agrees_with_a_model(scene: Scene) {
    import(
        &scene,
        &[paused(0, "2026-06-01", "2026-05-31"), paid(1, "2026-05-31")],
    )
    .await;
    let mut models = [
        Model {
            paused: true,
            ..Model::default()
        },
        Model::default(),
    ];
    let (mut today, mut seed) = (TODAY, 0x9e37_79b9_7f4a_7c15_u64);
    let mut draw = |limit: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    for step in 0..160 {
        let index = u32::try_from(draw(2)).unwrap();
        let model = &mut models[index as usize];
        let day = today - i64::try_from(draw(20)).unwrap().days();
        match draw(10) {
            0..=3 => {
                let in_person = draw(2) == 0;
                let request = if in_person {
                    life(index, day)
                } else {
                    by_data(index, day)
                };
                let answer = report(&scene, WEIHAI, &request).await.unwrap();
                if model
                    .confirmed
                    .is_none_or(|known| known <= (day, in_person))
                {
                    model.confirmed = Some((day, in_person));
                }
                if model.suspected.is_some_and(|sign| day >= sign) && in_person {
                    (model.suspected, model.open) = (None, false);
                }
                if model.unreached.is_some_and(|tried| day >= tried) {
                    model.unreached = None;
                }
                let clear = model.suspected.is_none() && model.unreached.is_none();
                let instructed = model.paused && !model.instructed && clear;
                assert_eq!(answer.resumption_instructed, instructed, "step {step}");
                model.instructed |= instructed;
            }
            4..=5 => {
                let answer = suspect(&scene, &sign(index, day)).await;
                let seen_later = model
                    .confirmed
                    .is_some_and(|(seen, in_person)| in_person && seen > day);
                if !seen_later {
                    assert_eq!(answer.investigation.is_empty(), model.open, "step {step}");
                    model.suspected = model.suspected.max(Some(day));
                    (model.unreached, model.open) = (None, true);
                }
            }
            6 => {
                let request = ReportUnreachableRequest {
                    request_id: Uuid::now_v7().to_string(),
                    social_security_number: person(index),
                    scheme: InsuranceScheme::Pension.into(),
                    method: EligibilityMethod::Office.into(),
                    tried_on: day.to_string(),
                    verifying_city: "371000".to_owned(),
                    paying_city: "370200".to_owned(),
                };
                server(&scene)
                    .report_unreachable(from(WEIHAI, request))
                    .await
                    .unwrap();
                let reached = model.confirmed.is_some_and(|(seen, _)| seen >= day);
                if model.suspected.is_none() && !reached {
                    model.unreached = model.unreached.max(Some(day));
                }
            }
            _ => {
                let days = i64::try_from(draw(60)).unwrap();
                today += days.days();
                scene.clock.advance_us(days * DAY);
            }
        }
        for (index, model) in (0..).zip(&models) {
            assert_eq!(
                verdict(&scene, index).await.result(),
                model.expected(today),
                "step {step}"
            );
        }
    }
    let request = from(HALL, ListInvestigationsRequest::default());
    let open = server(&scene)
        .list_investigations(request)
        .await
        .unwrap()
        .into_inner();
    let expected = models.iter().filter(|model| model.open).count();
    assert_eq!(open.investigations.len(), expected);
}
