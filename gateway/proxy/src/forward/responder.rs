//! The way back to the caller.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, Response};
use parking_lot::Mutex;

/// The caller went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller went away")]
pub(crate) struct Gone;

/// The response half of a call. Shared between the future that sends and the one that watches for a cancel.
pub(crate) struct Responder(Mutex<Inner>);

struct Inner {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Responder {
    pub(crate) const fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Mutex::new(Inner {
            respond,
            stream: None,
        }))
    }

    /// Whether headers have left.
    pub(crate) fn begun(&self) -> bool {
        self.0.lock().stream.is_some()
    }

    /// Ready when the caller has reset the stream, or its connection is gone.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.lock();
        let reset = match &mut inner.stream {
            Some(stream) => stream.poll_reset(cx),
            None => inner.respond.poll_reset(cx),
        };
        reset.map(drop)
    }

    pub(crate) fn headers(&self, head: Response<()>, end: bool) -> Result<(), Gone> {
        let mut inner = self.0.lock();
        let stream = inner.respond.send_response(head, end).map_err(|_| Gone)?;
        inner.stream = Some(stream);
        Ok(())
    }

    /// Sends bytes as fast as the caller takes them.
    pub(crate) async fn data(&self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = poll_fn(|cx| match &mut self.0.lock().stream {
                Some(stream) => poll_room(stream, bytes.len(), cx),
                None => Poll::Ready(None),
            })
            .await
            .ok_or(Gone)?;
            let piece = bytes.split_to(room.min(bytes.len()));
            match &mut self.0.lock().stream {
                Some(stream) => stream.send_data(piece, false).map_err(|_| Gone)?,
                None => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Sends bytes without waiting for the caller's window: h2 holds what does not fit, so only for bounded ones.
    pub(crate) fn held(&self, bytes: Bytes) -> Result<(), Gone> {
        match &mut self.0.lock().stream {
            Some(stream) => stream.send_data(bytes, false).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    pub(crate) fn trailers(&self, trailers: HeaderMap) -> Result<(), Gone> {
        match &mut self.0.lock().stream {
            Some(stream) => stream.send_trailers(trailers).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    /// Ends the body of an answer that has no trailers.
    pub(crate) fn end(&self) -> Result<(), Gone> {
        match &mut self.0.lock().stream {
            Some(stream) => stream.send_data(Bytes::new(), true).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    /// Ends the stream without a status: there is nobody to read one.
    pub(crate) fn reset(&self) {
        let mut inner = self.0.lock();
        match &mut inner.stream {
            Some(stream) => stream.send_reset(Reason::CANCEL),
            None => inner.respond.send_reset(Reason::CANCEL),
        }
    }
}

/// Room for up to `wanted` bytes on a stream; `None` when the far end is gone.
pub(crate) fn poll_room(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Option<usize>> {
    let room = stream.capacity();
    if room >= wanted.min(1) && room > 0 {
        return Poll::Ready(Some(room));
    }
    stream.reserve_capacity(wanted);
    loop {
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(room))) => return Poll::Ready(Some(room)),
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}
