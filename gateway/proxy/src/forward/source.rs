//! What comes in: the chunks of a body, with its window given back as they pass on.

use std::future::poll_fn;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

/// Next chunk of a body, `None` at its end. The chunk's share of the window is given back with [`passed`].
pub(crate) async fn chunk(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    poll_fn(|cx| body.poll_data(cx)).await.transpose()
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
