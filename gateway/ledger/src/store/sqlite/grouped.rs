//! Statements over many rows, whose text never changes.
//!
//! Each message to the connection's thread costs more than a row. So rows go in groups of a few fixed
//! widths, for each of which there is one prepared statement; parameters that are left unbound are NULL, and the
//! statement passes over such rows.

use std::sync::OnceLock;

use sqlx::{
    Arguments as _, SqliteConnection, error::BoxDynError, query_scalar_with, query_with,
    sqlite::SqliteArguments,
};

use crate::store::Fault;

/// Rows of one statement.
const WIDTHS: [usize; 3] = [1, 8, 64];

/// A statement of the form `before (VALUES (?,…),…) after`.
pub(super) struct Grouped {
    before: &'static str,
    columns: usize,
    after: &'static str,
    texts: OnceLock<[String; 3]>,
}

impl Grouped {
    pub(super) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self {
            before,
            columns,
            after,
            texts: OnceLock::new(),
        }
    }

    /// The text for so many rows.
    pub(super) fn text(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        let rows = vec![row; rows].join(",");
        format!("{} (VALUES {rows}) {}", self.before, self.after)
    }

    /// Columns of a row.
    pub(super) const fn columns(&self) -> usize {
        self.columns
    }

    /// The prepared statement for a group of so many rows.
    fn statement(&'static self, rows: usize) -> &'static str {
        let [one, few, many] = self
            .texts
            .get_or_init(|| WIDTHS.map(|rows| self.text(rows)));
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
            let statement = query_with(self.statement(group.len()), arguments(group, &bind)?);
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
            let statement = query_scalar_with::<_, i64, _>(self.statement(group.len()), arguments);
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

/// An argument that cannot be bound is a fault of the program, not of the database.
pub(super) fn unbound(error: BoxDynError) -> Fault {
    Fault::sqlite(sqlx::Error::Encode(error))
}

fn arguments<R>(
    rows: &[R],
    bind: impl Fn(&mut SqliteArguments, &R) -> Result<(), BoxDynError>,
) -> Result<SqliteArguments, Fault> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * 8, 0);
    for row in rows {
        bind(&mut arguments, row).map_err(unbound)?;
    }
    Ok(arguments)
}
