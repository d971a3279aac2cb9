//! “一网通办”: the items that any city's applicants may ask of this city, and their cases from application to evaluation.
//!
//! ```text
//!   catalogue/*.toml ─▶ Catalogue ─┐
//!   request ─▶ Peers: city, roles ─┴─▶ Cases ─▶ decide (pure: table of transitions, clocks) ─▶ Store (one transaction)
//!   calendar, clock ─▶ limits, warnings ──────────▲                                            │
//!   Watches, search ◀── records, history of events, tallies of the month ◀──────────────────────┘
//!   RateCase ─▶ Ratings ─▶ rectifications of bad ones;  tallies ─▶ Figures ─▶ Report: JSON, CSV, a page to print
//! ```
//!
//! One engine and data: no code knows an item. What this service is not: it judges no rights (the gateway does), and it
//! holds the cases that its own city decides; those of others it reaches through the gateways.

#![forbid(unsafe_code)]

mod calendars;
mod case;
mod cases;
mod catalogue;
mod config;
mod coordination;
mod figures;
mod instance;
mod material;
mod peers;
mod rating;
mod ratings;
mod report;
mod rules;
mod service;
mod store;
mod watch;

pub use calendars::{Calendars, ImportError};
pub use case::{
    Act, ActError, Actor, Applicant, ApplicantId, Case, CaseFilter, CaseNumber, CaseResult,
    CaseTask, Client, CorrectionPoint, Delivery, Detail, Document, Due, Event, EventDetail,
    Extension, Need, NewEvent, Only, Parent, Place, Serial, SpecialInterval, StartCase,
    TRANSITIONS, Terms, Timer, Times, Transition, begin, parse_cursor, settle, step, transition,
};
pub use cases::{Answered, CaseError, Cases};
pub use catalogue::{
    Call, Catalogue, CatalogueFault, CatalogueFaults, Item, ItemId, LegalLimit, Material, Promise,
    Task,
};
pub use config::ItemConfig;
pub use coordination::{Coordinator, Network, ThroughGateway};
pub use figures::{FigureRow, Figures, Months};
pub use instance::{Instance, RunError, SERVICES, run};
pub use material::{
    CallHints, DataCalls, MATERIAL_DOCUMENTS, MaterialUpload, Materials, Shown, Verification,
};
pub use peers::Peers;
pub use rating::{
    ActOnRectification, NewRectificationStep, RECTIFICATION_DAYS, RateCase, Rated, Rating,
    RatingFilter, RatingId, Rectification, RectificationError, RectificationFilter,
    RectificationStep, StoredRater, StoredRating, WINDOW, is_bad, mask, rated_by_case,
    rated_by_contact, settle_rectification,
};
pub use ratings::{RatingError, Ratings};
pub use report::{Format, Language, Report, ReportFault};
pub use rules::rulebook;
pub use service::{
    CaseServer, CatalogueServer, DOMAIN, MaterialServer, RatingServer, StatisticsServer,
};
pub use store::{
    EventFilter, FirstAnswer, FirstRatingAnswer, MaterialEntry, MaterialEntryKind, NewCaseWrite,
    NewRatingWrite, Pending, Store, StoreError, StoredStanding, TallyRow,
};
pub use watch::Watches;
