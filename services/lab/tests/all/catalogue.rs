//! The catalogue that comes with the service, and catalogues of cities.

use std::path::Path;

use banqiao_kit::Certainty;
use banqiao_lab::{Catalogue, Conversion, Decimal, loinc_check_digit};
use proptest::prelude::*;

const BUILT_IN: &str = include_str!("../../data/catalogue.tsv");

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

#[test]
fn the_built_in_catalogue_holds_59_items_whose_loinc_codes_are_right() {
    let catalogue = Catalogue::built_in().unwrap();
    assert_eq!(
        (catalogue.version(), catalogue.items().len()),
        ("2026.1", 59)
    );
    let of_memory = catalogue
        .items()
        .iter()
        .filter(|item| item.loinc_certainty == Certainty::Memory);
    assert_eq!(of_memory.count(), 5);
    for item in catalogue.items() {
        let (body, check) = item.loinc.as_str().split_once('-').unwrap();
        assert_eq!(
            loinc_check_digit(body),
            check.bytes().next(),
            "{:?}",
            item.code
        );
        assert_eq!(
            catalogue.item(item.code.as_str()).unwrap().loinc,
            item.loinc
        );
        assert_eq!(catalogue.item(item.loinc.as_str()).unwrap().code, item.code);
    }
    let without_code = catalogue
        .items()
        .iter()
        .filter(|item| !item.code.is_wst886());
    assert_eq!(without_code.count(), 4);
}

#[test]
fn limits_and_intervals_are_those_of_the_standards() {
    let catalogue = Catalogue::built_in().unwrap();
    let alt = catalogue.item("1500104A").unwrap();
    let error = alt.allowable_error.unwrap();
    let below = error.below.unwrap();
    assert_eq!(
        (error.percent, below.limit, below.up_to),
        (decimal("15"), decimal("6"), decimal("40"))
    );
    let alp = catalogue.item("1500404A").unwrap();
    assert_eq!(
        (alp.intervals.len(), alp.intervals[1].ages),
        (3, Some((20, 49)))
    );
    // The low limit of TSH is printed with a wrong unit: the percentage alone holds.
    assert_eq!(
        catalogue
            .item("1200604A")
            .unwrap()
            .allowable_error
            .unwrap()
            .below,
        None
    );
    assert_eq!(catalogue.item("0501703A").unwrap().allowable_error, None);
    assert_eq!(
        catalogue
            .items()
            .iter()
            .filter(|item| item.allowable_error.is_some())
            .count(),
        49
    );
}

#[test]
fn a_faulty_catalogue_is_refused_whole_with_every_line_and_key() {
    let faulty = BUILT_IN
        .replacen("6690-2\tQ", "6690-3\tQ", 1)
        .replacen("789-8\tQ", "789-8\tX", 1)
        .replacen("g/dL 10", "g/dL -10", 1)
        .replacen("0300101A", "0100301A", 1)
        .replacen("11..14", "14..11", 1)
        .replacen("mg/dL UREA_BASIS", "mg/dL SOMETHING", 1)
        .replacen("\t6\t40\tQ\t14", "\t6\t\tQ\t14", 1)
        .replacen("\t60\t\n", "\t0\t\n", 1);
    let faults = Catalogue::parse(Path::new("city.tsv"), &faulty).unwrap_err();
    let keys: Vec<_> = faults
        .0
        .iter()
        .map(|fault| (fault.line, fault.key.as_str()))
        .collect();
    assert_eq!(
        keys,
        [
            (11, "loinc"),
            (12, "loinc_certainty"),
            (14, "conversions"),
            (23, "item_code"),
            (24, "intervals"),
            (31, "tea_absolute"),
            (37, "refused_units"),
            (42, "window_days"),
        ]
    );
    assert!(
        faults
            .to_string()
            .starts_with("city.tsv:11: loinc: a LOINC code has"),
        "{faults}"
    );
}

#[test]
fn a_catalogue_needs_version_header_and_lines() {
    let message = |text: &str| {
        Catalogue::parse(Path::new("c.tsv"), text)
            .unwrap_err()
            .to_string()
    };
    assert!(message("").contains("c.tsv: must state its version"));
    assert!(message("#version 1\na\tb\n").contains("c.tsv:2: the columns must be item_code, name"));
    let twice = BUILT_IN.replacen("#version 2026.1", "#version 1\n#version 2", 1);
    assert!(message(&twice).contains("version: stands twice"));
    let short = format!("{BUILT_IN}1\t2\n");
    assert!(message(&short).contains("has 2 fields instead of 21"));
    let missing = Catalogue::read(Path::new("/nowhere/c.tsv"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("/nowhere/c.tsv: cannot be read: "),
        "{missing}"
    );
}

#[test]
fn known_conversions_come_out() {
    let catalogue = Catalogue::built_in().unwrap();
    for (item, unit, value, converted) in [
        ("1700404A", "mg/dL", "1.0", "88.4"),
        ("1700104A", "mg/dL", "90", "4.996"),
        ("2000104A", "mg/dL", "200", "5.172"),
        ("0100401A", "g/dL", "13.5", "135.0"),
        ("0100501A", "%", "45.2", "0.4520"),
        ("1100301A", "mmol/mol", "53", "6.999"),
        ("2100404A", "ng/L", "14", "0.0140"),
    ] {
        let item = catalogue.item(item).unwrap();
        let conversion = item
            .conversions
            .iter()
            .find(|one| one.from == unit)
            .unwrap();
        let value = conversion.apply(decimal(value)).unwrap().to_string();
        assert_eq!(value, converted, "{:?} {unit}", item.code);
    }
}

#[test]
fn a_number_too_large_to_be_exact_is_not_converted() {
    let conversion = Conversion::parse("a 1/999999999999999").unwrap();
    assert_eq!(conversion.apply(decimal("0.00000000000001")), None);
}

proptest! {
    /// Converting back gives the sender's number again, when it is rounded to the sender's places.
    #[test]
    fn there_and_back_is_the_same_number(units in 0_i64..100_000_000, places in 0_u32..4, at in 0_usize..200) {
        let catalogue = Catalogue::built_in().unwrap();
        let conversions: Vec<_> = catalogue.items().iter().flat_map(|item| &item.conversions).collect();
        let conversion = conversions[at % conversions.len()];
        let digits = format!("{units:04}");
        let (whole, fraction) = digits.split_at(digits.len() - usize::try_from(places).unwrap());
        let whole = if whole.trim_start_matches('0').is_empty() { "0" } else { whole.trim_start_matches('0') };
        let value = decimal(&if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") });
        let there = conversion.apply(value).unwrap();
        let factor = conversion.factor();
        let (numerator, denominator) = match factor.strip_prefix("1/") {
            Some(divisor) => (decimal(divisor), Decimal::ONE),
            None => (Decimal::ONE, decimal(&factor)),
        };
        let back = Conversion::new("back", numerator, denominator, Decimal::ZERO).unwrap();
        let back = back.apply(there.minus(conversion.offset()).unwrap()).unwrap();
        // Within half of the sender's last place.
        let away = back.minus(value).unwrap().abs().times(decimal("2")).unwrap();
        let last_place = decimal(&format!("{:.*}", usize::try_from(places).unwrap(), 10_f64.powi(-i32::try_from(places).unwrap())));
        prop_assert!(away <= last_place, "{value} {} -> {there} -> {back}", conversion.from);
    }
}
