//! Cards in the bureau's own tables.
//!
//! What the mapping reads stands above what this service keeps: its own row of a card, in the same database, holds only what the
//! bureau's table has no place for (the end of a temporary loss, whether it was reported, salts, versions), and there is one only for
//! cards that changed through it. One transaction writes both and the history.
//!
//! The version of such a card is a digest of everything that was read, so that a change by the bureau's own programs counts like one by
//! this service: who decided on another version reads and decides again. Between the last reading and the statement the bureau may still
//! write; that is why a statement names the states that were read and must change exactly one row.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_kit::{
    Broken, DatabaseError, FaultKind, classify,
    identifier::DivisionCode,
    mapping::{Mapped, Parameters, Record, RecordFault, StatementError},
};
use banqiao_telemetry::Chain;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{
    Life, Page, StoreError, StoredCard, Write, postgres,
    shape::{INSERT, Pair, RELATION, SET_STATE, STATES, UPDATE},
};
use crate::{
    card::{Card, CardNumber, ChipCode, HolderName},
    people::holder_of,
    state::{Standing, State},
};

/// The bureau's row and ours are read as they stood at one moment: of two statements the second could see a change that the first did not.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Waiting of imports, instead of the few seconds of a call.
const PATIENT: &str =
    "SELECT set_config('lock_timeout', '60s', true), set_config('statement_timeout', '60s', true)";

/// The bureau's tables.
#[derive(Clone, Debug)]
pub(super) struct Bureau {
    mapped: Mapped,
    /// Makes the salts of cards of which this service keeps no row yet.
    secret: [u8; 32],
}

impl Bureau {
    /// The cards of a mapping that fits the database, whose schema is up to date.
    pub(super) async fn open(pool: &PgPool, mapped: Mapped) -> Result<Self, DatabaseError> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| DatabaseError::NoRandomBytes)?;
        let secret = postgres::mapping_secret(pool, secret).await;
        let secret = secret.map_err(DatabaseError::Connect)?;
        Ok(Self { mapped, secret })
    }

    /// As [`super::Store::find_all`].
    pub(super) async fn find_all(
        &self,
        pool: &PgPool,
        numbers: &[&CardNumber],
        chips: &[&ChipCode],
    ) -> Result<Vec<StoredCard>, StoreError> {
        let mut snapshot = pool.begin_with(SNAPSHOT).await?;
        let found = self.read(&mut snapshot, numbers, chips).await?;
        snapshot.commit().await?;
        found.into_iter().map(|(_, stored, _)| Ok(stored)).collect()
    }

    /// The bureau's records, each as a card and with this service's own row.
    async fn read(
        &self,
        connection: &mut PgConnection,
        numbers: &[&CardNumber],
        chips: &[&ChipCode],
    ) -> Result<Vec<(Record, StoredCard, Option<i64>)>, StoreError> {
        let numbers = numbers.iter().map(|number| number.as_str().to_owned());
        // Bureaus write the digits in either case, and an index finds one that is written as it is asked for.
        let chips = chips
            .iter()
            .flat_map(|chip| [chip.as_str().to_owned(), chip.as_str().to_ascii_lowercase()]);
        let keys = [numbers.collect(), chips.collect()];
        let records = self.mapped.find(connection, RELATION, &keys).await?;
        self.join(connection, records).await?.into_iter().collect()
    }

    async fn join(
        &self,
        connection: &mut PgConnection,
        records: Vec<Record>,
    ) -> Result<Vec<Result<(Record, StoredCard, Option<i64>), StoreError>>, StoreError> {
        let numbers: Vec<_> = records
            .iter()
            .filter_map(|record| number_of(record).ok())
            .collect();
        let own = postgres::find_all(connection, &numbers.iter().collect::<Vec<_>>(), &[]).await?;
        let mut own: HashMap<_, _> = own
            .into_iter()
            .map(|stored| (stored.card.number.clone(), stored))
            .collect();
        let mut seen = HashSet::new();
        Ok(records
            .into_iter()
            .map(|record| {
                let number = number_of(&record)?;
                let kept = own.remove(&number);
                if !seen.insert(number) {
                    return Err(unreadable("card_number", &Twice));
                }
                let version = kept.as_ref().map(|kept| kept.version);
                let stored = self.stored(&record, kept)?;
                Ok((record, stored, version))
            })
            .collect())
    }

    /// The bureau's record above what this service keeps of it.
    fn stored(&self, record: &Record, kept: Option<StoredCard>) -> Result<StoredCard, StoreError> {
        let standing = |field, kept: Option<Standing>| {
            let state = state_of(
                record
                    .code(field)
                    .map_err(|fault| unreadable(field, &fault))?,
            )?;
            // What this service knows of a state belongs to it only while the bureau's record is in it.
            let kept = kept.filter(|kept| kept.state() == state);
            Ok::<_, StoreError>(
                kept.unwrap_or_else(|| Standing::begin(state, ENDED_BY_BUREAU, false)),
            )
        };
        let text = |field| {
            record
                .text(field)
                .map_err(|fault| unreadable(field, &fault))
        };
        let date = |field| {
            record
                .date(field)
                .map_err(|fault| unreadable(field, &fault))
        };
        let specification = match record.text("specification_version") {
            Err(RecordFault::Empty { .. }) => String::new(),
            text => text
                .map_err(|fault| unreadable("specification_version", &fault))?
                .to_owned(),
        };
        let electronic = record
            .code("electronic")
            .map_err(|fault| unreadable("electronic", &fault))?;
        let card = Card {
            number: number_of(record)?,
            holder: holder_of(record)?,
            name: parsed("name", HolderName::parse(text("name")?))?,
            chip: parsed(
                "card_identification_code",
                ChipCode::parse(text("card_identification_code")?),
            )?,
            division: parsed(
                "issuing_division",
                DivisionCode::parse(text("issuing_division")?),
            )?,
            issued_on: date("issued_on")?,
            expires_on: date("expires_on")?,
            social: standing("social_state", kept.as_ref().map(|kept| kept.card.social))?,
            financial: standing(
                "financial_state",
                kept.as_ref().map(|kept| kept.card.financial),
            )?,
            electronic: electronic == "true",
            specification,
        };
        let version = version_of(record, kept.as_ref().map_or(0, |kept| kept.version));
        let salt = self.salt(&card.number);
        Ok(match kept {
            Some(kept) => StoredCard {
                card,
                version,
                ..kept
            },
            None => StoredCard {
                card,
                salt,
                version,
                life: Life::default(),
            },
        })
    }

    fn salt(&self, number: &CardNumber) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(b"banqiao-card-mapped-salt-v1\0");
        context.update(&self.secret);
        context.update(number.as_str().as_bytes());
        let mut salt = [0; 32];
        salt.copy_from_slice(context.finish().as_ref());
        salt
    }

    /// Writes into the bureau's tables, and gives what is left to write into this service's own.
    pub(super) async fn write_through(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        write: &Write,
    ) -> Result<Write, StoreError> {
        let mut own = write.clone();
        if !write.inserts.is_empty() {
            // Imports at once wait for each other's batches.
            sqlx::query(PATIENT).execute(&mut **transaction).await?;
        }
        let new = write
            .inserts
            .iter()
            .map(|stored| values(Parameters::new(), &stored.card));
        let new = new.collect::<Result<Vec<_>, _>>()?;
        self.execute(transaction, INSERT, &new).await?;
        let numbers: Vec<_> = write
            .updates
            .iter()
            .map(|stored| &stored.card.number)
            .collect();
        let found = self.read(transaction, &numbers, &[]).await?;
        let mut found: HashMap<_, _> = found
            .into_iter()
            .map(|found| (found.1.card.number.clone(), found))
            .collect();
        let (mut first, mut read) = (Vec::new(), Vec::new());
        for stored in &mut own.updates {
            let found = found
                .remove(&stored.card.number)
                .ok_or(StoreError::Conflict)?;
            let (record, present, version) = found;
            if present.version != stored.version {
                return Err(StoreError::Conflict);
            }
            let statement = statement_for(&present.card, &stored.card);
            read.push((record, statement, stored.card.clone()));
            stored.version = version.unwrap_or(1);
            if version.is_none() {
                first.push(StoredCard {
                    version: 1,
                    ..present
                });
            }
        }
        for statement in [SET_STATE, UPDATE] {
            let changed = read.iter().filter(|(_, with, _)| *with == Some(statement));
            let changed = changed.map(|(record, _, to)| values(Parameters::changing(record), to));
            let changed = changed.collect::<Result<Vec<_>, _>>()?;
            self.execute(transaction, statement, &changed).await?;
        }
        // Whoever else makes the first row of a card meets this one at its number.
        postgres::insert(transaction, &first).await?;
        Ok(own)
    }

    /// Changes each record once: by the statement for many, where there are many and the mapping has it.
    async fn execute(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        (one, many): Pair,
        records: &[Parameters<'_>],
    ) -> Result<(), StoreError> {
        let at_once = self.mapped.has(many) && (records.len() > 1 || !self.mapped.has(one));
        if at_once {
            return execute_many(&self.mapped, transaction, many, records).await;
        }
        for values in records {
            if !self.mapped.has(one) {
                return Err(StoreError::NotMapped(one));
            }
            let changed = self.mapped.execute(transaction, one, values).await?;
            all_changed(changed, 1)?;
        }
        Ok(())
    }

    /// As [`super::Store::ended_losses`]. Own rows that the bureau's record left behind are brought up to date on the way, so that they
    /// are not found again.
    pub(super) async fn ended_losses(
        &self,
        pool: &PgPool,
        now_us: i64,
        limit: i64,
    ) -> Result<Vec<StoredCard>, StoreError> {
        let mut ended = Vec::new();
        for kept in postgres::ended_losses(pool, now_us, limit).await? {
            let found = self.find_all(pool, &[&kept.card.number], &[]).await;
            let found = match found {
                Err(StoreError::Unreadable(_)) => continue,
                found => found?.pop(),
            };
            let has_ended = |standing: Standing| standing.settled(now_us) != standing;
            match found {
                Some(stored)
                    if has_ended(stored.card.social) || has_ended(stored.card.financial) =>
                {
                    ended.push(stored);
                }
                found => self.refresh(pool, kept, found, now_us).await?,
            }
        }
        Ok(ended)
    }

    async fn refresh(
        &self,
        pool: &PgPool,
        mut kept: StoredCard,
        found: Option<StoredCard>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        match found {
            Some(found) => kept.card = found.card,
            None => {
                kept.card.social = kept.card.social.settled(now_us);
                kept.card.financial = kept.card.financial.settled(now_us);
            }
        }
        let mut transaction = pool.begin().await?;
        match postgres::update(&mut transaction, &[kept]).await {
            Ok(()) => Ok(transaction.commit().await?),
            // Somebody else changed it, and will have brought it up to date.
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`super::Store::page`].
    pub(super) async fn page(
        &self,
        pool: &PgPool,
        after: &str,
        limit: i64,
    ) -> Result<Page, StoreError> {
        let mut snapshot = pool.begin_with(SNAPSHOT).await?;
        let records = self
            .mapped
            .page(&mut snapshot, RELATION, after, limit)
            .await?;
        let last = records
            .last()
            .and_then(|record| record.text("card_number").ok());
        let mut page = Page {
            last: last.map(str::to_owned),
            ..Page::default()
        };
        let numbers: Vec<_> = records
            .iter()
            .map(|record| record.text("card_number").unwrap_or_default().to_owned())
            .collect();
        for (number, found) in numbers
            .into_iter()
            .zip(self.join(&mut snapshot, records).await?)
        {
            match found {
                Ok((_, stored, _)) => page.cards.push(stored),
                Err(StoreError::Unreadable(field)) => page.unreadable.push((number, field)),
                Err(error) => return Err(error),
            }
        }
        snapshot.commit().await?;
        Ok(page)
    }
}

/// The statement that writes a change; none where the bureau has no place for what changed.
fn statement_for(from: &Card, to: &Card) -> Option<Pair> {
    let states = |card: &Card| (card.social.state(), card.financial.state());
    let moved = Card {
        social: to.social,
        financial: to.financial,
        ..from.clone()
    };
    if moved != *to {
        Some(UPDATE)
    } else {
        (states(from) != states(to)).then_some(SET_STATE)
    }
}

/// Executes a statement of a mapping for many records; nothing where there are none.
pub(crate) async fn execute_many(
    mapped: &Mapped,
    connection: &mut PgConnection,
    statement: &'static str,
    records: &[Parameters<'_>],
) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    if !mapped.has(statement) {
        return Err(StoreError::NotMapped(statement));
    }
    let changed = mapped.execute_many(connection, statement, records).await?;
    all_changed(changed, records.len())
}

/// A statement changes a row for each record.
fn all_changed(rows: u64, records: usize) -> Result<(), StoreError> {
    match rows.cmp(&u64::try_from(records).unwrap_or(u64::MAX)) {
        Ordering::Equal => Ok(()),
        // The bureau changed a record meanwhile, or removed it.
        Ordering::Less => Err(StoreError::Conflict),
        Ordering::Greater => Err(StoreError::Corrupt(
            "number of rows that a statement of the mapping changed",
        )),
    }
}

/// End of a temporary loss that the bureau recorded itself: its own programs end it. 9999-12-31, the last day of a protobuf time.
const ENDED_BY_BUREAU: i64 = 253_402_214_400_000_000;

#[derive(Debug, thiserror::Error)]
#[error("two rows have this number")]
struct Twice;

fn number_of(record: &Record) -> Result<CardNumber, StoreError> {
    let text = record
        .text("card_number")
        .map_err(|fault| unreadable("card_number", &fault))?;
    parsed("card_number", CardNumber::parse(text))
}

pub(crate) fn parsed<T>(field: &'static str, parsed: Result<T, Broken>) -> Result<T, StoreError> {
    parsed.map_err(|broken| unreadable(field, &broken))
}

/// The log says why; a caller learns the field. Neither holds a value of the holder.
pub(crate) fn unreadable(
    field: &'static str,
    cause: &(dyn std::error::Error + 'static),
) -> StoreError {
    tracing::warn!(field, error = %Chain(cause), "a record of the mapped tables cannot be used");
    StoreError::Unreadable(field)
}

fn state_of(name: &str) -> Result<State, StoreError> {
    let known = STATES.iter().find(|(_, known)| *known == name);
    known
        .map(|(state, _)| *state)
        .ok_or(StoreError::Corrupt("state"))
}

fn name_of(state: State) -> Result<&'static str, StoreError> {
    let known = STATES.iter().find(|(known, _)| *known == state);
    known
        .map(|(_, name)| *name)
        .ok_or(StoreError::Corrupt("state"))
}

/// A digest of everything that was read, and the version of our own row.
fn version_of(record: &Record, own: i64) -> i64 {
    let mut context = Context::new(&SHA256);
    for value in record.values() {
        let length = value.map_or(u64::MAX, |value| {
            u64::try_from(value.len()).unwrap_or(u64::MAX)
        });
        context.update(&length.to_be_bytes());
        context.update(value.unwrap_or_default().as_bytes());
    }
    context.update(&own.to_be_bytes());
    let digest = context.finish();
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    i64::from_be_bytes(first)
}

/// A card as values of a statement.
fn values<'a>(parameters: Parameters<'a>, card: &Card) -> Result<Parameters<'a>, StoreError> {
    Ok(parameters
        .with("card_number", card.number.as_str())
        .with("card_identification_code", card.chip.as_str())
        .with("social_security_number", card.holder.as_str())
        .with("name", card.name.as_str())
        .with("issuing_division", card.division.as_str())
        .with("issued_on", card.issued_on.to_string())
        .with("expires_on", card.expires_on.to_string())
        .with("social_state", name_of(card.social.state())?)
        .with("financial_state", name_of(card.financial.state())?)
        .with("electronic", if card.electronic { "true" } else { "false" })
        .with("specification_version", card.specification.as_str()))
}

impl From<StatementError> for StoreError {
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::Database(error) => match classify(&error) {
                // A number, a length or a constraint of the bureau's: the record is refused, not the service broken.
                FaultKind::Broken if is_value_fault(&error) => {
                    tracing::warn!(error = %Chain(&error), "the bureau's tables refuse a record");
                    Self::Unreadable("card")
                }
                _ => error.into(),
            },
            StatementError::Record(fault) => unreadable(fault.field(), &fault),
            _ => Self::Corrupt("mapping"),
        }
    }
}

/// SQLSTATE classes 22 (data exception) and 23 (integrity constraint).
fn is_value_fault(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

#[cfg(test)]
mod tests {
    use banqiao_kit::mapping::FieldKind;

    use super::*;

    #[test]
    fn every_state_has_a_name_that_the_shape_knows() {
        let FieldKind::Code(names) = crate::store::shape::STATE else {
            panic!("a state is a code")
        };
        let states: Vec<_> = STATES.iter().map(|(_, name)| *name).collect();
        assert_eq!(states, names);
        for (state, name) in STATES {
            assert_eq!(state_of(name).unwrap(), state);
            assert_eq!(format!("CARD_STATE_{name}"), state.shown().as_str_name());
        }
    }
}
