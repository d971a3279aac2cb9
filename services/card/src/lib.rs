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

mod card;
mod cards;
mod compare;
mod config;
mod import;
mod instance;
mod loss;
mod request;
mod rules;
mod service;
mod sheet;
pub mod state;
mod store;
pub mod synthetic;
mod watch;

pub use card::{Card, CardNumber, ChipCode, HolderName, ImportTerms, ImportedCard};
pub use cards::{Cards, LossTerms};
pub use config::CardConfig;
pub use import::{IMPORT_BATCH, ImportCounts, LineOutcome};
pub use instance::{Instance, RunError, run};
pub use loss::ReportError;
pub use request::{CardKey, Function, Lookup, LossReport, Verify, WatchFrom};
pub use rules::rulebook;
pub use service::{CardServer, DOMAIN, MAX_IMPORT_LINES};
pub use sheet::{COLUMNS, RefusedReport, SheetError, SheetLine, SheetReader, write_sheet};
pub use store::{
    Actor, Cause, Change, FirstAnswer, NewChange, Report, ReportAnswer, Store, StoreError,
    StoredCard, Write,
};
pub use watch::{WatchSettings, Watches};
