//! Tables of records as files: CSV and XLSX, both directions, a row at a time.
//!
//! ```text
//!   file ──read_sheet──▶ header: names in any order, each by any of its names ▸ SheetRow: values in the order of the columns
//!   SheetWriter ──▶ file: header ▸ rows; what a spreadsheet would take for a formula is escaped in CSV
//! ```
//!
//! CSV is UTF-8, with or without a byte order mark, or GB18030 where its header is. Of a workbook every sheet that is not empty is read,
//! each with a header of its own. Memory is that of a row, and of a workbook's table of shared texts, which spreadsheet programs
//! write; [`SheetWriter`] writes none.

mod csv_file;
mod escape;
mod header;
#[cfg(test)]
mod tests;
mod workbook;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use csv_file::read_csv;
pub use writer::SheetWriter;

use crate::{
    rule::{Rule, Violation},
    rulebook::RuleTable,
};

const ENCODING: Rule = Rule::design(
    "UTF8",
    "text is UTF-8, or GB18030 in a file whose header is",
    "sheets",
);
const COLUMN_COUNT: Rule = Rule::design(
    "COLUMN_COUNT",
    "a line has as many fields as the header",
    "RFC 4180 §2.4",
);
const CELL_ERROR: Rule = Rule::design(
    "CELL_ERROR",
    "the cell holds a formula's error instead of a value",
    "sheets",
);
const CELL_NUMBER: Rule = Rule::design(
    "CELL_NUMBER",
    "a spreadsheet keeps 15 digits of a number: give numbers of people and cards as text",
    "sheets",
);

/// The rules of files, with the commands that apply them.
pub fn sheet_rules(places: &'static [&'static str]) -> RuleTable {
    RuleTable::new("CSV and XLSX files").fields(
        [&ENCODING, &COLUMN_COUNT, &CELL_ERROR, &CELL_NUMBER],
        places,
    )
}

/// A column of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetColumn {
    /// Its name, which is written.
    pub name: &'static str,
    /// Further names that a header may have for it, such as those of a standard or of people. ASCII letters in any case.
    pub also: &'static [&'static str],
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(u64);

/// Rows of a sheet are below this, so that sheet and row are one number.
const ROWS: u64 = 1 << 32;

impl Line {
    /// Row `row` of sheet `sheet`; both begin at 1.
    pub const fn new(sheet: u32, row: u64) -> Self {
        Self((sheet.saturating_sub(1) as u64) * ROWS + row)
    }

    /// The line that a number of [`Line::number`] is.
    pub const fn of(number: u64) -> Self {
        Self(number)
    }

    /// One number, which grows from line to line: the row, in the first sheet.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / ROWS {
            0 => write!(f, "{}", self.0),
            sheet => write!(f, "sheet {}: {}", sheet + 1, self.0 % ROWS),
        }
    }
}

/// A row of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct SheetRow {
    /// Where it stands.
    pub line: Line,
    /// The text of each column, in the order of the columns: trimmed, without the escape of formulas.
    pub values: Vec<String>,
    /// What is wrong with the row's form.
    pub faults: Vec<Violation>,
    /// Bytes of the file that were read, where that is known.
    pub position: u64,
}

impl fmt::Debug for SheetRow {
    /// Redacted: rows are people's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SheetRow({}, {} fault(s))", self.line, self.faults.len())
    }
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// As CSV.
    #[error("cannot read or write the file as CSV")]
    Csv(#[source] csv::Error),
    /// The end of the name.
    #[error("the file must end in .csv or .xlsx")]
    Extension,
    /// The header lacks columns, or repeats some, or has unknown ones.
    #[error(
        "the header must name these columns once each: {wanted}{}",
        listed(missing, unknown)
    )]
    Header {
        /// All of them.
        wanted: String,
        /// Those that are not there.
        missing: Vec<String>,
        /// Names that are none of them, or come twice.
        unknown: Vec<String>,
    },
    /// The file.
    #[error("cannot open, read or write the file")]
    Io(#[source] std::io::Error),
    /// As a workbook, when reading.
    #[error("cannot read the file as XLSX")]
    ReadWorkbook(#[source] Box<calamine::XlsxError>),
    /// As a workbook, when writing.
    #[error("cannot write the file as XLSX")]
    WriteWorkbook(#[source] Box<rust_xlsxwriter::XlsxError>),
}

fn listed(missing: &[String], unknown: &[String]) -> String {
    let list = |intro: &str, names: &[String]| {
        if names.is_empty() {
            String::new()
        } else {
            format!("; {intro}: {}", names.join(", "))
        }
    };
    list("missing", missing) + &list("unknown or twice", unknown)
}

/// A path at which [`SheetWriter::create`] makes a file, for command lines.
///
/// # Errors
/// It ends in neither `.csv` nor `.xlsx`.
pub fn sheet_path(text: &str) -> Result<PathBuf, SheetError> {
    let path = PathBuf::from(text);
    Format::of(&path).map(|_| path)
}

/// Reads a file of either kind, row by row, until its end or until `each` says false. A name that ends in neither is CSV, but not
/// those of other spreadsheets.
///
/// # Errors
/// See [`SheetError`].
pub fn read_sheet(
    path: &Path,
    columns: &[SheetColumn],
    each: impl FnMut(SheetRow) -> bool,
) -> Result<(), SheetError> {
    match Format::to_read(path)? {
        Format::Csv => read_csv(
            std::fs::File::open(path).map_err(SheetError::Io)?,
            columns,
            each,
        ),
        Format::Workbook => workbook::read(path, columns, each),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    Workbook,
}

impl Format {
    fn of(path: &Path) -> Result<Self, SheetError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("xlsx") => Ok(Self::Workbook),
            _ => Err(SheetError::Extension),
        }
    }

    fn to_read(path: &Path) -> Result<Self, SheetError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("xls" | "xlsb" | "xlsm" | "et" | "ods") => Err(SheetError::Extension),
            _ => Ok(Self::of(path).unwrap_or(Self::Csv)),
        }
    }
}
