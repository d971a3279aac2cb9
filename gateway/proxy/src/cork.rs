//! An I/O adapter that gathers what one poll of a connection writes and lets it go at once.
//!
//! h2 flushes each DATA frame of 256 bytes or more by itself: one TLS record and one `writev` for each call and
//! hop. [`Cork`] swallows those flushes; the task that polls the connection calls [`Cork::release`] after each
//! poll. So the frames of all calls that were ready together leave in one write.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Above this much unsent data a write waits for the transport, so that back-pressure reaches h2.
const HIGH_WATER: usize = 64 * 1024;

/// The adapter. Clones share one transport: one is h2's, the other the driver's.
#[derive(Debug)]
pub(crate) struct Cork<I>(Arc<Mutex<Shared<I>>>);

#[derive(Debug)]
struct Shared<I> {
    io: I,
    unsent: BytesMut,
}

impl<I> Clone for Cork<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Cork<I> {
    /// Wraps a transport.
    pub(crate) fn new(io: I) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            io,
            unsent: BytesMut::new(),
        })))
    }

    /// Writes out what has been gathered. `Pending` means that the transport is full and will wake the task.
    pub(crate) fn release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        ready!(shared.write_out(cx))?;
        Pin::new(&mut shared.io).poll_flush(cx)
    }
}

impl<I: AsyncWrite + Unpin> Shared<I> {
    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        // One large burst must not pin its buffer for the connection's life.
        if self.unsent.capacity() > HIGH_WATER {
            self.unsent = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn make_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.len() < HIGH_WATER {
            Poll::Ready(Ok(()))
        } else {
            self.write_out(cx)
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cork<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Cork<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.lock();
        ready!(shared.make_room(cx))?;
        shared.unsent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.lock();
        ready!(shared.make_room(cx))?;
        let mut taken = 0;
        for slice in slices {
            shared.unsent.extend_from_slice(slice);
            taken += slice.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        ready!(shared.write_out(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn writes_leave_together_at_release() {
        let (near, mut far) = tokio::io::duplex(1024);
        let cork = Cork::new(near);
        let mut writer = cork.clone();
        writer.write_all(b"one ").await.unwrap();
        writer.flush().await.unwrap();
        writer.write_all(b"two").await.unwrap();
        let mut seen = [0; 16];
        {
            let early = far.read(&mut seen);
            tokio::pin!(early);
            let pending = poll_fn(|cx| Poll::Ready(early.as_mut().poll(cx).is_pending())).await;
            assert!(pending, "nothing leaves before the release");
        }
        poll_fn(|cx| cork.release(cx)).await.unwrap();
        let read = far.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..read], b"one two");
    }

    #[tokio::test]
    async fn a_full_transport_holds_the_writer_back() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut cork = Cork::new(near);
        let writing = async {
            cork.write_all(&vec![7; 4 * HIGH_WATER]).await.unwrap();
            cork.shutdown().await.unwrap();
        };
        let reading = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(writing, reading);
        assert_eq!(all.len(), 4 * HIGH_WATER);
    }
}
