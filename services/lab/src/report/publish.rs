//! Publishing: what becomes of each report, and what stands after it.

use std::collections::{HashMap, HashSet};

use banqiao_directory::{SpiffeId, TrustDomain};
use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable, Violation};
use banqiao_proto::lab::v1::{
    FieldFault, IgnoredMark, NotNormalised, PublishOutcome, PublishResult, Report, ReportStatus,
};

use super::{AcceptTerms, AcceptedReport, CANCELLED, PUBLISH, ReportKey, Reports};
use crate::quality::MARK_IGNORED;
use crate::store::{ReportHead, ReportWrite, StoreError, Supersede};

const NOT_YOURS: Rule = Rule::design(
    "NOT_YOUR_INSTITUTION",
    "a system publishes the reports of its own institution",
    "laboratory service",
);
const REPORT_STANDS: Rule = Rule::design(
    "REPORT_STANDS",
    "a report that is out is changed by a corrected, amended, appended or cancelled one, not by another final one",
    "FHIR R4 DiagnosticReport.status",
);
const OLDER: Rule = Rule::design(
    "OLDER_ISSUE",
    "what supersedes a report was not issued before it",
    "laboratory service",
);
const WITHDRAWN: Rule = Rule::design(
    "REPORT_WITHDRAWN",
    "a withdrawn report stays withdrawn: publish a new one under another number",
    "FHIR R4 DiagnosticReport.status",
);
const PATIENT_CHANGED: Rule = Rule::design(
    "PATIENT_CHANGED",
    "a correction does not give a report to another patient: cancel it and publish a new one",
    "laboratory service",
);

/// Only the city's own systems publish.
const PUBLISHER_ONLY: Refusal = Refusal::forbidden(
    Rule::design(
        "PUBLISHER_ONLY",
        "only systems of this city's institutions publish their reports",
        "laboratory service",
    )
    .remedy("publish to the service of the institution's own city"),
);

/// The rules of this module.
pub(super) fn rules() -> RuleTable {
    RuleTable::new("Publishing")
        .fields(
            [
                &NOT_YOURS,
                &REPORT_STANDS,
                &OLDER,
                &WITHDRAWN,
                &PATIENT_CHANGED,
            ],
            PUBLISH,
        )
        .refusal(&PUBLISHER_ONLY, PUBLISH)
}

/// Reports that are written in one transaction: a commit costs as much as some hundred rows.
pub const PUBLISH_BATCH: usize = 500;
/// Times that a lost race is run again. Each time another writer has won, so more are not needed in practice.
const ATTEMPTS: u32 = 5;

/// In whose name reports are published.
#[derive(Clone, Debug)]
pub enum Publisher {
    /// The operators of the service, from its command line.
    Operator,
    /// A system; it publishes for its own institution.
    System(SpiffeId),
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq)]
pub enum LineOutcome {
    /// A new report.
    Created(Vec<NotNormalised>),
    /// Refused, with every field and rule.
    Refused(Vec<Violation>),
    /// A newer version of a report.
    Superseded(u32, Vec<NotNormalised>),
    /// It stood already exactly so, in this version.
    Unchanged(u32),
}

impl LineOutcome {
    /// The outcome in an answer.
    pub const fn shown(&self) -> PublishOutcome {
        match self {
            Self::Created(_) => PublishOutcome::Created,
            Self::Refused(_) => PublishOutcome::Refused,
            Self::Superseded(..) => PublishOutcome::Superseded,
            Self::Unchanged(_) => PublishOutcome::Unchanged,
        }
    }

    /// The result of a line in an answer.
    pub fn result(&self, line: u64) -> PublishResult {
        let faults = match self {
            Self::Refused(faults) => faults.iter().map(field_fault).collect(),
            _ => Vec::new(),
        };
        PublishResult {
            line,
            outcome: self.shown().into(),
            faults,
            ignored_marks: Vec::new(),
        }
    }
}

fn field_fault(violation: &Violation) -> FieldFault {
    FieldFault {
        field: violation.field.clone().into_owned(),
        code: violation.rule.code.to_owned(),
        rule: violation.rule.to_string(),
    }
}

/// The marks that a sender put on results: they are not kept (`MARK_IGNORED`).
pub(super) fn ignored_marks(report: Option<&Report>) -> Vec<IgnoredMark> {
    let results = report.map_or(&[][..], |report| &report.results);
    let marked = results
        .iter()
        .zip(0..)
        .filter(|(result, _)| !result.marks.is_empty());
    marked
        .map(|(_, result)| IgnoredMark {
            result,
            code: MARK_IGNORED.code.to_owned(),
            reason: MARK_IGNORED.to_string(),
        })
        .collect()
}

/// How many lines had which outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishCounts {
    /// New reports.
    pub created: u64,
    /// Newer versions.
    pub superseded: u64,
    /// Lines that stood already exactly so.
    pub unchanged: u64,
    /// Refused lines.
    pub refused: u64,
}

impl PublishCounts {
    /// Counts an outcome.
    pub const fn add(&mut self, outcome: &LineOutcome) {
        let count = match outcome {
            LineOutcome::Created(_) => &mut self.created,
            LineOutcome::Refused(_) => &mut self.refused,
            LineOutcome::Superseded(..) => &mut self.superseded,
            LineOutcome::Unchanged(_) => &mut self.unchanged,
        };
        *count += 1;
    }
}

impl Reports {
    /// In whose name a caller publishes: systems of other cities than `home` do not.
    ///
    /// # Errors
    /// The caller is of another city.
    pub fn publisher(&self, caller: &Caller, home: &TrustDomain) -> Result<Publisher, CallError> {
        if caller.client.trust_domain() == home {
            Ok(Publisher::System(caller.client.clone()))
        } else {
            Err(PUBLISHER_ONLY.because("the client is of another city"))
        }
    }

    /// Publishes reports, at best [`PUBLISH_BATCH`] at a time, and gives the outcome of each, in order. A report that is sent again is
    /// unchanged.
    ///
    /// # Errors
    /// See [`StoreError`]. What went through before the error stays: send the reports again.
    pub async fn publish(
        &self,
        lines: &[Option<Report>],
        publisher: &Publisher,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(lines.len());
        let mut rest = lines;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(distinct(rest));
            // Boxed: it holds a transaction and its statements, and every future that publishes would.
            outcomes.extend(Box::pin(self.publish_run(run, publisher)).await?);
            rest = after;
        }
        Ok(outcomes)
    }

    /// Lines that name each report at most once, so that no line depends on another.
    async fn publish_run(
        &self,
        lines: &[Option<Report>],
        publisher: &Publisher,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        let now_us = self.clock().now_us();
        let parsed = self.judge(lines, publisher, now_us);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let keys: Vec<_> = parsed.iter().flatten().map(AcceptedReport::key).collect();
            let known = if keys.is_empty() {
                Vec::new()
            } else {
                self.store().report_heads(&keys).await?
            };
            let known = known
                .into_iter()
                .map(|head| (head.key.clone(), head))
                .collect();
            let (write, outcomes) = decide(&parsed, &known, now_us);
            if write.inserts.is_empty() && write.supersedes.is_empty() {
                return Ok(outcomes);
            }
            match self.store().write_reports(&write).await {
                Ok(()) => return Ok(outcomes),
                Err(StoreError::Conflict) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn judge(
        &self,
        lines: &[Option<Report>],
        publisher: &Publisher,
        now_us: i64,
    ) -> Vec<Result<AcceptedReport, Vec<Violation>>> {
        let terms = AcceptTerms {
            city: self.city(),
            now_us,
            catalogue: self.catalogue(),
            institutions: self.institutions(),
        };
        let judge = |line: &Option<Report>| {
            let report = AcceptedReport::parse(line.as_ref(), &terms)?;
            let owner = self.institutions().of(report.key().institution);
            match publisher {
                Publisher::System(client) if !owner.is_some_and(|owner| owner.owns(client)) => {
                    Err(vec![Violation {
                        field: "institution".into(),
                        rule: &NOT_YOURS,
                    }])
                }
                _ => Ok(report),
            }
        };
        lines.iter().map(judge).collect()
    }
}

fn decide(
    parsed: &[Result<AcceptedReport, Vec<Violation>>],
    known: &HashMap<ReportKey, ReportHead>,
    now_us: i64,
) -> (ReportWrite, Vec<LineOutcome>) {
    let mut write = ReportWrite {
        inserts: Vec::new(),
        supersedes: Vec::new(),
        now_us,
    };
    let mut outcomes = Vec::with_capacity(parsed.len());
    for line in parsed {
        let report = match line {
            Ok(report) => report,
            Err(faults) => {
                outcomes.push(LineOutcome::Refused(faults.clone()));
                continue;
            }
        };
        outcomes.push(match known.get(report.key()) {
            None => {
                write.inserts.push(report.clone());
                LineOutcome::Created(report.not_normalised())
            }
            Some(head) if head.digest == *report.digest() => {
                LineOutcome::Unchanged(head.version.unsigned_abs())
            }
            Some(head) => match follows(head, report) {
                Ok(()) => {
                    write.supersedes.push(Supersede {
                        report: report.clone(),
                        version: head.version,
                    });
                    LineOutcome::Superseded(
                        head.version.unsigned_abs() + 1,
                        report.not_normalised(),
                    )
                }
                Err(faults) => LineOutcome::Refused(faults),
            },
        });
    }
    (write, outcomes)
}

/// Whether a report may supersede the one that stands.
fn follows(head: &ReportHead, report: &AcceptedReport) -> Result<(), Vec<Violation>> {
    let mut faults = Vec::new();
    let mut refuse = |field: &'static str, rule| {
        faults.push(Violation {
            field: field.into(),
            rule,
        });
    };
    if CANCELLED.contains(&head.status) {
        refuse("status", &WITHDRAWN);
    } else if report.status() == ReportStatus::Final {
        refuse("status", &REPORT_STANDS);
    }
    if report.issued_at_us() < head.issued_at_us {
        refuse("issued_at", &OLDER);
    }
    if *report.patient() != head.patient {
        refuse("patient.citizen_id", &PATIENT_CHANGED);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// How many lines from the front name each report at most once: at least one.
fn distinct(lines: &[Option<Report>]) -> usize {
    let mut seen = HashSet::new();
    let repeated = lines.iter().position(|line| {
        line.as_ref().is_some_and(|report| {
            !seen.insert((report.institution.as_str(), report.report_number.as_str()))
        })
    });
    repeated.unwrap_or(lines.len()).max(1)
}
