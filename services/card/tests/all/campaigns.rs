//! Eligibility as bureaus follow it: campaigns, matches, watches, histories.

use std::{pin::pin, time::Duration};

use banqiao_card::{
    LineOutcome,
    eligibility::{
        Eligibility, EligibilityServer, EligibilityTerms, EligibilityWatches, WatchedBy,
    },
    parse_cursor,
};
use banqiao_proto::card::v1::{
    Beneficiary, CampaignStatus, EligibilityEventKind, EligibilityMethod, EligibilityResult,
    InsuranceScheme, ListCampaignRequest, ListEligibilityHistoryRequest, ListInvestigationsRequest,
    MatchEligibilityRequest, PaymentState, ReportLifeRequest, ReportUnreachableRequest,
    SummariseCampaignRequest, WatchEligibilityResponse,
    eligibility_service_server::EligibilityService,
};
use futures_util::{Stream, StreamExt};
use jiff::{
    ToSpan,
    civil::{Date, date},
};
use tokio::time::timeout;
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    eligibility::{
        YANTAI, by_data, counts, eligibility, import, life, paid, paused, reason, report, server,
        sign, suspect, verdict,
    },
    entitlements::{HALL, TODAY, WEIHAI, cities, from, person},
    scene::{BRISK, DAY, Scene, qingdao},
};

/// Far beyond what any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

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
            .open(by(code), parse_cursor(cursor).unwrap())
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
