//! Whether a result can be recognised: a pure function from what was found to every reason against it.

use banqiao_directory::CityCode;
use banqiao_kit::{Rule, identifier::CreditCode};
use banqiao_proto::lab::v1::{
    Actor, Concept, FoundReport, HrMark, MarkScope, Report, ReportStatus, Result as LabResult,
    ResultAssessment, Verdict, VerdictReason, result::Value,
};

use super::{rule, specimen};
use crate::{
    catalogue::{Catalogue, TestItem},
    institution::{Institutions, Level},
    quality::covers,
    report::{CANCELLED, microseconds, timestamp},
};

const DAY_US: i64 = 86_400_000_000;
/// Clocks of laboratories and services differ by less.
const SKEW_US: i64 = 300_000_000;

/// What an assessment rests on beside the report.
#[derive(Clone, Copy, Debug)]
pub struct AssessTerms<'a> {
    /// City of the institution that asks.
    pub city: CityCode,
    /// Now, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
    /// The tests, as this city knows them.
    pub catalogue: &'a Catalogue,
    /// The institutions.
    pub institutions: &'a Institutions,
}

/// What becomes of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessed {
    /// Position of the result.
    pub result: u32,
    /// Code of its item; empty where it has none.
    pub item_code: String,
    /// Every rule that speaks against it, with the path of the field that breaks it; empty where none does.
    pub reasons: Vec<(&'static Rule, String)>,
    /// Marks that count in the asking city.
    pub marks: Vec<HrMark>,
    /// End of the item's window, in microseconds since 1970-01-01 UTC.
    pub fit_until_us: Option<i64>,
}

impl Assessed {
    /// The advice.
    pub const fn verdict(&self) -> Verdict {
        if self.reasons.is_empty() {
            Verdict::Recognisable
        } else {
            Verdict::NotRecognisable
        }
    }

    /// The assessment in an answer.
    pub fn shown(self) -> ResultAssessment {
        let verdict = self.verdict();
        let reasons = self.reasons.into_iter().map(|(rule, field)| VerdictReason {
            code: rule.code.to_owned(),
            rule: rule.text.to_owned(),
            source: rule.source.to_owned(),
            certainty: rule.certainty.tag().to_string(),
            field,
        });
        ResultAssessment {
            result: self.result,
            item_code: self.item_code,
            verdict: verdict.into(),
            reasons: reasons.collect(),
            marks: self.marks,
            fit_until: self.fit_until_us.map(timestamp),
        }
    }
}

/// The reasons so far.
#[derive(Default)]
struct Reasons(Vec<(&'static Rule, String)>);

impl Reasons {
    fn add(&mut self, rule: &'static Rule, field: impl Into<String>) {
        self.0.push((rule, field.into()));
    }
}

/// Assesses the result at a place of a found report.
pub fn assess_result(
    found: &FoundReport,
    report: &Report,
    (place, result): (u32, &LabResult),
    terms: &AssessTerms<'_>,
) -> Assessed {
    let mut reasons = Reasons::default();
    let path = |field: &str| format!("results[{place}].{field}");
    let withdrawn = |status: i32| {
        ReportStatus::try_from(status).is_ok_and(|status| CANCELLED.contains(&status))
    };
    if withdrawn(report.status) || report.status == 0 {
        reasons.add(&rule::WITHDRAWN, "status");
    }
    if withdrawn(result.status) {
        reasons.add(&rule::WITHDRAWN, path("status"));
    }
    judge_institution(found, report, terms, &mut reasons);
    let item = item_of(result, terms.catalogue);
    let collected_us = report.collected_at.as_ref().and_then(microseconds);
    let issued_us = report.issued_at.as_ref().and_then(microseconds);
    judge_fields(report, result, &path, &mut reasons);
    let mut fit_until_us = None;
    match item {
        None => reasons.add(&rule::NO_ITEM, path("code")),
        Some(item) => {
            let window_us = i64::from(item.window_days) * DAY_US;
            fit_until_us = collected_us.map(|at| at.saturating_add(window_us));
            let fits = |until: i64| {
                let begins = until.saturating_sub(window_us).saturating_sub(SKEW_US);
                begins <= terms.now_us && terms.now_us < until
            };
            if fit_until_us.is_some_and(|until| !fits(until)) {
                reasons.add(&rule::WINDOW, "collected_at");
            }
            judge_value(item, report, result, terms.catalogue, &path, &mut reasons);
        }
    }
    let marks = judge_marks(result, issued_us, terms, path("marks"), &mut reasons);
    Assessed {
        result: place,
        item_code: item.map_or_else(String::new, |item| item.code.as_str().to_owned()),
        reasons: reasons.0,
        marks,
        fit_until_us,
    }
}

/// The item of this city's catalogue: by the result's codes, or by the item that the other city found.
pub(super) fn item_of<'a>(result: &LabResult, catalogue: &'a Catalogue) -> Option<&'a TestItem> {
    let by_codes = result.code.as_ref().and_then(|code| catalogue.find(code));
    by_codes.or_else(|| catalogue.item(&result.item_code))
}

fn judge_institution(
    found: &FoundReport,
    report: &Report,
    terms: &AssessTerms<'_>,
    reasons: &mut Reasons,
) {
    let code = CreditCode::parse(&report.institution);
    let institution = code.ok().and_then(|code| terms.institutions.of(code));
    let Some(institution) = institution else {
        reasons.add(&rule::NO_INSTITUTION, "institution");
        return;
    };
    if institution.city.as_str() != found.city {
        reasons.add(&rule::CITY, "institution");
    }
    if institution.level < Level::Second {
        reasons.add(&rule::LEVEL, "institution");
    }
}

fn judge_fields(
    report: &Report,
    result: &LabResult,
    path: &impl Fn(&str) -> String,
    reasons: &mut Reasons,
) {
    let actor = |actor: &Option<Actor>| {
        let actor = actor.as_ref();
        actor.is_some_and(|actor| !actor.name.is_empty() || !actor.reference.is_empty())
    };
    let concept = |concept: &Option<Concept>| {
        let concept = concept.as_ref();
        concept.is_some_and(|it| !it.text.trim().is_empty() || !it.codings.is_empty())
    };
    let interval = result.intervals.iter().any(|interval| {
        interval.low.is_some() || interval.high.is_some() || !interval.text.trim().is_empty()
    });
    let unit = match &result.value {
        Some(Value::Quantity(quantity)) => {
            !quantity.unit.trim().is_empty() || !quantity.ucum.trim().is_empty()
        }
        _ => true,
    };
    let missing = [
        (
            report
                .collected_at
                .as_ref()
                .and_then(microseconds)
                .is_none(),
            "collected_at".to_owned(),
        ),
        (
            report.issued_at.as_ref().and_then(microseconds).is_none(),
            "issued_at".to_owned(),
        ),
        (
            !specimen::is_stated(specimen_of(report, result)),
            path("specimen"),
        ),
        (
            !concept(&result.method) && !actor(&result.device),
            path("method"),
        ),
        (!unit, path("quantity.unit")),
        (!interval, path("intervals")),
        (
            !actor(&result.performer) && !actor(&report.reviewer),
            path("performer"),
        ),
    ];
    for (_, field) in missing.into_iter().filter(|(missing, _)| *missing) {
        reasons.add(&rule::FIELD, field);
    }
}

/// The specimen of a result: its own, or the report's.
fn specimen_of<'a>(report: &'a Report, result: &'a LabResult) -> Option<&'a Concept> {
    result.specimen.as_ref().or(report.specimen.as_ref())
}

fn judge_value(
    item: &TestItem,
    report: &Report,
    result: &LabResult,
    catalogue: &Catalogue,
    path: &impl Fn(&str) -> String,
    reasons: &mut Reasons,
) {
    let specimen = specimen_of(report, result).filter(|it| specimen::is_stated(Some(it)));
    if specimen.is_some_and(|specimen| !specimen::fits(specimen, &item.specimens)) {
        reasons.add(&rule::SPECIMEN, path("specimen"));
    }
    match &result.value {
        Some(Value::Quantity(quantity)) => {
            let stated = !quantity.unit.trim().is_empty() || !quantity.ucum.trim().is_empty();
            // Without a unit it is a missing field.
            if stated && catalogue.normalise(item, quantity).is_err() {
                reasons.add(&rule::UNIT, path("quantity.unit"));
            }
        }
        // Items that only LOINC lists are numbers too.
        _ if item.code.as_str().ends_with('A') || !item.code.is_wst886() => {
            reasons.add(&rule::VALUE, path("value"));
        }
        _ => {}
    }
}

/// The marks that count in the asking city, and what is wrong with them.
fn judge_marks(
    result: &LabResult,
    issued_us: Option<i64>,
    terms: &AssessTerms<'_>,
    path: String,
    reasons: &mut Reasons,
) -> Vec<HrMark> {
    if result.marks.is_empty() {
        reasons.add(&rule::NO_MARK, path);
        return Vec::new();
    }
    let counts = |mark: &&HrMark| covers(mark.scope(), &mark.scope_code, terms.city);
    let here: Vec<_> = result.marks.iter().filter(counts).collect();
    if here.is_empty() {
        reasons.add(&rule::SCOPE, path);
        return Vec::new();
    }
    let in_force = |mark: &&HrMark| {
        let at = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(microseconds);
        let (from, until) = (at(&mark.valid_from), at(&mark.valid_until));
        let span = from
            .zip(until)
            .filter(|_| mark.scope() != MarkScope::Unspecified);
        span.is_some_and(|(from, until)| {
            let within = |at: i64| from <= at && at < until;
            within(terms.now_us) && issued_us.is_none_or(within)
        })
    };
    let good: Vec<_> = here.into_iter().filter(in_force).cloned().collect();
    if good.is_empty() {
        reasons.add(&rule::EXPIRED, path);
    }
    good
}
