//! What a recognised result saves, as data: list prices and blood draws, each with source and certainty.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use banqiao_kit::Certainty;
use banqiao_proto::lab::v1::EstimateBasis;

use crate::{
    catalogue::ItemCode,
    table::{self, Table, TableFaults},
};

/// The columns of a file of estimates, in order.
pub const ESTIMATE_COLUMNS: [&str; 5] = [
    "item_code",
    "price_fen",
    "blood_draw",
    "source",
    "certainty",
];

/// The estimates that come with the service.
const BUILT_IN: &str = include_str!("../../data/estimates.tsv");

/// Highest price of a test: 100 000 yuan.
const MOST_FEN: i64 = 10_000_000;

/// What recognising a result of an item saves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// List price in fen.
    pub price_fen: i64,
    /// Whether its specimen is drawn blood.
    pub blood_draw: bool,
    /// Where the price comes from.
    pub source: String,
    /// How certain it is.
    pub certainty: Certainty,
}

/// The estimates by item.
#[derive(Debug)]
pub struct Estimates {
    version: String,
    by_item: BTreeMap<ItemCode, Estimate>,
}

impl Estimates {
    /// The estimates that come with the service.
    ///
    /// # Errors
    /// None, as a test shows; the file is read as a city's own would be.
    pub fn built_in() -> Result<Self, TableFaults> {
        Self::parse(Path::new("estimates.tsv"), BUILT_IN)
    }

    /// Reads a city's own file.
    ///
    /// # Errors
    /// Every fault with file, line and key.
    pub fn read(path: &Path) -> Result<Self, TableFaults> {
        Self::parse(path, &table::read(path)?)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// Every fault with file, line and key.
    pub fn parse(file: &Path, text: &str) -> Result<Self, TableFaults> {
        let mut seen = BTreeSet::new();
        let (version, lines) = Table::read(file, text, &ESTIMATE_COLUMNS, |line| {
            let (item, estimate) = estimate(line)?;
            line.unique("item_code", item.as_str(), &mut seen);
            Some((item, estimate))
        })?;
        Ok(Self {
            version,
            by_item: lines.into_iter().collect(),
        })
    }

    /// Version of the file.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The estimate of an item.
    pub fn of(&self, item: &ItemCode) -> Option<&Estimate> {
        self.by_item.get(item)
    }

    /// The items whose specimen is drawn blood.
    pub fn drawn(&self) -> impl Iterator<Item = &ItemCode> {
        let items = self.by_item.iter();
        items
            .filter(|(_, estimate)| estimate.blood_draw)
            .map(|(item, _)| item)
    }
}

impl Estimate {
    /// The estimate in an answer.
    pub fn shown(&self, item: &ItemCode) -> EstimateBasis {
        EstimateBasis {
            item_code: item.as_str().to_owned(),
            price_fen: self.price_fen,
            blood_draw: self.blood_draw,
            source: self.source.clone(),
            certainty: self.certainty.tag().to_string(),
        }
    }
}

fn estimate(line: &mut Table<'_>) -> Option<(ItemCode, Estimate)> {
    let item = line.parsed("item_code", ItemCode::parse);
    let price_fen = line.parsed("price_fen", |text| match text.parse::<i64>() {
        Ok(fen @ 1..=MOST_FEN) => Ok(fen),
        _ => Err("must be a price in fen, from 1 to 10000000"),
    });
    let blood_draw = line.parsed("blood_draw", |text| match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("must be yes or no"),
    });
    let source = line.required("source");
    let certainty = line.parsed("certainty", |text| match text {
        "D" => Ok(Certainty::Design),
        "M" => Ok(Certainty::Memory),
        "Q" => Ok(Certainty::Quoted),
        _ => Err("must be Q, M or D"),
    });
    let estimate = Estimate {
        price_fen: price_fen?,
        blood_draw: blood_draw?,
        source: source?.to_owned(),
        certainty: certainty?,
    };
    Some((item?, estimate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn every_item_of_the_catalogue_has_an_estimate_of_this_project() {
        let estimates = Estimates::built_in().unwrap();
        let catalogue = Catalogue::built_in().unwrap();
        for item in catalogue.items() {
            let estimate = estimates.of(&item.code).unwrap();
            assert_eq!(estimate.certainty, Certainty::Design, "{:?}", item.code);
        }
        assert_eq!(estimates.by_item.len(), catalogue.items().len());
        assert_eq!(estimates.drawn().count(), catalogue.items().len());
    }

    #[test]
    fn every_fault_names_line_and_key() {
        let text = "#version 1\nitem_code\tprice_fen\tblood_draw\tsource\tcertainty\n\
                    x\t0\tmaybe\t\tZ\n1500104A\t500\tyes\tlist\tD\n1500104A\t500\tno\tlist\tM\n";
        let faults = Estimates::parse(Path::new("e.tsv"), text).unwrap_err();
        let places: Vec<_> = faults
            .0
            .iter()
            .map(|fault| (fault.line, fault.key.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                (3, "item_code"),
                (3, "price_fen"),
                (3, "blood_draw"),
                (3, "source"),
                (3, "certainty"),
                (5, "item_code")
            ]
        );
    }
}
