//! Every rule of this service, with its source.

use banqiao_kit::{
    Rule,
    identifier::{CITIZEN_ID_RULES, CREDIT_CODE_RULES},
};

use crate::{catalogue, fhir, institution, report};

/// Every rule that a refusal of this service may name, by code.
pub fn rules() -> Vec<&'static Rule> {
    let mut rules: Vec<_> = report::rules()
        .chain(catalogue::unit_rules())
        .chain([
            &catalogue::ITEM_CODE,
            &catalogue::LOINC,
            &institution::INSTITUTION_UNKNOWN,
        ])
        .chain(fhir::RULES)
        .chain(CITIZEN_ID_RULES)
        .chain(CREDIT_CODE_RULES)
        .collect();
    rules.sort_by_key(|rule| rule.code);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_one_rule() {
        let rules = rules();
        for pair in rules.windows(2) {
            assert_ne!(pair[0].code, pair[1].code);
        }
        assert!(rules.len() > 40);
    }
}
