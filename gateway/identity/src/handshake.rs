//! Handshakes that end well, and those that end with an alert which the peer really sees.

use std::{io, time::Duration};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{
    CertificateFault, Expect, Identity, IdentityError, Peer, handshake_fault, tls::ALPN_H2,
};

/// How long a refused peer's last bytes are waited for.
const LINGER: Duration = Duration::from_secs(1);
/// How many of a refused peer's last bytes are read.
const LINGER_BYTES: u64 = 64 * 1024;

/// A handshake that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer does not speak HTTP/2 over TLS.
    #[error("the peer did not agree on HTTP/2 (ALPN h2)")]
    Alpn,
    /// The peer's certificate is refused. It saw the alert of the reason table.
    #[error("the peer's certificate is refused")]
    Certificate(#[source] CertificateFault),
    /// This process's own TLS setting is at fault.
    #[error("cannot begin a TLS connection")]
    Setup(#[source] IdentityError),
    /// Anything else: a broken connection, another protocol, an alert of the peer.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

impl HandshakeError {
    /// The fault of the peer's certificate, if that is why.
    pub const fn fault(&self) -> Option<CertificateFault> {
        match self {
            Self::Certificate(fault) => Some(*fault),
            _ => None,
        }
    }

    fn of(error: io::Error) -> Self {
        handshake_fault(&error).map_or(Self::Tls(error), Self::Certificate)
    }
}

impl Identity {
    /// Serves a TLS handshake on an accepted connection.
    ///
    /// When the peer is refused, its last bytes are read away for up to a second before the connection is closed:
    /// closing with bytes unread makes TCP reset the connection, and the alert would be lost with it. Bound the
    /// whole with the listener's handshake timeout. Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`].
    pub async fn accept<IO>(&self, io: IO) -> Result<(server::TlsStream<IO>, Peer), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let accept = TlsAcceptor::from(self.server_config())
            .accept(io)
            .into_fallible();
        let stream = match accept.await {
            Ok(stream) => stream,
            Err((error, io)) => {
                linger(io).await;
                return Err(HandshakeError::of(error));
            }
        };
        let (_, connection) = stream.get_ref();
        let peer = self.agreed(connection.alpn_protocol(), connection.peer_certificates())?;
        Ok((stream, peer))
    }

    /// Makes a TLS handshake as the client, with whom `expect` names.
    ///
    /// The server judges this process's certificate after the handshake is complete here (RFC 8446 §2): see
    /// [`crate::refusal_by_peer`]. Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`].
    pub async fn connect<IO>(
        &self,
        expect: &Expect,
        io: IO,
    ) -> Result<(client::TlsStream<IO>, Peer), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.client_config(expect).map_err(HandshakeError::Setup)?;
        let connect = TlsConnector::from(config)
            .connect(expect.server_name(), io)
            .into_fallible();
        let stream = match connect.await {
            Ok(stream) => stream,
            Err((error, io)) => {
                linger(io).await;
                return Err(HandshakeError::of(error));
            }
        };
        let (_, connection) = stream.get_ref();
        let peer = self.agreed(connection.alpn_protocol(), connection.peer_certificates())?;
        Ok((stream, peer))
    }

    /// The peer of a completed handshake. rustls lets a peer pass that names no protocol at all.
    fn agreed(
        &self,
        protocol: Option<&[u8]>,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<Peer, HandshakeError> {
        let peer = self
            .peer(certificates.unwrap_or_default())
            .map_err(HandshakeError::Certificate)?;
        if protocol == Some(ALPN_H2) {
            Ok(peer)
        } else {
            Err(HandshakeError::Alpn)
        }
    }
}

/// Ends a connection so that the peer reads what has been written to it.
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let rest = async {
        io.shutdown().await?;
        tokio::io::copy(&mut (&mut io).take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The connection is given up in any case.
    let _ = timeout(LINGER, rest).await;
}
