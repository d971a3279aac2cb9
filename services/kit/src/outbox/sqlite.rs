//! The outbox on SQLite, whose one writer keeps the order by itself.

use sqlx::SqliteConnection;

use super::{NewParcel, OUTBOX_LIMIT, Parcel, PostError};
use crate::database::SqliteDatabase;

pub(super) async fn post(
    connection: &mut SqliteConnection,
    parcel: &NewParcel,
) -> Result<(), PostError> {
    let posted = sqlx::query(
        "INSERT INTO outbox (destination, kind, subject, request_id, payload, posted_at) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM outbox WHERE destination = ?1) < ?7",
    )
    .bind(parcel.destination.as_str())
    .bind(parcel.kind)
    .bind(&parcel.subject)
    .bind(parcel.request_id.to_string())
    .bind(&parcel.payload)
    .bind(parcel.posted_at_us)
    .bind(OUTBOX_LIMIT)
    .execute(connection)
    .await?;
    match posted.rows_affected() {
        0 => Err(PostError::Full(parcel.destination)),
        _ => Ok(()),
    }
}

pub(super) async fn take_off(
    connection: &mut SqliteConnection,
    seq: i64,
) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query("DELETE FROM outbox WHERE seq = ?")
        .bind(seq)
        .execute(connection)
        .await?;
    Ok(gone.rows_affected() == 1)
}

pub(super) async fn next(database: &SqliteDatabase) -> Result<Vec<Parcel>, sqlx::Error> {
    sqlx::query_as(
        "SELECT seq, destination, kind, subject, request_id, payload, posted_at FROM outbox \
         WHERE seq IN (SELECT min(seq) FROM outbox GROUP BY destination) ORDER BY destination",
    )
    .fetch_all(database.readers())
    .await
}
