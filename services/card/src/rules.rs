//! Every rule of the service in one book: a table from each module, in the order in which a reader meets them.

use banqiao_kit::{
    RuleTable, Rulebook,
    identifier::{CITIZEN_ID_RULES, DIVISION_RULES},
    shared_rules,
};

use crate::{
    application, bulk, card, columns, eligibility, entitlement, import, life, loss, pension,
    request, service, sheet, state, stock, store, verification, watch,
};

/// The rules by which this service refuses and answers: the constants that the code applies.
pub fn rulebook() -> Rulebook {
    let mut book = Rulebook {
        program: "banqiao-card",
        domain: service::DOMAIN,
        tables: vec![
            state::rules(),
            loss::rules(),
            life::rules(),
            verification::rules(),
            application::rules(),
            request::rules(),
            identifiers(),
            card::rules(),
            import::rules(),
            sheet::rules(),
            stock::rules(),
            store::rules(),
            service::rules(),
            watch::rules(),
            entitlement::rules(),
            eligibility::rules(),
            columns::rules(bulk::rules(RuleTable::new(
                "Insured persons and beneficiaries in bulk",
            ))),
            shared_rules(),
        ],
    };
    let last = book.tables.len() - 1;
    book.tables.splice(last..last, pension::rules());
    book
}

fn identifiers() -> RuleTable {
    RuleTable::new("Identifiers")
        .fields(CITIZEN_ID_RULES, &["every method"])
        .fields(
            DIVISION_RULES,
            &["ReportLoss", "applications", "ImportCards"],
        )
}
