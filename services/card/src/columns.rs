//! Sheets of insured persons and beneficiaries: enumerations by the names of their values without prefix.

use banqiao_kit::{Rule, RuleTable, Violation};

pub(crate) const VALUE_NAME: Rule = Rule::design(
    "VALUE_NAME",
    "a value of an enumeration is written by its protobuf name without prefix, such as PENSION",
    "card service",
);

/// The number of an enumeration's value by its name without prefix; a field that names none is a fault.
pub(crate) fn value(
    field: &'static str,
    prefix: &str,
    name: &str,
    by_name: impl Fn(&str) -> Option<i32>,
    faults: &mut Vec<Violation>,
) -> i32 {
    by_name(&format!("{prefix}{name}")).unwrap_or_else(|| {
        faults.push(Violation {
            field: field.into(),
            rule: &VALUE_NAME,
        });
        0
    })
}

/// A column of a line.
pub(crate) fn at(fields: &[String], column: usize) -> String {
    fields.get(column).cloned().unwrap_or_default()
}

pub(crate) fn rules(table: RuleTable) -> RuleTable {
    table.fields(
        [&VALUE_NAME],
        &["banqiao-card benefits import-insurance, import-beneficiaries"],
    )
}
