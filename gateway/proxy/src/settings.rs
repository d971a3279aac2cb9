//! Limits of the data plane. Every default is HARDENING's, as a constant with its reason and unit.

use std::time::Duration;

/// A handshake takes two round trips; a client that needs longer is broken or hostile.
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the end of the handshake to the first request's headers. hyper and h2 have no such timer (slowloris).
pub const DEFAULT_PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one identity.
pub const DEFAULT_CONNECTIONS_PER_PEER: usize = 200;
/// After this age a connection is drained, so that certificates and load balancing take effect.
pub const DEFAULT_CONNECTION_MAX_AGE: Duration = Duration::from_secs(3600);
/// What an aged or draining connection has to finish its calls.
pub const DEFAULT_CONNECTION_GRACE: Duration = Duration::from_secs(30);
/// A connection without traffic is probed, also while idle: after a partition it would stay dead for ever.
pub const DEFAULT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// What a probe may take.
pub const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection (rapid reset, CVE-2023-44487).
pub const DEFAULT_STREAMS_PER_CONNECTION: u32 = 100;
/// A stream without a message for so long ends, unless its method is `long_lived`.
pub const DEFAULT_STREAM_IDLE: Duration = Duration::from_secs(300);
/// Reset streams that the peer may leave unaccepted.
pub const DEFAULT_PENDING_RESETS: usize = 20;
/// Streams that this side may reset for the peer's errors.
pub const DEFAULT_LOCAL_RESETS: usize = 256;
/// Decoded header list in bytes, duplicates counted (CVE-2026-47774).
pub const DEFAULT_HEADER_LIST: u32 = 16 * 1024;
/// HTTP/2 window of a stream in bytes.
pub const DEFAULT_STREAM_WINDOW: u32 = 1024 * 1024;
/// HTTP/2 window of a connection in bytes.
pub const DEFAULT_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What small DATA frames of a connection may cost beyond their payload, in bytes: some 190 for each. A stream window
/// full of the smallest messages fits; h2's own default ends a stream of a million of them.
pub const DATA_FRAME_BUDGET: usize = 32 * 1024 * 1024;
/// HTTP/2 frame in bytes.
pub const DEFAULT_FRAME: u32 = 16 * 1024;
/// Unary messages up to this size are held until their entry is durable; larger ones go as streams do.
pub const DEFAULT_HELD_MESSAGE: usize = 256 * 1024;
/// Largest response message of a field-limited grant: it is held while it is cut.
pub const DEFAULT_DISCLOSED_MESSAGE: usize = 4 * 1024 * 1024;
/// All messages that are held for cutting at one time, in bytes.
pub const DEFAULT_DISCLOSURE_BUDGET: usize = 64 * 1024 * 1024;
/// Calls that one client may have open.
pub const DEFAULT_CLIENT_CONCURRENCY: usize = 512;
/// Calls to all cities that one client may have open: each of them is a call to every city.
pub const DEFAULT_CLIENT_FAN_OUTS: usize = 16;
/// Cities that one call to all cities asks at the same time: every prefecture-level city of the province.
pub const DEFAULT_FAN_OUT: usize = 16;
/// Largest response message of a call to all cities, in bytes: of each city one is held while its field `city` is checked.
pub const DEFAULT_FAN_OUT_MESSAGE: usize = 1024 * 1024;
/// Deadline of a call to all cities that states none: somebody waits for it, and a silent city must not hold up the rest.
pub const DEFAULT_FAN_OUT_DEADLINE: Duration = Duration::from_secs(30);
/// Refusals of one client that get an entry of their own, in each minute; more are counted in summaries.
pub const DEFAULT_REFUSALS_PER_MINUTE: u32 = 600;
/// What open calls have to finish when the gateway stops.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// Deadline of a unary call that states none and whose method states none.
pub const DEFAULT_UNARY_DEADLINE: Duration = Duration::from_secs(60);
/// Attempt to reach an upstream.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to one upstream address from one worker.
pub const DEFAULT_UPSTREAM_CONNECTIONS: usize = 8;
/// Messages between durable PROGRESS entries. Half of what may be ahead of the record (DESIGN §4: 1,000), since
/// one window is written while the next one fills.
pub const DEFAULT_PROGRESS_MESSAGES: u64 = 500;
/// Bytes between durable PROGRESS entries, likewise half of 8 MiB.
pub const DEFAULT_PROGRESS_BYTES: u64 = 4 * 1024 * 1024;
/// Time of activity between durable PROGRESS entries, likewise half of 30 s.
pub const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(15);
/// A stream stops when its window is not durable within this.
pub const DEFAULT_PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// Grants that could not be read for so long decide nothing any more.
pub const DEFAULT_GRANTS_STALE: Duration = Duration::from_secs(5);
/// How far an exchange id's time may be from ours when a peer presents it. Claims refuse replays for ever; this
/// bounds what a stolen statement is good for.
pub const DEFAULT_EXCHANGE_SKEW: Duration = Duration::from_secs(900);

/// How far the entry of another city's receipt may be from our time, beside the error bounds of both clocks.
pub const DEFAULT_RECEIPT_AGE: Duration = Duration::from_secs(60);
/// Room beside the list of headers for a receipt and the opening of a private part, in base64 and with their names.
pub(crate) const RECEIPT_ROOM: u32 = 12 * 1024;

/// The limits, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the constant of the same name")]
pub struct Limits {
    pub handshake_timeout: Duration,
    pub preface_timeout: Duration,
    pub connections_per_peer: usize,
    /// Connections in all. Default: half of the process's descriptor limit.
    pub connections: usize,
    pub connection_max_age: Duration,
    pub connection_grace: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    pub streams_per_connection: u32,
    pub stream_idle: Duration,
    pub pending_resets: usize,
    pub local_resets: usize,
    pub header_list: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    pub frame: u32,
    pub held_message: usize,
    pub disclosed_message: usize,
    pub disclosure_budget: usize,
    pub client_concurrency: usize,
    pub client_fan_outs: usize,
    pub fan_out: usize,
    pub fan_out_message: usize,
    pub fan_out_deadline: Duration,
    pub refusals_per_minute: u32,
    pub drain: Duration,
    pub unary_deadline: Duration,
    pub connect_timeout: Duration,
    pub upstream_connections: usize,
    pub progress_messages: u64,
    pub progress_bytes: u64,
    pub progress_interval: Duration,
    pub progress_timeout: Duration,
    pub grants_stale: Duration,
    pub exchange_skew: Duration,
    pub receipt_age: Duration,
    /// Resident memory in bytes above which load is shed (85 %) and connections are refused (95 %). 0: no limit.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            preface_timeout: DEFAULT_PREFACE_TIMEOUT,
            connections_per_peer: DEFAULT_CONNECTIONS_PER_PEER,
            connections: descriptor_limit() / 2,
            connection_max_age: DEFAULT_CONNECTION_MAX_AGE,
            connection_grace: DEFAULT_CONNECTION_GRACE,
            keepalive_interval: DEFAULT_KEEPALIVE_INTERVAL,
            keepalive_timeout: DEFAULT_KEEPALIVE_TIMEOUT,
            streams_per_connection: DEFAULT_STREAMS_PER_CONNECTION,
            stream_idle: DEFAULT_STREAM_IDLE,
            pending_resets: DEFAULT_PENDING_RESETS,
            local_resets: DEFAULT_LOCAL_RESETS,
            header_list: DEFAULT_HEADER_LIST,
            stream_window: DEFAULT_STREAM_WINDOW,
            connection_window: DEFAULT_CONNECTION_WINDOW,
            frame: DEFAULT_FRAME,
            held_message: DEFAULT_HELD_MESSAGE,
            disclosed_message: DEFAULT_DISCLOSED_MESSAGE,
            disclosure_budget: DEFAULT_DISCLOSURE_BUDGET,
            client_concurrency: DEFAULT_CLIENT_CONCURRENCY,
            client_fan_outs: DEFAULT_CLIENT_FAN_OUTS,
            fan_out: DEFAULT_FAN_OUT,
            fan_out_message: DEFAULT_FAN_OUT_MESSAGE,
            fan_out_deadline: DEFAULT_FAN_OUT_DEADLINE,
            refusals_per_minute: DEFAULT_REFUSALS_PER_MINUTE,
            drain: DEFAULT_DRAIN,
            unary_deadline: DEFAULT_UNARY_DEADLINE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            upstream_connections: DEFAULT_UPSTREAM_CONNECTIONS,
            progress_messages: DEFAULT_PROGRESS_MESSAGES,
            progress_bytes: DEFAULT_PROGRESS_BYTES,
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            progress_timeout: DEFAULT_PROGRESS_TIMEOUT,
            grants_stale: DEFAULT_GRANTS_STALE,
            exchange_skew: DEFAULT_EXCHANGE_SKEW,
            receipt_age: DEFAULT_RECEIPT_AGE,
            memory: 0,
        }
    }
}

/// The soft limit of open files; 1,024 where the system does not say.
fn descriptor_limit() -> usize {
    std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| {
            let line = limits
                .lines()
                .find(|line| line.starts_with("Max open files"))?;
            line.split_whitespace().nth(3)?.parse().ok()
        })
        .unwrap_or(1_024)
}
