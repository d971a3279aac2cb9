//! Cards as CSV: UTF-8, a header line with the protobuf names of the fields in any order, states by name.

use std::io;

use banqiao_kit::{Rule, RuleTable, Violation};
use banqiao_proto::card::v1::{CardRecord, CardState};

/// The columns; all are required in the header.
pub const COLUMNS: [&str; 11] = [
    "card_number",
    "social_security_number",
    "name",
    "card_identification_code",
    "issuing_division",
    "issued_on",
    "expires_on",
    "social_state",
    "financial_state",
    "electronic",
    "specification_version",
];

/// Names of states: the enum's without its prefix, and the Chinese ones of the province's notice.
const STATES: [(CardState, &str, &str); 7] = [
    (CardState::Sealed, "SEALED", "封存"),
    (CardState::Normal, "NORMAL", "正常"),
    (CardState::TempLost, "TEMP_LOST", "临时挂失"),
    (CardState::Lost, "LOST", "正式挂失"),
    (CardState::Locked, "LOCKED", "锁定"),
    (CardState::Cancelled, "CANCELLED", "注销"),
    (CardState::Expired, "EXPIRED", "过期"),
];

const UTF8: Rule = Rule::design("UTF8", "text is UTF-8", "card service");
const COLUMN_COUNT: Rule = Rule::design(
    "COLUMN_COUNT",
    "a line has as many fields as the header",
    "RFC 4180 §2.4",
);
const STATE_NAME: Rule = Rule::design(
    "STATE_NAME",
    "a state is SEALED, NORMAL, TEMP_LOST, LOST, LOCKED or CANCELLED, or its Chinese name",
    "省人社厅 2022-09-28",
);
const ELECTRONIC: Rule = Rule::design("ELECTRONIC", "electronic is true or false", "card service");

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("CSV files").fields(
        [&UTF8, &COLUMN_COUNT, &STATE_NAME, &ELECTRONIC],
        &["banqiao-card import"],
    )
}

/// Why a sheet cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// The header lacks a column, or has one too many; the columns.
    #[error("the header must name these columns once each: {0}")]
    Columns(String),
    /// The header lacks a column, or has one too many.
    #[error("the header must name these columns once each: {}", COLUMNS.join(", "))]
    Header,
    /// The file cannot be read or written.
    #[error("cannot read or write the sheet")]
    Io(#[source] csv::Error),
}

/// A line of a sheet: its number in the file (the header is line 1), and its card or what is wrong with its form.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetLine {
    /// Line in the file.
    pub line: u64,
    /// The card.
    pub card: Result<CardRecord, Vec<Violation>>,
}

/// Reads a sheet line by line.
#[derive(Debug)]
pub struct SheetReader<R> {
    reader: csv::Reader<R>,
    /// Where each of [`COLUMNS`] stands.
    places: [usize; COLUMNS.len()],
    record: csv::ByteRecord,
}

impl<R: io::Read> SheetReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// See [`SheetError`].
    pub fn new(source: R) -> Result<Self, SheetError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(source);
        let header = reader.byte_headers().map_err(SheetError::Io)?;
        let mut places = [usize::MAX; COLUMNS.len()];
        for (at, name) in header.iter().enumerate() {
            // Spreadsheet programs write a byte order mark.
            let name = name
                .strip_prefix(b"\xEF\xBB\xBF")
                .unwrap_or(name)
                .trim_ascii();
            let column = COLUMNS.iter().position(|column| column.as_bytes() == name);
            let place = column
                .and_then(|column| places.get_mut(column))
                .ok_or(SheetError::Header)?;
            if *place != usize::MAX {
                return Err(SheetError::Header);
            }
            *place = at;
        }
        if places.contains(&usize::MAX) {
            return Err(SheetError::Header);
        }
        Ok(Self {
            reader,
            places,
            record: csv::ByteRecord::new(),
        })
    }

    /// Bytes of the file that were read, for progress.
    pub fn position(&self) -> u64 {
        self.reader.position().byte()
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<SheetLine>, SheetError> {
        if !self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(SheetError::Io)?
        {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        Ok(Some(SheetLine {
            line,
            card: self.parse(),
        }))
    }

    fn parse(&self) -> Result<CardRecord, Vec<Violation>> {
        if self.record.len() != COLUMNS.len() {
            return Err(vec![Violation {
                field: "".into(),
                rule: &COLUMN_COUNT,
            }]);
        }
        let mut faults = Vec::new();
        let mut text = |column: usize| {
            let bytes = self
                .places
                .get(column)
                .and_then(|place| self.record.get(*place));
            match std::str::from_utf8(bytes.unwrap_or_default()) {
                Ok(text) => text.trim().to_owned(),
                Err(_) => {
                    let field = COLUMNS.get(column).copied().unwrap_or_default();
                    faults.push(Violation {
                        field: field.into(),
                        rule: &UTF8,
                    });
                    String::new()
                }
            }
        };
        let (social, financial, electronic) = (text(7), text(8), text(9));
        let mut card = CardRecord {
            card_number: text(0),
            social_security_number: text(1),
            name: text(2),
            card_identification_code: text(3),
            issuing_division: text(4),
            issued_on: text(5),
            expires_on: text(6),
            specification_version: text(10),
            ..CardRecord::default()
        };
        match state(&social) {
            Some(state) => card.set_social_state(state),
            None => faults.push(Violation {
                field: "social_state".into(),
                rule: &STATE_NAME,
            }),
        }
        match state(&financial) {
            Some(state) => card.set_financial_state(state),
            None => faults.push(Violation {
                field: "financial_state".into(),
                rule: &STATE_NAME,
            }),
        }
        match electronic.as_str() {
            "true" | "TRUE" | "1" | "是" => card.electronic = true,
            "false" | "FALSE" | "0" | "否" => card.electronic = false,
            _ => faults.push(Violation {
                field: "electronic".into(),
                rule: &ELECTRONIC,
            }),
        }
        if faults.is_empty() {
            Ok(card)
        } else {
            Err(faults)
        }
    }
}

fn state(name: &str) -> Option<CardState> {
    let named =
        |(_, english, chinese): &&(CardState, &str, &str)| [*english, *chinese].contains(&name);
    STATES.iter().find(named).map(|(state, ..)| *state)
}

/// Writes cards as a sheet that [`SheetReader`] reads.
///
/// # Errors
/// The sink cannot be written.
pub fn write_sheet(
    sink: impl io::Write,
    cards: impl IntoIterator<Item = CardRecord>,
) -> Result<(), SheetError> {
    let mut writer = csv::Writer::from_writer(sink);
    writer.write_record(COLUMNS).map_err(SheetError::Io)?;
    for card in cards {
        let name = |state: CardState| {
            STATES
                .iter()
                .find(|(known, ..)| *known == state)
                .map_or("", |(_, english, _)| english)
        };
        let record = [
            card.card_number.as_str(),
            &card.social_security_number,
            &card.name,
            &card.card_identification_code,
            &card.issuing_division,
            &card.issued_on,
            &card.expires_on,
            name(card.social_state()),
            name(card.financial_state()),
            if card.electronic { "true" } else { "false" },
            &card.specification_version,
        ];
        writer.write_record(record).map_err(SheetError::Io)?;
    }
    writer.flush().map_err(|error| SheetError::Io(error.into()))
}

/// Writes the lines that were refused: line, field, rule. Nothing of the line itself, so the report can be passed on.
#[derive(Debug)]
pub struct RefusedReport<W: io::Write>(csv::Writer<W>);

impl<W: io::Write> RefusedReport<W> {
    /// A report with its header.
    ///
    /// # Errors
    /// The sink cannot be written.
    pub fn new(sink: W) -> Result<Self, SheetError> {
        let mut writer = csv::Writer::from_writer(sink);
        writer
            .write_record(["line", "field", "code", "rule"])
            .map_err(SheetError::Io)?;
        Ok(Self(writer))
    }

    /// Adds a row for each fault of a line.
    ///
    /// # Errors
    /// The sink cannot be written.
    pub fn add(&mut self, line: u64, faults: &[Violation]) -> Result<(), SheetError> {
        let line = line.to_string();
        for fault in faults {
            let rule = fault.rule.to_string();
            let record = [line.as_str(), &fault.field, fault.rule.code, &rule];
            self.0.write_record(record).map_err(SheetError::Io)?;
        }
        Ok(())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The sink cannot be written.
    pub fn finish(mut self) -> Result<(), SheetError> {
        self.0.flush().map_err(|error| SheetError::Io(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "card_number,social_security_number,name,card_identification_code,issuing_division,issued_on,expires_on,social_state,financial_state,electronic,specification_version\n";
    const LINE: &str = "T02000001,370202199001010007,测试子安,370200D156000005,370202,2020-01-02,2030-01-01,正常,TEMP_LOST,是,3.00\n";

    fn read(text: &[u8]) -> Vec<SheetLine> {
        let mut reader = SheetReader::new(text).unwrap();
        std::iter::from_fn(|| reader.next_line().unwrap()).collect()
    }

    fn codes(line: &SheetLine) -> Vec<&'static str> {
        line.card
            .as_ref()
            .unwrap_err()
            .iter()
            .map(|fault| fault.rule.code)
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let lines = read(format!("\u{FEFF}{HEADER}{LINE}").as_bytes());
        assert_eq!(lines[0].line, 2);
        let card = lines[0].card.clone().unwrap();
        assert_eq!(card.social_state(), CardState::Normal);
        assert_eq!(card.financial_state(), CardState::TempLost);
        let mut sheet = Vec::new();
        write_sheet(&mut sheet, [card.clone()]).unwrap();
        assert_eq!(read(&sheet)[0].card, Ok(card));
    }

    #[test]
    fn columns_come_in_any_order_and_each_once() {
        let swapped = HEADER.replacen(
            "card_number,social_security_number",
            "social_security_number,card_number",
            1,
        );
        let line = LINE.replacen(
            "T02000001,370202199001010007",
            "370202199001010007,T02000001",
            1,
        );
        let card = read(format!("{swapped}{line}").as_bytes())
            .remove(0)
            .card
            .unwrap();
        assert_eq!(card.card_number, "T02000001");
        for bad in [
            "",
            "card_number\n",
            &HEADER.replace("name", "card_number"),
            &HEADER.replace("name", "姓名"),
        ] {
            assert!(
                matches!(SheetReader::new(bad.as_bytes()), Err(SheetError::Header)),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_line_of_another_form_is_refused_and_the_next_is_read() {
        let mut text = HEADER.as_bytes().to_vec();
        text.extend_from_slice(b"a,b\n");
        text.extend_from_slice(
            &LINE
                .replace("测试子安", "\u{1}")
                .replace("TEMP_LOST,是", "?,?")
                .into_bytes(),
        );
        let broken = LINE.replace("测试子安", "NAME").into_bytes();
        text.extend(
            broken
                .into_iter()
                .map(|byte| if byte == b'N' { 0xB2 } else { byte }),
        );
        text.extend_from_slice(LINE.as_bytes());
        let lines = read(&text);
        assert_eq!(codes(&lines[0]), ["COLUMN_COUNT"]);
        assert_eq!(codes(&lines[1]), ["STATE_NAME", "ELECTRONIC"]);
        assert!(codes(&lines[2]).contains(&"UTF8"));
        assert!(lines[3].card.is_ok());
    }

    #[test]
    fn the_report_names_line_field_and_rule() {
        let mut bytes = Vec::new();
        let mut report = RefusedReport::new(&mut bytes).unwrap();
        report
            .add(
                7,
                &[Violation {
                    field: "name".into(),
                    rule: &UTF8,
                }],
            )
            .unwrap();
        report.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "line,field,code,rule\n7,name,UTF8,\"text is UTF-8 (card service, D)\"\n"
        );
    }
}
