//! The rows of transfers, and what they mean.

use banqiao_proto::card::v1::{TransferRecord, TransferState};
use prost::Message;
use uuid::Uuid;

use super::{FirstTransition, StoredTransfer};
use crate::{pension::transfers::Transition, store::StoreError};

#[derive(sqlx::FromRow)]
pub(super) struct TransferRow {
    id: String,
    record: Vec<u8>,
    version: i64,
}

impl TryFrom<TransferRow> for StoredTransfer {
    type Error = StoreError;

    fn try_from(row: TransferRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: Uuid::try_parse(&row.id).map_err(|_| StoreError::Corrupt("transfer number"))?,
            record: TransferRecord::decode(row.record.as_slice())
                .map_err(|_| StoreError::Corrupt("transfer record"))?,
            version: row.version,
        })
    }
}

/// An event of the history.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredEvent {
    /// Its number: events are numbered from 1 without gaps, in the order of their commits.
    pub seq: i64,
    /// Code.
    pub event: String,
    /// State before, as in `banqiao.card.v1.TransferState`.
    pub from_state: i16,
    /// State after.
    pub to_state: i16,
    /// City that acted.
    pub actor_city: String,
    /// System that asked.
    pub client: Option<String>,
    /// Exchange.
    pub exchange: Option<String>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct AnswerRow {
    request_digest: Vec<u8>,
    state: i16,
    seq: i64,
    difference: i64,
    answered_at: i64,
}

impl TryFrom<AnswerRow> for FirstTransition {
    type Error = StoreError;

    fn try_from(row: AnswerRow) -> Result<Self, StoreError> {
        let digest = row.request_digest.try_into();
        let state = TransferState::try_from(i32::from(row.state));
        Ok(Self {
            digest: digest.map_err(|_| StoreError::Corrupt("digest"))?,
            answer: Transition {
                state: state.map_err(|_| StoreError::Corrupt("transfer state"))?,
                seq: row.seq,
                difference_fen: row.difference,
                at_us: row.answered_at,
                repeated: true,
            },
        })
    }
}

/// The number of a state as a column has it.
pub(super) const fn number(state: TransferState) -> i16 {
    // The numbers of the enum are below 16.
    state as i16
}
