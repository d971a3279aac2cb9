//! The way back to the caller.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, Response};
use parking_lot::Mutex;

use super::guard::Stop;
use crate::all::{Part, Sender};

/// The caller went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller went away")]
pub(crate) struct Gone;

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// The response half of a call. Shared between the future that sends and the one that watches for a cancel.
pub(crate) struct Responder(Way);

enum Way {
    /// To the caller.
    Caller(Mutex<Inner>),
    /// Into an answer that is made of several.
    Merged(Arc<Part>, Sender),
}

struct Inner {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Responder {
    pub(crate) const fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Way::Caller(Mutex::new(Inner {
            respond,
            stream: None,
        })))
    }

    /// One city's way into the answer of a call to all.
    pub(crate) const fn merged(part: Arc<Part>, merge: Sender) -> Self {
        Self(Way::Merged(part, merge))
    }

    /// Whether the answer becomes part of another, which has one coding.
    pub(crate) const fn is_merged(&self) -> bool {
        matches!(self.0, Way::Merged(..))
    }

    /// Whether headers have left.
    pub(crate) fn begun(&self) -> bool {
        match &self.0 {
            Way::Caller(caller) => caller.lock().stream.is_some(),
            Way::Merged(part, _) => part.has_begun(),
        }
    }

    /// Ready when the caller has reset the stream, or its connection is gone.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let caller = match &self.0 {
            Way::Caller(caller) => caller,
            Way::Merged(part, _) => return part.client().poll_gone(cx),
        };
        let mut inner = caller.lock();
        let reset = match &mut inner.stream {
            Some(stream) => stream.poll_reset(cx),
            None => inner.respond.poll_reset(cx),
        };
        reset.map(drop)
    }

    pub(crate) fn headers(&self, head: Response<()>, end: bool) -> Result<(), Gone> {
        let caller = match &self.0 {
            Way::Caller(caller) => caller,
            Way::Merged(part, _) => {
                part.begin();
                if end {
                    part.tell(head.headers());
                }
                return Ok(());
            }
        };
        let mut inner = caller.lock();
        let stream = inner.respond.send_response(head, end).map_err(|_| Gone)?;
        inner.stream = Some(stream);
        Ok(())
    }

    /// Sends bytes as fast as the caller takes them.
    ///
    /// # Errors
    ///
    /// The caller went away, or bytes of a merged answer are not what may be in it.
    pub(crate) async fn data(&self, mut bytes: Bytes) -> Result<(), Stop> {
        let caller = match &self.0 {
            Way::Caller(caller) => caller,
            Way::Merged(part, merge) => return part.data(merge, bytes).await,
        };
        while !bytes.is_empty() {
            let room = poll_fn(|cx| match &mut caller.lock().stream {
                Some(stream) => poll_room(stream, bytes.len(), cx),
                None => Poll::Ready(None),
            })
            .await
            .ok_or(Gone)?;
            let piece = bytes.split_to(room.min(bytes.len()));
            match &mut caller.lock().stream {
                Some(stream) => stream.send_data(piece, false).map_err(|_| Gone)?,
                None => return Err(Gone.into()),
            }
        }
        Ok(())
    }

    /// Sends bytes without waiting for the caller's window: h2 holds what does not fit, so only for bounded ones.
    pub(crate) fn held(&self, bytes: Bytes) -> Result<(), Gone> {
        match &self.0 {
            Way::Caller(caller) => match &mut caller.lock().stream {
                Some(stream) => stream.send_data(bytes, false).map_err(|_| Gone),
                None => Err(Gone),
            },
            // Only methods that stream are asked of all cities, and nothing of a stream is held.
            Way::Merged(..) => Err(Gone),
        }
    }

    pub(crate) fn trailers(&self, trailers: HeaderMap) -> Result<(), Gone> {
        let caller = match &self.0 {
            Way::Caller(caller) => caller,
            Way::Merged(part, _) => {
                part.tell(&trailers);
                return Ok(());
            }
        };
        match &mut caller.lock().stream {
            Some(stream) => stream.send_trailers(trailers).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    /// Ends the body of an answer that has no trailers.
    pub(crate) fn end(&self) -> Result<(), Gone> {
        let caller = match &self.0 {
            Way::Caller(caller) => caller,
            // An answer without trailers has no status: the part counts as cancelled.
            Way::Merged(..) => return Ok(()),
        };
        match &mut caller.lock().stream {
            Some(stream) => stream.send_data(Bytes::new(), true).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    /// Ends the stream without a status: there is nobody to read one.
    pub(crate) fn reset(&self) {
        // A part that ends without a status counts as cancelled.
        let Way::Caller(caller) = &self.0 else { return };
        let mut inner = caller.lock();
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
