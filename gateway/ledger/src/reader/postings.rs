//! Ordered lists of numbers (blocks or indices) that are read in pages, and what they have in common.

use std::{collections::VecDeque, ops::RangeInclusive};

use crate::{
    facet::Facet,
    private::{SEGMENT, Token},
    reader::Order,
    store::{Reads, StoreError},
};

/// Numbers read at once.
const PAGE: u32 = 256;
/// Segments of the index of tokens that are looked into at once: few at first, more when they hold nothing.
const FIRST_WINDOW: u64 = 32;
const WIDEST_WINDOW: u64 = 1_024;

/// One stored list.
pub(super) enum Posting {
    /// Blocks that hold a value.
    Facet(Facet, Box<[u8]>),
    /// Indices of entries with a token, within some segments.
    Token(Token, RangeInclusive<u64>),
}

/// A list, read as far as it was needed.
struct Cursor {
    posting: Posting,
    page: VecDeque<u64>,
    window: u64,
    ended: bool,
}

impl Cursor {
    const fn new(posting: Posting) -> Self {
        Self {
            posting,
            page: VecDeque::new(),
            window: FIRST_WINDOW,
            ended: false,
        }
    }

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
            self.fill(reads, order, target).await?;
        }
        Ok(self.page.front().copied())
    }

    /// Reads the next page that is not empty.
    async fn fill(&mut self, reads: &Reads, order: Order, target: u64) -> Result<(), StoreError> {
        let full = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let (token, segments) = match &self.posting {
            Posting::Facet(facet, value) => {
                self.page = reads
                    .blocks(*facet, value, target, order, PAGE)
                    .await?
                    .into();
                self.ended = self.page.len() < full;
                return Ok(());
            }
            Posting::Token(token, segments) => (*token, segments),
        };
        let mut first = target / SEGMENT;
        loop {
            let window = match order {
                Order::Ascending => {
                    let first = first.max(*segments.start());
                    first..=first.saturating_add(self.window - 1).min(*segments.end())
                }
                Order::Descending => {
                    let last = first.min(*segments.end());
                    last.saturating_sub(self.window - 1).max(*segments.start())..=last
                }
            };
            if window.is_empty() {
                self.ended = true;
                return Ok(());
            }
            self.page = reads
                .tokens(token, &window, target, order, PAGE)
                .await?
                .into();
            if !self.page.is_empty() {
                // A page that is not full ends within its window; the next one begins where it is asked for.
                return Ok(());
            }
            let last = if order == Order::Ascending {
                *window.end()
            } else {
                *window.start()
            };
            let Some(next) = order.step(last) else {
                self.ended = true;
                return Ok(());
            };
            first = next;
            self.window = (self.window * 2).min(WIDEST_WINDOW);
        }
    }
}

/// What stands in any of some lists.
pub(super) struct Union(Vec<Cursor>);

impl Union {
    pub(super) fn new(postings: impl IntoIterator<Item = Posting>) -> Self {
        Self(postings.into_iter().map(Cursor::new).collect())
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
