//! From records and policies to an answer. Pure.

use banqiao_directory::CityCode;
use banqiao_kit::{Rule, RuleTable};
use banqiao_proto::card::v1::{Entitlement, InsuredStatus, TreatmentState};
use jiff::{ToSpan, civil::Date};

use super::{Asked, EntitlementTerms, POLICIES, Period};

const ENTITLED: Rule = Rule::design(
    "ENTITLED",
    "every requirement in force on the day is met",
    "card service, table of policies",
);
const NOT_INSURED: Rule = Rule::design(
    "NOT_INSURED_ON_DAY",
    "the records of the scheme know the person and have no period on the day",
    "card service",
);
const NOT_RECORDED: Rule = Rule::design(
    "NOT_RECORDED",
    "this city has no record of the person under the scheme; another city may",
    "card service",
)
.remedy("ask the city where the person is insured");
const ELSEWHERE: Rule = Rule::design(
    "INSURED_ELSEWHERE",
    "the relation lies with another city on the day; gateways never forward, so this city does not answer for it",
    "card service; 社会保险经办条例 art. 12",
)
.remedy("ask the city in insured_city");
const STALE: Rule = Rule::design(
    "RECORD_STALE",
    "the records are older than they may be on the day",
    "card service, setting entitlement.record_age",
)
.remedy("ask again after the bureau's next import");
const NO_POLICY: Rule = Rule::design(
    "NO_POLICY",
    "no rule about the benefit was in force on the day",
    "card service, table of policies",
);

/// What the records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Yes, no or unknown.
    pub entitlement: Entitlement,
    /// Why.
    pub reason: &'static Rule,
    /// Law that it rests on: that of the reason, or of the requirement that carries a YES.
    pub policy: &'static Rule,
    /// City where the person is insured.
    pub insured_city: Option<CityCode>,
    /// 参保状态.
    pub status: InsuredStatus,
    /// 待遇状态.
    pub treatment: TreatmentState,
    /// Last day of a suspension of 联网结算 that stands on the day.
    pub suspended_until: Option<Date>,
    /// Day of the records.
    pub as_of: Option<Date>,
    /// Last day on which the same records give the same answer; none for UNKNOWN.
    pub valid_until: Option<Date>,
}

impl Judgement {
    /// An UNKNOWN with its reason.
    pub(super) const fn unknown(reason: &'static Rule, insured_city: Option<CityCode>) -> Self {
        Self {
            entitlement: Entitlement::Unknown,
            reason,
            policy: reason,
            insured_city,
            status: InsuredStatus::Unspecified,
            treatment: TreatmentState::Unspecified,
            suspended_until: None,
            as_of: None,
            valid_until: None,
        }
    }
}

/// Judges what is asked by the records of the person under the scheme, of the city `own`.
pub fn judge(
    asked: &Asked,
    periods: &[Period],
    own: CityCode,
    terms: EntitlementTerms,
) -> Judgement {
    let day = asked.on_date;
    let Some(as_of) = periods.iter().map(|period| period.as_of).max() else {
        return Judgement::unknown(&NOT_RECORDED, None);
    };
    let covering = periods.iter().find(|period| period.covers(day));
    let city = covering.map(|period| period.division.city().unwrap_or(own));
    if let Some(city) = city.filter(|city| *city != own) {
        return Judgement {
            as_of: Some(as_of),
            ..Judgement::unknown(&ELSEWHERE, Some(city))
        };
    }
    let fresh_until = last_fresh_day(as_of, terms);
    if day > fresh_until {
        return Judgement {
            as_of: Some(as_of),
            ..Judgement::unknown(&STALE, city)
        };
    }
    let Some(period) = covering else {
        let next = periods.iter().map(|period| period.begins_on);
        let next = next.filter(|begins| *begins > day).min();
        let before_next = next.and_then(|begins| begins.yesterday().ok());
        return Judgement {
            entitlement: Entitlement::No,
            as_of: Some(as_of),
            valid_until: Some(before_next.unwrap_or(fresh_until).min(fresh_until)),
            ..Judgement::unknown(&NOT_INSURED, None)
        };
    };
    by_policies(asked, period, as_of, fresh_until, city)
}

/// Judges a day within a period of this city that is fresh enough.
fn by_policies(
    asked: &Asked,
    period: &Period,
    as_of: Date,
    fresh_until: Date,
    city: Option<CityCode>,
) -> Judgement {
    let day = asked.on_date;
    let all = || {
        POLICIES
            .iter()
            .filter(|policy| policy.benefit == asked.benefit)
    };
    let in_force = || all().filter(|policy| policy.holds(day));
    let standing = period
        .suspension
        .filter(|(from, until)| *from <= day && day <= *until);
    let judgement = Judgement {
        status: period.status,
        treatment: period.treatment,
        suspended_until: standing.map(|(_, until)| until),
        as_of: Some(as_of),
        ..Judgement::unknown(&NO_POLICY, city)
    };
    let Some(carrying) = in_force().next_back() else {
        return judgement;
    };
    let broken = in_force().find(|policy| !policy.requires.is_met(period, day));
    // Days after which something else may hold.
    let policies = all().flat_map(|policy| [policy.in_force.yesterday().ok(), policy.until]);
    let suspension = period
        .suspension
        .map(|(from, until)| [from.yesterday().ok(), Some(until)]);
    let ends = policies
        .chain(suspension.into_iter().flatten())
        .chain([period.ends_on, Some(fresh_until)]);
    let valid_until = ends.flatten().filter(|end| *end >= day).min();
    let (entitlement, reason, policy) = match broken {
        Some(policy) => (Entitlement::No, policy.rule, policy.rule),
        None => (Entitlement::Yes, &ENTITLED, carrying.rule),
    };
    Judgement {
        entitlement,
        reason,
        policy,
        valid_until,
        ..judgement
    }
}

/// The last day for which records of a day are taken.
fn last_fresh_day(as_of: Date, terms: EntitlementTerms) -> Date {
    let days = terms.record_age.as_secs() / 86_400;
    let days = i64::try_from(days).unwrap_or_default();
    as_of.saturating_add(days.days())
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    const ASK: &[&str] = &["CheckEntitlement"];
    [
        &ENTITLED,
        &NOT_INSURED,
        &NOT_RECORDED,
        &ELSEWHERE,
        &STALE,
        &NO_POLICY,
    ]
    .into_iter()
    .fold(table, |table, rule| table.answer(rule, ASK))
}
