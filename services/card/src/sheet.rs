//! Cards as CSV and XLSX: a header with the protobuf names of the fields, or other names that they have, in any order; states by name.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
};

use banqiao_kit::{
    Line, Rule, RuleTable, SheetColumn, SheetRow, SheetWriter, Violation, sheet_rules,
};
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

const STATE_NAME: Rule = Rule::design(
    "STATE_NAME",
    "a state is SEALED, NORMAL, TEMP_LOST, LOST, LOCKED or CANCELLED, or its Chinese name",
    "省人社厅 2022-09-28",
);
const ELECTRONIC: Rule = Rule::design("ELECTRONIC", "electronic is true or false", "card service");

pub(crate) fn rules() -> RuleTable {
    const IMPORT: &[&str] = &["banqiao-card import"];
    const SHEETS: &[&str] = &[
        "banqiao-card import",
        "banqiao-card stock",
        "banqiao-card benefits import-insurance, import-beneficiaries",
    ];
    sheet_rules(SHEETS).fields([&STATE_NAME, &ELECTRONIC], IMPORT)
}

/// Why a sheet cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// The file cannot be read or written.
    #[error("cannot read or write the sheet")]
    Io(#[source] csv::Error),
}

/// The columns with their further names: the codes of 人社 data elements, as the bureaus' own tables have them, and Chinese ones.
pub const CARD_COLUMNS: [SheetColumn; COLUMNS.len()] = [
    column(0, &["AAZ500", "卡号", "社会保障卡卡号", "社会保障卡号"]),
    column(1, &["AAC002", "社会保障号码", "公民身份号码"]),
    column(2, &["AAC003", "姓名"]),
    column(3, &["AAZ501", "卡识别码"]),
    column(4, &["AAB301", "发卡地区行政区划", "发卡地区行政区划代码"]),
    column(5, &["AAE030", "发卡日期"]),
    column(6, &["AAE031", "卡有效期", "有效期"]),
    column(7, &["AAZ502", "社保功能状态", "卡状态"]),
    column(8, &["金融功能状态"]),
    column(9, &["电子社保卡", "是否签发电子社保卡"]),
    column(10, &["规范版本"]),
];

const fn column(at: usize, also: &'static [&'static str]) -> SheetColumn {
    SheetColumn {
        name: COLUMNS[at],
        also,
    }
}

/// The card of a row of [`CARD_COLUMNS`], or what is wrong with its form.
///
/// # Errors
/// Every fault of the row.
pub fn card_of(row: &SheetRow) -> Result<CardRecord, Vec<Violation>> {
    let text = |column: usize| row.values.get(column).cloned().unwrap_or_default();
    let mut faults = row.faults.clone();
    // What could not be read is one fault, not two.
    let mut fault = |field: &'static str, rule| {
        if row.faults.is_empty() {
            faults.push(Violation {
                field: field.into(),
                rule,
            });
        }
    };
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
    match state_named(&text(7)) {
        Some(state) => card.set_social_state(state),
        None => fault("social_state", &STATE_NAME),
    }
    match state_named(&text(8)) {
        Some(state) => card.set_financial_state(state),
        None => fault("financial_state", &STATE_NAME),
    }
    match text(9).as_str() {
        "true" | "TRUE" | "1" | "是" => card.electronic = true,
        "false" | "FALSE" | "0" | "否" => card.electronic = false,
        _ => fault("electronic", &ELECTRONIC),
    }
    if faults.is_empty() {
        Ok(card)
    } else {
        Err(faults)
    }
}

/// The state of a name, English or Chinese.
pub fn state_named(name: &str) -> Option<CardState> {
    let named =
        |(_, english, chinese): &&(CardState, &str, &str)| [*english, *chinese].contains(&name);
    STATES.iter().find(named).map(|(state, ..)| *state)
}

/// The row of a card, in the order of [`COLUMNS`].
pub fn row_of(card: &CardRecord) -> [&str; COLUMNS.len()] {
    let name = |state: CardState| {
        let mut states = STATES.iter();
        states
            .find(|(known, ..)| *known == state)
            .map_or("", |(_, english, _)| *english)
    };
    [
        &card.card_number,
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
    ]
}

/// Writes cards as CSV that is read again.
///
/// # Errors
/// The sink cannot be written.
pub fn write_sheet(
    sink: impl io::Write + Send,
    cards: impl IntoIterator<Item = CardRecord>,
) -> Result<(), banqiao_kit::SheetError> {
    let mut writer = SheetWriter::csv(sink, &COLUMNS)?;
    for card in cards {
        writer.write(&row_of(&card))?;
    }
    writer.finish().map(|_| ())
}

/// Writes the refused lines themselves, each with its place and its faults before it: a file that is corrected and imported again.
pub struct RefusedLines(SheetWriter<BufWriter<File>>);

impl RefusedLines {
    /// A new file, CSV or XLSX by its name, in place of one that is there; its owner alone can read it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(
        path: &Path,
        columns: &'static [SheetColumn],
    ) -> Result<Self, banqiao_kit::SheetError> {
        let mut names = vec![
            "refused_line",
            "refused_field",
            "refused_code",
            "refused_rule",
        ];
        names.extend(columns.iter().map(|column| column.name));
        SheetWriter::create(path, &names, true).map(Self)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(
        &mut self,
        row: &SheetRow,
        faults: &[Violation],
    ) -> Result<(), banqiao_kit::SheetError> {
        let all = |part: &dyn Fn(&Violation) -> String| {
            faults.iter().map(part).collect::<Vec<_>>().join("; ")
        };
        let mut fields = vec![
            row.line.to_string(),
            all(&|fault| fault.field.to_string()),
            all(&|fault| fault.rule.code.to_owned()),
            all(&|fault| fault.rule.to_string()),
        ];
        fields.extend_from_slice(&row.values);
        self.0.write(&fields)
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), banqiao_kit::SheetError> {
        self.0.finish().map(|_| ())
    }
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
        let line = Line::of(line).to_string();
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
    use banqiao_kit::read_csv;

    use super::*;

    const HEADER: &str = "card_number,social_security_number,name,card_identification_code,issuing_division,issued_on,expires_on,social_state,financial_state,electronic,specification_version\n";
    const LINE: &str = "T02000001,370202199001010007,测试子安,370200D156000005,370202,2020-01-02,2030-01-01,正常,TEMP_LOST,是,3.00\n";

    fn read(text: &[u8]) -> Result<Vec<SheetRow>, banqiao_kit::SheetError> {
        let mut rows = Vec::new();
        read_csv(text, &CARD_COLUMNS, |row| {
            rows.push(row);
            true
        })?;
        Ok(rows)
    }

    fn codes(row: &SheetRow) -> Vec<&'static str> {
        let faults = card_of(row).unwrap_err();
        faults.iter().map(|fault| fault.rule.code).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let rows = read(format!("\u{FEFF}{HEADER}{LINE}").as_bytes()).unwrap();
        assert_eq!(rows[0].line.number(), 2);
        let card = card_of(&rows[0]).unwrap();
        assert_eq!(card.social_state(), CardState::Normal);
        assert_eq!(card.financial_state(), CardState::TempLost);
        let mut sheet = Vec::new();
        write_sheet(&mut sheet, [card.clone()]).unwrap();
        assert_eq!(card_of(&read(&sheet).unwrap()[0]), Ok(card));
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
        let rows = read(format!("{swapped}{line}").as_bytes()).unwrap();
        let card = card_of(&rows[0]).unwrap();
        assert_eq!(card.card_number, "T02000001");
        for bad in [
            "",
            "card_number\n",
            &HEADER.replace("name", "card_number"),
            &HEADER.replace("name", "名字"),
        ] {
            assert!(
                matches!(
                    read(bad.as_bytes()),
                    Err(banqiao_kit::SheetError::Header { .. })
                ),
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
        let rows = read(&text).unwrap();
        assert_eq!(codes(&rows[0]), ["COLUMN_COUNT"]);
        assert_eq!(codes(&rows[1]), ["STATE_NAME", "ELECTRONIC"]);
        assert!(codes(&rows[2]).contains(&"UTF8"));
        assert!(card_of(&rows[3]).is_ok());
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
                    rule: &ELECTRONIC,
                }],
            )
            .unwrap();
        report.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "line,field,code,rule\n7,name,ELECTRONIC,\"electronic is true or false (card service, D)\"\n"
        );
    }
}
