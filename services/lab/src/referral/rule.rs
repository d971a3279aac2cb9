//! Rules of referrals, with their sources.

use banqiao_kit::{Refusal, Rule, RuleTable, TransitionRow, document::document_rules};

use super::state::TRANSITIONS;

const LAW: &str = "基本医疗卫生与健康促进法 art. 30";
const PROPOSAL: &str = "referral, project proposal";

pub(super) const REQUEST_ID: Rule = Rule::design(
    "REFERRAL_REQUEST_ID",
    "a request id is a UUID in its hyphenated form and not nil",
    "RFC 9562",
);
pub(super) const REFERRAL_ID: Rule = Rule::design(
    "REFERRAL_ID",
    "a referral is named by the UUID of its draft",
    PROPOSAL,
);
pub(super) const REQUEST_ID_REUSED: Rule = Rule::design(
    "REFERRAL_REQUEST_ID_REUSED",
    "this request id was used for another request: choose a new one",
    PROPOSAL,
);
pub(super) const STEP: Rule = Rule::design(
    "REFERRAL_STEP",
    "a request carries one step, and a draft its content",
    PROPOSAL,
);
pub(super) const DIRECTION: Rule = Rule::design(
    "REFERRAL_DIRECTION",
    "上转 goes to a hospital of the same or a higher level, 下转 to one of the same or a lower level",
    LAW,
);
pub(super) const INSTITUTIONS: Rule = Rule::design(
    "REFERRAL_INSTITUTIONS",
    "a referral goes from one institution of the register to another",
    PROPOSAL,
);
pub(super) const NAME: Rule = Rule::design(
    "REFERRAL_NAME",
    "a name has 1 to 60 characters and no control characters",
    "GB/T 39046-2020",
);
pub(super) const TEXT: Rule = Rule::design(
    "REFERRAL_TEXT",
    "a text has 1 to 4000 characters (a department, slot, title or name 1 to 200) and no control characters but line breaks",
    PROPOSAL,
);
pub(super) const ICD: Rule = Rule::memory(
    "REFERRAL_ICD10",
    "a diagnosis has a code of ICD-10 国家临床版2.0, such as I10.x00x002",
    "国卫办医发〔2019〕371号",
);
pub(super) const DIAGNOSES: Rule = Rule::design(
    "REFERRAL_DIAGNOSES",
    "a referral and its feedback have 1 to 20 diagnoses",
    PROPOSAL,
);
pub(super) const URGENCY: Rule = Rule::design(
    "REFERRAL_URGENCY",
    "the urgency is one of those of the enum",
    PROPOSAL,
);
pub(super) const REPORTS: Rule = Rule::design(
    "REFERRAL_REPORTS",
    "at most 50 laboratory reports, each with its institution and number",
    PROPOSAL,
);
pub(super) const BASIS: Rule = Rule::quoted(
    "REFERRAL_BASIS",
    "health data is sent by the patient's separate consent or by a statutory basis: one of the two references is given",
    "个人信息保护法 art. 28, 29",
);
pub(super) const PLAN: Rule = Rule::design(
    "REFERRAL_PLAN",
    "下转 carries the plan of treatment or rehabilitation and the medication",
    LAW,
);
pub(super) const HOLD: Rule = Rule::design(
    "REFERRAL_HOLD",
    "a slot is held until a time that lies ahead, and for 30 days at most",
    PROPOSAL,
);
pub(super) const DAY: Rule = Rule::design(
    "REFERRAL_DAY",
    "a day is written YYYY-MM-DD and does not lie in the future",
    PROPOSAL,
);
pub(super) const REASON: Rule = Rule::design(
    "REFERRAL_REASON",
    "a rejection or cancellation is explained: 1 to 500 characters",
    "转诊审核责任制, 基本医疗卫生与健康促进法 art. 30",
);
pub(super) const DOCUMENT_KIND: Rule = Rule::design(
    "REFERRAL_DOCUMENT_KIND",
    "a document is of one of the kinds of the enum",
    PROPOSAL,
);
pub(super) const DOCUMENT_SIZE: Rule = Rule::design(
    "REFERRAL_DOCUMENT_SIZE",
    "a document has 1 byte to 500 MiB",
    PROPOSAL,
);
pub(super) const DOCUMENT_TYPE: Rule = Rule::design(
    "REFERRAL_DOCUMENT_TYPE",
    "a document is PDF, OFD, JPEG, PNG, TIFF, DICOM, ZIP or FHIR JSON",
    PROPOSAL,
);
pub(super) const DOCUMENT_HEADER: Rule = Rule::design(
    "REFERRAL_DOCUMENT_HEADER",
    "an upload begins with its header, and only chunks follow",
    PROPOSAL,
);
pub(super) const DOCUMENTS: Rule = Rule::design(
    "REFERRAL_DOCUMENTS",
    "a letter and a feedback name at most 50 documents, as their hospital uploaded them",
    PROPOSAL,
);
pub(super) const CITY: Rule = Rule::design(
    "REFERRAL_CITY",
    "a message comes from the other city of the referral, and from no third one",
    PROPOSAL,
);
pub(super) const CURSOR: Rule = Rule::design(
    "REFERRAL_CURSOR",
    "a cursor is empty, 0, or one that this service gave",
    PROPOSAL,
);

pub(super) const ANSWER_LIMIT: Rule = Rule::design(
    "REFERRAL_ANSWER_LIMIT",
    "a referral that is not answered within 2 hours (emergency), 24 hours (urgent) or 7 days (routine) after it came in expires",
    PROPOSAL,
);
pub(super) const HOLD_ENDS: Rule = Rule::design(
    "REFERRAL_HOLD_ENDS",
    "a slot is free again when the patient did not arrive while it was held: the referral expires",
    PROPOSAL,
);
pub(super) const CANCELLATION: Rule = Rule::design(
    "REFERRAL_CANCELLATION",
    "a referral that went to another city is cancelled when that city says so: what it decided before stands",
    PROPOSAL,
);
pub(super) const PARTY: Refusal = Refusal::forbidden(
    Rule::design(
        "REFERRAL_PARTY",
        "the referring and the receiving hospital take their own steps; a city's service speaks for its own hospitals",
        LAW,
    )
    .remedy("ask the other hospital"),
);
pub(super) const STATE: Refusal = Refusal::conflict(
    Rule::design(
        "REFERRAL_NOT_IN_STATUS",
        "a referral changes only as its table of transitions says",
        PROPOSAL,
    )
    .remedy("read the referral, and what its status allows"),
);
pub(super) const ATTACHMENT: Refusal = Refusal::conflict(
    Rule::design(
        "REFERRAL_ATTACHMENT",
        "the referring hospital attaches documents to the draft, the receiving one from arrival to discharge; 50 at most",
        PROPOSAL,
    )
    .remedy("attach it at the right time; what was uploaded stays for a day"),
);
pub(super) const UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "REFERRAL_UNKNOWN",
        "an institution sees its own referrals, and no others",
        "个人信息保护法 art. 6",
    )
    .remedy("compare the number with the answer to the draft"),
);
pub(super) const OUTBOX: Refusal = Refusal::exceeds(
    Rule::design(
        "REFERRAL_OUTBOX_FULL",
        "10000 messages wait for a city at most",
        PROPOSAL,
    )
    .remedy("try again when the other city's gateway is within reach"),
);
pub(super) const WATCHES: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_REFERRAL_WATCHES",
        "a service carries a bounded number of watches (`watch_limit`)",
        PROPOSAL,
    )
    .remedy("open the watch again after the delay"),
);

/// The rules by which referrals are refused and answered.
pub(crate) fn rules() -> Vec<RuleTable> {
    const CONTENT: &[&str] = &["CreateReferral", "ActOnReferral", "DeliverReferral"];
    const ACT: &[&str] = &["ActOnReferral", "DeliverReferral"];
    const UPLOAD: &[&str] = &["UploadDocument"];
    const HEADER: &[&str] = &["UploadDocument", "FindUpload"];
    const DOWNLOAD: &[&str] = &["DownloadDocument"];
    const NAMED: &[&str] = &[
        "ActOnReferral",
        "DeliverReferral",
        "ReadReferral",
        "UploadDocument",
        "FindUpload",
        "DownloadDocument",
    ];
    let referrals = RuleTable::new("Referrals")
        .answer(&ANSWER_LIMIT, ACT)
        .answer(&HOLD_ENDS, ACT)
        .answer(&CANCELLATION, ACT)
        .refusal(&PARTY, CONTENT)
        .refusal(&STATE, ACT)
        .refusal(&UNKNOWN, NAMED)
        .refusal(&ATTACHMENT, UPLOAD)
        .refusal(&OUTBOX, ACT)
        .refusal(&WATCHES, &["WatchReferrals"])
        .fields([&REQUEST_ID, &REQUEST_ID_REUSED, &STEP], CONTENT)
        .field(&REFERRAL_ID, NAMED)
        .fields(
            [
                &DIRECTION,
                &INSTITUTIONS,
                &NAME,
                &TEXT,
                &ICD,
                &DIAGNOSES,
                &URGENCY,
                &REPORTS,
                &BASIS,
                &PLAN,
            ],
            CONTENT,
        )
        .fields([&HOLD, &DAY, &REASON], ACT)
        .fields([&DOCUMENTS, &CITY], &["DeliverReferral"])
        .fields([&DOCUMENT_KIND, &DOCUMENT_SIZE, &DOCUMENT_TYPE], HEADER)
        .field(&DOCUMENT_HEADER, HEADER)
        .field(&CURSOR, &["WatchReferrals"]);
    let rows = TRANSITIONS.iter().map(|row| TransitionRow {
        from: row.from.map_or("–", |from| short(from.as_str_name())),
        event: row.step.code(),
        to: short(row.to.as_str_name()),
        source: row.source,
        certainty: row.certainty,
    });
    let machine = RuleTable::new("Referrals: statuses").transitions(rows);
    vec![
        referrals,
        machine,
        document_rules(UPLOAD, DOWNLOAD, DOCUMENT_NAMED),
    ]
}

const DOCUMENT_NAMED: &[&str] = &["UploadDocument", "FindUpload", "DownloadDocument"];

fn short(status: &'static str) -> &'static str {
    status.strip_prefix("REFERRAL_STATUS_").unwrap_or(status)
}
