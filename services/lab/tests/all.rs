//! The laboratory service on real databases, over real TLS, and as a process.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "all/catalogue.rs"]
mod catalogue;
#[path = "all/certificates.rs"]
mod certificates;
#[path = "all/command_line.rs"]
mod command_line;
#[path = "all/decisions.rs"]
mod decisions;
#[path = "all/faults.rs"]
mod faults;
#[path = "all/fhir.rs"]
mod fhir;
#[path = "all/finding.rs"]
mod finding;
#[path = "all/postgres.rs"]
mod postgres;
#[path = "all/process.rs"]
mod process;
#[path = "all/publishing.rs"]
mod publishing;
#[path = "all/quality.rs"]
mod quality;
#[path = "all/recognition.rs"]
mod recognition;
#[path = "all/referrals.rs"]
mod referrals;
#[path = "all/report_faults.rs"]
mod report_faults;
#[path = "all/rules.rs"]
mod rules;
#[path = "all/scene.rs"]
mod scene;
#[path = "all/serving.rs"]
mod serving;
#[path = "all/suite.rs"]
mod suite;
#[path = "all/watching.rs"]
mod watching;
