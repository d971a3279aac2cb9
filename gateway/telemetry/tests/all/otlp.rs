//! Traces and metrics as they reach a collector.

use std::time::{Duration, Instant};

use banqiao_directory::Clock;
use banqiao_telemetry::{
    CallLabels, Collector, OTHER, Resource, Side, SpanKey, Telemetry, TelemetrySettings,
    TraceParent,
};
use opentelemetry_proto::tonic::{
    metrics::v1::metric::Data,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tonic::Code;

use crate::collector::{TestCollector, flush, telemetry, text};

const METHOD: &str = "/banqiao.card.v1.CardService/VerifyCard";
const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const LABELS: CallLabels<'static> = CallLabels {
    side: Side::Provider,
    service: "banqiao.card.v1.CardService",
    method: "VerifyCard",
    peer_city: "370600",
    code: Code::Ok,
    reason: "",
};

async fn start(service: &str) -> (TestCollector, Telemetry) {
    let collector = TestCollector::start().await;
    let telemetry = telemetry(
        Collector::new(&collector.endpoint, None).unwrap(),
        service,
        1.0,
    );
    (collector, telemetry)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of<'s>(spans: &'s [(String, Span)], service: &str) -> &'s Span {
    let mut found = spans.iter().filter(|(sender, _)| sender == service);
    let (_, span) = found.next().unwrap();
    assert!(found.next().is_none(), "more than one span of {service}");
    span
}

#[tokio::test]
async fn three_hops_make_one_trace_that_nests() {
    let (collector, consumer) = start("consumer").await;
    let endpoint = || Collector::new(&collector.endpoint, None).unwrap();
    let provider = telemetry(endpoint(), "provider", 1.0);
    let service = telemetry(endpoint(), "service", 1.0);

    let mut first = consumer.tracer().start(Some(CLIENT), OTHER, Side::Consumer);
    first.resolved(METHOD, Side::Consumer);
    first.annotate(SpanKey::Exchange, "0192d1f0-7c3e-7000-8000-000000000001");
    let header = first.traceparent().unwrap();
    let second = provider
        .tracer()
        .start(header.to_str().ok(), METHOD, Side::Provider);
    let header = second.traceparent().unwrap();
    let third = service
        .tracer()
        .start(header.to_str().ok(), METHOD, Side::Service);
    third.end(Code::Unavailable, "");
    second.end(Code::Unavailable, "SERVICE_UNREACHABLE");
    drop(first);
    for telemetry in [&consumer, &provider, &service] {
        flush(telemetry).await;
    }

    let spans = collector.spans();
    let [first, second, third] = ["consumer", "provider", "service"].map(|name| of(&spans, name));
    for span in [first, second, third] {
        assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.name, "banqiao.card.v1.CardService/VerifyCard");
        assert_eq!(
            text(&span.attributes, "rpc.method").as_ref(),
            Some(&span.name)
        );
        assert_eq!(span.kind(), SpanKind::Server);
    }
    assert_eq!(hex(&first.parent_span_id), "b7ad6b7169203331");
    assert_eq!(second.parent_span_id, first.span_id);
    assert_eq!(third.parent_span_id, second.span_id);
    let exchange = text(&first.attributes, "banqiao.exchange");
    assert_eq!(
        exchange.as_deref(),
        Some("0192d1f0-7c3e-7000-8000-000000000001")
    );
    let status = |span: &Span| text(&span.attributes, "rpc.response.status_code").unwrap();
    assert_eq!(
        [first, second, third].map(status),
        ["CANCELLED", "UNAVAILABLE", "UNAVAILABLE"]
    );
    let reason = text(&second.attributes, "banqiao.reason");
    assert_eq!(reason.as_deref(), Some("SERVICE_UNREACHABLE"));
    let error = |span: &Span| {
        span.status
            .as_ref()
            .is_some_and(|it| it.code() == StatusCode::Error)
    };
    assert_eq!([first, second, third].map(error), [false, true, true]);
}

#[tokio::test]
async fn a_caller_that_is_not_sampled_is_not_exported_but_its_trace_goes_on() {
    let (collector, telemetry) = start("gateway").await;
    let parent = CLIENT.replace("-01", "-00");
    let mut span = telemetry
        .tracer()
        .start(Some(&parent), METHOD, Side::Consumer);
    assert!(!span.is_recording());
    span.resolved(METHOD, Side::Local);
    let next = TraceParent::parse(span.traceparent().unwrap().to_str().unwrap()).unwrap();
    assert_eq!(next.to_string()[..36], parent[..36]);
    assert_ne!(next.to_string(), parent);
    assert!(next.to_string().ends_with("-00"));
    span.end(Code::Ok, "");
    flush(&telemetry).await;
    assert_eq!(collector.spans(), []);
}

#[tokio::test]
async fn malformed_parents_begin_new_traces_under_the_ratio() {
    let collector = TestCollector::start().await;
    let endpoint = || Collector::new(&collector.endpoint, None).unwrap();
    let (all, none) = (
        telemetry(endpoint(), "all", 1.0),
        telemetry(endpoint(), "none", 0.0),
    );
    for telemetry in [&all, &none] {
        let span = telemetry
            .tracer()
            .start(Some("00-forged\r\n"), OTHER, Side::Consumer);
        assert!(span.traceparent().is_some());
        span.end(Code::Unimplemented, "METHOD_UNKNOWN");
        flush(telemetry).await;
    }
    let spans = collector.spans();
    let span = of(&spans, "all");
    assert_eq!(spans.len(), 1);
    assert!(span.parent_span_id.is_empty());
    assert_eq!(span.name, "_OTHER");
}

#[tokio::test]
async fn metrics_reach_the_collector_and_prometheus_alike() {
    let (collector, telemetry) = start("gateway").await;
    telemetry.metrics().call(&LABELS, Duration::from_millis(2));
    telemetry.metrics().call(&LABELS, Duration::from_millis(40));
    telemetry.metrics().ledger_writable(true);
    flush(&telemetry).await;

    let (sender, data) = collector.metric("banqiao.call.duration").unwrap();
    assert_eq!(sender, "gateway");
    let Data::Histogram(histogram) = data else {
        panic!("not a histogram")
    };
    let [point] = &histogram.data_points[..] else {
        panic!("not one series")
    };
    assert_eq!(point.count, 2);
    assert_eq!(
        text(&point.attributes, "method").as_deref(),
        Some("VerifyCard")
    );
    assert_eq!(
        (
            point.explicit_bounds[0],
            *point.explicit_bounds.last().unwrap()
        ),
        (0.0001, 60.0)
    );
    assert!(
        telemetry
            .prometheus()
            .contains("banqiao_call_duration_seconds_count")
    );
    assert!(collector.metric("banqiao.ledger.writable").is_some());
    assert!(collector.metric("process.memory.usage").is_some());
}

#[tokio::test]
async fn a_collector_behind_tls_is_believed_only_with_its_ca() {
    let (collector, ca) = TestCollector::start_tls().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca).unwrap();
    let foreign = tempfile::NamedTempFile::new().unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(foreign.path(), stranger.cert.pem()).unwrap();
    for (name, certificates) in [("stranger", foreign.path()), ("friend", file.path())] {
        let target = Collector::new(&collector.endpoint, Some(certificates.to_owned())).unwrap();
        let telemetry = telemetry(target, name, 1.0);
        telemetry
            .tracer()
            .start(None, METHOD, Side::Client)
            .end(Code::Ok, "");
        flush(&telemetry).await;
    }
    let senders: Vec<_> = collector
        .spans()
        .into_iter()
        .map(|(sender, _)| sender)
        .collect();
    assert_eq!(senders, ["friend"]);
}

#[tokio::test]
async fn stopping_sends_what_has_gathered_and_may_be_repeated() {
    let (collector, telemetry) = start("gateway").await;
    telemetry
        .tracer()
        .start(None, METHOD, Side::Consumer)
        .end(Code::Ok, "");
    telemetry.metrics().grants(5);
    let stopping = telemetry.clone();
    tokio::task::spawn_blocking(move || stopping.shutdown())
        .await
        .unwrap();
    assert_eq!(collector.spans().len(), 1);
    assert!(collector.metric("banqiao.grants").is_some());
    telemetry.shutdown();
    let late = telemetry
        .tracer()
        .start(Some(CLIENT), METHOD, Side::Consumer);
    late.end(Code::Ok, "");
}

#[tokio::test]
async fn a_collector_that_is_away_delays_nothing() {
    // The port is reserved and nobody listens on it.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", reserved.local_addr().unwrap());
    let telemetry = telemetry(Collector::new(&endpoint, None).unwrap(), "gateway", 1.0);
    let started = Instant::now();
    for _ in 0..20_000 {
        let span = telemetry
            .tracer()
            .start(Some(CLIENT), METHOD, Side::Consumer);
        span.end(Code::Ok, "");
    }
    telemetry.metrics().call(&LABELS, Duration::ZERO);
    assert!(
        telemetry
            .prometheus()
            .contains("banqiao_call_duration_seconds_count")
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    let stopping = telemetry.clone();
    tokio::task::spawn_blocking(move || stopping.shutdown())
        .await
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn without_a_collector_headers_pass_through_and_nothing_is_made() {
    let settings = TelemetrySettings::new(Resource::new("gateway", "1"));
    let telemetry = Telemetry::build(settings, Clock::system()).unwrap();
    assert!(!telemetry.tracer().is_on());
    let mut span = telemetry
        .tracer()
        .start(Some(CLIENT), METHOD, Side::Consumer);
    span.annotate(SpanKey::PeerCity, "370600");
    assert!(!span.is_recording());
    assert_eq!(span.traceparent(), None);
    span.end(Code::Ok, "");
    telemetry.flush();
    telemetry.shutdown();
}
