//! FHIR R4, in and out.

use std::collections::BTreeSet;

use banqiao_lab::{FhirError, LineOutcome, read_fhir, write_fhir};
use banqiao_proto::lab::v1::{
    Comparator, Concept, Identifier, Quantity, Report, ReportStatus, result::Value,
};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::scene::{DAY, DOCTOR, Scene, codes, report, search};

const BLOOD: &str = include_str!("../fhir/hl7-r4-f001-bloodexam.json");
const CULTURE: &str = include_str!("../fhir/hl7-r4-f202-bloodculture.json");
const BIOCHEMISTRY: &str = include_str!("../fhir/cn-biochemistry.json");

/// What only the service adds is not read back.
fn as_sent(report: &Report) -> Report {
    let mut sent = report.clone();
    for result in &mut sent.results {
        result.item_code.clear();
        result.normalised = None;
    }
    sent
}

fn there_and_back(report: &Report) -> Report {
    let mut read = read_fhir(write_fhir(report).as_bytes()).unwrap();
    assert_eq!(read.unheld, Vec::<String>::new());
    read.reports.remove(0)
}

/// Every scalar below a value, with its path; those below a path of `without` are left out.
fn leaves(path: &str, json: &Json, without: &BTreeSet<&str>, found: &mut Vec<(String, String)>) {
    if without.contains(path) {
        return;
    }
    match json {
        Json::Object(members) => {
            for (name, value) in members {
                leaves(&format!("{path}.{name}"), value, without, found);
            }
        }
        Json::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                leaves(&format!("{path}[{place}]"), value, without, found);
            }
        }
        Json::String(text) => found.push((path.to_owned(), moment(text))),
        scalar => found.push((path.to_owned(), scalar.to_string())),
    }
}

/// Times are compared as moments: the same one may be written in another zone.
fn moment(text: &str) -> String {
    text.parse::<jiff::Timestamp>()
        .map_or_else(|_| text.to_owned(), |at| at.to_string())
}

/// How resources of a bundle hang together: names that a bundle may choose anew.
fn is_structure(path: &str) -> bool {
    let names = [".id", ".fullUrl", ".resourceType", "Bundle.type"];
    names.iter().any(|name| path.ends_with(name))
        || (path.contains(".result[") && path.ends_with(".reference"))
}

/// Reads an example of one report, and shows that every value of it comes back, or was told as not held.
fn comes_back(example: &str, results: usize) -> Vec<String> {
    let read = read_fhir(example.as_bytes()).unwrap();
    assert_eq!(
        (read.reports.len(), read.reports[0].results.len()),
        (1, results)
    );
    assert_eq!(there_and_back(&read.reports[0]), read.reports[0]);
    let original: Json = serde_json::from_str(example).unwrap();
    let without = read.unheld.iter().map(String::as_str).collect();
    let mut held = Vec::new();
    leaves("Bundle", &original, &without, &mut held);
    let written: Json = serde_json::from_str(&write_fhir(&read.reports[0])).unwrap();
    let mut found = Vec::new();
    leaves("Bundle", &written, &BTreeSet::new(), &mut found);
    let found: BTreeSet<_> = found.into_iter().map(|(_, value)| value).collect();
    let held: Vec<_> = held
        .into_iter()
        .filter(|(path, value)| !is_structure(path) && !value.starts_with("urn:uuid:"))
        .collect();
    assert!(held.len() > results * 10, "{}", held.len());
    for (path, value) in held {
        assert!(
            found.contains(&value),
            "{path} = {value} is lost and was not told"
        );
    }
    read.unheld
}

#[test]
fn hl7s_own_examples_come_back_with_all_but_what_is_told() {
    for (example, results, untold) in [
        (BLOOD, 5, "Bundle.entry[2].resource.effectivePeriod"),
        (CULTURE, 1, "Bundle.entry[0].resource.conclusionCode"),
    ] {
        let unheld = comes_back(example, results);
        assert!(unheld.iter().any(|path| path == untold), "{unheld:?}");
    }
}

#[test]
fn a_chinese_laboratorys_report_comes_back_whole() {
    assert_eq!(comes_back(BIOCHEMISTRY, 3), Vec::<String>::new());
    let read = read_fhir(BIOCHEMISTRY.as_bytes()).unwrap();
    // All results name one specimen.
    for result in &read.reports[0].results {
        assert_eq!(result.specimen.as_ref().unwrap().text, "血清");
    }
}

#[test]
fn reports_of_one_bundle_may_share_patient_and_results() {
    let mut bundle: Json = serde_json::from_str(BIOCHEMISTRY).unwrap();
    let entries = bundle["entry"].as_array_mut().unwrap();
    let mut second = entries[0].clone();
    second["fullUrl"] = "urn:uuid:0b2f0c5e-5f0b-4b7e-9d1a-4a4a3f2e0007".into();
    second["resource"]["identifier"][0]["value"] = "SH20261120-0043".into();
    entries.push(second);
    entries[1]["resource"]["maritalStatus"] = "M".into();
    let read = read_fhir(bundle.to_string().as_bytes()).unwrap();
    let [first, second] = read.reports.as_slice() else {
        panic!("two reports")
    };
    assert_eq!(second.report_number, "SH20261120-0043");
    assert_eq!(
        (&first.patient, &first.results),
        (&second.patient, &second.results)
    );
    assert_eq!(first.patient.as_ref().unwrap().name, "测试子安");
    // What the patient has and the service does not hold is told once.
    assert_eq!(read.unheld, ["Bundle.entry[1].resource.maritalStatus"]);
}

pub(crate) async fn a_chinese_laboratorys_report_is_published_with_its_normalised_values(
    scene: Scene,
) {
    let sent = read_fhir(BIOCHEMISTRY.as_bytes()).unwrap().reports;
    let outcomes = scene.publish(&sent).await;
    assert!(
        matches!(outcomes[0], LineOutcome::Created(_)),
        "{outcomes:?}"
    );
    let found = scene.find(&search(&sent[0]), DOCTOR).await.remove(0).report;
    assert_eq!(as_sent(&found), sent[0]);
    let items: Vec<_> = found
        .results
        .iter()
        .map(|one| one.item_code.as_str())
        .collect();
    assert_eq!(items[0], "1500104A");
    assert_eq!(items[2], "");
    assert_eq!(found.results[0].normalised.as_ref().unwrap().value, "61.0");
}

#[test]
fn numbers_units_and_ranges_of_the_blood_example_are_as_hl7_wrote_them() {
    let read = read_fhir(BLOOD.as_bytes()).unwrap();
    let report = &read.reports[0];
    assert_eq!(
        (report.report_number.as_str(), report.status()),
        ("nr1239044", ReportStatus::Final)
    );
    let Some(Value::Quantity(glucose)) = &report.results[0].value else {
        panic!("no quantity")
    };
    assert_eq!(
        (
            glucose.value.as_str(),
            glucose.unit.as_str(),
            glucose.ucum.as_str()
        ),
        ("6.3", "mmol/l", "mmol/L")
    );
    let range = &report.results[2].intervals[0];
    assert_eq!(
        range.high.as_ref().unwrap().value,
        "6.0",
        "a place that was written is kept"
    );
    assert!(
        report.results[3].intervals[0]
            .text
            .starts_with(" 12-14 y Male")
    );
    let Some(Value::Concept(grown)) = &read_fhir(CULTURE.as_bytes()).unwrap().reports[0].results[0]
        .value
        .clone()
    else {
        panic!("no concept")
    };
    assert_eq!(grown.codings[0].display, "Staphylococcus aureus");
}

#[test]
fn a_report_of_this_network_comes_back_whole() {
    let mut whole = report(3, 4, DAY);
    whole.set_status(ReportStatus::Amended);
    whole.conclusion = "行1\n\"行2\" \\ \t终".to_owned();
    whole.specimen = Some(Concept {
        codings: Vec::new(),
        text: "血清".to_owned(),
    });
    whole.patient.as_mut().unwrap().reference = "Patient/77".to_owned();
    whole.identifiers = vec![Identifier {
        system: "urn:x".to_owned(),
        value: "7".to_owned(),
    }];
    whole.results[0].set_status(ReportStatus::Corrected);
    whole.results[1].comments = vec!["溶血".to_owned()];
    whole.results[2].value = Some(Value::Text("阴性".to_owned()));
    whole.results[3].specimen = None;
    whole.results[3].value = Some(Value::Quantity(Quantity {
        value: "0.050".to_owned(),
        comparator: Comparator::Less.into(),
        unit: "ng/mL".to_owned(),
        ucum: String::new(),
    }));
    assert_eq!(there_and_back(&whole), whole);
}

#[test]
fn what_is_no_report_is_refused() {
    let error = |text: &[u8]| read_fhir(text).unwrap_err();
    assert_eq!(error(b"{"), FhirError::NotJson(1));
    assert_eq!(error(b"\xff"), FhirError::NotJson(0));
    assert_eq!(error(b"[]"), FhirError::NoReport);
    assert_eq!(error(br#"{"resourceType":"Patient"}"#), FhirError::NoReport);
    assert_eq!(
        error(br#"{"resourceType":"Bundle","entry":[]}"#),
        FhirError::NoReport
    );
}

#[test]
fn elements_of_another_kind_than_fhirs_are_told_and_break_nothing() {
    let odd = br#"{"resourceType":"DiagnosticReport","status":7,"category":{"a":1},"result":[5,{"reference":"Observation/none"}],
        "performer":[{"identifier":{"system":"other","value":"1"}},{"display":"second"}],"issued":"yesterday"}"#;
    let read = read_fhir(odd).unwrap();
    let told: BTreeSet<_> = read.unheld.iter().map(String::as_str).collect();
    for path in [
        "status",
        "category",
        "result[0]",
        "result[1].reference",
        "performer[0].identifier",
        "performer[1]",
        "issued",
    ] {
        assert!(
            told.contains(format!("DiagnosticReport.{path}").as_str()),
            "{path} of {told:?}"
        );
    }
}

pub(crate) async fn a_bundle_is_published_and_read_back_as_it_was_sent(scene: Scene) {
    let sent = report(1, 1, DAY);
    let read = read_fhir(write_fhir(&sent).as_bytes()).unwrap();
    let outcomes = scene.publish(&read.reports).await;
    assert!(
        matches!(outcomes[0], LineOutcome::Created(_)),
        "{outcomes:?}"
    );
    // The message and the bundle are one report.
    assert_eq!(
        scene.publish(std::slice::from_ref(&sent)).await,
        [LineOutcome::Unchanged(1)]
    );
    let found = scene.find(&search(&sent), DOCTOR).await.remove(0).report;
    assert_eq!(there_and_back(&found), as_sent(&found));
    assert_eq!(as_sent(&found), sent);
    let written = write_fhir(&found);
    assert!(written.contains("urn:banqiao:normalised-value") && written.contains("2026.1"));
}

pub(crate) async fn a_foreign_example_is_refused_with_every_fault(scene: Scene) {
    let read = read_fhir(BLOOD.as_bytes()).unwrap();
    let outcomes = scene.publish(&read.reports).await;
    assert_eq!(
        codes(&outcomes[0]),
        [
            ("institution", "CREDIT_CODE_LENGTH"),
            ("patient.citizen_id", "CITIZEN_ID_LENGTH"),
            ("collected_at", "TIME"),
        ]
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(cut in 0_usize..4_000, with in "\\PC{0,6}") {
        let mut text: Vec<char> = BLOOD.chars().collect();
        let cut = cut.min(text.len() - 1);
        text.splice(cut..=cut, with.chars());
        let text: String = text.into_iter().collect();
        if let Ok(read) = read_fhir(text.as_bytes()) {
            for report in &read.reports {
                let _ = write_fhir(report);
            }
        }
    }

    #[test]
    fn every_synthetic_report_comes_back_whole(index in 0_u64..10_000, patient in 0_u64..10_000) {
        let whole = report(index, patient, DAY);
        prop_assert_eq!(there_and_back(&whole), whole);
    }
}

#[test]
fn marks_are_written_and_those_of_a_sender_are_listed_and_not_held() {
    let sent = report(1, 1, DAY);
    let mut marked = sent.clone();
    marked.results[1].marks = vec![banqiao_proto::lab::v1::HrMark {
        label: "胶东HR".to_owned(),
        round_id: "R1".to_owned(),
        ..Default::default()
    }];
    let written = write_fhir(&marked);
    assert!(written.contains("urn:banqiao:hr-mark") && written.contains("胶东HR"));
    let read = read_fhir(written.as_bytes()).unwrap();
    assert_eq!(read.reports, [sent]);
    assert_eq!(read.unheld.len(), 1, "{:?}", read.unheld);
    assert!(read.unheld[0].contains("extension"), "{:?}", read.unheld);
}
