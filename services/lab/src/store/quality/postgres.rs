//! Quality rounds on PostgreSQL. Whoever writes values holds the row of the round against its evaluation until commit.

use banqiao_directory::SpiffeId;
use banqiao_kit::identifier::CreditCode;
use prost::Message;
use sqlx::{PgConnection, PgPool};

use super::{
    Evaluated, NewEvaluation, ResultWrite, SampleValue, StoredRound,
    row::{JudgedRow, RoundRow, ScoreRow, ValueRow, count},
};
use crate::{
    catalogue::ItemCode,
    quality::{Round, RoundId, Score},
    store::StoreError,
};

pub(super) async fn register(
    pool: &PgPool,
    round: &Round,
    client: Option<&SpiffeId>,
    now_us: i64,
) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let made = sqlx::query(
        "INSERT INTO quality_round (round_id, scheme, scope, scope_code, opens_at, closes_at, body, registered_by, \
         registered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
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
    sqlx::query("INSERT INTO quality_item (round_id, item_code) SELECT $1, unnest($2::text[])")
        .bind(round.id().as_str())
        .bind(round.items().map(ItemCode::as_str).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn rounds(pool: &PgPool, ids: &[RoundId]) -> Result<Vec<StoredRound>, StoreError> {
    let rows: Vec<RoundRow> = sqlx::query_as(
        "SELECT r.body, d.evaluated_at FROM quality_round r LEFT JOIN quality_evaluated d USING (round_id) \
         WHERE r.round_id = ANY($1)",
    )
    .bind(ids.iter().map(RoundId::as_str).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredRound::try_from).collect()
}

pub(super) async fn values(
    pool: &PgPool,
    rounds: &[RoundId],
    institutions: &[CreditCode],
) -> Result<Vec<SampleValue>, StoreError> {
    let rows: Vec<ValueRow> = sqlx::query_as(
        "SELECT DISTINCT ON (round_id, institution, item_code, sample) round_id, institution, item_code, sample, \
         version, value FROM quality_result WHERE round_id = ANY($1) AND institution = ANY($2) \
         ORDER BY round_id, institution, item_code, sample, version DESC",
    )
    .bind(rounds.iter().map(RoundId::as_str).collect::<Vec<_>>())
    .bind(institutions.iter().map(CreditCode::as_str).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(SampleValue::try_from).collect()
}

pub(super) async fn write_results(pool: &PgPool, write: &ResultWrite) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    let rounds: Vec<_> = write.rounds.iter().map(RoundId::as_str).collect();
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT round_id FROM quality_round r WHERE round_id = ANY($1) AND closes_at > $2 \
         AND NOT EXISTS (SELECT 1 FROM quality_evaluated d WHERE d.round_id = r.round_id) \
         ORDER BY round_id FOR SHARE",
    )
    .bind(&rounds)
    .bind(write.now_us)
    .fetch_all(&mut *transaction)
    .await?;
    if open.len() != rounds.len() {
        return Err(StoreError::Conflict);
    }
    let values = &write.values;
    let text = |of: fn(&SampleValue) -> &str| values.iter().map(of).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO quality_result (round_id, institution, item_code, sample, version, value, reported_by, reported_at) \
         SELECT round_id, institution, item_code, sample, version, value, $7, $8 \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[]) \
         AS new (round_id, institution, item_code, sample, version, value)",
    )
    .bind(text(|value| value.key.round.as_str()))
    .bind(text(|value| value.key.institution.as_str()))
    .bind(text(|value| value.key.item.as_str()))
    .bind(text(|value| &value.key.sample))
    .bind(values.iter().map(|value| value.version).collect::<Vec<_>>())
    .bind(text(|value| &value.value))
    .bind(write.client.as_ref().map(SpiffeId::as_str))
    .bind(write.now_us)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn evaluate(
    pool: &PgPool,
    new: &NewEvaluation,
    judge: impl FnOnce(&[SampleValue]) -> Vec<Score> + Send,
) -> Result<Evaluated, StoreError> {
    let mut transaction = pool.begin().await?;
    // Waits for whoever writes values.
    sqlx::query("SELECT 1 FROM quality_round WHERE round_id = $1 FOR UPDATE")
        .bind(new.round.as_str())
        .execute(&mut *transaction)
        .await?;
    let before: Option<i64> =
        sqlx::query_scalar("SELECT evaluated_at FROM quality_evaluated WHERE round_id = $1")
            .bind(new.round.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
    if let Some(at_us) = before {
        transaction.commit().await?;
        return Ok(Evaluated {
            scores: scores(pool, &new.round).await?,
            at_us,
            repeated: true,
        });
    }
    let rows: Vec<ValueRow> = sqlx::query_as(
        "SELECT DISTINCT ON (institution, item_code, sample) round_id, institution, item_code, sample, version, value \
         FROM quality_result WHERE round_id = $1 ORDER BY institution, item_code, sample, version DESC",
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
    connection: &mut PgConnection,
    new: &NewEvaluation,
    scores: &[Score],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO quality_evaluated (round_id, catalogue, evaluated_by, evaluated_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(new.round.as_str())
    .bind(&new.catalogue)
    .bind(new.client.as_ref().map(SpiffeId::as_str))
    .bind(new.now_us)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO quality_evaluation (round_id, institution, item_code, samples, passed_samples, passed) \
         SELECT $1, institution, item_code, samples, passed_samples, passed \
         FROM unnest($2::text[], $3::text[], $4::integer[], $5::integer[], $6::boolean[]) \
         AS new (institution, item_code, samples, passed_samples, passed)",
    )
    .bind(new.round.as_str())
    .bind(scores.iter().map(|score| score.institution.as_str()).collect::<Vec<_>>())
    .bind(scores.iter().map(|score| score.item.as_str()).collect::<Vec<_>>())
    .bind(scores.iter().map(|score| count(score.samples)).collect::<Vec<_>>())
    .bind(scores.iter().map(|score| count(score.passed_samples)).collect::<Vec<_>>())
    .bind(scores.iter().map(Score::is_passed).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn scores(pool: &PgPool, round: &RoundId) -> Result<Vec<Score>, StoreError> {
    let rows: Vec<ScoreRow> = sqlx::query_as(
        "SELECT institution, item_code, samples, passed_samples FROM quality_evaluation WHERE round_id = $1 \
         ORDER BY institution, item_code",
    )
    .bind(round.as_str())
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Score::try_from).collect()
}

pub(super) async fn judged(
    pool: &PgPool,
    institutions: &[CreditCode],
    items: &[ItemCode],
) -> Result<Vec<JudgedRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT o.judged_for, i.item_code, i.round_id, r.scheme, r.scope, r.scope_code, r.closes_at, d.evaluated_at, e.passed \
         FROM quality_item i JOIN quality_round r USING (round_id) JOIN quality_evaluated d USING (round_id) \
         CROSS JOIN unnest($1::text[]) AS o (judged_for) LEFT JOIN quality_evaluation e \
         ON e.round_id = i.round_id AND e.item_code = i.item_code AND e.institution = o.judged_for \
         WHERE cardinality($2::text[]) = 0 OR i.item_code = ANY($2) ORDER BY i.item_code, r.closes_at, i.round_id",
    )
    .bind(institutions.iter().map(CreditCode::as_str).collect::<Vec<_>>())
    .bind(items.iter().map(ItemCode::as_str).collect::<Vec<_>>());
    Ok(rows.fetch_all(pool).await?)
}
