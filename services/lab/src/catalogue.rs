//! 检验项目目录: the tests that the service knows, loaded from a versioned file that is refused whole on a fault.

mod code;
mod conversion;
mod item;
mod service;
mod unit;

use std::{collections::HashMap, path::Path};

use banqiao_kit::RuleTable;

use banqiao_proto::lab::v1::{Concept, Quantity};

pub use code::{ItemCode, LOINC_SYSTEM, Loinc, WST886_SYSTEM, loinc_check_digit};
pub use conversion::Conversion;
pub use item::{AllowableError, BelowLimit, COLUMNS, Interval, TestItem};
pub use service::CatalogueServer;
pub use unit::ucum_of;

pub(crate) use code::ITEM_CODE;
pub(crate) use conversion::unit_rules;

use crate::{
    decimal::Decimal,
    table::{self, TableFaults},
};

/// The catalogue that comes with the service.
const BUILT_IN: &str = include_str!("../data/catalogue.tsv");

/// The rules of the catalogue.
pub(crate) fn rules() -> [RuleTable; 2] {
    let codes = RuleTable::new("Codes of tests")
        .field(
            &ITEM_CODE,
            &[
                "PublishReport",
                "PublishReports",
                "PublishFhir",
                "FindReports",
                "ListTestItems",
                "SubmitResults",
                "ListMarks",
                "AssessReports",
                "RecordDecision",
                "DeliverDecision",
                "ReadStatistics",
            ],
        )
        .field(
            &code::LOINC,
            &["PublishReport", "PublishReports", "PublishFhir"],
        );
    [codes, conversion::rules()]
}

/// The tests by their codes.
#[derive(Debug)]
pub struct Catalogue {
    version: String,
    items: Vec<TestItem>,
    by_code: HashMap<String, usize>,
}

/// A value in the unit of its item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The number, in the item's unit.
    pub value: Decimal,
    /// Factor by which the sender's number was multiplied.
    pub factor: String,
    /// Offset that was added then.
    pub offset: Decimal,
}

impl Catalogue {
    /// The catalogue that comes with the service.
    ///
    /// # Errors
    /// None, as a test shows; the file is read as a city's own would be.
    pub fn built_in() -> Result<Self, TableFaults> {
        Self::parse(Path::new("catalogue.tsv"), BUILT_IN)
    }

    /// Reads a city's own catalogue.
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
        let (version, items) = item::parse(file, text)?;
        let mut by_code = HashMap::new();
        for (place, item) in items.iter().enumerate() {
            by_code.insert(item.code.as_str().to_owned(), place);
            by_code.insert(item.loinc.as_str().to_owned(), place);
        }
        Ok(Self {
            version,
            items,
            by_code,
        })
    }

    /// Version of the file; it stands beside every value that was normalised by it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The items, in the order of the file.
    pub fn items(&self) -> &[TestItem] {
        &self.items
    }

    /// The item of a code of WS/T 886 or of LOINC.
    pub fn item(&self, code: &str) -> Option<&TestItem> {
        self.by_code
            .get(code)
            .and_then(|place| self.items.get(*place))
    }

    /// The item that a concept's codes name; none when they name none, or several.
    pub fn find(&self, concept: &Concept) -> Option<&TestItem> {
        let mut named = concept
            .codings
            .iter()
            .filter(|coding| coding.system == WST886_SYSTEM || coding.system == LOINC_SYSTEM)
            .filter_map(|coding| self.item(&coding.code));
        let first = named.next()?;
        named.all(|other| other.code == first.code).then_some(first)
    }

    /// A quantity in the unit of an item. The sender's own number and unit stay as they are.
    ///
    /// # Errors
    /// Why it must not or cannot be converted.
    pub fn normalise(
        &self,
        item: &TestItem,
        quantity: &Quantity,
    ) -> Result<Normalised, &'static banqiao_kit::Rule> {
        let value = Decimal::parse(&quantity.value).map_err(|broken| broken.0)?;
        let ucum = ucum_of(quantity).ok_or(&conversion::UNIT_UNKNOWN)?;
        conversion::apply(item, value, &ucum)
    }
}
