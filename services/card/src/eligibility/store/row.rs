//! Rows and what they mean.

use banqiao_directory::CityCode;
use banqiao_proto::card::v1::{
    EligibilityEventKind, EligibilityMethod, EligibilityResult, InsuranceScheme,
    InvestigationOutcome, LifeEvidenceType, LossEvidenceType, PaymentState,
};

use super::super::record::{Adverse, Confirmation, Event, Evidence, Payment, Person, PersonKey};
use crate::{
    entitlement::{citizen, date, optional},
    store::StoreError,
};

macro_rules! person_columns {
    () => {
        "social_security_number, scheme, payment, not_paid_from, due_on, confirmed_on, confirmed_until, \
         confirmed_city, confirmed_method, adverse, adverse_on, adverse_city, adverse_method, \
         investigation, resumption"
    };
}

macro_rules! event_columns {
    () => {
        "seq, social_security_number, scheme, kind, paying_city, city, result, method, life_evidence, \
         loss_evidence, on_day, valid_until, investigation, outcome, actor, reason, arrears_from, \
         client, exchange, recorded_at"
    };
}

pub(super) use {event_columns, person_columns};

#[derive(sqlx::FromRow)]
pub(super) struct PersonRow {
    social_security_number: String,
    scheme: i32,
    payment: Option<i32>,
    not_paid_from: Option<String>,
    due_on: Option<String>,
    confirmed_on: Option<String>,
    confirmed_until: Option<String>,
    confirmed_city: Option<String>,
    confirmed_method: Option<i32>,
    adverse: Option<i32>,
    adverse_on: Option<String>,
    adverse_city: Option<String>,
    adverse_method: Option<i32>,
    investigation: Option<i64>,
    resumption: Option<String>,
}

impl TryFrom<PersonRow> for Person {
    type Error = StoreError;

    fn try_from(row: PersonRow) -> Result<Self, StoreError> {
        let payment = match (row.payment, row.due_on) {
            (Some(state), Some(due_on)) => Some(Payment {
                state: known(PaymentState::try_from(state), "payment")?,
                not_paid_from: optional(row.not_paid_from)?,
                due_on: date(&due_on)?,
            }),
            _ => None,
        };
        let confirmed = match (row.confirmed_on, row.confirmed_until, row.confirmed_city) {
            (Some(on), Some(until), Some(place)) => Some(Confirmation {
                verified_on: date(&on)?,
                valid_until: date(&until)?,
                city: city(&place)?,
                method: method(row.confirmed_method.unwrap_or_default())?,
            }),
            _ => None,
        };
        let adverse = match (row.adverse, row.adverse_on, row.adverse_city) {
            (Some(result), Some(on), Some(place)) => Some(Adverse {
                result: known(EligibilityResult::try_from(result), "result")?,
                on: date(&on)?,
                city: city(&place)?,
                method: method(row.adverse_method.unwrap_or_default())?,
            }),
            _ => None,
        };
        Ok(Self {
            key: key(&row.social_security_number, row.scheme)?,
            payment,
            confirmed,
            adverse,
            investigation: row.investigation,
            resumption: optional(row.resumption)?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct EventRow {
    seq: i64,
    social_security_number: String,
    scheme: i32,
    kind: i32,
    paying_city: String,
    city: String,
    result: i32,
    method: i32,
    life_evidence: i32,
    loss_evidence: i32,
    on_day: Option<String>,
    valid_until: Option<String>,
    investigation: Option<i64>,
    outcome: i32,
    actor: String,
    reason: String,
    arrears_from: Option<String>,
    client: String,
    exchange: String,
    recorded_at: i64,
}

impl TryFrom<EventRow> for Event {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let evidence = match (row.life_evidence, row.loss_evidence) {
            (0, 0) => Evidence::Unreached,
            (life, 0) => Evidence::Life(known(LifeEvidenceType::try_from(life), "evidence")?),
            (_, loss) => Evidence::Loss(known(LossEvidenceType::try_from(loss), "evidence")?),
        };
        Ok(Self {
            seq: row.seq,
            key: key(&row.social_security_number, row.scheme)?,
            kind: known(EligibilityEventKind::try_from(row.kind), "kind")?,
            paying_city: city(&row.paying_city)?,
            city: city(&row.city)?,
            result: known(EligibilityResult::try_from(row.result), "result")?,
            method: method(row.method)?,
            evidence,
            on: optional(row.on_day)?,
            valid_until: optional(row.valid_until)?,
            investigation: row.investigation,
            outcome: known(InvestigationOutcome::try_from(row.outcome), "outcome")?,
            actor: row.actor,
            reason: row.reason,
            arrears_from: optional(row.arrears_from)?,
            client: row.client,
            exchange: row.exchange,
            recorded_at_us: row.recorded_at,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct InvestigationRow {
    pub(super) id: i64,
    pub(super) social_security_number: String,
    pub(super) scheme: i32,
    pub(super) loss_evidence: i32,
    pub(super) city: String,
    pub(super) opened_at: i64,
    pub(super) outcome: i32,
    pub(super) actor: String,
    pub(super) reason: String,
    pub(super) concluded_at: Option<i64>,
}

/// Numbers of the two kinds of evidence; one of them at most is not 0.
pub(super) fn evidence_columns(evidence: Evidence) -> (i32, i32) {
    match evidence {
        Evidence::Life(life) => (life.into(), 0),
        Evidence::Loss(loss) => (0, loss.into()),
        Evidence::Unreached => (0, 0),
    }
}

pub(super) fn key(number: &str, scheme: i32) -> Result<PersonKey, StoreError> {
    Ok(PersonKey {
        holder: citizen(number)?,
        scheme: known(InsuranceScheme::try_from(scheme), "scheme")?,
    })
}

fn city(text: &str) -> Result<CityCode, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("city"))
}

fn method(number: i32) -> Result<EligibilityMethod, StoreError> {
    known(EligibilityMethod::try_from(number), "method")
}

fn known<T, E>(value: Result<T, E>, what: &'static str) -> Result<T, StoreError> {
    value.map_err(|_| StoreError::Corrupt(what))
}
