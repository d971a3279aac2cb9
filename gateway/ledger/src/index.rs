//! The search index: which entries hold a value, and when they were made.
//!
//! A ledger's speed is set by its secondary indexes, so a commit writes none but those of ids and tokens. The rest is made
//! behind the commits, of complete units of entries: for each value that occurs in a segment of 4,096 entries, which
//! of them hold it; the same, merged, for each chunk of 16,384; and of each range of 4,194,304, the unit in which
//! entries will leave a ledger, the times that it spans (LEDGER.md §6). Search tokens are written with the entries, by
//! segment; of each group of chunks it is kept which of them hold a token, so that nobody looks for a rare one in all.
//! A search intersects what it finds there and reads only the entries that match; entries behind the last complete
//! segment are read one by one.
//!
//! The index holds nothing that the entries do not say: where it is missing it is made again.

mod bits;
mod build;
mod presence;
mod thread;

pub(crate) use bits::Bits;
pub(crate) use build::{group, merge, range, segment};
pub(crate) use presence::{Gathering, Part, Probe};
pub(crate) use thread::start;

/// Sizes of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Segment,
    Chunk,
    /// Some chunks. How many is a setting; it is stored with each unit, so that another setting makes other units.
    Group(GroupSize),
    Range,
}

/// Entries of a group: 2^number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupSize(u8);

impl GroupSize {
    /// The nearest size that there can be: from two chunks to 128.
    pub(crate) const fn nearest(number: u8) -> Self {
        Self(match number {
            ..15 => 15,
            15..=21 => number,
            _ => 21,
        })
    }
}

impl Level {
    /// The number that is stored: a unit has 2^number entries.
    pub(crate) const fn number(self) -> i16 {
        match self {
            Self::Segment => 12,
            Self::Chunk => 14,
            Self::Group(GroupSize(number)) => number as i16,
            Self::Range => 22,
        }
    }

    /// Entries of a unit.
    pub(crate) const fn entries(self) -> u64 {
        1 << self.number()
    }

    /// Units of a smaller level that make up one of this.
    pub(crate) const fn holds(self, smaller: Self) -> u64 {
        self.entries() / smaller.entries()
    }
}

/// A unit: the entries from index `n * level.entries()` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitId {
    pub(crate) level: Level,
    pub(crate) n: u64,
}

/// Which entries of a unit hold a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) facet: i16,
    pub(crate) value: Box<[u8]>,
    /// As [`Bits`] are stored.
    pub(crate) entries: Vec<u8>,
}

/// What is stored of a complete unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) id: UnitId,
    /// Earliest and latest time of its entries.
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
    pub(crate) postings: Vec<Posting>,
    /// Where the search tokens of a group are.
    pub(crate) parts: Vec<Part>,
}

/// How far the index goes, and the ledger at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) size: u64,
    /// The level of groups.
    pub(crate) group: Level,
    /// Complete units of each level that are indexed.
    pub(crate) segments: u64,
    pub(crate) chunks: u64,
    pub(crate) groups: u64,
    pub(crate) ranges: u64,
}

impl Extent {
    /// Entries that are found by the index.
    pub(crate) const fn indexed(&self) -> u64 {
        self.segments * Level::Segment.entries()
    }

    /// What is to be indexed next: larger units as soon as they can be, so that the index grows from left to right.
    pub(crate) const fn next(&self) -> Option<UnitId> {
        if self.ranges < self.chunks / Level::Range.holds(Level::Chunk) {
            let (level, n) = (Level::Range, self.ranges);
            Some(UnitId { level, n })
        } else if self.groups < self.chunks / self.group.holds(Level::Chunk) {
            let (level, n) = (self.group, self.groups);
            Some(UnitId { level, n })
        } else if self.chunks < self.segments / Level::Chunk.holds(Level::Segment) {
            let (level, n) = (Level::Chunk, self.chunks);
            Some(UnitId { level, n })
        } else if self.segments < self.size / Level::Segment.entries() {
            let (level, n) = (Level::Segment, self.segments);
            Some(UnitId { level, n })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_units_follow_at_once_behind_what_they_are_made_of() {
        let mut extent = Extent {
            size: 2 * Level::Range.entries() + 5_000,
            group: Level::Group(GroupSize::nearest(18)),
            segments: 0,
            chunks: 0,
            groups: 0,
            ranges: 0,
        };
        let mut order = Vec::new();
        while let Some(unit) = extent.next() {
            match unit.level {
                Level::Segment => {
                    assert_eq!(unit.n, extent.segments);
                    extent.segments += 1;
                }
                Level::Chunk => {
                    extent.chunks += 1;
                    assert_eq!(extent.segments, extent.chunks * 4);
                }
                Level::Group(_) => {
                    extent.groups += 1;
                    assert_eq!(extent.chunks, extent.groups * 16);
                }
                Level::Range => {
                    extent.ranges += 1;
                    assert_eq!(extent.chunks, extent.ranges * 256);
                }
            }
            order.push(unit);
        }
        assert_eq!(
            (extent.segments, extent.chunks, extent.groups, extent.ranges),
            (2_049, 512, 32, 2)
        );
        assert_eq!(extent.indexed(), 2_049 * 4_096);
        assert_eq!(order.len(), 2_049 + 512 + 32 + 2);
    }
}
