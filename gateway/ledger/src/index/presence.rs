//! Which chunks of a group hold a search token.
//!
//! Tokens are random, so the first bits of one tell it from nearly all others. The first ten say in which part of a group it
//! is looked up; a part is a sorted list of pairs of three bytes, of the bits that follow and the chunk's place
//! in the group. Two tokens that begin alike make a chunk be looked into in vain, and so does a token that was erased
//! later; none is ever passed over.

use super::Level;
use crate::{private::Token, store::StoreError};

/// Bits of a token that name its part.
const PART_BITS: u32 = 10;
/// Bits of a pair.
const PAIR_BITS: u32 = 24;

/// A part of a group, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) part: i16,
    pub(crate) pairs: Vec<u8>,
}

/// Where a token is looked up in groups of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) part: i16,
    /// What its pairs begin with.
    rest: u32,
    /// Bits of a chunk's place in the group.
    place_bits: u32,
}

impl Probe {
    pub(crate) fn new(level: Level, token: &Token) -> Self {
        let place_bits = level.holds(Level::Chunk).trailing_zeros();
        let [a, b, c, d, e, ..] = token.0;
        let bits = u64::from_be_bytes([a, b, c, d, e, 0, 0, 0]);
        let part = bits >> (u64::BITS - PART_BITS);
        let rest = (bits << PART_BITS) >> (u64::BITS - (PAIR_BITS - place_bits));
        Self {
            part: i16::try_from(part).unwrap_or(i16::MAX),
            rest: u32::try_from(rest).unwrap_or(u32::MAX),
            place_bits,
        }
    }

    /// The pair of a chunk, by its place in the group.
    const fn pair(self, place: u32) -> u32 {
        self.rest << self.place_bits | place
    }

    /// The places of the chunks that hold the token, by the pairs of its part.
    pub(crate) fn places(self, pairs: &[u8]) -> Result<Vec<u64>, StoreError> {
        let (pairs, []) = pairs.as_chunks::<3>() else {
            return Err(StoreError::Corrupt("index"));
        };
        let pairs = pairs
            .iter()
            .map(|[a, b, c]| u32::from_be_bytes([0, *a, *b, *c]));
        Ok(pairs
            .filter(|pair| pair >> self.place_bits == self.rest)
            .map(|pair| u64::from(pair & ((1 << self.place_bits) - 1)))
            .collect())
    }
}

/// The tokens of a group, while they are read.
#[derive(Debug)]
pub(crate) struct Gathering {
    level: Level,
    /// Part and pair.
    found: Vec<(i16, u32)>,
}

impl Gathering {
    pub(crate) const fn new(level: Level) -> Self {
        Self {
            level,
            found: Vec::new(),
        }
    }

    pub(crate) const fn level(&self) -> Level {
        self.level
    }

    /// Adds a token of a chunk, by its place in the group.
    pub(crate) fn add(&mut self, token: &Token, place: u32) {
        let probe = Probe::new(self.level, token);
        self.found.push((probe.part, probe.pair(place)));
    }

    /// The parts that are not empty.
    pub(super) fn parts(mut self) -> Vec<Part> {
        self.found.sort_unstable();
        self.found.dedup();
        let parts = self.found.chunk_by(|(one, _), (next, _)| one == next);
        parts
            .filter_map(|pairs| {
                let (part, _) = pairs.first()?;
                let bytes = pairs.iter().map(|(_, pair)| pair.to_be_bytes());
                Some(Part {
                    part: *part,
                    pairs: bytes.flat_map(|[_, a, b, c]| [a, b, c]).collect(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::index::GroupSize;

    proptest! {
        #[test]
        fn every_token_is_found_where_it_is(
            number in 15_u8..=21,
            tokens in vec((any::<[u8; 16]>(), 0_u32..256), 1..300),
        ) {
            let level = Level::Group(GroupSize::nearest(number));
            let chunks = u32::try_from(level.holds(Level::Chunk)).unwrap();
            let mut gathering = Gathering::new(level);
            let mut places = BTreeMap::<Token, BTreeSet<u64>>::new();
            for (token, place) in &tokens {
                let (token, place) = (Token(*token), place % chunks);
                // Twice, as a token stands in a chunk more than once.
                gathering.add(&token, place);
                gathering.add(&token, place);
                places.entry(token).or_default().insert(place.into());
            }
            let parts = gathering.parts();
            prop_assert!(parts.iter().map(|part| part.pairs.len()).sum::<usize>() <= 3 * tokens.len());
            prop_assert!(parts.is_sorted_by_key(|part| part.part));
            let look = |token: &Token| {
                let probe = Probe::new(level, token);
                parts
                    .iter()
                    .filter(|part| part.part == probe.part)
                    .flat_map(|part| probe.places(&part.pairs).unwrap())
                    .collect::<BTreeSet<u64>>()
            };
            for (token, places) in places {
                prop_assert!(look(&token).is_superset(&places));
                // What differs in the bits that count is another token.
                let mut other = token;
                other.0[0] ^= 1;
                let none = look(&other).is_empty();
                prop_assert!(none || tokens.iter().any(|(it, _)| it[..3] == other.0[..3]));
            }
        }
    }

    #[test]
    fn places_and_tokens_do_not_mix() {
        let level = Level::Group(GroupSize::nearest(18));
        let mut gathering = Gathering::new(level);
        let token = |first: u8, fourth: u8| {
            let mut token = [0xff; 16];
            (token[0], token[3]) = (first, fourth);
            Token(token)
        };
        gathering.add(&token(7, 0), 0);
        gathering.add(&token(7, 0), 15);
        gathering.add(&token(7, 0xfc), 3);
        let parts = gathering.parts();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].pairs.len(), 9);
        let places = |token| Probe::new(level, &token).places(&parts[0].pairs).unwrap();
        assert_eq!(places(token(7, 0)), [0, 15]);
        assert_eq!(places(token(7, 0xfc)), [3]);
        assert_eq!(places(token(7, 0x10)), [0_u64; 0]);
    }

    #[test]
    fn malformed_parts_are_corrupt() {
        let probe = Probe::new(Level::Group(GroupSize::nearest(18)), &Token([1; 16]));
        assert!(probe.places(&[0; 4]).is_err());
    }
}
