//! The stock of new cards: numbers and chips that were produced and are nobody's yet.

use std::io;

use banqiao_kit::{Broken, Rule, RuleTable, Violation, Violations};

use crate::{
    card::{CardNumber, ChipCode, parse_specification},
    cards::Cards,
    store::{Blank, StoreError},
};

/// Columns of a file of new cards.
const COLUMNS: [&str; 3] = [
    "card_number",
    "card_identification_code",
    "specification_version",
];
/// Lines in one transaction.
const BATCH: usize = 500;
/// Lines of a file: some 40 bytes each are held until all of them are judged.
const MAX_LINES: usize = 200_000;

const LINE: Rule = Rule::design(
    "STOCK_LINE",
    "a line has the three columns of the header: card_number, card_identification_code, specification_version; 200000 lines at most",
    "RFC 4180 §2.4",
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("The stock of new cards").field(&LINE, &["banqiao-card stock"])
}

/// Why a file of new cards is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StockError {
    /// The header is another.
    #[error("the header must name these columns: {}", COLUMNS.join(", "))]
    Header,
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] csv::Error),
    /// A line breaks rules; nothing was taken.
    #[error("line {line}: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Line {
        /// Its number, the header being 1.
        line: u64,
        /// What is wrong with it.
        faults: Vec<Violation>,
    },
    /// The store.
    #[error("cannot write the stock")]
    Store(#[source] StoreError),
}

impl Cards {
    /// Takes new cards from a CSV file into the stock, whole or, when a line is at fault, not at all; gives how many were new. Cards that
    /// are in stock already, or were issued, are passed over, so a file may be sent again.
    ///
    /// # Errors
    /// See [`StockError`].
    pub async fn stock(&self, source: impl io::Read) -> Result<u64, StockError> {
        let blanks = read(source)?;
        let mut added = 0;
        for batch in blanks.chunks(BATCH) {
            let taken = self.store.add_blanks(batch).await;
            added += taken.map_err(StockError::Store)?;
        }
        Ok(added)
    }
}

fn read(source: impl io::Read) -> Result<Vec<Blank>, StockError> {
    let mut sheet = csv::ReaderBuilder::new().flexible(true).from_reader(source);
    if *sheet.headers().map_err(StockError::Read)? != COLUMNS[..] {
        return Err(StockError::Header);
    }
    let mut blanks = Vec::new();
    for record in sheet.records() {
        let record = record.map_err(StockError::Read)?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut faults = Violations::new();
        let whole = record.len() == COLUMNS.len() && blanks.len() < MAX_LINES;
        faults.check("line", if whole { Ok(()) } else { Err(Broken(&LINE)) });
        let field = |at| record.get(at).unwrap_or_default();
        let number = faults.check(COLUMNS[0], CardNumber::parse(field(0)));
        let chip = faults.check(COLUMNS[1], ChipCode::parse(field(1)));
        let specification = faults.check(COLUMNS[2], parse_specification(field(2)));
        match (number, chip, specification) {
            (Some(number), Some(chip), Some(specification)) if faults.is_empty() => {
                blanks.push(Blank {
                    number,
                    chip,
                    specification,
                });
            }
            _ => {
                let faults = faults.into_vec();
                return Err(StockError::Line { line, faults });
            }
        }
    }
    Ok(blanks)
}
