//! 社会保障卡: a city's social-security cards, verified and reported lost by any city, watched and imported.
//!
//! ```text
//!   request ──▶ CardKey, Verify, LossReport ──▶ Cards ──▶ decide (pure: state machine, comparison) ──▶ Store (one transaction)
//!                                                 ▲                                                     │
//!   CSV, ImportCards ──▶ ImportedCard ────────────┘                  Watches ◀── history of changes ◀───┘
//! ```
//!
//! Rules and their sources: `Rule` constants beside the fields they judge, [`state::TRANSITIONS`] for states. What this
//! service is not: it judges no rights (the gateway does), and it holds the cards of its own city only.

#![forbid(unsafe_code)]

mod application;
mod bulk;
mod card;
mod cards;
mod cities;
mod columns;
mod compare;
mod config;
pub mod eligibility;
pub mod entitlement;
mod export;
mod import;
mod importer;
mod instance;
mod life;
mod loss;
pub mod pension;
mod people;
mod request;
mod rules;
mod service;
mod sheet;
pub mod state;
mod stock;
mod store;
pub mod synthetic;
mod verification;
mod watch;

pub use application::{Application, Applies, Service};
pub use card::{Card, CardNumber, ChipCode, HolderName, ImportTerms, ImportedCard};
pub use cards::{Cards, DEFAULT_NEW_CARD_YEARS, LossTerms};
pub use cities::Cities;
pub use config::CardConfig;
pub use export::{ExportError, ExportFilter, Exported};
pub use import::{IMPORT_BATCH, ImportCounts, LineOutcome};
pub use importer::{Importer, Outcomes};
pub use instance::{Instance, RunError, run};
pub use life::{Applied, CardLifeServer};
pub use loss::ReportError;
pub use request::{CardKey, Function, Lookup, LossReport, Verify, parse_cursor};
pub use rules::rulebook;
pub use service::{CardServer, DOMAIN, MAX_IMPORT_LINES};
pub use sheet::{
    CARD_COLUMNS, COLUMNS, RefusedLines, RefusedReport, SheetError, card_of, row_of, state_named,
    write_sheet,
};
pub use stock::{STOCK_COLUMNS, StockError};
pub use store::{
    Actor, Blank, CARD_MAPPING, Cause, Change, FirstAnswer, Life, NewChange, Page, Part, Report,
    ReportAnswer, Store, StoreError, StoredCard, Use, Write,
};
pub use verification::{Verification, VerificationPolicy};
pub use watch::Watches;
