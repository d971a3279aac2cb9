//! Connections of the command line to a gateway: over its Unix sockets, or over mTLS.

mod tls;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{
    config::{self, Role},
    exit::Stop,
};

pub use tls::TlsFiles;
pub(crate) use tls::web;

/// Time to reach the gateway, handshake included: a person waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of PINGs on a connection, also while idle, so that a watch notices a partition.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the answer to a PING.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Port of a gateway's client listener where an address names none.
const DEFAULT_GATEWAY_PORT: u16 = 8443;
/// Where the sockets of a gateway are that was set up by the shipped units.
const DEFAULT_ADMIN: &str = "unix:/run/banqiao-gateway";

/// Certificate, key and CA of who calls.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsArgs {
    /// PEM file of your certificate.
    #[arg(long, value_name = "FILE", env = "BANQIAO_CERT", requires_all = ["key", "ca"])]
    cert: Option<PathBuf>,
    /// PEM file of its private key, mode 0600.
    #[arg(long, value_name = "FILE", env = "BANQIAO_KEY", requires_all = ["cert", "ca"])]
    key: Option<PathBuf>,
    /// PEM file of your city's CA certificates.
    #[arg(long, value_name = "FILE", env = "BANQIAO_CA", requires_all = ["cert", "key"])]
    ca: Option<PathBuf>,
}

impl TlsArgs {
    /// The three files.
    ///
    /// # Errors
    ///
    /// [`Stop`] where one is missing.
    pub fn files(&self) -> Result<TlsFiles, Stop> {
        let (Some(certificate), Some(private_key), Some(ca)) = (&self.cert, &self.key, &self.ca)
        else {
            return Err(Stop::usage(
                "a certificate is needed: --cert FILE --key FILE --ca FILE (or BANQIAO_CERT, BANQIAO_KEY, BANQIAO_CA)",
            ));
        };
        Ok(TlsFiles {
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            ca: ca.clone(),
        })
    }
}

/// Where the admin listener is.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// The gateway's admin listener: unix:SOCKET, unix:FOLDER with ROLE.sock in it, or https://HOST:PORT.
    /// Default: unix:/run/banqiao-gateway
    #[arg(long, value_name = "TARGET", env = "BANQIAO_ADMIN")]
    admin: Option<String>,
    /// Find the socket in the gateway's config, where --admin is not given.
    #[arg(long, value_name = "FILE", env = "BANQIAO_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
}

impl AdminArgs {
    /// The certificate that is named, for connections beside the admin listener.
    pub(crate) const fn tls(&self) -> &TlsArgs {
        &self.tls
    }

    /// Connects with a role. Over mTLS the role is that of the certificate.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the target is malformed, has no socket for the role, or cannot be reached.
    pub async fn connect(&self, role: Role) -> Result<Channel, Stop> {
        if let (None, Some(file)) = (&self.admin, &self.config) {
            let sockets = config::admin_sockets(file).map_err(|error| {
                Stop::usage(format!("no socket to be found in {}", file.display())).caused_by(error)
            })?;
            let socket = sockets.into_iter().find(|(known, _)| *known == role);
            let (_, socket) = socket.ok_or_else(|| {
                Stop::usage(format!("{} names no socket for the {role}", file.display()))
            })?;
            return unix(&socket).await;
        }
        let target = self.admin.as_deref().unwrap_or(DEFAULT_ADMIN);
        if let Some(path) = target.strip_prefix("unix:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            let socket = if path.is_dir() {
                path.join(format!("{role}.sock"))
            } else {
                path.to_path_buf()
            };
            return unix(&socket).await;
        }
        if target.starts_with("https://") {
            return gateway(target, &self.tls.files()?).await;
        }
        Err(Stop::usage(format!(
            "--admin {target}: write unix:SOCKET, unix:FOLDER or https://HOST:PORT"
        )))
    }
}

/// Connects to a Unix socket.
pub(crate) async fn unix(socket: &Path) -> Result<Channel, Stop> {
    let path = socket.to_path_buf();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The authority is not looked at on a socket.
    endpoint(Uri::from_static("http://gateway"))
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            Stop::unavailable(format!(
                "the gateway does not answer at {}: is it running, and may you use the socket?",
                socket.display()
            ))
            .caused_by(error)
        })
}

/// Connects to a gateway over mTLS. The gateway must prove to be the gateway of the certificate's own city; its
/// host name plays no part.
///
/// # Errors
///
/// [`Stop`] where the address or the files are wrong, or the gateway cannot be reached.
pub async fn gateway(address: &str, files: &TlsFiles) -> Result<Channel, Stop> {
    let target = Target::parse(address)?;
    let (config, name) = tls::client(files)?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let uri = target.uri.clone();
    let connect = service_fn(move |_: Uri| {
        let (connector, target, name) = (connector.clone(), target.clone(), name.clone());
        async move {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            stream.set_nodelay(true)?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    endpoint(uri)
        .connect_with_connector(connect)
        .await
        .map_err(|error| {
            Stop::unavailable(format!("the gateway cannot be reached at {address}"))
                .caused_by(error)
        })
}

fn endpoint(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// An address of a gateway.
#[derive(Clone, Debug)]
struct Target {
    host: String,
    port: u16,
    uri: Uri,
}

impl Target {
    /// `host`, `host:port`, `[v6]:port`, with or without `https://`.
    fn parse(text: &str) -> Result<Self, Stop> {
        let wrong = || Stop::usage(format!("{text:?} is not an address: write HOST:PORT"));
        let authority = text
            .strip_prefix("https://")
            .unwrap_or(text)
            .trim_end_matches('/');
        // tonic knows TLS by its own feature only; to it, what our connector makes is a plain transport.
        let uri: Uri = format!("http://{authority}").parse().map_err(|_| wrong())?;
        let sound = uri.path() == "/" && uri.query().is_none() && !authority.contains('@');
        let host = uri
            .host()
            .filter(|host| sound && !host.is_empty())
            .ok_or_else(wrong)?;
        // `Uri::port` passes over a port that is no number, as if there were none.
        let port = match authority.get(host.len()..).unwrap_or_default() {
            "" => DEFAULT_GATEWAY_PORT,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or_else(wrong)?,
        };
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self { host, port, uri })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_an_optional_port() {
        for (text, host, port) in [
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("gateway.qingdao", "gateway.qingdao", 8443),
            ("https://gateway.qingdao:9/", "gateway.qingdao", 9),
            ("[::1]:5", "::1", 5),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
        }
        for bad in ["", "http://x", "a b", "x/y", "user@x", "x:99999"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
