//! What gateways write and send about calls: enough to operate them, nothing about anybody.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    admin::grant,
    echo::{DiscloseRequest, EchoRequest},
    network::{Network, Plan, RULED, SYSTEM, set},
    wait::{PATIENCE, wait_for, wait_until},
    wire::Head,
};
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
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Synthetic people: sequence 000 is given to nobody.
const NUMBERS: [&str; 5] = [
    "370202199001010007",
    "370602198506150002",
    "370705197002280006",
    "371002199211050007",
    "371102196609300004",
];
const OPERATOR: &str = "operator-zhang-wei";
const CASE: &str = "case-2026-000017";
const YANTAI: &str = "370600";

/// A collector that keeps all it is sent.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Collected>>);

impl Collector {
    /// Everything that was sent, as bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut collected = self.0.lock().unwrap();
        collected.bytes.extend(request.encode_to_vec());
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        collected.spans.extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0
            .lock()
            .unwrap()
            .bytes
            .extend(request.into_inner().encode_to_vec());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Starts a collector; it stops with the set.
pub(crate) async fn collector() -> (Collector, String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        server
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (collector, endpoint, serving)
}

/// Every file under a folder, with its bytes.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
}

fn scan(what: &str, bytes: &[u8]) {
    for secret in NUMBERS.iter().chain([&OPERATOR, &CASE]) {
        let plain = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!plain, "{what} holds {secret}");
    }
}

#[tokio::test]
async fn no_identity_number_is_written_or_sent_by_a_gateway() {
    let (collector, endpoint, _serving) = collector().await;
    let plan = Plan::cities(2).tweak(move |_, config| {
        set(config, "telemetry.otlp_endpoint", endpoint.clone());
        // The most that an operator can switch on.
        set(config, "telemetry.log_filter", "trace");
        set(config, "telemetry.log_format", "json");
    });
    let (mut network, service) = Network::echo_of(plan).await.unwrap();
    let qingdao = &network.cities[0];
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    service.script("quote", |mut call| async move {
        // A service that repeats what it was asked in its error.
        let text = format!("no card of {}", NUMBERS[0]);
        call.trailers_only(banqiao_tests::service::status(5, &text))
    });
    for number in NUMBERS {
        let request = DiscloseRequest {
            citizen: number.to_owned(),
        };
        let head = Head::new("/example.echo.v1.RuledService/Disclose", YANTAI)
            .with("banqiao-operator", OPERATOR)
            .with("banqiao-case", CASE);
        let answer = caller.unary(&head, &request).await.unwrap();
        assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
        let quoted = head.clone().with(banqiao_tests::service::SCRIPT, "quote");
        assert_eq!(
            caller.unary(&quoted, &request).await.unwrap().code(),
            Some(5)
        );
        let refused = head.clone().set("banqiao-purpose", "card-service");
        caller.unary(&refused, &request).await.unwrap();
        // What is kept in plain may not name anybody, and its refusal repeats nothing.
        for misplaced in [
            Head::new(
                &format!("/example.echo.v1.EchoService/Echo{number}"),
                YANTAI,
            ),
            Head::new(&format!("/example.echo.v1.EchoService/{number}"), YANTAI),
            head.clone().set("banqiao-purpose", number),
            head.clone()
                .set("banqiao-basis", &format!("consent:{number}")),
            head.clone().set(
                "banqiao-to",
                &format!("spiffe://yantai.jiaodong/health/{number}"),
            ),
            head.clone().with(&format!("banqiao-{number}"), "1"),
        ] {
            let answer = caller.unary(&misplaced, &request).await.unwrap();
            let reason = answer.reason();
            assert!(
                matches!(
                    reason,
                    Some(
                        Reason::MetadataInvalid
                            | Reason::MetadataReserved
                            | Reason::PathNotCanonical
                    )
                ),
                "{reason:?}"
            );
            scan("a refusal", format!("{:?}", answer.grpc()).as_bytes());
        }
    }
    // An auditor finds what concerns a person by the number, which is turned into its token.
    let filter = banqiao_proto::ledger::v1::EntryFilter {
        subject: NUMBERS[1].to_owned(),
        ..Default::default()
    };
    for city in &network.cities {
        let found = city.admin().search(filter.clone()).await.unwrap();
        assert!(!found.is_empty(), "{} finds nothing by subject", city.name);
    }
    for city in &network.cities {
        let metrics = city.gateway().metrics().await.unwrap();
        scan(&format!("/metrics of {}", city.name), metrics.as_bytes());
        assert!(
            !metrics.contains("EchoService/37"),
            "labels come from the catalogue alone"
        );
    }
    // Stopped in order, so that everything is flushed; the log files of SQLite are read before that too.
    let mut written = Vec::new();
    files(network.folder(), &mut written);
    for city in &mut network.cities {
        city.gateway_mut().stop().await.unwrap();
    }
    files(network.folder(), &mut written);
    assert!(
        written
            .iter()
            .any(|(name, bytes)| name.ends_with("gateway.db-wal") && !bytes.is_empty())
    );
    assert!(
        written
            .iter()
            .any(|(name, bytes)| name.ends_with("gateway.log") && bytes.len() > 1_000)
    );
    for (name, bytes) in &written {
        scan(name, bytes);
    }
    let collected = collector.0.lock().unwrap();
    assert!(!collected.spans.is_empty(), "no span was sent");
    scan("what was sent to the collector", &collected.bytes);
}

#[tokio::test]
async fn one_trace_spans_client_both_gateways_and_service() {
    let (collector, endpoint, _serving) = collector().await;
    let plan = Plan::cities(2)
        .tweak(move |_, config| set(config, "telemetry.otlp_endpoint", endpoint.clone()));
    let (mut network, service) = Network::echo_of(plan).await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = "00f067aa0ba902b7";
    let head = Head::new("/example.echo.v1.EchoService/Echo", YANTAI)
        .with("traceparent", &format!("00-{trace}-{parent}-01"));
    caller.unary(&head, &EchoRequest::default()).await.unwrap();
    let seen = service
        .seen()
        .into_iter()
        .find(|seen| seen.path.ends_with("/Echo"))
        .unwrap();
    let received = seen
        .headers
        .get("traceparent")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let fields: Vec<_> = received.split('-').collect();
    assert_eq!((fields[0], fields[1]), ("00", trace));
    for city in &mut network.cities {
        city.gateway_mut().stop().await.unwrap();
    }
    let spans = wait_for("both gateways' spans", PATIENCE, || async {
        let collected = collector.0.lock().unwrap();
        let ours = collected
            .spans
            .iter()
            .filter(|span| hex::encode(&span.trace_id) == trace);
        let ours: Vec<_> = ours.cloned().collect();
        (ours.len() >= 2).then_some(ours)
    })
    .await
    .unwrap();
    // Client's span → Qingdao's → Yantai's → the service's.
    let child_of = |parent: &str| {
        let fits = |span: &&Span| hex::encode(&span.parent_span_id) == parent;
        spans
            .iter()
            .find(fits)
            .map(|span| hex::encode(&span.span_id))
    };
    let mut chain = vec![parent.to_owned()];
    while let Some(child) = child_of(chain.last().unwrap()) {
        chain.push(child);
    }
    assert!(chain.len() >= 3, "{chain:?}");
    assert_eq!(
        chain.last().map(String::as_str),
        Some(fields[2]),
        "{chain:?}"
    );
}

#[tokio::test]
async fn metrics_tell_what_operators_need() {
    let (network, _service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    yantai
        .grant(grant(&qingdao.id("hrss/desk"), RULED))
        .await
        .unwrap();
    let caller = qingdao.caller(SYSTEM).await.unwrap();
    let head = Head::new("/example.echo.v1.EchoService/Echo", YANTAI);
    caller.unary(&head, &EchoRequest::default()).await.unwrap();
    wait_until("the call in /metrics", PATIENCE, || async {
        let metrics = qingdao.gateway().metrics().await.unwrap();
        metrics
            .lines()
            .any(|line| line.contains("EchoService") && line.contains("370600"))
    })
    .await
    .unwrap();
    let metrics = qingdao.gateway().metrics().await.unwrap().to_lowercase();
    for topic in [
        "duration",
        "commit",
        "queue",
        "connections",
        "directory",
        "certificate",
        "crl",
        "in_flight",
        "ledger",
    ] {
        let told = metrics
            .lines()
            .any(|line| !line.starts_with('#') && line.contains(topic));
        assert!(told, "/metrics says nothing of {topic}");
    }
}
