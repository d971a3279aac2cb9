//! Opening of PostgreSQL.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{DatabaseError, DatabaseSettings, SchemaName, read_password};

/// Waiting for a connection longer than this is an overload that the caller should learn of within its deadline.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// No statement of a service takes longer; a frozen replica loses its locks.
const SESSION: [(&str, &str); 3] = [
    ("lock_timeout", "5s"),
    ("statement_timeout", "15s"),
    ("idle_in_transaction_session_timeout", "15s"),
];

/// Settings without which an acknowledged write can be lost.
const SAFE: [(&str, &str); 2] = [("fsync", "on"), ("full_page_writes", "on")];

/// The one schema of the search path. The lock is for replicas that start at once.
const MAKE_SCHEMA: &str = "DO $$ BEGIN \
    PERFORM pg_advisory_xact_lock(hashtextextended(current_setting('search_path'), 0)); \
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', current_setting('search_path')); \
    END $$";

pub(super) async fn open(url: &str, settings: &DatabaseSettings) -> Result<PgPool, DatabaseError> {
    let mut options: PgConnectOptions = url.parse().map_err(DatabaseError::Connect)?;
    if let Some(path) = &settings.password_file {
        options = options.password(&read_password(path)?);
    }
    options = options.options(SESSION);
    if let Some(schema) = &settings.schema {
        options = options.options([("search_path", schema.as_str())]);
    }
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(DatabaseError::Connect)?;
    for (setting, required) in SAFE {
        let found = setting_of(&pool, setting).await?;
        if found != required {
            return Err(DatabaseError::Unsafe {
                setting,
                required,
                found,
            });
        }
    }
    let found = setting_of(&pool, "synchronous_commit").await?;
    if found == "off" {
        return Err(DatabaseError::Unsafe {
            setting: "synchronous_commit",
            required: "on",
            found,
        });
    }
    Ok(pool)
}

/// Makes the service's own schema. Where an administrator made it, the service needs no right to do so.
pub(super) async fn make_schema(
    pool: &PgPool,
    schema: Option<&SchemaName>,
) -> Result<(), DatabaseError> {
    let Some(schema) = schema else { return Ok(()) };
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema.as_str())
        .fetch_one(pool)
        .await
        .map_err(DatabaseError::Connect)?;
    if !there {
        let made = sqlx::query(MAKE_SCHEMA).execute(pool).await;
        made.map_err(DatabaseError::Connect)?;
    }
    Ok(())
}

async fn setting_of(pool: &PgPool, setting: &str) -> Result<String, DatabaseError> {
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(setting)
        .fetch_one(pool)
        .await
        .map_err(DatabaseError::Connect)
}
