//! The measurements of a gateway or a service.
//!
//! Whatever changes on the way of a call is an atomic or a bound instrument; everything is read when Prometheus pulls
//! or the collector's reader comes by. `deploy/prometheus/` and `deploy/grafana/` use the names given here.

mod call;
mod gauge;
mod process;
mod vocabulary;

use std::{fmt, sync::Arc, time::Duration};

use banqiao_directory::Clock;
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Meter, MeterProvider},
};
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};

pub use call::{CallLabels, Side};
pub use gauge::{ConnectionKind, InFlight, OpenConnection};
pub use vocabulary::OTHER;

use call::Calls;
pub(crate) use call::code_name;
use gauge::Gauges;
use vocabulary::Vocabulary;

/// Bounds of duration histograms, in seconds, from 0.1 ms to 60 s. A local call takes some tenths of a millisecond,
/// a call across two gateways one or two milliseconds; beyond 60 s only long streams live.
const DURATION_BOUNDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// Bounds of the histogram of entries per commit: the batcher takes at most 1,024.
const BATCH_BOUNDS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0,
];

/// Series per instrument that the SDK makes room for. Our own limits are lower, so it never has to overflow.
const SERIES: usize = 320;

/// Different values that a label of a rare event may take before they become [`OTHER`].
const WORDS: usize = 64;

/// The measurements. Cloning is cheap; every clone writes to the same series.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    asked_cities: Event,
    calls: Calls,
    commit_duration: BoundHistogram<f64>,
    commit_entries: BoundHistogram<u64>,
    committed_bytes: BoundCounter<u64>,
    gauges: Arc<Gauges>,
    ledger_failures: Event,
    ledger_alarms: Event,
    receipts: Event,
    discrepancies: Event,
    limit_hits: Event,
    peer_cities: Vocabulary,
    reloads: Event,
    stripped: BoundCounter<u64>,
    tls_refused: Event,
    witness: Event,
}

impl Metrics {
    pub(crate) fn new(provider: &SdkMeterProvider, clock: Clock) -> Self {
        let meter = provider.meter("banqiao");
        let gauges = Gauges::register(&meter, clock);
        process::register(&meter);
        let seconds = |name, what| {
            meter
                .f64_histogram(name)
                .with_description(what)
                .with_unit("s")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build()
        };
        let calls = Calls::new(seconds(
            call::NAME,
            "Calls from their first header to their status, by side, method, peer city, status code and reason.",
        ));
        let commit_duration = seconds(
            "banqiao.ledger.commit.duration",
            "Ledger commits from BEGIN until COMMIT has returned.",
        );
        let commit_entries = meter
            .u64_histogram("banqiao.ledger.commit.entries")
            .with_description("Entries in one ledger commit.")
            .with_boundaries(BATCH_BOUNDS.to_vec())
            .build();
        let committed = meter
            .u64_counter("banqiao.ledger.committed")
            .with_description("Bytes of the entries that were committed.")
            .with_unit("By")
            .build();
        let stripped = meter
            .u64_counter("banqiao.metadata.stripped")
            .with_description("Reserved metadata that was stripped from responses.")
            .build();
        Self(Arc::new(Inner {
            asked_cities: Event::new(
                &meter,
                "banqiao.asked.cities",
                "Cities that were asked together with all others, by peer city and outcome: answered, refused, unreachable, deadline, faulty, failed, cancelled.",
                "outcome",
            ),
            calls,
            commit_duration: commit_duration.bind(&[]),
            commit_entries: commit_entries.bind(&[]),
            committed_bytes: committed.bind(&[]),
            gauges,
            ledger_failures: Event::new(
                &meter,
                "banqiao.ledger.failures",
                "Ledger commits that failed, by kind.",
                "kind",
            ),
            ledger_alarms: Event::new(
                &meter,
                "banqiao.ledger.alarms",
                "Contradictions between the ledger and what witnesses hold of it, by kind: fork, rollback; of other cities: peer_fork, peer_rollback, peer_clock.",
                "kind",
            ),
            receipts: Event::new(
                &meter,
                "banqiao.receipts",
                "Receipts of other cities, by outcome: verified, missing, invalid, foreign, stale, private; linked, unlinked.",
                "outcome",
            ),
            discrepancies: Event::new(
                &meter,
                "banqiao.reconciliation.discrepancies",
                "Exchanges of which this ledger and that of another city do not hold the same, by peer city and class.",
                "class",
            ),
            limit_hits: Event::new(
                &meter,
                "banqiao.limit.hits",
                "Times that a limit refused or cut something, by limit.",
                "limit",
            ),
            peer_cities: Vocabulary::new(WORDS),
            reloads: Event::new(
                &meter,
                "banqiao.reloads",
                "Reloads of certificates, CRLs, directory, grants or settings, by what and result.",
                "what",
            ),
            stripped: stripped.bind(&[]),
            tls_refused: Event::new(
                &meter,
                "banqiao.tls.refused",
                "TLS handshakes that were refused, by reason.",
                "reason",
            ),
            witness: Event::new(
                &meter,
                "banqiao.witness",
                "Checkpoints that were cosigned or not, here for others or there for us, by outcome.",
                "outcome",
            ),
        }))
    }

    /// A call has ended. Takes no lock and allocates nothing once the combination of labels was seen.
    ///
    /// Service, method and peer city must come from the catalogue and the directory; a call whose method is not in
    /// the catalogue is counted with [`OTHER`]. Beyond 2,000 combinations all three are counted as [`OTHER`].
    pub fn call(&self, labels: &CallLabels<'_>, duration: Duration) {
        self.0.calls.record(labels, duration);
    }

    /// A call has begun; it is in flight until the guard is dropped.
    pub fn in_flight(&self, side: Side) -> InFlight {
        InFlight::new(Arc::clone(&self.0.gauges), side)
    }

    /// Calls that are in flight now, on every side.
    pub fn calls_in_flight(&self) -> u64 {
        self.0.gauges.calls_in_flight()
    }

    /// A connection was accepted or made; it is open until the guard is dropped.
    pub fn connection(&self, kind: ConnectionKind) -> OpenConnection {
        OpenConnection::new(Arc::clone(&self.0.gauges), kind)
    }

    /// A ledger commit has returned.
    pub fn commit(&self, entries: usize, bytes: usize, duration: Duration) {
        self.0.commit_entries.record(entries as u64);
        self.0.committed_bytes.add(bytes as u64);
        self.0.commit_duration.record(duration.as_secs_f64());
    }

    /// A ledger commit has failed: `kind` is the class of the error, such as `busy`, `frozen` or `full`.
    pub fn ledger_failed(&self, kind: &'static str) {
        self.0.ledger_failures.count(kind, &[]);
    }

    /// Entries that wait for the batcher.
    pub fn queue_depth(&self, entries: usize) {
        self.0.gauges.queue_depth.set(clamp(entries));
    }

    /// Entries in the ledger.
    pub fn ledger_size(&self, entries: u64) {
        self.0
            .gauges
            .ledger_size
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Size of the newest checkpoint with a quorum of cosignatures, and how long a newer one has waited for its own.
    pub fn ledger_witnessed(&self, size: u64, waiting_s: i64) {
        let gauges = &self.0.gauges;
        gauges
            .ledger_witnessed
            .set(i64::try_from(size).unwrap_or(i64::MAX));
        gauges.ledger_witness_wait_s.set(waiting_s);
    }

    /// Whether a checkpoint, or receipts of another city, wait for witnesses longer than they may.
    pub fn ledger_degraded(&self, degraded: bool) {
        self.0.gauges.ledger_degraded.set(i64::from(degraded));
    }

    /// The other cities' witnesses, and whether each has cosigned nothing for longer than it may. Replaces what was known.
    pub fn witnesses<'a>(&self, witnesses: impl IntoIterator<Item = (&'a str, bool)>) {
        self.0.gauges.replace_witnesses(witnesses);
    }

    /// A city that was asked with all others has answered, or not.
    pub fn asked_city(&self, city: &str, outcome: &'static str) {
        let city = KeyValue::new("peer_city", self.0.peer_cities.admit(city));
        self.0.asked_cities.count(outcome, &[city]);
    }

    /// A receipt of another city was verified, missed or refused.
    pub fn receipt(&self, outcome: &'static str) {
        self.0.receipts.count(outcome, &[]);
    }

    /// The ledger contradicts what others hold of it (`fork`, `rollback`), another city's contradicts itself (`peer_fork`,
    /// `peer_rollback`), or a clock was moved (`peer_clock`).
    pub fn ledger_alarm(&self, kind: &'static str) {
        self.0.ledger_alarms.count(kind, &[]);
    }

    /// So many exchanges with a city are of a class of discrepancy.
    pub fn discrepancies(&self, peer_city: &str, class: &'static str, count: u64) {
        let city = KeyValue::new("peer_city", self.0.peer_cities.admit(peer_city));
        self.0.discrepancies.add(count, class, &[city]);
    }

    /// A witness of another city did not cosign a checkpoint that it was shown.
    pub fn cosignature_missing(&self) {
        self.0.witness.count("missing", &[]);
    }

    /// This city's witness cosigned another city's checkpoint.
    pub fn witness_cosigned(&self) {
        self.0.witness.count("cosigned", &[]);
    }

    /// This city's witness refused a checkpoint with an HTTP status.
    pub fn witness_refused(&self, status: u16) {
        let outcome = match status {
            409 => "conflict",
            422 => "inconsistent",
            _ => "refused",
        };
        self.0.witness.count(outcome, &[]);
    }

    /// Whether the ledger takes entries.
    pub fn ledger_writable(&self, writable: bool) {
        self.0.gauges.ledger_writable.set(i64::from(writable));
    }

    /// The directory in force; its age and the time until it expires are computed when they are read.
    pub fn directory(&self, version: u64, issued_at_us: i64, expires_at_us: i64) {
        let gauges = &self.0.gauges;
        gauges
            .directory_version
            .set(i64::try_from(version).unwrap_or(i64::MAX));
        gauges.directory_issued_us.set(issued_at_us);
        gauges.directory_expires_us.set(expires_at_us);
    }

    /// The end of the own certificate's validity, in seconds since 1970.
    pub fn certificate(&self, not_after_s: i64) {
        self.0.gauges.certificate_not_after_s.set(not_after_s);
    }

    /// The CRLs in force: trust domain and `nextUpdate` in seconds since 1970. Replaces what was set before.
    pub fn crls<'a>(&self, crls: impl IntoIterator<Item = (&'a str, i64)>) {
        self.0.gauges.replace_crls(crls);
    }

    /// Live grants.
    pub fn grants(&self, count: usize) {
        self.0.gauges.grants.set(clamp(count));
    }

    /// A TLS handshake was refused; `reason` is the name in the table of reasons.
    pub fn refused_tls(&self, reason: &'static str) {
        self.0.tls_refused.count(reason, &[]);
    }

    /// A limit refused or cut something; `limit` is the name of its setting.
    pub fn limit_hit(&self, limit: &'static str) {
        self.0.limit_hits.count(limit, &[]);
    }

    /// Reserved metadata was stripped from a response.
    pub fn stripped_metadata(&self, names: u64) {
        self.0.stripped.add(names);
    }

    /// `what` (`certificate`, `bundles`, `crl`, `directory`, `grants`…) was loaded again, or could not be.
    pub fn reloaded(&self, what: &'static str, applied: bool) {
        let result = if applied { "applied" } else { "failed" };
        self.0
            .reloads
            .count(what, &[KeyValue::new("result", result)]);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A counter of rare events with one label of bounded vocabulary.
struct Event {
    counter: Counter<u64>,
    label: &'static str,
    words: Vocabulary,
}

impl Event {
    fn new(meter: &Meter, name: &'static str, what: &'static str, label: &'static str) -> Self {
        Self {
            counter: meter.u64_counter(name).with_description(what).build(),
            label,
            words: Vocabulary::new(WORDS),
        }
    }

    fn count(&self, word: &str, more: &[KeyValue]) {
        self.add(1, word, more);
    }

    fn add(&self, times: u64, word: &str, more: &[KeyValue]) {
        let word = KeyValue::new(self.label, self.words.admit(word));
        match more {
            [] => self.counter.add(times, &[word]),
            more => self.counter.add(times, &[&[word], more].concat()),
        }
    }
}

/// Makes room for as many series as our own limits allow, and no more: the SDK reserves the room at once.
pub(crate) fn limit_series(instrument: &Instrument) -> Option<Stream> {
    let limit = if instrument.name() == call::NAME {
        call::SERIES
    } else {
        SERIES
    };
    Stream::builder().with_cardinality_limit(limit).build().ok()
}

fn clamp(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
