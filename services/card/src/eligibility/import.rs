//! Taking over whom the city pays, in bulk. The only way by which the state of a payment comes in.

use std::collections::HashMap;

use banqiao_kit::{Broken, CallError, Caller, Rule, RuleTable, Violation, Violations, civil_date};
use banqiao_proto::card::v1::{
    Beneficiary, EligibilityEventKind, EligibilityResult, ImportBeneficiariesRequest, PaymentState,
};
use jiff::civil::Date;

use super::{
    Eligibility,
    decide::{Context, Effects, due},
    record::{Event, Payment, Person, PersonKey},
    request::parse_key,
    store::{Changes, Found},
};
use crate::{card::parse_date, entitlement::optional_date, import::LineOutcome};

const PAYMENT: Rule = Rule::design(
    "PAYMENT_STATE",
    "the state of the payment is 发放, 暂停 or 停发, as the bureau has decided it",
    "社会保险经办条例 art. 26",
);
const NOT_PAID_FROM: Rule = Rule::design(
    "NOT_PAID_FROM",
    "a payment that is paused or stopped has the day from which it is; one that is paid has none",
    "card service",
);

/// A parsed line.
struct Line {
    key: PersonKey,
    payment: Payment,
}

impl Line {
    fn parse(line: Option<&Beneficiary>, today: Date) -> Result<Self, Vec<Violation>> {
        let empty = Beneficiary::default();
        let line = line.unwrap_or(&empty);
        let mut faults = Violations::new();
        let key = parse_key(
            &line.social_security_number,
            line.scheme,
            today,
            &mut faults,
        );
        let state = PaymentState::try_from(line.payment_state)
            .ok()
            .filter(|state| *state != PaymentState::Unspecified);
        let state = faults.check("payment_state", state.ok_or(Broken(&PAYMENT)));
        let from = faults.check("not_paid_from", optional_date(&line.not_paid_from));
        if let (Some(state), Some(from)) = (state, from)
            && (state == PaymentState::Paying) == from.is_some()
        {
            faults.add("not_paid_from", &NOT_PAID_FROM);
        }
        let due_on = faults.check("due_on", parse_date(&line.due_on));
        let line = (|| {
            Some(Self {
                key: key?,
                payment: Payment {
                    state: state?,
                    not_paid_from: from?,
                    due_on: due_on?,
                },
            })
        })();
        match line {
            Some(line) if faults.is_empty() => Ok(line),
            _ => Err(faults.into_vec()),
        }
    }
}

impl Eligibility {
    /// Takes over lines in one transaction, each judged alone, and gives the outcome of each, in order.
    ///
    /// # Errors
    /// The store failed. Then nothing of the lines stands: send them again.
    pub async fn import(
        &self,
        lines: &[ImportBeneficiariesRequest],
        caller: Option<&Caller>,
    ) -> Result<Vec<LineOutcome>, CallError> {
        let now_us = self.clock.now_us();
        let today = civil_date(now_us);
        let parsed: Vec<_> = lines
            .iter()
            .map(|line| Line::parse(line.beneficiary.as_ref(), today))
            .collect();
        let keys: Vec<_> = parsed.iter().flatten().map(|line| line.key).collect();
        let decide = |found: Found| {
            let mut known: HashMap<_, _> = found
                .people
                .into_iter()
                .map(|person| (person.key, person))
                .collect();
            let (mut changes, mut next) = (Changes::default(), found.next);
            let mut outcomes = Vec::with_capacity(parsed.len());
            for line in parsed {
                let line = match line {
                    Err(faults) => {
                        outcomes.push(LineOutcome::Refused(faults));
                        continue;
                    }
                    Ok(line) => line,
                };
                let before = known.get(&line.key);
                let mut person = before.cloned().unwrap_or_else(|| Person::unknown(line.key));
                let context = Context {
                    entry: self.event(line.key, caller, now_us),
                    next,
                    own: self.city,
                };
                let effects = pay(&mut person, line.payment, &context);
                if before == Some(&person) {
                    outcomes.push(LineOutcome::Unchanged);
                    continue;
                }
                let is_new = before.is_none_or(|person| person.payment.is_none());
                outcomes.push(if is_new {
                    LineOutcome::Created
                } else {
                    LineOutcome::Updated
                });
                next += i64::try_from(effects.events.len()).unwrap_or_default();
                known.insert(person.key, person.clone());
                changes.people.push((person, effects));
            }
            Ok((changes, outcomes))
        };
        self.store.change(&keys, None, decide).await
    }

    /// An entry about a person in which nothing is said yet.
    pub(super) fn event(&self, key: PersonKey, caller: Option<&Caller>, now_us: i64) -> Event {
        Event {
            seq: 0,
            key,
            kind: EligibilityEventKind::Checked,
            paying_city: self.city,
            city: self.city,
            result: EligibilityResult::Unspecified,
            method: Default::default(),
            evidence: super::Evidence::Unreached,
            on: None,
            valid_until: None,
            investigation: None,
            outcome: Default::default(),
            actor: String::new(),
            reason: String::new(),
            arrears_from: None,
            client: caller
                .map(|caller| caller.client.as_str().to_owned())
                .unwrap_or_default(),
            exchange: caller
                .map(|caller| caller.exchange.to_string())
                .unwrap_or_default(),
            recorded_at_us: now_us,
        }
    }
}

/// What the bureau's record of a payment makes of what is known.
fn pay(person: &mut Person, payment: Payment, context: &Context) -> Effects {
    let mut effects = Effects::default();
    let before = person.payment.replace(payment);
    if payment.state == PaymentState::Paying {
        // The bureau has carried the instruction out.
        person.resumption = None;
    }
    let suspected = person
        .adverse
        .filter(|adverse| adverse.result == EligibilityResult::LostSuspected);
    if let Some(adverse) = suspected
        && before.is_none()
        && payment.state != PaymentState::Stopped
    {
        // The sign came before the bureau's record.
        let event = Event {
            seq: context.next,
            kind: EligibilityEventKind::InvestigationOpened,
            city: adverse.city,
            investigation: Some(context.next),
            ..context.entry.clone()
        };
        person.investigation = Some(context.next);
        effects.events.push(event);
        effects.opened = true;
    }
    due(person, &mut effects, context);
    let month = |day: Date| (day.year(), day.month());
    let now_due = person.payment.map(|payment| month(payment.due_on));
    if let Some(before) = before
        && Some(month(before.due_on)) != now_due
    {
        effects.not_due.push(before.due_on);
    }
    effects
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table.fields([&PAYMENT, &NOT_PAID_FROM], &["ImportBeneficiaries"])
}
