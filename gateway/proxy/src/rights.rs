//! What calls are judged by: one immutable snapshot, swapped whole.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use banqiao_directory::{CityCode, Directory, SpiffeId};
use banqiao_policy::GrantSet;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::carried::Carried;

/// Directory, grants, catalogue and routes at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The directory in force.
    pub directory: Arc<Directory>,
    /// The envelope that it came in, to hand on.
    pub envelope: Arc<[u8]>,
    /// When it was taken over, in microseconds since 1970.
    pub fetched_at_us: i64,
    /// The grants in force.
    pub grants: Arc<GrantSet>,
    /// Digest of the grants, as entries cite it.
    pub grants_digest: [u8; 32],
    /// Services of this city.
    pub catalog: Arc<Carried>,
    /// Services of other cities, as far as their gateways show them to this city.
    pub remote: Arc<HashMap<CityCode, Arc<Carried>>>,
    /// Where this city's services are.
    pub routes: Arc<HashMap<Arc<str>, Route>>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Addresses, `host:port`.
    pub endpoints: Arc<[String]>,
    /// The identity that the service must prove.
    pub identity: SpiffeId,
}

/// The snapshot in force, and how fresh its grants are.
#[derive(Debug)]
pub(crate) struct Rights {
    current: ArcSwap<Snapshot>,
    /// Serialises changes, so that none is lost.
    changing: Mutex<()>,
    generation: watch::Sender<u64>,
    started: Instant,
    /// Milliseconds since `started` at which the grants were last known to be current.
    grants_read: AtomicI64,
}

impl Rights {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(snapshot),
            changing: Mutex::new(()),
            generation: watch::Sender::new(0),
            started: Instant::now(),
            grants_read: AtomicI64::new(0),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the snapshot by what `change` makes of it, and wakes whoever watches.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let _turn = self.changing.lock();
        let mut next = Snapshot::clone(&self.current.load());
        change(&mut next);
        self.current.store(Arc::new(next));
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The grants were just read, or just found unchanged.
    pub(crate) fn grants_are_current(&self) {
        self.grants_read.store(self.elapsed_ms(), Ordering::Release);
    }

    pub(crate) fn grants_stale(&self, limit: Duration) -> bool {
        let age = self.elapsed_ms() - self.grants_read.load(Ordering::Acquire);
        u128::try_from(age).is_ok_and(|age| age > limit.as_millis())
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
