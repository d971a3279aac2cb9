//! The stock of new cards: numbers and chips that were produced and are nobody's yet.

use std::{io, path::Path};

use banqiao_kit::{
    Broken, Rule, RuleTable, SheetColumn, SheetError, SheetRow, Violation, Violations, read_csv,
    read_sheet,
};

use crate::{
    card::{CardNumber, ChipCode, parse_specification},
    cards::Cards,
    sheet::CARD_COLUMNS,
    store::{Blank, StoreError},
};

/// Columns of a file of new cards.
const COLUMNS: [&str; 3] = [
    "card_number",
    "card_identification_code",
    "specification_version",
];
/// The columns with their further names: those of cards.
pub const STOCK_COLUMNS: [SheetColumn; COLUMNS.len()] =
    [CARD_COLUMNS[0], CARD_COLUMNS[3], CARD_COLUMNS[10]];
/// Lines in one transaction.
const BATCH: usize = 500;
/// Lines of a file: some 40 bytes each are held until all of them are judged.
const MAX_LINES: usize = 200_000;

const LINE: Rule = Rule::design(
    "STOCK_LINE",
    "a file of new cards has 200000 lines at most",
    "card service",
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("The stock of new cards").field(&LINE, &["banqiao-card stock"])
}

/// Why a file of new cards is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StockError {
    /// The file cannot be read, or its header is another.
    #[error("cannot read the file")]
    Read(#[source] SheetError),
    /// Lines break rules, each with what is wrong with it; nothing was taken.
    #[error("nothing was taken: {}", shown(.0))]
    Lines(Vec<(SheetRow, Vec<Violation>)>),
    /// The store.
    #[error("cannot write the stock")]
    Store(#[source] StoreError),
}

/// The first line with its faults, and how many more there are.
fn shown(lines: &[(SheetRow, Vec<Violation>)]) -> String {
    let Some((row, faults)) = lines.first() else {
        return String::new();
    };
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let more = match lines.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more lines)"),
    };
    format!("line {}: {}{more}", row.line, faults.join("; "))
}

impl Cards {
    /// Takes new cards from CSV into the stock, whole or, when a line is at fault, not at all; gives how many were new. Cards that
    /// are in stock already, or were issued, are passed over, so a file may be sent again.
    ///
    /// # Errors
    /// See [`StockError`].
    pub async fn stock(&self, source: impl io::Read) -> Result<u64, StockError> {
        let mut lines = Lines::default();
        read_csv(source, &STOCK_COLUMNS, |row| lines.take(row)).map_err(StockError::Read)?;
        self.fill(lines).await
    }

    /// As [`Cards::stock`], from a CSV or XLSX file.
    ///
    /// # Errors
    /// See [`StockError`].
    pub async fn stock_file(&self, path: &Path) -> Result<u64, StockError> {
        let mut lines = Lines::default();
        read_sheet(path, &STOCK_COLUMNS, |row| lines.take(row)).map_err(StockError::Read)?;
        self.fill(lines).await
    }

    async fn fill(&self, lines: Lines) -> Result<u64, StockError> {
        if !lines.refused.is_empty() {
            return Err(StockError::Lines(lines.refused));
        }
        let mut added = 0;
        for batch in lines.blanks.chunks(BATCH) {
            let taken = self.store.add_blanks(batch).await;
            added += taken.map_err(StockError::Store)?;
        }
        Ok(added)
    }
}

/// Lines of a file, judged.
#[derive(Default)]
struct Lines {
    blanks: Vec<Blank>,
    refused: Vec<(SheetRow, Vec<Violation>)>,
}

impl Lines {
    /// Judges a line; whether there may be more.
    fn take(&mut self, row: SheetRow) -> bool {
        let mut faults = Violations::new();
        let more = self.blanks.len() + self.refused.len() < MAX_LINES;
        faults.check("line", if more { Ok(()) } else { Err(Broken(&LINE)) });
        let field = |at: usize| row.values.get(at).map_or("", String::as_str);
        let number = faults.check(COLUMNS[0], CardNumber::parse(field(0)));
        let chip = faults.check(COLUMNS[1], ChipCode::parse(field(1)));
        let specification = faults.check(COLUMNS[2], parse_specification(field(2)));
        match (number, chip, specification) {
            (Some(number), Some(chip), Some(specification))
                if faults.is_empty() && row.faults.is_empty() =>
            {
                self.blanks.push(Blank {
                    number,
                    chip,
                    specification,
                });
            }
            _ => {
                let mut all = row.faults.clone();
                all.extend(faults.into_vec());
                self.refused.push((row, all));
            }
        }
        more
    }
}
