//! Rows of both stores, and what they mean.

use banqiao_kit::identifier::{CitizenId, DivisionCode};
use banqiao_proto::card::v1::CardState;
use jiff::civil::Date;

use super::{Blank, Cause, Change, FirstAnswer, Life, Part, ReportAnswer, StoreError, StoredCard};
use crate::{
    card::{Card, CardNumber, ChipCode, HolderName, parse_date},
    state::{Standing, State},
};

/// The columns of a card, in the order in which both stores write them. Named, so that a replica of the former version goes on while a
/// migration has added a column.
macro_rules! card_columns {
    () => {
        "card_number, social_security_number, name, card_identification_code, issuing_division, issued_on, \
         expires_on, social_state, social_until, social_reported, financial_state, financial_until, \
         financial_reported, electronic, specification_version, salt, version, wrong_pins, electronic_issued, \
         predecessor, successor"
    };
}

/// The columns of a change.
macro_rules! change_columns {
    () => {
        "seq, card_number, function, from_state, to_state, actor_city, cause, changed_at, client, exchange"
    };
}

/// The columns of a report.
macro_rules! report_columns {
    () => {
        "client, request_id, request_digest, applied, state, until, seq, exchange, reported_at, outcome, \
         verification, verification_method"
    };
}

pub(super) use {card_columns, change_columns, report_columns};

#[derive(sqlx::FromRow)]
pub(super) struct CardRow {
    card_number: String,
    social_security_number: String,
    name: String,
    card_identification_code: String,
    issuing_division: String,
    issued_on: String,
    expires_on: String,
    social_state: i16,
    social_until: Option<i64>,
    social_reported: bool,
    financial_state: i16,
    financial_until: Option<i64>,
    financial_reported: bool,
    electronic: bool,
    specification_version: String,
    salt: Vec<u8>,
    version: i64,
    wrong_pins: i16,
    electronic_issued: bool,
    predecessor: Option<String>,
    successor: Option<String>,
}

impl TryFrom<CardRow> for StoredCard {
    type Error = StoreError;

    fn try_from(row: CardRow) -> Result<Self, StoreError> {
        let card = Card {
            number: number(&row.card_number)?,
            // It was checked when it came in; what was in the past then is so now.
            holder: CitizenId::parse(&row.social_security_number, Date::MAX)
                .map_err(|_| StoreError::Corrupt("social security number"))?,
            name: HolderName::parse(&row.name).map_err(|_| StoreError::Corrupt("name"))?,
            chip: ChipCode::parse(&row.card_identification_code)
                .map_err(|_| StoreError::Corrupt("card identification code"))?,
            division: DivisionCode::parse(&row.issuing_division)
                .map_err(|_| StoreError::Corrupt("division"))?,
            issued_on: date(&row.issued_on)?,
            expires_on: date(&row.expires_on)?,
            social: standing(row.social_state, row.social_until, row.social_reported)?,
            financial: standing(
                row.financial_state,
                row.financial_until,
                row.financial_reported,
            )?,
            electronic: row.electronic,
            specification: row.specification_version,
        };
        let salt = row
            .salt
            .try_into()
            .map_err(|_| StoreError::Corrupt("salt"))?;
        let other = |text: Option<String>| text.as_deref().map(number).transpose();
        let life = Life {
            wrong_pins: u8::try_from(row.wrong_pins)
                .map_err(|_| StoreError::Corrupt("count of wrong PINs"))?,
            electronic_issued: row.electronic_issued,
            predecessor: other(row.predecessor)?,
            successor: other(row.successor)?,
        };
        Ok(Self {
            card,
            salt,
            version: row.version,
            life,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ChangeRow {
    seq: i64,
    card_number: String,
    function: i16,
    from_state: i16,
    to_state: i16,
    actor_city: String,
    cause: String,
    changed_at: i64,
    client: Option<String>,
    exchange: Option<String>,
}

impl TryFrom<ChangeRow> for Change {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        let from = if row.from_state == 0 {
            None
        } else {
            Some(state(row.from_state)?)
        };
        Ok(Self {
            seq: row.seq,
            number: number(&row.card_number)?,
            part: Part::of(row.function.into()).ok_or(StoreError::Corrupt("function"))?,
            from,
            to: state(row.to_state)?,
            actor_city: row
                .actor_city
                .parse()
                .map_err(|_| StoreError::Corrupt("city"))?,
            call: row.client.zip(row.exchange),
            cause: Cause::of(&row.cause).ok_or(StoreError::Corrupt("cause"))?,
            changed_at_us: row.changed_at,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ReportRow {
    request_digest: Vec<u8>,
    state: Option<i16>,
    until: Option<i64>,
    seq: Option<i64>,
    outcome: Option<Vec<u8>>,
}

impl TryFrom<ReportRow> for FirstAnswer {
    type Error = StoreError;

    fn try_from(row: ReportRow) -> Result<Self, StoreError> {
        let digest = row
            .request_digest
            .try_into()
            .map_err(|_| StoreError::Corrupt("digest"))?;
        let answer = match row.state {
            Some(number) => ReportAnswer::Applied {
                state: state(number)?,
                until_us: row.until,
                seq: row.seq,
            },
            None => ReportAnswer::NothingMatched,
        };
        Ok(Self {
            digest,
            answer,
            outcome: row.outcome,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct BlankRow {
    card_number: String,
    card_identification_code: String,
    specification_version: String,
}

impl TryFrom<BlankRow> for Blank {
    type Error = StoreError;

    fn try_from(row: BlankRow) -> Result<Self, StoreError> {
        Ok(Self {
            number: number(&row.card_number)?,
            chip: ChipCode::parse(&row.card_identification_code)
                .map_err(|_| StoreError::Corrupt("card identification code"))?,
            specification: row.specification_version,
        })
    }
}

/// Columns of a standing: state, end, reported.
pub(super) fn columns(standing: &Standing) -> (i16, Option<i64>, bool) {
    (
        state_number(standing.state()),
        standing.until_us(),
        standing.is_reported(),
    )
}

pub(super) const fn state_number(state: State) -> i16 {
    // The numbers of the enum are below 8.
    state.shown() as i16
}

pub(super) const fn part_number(part: Part) -> i16 {
    part.shown() as i16
}

fn standing(number: i16, until: Option<i64>, reported: bool) -> Result<Standing, StoreError> {
    let state = state(number)?;
    if (state == State::TempLost) != until.is_some() {
        return Err(StoreError::Corrupt("end of a temporary loss"));
    }
    Ok(Standing::begin(state, until.unwrap_or_default(), reported))
}

fn state(number: i16) -> Result<State, StoreError> {
    let shown = CardState::try_from(i32::from(number)).ok();
    shown
        .and_then(State::of)
        .ok_or(StoreError::Corrupt("state"))
}

fn number(text: &str) -> Result<CardNumber, StoreError> {
    CardNumber::parse(text).map_err(|_| StoreError::Corrupt("card number"))
}

fn date(text: &str) -> Result<Date, StoreError> {
    parse_date(text).map_err(|_| StoreError::Corrupt("date"))
}
