//! “一网通办”: the items that any city's applicants may ask of this city, and their cases from application to evaluation.
//!
//! ```text
//!   catalogue/*.toml ─▶ Catalogue ─┐
//!   request ─▶ Peers: city, roles ─┴─▶ Cases ─▶ decide (pure: table of transitions, clocks) ─▶ Store (one transaction)
//!   calendar, clock ─▶ limits, warnings ──────────▲                                            │
//!   Watches, search, statistics ◀── records, history of events ◀───────────────────────────────┘
//! ```
//!
//! One engine and data: no code knows an item. What this service is not: it judges no rights (the gateway does), and it
//! holds the cases that its own city decides; those of others it reaches through the gateways.

#![forbid(unsafe_code)]

mod calendars;
mod catalogue;
mod config;
mod instance;
mod service;
mod store;

pub use calendars::{Calendars, ImportError};
pub use catalogue::{
    Call, Catalogue, CatalogueFault, CatalogueFaults, Item, ItemId, LegalLimit, Material, Promise,
    Task,
};
pub use config::ItemConfig;
pub use instance::{Instance, RunError, run};
pub use service::{CatalogueServer, DOMAIN};
pub use store::{Store, StoreError};
