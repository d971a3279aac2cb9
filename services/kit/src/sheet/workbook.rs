//! XLSX, for reading.

use std::{fs::File, io::BufReader, path::Path};

use calamine::{DataRef, Reader as _, Xlsx, open_workbook};

use super::{
    CELL_ERROR, CELL_NUMBER, COLUMN_COUNT, Line, SheetColumn, SheetError, SheetRow, header::Places,
};
use crate::rule::{Rule, Violation};

/// From here a spreadsheet's numbers (IEEE 754 doubles, shown with 15 digits) lose digits.
const EXACT: f64 = 1e15;

fn fault(error: calamine::XlsxError) -> SheetError {
    SheetError::ReadWorkbook(Box::new(error))
}

pub(super) fn read(
    path: &Path,
    columns: &[SheetColumn],
    mut each: impl FnMut(SheetRow) -> bool,
) -> Result<(), SheetError> {
    let mut workbook: Xlsx<BufReader<File>> = open_workbook(path).map_err(fault)?;
    for (number, name) in (1..).zip(workbook.sheet_names()) {
        let mut sheet = Sheet {
            number,
            columns,
            places: None,
        };
        let mut cells = workbook.worksheet_cells_reader(&name).map_err(fault)?;
        let mut row = Vec::new();
        let mut at = 0;
        while let Some(cell) = cells.next_cell().map_err(fault)? {
            let (line, column) = cell.get_position();
            if line != at && !row.is_empty() && !sheet.take(at, &mut row, &mut each)? {
                return Ok(());
            }
            at = line;
            if !matches!(cell.get_value(), DataRef::Empty) {
                row.push((column, text(cell.get_value())));
            }
        }
        if !row.is_empty() && !sheet.take(at, &mut row, &mut each)? {
            return Ok(());
        }
    }
    Ok(())
}

type Cells = Vec<(u32, Result<String, &'static Rule>)>;

struct Sheet<'a> {
    number: u32,
    columns: &'a [SheetColumn],
    places: Option<Places>,
}

impl Sheet<'_> {
    /// Takes the cells of a row: the first one is the header.
    fn take(
        &mut self,
        row: u32,
        cells: &mut Cells,
        each: &mut impl FnMut(SheetRow) -> bool,
    ) -> Result<bool, SheetError> {
        let (mut fields, mut beyond) = (Vec::new(), false);
        for (column, text) in cells.drain(..) {
            let at = usize::try_from(column).unwrap_or(usize::MAX);
            // A cell far to the right of the header is no reason to hold a long row.
            let width = self
                .places
                .as_ref()
                .map_or(MAX_WIDTH, |places| places.width);
            if at < width {
                fields.resize_with(fields.len().max(at + 1), || Ok(String::new()));
                fields[at] = text;
            } else {
                beyond = true;
            }
        }
        let Some(places) = &self.places else {
            let names: Vec<_> = fields.into_iter().map(Result::unwrap_or_default).collect();
            self.places = Some(Places::of(&names, self.columns)?);
            return Ok(true);
        };
        let mut faults = Vec::new();
        if beyond {
            faults.push(Violation {
                field: "".into(),
                rule: &COLUMN_COUNT,
            });
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, place) in self.columns.iter().zip(&places.places) {
            match fields.get(*place) {
                Some(Ok(text)) => values.push(text.trim().to_owned()),
                // What a cell of a formula holds is nobody's value; the line is refused, so nothing is taken over as empty.
                Some(Err(rule)) => {
                    faults.push(Violation {
                        field: column.name.into(),
                        rule,
                    });
                    values.push(String::new());
                }
                None => values.push(String::new()),
            }
        }
        Ok(each(SheetRow {
            line: Line::new(self.number, u64::from(row) + 1),
            values,
            faults,
            position: 0,
        }))
    }
}

/// Columns of a header at most: those of a sheet.
const MAX_WIDTH: usize = 16_384;

/// A cell as text: days as `YYYY-MM-DD`, whole numbers without a decimal point.
fn text(value: &DataRef<'_>) -> Result<String, &'static Rule> {
    Ok(match value {
        DataRef::Bool(value) => value.to_string(),
        DataRef::DateTime(time) => {
            let (year, month, day, ..) = time.to_ymd_hms_milli();
            format!("{year:04}-{month:02}-{day:02}")
        }
        DataRef::DateTimeIso(text) => text.split('T').next().unwrap_or_default().to_owned(),
        DataRef::DurationIso(text) | DataRef::String(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Empty => String::new(),
        DataRef::Error(_) => return Err(&CELL_ERROR),
        DataRef::Float(number) if number.abs() >= EXACT => return Err(&CELL_NUMBER),
        DataRef::Float(number) => number.to_string(),
        DataRef::Int(number) if number.unsigned_abs() >= 1_000_000_000_000_000 => {
            return Err(&CELL_NUMBER);
        }
        DataRef::Int(number) => number.to_string(),
    })
}
