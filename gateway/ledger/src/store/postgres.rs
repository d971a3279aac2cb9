//! The PostgreSQL store. Several replicas contend for the head's row lock: one order without gaps, no fork.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use banqiao_directory::CityCode;
use banqiao_tlog::tile::Tile;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
    query, query_as, query_scalar,
};
use uuid::Uuid;

use super::{
    CONNECT_TIMEOUT, CommitFault, Edge, Expired, Fault, LEDGER, Orphan, StoreError, WriterSettings,
    number, stored,
};
use crate::{
    digest::Frontier,
    keyring::Month,
    ledger::LedgerObserver,
    plan::{Found, Head, Plan, Wanted},
    prepare::CallId,
    step::Step,
    witness::{Contradiction, Credential, KeptCosignature, KeptLinks, WitnessStep},
};

mod archive;
mod audit;
mod erase;
mod index;
mod reads;
mod reconcile;
mod setup;
mod write;

pub(crate) use reads::Reads;

/// Longest wait for a statement; the server gives up after 2 s on its own.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a COMMIT, which may have to wait for a standby.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection that writes.
pub(crate) struct Writer {
    connection: PgConnection,
    pub(super) observer: Arc<dyn LedgerObserver>,
}

/// Waits for a statement, but not for ever: a server that is cut off answers nothing at all.
async fn within<T>(
    limit: Duration,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, statement).await {
        Ok(answered) => answered.map_err(Fault::postgres),
        Err(_) => Err(Fault::Connection(StoreError::Timeout)),
    }
}

async fn statement<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Fault> {
    within(STATEMENT_TIMEOUT, statement).await
}

impl Writer {
    pub(crate) async fn open(
        options: &PgConnectOptions,
        settings: &WriterSettings,
    ) -> Result<Self, Fault> {
        let options = options
            .clone()
            .application_name("banqiao-ledger")
            .options([
                ("lock_timeout", "1s"),
                ("statement_timeout", "2s"),
                ("idle_in_transaction_session_timeout", "2s"),
            ])
            .disable_statement_logging();
        let mut connection = within(CONNECT_TIMEOUT, options.connect()).await?;
        // Planning a batch anew takes longer than executing it. A compatible database may not know the setting.
        let _ = connection
            .execute("SET plan_cache_mode = force_generic_plan")
            .await;
        setup::check(&mut connection, settings.failover).await?;
        setup::migrate(&mut connection, settings.city).await?;
        Ok(Self {
            connection,
            observer: Arc::clone(&settings.observer),
        })
    }

    pub(crate) async fn begin(&mut self, _: Uuid) -> Result<Head, Fault> {
        statement(self.connection.execute("BEGIN")).await?;
        type Row = (i64, Vec<u8>, bool, Option<String>, Option<String>, i64);
        let (size, frontier, frozen, origin, note, detached): Row = statement(
            query_as(
                "SELECT size, frontier, frozen IS NOT NULL, origin, note, detached FROM head \
                 WHERE ledger = $1 FOR UPDATE",
            )
            .bind(LEDGER)
            .fetch_one(&mut self.connection),
        )
        .await?;
        let frontier = number(size)
            .and_then(|size| Frontier::from_bytes(size, &frontier).map_err(StoreError::Frontier))
            .map_err(Fault::Storage)?;
        Ok(Head {
            frontier,
            frozen,
            origin,
            note,
            detached: number(detached).map_err(Fault::Storage)?,
        })
    }

    /// The lease is looked up after the head's lock was taken, in a statement of its own and so with a snapshot of
    /// its own: whoever fenced it held that lock before.
    pub(crate) async fn look_up<'a>(
        &mut self,
        boot: Uuid,
        wanted: &Wanted<'a>,
    ) -> Result<Found<'a>, Fault> {
        let claims: Vec<_> = wanted.claims.iter().copied().collect();
        let calls: Vec<_> = wanted.calls.iter().copied().collect();
        let (leased, found_claims, found_calls): (bool, Vec<i64>, Vec<i64>) = statement(
            query_as(write::LOOK_UP)
                .bind(LEDGER)
                .bind(boot)
                .bind(
                    claims
                        .iter()
                        .map(|(id, _)| id.exchange_id())
                        .collect::<Vec<_>>(),
                )
                .bind(
                    claims
                        .iter()
                        .map(|(id, _)| i64::from(id.attempt))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    claims
                        .iter()
                        .map(|(_, consumer)| consumer.as_bytes())
                        .collect::<Vec<_>>(),
                )
                .bind(
                    calls
                        .iter()
                        .map(|(id, _)| id.exchange_id())
                        .collect::<Vec<_>>(),
                )
                .bind(
                    calls
                        .iter()
                        .map(|(id, _)| i64::from(id.attempt))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    calls
                        .iter()
                        .map(|(id, _)| write::side(*id))
                        .collect::<Vec<_>>(),
                )
                .bind(
                    calls
                        .iter()
                        .map(|(_, peer)| peer.as_bytes())
                        .collect::<Vec<_>>(),
                )
                .fetch_one(&mut self.connection),
        )
        .await?;
        let mut months = BTreeMap::new();
        if !wanted.months.is_empty() {
            months.extend(self.months().await?);
        }
        // WITH ORDINALITY counts from 1.
        let at = |ordinal: i64| usize::try_from(ordinal - 1).ok();
        Ok(Found {
            claims: found_claims
                .into_iter()
                .filter_map(|n| claims.get(at(n)?).copied())
                .collect(),
            calls: found_calls
                .into_iter()
                .filter_map(|n| calls.get(at(n)?).copied())
                .collect(),
            months,
            leased,
            ..Found::default()
        })
    }

    pub(crate) async fn finish(&mut self, boot: Uuid, plan: &Plan<'_>) -> Result<(), CommitFault> {
        let refused = CommitFault::Refused;
        write::documents(&mut self.connection, plan)
            .await
            .map_err(refused)?;
        reconcile::steps(&mut self.connection, plan)
            .await
            .map_err(refused)?;
        erase::erase(&mut self.connection, plan)
            .await
            .map_err(refused)?;
        archive::detach(&mut self.connection, plan)
            .await
            .map_err(refused)?;
        self.observer.reached(Step::DocumentsStored);
        write::tiles(&mut self.connection, &plan.tiles)
            .await
            .map_err(refused)?;
        self.observer.reached(Step::TilesStored);
        write::rows(&mut self.connection, boot, plan)
            .await
            .map_err(refused)?;
        self.observer.reached(Step::Committing);
        self.commit().await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), CommitFault> {
        let commit = within(COMMIT_TIMEOUT, self.connection.execute("COMMIT"));
        commit.await.map(|_| ()).map_err(CommitFault::postgres)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), Fault> {
        statement(self.connection.execute("ROLLBACK")).await?;
        Ok(())
    }

    pub(crate) async fn index_of(&mut self, uid: &[u8; 16]) -> Result<Option<u64>, Fault> {
        let index: Option<i64> = statement(
            query_scalar("SELECT idx FROM entry_uid WHERE ledger = $1 AND uid = $2")
                .bind(LEDGER)
                .bind(Uuid::from_bytes(*uid))
                .fetch_optional(&mut self.connection),
        )
        .await?;
        index.map(number).transpose().map_err(Fault::Storage)
    }

    pub(crate) async fn edge(&mut self, from: u64) -> Result<Edge, Fault> {
        let last: Option<i64> = statement(
            query_scalar("SELECT max(idx) FROM entry WHERE ledger = $1")
                .bind(LEDGER)
                .fetch_one(&mut self.connection),
        )
        .await?;
        let leaves = statement(
            query_as(
                "SELECT leaf, bytes FROM entry WHERE ledger = $1 AND idx >= $2 \
             ORDER BY idx LIMIT 1024",
            )
            .bind(LEDGER)
            .bind(stored(from).map_err(Fault::Storage)?)
            .fetch_all(&mut self.connection),
        )
        .await?;
        let size = number(last.map_or(0, |last| last + 1)).map_err(Fault::Storage)?;
        Ok(Edge { size, leaves })
    }

    pub(crate) async fn leaf(&mut self, index: u64) -> Result<Option<Vec<u8>>, Fault> {
        statement(
            query_scalar("SELECT leaf FROM entry WHERE ledger = $1 AND idx = $2")
                .bind(LEDGER)
                .bind(stored(index).map_err(Fault::Storage)?)
                .fetch_optional(&mut self.connection),
        )
        .await
    }

    pub(crate) async fn leaves(&mut self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, Fault> {
        statement(
            query_scalar(
                "SELECT leaf FROM entry WHERE ledger = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
            )
            .bind(LEDGER)
            .bind(stored(from).map_err(Fault::Storage)?)
            .bind(stored(until).map_err(Fault::Storage)?)
            .fetch_all(&mut self.connection),
        )
        .await
    }

    pub(crate) async fn tile_roots(
        &mut self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        statement(
            query_scalar(
                "SELECT root FROM tile WHERE ledger = $1 AND level = $2 AND n >= $3 AND n < $4 \
                 ORDER BY n",
            )
            .bind(LEDGER)
            .bind(i16::from(level))
            .bind(stored(from).map_err(Fault::Storage)?)
            .bind(stored(until).map_err(Fault::Storage)?)
            .fetch_all(&mut self.connection),
        )
        .await
    }

    pub(crate) async fn tiles(&mut self) -> Result<u64, Fault> {
        let tiles: i64 = statement(
            query_scalar(
                "SELECT coalesce(max(n) + 1, 0) FROM tile WHERE ledger = $1 AND level = 0",
            )
            .bind(LEDGER)
            .fetch_one(&mut self.connection),
        )
        .await?;
        number(tiles).map_err(Fault::Storage)
    }

    pub(crate) async fn put_tiles(&mut self, tiles: &[Tile]) -> Result<(), Fault> {
        write::tiles(&mut self.connection, tiles).await
    }

    /// Publishes the newest checkpoint, unless it is.
    pub(crate) async fn publish(&mut self, now_us: i64) -> Result<(), Fault> {
        statement(
            query(
                "INSERT INTO checkpoint (ledger, size, time_us, note) SELECT ledger, size, $2, note \
                 FROM head WHERE ledger = $1 AND note IS NOT NULL ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(now_us)
            .execute(&mut self.connection),
        )
        .await?;
        Ok(())
    }

    /// Moves the witness's memory of a log on. `false`: it is not what the step begins with.
    pub(crate) async fn step_witness(&mut self, step: &WitnessStep) -> Result<bool, Fault> {
        let next = stored(step.next.size).map_err(Fault::Storage)?;
        let statement_of = match step.previous {
            None => query(
                "INSERT INTO witness_state (ledger, origin, size, root, note) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(&step.origin)
            .bind(next)
            .bind(&step.next.root[..])
            .bind(&step.note),
            Some(previous) => query(
                "UPDATE witness_state SET size = $3, root = $4, note = $5 \
                 WHERE ledger = $1 AND origin = $2 AND size = $6 AND root = $7",
            )
            .bind(LEDGER)
            .bind(&step.origin)
            .bind(next)
            .bind(&step.next.root[..])
            .bind(&step.note)
            .bind(stored(previous.size).map_err(Fault::Storage)?)
            .bind(previous.root.to_vec()),
        };
        let done = statement(statement_of.execute(&mut self.connection)).await?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn keep_links(&mut self, kept: &KeptLinks) -> Result<(), Fault> {
        let size = stored(kept.size).map_err(Fault::Storage)?;
        let heads: Vec<i64> = kept
            .links
            .iter()
            .map(|(head, _)| stored(head.size))
            .collect::<Result<_, _>>()
            .map_err(Fault::Storage)?;
        statement(query("BEGIN").execute(&mut self.connection)).await?;
        let written = async {
            let note = query(
                "INSERT INTO witnessed (ledger, origin, size, note) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(&kept.origin)
            .bind(size)
            .bind(&kept.note);
            statement(note.execute(&mut self.connection)).await?;
            for ((head, proof), number) in kept.links.iter().zip(heads) {
                let link = query(
                    "INSERT INTO link (ledger, origin, size, root, witnessed, proof) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                )
                .bind(LEDGER)
                .bind(&kept.origin)
                .bind(number)
                .bind(&head.root[..])
                .bind(size)
                .bind(proof.concat());
                statement(link.execute(&mut self.connection)).await?;
            }
            statement(query("COMMIT").execute(&mut self.connection)).await?;
            Ok(())
        };
        let outcome: Result<(), Fault> = written.await;
        if outcome.is_err() {
            let _ = self.rollback().await;
        }
        outcome
    }

    pub(crate) async fn keep_credential(&mut self, kept: &Credential) -> Result<(), Fault> {
        let insert = query(
            "INSERT INTO credential (ledger, kind, name, time_us, bytes) \
             SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM credential \
             WHERE ledger = $1 AND kind = $2 AND name = $3 AND bytes = $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(kept.kind.number())
        .bind(&kept.name[..])
        .bind(kept.time_us)
        .bind(&kept.bytes);
        statement(insert.execute(&mut self.connection)).await?;
        Ok(())
    }

    pub(crate) async fn keep_contradiction(&mut self, kept: &Contradiction) -> Result<(), Fault> {
        let insert = query(
            "INSERT INTO contradiction (ledger, origin, time_us, first, second) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(&kept.origin)
        .bind(kept.time_us)
        .bind(&kept.first)
        .bind(&kept.second);
        statement(insert.execute(&mut self.connection)).await?;
        Ok(())
    }

    /// Keeps a witness's signature under one of our checkpoints.
    pub(crate) async fn keep_cosignature(&mut self, kept: &KeptCosignature) -> Result<(), Fault> {
        let insert = query(
            "INSERT INTO cosignature (ledger, size, witness, time_s, line) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(stored(kept.size).map_err(Fault::Storage)?)
        .bind(&kept.witness)
        .bind(stored(kept.time_s).map_err(Fault::Storage)?)
        .bind(&kept.line);
        statement(insert.execute(&mut self.connection)).await?;
        Ok(())
    }

    pub(crate) async fn published(&mut self) -> Result<Option<String>, Fault> {
        let newest = query_scalar(
            "SELECT note FROM checkpoint WHERE ledger = $1 ORDER BY size DESC LIMIT 1",
        );
        statement(newest.bind(LEDGER).fetch_optional(&mut self.connection)).await
    }

    pub(crate) async fn unconfirmed(&mut self) -> Result<bool, Fault> {
        let found = query_scalar("SELECT unconfirmed IS NOT NULL FROM head WHERE ledger = $1");
        statement(found.bind(LEDGER).fetch_one(&mut self.connection)).await
    }

    pub(crate) async fn put_confirmed(&mut self) -> Result<(), Fault> {
        let update = query("UPDATE head SET unconfirmed = NULL WHERE ledger = $1").bind(LEDGER);
        statement(update.execute(&mut self.connection)).await?;
        Ok(())
    }

    pub(crate) async fn put_frozen(&mut self, reason: &str) -> Result<(), Fault> {
        let update = query("UPDATE head SET frozen = $2 WHERE ledger = $1 AND frozen IS NULL")
            .bind(LEDGER)
            .bind(reason);
        statement(update.execute(&mut self.connection)).await?;
        Ok(())
    }

    pub(crate) async fn put_origin(&mut self, origin: &str) -> Result<(), Fault> {
        statement(
            query("UPDATE head SET origin = $2 WHERE ledger = $1")
                .bind(LEDGER)
                .bind(origin)
                .execute(&mut self.connection),
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn months(&mut self) -> Result<Vec<(Month, [u8; 8])>, Fault> {
        let rows = statement(
            query_as("SELECT month, key_id FROM month_key WHERE ledger = $1 ORDER BY month")
                .bind(LEDGER)
                .fetch_all(&mut self.connection),
        )
        .await?;
        super::months(rows).map_err(Fault::Storage)
    }

    pub(crate) async fn take_lease(
        &mut self,
        boot: Uuid,
        replica: &str,
        ttl: Duration,
    ) -> Result<(), Fault> {
        statement(
            query(
                "INSERT INTO lease (ledger, boot, replica, until_us, fenced) VALUES ($1, $2, $3, \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4, false)",
            )
            .bind(LEDGER)
            .bind(boot)
            .bind(replica)
            .bind(micros(ttl))
            .execute(&mut self.connection),
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn renew_lease(&mut self, boot: Uuid, ttl: Duration) -> Result<bool, Fault> {
        let renewed = statement(
            query(
                "UPDATE lease SET until_us = \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $3 \
                 WHERE ledger = $1 AND boot = $2 AND NOT fenced",
            )
            .bind(LEDGER)
            .bind(boot)
            .bind(micros(ttl))
            .execute(&mut self.connection),
        )
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    pub(crate) async fn release_lease(&mut self, boot: Uuid) -> Result<(), Fault> {
        for sql in [
            "UPDATE lease SET until_us = 0 WHERE ledger = $1 AND boot = $2",
            "DELETE FROM lease l WHERE l.ledger = $1 AND l.boot = $2 AND NOT EXISTS \
             (SELECT 1 FROM in_flight i WHERE i.ledger = l.ledger AND i.boot = l.boot)",
        ] {
            let release = query(sql)
                .bind(LEDGER)
                .bind(boot)
                .execute(&mut self.connection);
            statement(release).await?;
        }
        Ok(())
    }

    pub(crate) async fn expired_leases(&mut self, boot: Uuid) -> Result<Vec<Expired>, Fault> {
        let rows: Vec<(Uuid, String)> = statement(
            query_as(
                "SELECT boot, replica FROM lease WHERE ledger = $1 AND boot <> $2 AND \
                 until_us < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            )
            .bind(LEDGER)
            .bind(boot)
            .fetch_all(&mut self.connection),
        )
        .await?;
        Ok(rows
            .into_iter()
            .map(|(boot, replica)| Expired { boot, replica })
            .collect())
    }

    pub(crate) async fn fence(&mut self, boot: Uuid) -> Result<bool, Fault> {
        let fenced = statement(
            query(
                "UPDATE lease SET fenced = true WHERE ledger = $1 AND boot = $2 AND \
                 until_us < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            )
            .bind(LEDGER)
            .bind(boot)
            .execute(&mut self.connection),
        )
        .await?;
        Ok(fenced.rows_affected() == 1)
    }

    pub(crate) async fn orphans(&mut self, boot: Uuid, limit: u32) -> Result<Vec<Orphan>, Fault> {
        type Row = (Uuid, i64, i16, Vec<u8>, i64, Vec<u8>);
        let rows: Vec<Row> = statement(
            query_as(
                "SELECT i.exchange, i.attempt, i.side, i.peer, i.idx, e.bytes FROM in_flight i \
                 JOIN entry e ON e.ledger = i.ledger AND e.idx = i.idx \
                 WHERE i.ledger = $1 AND i.boot = $2 ORDER BY i.idx LIMIT $3",
            )
            .bind(LEDGER)
            .bind(boot)
            .bind(i64::from(limit))
            .fetch_all(&mut self.connection),
        )
        .await?;
        rows.into_iter()
            .map(|(exchange, attempt, side, peer, index, opened)| {
                super::orphan(
                    exchange.into_bytes(),
                    attempt,
                    side.into(),
                    peer,
                    index,
                    opened,
                )
            })
            .collect::<Result<_, _>>()
            .map_err(Fault::Storage)
    }

    pub(crate) async fn drop_lease(&mut self, boot: Uuid) -> Result<(), Fault> {
        statement(
            query(
                "DELETE FROM lease l WHERE l.ledger = $1 AND l.boot = $2 AND l.fenced AND NOT EXISTS \
                 (SELECT 1 FROM in_flight i WHERE i.ledger = l.ledger AND i.boot = l.boot)",
            )
            .bind(LEDGER)
            .bind(boot)
            .execute(&mut self.connection),
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn close(self) {
        // The server notices a connection that merely breaks, only later.
        let _ = tokio::time::timeout(STATEMENT_TIMEOUT, self.connection.close()).await;
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl CallId {
    /// The exchange as the type that PostgreSQL has for it.
    fn exchange_id(self) -> Uuid {
        Uuid::from_bytes(self.exchange)
    }
}

/// The city whose ledger the tables hold must be ours.
fn same_city(expected: CityCode, found: String) -> Result<(), StoreError> {
    if found == expected.as_str() {
        Ok(())
    } else {
        Err(StoreError::OtherCity { expected, found })
    }
}
