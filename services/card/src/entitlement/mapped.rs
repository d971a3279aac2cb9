//! Insured persons in the bureau's own tables: read through the mapping at each question, written by its statements when lines of an
//! import say so. This service keeps no copy of them.

use std::collections::HashMap;

use banqiao_kit::{
    identifier::{CitizenId, DivisionCode},
    mapping::{FieldKind, Mapped, Parameters, Record, RecordFault, RelationShape, StatementShape},
};
use banqiao_proto::card::v1::{InsuranceScheme, InsuredStatus, TreatmentState};
use jiff::civil::Date;
use sqlx::{PgConnection, PgPool};

use super::{Period, store::PeriodWrite};
use crate::{
    people::holder_of,
    store::{StoreError, execute_many, field, optional_field, parsed, unreadable},
};

const RELATION: &str = "insurance";
const INSERT: &str = "insert_periods";
const UPDATE: &str = "update_periods";

const SCHEME_PREFIX: &str = "INSURANCE_SCHEME_";
const STATUS_PREFIX: &str = "INSURED_STATUS_";
const TREATMENT_PREFIX: &str = "TREATMENT_STATE_";

/// The schemes by the names of the mapping's code tables.
pub(crate) const SCHEME: FieldKind = FieldKind::Code(&[
    "PENSION",
    "RESIDENT_PENSION",
    "UNEMPLOYMENT",
    "WORK_INJURY",
    "MEDICAL",
    "RESIDENT_MEDICAL",
    "MATERNITY",
    "DEPENDANT",
]);

/// A row for each period of a person under a scheme.
pub(crate) const INSURANCE: RelationShape = RelationShape {
    name: RELATION,
    fields: &[
        field("social_security_number", FieldKind::Key),
        field("scheme", SCHEME),
        field("insured_division", FieldKind::Text),
        field("begins_on", FieldKind::Date),
        optional_field("ends_on", FieldKind::Date),
        field(
            "insured_status",
            FieldKind::Code(&["NORMAL", "PAUSED", "ENDED", "INTERRUPTED"]),
        ),
        field(
            "treatment_state",
            FieldKind::Code(&["NONE", "DRAWING", "PAUSED", "ENDED"]),
        ),
        optional_field("settlement_suspended_from", FieldKind::Date),
        optional_field("settlement_suspended_until", FieldKind::Date),
        // Left out where the table is what the bureau works on: then a record is of the day on which it is read.
        optional_field("recorded_as_of", FieldKind::Date),
    ],
    required: false,
};

/// New periods.
pub(crate) const INSERT_PERIODS: StatementShape = StatementShape {
    name: INSERT,
    relation: RELATION,
    further: &[],
    must_use: &[
        "social_security_number",
        "scheme",
        "begins_on",
        "ends_on",
        "insured_status",
        "treatment_state",
    ],
    many: true,
    required: false,
};

/// Changed periods: the key of a period never changes.
pub(crate) const UPDATE_PERIODS: StatementShape = StatementShape {
    name: UPDATE,
    relation: RELATION,
    further: &[],
    // As the bureau writes them: it may have more than one code for a scheme, and the check digit in either case.
    must_use: &[
        "old_social_security_number",
        "old_scheme",
        "old_begins_on",
        "ends_on",
        "insured_status",
        "treatment_state",
        "old_insured_status",
        "old_treatment_state",
    ],
    many: true,
    required: false,
};

/// Every period of some people, by first day, each with its row.
pub(super) async fn read(
    mapped: &Mapped,
    connection: &mut PgConnection,
    people: &[CitizenId],
    today: Date,
) -> Result<Vec<(Record, Period)>, StoreError> {
    let records = mapped
        .find(connection, RELATION, &[numbers(people)])
        .await?;
    let periods = records.into_iter().map(|record| {
        let period = period(&record, today)?;
        Ok((record, period))
    });
    let mut periods = periods.collect::<Result<Vec<_>, StoreError>>()?;
    periods.sort_by_key(|(_, period)| period.begins_on);
    let mut last: HashMap<_, Option<Date>> = HashMap::new();
    for (_, period) in &periods {
        let before = last.insert((period.holder, period.scheme), period.ends_on);
        // Which of two rows holds would be a guess.
        if before.is_some_and(|end| end.is_none_or(|end| end >= period.begins_on)) {
            return Err(unreadable("begins_on", &Overlap));
        }
    }
    Ok(periods)
}

/// The periods of some people, by person and first day, and how many rows cannot be used.
pub(super) async fn look(
    mapped: &Mapped,
    pool: &PgPool,
    people: &[CitizenId],
    today: Date,
) -> Result<(Vec<Period>, u64), StoreError> {
    let mut connection = pool.acquire().await?;
    let keys = [numbers(people)];
    let records = mapped.find(&mut connection, RELATION, &keys).await?;
    let (mut periods, mut unusable) = (Vec::with_capacity(records.len()), 0);
    for record in records {
        match period(&record, today) {
            Ok(period) => periods.push(period),
            Err(StoreError::Unreadable(_)) => unusable += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((periods, unusable))
}

/// As [`read`], with a connection of the pool.
pub(super) async fn periods(
    mapped: &Mapped,
    pool: &PgPool,
    holder: &CitizenId,
    today: Date,
) -> Result<Vec<Period>, StoreError> {
    let mut connection = pool.acquire().await?;
    let found = read(mapped, &mut connection, &[*holder], today).await?;
    Ok(found.into_iter().map(|(_, period)| period).collect())
}

/// Numbers as bureaus write them: the check digit X in either case.
pub(crate) fn numbers(people: &[CitizenId]) -> Vec<String> {
    let mut numbers = Vec::with_capacity(people.len());
    for person in people {
        let number = person.as_str();
        if number.ends_with('X') {
            numbers.push(number.to_ascii_lowercase());
        }
        numbers.push(number.to_owned());
    }
    numbers
}

/// Writes a batch into the bureau's tables.
pub(super) async fn write(
    mapped: &Mapped,
    connection: &mut PgConnection,
    read: &[(Record, Period)],
    write: &PeriodWrite,
) -> Result<(), StoreError> {
    let new: Vec<_> = write
        .inserts
        .iter()
        .map(|period| values(Parameters::new(), period))
        .collect();
    execute_many(mapped, connection, INSERT, &new).await?;
    let key = |period: &Period| (period.holder, period.scheme, period.begins_on);
    let known: HashMap<_, _> = read
        .iter()
        .map(|(record, period)| (key(period), record))
        .collect();
    let changed = write.updates.iter().map(|period| {
        let record = known.get(&key(period)).ok_or(StoreError::Conflict)?;
        Ok(values(Parameters::changing(record), period))
    });
    let changed = changed.collect::<Result<Vec<_>, StoreError>>()?;
    execute_many(mapped, connection, UPDATE, &changed).await
}

#[derive(Debug, thiserror::Error)]
#[error("two periods of a person under a scheme cover one day")]
struct Overlap;

fn period(record: &Record, today: Date) -> Result<Period, StoreError> {
    let fault = |fault: RecordFault| unreadable(fault.field(), &fault);
    let text = |field| record.text(field).map_err(fault);
    let optional = |field| record.optional_date(field).map_err(fault);
    let division = DivisionCode::parse(text("insured_division")?);
    let status = record.code("insured_status").map_err(fault)?;
    let treatment = record.code("treatment_state").map_err(fault)?;
    let suspension = (
        optional("settlement_suspended_from")?,
        optional("settlement_suspended_until")?,
    );
    Ok(Period {
        holder: holder_of(record)?,
        scheme: scheme_of(record)?,
        division: parsed("insured_division", division)?,
        begins_on: record.date("begins_on").map_err(fault)?,
        ends_on: optional("ends_on")?,
        status: InsuredStatus::from_str_name(&format!("{STATUS_PREFIX}{status}"))
            .ok_or(StoreError::Corrupt("insured status"))?,
        treatment: TreatmentState::from_str_name(&format!("{TREATMENT_PREFIX}{treatment}"))
            .ok_or(StoreError::Corrupt("treatment state"))?,
        suspension: match suspension {
            (None, None) => None,
            (Some(from), Some(until)) => Some((from, until)),
            _ => return Err(unreadable("settlement_suspended_from", &HalfSuspension)),
        },
        as_of: optional("recorded_as_of")?.unwrap_or(today),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("a suspension has a first and a last day")]
struct HalfSuspension;

/// The scheme of a record whose field `scheme` is [`SCHEME`].
pub(crate) fn scheme_of(record: &Record) -> Result<InsuranceScheme, StoreError> {
    let name = record.code("scheme");
    let name = name.map_err(|fault| unreadable(fault.field(), &fault))?;
    let scheme = InsuranceScheme::from_str_name(&format!("{SCHEME_PREFIX}{name}"));
    scheme.ok_or(StoreError::Corrupt("scheme"))
}

/// A scheme by its name in a mapping.
pub(crate) fn scheme_name(scheme: InsuranceScheme) -> &'static str {
    without(scheme.as_str_name(), SCHEME_PREFIX)
}

/// A name of an enumeration without its prefix.
pub(crate) fn without(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

fn values<'a>(parameters: Parameters<'a>, period: &Period) -> Parameters<'a> {
    let mut values = parameters
        .with("social_security_number", period.holder.as_str())
        .with("scheme", scheme_name(period.scheme))
        .with("insured_division", period.division.as_str())
        .with("begins_on", period.begins_on.to_string())
        .with(
            "insured_status",
            without(period.status.as_str_name(), STATUS_PREFIX),
        )
        .with(
            "treatment_state",
            without(period.treatment.as_str_name(), TREATMENT_PREFIX),
        )
        .with("recorded_as_of", period.as_of.to_string());
    if let Some(day) = period.ends_on {
        values = values.with("ends_on", day.to_string());
    }
    if let Some((from, until)) = period.suspension {
        values = values
            .with("settlement_suspended_from", from.to_string())
            .with("settlement_suspended_until", until.to_string());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_an_enumeration_has_a_name_that_the_shape_knows() {
        let names = |place: usize| match INSURANCE.fields[place].kind {
            FieldKind::Code(names) => names,
            kind => panic!("{kind:?} is no code"),
        };
        for (place, prefix, known) in [
            (1, SCHEME_PREFIX, &names(1)),
            (5, STATUS_PREFIX, &names(5)),
            (6, TREATMENT_PREFIX, &names(6)),
        ] {
            let name = |number| match place {
                1 => InsuranceScheme::try_from(number).map(|value| value.as_str_name()),
                5 => InsuredStatus::try_from(number).map(|value| value.as_str_name()),
                _ => TreatmentState::try_from(number).map(|value| value.as_str_name()),
            };
            let all: Vec<_> = (1..)
                .map_while(|number| name(number).ok())
                .map(|name| without(name, prefix))
                .collect();
            assert_eq!(all, **known);
        }
    }
}
