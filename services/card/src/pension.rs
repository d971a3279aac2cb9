//! 养老保险关系转移接续: a person's pension relation moves from one city to another.
//!
//! ```text
//!   new city 转入地                                            old city 转出地
//!   1 申请 ──▶ UNDER_REVIEW
//!   2 审核 ──▶ LETTER_ISSUED ──────── contact letter ─────────▶ TRANSFERRING_OUT
//!              AWAITING_TRANSFER_OUT ◀─ information table ────── 3 TRANSFERRED_OUT, funds by the bank
//!              AWAITING_FUNDS | AWAITING_TABLE   ─ correction ─▶ DISPUTED
//!   4 办结 ◀── COMPLETING (table and funds) ── completion ─────▶ COMPLETED
//! ```
//!
//! Law: 国办发〔2009〕66号 (steps and limits, Q), 社会保险经办条例 art. 12 to 16 (Q). Every transition with its source is a row of
//! [`state::TRANSITIONS`]; every limit is 15 working days of the kit's calendar, counted when it is asked for, so that a year
//! whose working days are not known yet is flagged and never guessed.
//!
//! A decision and the document that follows from it are one transaction: the document waits in the outbox and is sent until
//! the other city's service has answered. Every answer is kept under its request id, so that nothing counts twice.

mod act;
mod amounts;
mod clock;
mod courier;
mod decide;
mod request;
mod rule;
mod server;
mod settings;
pub mod state;
mod store;
mod transfers;
mod watch;

pub use act::{Act, Asked, Document, PensionError};
pub use courier::PensionCourier;
pub use request::{Application, parse_advance, parse_application, parse_delivery, parse_funds};
pub(crate) use rule::rules;
pub use server::PensionServer;
pub use settings::{FundsRule, PensionSettings};
pub use store::{NewTransferEvent, PensionStore, StoredEvent, StoredTransfer};
pub use transfers::{Transfers, Transition};
pub use watch::ProgressWatches;
