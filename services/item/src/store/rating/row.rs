//! Rows of ratings and rectifications, and what they mean.

use banqiao_directory::CityCode;
use banqiao_proto::item::v1::{CaseAction, HandlingMode};

use super::FirstRatingAnswer;
use crate::{
    rating::{Rated, RatingId, Rectification, RectificationStep, StoredRating},
    store::StoreError,
};

#[derive(sqlx::FromRow)]
pub(super) struct AnswerRow {
    digest: String,
    id: String,
    state: i32,
    version: i64,
}

impl TryFrom<AnswerRow> for FirstRatingAnswer {
    type Error = StoreError;

    fn try_from(row: AnswerRow) -> Result<Self, StoreError> {
        let mut digest = [0; 32];
        hex::decode_to_slice(row.digest, &mut digest).map_err(|_| StoreError::Corrupt("digest"))?;
        Ok(Self {
            digest,
            id: parse_id(&row.id)?,
            state: row.state,
            version: row.version,
        })
    }
}

fn parse_id(text: &str) -> Result<RatingId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("rating id"))
}

fn known<T: TryFrom<i32>>(number: i32, what: &'static str) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_| StoreError::Corrupt(what))
}

pub(super) fn task_of(body: &str) -> Result<Rectification, StoreError> {
    serde_json::from_str(body).map_err(|_| StoreError::Corrupt("rectification"))
}

pub(super) fn body_of(task: &Rectification) -> Result<String, StoreError> {
    serde_json::to_string(task).map_err(|_| StoreError::Corrupt("rectification"))
}

#[derive(sqlx::FromRow)]
pub(super) struct RatingRow {
    seq: i64,
    id: String,
    rated_city: String,
    department: String,
    item_id: String,
    mode: i32,
    stage: i32,
    satisfaction: i32,
    channel: i32,
    masked: String,
    given_at: i64,
    body: Option<String>,
}

impl TryFrom<RatingRow> for StoredRating {
    type Error = StoreError;

    fn try_from(row: RatingRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.seq,
            id: parse_id(&row.id)?,
            rated: Rated {
                city: city_of(&row.rated_city)?,
                department: row.department,
                item: row
                    .item_id
                    .parse()
                    .map_err(|_| StoreError::Corrupt("item"))?,
                mode: known::<HandlingMode>(row.mode, "mode")?,
                stage: known::<CaseAction>(row.stage, "stage")?,
            },
            satisfaction: known(row.satisfaction, "satisfaction")?,
            channel: known(row.channel, "channel")?,
            masked: row.masked,
            at_us: row.given_at,
            rectification: row.body.as_deref().map(task_of).transpose()?,
        })
    }
}

fn city_of(text: &str) -> Result<CityCode, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt("city"))
}

#[derive(sqlx::FromRow)]
pub(super) struct StepRow {
    seq: i64,
    rating_id: String,
    version: i64,
    action: i32,
    from_state: i32,
    to_state: i32,
    role: i32,
    city: String,
    exchange: String,
    words: String,
    at: i64,
}

impl TryFrom<StepRow> for RectificationStep {
    type Error = StoreError;

    fn try_from(row: StepRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.seq,
            id: parse_id(&row.rating_id)?,
            version: row.version,
            action: known(row.action, "action")?,
            from: known(row.from_state, "state")?,
            to: known(row.to_state, "state")?,
            role: known(row.role, "role")?,
            city: city_of(&row.city)?,
            exchange: row.exchange,
            text: row.words,
            at_us: row.at,
        })
    }
}
