//! The `[limits]` table: every limit of the data plane with the range in which it makes sense.
//!
//! The defaults and their reasons are the constants of `banqiao_proxy`; here stand only keys and ranges.

use std::time::Duration;

use banqiao_proxy::Limits;
use serde::Serialize;

use super::raw::{ByteSize, Section, Setting};

/// One key of the `[limits]` table, for people to read.
#[derive(Clone, Debug, Serialize)]
pub struct LimitInfo {
    /// The key.
    pub key: &'static str,
    /// The default, as it would stand in a config.
    pub default: String,
    /// What it limits.
    pub meaning: &'static str,
}

/// Declares each key once: its kind, its range and its meaning.
macro_rules! limits {
    ($($key:ident: $kind:ident $range:expr, $meaning:literal;)+) => {
        /// Reads the table; faults are collected, and a faulty value reads as its default.
        pub(super) fn read(mut section: Section<'_, '_>) -> Limits {
            let defaults = Limits::default();
            let limits = Limits {
                $($key: $kind(&mut section, stringify!($key), defaults.$key, $range),)+
            };
            check(&limits, &section);
            section.finish();
            limits
        }

        /// Every key with its default and meaning.
        pub fn limit_infos() -> Vec<LimitInfo> {
            let defaults = Limits::default();
            vec![$(LimitInfo {
                key: stringify!($key),
                default: show::$kind(defaults.$key),
                meaning: $meaning,
            },)+]
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limits! {
    handshake_timeout: time (100, 60_000), "time for a TLS handshake (slowloris)";
    preface_timeout: time (100, 120_000), "time from the handshake to the first request's headers (slowloris)";
    connections_per_peer: count (1, 100_000), "connections of one identity";
    connections: count (16, 1_000_000), "connections in all; default half of the open-file limit, so that files, peers and services never starve";
    connection_max_age: time (1_000, 7 * 86_400_000), "age at which a connection is drained, so that load spreads and withdrawn rights cannot linger";
    connection_grace: time (100, 3_600_000), "time for open calls of an aged connection to finish";
    keepalive_interval: time (1_000, 3_600_000), "interval of PINGs, also while idle: without them a connection stays dead after a partition";
    keepalive_timeout: time (100, 300_000), "time for the answer to a PING";
    streams_per_connection: count (1, 100_000), "concurrent streams of one connection (rapid reset, CVE-2023-44487)";
    stream_idle: time (1_000, 86_400_000), "time without a message after which a stream ends, unless its method is long_lived";
    pending_resets: count (1, 10_000), "reset streams that wait to be accepted, before the connection is ended";
    local_resets: count (1, 100_000), "streams that a peer's errors reset, before the connection is ended";
    header_list: size (4 * KIB, 256 * KIB), "decoded header list, duplicates counted (CVE-2026-47774)";
    stream_window: size (64 * KIB, 16 * MIB), "flow-control window of a stream: the memory of one call";
    connection_window: size (64 * KIB, 256 * MIB), "flow-control window of a connection: the memory of one peer";
    frame: size (16 * KIB, MIB), "largest frame: the protocol's smallest maximum, so that streams stay fair to each other";
    held_message: size (KIB, 4 * MIB), "largest unary message that is held until its entry is durable; larger ones go as streams do";
    disclosed_message: size (KIB, 64 * MIB), "largest response message under a grant that limits fields: it is held while it is cut";
    disclosure_budget: size (MIB, 4 * GIB), "all messages together that are held while they are cut";
    client_concurrency: count (1, 1_000_000), "open calls of one client, over all its connections";
    client_fan_outs: count (1, 10_000), "open calls of one client to all cities at once: each of them is a call to every city";
    fan_out: count (1, 1_000), "cities that one call to all cities asks at the same time; the others wait their turn within the call's deadline";
    fan_out_message: size (KIB, 16 * MIB), "largest response message of a call to all cities: of each city one is held while it is checked";
    fan_out_deadline: time (100, 3_600_000), "deadline of a call to all cities that states none";
    refusals_per_minute: count (1, 1_000_000), "refusals of one client that get entries of their own; more are counted in summaries";
    drain: time (100, 3_600_000), "time for open calls to finish when the gateway stops";
    unary_deadline: time (10, 3_600_000), "deadline of a unary call whose method states none";
    connect_timeout: time (100, 60_000), "time to reach a peer or service, handshake included";
    upstream_connections: count (1, 1_000), "connections to one upstream address from one worker";
    progress_messages: count (1, 500), "messages between durable PROGRESS entries; two windows may be ahead of the record, at most 1,000 messages";
    progress_bytes: size (64 * KIB, 4 * MIB), "bytes between durable PROGRESS entries";
    progress_interval: time (100, 15_000), "time of activity between durable PROGRESS entries";
    progress_timeout: time (100, 60_000), "time for a PROGRESS entry to become durable; the stream stops after it";
    grants_stale: time (1_000, 60_000), "age at which grants that could not be read again decide nothing any more";
    exchange_skew: time (60_000, 86_400_000), "how far an exchange id's time may be from this gateway's clock when a peer presents it";
    receipt_age: time (1_000, 3_600_000), "how far the time of another city's receipt may be from this gateway's clock, beside the error bounds of both clocks";
    memory: size (0, 1024 * GIB), "resident memory above which load is shed (85 %) and connections are refused (95 %); 0: no limit";
}

/// Reads a duration; the range is in milliseconds.
fn time(
    section: &mut Section<'_, '_>,
    key: &'static str,
    default: Duration,
    (low, high): (u64, u64),
) -> Duration {
    section.setting(
        key,
        default,
        &(Duration::from_millis(low)..=Duration::from_millis(high)),
    )
}

/// Reads a whole number.
fn count<T: TryFrom<u64> + Into64>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    default: T,
    (low, high): (u64, u64),
) -> T {
    let read = section.setting(key, default.into_64(), &(low..=high));
    T::try_from(read).unwrap_or(default)
}

/// Reads a number of bytes; the range is in bytes.
fn size<T: TryFrom<u64> + Into64>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    default: T,
    (low, high): (u64, u64),
) -> T {
    let range = ByteSize::bytes(low)..=ByteSize::bytes(high);
    let read = section.setting(key, ByteSize::bytes(default.into_64()), &range);
    T::try_from(read.get()).unwrap_or(default)
}

/// The integer types of [`Limits`]. `usize` has no lossless `Into<u64>` in the standard library.
trait Into64: Copy {
    fn into_64(self) -> u64;
}

impl Into64 for u32 {
    fn into_64(self) -> u64 {
        self.into()
    }
}

impl Into64 for u64 {
    fn into_64(self) -> u64 {
        self
    }
}

impl Into64 for usize {
    fn into_64(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
}

/// How defaults are written.
mod show {
    use super::{ByteSize, Duration, Into64, Setting};

    pub(super) fn time(value: Duration) -> String {
        format!("\"{}\"", value.show())
    }

    pub(super) fn count(value: impl Into64) -> String {
        value.into_64().to_string()
    }

    pub(super) fn size(value: impl Into64) -> String {
        ByteSize::bytes(value.into_64()).show()
    }
}

/// Checks what depends on two settings.
fn check(limits: &Limits, section: &Section<'_, '_>) {
    let bytes = |bytes: u32| u64::from(bytes);
    let ordered = [
        (
            "stream_window",
            bytes(limits.stream_window),
            "connection_window",
            bytes(limits.connection_window),
        ),
        (
            "connections_per_peer",
            limits.connections_per_peer.into_64(),
            "connections",
            limits.connections.into_64(),
        ),
        (
            "disclosed_message",
            limits.disclosed_message.into_64(),
            "disclosure_budget",
            limits.disclosure_budget.into_64(),
        ),
    ];
    for (smaller, value, larger, bound) in ordered {
        // Defaults are sound on their own; a small open-file limit must not make an empty table faulty.
        if value > bound && (section.has(smaller) || section.has(larger)) {
            let place = section.place(smaller);
            section.faults().error(
                &place,
                format!("is larger than {larger} ({bound})"),
                format!("lower it, or raise {larger}"),
            );
        }
    }
    if limits.memory != 0 && limits.memory < 32 * MIB {
        let hint = "write 0 for no limit, or at least \"32MiB\"";
        section.faults().error(
            &section.place("memory"),
            "is less than an idle gateway needs",
            hint,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_within_its_range_and_has_a_meaning() {
        let text = limit_infos()
            .iter()
            .map(|info| {
                assert!(!info.meaning.is_empty(), "{}", info.key);
                format!("{} = {}\n", info.key, info.default)
            })
            .collect::<String>();
        let (limits, faults) = crate::config::tests::limits(&text);
        assert_eq!(faults, Vec::new());
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn limits_that_contradict_each_other_are_faults() {
        let (_, faults) = crate::config::tests::limits(
            "stream_window = \"8MiB\"\nconnection_window = \"1MiB\"\nmemory = 1\nframe = \"1GiB\"\ndrain = 5\n",
        );
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["stream_window", "memory", "frame", "drain"]);
    }
}
