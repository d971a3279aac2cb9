//! The `banqiao` program: config → build → serve → drain, and the command line of operators and auditors.
//!
//! What it is not: a library for others. It is one so that its parts can be tested and documented.

#![forbid(unsafe_code)]

pub mod admin;
pub mod answer;
pub mod archive;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod call;
pub mod cli;
pub mod config;
pub mod connect;
pub mod demo;
pub mod directory;
pub mod exit;
pub mod grant;
pub mod moment;
pub mod notekey;
pub mod operate;
pub mod ops;
mod outcomes;
pub mod pki;
pub mod reasons;
pub mod recover;
pub mod sandbox;
pub mod serve;
pub mod service;
pub mod text;
pub mod verify;

#[cfg(test)]
mod testing;
