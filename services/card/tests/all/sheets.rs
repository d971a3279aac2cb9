//! Files of cards on the command line.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};
use tempfile::TempDir;

use crate::{
    command_line::{card, text},
    scene::config_text,
};

const CONFIG: [&str; 2] = ["--config", "card.toml"];

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("card.toml"), config_text("sqlite://card.db")).unwrap();
    let generated = card(&["generate", "--city", "370200", "--count", "700"], at);
    fs::write(at.join("cards.csv"), generated.stdout).unwrap();
    folder
}

fn run(at: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let ran = card(&[arguments, &CONFIG].concat(), at);
    (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
}

#[test]
fn cards_go_out_and_come_back_as_csv_and_as_xlsx() {
    let folder = folder();
    let at = folder.path();
    assert_eq!(run(at, &["import", "cards.csv"]).0, Some(0));
    for name in ["out.csv", "out.xlsx"] {
        let (code, said, error) = run(at, &["export", "-o", name]);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(said, format!("700 cards in {name}\n"));
        let mode = fs::metadata(at.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (code, said, error) = run(at, &["import", name]);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(said, "0 new, 0 changed, 700 unchanged, 0 refused\n");
        let (code, _, error) = run(at, &["export", "-o", name, "--number", "none1"]);
        assert_eq!(code, Some(1));
        assert!(error.contains("--force"), "{error}");
        let (code, said, _) = run(at, &["export", "-o", name, "--number", "none1", "--force"]);
        assert_eq!((code, said), (Some(0), format!("0 cards in {name}\n")));
    }
    for (option, value) in [
        ("--state", "GONE"),
        ("-o", "cards.xls"),
        ("--division", "37"),
    ] {
        let (code, _, error) = run(at, &["export", "-o", "more.csv", option, value]);
        assert_eq!(code, Some(2), "{error}");
    }
}

#[test]
fn refused_lines_are_corrected_in_their_file() {
    let folder = folder();
    let at = folder.path();
    let sound = fs::read_to_string(at.join("cards.csv")).unwrap();
    fs::write(
        at.join("cards.csv"),
        sound.replacen("测试", "=1+\u{7}测试", 2),
    )
    .unwrap();
    let (code, said, error) = run(at, &["import", "cards.csv", "--refused", "again.csv"]);
    assert_eq!(code, Some(3), "{error}");
    assert_eq!(
        said,
        "698 new, 0 changed, 0 unchanged, 2 refused\nthe refused lines are listed in cards.refused.csv\n\
         correct the refused lines in again.csv and import that file\n"
    );
    let refused = fs::read_to_string(at.join("again.csv")).unwrap();
    assert!(
        refused.starts_with("refused_line,refused_field,refused_code,refused_rule,card_number")
    );
    assert!(refused.contains("\n2,name,HOLDER_NAME,"), "{refused}");
    // A spreadsheet that opens it executes nothing.
    assert!(refused.contains(",'=1+\u{7}测试"), "{refused}");
    let mode = fs::metadata(at.join("again.csv"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::write(at.join("again.csv"), refused.replace("'=1+\u{7}", "")).unwrap();
    let (code, _, error) = run(at, &["import", "again.csv", "--refused", "again.csv"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("written over"), "{error}");
    let (code, said, _) = run(at, &["import", "again.csv", "--refused", "last.xlsx"]);
    assert_eq!(code, Some(0));
    assert_eq!(said, "2 new, 0 changed, 0 unchanged, 0 refused\n");
    assert!(!at.join("last.xlsx").exists());
}

/// A workbook as a bureau makes it: Chinese and 人社 names, dates as dates.
fn workbook(at: &Path, first: &str) {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    let header = [
        first,
        "AAC002",
        "姓名",
        "AAZ501",
        "发卡地区行政区划",
        "发卡日期",
        "卡有效期",
        "AAZ502",
        "financial_state",
        "electronic",
        "规范版本",
    ];
    let row = [
        "T02990001",
        "370202199001010007",
        "测试子安",
        "370200D156000005",
        "370202",
        "",
        "",
        "正常",
        "正常",
        "否",
        "3.00",
    ];
    for (column, (name, value)) in (0..).zip(header.into_iter().zip(row)) {
        sheet.write(0, column, name).unwrap();
        sheet.write(1, column, value).unwrap();
    }
    let format = Format::new().set_num_format("yyyy-mm-dd");
    for (column, year) in [(5, 2020), (6, 2029)] {
        let day = ExcelDateTime::from_ymd(year, 1, 2).unwrap();
        sheet
            .write_datetime_with_format(1, column, &day, &format)
            .unwrap();
    }
    workbook.save(at.join("bureau.xlsx")).unwrap();
}

#[test]
fn a_workbook_of_a_bureau_is_taken_and_a_damaged_one_is_not() {
    let folder = folder();
    let at = folder.path();
    workbook(at, "AAZ500");
    let (code, said, error) = run(at, &["import", "bureau.xlsx"]);
    assert_eq!(code, Some(0), "{said}{error}");
    assert_eq!(said, "1 new, 0 changed, 0 unchanged, 0 refused\n");
    assert_eq!(run(at, &["export", "-o", "out.csv"]).0, Some(0));
    let exported = fs::read_to_string(at.join("out.csv")).unwrap();
    assert!(
        exported.contains(",2020-01-02,2029-01-02,NORMAL,NORMAL,false,3.00\n"),
        "{exported}"
    );

    workbook(at, "卡的号码");
    let (code, _, error) = run(at, &["import", "bureau.xlsx"]);
    assert_eq!(code, Some(1));
    for part in [
        "missing: card_number",
        "twice: 卡的号码",
        "name (AAC003, 姓名)",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let whole = fs::read(at.join("bureau.xlsx")).unwrap();
    fs::write(at.join("bureau.xlsx"), &whole[..whole.len() / 2]).unwrap();
    let (code, _, error) = run(at, &["import", "bureau.xlsx"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("cannot read the file as XLSX"), "{error}");
}

/// A workbook with one sheet.
fn one_sheet(path: &Path, rows: &[&[&str]]) {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    for (row, cells) in (0..).zip(rows) {
        for (column, cell) in (0..).zip(*cells) {
            sheet.write_string(row, column, *cell).unwrap();
        }
    }
    workbook.save(path).unwrap();
}

#[test]
fn benefits_and_stock_come_as_xlsx_and_give_refused_lines_back() {
    let folder = folder();
    let at = folder.path();
    let person = "370202199001010007";
    one_sheet(
        &at.join("insured.xlsx"),
        &[
            &[
                "社会保障号码",
                "险种",
                "参保地行政区划",
                "开始日期",
                "终止日期",
                "参保状态",
                "待遇状态",
                "暂停联网结算起",
                "暂停联网结算止",
                "数据日期",
            ],
            &[
                person,
                "MEDICAL",
                "370202",
                "2020-01-01",
                "",
                "NORMAL",
                "NONE",
                "",
                "",
                "2026-01-01",
            ],
            &[
                person,
                "HEALTH",
                "370202",
                "2020-01-01",
                "",
                "NORMAL",
                "NONE",
                "",
                "",
                "2026-01-01",
            ],
        ],
    );
    one_sheet(
        &at.join("paid.xlsx"),
        &[
            &[
                "AAC002",
                "scheme",
                "payment_state",
                "not_paid_from",
                "due_on",
            ],
            &[person, "PENSION", "PAYING", "", "2026-12-31"],
            &[person, "PENSION", "PAUSED", "", "2026-12-31"],
        ],
    );
    for (command, file) in [
        ("import-insurance", "insured.xlsx"),
        ("import-beneficiaries", "paid.xlsx"),
    ] {
        let taken = run(at, &["benefits", command, file, "--refused", "again.xlsx"]);
        assert_eq!(taken.0, Some(3), "{taken:?}");
        assert!(
            taken
                .1
                .starts_with("1 new, 0 changed, 0 unchanged, 1 refused"),
            "{taken:?}"
        );
        let again = run(at, &["benefits", command, "again.xlsx"]);
        assert_eq!(again.0, Some(3), "{again:?}");
        assert!(
            again
                .1
                .starts_with("0 new, 0 changed, 0 unchanged, 1 refused"),
            "{again:?}"
        );
    }
    let (one, two) = ("A".repeat(32), "B".repeat(32));
    let head: &[&str] = &["卡号", "卡识别码", "规范版本"];
    one_sheet(
        &at.join("new.xlsx"),
        &[head, &["N1", &one, "3.00"], &["N 2", &two, "3.00"]],
    );
    let refused = run(at, &["stock", "new.xlsx", "--refused", "again.csv"]);
    assert_eq!(refused.0, Some(1), "{refused:?}");
    assert!(refused.2.contains("line 3: card_number"), "{refused:?}");
    let again = fs::read_to_string(at.join("again.csv")).unwrap();
    assert_eq!(again.lines().count(), 2, "{again}");
    one_sheet(
        &at.join("new.xlsx"),
        &[head, &["N1", &one, "3.00"], &["N2", &two, "3.00"]],
    );
    let taken = run(at, &["stock", "new.xlsx"]);
    assert_eq!(taken.1, "2 new cards in stock\n", "{taken:?}");
}
