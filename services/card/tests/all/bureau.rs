//! The sample of a bureau's tables, in a database of its own.

use banqiao_card::CARD_MAPPING;
use banqiao_kit::{DatabaseSettings, mapping::Mapping};
use sqlx::{Connection, PgConnection};

const SCHEMA: &str = include_str!("../../../../deploy/bureau/schema.sql");
const GRANTS: &str = include_str!("../../../../deploy/bureau/grants.sql");
/// A mapping of what [`SCHEMA`] makes.
pub(crate) const MAPPING: &str = include_str!("../../../../deploy/bureau/mapping.toml");

/// Makes the bureau's tables, the user `card` (once a server) and what it may do.
pub(crate) async fn create(url: &str) {
    let mut connection = connect(url).await;
    for sql in [
        SCHEMA,
        "DO $$ BEGIN CREATE ROLE card LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        GRANTS,
    ] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
}

/// As the administrator.
pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// As the service's own user, with tables in a schema of its own.
pub(crate) fn settings(url: &str) -> DatabaseSettings {
    // The path is in the URL too, for tests that look into the service's tables themselves.
    let url = url.replace(
        "user=postgres",
        "user=card&options=-csearch_path%3Dbanqiao_card",
    );
    DatabaseSettings {
        schema: Some("banqiao_card".parse().unwrap()),
        ..DatabaseSettings::new(url.parse().unwrap())
    }
}

pub(crate) fn mapping() -> Mapping {
    Mapping::parse(MAPPING, &CARD_MAPPING).unwrap()
}
