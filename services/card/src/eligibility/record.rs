//! What is known of a person, and the entries of the history.

use banqiao_directory::CityCode;
use banqiao_kit::identifier::CitizenId;
use banqiao_proto::card::v1::{
    EligibilityEventKind, EligibilityMethod, EligibilityResult, EligibilityVerdict,
    InsuranceScheme, InvestigationOutcome, LifeEvidenceType, LossEvidenceType, PaymentState,
};
use jiff::civil::Date;

/// A person under a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PersonKey {
    /// 社会保障号码.
    pub holder: CitizenId,
    /// Scheme.
    pub scheme: InsuranceScheme,
}

/// A payment of this city, as its bureau records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// State.
    pub state: PaymentState,
    /// Day from which it is paused or stopped.
    pub not_paid_from: Option<Date>,
    /// Day by which a check is due.
    pub due_on: Date,
}

/// The newest check that found life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Day of the check.
    pub verified_on: Date,
    /// Last day on which it is recognised.
    pub valid_until: Date,
    /// City that checked.
    pub city: CityCode,
    /// How.
    pub method: EligibilityMethod,
}

/// What stands against a person until a check or an investigation clears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adverse {
    /// LOST_SUSPECTED or UNREACHABLE.
    pub result: EligibilityResult,
    /// Day of the sign or of the attempt.
    pub on: Date,
    /// City that noticed.
    pub city: CityCode,
    /// How.
    pub method: EligibilityMethod,
}

/// Everything that is known of a person's eligibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub key: PersonKey,
    /// Payment of this city; none where it pays nothing.
    pub payment: Option<Payment>,
    /// Newest check that found life.
    pub confirmed: Option<Confirmation>,
    /// What stands against the person.
    pub adverse: Option<Adverse>,
    /// Number of the open investigation.
    pub investigation: Option<i64>,
    /// First day of arrears of an instruction to resume that the bureau has not carried out yet.
    pub resumption: Option<Date>,
}

/// A verdict on a day: all that another city learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub result: EligibilityResult,
    /// Day, city and method of the check; none where no check is valid.
    pub check: Option<(Date, CityCode, EligibilityMethod)>,
    /// Last day of recognition.
    pub valid_until: Option<Date>,
}

impl Verdict {
    /// No check that is valid is known.
    pub const NONE: Self = Self {
        result: EligibilityResult::Unspecified,
        check: None,
        valid_until: None,
    };

    /// The verdict as answers show it.
    pub fn shown(&self) -> EligibilityVerdict {
        let mut shown = EligibilityVerdict {
            result: self.result.into(),
            ..EligibilityVerdict::default()
        };
        if let Some((on, city, method)) = self.check {
            shown.verified_on = on.to_string();
            shown.verifying_city = city.to_string();
            shown.method = method.into();
        }
        if let Some(until) = self.valid_until {
            shown.valid_until = until.to_string();
        }
        shown
    }
}

impl Person {
    /// Somebody of whom nothing is known.
    pub const fn unknown(key: PersonKey) -> Self {
        Self {
            key,
            payment: None,
            confirmed: None,
            adverse: None,
            investigation: None,
            resumption: None,
        }
    }

    /// The verdict on a day. What stands against the person goes before an older check.
    pub fn verdict(&self, today: Date) -> Verdict {
        if let Some(Adverse {
            result,
            on,
            city,
            method,
        }) = self.adverse
        {
            return Verdict {
                result,
                check: Some((on, city, method)),
                valid_until: None,
            };
        }
        match self.confirmed {
            Some(check) if check.valid_until >= today => Verdict {
                result: EligibilityResult::Confirmed,
                check: Some((check.verified_on, check.city, check.method)),
                valid_until: Some(check.valid_until),
            },
            _ => Verdict::NONE,
        }
    }
}

/// Whether a method brings the person before somebody, or before a camera that tells the living. Data about a person can be
/// somebody else's doing.
pub const fn in_person(method: EligibilityMethod) -> bool {
    matches!(
        method,
        EligibilityMethod::Face | EligibilityMethod::Office | EligibilityMethod::Entrusted
    )
}

/// What a check rests on: evidence of life and evidence of loss are different types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Life.
    Life(LifeEvidenceType),
    /// Loss.
    Loss(LossEvidenceType),
    /// None: the person was not reached.
    Unreached,
}

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number: entries are numbered from 1 without gaps, in the order of their commits. 0 before it is written.
    pub seq: i64,
    /// Whom it is about.
    pub key: PersonKey,
    /// What happened.
    pub kind: EligibilityEventKind,
    /// City that pays.
    pub paying_city: CityCode,
    /// City that checked, or that acted.
    pub city: CityCode,
    /// Verdict of a check.
    pub result: EligibilityResult,
    /// How it was checked.
    pub method: EligibilityMethod,
    /// What it rests on.
    pub evidence: Evidence,
    /// Day of the check.
    pub on: Option<Date>,
    /// Last day of recognition.
    pub valid_until: Option<Date>,
    /// Number of the investigation.
    pub investigation: Option<i64>,
    /// What it found.
    pub outcome: InvestigationOutcome,
    /// Who decided.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// First day of arrears.
    pub arrears_from: Option<Date>,
    /// System that asked for it.
    pub client: String,
    /// Exchange in the ledgers.
    pub exchange: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub recorded_at_us: i64,
}

impl Event {
    /// The check that the entry tells of; nothing for entries of other kinds.
    pub fn verdict(&self) -> Option<Verdict> {
        (self.kind == EligibilityEventKind::Checked).then(|| Verdict {
            result: self.result,
            check: self.on.map(|on| (on, self.city, self.method)),
            valid_until: self.valid_until,
        })
    }
}
