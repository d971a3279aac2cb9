//! Rules of a transfer, with their sources.

use banqiao_kit::{Refusal, Rule, RuleTable, TransitionRow};
use tonic::Code;

use super::state::TRANSITIONS;

const NOTICE: &str = "国办发〔2009〕66号";
const TABLE: &str = "国办发〔2009〕66号 (信息表)";
const PROPOSAL: &str = "pension transfer, project proposal";

pub(super) const REQUEST_ID: Rule = Rule::design(
    "TRANSFER_REQUEST_ID",
    "a request id is a UUID in its hyphenated form and not nil",
    "RFC 9562",
);
pub(super) const TRANSFER_ID: Rule = Rule::design(
    "TRANSFER_ID",
    "a transfer is named by the UUID of its application",
    PROPOSAL,
);
pub(super) const REQUEST_ID_REUSED: Rule = Rule::design(
    "TRANSFER_REQUEST_ID_REUSED",
    "this request id was used for another request: choose a new one",
    PROPOSAL,
);
pub(super) const FROM_CITY: Rule = Rule::design(
    "TRANSFER_CITY",
    "the other city is a city of the network or a guest, and not the own one",
    "鲁政发〔2020〕2号",
);
pub(super) const SCHEMES: Rule = Rule::quoted(
    "TRANSFER_SCHEMES",
    "a relation moves within 职工 or between 职工 and 城乡居民: name both schemes, at least one of them 职工",
    "国办发〔2009〕66号; 城乡养老保险制度衔接",
);
pub(super) const CERTIFICATE: Rule = Rule::quoted(
    "PARTICIPATION_CERTIFICATE",
    "an application comes with the 参保缴费凭证: its number, first month, months paid and account",
    NOTICE,
);
pub(super) const REFERENCE: Rule = Rule::design(
    "TRANSFER_REFERENCE",
    "a number of a document has 1 to 64 characters and no control characters",
    PROPOSAL,
);
pub(super) const MONTH: Rule = Rule::design(
    "TRANSFER_MONTH",
    "a month is written YYYY-MM and does not lie in the future",
    PROPOSAL,
);
pub(super) const DAY: Rule = Rule::design(
    "TRANSFER_DAY",
    "a day is written YYYY-MM-DD and does not lie in the future",
    PROPOSAL,
);
pub(super) const PERIODS: Rule = Rule::design(
    "CONTRIBUTION_PERIODS",
    "periods follow each other without overlap, each with 1 to as many months as it spans; at most 600",
    TABLE,
);
pub(super) const AMOUNT: Rule = Rule::design(
    "TRANSFER_AMOUNT",
    "an amount is a whole number of fen from 0 to 10^15",
    PROPOSAL,
);
pub(super) const FUNDS_AMOUNT: Rule = Rule::design(
    "CREDITED_AMOUNT",
    "a confirmation is of more than 0 fen",
    PROPOSAL,
);
pub(super) const REASON: Rule = Rule::quoted(
    "WRITTEN_REASON",
    "a refusal, a dispute or a withdrawal is explained in writing: 1 to 500 characters",
    NOTICE,
);
pub(super) const DECISION: Rule = Rule::design(
    "TRANSFER_DECISION",
    "a request carries one decision or one document",
    PROPOSAL,
);
pub(super) const CURSOR: Rule = Rule::design(
    "TRANSFER_CURSOR",
    "a cursor is empty, 0, or one that this service gave",
    PROPOSAL,
);
pub(super) const LIMIT: Rule = Rule::quoted(
    "TRANSFER_STEP_LIMIT",
    "each step has 15 working days, also between 城乡居民 and 职工; step 4 begins when table and funds have both arrived",
    NOTICE,
);
pub(super) const AGE: Rule = Rule::memory(
    "TEMPORARY_ACCOUNT",
    "men of 50 and women of 40 who participate away from home for the first time get a temporary account (`age_male`, `age_female`); the relation stays",
    "国办发〔2009〕66号 (临时基本养老保险缴费账户)",
);
pub(super) const CALENDAR: Rule = Rule::design(
    "TRANSFER_CALENDAR",
    "a limit that runs into a year whose working days are not loaded is flagged CALENDAR_NOT_LOADED and never guessed",
    "国务院办公厅 yearly notices",
);
pub(super) const YELLOW: Rule = Rule::design(
    "TRANSFER_WARNING",
    "a limit is yellow from some working days before its last day (`yellow_workdays`), and red after it",
    PROPOSAL,
);
pub(super) const PROGRESS: Rule = Rule::quoted(
    "TRANSFER_PROGRESS",
    "whoever knows the number of a transfer and its person can ask where it stands; otherwise the answer is empty",
    "社会保险经办条例 art. 12 to 16",
);
pub(super) const OWN_CITY: Refusal = Refusal::forbidden(Rule::design(
    "OWN_CITY_ONLY",
    "a side of a transfer is decided about by systems of its own city; documents come from systems of the other one",
    "鲁政发〔2020〕2号",
)
.remedy("ask the bureau of that city"));
pub(super) const CITY: Refusal = Refusal::conflict(
    Rule::design(
        "CITY_NOT_CONNECTED",
        "relations move to and from the cities whose trust domains the settings name (`[cities]`)",
        PROPOSAL,
    )
    .remedy("the operators of both cities name each other in their settings"),
);
pub(super) const FUNDS_RULE: Refusal = Refusal::conflict(
    Rule::design(
        "FUNDS_RULE_DIFFERS",
        "both cities' settings say the same about whether funds move (`funds_not_required`)",
        PROPOSAL,
    )
    .remedy("the two bureaus agree on `funds_not_required`; then issue the letter again"),
);
pub(super) const OPEN: Refusal = Refusal::conflict(
    Rule::design(
        "TRANSFER_OPEN",
        "a person has one open transfer at each side",
        PROPOSAL,
    )
    .remedy("wait for its end, or withdraw it"),
);
pub(super) const STATE: Refusal = Refusal::conflict(
    Rule::design(
        "TRANSFER_NOT_IN_STATE",
        "a side changes only as its table of transitions says",
        PROPOSAL,
    )
    .remedy("ask for the progress, and for what its state allows"),
);
pub(super) const UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "TRANSFER_UNKNOWN",
        "no transfer has this number and this person",
        PROPOSAL,
    )
    .remedy("compare the number with the answer to the application"),
);
pub(super) const OUTBOX: Refusal = Refusal::exceeds(
    Rule::design(
        "OUTBOX_FULL",
        "10000 documents wait for a city at most",
        PROPOSAL,
    )
    .remedy("try again when the other city's gateway is within reach"),
);
pub(super) const WATCHES: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_PROGRESS_WATCHES",
        "a service carries a bounded number of watches (`watch_limit`)",
        PROPOSAL,
    )
    .remedy("open the watch again after the delay in RetryInfo"),
);
pub(super) const FUNDS: Refusal = Refusal::conflict(Rule::memory(
    "FUNDS_NOT_REQUIRED",
    "inside a pooled scheme only the relation moves (`funds_not_required`): no funds are confirmed, and step 4 begins with the table",
    "省级统筹 (not verified for Shandong)",
)
.remedy("complete the transfer without funds"));

/// A table that contradicts itself.
const fn contradiction(rule: Rule) -> Refusal {
    Refusal {
        rule: rule.remedy("correct the table: the message names the difference"),
        code: Code::InvalidArgument,
    }
}

pub(super) const MONTHS_TOTAL: Refusal = contradiction(Rule::design(
    "MONTHS_TOTAL",
    "the months of the periods add up to the total",
    TABLE,
));
pub(super) const WAGES_TOTAL: Refusal = contradiction(Rule::design(
    "WAGES_TOTAL",
    "the wages of the periods add up to the total",
    TABLE,
));
pub(super) const POOLED: Refusal = contradiction(Rule::memory(
    "POOLED_PART",
    "the pooled part is 12 % of the wages after 1998, rounded to the nearest fen; none from the residents' scheme",
    "国办发〔2009〕66号 (统筹基金按12%转移)",
));
pub(super) const TOTAL: Refusal = contradiction(Rule::design(
    "TRANSFERRED_TOTAL",
    "principal, interest and pooled part add up to the total",
    TABLE,
));

/// The rules by which transfers are refused and answered.
pub(crate) fn rules() -> Vec<RuleTable> {
    const APPLY: &[&str] = &["ApplyTransfer"];
    const ACT: &[&str] = &[
        "ApplyTransfer",
        "AdvanceTransfer",
        "ConfirmFunds",
        "DeliverDocument",
    ];
    const LATER: &[&str] = &["AdvanceTransfer", "ConfirmFunds", "DeliverDocument"];
    const TABLES: &[&str] = &["AdvanceTransfer", "DeliverDocument"];
    const FUNDED: &[&str] = &["ConfirmFunds"];
    const SHOW: &[&str] = &["GetProgress", "WatchProgress", "ListWarnings"];
    let transfers = RuleTable::new("Pension transfers")
        .answer(&LIMIT, SHOW)
        .answer(&YELLOW, SHOW)
        .answer(&CALENDAR, SHOW)
        .answer(&PROGRESS, &["GetProgress", "WatchProgress"])
        .answer(&AGE, APPLY)
        .refusal(&OWN_CITY, ACT)
        .refusal(&CITY, ACT)
        .refusal(&OPEN, ACT)
        .refusal(&UNKNOWN, LATER)
        .refusal(&STATE, ACT)
        .refusal(&FUNDS, FUNDED)
        .refusal(&FUNDS_RULE, &["DeliverDocument"])
        .refusal(&MONTHS_TOTAL, TABLES)
        .refusal(&WAGES_TOTAL, TABLES)
        .refusal(&POOLED, TABLES)
        .refusal(&TOTAL, TABLES)
        .refusal(&OUTBOX, LATER)
        .refusal(&WATCHES, &["WatchProgress"])
        .fields([&REQUEST_ID, &REQUEST_ID_REUSED], ACT)
        .field(&TRANSFER_ID, LATER)
        .fields([&SCHEMES, &CERTIFICATE, &REFERENCE, &FROM_CITY], APPLY)
        .fields([&PERIODS, &AMOUNT, &MONTH, &REASON, &DECISION], TABLES)
        .fields([&FUNDS_AMOUNT, &DAY], FUNDED)
        .field(&CURSOR, &["WatchProgress"]);
    let rows = TRANSITIONS.iter().map(|row| TransitionRow {
        from: row.from.map_or("–", |from| short(from.as_str_name())),
        event: row.event.code(),
        to: short(row.to.as_str_name()),
        source: row.source,
        certainty: row.certainty,
    });
    let machine = RuleTable::new("Pension transfers: states of both sides").transitions(rows);
    vec![transfers, machine]
}

fn short(state: &'static str) -> &'static str {
    state.strip_prefix("TRANSFER_STATE_").unwrap_or(state)
}
