//! One direction of a call: what its bytes are read, counted and hashed by while they pass.

use std::sync::Arc;

use banqiao_ledger::digest::MessageDigest;
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Direction, Subject},
};
use bytes::Bytes;
use prost::Message as _;

use crate::{
    refusal::Refusal,
    wire::{
        Coding, CodingError, DEFAULT_SUBJECTS, Frame, FrameReader, MessageScanner, Scan,
        ScanSettings, SubjectPlan,
    },
};

/// How many subjects one entry holds at the most: 32 KiB, half of an entry.
pub(crate) const SUBJECTS_PER_ENTRY: usize = DEFAULT_SUBJECTS;

/// Bytes of subjects in a private part that is opened to another gateway: it travels in metadata.
const SUBJECT_BYTES_PER_OPENING: usize = 2_048;

/// One direction of a call.
#[derive(Debug)]
pub(crate) struct Flow {
    frames: FrameReader,
    digest: MessageDigest,
    plan: Arc<SubjectPlan>,
    scanner: MessageScanner,
    coding: Coding,
    max: u32,
    found: Vec<Subject>,
    /// It ended where its sender ended it.
    complete: bool,
    /// The direction is the request: its faults are the caller's.
    request: bool,
}

impl Flow {
    /// The request direction: messages of at most `max` bytes, on the wire and decoded.
    pub(crate) fn request(max: u32, plan: &Arc<SubjectPlan>) -> Self {
        Self::new(max, plan, true)
    }

    /// The response direction.
    pub(crate) fn response(max: u32, plan: &Arc<SubjectPlan>) -> Self {
        Self::new(max, plan, false)
    }

    fn new(max: u32, plan: &Arc<SubjectPlan>, request: bool) -> Self {
        Self {
            frames: FrameReader::new(max),
            digest: MessageDigest::new(),
            scanner: scanner(plan, Coding::Identity, max),
            plan: Arc::clone(plan),
            coding: Coding::Identity,
            max,
            found: Vec::new(),
            complete: false,
            request,
        }
    }

    /// What the headers of this direction announced, before its first message.
    pub(crate) fn announce(&mut self, coding: Coding) {
        if coding != self.coding {
            self.coding = coding;
            // Compressed messages are decoded even where no subject is looked for: what they grow to is bounded.
            self.scanner = scanner(&self.plan, coding, self.max);
        }
    }

    /// Begins anew, for another attempt: what came so far was not passed on. Subjects that were found stay found.
    pub(crate) fn restart(&mut self) {
        self.frames = FrameReader::new(self.max);
        self.digest = MessageDigest::new();
        self.take();
        self.coding = Coding::Identity;
        self.scanner = scanner(&self.plan, Coding::Identity, self.max);
        self.complete = false;
    }

    /// Reads a chunk that is about to pass. Returns how many messages ended in it.
    ///
    /// # Errors
    ///
    /// The chunk is not part of a sequence of messages within the limits.
    pub(crate) fn inspect(&mut self, chunk: &Bytes) -> Result<u64, Refusal> {
        let mut rest = chunk.clone();
        let mut ended = 0;
        loop {
            let frame = self
                .frames
                .next(&mut rest)
                .map_err(|error| self.fault(error.reason(), error.to_string()))?;
            match frame {
                None => return Ok(ended),
                Some(Frame::Begin { compressed, len }) => self.begin(compressed, len)?,
                Some(Frame::Data(piece)) => self.data(&piece)?,
                Some(Frame::End) => {
                    self.end()?;
                    ended += 1;
                }
            }
        }
    }

    fn begin(&mut self, compressed: bool, len: u32) -> Result<(), Refusal> {
        self.digest.begin(u8::from(compressed));
        self.scanner
            .begin(compressed, len)
            .map_err(|error| self.unreadable(error))
    }

    fn data(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.digest.update(piece);
        if self.scanner.is_empty() {
            return Ok(());
        }
        let mut rest = piece;
        while self
            .scanner
            .push(&mut rest)
            .map_err(|error| self.unreadable(error))?
            == Scan::Full
        {
            self.take();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refusal> {
        while self.scanner.end().map_err(|error| self.unreadable(error))? == Scan::Full {
            self.take();
        }
        self.digest.end();
        Ok(())
    }

    fn take(&mut self) {
        self.found
            .extend(self.scanner.take().into_iter().map(|subject| Subject {
                kind: subject.kind,
                value: subject.value,
            }));
    }

    fn unreadable(&self, error: CodingError) -> Refusal {
        self.fault(error.reason(), error.to_string())
    }

    /// The sender ended the direction.
    ///
    /// # Errors
    ///
    /// It ended inside a message.
    pub(crate) fn finish(&mut self) -> Result<(), Refusal> {
        self.frames
            .finish()
            .map_err(|error| self.fault(error.reason(), error.to_string()))?;
        self.complete = true;
        Ok(())
    }

    /// Messages that have passed.
    pub(crate) fn count(&self) -> u64 {
        self.digest.count()
    }

    /// The direction as an entry says it.
    pub(crate) fn direction(&self) -> Direction {
        self.digest.direction(self.coding.ledger(), self.complete)
    }

    /// So many subjects were found that an entry is due.
    pub(crate) fn overflows(&self) -> bool {
        self.found.len() >= SUBJECTS_PER_ENTRY
    }

    /// Subjects found since the last time, at most as many as one entry holds.
    pub(crate) fn subjects(&mut self) -> Vec<Subject> {
        if self.found.len() < SUBJECTS_PER_ENTRY {
            self.take();
        }
        let rest = self
            .found
            .split_off(self.found.len().min(SUBJECTS_PER_ENTRY));
        std::mem::replace(&mut self.found, rest)
    }

    /// Subjects found since the last time, as many as a message to another gateway takes; the rest waits for the next entry.
    pub(crate) fn few_subjects(&mut self) -> Vec<Subject> {
        let mut subjects = self.subjects();
        let mut room = SUBJECT_BYTES_PER_OPENING;
        let fits = subjects
            .iter()
            .take_while(
                |subject| match room.checked_sub(subject.encoded_len() + 4) {
                    Some(left) => {
                        room = left;
                        true
                    }
                    None => false,
                },
            )
            .count();
        let mut rest = subjects.split_off(fits);
        rest.append(&mut self.found);
        self.found = rest;
        subjects
    }

    /// Whose fault a malformed direction is decides what the caller sees.
    fn fault(&self, reason: Reason, detail: String) -> Refusal {
        let reason = match reason {
            Reason::MessageMalformed if !self.request => Reason::UpstreamFailed,
            reason => reason,
        };
        Refusal::new(reason, detail)
    }
}

fn scanner(plan: &Arc<SubjectPlan>, coding: Coding, max: u32) -> MessageScanner {
    let settings = ScanSettings {
        coding,
        max_decoded: u64::from(max),
        subjects: SUBJECTS_PER_ENTRY,
    };
    MessageScanner::new(plan, settings)
}
