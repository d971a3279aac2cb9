//! Rows of both stores.

use banqiao_kit::identifier::CreditCode;
use banqiao_proto::lab::v1::{Decision, DecisionOutcome, RepeatReason};
use prost::Message;

use super::{DecisionCount, Delivery, StoredDecision};
use crate::{catalogue::ItemCode, store::StoreError};

/// What is written of a delivery.
pub(super) struct DeliveryRow<'a> {
    pub(super) id: String,
    pub(super) returned: Option<&'a str>,
    pub(super) exchange: Option<String>,
    pub(super) now_us: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct DecisionRow {
    seq: i64,
    body: Vec<u8>,
    digest: Vec<u8>,
    received: bool,
    recorded_at: i64,
    carried_at: Option<i64>,
    returned: Option<String>,
}

impl TryFrom<DecisionRow> for StoredDecision {
    type Error = StoreError;

    fn try_from(row: DecisionRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.seq,
            decision: Decision::decode(row.body.as_slice())
                .map_err(|_| StoreError::Corrupt("decision"))?,
            digest: row
                .digest
                .try_into()
                .map_err(|_| StoreError::Corrupt("digest"))?,
            received: row.received,
            recorded_at_us: row.recorded_at,
            delivery: match (row.carried_at, row.returned) {
                (None, _) => Delivery::Waiting,
                (Some(_), None) => Delivery::Delivered,
                (Some(_), Some(why)) => Delivery::Returned(why),
            },
        })
    }
}

fn institution(text: &str) -> Result<CreditCode, StoreError> {
    CreditCode::parse(text).map_err(|_| StoreError::Corrupt("institution"))
}

#[derive(sqlx::FromRow)]
pub(super) struct CountRow {
    counted_for: String,
    item_code: String,
    outcome: i16,
    reason: i16,
    number: i64,
}

impl TryFrom<CountRow> for DecisionCount {
    type Error = StoreError;

    fn try_from(row: CountRow) -> Result<Self, StoreError> {
        Ok(Self {
            institution: institution(&row.counted_for)?,
            item: ItemCode::parse(&row.item_code).map_err(|_| StoreError::Corrupt("item"))?,
            outcome: DecisionOutcome::try_from(i32::from(row.outcome))
                .map_err(|_| StoreError::Corrupt("outcome"))?,
            reason: RepeatReason::try_from(i32::from(row.reason))
                .map_err(|_| StoreError::Corrupt("reason"))?,
            count: row.number.unsigned_abs(),
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct DrawRow {
    counted_for: String,
    number: i64,
}

impl TryFrom<DrawRow> for (CreditCode, u64) {
    type Error = StoreError;

    fn try_from(row: DrawRow) -> Result<Self, StoreError> {
        Ok((institution(&row.counted_for)?, row.number.unsigned_abs()))
    }
}
