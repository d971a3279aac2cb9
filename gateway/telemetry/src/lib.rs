//! What a gateway or a service tells its operators: logs, traces and metrics.
//!
//! - **Logs** go to stderr through `tracing`, for people or as JSON, one line per event whatever the event holds.
//! - **Traces** go out by OTLP over gRPC. [`Tracer`] makes one [`CallSpan`] per hop, and the W3C `traceparent` header
//!   joins client, gateways and service into one trace.
//! - **Metrics** are kept once and read twice: pulled as Prometheus text ([`Telemetry::prometheus`]) and, where a
//!   collector is configured, pushed by OTLP.
//!
//! What it is not: the record. Nothing here is durable, and nothing here may hold a payload, an identity number, an
//! operator or a case. Labels come from closed sets (enums, the catalogue, the directory), never from the wire, and
//! each set has a limit after which its values are counted as `other`.
//!
//! ```no_run
//! use banqiao_directory::Clock;
//! use banqiao_telemetry::{RawTelemetry, Resource};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let resource = Resource::new("banqiao-gateway", env!("CARGO_PKG_VERSION")).with("banqiao.city", "370200");
//! let settings = RawTelemetry::default().parse(resource).map_err(|faults| faults[0].to_string())?;
//! let telemetry = banqiao_telemetry::init(settings, Clock::system())?;
//! telemetry.metrics().ledger_writable(true);
//! println!("{}", telemetry.prometheus());
//! telemetry.shutdown();
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod chain;
mod error;
mod export;
mod log;
mod metrics;
mod redact;
mod server;
mod settings;
mod span;
mod telemetry;
mod traceparent;

pub use chain::Chain;
pub use error::TelemetryError;
pub use log::install_log;
pub use metrics::{CallLabels, ConnectionKind, InFlight, Metrics, OTHER, OpenConnection, Side};
pub use redact::Redacted;
pub use server::{ServerTrace, ServerTraceBody, ServerTraceLayer};
pub use settings::{
    Collector, LogFilter, LogFormat, RawTelemetry, Resource, TelemetryFault, TelemetrySettings,
    TraceRatio,
};
pub use span::{CallSpan, SpanKey, Tracer};
pub use telemetry::{Telemetry, init};
pub use traceparent::TraceParent;
