//! Decisions on SQLite. `BEGIN IMMEDIATE` on the one writing connection serialises writers, also those of other processes.

use banqiao_directory::SpiffeId;
use banqiao_kit::{Outbox, SqliteDatabase, identifier::CreditCode};
use banqiao_proto::lab::v1::DecisionSide;
use prost::Message;
use uuid::Uuid;

use super::{
    DecisionCount, DecisionCountSearch, DecisionError, DecisionWrite, StoredDecision,
    row::{CountRow, DecisionRow, DeliveryRow, DrawRow},
};
use crate::{catalogue::ItemCode, store::StoreError};

/// SQLite has no array parameters.
fn json<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    serde_json::json!(texts.collect::<Vec<_>>()).to_string()
}

fn one(row: Option<DecisionRow>) -> Result<Option<StoredDecision>, StoreError> {
    row.map(StoredDecision::try_from).transpose()
}

pub(super) async fn of_request(
    database: &SqliteDatabase,
    client: &SpiffeId,
    request_id: Uuid,
) -> Result<Option<StoredDecision>, StoreError> {
    let query = sqlx::query_as(
        "SELECT d.seq, d.body, d.digest, d.received, d.recorded_at, v.at AS carried_at, v.returned \
         FROM decision d LEFT JOIN decision_delivery v USING (decision_id) \
         WHERE d.client = ?1 AND d.request_id = ?2",
    );
    let query = query.bind(client.as_str()).bind(request_id.to_string());
    one(query.fetch_optional(database.readers()).await?)
}

pub(super) async fn by_id(
    database: &SqliteDatabase,
    id: Uuid,
) -> Result<Option<StoredDecision>, StoreError> {
    let query = sqlx::query_as(
        "SELECT d.seq, d.body, d.digest, d.received, d.recorded_at, v.at AS carried_at, v.returned \
         FROM decision d LEFT JOIN decision_delivery v USING (decision_id) WHERE d.decision_id = ?1",
    );
    one(query
        .bind(id.to_string())
        .fetch_optional(database.readers())
        .await?)
}

pub(super) async fn write(
    database: &SqliteDatabase,
    write: &DecisionWrite,
) -> Result<(), DecisionError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    let seq: i64 =
        sqlx::query_scalar("UPDATE decision_head SET seq = seq + 1 WHERE id = 1 RETURNING seq")
            .fetch_one(&mut *transaction)
            .await?;
    let made = sqlx::query(
        "INSERT INTO decision (seq, decision_id, institution, report_institution, report_number, item_code, outcome, \
         reason, decided_at, body, digest, received, client, request_id, exchange, recorded_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT DO NOTHING",
    )
    .bind(seq)
    .bind(write.id.to_string())
    .bind(write.institution.as_str())
    .bind(write.report.institution.as_str())
    .bind(write.report.number.as_str())
    .bind(write.item.as_str())
    .bind(write.decision.outcome() as i16)
    .bind(write.decision.reason() as i16)
    .bind(write.decided_at_us)
    .bind(write.decision.encode_to_vec())
    .bind(&write.digest[..])
    .bind(write.received)
    .bind(write.client.as_str())
    .bind(write.request_id.to_string())
    .bind(write.exchange.to_string())
    .bind(write.now_us)
    .execute(&mut *transaction)
    .await?;
    if made.rows_affected() != 1 {
        return Err(StoreError::Conflict.into());
    }
    if let Some(parcel) = &write.parcel {
        Outbox::post_sqlite(&mut transaction, parcel).await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn carried(
    database: &SqliteDatabase,
    seq: i64,
    row: &DeliveryRow<'_>,
) -> Result<(), StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    if Outbox::take_off_sqlite(&mut transaction, seq).await? {
        sqlx::query(
            "INSERT INTO decision_delivery (decision_id, returned, exchange, at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&row.id)
        .bind(row.returned)
        .bind(&row.exchange)
        .bind(row.now_us)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn of_side(
    database: &SqliteDatabase,
    side: DecisionSide,
    institution: CreditCode,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredDecision>, StoreError> {
    let query = match side {
        DecisionSide::Unspecified => sqlx::query_as(
            "SELECT d.seq, d.body, d.digest, d.received, d.recorded_at, v.at AS carried_at, v.returned \
             FROM decision d LEFT JOIN decision_delivery v USING (decision_id) \
             WHERE d.institution = ?1 AND d.seq > ?2 ORDER BY d.seq LIMIT ?3",
        ),
        DecisionSide::Issued => sqlx::query_as(
            "SELECT d.seq, d.body, d.digest, d.received, d.recorded_at, v.at AS carried_at, v.returned \
             FROM decision d LEFT JOIN decision_delivery v USING (decision_id) \
             WHERE d.report_institution = ?1 AND d.seq > ?2 ORDER BY d.seq LIMIT ?3",
        ),
    };
    let query = query.bind(institution.as_str()).bind(after).bind(limit);
    let rows: Vec<DecisionRow> = query.fetch_all(database.readers()).await?;
    rows.into_iter().map(StoredDecision::try_from).collect()
}

/// The decisions of a side that count: the last one of each institution about a result within the time. The side's column stands in the
/// text, not in a parameter, so that its index is used.
macro_rules! counting {
    ($side:literal) => {
        concat!(
            $side,
            " IN (SELECT value FROM json_each(?1)) AND (json_array_length(?2) = 0 OR d.item_code IN (SELECT value FROM json_each(?2))) \
             AND d.decided_at >= ?3 AND d.decided_at < ?4 \
             AND NOT EXISTS (SELECT 1 FROM decision l WHERE l.report_institution = d.report_institution \
             AND l.report_number = d.report_number AND l.item_code = d.item_code AND l.institution = d.institution \
             AND l.seq > d.seq AND l.decided_at >= ?3 AND l.decided_at < ?4)"
        )
    };
}

macro_rules! counts {
    ($side:literal) => {
        concat!(
            "SELECT ",
            $side,
            " AS counted_for, d.item_code, d.outcome, d.reason, count(*) AS number FROM decision d WHERE ",
            counting!($side),
            " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
    };
}

macro_rules! draws {
    ($side:literal) => {
        concat!(
            "SELECT counted_for, count(*) AS number FROM (SELECT ",
            $side,
            " AS counted_for FROM decision d WHERE ",
            counting!($side),
            " GROUP BY d.institution, d.report_institution, d.report_number \
             HAVING max(d.outcome = 1 AND d.item_code IN (SELECT value FROM json_each(?5))) AND NOT max(d.outcome = 2)) AS saved GROUP BY counted_for"
        )
    };
}

pub(super) async fn counts(
    database: &SqliteDatabase,
    search: &DecisionCountSearch,
) -> Result<Vec<DecisionCount>, StoreError> {
    let query = match search.side {
        DecisionSide::Unspecified => sqlx::query_as(counts!("d.institution")),
        DecisionSide::Issued => sqlx::query_as(counts!("d.report_institution")),
    };
    let rows: Vec<CountRow> = query
        .bind(json(search.institutions.iter().map(CreditCode::as_str)))
        .bind(json(search.items.iter().map(ItemCode::as_str)))
        .bind(search.from_us)
        .bind(search.before_us)
        .fetch_all(database.readers())
        .await?;
    rows.into_iter().map(DecisionCount::try_from).collect()
}

pub(super) async fn draws(
    database: &SqliteDatabase,
    search: &DecisionCountSearch,
    drawn: &[&ItemCode],
) -> Result<Vec<(CreditCode, u64)>, StoreError> {
    let query = match search.side {
        DecisionSide::Unspecified => sqlx::query_as(draws!("d.institution")),
        DecisionSide::Issued => sqlx::query_as(draws!("d.report_institution")),
    };
    let rows: Vec<DrawRow> = query
        .bind(json(search.institutions.iter().map(CreditCode::as_str)))
        .bind(json(search.items.iter().map(ItemCode::as_str)))
        .bind(search.from_us)
        .bind(search.before_us)
        .bind(json(drawn.iter().map(|item| item.as_str())))
        .fetch_all(database.readers())
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}
