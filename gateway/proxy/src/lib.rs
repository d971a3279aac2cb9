//! The data plane of a city's gateway: plain gRPC in, authorised, recorded, and carried to the service and back.
//!
//! ```text
//! accept ─▶ connection ─▶ stack: identity ▸ admit ▸ resolve ▸ authorise ▸ rate ▸ forward ▸ disclose
//!  (TLS)      (h2)          └─ record around all of them ─▶ ledger        └─▶ upstream (h2, TLS)
//! ```
//!
//! It carries any gRPC method whose descriptor is registered, without generated code: bytes are hashed, scanned for
//! subjects and, where a grant names fields, cut while they pass. What it is not: it holds no rules of its own about
//! who may call what (`banqiao-policy`), and it does not know how entries are stored (`banqiao-ledger`).

#![forbid(unsafe_code)]

mod accept;
mod admit;
mod adopt;
mod all;
mod authorise;
mod call;
mod calls;
mod carried;
mod clients;
mod connection;
mod cork;
mod credentials;
mod forward;
mod gateway;
mod identity;
mod local;
mod peers;
mod pressure;
mod rate;
mod receipts;
mod reconcile;
mod record;
mod refusal;
mod rescue;
mod resolve;
mod rights;
pub mod settings;
mod stack;
mod state;
mod subject;
mod transparency;
mod upstream;
pub mod wire;
mod worker;

pub use carried::{Carried, unreadable_subjects};
pub use gateway::{
    ConfiguredService, Control, DirectoryProblem, EndpointState, Gateway, Parts, PublishError,
    StartError, Status,
};
pub use reconcile::{
    DEFAULT_RECONCILE_GRACE, DEFAULT_RECONCILE_INTERVAL, DEFAULT_RECONCILE_WINDOW, ReconcileEvent,
    ReconcileOutcome, ReconcileSettings,
};
pub use rights::{Route, Snapshot};
pub use settings::Limits;
pub use subject::{EnteredReport, SubjectError, SubjectQuestion};
pub use transparency::{
    Alarm, DEFAULT_MONITOR_INTERVAL, DEFAULT_WITNESS_PATIENCE, DEFAULT_WITNESSED_WITHIN, Fork,
    LinkState, Standing, TransparencySettings, WitnessState, Witnessed,
};

use std::path::PathBuf;

use banqiao_directory::{CityCode, TrustDomain};

/// Whose gateway this is.
#[derive(Clone, Debug)]
pub struct Names {
    /// The city.
    pub city: CityCode,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// Folder of what is kept beside the ledger.
    pub state: PathBuf,
}
