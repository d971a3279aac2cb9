//! The store on SQLite. `BEGIN IMMEDIATE` on the one writing connection serialises writers, also those of other processes.

use banqiao_directory::SpiffeId;
use banqiao_kit::SqliteDatabase;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{
    Blank, Change, FirstAnswer, NewChange, Report, ReportAnswer, StoreError, StoredCard, Write,
    row::{
        BlankRow, CardRow, ChangeRow, ReportRow, card_columns, change_columns, columns,
        part_number, report_columns, state_number,
    },
};
use crate::card::{CardNumber, ChipCode};

pub(super) async fn find_all(
    database: &SqliteDatabase,
    numbers: &[&CardNumber],
    chips: &[&ChipCode],
) -> Result<Vec<StoredCard>, StoreError> {
    let rows: Vec<CardRow> = sqlx::query_as(concat!(
        "SELECT ",
        card_columns!(),
        " FROM card WHERE card_number IN (SELECT value FROM json_each(?1)) UNION SELECT ",
        card_columns!(),
        " FROM card WHERE card_identification_code IN (SELECT value FROM json_each(?2))",
    ))
    .bind(json_array(numbers.iter().map(|number| number.as_str())))
    .bind(json_array(chips.iter().map(|chip| chip.as_str())))
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(StoredCard::try_from).collect()
}

/// SQLite has no array parameters. Card numbers and chip codes are letters and digits, so nothing needs escaping.
fn json_array<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut json = String::from("[");
    for text in texts {
        let comma = if json.len() > 1 { "," } else { "" };
        json.extend([comma, "\"", text, "\""]);
    }
    json.push(']');
    json
}

pub(super) async fn first_answer(
    database: &SqliteDatabase,
    client: &SpiffeId,
    request_id: Uuid,
) -> Result<Option<FirstAnswer>, StoreError> {
    let row: Option<ReportRow> = sqlx::query_as(
        "SELECT request_digest, state, until, seq, outcome FROM service_request WHERE client = ? AND request_id = ?",
    )
    .bind(client.as_str())
    .bind(request_id.to_string())
    .fetch_optional(database.readers())
    .await?;
    row.map(FirstAnswer::try_from).transpose()
}

pub(super) async fn is_used(
    database: &SqliteDatabase,
    client: &SpiffeId,
    reference_digest: &[u8; 32],
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM service_request WHERE client = ? AND verification = ?)",
    );
    let query = query.bind(client.as_str()).bind(&reference_digest[..]);
    Ok(query.fetch_one(database.readers()).await?)
}

pub(super) async fn blank(
    database: &SqliteDatabase,
    place: i64,
) -> Result<Option<Blank>, StoreError> {
    let row: Option<BlankRow> = sqlx::query_as(
        "SELECT card_number, card_identification_code, specification_version FROM blank_card \
         ORDER BY card_number LIMIT 1 OFFSET ?",
    )
    .bind(place)
    .fetch_optional(database.readers())
    .await?;
    row.map(Blank::try_from).transpose()
}

pub(super) async fn blanks_after(
    database: &SqliteDatabase,
    after: &str,
    limit: i64,
) -> Result<Vec<Blank>, StoreError> {
    let rows: Vec<BlankRow> = sqlx::query_as(
        "SELECT card_number, card_identification_code, specification_version FROM blank_card \
         WHERE card_number > ? ORDER BY card_number LIMIT ?",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(Blank::try_from).collect()
}

pub(super) async fn add_blanks(
    database: &SqliteDatabase,
    blanks: &[Blank],
) -> Result<u64, StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    let mut added = 0;
    for blank in blanks {
        let done = sqlx::query(
            "INSERT INTO blank_card (card_number, card_identification_code, specification_version) \
             SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM card WHERE card_number = ?1 OR \
             card_identification_code = ?2) ON CONFLICT DO NOTHING",
        )
        .bind(blank.number.as_str())
        .bind(blank.chip.as_str())
        .bind(&blank.specification)
        .execute(&mut *transaction)
        .await?;
        added += done.rows_affected();
    }
    transaction.commit().await?;
    Ok(added)
}

async fn take_blank(
    transaction: &mut Transaction<'_, Sqlite>,
    number: &CardNumber,
) -> Result<(), StoreError> {
    let taken = sqlx::query("DELETE FROM blank_card WHERE card_number = ?")
        .bind(number.as_str())
        .execute(&mut **transaction)
        .await?;
    if taken.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

pub(super) async fn ended_losses(
    database: &SqliteDatabase,
    now_us: i64,
    limit: i64,
) -> Result<Vec<StoredCard>, StoreError> {
    let rows: Vec<CardRow> = sqlx::query_as(concat!(
        "SELECT ",
        card_columns!(),
        " FROM card WHERE social_until <= ?1 OR financial_until <= ?1 LIMIT ?2"
    ))
    .bind(now_us)
    .bind(limit)
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(StoredCard::try_from).collect()
}

pub(super) async fn changes(
    database: &SqliteDatabase,
    after: i64,
    limit: i64,
) -> Result<Vec<Change>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(),
        " FROM card_change WHERE seq > ? ORDER BY seq LIMIT ?"
    ))
    .bind(after)
    .bind(limit)
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(Change::try_from).collect()
}

pub(super) async fn history(
    database: &SqliteDatabase,
    number: &CardNumber,
) -> Result<Vec<Change>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(),
        " FROM card_change WHERE card_number = ? ORDER BY seq"
    ))
    .bind(number.as_str())
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(Change::try_from).collect()
}

pub(super) async fn page(
    database: &SqliteDatabase,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredCard>, StoreError> {
    let rows: Vec<CardRow> = sqlx::query_as(concat!(
        "SELECT ",
        card_columns!(),
        " FROM card WHERE card_number > ? ORDER BY card_number LIMIT ?"
    ))
    .bind(after)
    .bind(limit)
    .fetch_all(database.readers())
    .await?;
    rows.into_iter().map(StoredCard::try_from).collect()
}

pub(super) async fn head(database: &SqliteDatabase) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar("SELECT seq FROM change_head WHERE id = 1");
    Ok(query.fetch_one(database.readers()).await?)
}

pub(super) async fn write(database: &SqliteDatabase, write: &Write) -> Result<i64, StoreError> {
    let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
    for stored in &write.inserts {
        insert(&mut transaction, stored).await?;
    }
    for stored in &write.updates {
        update(&mut transaction, stored).await?;
    }
    let last = append(&mut transaction, &write.changes).await?;
    if let Some(report) = &write.report {
        insert_report(&mut transaction, report, last).await?;
    }
    if let Some(number) = &write.blank {
        take_blank(&mut transaction, number).await?;
    }
    transaction.commit().await?;
    Ok(last)
}

async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    stored: &StoredCard,
) -> Result<(), StoreError> {
    let StoredCard {
        card,
        salt,
        version,
        life,
    } = stored;
    let (social, financial) = (columns(&card.social), columns(&card.financial));
    sqlx::query(concat!(
        "INSERT INTO card (",
        card_columns!(),
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))
    .bind(card.number.as_str())
    .bind(card.holder.as_str())
    .bind(card.name.as_str())
    .bind(card.chip.as_str())
    .bind(card.division.as_str())
    .bind(card.issued_on.to_string())
    .bind(card.expires_on.to_string())
    .bind(social.0)
    .bind(social.1)
    .bind(social.2)
    .bind(financial.0)
    .bind(financial.1)
    .bind(financial.2)
    .bind(card.electronic)
    .bind(&card.specification)
    .bind(&salt[..])
    .bind(version)
    .bind(life.wrong_pins)
    .bind(life.electronic_issued)
    .bind(life.predecessor.as_ref().map(CardNumber::as_str))
    .bind(life.successor.as_ref().map(CardNumber::as_str))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn update(
    transaction: &mut Transaction<'_, Sqlite>,
    stored: &StoredCard,
) -> Result<(), StoreError> {
    let StoredCard {
        card,
        version,
        life,
        ..
    } = stored;
    let (social, financial) = (columns(&card.social), columns(&card.financial));
    let done = sqlx::query(
        "UPDATE card SET social_security_number = ?, name = ?, card_identification_code = ?, \
         issuing_division = ?, issued_on = ?, expires_on = ?, \
         social_state = ?, social_until = ?, social_reported = ?, \
         financial_state = ?, financial_until = ?, financial_reported = ?, \
         electronic = ?, specification_version = ?, wrong_pins = ?, electronic_issued = ?, \
         predecessor = ?, successor = ?, \
         version = version + 1 \
         WHERE card_number = ? AND version = ?",
    )
    .bind(card.holder.as_str())
    .bind(card.name.as_str())
    .bind(card.chip.as_str())
    .bind(card.division.as_str())
    .bind(card.issued_on.to_string())
    .bind(card.expires_on.to_string())
    .bind(social.0)
    .bind(social.1)
    .bind(social.2)
    .bind(financial.0)
    .bind(financial.1)
    .bind(financial.2)
    .bind(card.electronic)
    .bind(&card.specification)
    .bind(life.wrong_pins)
    .bind(life.electronic_issued)
    .bind(life.predecessor.as_ref().map(CardNumber::as_str))
    .bind(life.successor.as_ref().map(CardNumber::as_str))
    .bind(card.number.as_str())
    .bind(version)
    .execute(&mut **transaction)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

async fn append(
    transaction: &mut Transaction<'_, Sqlite>,
    changes: &[NewChange],
) -> Result<i64, StoreError> {
    let count =
        i64::try_from(changes.len()).map_err(|_| StoreError::Corrupt("number of changes"))?;
    if count == 0 {
        return Ok(0);
    }
    let last: i64 =
        sqlx::query_scalar("UPDATE change_head SET seq = seq + ? WHERE id = 1 RETURNING seq")
            .bind(count)
            .fetch_one(&mut **transaction)
            .await?;
    for (change, seq) in changes.iter().zip(last - count + 1..) {
        let call = change.actor.call.as_ref();
        sqlx::query(concat!(
            "INSERT INTO card_change (",
            change_columns!(),
            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        ))
        .bind(seq)
        .bind(change.number.as_str())
        .bind(part_number(change.part))
        .bind(change.from.map_or(0, state_number))
        .bind(state_number(change.to))
        .bind(change.actor.city.as_str())
        .bind(change.cause.as_str())
        .bind(change.changed_at_us)
        .bind(call.map(|(client, _)| client.as_str()))
        .bind(call.map(|(_, exchange)| exchange.to_string()))
        .execute(&mut **transaction)
        .await?;
    }
    Ok(last)
}

async fn insert_report(
    transaction: &mut Transaction<'_, Sqlite>,
    report: &Report,
    last: i64,
) -> Result<(), StoreError> {
    let (state, until, seq) = match report.answer {
        ReportAnswer::Applied {
            state,
            until_us,
            seq,
        } => (
            Some(state_number(state)),
            until_us,
            Some(seq.unwrap_or(last)),
        ),
        ReportAnswer::NothingMatched => (None, None, None),
    };
    sqlx::query(concat!(
        "INSERT INTO service_request (",
        report_columns!(),
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))
    .bind(report.client.as_str())
    .bind(report.request_id.to_string())
    .bind(&report.digest[..])
    .bind(state.is_some())
    .bind(state)
    .bind(until)
    .bind(seq)
    .bind(report.exchange.to_string())
    .bind(report.reported_at_us)
    .bind(&report.outcome)
    .bind(
        report
            .verification
            .as_ref()
            .map(|it| &it.reference_digest[..]),
    )
    .bind(report.verification.map(|it| it.method as i16))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
