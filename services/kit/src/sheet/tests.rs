//! Files that are written and read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rust_xlsxwriter::{ExcelDateTime, Format as CellFormat, Workbook};
use tempfile::TempDir;

use super::*;

const COLUMNS: [SheetColumn; 3] = [
    SheetColumn {
        name: "number",
        also: &["AAC002", "社会保障号码"],
    },
    SheetColumn {
        name: "name",
        also: &["AAC003", "姓名"],
    },
    SheetColumn {
        name: "day",
        also: &[],
    },
];
const NAMES: [&str; 3] = ["number", "name", "day"];

fn rows(path: &Path) -> Result<Vec<SheetRow>, SheetError> {
    let mut rows = Vec::new();
    read_sheet(path, &COLUMNS, |row| {
        rows.push(row);
        true
    })?;
    Ok(rows)
}

fn csv_rows(bytes: &[u8]) -> Result<Vec<SheetRow>, SheetError> {
    let mut rows = Vec::new();
    read_csv(bytes, &COLUMNS, |row| {
        rows.push(row);
        true
    })?;
    Ok(rows)
}

fn codes(row: &SheetRow) -> Vec<(&str, &str)> {
    let code = |fault: &'static Rule| fault.code;
    row.faults
        .iter()
        .map(|fault| (fault.field.as_ref(), code(fault.rule)))
        .collect()
}

#[test]
fn what_is_written_is_read_in_both_formats() {
    let folder = TempDir::new().unwrap();
    let written = [
        ["370202199001010007", "测试, \"子安\"", "2020-01-02"],
        ["=1+1", "@SUM(A1)", "-5"],
    ];
    for name in ["sheet.csv", "sheet.XLSX"] {
        let path = folder.path().join(name);
        let mut writer = SheetWriter::create(&path, &NAMES, false).unwrap();
        for row in &written {
            writer.write(row).unwrap();
        }
        writer.finish().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = rows(&path).unwrap();
        assert_eq!(read.len(), 2);
        for (number, (row, written)) in (2..).zip(read.iter().zip(&written)) {
            assert_eq!(row.values, written);
            assert_eq!(row.line.number(), number);
            assert!(row.faults.is_empty());
        }
        assert!(matches!(
            SheetWriter::create(&path, &NAMES, false),
            Err(SheetError::Io(_))
        ));
        SheetWriter::create(&path, &NAMES, true).unwrap();
    }
    assert!(matches!(
        SheetWriter::create(&folder.path().join("sheet.xls"), &NAMES, false),
        Err(SheetError::Extension)
    ));
}

#[test]
fn no_csv_field_that_is_written_begins_as_a_formula() {
    let mut writer = SheetWriter::csv(Vec::new(), &NAMES).unwrap();
    writer.write(&["=1", "+1", "\t@"]).unwrap();
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    assert_eq!(text, "number,name,day\n'=1,'+1,'\t@\n");
}

#[test]
fn a_full_sheet_is_followed_by_another() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sheet.xlsx");
    let mut writer = SheetWriter::workbook(Vec::new(), &NAMES, 3).unwrap();
    for number in ["1", "2", "3"] {
        writer.write(&[number, "", ""]).unwrap();
    }
    fs::write(&path, writer.finish().unwrap()).unwrap();
    let read = rows(&path).unwrap();
    let lines: Vec<_> = read.iter().map(|row| row.line.to_string()).collect();
    assert_eq!(lines, ["2", "3", "sheet 2: 2"]);
    assert_eq!(read[2].values[0], "3");
}

#[test]
fn a_header_names_columns_in_any_order_and_by_any_of_their_names() {
    let read = csv_rows("\u{FEFF}姓名,day,aac002\r\n测试子安,,7\r\n".as_bytes()).unwrap();
    assert_eq!(read[0].values, ["7", "测试子安", ""]);
    let (gb, ..) = encoding_rs::GB18030.encode("姓名,day,社会保障号码\n测试子安,,7\n");
    assert_eq!(csv_rows(&gb).unwrap()[0].values, ["7", "测试子安", ""]);
    let report = csv_rows(b"refused_line,number,name,day\n9,7,x,\n").unwrap();
    assert_eq!(report[0].values, ["7", "x", ""]);
}

#[test]
fn a_header_with_unknown_columns_is_told_what_is_known() {
    let error = csv_rows("number,名字,姓名,AAC003\n".as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the header must name these columns once each: number (AAC002, 社会保障号码), name (AAC003, 姓名), day; \
         missing: day; unknown or twice: 名字, AAC003"
    );
}

#[test]
fn a_first_line_that_is_no_header_is_not_shown() {
    let error = csv_rows("370202199001010007,测试子安,1990-01-01\n".as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the header must name these columns once each: number (AAC002, 社会保障号码), name (AAC003, 姓名), day; \
         missing: number, name, day"
    );
    let long = format!("number,name,day,{}\n", "x".repeat(99));
    let error = csv_rows(long.as_bytes()).unwrap_err().to_string();
    assert!(error.ends_with(&format!(": {}", "x".repeat(40))), "{error}");
}

#[test]
fn a_line_of_another_form_is_named() {
    let mut bytes = b"number,name,day\n1,2\n1,".to_vec();
    bytes.extend_from_slice(b"\xB2,3\n");
    let read = csv_rows(&bytes).unwrap();
    assert_eq!(codes(&read[0]), [("", "COLUMN_COUNT")]);
    assert_eq!(codes(&read[1]), [("name", "UTF8")]);
}

#[test]
fn cells_of_a_spreadsheet_are_read_as_people_mean_them() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sheet.xlsx");
    let mut workbook = Workbook::new();
    workbook.add_worksheet();
    let sheet = workbook.add_worksheet();
    for (column, name) in (0..).zip(["社会保障号码", "姓名", "day"]) {
        sheet.write(0, column, name).unwrap();
    }
    let day = ExcelDateTime::from_ymd(2020, 1, 2).unwrap();
    let format = CellFormat::new().set_num_format("yyyy/m/d");
    sheet.write(1, 0, 1_234_567).unwrap();
    sheet
        .write_datetime_with_format(1, 2, &day, &format)
        .unwrap();
    // A number of a person as a number has lost its last digits.
    sheet.write(3, 0, 370_202_199_001_010_007_f64).unwrap();
    sheet.write(4, 1, "too far").unwrap();
    sheet.write(4, 3, "right").unwrap();
    workbook.save(&path).unwrap();
    let read = rows(&path).unwrap();
    assert_eq!(read[0].values, ["1234567", "", "2020-01-02"]);
    assert_eq!(read[0].line, Line::new(2, 2));
    assert_eq!(codes(&read[1]), [("number", "CELL_NUMBER")]);
    assert_eq!(codes(&read[2]), [("", "COLUMN_COUNT")]);
}

#[test]
fn a_damaged_workbook_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sheet.xlsx");
    let mut writer = SheetWriter::create(&path, &NAMES, false).unwrap();
    writer.write(&["1", "2", "3"]).unwrap();
    writer.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"number,name,day\n", b""] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(rows(&path), Err(SheetError::ReadWorkbook(_))));
    }
}
