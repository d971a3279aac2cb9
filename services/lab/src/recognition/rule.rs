//! The rules of recognition, decisions and statistics.

use banqiao_kit::{Refusal, Rule, RuleTable};

const LAW: &str = "国卫医发〔2022〕6号";

pub(super) const WITHDRAWN: Rule = Rule::design(
    "RESULT_WITHDRAWN",
    "report and result are final, corrected, amended or appended, not withdrawn",
    "FHIR R4 DiagnosticReport.status",
);
pub(super) const NO_ITEM: Rule = Rule::design(
    "ITEM_NOT_IN_CATALOGUE",
    "the result is of an item of this city's catalogue",
    "国卫医发〔2022〕6号: 互认项目",
);
pub(super) const NO_INSTITUTION: Rule = Rule::design(
    "INSTITUTION_NOT_REGISTERED",
    "the institution is in the register of this city's service",
    "laboratory service",
);
pub(super) const CITY: Rule = Rule::design(
    "CITY_NOT_OF_INSTITUTION",
    "the report comes from the city of its institution, which alone states its marks",
    "laboratory service",
);
pub(super) const LEVEL: Rule = Rule::quoted(
    "LEVEL_BELOW_TWO",
    "the institution is of level two or above (二级以上医疗机构)",
    "鲁政发〔2020〕2号 (十六)",
);
pub(super) const NO_MARK: Rule = Rule::memory(
    "NO_MARK",
    "the institution had an HR mark for the item: 未按要求参加质量评价或不合格的项目不得标注",
    LAW,
);
pub(super) const SCOPE: Rule = Rule::quoted(
    "MARK_OUT_OF_SCOPE",
    "互认范围 of a mark holds the city of the institution that asks",
    LAW,
);
pub(super) const EXPIRED: Rule = Rule::design(
    "MARK_EXPIRED",
    "a mark that counts here was in force when the report was issued, and still is",
    "国卫医发〔2022〕6号: 以质量控制合格为前提",
);
pub(super) const WINDOW: Rule = Rule::design(
    "OUTSIDE_WINDOW",
    "the specimen was taken within the item's window of days (`window_days` of the catalogue)",
    "国卫医发〔2022〕6号: 变化较快的结果",
);
pub(super) const SPECIMEN: Rule = Rule::quoted(
    "SPECIMEN_UNFIT",
    "the specimen is one of those of the item",
    "WS/T 886-2026",
);
pub(super) const UNIT: Rule = Rule::design(
    "UNIT_UNFIT",
    "the value can be put into the item's unit",
    "catalogue",
);
pub(super) const VALUE: Rule = Rule::quoted(
    "VALUE_NOT_A_NUMBER",
    "an item of the quantitative scale (A) has a number as value",
    "WS/T 886-2026",
);
pub(super) const FIELD: Rule = Rule::design(
    "MANDATORY_FIELD_MISSING",
    "采样时间, 审核时间, 标本, 方法或仪器, 单位, 参考区间 and 检验者或审核者 are there",
    LAW,
);

pub(super) const ASKING: Rule = Rule::design(
    "ASKING_INSTITUTION",
    "results are assessed by the service of the asking institution's own city",
    "laboratory service",
);
pub(super) const REPORTS: Rule = Rule::design(
    "ASSESSED_REPORTS",
    "1 to 100 reports and at most 100 items are assessed in one call",
    "laboratory service",
);
pub(super) const REPORT_MISSING: Rule = Rule::design(
    "ASSESSED_REPORT_MISSING",
    "an entry carries a report as it was found",
    "laboratory service",
);
pub(super) const REQUEST_ID: Rule = Rule::design(
    "REQUEST_ID",
    "a request is told apart by a UUID",
    "RFC 9562",
);
pub(super) const REQUEST_ID_REUSED: Rule = Rule::design(
    "REQUEST_ID_REUSED",
    "a request id stands for one request of a client",
    "laboratory service",
);
pub(super) const DECIDING: Rule = Rule::design(
    "DECIDING_INSTITUTION",
    "a decision is recorded by a system of the deciding institution, at the service of that one's city",
    "laboratory service",
);
pub(super) const VERSION: Rule = Rule::design(
    "REPORT_VERSION",
    "a decision names the version of the report that was read: 1 or above",
    "laboratory service",
);
pub(super) const OUTCOME: Rule = Rule::quoted(
    "DECISION_OUTCOME",
    "a result is recognised or the test is repeated, as the doctor judges (以接诊医师判断为标准)",
    LAW,
);
pub(super) const REASON: Rule = Rule::quoted(
    "REPEAT_REASON",
    "a repeated test has one of the six reasons of the rules; a recognised result has none",
    LAW,
);
pub(super) const REASON_TEXT: Rule = Rule::quoted(
    "REPEAT_REASON_TEXT",
    "其他情形确需复查 is put into words: 1 to 500 characters; other reasons may be",
    LAW,
);
pub(super) const INFORMED: Rule = Rule::quoted(
    "PATIENT_INFORMED",
    "不认可须向患者解释说明复检目的及必要性; in an emergency it may come later",
    LAW,
);
pub(super) const DOCTOR: Rule = Rule::design(
    "DOCTOR",
    "a decision names the doctor: 1 to 50 characters without control characters",
    "laboratory service",
);
pub(super) const ADVISED: Rule = Rule::design(
    "ADVISED",
    "the advice is one of those of the enum",
    "laboratory service",
);
pub(super) const CURSOR: Rule = Rule::design(
    "DECISION_CURSOR",
    "a cursor is empty or one that this service gave",
    "laboratory service",
);
pub(super) const LIMIT: Rule = Rule::design(
    "DECISION_LIMIT",
    "a page has at most 500 decisions",
    "laboratory service",
);
pub(super) const SIDE: Rule = Rule::design(
    "DECISION_SIDE",
    "a side is one of those of the enum",
    "laboratory service",
);
pub(super) const STATISTICS: Rule = Rule::design(
    "STATISTICS_RANGE",
    "statistics name at most 100 institutions of this city and 100 items, and times that exist and do not end before they begin",
    "laboratory service",
);
pub(super) const DECISION_FORM: Rule = Rule::design(
    "DECISION_FORM",
    "a delivered decision is whole: as the deciding city's service recorded it",
    "laboratory service",
);

pub(super) const LAST_COUNTS: Rule = Rule::design(
    "LAST_DECISION_COUNTS",
    "of several decisions of one institution about one item of one report the last one counts",
    "laboratory service",
);
pub(super) const SAVED: Rule = Rule::design(
    "ESTIMATED_SAVINGS",
    "a recognised result saves its list price; a report of which an item drawn from blood was recognised and none repeated saves one draw",
    "data/estimates.tsv",
);

pub(super) static NOT_YOURS: Refusal = Refusal::forbidden(
    Rule::design(
        "NOT_YOUR_DECISIONS",
        "an institution's decisions are shown to its own systems and to organisers of quality rounds",
        "laboratory service",
    )
    .remedy("ask with a system of the institution"),
);
pub(super) static NO_REPORT: Refusal = Refusal::not_found(
    Rule::design(
        "DECIDED_REPORT_UNKNOWN",
        "a decision is about an item of a report that the city of its institution holds",
        "laboratory service",
    )
    .remedy("give institution, number, version and item as the report has them"),
);
pub(super) static SENDER: Refusal = Refusal::forbidden(
    Rule::design(
        "DECISION_SENDER",
        "a decision is delivered by a system of the deciding institution's city, to the city of the report",
        "laboratory service",
    )
    .remedy("record the decision at the service of the deciding institution's city, which delivers it"),
);
pub(super) static DECISION_STANDS: Refusal = Refusal::conflict(
    Rule::design(
        "DECISION_STANDS",
        "a decision that stands is not changed: record another one",
        "laboratory service",
    )
    .remedy("record a new decision"),
);
pub(super) static OUTBOX: Refusal = Refusal::exceeds(
    Rule::design(
        "DECISION_OUTBOX_FULL",
        "so many decisions wait for a city and no more",
        "laboratory service",
    )
    .remedy("see that the other city's gateway can be reached, and send the same request again"),
);

const ASSESS: &[&str] = &["AssessReports"];
const RECORD: &[&str] = &["RecordDecision"];
const DELIVER: &[&str] = &["DeliverDecision"];
const LIST: &[&str] = &["ListDecisions"];
const READ: &[&str] = &["ReadStatistics"];

/// The rules of this module.
pub(crate) fn rules() -> [RuleTable; 3] {
    let reasons = [
        &WITHDRAWN,
        &NO_ITEM,
        &NO_INSTITUTION,
        &CITY,
        &LEVEL,
        &NO_MARK,
        &SCOPE,
        &EXPIRED,
        &WINDOW,
        &SPECIMEN,
        &UNIT,
        &VALUE,
        &FIELD,
    ];
    let assess = reasons
        .into_iter()
        .fold(
            RuleTable::new("Recognition: reasons against it"),
            |table, rule| table.answer(rule, ASSESS),
        )
        .fields([&ASKING, &REPORTS, &REPORT_MISSING], ASSESS);
    let decisions = RuleTable::new("Decisions of doctors")
        .fields(
            [
                &REQUEST_ID,
                &REQUEST_ID_REUSED,
                &DECIDING,
                &VERSION,
                &OUTCOME,
                &REASON,
                &REASON_TEXT,
                &INFORMED,
                &DOCTOR,
                &ADVISED,
            ],
            RECORD,
        )
        .field(&DECISION_FORM, DELIVER)
        .fields([&CURSOR, &LIMIT], LIST)
        .field(&SIDE, &["ListDecisions", "ReadStatistics"])
        .refusal(&NOT_YOURS, LIST)
        .refusal(&NO_REPORT, &["RecordDecision", "DeliverDecision"])
        .refusal(&SENDER, DELIVER)
        .refusal(&DECISION_STANDS, DELIVER)
        .refusal(&OUTBOX, RECORD);
    let statistics = RuleTable::new("Statistics of recognition")
        .field(&STATISTICS, READ)
        .answer(&LAST_COUNTS, READ)
        .answer(&SAVED, READ);
    [assess, decisions, statistics]
}
