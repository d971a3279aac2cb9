//! One suite for both stores, with a real PostgreSQL.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

mod append;
mod archive;
mod backup;
mod bed;
mod calls;
mod crash;
mod erase;
mod faults;
mod index;
mod keys;
mod postgres;
mod postgres_faults;
mod reconcile;
mod records;
mod search;
mod sqlite_faults;
mod standing;
mod tree;
mod verify;
mod verify_tiles;
