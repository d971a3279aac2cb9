//! Finding subjects in message bytes as they pass.

use std::{collections::HashSet, mem, sync::Arc};

use super::{Step, Subject, SubjectPlan};
use crate::wire::tag::{MAX_LENGTH, Tag, Varint, Wire};

/// Longest identifier in bytes. The longest of the network, an SPIFFE-like reference aside, has 32 characters.
pub const MAX_SUBJECT: usize = 256;

/// Subjects that are held before they go into an entry: 32 KiB at the most, well below the size of an entry.
pub const DEFAULT_SUBJECTS: usize = 128;

/// Deepest nesting of messages and groups that is followed; most protobuf implementations refuse more.
const MAX_DEPTH: usize = 100;

/// Why a message could not be scanned to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum ScanFault {
    /// Not protobuf.
    Malformed,
    /// Nested deeper than 100 levels.
    TooDeep,
    /// It ends inside a field.
    Truncated,
}

/// What could not be read, so that it is not lost silently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCounts {
    /// Values longer than [`MAX_SUBJECT`].
    pub oversized: u64,
    /// Values that are not UTF-8.
    pub invalid: u64,
    /// Messages that were not scanned to their end.
    pub malformed: u64,
}

/// The subjects of a call, each once, no more than a given number at a time.
#[derive(Debug)]
struct Collected {
    capacity: usize,
    /// Not yet handed out.
    fresh: Vec<Subject>,
    /// What has been seen, by kind, handed out or not: at most twice the capacity.
    seen: Vec<(u32, HashSet<Box<str>>)>,
}

impl Collected {
    fn insert(&mut self, kind: u32, value: &str) {
        if self
            .seen
            .iter()
            .any(|(of, values)| *of == kind && values.contains(value))
        {
            return;
        }
        if self
            .seen
            .iter()
            .map(|(_, values)| values.len())
            .sum::<usize>()
            >= 2 * self.capacity
        {
            // Forget what was handed out: it may be named once more, which does no harm.
            self.seen.clear();
            for subject in mem::take(&mut self.fresh) {
                self.remember(subject.kind, &subject.value);
                self.fresh.push(subject);
            }
        }
        self.remember(kind, value);
        self.fresh.push(Subject {
            kind,
            value: value.to_owned(),
        });
    }

    fn remember(&mut self, kind: u32, value: &str) {
        match self.seen.iter_mut().find(|(of, _)| *of == kind) {
            Some((_, values)) => {
                values.insert(value.into());
            }
            None => self.seen.push((kind, HashSet::from([value.into()]))),
        }
    }
}

/// A message or group that the scanner is in.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Its node of the plan; none where no subject can be.
    node: Option<usize>,
    /// Position of its end. A group lasts at most as long as the message around it.
    end: u64,
    /// Number of the group; 0 for a message.
    group: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a tag.
    Tag(Varint),
    /// In a number that nobody wants.
    Number(Varint),
    /// In the length of a field.
    Length(Varint, Option<Step>),
    /// In a field that nobody wants, up to a position.
    Skip(u64),
    /// In a subject of a kind, up to a position.
    Value(u32, u64),
    /// Given up on this message.
    Failed(ScanFault),
}

/// Collects the subjects of the messages of one direction, from chunks of any size.
///
/// It holds at most one identifier of [`MAX_SUBJECT`] bytes, a level for each open message, and the set.
/// An empty plan costs nothing.
#[derive(Debug)]
pub(in crate::wire) struct SubjectScanner {
    plan: Arc<SubjectPlan>,
    collected: Collected,
    counts: ScanCounts,
    position: u64,
    levels: Vec<Level>,
    state: State,
    /// The beginning of a value that is cut by the end of a chunk.
    partial: Vec<u8>,
}

impl SubjectScanner {
    /// A scanner that holds at most `capacity` subjects at a time (at least one), ready for the first message.
    pub(in crate::wire) fn new(plan: &Arc<SubjectPlan>, capacity: usize) -> Self {
        let collected = Collected {
            capacity: capacity.max(1),
            fresh: Vec::new(),
            seen: Vec::new(),
        };
        let mut scanner = Self {
            plan: Arc::clone(plan),
            collected,
            counts: ScanCounts::default(),
            position: 0,
            levels: Vec::new(),
            state: State::Tag(Varint::default()),
            partial: Vec::new(),
        };
        scanner.begin();
        scanner
    }

    /// Whether there is nothing to look for.
    pub(in crate::wire) fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// Begins a message.
    pub(in crate::wire) fn begin(&mut self) {
        if self.is_empty() {
            return;
        }
        self.position = 0;
        self.levels.clear();
        self.levels.push(Level {
            node: Some(0),
            end: u64::MAX,
            group: 0,
        });
        self.state = State::Tag(Varint::default());
        self.partial.clear();
    }

    /// Takes message bytes off the front of `rest`. What is left there when it returns waits until
    /// [`SubjectScanner::take`] has made room: [`SubjectScanner::is_full`].
    pub(in crate::wire) fn push(&mut self, rest: &mut &[u8]) {
        if self.is_empty() {
            *rest = &[];
        }
        while !rest.is_empty() && !self.is_full() {
            if let Err(fault) = self.advance(rest) {
                self.state = State::Failed(fault);
            }
        }
    }

    /// Ends a message.
    ///
    /// # Errors
    ///
    /// [`ScanFault`] where it was not scanned to its end, which is counted too. What was found before stays.
    pub(in crate::wire) fn end(&mut self) -> Result<(), ScanFault> {
        let fault = match self.state {
            State::Tag(tag) if tag.is_empty() && self.levels.len() <= 1 => return Ok(()),
            State::Failed(fault) => fault,
            _ => ScanFault::Truncated,
        };
        self.counts.malformed += 1;
        Err(fault)
    }

    /// Whether the set is full, so that [`SubjectScanner::push`] stands still.
    pub(in crate::wire) fn is_full(&self) -> bool {
        self.collected.fresh.len() >= self.collected.capacity
    }

    /// The subjects found since the last time, in order of appearance. One that was handed out is not named again, as
    /// long as the scanner remembers it.
    pub(in crate::wire) fn take(&mut self) -> Vec<Subject> {
        mem::take(&mut self.collected.fresh)
    }

    /// What could not be read so far.
    pub(in crate::wire) const fn counts(&self) -> ScanCounts {
        self.counts
    }

    /// The level that the scanner is in. The outermost one is never left.
    fn level(&self) -> Level {
        let none = Level {
            node: None,
            end: u64::MAX,
            group: 0,
        };
        self.levels.last().copied().unwrap_or(none)
    }

    /// Goes on as far as one state reaches. `rest` is not empty.
    fn advance(&mut self, rest: &mut &[u8]) -> Result<(), ScanFault> {
        match self.state {
            State::Tag(tag) => match self.varint(tag, rest)? {
                Ok(value) => self.field(Tag::read(value).ok_or(ScanFault::Malformed)?),
                Err(tag) => self.go(State::Tag(tag)),
            },
            State::Number(number) => match self.varint(number, rest)? {
                Ok(_) => self.next_field(),
                Err(number) => self.go(State::Number(number)),
            },
            State::Length(length, step) => match self.varint(length, rest)? {
                Ok(length) => self.bytes(length, step),
                Err(length) => self.go(State::Length(length, step)),
            },
            State::Skip(until) => {
                self.slice(until, rest);
                if self.position == until {
                    self.next_field()
                } else {
                    Ok(())
                }
            }
            State::Value(kind, until) => {
                let piece = self.slice(until, rest);
                if self.position < until {
                    self.partial.extend_from_slice(piece);
                    return Ok(());
                }
                self.subject(kind, piece);
                self.next_field()
            }
            State::Failed(_) => {
                *rest = &[];
                Ok(())
            }
        }
    }

    const fn go(&mut self, state: State) -> Result<(), ScanFault> {
        self.state = state;
        Ok(())
    }

    /// Goes on with a varint up to its end, `Ok`, or the end of the chunk, `Err`.
    fn varint(
        &mut self,
        mut varint: Varint,
        rest: &mut &[u8],
    ) -> Result<Result<u64, Varint>, ScanFault> {
        let end = self.level().end;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.position >= end {
                return Err(ScanFault::Malformed);
            }
            *rest = tail;
            self.position += 1;
            if let Some(value) = varint.push(byte).map_err(|()| ScanFault::Malformed)? {
                return Ok(Ok(value));
            }
        }
        Ok(Err(varint))
    }

    /// Takes bytes up to a position, as far as they are there.
    fn slice<'a>(&mut self, until: u64, rest: &mut &'a [u8]) -> &'a [u8] {
        let wanted = usize::try_from(until - self.position).unwrap_or(usize::MAX);
        let (piece, tail) = rest.split_at(wanted.min(rest.len()));
        *rest = tail;
        self.position += piece.len() as u64;
        piece
    }

    /// A tag is there.
    fn field(&mut self, tag: Tag) -> Result<(), ScanFault> {
        let level = self.level();
        let step = level.node.and_then(|node| self.plan.step(node, tag.number));
        match tag.wire {
            Wire::Varint => self.go(State::Number(Varint::default())),
            Wire::Fixed64 => self.skip(8),
            Wire::Fixed32 => self.skip(4),
            Wire::Bytes => self.go(State::Length(Varint::default(), step)),
            Wire::GroupStart => {
                let node = match step {
                    Some(Step::Group(node)) => Some(node),
                    _ => None,
                };
                self.enter(Level {
                    node,
                    end: level.end,
                    group: tag.number,
                })
            }
            Wire::GroupEnd if level.group == tag.number => {
                self.levels.pop();
                self.next_field()
            }
            Wire::GroupEnd => Err(ScanFault::Malformed),
        }
    }

    /// The length of a field is there.
    fn bytes(&mut self, length: u64, step: Option<Step>) -> Result<(), ScanFault> {
        let until = self.position + length.min(MAX_LENGTH + 1);
        if length > MAX_LENGTH || until > self.level().end {
            return Err(ScanFault::Malformed);
        }
        match step {
            Some(Step::Message(node)) => self.enter(Level {
                node: Some(node),
                end: until,
                group: 0,
            }),
            Some(Step::Subject(_)) if length > MAX_SUBJECT as u64 => {
                self.counts.oversized += 1;
                self.go(State::Skip(until))
            }
            Some(Step::Subject(kind)) if length > 0 => self.go(State::Value(kind, until)),
            _ if length > 0 => self.go(State::Skip(until)),
            _ => self.next_field(),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), ScanFault> {
        let until = self.position + length;
        if until > self.level().end {
            return Err(ScanFault::Malformed);
        }
        self.go(State::Skip(until))
    }

    fn enter(&mut self, level: Level) -> Result<(), ScanFault> {
        if self.levels.len() > MAX_DEPTH {
            return Err(ScanFault::TooDeep);
        }
        self.levels.push(level);
        self.next_field()
    }

    /// A field is through: leaves the messages that end here.
    fn next_field(&mut self) -> Result<(), ScanFault> {
        while self.position == self.level().end {
            if self.level().group != 0 {
                return Err(ScanFault::Malformed);
            }
            self.levels.pop();
        }
        self.go(State::Tag(Varint::default()))
    }

    /// The last piece of a value is there.
    fn subject(&mut self, kind: u32, piece: &[u8]) {
        let whole = if self.partial.is_empty() {
            piece
        } else {
            self.partial.extend_from_slice(piece);
            &self.partial
        };
        match str::from_utf8(whole) {
            Ok(value) => self.collected.insert(kind, value),
            Err(_) => self.counts.invalid += 1,
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::descriptor;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn memory_stays_bounded_whatever_comes(
            pattern in prop::collection::vec(prop_oneof![
                any::<u8>(),
                prop::sample::select(vec![0x0a, 0x12, 0x13, 0x14, 0x5a, 0x62, 0x01, 0x02, 0x80]),
            ], 1..40),
            capacity in 1..8_usize,
        ) {
            let plan = SubjectPlan::for_message(&descriptor("wire.sample.Tree"));
            let mut scanner = SubjectScanner::new(&Arc::new(plan), capacity);
            // Half a megabyte of the pattern, with a number in between so that subjects differ.
            for round in 0..u32::try_from(500_000 / (pattern.len() + 4)).unwrap() {
                if round % 1_000 == 0 {
                    scanner.begin();
                }
                for mut piece in [&pattern[..], &round.to_be_bytes()] {
                    scanner.push(&mut piece);
                    while !piece.is_empty() {
                        prop_assert_eq!(scanner.take().len(), capacity);
                        scanner.push(&mut piece);
                    }
                }
            }
            let seen: usize = scanner.collected.seen.iter().map(|(_, values)| values.len()).sum();
            prop_assert!(seen <= 2 * capacity && scanner.collected.fresh.len() <= capacity);
            prop_assert!(scanner.levels.len() <= MAX_DEPTH + 1);
            prop_assert!(scanner.partial.capacity() <= 2 * MAX_SUBJECT);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_too() {
        let mut collected = Collected {
            capacity: 4,
            fresh: Vec::new(),
            seen: Vec::new(),
        };
        for round in 0..100 {
            for value in 0..6 {
                collected.insert(round % 2, &format!("{round}-{value}"));
                if collected.fresh.len() == 4 {
                    collected.fresh.clear();
                }
                let seen: usize = collected.seen.iter().map(|(_, values)| values.len()).sum();
                assert!(seen <= 8, "{seen}");
            }
        }
    }
}
