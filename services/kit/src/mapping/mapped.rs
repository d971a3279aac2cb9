//! A mapping that fits its database.

use std::sync::Arc;

use jiff::civil::Date;
use sqlx::{PgConnection, Row as _, SqlStr, postgres::PgRow};

use super::{
    FieldKind, Record, RecordFault, RelationShape, StatementShape,
    file::{RelationMapping, Source},
};

/// A mapping that was checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub(super) relations: Vec<Arc<MappedRelation>>,
    pub(super) statements: Arc<[MappedStatement]>,
}

/// A relation that is there, with the statements that read it.
#[derive(Debug)]
pub(super) struct MappedRelation {
    pub(super) shape: &'static RelationShape,
    pub(super) mapping: RelationMapping,
    /// Whether the column of each field is a date of the database itself.
    pub(super) native_dates: Vec<bool>,
    pub(super) find: SqlStr,
    pub(super) page: SqlStr,
}

#[derive(Debug)]
pub(super) struct MappedStatement {
    pub(super) shape: &'static StatementShape,
    pub(super) sql: SqlStr,
    pub(super) parameters: Vec<String>,
}

/// Why a statement is not executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The database refused it.
    #[error("the database refused a statement of the mapping")]
    Database(#[from] sqlx::Error),
    /// A value cannot be written as the mapping says.
    #[error(transparent)]
    Record(#[from] RecordFault),
}

/// Values for a statement: fields under our names, and the record that was read.
#[derive(Debug, Default)]
pub struct Parameters<'a> {
    values: Vec<(&'static str, String)>,
    old: Option<&'a Record>,
}

impl<'a> Parameters<'a> {
    /// For a record that is not there yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a record that was read: its values are the parameters that begin with `old_`.
    pub const fn changing(old: &'a Record) -> Self {
        let values = Vec::new();
        Self {
            values,
            old: Some(old),
        }
    }

    /// Adds a value: text as it is, a date as `YYYY-MM-DD`, a code by our name. What is not added is NULL.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter();
        values
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Mapped {
    /// The records of a relation in which one of the key fields has one of the values: a list for each key field, in the order
    /// of the shape.
    ///
    /// # Errors
    /// The database's, or no such relation.
    pub async fn find(
        &self,
        connection: &mut PgConnection,
        relation: &'static str,
        keys: &[Vec<String>],
    ) -> Result<Vec<Record>, StatementError> {
        let relation = self.relation(relation)?;
        let mut query = sqlx::query(relation.find.clone());
        for key in keys {
            query = query.bind(key);
        }
        records(relation, &query.fetch_all(connection).await?)
    }

    /// Records in the order of the first key field, after a value of it, at most `limit`.
    ///
    /// # Errors
    /// As [`Mapped::find`].
    pub async fn page(
        &self,
        connection: &mut PgConnection,
        relation: &'static str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Record>, StatementError> {
        let relation = self.relation(relation)?;
        let query = sqlx::query(relation.page.clone()).bind(after).bind(limit);
        records(relation, &query.fetch_all(connection).await?)
    }

    /// Whether the mapping holds a relation.
    pub fn holds(&self, relation: &str) -> bool {
        self.relations
            .iter()
            .any(|known| known.shape.name == relation)
    }

    /// Whether the mapping holds a statement.
    pub fn has(&self, statement: &str) -> bool {
        self.statements
            .iter()
            .any(|known| known.shape.name == statement)
    }

    /// Executes a statement and says how many rows it changed: one, where nobody else came first.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn execute(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        parameters: &Parameters<'_>,
    ) -> Result<u64, StatementError> {
        let (statement, relation) = self.statement(statement)?;
        relation.agree(parameters)?;
        let mut query = sqlx::query(statement.sql.clone());
        for name in &statement.parameters {
            query = query.bind(relation.written(name, parameters)?);
        }
        Ok(query.execute(connection).await?.rows_affected())
    }

    /// Executes a statement that changes many records, once for all of them, and says how many rows it changed: as many as there are
    /// records, where nobody else came first.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn execute_many(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        records: &[Parameters<'_>],
    ) -> Result<u64, StatementError> {
        let (statement, relation) = self.statement(statement)?;
        for parameters in records {
            relation.agree(parameters)?;
        }
        let mut query = sqlx::query(statement.sql.clone());
        for name in &statement.parameters {
            let values = records
                .iter()
                .map(|parameters| relation.written(name, parameters));
            query = query.bind(values.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(query.execute(connection).await?.rows_affected())
    }

    fn statement(
        &self,
        name: &'static str,
    ) -> Result<(&MappedStatement, &Arc<MappedRelation>), RecordFault> {
        let mut statements = self.statements.iter();
        let statement = statements
            .find(|known| known.shape.name == name)
            .ok_or(RecordFault::NotMapped(name))?;
        Ok((statement, self.relation(statement.shape.relation)?))
    }

    fn relation(&self, name: &'static str) -> Result<&Arc<MappedRelation>, RecordFault> {
        let mut relations = self.relations.iter();
        let found = relations.find(|relation| relation.shape.name == name);
        found.ok_or(RecordFault::NotMapped(name))
    }
}

impl MappedRelation {
    /// The form in which the database gives a date.
    pub(super) fn date_format<'a>(&self, place: usize, source: &'a Source) -> &'a str {
        match self.native_dates.get(place) {
            Some(true) => "%Y-%m-%d",
            _ => source.date_format(),
        }
    }

    /// No value contradicts a constant of the mapping.
    fn agree(&self, parameters: &Parameters<'_>) -> Result<(), RecordFault> {
        let mut values = parameters.values.iter();
        values.try_for_each(|(name, value)| self.agrees(name, value))
    }

    /// A constant of the mapping cannot become another value.
    fn agrees(&self, name: &'static str, value: &str) -> Result<(), RecordFault> {
        let field = self.shape.field(name);
        match field.and_then(|(place, _)| self.mapping.fields.get(place)) {
            Some(Source::Constant(constant)) if constant != value => {
                Err(RecordFault::Constant { field: name })
            }
            _ => Ok(()),
        }
    }

    /// A parameter as the office writes it.
    fn written(
        &self,
        name: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Option<String>, RecordFault> {
        let read = name.strip_prefix("old_").zip(parameters.old);
        if let Some((field, old)) = read {
            return Ok(old.raw(field).map(str::to_owned));
        }
        let Some(value) = parameters.value(name) else {
            return Ok(None);
        };
        let field = self.shape.field(name);
        let Some((place, field)) = field else {
            return Ok(Some(value.to_owned()));
        };
        let source = self.mapping.fields.get(place);
        let source = source.ok_or(RecordFault::NotMapped(field.name))?;
        let text = match (field.kind, source) {
            (
                FieldKind::Code(_),
                Source::Column {
                    codes: Some(codes),
                    column,
                    ..
                },
            ) => {
                let code = codes.written(value).ok_or_else(|| RecordFault::Code {
                    field: field.name,
                    column: column.clone(),
                    code: value.to_owned(),
                });
                code?.to_owned()
            }
            (FieldKind::Date, Source::Column { column, .. }) => {
                let format = self.date_format(place, source);
                let fault = || RecordFault::Date {
                    field: field.name,
                    column: column.clone(),
                    format: format.to_owned(),
                };
                let day: Date = value.parse().map_err(|_| fault())?;
                jiff::fmt::strtime::format(format, day).map_err(|_| fault())?
            }
            _ => value.to_owned(),
        };
        Ok(Some(text))
    }
}

fn records(relation: &Arc<MappedRelation>, rows: &[PgRow]) -> Result<Vec<Record>, StatementError> {
    let record = |row: &PgRow| {
        let values = (0..relation.shape.fields.len()).map(|place| row.try_get(place));
        Ok(Record {
            relation: Arc::clone(relation),
            values: values.collect::<Result<_, sqlx::Error>>()?,
        })
    };
    rows.iter().map(record).collect()
}
