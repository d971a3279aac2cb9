//! Rows of both stores.

use banqiao_kit::identifier::CreditCode;
use banqiao_proto::lab::v1::{MarkScope, QualityRound};
use prost::Message;

use super::{SampleKey, SampleValue, StoredRound};
use crate::{
    catalogue::ItemCode,
    quality::{JudgedRound, RoundId, Score},
    store::StoreError,
};

fn institution(text: &str) -> Result<CreditCode, StoreError> {
    CreditCode::parse(text).map_err(|_| StoreError::Corrupt("institution"))
}

fn item(text: &str) -> Result<ItemCode, StoreError> {
    ItemCode::parse(text).map_err(|_| StoreError::Corrupt("item"))
}

fn round(text: &str) -> Result<RoundId, StoreError> {
    RoundId::parse(text).map_err(|_| StoreError::Corrupt("round"))
}

#[derive(sqlx::FromRow)]
pub(super) struct RoundRow {
    body: Vec<u8>,
    evaluated_at: Option<i64>,
}

impl TryFrom<RoundRow> for StoredRound {
    type Error = StoreError;

    fn try_from(row: RoundRow) -> Result<Self, StoreError> {
        Ok(Self {
            round: QualityRound::decode(row.body.as_slice())
                .map_err(|_| StoreError::Corrupt("round"))?,
            evaluated_at_us: row.evaluated_at,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ValueRow {
    round_id: String,
    institution: String,
    item_code: String,
    sample: String,
    version: i32,
    value: String,
}

impl TryFrom<ValueRow> for SampleValue {
    type Error = StoreError;

    fn try_from(row: ValueRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: SampleKey {
                round: round(&row.round_id)?,
                institution: institution(&row.institution)?,
                item: item(&row.item_code)?,
                sample: row.sample,
            },
            version: row.version,
            value: row.value,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ScoreRow {
    institution: String,
    item_code: String,
    samples: i32,
    passed_samples: i32,
}

impl TryFrom<ScoreRow> for Score {
    type Error = StoreError;

    fn try_from(row: ScoreRow) -> Result<Self, StoreError> {
        Ok(Self {
            institution: institution(&row.institution)?,
            item: item(&row.item_code)?,
            samples: row.samples.unsigned_abs(),
            passed_samples: row.passed_samples.unsigned_abs(),
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct JudgedRow {
    judged_for: String,
    item_code: String,
    round_id: String,
    scheme: String,
    scope: i16,
    scope_code: String,
    closes_at: i64,
    evaluated_at: i64,
    passed: Option<bool>,
}

impl TryFrom<JudgedRow> for (CreditCode, JudgedRound) {
    type Error = StoreError;

    fn try_from(row: JudgedRow) -> Result<Self, StoreError> {
        let round = JudgedRound {
            item: item(&row.item_code)?,
            round: round(&row.round_id)?,
            scheme: row.scheme,
            scope: MarkScope::try_from(i32::from(row.scope))
                .map_err(|_| StoreError::Corrupt("scope"))?,
            scope_code: row.scope_code,
            closes_at_us: row.closes_at,
            evaluated_at_us: row.evaluated_at,
            passed: row.passed,
        };
        Ok((institution(&row.judged_for)?, round))
    }
}

/// A count of samples, of which there are 20 at most.
pub(super) fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
