//! Statements over many rows, whose text never changes.
//!
//! Each message to the connection's thread costs more than a row. So rows go in groups of a few fixed
//! widths, for each of which there is one prepared statement; parameters that are left unbound are NULL, and the
//! statement passes over such rows.

use std::sync::LazyLock;

use sqlx::{
    Arguments as _, SqliteConnection, error::BoxDynError, query_scalar_with, query_with,
    sqlite::SqliteArguments,
};

use crate::store::Fault;

/// Rows of one statement.
const WIDTHS: [usize; 3] = [1, 8, 64];

/// A statement over rows, in each of the widths.
pub(super) struct Grouped {
    texts: LazyLock<[String; 3]>,
}

/// A statement of the form `before (VALUES (?,…),…) after` over rows of so many columns.
macro_rules! grouped {
    ($before:expr, $columns:literal, $after:expr) => {
        $crate::store::sqlite::grouped::Grouped::new(|| {
            $crate::store::sqlite::grouped::texts($before, $columns, $after)
        })
    };
}
pub(super) use grouped;

pub(super) fn texts(before: &str, columns: usize, after: &str) -> [String; 3] {
    let row = format!("({})", vec!["?"; columns].join(","));
    WIDTHS.map(|width| {
        format!(
            "{before} (VALUES {}) {after}",
            vec![row.as_str(); width].join(",")
        )
    })
}

impl Grouped {
    pub(super) const fn new(texts: fn() -> [String; 3]) -> Self {
        Self {
            texts: LazyLock::new(texts),
        }
    }

    /// The text for a group of so many rows.
    fn text(&'static self, rows: usize) -> &'static str {
        let [one, few, many] = &*self.texts;
        match rows {
            ..=1 => one,
            2..=8 => few,
            _ => many,
        }
    }

    /// Executes the statement for all rows; `bind` adds the columns of one.
    pub(super) async fn execute<R>(
        &'static self,
        connection: &mut SqliteConnection,
        rows: &[R],
        bind: impl Fn(&mut SqliteArguments, &R) -> Result<(), BoxDynError>,
    ) -> Result<(), Fault> {
        for group in rows.chunks(WIDTHS[2]) {
            let arguments = arguments(group, &bind)?;
            let statement = query_with(self.text(group.len()), arguments);
            statement
                .execute(&mut *connection)
                .await
                .map_err(Fault::sqlite)?;
        }
        Ok(())
    }

    /// Executes the statement for all rows, and collects the one number of each row that it returns.
    pub(super) async fn numbers<R>(
        &'static self,
        connection: &mut SqliteConnection,
        rows: &[R],
        bind: impl Fn(&mut SqliteArguments, &R) -> Result<(), BoxDynError>,
    ) -> Result<Vec<i64>, Fault> {
        let mut numbers = Vec::new();
        for group in rows.chunks(WIDTHS[2]) {
            let arguments = arguments(group, &bind)?;
            let statement = query_scalar_with::<_, i64, _>(self.text(group.len()), arguments);
            numbers.extend(
                statement
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(Fault::sqlite)?,
            );
        }
        Ok(numbers)
    }
}

fn arguments<R>(
    rows: &[R],
    bind: impl Fn(&mut SqliteArguments, &R) -> Result<(), BoxDynError>,
) -> Result<SqliteArguments, Fault> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * 8, 0);
    for row in rows {
        bind(&mut arguments, row).map_err(|error| Fault::sqlite(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}
