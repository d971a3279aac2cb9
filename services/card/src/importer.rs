//! An import of many batches: while one is written, the next is read and judged.

use std::collections::{HashSet, VecDeque};

use banqiao_proto::card::v1::ImportCardsRequest;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};

use crate::{
    cards::Cards,
    import::LineOutcome,
    store::{Actor, StoreError},
};

/// Batches under way at once. Writing takes about as long as reading, parsing and judging; of a third one nothing was gained, because the
/// end of every batch passes through the one row that numbers the changes.
const IN_FLIGHT: usize = 2;

/// What became of lines: the number of each with its outcome, in the order in which they came.
pub type Outcomes = Vec<(u64, LineOutcome)>;

/// An import under way. Its memory is that of the batches under way, however long the file is.
///
/// A batch that names a card or chip of one under way waits for it, so that the last line of a card wins as if lines went one by one.
pub struct Importer<'a> {
    cards: &'a Cards,
    actor: &'a Actor,
    under_way: FuturesOrdered<BoxFuture<'a, Result<Outcomes, StoreError>>>,
    named: VecDeque<HashSet<String>>,
}

impl Cards {
    /// Begins an import on behalf of `actor`.
    pub fn importer<'a>(&'a self, actor: &'a Actor) -> Importer<'a> {
        Importer {
            cards: self,
            actor,
            under_way: FuturesOrdered::new(),
            named: VecDeque::new(),
        }
    }
}

impl Cards {
    /// Lines that name each card and chip at most once. Where the bureau's own tables have no place for one, or hold a record that
    /// cannot be used, that line is refused and the others go through: the lines are halved until it is alone.
    pub(crate) async fn import_apart(
        &self,
        lines: &[ImportCardsRequest],
        actor: &Actor,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        apart(lines, |lines| Box::pin(self.import_run(lines, actor))).await
    }
}

/// Imports lines by `each`, a transaction of its own; where a record of them cannot be written or used, the lines are halved until it is
/// alone.
pub(crate) async fn apart<'a, T>(
    lines: &'a [T],
    each: impl Fn(&'a [T]) -> BoxFuture<'a, Result<Vec<LineOutcome>, StoreError>>,
) -> Result<Vec<LineOutcome>, StoreError> {
    let mut outcomes = Vec::with_capacity(lines.len());
    let mut waiting = vec![lines];
    while let Some(lines) = waiting.pop() {
        match each(lines).await {
            Ok(more) => outcomes.extend(more),
            Err(error) => match (error.of_a_record(), lines.len()) {
                (None, _) => return Err(error),
                (Some(fault), 0 | 1) => outcomes.push(LineOutcome::Refused(vec![fault])),
                (Some(_), count) => {
                    let (first, second) = lines.split_at(count / 2);
                    waiting.extend([second, first]);
                }
            },
        }
    }
    Ok(outcomes)
}

impl Importer<'_> {
    /// Takes a batch, at best [`IMPORT_BATCH`](crate::IMPORT_BATCH) lines, and gives the outcomes that are known by then.
    ///
    /// # Errors
    /// See [`StoreError`]. What went through before the error stays: send the lines again.
    pub async fn take(&mut self, lines: Vec<ImportCardsRequest>) -> Result<Outcomes, StoreError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let named = names(&lines);
        let mut outcomes = Vec::new();
        while self.under_way.len() >= IN_FLIGHT
            || self
                .named
                .iter()
                .any(|earlier| !earlier.is_disjoint(&named))
        {
            outcomes.extend(self.oldest().await?);
        }
        self.named.push_back(named);
        let (cards, actor) = (self.cards, self.actor);
        self.under_way.push_back(Box::pin(async move {
            let outcomes = cards.import(&lines, actor).await?;
            Ok(lines.iter().map(|line| line.line).zip(outcomes).collect())
        }));
        Ok(outcomes)
    }

    /// Whether a batch is under way.
    pub fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Goes on with what is under way until the oldest batch is written. Batches move only while this, [`Importer::take`] or
    /// [`Importer::finish`] is awaited; dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Importer::take`].
    pub async fn go_on(&mut self) -> Result<Outcomes, StoreError> {
        self.oldest().await
    }

    /// Waits for everything that is under way.
    ///
    /// # Errors
    /// As [`Importer::take`].
    pub async fn finish(&mut self) -> Result<Outcomes, StoreError> {
        let mut outcomes = Vec::new();
        while !self.under_way.is_empty() {
            outcomes.extend(self.oldest().await?);
        }
        Ok(outcomes)
    }

    async fn oldest(&mut self) -> Result<Outcomes, StoreError> {
        let outcomes = self.under_way.next().await.unwrap_or(Ok(Vec::new()));
        self.named.pop_front();
        outcomes
    }
}

/// Every card and chip that lines name. The two have different forms or do no harm when they meet.
fn names(lines: &[ImportCardsRequest]) -> HashSet<String> {
    let cards = lines.iter().filter_map(|line| line.card.as_ref());
    cards
        .flat_map(|card| {
            [
                card.card_number.clone(),
                card.card_identification_code.to_ascii_uppercase(),
            ]
        })
        .collect()
}
