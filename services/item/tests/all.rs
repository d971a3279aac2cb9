//! The item service on real databases, and as a process.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "all/calendars.rs"]
mod calendars;
#[path = "all/command_line.rs"]
mod command_line;
#[path = "all/postgres.rs"]
mod postgres;
#[path = "all/scene.rs"]
mod scene;
#[path = "all/suite.rs"]
mod suite;
