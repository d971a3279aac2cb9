//! Finding and reading: the reader is recorded before the report is given.

use banqiao_kit::{
    Broken, CallError, Caller, Refusal, Rule, RuleTable, Violation, Violations, civil_date,
    identifier::CitizenId,
};
use banqiao_proto::lab::v1::FindReportsRequest;
use prost_types::Timestamp;

use super::{ReportKey, ReportNumber, Reports, microseconds};
use crate::{
    catalogue::ItemCode,
    store::{NewReading, ReportSearch, StoredReport},
};

/// Reports that a search gives when it does not say how many.
pub const DEFAULT_FOUND: u32 = 100;
/// Most reports of a search: more than a patient has in years.
pub const MAX_FOUND: u32 = 500;
/// Most items of a search.
const MAX_ITEMS: usize = 100;

const ITEMS: Rule = Rule::design(
    "ITEMS",
    "a search names at most 100 items",
    "laboratory service",
);
const WINDOW: Rule = Rule::design(
    "WINDOW",
    "a time window has times that exist and does not end before it begins",
    "laboratory service",
);
const LIMIT: Rule = Rule::design(
    "LIMIT",
    "a search gives at most 500 reports",
    "laboratory service",
);

/// There is no such report.
const REPORT_UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "REPORT_UNKNOWN",
        "a report is read from the city that holds it",
        "laboratory service",
    )
    .remedy("ask the city of the institution, with the number as the institution gave it"),
);

/// The rules of this module.
pub(super) fn rules() -> RuleTable {
    RuleTable::new("Finding and reading")
        .fields([&ITEMS, &WINDOW, &LIMIT], &["FindReports"])
        .refusal(&REPORT_UNKNOWN, &["ReadReport", "ReadFhir"])
}

/// A parsed search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindReports(ReportSearch);

impl FindReports {
    /// Parses a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &FindReportsRequest, now_us: i64) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let patient = CitizenId::parse(&request.patient_id, civil_date(now_us));
        let patient = faults.check("patient_id", patient);
        if request.item_codes.len() > MAX_ITEMS {
            faults.add("item_codes", &ITEMS);
        }
        let mut items = Vec::new();
        for (place, code) in request.item_codes.iter().take(MAX_ITEMS).enumerate() {
            items.extend(faults.check(format!("item_codes[{place}]"), ItemCode::parse(code)));
        }
        let from = faults.check(
            "collected_from",
            bound(request.collected_from.as_ref(), i64::MIN),
        );
        let before = faults.check(
            "collected_before",
            bound(request.collected_before.as_ref(), i64::MAX),
        );
        if from.zip(before).is_some_and(|(from, before)| before < from) {
            faults.add("collected_before", &WINDOW);
        }
        if request.limit > MAX_FOUND {
            faults.add("limit", &LIMIT);
        }
        let limit = if request.limit == 0 {
            DEFAULT_FOUND
        } else {
            request.limit
        };
        match (patient, from, before) {
            (Some(patient), Some(from_us), Some(before_us)) if faults.is_empty() => {
                Ok(Self(ReportSearch {
                    patient,
                    items,
                    from_us,
                    before_us,
                    cancelled: request.include_cancelled,
                    limit: limit.into(),
                }))
            }
            _ => Err(faults.into_vec()),
        }
    }
}

fn bound(time: Option<&Timestamp>, open: i64) -> Result<i64, Broken> {
    match time {
        None => Ok(open),
        Some(time) => microseconds(time).ok_or(Broken(&WINDOW)),
    }
}

impl Reports {
    /// Finds a patient's reports for a caller, newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find(
        &self,
        search: &FindReports,
        caller: &Caller,
    ) -> Result<Vec<StoredReport>, CallError> {
        let keys = self.store().find_reports(&search.0).await?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self
            .store()
            .read_reports(&keys, &self.reading(caller))
            .await?;
        self.put_marks(&mut found).await?;
        Ok(found)
    }

    /// Reads a report for a caller.
    ///
    /// # Errors
    /// There is no such report, or the store fails.
    pub async fn read(&self, key: ReportKey, caller: &Caller) -> Result<StoredReport, CallError> {
        let mut found = self
            .store()
            .read_reports(&[key], &self.reading(caller))
            .await?;
        self.put_marks(&mut found).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| REPORT_UNKNOWN.because("this city's service holds no such report"))
    }

    /// A report of one of the register's institutions, as a request names it.
    ///
    /// # Errors
    /// Each field that breaks a rule.
    pub fn key(&self, institution: &str, number: &str) -> Result<ReportKey, CallError> {
        let mut faults = Violations::new();
        let institution = faults.check("institution", self.institutions().find(institution));
        let number = faults.check("report_number", ReportNumber::parse(number));
        match (institution, number) {
            (Some(institution), Some(number)) => Ok(ReportKey {
                institution: institution.credit_code,
                number,
            }),
            _ => Err(CallError::CallerInvalid(faults.into_vec())),
        }
    }

    fn reading(&self, caller: &Caller) -> NewReading {
        NewReading {
            client: caller.client.clone(),
            exchange: caller.exchange,
            now_us: self.clock().now_us(),
        }
    }
}
