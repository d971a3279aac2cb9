//! Laboratory reports in the demo: a doctor in Yantai asks all five cities at once while one of them is down, is told which results can be
//! recognised, and decides; both hospitals and the statistics know of it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use banqiao_directory::Clock;
use banqiao_kit::identifier::CreditCode;
use banqiao_lab::{Catalogue, synthetic};
use banqiao_proto::{
    directory::v1::{AddGrantRequest, Grant, ListGrantsRequest},
    exchange::v1::{CityResult, Outcomes},
    lab::v1::{
        AssessReportsRequest, ChallengeSample, DecisionOutcome, DecisionSide, EvaluateRoundRequest,
        FindReportsRequest, FoundReport, ListDecisionsRequest, MarkScope, Patient,
        PublishReportRequest, QualityRound, ReadStatisticsRequest, RecordDecisionRequest,
        RegisterRoundRequest, RepeatReason, Report, ResultAssessment, RoundItem,
        SubmitResultsRequest, Verdict,
    },
};
use prost_types::Timestamp;
use tonic::Request;

use super::{
    QUALITY, RECOGNITION, REPORTS, Steps,
    client::{self, System},
    processes::Processes,
    scenario::{Scenario, grant},
};
use crate::{outcomes, sandbox::SandboxCity};

/// 丙氨酸氨基转移酶 (ALT), fit for recognition for 14 days.
const ITEM: &str = "1500104A";
const TREATMENT: &str = "medical-treatment";
const QUALITY_CONTROL: &str = "quality-control";
const STATISTICS: &str = "statistics";
/// The rules of recognition, as the basis of every call.
const BASIS: &str = "国卫医发〔2022〕6号";
/// Cities whose first hospital passes a quality round before it reports.
const PASSING: [&str; 2] = ["370200", "370700"];
/// A city whose hospital reports without having taken part.
const UNMARKED: &str = "371000";
/// The doctor's city.
const DOCTOR: &str = "370600";
/// The city that is down.
const DOWN: &str = "371100";
/// How long the demo's round takes results.
const ROUND_SECONDS: i64 = 5;
/// How long a decision may take to the other city.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);

/// The play.
pub(super) async fn play(
    scenario: &mut Scenario<'_>,
    steps: &Steps,
    processes: &mut Processes,
) -> Result<()> {
    steps.say("Finding laboratory results across cities");
    for city in &scenario.sandbox.cities {
        grants(scenario, city)
            .await
            .with_context(|| format!("laboratory grants of {}", city.founder.en))?;
    }
    let run = Clock::system().now_s();
    let rounds = Round::new(run);
    for code in PASSING {
        rounds.register(scenario.city(code)?).await?;
    }
    scenario.evaluated(steps, &rounds).await?;
    let patient = synthetic::patient(DOCTOR.parse()?, 0).context("no patient")?;
    for code in [PASSING[0], PASSING[1], UNMARKED] {
        publish(scenario.city(code)?, &patient, run).await?;
    }
    let down = scenario.city(DOWN)?;
    processes.take_down(down).await?;
    let asked = scenario.asked_all(steps, &patient, run).await;
    processes.bring_up(down).await?;
    let found = asked?;
    scenario.decided(steps, &found).await
}

/// Grants of a city, unless they stand from an earlier run.
async fn grants(scenario: &Scenario<'_>, city: &SandboxCity) -> Result<()> {
    let mut grants = client::grants(city).await?;
    let held = grants.list_grants(ListGrantsRequest::default()).await?;
    let held = held.into_inner().grants;
    let of = |domain: &str, path: &str, service: &str, methods: &[&str], purposes: &[&str]| Grant {
        service: service.to_owned(),
        legal_basis: BASIS.to_owned(),
        ..grant(format!("spiffe://{domain}/{path}"), methods, purposes, &[])
    };
    let own = city.domain.as_str();
    let doctor = ["AssessReports", "RecordDecision", "ListDecisions"];
    let mut wanted = vec![
        of(
            own,
            "hospital-1/lis",
            REPORTS,
            &["PublishReport"],
            &[TREATMENT],
        ),
        of(
            own,
            "hospital-1/lis",
            QUALITY,
            &["SubmitResults"],
            &[QUALITY_CONTROL],
        ),
        of(own, "health/quality", QUALITY, &[], &[QUALITY_CONTROL]),
        of(
            own,
            "health/quality",
            RECOGNITION,
            &["ReadStatistics"],
            &[STATISTICS],
        ),
        of(own, "hospital-1/emr", RECOGNITION, &doctor, &[TREATMENT]),
    ];
    for other in &scenario.sandbox.cities {
        let other = other.domain.as_str();
        wanted.push(of(
            other,
            "hospital-1/emr",
            REPORTS,
            &["FindReports"],
            &[TREATMENT],
        ));
        wanted.push(of(
            other,
            "health/lab",
            RECOGNITION,
            &["DeliverDecision"],
            &[TREATMENT],
        ));
    }
    for grant in wanted {
        let stands = |held: &Grant| held.client == grant.client && held.service == grant.service;
        if !held.iter().any(stands) {
            let request = AddGrantRequest { grant: Some(grant) };
            grants.add_grant(request).await?;
        }
    }
    Ok(())
}

/// A request on the rules of recognition.
fn request<T>(message: T, to: &str, purpose: &str) -> Result<Request<T>> {
    client::request_on(message, to, purpose, BASIS)
}

/// Code of a city's first hospital.
fn hospital(city: &SandboxCity) -> Result<String> {
    let institutions = synthetic::institutions()?;
    let mut of_city = institutions
        .iter()
        .filter(|one| one.city.as_str() == city.founder.code);
    let first = of_city.next().context("the city has no hospital")?;
    Ok(first.credit_code.to_string())
}

const fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

/// A quality round that takes results for some seconds from now.
struct Round {
    id: String,
    opens: i64,
    closes: i64,
}

impl Round {
    fn new(run: i64) -> Self {
        Self {
            id: format!("DEMO-{run}"),
            opens: run - 60,
            closes: run + ROUND_SECONDS,
        }
    }

    /// Registers the round in a city; the first hospital reports what it measured: each target, exactly.
    async fn register(&self, city: &SandboxCity) -> Result<()> {
        const TARGETS: [&str; 5] = ["40", "40", "100", "100", "20"];
        let named = |number: usize| format!("S{}", number + 1);
        let samples = TARGETS
            .iter()
            .enumerate()
            .map(|(number, target)| ChallengeSample {
                sample: named(number),
                target: (*target).to_owned(),
            });
        let round = QualityRound {
            round_id: self.id.clone(),
            organiser: "测试临床检验中心".to_owned(),
            scheme: "临床化学".to_owned(),
            scope: MarkScope::Region.into(),
            scope_code: String::new(),
            opens_at: at(self.opens),
            closes_at: at(self.closes),
            items: vec![RoundItem {
                item_code: ITEM.to_owned(),
                samples: samples.collect(),
            }],
        };
        let code = city.founder.code;
        let organiser = System::connect(city, "health/quality").await?;
        let register = RegisterRoundRequest { round: Some(round) };
        let register = request(register, code, QUALITY_CONTROL)?;
        organiser.quality().register_round(register).await?;
        let laboratory = System::connect(city, "hospital-1/lis").await?;
        let hospital = hospital(city)?;
        let lines: Vec<_> = (1..)
            .zip(TARGETS.iter().enumerate())
            .map(|(line, (number, value))| SubmitResultsRequest {
                line,
                round_id: self.id.clone(),
                institution: hospital.clone(),
                item_code: ITEM.to_owned(),
                sample: named(number),
                value: (*value).to_owned(),
                ucum: String::new(),
            })
            .collect();
        let submit = request(tokio_stream::iter(lines), code, QUALITY_CONTROL)?;
        let taken = laboratory
            .quality()
            .submit_results(submit)
            .await?
            .into_inner();
        anyhow::ensure!(
            taken.refused == 0,
            "results of a quality round were refused"
        );
        Ok(())
    }

    /// Whether every item of the hospital passed, once the round has closed.
    async fn evaluate(&self, city: &SandboxCity) -> Result<bool> {
        let organiser = System::connect(city, "health/quality").await?;
        let evaluate = EvaluateRoundRequest {
            round_id: self.id.clone(),
        };
        let evaluate = request(evaluate, city.founder.code, QUALITY_CONTROL)?;
        let evaluated = organiser.quality().evaluate_round(evaluate).await?;
        let evaluations = evaluated.into_inner().evaluations;
        Ok(!evaluations.is_empty() && evaluations.iter().all(|one| one.passed))
    }
}

/// Number of a city's report in this run.
fn report_number(run: i64) -> String {
    format!("DEMO-{run}")
}

/// A city's first hospital publishes one result of a patient: taken yesterday, issued now.
async fn publish(city: &SandboxCity, patient: &Patient, run: i64) -> Result<()> {
    let catalogue = Catalogue::built_in()?;
    let now = Clock::system().now_us();
    let institution = CreditCode::parse(&hospital(city)?)?;
    let yesterday = now - 86_400_000_000;
    let report = synthetic::report(&catalogue, institution, patient.clone(), 0, yesterday);
    let item = catalogue.item(ITEM).context("no such item")?;
    let report = Report {
        report_number: report_number(run),
        // To the microsecond: it is issued after the evaluation, within the same second perhaps.
        issued_at: Some(Timestamp {
            seconds: now / 1_000_000,
            nanos: i32::try_from(now % 1_000_000)? * 1_000,
        }),
        results: vec![synthetic::result(item, 1).context("no result")?],
        ..report.context("no report")?
    };
    let laboratory = System::connect(city, "hospital-1/lis").await?;
    let publish = PublishReportRequest {
        report: Some(report),
    };
    let publish = request(publish, city.founder.code, TREATMENT)?;
    laboratory.reports().publish_report(publish).await?;
    Ok(())
}

/// What the doctor found and was advised, city by city.
struct Advised {
    report: Report,
    version: u32,
    assessment: ResultAssessment,
}

impl Scenario<'_> {
    /// The rounds close, and are evaluated.
    async fn evaluated(&mut self, steps: &Steps, rounds: &Round) -> Result<()> {
        let left = rounds.closes - Clock::system().now_s() + 1;
        tokio::time::sleep(Duration::from_secs(left.max(0).unsigned_abs())).await;
        let mut passed = 0;
        for code in PASSING {
            passed += usize::from(rounds.evaluate(self.city(code)?).await?);
        }
        let seen = format!(
            "the hospitals of Qingdao and Weifang pass ALT in the round {}: 胶东HR",
            rounds.id
        );
        self.check(steps, "quality round passed", passed == PASSING.len(), seen);
        Ok(())
    }

    /// A doctor in Yantai asks all five cities for a patient's results, and the own service which can be recognised.
    async fn asked_all(
        &mut self,
        steps: &Steps,
        patient: &Patient,
        run: i64,
    ) -> Result<Vec<Advised>> {
        let yantai = self.city(DOCTOR)?;
        let doctor = System::connect(yantai, "hospital-1/emr").await?;
        let find = FindReportsRequest {
            patient_id: patient.citizen_id.clone(),
            item_codes: vec![ITEM.to_owned()],
            ..FindReportsRequest::default()
        };
        let find = request(find, "*", TREATMENT)?;
        let mut answers = doctor.reports().find_reports(find).await?.into_inner();
        let mut found = Vec::new();
        let trailers = loop {
            let answer = match answers.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => break answers.trailers().await?.unwrap_or_default(),
                // A city that did not answer fails the call, so that nobody takes what the others have for everything.
                Err(status) => break status.metadata().clone(),
            };
            let this_run = |report: &Report| report.report_number == report_number(run);
            if answer.report.as_ref().is_some_and(this_run) {
                found.push(FoundReport {
                    city: answer.city,
                    report: answer.report,
                    version: answer.version,
                });
            }
        };
        let told = outcomes::of(&trailers).unwrap_or_default();
        self.told_of_each(steps, &told, &found);
        let assess = AssessReportsRequest {
            institution: hospital(yantai)?,
            reports: found.clone(),
            item_codes: Vec::new(),
        };
        let assess = request(assess, DOCTOR, TREATMENT)?;
        let assessed = doctor.recognition().assess_reports(assess).await?;
        let advised: Vec<Advised> = found
            .into_iter()
            .zip(assessed.into_inner().reports)
            .filter_map(|(found, mut assessed)| {
                Some(Advised {
                    report: found.report?,
                    version: found.version,
                    assessment: assessed.results.pop()?,
                })
            })
            .collect();
        self.advised(steps, &advised);
        Ok(advised)
    }

    fn told_of_each(&mut self, steps: &Steps, told: &Outcomes, found: &[FoundReport]) {
        let of = |result: CityResult| {
            let cities = told
                .cities
                .iter()
                .filter(move |city| city.result() == result);
            cities.map(|city| city.city.as_str()).collect::<Vec<_>>()
        };
        let answered = of(CityResult::Answered);
        let held = answered == ["370200", "370600", "370700", "371000"]
            && of(CityResult::Unreachable) == [DOWN]
            && found.len() == PASSING.len() + 1;
        let words: Vec<_> = told.cities.iter().map(outcomes::words).collect();
        self.check(steps, "all cities asked", held, words.join(", "));
    }

    fn advised(&mut self, steps: &Steps, advised: &[Advised]) {
        let of = |verdict: Verdict| {
            let results = advised
                .iter()
                .filter(move |one| one.assessment.verdict() == verdict);
            results.collect::<Vec<_>>()
        };
        let (good, bad) = (of(Verdict::Recognisable), of(Verdict::NotRecognisable));
        let reasons: Vec<_> = bad
            .iter()
            .flat_map(|one| &one.assessment.reasons)
            .map(|reason| reason.code.as_str())
            .collect();
        let held = good.len() == PASSING.len() && bad.len() == 1 && reasons == ["NO_MARK"];
        let seen = format!(
            "{} recognisable, {} not ({})",
            good.len(),
            bad.len(),
            reasons.join(", ")
        );
        self.check(steps, "recognition advised", held, seen);
    }

    /// The doctor decides; the statistics of the own hospital change, and the other hospitals are told.
    async fn decided(&mut self, steps: &Steps, found: &[Advised]) -> Result<()> {
        let yantai = self.city(DOCTOR)?;
        let own = hospital(yantai)?;
        let doctor = System::connect(yantai, "hospital-1/emr").await?;
        let before = self.statistics(&own).await?;
        for (advised, number) in found.iter().zip(1..) {
            let recognised = advised.assessment.verdict() == Verdict::Recognisable;
            let decision = RecordDecisionRequest {
                request_id: uuid::Uuid::now_v7().to_string(),
                institution: own.clone(),
                report_institution: advised.report.institution.clone(),
                report_number: advised.report.report_number.clone(),
                report_version: advised.version,
                item_code: ITEM.to_owned(),
                outcome: if recognised {
                    DecisionOutcome::Recognised.into()
                } else {
                    DecisionOutcome::Repeated.into()
                },
                reason: if recognised {
                    RepeatReason::Unspecified.into()
                } else {
                    RepeatReason::ConditionChanged.into()
                },
                reason_text: String::new(),
                patient_informed: !recognised,
                doctor_id: format!("D{number:03}"),
                advised: advised.assessment.verdict,
            };
            let decision = request(decision, DOCTOR, TREATMENT)?;
            doctor.recognition().record_decision(decision).await?;
        }
        let after = self.statistics(&own).await?;
        let held = (after.0 - before.0, after.1 - before.1) == (3, 2);
        let seen = format!(
            "Yantai's hospital: {} of {} recognised, before {} of {}",
            after.1, after.0, before.1, before.0
        );
        self.check(steps, "decisions counted", held, seen);
        for code in [PASSING[0], PASSING[1], UNMARKED] {
            let reports = found.iter().map(|one| &one.report);
            self.delivered(steps, self.city(code)?, reports.clone(), &own)
                .await?;
        }
        Ok(())
    }

    /// Decisions of an institution of Yantai about the item, and how many recognised.
    async fn statistics(&self, institution: &str) -> Result<(i64, i64)> {
        let commission = System::connect(self.city(DOCTOR)?, "health/quality").await?;
        let read = ReadStatisticsRequest {
            institutions: vec![institution.to_owned()],
            item_codes: vec![ITEM.to_owned()],
            ..ReadStatisticsRequest::default()
        };
        let read = request(read, DOCTOR, STATISTICS)?;
        let answer = commission.recognition().read_statistics(read).await?;
        let answer = answer.into_inner();
        let total = answer
            .institutions
            .first()
            .and_then(|one| one.total.clone());
        let total = total.unwrap_or_default();
        Ok((
            i64::try_from(total.decided)?,
            i64::try_from(total.recognised)?,
        ))
    }

    /// The hospital that issued a report reads what was decided about it.
    async fn delivered(
        &mut self,
        steps: &Steps,
        city: &SandboxCity,
        reports: impl Iterator<Item = &Report>,
        deciding: &str,
    ) -> Result<()> {
        let hospital = hospital(city)?;
        let mut reports = reports.filter(|report| report.institution == hospital);
        let number = reports.next().map(|report| report.report_number.clone());
        let reader = System::connect(city, "hospital-1/emr").await?;
        let listed = async {
            loop {
                let list = ListDecisionsRequest {
                    institution: hospital.clone(),
                    side: DecisionSide::Issued.into(),
                    limit: 500,
                    ..ListDecisionsRequest::default()
                };
                let list = request(list, city.founder.code, TREATMENT)?;
                let listed = reader.recognition().list_decisions(list).await?;
                let decisions = listed.into_inner().decisions;
                let arrived = decisions.into_iter().find_map(|recorded| {
                    let decision = recorded.decision?;
                    (number.as_ref() == Some(&decision.report_number)
                        && decision.institution == deciding)
                        .then_some(decision)
                });
                if let Some(decision) = arrived {
                    return anyhow::Ok(decision);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let listed = tokio::time::timeout(DELIVERED_WITHIN, listed).await;
        let (held, seen) = match listed {
            Ok(Ok(decision)) => (
                // Whose doctor it was stays in the deciding city.
                decision.doctor_id.is_empty(),
                format!(
                    "the hospital of {} reads that its result was {} in Yantai",
                    city.founder.en,
                    match decision.outcome() {
                        DecisionOutcome::Recognised => "recognised",
                        DecisionOutcome::Repeated => "repeated",
                        DecisionOutcome::Unspecified => "not decided",
                    }
                ),
            ),
            Ok(Err(error)) => (false, format!("{error:#}")),
            Err(_) => (false, format!("{} was not told in time", city.founder.en)),
        };
        self.check(steps, "decision delivered", held, seen);
        Ok(())
    }
}
