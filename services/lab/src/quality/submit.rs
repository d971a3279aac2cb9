//! What institutions measured: lines judged one by one, written in batches.

use std::collections::{BTreeSet, HashMap};

use banqiao_kit::{Violation, Violations};
use banqiao_proto::lab::v1::{
    FieldFault, QualityRound, SubmitOutcome, SubmitResult, SubmitResultsRequest,
};

use super::{QualityActor, RoundId, Rounds, round, rule};
use crate::{
    catalogue::ItemCode,
    decimal::Decimal,
    store::{ResultWrite, SampleKey, SampleValue, StoreError, StoredRound},
};

/// Lines that are written in one transaction.
pub const SUBMIT_BATCH: usize = 500;
/// Times that a lost race is run again. Each time another writer has won, so more are not needed in practice.
const ATTEMPTS: u32 = 5;

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitLine {
    /// A first value.
    Created,
    /// Another value than before.
    Corrected,
    /// It stood already exactly so.
    Unchanged,
    /// Refused, with every field and rule.
    Refused(Vec<Violation>),
}

impl SubmitLine {
    /// The result of a line in an answer.
    pub fn result(&self, line: u64) -> SubmitResult {
        let outcome = match self {
            Self::Created => SubmitOutcome::Created,
            Self::Corrected => SubmitOutcome::Corrected,
            Self::Unchanged => SubmitOutcome::Unchanged,
            Self::Refused(_) => SubmitOutcome::Refused,
        };
        let faults = match self {
            Self::Refused(faults) => faults.iter().map(field_fault).collect(),
            _ => Vec::new(),
        };
        SubmitResult {
            line,
            outcome: outcome.into(),
            faults,
        }
    }
}

fn field_fault(violation: &Violation) -> FieldFault {
    FieldFault {
        field: violation.field.clone().into_owned(),
        code: violation.rule.code.to_owned(),
        rule: violation.rule.to_string(),
    }
}

/// How many lines had which outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmitCounts {
    /// First values.
    pub created: u64,
    /// Other values than before.
    pub corrected: u64,
    /// Lines that stood already exactly so.
    pub unchanged: u64,
    /// Refused lines.
    pub refused: u64,
}

impl SubmitCounts {
    /// Counts an outcome.
    pub const fn add(&mut self, outcome: &SubmitLine) {
        let count = match outcome {
            SubmitLine::Created => &mut self.created,
            SubmitLine::Corrected => &mut self.corrected,
            SubmitLine::Unchanged => &mut self.unchanged,
            SubmitLine::Refused(_) => &mut self.refused,
        };
        *count += 1;
    }
}

impl Rounds {
    /// Takes lines, at best [`SUBMIT_BATCH`] at a time, and gives the outcome of each, in order.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing of these lines stands: send them again.
    pub async fn submit(
        &self,
        lines: &[SubmitResultsRequest],
        actor: &QualityActor,
    ) -> Result<Vec<SubmitLine>, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Box::pin(self.submit_once(lines, actor)).await {
                Err(StoreError::Conflict) if attempt < ATTEMPTS => {}
                done => return done,
            }
        }
    }

    async fn submit_once(
        &self,
        lines: &[SubmitResultsRequest],
        actor: &QualityActor,
    ) -> Result<Vec<SubmitLine>, StoreError> {
        let now_us = self.clock.now_us();
        let named: BTreeSet<_> = lines
            .iter()
            .filter_map(|line| RoundId::parse(&line.round_id).ok())
            .collect();
        let rounds = self.store.rounds(&Vec::from_iter(named)).await?;
        let rounds: HashMap<_, _> = rounds
            .iter()
            .map(|stored| (stored.round.round_id.as_str(), stored))
            .collect();
        let judged: Vec<_> = lines
            .iter()
            .map(|line| self.judge_line(line, &rounds, actor, now_us))
            .collect();
        let sound = || judged.iter().flatten().map(|(key, _)| key);
        let mut open: Vec<_> = sound().map(|key| key.round.clone()).collect();
        open.sort_unstable();
        open.dedup();
        let institutions: BTreeSet<_> = sound().map(|key| key.institution).collect();
        let known = match open.as_slice() {
            [] => Vec::new(),
            open => {
                let institutions = Vec::from_iter(institutions);
                self.store.sample_values(open, &institutions).await?
            }
        };
        let (values, outcomes) = decide(judged, known);
        if !values.is_empty() {
            open.retain(|round| values.iter().any(|value| value.key.round == *round));
            let write = ResultWrite {
                values,
                rounds: open,
                client: actor.client().cloned(),
                now_us,
            };
            self.store.write_results(&write).await?;
        }
        Ok(outcomes)
    }

    fn judge_line(
        &self,
        line: &SubmitResultsRequest,
        rounds: &HashMap<&str, &StoredRound>,
        actor: &QualityActor,
        now_us: i64,
    ) -> Result<(SampleKey, String), Vec<Violation>> {
        let mut faults = Violations::new();
        let institution = faults.check("institution", self.institutions.find(&line.institution));
        if let Some(institution) = institution {
            let own = match actor {
                QualityActor::System(client) => institution.owns(client),
                _ => true,
            };
            if institution.city != self.city || !own {
                faults.add("institution", &rule::PARTICIPANT);
            }
        }
        let round = faults.check("round_id", RoundId::parse(&line.round_id));
        let stored = rounds.get(line.round_id.as_str());
        match stored {
            Some(stored) => {
                let (opens, closes) = round::span(&stored.round);
                if now_us >= closes || stored.evaluated_at_us.is_some() {
                    faults.add("round_id", &rule::CLOSED);
                } else if now_us < opens {
                    faults.add("round_id", &rule::NOT_OPEN);
                }
                check_sample(&stored.round, line, &mut faults);
            }
            None if round.is_some() => faults.add("round_id", &rule::NOT_REGISTERED),
            None => {}
        }
        let item = faults.check("item_code", ItemCode::parse(&line.item_code));
        let unit = self.catalogue.item(&line.item_code).map(|item| &item.ucum);
        if !line.ucum.is_empty() && unit.is_some_and(|unit| *unit != line.ucum) {
            faults.add("ucum", &rule::RESULT_UNIT);
        }
        faults.check("value", Decimal::parse(&line.value));
        match (institution, round, item) {
            (Some(institution), Some(round), Some(item)) if faults.is_empty() => {
                let key = SampleKey {
                    round,
                    institution: institution.credit_code,
                    item,
                    sample: line.sample.clone(),
                };
                Ok((key, line.value.clone()))
            }
            _ => Err(faults.into_vec()),
        }
    }
}

fn check_sample(round: &QualityRound, line: &SubmitResultsRequest, faults: &mut Violations) {
    let item = round
        .items
        .iter()
        .find(|item| item.item_code == line.item_code);
    match item {
        None => faults.add("item_code", &rule::NOT_OF_ROUND),
        Some(item)
            if !item
                .samples
                .iter()
                .any(|sample| sample.sample == line.sample) =>
        {
            faults.add("sample", &rule::NOT_OF_ROUND);
        }
        Some(_) => {}
    }
}

/// The values to write, of several lines about one sample each with a version of its own, and what becomes of each line.
fn decide(
    judged: Vec<Result<(SampleKey, String), Vec<Violation>>>,
    known: Vec<SampleValue>,
) -> (Vec<SampleValue>, Vec<SubmitLine>) {
    let mut standing: HashMap<SampleKey, (i32, String)> = known
        .into_iter()
        .map(|value| (value.key, (value.version, value.value)))
        .collect();
    let mut values = Vec::new();
    let outcomes = judged.into_iter().map(|line| {
        let (key, value) = match line {
            Ok(sound) => sound,
            Err(faults) => return SubmitLine::Refused(faults),
        };
        let (version, outcome) = match standing.get(&key) {
            None => (1, SubmitLine::Created),
            Some((_, same)) if *same == value => return SubmitLine::Unchanged,
            Some((version, _)) => (version + 1, SubmitLine::Corrected),
        };
        standing.insert(key.clone(), (version, value.clone()));
        values.push(SampleValue {
            key,
            version,
            value,
        });
        outcome
    });
    let outcomes = outcomes.collect();
    (values, outcomes)
}
