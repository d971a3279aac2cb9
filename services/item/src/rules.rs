//! Every rule of the service in one book: a table from each module, in the order in which a reader meets them.

use banqiao_kit::{
    RuleTable, Rulebook,
    identifier::{CITIZEN_ID_RULES, CREDIT_CODE_RULES, DIVISION_RULES},
    shared_rules,
};

use crate::{case, cases, catalogue, figures, material, peers, rating, service, watch};

/// The rules by which this service refuses and answers: the constants that the code applies.
pub fn rulebook() -> Rulebook {
    let mut tables: Vec<_> = case::rules().collect();
    tables.extend(material::rules());
    tables.extend(rating::rules());
    tables.extend([
        service::rating_rules(),
        figures::rules(),
        cases::rules(),
        identifiers(),
        peers::rules(),
        catalogue::rules(),
        service::catalogue_rules(),
        service::case_rules(),
        watch::rules(),
        shared_rules(),
    ]);
    Rulebook {
        program: "banqiao-item",
        domain: service::DOMAIN,
        tables,
    }
}

fn identifiers() -> RuleTable {
    RuleTable::new("Identifiers")
        .fields(CITIZEN_ID_RULES, &["StartCase", "SearchCases", "RateCase"])
        .fields(CREDIT_CODE_RULES, &["StartCase", "SearchCases", "RateCase"])
        .fields(DIVISION_RULES, &["StartCase"])
}
