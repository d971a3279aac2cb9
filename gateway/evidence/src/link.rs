//! The link of a receipt's checkpoint to one that witnesses saw, as text:
//!
//! ```text
//! banqiao-link/1
//! old <size>
//! <root of the old tree, base64>
//! <hash of the consistency proof, base64>, one a line
//! (empty line)
//! <the cosigned checkpoint: a C2SP signed note>
//! ```

use std::fmt;

use banqiao_tlog::{
    hash::{Hash, TreeHead},
    note::Note,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const HEADER: &str = "banqiao-link/1";

/// Why bytes are no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a link of a receipt to a cosigned checkpoint")]
pub struct LinkError;

/// A link. Parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The tree of the receipt's checkpoint.
    pub old: TreeHead,
    /// Consistency proof (RFC 6962 §2.1.2).
    pub proof: Vec<Hash>,
    /// The cosigned checkpoint.
    pub note: Note,
}

impl Link {
    /// Reads a link.
    ///
    /// # Errors
    ///
    /// [`LinkError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LinkError> {
        let text = std::str::from_utf8(bytes).map_err(|_| LinkError)?;
        let (head, note) = text.split_once("\n\n").ok_or(LinkError)?;
        let mut lines = head.lines();
        if lines.next() != Some(HEADER) {
            return Err(LinkError);
        }
        let size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(|size| size.parse().ok())
            .ok_or(LinkError)?;
        let root = lines.next().and_then(decode_hash).ok_or(LinkError)?;
        let proof = lines
            .map(decode_hash)
            .collect::<Option<Vec<Hash>>>()
            .ok_or(LinkError)?;
        Ok(Self {
            old: TreeHead { size, root },
            proof,
            note: Note::parse(note.as_bytes()).map_err(|_| LinkError)?,
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        writeln!(f, "old {}", self.old.size)?;
        writeln!(f, "{}", STANDARD.encode(self.old.root))?;
        for hash in &self.proof {
            writeln!(f, "{}", STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

fn decode_hash(line: &str) -> Option<Hash> {
    STANDARD.decode(line).ok()?.try_into().ok()
}
