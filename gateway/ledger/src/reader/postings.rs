//! Ordered lists of numbers (blocks or indices) that are read in pages, and what they have in common.

use std::collections::VecDeque;

use crate::{
    facet::Facet,
    private::Token,
    reader::Order,
    store::{Reads, StoreError},
};

/// Numbers read at once.
const PAGE: u32 = 256;

/// One stored list.
pub(super) enum Posting {
    /// Blocks that hold a value.
    Facet(Facet, Box<[u8]>),
    /// Indices of entries with a token.
    Token(Token),
}

/// A list, read as far as it was needed.
struct Cursor {
    posting: Posting,
    page: VecDeque<u64>,
    ended: bool,
}

impl Cursor {
    /// The first number at or behind `target`, in order.
    async fn seek(
        &mut self,
        reads: &Reads,
        order: Order,
        target: u64,
    ) -> Result<Option<u64>, StoreError> {
        while self
            .page
            .front()
            .is_some_and(|number| order.is_before(*number, target))
        {
            self.page.pop_front();
        }
        if self.page.is_empty() && !self.ended {
            self.page = match &self.posting {
                Posting::Facet(facet, value) => {
                    reads.blocks(*facet, value, target, order, PAGE).await?
                }
                Posting::Token(token) => reads.tokens(*token, target, order, PAGE).await?,
            }
            .into();
            self.ended = self.page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        }
        Ok(self.page.front().copied())
    }
}

/// What stands in any of some lists.
pub(super) struct Union(Vec<Cursor>);

impl Union {
    pub(super) fn new(postings: impl IntoIterator<Item = Posting>) -> Self {
        let cursor = |posting| Cursor {
            posting,
            page: VecDeque::new(),
            ended: false,
        };
        Self(postings.into_iter().map(cursor).collect())
    }

    async fn seek(
        &mut self,
        reads: &Reads,
        order: Order,
        target: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut first: Option<u64> = None;
        for cursor in &mut self.0 {
            if let Some(number) = cursor.seek(reads, order, target).await?
                && first.is_none_or(|first| order.is_before(number, first))
            {
                first = Some(number);
            }
        }
        Ok(first)
    }
}

/// What stands in all of some unions.
pub(super) struct Intersection(pub(super) Vec<Union>);

impl Intersection {
    /// The first number at or behind `target` that is in all of them; without any, the target itself.
    pub(super) async fn seek(
        &mut self,
        reads: &Reads,
        order: Order,
        target: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut candidate = target;
        'next: loop {
            for union in &mut self.0 {
                match union.seek(reads, order, candidate).await? {
                    None => return Ok(None),
                    Some(number) if number != candidate => {
                        candidate = number;
                        continue 'next;
                    }
                    Some(_) => {}
                }
            }
            return Ok(Some(candidate));
        }
    }
}

impl Order {
    /// Whether a number comes before another in this order.
    pub(super) const fn is_before(self, number: u64, other: u64) -> bool {
        match self {
            Self::Ascending => number < other,
            Self::Descending => number > other,
        }
    }

    /// The number behind this one; `None` at the end of the numbers.
    pub(super) const fn step(self, number: u64) -> Option<u64> {
        match self {
            Self::Ascending => number.checked_add(1),
            Self::Descending => number.checked_sub(1),
        }
    }
}
