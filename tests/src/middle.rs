//! A gateway that is not honest: it stands where the directory says that a city's gateway is, has its certificate, passes
//! everything on to the real one, and changes what a test tells it to change.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, Request, Response};
use rustls::{ClientConfig, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::wire::{connect_tls, send};

/// Changes headers or trailers.
pub type Change = Box<dyn FnMut(&mut HeaderMap) + Send>;

/// Changes a chunk of a body.
pub type Edit = Box<dyn FnMut(Bytes) -> Bytes + Send>;

/// What is changed of gRPC calls. Requests for the log pass as they are.
#[derive(Default)]
pub struct Tampering {
    /// Headers of requests.
    pub request: Option<Change>,
    /// Bodies of requests.
    pub request_body: Option<Edit>,
    /// Headers of answers.
    pub head: Option<Change>,
    /// Bodies of answers.
    pub response_body: Option<Edit>,
    /// The block that ends an answer: its trailers, or the one block of a refusal.
    pub last: Option<Change>,
}

impl fmt::Debug for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tampering")
    }
}

type Shared = Arc<Mutex<Tampering>>;

/// The gateway. It ends when it is dropped.
#[derive(Debug)]
pub struct Middle {
    tampering: Shared,
    _tasks: JoinSet<()>,
}

impl Middle {
    /// Listens at `address` as `server` and passes on to `real` as `client`.
    ///
    /// # Errors
    ///
    /// Fails when the address is taken.
    pub async fn start(
        address: SocketAddr,
        server: Arc<ServerConfig>,
        real: SocketAddr,
        client: Arc<ClientConfig>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let tampering = Shared::default();
        let shared = Arc::clone(&tampering);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&server));
                let (client, shared) = (Arc::clone(&client), Arc::clone(&shared));
                connections.spawn(async move {
                    // A connection that breaks is seen by the gateways on both sides.
                    let _ended = connection(tcp, acceptor, real, client, shared).await;
                });
            }
        });
        Ok(Self {
            tampering,
            _tasks: tasks,
        })
    }

    /// Changes this from now on, and nothing else.
    pub fn tamper(&self, tampering: Tampering) {
        *self
            .tampering
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = tampering;
    }
}

async fn connection(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    real: SocketAddr,
    client: Arc<ClientConfig>,
    tampering: Shared,
) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut server = h2::server::Builder::new()
        .max_header_list_size(1 << 20)
        .handshake::<_, Bytes>(acceptor.accept(tcp).await?)
        .await?;
    let (requests, connection) = h2::client::Builder::new()
        .max_header_list_size(1 << 20)
        .handshake::<_, Bytes>(connect_tls(real, client).await?)
        .await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _broken = connection.await;
    });
    while let Some(accepted) = server.accept().await {
        let (request, respond) = accepted?;
        let (requests, tampering) = (requests.clone(), Arc::clone(&tampering));
        tasks.spawn(async move {
            let _ended = call(request, respond, requests, real, tampering).await;
        });
    }
    Ok(())
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    requests: SendRequest<Bytes>,
    real: SocketAddr,
    tampering: Shared,
) -> Result<()> {
    let (mut parts, body) = request.into_parts();
    let grpc = parts.headers.contains_key("te");
    let path = parts.uri.path_and_query().context("no path")?;
    parts.uri = format!("https://{real}{path}").parse()?;
    if grpc {
        change(&tampering, &mut parts.headers, |it| &mut it.request);
    }
    let mut onward = Request::new(());
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = parts.uri;
    *onward.headers_mut() = parts.headers;
    let ended = body.is_end_stream();
    let mut ready = requests.ready().await?;
    let (response, up) = ready.send_request(onward, ended)?;
    let mut tasks = JoinSet::new();
    if !ended {
        let shared = Arc::clone(&tampering);
        tasks.spawn(async move {
            let _ended = pump(body, up, shared, grpc, true).await;
        });
    }
    let (head, body) = response.await?.into_parts();
    let mut answer = Response::new(());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    let ended = body.is_end_stream();
    if grpc {
        change(&tampering, answer.headers_mut(), |it| &mut it.head);
        if ended {
            change(&tampering, answer.headers_mut(), |it| &mut it.last);
        }
    }
    let down = respond.send_response(answer, ended)?;
    if !ended {
        pump(body, down, tampering, grpc, false).await?;
    }
    // The request goes on as long as the real gateway takes it.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn pump(
    mut from: RecvStream,
    mut to: SendStream<Bytes>,
    tampering: Shared,
    grpc: bool,
    request: bool,
) -> Result<()> {
    while let Some(chunk) = from.data().await {
        let mut chunk = chunk?;
        from.flow_control().release_capacity(chunk.len())?;
        if grpc {
            let mut tampering = tampering.lock().unwrap_or_else(PoisonError::into_inner);
            let edit = if request {
                &mut tampering.request_body
            } else {
                &mut tampering.response_body
            };
            if let Some(edit) = edit {
                chunk = edit(chunk);
            }
        }
        send(&mut to, chunk, false).await?;
    }
    match from.trailers().await? {
        Some(mut trailers) => {
            if grpc {
                change(&tampering, &mut trailers, |it| &mut it.last);
            }
            to.send_trailers(trailers)?;
        }
        None => to.send_data(Bytes::new(), true)?,
    }
    Ok(())
}

fn change(
    tampering: &Shared,
    headers: &mut HeaderMap,
    which: impl FnOnce(&mut Tampering) -> &mut Option<Change>,
) {
    let mut tampering = tampering.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(change) = which(&mut tampering) {
        change(headers);
    }
}
