//! The server over real TLS, as the city's gateway sees it.

use std::net::SocketAddr;

use banqiao_directory::Clock;
use banqiao_lab::{Instance, LabConfig, RunError, read_fhir, write_fhir};
use banqiao_proto::lab::v1::{
    AssessReportsRequest, DecisionOutcome, DeliverDecisionRequest, DeliveryState,
    EvaluateRoundRequest, FindReportsRequest, FoundReport, HrMark, InstitutionLevel,
    ListDecisionsRequest, ListInstitutionsRequest, ListMarksRequest, ListTestItemsRequest,
    PublishFhirRequest, PublishOutcome, PublishReportRequest, PublishReportsRequest,
    ReadFhirRequest, ReadReportRequest, ReadRoundRequest, ReadStatisticsRequest,
    RecordDecisionRequest, RegisterRoundRequest, RepeatReason, ReportStatus,
    WatchSupersededRequest, report_service_client::ReportServiceClient,
};
use futures_util::stream;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    certificates::{Certificates, PATIENCE, request},
    quality::{ORGANISER, result, round},
    scene::{DOCTOR, LABORATORY, SECOND, config_text, corrected, patient_of, report, time},
};

/// Years before the scene's noon, so that the real clock lies behind it.
const LONG_AGO: i64 = 2 * 366 * crate::scene::DAY;

struct Served {
    certificates: Certificates,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<Result<(), RunError>>,
}

impl Served {
    async fn start() -> Self {
        let certificates = Certificates::of_qingdao();
        let folder = certificates.folder.path();
        let url = format!("sqlite://{}", folder.join("lab.db").display());
        let config = LabConfig::parse(&config_text(&url), folder).unwrap();
        let instance = Instance::start(config, Clock::system()).await.unwrap();
        let address = instance.local_addr();
        let stop = CancellationToken::new();
        let served = TaskTracker::new().spawn(instance.serve(stop.clone().cancelled_owned()));
        Self {
            certificates,
            address,
            stop,
            served,
        }
    }

    fn reports(&self) -> ReportServiceClient<Channel> {
        self.certificates.reports(self.address)
    }

    async fn stopped(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.served)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

fn reason(status: &Status) -> (Code, String, String) {
    let info = status.get_details_error_info().unwrap();
    (status.code(), info.reason, info.domain)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_published_found_and_their_corrections_pushed() {
    let served = Served::start().await;
    let mut client = served.reports();
    let mut lines: Vec<_> = (0..700)
        .map(|index| PublishReportsRequest {
            line: index + 1,
            report: Some(report(index, index % 50, LONG_AGO)),
        })
        .collect();
    lines[3].report.as_mut().unwrap().status = 0;
    let answer = client
        .publish_reports(request(stream::iter(lines.clone()), LABORATORY))
        .await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(
        (answer.created, answer.refused, answer.results.len()),
        (699, 1, 700)
    );
    let refused = &answer.results[3];
    assert_eq!(
        (refused.line, refused.faults[0].field.as_str()),
        (4, "status")
    );

    let first = lines[0].report.clone().unwrap();
    let find = FindReportsRequest {
        patient_id: patient_of(&first),
        ..FindReportsRequest::default()
    };
    let mut found = client
        .find_reports(request(find, DOCTOR))
        .await
        .unwrap()
        .into_inner();
    let mut count = 0;
    while let Some(answer) = found.message().await.unwrap() {
        assert_eq!((answer.city.as_str(), answer.version), ("370200", 1));
        assert!(!answer.report.unwrap().results[0].item_code.is_empty());
        count += 1;
    }
    assert_eq!(count, 14);

    let watch = WatchSupersededRequest::default();
    let mut watch = client
        .watch_superseded(request(watch, DOCTOR))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().superseded, None);
    let next = PublishReportRequest {
        report: Some(corrected(&first, ReportStatus::Corrected)),
    };
    let published = client
        .publish_report(request(next, LABORATORY))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (published.outcome(), published.version),
        (PublishOutcome::Superseded, 2)
    );
    let told = timeout(PATIENCE, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(told.superseded.unwrap().report_number, first.report_number);
    let read = ReadReportRequest {
        institution: first.institution.clone(),
        report_number: first.report_number.clone(),
    };
    let read = client
        .read_report(request(read, DOCTOR))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (read.version, read.report.unwrap().status()),
        (2, ReportStatus::Corrected)
    );
    served.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_reason_field_and_rule() {
    let served = Served::start().await;
    let mut client = served.reports();
    let publish = |report| PublishReportRequest { report };
    let first = report(1, 1, LONG_AGO);
    let stranger = client
        .publish_report(request(publish(Some(first.clone())), DOCTOR))
        .await;
    let forbidden = reason(&stranger.unwrap_err());
    assert_eq!(
        forbidden,
        (
            Code::PermissionDenied,
            "PUBLISHER_ONLY".into(),
            "banqiao.lab".into()
        )
    );
    let mut faulty = first.clone();
    faulty.results[0].value = None;
    let invalid = client
        .publish_report(request(publish(Some(faulty)), LABORATORY))
        .await;
    let invalid = invalid.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);
    let violations = invalid.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "report.results[0].value");
    assert_eq!(violations[0].reason, "VALUE_MISSING");
    let empty = client
        .publish_report(request(publish(None), LABORATORY))
        .await
        .unwrap_err();
    assert_eq!(
        empty.get_details_bad_request().unwrap().field_violations[0].field,
        "report"
    );
    let unknown = ReadReportRequest {
        institution: first.institution,
        report_number: "none".into(),
    };
    let unknown = client
        .read_report(request(unknown, DOCTOR))
        .await
        .unwrap_err();
    assert_eq!(reason(&unknown).1, "REPORT_UNKNOWN");
    let both = client
        .read_report(request(ReadReportRequest::default(), DOCTOR))
        .await
        .unwrap_err();
    assert_eq!(
        both.get_details_bad_request()
            .unwrap()
            .field_violations
            .len(),
        2
    );
    served.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_and_the_institutions_are_listed() {
    let served = Served::start().await;
    let mut client = served.certificates.catalogue(served.address);
    let all = client
        .list_test_items(request(ListTestItemsRequest::default(), DOCTOR))
        .await;
    let all = all.unwrap().into_inner();
    assert_eq!((all.version.as_str(), all.items.len()), ("2026.1", 59));
    let one = ListTestItemsRequest {
        item_codes: vec!["1700204A".to_owned()],
    };
    let urea = client
        .list_test_items(request(one, DOCTOR))
        .await
        .unwrap()
        .into_inner()
        .items
        .remove(0);
    assert_eq!(urea.conversions[0].factor, "0.357");
    assert_eq!(urea.refused_units[0].code, "UREA_BASIS");
    assert_eq!(urea.allowable_error.unwrap().absolute_up_to, "4");
    assert_eq!(
        (urea.loinc_certainty.as_str(), urea.interval_source.as_str()),
        ("Q", "WS/T 404 (Q)")
    );
    let unknown = ListTestItemsRequest {
        item_codes: vec!["9999999A".to_owned()],
    };
    let unknown = client
        .list_test_items(request(unknown, DOCTOR))
        .await
        .unwrap_err();
    assert_eq!(
        unknown.get_details_bad_request().unwrap().field_violations[0].field,
        "item_codes[0]"
    );
    let list = client
        .list_institutions(request(ListInstitutionsRequest {}, DOCTOR))
        .await;
    let list = list.unwrap().into_inner().institutions;
    let levels = list
        .iter()
        .filter(|one| one.level() == InstitutionLevel::Third);
    assert_eq!((list.len(), levels.count()), (10, 5));
    served.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_are_published_and_read() {
    let served = Served::start().await;
    let mut client = served.certificates.fhir(served.address);
    let sent = report(5, 5, LONG_AGO);
    let mut bundle = write_fhir(&sent);
    bundle.insert_str(1, "\"language\":\"zh\",");
    let publish = |resource: &str| PublishFhirRequest {
        resource: resource.as_bytes().to_vec(),
    };
    let published = client
        .publish_fhir(request(publish(&bundle), LABORATORY))
        .await;
    let published = published.unwrap().into_inner();
    assert_eq!(published.results[0].outcome(), PublishOutcome::Created);
    assert_eq!(published.unheld, ["Bundle.language"]);
    let read = ReadFhirRequest {
        institution: sent.institution.clone(),
        report_number: sent.report_number.clone(),
    };
    let read = client
        .read_fhir(request(read, DOCTOR))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((read.version, read.city.as_str()), (1, "370200"));
    assert_eq!(read_fhir(&read.resource).unwrap().reports[0], sent);
    let stranger = client
        .publish_fhir(request(publish(&bundle), DOCTOR))
        .await
        .unwrap_err();
    assert_eq!(reason(&stranger).1, "PUBLISHER_ONLY");
    for (resource, code) in [("{", "FHIR_JSON"), ("{}", "FHIR_RESOURCE")] {
        let refused = client
            .publish_fhir(request(publish(resource), LABORATORY))
            .await
            .unwrap_err();
        let violation = refused
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .remove(0);
        assert_eq!(
            (violation.field.as_str(), violation.reason.as_str()),
            ("resource", code)
        );
    }
    served.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quality_rounds_are_registered_measured_and_marks_of_senders_are_listed() {
    let served = Served::start().await;
    let mut client = served.certificates.quality(served.address);
    let mut open = round("R1");
    // The real clock counts here: open from 1970 to 2096.
    open.opens_at = time(0);
    open.closes_at = time(4_000_000_000 * SECOND);
    let register = RegisterRoundRequest { round: Some(open) };
    let stranger = client
        .register_round(request(register.clone(), LABORATORY))
        .await
        .unwrap_err();
    assert_eq!(
        reason(&stranger),
        (
            Code::PermissionDenied,
            "ORGANISER_ONLY".into(),
            "banqiao.lab".into()
        )
    );
    for unchanged in [false, true] {
        let registered = client
            .register_round(request(register.clone(), ORGANISER))
            .await;
        assert_eq!(registered.unwrap().into_inner().unchanged, unchanged);
    }
    let first = report(1, 1, LONG_AGO);
    let lines: Vec<_> = (1..=6)
        .map(|sample| result("R1", &first.institution, sample, "40"))
        .collect();
    let submitted = client
        .submit_results(request(stream::iter(lines), LABORATORY))
        .await;
    let submitted = submitted.unwrap().into_inner();
    assert_eq!((submitted.created, submitted.refused), (5, 1));
    assert_eq!(submitted.results[5].faults[0].code, "NOT_OF_ROUND");
    let evaluate = EvaluateRoundRequest {
        round_id: "R1".to_owned(),
    };
    let open = client.evaluate_round(request(evaluate, ORGANISER)).await;
    assert_eq!(reason(&open.unwrap_err()).1, "ROUND_OPEN");
    let read = ReadRoundRequest {
        round_id: "R1".to_owned(),
    };
    let read = client.read_round(request(read, DOCTOR)).await;
    let read = read.unwrap().into_inner();
    assert!(read.round.unwrap().items[0].samples[0].target.is_empty());
    let marks = ListMarksRequest {
        institution: first.institution.clone(),
        item_codes: Vec::new(),
    };
    let marks = client.list_marks(request(marks, DOCTOR)).await;
    let marks = marks.unwrap().into_inner();
    assert_eq!((marks.city.as_str(), marks.marks.len()), ("370200", 0));

    let mut marked = first;
    marked.results[2].marks = vec![HrMark::default()];
    let publish = PublishReportRequest {
        report: Some(marked.clone()),
    };
    let published = served
        .reports()
        .publish_report(request(publish, LABORATORY))
        .await;
    let ignored = published.unwrap().into_inner().ignored_marks.remove(0);
    assert_eq!((ignored.result, ignored.code.as_str()), (2, "MARK_IGNORED"));
    let line = PublishReportsRequest {
        line: 1,
        report: Some(marked),
    };
    let published = served
        .reports()
        .publish_reports(request(stream::iter([line]), LABORATORY))
        .await;
    let results = published.unwrap().into_inner().results;
    assert_eq!(results[0].ignored_marks[0].code, "MARK_IGNORED");
    served.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_assessed_decided_listed_and_counted() {
    let served = Served::start().await;
    let mut client = served.certificates.recognition(served.address);
    let mut reports = served.reports();
    let first = report(1, 1, LONG_AGO);
    let publish = PublishReportRequest {
        report: Some(first.clone()),
    };
    let published = reports.publish_report(request(publish, LABORATORY));
    published.await.unwrap();
    let read = ReadReportRequest {
        institution: first.institution.clone(),
        report_number: first.report_number.clone(),
    };
    let read = reports.read_report(request(read, LABORATORY));
    let read = read.await.unwrap().into_inner();
    let assess = AssessReportsRequest {
        institution: first.institution.clone(),
        reports: vec![FoundReport {
            city: read.city,
            report: read.report.clone(),
            version: read.version,
        }],
        item_codes: Vec::new(),
    };
    let assessed = client.assess_reports(request(assess, LABORATORY)).await;
    let assessed = assessed.unwrap().into_inner().reports.remove(0).results;
    assert_eq!(assessed.len(), first.results.len());
    let codes: Vec<_> = assessed[0]
        .reasons
        .iter()
        .map(|reason| reason.code.as_str())
        .collect();
    assert_eq!(codes, ["OUTSIDE_WINDOW", "NO_MARK"]);

    let decide = RecordDecisionRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        institution: first.institution.clone(),
        report_institution: first.institution.clone(),
        report_number: first.report_number.clone(),
        report_version: read.version,
        item_code: assessed[0].item_code.clone(),
        outcome: DecisionOutcome::Repeated.into(),
        reason: RepeatReason::RapidlyChanging.into(),
        patient_informed: true,
        doctor_id: "D-17".to_owned(),
        advised: assessed[0].verdict,
        ..RecordDecisionRequest::default()
    };
    for repeated in [false, true] {
        let decided = client
            .record_decision(request(decide.clone(), LABORATORY))
            .await;
        let decided = decided.unwrap().into_inner();
        assert_eq!(
            (decided.delivery(), decided.repeated),
            (DeliveryState::Local, repeated)
        );
    }
    let mut uninformed = decide.clone();
    uninformed.patient_informed = false;
    let refused = client
        .record_decision(request(uninformed, LABORATORY))
        .await
        .unwrap_err();
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].reason, "PATIENT_INFORMED");
    let list = ListDecisionsRequest {
        institution: first.institution.clone(),
        ..ListDecisionsRequest::default()
    };
    let listed = client
        .list_decisions(request(list.clone(), LABORATORY))
        .await;
    assert_eq!(listed.unwrap().into_inner().decisions.len(), 1);
    let refused = client
        .list_decisions(request(list, DOCTOR))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused).1, "NOT_YOUR_DECISIONS");
    let statistics = client.read_statistics(request(ReadStatisticsRequest::default(), DOCTOR));
    let statistics = statistics
        .await
        .unwrap()
        .into_inner()
        .institutions
        .remove(0);
    assert_eq!(statistics.total.unwrap().recognition_rate, "0.00");
    let delivered = client
        .deliver_decision(request(DeliverDecisionRequest::default(), DOCTOR))
        .await
        .unwrap_err();
    assert_eq!(delivered.code(), Code::InvalidArgument);
    served.stopped().await;
}
