//! 双向转诊: a patient is referred from one hospital to another and, when the two lie in two cities, from one city's service to the other's.
//!
//! ```text
//!   referring city                                              receiving city
//!   DRAFT ◀─ documents, in chunks
//!   SENT ───────────────── letter ─────────────────────────────▶ SENT ◀─ its documents, pulled through the gateways
//!   ACCEPTED ◀──────────── a slot, held until a time ─────────── ACCEPTED | REJECTED | EXPIRED, by the clock
//!   ARRIVED, IN_CARE, FED_BACK ◀── each step, and the documents ─ ARRIVED ▸ IN_CARE ▸ FED_BACK
//!   CLOSED ─────────────── closed ─────────────────────────────▶ CLOSED
//! ```
//!
//! Law: 基本医疗卫生与健康促进法 art. 30 (Q); states and record are a proposal (D). Every transition is a row of [`TRANSITIONS`]. After
//! sending, the receiving city decides what comes first: a cancellation is asked of it, and stands when it says so.
//!
//! A step and the message that follows from it are one transaction: the message waits in the outbox until the other city's service
//! has answered. Documents go apart from messages, chunk by chunk ([`banqiao_kit::document`]).

mod act;
mod courier;
mod decide;
mod documents;
mod referrals;
mod request;
mod rule;
mod server;
mod state;
mod watch;

pub use act::{Act, Asked, Message, ReferralError};
pub use courier::{GatewaySource, ReferralCourier};
pub use documents::{REFERRAL_DOCUMENTS, Upload, header};
pub use referrals::{ReferralAnswer, Referrals};
pub use request::{parse_act, parse_create, parse_delivery};
pub(crate) use rule::rules;
pub(crate) use server::MAX_CHUNK;
pub use server::ReferralServer;
pub use state::{Party, Row, Step, TRANSITIONS};
pub use watch::ReferralWatches;

use banqiao_proto::lab::v1::ReferralStatus;
use prost_types::Timestamp;

/// Whether nothing more happens to a referral.
pub const fn is_end(status: ReferralStatus) -> bool {
    matches!(
        status,
        ReferralStatus::Rejected
            | ReferralStatus::Expired
            | ReferralStatus::Closed
            | ReferralStatus::Cancelled
    )
}

/// Microseconds since 1970-01-01 UTC.
fn us_of(at: &Timestamp) -> i64 {
    let seconds = at.seconds.saturating_mul(1_000_000);
    seconds.saturating_add(i64::from(at.nanos) / 1_000)
}
