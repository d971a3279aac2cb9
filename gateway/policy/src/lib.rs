//! Grants: who may call which method for which purpose, and what they see of the answers.
//!
//! The provider's gateway holds the grants of its city's services as one immutable [`GrantSet`] and asks it about
//! each call; [`GrantSet::explain`] answers the same question in words, by the same code. Nothing is permitted that
//! no grant names. Pure: no database, no clock; the gateway loads, swaps and times the sets.

#![forbid(unsafe_code)]

mod client;
mod explain;
mod grant;
mod parse;
mod rate;
mod set;

pub use client::ClientPattern;
pub use explain::{Consideration, Explanation, Finding};
pub use grant::{Disclosed, Grant, Rate};
pub use parse::{GrantFault, GrantProblem};
pub use rate::{RateLimiter, RetryAfter};
pub use set::{Decision, GrantSet};

#[cfg(test)]
mod tests;
