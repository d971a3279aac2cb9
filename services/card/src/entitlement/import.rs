//! Taking over insured persons in bulk.

use std::collections::HashMap;

use banqiao_kit::{Rule, RuleTable, Violation, civil_date, identifier::CitizenId};
use banqiao_proto::card::v1::{ImportInsuranceRequest, InsuranceScheme};

use super::{Entitlements, ImportedPeriod, Period, store::PeriodWrite};
use crate::{import::LineOutcome, importer::apart, store::StoreError};

const OVERLAPS: Rule = Rule::design(
    "PERIOD_OVERLAPS",
    "a person has one period of a scheme at a time: another one covers some of these days",
    "card service",
)
.remedy("send the other period with its last day first");
const OLDER: Rule = Rule::design(
    "RECORD_OLDER",
    "newer records of the period stand already",
    "card service",
)
.remedy("send records of a later day");

/// The periods that a batch knows, those of its own lines included.
type Known = HashMap<(CitizenId, InsuranceScheme), Vec<Period>>;

impl Entitlements {
    /// Takes over lines, each judged alone, and gives the outcome of each, in order: in one transaction, unless the bureau's own tables
    /// refuse a line.
    ///
    /// # Errors
    /// See [`StoreError`]. What went through before the error stays: send the lines again.
    pub async fn import(
        &self,
        lines: &[ImportInsuranceRequest],
    ) -> Result<Vec<LineOutcome>, StoreError> {
        apart(lines, |lines| Box::pin(self.import_run(lines))).await
    }

    async fn import_run(
        &self,
        lines: &[ImportInsuranceRequest],
    ) -> Result<Vec<LineOutcome>, StoreError> {
        let today = civil_date(self.clock.now_us());
        let parsed: Vec<_> = lines
            .iter()
            .map(|line| ImportedPeriod::parse(line.period.as_ref(), today))
            .collect();
        let people: Vec<_> = parsed.iter().flatten().map(|line| line.0.holder).collect();
        let decide = |recorded: Vec<Period>| {
            let mut known = Known::new();
            for period in recorded {
                let key = (period.holder, period.scheme);
                known.entry(key).or_default().push(period);
            }
            let mut write = Changes::default();
            let outcomes: Vec<_> = parsed
                .into_iter()
                .map(|line| match line {
                    Err(faults) => LineOutcome::Refused(faults),
                    Ok(ImportedPeriod(period)) => write.take(period, &mut known),
                })
                .collect();
            (write.finish(), outcomes)
        };
        self.store.change(&people, today, decide).await
    }
}

/// What a batch changes: of several lines about one period the last one counts.
#[derive(Debug, Default)]
struct Changes {
    inserts: Vec<Period>,
    updates: Vec<Period>,
}

impl Changes {
    fn take(&mut self, period: Period, known: &mut Known) -> LineOutcome {
        let key = (period.holder, period.scheme);
        let recorded = known.entry(key).or_default();
        let same = recorded
            .iter()
            .position(|other| other.begins_on == period.begins_on);
        let mut others = recorded
            .iter()
            .filter(|other| other.begins_on != period.begins_on);
        if others.any(|other| overlap(other, &period)) {
            return refused("begins_on", &OVERLAPS);
        }
        let Some(place) = same.and_then(|at| recorded.get_mut(at)) else {
            recorded.push(period.clone());
            self.inserts.push(period);
            return LineOutcome::Created;
        };
        if period.as_of < place.as_of {
            return refused("recorded_as_of", &OLDER);
        }
        if *place == period {
            return LineOutcome::Unchanged;
        }
        place.clone_from(&period);
        // A period that the batch itself has made is inserted once, as it stands at the end.
        match self.inserts.iter_mut().find(|made| is_same(made, &period)) {
            Some(made) => *made = period,
            None => {
                self.updates.retain(|changed| !is_same(changed, &period));
                self.updates.push(period);
            }
        }
        LineOutcome::Updated
    }

    fn finish(self) -> PeriodWrite {
        let Self { inserts, updates } = self;
        PeriodWrite { inserts, updates }
    }
}

fn is_same(one: &Period, other: &Period) -> bool {
    (one.holder, one.scheme, one.begins_on) == (other.holder, other.scheme, other.begins_on)
}

fn overlap(one: &Period, other: &Period) -> bool {
    one.covers(other.begins_on) || other.covers(one.begins_on)
}

fn refused(field: &'static str, rule: &'static Rule) -> LineOutcome {
    LineOutcome::Refused(vec![Violation {
        field: field.into(),
        rule,
    }])
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table.fields([&OVERLAPS, &OLDER], &["ImportInsurance"])
}
