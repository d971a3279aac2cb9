//! Values that stand until they change: atomics that are read when metrics are.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use banqiao_directory::Clock;
use opentelemetry::{KeyValue, metrics::Meter};
use parking_lot::Mutex;

use super::{OTHER, WORDS, call::Side};

const US_PER_S: f64 = 1_000_000.0;
const S_PER_DAY: f64 = 86_400.0;

/// A kind of connection that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Accepted by the admin listener.
    Admin,
    /// Accepted by the client listener.
    Client,
    /// Accepted by the inter-city listener.
    InterCity,
    /// Accepted by the ops listener.
    Ops,
    /// Accepted by a service.
    Service,
    /// Made to another city's gateway.
    ToGateway,
    /// Made to a service of the own city.
    ToService,
}

impl ConnectionKind {
    const ALL: [Self; 7] = [
        Self::Admin,
        Self::Client,
        Self::InterCity,
        Self::Ops,
        Self::Service,
        Self::ToGateway,
        Self::ToService,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Client => "client",
            Self::InterCity => "inter_city",
            Self::Ops => "ops",
            Self::Service => "service",
            Self::ToGateway => "to_gateway",
            Self::ToService => "to_service",
        }
    }
}

/// A value that may not be known yet.
pub(super) struct Value(AtomicI64);

impl Value {
    const UNKNOWN: i64 = i64::MIN;

    pub(super) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn known(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != Self::UNKNOWN)
    }
}

impl Default for Value {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN))
    }
}

#[derive(Default)]
pub(super) struct Gauges {
    calls: [AtomicI64; Side::ALL.len()],
    connections: [AtomicI64; ConnectionKind::ALL.len()],
    crl_next_update_s: Mutex<BTreeMap<Arc<str>, i64>>,
    pub(super) certificate_not_after_s: Value,
    pub(super) directory_expires_us: Value,
    pub(super) directory_issued_us: Value,
    pub(super) directory_version: Value,
    pub(super) grants: Value,
    pub(super) ledger_size: Value,
    pub(super) ledger_witness_wait_s: Value,
    pub(super) ledger_degraded: Value,
    pub(super) ledger_witnessed: Value,
    witnesses_missing: Mutex<BTreeMap<Arc<str>, bool>>,
    pub(super) ledger_writable: Value,
    pub(super) queue_depth: Value,
}

impl Gauges {
    pub(super) fn register(meter: &Meter, clock: Clock) -> Arc<Self> {
        let gauges = Arc::new(Self::default());
        gauges.register_counts(meter);
        gauges.register_values(meter);
        gauges.register_times(meter, clock);
        gauges
    }

    pub(super) fn calls_in_flight(&self) -> u64 {
        let calls: i64 = self
            .calls
            .iter()
            .map(|calls| calls.load(Ordering::Relaxed))
            .sum();
        u64::try_from(calls).unwrap_or(0)
    }

    pub(super) fn replace_crls<'a>(&self, crls: impl IntoIterator<Item = (&'a str, i64)>) {
        let mut known = BTreeMap::new();
        for (domain, next_update_s) in crls {
            let domain = if known.len() < WORDS { domain } else { OTHER };
            // Of those that share a label the first to expire counts.
            let earliest = known.entry(Arc::from(domain)).or_insert(next_update_s);
            *earliest = next_update_s.min(*earliest);
        }
        *self.crl_next_update_s.lock() = known;
    }

    pub(super) fn replace_witnesses<'a>(
        &self,
        witnesses: impl IntoIterator<Item = (&'a str, bool)>,
    ) {
        let mut known = BTreeMap::new();
        for (city, missing) in witnesses {
            let city = if known.len() < WORDS { city } else { OTHER };
            // Of those that share a label one that is missing is enough.
            *known.entry(Arc::from(city)).or_insert(false) |= missing;
        }
        *self.witnesses_missing.lock() = known;
    }

    fn register_counts(self: &Arc<Self>, meter: &Meter) {
        let gauges = Arc::clone(self);
        meter
            .i64_observable_gauge("banqiao.calls.in_flight")
            .with_description("Calls that have begun and not ended, by side.")
            .with_callback(move |observer| {
                for (side, calls) in Side::ALL.iter().zip(&gauges.calls) {
                    let label = KeyValue::new("side", side.as_str());
                    observer.observe(calls.load(Ordering::Relaxed), &[label]);
                }
            })
            .build();
        let gauges = Arc::clone(self);
        meter
            .i64_observable_gauge("banqiao.ledger.witness.missing")
            .with_description(
                "1 while another city's witness has cosigned nothing for longer than it may, else 0.",
            )
            .with_callback(move |observer| {
                for (city, missing) in &*gauges.witnesses_missing.lock() {
                    let label = KeyValue::new("peer_city", Arc::clone(city));
                    observer.observe(i64::from(*missing), &[label]);
                }
            })
            .build();
        let gauges = Arc::clone(self);
        meter
            .i64_observable_gauge("banqiao.connections")
            .with_description("Open connections, by kind.")
            .with_callback(move |observer| {
                for (kind, open) in ConnectionKind::ALL.iter().zip(&gauges.connections) {
                    let label = KeyValue::new("kind", kind.as_str());
                    observer.observe(open.load(Ordering::Relaxed), &[label]);
                }
            })
            .build();
    }

    fn register_values(self: &Arc<Self>, meter: &Meter) {
        type Read = fn(&Gauges) -> &Value;
        let values: [(&'static str, &'static str, Read); 7] = [
            (
                "banqiao.directory.version",
                "Version of the directory in force.",
                |gauges| &gauges.directory_version,
            ),
            ("banqiao.grants", "Live grants.", |gauges| &gauges.grants),
            (
                "banqiao.ledger.degraded",
                "1 while a checkpoint, or receipts of another city, wait for witnesses longer than they may.",
                |gauges| &gauges.ledger_degraded,
            ),
            (
                "banqiao.ledger.queue.depth",
                "Entries that wait for the batcher.",
                |gauges| &gauges.queue_depth,
            ),
            ("banqiao.ledger.size", "Entries in the ledger.", |gauges| {
                &gauges.ledger_size
            }),
            (
                "banqiao.ledger.witnessed",
                "Entries at the newest checkpoint with a quorum of cosignatures.",
                |gauges| &gauges.ledger_witnessed,
            ),
            (
                "banqiao.ledger.writable",
                "1 while the ledger takes entries, else 0: calls are refused.",
                |gauges| &gauges.ledger_writable,
            ),
        ];
        for (name, what, value) in values {
            let gauges = Arc::clone(self);
            meter
                .i64_observable_gauge(name)
                .with_description(what)
                .with_callback(move |observer| {
                    if let Some(value) = value(&gauges).known() {
                        observer.observe(value, &[]);
                    }
                })
                .build();
        }
    }

    fn register_times(self: &Arc<Self>, meter: &Meter, clock: Clock) {
        let (gauges, now) = (Arc::clone(self), clock.clone());
        meter
            .f64_observable_gauge("banqiao.directory.age")
            .with_description("Age of the directory in force.")
            .with_unit("s")
            .with_callback(move |observer| {
                if let Some(issued_us) = gauges.directory_issued_us.known() {
                    observer.observe(span(issued_us, now.now_us()) / US_PER_S, &[]);
                }
            })
            .build();
        let (gauges, now) = (Arc::clone(self), clock.clone());
        meter
            .f64_observable_gauge("banqiao.directory.expires_in")
            .with_description("Time until the directory in force expires and calls are refused.")
            .with_unit("s")
            .with_callback(move |observer| {
                if let Some(expires_us) = gauges.directory_expires_us.known() {
                    observer.observe(span(now.now_us(), expires_us) / US_PER_S, &[]);
                }
            })
            .build();
        let gauges = Arc::clone(self);
        meter
            .f64_observable_gauge("banqiao.ledger.witness.wait")
            .with_description(
                "For how long the newest checkpoint has waited for its quorum of cosignatures.",
            )
            .with_unit("s")
            .with_callback(move |observer| {
                if let Some(waiting_s) = gauges.ledger_witness_wait_s.known() {
                    observer.observe(span(0, waiting_s), &[]);
                }
            })
            .build();
        let (gauges, now) = (Arc::clone(self), clock.clone());
        meter
            .f64_observable_gauge("banqiao.certificate.days_left")
            .with_description("Days until the own certificate expires.")
            .with_callback(move |observer| {
                if let Some(not_after_s) = gauges.certificate_not_after_s.known() {
                    observer.observe(span(now.now_s(), not_after_s) / S_PER_DAY, &[]);
                }
            })
            .build();
        let gauges = Arc::clone(self);
        meter
            .f64_observable_gauge("banqiao.crl.days_left")
            .with_description(
                "Days until a city's CRL must have been renewed; negative within its grace.",
            )
            .with_callback(move |observer| {
                let now_s = clock.now_s();
                for (domain, next_update_s) in &*gauges.crl_next_update_s.lock() {
                    let label = KeyValue::new("trust_domain", Arc::clone(domain));
                    observer.observe(span(now_s, *next_update_s) / S_PER_DAY, &[label]);
                }
            })
            .build();
    }
}

/// The time from `from` to `to` in their own unit. A gauge may lose the last microseconds of an age.
#[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
const fn span(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64
}

/// A call in flight. Dropping it ends the count.
#[must_use = "the call counts as in flight only while this lives"]
pub struct InFlight {
    gauges: Arc<Gauges>,
    side: Side,
}

impl InFlight {
    pub(super) fn new(gauges: Arc<Gauges>, side: Side) -> Self {
        gauges.calls[side as usize].fetch_add(1, Ordering::Relaxed);
        Self { gauges, side }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InFlight").field(&self.side).finish()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauges.calls[self.side as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection. Dropping it ends the count.
#[must_use = "the connection counts as open only while this lives"]
pub struct OpenConnection {
    gauges: Arc<Gauges>,
    kind: ConnectionKind,
}

impl OpenConnection {
    pub(super) fn new(gauges: Arc<Gauges>, kind: ConnectionKind) -> Self {
        gauges.connections[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self { gauges, kind }
    }
}

impl fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenConnection").field(&self.kind).finish()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauges.connections[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
