//! The calls in flight of one worker, and the handle by which each can be ended from outside.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
};

use banqiao_identity::{Identity, Peer};
use banqiao_policy::{Grant, GrantSet};
use banqiao_proto::exchange::v1::Reason;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Calls in flight.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Control>>>,
    count: AtomicUsize,
}

/// Ends one call from outside it.
#[derive(Debug)]
pub(crate) struct Control {
    /// On whose certificate the call rests.
    peer: Arc<Peer>,
    /// On which grant it rests, where this gateway is the one that grants.
    grant: Option<Arc<Grant>>,
    reason: AtomicI32,
    ended: Notify,
}

/// Registration of a call; dropping it removes the call.
#[derive(Debug)]
pub(crate) struct Registered {
    calls: Arc<Calls>,
    key: u64,
    control: Arc<Control>,
}

impl Calls {
    pub(crate) fn register(
        self: &Arc<Self>,
        peer: Arc<Peer>,
        grant: Option<Arc<Grant>>,
    ) -> Registered {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let control = Arc::new(Control {
            peer,
            grant,
            reason: AtomicI32::new(0),
            ended: Notify::new(),
        });
        self.open.lock().insert(key, Arc::clone(&control));
        self.count.fetch_add(1, Ordering::Relaxed);
        Registered {
            calls: Arc::clone(self),
            key,
            control,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends every call whose certificate or grant no longer holds.
    pub(crate) fn recheck(&self, identity: &Identity, grants: &GrantSet, now_us: i64) {
        for control in self.open.lock().values() {
            if identity.check(&control.peer).is_err() {
                control.end(Reason::CertificateWithdrawn);
            } else if let Some(grant) = &control.grant
                && !(grants
                    .grant(&grant.uuid())
                    .is_some_and(|held| held.valid_at(now_us)))
            {
                control.end(Reason::GrantRevoked);
            }
        }
    }

    /// Ends every call.
    pub(crate) fn end_all(&self, reason: Reason) {
        for control in self.open.lock().values() {
            control.end(reason);
        }
    }
}

impl Control {
    fn end(&self, reason: Reason) {
        // The first reason stands.
        let first =
            self.reason
                .compare_exchange(0, reason as i32, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.ended.notify_one();
        }
    }
}

impl Registered {
    /// Waits until the call is ended from outside. Cancel-safe; for one waiter.
    pub(crate) async fn ended(&self) -> Reason {
        loop {
            let notified = self.control.ended.notified();
            let reason = self.control.reason.load(Ordering::Acquire);
            if let Ok(reason) = Reason::try_from(reason)
                && reason != Reason::Unspecified
            {
                return reason;
            }
            notified.await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.calls.open.lock().remove(&self.key);
        self.calls.count.fetch_sub(1, Ordering::Relaxed);
    }
}
