//! The statements of a commit.

use sqlx::{Arguments as _, SqliteConnection, query};
use uuid::Uuid;

use super::{
    LEDGER,
    grouped::{Grouped, grouped},
};
use crate::{
    plan::{Found, Plan, Wanted},
    store::{Fault, StoreError, stored},
};

static ENTRIES: Grouped = grouped!(
    "INSERT INTO entry (ledger, idx, kind, time_us, exchange, leaf, bytes) SELECT 1, * FROM",
    6,
    "WHERE column1 IS NOT NULL"
);
static UIDS: Grouped = grouped!(
    "INSERT INTO entry_uid (ledger, uid, idx) SELECT 1, * FROM",
    2,
    "WHERE column1 IS NOT NULL"
);
static PRIVATE: Grouped = grouped!(
    "INSERT INTO private (ledger, idx, month, ciphertext) SELECT 1, * FROM",
    3,
    "WHERE column1 IS NOT NULL"
);
static TOKENS: Grouped = grouped!(
    "INSERT INTO token (ledger, token, idx) SELECT 1, * FROM",
    2,
    "WHERE column1 IS NOT NULL"
);
static FACETS: Grouped = grouped!(
    "INSERT INTO facet (ledger, facet, value, block) SELECT 1, * FROM",
    3,
    "WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING"
);
static CLAIMS: Grouped = grouped!(
    "INSERT INTO claim (ledger, exchange, attempt, consumer, idx) SELECT 1, * FROM",
    4,
    "WHERE column1 IS NOT NULL"
);
static OPENED: Grouped = grouped!(
    "INSERT INTO in_flight (ledger, exchange, attempt, side, peer, boot, idx) SELECT 1, * FROM",
    6,
    "WHERE column1 IS NOT NULL"
);
static CLOSED: Grouped = grouped!(
    "DELETE FROM in_flight WHERE ledger = 1 AND (exchange, attempt, side, peer) IN (SELECT * FROM",
    4,
    ")"
);
/// `CROSS JOIN` keeps the rows that are asked about on the outside of the loop.
static FIND_CLAIMS: Grouped = grouped!(
    "SELECT column1 FROM",
    4,
    "CROSS JOIN claim c WHERE c.ledger = 1 AND c.exchange = column2 AND c.attempt = column3 \
     AND c.consumer = column4"
);
static FIND_CALLS: Grouped = grouped!(
    "SELECT column1 FROM",
    5,
    "CROSS JOIN in_flight i WHERE i.ledger = 1 AND i.exchange = column2 AND i.attempt = column3 \
     AND i.side = column4 AND i.peer = column5"
);

/// Looks up which claims and calls are there.
pub(super) async fn look_up<'a>(
    connection: &mut SqliteConnection,
    wanted: &Wanted<'a>,
    found: &mut Found<'a>,
) -> Result<(), Fault> {
    let at = |ordinal: i64| usize::try_from(ordinal).ok();
    let claims: Vec<_> = wanted.claims.iter().copied().zip(0_i64..).collect();
    let numbers = FIND_CLAIMS
        .numbers(
            connection,
            &claims,
            |arguments, ((id, consumer), ordinal)| {
                arguments.add(*ordinal)?;
                arguments.add(&id.exchange[..])?;
                arguments.add(id.attempt)?;
                arguments.add(consumer.as_bytes())
            },
        )
        .await?;
    found.claims.extend(
        numbers
            .into_iter()
            .filter_map(|n| Some(claims.get(at(n)?)?.0)),
    );
    let calls: Vec<_> = wanted.calls.iter().copied().zip(0_i64..).collect();
    let numbers = FIND_CALLS
        .numbers(connection, &calls, |arguments, ((id, peer), ordinal)| {
            arguments.add(*ordinal)?;
            arguments.add(&id.exchange[..])?;
            arguments.add(id.attempt)?;
            arguments.add(id.side)?;
            arguments.add(peer.as_bytes())
        })
        .await?;
    found.calls.extend(
        numbers
            .into_iter()
            .filter_map(|n| Some(calls.get(at(n)?)?.0)),
    );
    Ok(())
}

/// Writes every row of a batch and advances the head.
pub(super) async fn rows(
    connection: &mut SqliteConnection,
    boot: Uuid,
    plan: &Plan<'_>,
) -> Result<(), Fault> {
    ENTRIES
        .execute(connection, &plan.entries, |arguments, row| {
            arguments.add(stored(row.index)?)?;
            arguments.add(row.prepared.kind)?;
            arguments.add(row.prepared.time_us)?;
            arguments.add(row.prepared.call.map(|call| call.exchange.to_vec()))?;
            arguments.add(&row.leaf[..])?;
            arguments.add(&row.bytes[..])
        })
        .await?;
    UIDS.execute(connection, &plan.entries, |arguments, row| {
        arguments.add(&row.prepared.uid[..])?;
        arguments.add(stored(row.index)?)
    })
    .await?;
    private(connection, plan).await?;
    let facets: Vec<_> = plan.facets.iter().collect();
    FACETS
        .execute(connection, &facets, |arguments, ((facet, value), block)| {
            arguments.add(facet.number())?;
            arguments.add(&value[..])?;
            arguments.add(stored(*block)?)
        })
        .await?;
    calls(connection, boot, plan).await?;
    for (month, id) in &plan.months {
        query("INSERT INTO month_key (ledger, month, key_id) VALUES (?1, ?2, ?3)")
            .bind(LEDGER)
            .bind(month.number())
            .bind(&id[..])
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
    }
    let size = plan.frontier.count();
    let before = size - u64::try_from(plan.entries.len()).unwrap_or(0);
    let updated = query("UPDATE head SET size = ?2, frontier = ?3 WHERE ledger = ?1 AND size = ?4")
        .bind(LEDGER)
        .bind(stored(size).map_err(Fault::Storage)?)
        .bind(plan.frontier.to_bytes())
        .bind(stored(before).map_err(Fault::Storage)?)
        .execute(connection)
        .await
        .map_err(Fault::sqlite)?;
    if updated.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Fault::Storage(StoreError::Corrupt("head")))
    }
}

async fn private(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    let private: Vec<_> = plan
        .entries
        .iter()
        .filter_map(|row| Some((row.index, row.prepared.private.as_ref()?)))
        .collect();
    PRIVATE
        .execute(connection, &private, |arguments, (index, sealed)| {
            arguments.add(stored(*index)?)?;
            arguments.add(sealed.month.number())?;
            arguments.add(&sealed.ciphertext[..])
        })
        .await?;
    TOKENS
        .execute(connection, &plan.tokens, |arguments, (token, index)| {
            arguments.add(&token.0[..])?;
            arguments.add(stored(*index)?)
        })
        .await
}

async fn calls(
    connection: &mut SqliteConnection,
    boot: Uuid,
    plan: &Plan<'_>,
) -> Result<(), Fault> {
    CLAIMS
        .execute(
            connection,
            &plan.claims,
            |arguments, ((id, consumer), index)| {
                arguments.add(&id.exchange[..])?;
                arguments.add(id.attempt)?;
                arguments.add(consumer.as_bytes())?;
                arguments.add(stored(*index)?)
            },
        )
        .await?;
    let opened: Vec<_> = plan.opened.iter().collect();
    OPENED
        .execute(connection, &opened, |arguments, ((id, peer), index)| {
            arguments.add(&id.exchange[..])?;
            arguments.add(id.attempt)?;
            arguments.add(id.side)?;
            arguments.add(peer.as_bytes())?;
            arguments.add(boot)?;
            arguments.add(stored(**index)?)
        })
        .await?;
    let closed: Vec<_> = plan.closed.iter().collect();
    CLOSED
        .execute(connection, &closed, |arguments, (id, peer)| {
            arguments.add(&id.exchange[..])?;
            arguments.add(id.attempt)?;
            arguments.add(id.side)?;
            arguments.add(peer.as_bytes())
        })
        .await
}

/// Documents change seldom: one statement each.
pub(super) async fn documents(
    connection: &mut SqliteConnection,
    plan: &Plan<'_>,
) -> Result<(), Fault> {
    if plan.revisions == 0 {
        return Ok(());
    }
    for ((kind, key), bytes) in &plan.documents {
        let change = match bytes {
            Some(bytes) => query(
                "INSERT INTO document (ledger, kind, key, bytes) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (ledger, kind, key) DO UPDATE SET bytes = excluded.bytes",
            )
            .bind(LEDGER)
            .bind(kind.number())
            .bind(key.as_bytes())
            .bind(*bytes),
            None => query("DELETE FROM document WHERE ledger = ?1 AND kind = ?2 AND key = ?3")
                .bind(LEDGER)
                .bind(kind.number())
                .bind(key.as_bytes()),
        };
        change
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
    }
    query("UPDATE document_revision SET revision = revision + ?2 WHERE ledger = ?1")
        .bind(LEDGER)
        .bind(stored(plan.revisions).map_err(Fault::Storage)?)
        .execute(connection)
        .await
        .map_err(Fault::sqlite)?;
    Ok(())
}
