//! Quality rounds on SQLite. `BEGIN IMMEDIATE` on the one writing connection serialises writers, also those of other processes.

use banqiao_directory::SpiffeId;
use banqiao_kit::{SqliteDatabase, identifier::CreditCode};
use prost::Message;
use sqlx::{SqliteConnection, query_as};

use super::{
    Evaluated, NewEvaluation, ResultWrite, SampleValue, StoredRound,
    row::{JudgedRow, RoundRow, ScoreRow, ValueRow, count},
};
use crate::{
    catalogue::ItemCode,
    quality::{Round, RoundId, Score},
    store::StoreError,
};

/// SQLite has no array parameters.
fn json<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    serde_json::json!(texts.collect::<Vec<_>>()).to_string()
}

pub(super) async fn register(
    database: &SqliteDatabase,
    round: &Round,
    client: Option<&SpiffeId>,
    now_us: i64,
) -> Result<bool, StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    let made = sqlx::query(
        "INSERT INTO quality_round (round_id, scheme, scope, scope_code, opens_at, closes_at, body, registered_by, \
         registered_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
    )
    .bind(round.id().as_str())
    .bind(&round.record().scheme)
    .bind(round.record().scope() as i16)
    .bind(&round.record().scope_code)
    .bind(round.opens_at_us())
    .bind(round.closes_at_us())
    .bind(round.record().encode_to_vec())
    .bind(client.map(SpiffeId::as_str))
    .bind(now_us)
    .execute(&mut *transaction)
    .await?;
    if made.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO quality_item (round_id, item_code) SELECT ?1, value FROM json_each(?2)",
    )
    .bind(round.id().as_str())
    .bind(json(round.items().map(ItemCode::as_str)))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn rounds(
    database: &SqliteDatabase,
    ids: &[RoundId],
) -> Result<Vec<StoredRound>, StoreError> {
    let rows: Vec<RoundRow> = query_as(
        "SELECT r.body, d.evaluated_at FROM quality_round r LEFT JOIN quality_evaluated d USING (round_id) \
         WHERE r.round_id IN (SELECT value FROM json_each(?1))",
    )
    .bind(json(ids.iter().map(RoundId::as_str)))
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(StoredRound::try_from).collect()
}

pub(super) async fn values(
    database: &SqliteDatabase,
    rounds: &[RoundId],
    institutions: &[CreditCode],
) -> Result<Vec<SampleValue>, StoreError> {
    // With max() SQLite takes the other columns from the row that has it.
    let rows: Vec<ValueRow> = query_as(
        "SELECT round_id, institution, item_code, sample, max(version) AS version, value FROM quality_result \
         WHERE round_id IN (SELECT value FROM json_each(?1)) AND institution IN (SELECT value FROM json_each(?2)) \
         GROUP BY round_id, institution, item_code, sample",
    )
    .bind(json(rounds.iter().map(RoundId::as_str)))
    .bind(json(institutions.iter().map(CreditCode::as_str)))
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(SampleValue::try_from).collect()
}

pub(super) async fn write_results(
    database: &SqliteDatabase,
    write: &ResultWrite,
) -> Result<(), StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM quality_round r WHERE round_id IN (SELECT value FROM json_each(?1)) AND closes_at > ?2 \
         AND NOT EXISTS (SELECT 1 FROM quality_evaluated d WHERE d.round_id = r.round_id)",
    )
    .bind(json(write.rounds.iter().map(RoundId::as_str)))
    .bind(write.now_us)
    .fetch_one(&mut *transaction)
    .await?;
    if usize::try_from(open) != Ok(write.rounds.len()) {
        return Err(StoreError::Conflict);
    }
    for value in &write.values {
        sqlx::query(
            "INSERT INTO quality_result (round_id, institution, item_code, sample, version, value, reported_by, \
             reported_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(value.key.round.as_str())
        .bind(value.key.institution.as_str())
        .bind(value.key.item.as_str())
        .bind(&value.key.sample)
        .bind(value.version)
        .bind(&value.value)
        .bind(write.client.as_ref().map(SpiffeId::as_str))
        .bind(write.now_us)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn evaluate(
    database: &SqliteDatabase,
    new: &NewEvaluation,
    judge: impl FnOnce(&[SampleValue]) -> Vec<Score> + Send,
) -> Result<Evaluated, StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    let before: Option<i64> =
        sqlx::query_scalar("SELECT evaluated_at FROM quality_evaluated WHERE round_id = ?1")
            .bind(new.round.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
    if let Some(at_us) = before {
        return Ok(Evaluated {
            scores: scores(database, &new.round).await?,
            at_us,
            repeated: true,
        });
    }
    let rows: Vec<ValueRow> = query_as(
        "SELECT round_id, institution, item_code, sample, max(version) AS version, value FROM quality_result \
         WHERE round_id = ?1 GROUP BY institution, item_code, sample",
    )
    .bind(new.round.as_str())
    .fetch_all(&mut *transaction)
    .await?;
    let values = rows.into_iter().map(SampleValue::try_from);
    let scores = judge(&values.collect::<Result<Vec<_>, _>>()?);
    insert(&mut transaction, new, &scores).await?;
    transaction.commit().await?;
    Ok(Evaluated {
        scores,
        at_us: new.now_us,
        repeated: false,
    })
}

async fn insert(
    connection: &mut SqliteConnection,
    new: &NewEvaluation,
    scores: &[Score],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO quality_evaluated (round_id, catalogue, evaluated_by, evaluated_at) VALUES (?1, ?2, ?3, ?4)",
    )
    .bind(new.round.as_str())
    .bind(&new.catalogue)
    .bind(new.client.as_ref().map(SpiffeId::as_str))
    .bind(new.now_us)
    .execute(&mut *connection)
    .await?;
    for score in scores {
        sqlx::query(
            "INSERT INTO quality_evaluation (round_id, institution, item_code, samples, passed_samples, passed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(new.round.as_str())
        .bind(score.institution.as_str())
        .bind(score.item.as_str())
        .bind(count(score.samples))
        .bind(count(score.passed_samples))
        .bind(score.is_passed())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn scores(
    database: &SqliteDatabase,
    round: &RoundId,
) -> Result<Vec<Score>, StoreError> {
    let rows: Vec<ScoreRow> = query_as(
        "SELECT institution, item_code, samples, passed_samples FROM quality_evaluation WHERE round_id = ?1 \
         ORDER BY institution, item_code",
    )
    .bind(round.as_str())
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(Score::try_from).collect()
}

pub(super) async fn judged(
    database: &SqliteDatabase,
    institutions: &[CreditCode],
    items: &[ItemCode],
) -> Result<Vec<JudgedRow>, StoreError> {
    let rows = query_as(
        "SELECT o.value AS judged_for, i.item_code, i.round_id, r.scheme, r.scope, r.scope_code, r.closes_at, d.evaluated_at, e.passed \
         FROM quality_item i JOIN quality_round r USING (round_id) JOIN quality_evaluated d USING (round_id) \
         JOIN json_each(?1) AS o LEFT JOIN quality_evaluation e \
         ON e.round_id = i.round_id AND e.item_code = i.item_code AND e.institution = o.value \
         WHERE json_array_length(?2) = 0 OR i.item_code IN (SELECT value FROM json_each(?2)) \
         ORDER BY i.item_code, r.closes_at, i.round_id",
    )
    .bind(json(institutions.iter().map(CreditCode::as_str)))
    .bind(json(items.iter().map(ItemCode::as_str)));
    Ok(rows.fetch_all(database.readers()).await?)
}
