//! gRPC message framing: five bytes before each message (gRPC over HTTP/2, "Length-Prefixed-Message").

use banqiao_proto::exchange::v1::Reason;
use bytes::{Buf, Bytes};

/// Length of the prefix: one flag byte and four bytes of length.
const PREFIX: usize = 5;

/// What a body holds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message begins.
    Begin {
        /// The message is compressed with the coding that the headers announced.
        compressed: bool,
        /// Length of the message on the wire, in bytes.
        len: u32,
    },
    /// Bytes of the message, never empty: a slice of the chunk, not a copy.
    Data(Bytes),
    /// The message is whole.
    End,
}

/// Why a body is not a sequence of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The flag byte is neither 0 nor 1.
    #[error("the flag byte before a message is {0}, not 0 or 1")]
    Flag(u8),
    /// A message is longer than the limit.
    #[error("a message of {len} bytes is larger than the limit of {max}")]
    TooLarge {
        /// Announced length in bytes.
        len: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// The body ended inside a message or inside the prefix of one.
    #[error("the body ends inside a message")]
    Truncated,
}

impl FrameError {
    /// The reason with which a gateway ends the call.
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLarge { .. } => Reason::MessageTooLarge,
            Self::Flag(_) | Self::Truncated => Reason::MessageMalformed,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the prefix are there.
    Prefix {
        filled: usize,
    },
    /// So many bytes of the message are missing.
    Body {
        missing: u32,
    },
    /// All bytes are there, `End` is to be said.
    Complete,
    Failed(FrameError),
}

/// Reads the messages of one direction of a call out of its body chunks.
///
/// It holds five bytes at most, whatever the chunks are:
///
/// ```
/// # use banqiao_proxy::wire::{Frame, FrameReader};
/// # use bytes::Bytes;
/// let mut reader = FrameReader::new(1024);
/// let mut chunk = Bytes::from_static(b"\0\0\0\0\x02hi");
/// assert_eq!(reader.next(&mut chunk), Ok(Some(Frame::Begin { compressed: false, len: 2 })));
/// assert_eq!(reader.next(&mut chunk), Ok(Some(Frame::Data(Bytes::from_static(b"hi")))));
/// assert_eq!(reader.next(&mut chunk), Ok(Some(Frame::End)));
/// assert_eq!(reader.next(&mut chunk), Ok(None));
/// assert_eq!(reader.finish(), Ok(()));
/// ```
#[derive(Clone, Debug)]
pub struct FrameReader {
    max: u32,
    prefix: [u8; PREFIX],
    state: State,
}

impl FrameReader {
    /// A reader at the start of a body, for messages of at most `max` bytes.
    pub const fn new(max: u32) -> Self {
        Self {
            max,
            prefix: [0; PREFIX],
            state: State::Prefix { filled: 0 },
        }
    }

    /// Takes the next event out of `chunk`; `None` says that the chunk is used up and more is needed.
    ///
    /// # Errors
    ///
    /// [`FrameError::Flag`] and [`FrameError::TooLarge`]; the same error again on every later call.
    pub fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        match self.state {
            State::Prefix { filled } => {
                let taken = chunk.len().min(PREFIX - filled);
                self.prefix[filled..filled + taken].copy_from_slice(&chunk[..taken]);
                chunk.advance(taken);
                if filled + taken < PREFIX {
                    self.state = State::Prefix {
                        filled: filled + taken,
                    };
                    return Ok(None);
                }
                self.begin().map(Some)
            }
            State::Body { missing } => {
                if chunk.is_empty() {
                    return Ok(None);
                }
                let taken = chunk.len().min(missing as usize);
                let data = chunk.split_to(taken);
                // `taken` is at most `missing`, which is an u32.
                let missing = missing - u32::try_from(taken).unwrap_or(missing);
                self.state = if missing == 0 {
                    State::Complete
                } else {
                    State::Body { missing }
                };
                Ok(Some(Frame::Data(data)))
            }
            State::Complete => {
                self.state = State::Prefix { filled: 0 };
                Ok(Some(Frame::End))
            }
            State::Failed(error) => Err(error),
        }
    }

    /// Reads the full prefix.
    fn begin(&mut self) -> Result<Frame, FrameError> {
        let [flag, length @ ..] = self.prefix;
        let len = u32::from_be_bytes(length);
        let fault = match flag {
            0 | 1 if len <= self.max => None,
            0 | 1 => Some(FrameError::TooLarge { len, max: self.max }),
            _ => Some(FrameError::Flag(flag)),
        };
        if let Some(error) = fault {
            self.state = State::Failed(error);
            return Err(error);
        }
        self.state = if len == 0 {
            State::Complete
        } else {
            State::Body { missing: len }
        };
        Ok(Frame::Begin {
            compressed: flag == 1,
            len,
        })
    }

    /// Whether the body stands between two messages, where alone it may end.
    pub const fn at_boundary(&self) -> bool {
        matches!(self.state, State::Prefix { filled: 0 })
    }

    /// Says whether the body may end here.
    ///
    /// # Errors
    ///
    /// [`FrameError::Truncated`] inside a message, or the error that the reader met before.
    pub const fn finish(&self) -> Result<(), FrameError> {
        match self.state {
            State::Prefix { filled: 0 } => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(FrameError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Messages = Vec<(bool, Vec<u8>)>;

    /// The messages as (compressed, bytes), and how the reader ended.
    fn read(body: &[u8], cuts: &[usize], max: u32) -> (Messages, Result<(), FrameError>) {
        let mut reader = FrameReader::new(max);
        let mut messages = Vec::new();
        let mut open: Option<(bool, u32, Vec<u8>)> = None;
        let mut from = 0;
        for to in cuts
            .iter()
            .map(|cut| cut % (body.len() + 1))
            .chain([body.len()])
        {
            if to < from {
                continue;
            }
            let mut chunk = Bytes::copy_from_slice(&body[from..to]);
            from = to;
            loop {
                match reader.next(&mut chunk) {
                    Ok(Some(Frame::Begin { compressed, len })) => {
                        assert!(open.is_none());
                        open = Some((compressed, len, Vec::new()));
                    }
                    Ok(Some(Frame::Data(data))) => {
                        assert!(!data.is_empty());
                        open.as_mut().unwrap().2.extend_from_slice(&data);
                    }
                    Ok(Some(Frame::End)) => {
                        let (compressed, len, bytes) = open.take().unwrap();
                        assert_eq!(bytes.len(), len as usize);
                        messages.push((compressed, bytes));
                    }
                    Ok(None) => break,
                    Err(error) => return (messages, Err(error)),
                }
            }
            assert!(chunk.is_empty());
        }
        assert_eq!(reader.at_boundary(), reader.finish().is_ok());
        (messages, reader.finish())
    }

    fn encode(messages: &[(bool, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (compressed, bytes) in messages {
            body.push(u8::from(*compressed));
            body.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            body.extend_from_slice(bytes);
        }
        body
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(
            messages in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            mut cuts in prop::collection::vec(any::<usize>(), 0..30),
        ) {
            let body = encode(&messages);
            for cut in &mut cuts {
                *cut %= body.len() + 1;
            }
            cuts.sort_unstable();
            prop_assert_eq!(read(&body, &cuts, 40), (messages, Ok(())));
        }

        #[test]
        fn a_cut_body_ends_at_a_boundary_or_is_truncated(
            messages in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let body = encode(&messages);
            let cut = cut.index(body.len());
            let (whole, end) = read(&body[..cut], &[], 40);
            let boundary = encode(&whole).len() == cut;
            prop_assert_eq!(end, if boundary { Ok(()) } else { Err(FrameError::Truncated) });
        }

        #[test]
        fn hostile_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&body, &[], 64).1.ok();
        }
    }

    #[test]
    fn a_larger_message_is_refused_before_its_bytes_arrive() {
        let (messages, end) = read(b"\0\0\0\0\x01a\0\0\0\0\x05", &[], 4);
        assert_eq!(messages, [(false, b"a".to_vec())]);
        assert_eq!(end, Err(FrameError::TooLarge { len: 5, max: 4 }));
        assert_eq!(end.unwrap_err().reason(), Reason::MessageTooLarge);
    }

    #[test]
    fn an_unknown_flag_is_refused_and_stays_refused() {
        let mut reader = FrameReader::new(4);
        let mut chunk = Bytes::from_static(b"\x02\0\0\0\0\0\0\0\0\0");
        assert_eq!(reader.next(&mut chunk), Err(FrameError::Flag(2)));
        assert_eq!(reader.next(&mut chunk), Err(FrameError::Flag(2)));
        assert_eq!(reader.finish(), Err(FrameError::Flag(2)));
    }

    #[test]
    fn data_is_a_slice_of_the_chunk() {
        let mut reader = FrameReader::new(8);
        let whole = Bytes::from_static(b"\0\0\0\0\x03abc");
        let mut chunk = whole.clone();
        reader.next(&mut chunk).unwrap();
        let Some(Frame::Data(data)) = reader.next(&mut chunk).unwrap() else {
            panic!("no data")
        };
        assert_eq!(data.as_ptr(), whole[PREFIX..].as_ptr());
    }
}
