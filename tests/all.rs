//! The network as a whole: real gateways, real TLS, real databases, on loopback.
//!
//! One binary, so that it is linked once. Each file states the facts of one topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it does on standard output, and what went wrong by panicking"
)]

#[path = "all/all_cities.rs"]
mod all_cities;
#[path = "all/archive.rs"]
mod archive;
#[path = "all/benefits.rs"]
mod benefits;
#[path = "all/calls.rs"]
mod calls;
#[path = "all/card.rs"]
mod card;
#[path = "all/clients.rs"]
mod clients;
#[path = "all/clocks.rs"]
mod clocks;
#[path = "all/commands.rs"]
mod commands;
#[path = "all/crash.rs"]
mod crash;
#[path = "all/demo.rs"]
mod demo;
#[path = "all/deploy.rs"]
mod deploy;
#[path = "all/directory.rs"]
mod directory;
#[path = "all/erase.rs"]
mod erase;
#[path = "all/evidence.rs"]
mod evidence;
#[path = "all/export.rs"]
mod export;
#[path = "all/harness.rs"]
mod harness;
#[path = "all/item.rs"]
mod item;
#[path = "all/lab.rs"]
mod lab;
#[path = "all/memory.rs"]
mod memory;
#[path = "all/monitors.rs"]
mod monitors;
#[path = "all/outgoing.rs"]
mod outgoing;
#[path = "all/paths.rs"]
mod paths;
#[path = "all/pension.rs"]
mod pension;
#[path = "all/receipts.rs"]
mod receipts;
#[path = "all/reconcile.rs"]
mod reconcile;
#[path = "all/referral.rs"]
mod referral;
#[path = "all/refusals.rs"]
mod refusals;
#[path = "all/restore.rs"]
mod restore;
#[path = "all/rights.rs"]
mod rights;
#[path = "all/rotation.rs"]
mod rotation;
#[path = "all/smuggling.rs"]
mod smuggling;
#[path = "all/subject.rs"]
mod subject;
#[path = "all/telemetry.rs"]
mod telemetry;
#[path = "all/transparency.rs"]
mod transparency;
#[path = "all/witnesses.rs"]
mod witnesses;
