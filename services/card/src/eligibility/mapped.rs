//! People whom the city pays in the bureau's own tables: read through the mapping, written by its statements. What this service keeps of
//! a payment is what it saw last, so that a change by the bureau's own programs is noticed.

use std::collections::{HashMap, HashSet};

use banqiao_kit::{
    identifier::CitizenId,
    mapping::{FieldKind, Mapped, Parameters, Record, RecordFault, RelationShape, StatementShape},
};
use banqiao_proto::card::v1::PaymentState;
use sqlx::{PgConnection, PgPool};

use super::record::{Payment, Person, PersonKey};
use crate::{
    entitlement::{SCHEME, numbers, scheme_name, scheme_of, without},
    people::holder_of,
    store::{StoreError, execute_many, field, optional_field, unreadable},
};

const RELATION: &str = "payment";
const INSERT: &str = "insert_payments";
const SET_DUE: &str = "set_due_days";
const UPDATE: &str = "update_payments";

const STATE_PREFIX: &str = "PAYMENT_STATE_";

/// A row for each person under a scheme whom the city pays, or has paid.
pub(crate) const PAYMENT: RelationShape = RelationShape {
    name: RELATION,
    fields: &[
        field("social_security_number", FieldKind::Key),
        field("scheme", SCHEME),
        field(
            "payment_state",
            FieldKind::Code(&["PAYING", "PAUSED", "STOPPED"]),
        ),
        // Required where the payment is paused or stopped, and not looked at where it is paid.
        optional_field("not_paid_from", FieldKind::Date),
        field("due_on", FieldKind::Date),
    ],
    required: false,
};

/// New payments, by an import.
pub(crate) const INSERT_PAYMENTS: StatementShape = StatementShape {
    name: INSERT,
    relation: RELATION,
    further: &[],
    must_use: &[
        "social_security_number",
        "scheme",
        "payment_state",
        "not_paid_from",
        "due_on",
    ],
    many: true,
    required: false,
};

/// Changed payments, by an import: person and scheme never change.
pub(crate) const UPDATE_PAYMENTS: StatementShape = StatementShape {
    name: UPDATE,
    relation: RELATION,
    further: &[],
    must_use: &[
        "old_social_security_number",
        "old_scheme",
        "payment_state",
        "not_paid_from",
        "due_on",
        "old_payment_state",
        "old_due_on",
    ],
    many: true,
    required: false,
};

/// The day by which a check is due, which a check moves: all that a report of a check ever writes.
pub(crate) const SET_DUE_DAYS: StatementShape = StatementShape {
    name: SET_DUE,
    relation: RELATION,
    further: &[],
    must_use: &[
        "old_social_security_number",
        "old_scheme",
        "due_on",
        "old_due_on",
    ],
    many: true,
    required: true,
};

/// The bureau's rows of some people.
#[derive(Debug, Default)]
pub(super) struct Payments(Vec<(Record, PersonKey, Payment)>);

impl Payments {
    /// The payments as the bureau has them.
    pub(super) fn standing(&self) -> Vec<(PersonKey, Payment)> {
        let rows = self.0.iter();
        rows.map(|(_, key, payment)| (*key, *payment)).collect()
    }
}

/// Every payment of some people.
pub(super) async fn read(
    mapped: &Mapped,
    connection: &mut PgConnection,
    people: &[CitizenId],
) -> Result<Payments, StoreError> {
    let keys = [numbers(people)];
    let records = mapped.find(connection, RELATION, &keys).await?;
    let mut known = HashSet::new();
    let rows = records.into_iter().map(|record| {
        let (key, payment) = payment(&record)?;
        // Which of two rows holds would be a guess.
        let is_first = known.insert(key);
        is_first
            .then_some((record, key, payment))
            .ok_or_else(|| unreadable("scheme", &Twice))
    });
    Ok(Payments(rows.collect::<Result<_, StoreError>>()?))
}

/// What the bureau has of some people, and whose rows cannot be used.
pub(super) async fn look(
    mapped: &Mapped,
    pool: &PgPool,
    people: &[CitizenId],
) -> Result<(HashMap<PersonKey, Payment>, HashSet<CitizenId>), StoreError> {
    let mut connection = pool.acquire().await?;
    let (mut payments, mut unusable) = (HashMap::new(), HashSet::new());
    let keys = [numbers(people)];
    for record in mapped.find(&mut connection, RELATION, &keys).await? {
        match payment(&record) {
            Ok((key, payment)) => {
                if payments.insert(key, payment).is_some() {
                    unusable.insert(key.holder);
                }
            }
            Err(StoreError::Unreadable(_)) => unusable.extend(holder_of(&record).ok()),
            Err(error) => return Err(error),
        }
    }
    Ok((payments, unusable))
}

/// Writes what was decided about payments into the bureau's tables. `recorded` says that the payments themselves were handed over; otherwise
/// only the day by which a check is due is written, whatever was decided.
pub(super) async fn write(
    mapped: &Mapped,
    connection: &mut PgConnection,
    read: &Payments,
    people: &[&Person],
    recorded: bool,
) -> Result<(), StoreError> {
    let (mut inserts, mut updates, mut days) = (Vec::new(), Vec::new(), Vec::new());
    let rows = read.0.iter();
    let rows: HashMap<_, _> = rows
        .map(|(record, key, before)| (*key, (record, before)))
        .collect();
    // Of several decisions about a person the last one counts.
    let mut seen = HashSet::new();
    for person in people.iter().rev() {
        let Some(now) = person.payment.filter(|_| seen.insert(person.key)) else {
            continue;
        };
        let kept = |payment: &Payment| (payment.state, payment.not_paid_from);
        match rows.get(&person.key) {
            Some((_, before)) if **before == now => {}
            Some((record, before)) => {
                let values = values(Parameters::changing(record), person.key, now);
                if kept(before) == kept(&now) {
                    days.push(values);
                } else if recorded {
                    updates.push(values);
                }
            }
            None if recorded => inserts.push(values(Parameters::new(), person.key, now)),
            None => {}
        }
    }
    execute_many(mapped, connection, INSERT, &inserts).await?;
    execute_many(mapped, connection, UPDATE, &updates).await?;
    execute_many(mapped, connection, SET_DUE, &days).await
}

fn payment(record: &Record) -> Result<(PersonKey, Payment), StoreError> {
    let fault = |fault: RecordFault| unreadable(fault.field(), &fault);
    let name = record.code("payment_state").map_err(fault)?;
    let state = PaymentState::from_str_name(&format!("{STATE_PREFIX}{name}"))
        .ok_or(StoreError::Corrupt("payment state"))?;
    let from = record.optional_date("not_paid_from").map_err(fault)?;
    let not_paid_from = match (state, from) {
        // The day of an earlier pause says nothing about a payment that is paid.
        (PaymentState::Paying, _) => None,
        (_, None) => return Err(unreadable("not_paid_from", &NoDay)),
        (_, from) => from,
    };
    let key = PersonKey {
        holder: holder_of(record)?,
        scheme: scheme_of(record)?,
    };
    let due_on = record.date("due_on").map_err(fault)?;
    let payment = Payment {
        state,
        not_paid_from,
        due_on,
    };
    Ok((key, payment))
}

#[derive(Debug, thiserror::Error)]
#[error("a payment that is paused or stopped has the day from which it is")]
struct NoDay;

#[derive(Debug, thiserror::Error)]
#[error("a person has two rows under a scheme")]
struct Twice;

fn values<'a>(parameters: Parameters<'a>, key: PersonKey, payment: Payment) -> Parameters<'a> {
    let values = parameters
        .with("social_security_number", key.holder.as_str())
        .with("scheme", scheme_name(key.scheme))
        .with(
            "payment_state",
            without(payment.state.as_str_name(), STATE_PREFIX),
        )
        .with("due_on", payment.due_on.to_string());
    match payment.not_paid_from {
        Some(day) => values.with("not_paid_from", day.to_string()),
        None => values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_a_payment_has_a_name_that_the_shape_knows() {
        let FieldKind::Code(known) = PAYMENT.fields[2].kind else {
            panic!("a state is a code")
        };
        let all: Vec<_> = (1..)
            .map_while(|number| PaymentState::try_from(number).ok())
            .map(|state| without(state.as_str_name(), STATE_PREFIX))
            .collect();
        assert_eq!(all, known);
    }
}
