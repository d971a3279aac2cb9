//! A static tile tree behind a web server.

use std::{path::PathBuf, sync::Arc, time::Duration};

use banqiao_ledger::verify::{Fetched, Wanted};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::{connect, exit::Stop};

/// Requests at once: enough to hide a round trip, few enough for a small server.
const AT_ONCE: usize = 12;
/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one file.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a file is asked for whose connection failed, and the pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// How an https server is believed.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct WebArgs {
    /// PEM file of the CA certificates that a server of --tiles https://… is believed by.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file of your certificate, where that server asks for one.
    #[arg(long, value_name = "FILE", requires_all = ["cert_key", "ca"])]
    cert: Option<PathBuf>,
    /// PEM file of its private key, mode 0600.
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} cannot be fetched")]
    Http {
        path: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{path}: the server answers with HTTP status {status}")]
    Status { path: String, status: StatusCode },
    #[error("{0}: the server does not answer in time")]
    Timeout(String),
}

type Sender = SendRequest<Empty<Bytes>>;

/// A web server, and the folder on it.
pub(super) struct Site {
    /// `host:port`, to connect to.
    address: String,
    /// As the Host header has it.
    authority: String,
    /// Path of the folder, without a slash behind.
    base: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<Sender>>,
    connections: TaskTracker,
}

impl Site {
    pub(super) fn new(url: &str, web: &WebArgs) -> Result<Self, Stop> {
        let wrong = |problem: &str| Stop::usage(format!("--tiles {url}: {problem}"));
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong("is no URL").caused_by(error))?;
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(wrong("names no server"));
        };
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong(
                "write http(s)://HOST[:PORT]/FOLDER, and nothing else",
            ));
        }
        let host = host.trim_matches(['[', ']']);
        let secure = uri.scheme_str() == Some("https");
        let tls = match (&web.ca, secure) {
            (Some(ca), true) => {
                let own = web.cert.as_deref().zip(web.cert_key.as_deref());
                let config = connect::web(ca, own)?;
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|error| wrong("is no host name").caused_by(error))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            (None, false) => None,
            (None, true) => {
                return Err(wrong("needs --ca FILE: who may speak for the server"));
            }
            (Some(_), false) => return Err(wrong("--ca is of use with https only")),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            address,
            authority: authority.to_string(),
            base: uri.path().trim_end_matches('/').to_owned(),
            tls,
            idle: Mutex::default(),
            connections: TaskTracker::new(),
        })
    }

    /// Files, several at once. Those that are not there are left out.
    pub(super) async fn fetch(&self, wanted: Vec<Wanted>) -> Result<Fetched, FetchError> {
        let one = async |wanted: Wanted| {
            if let Some(content) = self.file(&wanted.path, wanted.limit).await? {
                return Ok(Some((wanted.path, content)));
            }
            let Some(full) = wanted.full else {
                return Ok(None);
            };
            let content = self.file(&full, wanted.limit).await?;
            Ok(content.map(|content| (full, content)))
        };
        let found: Vec<Option<(String, Vec<u8>)>> = stream::iter(wanted)
            .map(one)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// A file; of one that is too long, one byte more than it may have.
    pub(super) async fn file(
        &self,
        path: &str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let mut attempt = 1;
        loop {
            let late = || FetchError::Timeout(path.to_owned());
            let fetched = timeout(FILE_TIMEOUT, self.attempt(path, limit)).await;
            match fetched.unwrap_or_else(|_| Err(late())) {
                Err(FetchError::Connect { .. } | FetchError::Http { .. }) if attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                fetched => return fetched,
            }
        }
    }

    async fn attempt(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        let broken = |source| FetchError::Http {
            path: path.to_owned(),
            source,
        };
        let kept = self.idle.lock().await.pop();
        let mut sender = match kept {
            // The server may have ended it meanwhile.
            Some(mut sender) => match sender.ready().await {
                Ok(()) => sender,
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let mut request = Request::new(Empty::new());
        // What is put together of a parsed URL and a tile's path is one.
        if let Ok(uri) = format!("{}/{path}", self.base).parse() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        if let Ok(host) = self.authority.parse() {
            headers.insert(header::HOST, host);
        }
        let identity = header::HeaderValue::from_static("identity");
        headers.insert(header::ACCEPT_ENCODING, identity);
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut content = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame.map_err(broken)?.into_data() {
                content.extend_from_slice(&chunk);
            }
            if content.len() > limit {
                // Too long to be right; the connection is given up with the rest.
                content.truncate(limit.saturating_add(1));
                break;
            }
        }
        if content.len() <= limit && !sender.is_closed() {
            self.idle.lock().await.push(sender);
        }
        match status {
            StatusCode::OK => Ok(Some(content)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status => Err(FetchError::Status {
                path: path.to_owned(),
                status,
            }),
        }
    }

    async fn connect(&self) -> Result<Sender, FetchError> {
        let failed = |source| FetchError::Connect {
            address: self.address.clone(),
            source,
        };
        let connecting = async {
            let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match &self.tls {
                None => self.open(stream).await,
                Some((tls, name)) => {
                    let stream = tls.connect(name.clone(), stream).await.map_err(failed)?;
                    self.open(stream).await
                }
            }
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(failed(std::io::ErrorKind::TimedOut.into())))
    }

    async fn open<S>(&self, stream: S) -> Result<Sender, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opened = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| FetchError::Connect {
            address: self.address.clone(),
            source: std::io::Error::other(error),
        })?;
        // Its errors are met by whoever sends over it.
        self.connections
            .spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
