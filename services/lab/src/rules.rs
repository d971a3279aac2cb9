//! Every rule of the service in one book: a table from each module, in the order in which a reader meets them.

use banqiao_kit::{
    RuleTable, Rulebook,
    identifier::{CITIZEN_ID_RULES, CREDIT_CODE_RULES},
    shared_rules,
};

use crate::{catalogue, edge::DOMAIN, fhir, institution, quality, recognition, referral, report};

/// The rules by which this service refuses and answers: the constants that the code applies.
pub fn rulebook() -> Rulebook {
    let mut tables: Vec<_> = report::rules().into();
    tables.extend(quality::rules());
    tables.extend(recognition::rules());
    tables.extend(referral::rules());
    tables.push(identifiers());
    tables.extend(catalogue::rules());
    tables.push(fhir::rules());
    tables.push(shared_rules());
    Rulebook {
        program: "banqiao-lab",
        domain: DOMAIN,
        tables,
    }
}

fn identifiers() -> RuleTable {
    RuleTable::new("Identifiers")
        .fields(CITIZEN_ID_RULES, report::ONE_PATIENT)
        .fields(CREDIT_CODE_RULES, INSTITUTION)
        .field(&institution::INSTITUTION_UNKNOWN, INSTITUTION)
}

/// Methods and commands that name an institution.
const INSTITUTION: &[&str] = &[
    "PublishReport",
    "PublishReports",
    "PublishFhir",
    "ReadReport",
    "ReadFhir",
    "SubmitResults",
    "ListMarks",
    "AssessReports",
    "RecordDecision",
    "DeliverDecision",
    "ListDecisions",
    "ReadStatistics",
    "banqiao-lab import-results",
];
