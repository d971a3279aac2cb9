//! Evidence of one exchange: a file that proves offline what two cities' ledgers hold of it (LEDGER.md §5).
//!
//! ```text
//! manifest.json                    what the file is, and the SHA-256 of everything else in it
//! directory.json                   the signed directory, with its history
//! <city>/<index>.entry             an entry, as it is hashed
//! <city>/<index>.tlog-proof        C2SP tlog-proof: it is in the tree of a cosigned checkpoint
//! <city>/<index>.private           the opening of its private part, where the asker might see it
//! receipts/<sha256>.receipt        what the other side was given during the call
//! receipts/<sha256>.link           the receipt's checkpoint is the beginning of a cosigned one
//! certificates/<sha256>.der        the client's certificate, by the hash of its key
//! crls/<trust domain>.crl          its city's list of revoked certificates, as it was known at the time
//! ```
//!
//! Pure: [`verify()`] needs the file and the digest of the first directory, and nothing else. What this crate is not: it
//! asks no gateway; who may have an evidence file is decided where it is made.

#![forbid(unsafe_code)]

mod bundle;
mod link;
mod report;
mod verify;

pub use bundle::{Bundle, BundleError, FORMAT, Made, Manifest, names};
pub use link::{Link, LinkError};
pub use report::{Finding, Report, Standing, Verdict};
pub use verify::{Payload, PayloadKind, verify};
