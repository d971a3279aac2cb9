//! Headers.

use super::{SheetColumn, SheetError};

/// Characters that are shown of an unknown name.
const MOST_SHOWN: usize = 40;

/// Where each column of a file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// For each of our columns, in order.
    pub(super) places: Vec<usize>,
    /// Fields of the header.
    pub(super) width: usize,
}

impl Places {
    /// Finds the columns. Names that begin with `refused_` are those of a report of refused lines, which can be sent in again.
    pub(super) fn of(names: &[String], columns: &[SheetColumn]) -> Result<Self, SheetError> {
        let mut places = vec![usize::MAX; columns.len()];
        let mut unknown = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let name = name.trim_start_matches('\u{FEFF}').trim();
            if name.starts_with(REFUSED) {
                continue;
            }
            let column = columns.iter().position(|column| is_named(column, name));
            match column.and_then(|column| places.get_mut(column)) {
                Some(place) if *place == usize::MAX => *place = at,
                _ => unknown.push(name.chars().take(MOST_SHOWN).collect()),
            }
        }
        let missing = columns
            .iter()
            .zip(&places)
            .filter(|(_, place)| **place == usize::MAX);
        let missing: Vec<_> = missing.map(|(column, _)| column.name.to_owned()).collect();
        if !unknown.is_empty() || !missing.is_empty() {
            let wanted: Vec<_> = columns.iter().map(described).collect();
            if missing.len() == columns.len() {
                // It is no header, and may be what somebody's record says.
                unknown.clear();
            }
            return Err(SheetError::Header {
                wanted: wanted.join(", "),
                missing,
                unknown,
            });
        }
        Ok(Self {
            places,
            width: names.len(),
        })
    }
}

/// A column with its further names.
fn described(column: &SheetColumn) -> String {
    if column.also.is_empty() {
        column.name.to_owned()
    } else {
        format!("{} ({})", column.name, column.also.join(", "))
    }
}

/// What the columns begin with that a report of refused lines puts before the line's own.
pub(super) const REFUSED: &str = "refused_";

fn is_named(column: &SheetColumn, name: &str) -> bool {
    let same = |known: &str| known.eq_ignore_ascii_case(name);
    same(column.name) || column.also.iter().any(|known| same(known))
}
