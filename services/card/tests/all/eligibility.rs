//! Eligibility: checks that are recognised, signs that are investigated, and payments that nothing here stops.

use banqiao_card::{
    LineOutcome,
    eligibility::{Eligibility, EligibilityServer, EligibilityTerms, EligibilityWatches},
};
use banqiao_proto::card::v1::{
    Beneficiary, CampaignStatus, CheckEligibilityRequest, ConcludeInvestigationRequest,
    ConcludeInvestigationResponse, EligibilityEventKind, EligibilityMethod, EligibilityResult,
    EligibilityVerdict, ImportBeneficiariesRequest, InsuranceScheme, InvestigationOutcome,
    LifeEvidenceType, ListEligibilityHistoryRequest, ListInvestigationsRequest, LossEvidenceType,
    PaymentState, ReportLifeRequest, ReportLifeResponse, ReportLossSignRequest,
    ReportLossSignResponse, ReportUnreachableRequest, SummariseCampaignRequest,
    eligibility_service_server::EligibilityService,
};
use futures_util::future::join_all;
use jiff::civil::{Date, date};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    entitlements::{HALL, TODAY, WEIHAI, cities, from, person},
    scene::{BRISK, DAY, Scene, qingdao},
};

pub(crate) const YANTAI: &str = "spiffe://yantai.jiaodong/hrss/hall";

pub(crate) fn eligibility(scene: &Scene) -> Eligibility {
    let store = scene.cards.store();
    Eligibility::new(
        store,
        qingdao(),
        scene.clock.clock(),
        EligibilityTerms::DEFAULT,
    )
}

pub(crate) fn server(scene: &Scene) -> EligibilityServer {
    let eligibility = eligibility(scene);
    let watches = EligibilityWatches::new(&eligibility, BRISK, scene.stopping.clone());
    EligibilityServer::new(eligibility, watches, cities())
}

pub(crate) fn paid(index: u32, due_on: &str) -> Beneficiary {
    Beneficiary {
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
        payment_state: PaymentState::Paying.into(),
        not_paid_from: String::new(),
        due_on: due_on.to_owned(),
    }
}

pub(crate) fn paused(index: u32, since: &str, due_on: &str) -> Beneficiary {
    Beneficiary {
        payment_state: PaymentState::Paused.into(),
        not_paid_from: since.to_owned(),
        ..paid(index, due_on)
    }
}

pub(crate) async fn import(scene: &Scene, people: &[Beneficiary]) -> Vec<LineOutcome> {
    let lines: Vec<_> = (1..)
        .zip(people)
        .map(|(line, beneficiary)| ImportBeneficiariesRequest {
            line,
            beneficiary: Some(beneficiary.clone()),
        })
        .collect();
    eligibility(scene).import(&lines, None).await.unwrap()
}

pub(crate) fn life(index: u32, day: Date) -> ReportLifeRequest {
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

pub(crate) fn by_data(index: u32, day: Date) -> ReportLifeRequest {
    ReportLifeRequest {
        method: EligibilityMethod::DataMatch.into(),
        evidence_type: LifeEvidenceType::RegisterActivity.into(),
        ..life(index, day)
    }
}

pub(crate) fn sign(index: u32, day: Date) -> ReportLossSignRequest {
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

pub(crate) async fn report(
    scene: &Scene,
    client: &str,
    request: &ReportLifeRequest,
) -> Result<ReportLifeResponse, Status> {
    let answer = server(scene)
        .report_life(from(client, request.clone()))
        .await;
    answer.map(tonic::Response::into_inner)
}

pub(crate) async fn suspect(
    scene: &Scene,
    request: &ReportLossSignRequest,
) -> ReportLossSignResponse {
    let answer = server(scene)
        .report_loss_sign(from(WEIHAI, request.clone()))
        .await;
    answer.unwrap().into_inner()
}

pub(crate) async fn verdict(scene: &Scene, index: u32) -> EligibilityVerdict {
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

pub(crate) async fn counts(scene: &Scene, month: &str) -> Vec<(CampaignStatus, String, u64)> {
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

pub(crate) fn reason(status: &Status) -> String {
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
