//! Paths of tiles and entry bundles (C2SP `tlog-tiles`, Merkle Tree and Log entries).

use std::{fmt, str::FromStr};

use super::{TileError, TileId, WIDTH};
use crate::text::decimal;

/// Which entry bundle: its index, and the entries in it (256 if it is full).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleId {
    index: u64,
    width: u16,
}

impl BundleId {
    /// A bundle by its coordinates.
    ///
    /// # Errors
    ///
    /// [`TileError::Width`] of 0 or above 256.
    pub const fn new(index: u64, width: u16) -> Result<Self, TileError> {
        if width == 0 || width > WIDTH {
            return Err(TileError::Width(width));
        }
        Ok(Self { index, width })
    }

    /// The bundle as wide as a tree of `size` leaves has it, or nothing if the tree ends before it.
    pub fn widest(index: u64, size: u64) -> Option<Self> {
        TileId::widest(0, index, size).map(|tile| Self {
            index,
            width: tile.width(),
        })
    }

    /// Index: the first entry is `index × 256`.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Entries, 1 to 256.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it has 256 entries.
    pub const fn is_full(self) -> bool {
        self.width == WIDTH
    }
}

/// `tile/<L>/<N>[.p/<W>]`.
impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level())?;
        write_coordinates(self.index(), self.width(), f)
    }
}

impl FromStr for TileId {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/").ok_or(TileError::Path)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError::Path)?;
        let level = decimal(level, u64::from(u8::MAX))
            .and_then(|level| u8::try_from(level).ok())
            .ok_or(TileError::Path)?;
        let (index, width) = coordinates(rest).ok_or(TileError::Path)?;
        Self::new(level, index, width)
    }
}

/// `tile/entries/<N>[.p/<W>]`.
impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_coordinates(self.index, self.width, f)
    }
}

impl FromStr for BundleId {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/entries/").ok_or(TileError::Path)?;
        let (index, width) = coordinates(rest).ok_or(TileError::Path)?;
        Self::new(index, width)
    }
}

fn write_coordinates(index: u64, width: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_elements(index / 1_000, f)?;
    write!(f, "{:03}", index % 1_000)?;
    if width < WIDTH {
        write!(f, ".p/{width}")?;
    }
    Ok(())
}

/// The path elements before the last one. At most six: 1000^7 is more than 2^64.
fn write_elements(index: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if index == 0 {
        return Ok(());
    }
    write_elements(index / 1_000, f)?;
    write!(f, "x{:03}/", index % 1_000)
}

fn coordinates(text: &str) -> Option<(u64, u16)> {
    let (elements, width) = match text.split_once(".p/") {
        Some((elements, width)) => {
            let width = decimal(width, u64::from(WIDTH) - 1)?;
            (
                elements,
                u16::try_from(width).ok().filter(|width| *width > 0)?,
            )
        }
        None => (text, WIDTH),
    };
    let (leading, last) = match elements.rsplit_once('/') {
        Some((leading, last)) => (Some(leading), last),
        None => (None, elements),
    };
    let mut index = 0_u64;
    for element in leading.into_iter().flat_map(|leading| leading.split('/')) {
        let digits = three_digits(element.strip_prefix('x')?)?;
        // A leading x000 would be a second path of the same tile.
        if index == 0 && digits == 0 {
            return None;
        }
        index = index.checked_mul(1_000)?.checked_add(digits)?;
    }
    let index = index.checked_mul(1_000)?.checked_add(three_digits(last)?)?;
    Some((index, width))
}

fn three_digits(element: &str) -> Option<u64> {
    if element.len() != 3 || !element.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    element.parse().ok()
}
