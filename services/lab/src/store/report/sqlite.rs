//! Reports on SQLite. `BEGIN IMMEDIATE` on the one writing connection serialises writers, also those of other processes.

use banqiao_directory::SpiffeId;
use banqiao_kit::SqliteDatabase;
use prost::Message;
use sqlx::{Sqlite, Transaction};

use super::{
    NewReading, ReportHead, ReportSearch, ReportWrite, StoredChange, StoredReport, Supersede,
    row::{BodyRow, ChangeRow, HeadRow, KeyRow, item_column, item_patterns, status_number},
};
use crate::{
    report::{AcceptedReport, CANCELLED, ReportKey},
    store::StoreError,
};

/// SQLite has no array parameters.
fn json<'a>(keys: impl Iterator<Item = &'a ReportKey>) -> String {
    let pairs: Vec<_> = keys
        .map(|key| [key.institution.as_str(), key.number.as_str()])
        .collect();
    serde_json::json!(pairs).to_string()
}

pub(super) async fn heads(
    database: &SqliteDatabase,
    keys: &[&ReportKey],
) -> Result<Vec<ReportHead>, StoreError> {
    let rows: Vec<HeadRow> = sqlx::query_as(
        "SELECT institution, report_number, version, status, patient, issued_at, digest FROM report \
         WHERE (institution, report_number) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))",
    )
    .bind(json(keys.iter().copied()))
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(ReportHead::try_from).collect()
}

pub(super) async fn find(
    database: &SqliteDatabase,
    search: &ReportSearch,
) -> Result<Vec<ReportKey>, StoreError> {
    let rows: Vec<KeyRow> = sqlx::query_as(
        "SELECT institution, report_number FROM report \
         WHERE patient = ?1 AND collected_at >= ?2 AND collected_at < ?3 \
         AND (?4 OR status NOT IN (SELECT value FROM json_each(?5))) AND (json_array_length(?6) = 0 OR EXISTS (SELECT 1 FROM json_each(?6) WHERE items LIKE value)) \
         ORDER BY collected_at DESC, institution, report_number LIMIT ?7",
    )
    .bind(search.patient.as_str())
    .bind(search.from_us)
    .bind(search.before_us)
    .bind(search.cancelled)
    .bind(serde_json::json!(CANCELLED.map(status_number)).to_string())
    .bind(serde_json::json!(item_patterns(&search.items)).to_string())
    .bind(search.limit)
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(ReportKey::try_from).collect()
}

pub(super) async fn record_readings(
    database: &SqliteDatabase,
    keys: &[ReportKey],
    reading: &NewReading,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO report_reading (client, institution, report_number, version, exchange, read_at) \
         SELECT ?1, institution, report_number, version, ?2, ?3 FROM report \
         WHERE (institution, report_number) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?4)) \
         ON CONFLICT DO NOTHING",
    )
    .bind(reading.client.as_str())
    .bind(reading.exchange.to_string())
    .bind(reading.now_us)
    .bind(json(keys.iter()))
    .execute(database.writer())
    .await?;
    Ok(())
}

pub(super) async fn reports(
    database: &SqliteDatabase,
    keys: &[ReportKey],
) -> Result<Vec<StoredReport>, StoreError> {
    let rows: Vec<BodyRow> = sqlx::query_as(
        "SELECT version, body FROM report \
         WHERE (institution, report_number) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1)) \
         ORDER BY collected_at DESC, institution, report_number",
    )
    .bind(json(keys.iter()))
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(StoredReport::try_from).collect()
}

pub(super) async fn superseded(
    database: &SqliteDatabase,
    client: &SpiffeId,
    after: i64,
    to: i64,
    limit: i64,
) -> Result<Vec<StoredChange>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(
        "SELECT c.institution, c.report_number, c.seq, c.version, c.status, r.version AS read_version, \
         c.superseded_at FROM report_change c JOIN report_reading r ON r.client = ?1 \
         AND r.institution = c.institution AND r.report_number = c.report_number AND r.version < c.version \
         WHERE c.seq > ?2 AND c.seq <= ?3 ORDER BY c.seq LIMIT ?4",
    )
    .bind(client.as_str())
    .bind(after)
    .bind(to)
    .bind(limit)
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(StoredChange::try_from).collect()
}

pub(super) async fn head(database: &SqliteDatabase) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar("SELECT seq FROM report_change_head WHERE id = 1");
    Ok(query.fetch_one(database.readers()).await?)
}

pub(super) async fn write(
    database: &SqliteDatabase,
    write: &ReportWrite,
) -> Result<i64, StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    if !write.inserts.is_empty() {
        insert(&mut transaction, &write.inserts, write.now_us).await?;
    }
    for supersede in &write.supersedes {
        replace(&mut transaction, supersede, write.now_us).await?;
    }
    let last = append(&mut transaction, write).await?;
    transaction.commit().await?;
    Ok(last)
}

async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    reports: &[AcceptedReport],
    now_us: i64,
) -> Result<(), StoreError> {
    for report in reports {
        sqlx::query(
            "INSERT INTO report (institution, report_number, version, status, patient, collected_at, issued_at, \
             items, digest, body, published_at) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(report.key().institution.as_str())
        .bind(report.key().number.as_str())
        .bind(status_number(report.status()))
        .bind(report.patient().as_str())
        .bind(report.collected_at_us())
        .bind(report.issued_at_us())
        .bind(item_column(report.items()))
        .bind(&report.digest()[..])
        .bind(report.record().encode_to_vec())
        .bind(now_us)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

async fn replace(
    transaction: &mut Transaction<'_, Sqlite>,
    Supersede { report, version }: &Supersede,
    now_us: i64,
) -> Result<(), StoreError> {
    let key = report.key();
    let kept = sqlx::query(
        "INSERT INTO report_version (institution, report_number, version, body, superseded_at) \
         SELECT institution, report_number, version, body, ?4 FROM report \
         WHERE institution = ?1 AND report_number = ?2 AND version = ?3",
    )
    .bind(key.institution.as_str())
    .bind(key.number.as_str())
    .bind(version)
    .bind(now_us)
    .execute(&mut **transaction)
    .await?;
    if kept.rows_affected() != 1 {
        return Err(StoreError::Conflict);
    }
    sqlx::query(
        "UPDATE report SET version = version + 1, status = ?3, patient = ?4, collected_at = ?5, issued_at = ?6, \
         items = ?7, digest = ?8, body = ?9, published_at = ?10 WHERE institution = ?1 AND report_number = ?2",
    )
    .bind(key.institution.as_str())
    .bind(key.number.as_str())
    .bind(status_number(report.status()))
    .bind(report.patient().as_str())
    .bind(report.collected_at_us())
    .bind(report.issued_at_us())
    .bind(item_column(report.items()))
    .bind(&report.digest()[..])
    .bind(report.record().encode_to_vec())
    .bind(now_us)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn append(
    transaction: &mut Transaction<'_, Sqlite>,
    write: &ReportWrite,
) -> Result<i64, StoreError> {
    let count = i64::try_from(write.supersedes.len())
        .map_err(|_| StoreError::Corrupt("number of changes"))?;
    if count == 0 {
        return Ok(0);
    }
    let last: i64 = sqlx::query_scalar(
        "UPDATE report_change_head SET seq = seq + ?1 WHERE id = 1 RETURNING seq",
    )
    .bind(count)
    .fetch_one(&mut **transaction)
    .await?;
    for (Supersede { report, version }, seq) in write.supersedes.iter().zip(last - count + 1..) {
        sqlx::query(
            "INSERT INTO report_change (seq, institution, report_number, version, status, superseded_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(seq)
        .bind(report.key().institution.as_str())
        .bind(report.key().number.as_str())
        .bind(version + 1)
        .bind(status_number(report.status()))
        .bind(write.now_us)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(last)
}
