//! The network as a whole: real gateways, real TLS, real databases, on loopback.
//!
//! One binary, so that it is linked once. Each file states the facts of one topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking"
)]

#[path = "all/calls.rs"]
mod calls;
#[path = "all/harness.rs"]
mod harness;
#[path = "all/paths.rs"]
mod paths;
#[path = "all/refusals.rs"]
mod refusals;
#[path = "all/rights.rs"]
mod rights;
#[path = "all/smuggling.rs"]
mod smuggling;
#[path = "all/transparency.rs"]
mod transparency;
