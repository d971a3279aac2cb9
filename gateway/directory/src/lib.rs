//! The signed directory of the network, the catalogue of services, and the names that both use.
//!
//! Pure: no network, no files, no clock of its own. What it is not: it does not fetch or store anything; the
//! `banqiao` binary does.

#![forbid(unsafe_code)]

mod catalog;
mod clock;
mod diff;
mod document;
mod envelope;
mod key;
mod name;
mod personal;
#[cfg(test)]
mod sample;
mod text;
mod verify;

pub use catalog::{
    AskAll, CITY_FIELD, Catalog, CatalogError, DEFAULT_MESSAGE_BYTES, DEFAULT_UNARY_DEADLINE,
    DecodedSets, Finding, Idempotency, MAX_DESCRIPTOR_SET_BYTES, MAX_MESSAGE_BYTES, Method,
    OWN_SERVICE, Service, ServiceSet, disclosure_groups, field_at, field_rule, is_reserved_service,
};
pub use clock::{Clock, ManualClock};
pub use diff::{Change, ChangeKind, Scope, diff};
pub use document::{
    Agency, City, Directory, Fault, GatewayEndpoint, LedgerPolicy, MAX_DOCUMENT_BYTES, Name,
    NoteKey, NoteKeyKind, Predecessor, ProtocolRange, Purpose, Receipts, Signers, Status, System,
    WitnessPolicy,
};
pub use envelope::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, MAX_HISTORY, PAYLOAD_TYPE};
pub use key::{KeyError, PublicKey, SigningKey};
pub use name::{CityCode, NameError, SpiffeId, TrustDomain};
pub use personal::{holds_identity_number, mask_identity_numbers};
pub use text::{is_code, is_plain_text};
pub use verify::{
    DirectoryError, SignersOf, missing_signatures, verify_first, verify_history, verify_next,
};
