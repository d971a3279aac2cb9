//! A mapping against the live database: every mismatch is named at once.

use std::sync::Arc;

use sqlx::{Executor as _, PgConnection, PgPool, Postgres, Type};

use super::{
    FieldKind, Mapped, MappingError,
    file::{Codes, Mapping, RelationMapping, Source, StatementMapping},
    mapped::{MappedRelation, MappedStatement},
    sql::{operators, quoted},
};
use crate::settings::{SettingFault, SettingFaults};

/// Unknown codes of one column that are named at most.
const NAMED_CODES: i64 = 20;

/// A relation of the catalog.
#[derive(sqlx::FromRow)]
struct Found {
    oid: sqlx::postgres::types::Oid,
    schema: String,
    name: String,
    usable: bool,
}

/// A column of the catalog.
#[derive(sqlx::FromRow)]
struct Column {
    name: String,
    /// Without its length.
    kind: String,
    category: String,
    readable: bool,
}

#[derive(Default)]
struct Faults(Vec<SettingFault>);

impl Faults {
    fn add(&mut self, key: String, message: String) {
        self.0.push(SettingFault { key, message });
    }
}

impl Mapping {
    /// Compares the mapping with the database: relations, columns, their types, privileges, each code that the data holds, and
    /// each statement as the database itself understands it. Reads the code columns of every row once.
    ///
    /// # Errors
    /// [`MappingError::Faults`] with every mismatch, under the key path of the file.
    pub async fn check(&self, pool: &PgPool) -> Result<Mapped, MappingError> {
        let mut faults = Faults::default();
        let mut connection = pool.acquire().await.map_err(MappingError::Database)?;
        let mut relations = Vec::new();
        for relation in &self.relations {
            let checked = check_relation(&mut connection, relation, &mut faults).await;
            relations.extend(checked.map_err(MappingError::Database)?);
        }
        let mut statements = Vec::new();
        for statement in &self.statements {
            let checked = check_statement(&mut connection, statement, &mut faults).await;
            statements.push(checked.map_err(MappingError::Database)?);
        }
        let faults = faults.0;
        if !faults.is_empty() {
            return Err(MappingError::Faults(SettingFaults(faults)));
        }
        Ok(Mapped {
            relations,
            statements: statements.into(),
        })
    }
}

async fn check_relation(
    connection: &mut PgConnection,
    mapping: &RelationMapping,
    faults: &mut Faults,
) -> Result<Option<Arc<MappedRelation>>, sqlx::Error> {
    let shape = mapping.shape;
    let key = || format!("{}.relation", shape.name);
    let wanted = format!("{}.{}", mapping.schema, mapping.table);
    let Some(found) = find_relation(connection, mapping).await? else {
        faults.add(key(), format!("there is no table or view {wanted}"));
        return Ok(None);
    };
    if !found.usable {
        faults.add(
            key(),
            format!("this user may not use the schema {}", found.schema),
        );
    }
    let columns = columns_of(connection, &found).await?;
    let mut select = Select::default();
    for (field, source) in shape.fields.iter().zip(&mapping.fields) {
        let path = format!("{}.{}", shape.name, field.name);
        let Source::Column { column, date, .. } = source else {
            select.add("NULL::text".to_owned(), false);
            continue;
        };
        let Some(there) = find_column(&columns, column) else {
            faults.add(path, format!("there is no column {column} in {wanted}"));
            continue;
        };
        if !there.readable {
            faults.add(
                path.clone(),
                format!("this user may not read the column {column} of {wanted}"),
            );
        }
        if let Some(fault) = wrong_type(field.kind, there, date.is_some()) {
            faults.add(
                path.clone(),
                format!("the column {column} is {}: {fault}", there.kind),
            );
            continue;
        }
        select.add_column(field.kind, there);
    }
    if select.fields.len() != shape.fields.len() {
        return Ok(None);
    }
    let from = format!("{}.{} r", quoted(&found.schema), quoted(&found.name));
    if found.usable
        && columns
            .iter()
            .all(|column| column.readable || !select.reads(column))
    {
        check_codes(connection, mapping, &select, &from, faults).await?;
    }
    Ok(Some(Arc::new(MappedRelation {
        shape,
        mapping: mapping.clone(),
        find: operators(format!(
            "SELECT {} FROM {from} WHERE {}",
            select.list(),
            select.keys()
        )),
        page: operators(format!(
            "SELECT {} FROM {from} {}",
            select.list(),
            select.paging()
        )),
        native_dates: select.native_dates,
    })))
}

/// Names as they stand in the catalog, or in another case where that is unambiguous: unquoted names are folded.
async fn find_relation(
    connection: &mut PgConnection,
    mapping: &RelationMapping,
) -> Result<Option<Found>, sqlx::Error> {
    let found: Vec<Found> = sqlx::query_as(
        "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, has_schema_privilege(n.oid, 'USAGE') AS usable \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE lower(n.nspname) = lower($1) AND lower(c.relname) = lower($2) AND c.relkind IN ('r', 'v', 'm', 'p', 'f')",
    )
    .bind(&mapping.schema)
    .bind(&mapping.table)
    .fetch_all(connection)
    .await?;
    let exact = |found: &Found| found.schema == mapping.schema && found.name == mapping.table;
    Ok(one_of(found, exact))
}

fn one_of<T>(mut found: Vec<T>, exact: impl Fn(&T) -> bool) -> Option<T> {
    match found.iter().position(exact) {
        Some(place) => Some(found.swap_remove(place)),
        None if found.len() == 1 => found.pop(),
        None => None,
    }
}

async fn columns_of(
    connection: &mut PgConnection,
    relation: &Found,
) -> Result<Vec<Column>, sqlx::Error> {
    sqlx::query_as(
        "SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS kind, t.typcategory::text AS category, \
         has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind(relation.oid)
    .fetch_all(connection)
    .await
}

fn find_column<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    let same: Vec<_> = columns
        .iter()
        .filter(|column| column.name.eq_ignore_ascii_case(name))
        .collect();
    one_of(same, |column| column.name == name)
}

/// What is wrong with the type of a column.
fn wrong_type(kind: FieldKind, column: &Column, has_format: bool) -> Option<&'static str> {
    let category = column.category.as_str();
    let native_date = category == "D" && column.kind != "time without time zone";
    match kind {
        FieldKind::Key if !is_text(column) => {
            Some("records are found by it, so it must be text, varchar or char")
        }
        FieldKind::Text if !["S", "N", "U"].contains(&category) => {
            Some("it must be text or a number")
        }
        FieldKind::Code(_) if !["B", "E", "N", "S"].contains(&category) => {
            Some("a code is text, a number, a boolean or an enum")
        }
        FieldKind::Date if native_date && has_format => {
            Some("it is a date already, so no date format belongs to it")
        }
        FieldKind::Date if !native_date && !["N", "S"].contains(&category) => {
            Some("a date is date, timestamp, or text of a form that the mapping names")
        }
        _ => None,
    }
}

fn is_text(column: &Column) -> bool {
    ["text", "character varying", "character", "bpchar"].contains(&column.kind.as_str())
}

/// The SELECT over a relation, field by field.
#[derive(Default)]
struct Select {
    fields: Vec<String>,
    native_dates: Vec<bool>,
    columns: Vec<String>,
    /// Columns of the key fields, with the type of their parameters.
    keyed: Vec<(String, &'static str)>,
}

impl Select {
    fn add(&mut self, expression: String, native_date: bool) {
        self.fields.push(expression);
        self.native_dates.push(native_date);
    }

    fn add_column(&mut self, kind: FieldKind, column: &Column) {
        let name = format!("r.{}", quoted(&column.name));
        if kind == FieldKind::Key {
            // A char(n) is only found through its index when it is compared as what it is.
            let padded = ["character", "bpchar"].contains(&column.kind.as_str());
            self.keyed
                .push((name.clone(), if padded { "bpchar" } else { "text" }));
        }
        self.columns.push(column.name.clone());
        if kind == FieldKind::Date && column.category == "D" {
            self.add(format!("to_char({name}, 'YYYY-MM-DD')"), true);
        } else {
            self.add(format!("btrim({name}::text)"), false);
        }
    }

    fn reads(&self, column: &Column) -> bool {
        self.columns.contains(&column.name)
    }

    fn list(&self) -> String {
        self.fields.join(", ")
    }

    fn keys(&self) -> String {
        let keys = (1..).zip(&self.keyed);
        let keys =
            keys.map(|(number, (name, kind))| format!("{name} = ANY(${number}::text[]::{kind}[])"));
        keys.collect::<Vec<_>>().join(" OR ")
    }

    fn paging(&self) -> String {
        let (name, kind) = self
            .keyed
            .first()
            .map_or(("NULL", "text"), |(name, kind)| (name, *kind));
        format!("WHERE {name} > $1::text::{kind} ORDER BY {name} LIMIT $2")
    }
}

/// Codes that rows hold and the mapping does not.
async fn check_codes(
    connection: &mut PgConnection,
    mapping: &RelationMapping,
    select: &Select,
    from: &str,
    faults: &mut Faults,
) -> Result<(), sqlx::Error> {
    let fields = mapping
        .shape
        .fields
        .iter()
        .zip(&mapping.fields)
        .zip(&select.fields);
    for ((field, source), expression) in fields {
        let Source::Column {
            column,
            codes: Some(codes),
            ..
        } = source
        else {
            continue;
        };
        let mut transaction = sqlx::Connection::begin(&mut *connection).await?;
        // It reads every row once, which a statement of a call never does.
        sqlx::query("SET LOCAL statement_timeout = '10min'")
            .execute(&mut *transaction)
            .await?;
        let unknown: Vec<Option<String>> = sqlx::query_scalar(operators(format!(
            "SELECT DISTINCT {expression} FROM {from} WHERE {expression} IS NULL OR {expression} <> ALL($1) LIMIT $2"
        )))
        .bind(codes.all())
        .bind(NAMED_CODES)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.rollback().await?;
        for code in unknown {
            let path = format!("{}.{}", mapping.shape.name, field.name);
            faults.add(path, unknown_code(column, code.as_deref(), codes));
        }
    }
    Ok(())
}

fn unknown_code(column: &str, code: Option<&str>, codes: &Codes) -> String {
    let place = match &codes.table {
        Some(table) => format!("[codes.{table}]"),
        None => format!("the names {}", codes.all().join(", ")),
    };
    match code {
        Some(code) => {
            format!("rows hold the code {code:?} in the column {column}, which is not in {place}")
        }
        None => format!("rows hold NULL in the column {column}, and a code is required"),
    }
}

/// The database parses and plans the statement with every parameter as text or an array of it, and checks this user's privileges, without executing it.
async fn check_statement(
    connection: &mut PgConnection,
    mapping: &StatementMapping,
    faults: &mut Faults,
) -> Result<MappedStatement, sqlx::Error> {
    let path = format!("statements.{}", mapping.shape.name);
    let parameters = &mapping.numbered.parameters;
    let sql = operators(mapping.numbered.sql.clone());
    let many = mapping.shape.many;
    let text = if many {
        <Vec<String> as Type<Postgres>>::type_info()
    } else {
        <String as Type<Postgres>>::type_info()
    };
    let types = vec![text; parameters.len()];
    let understood = connection.prepare_with(sql.clone(), &types).await.map(drop);
    let fault = match understood {
        Ok(()) => {
            let mut explain = sqlx::query(operators(format!("EXPLAIN {}", mapping.numbered.sql)));
            for _ in parameters {
                explain = if many {
                    explain.bind(None::<Vec<String>>)
                } else {
                    explain.bind(None::<String>)
                };
            }
            explain.fetch_all(&mut *connection).await.err()
        }
        Err(error) => Some(error),
    };
    match fault {
        Some(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default().into_owned();
            let message = readable(error.message(), parameters);
            faults.add(
                path,
                format!("the database does not take it: {message} (SQLSTATE {code})"),
            );
        }
        Some(error) => return Err(error),
        None => {}
    }
    Ok(MappedStatement {
        shape: mapping.shape,
        sql,
        parameters: parameters.clone(),
    })
}

/// The database knows parameters by number.
fn readable(message: &str, parameters: &[String]) -> String {
    // From the last: $12 begins as $1 does.
    let numbered = parameters.iter().enumerate().rev();
    numbered.fold(message.to_owned(), |message, (number, name)| {
        message.replace(&format!("${}", number + 1), &format!(":{name}"))
    })
}
