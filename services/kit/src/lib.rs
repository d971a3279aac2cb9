//! What every service of a city needs.

#![forbid(unsafe_code)]

mod calendar;
mod caller;
mod database;
pub mod identifier;
mod rescue;
mod rule;
mod settings;

pub use calendar::civil_date;
pub use caller::{Asserted, Basis, Caller, ExchangeId, MetadataFault, Purpose};
pub use database::{
    Database, DatabaseError, DatabaseSettings, DatabaseUrl, FaultKind, Migrations, SqliteDatabase,
    classify,
};
pub use rescue::{CallError, NETWORK_DOMAIN, rescue};
pub use rule::{Broken, Certainty, Rule, Violation, Violations};
pub use settings::{Section, SettingFault, SettingFaults, SettingsFile};
