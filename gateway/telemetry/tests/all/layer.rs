//! [`ServerTraceLayer`] around a real tonic server.

use std::sync::Arc;

use banqiao_telemetry::{Collector, ServerTraceLayer, Telemetry};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_client::TraceServiceClient,
    trace_service_server::{TraceService, TraceServiceServer},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use crate::collector::{TestCollector, flush, telemetry, text};

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const EXCHANGE: &str = "0192d1f0-7c3e-7000-8000-000000000001/1";

/// Any tonic service would do: this one remembers the `traceparent` that its handler saw.
#[derive(Clone, Default)]
struct Handler(Arc<Mutex<Option<String>>>);

#[tonic::async_trait]
impl TraceService for Handler {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let seen = request
            .metadata()
            .get("traceparent")
            .and_then(|value| value.to_str().ok());
        *self.0.lock() = seen.map(str::to_owned);
        if request.metadata().contains_key("refuse") {
            return Err(Status::failed_precondition("refused"));
        }
        if request.metadata().contains_key("hang") {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve(telemetry: &Telemetry) -> (Handler, Channel, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let handler = Handler::default();
    let router = Server::builder()
        .layer(ServerTraceLayer::new(telemetry, [METHOD]))
        .add_service(TraceServiceServer::new(handler.clone()));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        router
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (
        handler,
        Endpoint::from_shared(endpoint).unwrap().connect_lazy(),
        serving,
    )
}

fn request(extra: Option<&'static str>) -> Request<ExportTraceServiceRequest> {
    let mut request = Request::new(ExportTraceServiceRequest::default());
    request
        .metadata_mut()
        .insert("traceparent", PARENT.parse().unwrap());
    request
        .metadata_mut()
        .insert("banqiao-exchange-id", EXCHANGE.parse().unwrap());
    if let Some(extra) = extra {
        request.metadata_mut().insert(extra, "1".parse().unwrap());
    }
    request
}

fn counted(telemetry: &Telemetry, code: &str, method: &str) -> bool {
    telemetry.prometheus().lines().any(|line| {
        line.starts_with("banqiao_call_duration_seconds_count{")
            && line.contains(&format!("code=\"{code}\""))
            && line.contains(&format!("method=\"{method}\""))
            && line.ends_with("} 1")
    })
}

/// A status reaches the client a moment before the server drops the body that counts it.
async fn until_counted(telemetry: &Telemetry, code: &str, method: &str) {
    while !counted(telemetry, code, method) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_are_traced_under_the_caller_and_counted_by_status() {
    let collector = TestCollector::start().await;
    let telemetry = telemetry(
        Collector::new(&collector.endpoint, None).unwrap(),
        "card",
        1.0,
    );
    let (handler, channel, _serving) = serve(&telemetry).await;
    let mut client = TraceServiceClient::new(channel);

    client.export(request(None)).await.unwrap();
    let seen = handler.0.lock().clone().unwrap();
    let refused = client.export(request(Some("refuse"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    until_counted(&telemetry, "OK", "Export").await;
    until_counted(&telemetry, "FAILED_PRECONDITION", "Export").await;
    flush(&telemetry).await;

    let spans = collector.spans();
    assert_eq!(spans.len(), 2);
    let (_, span) = &spans[0];
    assert_eq!(span.name, METHOD[1..]);
    assert_eq!(
        text(&span.attributes, "banqiao.exchange").as_deref(),
        Some(EXCHANGE)
    );
    let span_id: String = span
        .span_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        seen,
        format!("00-0af7651916cd43dd8448eb211c80319c-{span_id}-01")
    );
    let statuses: Vec<_> = spans
        .iter()
        .map(|(_, span)| text(&span.attributes, "rpc.response.status_code").unwrap())
        .collect();
    assert_eq!(statuses, ["OK", "FAILED_PRECONDITION"]);
}

#[tokio::test]
async fn a_call_that_its_caller_gave_up_is_counted_as_cancelled() {
    let collector = TestCollector::start().await;
    let telemetry = telemetry(
        Collector::new(&collector.endpoint, None).unwrap(),
        "card",
        1.0,
    );
    let (handler, channel, _serving) = serve(&telemetry).await;
    let mut client = TraceServiceClient::new(channel);
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.export(request(Some("hang"))).await });
    while handler.0.lock().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(telemetry.metrics().calls_in_flight(), 1);
    calls.abort_all();
    until_counted(&telemetry, "CANCELLED", "Export").await;
    assert_eq!(telemetry.metrics().calls_in_flight(), 0);
}

#[tokio::test]
async fn paths_from_the_wire_never_become_labels() {
    let collector = TestCollector::start().await;
    let telemetry = telemetry(
        Collector::new(&collector.endpoint, None).unwrap(),
        "card",
        1.0,
    );
    let (_handler, channel, _serving) = serve(&telemetry).await;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static("/x.Y/370202190001010009");
    let answer: Result<Response<ExportTraceServiceResponse>, _> =
        client.unary(request(None), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    until_counted(&telemetry, "UNIMPLEMENTED", "other").await;
    assert!(!telemetry.prometheus().contains("3702021900"));
    flush(&telemetry).await;
    assert_eq!(collector.spans()[0].1.name, "_OTHER");
}
