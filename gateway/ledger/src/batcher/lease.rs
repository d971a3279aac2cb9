//! The lease of this boot, and the calls of boots whose lease has run out.

use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Entry, Kind, Result as CallResult},
};

use super::Batcher;
use crate::{
    append::{Append, Effect},
    entry::{self, Decoded},
    queue::{Item, Patience},
    step::Step,
    store::{CommitFault, Expired, Fault, Orphan},
};

/// Calls closed in one commit.
const ORPHANS: u32 = 256;
/// Status of a call whose end nobody knows: UNKNOWN.
const STATUS_UNKNOWN: u32 = 2;

impl Batcher {
    /// Renews the lease, looks for boots that are over, makes keys in time and destroys those of closed months.
    pub(super) async fn keep_lease(&mut self) {
        let now_us = self.core.preparer.clock.now_us();
        let ttl = self.settings.lease.ttl;
        let Some(writer) = &mut self.writer else {
            return;
        };
        writer.reached(Step::Renewing);
        match writer.renew_lease(self.session.boot, ttl, now_us).await {
            Ok(true) => writer.reached(Step::Renewed),
            Ok(false) => return self.lose_lease(Vec::new()),
            // The lease outlives several renewals.
            Err(Fault::Transient(_)) => return,
            Err(fault) => return self.fail(&fault, Vec::new()),
        }
        self.close_orphans().await;
        self.make_keys();
        self.destroy_keys().await;
    }

    /// Closes the calls of every boot whose lease has run out, as interrupted.
    pub(super) async fn close_orphans(&mut self) {
        // Their closing is an entry, and a fence ends the boots that may know better.
        if self.session.held {
            return;
        }
        let Some(writer) = &mut self.writer else {
            return;
        };
        let expired = match writer.expired_leases(self.session.boot).await {
            Ok(expired) => expired,
            Err(fault) => return self.orphans_failed(&fault),
        };
        for lease in expired {
            match self.close_calls_of(&lease).await {
                Ok(0) => {}
                Ok(closed) => {
                    tracing::warn!(replica = %lease.replica, closed, "closed interrupted calls");
                }
                Err(fault) => return self.orphans_failed(&fault),
            }
        }
    }

    /// A failure here is no reason to stop writing; the next renewal notices if it is.
    fn orphans_failed(&mut self, fault: &Fault) {
        match fault {
            Fault::Transient(_) => {}
            fault => self.fail(fault, Vec::new()),
        }
    }

    /// The boot is fenced first: from then on it cannot write any more, not even if it lives.
    async fn close_calls_of(&mut self, lease: &Expired) -> Result<usize, Fault> {
        let Some(writer) = &mut self.writer else {
            return Ok(0);
        };
        writer.begin(self.session.boot).await?;
        match writer.fence(lease.boot).await {
            Ok(true) => {
                writer.reached(Step::Fencing);
                writer.commit().await.map_err(CommitFault::into_fault)?;
                writer.reached(Step::Fenced);
            }
            Ok(false) => {
                writer.rollback().await?;
                return Ok(0);
            }
            Err(fault) => {
                writer.rollback().await?;
                return Err(fault);
            }
        }
        let mut closed = 0;
        loop {
            let Some(writer) = &mut self.writer else {
                return Ok(closed);
            };
            let orphans = writer.orphans(lease.boot, ORPHANS).await?;
            if orphans.is_empty() {
                writer.reached(Step::OrphansClosed);
                writer.drop_lease(lease.boot).await?;
                return Ok(closed);
            }
            writer.reached(Step::ClosingOrphans);
            let items: Vec<Item> = orphans
                .into_iter()
                .filter_map(|orphan| self.closing_item(orphan))
                .collect();
            closed += items.len();
            if items.is_empty() {
                return Ok(closed);
            }
            self.core.queue.lend(items.len());
            self.commit(items).await;
        }
    }

    fn closing_item(&self, orphan: Orphan) -> Option<Item> {
        let Orphan {
            call,
            peer,
            index,
            opened,
        } = orphan;
        let opened = match entry::decode(&opened) {
            Ok(Decoded::Entry(entry)) => *entry,
            // An OPEN of a newer version, or one that was damaged: the call is closed by its ids alone.
            Ok(Decoded::Newer { .. }) | Err(_) => Entry::default(),
        };
        let entry = Entry {
            kind: Kind::Close.into(),
            exchange: call.exchange.to_vec(),
            attempt: call.attempt,
            side: call.side,
            client: opened.client,
            provider: opened.provider,
            method: opened.method,
            descriptor_digest: opened.descriptor_digest,
            purpose: opened.purpose,
            basis: opened.basis,
            decision: opened.decision,
            result: Some(CallResult {
                status: STATUS_UNKNOWN,
                reason: Reason::Interrupted.into(),
                interrupted: true,
                closed_by: self.settings.replica.clone(),
                ..CallResult::default()
            }),
            ..Entry::default()
        };
        let append = Append::new(entry).with(Effect::Close { peer });
        match self.core.preparer.prepare(append) {
            Ok(prepared) => Some(Item {
                prepared,
                patience: Patience::Own,
                waiter: None,
            }),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, index, "an interrupted call cannot be closed");
                None
            }
        }
    }
}
