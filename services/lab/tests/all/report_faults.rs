//! Each possible fault of a report, with the field and the rule that its refusal names.

use std::collections::BTreeSet;

use banqiao_kit::Effect;
use banqiao_lab::rulebook;
use banqiao_proto::lab::v1::{
    Actor, Coding, Concept, Identifier, Quantity, ReferenceInterval, Report, Result, result::Value,
};

use crate::scene::{DAY, HOUR, NOON, time};

pub(crate) type Change = fn(&mut Report);

/// Each possible fault of a report, with the field and the rule that its refusal names.
pub(crate) const FAULTS: &[(Change, &str, &str)] = &[
    (
        |r| r.institution.clear(),
        "institution",
        "CREDIT_CODE_LENGTH",
    ),
    (
        |r| r.institution = "91350100M000100YI3".into(),
        "institution",
        "CREDIT_CODE_CHARACTER",
    ),
    (
        |r| r.institution = "91350100M000100Y56".into(),
        "institution",
        "CREDIT_CODE_ORGANISATION_CHECK",
    ),
    (
        |r| r.institution = "91350100M000100Y44".into(),
        "institution",
        "CREDIT_CODE_CHECK",
    ),
    (
        |r| r.institution = "91350100M000100Y43".into(),
        "institution",
        "INSTITUTION_UNKNOWN",
    ),
    (
        |r| r.institution = other_city(),
        "institution",
        "OTHER_CITY",
    ),
    (
        |r| r.report_number.clear(),
        "report_number",
        "REPORT_NUMBER",
    ),
    (
        |r| r.report_number = "报告1".into(),
        "report_number",
        "REPORT_NUMBER",
    ),
    (
        |r| r.report_number = "1".repeat(51),
        "report_number",
        "REPORT_NUMBER",
    ),
    (|r| r.status = 0, "status", "REPORT_STATUS"),
    (|r| r.status = 99, "status", "REPORT_STATUS"),
    (|r| r.patient = None, "patient", "PATIENT_MISSING"),
    (
        |r| patient(r).citizen_id.clear(),
        "patient.citizen_id",
        "CITIZEN_ID_LENGTH",
    ),
    (
        |r| patient(r).citizen_id = "3702021990010100A7".into(),
        "patient.citizen_id",
        "CITIZEN_ID_CHARACTER",
    ),
    (
        |r| patient(r).citizen_id = "370202199002300007".into(),
        "patient.citizen_id",
        "CITIZEN_ID_BIRTH_DATE",
    ),
    (
        |r| patient(r).citizen_id = "370202199001010008".into(),
        "patient.citizen_id",
        "CITIZEN_ID_CHECK_DIGIT",
    ),
    (
        |r| patient(r).name = " ".into(),
        "patient.name",
        "PATIENT_NAME",
    ),
    (
        |r| patient(r).name = "a\u{7}".into(),
        "patient.name",
        "PATIENT_NAME",
    ),
    (|r| patient(r).sex = 9, "patient.sex", "SEX"),
    (
        |r| patient(r).birth_date = "1949-12-31".into(),
        "patient.birth_date",
        "BIRTH_DATE",
    ),
    (|r| r.collected_at = None, "collected_at", "TIME"),
    (
        |r| r.collected_at.as_mut().unwrap().nanos = -1,
        "collected_at",
        "TIME",
    ),
    (|r| r.collected_at = time(-DAY), "collected_at", "TIME"),
    (|r| r.issued_at = time(NOON + HOUR), "issued_at", "TIME"),
    (
        |r| r.issued_at = time(NOON - 2 * DAY),
        "issued_at",
        "ISSUED_BEFORE_COLLECTED",
    ),
    (|r| r.results.clear(), "results", "RESULTS"),
    (
        |r| r.results = vec![Result::default(); 501],
        "results",
        "RESULTS",
    ),
    (
        |r| r.results[1].code = None,
        "results[1].code",
        "RESULT_CODE",
    ),
    (
        |r| coding(r, 1).code = "6690-3".into(),
        "results[0].code.codings[1].code",
        "LOINC_CHECK_DIGIT",
    ),
    (
        |r| coding(r, 0).code = "0100101".into(),
        "results[0].code.codings[0].code",
        "ITEM_CODE",
    ),
    (
        |r| coding(r, 0).code = "6690-2".into(),
        "results[0].code.codings[0].code",
        "ITEM_CODE",
    ),
    (
        |r| coding(r, 0).code = "0100201A".into(),
        "results[0].code",
        "CODES_DISAGREE",
    ),
    (
        |r| r.results[0].value = None,
        "results[0].value",
        "VALUE_MISSING",
    ),
    (
        |r| r.results[0].value = Some(Value::Text(" ".into())),
        "results[0].value",
        "VALUE_MISSING",
    ),
    (
        |r| quantity(r).value = "1e3".into(),
        "results[0].quantity.value",
        "DECIMAL",
    ),
    (
        |r| quantity(r).value = "<5".into(),
        "results[0].quantity.value",
        "DECIMAL",
    ),
    (
        |r| quantity(r).comparator = 7,
        "results[0].quantity.comparator",
        "COMPARATOR",
    ),
    (
        |r| {
            *quantity(r) = Quantity {
                value: "1".into(),
                ..Quantity::default()
            }
        },
        "results[0].quantity.unit",
        "UNIT_MISSING",
    ),
    (
        |r| r.results[0].status = 77,
        "results[0].status",
        "REPORT_STATUS",
    ),
    (
        |r| low(r).value = "abc".into(),
        "results[0].intervals[0].low.value",
        "DECIMAL",
    ),
    (
        |r| low(r).value = "9999".into(),
        "results[0].intervals[0]",
        "INTERVAL_ORDER",
    ),
    (|r| r.conclusion = "x".repeat(8_001), "conclusion", "TEXT"),
    (
        |r| r.results[0].comments = vec![String::new(); 21],
        "results[0].comments",
        "LIST",
    ),
];

fn other_city() -> String {
    let institutions = crate::scene::institutions();
    let other = institutions
        .iter()
        .find(|one| one.city != crate::scene::qingdao());
    other.unwrap().credit_code.to_string()
}

fn patient(report: &mut Report) -> &mut banqiao_proto::lab::v1::Patient {
    report.patient.as_mut().unwrap()
}

fn coding(report: &mut Report, place: usize) -> &mut Coding {
    &mut report.results[0].code.as_mut().unwrap().codings[place]
}

fn quantity(report: &mut Report) -> &mut Quantity {
    match &mut report.results[0].value {
        Some(Value::Quantity(quantity)) => quantity,
        _ => panic!("no quantity"),
    }
}

fn low(report: &mut Report) -> &mut Quantity {
    report.results[0].intervals[0].low.as_mut().unwrap()
}

fn high(report: &mut Report) -> &mut Quantity {
    report.results[0].intervals[0].high.as_mut().unwrap()
}

/// A text that is longer than any.
fn long() -> String {
    "长".repeat(8_001)
}

fn concept() -> Concept {
    Concept {
        codings: Vec::new(),
        text: long(),
    }
}

fn actor() -> Option<Actor> {
    Some(Actor {
        reference: String::new(),
        name: long(),
    })
}

fn interval(report: &mut Report) -> &mut ReferenceInterval {
    &mut report.results[0].intervals[0]
}

/// Every text and every list of a report, too long.
pub(crate) const BOUNDS: &[(Change, &str, &str)] = &[
    (
        |r| r.categories[0].text = long(),
        "categories[0].text",
        "TEXT",
    ),
    (
        |r| r.categories = vec![Concept::default(); 21],
        "categories",
        "LIST",
    ),
    (|r| r.code = Some(concept()), "code.text", "TEXT"),
    (|r| r.specimen = Some(concept()), "specimen.text", "TEXT"),
    (|r| r.performer = actor(), "performer.name", "TEXT"),
    (
        |r| r.performer.as_mut().unwrap().reference = long(),
        "performer.reference",
        "TEXT",
    ),
    (|r| r.reviewer = actor(), "reviewer.name", "TEXT"),
    (|r| r.conclusion = "a\u{1b}".into(), "conclusion", "TEXT"),
    (
        |r| {
            r.identifiers = vec![Identifier {
                system: long(),
                value: String::new(),
            }]
        },
        "identifiers[0].system",
        "TEXT",
    ),
    (
        |r| {
            r.identifiers = vec![Identifier {
                system: String::new(),
                value: long(),
            }]
        },
        "identifiers[0].value",
        "TEXT",
    ),
    (
        |r| r.identifiers = vec![Identifier::default(); 21],
        "identifiers",
        "LIST",
    ),
    (
        |r| patient(r).reference = long(),
        "patient.reference",
        "TEXT",
    ),
    (
        |r| r.results[0].code.as_mut().unwrap().text = long(),
        "results[0].code.text",
        "TEXT",
    ),
    (
        |r| coding(r, 0).display = long(),
        "results[0].code.codings[0]",
        "TEXT",
    ),
    (
        |r| {
            r.results[0].code = Some(Concept {
                codings: vec![Coding::default(); 21],
                text: String::new(),
            })
        },
        "results[0].code.codings",
        "LIST",
    ),
    (
        |r| quantity(r).unit = long(),
        "results[0].quantity.unit",
        "TEXT",
    ),
    (
        |r| quantity(r).ucum = long(),
        "results[0].quantity.ucum",
        "TEXT",
    ),
    (
        |r| r.results[0].value = Some(Value::Text(long())),
        "results[0].text",
        "TEXT",
    ),
    (
        |r| r.results[0].value = Some(Value::Concept(concept())),
        "results[0].concept.text",
        "TEXT",
    ),
    (
        |r| r.results[0].intervals = vec![ReferenceInterval::default(); 21],
        "results[0].intervals",
        "LIST",
    ),
    (
        |r| interval(r).text = long(),
        "results[0].intervals[0].text",
        "TEXT",
    ),
    (
        |r| interval(r).kind = Some(concept()),
        "results[0].intervals[0].kind.text",
        "TEXT",
    ),
    (
        |r| interval(r).applies_to = vec![concept()],
        "results[0].intervals[0].applies_to[0].text",
        "TEXT",
    ),
    (
        |r| interval(r).applies_to = vec![Concept::default(); 21],
        "results[0].intervals[0].applies_to",
        "LIST",
    ),
    (
        |r| low(r).unit = long(),
        "results[0].intervals[0].low.unit",
        "TEXT",
    ),
    (
        |r| high(r).ucum = long(),
        "results[0].intervals[0].high.ucum",
        "TEXT",
    ),
    (
        |r| high(r).value = "1,5".into(),
        "results[0].intervals[0].high.value",
        "DECIMAL",
    ),
    (
        |r| r.results[0].interpretations = vec![concept()],
        "results[0].interpretations[0].text",
        "TEXT",
    ),
    (
        |r| r.results[0].interpretations = vec![Concept::default(); 21],
        "results[0].interpretations",
        "LIST",
    ),
    (
        |r| r.results[0].specimen = Some(concept()),
        "results[0].specimen.text",
        "TEXT",
    ),
    (
        |r| r.results[0].method = Some(concept()),
        "results[0].method.text",
        "TEXT",
    ),
    (
        |r| r.results[0].device = actor(),
        "results[0].device.name",
        "TEXT",
    ),
    (
        |r| r.results[0].performer = actor(),
        "results[0].performer.name",
        "TEXT",
    ),
    (
        |r| r.results[0].comments = vec![long()],
        "results[0].comments[0]",
        "TEXT",
    ),
];

/// Rules that depend on what stands, on who publishes, or on there being a report at all: other tests break them.
const ELSEWHERE: [&str; 6] = [
    "NOT_YOUR_INSTITUTION",
    "OLDER_ISSUE",
    "PATIENT_CHANGED",
    "REPORT_MISSING",
    "REPORT_STANDS",
    "REPORT_WITHDRAWN",
];

#[test]
fn no_rule_of_a_report_is_without_a_case() {
    let cases = FAULTS.iter().chain(BOUNDS).map(|(_, _, code)| *code);
    let cases: BTreeSet<_> = cases.chain(ELSEWHERE).collect();
    let book = rulebook();
    let rules = book.rules().filter(|row| {
        matches!(row.effect, Effect::Violates) && row.places.contains(&"PublishReport")
    });
    let rules: BTreeSet<_> = rules.map(|row| row.rule.code).collect();
    assert!(rules.len() > 25, "{rules:?}");
    assert_eq!(rules, cases);
}
