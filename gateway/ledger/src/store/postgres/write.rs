//! The statements of a commit. One statement writes all rows of a batch: each round trip to the server is time in
//! which the head is locked.

use banqiao_tlog::{frontier::root_of, tile::Tile};
use sqlx::{
    Arguments as _, PgConnection, error::BoxDynError, postgres::PgArguments, query, query_with,
};
use uuid::Uuid;

use super::{LEDGER, statement};
use crate::{
    plan::{EntryRow, Plan},
    prepare::CallId,
    store::{Fault, StoreError, stored},
};

/// The lease, and the ordinals of the claims and calls that are there.
pub(super) const LOOK_UP: &str = "\
    SELECT EXISTS (SELECT 1 FROM lease WHERE ledger = $1 AND boot = $2 AND NOT fenced), \
    ARRAY(SELECT w.n FROM UNNEST($3::uuid[], $4::bigint[], $5::bytea[]) \
        WITH ORDINALITY AS w (exchange, attempt, consumer, n) \
        JOIN claim c ON c.ledger = $1 AND c.exchange = w.exchange AND c.attempt = w.attempt \
        AND c.consumer = w.consumer), \
    ARRAY(SELECT w.n FROM UNNEST($6::uuid[], $7::bigint[], $8::smallint[], $9::bytea[]) \
        WITH ORDINALITY AS w (exchange, attempt, side, peer, n) \
        JOIN in_flight i ON i.ledger = $1 AND i.exchange = w.exchange AND i.attempt = w.attempt \
        AND i.side = w.side AND i.peer = w.peer)";

/// Every row of a batch. The last part advances the head, and lets the COMMIT that follows wait as long as a
/// standby needs: a statement timeout there would report a commit that no standby has (the server cancels the wait
/// with a mere warning).
const ROWS: &str = "\
    WITH e AS (INSERT INTO entry (ledger, idx, kind, time_us, exchange, leaf, bytes) \
        SELECT $1, * FROM UNNEST($2::bigint[], $3::smallint[], $4::bigint[], $5::uuid[], \
        $6::bytea[], $7::bytea[])), \
    u AS (INSERT INTO entry_uid (ledger, uid, idx) \
        SELECT $1, * FROM UNNEST($8::uuid[], $2::bigint[])), \
    p AS (INSERT INTO private (ledger, idx, month, ciphertext) \
        SELECT $1, * FROM UNNEST($9::bigint[], $10::integer[], $11::bytea[])), \
    t AS (INSERT INTO token (ledger, segment, token, idx) \
        SELECT $1, idx / 4096, token, idx FROM UNNEST($12::bytea[], $13::bigint[]) \
        AS w (token, idx)), \
    c AS (INSERT INTO claim (ledger, exchange, attempt, consumer, idx) \
        SELECT $1, * FROM UNNEST($14::uuid[], $15::bigint[], $16::bytea[], $17::bigint[])), \
    o AS (INSERT INTO in_flight (ledger, exchange, attempt, side, peer, boot, idx) \
        SELECT $1, exchange, attempt, side, peer, $18, idx \
        FROM UNNEST($19::uuid[], $20::bigint[], $21::smallint[], $22::bytea[], $23::bigint[]) \
        AS w (exchange, attempt, side, peer, idx)), \
    d AS (DELETE FROM in_flight i \
        USING UNNEST($24::uuid[], $25::bigint[], $26::smallint[], $27::bytea[]) \
        AS w (exchange, attempt, side, peer) WHERE i.ledger = $1 AND i.exchange = w.exchange \
        AND i.attempt = w.attempt AND i.side = w.side AND i.peer = w.peer), \
    m AS (INSERT INTO month_key (ledger, month, key_id) \
        SELECT $1, * FROM UNNEST($28::integer[], $29::bytea[])), \
    v AS (INSERT INTO evidence (ledger, idx, kind, bytes) \
        SELECT $1, * FROM UNNEST($34::bigint[], $35::smallint[], $36::bytea[])) \
    UPDATE head SET size = $30, frontier = $31, note = $33 WHERE ledger = $1 AND size = $32 \
    RETURNING set_config('statement_timeout', '0', true)";

/// The number of a side.
pub(super) fn side(call: CallId) -> i16 {
    small(call.side)
}

type Bound = Result<(), BoxDynError>;

/// Writes every row of a batch and advances the head.
pub(super) async fn rows(
    connection: &mut PgConnection,
    boot: Uuid,
    plan: &Plan<'_>,
) -> Result<(), Fault> {
    let unbound = |error| Fault::postgres(sqlx::Error::Encode(error));
    let mut arguments = PgArguments::default();
    let bound = &mut arguments;
    bound.add(LEDGER).map_err(unbound)?;
    entries(bound, plan).map_err(unbound)?;
    private(bound, plan).map_err(unbound)?;
    calls(bound, boot, plan).map_err(unbound)?;
    head(bound, plan).map_err(unbound)?;
    evidence(bound, plan).map_err(unbound)?;
    let updated = query_with(ROWS, arguments).fetch_all(connection);
    if statement(updated).await?.len() == 1 {
        Ok(())
    } else {
        Err(Fault::Storage(StoreError::Corrupt("head")))
    }
}

/// One value of each row.
fn column<'r, R, V>(rows: &'r [R], value: impl Fn(&'r R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// One index of each row.
fn index<R>(rows: &[R], index: impl Fn(&R) -> u64) -> Result<Vec<i64>, StoreError> {
    rows.iter().map(|row| stored(index(row))).collect()
}

/// Small numbers; one that is not belongs to no known version, and sorts behind all others.
fn small(number: i32) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// Parameters 2 to 8.
fn entries(bound: &mut PgArguments, plan: &Plan<'_>) -> Bound {
    let rows = &plan.entries;
    bound.add(index(rows, |row| row.index)?)?;
    bound.add(column(rows, |row| small(row.prepared.kind)))?;
    bound.add(column(rows, |row| row.prepared.time_us))?;
    bound.add(column(rows, |row| {
        row.prepared.call.map(CallId::exchange_id)
    }))?;
    bound.add(column(rows, |row| &row.leaf[..]))?;
    bound.add(column(rows, |row| &row.bytes[..]))?;
    bound.add(column(rows, |row| Uuid::from_bytes(row.prepared.uid)))
}

/// Parameters 9 to 13.
fn private(bound: &mut PgArguments, plan: &Plan<'_>) -> Bound {
    let sealed = |row: &EntryRow<'_>| row.prepared.private.is_some();
    let rows: Vec<_> = plan.entries.iter().filter(|row| sealed(row)).collect();
    let parts: Vec<_> = rows
        .iter()
        .filter_map(|row| row.prepared.private.as_ref())
        .collect();
    bound.add(index(&rows, |row| row.index)?)?;
    bound.add(column(&parts, |sealed| sealed.month.number()))?;
    bound.add(column(&parts, |sealed| &sealed.ciphertext[..]))?;
    bound.add(column(&plan.tokens, |(token, _)| &token.0[..]))?;
    bound.add(index(&plan.tokens, |(_, index)| *index)?)
}

/// Parameters 14 to 27.
fn calls(bound: &mut PgArguments, boot: Uuid, plan: &Plan<'_>) -> Bound {
    let rows = &plan.claims;
    bound.add(column(rows, |((id, _), _)| id.exchange_id()))?;
    bound.add(column(rows, |((id, _), _)| i64::from(id.attempt)))?;
    bound.add(column(rows, |((_, consumer), _)| consumer.as_bytes()))?;
    bound.add(index(rows, |(_, index)| *index)?)?;
    bound.add(boot)?;
    let rows: Vec<_> = plan.opened.iter().collect();
    bound.add(column(&rows, |((id, _), _)| id.exchange_id()))?;
    bound.add(column(&rows, |((id, _), _)| i64::from(id.attempt)))?;
    bound.add(column(&rows, |((id, _), _)| side(*id)))?;
    bound.add(column(&rows, |((_, peer), _)| peer.as_bytes()))?;
    bound.add(index(&rows, |(_, index)| **index)?)?;
    let rows: Vec<_> = plan.closed.iter().collect();
    bound.add(column(&rows, |(id, _)| id.exchange_id()))?;
    bound.add(column(&rows, |(id, _)| i64::from(id.attempt)))?;
    bound.add(column(&rows, |(id, _)| side(*id)))?;
    bound.add(column(&rows, |(_, peer)| peer.as_bytes()))
}

/// Parameters 28 to 33.
fn head(bound: &mut PgArguments, plan: &Plan<'_>) -> Bound {
    let size = plan.frontier.count();
    let before = size - u64::try_from(plan.entries.len())?;
    let months: Vec<_> = plan.months.iter().collect();
    bound.add(column(&months, |(month, _)| month.number()))?;
    bound.add(column(&months, |(_, id)| &id[..]))?;
    bound.add(stored(size)?)?;
    bound.add(plan.frontier.to_bytes())?;
    bound.add(stored(before)?)?;
    bound.add(&*plan.note)
}

/// Parameters 34 to 36.
fn evidence(bound: &mut PgArguments, plan: &Plan<'_>) -> Bound {
    let rows = &plan.evidence;
    bound.add(index(rows, |(index, _, _)| *index)?)?;
    bound.add(column(rows, |(_, kind, _)| kind.number()))?;
    bound.add(column(rows, |(_, _, bytes)| *bytes))
}

/// Full tiles: one commit in a few has one.
pub(super) async fn tiles(connection: &mut PgConnection, tiles: &[Tile]) -> Result<(), Fault> {
    if tiles.is_empty() {
        return Ok(());
    }
    let numbers = index(tiles, |tile| tile.id().index()).map_err(Fault::Storage)?;
    let insert = query(
        "INSERT INTO tile (ledger, level, n, root, bytes) \
         SELECT $1, * FROM UNNEST($2::smallint[], $3::bigint[], $4::bytea[], $5::bytea[])",
    )
    .bind(LEDGER)
    .bind(column(tiles, |tile| i16::from(tile.id().level())))
    .bind(numbers)
    .bind(column(tiles, |tile| root_of(tile.hashes()).to_vec()))
    .bind(column(tiles, Tile::to_bytes));
    statement(insert.execute(connection)).await?;
    Ok(())
}

/// Documents change seldom: one statement each.
pub(super) async fn documents(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    if plan.revisions == 0 {
        return Ok(());
    }
    for ((kind, key), bytes) in &plan.documents {
        let change = match bytes {
            Some(bytes) => query(
                "INSERT INTO document (ledger, kind, key, bytes) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (ledger, kind, key) DO UPDATE SET bytes = excluded.bytes",
            )
            .bind(LEDGER)
            .bind(kind.number())
            .bind(key.as_bytes())
            .bind(*bytes),
            None => query("DELETE FROM document WHERE ledger = $1 AND kind = $2 AND key = $3")
                .bind(LEDGER)
                .bind(kind.number())
                .bind(key.as_bytes()),
        };
        statement(change.execute(&mut *connection)).await?;
    }
    let revisions = stored(plan.revisions).map_err(Fault::Storage)?;
    statement(
        query("UPDATE document_revision SET revision = revision + $2 WHERE ledger = $1")
            .bind(LEDGER)
            .bind(revisions)
            .execute(connection),
    )
    .await?;
    Ok(())
}
