//! What a comparison has found so far.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_directory::CityCode;
use banqiao_ledger::reconcile::{Key, OpenAttempt, Verdict, is_discrepancy};
use banqiao_proto::ledger::v1::{
    Discrepancy, DiscrepancyClass, ExchangeRecord, Reconciled, ReconciledCount,
};
use prost::Message as _;
use tokio::sync::mpsc;

use super::ReconcileEvent;

/// Lines of the log for one report; the rest is counted.
const LOG_LINES: u64 = 20;

/// Counts, the digest of everything that was found, and what is still open.
pub(super) struct Report {
    city: CityCode,
    /// Records of this ledger that were compared.
    pub(super) exchanges: u64,
    counts: BTreeMap<DiscrepancyClass, u64>,
    digest: Context,
    pub(super) open: BTreeSet<OpenAttempt>,
    /// Who wants to hear of each discrepancy.
    listener: Option<mpsc::Sender<ReconcileEvent>>,
    logged: u64,
}

impl Report {
    pub(super) fn new(city: CityCode, listener: Option<mpsc::Sender<ReconcileEvent>>) -> Self {
        Self {
            city,
            exchanges: 0,
            counts: BTreeMap::new(),
            digest: Context::new(&SHA256),
            open: BTreeSet::new(),
            listener,
            logged: 0,
        }
    }

    /// Takes what came of comparing two records.
    pub(super) async fn take(
        &mut self,
        key: Key,
        here: Option<ExchangeRecord>,
        there: Option<ExchangeRecord>,
        verdict: Verdict,
    ) {
        let Verdict::Found { class, field } = verdict else {
            return;
        };
        *self.counts.entry(class).or_default() += 1;
        if class == DiscrepancyClass::Open {
            self.open.insert(OpenAttempt {
                exchange: key.exchange,
                attempt: key.attempt,
            });
        }
        let discrepancy = Discrepancy {
            city: self.city.as_str().to_owned(),
            discrepancy_class: class.into(),
            field: field.to_owned(),
            here,
            there,
        };
        let bytes = discrepancy.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.digest.update(&length.to_be_bytes());
        self.digest.update(&bytes);
        if is_discrepancy(class) && self.listener.is_none() {
            self.logged += 1;
            if self.logged <= LOG_LINES {
                tracing::warn!(
                    city = self.city.as_str(),
                    exchange = %key,
                    class = name(class),
                    field,
                    "this ledger and that of another city differ"
                );
            }
        }
        if let Some(listener) = &self.listener {
            // Whoever asked and went away needs no answer; the outcome is entered all the same.
            let _ = listener
                .send(ReconcileEvent::Found(Box::new(discrepancy)))
                .await;
        }
    }

    /// Discrepancies of each class that is one.
    pub(super) fn discrepancies(&self) -> impl Iterator<Item = (DiscrepancyClass, u64)> {
        let counts = self.counts.iter().map(|(class, count)| (*class, *count));
        counts.filter(|(class, _)| is_discrepancy(*class))
    }

    /// The report as it is entered.
    pub(super) fn reconciled(&self, from_ms: i64, until_ms: i64, actor: &str) -> Reconciled {
        let counts = self.counts.iter().map(|(class, count)| ReconciledCount {
            discrepancy_class: u32::try_from(i32::from(*class)).unwrap_or(0),
            count: *count,
        });
        Reconciled {
            city: self.city.as_str().to_owned(),
            from_us: from_ms.saturating_mul(1_000),
            until_us: until_ms.saturating_mul(1_000),
            actor: actor.to_owned(),
            exchanges: self.exchanges,
            counts: counts.collect(),
            report_digest: self.digest.clone().finish().as_ref().to_vec(),
        }
    }
}

/// Name of a class in logs and metrics.
pub(super) fn name(class: DiscrepancyClass) -> &'static str {
    match class {
        DiscrepancyClass::Unspecified => "unspecified",
        DiscrepancyClass::OnlyHere => "only_here",
        DiscrepancyClass::OnlyThere => "only_there",
        DiscrepancyClass::DigestDiffers => "digest_differs",
        DiscrepancyClass::StatusDiffers => "status_differs",
        DiscrepancyClass::InterruptedHere => "interrupted_here",
        DiscrepancyClass::InterruptedThere => "interrupted_there",
        DiscrepancyClass::Open => "open",
        DiscrepancyClass::HonestDifference => "honest_difference",
    }
}
