//! Message compression (gRPC over HTTP/2, "Message-Encoding") and its limits.

mod inflate;

use banqiao_proto::{exchange::v1::Reason, ledger::v1::Encoding};
use http::HeaderMap;

pub(super) use inflate::Inflating;

/// How the messages of a direction are compressed, where their flag says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// None.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950: gRPC's `deflate` is the zlib format.
    Deflate,
    /// RFC 8878; carried, but not readable here.
    Zstd,
    /// Another one; carried, but not readable here.
    Other,
}

impl Coding {
    /// Reads `grpc-encoding`.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
            None | Some(b"identity" | b"") => Self::Identity,
            Some(b"gzip") => Self::Gzip,
            Some(b"deflate") => Self::Deflate,
            Some(b"zstd") => Self::Zstd,
            Some(_) => Self::Other,
        }
    }

    /// Whether compressed messages can be looked into.
    pub const fn is_readable(self) -> bool {
        matches!(self, Self::Gzip | Self::Deflate)
    }

    /// The coding as an entry names it.
    pub const fn ledger(self) -> Encoding {
        match self {
            Self::Identity => Encoding::Unspecified,
            Self::Gzip => Encoding::Gzip,
            Self::Deflate => Encoding::Deflate,
            Self::Zstd => Encoding::Zstd,
            Self::Other => Encoding::Other,
        }
    }
}

/// Why a compressed message cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// It decodes to more than twenty times its length.
    #[error("a compressed message decodes to more than 20 times its length")]
    Amplified,
    /// Not what the coding prescribes.
    #[error("a compressed message is corrupt")]
    Corrupt,
    /// It decodes to more than the limit.
    #[error("a compressed message decodes to more than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: u64,
    },
    /// It ends before its coding does.
    #[error("a compressed message ends early")]
    Truncated,
    /// Flagged as compressed, and the headers announce no coding, or one that this gateway cannot read.
    #[error("a message is compressed with a coding that this gateway cannot read")]
    Unreadable,
}

impl CodingError {
    /// The reason with which a gateway ends the call.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Amplified | Self::TooLarge { .. } => Reason::MessageTooLarge,
            Self::Corrupt | Self::Truncated | Self::Unreadable => Reason::MessageMalformed,
        }
    }
}
