//! The laboratory service as its users meet it: through two gateways.

use std::{collections::BTreeSet, time::Duration};

use banqiao_directory::Clock;
use banqiao_kit::{Basis, Destination, GatewayChannel, OutgoingCall, Purpose};
use banqiao_proto::{
    directory::v1::Grant,
    exchange::v1::Trace,
    lab::v1::{
        Actor, AssessReportsRequest, ChallengeSample, Coding, Concept, DecisionOutcome,
        DecisionSide, DeliveryState, EvaluateRoundRequest, FindReportsRequest, FindReportsResponse,
        FoundReport, ListDecisionsRequest, MarkScope, Patient, PublishReportRequest, QualityRound,
        Quantity, ReadStatisticsRequest, RecordDecisionRequest, RecordedDecision,
        ReferenceInterval, RegisterRoundRequest, RepeatReason, Report, ReportStatus, Result,
        RoundItem, Sex, SubmitResultsRequest, Verdict,
        quality_service_client::QualityServiceClient,
        recognition_service_client::RecognitionServiceClient,
        report_service_client::ReportServiceClient, result::Value,
    },
    ledger::v1::EntryFilter,
};
use banqiao_tests::{
    admin::grant,
    labs::{Lab, ORGANISER},
    network::{EMR, LIS, Network, REPORTS},
    wait::{PATIENCE, wait_every, wait_for, wait_until},
    wire::Head,
};
use prost::Message as _;
use prost_types::Timestamp;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::outgoing::System;

/// Nobody's number.
const PATIENT: &str = "370602198506150002";
/// Alanine aminotransferase, and the leucocyte count, for which nobody takes part in a round.
const ALT: &str = "1500104A";
const WBC: &str = "0100101A";

/// A system of a city, which calls through its city's gateway.
struct Caller(System);

impl Caller {
    fn of(network: &Network, city: usize, system: &str) -> Self {
        let city = &network.cities[city];
        let credential = city.credential(system).unwrap();
        // A folder of its own, also for a system that stands here twice.
        let name = Uuid::now_v7().to_string();
        Self(System::of(network, city, &name, &credential))
    }

    fn channel(&self, to: &str, purpose: &str) -> GatewayChannel {
        let call = OutgoingCall::new(
            Destination::City(to.parse().unwrap()),
            Purpose::parse(purpose).unwrap(),
            Basis::Statutory("国卫医发〔2022〕6号".to_owned()),
        );
        self.0.gateway.channel(&call)
    }

    fn reports(&self, to: &str) -> ReportServiceClient<GatewayChannel> {
        ReportServiceClient::new(self.channel(to, "medical-treatment"))
    }

    fn recognition(&self, to: &str) -> RecognitionServiceClient<GatewayChannel> {
        RecognitionServiceClient::new(self.channel(to, "medical-treatment"))
    }

    fn quality(&self, to: &str) -> QualityServiceClient<GatewayChannel> {
        QualityServiceClient::new(self.channel(to, "quality-control"))
    }
}

/// So many seconds from now.
fn moment(from_now: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: Clock::system().now_s() + from_now,
        nanos: 0,
    })
}

fn text(text: &str) -> Option<Concept> {
    Some(Concept {
        codings: Vec::new(),
        text: text.to_owned(),
    })
}

fn actor(name: &str) -> Option<Actor> {
    Some(Actor {
        reference: String::new(),
        name: name.to_owned(),
    })
}

fn result(code: &str, name: &str, specimen: &str, unit: &str, value: &str) -> Result {
    Result {
        code: Some(Concept {
            codings: vec![Coding {
                system: "urn:banqiao:ws-t-886".to_owned(),
                code: code.to_owned(),
                display: name.to_owned(),
            }],
            text: name.to_owned(),
        }),
        value: Some(Value::Quantity(Quantity {
            value: value.to_owned(),
            comparator: 0,
            unit: unit.to_owned(),
            ucum: unit.to_owned(),
        })),
        intervals: vec![ReferenceInterval {
            text: "参考区间".to_owned(),
            ..ReferenceInterval::default()
        }],
        interpretations: vec![text("正常").unwrap()],
        specimen: text(specimen),
        method: text("测试方法"),
        device: actor("测试分析仪"),
        performer: actor("测试检验"),
        comments: vec!["测试备注".to_owned()],
        ..Result::default()
    }
}

/// A report of a hospital with every field that a purpose may or may not see.
pub(crate) fn report(hospital: &str) -> Report {
    Report {
        institution: hospital.to_owned(),
        report_number: "R-1".to_owned(),
        status: ReportStatus::Final.into(),
        code: text("检验报告"),
        patient: Some(Patient {
            citizen_id: PATIENT.to_owned(),
            name: "测试子安".to_owned(),
            sex: Sex::Female.into(),
            birth_date: "1985-06-15".to_owned(),
            reference: "Patient/1".to_owned(),
        }),
        collected_at: moment(-60),
        issued_at: moment(0),
        performer: actor("检验科"),
        reviewer: actor("测试审核"),
        results: vec![
            result(ALT, "丙氨酸氨基转移酶", "血清", "U/L", "21"),
            result(WBC, "白细胞计数", "全血", "10*9/L", "5.0"),
        ],
        conclusion: "测试结论".to_owned(),
        ..Report::default()
    }
}

/// A round of ALT for the region, open for so many seconds.
fn round(id: &str, seconds: i64) -> QualityRound {
    let sample = |number: u32| ChallengeSample {
        sample: format!("S{number}"),
        target: "40".to_owned(),
    };
    QualityRound {
        round_id: id.to_owned(),
        organiser: "测试临床检验中心".to_owned(),
        scheme: "临床化学".to_owned(),
        scope: MarkScope::Region.into(),
        opens_at: moment(-60),
        closes_at: moment(seconds),
        items: vec![RoundItem {
            item_code: ALT.to_owned(),
            samples: (1..=5).map(sample).collect(),
        }],
        ..QualityRound::default()
    }
}

/// Registers a round at Yantai's service, and reports its hospital's five values; whether all came in time.
async fn measured(organiser: &Caller, lis: &Caller, hospital: &str, round: QualityRound) -> bool {
    let lines = round.items[0]
        .samples
        .iter()
        .map(|sample| SubmitResultsRequest {
            round_id: round.round_id.clone(),
            institution: hospital.to_owned(),
            item_code: ALT.to_owned(),
            sample: sample.sample.clone(),
            // On the limit of 6 U/L.
            value: "46".to_owned(),
            ..SubmitResultsRequest::default()
        });
    let lines = tokio_stream::iter(lines.collect::<Vec<_>>());
    let register = RegisterRoundRequest { round: Some(round) };
    let mut quality = organiser.quality("370600");
    quality.register_round(register).await.unwrap();
    let submitted = lis.quality("370600").submit_results(lines).await.unwrap();
    submitted.into_inner().created == 5
}

/// Yantai's first hospital passes a quality round of ALT, and then issues a report.
async fn marked_report(network: &Network, yantai: &Lab) -> Report {
    let organiser = Caller::of(network, 1, ORGANISER);
    let lis = Caller::of(network, 1, LIS);
    // A busy machine needs a longer round.
    let mut passed = None;
    for seconds in [4, 12, 36] {
        let id = format!("R{seconds}");
        if measured(&organiser, &lis, &yantai.hospital, round(&id, seconds)).await {
            passed = Some(id);
            break;
        }
    }
    let passed = passed.expect("five values within half a minute");
    let again = Duration::from_millis(200);
    let evaluated = wait_every("the evaluation", PATIENCE, again, || async {
        let request = EvaluateRoundRequest {
            round_id: passed.clone(),
        };
        let evaluated = organiser.quality("370600").evaluate_round(request).await;
        match evaluated {
            Ok(answer) => Some(answer.into_inner()),
            Err(status) => {
                let reason = status.get_details_error_info().unwrap().reason;
                assert_eq!(reason, "ROUND_OPEN");
                None
            }
        }
    });
    assert!(evaluated.await.unwrap().evaluations[0].passed);
    let mut report = report(&yantai.hospital);
    // Whole seconds must not lie before the evaluation.
    report.issued_at = moment(1);
    let publish = PublishReportRequest {
        report: Some(report.clone()),
    };
    lis.reports("370600").publish_report(publish).await.unwrap();
    report
}

/// None while the city's gateway does not reach its service.
async fn decisions(
    caller: &Caller,
    city: &str,
    institution: &str,
    side: DecisionSide,
) -> Option<Vec<RecordedDecision>> {
    let request = ListDecisionsRequest {
        institution: institution.to_owned(),
        side: side.into(),
        ..ListDecisionsRequest::default()
    };
    match caller.recognition(city).list_decisions(request).await {
        Ok(listed) => Some(listed.into_inner().decisions),
        Err(status) => {
            let reason = status.get_details_error_info().unwrap().reason;
            assert_eq!(reason, "SERVICE_UNREACHABLE");
            None
        }
    }
}

#[tokio::test]
async fn a_result_of_another_city_is_assessed_and_the_decision_reaches_its_hospital() {
    let (network, mut labs) = Network::laboratories().await.unwrap();
    let sent = marked_report(&network, &labs[1]).await;
    let doctor = Caller::of(&network, 0, EMR);
    let find = FindReportsRequest {
        patient_id: PATIENT.to_owned(),
        ..FindReportsRequest::default()
    };
    let mut found = doctor
        .reports("370600")
        .find_reports(find)
        .await
        .unwrap()
        .into_inner();
    let found = found.message().await.unwrap().unwrap();
    let marks: Vec<_> = found
        .report
        .as_ref()
        .unwrap()
        .results
        .iter()
        .map(|it| it.marks.len())
        .collect();
    assert_eq!((found.city.as_str(), marks), ("370600", vec![1, 0]));

    let own = labs[0].hospital.clone();
    let assess = AssessReportsRequest {
        institution: own.clone(),
        reports: vec![FoundReport {
            city: found.city,
            report: found.report,
            version: found.version,
        }],
        item_codes: Vec::new(),
    };
    let assessed = doctor
        .recognition("370200")
        .assess_reports(assess)
        .await
        .unwrap();
    let assessed = assessed.into_inner().reports.remove(0).results;
    let verdicts: Vec<_> = assessed.iter().map(|one| one.verdict()).collect();
    assert_eq!(
        verdicts,
        [Verdict::Recognisable, Verdict::NotRecognisable],
        "{assessed:?}"
    );
    assert_eq!(assessed[1].reasons[0].code, "NO_MARK");

    // Yantai's service is down while the doctor decides: nothing is lost, and the doctor does not wait.
    labs[1].process.kill().unwrap();
    for (item, outcome, reason) in [
        (ALT, DecisionOutcome::Recognised, RepeatReason::Unspecified),
        (
            WBC,
            DecisionOutcome::Repeated,
            RepeatReason::RapidlyChanging,
        ),
    ] {
        let decide = RecordDecisionRequest {
            request_id: Uuid::now_v7().to_string(),
            institution: own.clone(),
            report_institution: sent.institution.clone(),
            report_number: sent.report_number.clone(),
            report_version: found.version,
            item_code: item.to_owned(),
            outcome: outcome.into(),
            reason: reason.into(),
            patient_informed: true,
            doctor_id: "D-17".to_owned(),
            ..RecordDecisionRequest::default()
        };
        let decided = doctor
            .recognition("370200")
            .record_decision(decide)
            .await
            .unwrap();
        assert_eq!(decided.into_inner().delivery(), DeliveryState::Waiting);
    }
    labs[1].restart().await.unwrap();
    let lis = Caller::of(&network, 1, LIS);
    let issued = wait_for(
        "both decisions at the issuing hospital",
        PATIENCE,
        || async {
            let issued = decisions(&lis, "370600", &sent.institution, DecisionSide::Issued).await?;
            (issued.len() == 2).then_some(issued)
        },
    );
    let issued = issued.await.unwrap();
    let shown: Vec<_> = issued
        .iter()
        .map(|one| one.decision.as_ref().unwrap())
        .map(|one| {
            (
                one.institution.as_str(),
                one.outcome(),
                one.doctor_id.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (own.as_str(), DecisionOutcome::Recognised, ""),
            (own.as_str(), DecisionOutcome::Repeated, "")
        ]
    );
    wait_until("the deciding hospital to know", PATIENCE, || async {
        let made = decisions(&doctor, "370200", &own, DecisionSide::Unspecified).await;
        let delivered = |one: &RecordedDecision| one.delivery() == DeliveryState::Delivered;
        made.is_some_and(|made| made.iter().all(delivered))
    })
    .await
    .unwrap();

    // Both commissions count, each on its side; each delivery is an exchange of both ledgers.
    for (city, side, institution) in [
        (0, DecisionSide::Unspecified, &own),
        (1, DecisionSide::Issued, &sent.institution),
    ] {
        let code = network.cities[city].code;
        let commission = Caller::of(&network, city, ORGANISER);
        let channel = commission.channel(code, "statistics");
        let request = ReadStatisticsRequest {
            side: side.into(),
            ..ReadStatisticsRequest::default()
        };
        let answer = RecognitionServiceClient::new(channel)
            .read_statistics(request)
            .await;
        let counted = answer.unwrap().into_inner().institutions.remove(0);
        assert_eq!(counted.institution, *institution);
        assert_eq!(counted.total.unwrap().recognition_rate, "50.00");
        let filter = EntryFilter {
            method: "/banqiao.lab.v1.RecognitionService/DeliverDecision".to_owned(),
            ..EntryFilter::default()
        };
        let found = network.cities[city].admin().search(filter).await.unwrap();
        let exchanges: BTreeSet<_> = found
            .iter()
            .map(|record| record.entry.exchange.clone())
            .collect();
        assert!(exchanges.len() >= 2, "{found:?}");
    }
}

/// What the quality commission sees of a report: nothing about who it is, who tested, and what was concluded.
fn for_quality(mut answer: FindReportsResponse) -> FindReportsResponse {
    let report = answer.report.as_mut().unwrap();
    report.patient = Some(Patient {
        sex: report.patient.as_ref().unwrap().sex,
        ..Patient::default()
    });
    report.reviewer = None;
    report.conclusion.clear();
    for result in &mut report.results {
        result.performer = None;
    }
    answer
}

/// What statistics see of a report: which tests, by whom, with which marks.
fn for_statistics(answer: FindReportsResponse) -> FindReportsResponse {
    let mut answer = for_quality(answer);
    let report = answer.report.as_mut().unwrap();
    report.patient = None;
    report.report_number.clear();
    report.collected_at = None;
    report.issued_at = None;
    for result in &mut report.results {
        *result = Result {
            code: result.code.take(),
            item_code: std::mem::take(&mut result.item_code),
            marks: std::mem::take(&mut result.marks),
            status: result.status,
            ..Result::default()
        };
    }
    answer
}

#[tokio::test]
async fn treatment_quality_control_and_statistics_receive_the_fields_of_their_grants_and_no_others()
{
    let (network, labs) = Network::laboratories().await.unwrap();
    marked_report(&network, &labs[1]).await;
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let find = FindReportsRequest {
        patient_id: PATIENT.to_owned(),
        ..FindReportsRequest::default()
    };
    let asked = async |system: &str, purpose: &str| {
        let caller = qingdao.caller(system).await.unwrap();
        let head =
            Head::new(&format!("/{REPORTS}/FindReports"), "370600").set("banqiao-purpose", purpose);
        let answer = caller.unary(&head, &find).await.unwrap();
        assert_eq!(answer.code(), Some(0), "{purpose}: {:?}", answer.grpc());
        let (exchange, _) = answer.exchange().unwrap();
        let held = yantai.admin().holds(exchange, Trace::OpenClose).await;
        assert!(!held.unwrap().is_empty());
        let bytes = answer.messages[0].bytes.clone();
        let shown = FindReportsResponse::decode(bytes.clone()).unwrap();
        // Nothing else is on the wire than what the message shows.
        assert_eq!(shown.encode_to_vec(), bytes, "{purpose}");
        shown
    };
    // A doctor: everything, with the mark of the round.
    let whole = asked(EMR, "medical-treatment").await;
    let shown = whole.report.as_ref().unwrap();
    assert_eq!(shown.patient.as_ref().unwrap().name, "测试子安");
    assert_eq!(
        (shown.conclusion.as_str(), shown.results[0].marks.len()),
        ("测试结论", 1)
    );
    for (system, purpose, groups, expected) in [
        (
            "health/quality-centre",
            "quality-control",
            &[
                "basic",
                "number",
                "times",
                "items",
                "mark",
                "method",
                "values",
                "patient-kind",
            ][..],
            for_quality(whole.clone()),
        ),
        (
            "health/statistics",
            "statistics",
            &["basic", "items", "mark"],
            for_statistics(whole.clone()),
        ),
    ] {
        let limited = Grant {
            purposes: vec![purpose.to_owned()],
            methods: vec!["FindReports".to_owned()],
            disclosed_fields: groups
                .iter()
                .map(|group| format!("group:{group}"))
                .collect(),
            ..grant(&qingdao.id(system), REPORTS)
        };
        yantai.grant(limited).await.unwrap();
        let seen = asked(system, purpose).await;
        assert_eq!(seen, expected, "{purpose}");
        let text = format!("{seen:?}");
        for hidden in [
            PATIENT,
            "测试子安",
            "1985",
            "测试审核",
            "测试检验",
            "测试结论",
        ] {
            assert!(!text.contains(hidden), "{purpose}: {hidden}");
        }
    }
}
