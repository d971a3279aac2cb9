//! Looking into the messages of one direction as they pass.

use std::sync::Arc;

use super::{
    coding::{Coding, CodingError, Inflating},
    subject::{ScanCounts, Subject, SubjectPlan, SubjectScanner},
};

/// How a direction is scanned.
#[derive(Clone, Copy, Debug)]
pub struct ScanSettings {
    /// What the headers announce for compressed messages.
    pub coding: Coding,
    /// Most bytes that a compressed message may decode to.
    pub max_decoded: u64,
    /// Most subjects that are held until they are taken; see [`super::DEFAULT_SUBJECTS`].
    pub subjects: usize,
}

/// Whether a step is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Scan {
    /// It is.
    Done,
    /// The set of subjects is full: [`MessageScanner::take`] it into an entry, and repeat the step.
    Full,
}

/// Reads the subjects out of the messages of one direction and holds compressed messages to their limits.
///
/// Feed it with what [`super::FrameReader`] yields. Memory is bounded: the set of subjects, one identifier, and, from
/// the first compressed message on, one decoder. A message that is not protobuf is counted and carried; one whose
/// compression is broken or a bomb is an error.
///
/// ```
/// # use banqiao_proxy::wire::{Coding, MessageScanner, Scan, ScanSettings, SubjectPlan, DEFAULT_SUBJECTS};
/// # use std::sync::Arc;
/// # let pool = banqiao_proto::descriptors();
/// # let message = pool.get_message_by_name("banqiao.card.v1.VerifyCardRequest").unwrap();
/// let plan = Arc::new(SubjectPlan::for_message(&message));
/// let settings =
///     ScanSettings { coding: Coding::Identity, max_decoded: 4 << 20, subjects: DEFAULT_SUBJECTS };
/// let mut scanner = MessageScanner::new(&plan, settings);
/// let body = b"\x0a\x05\x0a\x03A01";
/// scanner.begin(false, 7)?;
/// let mut rest = &body[..];
/// while scanner.push(&mut rest)? == Scan::Full {
///     scanner.take(); // and write it into a PROGRESS entry
/// }
/// while scanner.end()? == Scan::Full {
///     scanner.take();
/// }
/// assert_eq!(scanner.take()[0].value, "A01");
/// # Ok::<(), banqiao_proxy::wire::CodingError>(())
/// ```
#[derive(Debug)]
pub struct MessageScanner {
    settings: ScanSettings,
    subjects: SubjectScanner,
    inflating: Option<Inflating>,
    /// The message in hand is compressed.
    compressed: bool,
}

impl MessageScanner {
    /// A scanner for one direction of one call.
    pub fn new(plan: &Arc<SubjectPlan>, settings: ScanSettings) -> Self {
        Self {
            settings,
            subjects: SubjectScanner::new(plan, settings.subjects),
            inflating: None,
            compressed: false,
        }
    }

    /// Whether there is nothing to do for this direction: no field names a subject, and no message may be compressed.
    /// Without a coding, a message flagged as compressed must still be shown to [`MessageScanner::begin`].
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty() && self.settings.coding == Coding::Identity
    }

    /// Begins a message of `len` bytes on the wire.
    ///
    /// # Errors
    ///
    /// [`CodingError::Unreadable`] where it is compressed and the coding is not readable.
    pub fn begin(&mut self, compressed: bool, len: u32) -> Result<(), CodingError> {
        if compressed {
            if self.inflating.is_none() {
                self.inflating = Inflating::new(self.settings.coding, self.settings.max_decoded);
            }
            self.inflating
                .as_mut()
                .ok_or(CodingError::Unreadable)?
                .begin(len);
        }
        self.compressed = compressed;
        self.subjects.begin();
        Ok(())
    }

    /// Takes message bytes off the front of `rest`, all of them unless it answers [`Scan::Full`].
    ///
    /// # Errors
    ///
    /// [`CodingError`] where the message is compressed; the same again until the next message begins.
    pub fn push(&mut self, rest: &mut &[u8]) -> Result<Scan, CodingError> {
        let waiting = match &mut self.inflating {
            Some(inflating) if self.compressed => {
                inflating.push(rest, &mut self.subjects)?;
                inflating.is_pending()
            }
            _ => {
                self.subjects.push(rest);
                false
            }
        };
        Ok(if waiting || !rest.is_empty() {
            Scan::Full
        } else {
            Scan::Done
        })
    }

    /// Ends the message, after what was still to be decoded.
    ///
    /// # Errors
    ///
    /// [`CodingError`] where the message is compressed.
    pub fn end(&mut self) -> Result<Scan, CodingError> {
        if self.push(&mut &[][..])? == Scan::Full {
            return Ok(Scan::Full);
        }
        if let (true, Some(inflating)) = (self.compressed, &self.inflating) {
            inflating.finish()?;
        }
        // Counted by the scanner; a message that is not protobuf is its receiver's to refuse.
        self.subjects.end().ok();
        Ok(Scan::Done)
    }

    /// The subjects found since the last time, in order of appearance. One that was handed out is not named again, as
    /// long as the scanner remembers it.
    pub fn take(&mut self) -> Vec<Subject> {
        self.subjects.take()
    }

    /// What could not be read so far.
    pub const fn counts(&self) -> ScanCounts {
        self.subjects.counts()
    }
}

#[cfg(test)]
mod tests;
