//! The statements of a commit. One statement writes all rows of a batch: each round trip to the server is time in
//! which the head is locked.

use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{LEDGER, statement};
use crate::{
    facet::FacetValue,
    plan::Plan,
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
    f AS (INSERT INTO facet (ledger, facet, value, block) \
        SELECT $1, * FROM UNNEST($14::smallint[], $15::bytea[], $16::bigint[]) \
        ON CONFLICT DO NOTHING), \
    c AS (INSERT INTO claim (ledger, exchange, attempt, consumer, idx) \
        SELECT $1, * FROM UNNEST($17::uuid[], $18::bigint[], $19::bytea[], $20::bigint[])), \
    o AS (INSERT INTO in_flight (ledger, exchange, attempt, side, peer, boot, idx) \
        SELECT $1, exchange, attempt, side, peer, $21, idx \
        FROM UNNEST($22::uuid[], $23::bigint[], $24::smallint[], $25::bytea[], $26::bigint[]) \
        AS w (exchange, attempt, side, peer, idx)), \
    d AS (DELETE FROM in_flight i \
        USING UNNEST($27::uuid[], $28::bigint[], $29::smallint[], $30::bytea[]) \
        AS w (exchange, attempt, side, peer) WHERE i.ledger = $1 AND i.exchange = w.exchange \
        AND i.attempt = w.attempt AND i.side = w.side AND i.peer = w.peer), \
    m AS (INSERT INTO month_key (ledger, month, key_id) \
        SELECT $1, * FROM UNNEST($31::integer[], $32::bytea[])) \
    UPDATE head SET size = $33, frontier = $34 WHERE ledger = $1 AND size = $35 \
    RETURNING set_config('statement_timeout', '0', true)";

/// Sides are small numbers; one that is not is of no known version and sorts apart.
pub(super) fn side(call: CallId) -> i16 {
    i16::try_from(call.side).unwrap_or(i16::MAX)
}

pub(super) async fn rows(
    connection: &mut PgConnection,
    boot: Uuid,
    plan: &Plan<'_>,
) -> Result<(), Fault> {
    let entries = &plan.entries;
    let index = |index: u64| stored(index).map_err(Fault::Storage);
    let indices = |it: &mut dyn Iterator<Item = u64>| it.map(index).collect::<Result<Vec<_>, _>>();
    let private: Vec<_> = entries
        .iter()
        .filter_map(|row| Some((row.index, row.prepared.private.as_ref()?)))
        .collect();
    let facets: Vec<(&FacetValue, u64)> = plan.facets.iter().copied().collect();
    let opened: Vec<_> = plan
        .opened
        .iter()
        .map(|(call, index)| (*call, *index))
        .collect();
    let closed: Vec<_> = plan.closed.iter().copied().collect();
    let size = plan.frontier.count();
    let before = size - u64::try_from(entries.len()).unwrap_or(0);
    let kind = |kind: i32| i16::try_from(kind).unwrap_or(i16::MAX);
    let attempt = |call: &CallId| i64::from(call.attempt);
    let updated = query(ROWS)
        .bind(LEDGER)
        .bind(indices(&mut entries.iter().map(|row| row.index))?)
        .bind(
            entries
                .iter()
                .map(|row| kind(row.prepared.kind))
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|row| row.prepared.time_us)
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|row| Some(row.prepared.call?.exchange_id()))
                .collect::<Vec<_>>(),
        )
        .bind(entries.iter().map(|row| &row.leaf[..]).collect::<Vec<_>>())
        .bind(entries.iter().map(|row| &row.bytes[..]).collect::<Vec<_>>())
        .bind(
            entries
                .iter()
                .map(|row| Uuid::from_bytes(row.prepared.uid))
                .collect::<Vec<_>>(),
        )
        .bind(indices(&mut private.iter().map(|(index, _)| *index))?)
        .bind(
            private
                .iter()
                .map(|(_, sealed)| sealed.month.number())
                .collect::<Vec<_>>(),
        )
        .bind(
            private
                .iter()
                .map(|(_, sealed)| &sealed.ciphertext[..])
                .collect::<Vec<_>>(),
        )
        .bind(
            plan.tokens
                .iter()
                .map(|(token, _)| &token.0[..])
                .collect::<Vec<_>>(),
        )
        .bind(indices(&mut plan.tokens.iter().map(|(_, index)| *index))?)
        .bind(
            facets
                .iter()
                .map(|((facet, _), _)| facet.number())
                .collect::<Vec<_>>(),
        )
        .bind(
            facets
                .iter()
                .map(|((_, value), _)| &value[..])
                .collect::<Vec<_>>(),
        )
        .bind(indices(&mut facets.iter().map(|(_, block)| *block))?)
        .bind(
            plan.claims
                .iter()
                .map(|((id, _), _)| id.exchange_id())
                .collect::<Vec<_>>(),
        )
        .bind(
            plan.claims
                .iter()
                .map(|((id, _), _)| attempt(id))
                .collect::<Vec<_>>(),
        )
        .bind(
            plan.claims
                .iter()
                .map(|((_, it), _)| it.as_bytes())
                .collect::<Vec<_>>(),
        )
        .bind(indices(&mut plan.claims.iter().map(|(_, index)| *index))?)
        .bind(boot)
        .bind(
            opened
                .iter()
                .map(|((id, _), _)| id.exchange_id())
                .collect::<Vec<_>>(),
        )
        .bind(
            opened
                .iter()
                .map(|((id, _), _)| attempt(id))
                .collect::<Vec<_>>(),
        )
        .bind(
            opened
                .iter()
                .map(|((id, _), _)| side(*id))
                .collect::<Vec<_>>(),
        )
        .bind(
            opened
                .iter()
                .map(|((_, peer), _)| peer.as_bytes())
                .collect::<Vec<_>>(),
        )
        .bind(indices(&mut opened.iter().map(|(_, index)| *index))?)
        .bind(
            closed
                .iter()
                .map(|(id, _)| id.exchange_id())
                .collect::<Vec<_>>(),
        )
        .bind(closed.iter().map(|(id, _)| attempt(id)).collect::<Vec<_>>())
        .bind(closed.iter().map(|(id, _)| side(*id)).collect::<Vec<_>>())
        .bind(
            closed
                .iter()
                .map(|(_, peer)| peer.as_bytes())
                .collect::<Vec<_>>(),
        )
        .bind(
            plan.months
                .keys()
                .map(|month| month.number())
                .collect::<Vec<_>>(),
        )
        .bind(plan.months.values().map(|id| &id[..]).collect::<Vec<_>>())
        .bind(index(size)?)
        .bind(plan.frontier.to_bytes())
        .bind(index(before)?)
        .fetch_all(connection);
    if statement(updated).await?.len() == 1 {
        Ok(())
    } else {
        Err(Fault::Storage(StoreError::Corrupt("head")))
    }
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
