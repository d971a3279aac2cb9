//! Requests and lines, parsed field by field.

use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, Rule, RuleTable, Violation, Violations,
    identifier::{CitizenId, DivisionCode},
};
use banqiao_proto::card::v1::{
    BenefitCode, CheckEntitlementRequest, InsurancePeriod, InsuranceScheme, InsuredStatus,
    TreatmentState,
};
use jiff::{ToSpan, civil::Date};

use super::{Period, policy::schemes};
use crate::{card::parse_date, request::parse_city};

const SCHEME: Rule = Rule::quoted(
    "SCHEME",
    "a scheme of social insurance is named",
    "社会保险法 art. 2",
);
const BENEFIT: Rule = Rule::design(
    "BENEFIT",
    "the benefit is one of those of the scheme",
    "card service, table of policies",
);
pub(crate) const FUTURE: Rule = Rule::design(
    "DAY_IN_FUTURE",
    "the day is not after today: nobody knows it yet",
    "card service",
);
const STATUS: Rule = Rule::design(
    "INSURED_STATUS",
    "the insured status is 正常, 暂停, 终止 or 中断",
    "card service",
);
const TREATMENT: Rule = Rule::design(
    "TREATMENT_STATE",
    "the state of the treatment is stated: none, 享受, 暂停 or 终止",
    "card service",
);
const ORDER: Rule = Rule::design(
    "PERIOD_ORDER",
    "a period does not end before it begins",
    "card service",
);
const SUSPENSION: Rule = Rule::quoted(
    "SUSPENSION_TERM",
    "a suspension has a first and a last day and lasts 3 to 12 months",
    "医疗保障法 art. 48, 49",
);
const SUSPENSION_SCHEME: Rule = Rule::quoted(
    "SUSPENSION_SCHEME",
    "only medical insurance is settled online, so only there it can be suspended",
    "医疗保障法 art. 48, 49",
);

/// A parsed [`CheckEntitlementRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// 社会保障号码.
    pub holder: CitizenId,
    /// Scheme.
    pub scheme: InsuranceScheme,
    /// What is asked for.
    pub benefit: BenefitCode,
    /// Day.
    pub on_date: Date,
    /// City where the person is said to be insured.
    pub insured_city: Option<CityCode>,
}

impl Asked {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &CheckEntitlementRequest, today: Date) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let holder = CitizenId::parse(&request.social_security_number, today);
        let holder = faults.check("social_security_number", holder);
        let scheme = faults.check("scheme", parse_scheme(request.scheme));
        let benefit = BenefitCode::try_from(request.benefit)
            .ok()
            .filter(|benefit| scheme.is_none_or(|scheme| schemes(*benefit).contains(&scheme)));
        let benefit = faults.check("benefit", benefit.ok_or(Broken(&BENEFIT)));
        let on_date = faults.check("on_date", parse_day(&request.on_date, today));
        let insured_city = match request.insured_city.as_str() {
            "" => Some(None),
            city => faults.check("insured_city", parse_city(city).map(Some)),
        };
        let asked = (|| {
            Some(Self {
                holder: holder?,
                scheme: scheme?,
                benefit: benefit?,
                on_date: on_date?,
                insured_city: insured_city?,
            })
        })();
        asked
            .filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}

/// A scheme that is stated.
pub(crate) fn parse_scheme(number: i32) -> Result<InsuranceScheme, Broken> {
    match InsuranceScheme::try_from(number) {
        Ok(InsuranceScheme::Unspecified) | Err(_) => Err(Broken(&SCHEME)),
        Ok(scheme) => Ok(scheme),
    }
}

/// A day that is not after today; today where none is given.
pub(crate) fn parse_day(text: &str, today: Date) -> Result<Date, Broken> {
    if text.is_empty() {
        return Ok(today);
    }
    let day = parse_date(text)?;
    if day > today {
        Err(Broken(&FUTURE))
    } else {
        Ok(day)
    }
}

/// A date that may be left out.
pub(crate) fn optional_date(text: &str) -> Result<Option<Date>, Broken> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse_date(text).map(Some)
    }
}

/// A parsed line of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPeriod(pub Period);

impl ImportedPeriod {
    /// Parses a line on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(line: Option<&InsurancePeriod>, today: Date) -> Result<Self, Vec<Violation>> {
        let empty = InsurancePeriod::default();
        let line = line.unwrap_or(&empty);
        let mut faults = Violations::new();
        let holder = CitizenId::parse(&line.social_security_number, today);
        let holder = faults.check("social_security_number", holder);
        let scheme = faults.check("scheme", parse_scheme(line.scheme));
        let division = DivisionCode::parse_known(&line.insured_division);
        let division = faults.check("insured_division", division);
        let begins_on = faults.check("begins_on", parse_date(&line.begins_on));
        let ends_on = faults.check("ends_on", optional_date(&line.ends_on));
        if let (Some(begins), Some(Some(ends))) = (begins_on, ends_on)
            && ends < begins
        {
            faults.add("ends_on", &ORDER);
        }
        let status = InsuredStatus::try_from(line.insured_status)
            .ok()
            .filter(|status| *status != InsuredStatus::Unspecified);
        let status = faults.check("insured_status", status.ok_or(Broken(&STATUS)));
        let treatment = TreatmentState::try_from(line.treatment_state)
            .ok()
            .filter(|state| *state != TreatmentState::Unspecified);
        let treatment = faults.check("treatment_state", treatment.ok_or(Broken(&TREATMENT)));
        let suspension = faults.check("settlement_suspended_from", parse_suspension(line));
        let medical = [InsuranceScheme::Medical, InsuranceScheme::ResidentMedical];
        if let (Some(scheme), Some(Some(_))) = (scheme, suspension)
            && !medical.contains(&scheme)
        {
            faults.add("settlement_suspended_from", &SUSPENSION_SCHEME);
        }
        let as_of = parse_date(&line.recorded_as_of).and_then(|day| {
            if day > today {
                Err(Broken(&FUTURE))
            } else {
                Ok(day)
            }
        });
        let as_of = faults.check("recorded_as_of", as_of);
        let period = (|| {
            Some(Period {
                holder: holder?,
                scheme: scheme?,
                division: division?,
                begins_on: begins_on?,
                ends_on: ends_on?,
                status: status?,
                treatment: treatment?,
                suspension: suspension?,
                as_of: as_of?,
            })
        })();
        match period {
            Some(period) if faults.is_empty() => Ok(Self(period)),
            _ => Err(faults.into_vec()),
        }
    }
}

fn parse_suspension(line: &InsurancePeriod) -> Result<Option<(Date, Date)>, Broken> {
    let from = optional_date(&line.settlement_suspended_from)?;
    let until = optional_date(&line.settlement_suspended_until)?;
    match (from, until) {
        (None, None) => Ok(None),
        (Some(from), Some(until)) => {
            // The last day of three months from 1 March on is 31 May.
            let least = from.saturating_add(3.months()).yesterday();
            let most = from.saturating_add(12.months()).yesterday();
            match (least, most) {
                (Ok(least), Ok(most)) if (least..=most).contains(&until) => Ok(Some((from, until))),
                _ => Err(Broken(&SUSPENSION)),
            }
        }
        _ => Err(Broken(&SUSPENSION)),
    }
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table
        .field(
            &SCHEME,
            &[
                "CheckEntitlement",
                "ImportInsurance",
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
        .field(&BENEFIT, &["CheckEntitlement"])
        .field(
            &FUTURE,
            &[
                "CheckEntitlement",
                "ImportInsurance",
                "ReportLife",
                "ReportLossSign",
                "ReportUnreachable",
            ],
        )
        .fields(
            [&STATUS, &TREATMENT, &ORDER, &SUSPENSION, &SUSPENSION_SCHEME],
            &["ImportInsurance"],
        )
}
