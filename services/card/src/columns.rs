//! Sheets of insured persons and beneficiaries as CSV: UTF-8, a header line with the protobuf names of the fields in any order,
//! enumerations by the names of their values without prefix.

use std::io;

use banqiao_kit::{Rule, RuleTable, Violation};

use crate::sheet::SheetError;

const COLUMN_COUNT: Rule = Rule::design(
    "BENEFIT_COLUMN_COUNT",
    "a line has as many fields as the header, in UTF-8",
    "RFC 4180 §2.4",
);
pub(crate) const VALUE_NAME: Rule = Rule::design(
    "VALUE_NAME",
    "a value of an enumeration is written by its protobuf name without prefix, such as PENSION",
    "card service",
);

/// Reads lines whose header names these columns, in any order.
#[derive(Debug)]
pub struct ColumnReader<R> {
    reader: csv::Reader<R>,
    places: Vec<usize>,
}

impl<R: io::Read> ColumnReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It does not name each column once; or the file cannot be read.
    pub fn new(source: R, columns: &'static [&'static str]) -> Result<Self, SheetError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(source);
        let header = reader.headers().map_err(SheetError::Io)?;
        let named = |column: &&str| {
            let mut found = header.iter().enumerate().filter(|(_, name)| {
                // Spreadsheet programs write a byte order mark.
                name.trim_start_matches('\u{FEFF}').trim() == *column
            });
            let (at, _) = found.next()?;
            found.next().is_none().then_some(at)
        };
        let places: Option<Vec<_>> = columns.iter().map(named).collect();
        let places = places.filter(|places| places.len() == header.len());
        let places = places.ok_or_else(|| SheetError::Columns(columns.join(", ")))?;
        Ok(Self { reader, places })
    }

    /// Bytes of the file that were read, for progress.
    pub fn position(&self) -> u64 {
        self.reader.position().byte()
    }

    /// The next line: its number in the file (the header is line 1) and its fields in the order of the columns, or what is
    /// wrong with its form. None at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    #[expect(clippy::type_complexity, reason = "a line or its faults")]
    pub fn next_line(
        &mut self,
    ) -> Result<Option<(u64, Result<Vec<String>, Vec<Violation>>)>, SheetError> {
        let mut record = csv::ByteRecord::new();
        if !self
            .reader
            .read_byte_record(&mut record)
            .map_err(SheetError::Io)?
        {
            return Ok(None);
        }
        let line = record.position().map_or(0, csv::Position::line);
        let text = |place: &usize| {
            let field = record.get(*place)?;
            Some(std::str::from_utf8(field).ok()?.trim().to_owned())
        };
        let fields: Option<Vec<_>> = self.places.iter().map(text).collect();
        let fields = fields.filter(|_| record.len() == self.places.len());
        let faults = || {
            vec![Violation {
                field: "".into(),
                rule: &COLUMN_COUNT,
            }]
        };
        Ok(Some((line, fields.ok_or_else(faults))))
    }
}

/// The number of an enumeration's value by its name without prefix; a field that names none is a fault.
pub(crate) fn value(
    field: &'static str,
    prefix: &str,
    name: &str,
    by_name: impl Fn(&str) -> Option<i32>,
    faults: &mut Vec<Violation>,
) -> i32 {
    by_name(&format!("{prefix}{name}")).unwrap_or_else(|| {
        faults.push(Violation {
            field: field.into(),
            rule: &VALUE_NAME,
        });
        0
    })
}

/// A column of a line.
pub(crate) fn at(fields: &[String], column: usize) -> String {
    fields.get(column).cloned().unwrap_or_default()
}

pub(crate) fn rules(table: RuleTable) -> RuleTable {
    table.fields(
        [&COLUMN_COUNT, &VALUE_NAME],
        &["banqiao-card benefits import-insurance, import-beneficiaries"],
    )
}
