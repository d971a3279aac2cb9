//! What can go wrong when telemetry starts.

use std::path::PathBuf;

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// This process has a log already: [`crate::install_log`] or [`crate::init`] was called twice.
    #[error("this process writes a log already")]
    AlreadyInstalled,
    /// The certificates for the collector cannot be read.
    #[error("cannot read the collector's CA certificates from {path}", path = path.display())]
    CollectorCertificates {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The channel to the collector cannot be set up.
    #[error("cannot set up the channel to the collector")]
    CollectorChannel(#[source] tonic::transport::Error),
    /// An exporter cannot be built.
    #[error("cannot set up the OTLP exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The Prometheus reader cannot be built.
    #[error("cannot set up the Prometheus reader")]
    Prometheus(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// The thread that talks to the collector cannot be started.
    #[error("cannot start the collector's thread")]
    Thread(#[source] std::io::Error),
}
