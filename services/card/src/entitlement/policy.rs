//! What each benefit requires, as data: a row for each requirement, with the law that makes it and the days of its force.

use banqiao_kit::{Rule, RuleTable};
use banqiao_proto::card::v1::{
    BenefitCode::{
        self, InjuryTreatment, InpatientSettlement, ManualReimbursement, MaternityAllowance,
        OutpatientSettlement, PensionPayment, UnemploymentPayment, Unspecified,
    },
    InsuranceScheme, InsuredStatus, TreatmentState,
};
use jiff::civil::Date;

use super::Period;

/// What a record must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The person draws the benefit: 享受.
    Drawing,
    /// The insurance is 正常.
    Normal,
    /// The insurance is 正常, or the person draws the benefit, as the retired do.
    NormalOrDrawing,
    /// No suspension of 联网结算 stands on the day.
    NotSuspended,
}

impl Requirement {
    /// Whether a period meets it on a day within.
    pub fn is_met(self, period: &Period, day: Date) -> bool {
        let drawing = period.treatment == TreatmentState::Drawing;
        let normal = period.status == InsuredStatus::Normal;
        match self {
            Self::Drawing => drawing,
            Self::Normal => normal,
            Self::NormalOrDrawing => normal || drawing,
            Self::NotSuspended => period
                .suspension
                .is_none_or(|(from, until)| day < from || until < day),
        }
    }
}

/// A requirement of a benefit while a law is in force.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The benefit.
    pub benefit: BenefitCode,
    /// What it requires.
    pub requires: Requirement,
    /// Law and article, and what is told when it is not met.
    pub rule: &'static Rule,
    /// First day of force.
    pub in_force: Date,
    /// Last day of force; none while it goes on.
    pub until: Option<Date>,
}

impl Policy {
    /// Whether it is in force on a day.
    pub fn holds(&self, day: Date) -> bool {
        self.in_force <= day && self.until.is_none_or(|end| day <= end)
    }
}

/// 社会保险法 is in force since this day.
const INSURANCE_LAW: Date = Date::constant(2011, 7, 1);
/// 医疗保障基金使用监督管理条例 (国务院令第735号).
const FUND_REGULATION: Date = Date::constant(2021, 5, 1);
/// 医疗保障法.
const MEDICAL_SECURITY_LAW: Date = Date::constant(2027, 1, 1);
const BEFORE_MEDICAL_SECURITY_LAW: Date = Date::constant(2026, 12, 31);

const INSURED: Rule = Rule::quoted(
    "INSURANCE_NOT_NORMAL",
    "the insurance is in order (正常) on the day",
    "社会保险法 art. 58",
);
const PENSION: Rule = Rule::quoted(
    "PENSION_NOT_DRAWN",
    "a pension is paid to whom the paying bureau has recorded as drawing it",
    "社会保险法 art. 16",
);
const UNEMPLOYMENT: Rule = Rule::memory(
    "UNEMPLOYMENT_NOT_DRAWN",
    "the unemployed draw while the bureau has recorded the right and none of the grounds of its end",
    "社会保险法 art. 45, 51",
);
const INJURY: Rule = Rule::memory(
    "INJURY_NOT_COVERED",
    "treatment of a work injury needs insurance in order, or a recognised injury that is being treated",
    "社会保险法 art. 36, 38",
);
const MEDICAL: Rule = Rule::memory(
    "MEDICAL_NOT_COVERED",
    "medical insurance pays while it is in order, and for the retired who draw it",
    "社会保险法 art. 23, 27, 28",
);
const MATERNITY: Rule = Rule::memory(
    "MATERNITY_NOT_COVERED",
    "the allowance needs maternity insurance in order",
    "社会保险法 art. 54, 56",
);
const SUSPENDED_BY_REGULATION: Rule = Rule::memory(
    "SETTLEMENT_SUSPENDED_BY_REGULATION",
    "online settlement is suspended for 3 to 12 months after a violation; manual reimbursement goes on",
    "医疗保障基金使用监督管理条例 art. 41",
);
const SUSPENDED_BY_LAW: Rule = Rule::quoted(
    "SETTLEMENT_SUSPENDED",
    "online settlement is suspended for 3 to 12 months after a violation; manual reimbursement goes on",
    "医疗保障法 art. 48, 49",
);

const fn since(
    benefit: BenefitCode,
    requires: Requirement,
    rule: &'static Rule,
    in_force: Date,
) -> Policy {
    Policy {
        benefit,
        requires,
        rule,
        in_force,
        until: None,
    }
}

const fn until(policy: Policy, last: Date) -> Policy {
    Policy {
        until: Some(last),
        ..policy
    }
}

/// Every requirement. The first one in the list that is not met is the reason of a NO; the last one is what a YES rests on.
pub const POLICIES: &[Policy] = &[
    since(Unspecified, Requirement::Normal, &INSURED, INSURANCE_LAW),
    since(
        PensionPayment,
        Requirement::Drawing,
        &PENSION,
        INSURANCE_LAW,
    ),
    since(
        UnemploymentPayment,
        Requirement::Drawing,
        &UNEMPLOYMENT,
        INSURANCE_LAW,
    ),
    since(
        InjuryTreatment,
        Requirement::NormalOrDrawing,
        &INJURY,
        INSURANCE_LAW,
    ),
    until(
        since(
            OutpatientSettlement,
            Requirement::NotSuspended,
            &SUSPENDED_BY_REGULATION,
            FUND_REGULATION,
        ),
        BEFORE_MEDICAL_SECURITY_LAW,
    ),
    since(
        OutpatientSettlement,
        Requirement::NotSuspended,
        &SUSPENDED_BY_LAW,
        MEDICAL_SECURITY_LAW,
    ),
    since(
        OutpatientSettlement,
        Requirement::NormalOrDrawing,
        &MEDICAL,
        INSURANCE_LAW,
    ),
    until(
        since(
            InpatientSettlement,
            Requirement::NotSuspended,
            &SUSPENDED_BY_REGULATION,
            FUND_REGULATION,
        ),
        BEFORE_MEDICAL_SECURITY_LAW,
    ),
    since(
        InpatientSettlement,
        Requirement::NotSuspended,
        &SUSPENDED_BY_LAW,
        MEDICAL_SECURITY_LAW,
    ),
    since(
        InpatientSettlement,
        Requirement::NormalOrDrawing,
        &MEDICAL,
        INSURANCE_LAW,
    ),
    since(
        ManualReimbursement,
        Requirement::NormalOrDrawing,
        &MEDICAL,
        INSURANCE_LAW,
    ),
    since(
        MaternityAllowance,
        Requirement::Normal,
        &MATERNITY,
        INSURANCE_LAW,
    ),
];

/// The schemes under which a benefit is given.
pub(crate) const fn schemes(benefit: BenefitCode) -> &'static [InsuranceScheme] {
    use InsuranceScheme as Scheme;
    match benefit {
        Unspecified => &[
            Scheme::Pension,
            Scheme::ResidentPension,
            Scheme::Unemployment,
            Scheme::WorkInjury,
            Scheme::Medical,
            Scheme::ResidentMedical,
            Scheme::Maternity,
        ],
        PensionPayment => &[Scheme::Pension, Scheme::ResidentPension],
        UnemploymentPayment => &[Scheme::Unemployment],
        InjuryTreatment => &[Scheme::WorkInjury],
        OutpatientSettlement | InpatientSettlement | ManualReimbursement => {
            &[Scheme::Medical, Scheme::ResidentMedical]
        }
        MaternityAllowance => &[Scheme::Maternity],
    }
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    const ASK: &[&str] = &["CheckEntitlement"];
    [
        &INSURED,
        &PENSION,
        &UNEMPLOYMENT,
        &INJURY,
        &SUSPENDED_BY_REGULATION,
        &SUSPENDED_BY_LAW,
        &MEDICAL,
        &MATERNITY,
    ]
    .into_iter()
    .fold(table, |table, rule| table.answer(rule, ASK))
}
