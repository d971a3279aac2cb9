//! What this service sends to other cities by itself: one outbox for every part, each message carried by its part's courier.

use std::time::Duration;

use banqiao_kit::{Carried, Courier, Gateway, Parcel};
use banqiao_telemetry::Chain;
use tokio_util::sync::CancellationToken;

use crate::{
    recognition::{DecisionCourier, Decisions},
    referral::{ReferralCourier, Referrals},
    report::Reports,
};

/// Carries every message of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct LabCourier {
    decisions: DecisionCourier,
    referrals: ReferralCourier,
}

impl LabCourier {
    pub(crate) fn new(reports: &Reports, referrals: Referrals, gateway: Gateway) -> Self {
        Self {
            decisions: DecisionCourier::new(Decisions::new(reports.clone()), gateway.clone()),
            referrals: ReferralCourier::new(referrals, gateway),
        }
    }

    /// Gets documents of referrals from other cities until `stop` is cancelled.
    pub(crate) async fn get_documents(self, every: Duration, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            stop.run_until_cancelled(Box::pin(self.referrals.get_documents()))
                .await;
        }
    }
}

impl Courier for LabCourier {
    async fn carry(&self, parcel: &Parcel) -> Carried {
        if ReferralCourier::carries(parcel) {
            self.referrals.carry(parcel).await
        } else {
            self.decisions.carry(parcel).await
        }
    }
}

/// Ends referrals that ran out, and drops documents that no referral names, until `stop` is cancelled.
pub(crate) async fn sweep(referrals: Referrals, every: Duration, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        match Box::pin(referrals.run_clock()).await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "referrals ran out"),
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot look at referrals"),
        }
        if let Err(error) = Box::pin(referrals.documents().expire()).await {
            tracing::warn!(error = %Chain(&error), "cannot drop documents");
        }
    }
}
