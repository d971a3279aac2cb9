//! What the proxy reads on the wire: frames, paths, metadata, statuses, and the fields of messages that name subjects
//! or may not be disclosed.
//!
//! Everything here is pure and incremental. Input is hostile: nothing panics, nothing grows with the size of a
//! message or the length of a stream, and what cannot be read is an error or a count, never silence.
//!
//! ```text
//! body chunks ─▶ FrameReader ─┬─▶ MessageScanner ─▶ subjects, decoded size
//!                             └─▶ DisclosureMask ─▶ the fields that a grant names
//! ```

mod coding;
mod disclosure;
mod frame;
mod message;
mod metadata;
mod path;
mod status;
mod subject;
mod tag;
#[cfg(test)]
mod tests;
mod timeout;

pub use coding::{Coding, CodingError};
pub use disclosure::{DisclosureError, DisclosureMask, MaskError};
pub use frame::{Frame, FrameError, FrameReader};
pub use message::{MessageScanner, Scan, ScanSettings};
pub use metadata::{
    Basis, BasisKind, ExchangeId, Hop, MetadataFault, Reserved, Target, check_request,
    strip_response,
};
pub(crate) use metadata::{binary, binary_value};
pub use path::{CanonicalPath, MAX_PATH, PathFault, escape_path};
pub use status::{Refusal, code_of, message_of, reason_of};
pub use subject::{DEFAULT_SUBJECTS, MAX_SUBJECT, ScanCounts, Subject, SubjectPlan};
pub use timeout::{format_timeout, parse_timeout};
