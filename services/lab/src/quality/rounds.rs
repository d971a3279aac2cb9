//! Registering, evaluating and reading rounds, and the marks that follow from them.

use std::collections::{BTreeMap, BTreeSet};

use banqiao_kit::{CallError, Violation, Violations, identifier::CreditCode};
use banqiao_proto::lab::v1::{ItemMark as ListedMark, QualityRound, ReadRoundResponse, Report};

use super::{ItemMark, QualityActor, Round, RoundId, Rounds, judge, mark::marks, round, rule};
use crate::{
    catalogue::ItemCode,
    report::{Reports, microseconds, timestamp},
    store::{Evaluated, NewEvaluation, StoreError, StoredReport, StoredRound},
};

impl Rounds {
    /// Registers a round; false when it stood already exactly so.
    ///
    /// # Errors
    /// The actor organises no rounds, fields break rules, or another round of this number stands.
    pub async fn register(
        &self,
        round: Option<&QualityRound>,
        actor: &QualityActor,
    ) -> Result<bool, CallError> {
        organises(actor)?;
        let now_us = self.clock.now_us();
        // A round that stands is the same for good, also after it closed.
        if let Some(sent) = round
            && let Ok(id) = RoundId::parse(&sent.round_id)
            && let Some(stands) = self.find(&id).await?
        {
            return if stands.round == *sent {
                Ok(false)
            } else {
                Err(rule::ROUND_STANDS.because("another round has this number"))
            };
        }
        let round = Round::parse(round, &self.catalogue, now_us).map_err(|faults| {
            let under = |mut fault: Violation| {
                if fault.field != "round" {
                    fault.field = format!("round.{}", fault.field).into();
                }
                fault
            };
            CallError::CallerInvalid(faults.into_iter().map(under).collect())
        })?;
        let made = self.store.register_round(&round, actor.client(), now_us);
        if made.await? {
            return Ok(true);
        }
        // Somebody else came first.
        match self.find(round.id()).await? {
            Some(stands) if stands.round == *round.record() => Ok(false),
            _ => Err(rule::ROUND_STANDS.because("another round has this number")),
        }
    }

    /// Evaluates a round once, or gives its evaluation again.
    ///
    /// # Errors
    /// The actor organises no rounds, there is no such round, or it is open still.
    pub async fn evaluate(&self, id: &str, actor: &QualityActor) -> Result<Evaluated, CallError> {
        organises(actor)?;
        let stored = self.known(id).await?;
        let now_us = self.clock.now_us();
        let (_, closes) = round::span(&stored.round);
        if now_us < closes {
            return Err(rule::ROUND_OPEN.because("the round is open still"));
        }
        let new = NewEvaluation {
            round: parse_id(id)?,
            catalogue: self.catalogue.version().to_owned(),
            client: actor.client().cloned(),
            now_us,
        };
        let (round, catalogue) = (&stored.round, &self.catalogue);
        let evaluated = self
            .store
            .evaluate_round(&new, |values| judge::scores(round, values, catalogue));
        Ok(evaluated.await?)
    }

    /// A round as an actor may see it.
    ///
    /// # Errors
    /// There is no such round, or the store fails.
    pub async fn read(
        &self,
        id: &str,
        actor: &QualityActor,
    ) -> Result<ReadRoundResponse, CallError> {
        let mut stored = self.known(id).await?;
        if stored.evaluated_at_us.is_none() && !actor.organises() {
            let samples = stored
                .round
                .items
                .iter_mut()
                .flat_map(|item| &mut item.samples);
            samples.for_each(|sample| sample.target.clear());
        }
        let mut evaluations = Vec::new();
        if stored.evaluated_at_us.is_some() {
            let own = match actor {
                QualityActor::System(client) => self.institutions.of_client(client),
                _ => None,
            };
            let scores = self.store.scores(&parse_id(id)?).await?;
            let seen = scores.iter().filter(|score| {
                actor.organises() || own.is_some_and(|own| own.credit_code == score.institution)
            });
            evaluations.extend(seen.map(judge::Score::shown));
        }
        Ok(ReadRoundResponse {
            round: Some(stored.round),
            evaluated_at: stored.evaluated_at_us.map(timestamp),
            evaluations,
        })
    }

    /// The marks of an institution of this city, as a request names it, by item and time.
    ///
    /// # Errors
    /// Fields break rules, or the store fails.
    pub async fn list_marks(
        &self,
        institution: &str,
        items: &[String],
    ) -> Result<Vec<ListedMark>, CallError> {
        let mut faults = Violations::new();
        let institution = faults.check("institution", self.institutions.find(institution));
        if institution.is_some_and(|institution| institution.city != self.city) {
            faults.add("institution", &rule::PARTICIPANT);
        }
        if items.len() > MAX_ITEMS {
            faults.add("item_codes", &rule::MARKED_ITEMS);
        }
        let mut codes = Vec::new();
        for (place, code) in items.iter().take(MAX_ITEMS).enumerate() {
            codes.extend(faults.check(format!("item_codes[{place}]"), ItemCode::parse(code)));
        }
        let Some(institution) = institution.filter(|_| faults.is_empty()) else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let code = institution.credit_code;
        let rounds = self.store.judged_rounds(&[code], &codes).await?;
        let rounds = rounds.get(&code).map_or(&[][..], Vec::as_slice);
        let marks = marks(rounds, institution.level);
        Ok(marks.iter().map(ItemMark::listed).collect())
    }

    async fn find(&self, id: &RoundId) -> Result<Option<StoredRound>, StoreError> {
        let found = self.store.rounds(std::slice::from_ref(id)).await?;
        Ok(found.into_iter().next())
    }

    async fn known(&self, id: &str) -> Result<StoredRound, CallError> {
        let found = self.find(&parse_id(id)?).await?;
        found.ok_or_else(|| rule::ROUND_UNKNOWN.because("this city's service has no such round"))
    }
}

/// Most items that a question about marks names.
const MAX_ITEMS: usize = 100;

impl Reports {
    /// Puts on each result the marks that were in force when its report was issued.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn put_marks(&self, reports: &mut [StoredReport]) -> Result<(), StoreError> {
        let (mut named, mut items) = (BTreeSet::new(), BTreeSet::new());
        for Report {
            institution,
            results,
            ..
        } in reports.iter().map(|stored| &stored.report)
        {
            named.extend(CreditCode::parse(institution));
            let codes = results.iter().map(|result| &result.item_code);
            items.extend(codes.filter_map(|code| ItemCode::parse(code).ok()));
        }
        // Without an item there is no mark; the store would take it for all of them.
        if named.is_empty() || items.is_empty() {
            return Ok(());
        }
        let (named, items) = (Vec::from_iter(named), Vec::from_iter(items));
        let judged = self.store().judged_rounds(&named, &items).await?;
        let known: BTreeMap<String, Vec<ItemMark>> = judged
            .iter()
            .filter_map(|(code, rounds)| {
                let level = self.institutions().of(*code)?.level;
                Some((code.to_string(), marks(rounds, level)))
            })
            .collect();
        for report in reports.iter_mut().map(|stored| &mut stored.report) {
            let issued_us = report.issued_at.as_ref().and_then(microseconds);
            let (Some(marks), Some(issued_us)) = (known.get(&report.institution), issued_us) else {
                continue;
            };
            for result in &mut report.results {
                let of_item = marks.iter().filter(|mark| {
                    mark.item.as_str() == result.item_code && mark.is_in_force(issued_us)
                });
                result.marks = of_item.map(ItemMark::shown).collect();
            }
        }
        Ok(())
    }
}

fn organises(actor: &QualityActor) -> Result<(), CallError> {
    if actor.organises() {
        Ok(())
    } else {
        Err(rule::ORGANISER_ONLY.because("the client organises no rounds here"))
    }
}

fn parse_id(id: &str) -> Result<RoundId, CallError> {
    RoundId::parse(id).map_err(|broken| {
        CallError::CallerInvalid(vec![Violation {
            field: "round_id".into(),
            rule: broken.0,
        }])
    })
}
