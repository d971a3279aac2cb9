//! Reports on PostgreSQL. New ones go as arrays, one statement for all rows; the row of the head is taken after the reports.
//!
//! What is looked up by its key is looked up LATERAL with a LIMIT: one step into the primary key for each, whatever the planner thinks
//! of the table's size. A plan that was made while the table was small is kept by the connection, and would read the whole of it later.

use banqiao_directory::SpiffeId;
use prost::Message;
use sqlx::{PgPool, Postgres, Transaction, postgres::PgArguments, query::Query};

use super::{
    NewReading, ReportHead, ReportSearch, ReportWrite, StoredChange, StoredReport, Supersede,
    row::{BodyRow, ChangeRow, HeadRow, KeyRow, item_column, item_patterns, status_number},
};
use crate::{
    report::{AcceptedReport, CANCELLED, ReportKey},
    store::StoreError,
};

fn columns<'a>(keys: impl Iterator<Item = &'a ReportKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (key.institution.as_str(), key.number.as_str()))
        .unzip()
}

pub(super) async fn heads(
    pool: &PgPool,
    keys: &[&ReportKey],
) -> Result<Vec<ReportHead>, StoreError> {
    let (institutions, numbers) = columns(keys.iter().copied());
    let rows: Vec<HeadRow> = sqlx::query_as(
        "SELECT r.* FROM unnest($1::text[], $2::text[]) AS key (institution, report_number) CROSS JOIN LATERAL \
         (SELECT institution, report_number, version, status, patient, issued_at, digest FROM report \
         WHERE institution = key.institution AND report_number = key.report_number LIMIT 1) AS r",
    )
    .bind(institutions)
    .bind(numbers)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(ReportHead::try_from).collect()
}

pub(super) async fn find(
    pool: &PgPool,
    search: &ReportSearch,
) -> Result<Vec<ReportKey>, StoreError> {
    let rows: Vec<KeyRow> = sqlx::query_as(
        "SELECT institution, report_number FROM report \
         WHERE patient = $1 AND collected_at >= $2 AND collected_at < $3 \
         AND ($4 OR NOT status = ANY($5)) AND (cardinality($6::text[]) = 0 OR items LIKE ANY($6)) \
         ORDER BY collected_at DESC, institution, report_number LIMIT $7",
    )
    .bind(search.patient.as_str())
    .bind(search.from_us)
    .bind(search.before_us)
    .bind(search.cancelled)
    .bind(CANCELLED.map(status_number))
    .bind(item_patterns(&search.items))
    .bind(search.limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(ReportKey::try_from).collect()
}

pub(super) async fn record_readings(
    pool: &PgPool,
    keys: &[ReportKey],
    reading: &NewReading,
) -> Result<(), StoreError> {
    let (institutions, numbers) = columns(keys.iter());
    sqlx::query(
        "INSERT INTO report_reading (client, institution, report_number, version, exchange, read_at) \
         SELECT $1, key.institution, key.report_number, r.version, $2, $3 \
         FROM unnest($4::text[], $5::text[]) AS key (institution, report_number) CROSS JOIN LATERAL \
         (SELECT version FROM report WHERE institution = key.institution AND report_number = key.report_number LIMIT 1) AS r \
         ON CONFLICT DO NOTHING",
    )
    .bind(reading.client.as_str())
    .bind(reading.exchange.to_string())
    .bind(reading.now_us)
    .bind(institutions)
    .bind(numbers)
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn reports(
    pool: &PgPool,
    keys: &[ReportKey],
) -> Result<Vec<StoredReport>, StoreError> {
    let (institutions, numbers) = columns(keys.iter());
    let rows: Vec<BodyRow> = sqlx::query_as(
        "SELECT r.version, r.body FROM unnest($1::text[], $2::text[]) AS key (institution, report_number) CROSS JOIN LATERAL \
         (SELECT version, body, collected_at FROM report \
         WHERE institution = key.institution AND report_number = key.report_number LIMIT 1) AS r \
         ORDER BY r.collected_at DESC, key.institution, key.report_number",
    )
    .bind(institutions)
    .bind(numbers)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredReport::try_from).collect()
}

pub(super) async fn superseded(
    pool: &PgPool,
    client: &SpiffeId,
    after: i64,
    to: i64,
    limit: i64,
) -> Result<Vec<StoredChange>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(
        "SELECT c.institution, c.report_number, c.seq, c.version, c.status, r.version AS read_version, \
         c.superseded_at FROM report_change c JOIN report_reading r ON r.client = $1 \
         AND r.institution = c.institution AND r.report_number = c.report_number AND r.version < c.version \
         WHERE c.seq > $2 AND c.seq <= $3 ORDER BY c.seq LIMIT $4",
    )
    .bind(client.as_str())
    .bind(after)
    .bind(to)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredChange::try_from).collect()
}

pub(super) async fn head(pool: &PgPool) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar("SELECT seq FROM report_change_head WHERE id = 1");
    Ok(query.fetch_one(pool).await?)
}

pub(super) async fn write(pool: &PgPool, write: &ReportWrite) -> Result<i64, StoreError> {
    let mut transaction = pool.begin().await?;
    if !write.inserts.is_empty() {
        insert(&mut transaction, &write.inserts, write.now_us).await?;
    }
    let last = if write.supersedes.is_empty() {
        0
    } else {
        replace(&mut transaction, &write.supersedes, write.now_us).await?;
        append(&mut transaction, write).await?
    };
    transaction.commit().await?;
    Ok(last)
}

/// Reports column by column.
struct Columns<'a> {
    institutions: Vec<&'a str>,
    numbers: Vec<&'a str>,
    status: Vec<i16>,
    patients: Vec<&'a str>,
    collected: Vec<i64>,
    issued: Vec<i64>,
    items: Vec<String>,
    digests: Vec<&'a [u8]>,
    bodies: Vec<Vec<u8>>,
}

impl<'a> Columns<'a> {
    fn of(reports: impl Iterator<Item = &'a AcceptedReport> + Clone) -> Self {
        let (institutions, numbers) = columns(reports.clone().map(AcceptedReport::key));
        Self {
            institutions,
            numbers,
            status: reports
                .clone()
                .map(|one| status_number(one.status()))
                .collect(),
            patients: reports.clone().map(|one| one.patient().as_str()).collect(),
            collected: reports
                .clone()
                .map(AcceptedReport::collected_at_us)
                .collect(),
            issued: reports.clone().map(AcceptedReport::issued_at_us).collect(),
            items: reports
                .clone()
                .map(|one| item_column(one.items()))
                .collect(),
            digests: reports.clone().map(|one| &one.digest()[..]).collect(),
            bodies: reports.map(|one| one.record().encode_to_vec()).collect(),
        }
    }

    fn bind(self, query: &'static str) -> Query<'a, Postgres, PgArguments> {
        sqlx::query(query)
            .bind(self.institutions)
            .bind(self.numbers)
            .bind(self.status)
            .bind(self.patients)
            .bind(self.collected)
            .bind(self.issued)
            .bind(self.items)
            .bind(self.digests)
            .bind(self.bodies)
    }
}

async fn insert(
    transaction: &mut Transaction<'_, Postgres>,
    reports: &[AcceptedReport],
    now_us: i64,
) -> Result<(), StoreError> {
    let insert = Columns::of(reports.iter()).bind(
        "INSERT INTO report (institution, report_number, version, status, patient, collected_at, issued_at, \
         items, digest, body, published_at) \
         SELECT institution, report_number, 1, status, patient, collected_at, issued_at, items, digest, body, $10 \
         FROM unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], \
         $8::bytea[], $9::bytea[]) \
         AS new (institution, report_number, status, patient, collected_at, issued_at, items, digest, body)",
    );
    insert.bind(now_us).execute(&mut **transaction).await?;
    Ok(())
}

/// Keeps what stands, and puts the newer versions in its place.
async fn replace(
    transaction: &mut Transaction<'_, Postgres>,
    supersedes: &[Supersede],
    now_us: i64,
) -> Result<(), StoreError> {
    let reports = supersedes.iter().map(|supersede| &supersede.report);
    let (institutions, numbers) = columns(reports.clone().map(AcceptedReport::key));
    let kept = sqlx::query(
        "INSERT INTO report_version (institution, report_number, version, body, superseded_at) \
         SELECT key.institution, key.report_number, key.version, r.body, $4 \
         FROM unnest($1::text[], $2::text[], $3::integer[]) AS key (institution, report_number, version) \
         CROSS JOIN LATERAL (SELECT body FROM report WHERE institution = key.institution \
         AND report_number = key.report_number AND version = key.version LIMIT 1 FOR UPDATE) AS r",
    )
    .bind(institutions)
    .bind(numbers)
    .bind(versions(supersedes))
    .bind(now_us)
    .execute(&mut **transaction)
    .await?;
    if usize::try_from(kept.rows_affected()) != Ok(supersedes.len()) {
        return Err(StoreError::Conflict);
    }
    let update = Columns::of(reports).bind(
        "UPDATE report SET version = report.version + 1, status = new.status, patient = new.patient, \
         collected_at = new.collected_at, issued_at = new.issued_at, items = new.items, digest = new.digest, \
         body = new.body, published_at = $10 \
         FROM unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], \
         $8::bytea[], $9::bytea[]) \
         AS new (institution, report_number, status, patient, collected_at, issued_at, items, digest, body) \
         WHERE report.institution = new.institution AND report.report_number = new.report_number",
    );
    update.bind(now_us).execute(&mut **transaction).await?;
    Ok(())
}

fn versions(supersedes: &[Supersede]) -> Vec<i32> {
    supersedes
        .iter()
        .map(|supersede| supersede.version)
        .collect()
}

/// Numbers the changes in the order of the lines, and gives the last number.
async fn append(
    transaction: &mut Transaction<'_, Postgres>,
    write: &ReportWrite,
) -> Result<i64, StoreError> {
    let count = i64::try_from(write.supersedes.len())
        .map_err(|_| StoreError::Corrupt("number of changes"))?;
    let last: i64 = sqlx::query_scalar(
        "UPDATE report_change_head SET seq = seq + $1 WHERE id = 1 RETURNING seq",
    )
    .bind(count)
    .fetch_one(&mut **transaction)
    .await?;
    let reports = write.supersedes.iter().map(|supersede| &supersede.report);
    let (institutions, numbers) = columns(reports.clone().map(AcceptedReport::key));
    let status: Vec<_> = reports
        .map(|report| status_number(report.status()))
        .collect();
    sqlx::query(
        "INSERT INTO report_change (seq, institution, report_number, version, status, superseded_at) \
         SELECT $1 + place, institution, report_number, version + 1, status, $6 \
         FROM unnest($2::text[], $3::text[], $4::integer[], $5::smallint[]) \
         WITH ORDINALITY AS new (institution, report_number, version, status, place)",
    )
    .bind(last - count)
    .bind(institutions)
    .bind(numbers)
    .bind(versions(&write.supersedes))
    .bind(status)
    .bind(write.now_us)
    .execute(&mut **transaction)
    .await?;
    Ok(last)
}
