//! A report as a FHIR R4 bundle.

use banqiao_proto::lab::v1::{
    Actor, Coding, Comparator, Concept, HrMark, NormalisedValue, Patient, Quantity,
    ReferenceInterval, Report, ReportStatus, Result, Sex, result::Value,
};
use jiff::{Timestamp, tz::Offset};

use super::{
    CITIZEN_SYSTEM, COMPARATORS, CREDIT_SYSTEM, MARK_EXTENSION, NORMALISED_EXTENSION,
    REPORT_NUMBER_SYSTEM, SEXES, STATUSES, UCUM_SYSTEM, code_of, json::Json,
};

/// Base of the `fullUrl`s inside a bundle; nothing is served there.
const BASE: &str = "https://lab.banqiao.invalid";

/// Members of an object under construction: what is empty is left out, as FHIR asks.
struct Members(Vec<(String, Json)>);

impl Members {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn of(resource: &str, id: &str) -> Self {
        Self::new().text("resourceType", resource).text("id", id)
    }

    fn put(mut self, name: &str, value: Json) -> Self {
        let empty = match &value {
            Json::List(values) => values.is_empty(),
            Json::Members(members) => members.is_empty(),
            Json::Text(text) => text.is_empty(),
            Json::Null => true,
            Json::Bool(_) | Json::Number(_) => false,
        };
        if !empty {
            self.0.push((name.to_owned(), value));
        }
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.put(name, Json::text(text))
    }

    fn list(self, name: &str, values: impl Iterator<Item = Json>) -> Self {
        self.put(name, Json::List(values.collect()))
    }

    fn json(self) -> Json {
        Json::Members(self.0)
    }
}

/// Writes a report with everything that the service holds of it.
pub fn write(report: &Report) -> String {
    let mut entries = vec![entry("DiagnosticReport", "r", diagnostic_report(report))];
    if let Some(patient) = &report.patient {
        entries.push(entry("Patient", "p", patient_resource(patient)));
    }
    if let Some(specimen) = &report.specimen {
        entries.push(entry("Specimen", "s", specimen_resource("s", specimen)));
    }
    for (place, result) in report.results.iter().enumerate() {
        let id = format!("o{place}");
        entries.push(entry("Observation", &id, observation(&id, result, report)));
        if let Some(specimen) = &result.specimen {
            let id = format!("s{place}");
            entries.push(entry("Specimen", &id, specimen_resource(&id, specimen)));
        }
    }
    let bundle = Members::new()
        .text("resourceType", "Bundle")
        .text("type", "collection")
        .put("entry", Json::List(entries));
    let mut text = String::new();
    bundle.json().render(&mut text);
    text
}

fn entry(resource: &str, id: &str, content: Json) -> Json {
    Members::new()
        .text("fullUrl", &format!("{BASE}/{resource}/{id}"))
        .put("resource", content)
        .json()
}

fn diagnostic_report(report: &Report) -> Json {
    let identifier = |system: &str, value: &str| {
        Members::new()
            .text("system", system)
            .text("value", value)
            .json()
    };
    let own = identifier(REPORT_NUMBER_SYSTEM, &report.report_number);
    let others = report.identifiers.iter();
    let others = others.map(|other| identifier(&other.system, &other.value));
    let credit = identifier(CREDIT_SYSTEM, &report.institution);
    let performer = report.performer.clone().unwrap_or_default();
    let performer = reference(&performer.reference, &performer.name);
    let performer = match performer {
        Json::Members(members) => {
            let credit = if report.institution.is_empty() {
                Json::Null
            } else {
                credit
            };
            Members(members).put("identifier", credit)
        }
        _ => Members::new(),
    };
    let number = (!report.report_number.is_empty()).then_some(own);
    let results =
        (0..report.results.len()).map(|place| reference(&format!("Observation/o{place}"), ""));
    Members::of("DiagnosticReport", "r")
        .list("identifier", number.into_iter().chain(others))
        .text("status", status(report.status))
        .list("category", report.categories.iter().map(concept))
        .put("code", optional_concept(report.code.as_ref()))
        .put("subject", subject(report))
        .text("effectiveDateTime", &instant(report.collected_at.as_ref()))
        .text("issued", &instant(report.issued_at.as_ref()))
        .list(
            "performer",
            Some(performer.json()).filter(filled).into_iter(),
        )
        .list(
            "resultsInterpreter",
            report.reviewer.iter().map(actor).filter(filled),
        )
        .list(
            "specimen",
            report.specimen.iter().map(|_| reference("Specimen/s", "")),
        )
        .list("result", results)
        .text("conclusion", &report.conclusion)
        .json()
}

fn filled(json: &Json) -> bool {
    !matches!(json, Json::Members(members) if members.is_empty())
}

/// The reference of the sender itself is in the patient's resource.
fn subject(report: &Report) -> Json {
    report
        .patient
        .as_ref()
        .map_or(Json::Null, |_| reference("Patient/p", ""))
}

fn patient_resource(patient: &Patient) -> Json {
    let identifier = Members::new()
        .text("system", CITIZEN_SYSTEM)
        .text("value", &patient.citizen_id)
        .json();
    let identifier = (!patient.citizen_id.is_empty()).then_some(identifier);
    let name = Members::new().text("text", &patient.name).json();
    let link = Members::new()
        .put("other", reference(&patient.reference, ""))
        .text("type", "seealso")
        .json();
    let link = (!patient.reference.is_empty()).then_some(link);
    let sex = Sex::try_from(patient.sex).ok();
    Members::of("Patient", "p")
        .list("identifier", identifier.into_iter())
        .list("name", Some(name).filter(filled).into_iter())
        .text(
            "gender",
            sex.and_then(|sex| code_of(&SEXES, sex)).unwrap_or_default(),
        )
        .text("birthDate", &patient.birth_date)
        .list("link", link.into_iter())
        .json()
}

fn specimen_resource(id: &str, specimen: &Concept) -> Json {
    Members::of("Specimen", id)
        .put("type", concept(specimen))
        .json()
}

fn observation(id: &str, result: &Result, report: &Report) -> Json {
    let shown = if result.status == 0 {
        report.status
    } else {
        result.status
    };
    let extension = result
        .normalised
        .iter()
        .map(|value| normalised(&result.item_code, value));
    let extension = extension.chain(result.marks.iter().map(mark));
    let members = Members::of("Observation", id)
        .list("extension", extension)
        .text("status", status(shown))
        .put("code", optional_concept(result.code.as_ref()))
        .put("subject", subject(report))
        .list(
            "performer",
            result.performer.iter().map(actor).filter(filled),
        );
    let members = match &result.value {
        Some(Value::Quantity(value)) => members.put("valueQuantity", quantity(value)),
        Some(Value::Concept(value)) => members.put("valueCodeableConcept", concept(value)),
        Some(Value::Text(value)) => members.text("valueString", value),
        None => members,
    };
    let specimen = result
        .specimen
        .as_ref()
        .map(|_| format!("Specimen/s{}", &id[1..]));
    let note = |text: &String| Members::new().text("text", text).json();
    members
        .list("interpretation", result.interpretations.iter().map(concept))
        .list("note", result.comments.iter().map(note))
        .put("method", optional_concept(result.method.as_ref()))
        .put(
            "specimen",
            specimen.map_or(Json::Null, |specimen| reference(&specimen, "")),
        )
        .put("device", result.device.as_ref().map_or(Json::Null, actor))
        .list("referenceRange", result.intervals.iter().map(interval))
        .json()
}

fn mark(mark: &HrMark) -> Json {
    let until = instant(mark.valid_until.as_ref());
    let parts = [
        ("label", mark.label.as_str()),
        ("scope", mark.scope().as_str_name()),
        ("scope-code", &mark.scope_code),
        ("eqa-scheme", &mark.scheme),
        ("eqa-round", &mark.round_id),
        ("valid-until", &until),
    ];
    extension(MARK_EXTENSION, &parts)
}

fn normalised(item_code: &str, value: &NormalisedValue) -> Json {
    let parts = [
        ("item", item_code),
        ("value", &value.value),
        ("ucum", &value.ucum),
        ("factor", &value.factor),
        ("offset", &value.offset),
        ("rule-version", &value.rule_version),
        ("refused", &value.refused),
    ];
    extension(NORMALISED_EXTENSION, &parts)
}

/// An extension of parts; what is empty is left out.
fn extension(url: &str, parts: &[(&str, &str)]) -> Json {
    let part = |(url, text): &(&str, &str)| {
        Members::new()
            .text("url", url)
            .text("valueString", text)
            .json()
    };
    let parts = parts.iter().filter(|(_, text)| !text.is_empty());
    Members::new()
        .list("extension", parts.map(part))
        .text("url", url)
        .json()
}

fn interval(interval: &ReferenceInterval) -> Json {
    Members::new()
        .put("low", interval.low.as_ref().map_or(Json::Null, quantity))
        .put("high", interval.high.as_ref().map_or(Json::Null, quantity))
        .put("type", optional_concept(interval.kind.as_ref()))
        .list("appliesTo", interval.applies_to.iter().map(concept))
        .text("text", &interval.text)
        .json()
}

fn quantity(quantity: &Quantity) -> Json {
    let comparator = Comparator::try_from(quantity.comparator).ok();
    let comparator = comparator.and_then(|comparator| code_of(&COMPARATORS, comparator));
    let system = if quantity.ucum.is_empty() {
        ""
    } else {
        UCUM_SYSTEM
    };
    Members::new()
        .put("value", Json::Number(quantity.value.clone()))
        .text("comparator", comparator.unwrap_or_default())
        .text("unit", &quantity.unit)
        .text("system", system)
        .text("code", &quantity.ucum)
        .json()
}

fn optional_concept(value: Option<&Concept>) -> Json {
    value.map_or(Json::Null, concept)
}

fn concept(concept: &Concept) -> Json {
    let coding = |coding: &Coding| {
        Members::new()
            .text("system", &coding.system)
            .text("code", &coding.code)
            .text("display", &coding.display)
            .json()
    };
    Members::new()
        .list("coding", concept.codings.iter().map(coding))
        .text("text", &concept.text)
        .json()
}

fn actor(actor: &Actor) -> Json {
    reference(&actor.reference, &actor.name)
}

fn reference(reference: &str, display: &str) -> Json {
    Members::new()
        .text("reference", reference)
        .text("display", display)
        .json()
}

fn status(number: i32) -> &'static str {
    let status = ReportStatus::try_from(number).ok();
    status
        .and_then(|status| code_of(&STATUSES, status))
        .unwrap_or("unknown")
}

/// The time in the cities, UTC+8.
fn instant(time: Option<&prost_types::Timestamp>) -> String {
    let at = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    let offset = Offset::constant(8);
    at.map_or_else(String::new, |at| at.display_with_offset(offset).to_string())
}
