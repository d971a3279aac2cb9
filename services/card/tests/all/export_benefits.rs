//! Insured persons, beneficiaries and the stock as files, and back.

use std::path::Path;

use banqiao_card::{
    Exported, LineOutcome, STOCK_COLUMNS,
    eligibility::{BENEFICIARY_COLUMNS, BENEFICIARY_SHEET, beneficiaries, beneficiary_line},
    entitlement::{INSURANCE_COLUMNS, INSURANCE_SHEET, insurance_line, insured},
};
use banqiao_kit::{SheetColumn, SheetWriter, identifier::DivisionCode, read_sheet};
use banqiao_proto::card::v1::{Beneficiary, InsurancePeriod, InsuranceScheme};
use tempfile::TempDir;

use crate::{
    eligibility::{eligibility, import, life, paid, report},
    entitlements::{TODAY, WEIHAI, entitlements, medical, take},
    mapping::administrator,
    scene::{Scene, qingdao},
};

/// Rows of a file that a parser takes without a fault.
fn rows<T>(path: &Path, columns: &[SheetColumn], parse: impl Fn(u64, &[String]) -> T) -> Vec<T> {
    let mut rows = Vec::new();
    read_sheet(path, columns, |row| {
        assert_eq!(row.faults, []);
        rows.push(parse(row.line.number(), &row.values));
        true
    })
    .unwrap();
    rows
}

fn all_written(written: usize) -> Exported {
    Exported {
        written: written.try_into().unwrap(),
        unreadable: 0,
    }
}

async fn insurance(scene: &Scene, path: &Path, division: Option<&str>) -> Vec<InsurancePeriod> {
    let division = division.map(|code| DivisionCode::parse(code).unwrap());
    let mut writer = SheetWriter::create(path, INSURANCE_COLUMNS, true).unwrap();
    let exported = entitlements(scene)
        .export(division.as_ref(), &mut writer, |_, _| {})
        .await
        .unwrap();
    writer.finish().unwrap();
    let periods = rows(path, &INSURANCE_SHEET, |line, fields| {
        insurance_line(line, fields).unwrap().period.unwrap()
    });
    assert_eq!(exported, all_written(periods.len()));
    periods
}

async fn payees(scene: &Scene, path: &Path) -> Vec<Beneficiary> {
    let mut writer = SheetWriter::create(path, BENEFICIARY_COLUMNS, true).unwrap();
    let mut told = 0;
    let exported = eligibility(scene)
        .export(&mut writer, |written| told = written)
        .await
        .unwrap();
    writer.finish().unwrap();
    let people = rows(path, &BENEFICIARY_SHEET, |line, fields| {
        let request = beneficiary_line(line, fields).unwrap();
        request.beneficiary.unwrap()
    });
    assert_eq!(exported, all_written(people.len()));
    assert_eq!(told, exported.written);
    people
}

pub(crate) async fn insured_persons_are_exported_and_imported_as_they_stand(scene: Scene) {
    // People with one to several periods each, over more than one page; one with a suspension, insured in another district.
    let mut periods: Vec<_> = insured(qingdao(), 700, 1, TODAY).unwrap().collect();
    let medical = |period: &InsurancePeriod| period.scheme() == InsuranceScheme::Medical;
    let at = periods.iter().position(medical).unwrap();
    periods[at] = InsurancePeriod {
        insured_division: "370211".to_owned(),
        settlement_suspended_from: "2026-11-01".to_owned(),
        settlement_suspended_until: "2027-03-31".to_owned(),
        ..periods[at].clone()
    };
    let people: std::collections::BTreeSet<_> = periods
        .iter()
        .map(|period| &period.social_security_number)
        .collect();
    assert!(people.len() > 500 && people.len() < periods.len());
    let outcomes = take(&scene, &periods).await;
    let mut other = outcomes.iter();
    assert_eq!(
        other.find(|outcome| **outcome != LineOutcome::Created),
        None
    );
    let folder = TempDir::new().unwrap();
    for name in ["insured.csv", "insured.xlsx"] {
        let path = folder.path().join(name);
        let exported = insurance(&scene, &path, None).await;
        let key = |period: &InsurancePeriod| {
            let number = period.social_security_number.clone();
            (number, period.scheme, period.begins_on.clone())
        };
        periods.sort_by_key(key);
        assert_eq!(exported, periods);
        let again = take(&scene, &exported).await;
        assert!(
            again
                .iter()
                .all(|outcome| *outcome == LineOutcome::Unchanged)
        );
        let district = insurance(&scene, &path, Some("370211")).await;
        let expected = periods.iter();
        let expected = expected.filter(|period| period.insured_division == "370211");
        assert_eq!(district, expected.cloned().collect::<Vec<_>>());
        assert!(!district.is_empty() && district.len() < periods.len());
        let city = insurance(&scene, &path, Some("370200")).await;
        assert_eq!(city.len(), periods.len());
    }
}

pub(crate) async fn beneficiaries_are_exported_and_imported_as_they_stand(scene: Scene) {
    let mut people: Vec<_> = beneficiaries(qingdao(), 4_000, 1, TODAY).unwrap().collect();
    assert!(people.len() > 500, "{}", people.len());
    let outcomes = import(&scene, &people).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == LineOutcome::Created)
    );
    // Somebody whom this city does not pay is not in the file; whom a check moved is there with the new day.
    report(&scene, WEIHAI, &life(1, TODAY)).await.unwrap();
    import(&scene, &[paid(0, "2026-12-31")]).await;
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    let first = paid(0, "2027-11-23");
    people.retain(|one| one.social_security_number != first.social_security_number);
    people.push(first);
    people.sort_by_key(|one| (one.social_security_number.clone(), one.scheme));
    let folder = TempDir::new().unwrap();
    for name in ["paid.csv", "paid.xlsx"] {
        let exported = payees(&scene, &folder.path().join(name)).await;
        let moved = life(1, TODAY).social_security_number;
        let but = |list: &[Beneficiary]| -> Vec<Beneficiary> {
            let list = list
                .iter()
                .filter(|one| one.social_security_number != moved);
            list.cloned().collect()
        };
        assert_eq!(but(&exported), but(&people));
        let again = import(&scene, &exported).await;
        assert!(
            again
                .iter()
                .all(|outcome| *outcome == LineOutcome::Unchanged)
        );
    }
}

pub(crate) async fn the_stock_is_exported_and_stocked_as_it_stands(scene: Scene) {
    scene.stock(1_100).await;
    let folder = TempDir::new().unwrap();
    for name in ["new.csv", "new.xlsx"] {
        let path = folder.path().join(name);
        let columns = STOCK_COLUMNS.map(|column| column.name);
        let mut writer = SheetWriter::create(&path, &columns, false).unwrap();
        let exported = scene.cards.export_stock(&mut writer, |_| {}).await.unwrap();
        writer.finish().unwrap();
        assert_eq!(exported, all_written(1_100));
        let numbers = rows(&path, &STOCK_COLUMNS, |_, fields| fields.to_vec());
        assert!(numbers.is_sorted());
        let expected = ["N00000000", &format!("{:032X}", 1), "3.00"];
        assert_eq!(numbers[0], expected);
        assert_eq!(scene.cards.stock_file(&path).await.unwrap(), 0);
    }
}

pub(crate) async fn unusable_rows_of_the_bureau_are_counted_and_left_out(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    take(&scene, &[medical(0), medical(1), medical(2)]).await;
    import(&scene, &[0, 1, 2].map(|index| paid(index, "2026-12-31"))).await;
    sqlx::raw_sql(
        "UPDATE hrss.ac02 SET aac008 = '7' WHERE aac001 = (SELECT min(aac001) FROM hrss.ac02); \
         UPDATE hrss.payee SET aae116 = '7' WHERE aac001 = (SELECT max(aac001) FROM hrss.payee)",
    )
    .execute(&mut bureau)
    .await
    .unwrap();
    let folder = TempDir::new().unwrap();
    let expected = Exported {
        written: 2,
        unreadable: 1,
    };
    let path = folder.path().join("insured.csv");
    let mut writer = SheetWriter::create(&path, INSURANCE_COLUMNS, false).unwrap();
    let entitlements = entitlements(&scene);
    let exported = entitlements.export(None, &mut writer, |_, _| {}).await;
    assert_eq!(exported.unwrap(), expected);
    let path = folder.path().join("paid.csv");
    let mut writer = SheetWriter::create(&path, BENEFICIARY_COLUMNS, false).unwrap();
    let exported = eligibility(&scene).export(&mut writer, |_| {}).await;
    assert_eq!(exported.unwrap(), expected);
}
