//! The exchange with the next hop: both directions, in bounded memory.

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
};

use banqiao_proto::exchange::v1::Reason;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use parking_lot::Mutex;

use super::{
    CANCELLED, Forward, OK,
    disclose::Cutter,
    guard::Stop,
    headers,
    responder::poll_room,
    source::{self, passed},
};
use crate::{
    refusal::Refusal,
    upstream::Lease,
    wire::{self, Coding},
};

/// How often a request that the next hop has certainly not processed is sent again (RFC 9113 §8.7).
const UNPROCESSED: u32 = 3;

/// What has been read of a request before it goes on.
pub(super) struct Intake {
    /// Held pieces of a unary request.
    held: VecDeque<Bytes>,
    /// What is still to come; `None` when the request is whole.
    rest: Option<RecvStream>,
}

impl Intake {
    pub(super) const fn is_whole(&self) -> bool {
        self.rest.is_none()
    }
}

/// What came of an attempt.
pub(super) enum Attempt {
    Done(Finish),
    /// Failed in transport; the method and the request allow another.
    Again(Refusal),
}

/// How a call ends.
pub(super) enum Finish {
    /// A whole answer that is still held. Without trailers it is one block of headers.
    Whole {
        head: Response<()>,
        body: Vec<Bytes>,
        trailers: Option<HeaderMap>,
    },
    /// The answer has passed; these trailers end it.
    Streamed { trailers: HeaderMap },
    /// A gateway ends it.
    Stopped(Refusal),
    /// The caller went away.
    Gone,
}

impl Finish {
    /// Status, this gateway's reason, and the peer gateway's.
    pub(super) fn outcome(&self) -> (u32, Reason, Reason) {
        match self {
            Self::Whole { head, trailers, .. } => {
                answered(trailers.as_ref().unwrap_or_else(|| head.headers()))
            }
            Self::Streamed { trailers } => answered(trailers),
            Self::Stopped(refusal) => (refusal.status(), refusal.reason, Reason::Unspecified),
            Self::Gone => (CANCELLED, Reason::Cancelled, Reason::Unspecified),
        }
    }

    /// The block of headers that ends the answer.
    pub(super) fn last_block(&mut self) -> Option<&mut HeaderMap> {
        match self {
            Self::Whole {
                trailers: Some(trailers),
                ..
            }
            | Self::Streamed { trailers } => Some(trailers),
            Self::Whole { head, .. } => Some(head.headers_mut()),
            Self::Stopped(_) | Self::Gone => None,
        }
    }

    /// Free text for the private part.
    pub(super) fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Stopped(refusal) => refusal.detail.clone(),
            Self::Whole { .. } | Self::Streamed { .. } | Self::Gone => Cow::Borrowed(""),
        }
    }
}

fn answered(trailers: &HeaderMap) -> (u32, Reason, Reason) {
    let status = headers::status(trailers).unwrap_or(OK);
    let peer = if status == OK {
        None
    } else {
        wire::reason_of(trailers)
    };
    (status, Reason::Unspecified, peer.unwrap_or_default())
}

/// What came back first.
enum Back {
    Finished(Finish),
    /// The head of an answer that is not held, with what has been read of it.
    Flowing {
        head: Response<()>,
        held: Vec<Bytes>,
        body: RecvStream,
        cutter: Option<Cutter>,
    },
}

impl Forward {
    /// Reads a unary request up to the limit of what is held; of a stream nothing.
    pub(super) async fn intake(&self, mut body: RecvStream) -> Result<Intake, Stop> {
        let mut held = VecDeque::new();
        if self.plan.method.client_streaming {
            return Ok(Intake {
                held,
                rest: Some(body),
            });
        }
        let limit = self.call.conn.worker.shared.limits.held_message;
        let read = async {
            let mut size = 0;
            while let Some(chunk) = source::chunk(&mut body).await.map_err(|_| Stop::Gone)? {
                self.flows.lock().request.inspect(&chunk)?;
                passed(&mut body, chunk.len());
                size += chunk.len();
                held.push_back(chunk);
                if size > limit {
                    return Ok(false);
                }
            }
            self.end_request()?;
            Ok(true)
        };
        let whole = self.guarded(pin!(read)).await?;
        Ok(Intake {
            held,
            rest: (!whole).then_some(body),
        })
    }

    /// The intake of a request that is whole already: it was read for all the cities that it goes to.
    pub(super) fn whole(&self, request: Vec<Bytes>) -> Result<Intake, Stop> {
        for chunk in &request {
            self.flows.lock().request.inspect(chunk)?;
        }
        self.end_request()?;
        Ok(Intake {
            held: request.into(),
            rest: None,
        })
    }

    /// The caller has sent all of its request.
    fn end_request(&self) -> Result<(), Stop> {
        let mut flows = self.flows.lock();
        flows.request.finish()?;
        if !self.plan.method.client_streaming && flows.request.count() != 1 {
            let what = "a call of this method has exactly one request message";
            return Err(Refusal::new(Reason::MessageMalformed, what).into());
        }
        Ok(())
    }

    /// Sends the request and follows the exchange to its end.
    pub(super) async fn attempt(&self, intake: &mut Intake, headers: &HeaderMap) -> Attempt {
        let whole = intake.is_whole();
        let mut tries = 0;
        loop {
            tries += 1;
            let sent = match self.guarded(pin!(self.send(intake, headers))).await {
                Ok(sent) => sent,
                Err(stop) => return Attempt::Done(stopped(stop)),
            };
            let Sent {
                lease,
                stream,
                response,
            } = match sent {
                Ok(sent) => sent,
                Err(_) if tries < UNPROCESSED => continue,
                Err(error) => return self.transport(whole, &error),
            };
            let stream = Arc::new(Mutex::new(stream));
            let mut uplink = pin!(self.uplink(intake.rest.take(), &mut intake.held, &stream));
            let mut sending = Sending {
                future: uplink.as_mut(),
                done: false,
            };
            let back = pin!(self.back(response));
            let back = self.guarded(pin!(sending.beside(back))).await;
            let finish = match back {
                Ok(Ok(Back::Finished(finish))) => finish,
                Ok(Ok(Back::Flowing {
                    head,
                    held,
                    body,
                    cutter,
                })) => {
                    // Boxed: most calls are unary, and need no room for a stream.
                    Box::pin(self.flow(head, held, body, cutter, &mut sending)).await
                }
                Ok(Err(error)) => {
                    if unprocessed(&error) && whole && tries < UNPROCESSED {
                        continue;
                    }
                    return self.transport(whole, &error);
                }
                Err(stop) => stopped(stop),
            };
            if matches!(finish, Finish::Stopped(_) | Finish::Gone) {
                // The service hears of the cancel, at a pace that does not cost others the connection.
                if let Some(stream) = Self::reclaim(&stream) {
                    lease.reset(stream);
                }
            }
            return Attempt::Done(finish);
        }
    }

    fn reclaim(stream: &Arc<Mutex<Option<SendStream<Bytes>>>>) -> Option<SendStream<Bytes>> {
        stream.lock().take()
    }

    /// A failure in transport, after the request may have been processed.
    fn transport(&self, whole: bool, error: &h2::Error) -> Attempt {
        tracing::info!(exchange = %self.call.exchange, %error, "the next hop broke off");
        let what = if self.next.peer {
            "the provider city's gateway broke off"
        } else {
            "the service broke off"
        };
        let refusal = Refusal::new(Reason::UpstreamFailed, what);
        let again = self.plan.method.may_retry()
            && self.plan.method.is_unary()
            && whole
            && !self.retried.swap(true, Ordering::Relaxed)
            && !self.responder.begun();
        if again {
            Attempt::Again(refusal)
        } else {
            Attempt::Done(Finish::Stopped(refusal))
        }
    }

    async fn send(
        &self,
        intake: &mut Intake,
        headers: &HeaderMap,
    ) -> Result<Result<Sent, h2::Error>, Stop> {
        let worker = &self.call.conn.worker;
        let lease = worker
            .pool
            .lease(&self.next.target)
            .await
            .map_err(|unreachable| {
                tracing::info!(exchange = %self.call.exchange, error = %unreachable, "unreachable");
                let (reason, what) = if self.next.peer {
                    (
                        Reason::PeerUnreachable,
                        "the provider city's gateway cannot be reached",
                    )
                } else {
                    (Reason::ServiceUnreachable, "the service cannot be reached")
                };
                Refusal::new(reason, what).retry_after(unreachable.retry_after)
            })?;
        let request = self.request(headers, lease.authority())?;
        let (response, mut stream) = match lease.send(request, false).await {
            Ok(sent) => sent,
            Err(error) => return Ok(Err(error)),
        };
        if intake.is_whole() {
            // Bounded by what is held, so h2 may keep what the window does not take at once.
            let last = intake.held.len().saturating_sub(1);
            for (index, piece) in intake.held.iter().enumerate() {
                if let Err(error) = stream.send_data(piece.clone(), index == last) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(Sent {
            lease,
            stream: Some(stream),
            response,
        }))
    }

    /// Passes on what is still to come of the request. Done at once where the request was whole.
    async fn uplink(
        &self,
        rest: Option<RecvStream>,
        held: &mut VecDeque<Bytes>,
        stream: &Mutex<Option<SendStream<Bytes>>>,
    ) -> Result<(), Stop> {
        let Some(mut body) = rest else { return Ok(()) };
        while let Some(piece) = held.pop_front() {
            if !push(stream, piece).await {
                return Ok(());
            }
        }
        while let Some(chunk) = source::chunk(&mut body).await.map_err(|_| Stop::Gone)? {
            self.touch();
            let messages = self.flows.lock().request.inspect(&chunk)?;
            self.account(messages, &chunk).await?;
            let size = chunk.len();
            // The next hop takes no more: its answer says why.
            if !push(stream, chunk).await {
                return Ok(());
            }
            passed(&mut body, size);
        }
        self.end_request()?;
        if let Some(stream) = &mut *stream.lock() {
            let _ = stream.send_data(Bytes::new(), true);
        }
        Ok(())
    }

    /// Counts what is about to cross, and enters the progress that is due before it does.
    async fn account(&self, messages: u64, chunk: &Bytes) -> Result<(), Stop> {
        let full = self
            .progress
            .count(&self.call, messages, chunk.len() as u64);
        let overflows = {
            let flows = self.flows.lock();
            flows.request.overflows() || flows.response.overflows()
        };
        if full || overflows {
            self.progress.enter(&self.call, || self.running()).await?;
            self.overflow().await?;
        }
        Ok(())
    }

    /// Waits for the answer: of a unary method for all of it, as long as it is small enough to be held.
    async fn back(
        &self,
        response: h2::client::ResponseFuture,
    ) -> Result<Result<Back, h2::Error>, Stop> {
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        let (parts, mut body) = response.into_parts();
        if parts.status != http::StatusCode::OK {
            let what = format!("the next hop answered HTTP {}", parts.status.as_u16());
            return Err(Refusal::new(Reason::UpstreamFailed, what).into());
        }
        let coding = Coding::of(&parts.headers);
        self.flows.lock().response.announce(coding);
        let mut head = self.head(Response::from_parts(parts, ()));
        if body.is_end_stream() && headers::status(head.headers()).is_some() {
            self.flows.lock().response.finish()?;
            return Ok(Ok(Back::Finished(Finish::Whole {
                head,
                body: Vec::new(),
                trailers: None,
            })));
        }
        self.receive_open(head.headers_mut())?;
        let mut cutter = self.cutter(coding);
        if self.plan.method.server_streaming {
            return Ok(Ok(Back::Flowing {
                head,
                held: Vec::new(),
                body,
                cutter,
            }));
        }
        let limit = self.call.conn.worker.shared.limits.held_message;
        let (mut held, mut size) = (Vec::new(), 0);
        loop {
            let chunk = match source::chunk(&mut body).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            self.touch();
            passed(&mut body, chunk.len());
            for piece in self.cut(&mut cutter, chunk).await? {
                self.flows.lock().response.inspect(&piece)?;
                size += piece.len();
                held.push(piece);
            }
            if size > limit {
                return Ok(Ok(Back::Flowing {
                    head,
                    held,
                    body,
                    cutter,
                }));
            }
        }
        let trailers = match source::trailers(&mut body).await {
            Ok(trailers) => self.end_response(trailers)?,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Back::Finished(Finish::Whole {
            head,
            body: held,
            trailers: Some(trailers),
        })))
    }

    /// The next hop has sent all of its answer.
    fn end_response(&self, trailers: Option<HeaderMap>) -> Result<HeaderMap, Stop> {
        self.flows.lock().response.finish()?;
        match trailers {
            Some(mut trailers) if headers::status(&trailers).is_some() => {
                self.clean(&mut trailers);
                trailers.insert(headers::EXCHANGE_ID, self.call.exchange_id());
                Ok(trailers)
            }
            _ => {
                let what = "the next hop ended its answer without a status";
                Err(Refusal::new(Reason::UpstreamFailed, what).into())
            }
        }
    }

    /// Passes an answer on as it comes.
    async fn flow<U: Future<Output = Result<(), Stop>>>(
        &self,
        head: Response<()>,
        held: Vec<Bytes>,
        body: RecvStream,
        cutter: Option<Cutter>,
        sending: &mut Sending<'_, U>,
    ) -> Finish {
        // A method without side effects turned out to answer more than can be held: from here on it is a stream.
        if !self.opened.load(Ordering::Relaxed)
            && let Err(refusal) = self.open_late().await
        {
            return Finish::Stopped(refusal);
        }
        let downlink = pin!(self.downlink(head, held, body, cutter));
        match self.guarded(pin!(sending.beside(downlink))).await {
            Ok(trailers) => Finish::Streamed { trailers },
            Err(stop) => stopped(stop),
        }
    }

    async fn downlink(
        &self,
        mut head: Response<()>,
        held: Vec<Bytes>,
        mut body: RecvStream,
        mut cutter: Option<Cutter>,
    ) -> Result<HeaderMap, Stop> {
        self.issue_open(head.headers_mut());
        self.responder
            .headers(head, false)
            .map_err(|_| Stop::Gone)?;
        for piece in held {
            self.account(0, &piece).await?;
            self.responder.data(piece).await?;
        }
        loop {
            let chunk = match source::chunk(&mut body).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return Err(self.broken(&error)),
            };
            self.touch();
            let size = chunk.len();
            for piece in self.cut(&mut cutter, chunk).await? {
                let messages = self.flows.lock().response.inspect(&piece)?;
                self.account(messages, &piece).await?;
                self.responder.data(piece).await?;
            }
            passed(&mut body, size);
        }
        let trailers = source::trailers(&mut body)
            .await
            .map_err(|error| self.broken(&error))?;
        self.end_response(trailers)
    }

    fn broken(&self, error: &h2::Error) -> Stop {
        tracing::info!(exchange = %self.call.exchange, %error, "the next hop broke off its answer");
        Refusal::new(Reason::UpstreamFailed, "the next hop broke off its answer").into()
    }
}

struct Sent {
    lease: Lease,
    stream: Option<SendStream<Bytes>>,
    response: h2::client::ResponseFuture,
}

/// The request direction, which goes on beside whatever is waited for.
struct Sending<'a, U> {
    future: Pin<&'a mut U>,
    done: bool,
}

impl<U: Future<Output = Result<(), Stop>>> Sending<'_, U> {
    /// Drives the request direction until `other` is done. A fault in the request ends both.
    async fn beside<T>(
        &mut self,
        mut other: Pin<&mut impl Future<Output = Result<T, Stop>>>,
    ) -> Result<T, Stop> {
        poll_fn(|cx| {
            use std::task::Poll;
            if !self.done {
                match self.future.as_mut().poll(cx) {
                    Poll::Ready(Err(stop)) => return Poll::Ready(Err(stop)),
                    Poll::Ready(Ok(())) => self.done = true,
                    Poll::Pending => {}
                }
            }
            other.as_mut().poll(cx)
        })
        .await
    }
}

/// Sends bytes as fast as the next hop takes them. False when it takes no more.
async fn push(stream: &Mutex<Option<SendStream<Bytes>>>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        let room = poll_fn(|cx| match &mut *stream.lock() {
            Some(stream) => poll_room(stream, bytes.len(), cx),
            None => std::task::Poll::Ready(None),
        })
        .await;
        let Some(room) = room else { return false };
        let piece = bytes.split_to(room.min(bytes.len()));
        let sent = stream
            .lock()
            .as_mut()
            .map(|stream| stream.send_data(piece, false));
        if !matches!(sent, Some(Ok(()))) {
            return false;
        }
    }
    true
}

fn stopped(stop: Stop) -> Finish {
    match stop {
        Stop::Refused(refusal) => Finish::Stopped(refusal),
        Stop::Gone => Finish::Gone,
    }
}

/// The next hop has said that it has not processed the request (RFC 9113 §8.7).
fn unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
}
