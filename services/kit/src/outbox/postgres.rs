//! The outbox on PostgreSQL.

use sqlx::{PgConnection, PgPool};

use super::{NewParcel, OUTBOX_LIMIT, Parcel, PostError};

pub(super) async fn post(
    connection: &mut PgConnection,
    parcel: &NewParcel,
) -> Result<(), PostError> {
    // One poster at a time for each destination: numbers are then in the order of the commits, which is what a reader relies on.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('outbox ' || $1, 0))")
        .bind(parcel.destination.as_str())
        .execute(&mut *connection)
        .await?;
    let posted = sqlx::query(
        "INSERT INTO outbox (destination, kind, subject, request_id, payload, posted_at) \
         SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM outbox WHERE destination = $1) < $7",
    )
    .bind(parcel.destination.as_str())
    .bind(parcel.kind)
    .bind(&parcel.subject)
    .bind(parcel.request_id.to_string())
    .bind(&parcel.payload)
    .bind(parcel.posted_at_us)
    .bind(OUTBOX_LIMIT)
    .execute(&mut *connection)
    .await?;
    match posted.rows_affected() {
        0 => Err(PostError::Full(parcel.destination)),
        _ => Ok(()),
    }
}

pub(super) async fn take_off(connection: &mut PgConnection, seq: i64) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query("DELETE FROM outbox WHERE seq = $1")
        .bind(seq)
        .execute(connection)
        .await?;
    Ok(gone.rows_affected() == 1)
}

pub(super) async fn next(pool: &PgPool) -> Result<Vec<Parcel>, sqlx::Error> {
    sqlx::query_as(
        "SELECT DISTINCT ON (destination) seq, destination, kind, subject, request_id, payload, posted_at \
         FROM outbox ORDER BY destination, seq",
    )
    .fetch_all(pool)
    .await
}
