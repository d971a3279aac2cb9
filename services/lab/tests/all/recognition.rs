//! What can be recognised: a table of cases, each with the rule behind it.

use std::{collections::BTreeSet, sync::Arc};

use banqiao_directory::CityCode;
use banqiao_lab::{AssessTerms, Estimates, Recognition, assess_result, rulebook, synthetic};
use banqiao_proto::lab::v1::{
    AssessReportsRequest, Concept, FoundReport, HrMark, MarkScope, Quantity, Report, ReportStatus,
    Result, Verdict, result::Value,
};
use tempfile::TempDir;

use crate::{
    quality::{self, ALT, round},
    scene::{
        DAY, DOCTOR, HOUR, NOON, SECOND, Scene, built_in, hospital, institutions, neighbour, of,
        qingdao, search, time, yantai,
    },
};

/// A mark of the region, in force from 100 days before noon to 100 days after it.
fn mark() -> HrMark {
    HrMark {
        scope: MarkScope::Region.into(),
        scope_code: String::new(),
        label: "胶东HR".to_owned(),
        scheme: "临床化学".to_owned(),
        round_id: "R1".to_owned(),
        valid_from: time(NOON - 100 * DAY),
        valid_until: time(NOON + 100 * DAY),
    }
}

/// A report of Qingdao's first hospital, found from Yantai, with one recognisable result: ALT, 14 days fit, taken a day ago.
fn found() -> FoundReport {
    let catalogue = built_in();
    let mut report = crate::scene::report(1, 1, DAY);
    let mut result = synthetic::result(catalogue.item(ALT).unwrap(), 1).unwrap();
    result.item_code = ALT.to_owned();
    result.marks = vec![mark()];
    report.results = vec![result];
    FoundReport {
        city: qingdao().to_string(),
        report: Some(report),
        version: 1,
    }
}

fn reasons(found: &FoundReport) -> Vec<(&'static str, String)> {
    let (catalogue, institutions) = (built_in(), institutions());
    let terms = AssessTerms {
        city: yantai(),
        now_us: NOON,
        catalogue: &catalogue,
        institutions: &institutions,
    };
    let report = found.report.as_ref().unwrap();
    let assessed = assess_result(found, report, (0, &report.results[0]), &terms);
    let expected = if assessed.reasons.is_empty() {
        Verdict::Recognisable
    } else {
        Verdict::NotRecognisable
    };
    assert_eq!(assessed.verdict(), expected);
    assessed
        .reasons
        .into_iter()
        .map(|(rule, field)| (rule.code, field))
        .collect()
}

type Change = fn(&mut FoundReport);
/// Name, change, and the reasons with their fields.
type Case = (
    &'static str,
    Change,
    &'static [(&'static str, &'static str)],
);

fn report(found: &mut FoundReport) -> &mut Report {
    found.report.as_mut().unwrap()
}

fn result(found: &mut FoundReport) -> &mut Result {
    &mut report(found).results[0]
}

fn quantity(found: &mut FoundReport) -> &mut Quantity {
    match result(found).value.as_mut() {
        Some(Value::Quantity(quantity)) => quantity,
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Option<Concept> {
    Some(Concept {
        codings: Vec::new(),
        text: text.to_owned(),
    })
}

/// The code of an institution whose level is below two, or that no register holds.
const STRANGER: &str = "91350100M000100Y43";

/// What is changed of a recognisable result, and every reason that speaks against it then: the rule and the field.
const CASES: &[Case] = &[
    ("nothing", |_| {}, &[]),
    (
        "a corrected report",
        |f| report(f).set_status(ReportStatus::Corrected),
        &[],
    ),
    (
        "a cancelled report",
        |f| report(f).set_status(ReportStatus::Cancelled),
        &[("RESULT_WITHDRAWN", "status")],
    ),
    (
        "a report without status",
        |f| report(f).status = 0,
        &[("RESULT_WITHDRAWN", "status")],
    ),
    (
        "a result entered in error",
        |f| result(f).set_status(ReportStatus::EnteredInError),
        &[("RESULT_WITHDRAWN", "results[0].status")],
    ),
    (
        "an institution of no register",
        |f| report(f).institution = STRANGER.to_owned(),
        &[("INSTITUTION_NOT_REGISTERED", "institution")],
    ),
    (
        "a report of another city's institution",
        |f| f.city = "370700".to_owned(),
        &[("CITY_NOT_OF_INSTITUTION", "institution")],
    ),
    (
        "an item of no catalogue",
        |f| {
            result(f).item_code.clear();
            result(f).code = text("某项目");
        },
        &[("ITEM_NOT_IN_CATALOGUE", "results[0].code")],
    ),
    (
        "codes that are not disclosed, but the item",
        |f| result(f).code = None,
        &[],
    ),
    (
        "no mark",
        |f| result(f).marks.clear(),
        &[("NO_MARK", "results[0].marks")],
    ),
    (
        "a mark of the other city alone",
        |f| {
            result(f).marks[0].set_scope(MarkScope::City);
            result(f).marks[0].scope_code = "370200".to_owned();
        },
        &[("MARK_OUT_OF_SCOPE", "results[0].marks")],
    ),
    (
        "a mark of another province",
        |f| {
            result(f).marks[0].set_scope(MarkScope::Province);
            result(f).marks[0].scope_code = "420000".to_owned();
        },
        &[("MARK_OUT_OF_SCOPE", "results[0].marks")],
    ),
    (
        "a mark of no scope",
        |f| result(f).marks[0].scope = 0,
        &[("MARK_OUT_OF_SCOPE", "results[0].marks")],
    ),
    (
        "a mark of the province",
        |f| {
            result(f).marks[0].set_scope(MarkScope::Province);
            result(f).marks[0].scope_code = "370000".to_owned();
        },
        &[],
    ),
    (
        "a mark of the country",
        |f| result(f).marks[0].set_scope(MarkScope::National),
        &[],
    ),
    (
        "a mark that ends in this moment",
        |f| result(f).marks[0].valid_until = time(NOON),
        &[("MARK_EXPIRED", "results[0].marks")],
    ),
    (
        "a mark of one more second",
        |f| result(f).marks[0].valid_until = time(NOON + SECOND),
        &[],
    ),
    (
        "a mark that began after the report was issued",
        |f| result(f).marks[0].valid_from = time(NOON - HOUR),
        &[("MARK_EXPIRED", "results[0].marks")],
    ),
    (
        "a mark without times",
        |f| result(f).marks[0].valid_until = None,
        &[("MARK_EXPIRED", "results[0].marks")],
    ),
    (
        "an ended mark beside a good one",
        |f| {
            let mut ended = mark();
            ended.valid_until = time(NOON - DAY);
            result(f).marks.insert(0, ended);
        },
        &[],
    ),
    (
        "the last second of the window",
        |f| report(f).collected_at = time(NOON - 14 * DAY + SECOND),
        &[],
    ),
    (
        "the end of the window",
        |f| report(f).collected_at = time(NOON - 14 * DAY),
        &[("OUTSIDE_WINDOW", "collected_at")],
    ),
    (
        "a specimen of tomorrow",
        |f| report(f).collected_at = time(NOON + DAY),
        &[("OUTSIDE_WINDOW", "collected_at")],
    ),
    (
        "urine for a test of serum",
        |f| result(f).specimen = text("尿液"),
        &[("SPECIMEN_UNFIT", "results[0].specimen")],
    ),
    ("plasma", |f| result(f).specimen = text("血浆"), &[]),
    (
        "the report's own specimen, by its code",
        |f| {
            result(f).specimen = None;
            report(f).specimen = Some(Concept {
                codings: vec![banqiao_proto::lab::v1::Coding {
                    system: "http://snomed.info/sct".to_owned(),
                    code: "119364003".to_owned(),
                    display: "Serum specimen".to_owned(),
                }],
                text: String::new(),
            });
        },
        &[],
    ),
    (
        "a unit without conversion",
        |f| {
            let quantity = quantity(f);
            quantity.unit = "g/L".to_owned();
            quantity.ucum = "g/L".to_owned();
        },
        &[("UNIT_UNFIT", "results[0].quantity.unit")],
    ),
    (
        "words for a number",
        |f| result(f).value = Some(Value::Text("正常".to_owned())),
        &[("VALUE_NOT_A_NUMBER", "results[0].value")],
    ),
    (
        "no value",
        |f| result(f).value = None,
        &[("VALUE_NOT_A_NUMBER", "results[0].value")],
    ),
    (
        "no time of collection",
        |f| report(f).collected_at = None,
        &[("MANDATORY_FIELD_MISSING", "collected_at")],
    ),
    (
        "no time of issue",
        |f| report(f).issued_at = None,
        &[("MANDATORY_FIELD_MISSING", "issued_at")],
    ),
    (
        "no specimen",
        |f| result(f).specimen = text(" "),
        &[("MANDATORY_FIELD_MISSING", "results[0].specimen")],
    ),
    (
        "no method, but the instrument",
        |f| result(f).method = None,
        &[],
    ),
    (
        "neither method nor instrument",
        |f| {
            result(f).method = None;
            result(f).device = None;
        },
        &[("MANDATORY_FIELD_MISSING", "results[0].method")],
    ),
    (
        "no unit",
        |f| {
            let quantity = quantity(f);
            quantity.unit.clear();
            quantity.ucum.clear();
        },
        &[("MANDATORY_FIELD_MISSING", "results[0].quantity.unit")],
    ),
    (
        "no reference interval",
        |f| result(f).intervals.clear(),
        &[("MANDATORY_FIELD_MISSING", "results[0].intervals")],
    ),
    (
        "no tester, but a reviewer",
        |f| result(f).performer = None,
        &[],
    ),
    (
        "neither tester nor reviewer",
        |f| {
            result(f).performer = None;
            report(f).reviewer = None;
        },
        &[("MANDATORY_FIELD_MISSING", "results[0].performer")],
    ),
    (
        "much at once: every reason is told",
        |f| {
            report(f).set_status(ReportStatus::Cancelled);
            report(f).institution = STRANGER.to_owned();
            report(f).collected_at = time(NOON - 30 * DAY);
            result(f).marks.clear();
            result(f).specimen = text("尿液");
            result(f).intervals.clear();
        },
        &[
            ("RESULT_WITHDRAWN", "status"),
            ("INSTITUTION_NOT_REGISTERED", "institution"),
            ("MANDATORY_FIELD_MISSING", "results[0].intervals"),
            ("OUTSIDE_WINDOW", "collected_at"),
            ("SPECIMEN_UNFIT", "results[0].specimen"),
            ("NO_MARK", "results[0].marks"),
        ],
    ),
];

#[test]
fn each_reason_against_recognition_names_its_rule_and_field() {
    for (name, change, expected) in CASES {
        let mut found = found();
        change(&mut found);
        let reasons = reasons(&found);
        let shown: Vec<_> = reasons
            .iter()
            .map(|(code, field)| (*code, field.as_str()))
            .collect();
        assert_eq!(shown, *expected, "{name}");
    }
}

#[test]
fn an_institution_below_level_two_is_told() {
    let table = synthetic::institution_table().replace("\tSECOND\t", "\tFIRST\t");
    let institutions = banqiao_lab::Institutions::parse("i.tsv".as_ref(), &table).unwrap();
    let mut found = found();
    report(&mut found).institution = hospital(qingdao(), 1);
    let catalogue = built_in();
    let terms = AssessTerms {
        city: yantai(),
        now_us: NOON,
        catalogue: &catalogue,
        institutions: &institutions,
    };
    let report = found.report.as_ref().unwrap();
    let assessed = assess_result(&found, report, (0, &report.results[0]), &terms);
    let codes: Vec<_> = assessed.reasons.iter().map(|(rule, _)| rule.code).collect();
    assert_eq!(codes, ["LEVEL_BELOW_TWO"]);
    assert_eq!(assessed.fit_until_us, Some(NOON + 13 * DAY));
}

#[test]
fn every_reason_of_the_book_has_a_case() {
    let book = rulebook();
    let table = book
        .tables
        .iter()
        .find(|table| table.title.starts_with("Recognition"));
    let answers = table.unwrap().rules.iter();
    let answers = answers.filter(|row| row.effect == banqiao_kit::Effect::Answers);
    let listed: BTreeSet<_> = answers.map(|row| row.rule.code).collect();
    let mut shown: BTreeSet<_> = CASES
        .iter()
        .flat_map(|(.., reasons)| reasons.iter().map(|(code, _)| *code))
        .collect();
    shown.insert("LEVEL_BELOW_TWO");
    assert_eq!(listed, shown);
}

pub(crate) fn recognition(reports: &banqiao_lab::Reports) -> Recognition {
    let organisers: Arc<[_]> = Arc::from([quality::ORGANISER.parse().unwrap()]);
    let rounds = banqiao_lab::Rounds::new(reports, organisers);
    Recognition::new(
        reports.clone(),
        rounds,
        Arc::new(Estimates::built_in().unwrap()),
    )
}

pub(crate) async fn a_found_report_is_assessed_with_the_marks_that_its_city_stated(scene: Scene) {
    // Qingdao's hospital passes a round of ALT, and issues a report of ALT and WBC afterwards.
    quality::passed_round(&scene, &round("R1")).await;
    let catalogue = built_in();
    let mut sent = crate::scene::report(1, 1, DAY);
    sent.collected_at = time(NOON + DAY);
    sent.issued_at = time(NOON + DAY + HOUR);
    sent.results = [ALT, "0100101A"]
        .map(|code| synthetic::result(catalogue.item(code).unwrap(), 1).unwrap())
        .to_vec();
    scene.clock.advance_us(HOUR);
    scene.published(std::slice::from_ref(&sent)).await;
    let stored = scene.find(&search(&sent), DOCTOR).await.remove(0);
    // A doctor in Yantai asks Yantai's own service.
    let folder = TempDir::new().unwrap();
    let yantai_reports = neighbour(folder.path(), &scene.clock).await;
    let yantai_recognition = recognition(&yantai_reports);
    let mut request = AssessReportsRequest {
        institution: hospital(yantai(), 0),
        reports: vec![FoundReport {
            city: qingdao().to_string(),
            report: Some(stored.report),
            version: stored.version,
        }],
        item_codes: Vec::new(),
    };
    let answer = yantai_recognition.assess(&request).unwrap();
    assert_eq!(answer.catalogue_version, catalogue.version());
    let results = &answer.reports[0].results;
    let verdicts: Vec<_> = results
        .iter()
        .map(|one| (one.item_code.as_str(), one.verdict()))
        .collect();
    assert_eq!(
        verdicts,
        [
            (ALT, Verdict::Recognisable),
            ("0100101A", Verdict::NotRecognisable)
        ]
    );
    assert_eq!(results[0].marks[0].label, "胶东HR");
    assert_eq!(results[0].fit_until, time(NOON + 15 * DAY));
    let reason = &results[1].reasons[0];
    assert_eq!(
        (reason.code.as_str(), reason.certainty.as_str()),
        ("NO_MARK", "M")
    );
    assert!(!reason.rule.is_empty() && reason.source.contains("国卫医发"));
    // Only the items that are asked for.
    request.item_codes = vec![ALT.to_owned()];
    let answer = yantai_recognition.assess(&request).unwrap();
    assert_eq!(answer.reports[0].results.len(), 1);
    // Only for institutions of the own city, of reports that are there.
    request.institution = hospital(qingdao(), 0);
    request.item_codes = vec!["x".to_owned()];
    request.reports.push(FoundReport::default());
    let faults = yantai_recognition.assess(&request).unwrap_err();
    assert_eq!(
        of(&faults),
        [
            ("institution", "ASKING_INSTITUTION"),
            ("item_codes[0]", "ITEM_CODE"),
            ("reports[1].report", "ASSESSED_REPORT_MISSING"),
        ]
    );
    request.reports.clear();
    let faults = yantai_recognition.assess(&request).unwrap_err();
    assert!(of(&faults).contains(&("reports", "ASSESSED_REPORTS")));
    let none: CityCode = yantai();
    assert_eq!(yantai_reports.city(), none);
}
