//! Settings, from the `[telemetry]` table of a configuration file.

use std::{fmt, path::PathBuf, str::FromStr};

use http::Uri;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// Everything at `info` and above.
const DEFAULT_LOG_FILTER: &str = "info";

/// Every call is traced as long as a collector is configured: a network's first question is "where did it go?".
/// Large sites lower it.
const DEFAULT_TRACE_RATIO: f64 = 1.0;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Which log lines are written, as `tracing-subscriber` filters say it: `info`, `warn,banqiao_proxy=debug`.
#[derive(Clone, Debug)]
pub struct LogFilter(String);

impl LogFilter {
    pub(crate) fn to_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self(DEFAULT_LOG_FILTER.to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

/// The share of new traces that are kept, from 0 to 1. A trace that a caller began keeps the caller's decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceRatio(f64);

impl TraceRatio {
    /// The share; `None` when it is not between 0 and 1.
    pub fn new(ratio: f64) -> Option<Self> {
        (0.0..=1.0).contains(&ratio).then_some(Self(ratio))
    }

    pub(crate) const fn value(self) -> f64 {
        self.0
    }
}

impl Default for TraceRatio {
    fn default() -> Self {
        Self(DEFAULT_TRACE_RATIO)
    }
}

/// An OpenTelemetry collector that takes OTLP over gRPC.
#[derive(Clone, Debug)]
pub struct Collector {
    endpoint: Uri,
    certificates: Option<PathBuf>,
}

impl Collector {
    /// A collector at `endpoint`: `http://127.0.0.1:4317`, or `https://…` with the PEM file of the CAs to trust.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the endpoint, or that only one of `https` and `certificates` is given.
    pub fn new(endpoint: &str, certificates: Option<PathBuf>) -> Result<Self, &'static str> {
        let endpoint: Uri = endpoint.parse().map_err(|_| "this is not a URL")?;
        if endpoint.host().is_none_or(str::is_empty) {
            return Err("the URL names no host");
        }
        if !matches!(endpoint.path(), "" | "/") || endpoint.query().is_some() {
            return Err("an OTLP/gRPC endpoint has no path: http://host:4317");
        }
        match (endpoint.scheme_str(), &certificates) {
            (Some("http"), None) | (Some("https"), Some(_)) => Ok(Self {
                endpoint,
                certificates,
            }),
            (Some("http"), Some(_)) => Err("otlp_ca is set, so the URL must begin with https://"),
            (Some("https"), None) => Err("https needs otlp_ca, the PEM file of the CAs to trust"),
            _ => Err("the URL must begin with http:// or https://"),
        }
    }

    pub(crate) const fn endpoint(&self) -> &Uri {
        &self.endpoint
    }

    pub(crate) const fn certificates(&self) -> Option<&PathBuf> {
        self.certificates.as_ref()
    }
}

/// What sends the telemetry: OpenTelemetry's resource.
#[derive(Clone, Debug)]
pub struct Resource {
    attributes: Vec<(&'static str, String)>,
}

impl Resource {
    /// A program with its version.
    pub fn new(service_name: impl Into<String>, service_version: impl Into<String>) -> Self {
        Self {
            attributes: vec![
                ("service.name", service_name.into()),
                ("service.version", service_version.into()),
            ],
        }
    }

    /// One more attribute, such as `service.instance.id` (the replica) or `banqiao.city`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    pub(crate) fn attributes(&self) -> &[(&'static str, String)] {
        &self.attributes
    }
}

/// Settings that [`crate::init`] and [`crate::Telemetry::build`] take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TelemetrySettings {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: LogFilter,
    /// Where traces and metrics are pushed to; `None`: metrics are only pulled, and there are no traces.
    pub collector: Option<Collector>,
    /// The share of new traces that are kept.
    pub trace_ratio: TraceRatio,
    /// What sends the telemetry.
    pub resource: Resource,
}

impl TelemetrySettings {
    /// Human log at `info`, metrics for Prometheus, no collector.
    pub fn new(resource: Resource) -> Self {
        Self {
            log_format: LogFormat::default(),
            log_filter: LogFilter::default(),
            collector: None,
            trace_ratio: TraceRatio::default(),
            resource,
        }
    }
}

/// One fault of a `[telemetry]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryFault {
    /// The key inside the table, such as `log_filter`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub message: String,
}

impl fmt::Display for TelemetryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "telemetry.{}: {}", self.key, self.message)
    }
}

/// The `[telemetry]` table as it is written. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTelemetry {
    /// `human` (default) or `json`.
    pub log_format: Option<LogFormat>,
    /// Default `info`.
    pub log_filter: Option<String>,
    /// URL of an OTLP/gRPC collector; empty or absent for none.
    pub otlp_endpoint: Option<String>,
    /// PEM file with the CAs of an `https` collector.
    pub otlp_ca: Option<PathBuf>,
    /// Share of new traces that are kept, 0 to 1. Default 1.
    pub trace_ratio: Option<f64>,
}

impl RawTelemetry {
    /// Checks the table and turns it into settings.
    ///
    /// # Errors
    ///
    /// All the faults at once.
    pub fn parse(self, resource: Resource) -> Result<TelemetrySettings, Vec<TelemetryFault>> {
        let mut settings = TelemetrySettings::new(resource);
        let mut faults = Vec::new();
        let mut fault = |key, message: String| faults.push(TelemetryFault { key, message });
        settings.log_format = self.log_format.unwrap_or_default();
        if let Some(filter) = self.log_filter {
            match filter.parse() {
                Ok(filter) => settings.log_filter = filter,
                Err(message) => fault("log_filter", message),
            }
        }
        match self.otlp_endpoint.as_deref() {
            None | Some("") if self.otlp_ca.is_some() => {
                fault("otlp_ca", "is set, but otlp_endpoint is not".to_owned());
            }
            None | Some("") => {}
            Some(endpoint) => match Collector::new(endpoint, self.otlp_ca) {
                Ok(collector) => settings.collector = Some(collector),
                Err(message) => fault("otlp_endpoint", message.to_owned()),
            },
        }
        if let Some(ratio) = self.trace_ratio {
            match TraceRatio::new(ratio) {
                Some(ratio) => settings.trace_ratio = ratio,
                None => fault("trace_ratio", "must lie between 0 and 1".to_owned()),
            }
        }
        if faults.is_empty() {
            Ok(settings)
        } else {
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TelemetrySettings, Vec<TelemetryFault>> {
        let raw: RawTelemetry = toml::from_str(text).unwrap();
        raw.parse(Resource::new("test", "0"))
    }

    #[test]
    fn an_empty_table_logs_for_people_and_pushes_nothing() {
        let settings = parse("").unwrap();
        assert_eq!(settings.log_format, LogFormat::Human);
        assert!(settings.collector.is_none());
        assert!(parse("otlp_endpoint = \"\"").unwrap().collector.is_none());
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = parse(
            "log_filter = \"banqiao=shout\"\notlp_endpoint = \"127.0.0.1:4317\"\ntrace_ratio = 1.5\n",
        )
        .unwrap_err();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["log_filter", "otlp_endpoint", "trace_ratio"]);
    }

    #[test]
    fn a_collector_is_http_or_https_with_its_certificates() {
        let certificates = || Some(PathBuf::from("ca.pem"));
        assert!(Collector::new("http://127.0.0.1:4317", None).is_ok());
        assert!(Collector::new("https://collector.qingdao:4317", certificates()).is_ok());
        assert!(Collector::new("https://collector.qingdao:4317", None).is_err());
        assert!(Collector::new("http://127.0.0.1:4317", certificates()).is_err());
        assert!(Collector::new("http://127.0.0.1:4318/v1/traces", None).is_err());
        assert!(Collector::new("ftp://127.0.0.1", None).is_err());
    }

    #[test]
    fn unknown_keys_are_faults() {
        assert!(toml::from_str::<RawTelemetry>("log_level = \"info\"").is_err());
        assert!(toml::from_str::<RawTelemetry>("log_format = \"xml\"").is_err());
    }
}
