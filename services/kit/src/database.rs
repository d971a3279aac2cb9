//! A service's own database: SQLite embedded, PostgreSQL in production, chosen by URL.

mod fault;
mod postgres;
mod sqlite;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::{
    PgPool, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

pub use fault::{FaultKind, classify};
pub use sqlite::SqliteDatabase;

use crate::{
    mapping::{Mapping, MappingError},
    settings::Section,
};

/// Connections to PostgreSQL per replica: about two per core of a small database server, shared by a few replicas.
const DEFAULT_CONNECTIONS: u32 = 16;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `postgres://user@host:port/database?…`, as libpq writes it. Never holds a password.
    Postgres(String),
    /// `sqlite:` and a path.
    Sqlite(PathBuf),
}

/// The `[database]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// Where it is.
    pub url: DatabaseUrl,
    /// File with the password, on PostgreSQL only.
    pub password_file: Option<PathBuf>,
    /// Most connections of this process to PostgreSQL.
    pub connections: u32,
    /// Schema of the service's own tables, on PostgreSQL only; made where it is not there. None: the user's first one.
    pub schema: Option<SchemaName>,
}

impl DatabaseSettings {
    /// Settings for a URL, with the defaults for the rest.
    pub const fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            password_file: None,
            connections: DEFAULT_CONNECTIONS,
            schema: None,
        }
    }

    /// Reads the `[database]` table: `url`, `password_file`, `connections`, `schema`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let password_file = section.optional_path("password_file");
        let connections = section.number("connections", DEFAULT_CONNECTIONS, 2..=1_000);
        let schema = match section.optional_text("schema").map(str::parse) {
            Some(Err(fault)) => {
                section.fault("schema", fault);
                None
            }
            schema => schema.and_then(Result::ok),
        };
        let url = match section.text("url")?.parse() {
            Ok(DatabaseUrl::Sqlite(path)) => DatabaseUrl::Sqlite(section.folder().join(path)),
            Ok(url) => url,
            Err(fault) => {
                section.fault("url", fault);
                return None;
            }
        };
        if password_file.is_some() && matches!(url, DatabaseUrl::Sqlite(_)) {
            section.fault("password_file", "SQLite has no password");
        }
        if schema.is_some() && matches!(url, DatabaseUrl::Sqlite(_)) {
            section.fault("schema", "SQLite has no schemas");
        }
        Some(Self {
            url,
            password_file,
            connections,
            schema,
        })
    }
}

impl FromStr for DatabaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() || path.contains(['?', '#']) || path == ":memory:" {
                Err("a SQLite URL is sqlite: and the path of a file")
            } else {
                Ok(Self::Sqlite(path.into()))
            };
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err("must begin with sqlite: or postgres:");
        }
        if has_password(text) {
            return Err("must not hold a password: name its file in password_file");
        }
        match text.parse::<sqlx::postgres::PgConnectOptions>() {
            Ok(_) => Ok(Self::Postgres(text.to_owned())),
            Err(_) => Err("is no PostgreSQL URL"),
        }
    }
}

/// Name of a schema: lower-case letters, digits and underscores, so that it is the same with and without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SchemaName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sound = (1..=63).contains(&text.len())
            && !text.starts_with(|first: char| first.is_ascii_digit())
            && !text.starts_with("pg_")
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be a schema: lower-case letters, digits and underscores")
        }
    }
}

fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || tail.contains("password=")
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// No connection, or a connection that cannot be set up.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The file cannot be created or read.
    #[error("cannot open {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A mapping that does not fit the office's tables.
    #[error("cannot use the mapped tables")]
    Mapping(#[source] MappingError),
    /// A mapping belongs to tables in PostgreSQL.
    #[error(
        "a mapping needs PostgreSQL: the office's tables and the service's own are one database"
    )]
    MappingNeedsPostgres,
    /// The operating system gives no random bytes.
    #[error("no random bytes for the salts of mapped records")]
    NoRandomBytes,
    /// The schema cannot be brought up to date, or is newer than this program.
    #[error("cannot migrate the database")]
    Migrate(#[source] MigrateError),
    /// The server would lose what it acknowledged.
    #[error("the database must run with {setting} = {required}, and it is {found}")]
    Unsafe {
        /// The setting.
        setting: &'static str,
        /// The value that is required.
        required: &'static str,
        /// The value that was found.
        found: String,
    },
}

/// The migrations of a service: name and SQL for each store, in order. Applied ones never change; new ones go to the end.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// For PostgreSQL.
    pub postgres: &'static [(&'static str, &'static str)],
    /// For SQLite.
    pub sqlite: &'static [(&'static str, &'static str)],
}

/// An open database whose schema is up to date.
#[derive(Clone, Debug)]
pub enum Database {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite(SqliteDatabase),
}

impl Database {
    /// Opens the database, refuses one that would lose acknowledged writes, and applies the migrations that are missing. Several
    /// replicas may do so at once.
    ///
    /// # Errors
    /// See [`DatabaseError`]. Its text never holds the password.
    pub async fn open(
        settings: &DatabaseSettings,
        migrations: Migrations,
    ) -> Result<Self, DatabaseError> {
        match &settings.url {
            DatabaseUrl::Postgres(url) => {
                let pool = postgres::open(url, settings).await?;
                postgres::make_schema(&pool, settings.schema.as_ref()).await?;
                migrator(migrations.postgres)
                    .run(&pool)
                    .await
                    .map_err(DatabaseError::Migrate)?;
                Ok(Self::Postgres(pool))
            }
            DatabaseUrl::Sqlite(path) => {
                let database = SqliteDatabase::open(path).await?;
                let migrated = migrator(migrations.sqlite).run(database.writer()).await;
                migrated.map_err(DatabaseError::Migrate)?;
                Ok(Self::Sqlite(database))
            }
        }
    }

    /// Compares a mapping with the database of the settings, and writes nothing.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn check_mapping(
        settings: &DatabaseSettings,
        mapping: &Mapping,
    ) -> Result<(), DatabaseError> {
        let DatabaseUrl::Postgres(url) = &settings.url else {
            return Err(DatabaseError::MappingNeedsPostgres);
        };
        let pool = postgres::open(url, settings).await?;
        let checked = mapping.check(&pool).await;
        pool.close().await;
        checked.map(drop).map_err(DatabaseError::Mapping)
    }

    /// Closes every connection, after those that are in use came back.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(database) => database.close().await,
        }
    }
}

fn migrator(migrations: &'static [(&'static str, &'static str)]) -> Migrator {
    let numbered = (1..).zip(migrations).map(|(version, (name, sql))| {
        Migration::new(
            version,
            (*name).into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(numbered.collect())
}

fn read_password(path: &Path) -> Result<String, DatabaseError> {
    let text = std::fs::read_to_string(path).map_err(|source| DatabaseError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_choose_the_store() {
        assert_eq!(
            "sqlite:card.db".parse(),
            Ok(DatabaseUrl::Sqlite("card.db".into()))
        );
        assert_eq!(
            "sqlite://card.db".parse(),
            Ok(DatabaseUrl::Sqlite("card.db".into()))
        );
        assert_eq!(
            "sqlite:///var/card.db".parse(),
            Ok(DatabaseUrl::Sqlite("/var/card.db".into()))
        );
        let url = "postgres://card@db.qingdao:5432/card";
        assert_eq!(url.parse(), Ok(DatabaseUrl::Postgres(url.to_owned())));
        for bad in [
            "",
            "mysql://a/b",
            "sqlite:",
            "sqlite::memory:",
            "card.db",
            "postgres://[",
        ] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_do_not_stand_in_urls() {
        for bad in [
            "postgres://card:secret@db/card",
            "postgres://card:@db/card",
            "postgresql://db/card?user=card&password=secret",
        ] {
            let fault = bad.parse::<DatabaseUrl>().unwrap_err();
            assert!(fault.contains("password_file"), "{bad}");
        }
    }
}
