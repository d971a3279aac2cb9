//! Entitlement: what records and policies say, and what they do not.

use std::collections::BTreeMap;

use banqiao_card::{
    Cities, LineOutcome,
    entitlement::{
        Asked, EntitlementServer, EntitlementTerms, Entitlements, ImportedPeriod, OtherCities,
        POLICIES, Period, Requirement, insured, judge,
    },
    synthetic,
};
use banqiao_proto::card::v1::{
    BenefitCode, CheckEntitlementRequest, CheckEntitlementResponse, Entitlement,
    ImportInsuranceRequest, InsurancePeriod, InsuranceScheme, InsuredStatus, TreatmentState,
    entitlement_service_server::EntitlementService,
};
use futures_util::future::join_all;
use jiff::{
    ToSpan,
    civil::{Date, date},
};
use proptest::prelude::*;
use tonic::{Code, Request, Status};

use crate::scene::{DAY, Scene, caller, qingdao};

pub(crate) const HALL: &str = "spiffe://qingdao.jiaodong/hrss/hall";
pub(crate) const WEIHAI: &str = "spiffe://weihai.jiaodong/hrss/hall";
/// Day of the scene.
pub(crate) const TODAY: Date = date(2026, 11, 23);

pub(crate) fn cities() -> Cities {
    let others = [("weihai.jiaodong", "371000"), ("yantai.jiaodong", "370600")];
    let others: BTreeMap<_, _> = others
        .map(|(domain, code)| (code.parse().unwrap(), domain.parse().unwrap()))
        .into();
    Cities::new("qingdao.jiaodong".parse().unwrap(), qingdao(), others)
}

/// A request as the kit's server hands it on.
pub(crate) fn from<T>(client: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller(client));
    request
}

pub(crate) fn entitlements(scene: &Scene) -> Entitlements {
    let store = scene.cards.store();
    Entitlements::new(
        store,
        qingdao(),
        scene.clock.clock(),
        EntitlementTerms::DEFAULT,
    )
}

fn server(scene: &Scene) -> EntitlementServer {
    EntitlementServer::new(entitlements(scene), cities(), OtherCities::new(None))
}

/// The number of the synthetic holder `index`.
pub(crate) fn person(index: u32) -> String {
    let holder = synthetic::holders(qingdao(), index + 1, 1).unwrap().last();
    holder.unwrap().social_security_number
}

pub(crate) fn medical(index: u32) -> InsurancePeriod {
    InsurancePeriod {
        social_security_number: person(index),
        scheme: InsuranceScheme::Medical.into(),
        insured_division: "370202".to_owned(),
        begins_on: "2020-01-01".to_owned(),
        insured_status: InsuredStatus::Normal.into(),
        treatment_state: TreatmentState::None.into(),
        recorded_as_of: TODAY.to_string(),
        ..InsurancePeriod::default()
    }
}

pub(crate) async fn take(scene: &Scene, periods: &[InsurancePeriod]) -> Vec<LineOutcome> {
    let lines: Vec<_> = (1..)
        .zip(periods)
        .map(|(line, period)| ImportInsuranceRequest {
            line,
            period: Some(period.clone()),
        })
        .collect();
    entitlements(scene).import(&lines).await.unwrap()
}

fn ask(period: &InsurancePeriod, benefit: BenefitCode, on_date: &str) -> CheckEntitlementRequest {
    CheckEntitlementRequest {
        social_security_number: period.social_security_number.clone(),
        scheme: period.scheme,
        benefit: benefit.into(),
        on_date: on_date.to_owned(),
        insured_city: String::new(),
    }
}

async fn check(
    scene: &Scene,
    client: &str,
    request: CheckEntitlementRequest,
) -> Result<CheckEntitlementResponse, Status> {
    let answer = server(scene).check_entitlement(from(client, request)).await;
    answer.map(tonic::Response::into_inner)
}

fn told(answer: &CheckEntitlementResponse) -> (Entitlement, &str, &str) {
    (answer.eligible(), &answer.reason_code, &answer.valid_until)
}

pub(crate) async fn yes_and_no_come_with_reason_policy_and_validity(scene: Scene) {
    let sound = medical(0);
    let interrupted = InsurancePeriod {
        insured_status: InsuredStatus::Interrupted.into(),
        ..medical(1)
    };
    let retired = InsurancePeriod {
        insured_status: InsuredStatus::Ended.into(),
        treatment_state: TreatmentState::Drawing.into(),
        ..medical(2)
    };
    take(
        &scene,
        &[sound.clone(), interrupted.clone(), retired.clone()],
    )
    .await;
    for (period, expected) in [
        (&sound, (Entitlement::Yes, "ENTITLED")),
        (&interrupted, (Entitlement::No, "MEDICAL_NOT_COVERED")),
        (&retired, (Entitlement::Yes, "ENTITLED")),
    ] {
        let request = ask(period, BenefitCode::ManualReimbursement, "");
        let answer = check(&scene, WEIHAI, request).await.unwrap();
        assert_eq!((answer.eligible(), answer.reason_code.as_str()), expected);
        assert_eq!(answer.policy_ref, "社会保险法 art. 23, 27, 28 (M)");
        assert_eq!(answer.insured_city, "370200");
        assert_eq!(answer.source_city, "370200");
        assert_eq!(answer.insured_status, period.insured_status);
        assert_eq!(answer.treatment_state, period.treatment_state);
        assert_eq!(answer.recorded_as_of, "2026-11-23");
        // Records may be 45 days old.
        assert_eq!(answer.valid_until, "2027-01-07");
    }
}

pub(crate) async fn what_is_not_recorded_is_unknown(scene: Scene) {
    take(&scene, &[medical(0)]).await;
    let answer = check(
        &scene,
        WEIHAI,
        ask(&medical(1), BenefitCode::Unspecified, ""),
    )
    .await
    .unwrap();
    assert_eq!(told(&answer), (Entitlement::Unknown, "NOT_RECORDED", ""));
    // Known under another scheme is not known under this one.
    let mut other = ask(&medical(0), BenefitCode::PensionPayment, "");
    other.set_scheme(InsuranceScheme::Pension);
    let answer = check(&scene, WEIHAI, other).await.unwrap();
    assert_eq!(told(&answer), (Entitlement::Unknown, "NOT_RECORDED", ""));
    assert_eq!(answer.insured_status(), InsuredStatus::Unspecified);
}

pub(crate) async fn old_records_are_unknown_from_the_day_after_their_age(scene: Scene) {
    take(&scene, &[medical(0)]).await;
    scene.clock.advance_us(45 * DAY);
    let request = || ask(&medical(0), BenefitCode::OutpatientSettlement, "");
    let answer = check(&scene, WEIHAI, request()).await.unwrap();
    assert_eq!(told(&answer), (Entitlement::Yes, "ENTITLED", "2027-01-07"));
    scene.clock.advance_us(DAY);
    let answer = check(&scene, WEIHAI, request()).await.unwrap();
    assert_eq!(told(&answer), (Entitlement::Unknown, "RECORD_STALE", ""));
    // A day for which they are new enough is still told.
    let before = ask(&medical(0), BenefitCode::OutpatientSettlement, "2027-01-07");
    let answer = check(&scene, WEIHAI, before).await.unwrap();
    assert_eq!(answer.eligible(), Entitlement::Yes);
}

pub(crate) async fn a_day_outside_of_every_period_is_no_until_the_next_one_begins(scene: Scene) {
    let first = InsurancePeriod {
        begins_on: "2020-01-01".to_owned(),
        ends_on: "2025-06-30".to_owned(),
        ..medical(0)
    };
    let second = InsurancePeriod {
        begins_on: "2026-03-01".to_owned(),
        ..medical(0)
    };
    let outcomes = take(&scene, &[second, first]).await;
    assert_eq!(outcomes, [LineOutcome::Created, LineOutcome::Created]);
    for (day, expected) in [
        (
            "2019-12-31",
            (Entitlement::No, "NOT_INSURED_ON_DAY", "2019-12-31"),
        ),
        ("2020-01-01", (Entitlement::Yes, "ENTITLED", "2025-06-30")),
        ("2025-06-30", (Entitlement::Yes, "ENTITLED", "2025-06-30")),
        (
            "2025-07-01",
            (Entitlement::No, "NOT_INSURED_ON_DAY", "2026-02-28"),
        ),
        (
            "2026-02-28",
            (Entitlement::No, "NOT_INSURED_ON_DAY", "2026-02-28"),
        ),
        ("2026-03-01", (Entitlement::Yes, "ENTITLED", "2027-01-07")),
    ] {
        let request = ask(&medical(0), BenefitCode::Unspecified, day);
        let answer = check(&scene, WEIHAI, request).await.unwrap();
        assert_eq!(told(&answer), expected, "{day}");
    }
}

pub(crate) async fn a_suspension_stops_online_settlement_and_nothing_else(scene: Scene) {
    let suspended = InsurancePeriod {
        settlement_suspended_from: "2026-10-08".to_owned(),
        settlement_suspended_until: "2027-01-07".to_owned(),
        recorded_as_of: TODAY.to_string(),
        ..medical(0)
    };
    take(&scene, &[suspended]).await;
    let at = async |day: &str, benefit| {
        let answer = check(&scene, WEIHAI, ask(&medical(0), benefit, day)).await;
        answer.unwrap()
    };
    let before = at("2026-10-07", BenefitCode::InpatientSettlement).await;
    assert_eq!(told(&before), (Entitlement::Yes, "ENTITLED", "2026-10-07"));
    assert_eq!(before.settlement_suspended_until, "");
    let old_law = at("2026-11-23", BenefitCode::InpatientSettlement).await;
    assert_eq!(old_law.eligible(), Entitlement::No);
    // The regulation carries it until the law comes into force.
    assert_eq!(
        old_law.policy_ref,
        "医疗保障基金使用监督管理条例 art. 41 (M)"
    );
    assert_eq!(told(&old_law).1, "SETTLEMENT_SUSPENDED_BY_REGULATION");
    assert_eq!(old_law.valid_until, "2026-12-31");
    assert_eq!(old_law.settlement_suspended_until, "2027-01-07");
    let manual = at("2026-11-23", BenefitCode::ManualReimbursement).await;
    assert_eq!(manual.eligible(), Entitlement::Yes);
    scene.clock.advance_us(45 * DAY);
    let last_of_old = at("2026-12-31", BenefitCode::OutpatientSettlement).await;
    assert_eq!(
        last_of_old.policy_ref,
        "医疗保障基金使用监督管理条例 art. 41 (M)"
    );
    let first_of_new = at("2027-01-01", BenefitCode::OutpatientSettlement).await;
    assert_eq!(first_of_new.policy_ref, "医疗保障法 art. 48, 49 (Q)");
    assert_eq!(
        told(&first_of_new),
        (Entitlement::No, "SETTLEMENT_SUSPENDED", "2027-01-07")
    );
}

pub(crate) async fn who_is_insured_elsewhere_is_pointed_there_and_never_guessed(scene: Scene) {
    let moved = InsurancePeriod {
        insured_division: "371002".to_owned(),
        ..medical(0)
    };
    take(&scene, std::slice::from_ref(&moved)).await;
    let request = || ask(&moved, BenefitCode::OutpatientSettlement, "");
    let answer = check(&scene, WEIHAI, request()).await.unwrap();
    assert_eq!(
        told(&answer),
        (Entitlement::Unknown, "INSURED_ELSEWHERE", "")
    );
    assert_eq!(answer.insured_city, "371000");
    assert_eq!(answer.insured_status(), InsuredStatus::Unspecified);
    // An own system would have been asked for; this service has no way out.
    let answer = check(&scene, HALL, request()).await.unwrap();
    assert_eq!(
        told(&answer),
        (Entitlement::Unknown, "INSURED_CITY_NOT_ASKED", "")
    );
    // What is recorded here goes before what is said.
    let said = CheckEntitlementRequest {
        insured_city: "370600".to_owned(),
        ..request()
    };
    let answer = check(&scene, HALL, said).await.unwrap();
    assert_eq!(answer.insured_city, "371000");
    let said = CheckEntitlementRequest {
        insured_city: "370600".to_owned(),
        ..ask(&medical(3), BenefitCode::OutpatientSettlement, "")
    };
    let answer = check(&scene, HALL, said.clone()).await.unwrap();
    assert_eq!(
        told(&answer),
        (Entitlement::Unknown, "INSURED_CITY_NOT_ASKED", "")
    );
    assert_eq!(answer.insured_city, "370600");
    // A system of another city cannot make this service ask a third.
    let answer = check(&scene, WEIHAI, said).await.unwrap();
    assert_eq!(told(&answer), (Entitlement::Unknown, "NOT_RECORDED", ""));
}

pub(crate) async fn a_question_names_every_fault_at_once(scene: Scene) {
    let request = CheckEntitlementRequest {
        social_security_number: "370202199001010008".to_owned(),
        scheme: 0,
        benefit: 99,
        on_date: "2026-11-24".to_owned(),
        insured_city: "370202".to_owned(),
    };
    let status = check(&scene, WEIHAI, request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = tonic_types::StatusExt::get_details_bad_request(&status).unwrap();
    let reasons: Vec<_> = details
        .field_violations
        .iter()
        .map(|fault| fault.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "CITIZEN_ID_CHECK_DIGIT",
            "SCHEME",
            "BENEFIT",
            "DAY_IN_FUTURE",
            "REPORTED_IN"
        ]
    );
    assert!(!format!("{status:?}").contains("370202199001010008"));
    let mut wrong = ask(&medical(0), BenefitCode::MaternityAllowance, "");
    wrong.set_scheme(InsuranceScheme::Medical);
    assert_eq!(
        check(&scene, WEIHAI, wrong).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

fn code(outcome: &LineOutcome) -> (&str, &str) {
    let LineOutcome::Refused(faults) = outcome else {
        return ("", "");
    };
    (&faults[0].field, faults[0].rule.code)
}

pub(crate) async fn lines_are_taken_once_and_each_is_judged_alone(scene: Scene) {
    let with = |change: fn(&mut InsurancePeriod)| {
        let mut period = medical(0);
        change(&mut period);
        period
    };
    let lines = [
        medical(0),
        medical(0),
        with(|period| period.ends_on = "2026-12-31".to_owned()),
        with(|period| period.begins_on = "2026-12-31".to_owned()),
        with(|period| period.begins_on = "2027-01-01".to_owned()),
        with(|period| {
            period.ends_on = "2026-12-31".to_owned();
            period.recorded_as_of = "2026-11-22".to_owned();
        }),
        with(|period| period.recorded_as_of = "2026-11-24".to_owned()),
        with(|period| period.ends_on = "2019-12-31".to_owned()),
        with(|period| period.insured_status = 0),
        with(|period| period.insured_division = "370299".to_owned()),
        with(|period| {
            period.settlement_suspended_from = "2026-03-01".to_owned();
            period.settlement_suspended_until = "2026-05-30".to_owned();
        }),
        with(|period| {
            period.scheme = InsuranceScheme::Pension.into();
            period.settlement_suspended_from = "2026-03-01".to_owned();
            period.settlement_suspended_until = "2026-05-31".to_owned();
        }),
    ];
    let outcomes = take(&scene, &lines).await;
    assert_eq!(
        outcomes[..3],
        [
            LineOutcome::Created,
            LineOutcome::Unchanged,
            LineOutcome::Updated
        ]
    );
    assert_eq!(code(&outcomes[3]), ("begins_on", "PERIOD_OVERLAPS"));
    assert_eq!(outcomes[4], LineOutcome::Created);
    let refused: Vec<_> = outcomes[5..].iter().map(code).collect();
    assert_eq!(
        refused,
        [
            ("recorded_as_of", "RECORD_OLDER"),
            ("recorded_as_of", "DAY_IN_FUTURE"),
            ("ends_on", "PERIOD_ORDER"),
            ("insured_status", "INSURED_STATUS"),
            ("insured_division", "DIVISION_UNKNOWN"),
            ("settlement_suspended_from", "SUSPENSION_TERM"),
            ("settlement_suspended_from", "SUSPENSION_SCHEME"),
        ]
    );
    // The same lines again: what stands stands, and the last word about a period counts.
    let again = take(&scene, &lines[2..5]).await;
    assert_eq!(again[0], LineOutcome::Unchanged);
    assert_eq!(again[2], LineOutcome::Unchanged);
    let all: Vec<_> = insured(qingdao(), 300, 1, TODAY).unwrap().collect();
    let outcomes = take(&scene, &all).await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == LineOutcome::Created)
            .count(),
        599
    );
}

pub(crate) async fn imports_at_once_make_no_periods_that_overlap(scene: Scene) {
    let imports = (0..8).map(|number| {
        let period = InsurancePeriod {
            begins_on: format!("2020-01-0{}", number + 1),
            ..medical(0)
        };
        let scene = &scene;
        async move { take(scene, &[period]).await.remove(0) }
    });
    let outcomes = join_all(imports).await;
    let created = outcomes
        .iter()
        .filter(|outcome| **outcome == LineOutcome::Created);
    assert_eq!(created.count(), 1);
}

fn any_period() -> impl Strategy<Value = (u16, u16, i32, i32, Option<u16>)> {
    (
        0..900_u16,
        1..300_u16,
        1..=4,
        1..=4,
        proptest::option::of(0..600_u16),
    )
}

proptest! {
    /// Against a reference that looks at each day alone: by one period, by the policies of that day.
    #[test]
    fn judging_agrees_with_a_reference_and_holds_until_it_says(
        drafts in proptest::collection::vec(any_period(), 0..4),
        day in 0..1_200_i32,
        benefit in 0..8_i32,
    ) {
        let start = date(2025, 6, 1);
        let benefit = BenefitCode::try_from(benefit).unwrap();
        let scheme = match benefit {
            BenefitCode::PensionPayment => InsuranceScheme::Pension,
            BenefitCode::UnemploymentPayment => InsuranceScheme::Unemployment,
            BenefitCode::InjuryTreatment => InsuranceScheme::WorkInjury,
            BenefitCode::MaternityAllowance => InsuranceScheme::Maternity,
            _ => InsuranceScheme::Medical,
        };
        let as_of = start + 700.days();
        let mut begins = start;
        let mut periods: Vec<Period> = Vec::new();
        for (gap, length, status, treatment, suspended) in drafts {
            begins += i32::from(gap % 40).days();
            let ends = begins + i32::from(length).days();
            let from = suspended.filter(|_| scheme == InsuranceScheme::Medical);
            let from = from.map(|from| start + i32::from(from).days());
            let line = InsurancePeriod {
                social_security_number: person(0),
                scheme: scheme.into(),
                insured_division: if status == 4 { "371002" } else { "370202" }.to_owned(),
                begins_on: begins.to_string(),
                ends_on: ends.to_string(),
                insured_status: status,
                treatment_state: treatment,
                settlement_suspended_from: from.map(|day| day.to_string()).unwrap_or_default(),
                settlement_suspended_until: from
                    .map(|day| (day + 4.months()).to_string())
                    .unwrap_or_default(),
                recorded_as_of: as_of.to_string(),
            };
            periods.push(ImportedPeriod::parse(Some(&line), Date::MAX).unwrap().0);
            begins = ends + 1.day();
        }
        let asked = |day: i32| Asked {
            holder: banqiao_kit::identifier::CitizenId::parse(&person(0), TODAY).unwrap(),
            scheme,
            benefit,
            on_date: start + day.days(),
            insured_city: None,
        };
        let judged = |day: i32| judge(&asked(day), &periods, qingdao(), EntitlementTerms::DEFAULT);
        let judgement = judged(day);
        prop_assert_eq!(judgement.entitlement, reference(&asked(day), &periods, as_of));
        match judgement.valid_until {
            None => prop_assert_eq!(judgement.entitlement, Entitlement::Unknown),
            Some(until) => {
                prop_assert!(until >= asked(day).on_date);
                let mut later = day;
                while start + later.days() <= until {
                    prop_assert_eq!(&judged(later), &judgement);
                    later += 1;
                }
            }
        }
    }
}

/// One day alone, written without the judge's own order of questions.
fn reference(asked: &Asked, periods: &[Period], as_of: Date) -> Entitlement {
    let day = asked.on_date;
    let mine: Vec<_> = periods
        .iter()
        .filter(|period| period.begins_on <= day && Some(day) <= period.ends_on)
        .collect();
    let away = mine
        .iter()
        .any(|period| period.division.as_str().starts_with("3710"));
    if periods.is_empty() || away || day > as_of + 45.days() {
        return Entitlement::Unknown;
    }
    let Some(period) = mine.first() else {
        return Entitlement::No;
    };
    let normal = period.status == InsuredStatus::Normal;
    let drawing = period.treatment == TreatmentState::Drawing;
    let suspended = period
        .suspension
        .is_some_and(|(from, until)| from <= day && day <= until);
    let yes = match asked.benefit {
        BenefitCode::Unspecified | BenefitCode::MaternityAllowance => normal,
        BenefitCode::PensionPayment | BenefitCode::UnemploymentPayment => drawing,
        BenefitCode::InjuryTreatment | BenefitCode::ManualReimbursement => normal || drawing,
        BenefitCode::OutpatientSettlement | BenefitCode::InpatientSettlement => {
            (normal || drawing) && !suspended
        }
    };
    if yes {
        Entitlement::Yes
    } else {
        Entitlement::No
    }
}

#[test]
fn every_benefit_has_a_policy_on_every_day_and_dates_of_force_do_not_overlap() {
    for number in 0..8 {
        let benefit = BenefitCode::try_from(number).unwrap();
        let mut day = date(2021, 5, 1);
        while day < date(2028, 1, 1) {
            let mut held: Vec<_> = POLICIES
                .iter()
                .filter(|policy| policy.benefit == benefit && policy.holds(day))
                .map(|policy| policy.requires)
                .collect();
            assert!(!held.is_empty(), "{benefit:?} {day}");
            let requirements = held.len();
            held.sort_by_key(|requires| match requires {
                Requirement::Drawing => 0,
                Requirement::Normal => 1,
                Requirement::NormalOrDrawing => 2,
                Requirement::NotSuspended => 3,
            });
            held.dedup();
            assert_eq!(
                held.len(),
                requirements,
                "{benefit:?} {day}: twice the same requirement"
            );
            day += 1.day();
        }
    }
}
