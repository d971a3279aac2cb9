//! CSV.

use std::io;

use csv::{ByteRecord, Position, ReaderBuilder};
use encoding_rs::{Encoding, GB18030, UTF_8};

use super::{
    COLUMN_COUNT, ENCODING, Line, SheetColumn, SheetError, SheetRow, escape::unescaped,
    header::Places,
};
use crate::rule::Violation;

/// Reads CSV from any source, as [`read_sheet`](super::read_sheet) does.
///
/// # Errors
/// See [`SheetError`].
pub fn read_csv(
    source: impl io::Read,
    columns: &[SheetColumn],
    mut each: impl FnMut(SheetRow) -> bool,
) -> Result<(), SheetError> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(source);
    let (encoding, places) = header(reader.byte_headers().map_err(SheetError::Csv)?, columns)?;
    let mut record = ByteRecord::new();
    while reader
        .read_byte_record(&mut record)
        .map_err(SheetError::Csv)?
    {
        let mut row = row(&record, encoding, &places, columns);
        row.position = reader.position().byte();
        if !each(row) {
            break;
        }
    }
    Ok(())
}

/// The header decides the encoding: nothing is guessed from a single name of a person.
fn header(
    record: &ByteRecord,
    columns: &[SheetColumn],
) -> Result<(&'static Encoding, Places), SheetError> {
    let read = |encoding| {
        let names: Vec<_> = record
            .iter()
            .map(|field| decoded(field, encoding).unwrap_or_default())
            .collect();
        Places::of(&names, columns).map(|places| (encoding, places))
    };
    let as_utf8 = read(UTF_8);
    if record
        .iter()
        .any(|field| std::str::from_utf8(field).is_err())
    {
        return read(GB18030).or(as_utf8);
    }
    as_utf8
}

fn decoded(field: &[u8], encoding: &'static Encoding) -> Option<String> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(field)?;
    Some(text.into_owned())
}

fn row(
    record: &ByteRecord,
    encoding: &'static Encoding,
    places: &Places,
    columns: &[SheetColumn],
) -> SheetRow {
    let mut faults = Vec::new();
    if record.len() != places.width {
        faults.push(Violation {
            field: "".into(),
            rule: &COLUMN_COUNT,
        });
    }
    let mut values = Vec::with_capacity(columns.len());
    for (column, place) in columns.iter().zip(&places.places) {
        let field = record.get(*place).unwrap_or_default();
        match decoded(field, encoding) {
            Some(text) => values.push(unescaped(text.trim()).to_owned()),
            None => {
                faults.push(Violation {
                    field: column.name.into(),
                    rule: &ENCODING,
                });
                values.push(String::from_utf8_lossy(field).into_owned());
            }
        }
    }
    SheetRow {
        line: Line::new(1, record.position().map_or(0, Position::line)),
        values,
        faults,
        position: 0,
    }
}
