//! Transparency logs: RFC 6962 trees, and the C2SP formats in which they are served, signed and witnessed.
//!
//! Pure: bytes in, values or typed errors out. It opens no file, no connection and no database, and never asks
//! what time it is. Everything that reads bytes from outside bounds what it keeps of them and does not panic.
//!
//! | module | format |
//! |---|---|
//! | [`hash`], [`frontier`] | RFC 6962 §2.1: hashes, and the right edge of a growing tree |
//! | [`tile`] | C2SP `tlog-tiles`: coordinates, paths, growing tiles, entry bundles |
//! | [`proof`] | RFC 9162 §2.1.3 and §2.1.4: inclusion and consistency, verified and made from tiles |
//! | [`note`] | C2SP `signed-note`, Ed25519 (0x01) |
//! | [`checkpoint`] | C2SP `tlog-checkpoint` |
//! | [`cosignature`] | C2SP `tlog-cosignature`, `cosignature/v1` (0x04), and the quorum of witnesses |
//! | [`witness`] | C2SP `tlog-witness`, `add-checkpoint` |
//! | [`tlog_proof`] | C2SP `tlog-proof` |
//! | [`verify`] | a whole log verified again, leaf by leaf |

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cosignature;
pub mod frontier;
pub mod hash;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tlog_proof;
pub mod verify;
pub mod witness;

mod text;

#[cfg(test)]
mod reference;
