//! The parts of a call to all cities, run together, and the one answer that is made of theirs.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use banqiao_proto::exchange::v1::Reason;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    call::Call,
    forward::{EXCHANGE_ID, Gone, Responder, STATUS, Stop},
    refusal::Refusal,
};

/// One city's part, run to its end.
pub(super) type Leg = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes whole messages towards the caller, one at a time: a part waits while its caller takes no more.
pub(crate) type Sender = mpsc::Sender<Bytes>;

/// How the writing of the merged answer ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written {
    /// All that the parts delivered has been passed on.
    Whole,
    /// The caller's deadline passed while it took a message.
    Late,
    /// The caller went away.
    Gone,
}

pub(super) fn channel() -> (Sender, mpsc::Receiver<Bytes>) {
    mpsc::channel(1)
}

/// Runs a step of a call that has no parts yet, until the deadline or until the caller goes away.
pub(super) async fn until<T>(
    deadline: Instant,
    client: &Responder,
    mut step: Pin<&mut impl Future<Output = Result<T, Stop>>>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        done = &mut step => done,
        () = poll_fn(|cx| client.poll_gone(cx)) => Err(Stop::Gone),
        () = tokio::time::sleep_until(deadline) => Err(Refusal::new(
            Reason::DeadlineExceeded,
            "the deadline passed at the gateway",
        ).into()),
    }
}

/// The head of the merged answer. Metadata of the cities' services does not pass: it would be no one's.
pub(super) fn head(call: &Call) -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(EXCHANGE_ID, call.exchange_id());
    head
}

/// The trailers of a call that every city has answered.
pub(super) fn sound(call: &Call) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    trailers.insert(EXCHANGE_ID, call.exchange_id());
    trailers
}

/// Ends the answer with trailers.
pub(super) fn close(call: &Call, client: &Responder, trailers: HeaderMap) -> Result<(), Gone> {
    if !client.begun() {
        client.headers(head(call), false)?;
    }
    client.trailers(trailers)
}

/// Passes messages on as the caller takes them. A message that has been begun is finished, whatever becomes of its city.
pub(super) async fn write(
    client: &Responder,
    head: Response<()>,
    mut messages: mpsc::Receiver<Bytes>,
    deadline: Instant,
) -> Written {
    let mut head = Some(head);
    while let Some(message) = messages.recv().await {
        if let Some(head) = head.take()
            && client.headers(head, false).is_err()
        {
            return Written::Gone;
        }
        match tokio::time::timeout_at(deadline, client.data(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Written::Gone,
            Err(_) => return Written::Late,
        }
    }
    let gone = poll_fn(|cx| Poll::Ready(client.poll_gone(cx).is_ready())).await;
    if gone { Written::Gone } else { Written::Whole }
}

/// Polls every part, and then what writes their messages, whenever any of them has something to do.
pub(super) async fn together(
    mut legs: Vec<Leg>,
    writing: impl Future<Output = Written>,
) -> Written {
    let mut writing = pin!(writing);
    let mut written = None;
    poll_fn(|cx| {
        legs.retain_mut(|leg| leg.as_mut().poll(cx).is_pending());
        if written.is_none()
            && let Poll::Ready(how) = writing.as_mut().poll(cx)
        {
            written = Some(how);
        }
        match written {
            Some(how) if legs.is_empty() => Poll::Ready(how),
            _ => Poll::Pending,
        }
    })
    .await
}
