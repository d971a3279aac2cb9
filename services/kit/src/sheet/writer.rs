//! Writing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rust_xlsxwriter::{Workbook, Worksheet, XlsxError};

use super::{Format, SheetError, escape::escaped};

/// Rows of a sheet in XLSX (ECMA-376): 2^20, of which the first is the header.
const ROWS: u32 = 1_048_576;

fn fault(error: XlsxError) -> SheetError {
    SheetError::WriteWorkbook(Box::new(error))
}

/// Writes a file row by row. Its memory does not grow with the rows: a workbook is kept in an unnamed temporary file until its end.
pub struct SheetWriter<W: Write + Send> {
    columns: Vec<String>,
    kind: Kind<W>,
}

enum Kind<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Workbook {
        workbook: Box<Workbook>,
        sheets: usize,
        row: u32,
        rows: u32,
        sink: W,
    },
}

impl SheetWriter<BufWriter<File>> {
    /// Makes a file that its owner alone can read, as CSV or XLSX by its name, with a header. A file that is there already is
    /// replaced where that is wanted.
    ///
    /// # Errors
    /// See [`SheetError`]; also where there is such a file that is to stay.
    pub fn create(path: &Path, columns: &[&str], replace: bool) -> Result<Self, SheetError> {
        let format = Format::of(path)?;
        if replace {
            // A new file, so that it does not keep the mode of the old one.
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SheetError::Io(error));
                }
                _ => {}
            }
        }
        let mut options = OpenOptions::new();
        let options = options.create_new(true).write(true).mode(0o600);
        let sink = BufWriter::new(options.open(path).map_err(SheetError::Io)?);
        match format {
            Format::Csv => Self::csv(sink, columns),
            Format::Workbook => Self::workbook(sink, columns, ROWS),
        }
    }
}

impl<W: Write + Send> SheetWriter<W> {
    /// CSV into any sink.
    ///
    /// # Errors
    /// See [`SheetError`].
    pub fn csv(sink: W, columns: &[&str]) -> Result<Self, SheetError> {
        let mut writer = csv::Writer::from_writer(sink);
        writer.write_record(columns).map_err(SheetError::Csv)?;
        Ok(Self {
            columns: owned(columns),
            kind: Kind::Csv(Box::new(writer)),
        })
    }

    /// XLSX into any sink, with so many rows a sheet at most.
    pub(super) fn workbook(sink: W, columns: &[&str], rows: u32) -> Result<Self, SheetError> {
        let kind = Kind::Workbook {
            workbook: Box::new(Workbook::new()),
            sheets: 0,
            row: rows,
            rows,
            sink,
        };
        let mut writer = Self {
            columns: owned(columns),
            kind,
        };
        writer.next_sheet()?;
        Ok(writer)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// See [`SheetError`].
    pub fn write<T: AsRef<str>>(&mut self, values: &[T]) -> Result<(), SheetError> {
        if let Kind::Workbook { row, rows, .. } = &self.kind
            && row == rows
        {
            self.next_sheet()?;
        }
        match &mut self.kind {
            Kind::Csv(writer) => {
                let fields = values.iter().map(|value| escaped(value.as_ref()));
                writer
                    .write_record(fields.collect::<Vec<_>>())
                    .map_err(SheetError::Csv)
            }
            Kind::Workbook {
                workbook,
                sheets,
                row,
                ..
            } => {
                let sheet = workbook.worksheet_from_index(*sheets - 1).map_err(fault)?;
                write_row(sheet, *row, values)?;
                *row += 1;
                Ok(())
            }
        }
    }

    fn next_sheet(&mut self) -> Result<(), SheetError> {
        if let Kind::Workbook {
            workbook,
            sheets,
            row,
            ..
        } = &mut self.kind
        {
            let sheet = workbook
                .add_worksheet_with_constant_memory()
                .map_err(fault)?;
            write_row(sheet, 0, &self.columns)?;
            *sheets += 1;
            *row = 1;
        }
        Ok(())
    }

    /// Writes what is left, and gives the sink back.
    ///
    /// # Errors
    /// See [`SheetError`].
    pub fn finish(self) -> Result<W, SheetError> {
        match self.kind {
            Kind::Csv(writer) => (*writer)
                .into_inner()
                .map_err(|error| SheetError::Io(io::Error::other(error.to_string()))),
            Kind::Workbook {
                mut workbook,
                mut sink,
                ..
            } => {
                workbook.save_to_writer(&mut sink).map_err(fault)?;
                sink.flush().map_err(SheetError::Io)?;
                Ok(sink)
            }
        }
    }
}

/// Every value is text, so that no number of a person loses digits and nothing is a formula.
fn write_row<T: AsRef<str>>(
    sheet: &mut Worksheet,
    row: u32,
    values: &[T],
) -> Result<(), SheetError> {
    for (column, value) in (0_u16..).zip(values) {
        sheet
            .write_string(row, column, value.as_ref())
            .map_err(fault)?;
    }
    Ok(())
}

fn owned(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|name| (*name).to_owned()).collect()
}
