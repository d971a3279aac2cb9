//! What every service of a city needs, so that a service is its records and rules and nothing else.
//!
//! ```text
//!   the city's gateway ──mTLS──▶ Server: only that gateway is let in
//!                                  span and measurements ▸ Caller from `banqiao-` metadata ▸ routes, health, reflection
//!   request ──▶ identifiers and rules ──▶ Violations ─┐
//!   Database (SQLite | PostgreSQL) ──▶ faults ────────┴──▶ rescue ──▶ Status{ErrorInfo, BadRequest, RetryInfo}
//!   file.toml ──▶ SettingsFile ──▶ settings, or every fault at once
//!   OutgoingCall ──▶ Gateway ──mTLS──▶ the city's gateway ──▶ other cities' services; Answer or Refusal back
//!   mapping.toml, an office's own tables ──▶ mapping: records and named statements
//!   file.csv, file.xlsx ◀─▶ sheet: rows, one at a time
//!   chunks of 1 MiB ◀─▶ document: resumed, verified, kept by SHA-256, pulled from other cities
//!   a log of changes ──▶ Followers: streams that are resumed by cursor
//!   dates, limits ──▶ calendar: the working days in which the law counts
//! ```
//!
//! What it is not: it knows no service's messages, and it decides nothing about rights. The gateway does.

#![forbid(unsafe_code)]

mod admission;
pub mod calendar;
mod caller;
mod connection;
mod database;
pub mod document;
mod follow;
mod gateway;
pub mod identifier;
pub mod mapping;
mod outbox;
mod rescue;
mod rule;
mod rulebook;
mod server;
mod settings;
mod sheet;
mod stop;
mod telemetry;
mod trust;

pub use calendar::civil_date;
pub use caller::{Asserted, Basis, Caller, ExchangeId, MetadataFault, Purpose};
pub use database::{
    Database, DatabaseError, DatabaseSettings, DatabaseUrl, FaultKind, Migrations, SchemaName,
    SqliteDatabase, classify,
};
pub use follow::{ChangeLog, FollowFrom, FollowRules, FollowSettings, Followers, Seen};
pub use gateway::{
    AddressFault, Answer, CallRefusal, Destination, Gateway, GatewayAddress, GatewayChannel,
    GatewaySettings, OutgoingCall, RefusalKind, exchange_of,
};
pub use outbox::{
    Carried, Courier, MAX_PARCEL, NewParcel, OUTBOX_LIMIT, OUTBOX_POSTGRES, OUTBOX_SQLITE, Outbox,
    Parcel, PostError,
};
pub use rescue::{CallError, NETWORK_DOMAIN, rescue, shared_rules};
pub use rule::{Broken, Certainty, Rule, Violation, Violations};
pub use rulebook::{Effect, Refusal, RuleRow, RuleTable, Rulebook, TransitionRow};
pub use server::{DEFAULT_DRAIN, Server, ServerError, Service};
pub use settings::{Section, SettingFault, SettingFaults, SettingsFile};
pub use sheet::{
    Line, SheetColumn, SheetError, SheetRow, SheetWriter, read_csv, read_sheet, sheet_path,
    sheet_rules,
};
pub use stop::stop_signal;
pub use telemetry::read_telemetry;
pub use trust::{ServiceIdentity, TrustError, TrustSettings};
