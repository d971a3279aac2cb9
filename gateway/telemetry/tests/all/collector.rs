//! A collector in this process.

use std::sync::Arc;

use banqiao_directory::Clock;
use banqiao_telemetry::{Collector, Resource, Telemetry, TelemetrySettings, TraceRatio};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric},
    trace::v1::Span,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

/// Takes everything that it is sent, until it is dropped.
pub(crate) struct TestCollector {
    pub(crate) endpoint: String,
    received: Received,
    _serving: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Received {
    traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
}

impl TestCollector {
    pub(crate) async fn start() -> Self {
        Self::serve("http", Server::builder()).await
    }

    /// One that speaks TLS; also returns the PEM of the CA to trust.
    pub(crate) async fn start_tls() -> (Self, String) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity = Identity::from_pem(cert.pem(), signing_key.serialize_pem());
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity));
        (Self::serve("https", server.unwrap()).await, cert.pem())
    }

    async fn serve(scheme: &str, mut server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!(
            "{scheme}://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let received = Received::default();
        let router = server
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            endpoint,
            received,
            _serving: serving,
        }
    }

    /// The spans received, each with the name of the service that sent it.
    pub(crate) fn spans(&self) -> Vec<(String, Span)> {
        let traces = self.received.traces.lock();
        let resources = traces.iter().flat_map(|request| &request.resource_spans);
        resources
            .flat_map(|from| {
                let resource = from.resource.as_ref().unwrap();
                let service = text(&resource.attributes, "service.name").unwrap();
                let spans = from
                    .scope_spans
                    .iter()
                    .flat_map(|scope| scope.spans.clone());
                spans
                    .map(move |span| (service.clone(), span))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The newest state of a metric, with the name of the service that sent it.
    pub(crate) fn metric(&self, name: &str) -> Option<(String, metric::Data)> {
        let requests = self.received.metrics.lock();
        let resources = requests
            .iter()
            .rev()
            .flat_map(|request| &request.resource_metrics);
        resources
            .flat_map(|from| {
                let resource = from.resource.as_ref().unwrap();
                let service = text(&resource.attributes, "service.name").unwrap();
                let metrics = from.scope_metrics.iter().flat_map(|scope| &scope.metrics);
                metrics.map(move |metric: &Metric| (service.clone(), metric))
            })
            .find(|(_, metric)| metric.name == name)
            .and_then(|(service, metric)| Some((service, metric.data.clone()?)))
    }
}

/// A telemetry that sends to the collector.
pub(crate) fn telemetry(collector: Collector, service: &str, ratio: f64) -> Telemetry {
    let mut settings = TelemetrySettings::new(Resource::new(service, "1"));
    settings.collector = Some(collector);
    settings.trace_ratio = TraceRatio::new(ratio).unwrap();
    Telemetry::build(settings, Clock::system()).unwrap()
}

/// Flushes as a program would: off the runtime's threads, because it blocks.
pub(crate) async fn flush(telemetry: &Telemetry) {
    let telemetry = telemetry.clone();
    tokio::task::spawn_blocking(move || telemetry.flush())
        .await
        .unwrap();
}

/// The text of an attribute.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.lock().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
