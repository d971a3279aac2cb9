//! Transfers on SQLite. `BEGIN IMMEDIATE` on the one writing connection serialises writers, also those of other processes.

use banqiao_directory::SpiffeId;
use banqiao_kit::{Outbox, SqliteDatabase};
use banqiao_proto::card::v1::TransferSide;
use prost::Message;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{
    NewAnswer, NewTransferEvent, PensionWrite, StoredEvent,
    row::{AnswerRow, TransferRow, number},
};
use crate::{
    pension::{act::PensionError, state::is_end},
    store::StoreError,
};

pub(super) async fn find(
    database: &SqliteDatabase,
    id: Uuid,
) -> Result<Option<TransferRow>, StoreError> {
    let query = sqlx::query_as("SELECT id, record, version FROM pension_transfer WHERE id = ?1");
    Ok(query
        .bind(id.to_string())
        .fetch_optional(database.readers())
        .await?)
}

pub(super) async fn open_of(
    database: &SqliteDatabase,
    side: TransferSide,
    holder: &str,
) -> Result<Option<TransferRow>, StoreError> {
    let query = sqlx::query_as(
        "SELECT id, record, version FROM pension_transfer WHERE side = ?1 AND holder = ?2 AND is_open",
    );
    let query = query.bind(side as i16).bind(holder);
    Ok(query.fetch_optional(database.readers()).await?)
}

pub(super) async fn open(
    database: &SqliteDatabase,
    after: &str,
    limit: i64,
) -> Result<Vec<TransferRow>, StoreError> {
    let query = sqlx::query_as(
        "SELECT id, record, version FROM pension_transfer WHERE is_open AND id > ?1 ORDER BY id LIMIT ?2",
    );
    Ok(query
        .bind(after)
        .bind(limit)
        .fetch_all(database.readers())
        .await?)
}

pub(super) async fn events(
    database: &SqliteDatabase,
    id: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let query = sqlx::query_as(
        "SELECT seq, event, from_state, to_state, actor_city, client, exchange, at FROM pension_event \
         WHERE transfer = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    );
    let query = query.bind(id.to_string()).bind(after).bind(limit);
    Ok(query.fetch_all(database.readers()).await?)
}

pub(super) async fn answer(
    database: &SqliteDatabase,
    client: &SpiffeId,
    request_id: Uuid,
) -> Result<Option<AnswerRow>, StoreError> {
    let query = sqlx::query_as(
        "SELECT request_digest, state, seq, difference, answered_at FROM pension_answer \
         WHERE client = ?1 AND request_id = ?2",
    );
    let query = query.bind(client.as_str()).bind(request_id.to_string());
    Ok(query.fetch_optional(database.readers()).await?)
}

pub(super) async fn head(database: &SqliteDatabase) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar("SELECT seq FROM pension_head WHERE id = 1");
    Ok(query.fetch_one(database.readers()).await?)
}

pub(super) async fn write(
    database: &SqliteDatabase,
    write: &PensionWrite,
) -> Result<i64, PensionError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    if let Some(seq) = write.take_off
        && !Outbox::take_off_sqlite(&mut transaction, seq).await?
    {
        // Another replica dealt with the answer.
        return Ok(0);
    }
    put(&mut transaction, write).await?;
    let seq = match &write.event {
        Some(event) => append(&mut transaction, write.id, event).await?,
        None => 0,
    };
    if let Some(parcel) = &write.parcel {
        Outbox::post_sqlite(&mut transaction, parcel).await?;
    }
    if let Some(answer) = &write.answer {
        insert_answer(&mut transaction, answer, seq).await?;
    }
    transaction.commit().await?;
    Ok(seq)
}

async fn put(
    transaction: &mut Transaction<'_, Sqlite>,
    write: &PensionWrite,
) -> Result<(), PensionError> {
    let Some(record) = &write.record else {
        return Ok(());
    };
    let (state, open) = (number(record.state()), !is_end(record.state()));
    let Some(version) = write.version else {
        sqlx::query(
            "INSERT INTO pension_transfer (id, side, holder, state, is_open, record, version) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
        )
        .bind(write.id.to_string())
        .bind(record.side() as i16)
        .bind(&record.social_security_number)
        .bind(state)
        .bind(open)
        .bind(record.encode_to_vec())
        .execute(&mut **transaction)
        .await?;
        return Ok(());
    };
    let done = sqlx::query(
        "UPDATE pension_transfer SET state = ?1, is_open = ?2, record = ?3, version = version + 1 \
         WHERE id = ?4 AND version = ?5",
    )
    .bind(state)
    .bind(open)
    .bind(record.encode_to_vec())
    .bind(write.id.to_string())
    .bind(version)
    .execute(&mut **transaction)
    .await?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Conflict.into()),
    }
}

async fn append(
    transaction: &mut Transaction<'_, Sqlite>,
    id: Uuid,
    event: &NewTransferEvent,
) -> Result<i64, PensionError> {
    let seq: i64 =
        sqlx::query_scalar("UPDATE pension_head SET seq = seq + 1 WHERE id = 1 RETURNING seq")
            .fetch_one(&mut **transaction)
            .await?;
    sqlx::query(
        "INSERT INTO pension_event \
         (seq, transfer, event, from_state, to_state, actor_city, client, exchange, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(seq)
    .bind(id.to_string())
    .bind(event.event)
    .bind(event.from.map_or(0, number))
    .bind(number(event.to))
    .bind(event.actor_city.as_str())
    .bind(event.client.as_ref().map(SpiffeId::as_str))
    .bind(event.exchange.map(|exchange| exchange.to_string()))
    .bind(event.at_us)
    .execute(&mut **transaction)
    .await?;
    Ok(seq)
}

async fn insert_answer(
    transaction: &mut Transaction<'_, Sqlite>,
    new: &NewAnswer,
    seq: i64,
) -> Result<(), PensionError> {
    sqlx::query(
        "INSERT INTO pension_answer \
         (client, request_id, request_digest, state, seq, difference, answered_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(new.client.as_str())
    .bind(new.request_id.to_string())
    .bind(&new.digest[..])
    .bind(number(new.answer.state))
    .bind(seq)
    .bind(new.answer.difference_fen)
    .bind(new.answer.at_us)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
