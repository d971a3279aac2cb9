//! The rules of quality rounds and marks.

use banqiao_kit::{Refusal, Rule, RuleTable};

pub(super) const ROUND_MISSING: Rule = Rule::design(
    "ROUND_MISSING",
    "a request carries a round",
    "laboratory service",
);
pub(super) const ROUND_ID: Rule = Rule::design(
    "ROUND_ID",
    "a round's number has 1 to 50 printable ASCII characters without space",
    "laboratory service",
);
pub(super) const ORGANISER: Rule = Rule::design(
    "ORGANISER",
    "an organiser's name has 1 to 100 characters and no control characters",
    "laboratory service",
);
pub(super) const SCHEME: Rule = Rule::design(
    "SCHEME",
    "a scheme's name has 1 to 50 characters and no control characters",
    "laboratory service",
);
pub(super) const MARK_SCOPE: Rule = Rule::quoted(
    "MARK_SCOPE",
    "互认范围 is the country, a province, the region or a city",
    "国卫医发〔2022〕6号",
);
pub(super) const SCOPE_CODE: Rule = Rule::design(
    "SCOPE_CODE",
    "a province or city names its code of GB/T 2260 (XX0000, XXXX00); the country and the region none",
    "GB/T 2260",
);
pub(super) const ROUND_TIMES: Rule = Rule::design(
    "ROUND_TIMES",
    "a round has times that exist, closes after it opens, and is registered before it closes",
    "laboratory service",
);
pub(super) const ROUND_ITEMS: Rule = Rule::design(
    "ROUND_ITEMS",
    "a round has 1 to 100 items of the catalogue, each once",
    "laboratory service",
);
pub(super) const NO_LIMIT: Rule = Rule::quoted(
    "NO_ALLOWABLE_ERROR",
    "an item without an allowable total error cannot be assessed",
    "WS/T 403-2024, WS/T 406-2024",
);
pub(super) const ROUND_SAMPLES: Rule = Rule::memory(
    "ROUND_SAMPLES",
    "an item of a round has 5 to 20 challenge samples, each once",
    "practice of the national centre for clinical laboratories",
);
pub(super) const SAMPLE: Rule = Rule::design(
    "SAMPLE",
    "a sample's number has 1 to 20 printable ASCII characters without space",
    "laboratory service",
);
pub(super) const TARGET: Rule = Rule::design(
    "TARGET",
    "a target lies above zero, in the item's unit",
    "laboratory service",
);
pub(super) const NOT_REGISTERED: Rule = Rule::design(
    "ROUND_NOT_REGISTERED",
    "results are reported for a round that is registered",
    "laboratory service",
);
pub(super) const NOT_OPEN: Rule = Rule::design(
    "ROUND_NOT_OPEN",
    "results are reported from the opening of a round on",
    "laboratory service",
);
pub(super) const CLOSED: Rule = Rule::memory(
    "ROUND_CLOSED",
    "results are not taken after the closing time of a round",
    "practice of the national centre for clinical laboratories",
);
pub(super) const NOT_OF_ROUND: Rule = Rule::design(
    "NOT_OF_ROUND",
    "a result is of an item and a sample of its round",
    "laboratory service",
);
pub(super) const RESULT_UNIT: Rule = Rule::design(
    "RESULT_UNIT",
    "a result of a round is reported in the item's unit",
    "laboratory service",
);
pub(super) const PARTICIPANT: Rule = Rule::design(
    "PARTICIPANT",
    "a city's service takes results of this city's institutions, from the institution's own system or the organiser, and states their marks",
    "laboratory service",
);

pub(super) const MARKED_ITEMS: Rule = Rule::design(
    "MARKED_ITEMS",
    "a question about marks names at most 100 items",
    "laboratory service",
);

/// Within which a value passes.
pub(super) const WITHIN: Rule = Rule::quoted(
    "ALLOWABLE_ERROR",
    "a value passes when it differs from the target by no more than the allowable total error: the absolute limit up to its bound, the percentage of the target above it",
    "WS/T 403-2024, WS/T 406-2024",
);
/// How many must pass.
pub(super) const PASS: Rule = Rule::memory(
    "ROUND_PASSED",
    "an item is passed when 80 % of its samples pass; a sample without a value does not pass",
    "practice of the national centre for clinical laboratories",
);
/// How long a mark holds.
pub(super) const VALIDITY: Rule = Rule::design(
    "MARK_VALIDITY",
    "a mark holds from the evaluation of a passed round until the scheme's next round is evaluated, and for twelve months at most; who does not take part or fails has none",
    "国卫医发〔2022〕6号, without a term of its own",
);
/// Whose the mark of the region is.
pub(super) const REGION_LEVEL: Rule = Rule::quoted(
    "REGION_LEVEL",
    "marks of the region are for institutions of level two and above",
    "鲁政发〔2020〕2号 (十六)",
);
/// A sender's marks.
pub(crate) const MARK_IGNORED: Rule = Rule::design(
    "MARK_IGNORED",
    "marks are computed from quality rounds and never taken from the sender",
    "国卫医发〔2022〕6号: 质量评价不合格的项目不得标注",
);

pub(super) static ORGANISER_ONLY: Refusal = Refusal::forbidden(
    Rule::design(
        "ORGANISER_ONLY",
        "rounds are registered and evaluated by the systems that the service's operators list",
        "laboratory service",
    )
    .remedy("have the system listed in `[lab] quality_organisers`"),
);
pub(super) static ROUND_STANDS: Refusal = Refusal::conflict(
    Rule::design(
        "ROUND_STANDS",
        "a registered round is not changed: institutions have begun to measure",
        "laboratory service",
    )
    .remedy("register the round under another number"),
);
pub(super) static ROUND_OPEN: Refusal = Refusal::conflict(
    Rule::design(
        "ROUND_OPEN",
        "a round is evaluated after its closing time",
        "laboratory service",
    )
    .remedy("evaluate it then"),
);
pub(super) static ROUND_UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "ROUND_UNKNOWN",
        "a round is read from the service where it was registered",
        "laboratory service",
    )
    .remedy("register the round, or ask the city where it was registered"),
);
pub(super) static TOO_LONG: Refusal = Refusal::exceeds(
    Rule::design(
        "SUBMIT_TOO_LONG",
        "a call takes 20000 lines; those before the refusal stay",
        "laboratory service",
    )
    .remedy("send the rest in another call"),
);

const ROUND: &[&str] = &["RegisterRound", "banqiao-lab import-rounds"];
const RESULT: &[&str] = &["SubmitResults", "banqiao-lab import-results"];
const EVALUATE: &[&str] = &["EvaluateRound", "banqiao-lab evaluate-round"];
const MARKS: &[&str] = &["ListMarks", "FindReports", "ReadReport", "ReadFhir"];

/// The rules of this module.
pub(crate) fn rules() -> [RuleTable; 2] {
    let rounds = RuleTable::new("Quality rounds")
        .field(&ROUND_ID, &["RegisterRound", "EvaluateRound", "ReadRound"])
        .fields(
            [
                &ROUND_MISSING,
                &ORGANISER,
                &SCHEME,
                &MARK_SCOPE,
                &SCOPE_CODE,
                &ROUND_TIMES,
                &ROUND_ITEMS,
                &NO_LIMIT,
                &ROUND_SAMPLES,
                &SAMPLE,
                &TARGET,
            ],
            ROUND,
        )
        .fields(
            [
                &NOT_REGISTERED,
                &NOT_OPEN,
                &CLOSED,
                &NOT_OF_ROUND,
                &RESULT_UNIT,
            ],
            RESULT,
        )
        .field(
            &PARTICIPANT,
            &["SubmitResults", "ListMarks", "banqiao-lab import-results"],
        )
        .answer(&WITHIN, EVALUATE)
        .answer(&PASS, EVALUATE)
        .refusal(&ORGANISER_ONLY, &["RegisterRound", "EvaluateRound"])
        .refusal(&ROUND_STANDS, ROUND)
        .refusal(&ROUND_OPEN, EVALUATE)
        .refusal(&ROUND_UNKNOWN, &["EvaluateRound", "ReadRound"])
        .refusal(&TOO_LONG, &["SubmitResults"]);
    let marks = RuleTable::new("HR marks")
        .field(&MARKED_ITEMS, &["ListMarks"])
        .answer(&VALIDITY, MARKS)
        .answer(&REGION_LEVEL, MARKS)
        .answer(
            &MARK_IGNORED,
            &["PublishReport", "PublishReports", "PublishFhir"],
        );
    [rounds, marks]
}
