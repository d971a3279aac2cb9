//! The way to the collector.

use std::time::Duration;

use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::{TelemetryError, settings::Collector};

/// Longer than any healthy collector takes, shorter than the time that a stopping process is given.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// The exporters, and the runtime on which their channel lives.
///
/// A runtime of its own, with one thread: the data path's runtimes neither carry nor wait for telemetry, and the SDK's
/// threads may block on the exporters without starving anyone.
pub(crate) struct Export {
    pub(crate) metrics: MetricExporter,
    pub(crate) runtime: Runtime,
    pub(crate) spans: SpanExporter,
}

impl Export {
    pub(crate) fn new(collector: &Collector) -> Result<Self, TelemetryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()
            .map_err(TelemetryError::Thread)?;
        let entered = runtime.enter();
        let channel = connect(collector)?;
        let spans = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(TelemetryError::Exporter)?;
        let metrics = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(TelemetryError::Exporter)?;
        drop(entered);
        Ok(Self {
            metrics,
            runtime,
            spans,
        })
    }
}

/// A channel that connects when it is first used and again whenever it must.
fn connect(collector: &Collector) -> Result<Channel, TelemetryError> {
    let mut endpoint = Endpoint::from(collector.endpoint().clone())
        .timeout(EXPORT_TIMEOUT)
        .connect_timeout(EXPORT_TIMEOUT)
        // Without pings a channel stays dead after a partition until the kernel gives up on it.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    if let Some(path) = collector.certificates() {
        let pem = std::fs::read(path).map_err(|source| TelemetryError::CollectorCertificates {
            path: path.clone(),
            source,
        })?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint
            .tls_config(tls)
            .map_err(TelemetryError::CollectorChannel)?;
    }
    Ok(endpoint.connect_lazy())
}
