//! What PostgreSQL has to be like before a ledger is kept in it.

use std::{borrow::Cow, time::Duration};

use banqiao_directory::CityCode;
use sqlx::{
    Executor as _, PgConnection, SqlSafeStr as _, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
    query, query_as, query_scalar,
};

use super::{LEDGER, same_city, statement};
use crate::store::{Fault, StoreError};

/// Replicas that start at the same moment race to make the tables; the losers look again.
const MIGRATION_ATTEMPTS: u32 = 10;
/// Pause before looking again.
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);

/// Refuses a server that may forget what it has acknowledged. Settings that a compatible database does not know are
/// not asked of it.
pub(super) async fn check(connection: &mut PgConnection, failover: bool) -> Result<(), Fault> {
    type Settings = (
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
    );
    let (fsync, pages, commit, standbys): Settings = statement(
        query_as(
            "SELECT current_setting('fsync', true), current_setting('full_page_writes', true), \
             current_setting('synchronous_commit', true), \
             current_setting('synchronous_standby_names', true)",
        )
        .fetch_one(connection),
    )
    .await?;
    let refuse = |setting, value: Option<String>, needed| {
        let value = value.unwrap_or_default();
        Err(Fault::Storage(StoreError::Unsafe {
            setting,
            value,
            needed,
        }))
    };
    if fsync.as_deref() == Some("off") {
        return refuse("fsync", fsync, "on");
    }
    if pages.as_deref() == Some("off") {
        return refuse("full_page_writes", pages, "on");
    }
    match (commit.as_deref(), failover) {
        (Some("off"), _) => return refuse("synchronous_commit", commit, "on"),
        (Some("local" | "remote_write"), true) => {
            return refuse(
                "synchronous_commit",
                commit,
                "on or remote_apply, with failover",
            );
        }
        _ => {}
    }
    if failover && standbys.as_deref().is_none_or(str::is_empty) {
        return refuse("synchronous_standby_names", standbys, "set, with failover");
    }
    Ok(())
}

/// Brings the tables up to date and makes the head row, without advisory locks.
pub(super) async fn migrate(connection: &mut PgConnection, city: CityCode) -> Result<(), Fault> {
    let mut migrator = Migrator::with_migrations(vec![
        migration(
            1,
            "ledger",
            include_str!("../../../migrations/postgres/0001_ledger.sql").into_sql_str(),
        ),
        migration(
            2,
            "tree",
            include_str!("../../../migrations/postgres/0002_tree.sql").into_sql_str(),
        ),
        migration(
            3,
            "witness",
            include_str!("../../../migrations/postgres/0003_witness.sql").into_sql_str(),
        ),
        migration(
            4,
            "receipts",
            include_str!("../../../migrations/postgres/0004_receipts.sql").into_sql_str(),
        ),
        migration(
            5,
            "reconcile",
            include_str!("../../../migrations/postgres/0005_reconcile.sql").into_sql_str(),
        ),
        migration(
            6,
            "epochs",
            include_str!("../../../migrations/postgres/0006_epochs.sql").into_sql_str(),
        ),
        migration(
            7,
            "ranges",
            include_str!("../../../migrations/postgres/0007_ranges.sql").into_sql_str(),
        ),
        migration(
            8,
            "retention",
            include_str!("../../../migrations/postgres/0008_retention.sql").into_sql_str(),
        ),
        migration(
            9,
            "presence",
            include_str!("../../../migrations/postgres/0009_presence.sql").into_sql_str(),
        ),
        migration(
            10,
            "archive",
            include_str!("../../../migrations/postgres/0010_archive.sql").into_sql_str(),
        ),
    ]);
    migrator.set_locking(false);
    if !applied(connection, &migrator).await {
        run(connection, &migrator).await?;
    }
    heads(connection, city).await
}

/// Whether every migration was applied as it is. The role that a gateway runs as need not be one that can make tables.
async fn applied(connection: &mut PgConnection, migrator: &Migrator) -> bool {
    for migration in migrator.iter() {
        let found = query_scalar(
            "SELECT count(*) FROM _sqlx_migrations WHERE version = $1 AND success AND checksum = $2",
        )
        .bind(migration.version)
        .bind(&migration.checksum[..])
        .fetch_one(&mut *connection);
        // A database without the table, or one that cannot answer, is looked at more closely.
        if !matches!(statement(found).await, Ok(1_i64)) {
            return false;
        }
    }
    true
}

async fn run(connection: &mut PgConnection, migrator: &Migrator) -> Result<(), Fault> {
    let mut attempt = 1;
    loop {
        match migrator.run(&mut *connection).await {
            Ok(()) => return Ok(()),
            Err(sqlx::migrate::MigrateError::Execute(error)) => match Fault::postgres(error) {
                // Each migration is a transaction, so a lost race has changed nothing.
                Fault::Rejected(_) | Fault::Transient(_) if attempt < MIGRATION_ATTEMPTS => {}
                fault => return Err(fault),
            },
            Err(sqlx::migrate::MigrateError::ExecuteMigration(..))
                if attempt < MIGRATION_ATTEMPTS => {}
            Err(error) => return Err(Fault::Storage(StoreError::Migration(error))),
        }
        // A failed statement may have left the transaction open.
        statement(connection.execute("ROLLBACK")).await?;
        attempt += 1;
        tokio::time::sleep(MIGRATION_PAUSE).await;
    }
}

/// Makes the head row, which must be that of our city.
async fn heads(connection: &mut PgConnection, city: CityCode) -> Result<(), Fault> {
    for insert in [
        query(
            "INSERT INTO head (ledger, city, size, frontier) VALUES ($1, $2, 0, ''::bytea) \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(city.as_str()),
        query(
            "INSERT INTO document_revision (ledger, revision) VALUES ($1, 0) \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER),
    ] {
        statement(insert.execute(&mut *connection)).await?;
    }
    let found: String = statement(
        query_scalar("SELECT city FROM head WHERE ledger = $1")
            .bind(LEDGER)
            .fetch_one(connection),
    )
    .await?;
    same_city(city, found).map_err(Fault::Storage)
}

fn migration(version: i64, name: &'static str, sql: SqlStr) -> Migration {
    Migration::new(
        version,
        Cow::Borrowed(name),
        MigrationType::Simple,
        sql,
        false,
    )
}
