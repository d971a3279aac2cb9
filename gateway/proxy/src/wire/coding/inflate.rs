//! Decoding compressed messages as they pass.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Coding, CodingError};
use crate::wire::subject::SubjectScanner;

/// Bytes that a compressed message may always decode to, whatever its length on the wire.
const FLOOR: u64 = 64 * 1024;

/// How many times its length on the wire a compressed message may decode to, beyond the floor.
const MAX_RATIO: u64 = 20;

/// Members of one gzip stream that are followed. Compressors write one, and each costs a fresh start.
const MAX_MEMBERS: u32 = 1_024;

/// Size of the window in which decoded bytes are looked at.
const OUTPUT: usize = 8 * 1024;

/// Flags of a gzip header (RFC 1952 §2.3.1).
const FLAG_HEADER_CHECK: u8 = 0x02;
const FLAG_EXTRA: u8 = 0x04;
const FLAG_NAME: u8 = 0x08;
const FLAG_COMMENT: u8 = 0x10;
const FLAGS_RESERVED: u8 = 0xe0;

/// Where in its framing a compressed message stands. `flags` are the parts of the gzip header yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In the ten fixed bytes of a gzip header.
    Header {
        filled: u8,
        flags: u8,
    },
    /// In the two bytes of the extra field's length.
    ExtraLength {
        low: Option<u8>,
        flags: u8,
    },
    /// In bytes of the header that do not matter.
    Skip {
        left: u32,
        flags: u8,
    },
    /// In a name or comment, up to its zero byte.
    Text {
        flags: u8,
    },
    /// In the compressed blocks.
    Blocks,
    /// In the eight bytes of checksum and length after the blocks of a gzip member.
    Trailer {
        filled: u8,
    },
    /// The message may end here.
    Finished,
    Failed(CodingError),
}

/// Decodes the compressed messages of one direction into a [`SubjectScanner`], chunk by chunk, and counts what they
/// decode to. It holds one decoder (some 45 KiB) and 8 KiB of output. Checksums are left to the receiver.
#[derive(Debug)]
pub(in crate::wire) struct Inflating {
    zlib: bool,
    decoder: Decompress,
    output: Box<[u8]>,
    /// Range of decoded bytes that the scanner has not taken yet.
    pending: (usize, usize),
    /// The decoder may hold more output than fitted.
    more: bool,
    max: u64,
    budget: u64,
    decoded: u64,
    members: u32,
    stage: Stage,
}

impl Inflating {
    /// A decoder for messages that decode to at most `max` bytes. `None` where the coding is not readable.
    pub(in crate::wire) fn new(coding: Coding, max: u64) -> Option<Self> {
        let zlib = match coding {
            Coding::Gzip => false,
            Coding::Deflate => true,
            Coding::Identity | Coding::Zstd | Coding::Other => return None,
        };
        Some(Self {
            zlib,
            decoder: Decompress::new(zlib),
            output: vec![0; OUTPUT].into(),
            pending: (0, 0),
            more: false,
            max,
            budget: 0,
            decoded: 0,
            members: 0,
            stage: Stage::Finished,
        })
    }

    /// Begins a message of `len` bytes on the wire.
    ///
    /// The ratio is judged against the whole message, so that one that begins with zeros is not refused for it.
    pub(in crate::wire) fn begin(&mut self, len: u32) {
        self.budget = self.max.min(FLOOR.max(MAX_RATIO * u64::from(len)));
        self.decoded = 0;
        self.members = 0;
        self.pending = (0, 0);
        self.begin_member();
    }

    fn begin_member(&mut self) {
        self.members += 1;
        self.more = false;
        self.decoder.reset(self.zlib);
        self.stage = if self.zlib {
            Stage::Blocks
        } else {
            Stage::Header {
                filled: 0,
                flags: 0,
            }
        };
    }

    /// Takes bytes off the front of `rest`. It returns early, with `rest` not empty or [`Inflating::is_pending`], when
    /// the scanner is full.
    ///
    /// # Errors
    ///
    /// [`CodingError`]; the same again on every later call for this message.
    pub(in crate::wire) fn push(
        &mut self,
        rest: &mut &[u8],
        scanner: &mut SubjectScanner,
    ) -> Result<(), CodingError> {
        loop {
            let mut decoded = &self.output[self.pending.0..self.pending.1];
            scanner.push(&mut decoded);
            self.pending.0 = self.pending.1 - decoded.len();
            if self.is_pending() {
                return Ok(());
            }
            let step = match self.stage {
                Stage::Blocks if rest.is_empty() && !self.more => return Ok(()),
                Stage::Blocks => self.blocks(rest),
                Stage::Failed(error) => return Err(error),
                _ => {
                    let Some((&byte, tail)) = rest.split_first() else {
                        return Ok(());
                    };
                    *rest = tail;
                    self.frame(byte)
                }
            };
            if let Err(error) = step {
                self.pending = (0, 0);
                self.stage = Stage::Failed(error);
                return Err(error);
            }
        }
    }

    /// Whether decoded bytes wait for room in the scanner.
    pub(in crate::wire) const fn is_pending(&self) -> bool {
        self.pending.0 < self.pending.1
    }

    /// Says whether the message may end here.
    ///
    /// # Errors
    ///
    /// [`CodingError::Truncated`], or the error met before.
    pub(in crate::wire) const fn finish(&self) -> Result<(), CodingError> {
        match self.stage {
            Stage::Finished => Ok(()),
            Stage::Failed(error) => Err(error),
            _ => Err(CodingError::Truncated),
        }
    }

    /// Decodes as much as fits the window.
    fn blocks(&mut self, rest: &mut &[u8]) -> Result<(), CodingError> {
        let before = (self.decoder.total_in(), self.decoder.total_out());
        let status = self
            .decoder
            .decompress(rest, &mut self.output, FlushDecompress::None)
            .map_err(|_| CodingError::Corrupt)?;
        let advanced = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
        let taken = advanced(before.0, self.decoder.total_in());
        let made = advanced(before.1, self.decoder.total_out());
        *rest = rest.get(taken..).unwrap_or_default();
        self.pending = (0, made.min(OUTPUT));
        self.more = made == OUTPUT;
        self.decoded += made as u64;
        if self.decoded > self.budget {
            let too_large = self.budget == self.max;
            return Err(if too_large {
                CodingError::TooLarge { max: self.max }
            } else {
                CodingError::Amplified
            });
        }
        if status == Status::StreamEnd {
            self.more = false;
            self.stage = if self.zlib {
                Stage::Finished
            } else {
                Stage::Trailer { filled: 0 }
            };
        } else if taken == 0 && made == 0 && !rest.is_empty() {
            return Err(CodingError::Corrupt);
        }
        Ok(())
    }

    /// Takes one byte outside the blocks.
    fn frame(&mut self, byte: u8) -> Result<(), CodingError> {
        self.stage = match self.stage {
            Stage::Header { filled, flags } => {
                let flags = if filled == 3 { byte } else { flags };
                let sound = match filled {
                    0 => byte == 0x1f,
                    1 => byte == 0x8b,
                    // The only method that is defined.
                    2 => byte == 8,
                    3 => byte & FLAGS_RESERVED == 0,
                    _ => true,
                };
                match filled {
                    _ if !sound => return Err(CodingError::Corrupt),
                    9 => Self::header_part(flags),
                    _ => Stage::Header {
                        filled: filled + 1,
                        flags,
                    },
                }
            }
            Stage::ExtraLength { low: None, flags } => Stage::ExtraLength {
                low: Some(byte),
                flags,
            },
            Stage::ExtraLength {
                low: Some(low),
                flags,
            } => match u32::from(u16::from_le_bytes([low, byte])) {
                0 => Self::header_part(flags),
                left => Stage::Skip { left, flags },
            },
            Stage::Skip { left: 1, flags } => Self::header_part(flags),
            Stage::Skip { left, flags } => Stage::Skip {
                left: left - 1,
                flags,
            },
            Stage::Text { flags } if byte == 0 => Self::header_part(flags),
            Stage::Trailer { filled: 7 } => Stage::Finished,
            Stage::Trailer { filled } => Stage::Trailer { filled: filled + 1 },
            // Something follows: another gzip member, or what has no place here.
            Stage::Finished if self.zlib || self.members >= MAX_MEMBERS => {
                return Err(CodingError::Corrupt);
            }
            Stage::Finished => {
                self.begin_member();
                return self.frame(byte);
            }
            stage @ (Stage::Text { .. } | Stage::Blocks | Stage::Failed(_)) => stage,
        };
        Ok(())
    }

    /// The part of a gzip header that comes next, by the flags that are left.
    const fn header_part(flags: u8) -> Stage {
        if flags & FLAG_EXTRA != 0 {
            Stage::ExtraLength {
                low: None,
                flags: flags & !FLAG_EXTRA,
            }
        } else if flags & FLAG_NAME != 0 {
            Stage::Text {
                flags: flags & !FLAG_NAME,
            }
        } else if flags & FLAG_COMMENT != 0 {
            Stage::Text {
                flags: flags & !FLAG_COMMENT,
            }
        } else if flags & FLAG_HEADER_CHECK != 0 {
            Stage::Skip {
                left: 2,
                flags: flags & !FLAG_HEADER_CHECK,
            }
        } else {
            Stage::Blocks
        }
    }
}
