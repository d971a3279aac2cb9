//! Requests that no HTTP/2 library would send: the header block is replaced on its way out.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use bytes::{BufMut as _, BytesMut};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, WriteHalf, duplex, split},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;

use crate::wire::{Answer, Caller, Head, Message, connect_tls};

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// One header field, as bytes.
pub type Field = (Vec<u8>, Vec<u8>);

/// A header block with exactly these fields, in this order.
#[derive(Clone, Debug, Default)]
pub struct Block(Vec<Field>);

impl Block {
    /// The pseudo-headers and headers of an ordinary call of `head`, to be changed.
    pub fn of(head: &Head, authority: &str) -> Self {
        let mut block = Self(Vec::new());
        block.push(":method", head.method.as_str());
        block.push(":scheme", "https");
        block.push(":path", head.path.as_str());
        block.push(":authority", authority);
        for (name, value) in &head.headers {
            block.push(name.as_str(), value.as_bytes());
        }
        block
    }

    /// Adds a field.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
    }

    /// Replaces the value of the first field of a name.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if let Some(field) = self
            .0
            .iter_mut()
            .find(|(known, _)| known == name.as_bytes())
        {
            field.1 = value.as_ref().to_vec();
        }
        self
    }

    /// Adds a field at the end.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value);
        self
    }

    /// HPACK (RFC 7541 §6.2.2): each field literal, without indexing and without Huffman coding.
    fn encode(&self) -> BytesMut {
        let mut block = BytesMut::new();
        for (name, value) in &self.0 {
            block.put_u8(0);
            for text in [name, value] {
                length(&mut block, text.len());
                block.extend_from_slice(text);
            }
        }
        block
    }
}

/// An integer with a 7-bit prefix (RFC 7541 §5.1).
fn length(block: &mut BytesMut, length: usize) {
    let Ok(small) = u8::try_from(length.min(127)) else {
        return;
    };
    block.put_u8(small);
    if small < 127 {
        return;
    }
    let mut rest = length - 127;
    while rest >= 128 {
        block.put_u8(128 | u8::try_from(rest % 128).unwrap_or(0));
        rest /= 128;
    }
    block.put_u8(u8::try_from(rest).unwrap_or(0));
}

/// Makes one call with a header block of one's own making, on a connection of its own.
///
/// # Errors
///
/// Fails when the server cannot be reached; whatever it does to the call is in the answer.
pub async fn call(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    block: &Block,
    message: &impl prost::Message,
) -> Result<Answer> {
    let (near, far) = duplex(64 * 1024);
    let (mut from_server, to_server) = split(connect_tls(address, tls).await?);
    let (from_client, mut to_client) = split(far);
    let mut pumps = JoinSet::new();
    let replacement = block.encode();
    pumps.spawn(async move {
        // A broken pipe ends the call, and the answer says so.
        let _broken = rewrite(from_client, to_server, &replacement).await;
    });
    pumps.spawn(async move {
        let _broken = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _closed = to_client.shutdown().await;
    });
    let caller = Caller::over(near, address.to_string()).await?;
    caller
        .exchange(&Head::bare("/replaced/Entirely"), &[Message::of(message)])
        .await
}

/// Copies frames, replacing the block of each HEADERS frame.
async fn rewrite(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: WriteHalf<TlsStream<TcpStream>>,
    block: &[u8],
) -> Result<()> {
    let mut preface = [0; PREFACE];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    loop {
        let mut head = [0; 9];
        from.read_exact(&mut head).await?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; size];
        from.read_exact(&mut payload).await?;
        match head[3] {
            HEADERS => write_headers(&mut to, &head, block).await?,
            // The library splits only blocks over 16 KiB, and its own are small.
            CONTINUATION => {}
            _ => {
                to.write_all(&head).await?;
                to.write_all(&payload).await?;
            }
        }
        to.flush().await?;
    }
}

/// Writes a block as HEADERS and as many CONTINUATION frames as it needs.
async fn write_headers(
    to: &mut WriteHalf<TlsStream<TcpStream>>,
    head: &[u8; 9],
    block: &[u8],
) -> Result<()> {
    let chunks: Vec<_> = block.chunks(16_384).collect();
    for (number, chunk) in chunks.iter().enumerate() {
        let size = u32::try_from(chunk.len())?.to_be_bytes();
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let flags = if number + 1 == chunks.len() {
            END_HEADERS
        } else {
            0
        };
        to.write_all(&[size[1], size[2], size[3], kind, flags])
            .await?;
        to.write_all(&head[5..]).await?;
        to.write_all(chunk).await?;
    }
    Ok(())
}
