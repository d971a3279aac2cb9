//! Taking over whom the city pays, in bulk. The only way by which the state of a payment comes in, apart from the bureau's own tables.

use std::collections::HashMap;

use banqiao_kit::{Broken, Caller, Rule, RuleTable, Violation, Violations, civil_date};
use banqiao_proto::card::v1::{
    Beneficiary, EligibilityEventKind, EligibilityResult, ImportBeneficiariesRequest, PaymentState,
};
use jiff::civil::Date;

use super::{
    Eligibility,
    decide::Context,
    payment::pay,
    record::{Event, Payment, Person, PersonKey},
    request::parse_key,
    store::{Changes, Found},
};
use crate::{
    card::parse_date, entitlement::optional_date, import::LineOutcome, importer::apart,
    store::StoreError,
};

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
    /// Takes over lines, each judged alone, and gives the outcome of each, in order: in one transaction, unless the bureau's own tables
    /// refuse a line.
    ///
    /// # Errors
    /// See [`StoreError`]. What went through before the error stays: send the lines again.
    pub async fn import(
        &self,
        lines: &[ImportBeneficiariesRequest],
        caller: Option<&Caller>,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        apart(lines, |lines| Box::pin(self.import_run(lines, caller))).await
    }

    async fn import_run(
        &self,
        lines: &[ImportBeneficiariesRequest],
        caller: Option<&Caller>,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        let now_us = self.clock.now_us();
        let today = civil_date(now_us);
        let parsed: Vec<_> = lines
            .iter()
            .map(|line| Line::parse(line.beneficiary.as_ref(), today))
            .collect();
        let sound = parsed.iter().flatten();
        let holders: Vec<_> = sound.map(|line| line.key.holder).collect();
        let decide = |found: Found| Ok(self.taken(parsed, found, caller, now_us));
        self.change(&holders, None, decide).await
    }

    /// What lines make of what was found.
    fn taken(
        &self,
        lines: Vec<Result<Line, Vec<Violation>>>,
        found: Found,
        caller: Option<&Caller>,
        now_us: i64,
    ) -> (Changes, Vec<LineOutcome>) {
        let people = found.people.into_iter();
        let mut known: HashMap<_, _> = people.map(|person| (person.key, person)).collect();
        let mut changes = Changes {
            recorded: true,
            ..Changes::default()
        };
        let (mut next, mut outcomes) = (found.next, Vec::with_capacity(lines.len()));
        for line in lines {
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
        (changes, outcomes)
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

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table.fields([&PAYMENT, &NOT_PAID_FROM], &["ImportBeneficiaries"])
}
