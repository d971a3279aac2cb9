//! Transparency logs: RFC 6962 trees.
//!
//! Pure: bytes in, values or typed errors out. It opens no file, no connection and no database, and never asks
//! what time it is.

#![forbid(unsafe_code)]

pub mod frontier;
pub mod hash;

#[cfg(test)]
mod reference;
