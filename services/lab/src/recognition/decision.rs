//! A decision as asked for, judged field by field.

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Violation, Violations, identifier::CreditCode};
use banqiao_proto::lab::v1::{
    Decision, DecisionOutcome, DeliverDecisionRequest, RecordDecisionRequest, RepeatReason, Verdict,
};
use prost::Message;
use uuid::Uuid;

use super::rule;
use crate::{
    catalogue::ItemCode,
    institution::{Institution, Institutions},
    report::{ReportKey, ReportNumber, microseconds},
};

/// The six reasons for which a test is repeated.
pub const fn repeat_reasons() -> [RepeatReason; 6] {
    [
        RepeatReason::ConditionChanged,
        RepeatReason::RapidlyChanging,
        RepeatReason::BeforeMajorIntervention,
        RepeatReason::Emergency,
        RepeatReason::ForensicOrDisability,
        RepeatReason::Other,
    ]
}

/// What was decided about which result, without numbers and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDecision {
    /// Who decided.
    pub institution: CreditCode,
    /// City of the report.
    pub report_city: CityCode,
    /// The report.
    pub report: ReportKey,
    /// Version that was read.
    pub report_version: u32,
    /// The item.
    pub item: ItemCode,
}

/// A request to record a decision, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordDecision {
    /// The idempotency key, within the asking client.
    pub request_id: Uuid,
    /// SHA-256 of the request.
    pub digest: [u8; 32],
    /// About which result.
    pub about: NewDecision,
    /// The decision; number and time come with its recording.
    pub decision: Decision,
}

impl RecordDecision {
    /// Judges a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(
        request: &RecordDecisionRequest,
        institutions: &Institutions,
    ) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = Uuid::try_parse(&request.request_id);
        let request_id = request_id.map_err(|_| Broken(&rule::REQUEST_ID));
        let request_id = faults.check("request_id", request_id);
        let decision = Decision {
            decision_id: String::new(),
            institution: request.institution.clone(),
            report_institution: request.report_institution.clone(),
            report_number: request.report_number.clone(),
            report_version: request.report_version,
            item_code: request.item_code.clone(),
            outcome: request.outcome,
            reason: request.reason,
            reason_text: request.reason_text.trim().to_owned(),
            patient_informed: request.patient_informed,
            doctor_id: request.doctor_id.trim().to_owned(),
            advised: request.advised,
            decided_at: None,
        };
        let about = judge(&decision, institutions, &mut faults);
        let doctor = decision.doctor_id.chars().count();
        if !(1..=50).contains(&doctor) || decision.doctor_id.chars().any(char::is_control) {
            faults.add("doctor_id", &rule::DOCTOR);
        }
        match (request_id, about) {
            (Some(request_id), Some((_, about))) if faults.is_empty() => Ok(Self {
                request_id,
                digest: sha256(&request.encode_to_vec()),
                about,
                decision,
            }),
            _ => Err(faults.into_vec()),
        }
    }
}

/// A delivered decision, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Delivered<'a> {
    pub(super) id: Uuid,
    pub(super) digest: [u8; 32],
    pub(super) decided_at_us: i64,
    pub(super) deciding: &'a Institution,
    pub(super) about: NewDecision,
    pub(super) decision: Decision,
}

impl<'a> Delivered<'a> {
    /// Judges a delivery.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub(super) fn parse(
        request: &DeliverDecisionRequest,
        institutions: &'a Institutions,
    ) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let Some(decision) = &request.decision else {
            faults.add("decision", &rule::DECISION_FORM);
            return Err(faults.into_vec());
        };
        let id = Uuid::try_parse(&decision.decision_id);
        let id = faults.check("decision_id", id.map_err(|_| Broken(&rule::DECISION_FORM)));
        let decided = decision.decided_at.as_ref().and_then(microseconds);
        let decided = faults.check("decided_at", decided.ok_or(Broken(&rule::DECISION_FORM)));
        let about = judge(decision, institutions, &mut faults);
        match (id, decided, about) {
            (Some(id), Some(decided_at_us), Some((deciding, about))) if faults.is_empty() => {
                Ok(Self {
                    id,
                    digest: sha256(&decision.encode_to_vec()),
                    decided_at_us,
                    deciding,
                    about,
                    decision: decision.clone(),
                })
            }
            _ => Err(faults
                .into_vec()
                .into_iter()
                .map(|Violation { field, rule }| Violation {
                    field: format!("decision.{field}").into(),
                    rule,
                })
                .collect()),
        }
    }
}

/// Judges what both ways of a decision have in common.
fn judge<'a>(
    decision: &Decision,
    institutions: &'a Institutions,
    faults: &mut Violations,
) -> Option<(&'a Institution, NewDecision)> {
    let deciding = faults.check("institution", institutions.find(&decision.institution));
    let issuing = institutions.find(&decision.report_institution);
    let issuing = faults.check("report_institution", issuing);
    let number = ReportNumber::parse(&decision.report_number);
    let number = faults.check("report_number", number);
    if decision.report_version == 0 {
        faults.add("report_version", &rule::VERSION);
    }
    let item = faults.check("item_code", ItemCode::parse(&decision.item_code));
    judge_outcome(decision, faults);
    if Verdict::try_from(decision.advised).is_err() {
        faults.add("advised", &rule::ADVISED);
    }
    let (deciding, issuing) = (deciding?, issuing?);
    let about = NewDecision {
        institution: deciding.credit_code,
        report_city: issuing.city,
        report: ReportKey {
            institution: issuing.credit_code,
            number: number?,
        },
        report_version: decision.report_version,
        item: item?,
    };
    Some((deciding, about))
}

fn judge_outcome(decision: &Decision, faults: &mut Violations) {
    let outcome = DecisionOutcome::try_from(decision.outcome).unwrap_or_default();
    let reason = RepeatReason::try_from(decision.reason).ok();
    match outcome {
        DecisionOutcome::Unspecified => faults.add("outcome", &rule::OUTCOME),
        DecisionOutcome::Recognised => {
            if decision.reason != 0 {
                faults.add("reason", &rule::REASON);
            }
        }
        DecisionOutcome::Repeated => {
            if !reason.is_some_and(|reason| repeat_reasons().contains(&reason)) {
                faults.add("reason", &rule::REASON);
            }
            if !decision.patient_informed && reason != Some(RepeatReason::Emergency) {
                faults.add("patient_informed", &rule::INFORMED);
            }
        }
    }
    let text = decision.reason_text.as_str();
    let needed = reason == Some(RepeatReason::Other);
    let sound = text.len() <= 2_000
        && text.chars().count() <= 500
        && !text.chars().any(|c| c.is_control() && c != '\n');
    let allowed = outcome != DecisionOutcome::Recognised || text.is_empty();
    if !sound || !allowed || (needed && text.is_empty()) {
        faults.add("reason_text", &rule::REASON_TEXT);
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
