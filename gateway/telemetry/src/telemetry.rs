//! Everything put together, started once and stopped once.

use std::{fmt, sync::Arc, time::Duration};

use banqiao_directory::Clock;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use tokio::runtime::Runtime;

use crate::{
    Chain, Metrics, TelemetryError, TelemetrySettings, Tracer, export::Export, log::install_log,
    metrics::limit_series,
};

/// How often metrics are pushed to a collector: Prometheus' usual scrape interval.
const PUSH_INTERVAL: Duration = Duration::from_secs(15);

/// Spans that wait for the collector: about half a second of calls at full load. More are dropped, never waited for.
const SPAN_QUEUE: usize = 16_384;

/// Spans in one export: about 200 KiB, far below a collector's usual limit of 4 MiB.
const SPAN_BATCH: usize = 1_024;

/// How long spans wait for their batch to fill up.
const SPAN_DELAY: Duration = Duration::from_secs(1);

/// How long stopping waits for each of traces and metrics.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// Installs the log ([`install_log`]) and starts traces and metrics ([`Telemetry::build`]).
///
/// # Errors
///
/// When the process has a log already, or the collector's settings cannot be used. A collector that cannot be
/// reached is no error: it may come later.
pub fn init(settings: TelemetrySettings, clock: Clock) -> Result<Telemetry, TelemetryError> {
    install_log(&settings)?;
    Telemetry::build(settings, clock)
}

/// The telemetry of one gateway or service. Cloning is cheap.
///
/// Nothing is global: a process may hold several, each with its own metrics and resource.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    meters: SdkMeterProvider,
    metrics: Metrics,
    registry: Registry,
    // Taken when telemetry stops. It must never be dropped as it is: that would wait for its tasks, and panic when the
    // last owner lives inside another runtime.
    runtime: Mutex<Option<Runtime>>,
    spans: Option<SdkTracerProvider>,
    tracer: Tracer,
}

impl Telemetry {
    /// Starts traces and metrics without touching the process's log.
    ///
    /// # Errors
    ///
    /// When the collector's settings cannot be used.
    pub fn build(settings: TelemetrySettings, clock: Clock) -> Result<Self, TelemetryError> {
        let resource = opentelemetry_sdk::Resource::builder_empty()
            .with_attributes(
                settings
                    .resource
                    .attributes()
                    .iter()
                    .map(|(key, value)| KeyValue::new(*key, value.clone())),
            )
            .build();
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(TelemetryError::Prometheus)?;
        let mut meters = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_view(limit_series)
            .with_reader(prometheus);
        let (mut spans, mut runtime) = (None, None);
        if let Some(collector) = &settings.collector {
            let export = Export::new(collector)?;
            let reader = PeriodicReader::builder(export.metrics)
                .with_interval(PUSH_INTERVAL)
                .build();
            meters = meters.with_reader(reader);
            let batches = BatchConfigBuilder::default()
                .with_max_queue_size(SPAN_QUEUE)
                .with_max_export_batch_size(SPAN_BATCH)
                .with_scheduled_delay(SPAN_DELAY)
                .build();
            let new_traces = Sampler::TraceIdRatioBased(settings.trace_ratio.value());
            spans = Some(
                SdkTracerProvider::builder()
                    .with_resource(resource)
                    .with_sampler(Sampler::ParentBased(Box::new(new_traces)))
                    .with_span_processor(
                        BatchSpanProcessor::builder(export.spans)
                            .with_batch_config(batches)
                            .build(),
                    )
                    .build(),
            );
            runtime = Some(export.runtime);
        }
        let meters = meters.build();
        Ok(Self(Arc::new(Inner {
            metrics: Metrics::new(&meters, clock),
            tracer: spans
                .as_ref()
                .map_or_else(Tracer::off, |spans| Tracer::new(spans.tracer("banqiao"))),
            meters,
            registry,
            runtime: Mutex::new(runtime),
            spans,
        })))
    }

    /// The measurements.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Makes the spans of calls.
    pub fn tracer(&self) -> &Tracer {
        &self.0.tracer
    }

    /// All metrics in Prometheus' text format 0.0.4, whose content type is [`Telemetry::PROMETHEUS_CONTENT_TYPE`].
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        // One family at a time: one that cannot be written must not take the others with it.
        for family in self.0.registry.gather() {
            if let Err(fault) = TextEncoder::new().encode_utf8(&[family], &mut text) {
                tracing::warn!(error = %Chain(&fault), "a metric cannot be written");
            }
        }
        text
    }

    /// The content type of [`Telemetry::prometheus`].
    pub const PROMETHEUS_CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;

    /// Sends what has gathered to the collector now. Blocks for up to some seconds; without a collector it does nothing.
    pub fn flush(&self) {
        if let Some(spans) = &self.0.spans {
            report(spans.force_flush());
            report(self.0.meters.force_flush());
        }
    }

    /// Sends what has gathered and stops. Blocks for up to 8 s; later calls do nothing.
    pub fn shutdown(&self) {
        let Some(runtime) = self.0.runtime.lock().take() else {
            return;
        };
        if let Some(spans) = &self.0.spans {
            report(spans.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        }
        report(self.0.meters.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        runtime.shutdown_background();
    }
}

/// Telemetry that cannot be delivered is said, and never stops anything.
fn report(result: opentelemetry_sdk::error::OTelSdkResult) {
    if let Err(fault) = result {
        tracing::warn!(error = %Chain(&fault), "telemetry could not be sent to the collector");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("traces", &self.0.tracer.is_on())
            .finish_non_exhaustive()
    }
}
