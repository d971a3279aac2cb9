//! gRPC on the level of frames: a client that can say anything, and answers that hide nothing.

use std::{future::poll_fn, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use banqiao_proto::{ReasonTable, exchange::v1::Reason};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// One gRPC message as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The compressed flag.
    pub compressed: bool,
    /// The bytes after the five of the prefix.
    pub bytes: Bytes,
}

impl Message {
    /// An encoded message, not compressed.
    pub fn of(message: &impl prost::Message) -> Self {
        Self {
            compressed: false,
            bytes: message.encode_to_vec().into(),
        }
    }

    /// The message with its prefix.
    ///
    /// # Panics
    ///
    /// Never for messages under 4 GiB.
    pub fn frame(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(self.bytes.len() + 5);
        frame.put_u8(u8::from(self.compressed));
        frame.put_u32(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        frame.extend_from_slice(&self.bytes);
        frame.freeze()
    }
}

/// Sends bytes as the window allows.
///
/// # Errors
///
/// Fails when the stream is reset.
pub async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<()> {
    while bytes.has_remaining() {
        stream.reserve_capacity(bytes.len());
        let granted = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = granted.context("the stream is closed")??;
        let chunk = bytes.split_to(room.min(bytes.len()));
        stream.send_data(chunk, end && bytes.is_empty())?;
    }
    if end && stream.capacity() == 0 {
        // An empty end needs no window. A stream that ended above refuses this, which is as good.
        let _ended = stream.send_data(Bytes::new(), true);
    }
    Ok(())
}

/// The messages of one direction.
#[derive(Debug)]
pub struct Messages {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    /// The messages of a stream.
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next message, or nothing at the end.
    ///
    /// # Errors
    ///
    /// Fails when the stream is reset, or ends within a message.
    pub async fn next(&mut self) -> Result<Option<Message>, h2::Error> {
        loop {
            if let Some(message) = self.whole() {
                return Ok(Some(message));
            }
            match self.stream.data().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.stream.flow_control().release_capacity(chunk.len())?;
                    self.buffer.extend_from_slice(&chunk);
                }
                None => return Ok(None),
            }
        }
    }

    /// The trailers, after the last message.
    ///
    /// # Errors
    ///
    /// Fails when the stream is reset.
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.stream.trailers().await
    }

    fn whole(&mut self) -> Option<Message> {
        let (prefix, rest) = self.buffer.split_at_checked(5)?;
        let length = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
        if rest.len() < length {
            return None;
        }
        let compressed = prefix[0] == 1;
        self.buffer.advance(5);
        Some(Message {
            compressed,
            bytes: self.buffer.split_to(length).freeze(),
        })
    }
}

/// The head of a call: what a client library would send, and whatever else a test wants.
#[derive(Clone, Debug)]
pub struct Head {
    /// HTTP method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
}

impl Head {
    /// A call of a client library without the network's metadata.
    pub fn bare(path: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        Self {
            method: Method::POST,
            path: path.to_owned(),
            headers,
        }
    }

    /// A call with the metadata that every client sends.
    pub fn new(path: &str, to: &str) -> Self {
        Self::bare(path)
            .with("banqiao-to", to)
            .with("banqiao-purpose", "case-handling")
            .with("banqiao-basis", "statutory:test-act-1")
    }

    /// Adds a header beside others of its name.
    ///
    /// # Panics
    ///
    /// On names and values that no HTTP/2 library would send; see the module `hostile` for those.
    #[expect(
        clippy::expect_used,
        reason = "a wrong literal in a test is found by that test"
    )]
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(
            name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a header value"),
        );
        self
    }

    /// Puts a header in place of others of its name.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.headers.remove(name);
        self.with(name, value)
    }

    /// Leaves a header out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }
}

/// Everything that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status; 0 when the stream was reset before headers.
    pub http_status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// Messages.
    pub messages: Vec<Message>,
    /// Trailers; none when the answer was trailers-only or was cut off.
    pub trailers: Option<HeaderMap>,
    /// The reset that cut it off.
    pub reset: Option<h2::Reason>,
}

impl Answer {
    /// The block that carries the status.
    pub fn last(&self) -> &HeaderMap {
        self.trailers.as_ref().unwrap_or(&self.headers)
    }

    /// The gRPC status.
    pub fn grpc(&self) -> Option<tonic::Status> {
        tonic::Status::from_header_map(self.last())
    }

    /// The code of the gRPC status; `None` when there was none.
    pub fn code(&self) -> Option<u32> {
        self.last().get("grpc-status")?.to_str().ok()?.parse().ok()
    }

    /// The reason in `ErrorInfo`, where the domain is ours.
    pub fn reason(&self) -> Option<Reason> {
        let info = self.grpc()?.get_details_error_info()?;
        (info.domain == "banqiao").then(|| ReasonTable::by_name(&info.reason))?
    }

    /// The exchange and attempt that the gateway gave the call.
    pub fn exchange(&self) -> Option<(Uuid, u32)> {
        let value = self
            .headers
            .get("banqiao-exchange-id")
            .or_else(|| self.last().get("banqiao-exchange-id"))?;
        let (id, attempt) = value.to_str().ok()?.split_once('/')?;
        Some((id.parse().ok()?, attempt.parse().ok()?))
    }

    /// Decodes the only message.
    ///
    /// # Errors
    ///
    /// Fails when the call failed, when there is not exactly one message, or when it does not decode.
    pub fn only<M: prost::Message + Default>(&self) -> Result<M> {
        let ([message], Some(0)) = (self.messages.as_slice(), self.code()) else {
            bail!("not one message and OK: {self:?}");
        };
        Ok(M::decode(message.bytes.clone())?)
    }
}

/// An open call.
#[derive(Debug)]
pub struct Call {
    /// Towards the service.
    pub request: SendStream<Bytes>,
    response: ResponseFuture,
}

impl Call {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Fails when the call was reset.
    pub async fn send(&mut self, message: &Message) -> Result<()> {
        send(&mut self.request, message.frame(), false).await
    }

    /// Ends the request. A call that the other side has ended already stays ended.
    pub fn finish(&mut self) {
        let _ended = self.request.send_data(Bytes::new(), true);
    }

    /// Cancels the call.
    pub fn cancel(mut self) {
        self.request.send_reset(h2::Reason::CANCEL);
    }

    /// Waits for the response headers; gives them and the messages to come, and the request's side to go on with.
    ///
    /// # Errors
    ///
    /// Fails when the call is reset first.
    pub async fn headers(self) -> Result<(SendStream<Bytes>, HeaderMap, Messages)> {
        let response = self.response.await?;
        let (head, body) = response.into_parts();
        Ok((self.request, head.headers, Messages::new(body)))
    }

    /// Waits for the whole answer.
    pub async fn answer(self) -> Answer {
        let _request = self.request;
        let mut answer = Answer {
            http_status: 0,
            headers: HeaderMap::new(),
            messages: Vec::new(),
            trailers: None,
            reset: None,
        };
        if let Err(error) = collect(self.response, &mut answer).await {
            answer.reset = Some(error.reason().unwrap_or(h2::Reason::INTERNAL_ERROR));
        }
        answer
    }
}

async fn collect(response: ResponseFuture, answer: &mut Answer) -> Result<(), h2::Error> {
    let (head, body) = response.await?.into_parts();
    answer.http_status = head.status.as_u16();
    answer.headers = head.headers;
    let mut messages = Messages::new(body);
    while let Some(message) = messages.next().await? {
        answer.messages.push(message);
    }
    answer.trailers = messages.trailers().await?;
    Ok(())
}

/// A connection of a client. It is cut when dropped.
#[derive(Debug)]
pub struct Caller {
    requests: SendRequest<Bytes>,
    authority: String,
    _driver: JoinSet<()>,
}

impl Caller {
    /// Connects with TLS.
    ///
    /// # Errors
    ///
    /// Fails when the server refuses.
    pub async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<Self> {
        let io = connect_tls(address, tls).await?;
        Self::over(io, address.to_string()).await
    }

    /// Speaks over an open transport.
    ///
    /// # Errors
    ///
    /// Fails when the transport breaks at once.
    pub async fn over<T>(io: T, authority: String) -> Result<Self>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_header_list_size(1 << 20)
            .handshake(io)
            .await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What breaks the connection breaks the calls on it, and those say so.
            let _broken = connection.await;
        });
        Ok(Self {
            requests,
            authority,
            _driver: driver,
        })
    }

    /// Opens a call.
    ///
    /// # Errors
    ///
    /// Fails when the connection is gone, or the head is none that the library would send.
    pub async fn open(&self, head: &Head) -> Result<Call> {
        let mut request = Request::builder()
            .method(head.method.clone())
            .uri(format!("https://{}{}", self.authority, head.path))
            .body(())?;
        *request.headers_mut() = head.headers.clone();
        let mut ready = self.requests.clone().ready().await?;
        let (response, request) = ready.send_request(request, false)?;
        Ok(Call { request, response })
    }

    /// Makes a plain HTTP/2 request: status, headers and body of the answer.
    ///
    /// # Errors
    ///
    /// Fails when the connection is gone.
    pub async fn http(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(u16, HeaderMap, Vec<u8>)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .body(())?;
        let mut ready = self.requests.clone().ready().await?;
        let (response, mut sending) = ready.send_request(request, false)?;
        send(&mut sending, body.into(), true).await?;
        let (head, mut stream) = response.await?.into_parts();
        let mut whole = Vec::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            stream.flow_control().release_capacity(chunk.len())?;
            whole.extend_from_slice(&chunk);
        }
        Ok((head.status.as_u16(), head.headers, whole))
    }

    /// Makes a call with one request message.
    ///
    /// # Errors
    ///
    /// Fails when the connection is gone. A refused call is an answer.
    pub async fn unary(&self, head: &Head, message: &impl prost::Message) -> Result<Answer> {
        self.exchange(head, &[Message::of(message)]).await
    }

    /// Makes a call with so many request messages.
    ///
    /// # Errors
    ///
    /// Fails when the connection is gone. A refused call is an answer.
    pub async fn exchange(&self, head: &Head, messages: &[Message]) -> Result<Answer> {
        let mut call = self.open(head).await?;
        for message in messages {
            if call.send(message).await.is_err() {
                // Refused while sending: the answer says why.
                break;
            }
        }
        call.finish();
        Ok(call.answer().await)
    }
}

/// Connects with TLS and leaves the rest to the test.
///
/// # Errors
///
/// Fails when the server refuses within the handshake.
pub async fn connect_tls(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(tls).connect(name, tcp).await
}

/// The TLS alert by which a server refuses a client, by its name in RFC 8446 §6.2.
///
/// A client of TLS 1.3 has finished before the server looks at its certificate, so the alert comes with the first
/// read.
///
/// # Errors
///
/// Fails when the server does not refuse.
pub async fn alert(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<String> {
    let error = match connect_tls(address, tls).await {
        Err(error) => error,
        Ok(mut stream) => {
            let mut byte = [0; 1];
            loop {
                match stream.read(&mut byte).await {
                    Ok(0) => bail!("the server closed without an alert"),
                    // Its SETTINGS frame, which it may send before it has seen the certificate.
                    Ok(_) => {}
                    Err(error) => break error,
                }
            }
        }
    };
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = cause else {
        bail!("not an alert: {error}");
    };
    // `UnknownCA` is `unknown_ca`: a capital begins a word unless it follows one.
    let mut name = String::new();
    let mut capital = true;
    for letter in format!("{alert:?}").chars() {
        if letter.is_uppercase() && !capital {
            name.push('_');
        }
        capital = letter.is_uppercase();
        name.push(letter.to_ascii_lowercase());
    }
    Ok(name)
}
