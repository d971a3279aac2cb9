//! The card service on real databases, over real TLS, and as a process.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "all/benefit_calls.rs"]
mod benefit_calls;
#[path = "all/bureau.rs"]
mod bureau;
#[path = "all/campaigns.rs"]
mod campaigns;
#[path = "all/certificates.rs"]
mod certificates;
#[path = "all/command_line.rs"]
mod command_line;
#[path = "all/eligibility.rs"]
mod eligibility;
#[path = "all/eligibility_model.rs"]
mod eligibility_model;
#[path = "all/entitlements.rs"]
mod entitlements;
#[path = "all/export_benefits.rs"]
mod export_benefits;
#[path = "all/exports.rs"]
mod exports;
#[path = "all/faults.rs"]
mod faults;
#[path = "all/imports.rs"]
mod imports;
#[path = "all/lasting.rs"]
mod lasting;
#[path = "all/lives.rs"]
mod lives;
#[path = "all/losses.rs"]
mod losses;
#[path = "all/mapping.rs"]
mod mapping;
#[path = "all/model.rs"]
mod model;
#[path = "all/no_stop.rs"]
mod no_stop;
#[path = "all/payments.rs"]
mod payments;
#[path = "all/pension_model.rs"]
mod pension_model;
#[path = "all/pension_process.rs"]
mod pension_process;
#[path = "all/pension_scene.rs"]
mod pension_scene;
#[path = "all/pension_suite.rs"]
mod pension_suite;
#[path = "all/postgres.rs"]
mod postgres;
#[path = "all/rules.rs"]
mod rules;
#[path = "all/scene.rs"]
mod scene;
#[path = "all/sheets.rs"]
mod sheets;
#[path = "all/suite.rs"]
mod suite;
#[path = "all/tls.rs"]
mod tls;
#[path = "all/verifying.rs"]
mod verifying;
#[path = "all/watching.rs"]
mod watching;
