//! The signed directory of the network, the catalogue of services, and the names that both use.
//!
//! Pure: no network, no files, no clock of its own. What it is not: it does not fetch or store anything; the
//! `banqiao` binary does.

#![forbid(unsafe_code)]

mod clock;
mod name;

pub use clock::{Clock, ManualClock};
pub use name::{CityCode, NameError, SpiffeId, TrustDomain};
