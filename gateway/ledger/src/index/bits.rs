//! Sets of entries of a unit.

use super::Level;
use crate::store::StoreError;

/// First byte of a stored list of positions, two bytes each, rising.
const LIST: u8 = 0;
/// First byte of a stored bit for each entry, lowest first.
const MAP: u8 = 1;

const CORRUPT: StoreError = StoreError::Corrupt("index");

/// Some entries of a unit, by their position in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    /// None of a unit's entries. Groups and ranges have no sets.
    pub(crate) fn none(level: Level) -> Self {
        let words = usize::try_from(level.entries() / 64).unwrap_or(0);
        Self(vec![0; words].into())
    }

    /// The entries at positions from one until another.
    pub(crate) fn between(level: Level, from: u64, until: u64) -> Self {
        let mut bits = Self::none(level);
        bits.add_between(from, until);
        bits
    }

    /// Adds the entries at positions from one until another.
    pub(crate) fn add_between(&mut self, from: u64, until: u64) {
        for (word, first) in self.0.iter_mut().zip((0_u64..).step_by(64)) {
            let low = from.saturating_sub(first).min(64);
            let high = until.saturating_sub(first).min(64);
            if low < high {
                let below = |bit: u64| {
                    1_u64
                        .checked_shl(u32::try_from(bit).unwrap_or(64))
                        .map_or(u64::MAX, |bit| bit - 1)
                };
                *word |= below(high) & !below(low);
            }
        }
    }

    /// Adds the entry at a position.
    pub(crate) fn add(&mut self, position: u64) {
        let word = usize::try_from(position / 64).ok();
        if let Some(word) = word.and_then(|at| self.0.get_mut(at)) {
            *word |= 1 << (position % 64);
        }
    }

    /// Adds a stored set.
    pub(crate) fn add_stored(&mut self, stored: &[u8]) -> Result<(), StoreError> {
        match stored.split_first() {
            Some((&MAP, map)) => {
                let (words, rest) = map.as_chunks::<8>();
                if words.len() != self.0.len() || !rest.is_empty() {
                    return Err(CORRUPT);
                }
                for (word, added) in self.0.iter_mut().zip(words) {
                    *word |= u64::from_le_bytes(*added);
                }
            }
            _ => {
                for position in positions(stored)? {
                    self.add(position.into());
                }
            }
        }
        Ok(())
    }

    /// Keeps what is in another set of the same level too.
    pub(crate) fn keep(&mut self, other: &Self) {
        for (word, kept) in self.0.iter_mut().zip(&other.0) {
            *word &= kept;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The unit's segments that some of the entries are in, by their place in it, rising.
    pub(crate) fn segments(&self) -> impl Iterator<Item = u64> + '_ {
        let words = usize::try_from(Level::Segment.entries() / 64).unwrap_or(1);
        let segments = (0_u64..).zip(self.0.chunks(words));
        segments
            .filter(|(_, segment)| segment.iter().any(|word| *word != 0))
            .map(|(place, _)| place)
    }

    /// The positions, rising.
    pub(crate) fn positions(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        // Sets are of at most 16,384 entries.
        (0_u64..)
            .step_by(64)
            .take(self.0.len())
            .zip(self.0.iter())
            .collect::<Vec<_>>()
            .into_iter()
            .filter(|(_, word)| **word != 0)
            .flat_map(|(first, word)| {
                (0..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| first + bit)
            })
    }
}

/// A set as it is stored: in the shorter of two forms. The positions rise.
pub(super) fn stored(level: Level, positions: &[u16]) -> Vec<u8> {
    let map = usize::try_from(level.entries() / 8).unwrap_or(usize::MAX);
    if positions.len() * 2 <= map {
        let mut list = Vec::with_capacity(1 + positions.len() * 2);
        list.push(LIST);
        list.extend(positions.iter().flat_map(|position| position.to_be_bytes()));
        return list;
    }
    let mut bits = Bits::none(level);
    for position in positions {
        bits.add((*position).into());
    }
    let mut map = vec![MAP];
    map.extend(bits.0.iter().flat_map(|word| word.to_le_bytes()));
    map
}

/// The positions of a stored set, rising.
pub(super) fn positions(stored: &[u8]) -> Result<Vec<u16>, StoreError> {
    let position = |number: usize| u16::try_from(number).map_err(|_| CORRUPT);
    match stored.split_first() {
        Some((&LIST, list)) => {
            let (list, []) = list.as_chunks::<2>() else {
                return Err(CORRUPT);
            };
            Ok(list.iter().map(|it| u16::from_be_bytes(*it)).collect())
        }
        Some((&MAP, map)) => (0..map.len() * 8)
            .filter(|at| {
                map.get(at / 8)
                    .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
            })
            .map(position)
            .collect(),
        _ => Err(CORRUPT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn level() -> impl Strategy<Value = Level> {
        prop_oneof![Just(Level::Segment), Just(Level::Chunk)]
    }

    proptest! {
        #[test]
        fn sets_are_stored_and_read_as_they_are(level in level(), some in btree_set(0_u16..4_096, 0..4_096)) {
            let some: Vec<u16> = some.into_iter().collect();
            let bytes = stored(level, &some);
            prop_assert!(bytes.len() <= 1 + (some.len() * 2).min(usize::try_from(level.entries() / 8).unwrap()));
            prop_assert_eq!(&positions(&bytes).unwrap(), &some);
            let mut bits = Bits::none(level);
            bits.add_stored(&bytes).unwrap();
            let wide: Vec<u64> = some.iter().map(|it| (*it).into()).collect();
            prop_assert_eq!(&bits.positions().collect::<Vec<_>>(), &wide);
            prop_assert_eq!(bits.positions().rev().collect::<Vec<_>>(), wide.into_iter().rev().collect::<Vec<_>>());
            prop_assert_eq!(bits.is_empty(), some.is_empty());
        }

        #[test]
        fn intervals_hold_what_lies_in_them(from in 0_u64..4_200, until in 0_u64..4_200) {
            let bits = Bits::between(Level::Segment, from, until);
            let expected: Vec<u64> = (from..until.min(4_096)).collect();
            prop_assert_eq!(bits.positions().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn full_map_and_its_intersection() {
        let all: Vec<u16> = (0..16_384).collect();
        let bytes = stored(Level::Chunk, &all);
        assert_eq!(bytes.len(), 1 + 2_048);
        assert_eq!(positions(&bytes).unwrap(), all);
        let mut bits = Bits::between(Level::Chunk, 0, 16_384);
        let mut read = Bits::none(Level::Chunk);
        read.add_stored(&bytes).unwrap();
        assert!(bits == read);
        assert_eq!(bits.segments().collect::<Vec<_>>(), [0, 1, 2, 3]);
        bits.keep(&Bits::between(Level::Chunk, 4_095, 8_193));
        assert_eq!(bits.segments().collect::<Vec<_>>(), [0, 1, 2]);
        bits.keep(&Bits::between(Level::Chunk, 8_000, 16_384));
        assert_eq!(bits.segments().collect::<Vec<_>>(), [1, 2]);
        bits.keep(&Bits::between(Level::Chunk, 8_191, 8_193));
        assert_eq!(bits.positions().collect::<Vec<_>>(), [8_191, 8_192]);
    }

    #[test]
    fn malformed_sets_are_corrupt() {
        for bytes in [&[][..], &[2, 0, 0], &[LIST, 0], &[MAP, 0, 0, 0]] {
            let read = Bits::none(Level::Segment).add_stored(bytes);
            assert!(read.is_err(), "{bytes:?}");
        }
    }
}
