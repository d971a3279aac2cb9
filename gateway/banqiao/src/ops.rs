//! The ops listener: `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.1.
//!
//! It asks for no certificate, so it says nothing about calls, people or peers' addresses, and it serves only GET and
//! HEAD of three paths. It stays up while the gateway drains, so that whoever balances load sees it go.

use std::{convert::Infallible, fmt, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at one time: a scraper, a balancer and a person have room, a flood has none.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a connection may live: scrapers reconnect.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Largest header list in bytes (hyper's smallest buffer).
const MAX_HEADER_BYTES: usize = 8 << 10;
/// Pause after a failed accept, so that a machine out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the ops listener tells.
pub trait Ops: Send + Sync + 'static {
    /// Whether the gateway takes calls. The reasons why not are short and free of names from outside.
    fn readiness(&self) -> Readiness;
    /// Metrics in Prometheus's text format.
    fn metrics(&self) -> String;
}

/// Whether the gateway takes calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why not; empty: it does.
    pub obstacles: Vec<String>,
}

impl Readiness {
    /// Whether calls are taken.
    pub const fn is_ready(&self) -> bool {
        self.obstacles.is_empty()
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            return f.write_str("ready\n");
        }
        self.obstacles
            .iter()
            .try_for_each(|obstacle| writeln!(f, "{obstacle}"))
    }
}

/// Serves until `stop` is cancelled. Connections are tasks of `tasks`; they end with `stop` too.
pub async fn serve(
    listener: TcpListener,
    ops: Arc<dyn Ops>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    accept(listener, ops, tasks, stop, HEADER_TIMEOUT).await;
}

/// [`serve`], with the time for a request's headers.
async fn accept(
    listener: TcpListener,
    ops: Arc<dyn Ops>,
    tasks: TaskTracker,
    stop: CancellationToken,
    header_timeout: Duration,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the ops listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Over the limit the connection is closed at once: a waiting one would hold a descriptor.
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::debug!(%peer, "the ops listener is full");
            continue;
        };
        let (ops, stop) = (Arc::clone(&ops), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(stream, peer, ops, header_timeout) => {}
            }
            drop(place);
        });
    }
}

/// Serves one connection to its end.
fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    ops: Arc<dyn Ops>,
    header_timeout: Duration,
) -> impl Future<Output = ()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), ops.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    async move {
        if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_AGE, connection).await {
            tracing::debug!(%peer, %error, "an ops connection broke");
        }
    }
}

/// The answer to a request.
fn respond(method: &Method, path: &str, ops: &dyn Ops) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD\n".to_owned(),
        );
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    // hyper itself leaves the body out of an answer to HEAD.
    match path {
        "/healthz" => answer(StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => {
            let readiness = ops.readiness();
            let status = if readiness.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            answer(status, readiness.to_string())
        }
        "/metrics" => {
            let mut response = answer(StatusCode::OK, ops.metrics());
            let form = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, form);
            response
        }
        _ => answer(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    }
}

fn answer(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[derive(Default)]
    struct Scene(Mutex<Readiness>);

    impl Ops for Scene {
        fn readiness(&self) -> Readiness {
            self.0.lock().clone()
        }

        fn metrics(&self) -> String {
            "banqiao_up 1\n".to_owned()
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_see_health_readiness_and_metrics_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scene = Arc::new(Scene::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(serve(
            listener,
            Arc::clone(&scene) as Arc<dyn Ops>,
            tasks.clone(),
            stop.clone(),
        ));

        assert!(
            ask(address, "GET /healthz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        assert!(
            ask(address, "GET /readyz")
                .await
                .ends_with("\r\n\r\nready\n")
        );
        let metrics = ask(address, "GET /metrics").await;
        assert!(
            metrics.contains("version=0.0.4") && metrics.ends_with("banqiao_up 1\n"),
            "{metrics}"
        );
        assert!(ask(address, "HEAD /metrics").await.ends_with("\r\n\r\n"));
        assert!(
            ask(address, "POST /healthz")
                .await
                .starts_with("HTTP/1.1 405")
        );
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));

        scene
            .0
            .lock()
            .obstacles
            .push("the ledger cannot be written".to_owned());
        let answer = ask(address, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("the ledger cannot be written\n"),
            "{answer}"
        );

        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn slow_headers_are_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (scene, limit) = (Arc::new(Scene::default()), Duration::from_millis(50));
        tasks.spawn(accept(listener, scene, tasks.clone(), stop.clone(), limit));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nx: ")
            .await
            .unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
        stop.cancel();
    }
}
