//! What a check, a sign or a conclusion makes of what is known. Pure, and without a way to stop a payment: it reads
//! [`Payment::state`] and never writes it.

use banqiao_kit::{Refusal, Rule, RuleTable};
use banqiao_proto::card::v1::{
    CampaignStatus, EligibilityEventKind, EligibilityMethod, EligibilityResult,
    InvestigationOutcome, PaymentState,
};
use jiff::{ToSpan, civil::Date};

use super::{
    EligibilityTerms,
    record::{Adverse, Confirmation, Event, Evidence, Person, in_person},
    request::{CheckReport, Conclusion},
};

const RECOGNISED: Rule = Rule::memory(
    "RECOGNISED",
    "a check of whatever city is recognised for its validity, 12 months unless the paying city sets another",
    "鲁政发〔2020〕2号 (十七); cycle: common practice",
);
const SIGN_ONLY_INVESTIGATED: Rule = Rule::quoted(
    "SIGN_ONLY_INVESTIGATED",
    "a sign of loss opens an investigation at the paying city and stops nothing: 调查核实后停发",
    "社会保险经办条例 art. 26",
);
const RESUMED_AT_ONCE: Rule = Rule::quoted(
    "RESUMED_AT_ONCE",
    "a confirmation after a pause instructs the paying bureau at once to resume and to pay arrears (即时恢复并补发)",
    "烟台市待遇领取资格认证, 2021; 社会保险经办条例 art. 26",
);
const DATA_CLEARS_NO_SIGN: Rule = Rule::design(
    "DATA_CLEARS_NO_SIGN",
    "a sign of loss is cleared by a check in person or by an investigation, not by a match of data",
    "card service; 社会保险经办条例 art. 26",
);
const LATER_CHECK_STANDS: Rule = Rule::design(
    "LATER_CHECK_STANDS",
    "a sign or an attempt of a day before a check in person is kept in the history and changes nothing",
    "card service",
);
pub(super) const NOT_OPEN: Refusal = Refusal::conflict(
    Rule::design(
        "INVESTIGATION_NOT_OPEN",
        "only an open investigation is concluded, and once",
        "社会保险经办条例 art. 26, 38",
    )
    .remedy("look it up by ListInvestigations"),
);

/// A row of a campaign: where a person stands who is due on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DueRow {
    pub(super) due_on: Date,
    pub(super) status: CampaignStatus,
    /// Day and city of the check.
    pub(super) check: Option<(Date, String)>,
}

/// What a decision changes besides the person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    pub(super) events: Vec<Event>,
    /// Rows of campaigns that are written, in order.
    pub(super) due: Vec<DueRow>,
    /// Days whose row is removed, because nobody is due any more.
    pub(super) not_due: Vec<Date>,
    /// An investigation that begins; its number is that of its event.
    pub(super) opened: bool,
    /// An investigation that ends.
    pub(super) concluded: Option<(i64, InvestigationOutcome)>,
    /// The paying bureau is instructed to resume.
    pub(super) resumed: bool,
}

/// Who acts, for the entries that a decision makes.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// The entry of the call, with what it says; others follow it.
    pub(super) entry: Event,
    /// Number of the next entry.
    pub(super) next: i64,
    pub(super) own: banqiao_directory::CityCode,
}

impl Context {
    fn event(&self, effects: &Effects, kind: EligibilityEventKind) -> Event {
        Event {
            seq: self.next + i64::try_from(effects.events.len()).unwrap_or_default(),
            kind,
            evidence: Evidence::Unreached,
            result: EligibilityResult::Unspecified,
            method: EligibilityMethod::Unspecified,
            on: None,
            valid_until: None,
            city: self.own,
            paying_city: self.own,
            ..self.entry.clone()
        }
    }
}

/// Last day on which a check is recognised.
pub(super) fn valid_until(verified_on: Date, terms: EligibilityTerms) -> Date {
    verified_on.saturating_add(i32::from(terms.validity_months).months())
}

/// A check of whatever verdict.
pub(super) fn check(
    person: &mut Person,
    report: &CheckReport,
    terms: EligibilityTerms,
    context: &Context,
) -> Effects {
    let mut effects = Effects::default();
    let mut entry = context.entry.clone();
    entry.seq = context.next;
    effects.events.push(entry);
    match report.evidence {
        Evidence::Life(_) => {
            let confirmation = Confirmation {
                verified_on: report.on,
                valid_until: valid_until(report.on, terms),
                city: report.verifying_city,
                method: report.method,
            };
            life(person, confirmation, context, &mut effects);
        }
        Evidence::Loss(_) => loss(person, report, context, &mut effects),
        Evidence::Unreached => unreached(person, report, &mut effects),
    }
    effects
}

fn life(person: &mut Person, found: Confirmation, context: &Context, effects: &mut Effects) {
    let newest = person.confirmed.is_none_or(|known| {
        // On the same day a check in person says more than a match of data.
        (known.verified_on, in_person(known.method)) <= (found.verified_on, in_person(found.method))
    });
    if newest {
        person.confirmed = Some(found);
    }
    let cleared = person.adverse.filter(|adverse| {
        let suspected = adverse.result == EligibilityResult::LostSuspected;
        found.verified_on >= adverse.on && (!suspected || in_person(found.method))
    });
    if cleared.is_some() {
        person.adverse = None;
        if let Some(investigation) = person.investigation.take() {
            let outcome = InvestigationOutcome::Entitled;
            let kind = EligibilityEventKind::InvestigationConcluded;
            let event = Event {
                investigation: Some(investigation),
                outcome,
                actor: String::new(),
                reason: "checked in person".to_owned(),
                ..context.event(effects, kind)
            };
            effects.events.push(event);
            effects.concluded = Some((investigation, outcome));
        }
    }
    resume(person, context, effects);
    due(person, effects, context);
}

fn loss(person: &mut Person, report: &CheckReport, context: &Context, effects: &mut Effects) {
    let seen_later = person
        .confirmed
        .is_some_and(|check| check.verified_on > report.on && in_person(check.method));
    if seen_later {
        return;
    }
    let stands = person
        .adverse
        .filter(|adverse| adverse.result == EligibilityResult::LostSuspected)
        .is_some_and(|adverse| adverse.on > report.on);
    if !stands {
        person.adverse = Some(Adverse {
            result: EligibilityResult::LostSuspected,
            on: report.on,
            city: report.verifying_city,
            method: report.method,
        });
    }
    let paid = person
        .payment
        .is_some_and(|payment| payment.state != PaymentState::Stopped);
    if paid && person.investigation.is_none() {
        let mut event = context.event(effects, EligibilityEventKind::InvestigationOpened);
        event.investigation = Some(event.seq);
        person.investigation = Some(event.seq);
        effects.events.push(event);
        effects.opened = true;
    }
    due(person, effects, context);
}

fn unreached(person: &mut Person, report: &CheckReport, effects: &mut Effects) {
    let reached_since = person
        .confirmed
        .is_some_and(|check| check.verified_on >= report.on);
    let more = person.adverse.is_some_and(|adverse| {
        adverse.result == EligibilityResult::LostSuspected || adverse.on > report.on
    });
    if reached_since || more {
        return;
    }
    person.adverse = Some(Adverse {
        result: EligibilityResult::Unreachable,
        on: report.on,
        city: report.verifying_city,
        method: report.method,
    });
    mark(person, effects);
}

/// The end of an investigation.
pub(super) fn conclude(person: &mut Person, conclusion: &Conclusion, context: &Context) -> Effects {
    let mut effects = Effects::default();
    let event = Event {
        investigation: Some(conclusion.investigation),
        outcome: conclusion.outcome,
        actor: conclusion.actor.clone(),
        reason: conclusion.reason.clone(),
        ..context.event(&effects, EligibilityEventKind::InvestigationConcluded)
    };
    effects.events.push(event);
    effects.concluded = Some((conclusion.investigation, conclusion.outcome));
    person.investigation = None;
    if conclusion.outcome == InvestigationOutcome::Entitled {
        person.adverse = None;
        resume(person, context, &mut effects);
        due(person, &mut effects, context);
    }
    effects
}

/// Instructs the bureau to resume a payment that is not paid, when nothing stands against the person any more.
fn resume(person: &mut Person, context: &Context, effects: &mut Effects) {
    let Some(payment) = person.payment else {
        return;
    };
    let paying = payment.state == PaymentState::Paying;
    if paying || person.adverse.is_some() || person.resumption.is_some() {
        return;
    }
    let arrears_from = payment.not_paid_from;
    let event = Event {
        arrears_from,
        actor: String::new(),
        reason: String::new(),
        ..context.event(effects, EligibilityEventKind::ResumptionInstructed)
    };
    effects.events.push(event);
    effects.resumed = true;
    person.resumption = arrears_from;
}

/// Moves the day by which a check is due, and tells the campaigns of both months.
pub(super) fn due(person: &mut Person, effects: &mut Effects, context: &Context) {
    let Some(mut payment) = person.payment else {
        return;
    };
    if payment.state == PaymentState::Stopped {
        effects.not_due.push(payment.due_on);
        return;
    }
    if person.adverse.is_none()
        && let Some(check) = person.confirmed
        && check.valid_until > payment.due_on
    {
        let before = payment.due_on;
        payment.due_on = check.valid_until;
        person.payment = Some(payment);
        if (before.year(), before.month()) != (payment.due_on.year(), payment.due_on.month()) {
            let status = if check.city == context.own {
                CampaignStatus::ConfirmedHere
            } else {
                CampaignStatus::ConfirmedElsewhere
            };
            effects.due.push(DueRow {
                due_on: before,
                status,
                check: Some((check.verified_on, check.city.to_string())),
            });
        }
    }
    mark(person, effects);
}

/// As [`due`], where the bureau has set the day itself: it stands, whatever check there was.
pub(super) fn due_as_set(person: &Person, effects: &mut Effects) {
    match person.payment {
        Some(payment) if payment.state == PaymentState::Stopped => {
            effects.not_due.push(payment.due_on);
        }
        _ => mark(person, effects),
    }
}

/// Tells the campaign of the month in which the person is due how it stands.
fn mark(person: &Person, effects: &mut Effects) {
    let Some(payment) = person.payment else {
        return;
    };
    let status = match person.adverse.map(|adverse| adverse.result) {
        Some(EligibilityResult::LostSuspected) => CampaignStatus::LostSuspected,
        Some(_) => CampaignStatus::Unreachable,
        None => CampaignStatus::Pending,
    };
    effects.due.push(DueRow {
        due_on: payment.due_on,
        status,
        check: person
            .adverse
            .map(|adverse| (adverse.on, adverse.city.to_string())),
    });
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table
        .answer(
            &RECOGNISED,
            &["CheckEligibility", "MatchEligibility", "ReportLife"],
        )
        .answer(&SIGN_ONLY_INVESTIGATED, &["ReportLossSign"])
        .answer(&RESUMED_AT_ONCE, &["ReportLife", "ConcludeInvestigation"])
        .answer(&DATA_CLEARS_NO_SIGN, &["ReportLife"])
        .answer(
            &LATER_CHECK_STANDS,
            &["ReportLossSign", "ReportUnreachable"],
        )
        .refusal(&NOT_OPEN, &["ConcludeInvestigation"])
}
