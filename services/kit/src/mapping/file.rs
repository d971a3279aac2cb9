//! The file of a mapping.

use std::{collections::BTreeMap, path::Path};

use toml::Value;

use super::{
    FieldKind, FieldShape, MappingShape, RelationShape, StatementShape,
    statement::{self, Numbered},
};
use crate::settings::{Section, SettingFaults, SettingsFile};

/// Form of a date in a text column when the mapping names none.
const DEFAULT_DATE: &str = "%Y-%m-%d";

/// A file that was read whole, not yet compared with a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub(super) shape: &'static MappingShape,
    pub(super) relations: Vec<RelationMapping>,
    pub(super) statements: Vec<StatementMapping>,
}

/// A relation with the source of each field, in the order of its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelationMapping {
    pub(super) shape: &'static RelationShape,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) fields: Vec<Source>,
}

/// Where a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Column {
        column: String,
        /// Form of a date in text. None where the file names none.
        date: Option<String>,
        codes: Option<Codes>,
    },
    Constant(String),
    /// The file leaves it out.
    Nothing,
}

/// A code table: each of our names with the office's codes, of which the first is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Codes {
    /// Key of the table in the file; none when the codes are our names themselves.
    pub(super) table: Option<String>,
    pub(super) names: Vec<(&'static str, Vec<String>)>,
}

impl Codes {
    pub(super) fn name_of(&self, code: &str) -> Option<&'static str> {
        let holds =
            |(_, codes): &&(&'static str, Vec<String>)| codes.iter().any(|known| known == code);
        self.names.iter().find(holds).map(|(name, _)| *name)
    }

    pub(super) fn written(&self, name: &str) -> Option<&str> {
        let entry = self.names.iter().find(|(known, _)| *known == name)?;
        entry.1.first().map(String::as_str)
    }

    pub(super) fn all(&self) -> Vec<&str> {
        let codes = self.names.iter().flat_map(|(_, codes)| codes);
        codes.map(String::as_str).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatementMapping {
    pub(super) shape: &'static StatementShape,
    pub(super) numbered: Numbered,
}

type CodeTables = BTreeMap<String, BTreeMap<String, Vec<String>>>;

impl Mapping {
    /// Reads a file.
    ///
    /// # Errors
    /// Every fault at once, with its key path.
    pub fn read(path: &Path, shape: &'static MappingShape) -> Result<Self, SettingFaults> {
        SettingsFile::read(path)?.finish(|top| Self::of(top, shape))
    }

    /// Parses text.
    ///
    /// # Errors
    /// As [`Mapping::read`].
    pub fn parse(text: &str, shape: &'static MappingShape) -> Result<Self, SettingFaults> {
        SettingsFile::parse(text, Path::new(""))?.finish(|top| Self::of(top, shape))
    }

    fn of(top: &mut Section<'_>, shape: &'static MappingShape) -> Option<Self> {
        let tables = read_codes(top);
        let mut relations = Vec::new();
        let (mut whole, mut mapped) = (true, Vec::new());
        for relation in shape.relations {
            if top.value(relation.name).is_none() && !relation.required {
                continue;
            }
            mapped.push(relation.name);
            let read = read_relation(top, relation, &tables);
            whole &= read.is_some();
            relations.extend(read);
        }
        if let (true, Some(first)) = (mapped.is_empty(), shape.relations.first()) {
            top.fault(first.name, "nothing is mapped: name a table or view");
        }
        let mut section = top.section("statements");
        let mut statements = Vec::new();
        for statement in shape.statements {
            let relation = mapped.contains(&statement.relation);
            statements.extend(read_statement(&mut section, statement, shape, relation));
        }
        let mapping = Self {
            shape,
            relations,
            statements,
        };
        mapping.check_written(&section);
        whole.then_some(mapping)
    }

    /// A statement that writes a code must have one for each name.
    fn check_written(&self, section: &Section<'_>) {
        for statement in &self.statements {
            let relation = self.relations.iter();
            let relation =
                relation.filter(|relation| relation.shape.name == statement.shape.relation);
            for (field, source) in relation.flat_map(|it| it.shape.fields.iter().zip(&it.fields)) {
                let uses = statement
                    .numbered
                    .parameters
                    .iter()
                    .any(|name| name == field.name);
                let Source::Column {
                    codes: Some(codes), ..
                } = source
                else {
                    continue;
                };
                let missing = codes.names.iter().filter(|(_, codes)| codes.is_empty());
                let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
                if uses && !missing.is_empty() {
                    section.fault(
                        statement.shape.name,
                        format!(
                            "writes {}, but no code is named for {}",
                            field.name,
                            missing.join(", ")
                        ),
                    );
                }
            }
        }
    }
}

fn read_codes(top: &mut Section<'_>) -> CodeTables {
    let mut tables = CodeTables::new();
    let Some(value) = top.value("codes") else {
        return tables;
    };
    let Value::Table(all) = value else {
        top.fault("codes", "must be a table of code tables");
        return tables;
    };
    for (name, table) in all {
        let mut codes = BTreeMap::new();
        let Value::Table(table) = table else {
            top.fault(
                &format!("codes.{name}"),
                "must be a table: NAME = [\"code\", ...]",
            );
            continue;
        };
        for (key, value) in table {
            match texts(value) {
                Some(list) => {
                    codes.insert(key.clone(), list);
                }
                None => top.fault(
                    &format!("codes.{name}.{key}"),
                    "must be a list of codes as text, of which the first is written",
                ),
            }
        }
        tables.insert(name.clone(), codes);
    }
    tables
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?.iter();
    list.map(|code| code.as_str().map(|code| code.trim().to_owned()))
        .collect()
}

fn read_relation(
    top: &mut Section<'_>,
    shape: &'static RelationShape,
    tables: &CodeTables,
) -> Option<RelationMapping> {
    let mut section = top.section(shape.name);
    let name = section.text("relation").and_then(|text| {
        let parts = text
            .split_once('.')
            .filter(|(schema, table)| is_name(schema) && is_name(table));
        if parts.is_none() {
            section.fault(
                "relation",
                "must be a table or view with its schema: hrss.kc01",
            );
        }
        parts
    });
    let mut fields = Vec::new();
    for field in shape.fields {
        fields.extend(read_field(&mut section, field, tables));
    }
    let (schema, table) = name?;
    (fields.len() == shape.fields.len()).then(|| RelationMapping {
        shape,
        schema: schema.to_owned(),
        table: table.to_owned(),
        fields,
    })
}

/// Names are compared with those of the catalog and never become SQL themselves.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['.', '"', '\0']) && text.len() < 64
}

fn read_field(
    section: &mut Section<'_>,
    shape: &'static FieldShape,
    tables: &CodeTables,
) -> Option<Source> {
    let column = |column: &str, date, codes| {
        let column = column.to_owned();
        Some(Source::Column {
            column,
            date,
            codes,
        })
    };
    match section.value(shape.name) {
        Some(Value::String(name)) if is_name(name) => column(name, None, own_codes(shape)),
        Some(Value::Table(_)) => {
            let mut field = section.section(shape.name);
            if shape.kind == FieldKind::Text && field.value("constant").is_some() {
                return field
                    .text("constant")
                    .map(|text| Source::Constant(text.to_owned()));
            }
            let name = field.text("column");
            let mut date = None;
            let mut codes = own_codes(shape);
            if shape.kind == FieldKind::Date {
                date = read_date(&mut field);
            }
            if let FieldKind::Code(names) = shape.kind {
                codes = Some(read_table(&mut field, names, tables)?);
            }
            column(name.filter(|name| is_name(name))?, date, codes)
        }
        None if shape.optional => Some(Source::Nothing),
        Some(_) => {
            section.fault(
                shape.name,
                "must be a column, or a table with column = \"...\"",
            );
            None
        }
        None => {
            section.fault(shape.name, "is required: the column that carries it");
            None
        }
    }
}

fn own_codes(shape: &FieldShape) -> Option<Codes> {
    let FieldKind::Code(names) = shape.kind else {
        return None;
    };
    let names = names
        .iter()
        .map(|name| (*name, vec![(*name).to_owned()]))
        .collect();
    Some(Codes { table: None, names })
}

fn read_date(field: &mut Section<'_>) -> Option<String> {
    let format = field.optional_text("date")?;
    // A format that writes a day and reads it back is one that can be used.
    let day = jiff::civil::date(2026, 11, 23);
    let written = jiff::fmt::strtime::format(format, day).ok();
    let read = written.and_then(|text| jiff::civil::Date::strptime(format, text).ok());
    if read != Some(day) {
        field.fault("date", "must be a date format such as \"%Y%m%d\"");
        return None;
    }
    Some(format.to_owned())
}

fn read_table(
    field: &mut Section<'_>,
    names: &'static [&'static str],
    tables: &CodeTables,
) -> Option<Codes> {
    let Some(name) = field.optional_text("codes") else {
        field.fault("codes", "is required: the key of a table under [codes]");
        return None;
    };
    let Some(table) = tables.get(name) else {
        field.fault("codes", format!("there is no table [codes.{name}]"));
        return None;
    };
    let mut sound = true;
    for unknown in table.keys().filter(|key| !names.contains(&key.as_str())) {
        sound = false;
        let known = names.join(", ");
        field.fault(
            "codes",
            format!("[codes.{name}]: {unknown} is none of {known}"),
        );
    }
    let mut seen = Vec::new();
    for code in table.values().flatten() {
        if seen.contains(&code) {
            sound = false;
            field.fault(
                "codes",
                format!("[codes.{name}]: the code {code:?} stands for two names"),
            );
        }
        seen.push(code);
    }
    let names = names
        .iter()
        .map(|key| (*key, table.get(*key).cloned().unwrap_or_default()));
    let codes = Codes {
        table: Some(name.to_owned()),
        names: names.collect(),
    };
    sound.then_some(codes)
}

fn read_statement(
    section: &mut Section<'_>,
    shape: &'static StatementShape,
    mapping: &'static MappingShape,
    is_mapped: bool,
) -> Option<StatementMapping> {
    if section.value(shape.name).is_none() {
        if shape.required && is_mapped {
            section.fault(shape.name, "is required");
        }
        return None;
    }
    if !is_mapped {
        let relation = shape.relation;
        section.fault(
            shape.name,
            format!("writes what is not mapped: there is no [{relation}]"),
        );
    }
    let text = section.text(shape.name)?;
    let numbered = match statement::number(text.trim()) {
        Ok(numbered) => numbered,
        Err(fault) => {
            section.fault(shape.name, fault);
            return None;
        }
    };
    let begins = text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    if !["INSERT", "MERGE", "UPDATE", "WITH"].contains(&begins.as_str()) {
        section.fault(shape.name, "must begin with INSERT, UPDATE, MERGE or WITH");
    }
    for name in &numbered.parameters {
        let field = name.strip_prefix("old_").unwrap_or(name);
        let known = mapping
            .relation(shape.relation)
            .and_then(|relation| relation.field(field));
        if known.is_none() && !shape.further.contains(&name.as_str()) {
            section.fault(shape.name, format!(":{name} is no parameter of it"));
        }
    }
    for name in shape
        .must_use
        .iter()
        .filter(|name| !numbered.parameters.iter().any(|p| p == *name))
    {
        section.fault(shape.name, format!("must use :{name}"));
    }
    Some(StatementMapping { shape, numbered })
}

impl Source {
    /// The form of a date in text.
    pub(super) fn date_format(&self) -> &str {
        match self {
            Self::Column {
                date: Some(format), ..
            } => format,
            _ => DEFAULT_DATE,
        }
    }
}
