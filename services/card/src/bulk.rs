//! Lines that come in a client stream: taken in batches, each judged alone, one result for each at the end.

use std::{sync::Arc, time::Duration};

use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable};
use banqiao_proto::card::v1::ImportResult;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tonic::Streaming;

use crate::{
    cities::Cities,
    import::{IMPORT_BATCH, ImportCounts, LineOutcome},
    service::MAX_IMPORT_LINES,
};

const AT_ONCE: usize = 2;
/// When to try again while others import.
const RETRY: Duration = Duration::from_secs(30);

const OWN_CITY_ONLY: Refusal = Refusal::forbidden(
    Rule::design(
        "BENEFITS_OWN_CITY_ONLY",
        "only systems of the answering city may do this, whatever a grant says",
        "社会保险经办条例 art. 26, 49",
    )
    .remedy("let the city's own bureau do it"),
);
const TOO_MANY: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_BENEFIT_IMPORTS",
        "two imports of insured persons or beneficiaries at once",
        "card service",
    )
    .remedy("try again when one of them has ended"),
);
const TOO_LONG: Refusal = Refusal::exceeds(
    Rule::design(
        "BENEFIT_IMPORT_TOO_LONG",
        "a call takes 200,000 lines; those before stay",
        "card service",
    )
    .remedy("send the rest in another call"),
);

/// Imports of insured persons and beneficiaries, a few at once.
#[derive(Clone, Debug)]
pub(crate) struct Bulk(Arc<Semaphore>);

impl Bulk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Takes the lines of a call.
    pub(crate) async fn take<'a, T: Send>(
        &self,
        mut lines: Streaming<T>,
        number: fn(&T) -> u64,
        each: impl Fn(Vec<T>) -> BoxFuture<'a, Result<Vec<LineOutcome>, CallError>> + Send + Sync,
    ) -> Result<(Vec<ImportResult>, ImportCounts), CallError> {
        let _place = self.0.try_acquire().map_err(|_| {
            TOO_MANY.for_now(
                format!("this service takes {AT_ONCE} imports at once"),
                RETRY,
            )
        })?;
        let (mut results, mut counts) = (Vec::new(), ImportCounts::default());
        let mut batch = Vec::with_capacity(IMPORT_BATCH);
        loop {
            let line = lines.message().await;
            let line = line.map_err(|status| CallError::CallerBrokeOff(Box::new(status)))?;
            let ended = line.is_none();
            batch.extend(line);
            if batch.len() == IMPORT_BATCH || ended {
                let numbers: Vec<_> = batch.iter().map(number).collect();
                let whole = Vec::with_capacity(IMPORT_BATCH);
                let outcomes = each(std::mem::replace(&mut batch, whole)).await?;
                for (line, outcome) in numbers.into_iter().zip(outcomes) {
                    let result = outcome.result(line);
                    counts.add(&result);
                    results.push(result);
                }
            }
            if ended {
                return Ok((results, counts));
            }
            if results.len() + batch.len() > MAX_IMPORT_LINES {
                return Err(TOO_LONG.because(format!("a call takes {MAX_IMPORT_LINES} lines")));
            }
        }
    }
}

/// Refuses callers of other cities.
pub(crate) fn own_city(cities: &Cities, caller: &Caller) -> Result<(), CallError> {
    if cities.is_own(&caller.client) {
        Ok(())
    } else {
        Err(OWN_CITY_ONLY.because("the caller is a system of another city"))
    }
}

pub(crate) fn rules(table: RuleTable) -> RuleTable {
    table
        .refusal(
            &OWN_CITY_ONLY,
            &[
                "ImportInsurance",
                "ImportBeneficiaries",
                "ListInvestigations",
                "ConcludeInvestigation",
                "SummariseCampaign",
                "ListCampaign",
                "ListEligibilityHistory",
            ],
        )
        .refusal(&TOO_MANY, &["ImportInsurance", "ImportBeneficiaries"])
        .refusal(&TOO_LONG, &["ImportInsurance", "ImportBeneficiaries"])
}
