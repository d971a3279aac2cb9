//! What comes in: the chunks of a body, with its window given back as they pass on.

use std::{future::poll_fn, task::Poll};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

/// Chunks below this are gathered with what else is there: a stream of small messages costs a frame for each otherwise.
const SMALL: usize = 4 * 1024;
/// As much is gathered as one frame takes on.
const GATHERED: usize = 16 * 1024;

/// Next chunk of a body, `None` at its end. The chunk's share of the window is given back with [`passed`].
pub(crate) async fn chunk(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    poll_fn(|cx| {
        let first = match body.poll_data(cx) {
            Poll::Ready(Some(Ok(first))) => first,
            other => return other.map(Option::transpose),
        };
        if first.len() >= SMALL {
            return Poll::Ready(Ok(Some(first)));
        }
        let mut gathered = BytesMut::new();
        while gathered.len() < GATHERED {
            // An end or a fault is said again by the next read.
            let Poll::Ready(Some(Ok(next))) = body.poll_data(cx) else {
                break;
            };
            if gathered.is_empty() {
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(&next);
        }
        Poll::Ready(Ok(Some(if gathered.is_empty() {
            first
        } else {
            gathered.freeze()
        })))
    })
    .await
}

/// A chunk of so many bytes has been passed on or dropped.
pub(crate) fn passed(body: &mut RecvStream, bytes: usize) {
    // Fails only when the stream is gone, which the next read says.
    let _ = body.flow_control().release_capacity(bytes);
}

/// The trailers after the last chunk.
pub(crate) async fn trailers(body: &mut RecvStream) -> Result<Option<HeaderMap>, h2::Error> {
    poll_fn(|cx| body.poll_trailers(cx)).await
}
