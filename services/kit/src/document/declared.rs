//! What is said of a document before its bytes come.

use std::fmt;

use super::{content_type, rule};
use crate::rule::{Broken, Rule, Violations};

/// SHA-256 of a document's bytes: its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentDigest([u8; 32]);

impl DocumentDigest {
    /// The digest of 32 bytes as sent.
    ///
    /// # Errors
    /// It has another length.
    pub fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| Broken(&rule::DIGEST))
    }

    /// The digest of a document's bytes.
    pub fn of(content: &[u8]) -> Self {
        Self(super::sha256(content))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for DocumentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DocumentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentDigest({self})")
    }
}

/// Which documents a service takes.
#[derive(Clone, Copy, Debug)]
pub struct DocumentTerms {
    /// Largest document in bytes.
    pub max_bytes: u64,
    /// Names of the content types.
    pub content_types: &'static [&'static str],
    /// Rule of the size.
    pub size_rule: &'static Rule,
    /// Rule of the content type.
    pub type_rule: &'static Rule,
}

/// A document that is about to come, or that a record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredDocument {
    digest: DocumentDigest,
    size: u64,
    content_type: &'static super::ContentType,
}

impl DeclaredDocument {
    /// Parses what is declared; faults are those of `sha256`, `size` and `content_type`, below `path` with its dot.
    pub fn parse(
        terms: &DocumentTerms,
        (sha256, size, name): (&[u8], u64, &str),
        path: &str,
        faults: &mut Violations,
    ) -> Option<Self> {
        let digest = faults.check(format!("{path}sha256"), DocumentDigest::parse(sha256));
        let fits = (1..=terms.max_bytes).contains(&size) && i64::try_from(size).is_ok();
        let size = fits.then_some(size).ok_or(Broken(terms.size_rule));
        let size = faults.check(format!("{path}size"), size);
        let known = content_type(name).filter(|known| terms.content_types.contains(&known.name));
        let known = known.ok_or(Broken(terms.type_rule));
        let content_type = faults.check(format!("{path}content_type"), known);
        Some(Self {
            digest: digest?,
            size: size?,
            content_type: content_type?,
        })
    }

    /// What it is named by.
    pub const fn digest(&self) -> &DocumentDigest {
        &self.digest
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Name of its content type.
    pub const fn content_type(&self) -> &'static str {
        self.content_type.name
    }

    /// Whether a whole first chunk can be the beginning of it.
    pub(super) fn fits(&self, beginning: &[u8]) -> bool {
        self.content_type.fits(beginning)
    }
}
