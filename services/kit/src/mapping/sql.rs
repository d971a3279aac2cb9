//! The one place where text from a configuration becomes SQL.

#[expect(
    clippy::disallowed_types,
    reason = "the operator's own statements about the operator's own tables; values are always bound"
)]
use sqlx::AssertSqlSafe;
use sqlx::{SqlSafeStr as _, SqlStr};

/// SQL that the operator wrote into the mapping, or a SELECT over names from the database's catalog. No value is ever part of
/// it: values are bound.
pub(super) fn operators(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

/// A name from the catalog as an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
