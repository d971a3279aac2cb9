//! The item service on real databases, and as a process.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "all/browser.rs"]
mod browser;
#[path = "all/calendars.rs"]
mod calendars;
#[path = "all/cases.rs"]
mod cases;
#[path = "all/certificates.rs"]
mod certificates;
#[path = "all/command_line.rs"]
mod command_line;
#[path = "all/every_item.rs"]
mod every_item;
#[path = "all/figures.rs"]
mod figures;
#[path = "all/joint.rs"]
mod joint;
#[path = "all/killed.rs"]
mod killed;
#[path = "all/limits.rs"]
mod limits;
#[path = "all/materials.rs"]
mod materials;
#[path = "all/model.rs"]
mod model;
#[path = "all/postgres.rs"]
mod postgres;
#[path = "all/rating.rs"]
mod rating;
#[path = "all/report.rs"]
mod report;
#[path = "all/rules.rs"]
mod rules;
#[path = "all/scene.rs"]
mod scene;
#[path = "all/service.rs"]
mod service;
#[path = "all/suite.rs"]
mod suite;
#[path = "all/watching.rs"]
mod watching;
