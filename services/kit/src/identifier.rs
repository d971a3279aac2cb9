//! Identifiers of people, organisations and places, parsed from untrusted text.
//!
//! A parsed value is sound in form. Whether the person or organisation exists is for the record that holds it.

mod citizen;
mod credit;
mod division;
mod division_table;

pub use citizen::{CITIZEN_ID_RULES, CitizenId, citizen_check_digit};
pub use credit::{CREDIT_CODE_RULES, CreditCode};
pub use division::{DIVISION_RULES, Division, DivisionCode, DivisionKind, Network};
