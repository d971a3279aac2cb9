//! Records as the office's table holds them.

use std::sync::Arc;

use jiff::civil::Date;

use super::{
    RecordFault,
    file::{Codes, Source},
    mapped::MappedRelation,
};

/// A row. `Debug` redacts: rows are people's.
#[derive(Clone)]
pub struct Record {
    pub(super) relation: Arc<MappedRelation>,
    /// Each field as text, in the order of the shape.
    pub(super) values: Vec<Option<String>>,
}

impl Record {
    /// The text of a field; a constant of the mapping where there is no column.
    ///
    /// # Errors
    /// It is NULL, or there is no such field.
    pub fn text(&self, field: &'static str) -> Result<&str, RecordFault> {
        let (source, value) = self.field(field)?;
        match source {
            Source::Constant(text) => Ok(text),
            Source::Nothing => Err(RecordFault::Empty {
                field,
                column: column(source),
            }),
            Source::Column { column, .. } => value.ok_or_else(|| RecordFault::Empty {
                field,
                column: column.clone(),
            }),
        }
    }

    /// The day of a field.
    ///
    /// # Errors
    /// It is NULL or of another form, or there is no such field.
    pub fn date(&self, field: &'static str) -> Result<Date, RecordFault> {
        let text = self.text(field)?;
        let (place, source) = self.place(field)?;
        let format = self.relation.date_format(place, source);
        Date::strptime(format, text).map_err(|_| RecordFault::Date {
            field,
            column: column(source),
            format: format.to_owned(),
        })
    }

    /// The day of a field that may be left out or NULL.
    ///
    /// # Errors
    /// It is of another form, or there is no such field.
    pub fn optional_date(&self, field: &'static str) -> Result<Option<Date>, RecordFault> {
        match self.date(field) {
            Err(RecordFault::Empty { .. }) => Ok(None),
            date => date.map(Some),
        }
    }

    /// Our name for the code of a field. A code that the mapping does not hold is a fault and never a default.
    ///
    /// # Errors
    /// It is NULL or not in the code table, or there is no such field.
    pub fn code(&self, field: &'static str) -> Result<&'static str, RecordFault> {
        let code = self.text(field)?;
        let (_, source) = self.place(field)?;
        let name = codes(source).and_then(|codes| codes.name_of(code));
        name.ok_or_else(|| RecordFault::Code {
            field,
            column: column(source),
            code: code.to_owned(),
        })
    }

    /// Every value as it was read: what changes when the row changes.
    pub fn values(&self) -> impl Iterator<Item = Option<&str>> {
        self.values.iter().map(Option::as_deref)
    }

    pub(super) fn raw(&self, field: &str) -> Option<&str> {
        let (place, _) = self.relation.shape.field(field)?;
        self.values.get(place)?.as_deref()
    }

    fn place(&self, field: &'static str) -> Result<(usize, &Source), RecordFault> {
        let found = self.relation.shape.field(field).and_then(|(place, _)| {
            let source = self.relation.mapping.fields.get(place)?;
            Some((place, source))
        });
        found.ok_or(RecordFault::NotMapped(field))
    }

    fn field(&self, field: &'static str) -> Result<(&Source, Option<&str>), RecordFault> {
        let (place, source) = self.place(field)?;
        let value = self.values.get(place).and_then(Option::as_deref);
        Ok((source, value.filter(|text| !text.is_empty())))
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({}, redacted)", self.relation.shape.name)
    }
}

fn column(source: &Source) -> String {
    match source {
        Source::Column { column, .. } => column.clone(),
        Source::Constant(_) => "(constant)".to_owned(),
        Source::Nothing => "(none)".to_owned(),
    }
}

fn codes(source: &Source) -> Option<&Codes> {
    match source {
        Source::Column { codes, .. } => codes.as_ref(),
        Source::Constant(_) | Source::Nothing => None,
    }
}
