//! Requests, parsed field by field.

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Rule, RuleTable, Violation, Violations, identifier::CitizenId};
use banqiao_proto::card::v1::{
    ConcludeInvestigationRequest, EligibilityMethod, InsuranceScheme, InvestigationOutcome,
    LifeEvidenceType, LossEvidenceType, ReportLifeRequest, ReportLossSignRequest,
    ReportUnreachableRequest,
};
use jiff::civil::Date;
use uuid::Uuid;

use super::{EligibilityTerms, PersonKey, decide::valid_until, record::Evidence};
use crate::{
    card::parse_date,
    entitlement::{FUTURE, parse_scheme},
    request::{parse_city, parse_request_id},
};

const SCHEME: Rule = Rule::quoted(
    "ELIGIBILITY_SCHEME",
    "eligibility is checked for 养老, 失业, 工伤 and 供养亲属",
    "烟台市待遇领取资格认证, 2021",
);
const METHOD: Rule = Rule::quoted(
    "ELIGIBILITY_METHOD",
    "a check is made by data match, face, office or an entrusted body",
    "社会保险经办条例 art. 26",
);
const LIFE_EVIDENCE: Rule = Rule::design(
    "LIFE_EVIDENCE",
    "the kind of evidence fits the method: register activity to a data match, a live face to a face check, \
     seen in person to an office or an entrusted body",
    "card service; 个人信息保护法 art. 6",
);
const LOSS_EVIDENCE: Rule = Rule::design(
    "LOSS_EVIDENCE",
    "a sign of loss names its kind, and is not found by a face check",
    "card service; 社会保险经办条例 art. 26",
);
const TOO_OLD: Rule = Rule::design(
    "CHECK_TOO_OLD",
    "a check is reported while it is recognised",
    "card service, setting eligibility.validity_months",
)
.remedy("check the person again");
const OUTCOME: Rule = Rule::quoted(
    "INVESTIGATION_OUTCOME",
    "an investigation finds that the person is entitled or that the loss is established",
    "社会保险经办条例 art. 26",
);
const ACTOR: Rule = Rule::quoted(
    "INVESTIGATION_ACTOR",
    "who decided is recorded: 1 to 64 characters",
    "社会保险经办条例 art. 38",
);
const REASON: Rule = Rule::quoted(
    "INVESTIGATION_REASON",
    "why is recorded: 1 to 500 characters",
    "社会保险经办条例 art. 38",
);
const NUMBER: Rule = Rule::design(
    "INVESTIGATION_NUMBER",
    "an investigation is named by the number that ListInvestigations gave",
    "card service",
);

const SCHEMES: [InsuranceScheme; 5] = [
    InsuranceScheme::Pension,
    InsuranceScheme::ResidentPension,
    InsuranceScheme::Unemployment,
    InsuranceScheme::WorkInjury,
    InsuranceScheme::Dependant,
];

/// A scheme under which eligibility is checked.
pub(super) fn parse_checked_scheme(number: i32) -> Result<InsuranceScheme, Broken> {
    let scheme = parse_scheme(number)?;
    SCHEMES
        .contains(&scheme)
        .then_some(scheme)
        .ok_or(Broken(&SCHEME))
}

/// Parses a person under a scheme.
pub(super) fn parse_key(
    number: &str,
    scheme: i32,
    today: Date,
    faults: &mut Violations,
) -> Option<PersonKey> {
    let holder = CitizenId::parse(number, today);
    let holder = faults.check("social_security_number", holder);
    let scheme = faults.check("scheme", parse_checked_scheme(scheme));
    Some(PersonKey {
        holder: holder?,
        scheme: scheme?,
    })
}

/// A check that a city reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The idempotency key, within the reporting client.
    pub request_id: Uuid,
    /// Whom it is about.
    pub key: PersonKey,
    /// How it was made.
    pub method: EligibilityMethod,
    /// What it rests on.
    pub evidence: Evidence,
    /// Day of the check, the sign or the attempt.
    pub on: Date,
    /// City that checked.
    pub verifying_city: CityCode,
    /// City that pays.
    pub paying_city: CityCode,
}

/// The fields that the three reports share.
struct Shared<'a> {
    request_id: &'a str,
    number: &'a str,
    scheme: i32,
    method: i32,
    day: (&'static str, &'a str),
    verifying_city: &'a str,
    paying_city: &'a str,
}

impl CheckReport {
    /// Parses evidence of life on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn life(
        request: &ReportLifeRequest,
        today: Date,
        terms: EligibilityTerms,
    ) -> Result<Self, Vec<Violation>> {
        let shared = Shared {
            request_id: &request.request_id,
            number: &request.social_security_number,
            scheme: request.scheme,
            method: request.method,
            day: ("verified_on", &request.verified_on),
            verifying_city: &request.verifying_city,
            paying_city: &request.paying_city,
        };
        Self::parse(
            &shared,
            today,
            |method, on, faults| {
                let evidence = LifeEvidenceType::try_from(request.evidence_type).ok();
                let fits = matches!(
                    (method, evidence?),
                    (
                        EligibilityMethod::DataMatch,
                        LifeEvidenceType::RegisterActivity
                    ) | (EligibilityMethod::Face, LifeEvidenceType::LiveFace)
                        | (
                            EligibilityMethod::Office | EligibilityMethod::Entrusted,
                            LifeEvidenceType::SeenInPerson,
                        )
                );
                if valid_until(on, terms) < today {
                    faults.add("verified_on", &TOO_OLD);
                }
                evidence.filter(|_| fits).map(Evidence::Life)
            },
            &LIFE_EVIDENCE,
        )
    }

    /// Parses a sign of loss on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn loss(request: &ReportLossSignRequest, today: Date) -> Result<Self, Vec<Violation>> {
        let shared = Shared {
            request_id: &request.request_id,
            number: &request.social_security_number,
            scheme: request.scheme,
            method: request.method,
            day: ("noticed_on", &request.noticed_on),
            verifying_city: &request.verifying_city,
            paying_city: &request.paying_city,
        };
        Self::parse(
            &shared,
            today,
            |method, _, _| {
                let evidence = LossEvidenceType::try_from(request.evidence_type).ok()?;
                let fits =
                    evidence != LossEvidenceType::Unspecified && method != EligibilityMethod::Face;
                fits.then_some(Evidence::Loss(evidence))
            },
            &LOSS_EVIDENCE,
        )
    }

    /// Parses a check that did not reach the person, on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn unreachable(
        request: &ReportUnreachableRequest,
        today: Date,
    ) -> Result<Self, Vec<Violation>> {
        let shared = Shared {
            request_id: &request.request_id,
            number: &request.social_security_number,
            scheme: request.scheme,
            method: request.method,
            day: ("tried_on", &request.tried_on),
            verifying_city: &request.verifying_city,
            paying_city: &request.paying_city,
        };
        Self::parse(&shared, today, |_, _, _| Some(Evidence::Unreached), &METHOD)
    }

    fn parse(
        shared: &Shared<'_>,
        today: Date,
        evidence: impl FnOnce(EligibilityMethod, Date, &mut Violations) -> Option<Evidence>,
        rule: &'static Rule,
    ) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(shared.request_id));
        let key = parse_key(shared.number, shared.scheme, today, &mut faults);
        let method = EligibilityMethod::try_from(shared.method)
            .ok()
            .filter(|method| *method != EligibilityMethod::Unspecified);
        let method = faults.check("method", method.ok_or(Broken(&METHOD)));
        let (field, day) = shared.day;
        let on = parse_date(day).and_then(|on| {
            if on > today {
                Err(Broken(&FUTURE))
            } else {
                Ok(on)
            }
        });
        let on = faults.check(field, on);
        let verifying_city = faults.check("verifying_city", parse_city(shared.verifying_city));
        let paying_city = faults.check("paying_city", parse_city(shared.paying_city));
        let evidence = match (method, on) {
            (Some(method), Some(on)) => {
                let evidence = evidence(method, on, &mut faults);
                faults.check("evidence_type", evidence.ok_or(Broken(rule)))
            }
            _ => None,
        };
        let report = (|| {
            Some(Self {
                request_id: request_id?,
                key: key?,
                method: method?,
                evidence: evidence?,
                on: on?,
                verifying_city: verifying_city?,
                paying_city: paying_city?,
            })
        })();
        match report {
            Some(report) if faults.is_empty() => Ok(report),
            _ => Err(faults.into_vec()),
        }
    }
}

/// What an investigation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// The idempotency key, within the bureau's system.
    pub request_id: Uuid,
    /// Number of the investigation.
    pub investigation: i64,
    /// What it found.
    pub outcome: InvestigationOutcome,
    /// Who decided.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl Conclusion {
    /// Parses a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &ConcludeInvestigationRequest) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(&request.request_id));
        let number = request.investigation.parse().ok();
        let number = number
            .filter(|number: &i64| *number > 0 && number.to_string() == request.investigation);
        let investigation = faults.check("investigation", number.ok_or(Broken(&NUMBER)));
        let outcome = InvestigationOutcome::try_from(request.outcome)
            .ok()
            .filter(|outcome| *outcome != InvestigationOutcome::Unspecified);
        let outcome = faults.check("outcome", outcome.ok_or(Broken(&OUTCOME)));
        let actor = faults.check("actor", text(&request.actor, 64, &ACTOR));
        let reason = faults.check("reason", text(&request.reason, 500, &REASON));
        let conclusion = (|| {
            Some(Self {
                request_id: request_id?,
                investigation: investigation?,
                outcome: outcome?,
                actor: actor?,
                reason: reason?,
            })
        })();
        conclusion.ok_or_else(|| faults.into_vec())
    }
}

fn text(text: &str, most: usize, rule: &'static Rule) -> Result<String, Broken> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > most || text.chars().any(char::is_control) {
        return Err(Broken(rule));
    }
    Ok(text.to_owned())
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    const REPORTS: &[&str] = &["ReportLife", "ReportLossSign", "ReportUnreachable"];
    table
        .field(
            &SCHEME,
            &[
                "ReportLife",
                "ReportLossSign",
                "ReportUnreachable",
                "CheckEligibility",
                "MatchEligibility",
                "SummariseCampaign",
                "ListCampaign",
                "ListEligibilityHistory",
                "ImportBeneficiaries",
            ],
        )
        .field(&METHOD, REPORTS)
        .fields([&LIFE_EVIDENCE, &TOO_OLD], &["ReportLife"])
        .field(&LOSS_EVIDENCE, &["ReportLossSign"])
        .fields(
            [&OUTCOME, &ACTOR, &REASON, &NUMBER],
            &["ConcludeInvestigation"],
        )
}
