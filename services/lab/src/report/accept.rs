//! A report as sent, judged field by field, with what the service adds to it.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, Rule, RuleTable, Violation, Violations, civil_date,
    identifier::{CitizenId, CreditCode},
};
use banqiao_proto::lab::v1::{
    Comparator, Concept, NormalisedValue, NotNormalised, Patient, Quantity, Report, ReportStatus,
    Result as LabResult, Sex, result::Value,
};
use prost::Message;
use prost_types::Timestamp;

use super::{CANCELLED, PUBLISH, ReportKey, ReportNumber, microseconds, text};
use crate::{
    catalogue::{Catalogue, ITEM_CODE, ItemCode, LOINC_SYSTEM, Loinc, TestItem, WST886_SYSTEM},
    decimal::Decimal,
    institution::Institutions,
};

const REPORT_MISSING: Rule = Rule::design(
    "REPORT_MISSING",
    "a line carries a report",
    "laboratory service",
);
const OTHER_CITY: Rule = Rule::design(
    "OTHER_CITY",
    "a city's service holds the reports of this city's institutions",
    "laboratory service",
);
const STATUS: Rule = Rule::design(
    "REPORT_STATUS",
    "a report that is out is final, corrected, amended, appended, cancelled or entered in error",
    "FHIR R4 DiagnosticReport.status",
);
const PATIENT: Rule = Rule::design(
    "PATIENT_MISSING",
    "a report names its patient by citizen_id",
    "laboratory service",
);
const PATIENT_NAME: Rule = Rule::design(
    "PATIENT_NAME",
    "a name has 1 to 60 characters and no control characters",
    "GB/T 39046-2020 an..200",
);
const SEX: Rule = Rule::design("SEX", "the sex is one of those of the enum", "GB/T 2261.1");
const BIRTH_DATE: Rule = Rule::design(
    "BIRTH_DATE",
    "a date of birth is empty or the one of the patient's identity number, written YYYY-MM-DD",
    "GB 11643-1999",
);
const TIME: Rule = Rule::design(
    "TIME",
    "采样时间 and 审核时间 are required, lie after 1999 and not in the future",
    "国卫医发〔2022〕6号",
);
const ISSUED_FIRST: Rule = Rule::design(
    "ISSUED_BEFORE_COLLECTED",
    "a report is not issued before its specimen was taken",
    "laboratory service",
);
const RESULTS: Rule = Rule::design(
    "RESULTS",
    "a report has 1 to 500 results; a withdrawn one may have none",
    "laboratory service",
);
const CODE: Rule = Rule::design(
    "RESULT_CODE",
    "a result names its test by a code or a text",
    "FHIR R4 Observation.code",
);
const CODES_DISAGREE: Rule = Rule::design(
    "CODES_DISAGREE",
    "the codes of a result name one test of the catalogue, not several",
    "laboratory service",
);
const VALUE: Rule = Rule::design(
    "VALUE_MISSING",
    "a result has a value: a quantity, a concept or a text",
    "laboratory service",
);
const UNIT: Rule = Rule::design(
    "UNIT_MISSING",
    "a number has a unit: printed or in UCUM (`1` for none)",
    "国卫医发〔2022〕6号",
);
const COMPARATOR: Rule = Rule::design(
    "COMPARATOR",
    "a comparator is one of those of the enum",
    "FHIR R4 Quantity.comparator",
);
const INTERVAL_ORDER: Rule = Rule::design(
    "INTERVAL_ORDER",
    "the lower bound of an interval does not lie above the upper one",
    "laboratory service",
);

/// The rules of this module, beside those of the identifiers in a report.
pub(super) fn rules() -> RuleTable {
    let rules = [
        &REPORT_MISSING,
        &OTHER_CITY,
        &STATUS,
        &PATIENT,
        &PATIENT_NAME,
        &SEX,
        &BIRTH_DATE,
        &TIME,
        &ISSUED_FIRST,
        &RESULTS,
        &CODE,
        &CODES_DISAGREE,
        &VALUE,
        &UNIT,
        &COMPARATOR,
        &INTERVAL_ORDER,
        &text::TEXT,
        &text::LIST,
    ];
    RuleTable::new("Fields of a report").fields(rules, PUBLISH)
}

/// Most results of a report: the largest panels have some 60.
const MAX_RESULTS: usize = 500;
/// 2000-01-01 00:00 UTC: no system that publishes holds older ones.
const EARLIEST_US: i64 = 946_684_800_000_000;
/// Clocks of laboratories and services differ by less.
const SKEW_US: i64 = 300_000_000;

/// What the service needs to know to judge a report.
#[derive(Clone, Copy, Debug)]
pub struct AcceptTerms<'a> {
    /// The city.
    pub city: CityCode,
    /// Now, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
    /// The tests.
    pub catalogue: &'a Catalogue,
    /// The institutions.
    pub institutions: &'a Institutions,
}

/// A report that keeps every rule, with its items found and its values normalised. `Debug` redacts.
#[derive(Clone, PartialEq)]
pub struct AcceptedReport {
    key: ReportKey,
    status: ReportStatus,
    patient: CitizenId,
    collected_at_us: i64,
    issued_at_us: i64,
    items: Vec<ItemCode>,
    digest: [u8; 32],
    record: Report,
}

impl AcceptedReport {
    /// Judges a report.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(report: Option<&Report>, terms: &AcceptTerms<'_>) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let Some(report) = report else {
            faults.add("report", &REPORT_MISSING);
            return Err(faults.into_vec());
        };
        let institution = faults.check("institution", own_institution(report, terms));
        let number = faults.check("report_number", ReportNumber::parse(&report.report_number));
        let status = faults.check("status", parse_status(report.status));
        let patient = parse_patient(report.patient.as_ref(), terms.now_us, &mut faults);
        let collected = faults.check(
            "collected_at",
            parse_time(report.collected_at.as_ref(), terms.now_us),
        );
        let issued = faults.check(
            "issued_at",
            parse_time(report.issued_at.as_ref(), terms.now_us),
        );
        if collected
            .zip(issued)
            .is_some_and(|(collected, issued)| issued < collected)
        {
            faults.add("issued_at", &ISSUED_FIRST);
        }
        let withdrawn = status.is_some_and(|status| CANCELLED.contains(&status));
        if report.results.len() > MAX_RESULTS || (report.results.is_empty() && !withdrawn) {
            faults.add("results", &RESULTS);
        } else {
            for (place, result) in report.results.iter().enumerate() {
                check_result(place, result, terms.catalogue, &mut faults);
            }
            text::check(report, &mut faults);
        }
        let accepted = (|| {
            let mut record = report.clone();
            clear(&mut record);
            let digest = sha256(&record.encode_to_vec());
            let items = complete(&mut record, terms.catalogue);
            Some(Self {
                key: ReportKey {
                    institution: institution?,
                    number: number?,
                },
                status: status?,
                patient: patient?,
                collected_at_us: collected?,
                issued_at_us: issued?,
                items,
                digest,
                record,
            })
        })();
        match accepted {
            Some(accepted) if faults.is_empty() => Ok(accepted),
            _ => Err(faults.into_vec()),
        }
    }

    /// Which report.
    pub const fn key(&self) -> &ReportKey {
        &self.key
    }

    /// Its status.
    pub const fn status(&self) -> ReportStatus {
        self.status
    }

    /// Its patient.
    pub const fn patient(&self) -> &CitizenId {
        &self.patient
    }

    /// When the specimen was taken, in microseconds since 1970-01-01 UTC.
    pub const fn collected_at_us(&self) -> i64 {
        self.collected_at_us
    }

    /// When it was issued, in microseconds since 1970-01-01 UTC.
    pub const fn issued_at_us(&self) -> i64 {
        self.issued_at_us
    }

    /// The items of its results, sorted, each once.
    pub fn items(&self) -> &[ItemCode] {
        &self.items
    }

    /// SHA-256 of what was sent: the same report sent again has the same, also under another catalogue.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The report with its items and normalised values.
    pub const fn record(&self) -> &Report {
        &self.record
    }

    /// The values that stay in the sender's unit alone, with the reason.
    pub fn not_normalised(&self) -> Vec<NotNormalised> {
        let refused = |(place, result): (usize, &LabResult)| {
            let code = &result.normalised.as_ref()?.refused;
            let rule = crate::catalogue::unit_rules().find(|rule| rule.code == code)?;
            Some(NotNormalised {
                result: u32::try_from(place).unwrap_or(u32::MAX),
                code: code.clone(),
                reason: rule.to_string(),
            })
        };
        self.record
            .results
            .iter()
            .enumerate()
            .filter_map(refused)
            .collect()
    }
}

impl fmt::Debug for AcceptedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedReport")
            .field("institution", &self.key.institution)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn own_institution(report: &Report, terms: &AcceptTerms<'_>) -> Result<CreditCode, Broken> {
    let institution = terms.institutions.find(&report.institution)?;
    if institution.city == terms.city {
        Ok(institution.credit_code)
    } else {
        Err(Broken(&OTHER_CITY))
    }
}

fn parse_status(number: i32) -> Result<ReportStatus, Broken> {
    match ReportStatus::try_from(number) {
        Ok(ReportStatus::Unspecified) | Err(_) => Err(Broken(&STATUS)),
        Ok(status) => Ok(status),
    }
}

fn parse_patient(
    patient: Option<&Patient>,
    now_us: i64,
    faults: &mut Violations,
) -> Option<CitizenId> {
    let Some(patient) = patient else {
        faults.add("patient", &PATIENT);
        return None;
    };
    let id = CitizenId::parse(&patient.citizen_id, civil_date(now_us));
    let id = faults.check("patient.citizen_id", id);
    let name = patient.name.trim();
    if name.len() > 240
        || !(1..=60).contains(&name.chars().count())
        || name.chars().any(|c| c.is_control() || c == '\u{FFFD}')
    {
        faults.add("patient.name", &PATIENT_NAME);
    }
    if Sex::try_from(patient.sex).is_err() {
        faults.add("patient.sex", &SEX);
    }
    let born = id.map(|id| birth_date(&id));
    if !patient.birth_date.is_empty() && born.is_some_and(|born| born != patient.birth_date) {
        faults.add("patient.birth_date", &BIRTH_DATE);
    }
    id
}

/// The date of birth in an identity number, `YYYY-MM-DD`.
pub(crate) fn birth_date(id: &CitizenId) -> String {
    let digits = id.as_str();
    format!("{}-{}-{}", &digits[6..10], &digits[10..12], &digits[12..14])
}

fn parse_time(time: Option<&Timestamp>, now_us: i64) -> Result<i64, Broken> {
    let at = time.and_then(microseconds).ok_or(Broken(&TIME))?;
    if (EARLIEST_US..=now_us.saturating_add(SKEW_US)).contains(&at) {
        Ok(at)
    } else {
        Err(Broken(&TIME))
    }
}

fn check_result(place: usize, result: &LabResult, catalogue: &Catalogue, faults: &mut Violations) {
    let path = |field: &str| format!("results[{place}].{field}");
    match &result.code {
        Some(code) if !code.codings.is_empty() || !code.text.trim().is_empty() => {
            check_codes(&path("code"), code, catalogue, faults);
        }
        _ => faults.add(path("code"), &CODE),
    }
    match &result.value {
        Some(Value::Quantity(quantity)) => {
            check_quantity(&path("quantity"), quantity, true, faults)
        }
        Some(Value::Concept(concept))
            if !concept.codings.is_empty() || !concept.text.trim().is_empty() => {}
        Some(Value::Text(text)) if !text.trim().is_empty() => {}
        _ => faults.add(path("value"), &VALUE),
    }
    if result.status != 0 && parse_status(result.status).is_err() {
        faults.add(path("status"), &STATUS);
    }
    for (at, interval) in result.intervals.iter().enumerate() {
        let path = path(&format!("intervals[{at}]"));
        for (name, bound) in [("low", &interval.low), ("high", &interval.high)] {
            if let Some(bound) = bound {
                check_quantity(&format!("{path}.{name}"), bound, false, faults);
            }
        }
        let bound = |bound: &Option<Quantity>| Decimal::parse(&bound.as_ref()?.value).ok();
        if bound(&interval.low)
            .zip(bound(&interval.high))
            .is_some_and(|(low, high)| low > high)
        {
            faults.add(path, &INTERVAL_ORDER);
        }
    }
}

fn check_codes(path: &str, code: &Concept, catalogue: &Catalogue, faults: &mut Violations) {
    let mut named = BTreeSet::new();
    for (at, coding) in code.codings.iter().enumerate() {
        let path = format!("{path}.codings[{at}].code");
        if coding.system == LOINC_SYSTEM {
            faults.check(path, Loinc::parse(&coding.code));
        } else if coding.system == WST886_SYSTEM {
            let parsed = ItemCode::parse(&coding.code);
            faults.check(
                path,
                parsed.and_then(|code| {
                    if code.is_wst886() {
                        Ok(code)
                    } else {
                        Err(Broken(&ITEM_CODE))
                    }
                }),
            );
        } else {
            continue;
        }
        named.extend(catalogue.item(&coding.code).map(|item| item.code.as_str()));
    }
    if named.len() > 1 {
        faults.add(path.to_owned(), &CODES_DISAGREE);
    }
}

fn check_quantity(path: &str, quantity: &Quantity, needs_unit: bool, faults: &mut Violations) {
    faults.check(format!("{path}.value"), Decimal::parse(&quantity.value));
    if Comparator::try_from(quantity.comparator).is_err() {
        faults.add(format!("{path}.comparator"), &COMPARATOR);
    }
    if needs_unit && quantity.unit.trim().is_empty() && quantity.ucum.trim().is_empty() {
        faults.add(format!("{path}.unit"), &UNIT);
    }
}

/// Takes away what only the service may add.
fn clear(report: &mut Report) {
    for result in &mut report.results {
        // A status that says nothing of its own.
        if result.status == report.status {
            result.status = 0;
        }
        result.item_code.clear();
        result.normalised = None;
        result.marks.clear();
    }
}

/// Adds the items and the normalised values, and gives the items.
fn complete(report: &mut Report, catalogue: &Catalogue) -> Vec<ItemCode> {
    let mut items = BTreeSet::new();
    for result in &mut report.results {
        let Some(item) = result.code.as_ref().and_then(|code| catalogue.find(code)) else {
            continue;
        };
        item.code.as_str().clone_into(&mut result.item_code);
        items.insert(item.code.clone());
        if let Some(Value::Quantity(quantity)) = &result.value {
            result.normalised = Some(normalised(catalogue, item, quantity));
        }
    }
    items.into_iter().collect()
}

fn normalised(catalogue: &Catalogue, item: &TestItem, quantity: &Quantity) -> NormalisedValue {
    let rule_version = catalogue.version().to_owned();
    match catalogue.normalise(item, quantity) {
        Ok(normalised) => NormalisedValue {
            value: normalised.value.to_string(),
            ucum: item.ucum.clone(),
            factor: normalised.factor,
            offset: normalised.offset.to_string(),
            rule_version,
            refused: String::new(),
        },
        Err(rule) => NormalisedValue {
            rule_version,
            refused: rule.code.to_owned(),
            ..NormalisedValue::default()
        },
    }
}
