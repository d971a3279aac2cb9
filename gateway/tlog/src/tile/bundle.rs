//! Entry bundles (C2SP `tlog-tiles`, Log entries): entries one after the other, each behind its length as a
//! big-endian 16-bit number.

use super::{BundleId, WIDTH};

/// The largest entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// The largest bundle, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 256 * (2 + MAX_ENTRY_BYTES);

/// Why something is not an entry bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not as many entries as the bundle has.
    #[error("{bundle} has {} entries, not {found}", .bundle.width())]
    Count {
        /// The bundle.
        bundle: BundleId,
        /// Entries found, counted up to one too many.
        found: usize,
    },
    /// No entries, or more than 256.
    #[error("a bundle has 1 to 256 entries, not {0}")]
    Entries(usize),
    /// An entry above [`MAX_ENTRY_BYTES`].
    #[error("entry {position} of the bundle has {length} bytes, at most 65,535 are allowed")]
    EntryLength {
        /// Which entry of the bundle, from 0.
        position: usize,
        /// Its bytes.
        length: usize,
    },
    /// The bytes end within an entry or its length.
    #[error("the bundle ends within entry {position}")]
    Truncated {
        /// Which entry of the bundle, from 0.
        position: usize,
    },
}

/// Writes a bundle of 1 to 256 entries.
///
/// # Errors
///
/// [`BundleError::Entries`] or [`BundleError::EntryLength`].
pub fn encode_bundle(entries: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, BundleError> {
    if entries.is_empty() || entries.len() > usize::from(WIDTH) {
        return Err(BundleError::Entries(entries.len()));
    }
    let bytes = entries.iter().map(|entry| 2 + entry.as_ref().len()).sum();
    let mut bundle = Vec::with_capacity(bytes);
    for (position, entry) in entries.iter().enumerate() {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| BundleError::EntryLength {
            position,
            length: entry.len(),
        })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Reads the entries of a bundle: exactly as many as it is wide, and nothing after them.
///
/// # Errors
///
/// [`BundleError::Count`] or [`BundleError::Truncated`].
pub fn decode_bundle(bundle: BundleId, bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let width = usize::from(bundle.width());
    let mut entries = Vec::with_capacity(width);
    let mut rest = bytes;
    while !rest.is_empty() {
        let position = entries.len();
        if position == width {
            return Err(BundleError::Count {
                bundle,
                found: width + 1,
            });
        }
        let entry = rest.split_first_chunk().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, after)) = entry else {
            return Err(BundleError::Truncated { position });
        };
        entries.push(entry);
        rest = after;
    }
    if entries.len() != width {
        return Err(BundleError::Count {
            bundle,
            found: entries.len(),
        });
    }
    Ok(entries)
}
