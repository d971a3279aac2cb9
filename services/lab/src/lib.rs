//! 检验结果互认: a city's laboratory reports, published by its hospitals, found and read by doctors of any city.
//!
//! ```text
//!   laboratory ──▶ Report or FHIR ──▶ AcceptedReport (rules, items, normalised values) ──▶ Reports ──▶ Store (one transaction)
//!   doctor ──▶ FindReports ──▶ reading recorded ──▶ reports          Watches ◀── what superseded them ◀──┘
//!   organiser ──▶ quality rounds ──▶ evaluation ──▶ HR marks on what is found
//!   found reports ──▶ assessment (advice)    doctor ──▶ decision ──outbox──▶ the city of the report    decisions ──▶ statistics
//!   catalogue.tsv, institutions.tsv ──▶ Catalogue, Institutions: refused whole on a fault
//! ```
//!
//! Rules and their sources: `Rule` constants beside the fields they judge; the catalogue's own certainty stands in each of its lines.
//! What this service is not: it judges no rights (the gateway does), it shares no diagnoses, and it decides for no doctor.

#![forbid(unsafe_code)]

mod catalogue;
mod config;
mod courier;
mod decimal;
mod edge;
mod fhir;
mod instance;
mod institution;
mod quality;
mod recognition;
mod referral;
mod report;
mod rules;
mod store;
pub mod synthetic;
mod table;

pub use catalogue::{
    AllowableError, BelowLimit, COLUMNS, Catalogue, CatalogueServer, Conversion, Interval,
    ItemCode, LOINC_SYSTEM, Loinc, Normalised, TestItem, WST886_SYSTEM, loinc_check_digit, ucum_of,
};
pub use config::LabConfig;
pub use decimal::Decimal;
pub use edge::DOMAIN;
pub use fhir::{
    CITIZEN_SYSTEM, CREDIT_SYSTEM, FhirError, FhirReports, FhirServer, REPORT_NUMBER_SYSTEM,
    read as read_fhir, write as write_fhir,
};
pub use instance::{Instance, RunError, run};
pub use institution::{INSTITUTION_COLUMNS, Institution, Institutions, Level};
pub use quality::{
    ItemMark, JudgedRound, MAX_SUBMIT_LINES, QualityActor, QualityServer, RESULT_SHEET,
    ROUND_SHEET, Round, RoundId, RoundLine, Rounds, SUBMIT_BATCH, Score, SubmitCounts, SubmitLine,
    covers, marks, passes, result_line, round_line, rounds_of, within,
};
pub use recognition::{
    AssessTerms, Assessed, CountedDecisions, DecisionCourier, Decisions, ESTIMATE_COLUMNS,
    Estimate, Estimates, MAX_ASSESSED, NewDecision, Recognition, RecognitionServer, RecordDecision,
    Recorded, StatisticsSearch, assess_result, repeat_reasons,
};
pub use referral::{
    Act, Asked, GatewaySource, Message, Party, REFERRAL_DOCUMENTS, ReferralAnswer, ReferralCourier,
    ReferralError, ReferralServer, ReferralWatches, Referrals, Row, Step, TRANSITIONS, Upload,
    header, is_end, parse_act, parse_create, parse_delivery,
};
pub use report::{
    AcceptTerms, AcceptedReport, CANCELLED, DEFAULT_FOUND, FindReports, LineOutcome, MAX_FOUND,
    MAX_PUBLISH_LINES, PUBLISH_BATCH, PublishCounts, Publisher, ReportKey, ReportNumber,
    ReportServer, Reports, WatchFrom, WatchSettings, Watches,
};
pub use rules::rulebook;
pub use store::{
    DecisionCount, DecisionCountSearch, DecisionError, DecisionWrite, Delivery, Evaluated,
    NewEvaluation, NewReading, NewReferralEvent, ReferralPull, ReferralStore, ReportHead,
    ReportSearch, ReportWrite, ResultWrite, SampleKey, SampleValue, Store, StoreError,
    StoredChange, StoredDecision, StoredReferral, StoredReferralEvent, StoredReport, StoredRound,
    Supersede,
};
pub use table::{TableFault, TableFaults};
