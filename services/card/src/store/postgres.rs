//! The store on PostgreSQL. Batches go as arrays, one statement for all rows; concurrent writers meet at the versions of the cards and at
//! the row of the head, which is always taken after the cards.

use banqiao_directory::SpiffeId;
use sqlx::{PgExecutor, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{
    Blank, Bureau, Change, FirstAnswer, NewChange, Report, ReportAnswer, StoreError, StoredCard,
    Write,
    row::{
        BlankRow, CardRow, ChangeRow, ReportRow, card_columns, change_columns, columns,
        part_number, report_columns, state_number,
    },
};
use crate::{
    card::{Card, CardNumber, ChipCode},
    state::Standing,
};

pub(super) async fn find_all(
    executor: impl PgExecutor<'_>,
    numbers: &[&CardNumber],
    chips: &[&ChipCode],
) -> Result<Vec<StoredCard>, StoreError> {
    let rows: Vec<CardRow> = sqlx::query_as(concat!(
        "SELECT ",
        card_columns!(),
        " FROM card WHERE card_number = ANY($1) OR card_identification_code = ANY($2)"
    ))
    .bind(
        numbers
            .iter()
            .map(|number| number.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(chips.iter().map(|chip| chip.as_str()).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(StoredCard::try_from).collect()
}

pub(super) async fn first_answer(
    pool: &PgPool,
    client: &SpiffeId,
    request_id: Uuid,
) -> Result<Option<FirstAnswer>, StoreError> {
    let row: Option<ReportRow> = sqlx::query_as(
        "SELECT request_digest, state, until, seq, outcome FROM service_request WHERE client = $1 AND request_id = $2",
    )
    .bind(client.as_str())
    .bind(request_id)
    .fetch_optional(pool)
    .await?;
    row.map(FirstAnswer::try_from).transpose()
}

pub(super) async fn is_used(
    pool: &PgPool,
    client: &SpiffeId,
    reference_digest: &[u8; 32],
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM service_request WHERE client = $1 AND verification = $2)",
    );
    let query = query.bind(client.as_str()).bind(&reference_digest[..]);
    Ok(query.fetch_one(pool).await?)
}

pub(super) async fn blank(pool: &PgPool, place: i64) -> Result<Option<Blank>, StoreError> {
    let row: Option<BlankRow> = sqlx::query_as(
        "SELECT card_number, card_identification_code, specification_version FROM blank_card \
         ORDER BY card_number LIMIT 1 OFFSET $1",
    )
    .bind(place)
    .fetch_optional(pool)
    .await?;
    row.map(Blank::try_from).transpose()
}

pub(super) async fn blanks_after(
    pool: &PgPool,
    after: &str,
    limit: i64,
) -> Result<Vec<Blank>, StoreError> {
    let rows: Vec<BlankRow> = sqlx::query_as(
        "SELECT card_number, card_identification_code, specification_version FROM blank_card \
         WHERE card_number > $1 ORDER BY card_number LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Blank::try_from).collect()
}

pub(super) async fn add_blanks(pool: &PgPool, blanks: &[Blank]) -> Result<u64, StoreError> {
    let column = |field: fn(&Blank) -> &str| blanks.iter().map(field).collect::<Vec<_>>();
    let done = sqlx::query(
        "INSERT INTO blank_card (card_number, card_identification_code, specification_version) \
         SELECT new.number, new.chip, new.specification \
         FROM unnest($1::text[], $2::text[], $3::text[]) AS new(number, chip, specification) \
         WHERE NOT EXISTS (SELECT 1 FROM card WHERE card_number = new.number OR \
         card_identification_code = new.chip) ON CONFLICT DO NOTHING",
    )
    .bind(column(|blank| blank.number.as_str()))
    .bind(column(|blank| blank.chip.as_str()))
    .bind(column(|blank| blank.specification.as_str()))
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

async fn take_blank(
    transaction: &mut Transaction<'_, Postgres>,
    number: &CardNumber,
) -> Result<(), StoreError> {
    let taken = sqlx::query("DELETE FROM blank_card WHERE card_number = $1")
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
    pool: &PgPool,
    now_us: i64,
    limit: i64,
) -> Result<Vec<StoredCard>, StoreError> {
    let rows: Vec<CardRow> = sqlx::query_as(concat!(
        "SELECT ",
        card_columns!(),
        " FROM card WHERE social_until <= $1 OR financial_until <= $1 LIMIT $2"
    ))
    .bind(now_us)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredCard::try_from).collect()
}

pub(super) async fn changes(
    pool: &PgPool,
    after: i64,
    limit: i64,
) -> Result<Vec<Change>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(),
        " FROM card_change WHERE seq > $1 ORDER BY seq LIMIT $2"
    ))
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Change::try_from).collect()
}

pub(super) async fn history(pool: &PgPool, number: &CardNumber) -> Result<Vec<Change>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(concat!(
        "SELECT ",
        change_columns!(),
        " FROM card_change WHERE card_number = $1 ORDER BY seq"
    ))
    .bind(number.as_str())
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Change::try_from).collect()
}

pub(super) async fn head(pool: &PgPool) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar("SELECT seq FROM change_head WHERE id = 1");
    Ok(query.fetch_one(pool).await?)
}

pub(super) async fn page(
    pool: &PgPool,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredCard>, StoreError> {
    let rows: Vec<CardRow> = sqlx::query_as(concat!(
        "SELECT ",
        card_columns!(),
        " FROM card WHERE card_number > $1 ORDER BY card_number LIMIT $2"
    ))
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredCard::try_from).collect()
}

/// The secret of this database's mapping: the one that is there, or else the new one.
pub(super) async fn mapping_secret(pool: &PgPool, new: [u8; 32]) -> Result<[u8; 32], sqlx::Error> {
    sqlx::query("INSERT INTO mapping_secret (id, secret) VALUES (1, $1) ON CONFLICT DO NOTHING")
        .bind(&new[..])
        .execute(pool)
        .await?;
    let query = sqlx::query_scalar("SELECT secret FROM mapping_secret WHERE id = 1");
    let secret: Vec<u8> = query.fetch_one(pool).await?;
    let length = |_| sqlx::Error::Decode("a secret has 32 bytes".into());
    secret.try_into().map_err(length)
}

pub(super) async fn write(
    pool: &PgPool,
    write: &Write,
    bureau: Option<&Bureau>,
) -> Result<i64, StoreError> {
    let mut transaction = pool.begin().await?;
    let through = match bureau {
        Some(bureau) => Some(bureau.write_through(&mut transaction, write).await?),
        None => None,
    };
    let write = through.as_ref().unwrap_or(write);
    insert(&mut transaction, &write.inserts).await?;
    update(&mut transaction, &write.updates).await?;
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

/// A column of an array parameter.
fn column<'a, T>(cards: &'a [StoredCard], field: impl Fn(&'a Card) -> T) -> Vec<T> {
    cards.iter().map(|stored| field(&stored.card)).collect()
}

/// The three columns of a standing.
fn standings<'a>(
    cards: &'a [StoredCard],
    field: impl Fn(&'a Card) -> &'a Standing,
) -> (Vec<i16>, Vec<Option<i64>>, Vec<bool>) {
    let mut arrays = (Vec::new(), Vec::new(), Vec::new());
    for stored in cards {
        let (state, until, reported) = columns(field(&stored.card));
        arrays.0.push(state);
        arrays.1.push(until);
        arrays.2.push(reported);
    }
    arrays
}

/// The columns of a life.
#[expect(clippy::type_complexity, reason = "a column each")]
fn lives(cards: &[StoredCard]) -> (Vec<i16>, Vec<bool>, Vec<Option<&str>>, Vec<Option<&str>>) {
    let mut arrays = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for StoredCard { life, .. } in cards {
        arrays.0.push(i16::from(life.wrong_pins));
        arrays.1.push(life.electronic_issued);
        arrays
            .2
            .push(life.predecessor.as_ref().map(CardNumber::as_str));
        arrays
            .3
            .push(life.successor.as_ref().map(CardNumber::as_str));
    }
    arrays
}

pub(super) async fn insert(
    transaction: &mut Transaction<'_, Postgres>,
    cards: &[StoredCard],
) -> Result<(), StoreError> {
    if cards.is_empty() {
        return Ok(());
    }
    let social = standings(cards, |card| &card.social);
    let financial = standings(cards, |card| &card.financial);
    let lives = lives(cards);
    sqlx::query(concat!(
        "INSERT INTO card (",
        card_columns!(),
        ") SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
         $6::text[], $7::text[], $8::smallint[], $9::bigint[], $10::boolean[], $11::smallint[], \
         $12::bigint[], $13::boolean[], $14::boolean[], $15::text[], $16::bytea[], $17::bigint[], \
         $18::smallint[], $19::boolean[], $20::text[], $21::text[])"
    ))
    .bind(column(cards, |card| card.number.as_str()))
    .bind(column(cards, |card| card.holder.as_str()))
    .bind(column(cards, |card| card.name.as_str()))
    .bind(column(cards, |card| card.chip.as_str()))
    .bind(column(cards, |card| card.division.as_str()))
    .bind(column(cards, |card| card.issued_on.to_string()))
    .bind(column(cards, |card| card.expires_on.to_string()))
    .bind(social.0)
    .bind(social.1)
    .bind(social.2)
    .bind(financial.0)
    .bind(financial.1)
    .bind(financial.2)
    .bind(column(cards, |card| card.electronic))
    .bind(column(cards, |card| card.specification.as_str()))
    .bind(
        cards
            .iter()
            .map(|stored| &stored.salt[..])
            .collect::<Vec<_>>(),
    )
    .bind(
        cards
            .iter()
            .map(|stored| stored.version)
            .collect::<Vec<_>>(),
    )
    .bind(lives.0)
    .bind(lives.1)
    .bind(lives.2)
    .bind(lives.3)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn update(
    transaction: &mut Transaction<'_, Postgres>,
    cards: &[StoredCard],
) -> Result<(), StoreError> {
    if cards.is_empty() {
        return Ok(());
    }
    let social = standings(cards, |card| &card.social);
    let financial = standings(cards, |card| &card.financial);
    let lives = lives(cards);
    let done = sqlx::query(
        "UPDATE card SET social_security_number = new.holder, name = new.name, \
         card_identification_code = new.chip, issuing_division = new.division, \
         issued_on = new.issued_on, expires_on = new.expires_on, \
         social_state = new.social_state, social_until = new.social_until, \
         social_reported = new.social_reported, financial_state = new.financial_state, \
         financial_until = new.financial_until, financial_reported = new.financial_reported, \
         electronic = new.electronic, specification_version = new.specification, \
         wrong_pins = new.wrong_pins, electronic_issued = new.electronic_issued, predecessor = new.predecessor, successor = new.successor, \
         version = card.version + 1 \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::smallint[], $9::bigint[], $10::boolean[], $11::smallint[], $12::bigint[], $13::boolean[], \
         $14::boolean[], $15::text[], $16::bigint[], $17::smallint[], $18::boolean[], $19::text[], $20::text[]) \
         AS new(number, holder, name, chip, division, issued_on, expires_on, social_state, social_until, \
         social_reported, financial_state, financial_until, financial_reported, electronic, \
         specification, version, wrong_pins, electronic_issued, predecessor, successor) \
         WHERE card.card_number = new.number AND card.version = new.version",
    )
    .bind(column(cards, |card| card.number.as_str()))
    .bind(column(cards, |card| card.holder.as_str()))
    .bind(column(cards, |card| card.name.as_str()))
    .bind(column(cards, |card| card.chip.as_str()))
    .bind(column(cards, |card| card.division.as_str()))
    .bind(column(cards, |card| card.issued_on.to_string()))
    .bind(column(cards, |card| card.expires_on.to_string()))
    .bind(social.0)
    .bind(social.1)
    .bind(social.2)
    .bind(financial.0)
    .bind(financial.1)
    .bind(financial.2)
    .bind(column(cards, |card| card.electronic))
    .bind(column(cards, |card| card.specification.as_str()))
    .bind(cards.iter().map(|stored| stored.version).collect::<Vec<_>>())
    .bind(lives.0)
    .bind(lives.1)
    .bind(lives.2)
    .bind(lives.3)
    .execute(&mut **transaction)
    .await?;
    let all = u64::try_from(cards.len()).is_ok_and(|cards| cards == done.rows_affected());
    if all {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

async fn append(
    transaction: &mut Transaction<'_, Postgres>,
    changes: &[NewChange],
) -> Result<i64, StoreError> {
    let count =
        i64::try_from(changes.len()).map_err(|_| StoreError::Corrupt("number of changes"))?;
    if count == 0 {
        return Ok(0);
    }
    let last: i64 =
        sqlx::query_scalar("UPDATE change_head SET seq = seq + $1 WHERE id = 1 RETURNING seq")
            .bind(count)
            .fetch_one(&mut **transaction)
            .await?;
    let (clients, exchanges): (Vec<_>, Vec<_>) = changes
        .iter()
        .map(|change| {
            let call = change.actor.call.as_ref();
            (
                call.map(|(client, _)| client.as_str()),
                call.map(|(_, exchange)| exchange.to_string()),
            )
        })
        .unzip();
    sqlx::query(
        concat!("INSERT INTO card_change (", change_columns!(), ") SELECT * FROM unnest($1::bigint[], $2::text[], $3::smallint[], \
         $4::smallint[], $5::smallint[], $6::text[], $7::text[], $8::bigint[], $9::text[], $10::text[])"),
    )
    .bind((last - count + 1..=last).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.number.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| part_number(change.part)).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.from.map_or(0, state_number)).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| state_number(change.to)).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.actor.city.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.cause.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.changed_at_us).collect::<Vec<_>>())
    .bind(clients)
    .bind(exchanges)
    .execute(&mut **transaction)
    .await?;
    Ok(last)
}

async fn insert_report(
    transaction: &mut Transaction<'_, Postgres>,
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
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    ))
    .bind(report.client.as_str())
    .bind(report.request_id)
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
