//! The digest of the messages of one direction.

use std::collections::VecDeque;

use banqiao_proto::ledger::v1 as proto;

use super::{Frontier, Hash, Leaf, frontier_to_proto};

/// Messages between two kept frontiers.
const STEP: u64 = 1_024;
/// Each level keeps every eighth frontier of the level below it.
const FACTOR: u64 = 8;
/// Levels: multiples of 1,024, 8,192, 65,536 and 524,288 messages.
const LEVELS: u32 = 4;
/// Frontiers kept of each level. 32 in all, of at most about 22 hashes: both directions together stay below
/// 48 KiB of an entry's 64.
const KEPT: usize = 8;

/// The digest of one direction of a call, computed while its messages pass: a Merkle tree whose leaves are
/// `SHA-256(0x00 ‖ compressed flag ‖ message)`.
///
/// A message may come in any number of pieces. Memory is a frontier of at most 64 hashes, and for long streams
/// at most 32 earlier ones: those at the last eight multiples of 1,024 messages, of 8,192, of 65,536 and of
/// 524,288. The two ends of a stream that was cut off counted different numbers of messages, but they
/// keep frontiers at the same multiples, so that a common prefix can be shown.
pub struct MessageDigest {
    tree: Frontier,
    bytes: u64,
    /// The message that has begun and not ended, and its bytes so far.
    open: Option<(Leaf, u64)>,
    kept: [VecDeque<Frontier>; LEVELS as usize],
}

impl MessageDigest {
    /// The digest of no messages.
    pub fn new() -> Self {
        Self {
            tree: Frontier::new(),
            bytes: 0,
            open: None,
            kept: [const { VecDeque::new() }; LEVELS as usize],
        }
    }

    /// A message begins; `flag` is the first byte of its gRPC prefix (0 plain, 1 compressed).
    ///
    /// A message that was begun and not ended is forgotten: it did not cross.
    pub fn begin(&mut self, flag: u8) {
        let mut leaf = Leaf::begin();
        leaf.update(&[flag]);
        self.open = Some((leaf, 0));
    }

    /// A piece of the message, without its gRPC prefix. Ignored when no message was begun.
    pub fn update(&mut self, piece: &[u8]) {
        if let Some((leaf, bytes)) = &mut self.open {
            leaf.update(piece);
            *bytes += piece.len() as u64;
        }
    }

    /// The message ends and counts. Ignored when no message was begun.
    pub fn end(&mut self) {
        let Some((leaf, bytes)) = self.open.take() else {
            return;
        };
        self.tree.push(leaf.finish());
        self.bytes += bytes;
        self.keep();
    }

    /// A whole message at once.
    pub fn message(&mut self, flag: u8, message: &[u8]) {
        self.begin(flag);
        self.update(message);
        self.end();
    }

    /// Messages that have ended.
    pub const fn count(&self) -> u64 {
        self.tree.count()
    }

    /// Bytes of the messages that have ended, without their prefixes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Root over the messages that have ended.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Frontier over the messages that have ended.
    pub const fn frontier(&self) -> &Frontier {
        &self.tree
    }

    /// Frontiers at earlier multiples of 1,024 messages that are still held, by growing count.
    pub fn kept(&self) -> Vec<&Frontier> {
        let mut all: Vec<&Frontier> = self.kept.iter().flatten().collect();
        all.sort_unstable_by_key(|frontier| frontier.count());
        all.dedup_by_key(|frontier| frontier.count());
        all
    }

    /// The direction as entries hold it. `complete` says that it ended where its sender ended it; otherwise the
    /// kept frontiers stand in it too.
    pub fn direction(&self, encoding: proto::Encoding, complete: bool) -> proto::Direction {
        let frontiers = if complete {
            Vec::new()
        } else {
            self.kept().into_iter().map(frontier_to_proto).collect()
        };
        proto::Direction {
            root: self.root().to_vec(),
            count: self.count(),
            bytes: self.bytes,
            encoding: encoding.into(),
            complete,
            frontiers,
        }
    }

    fn keep(&mut self) {
        let count = self.tree.count();
        if !count.is_multiple_of(STEP) {
            return;
        }
        let mut step = STEP;
        for level in &mut self.kept {
            if !count.is_multiple_of(step) {
                break;
            }
            if level.len() == KEPT {
                level.pop_front();
            }
            level.push_back(self.tree.clone());
            step *= FACTOR;
        }
    }
}

impl Default for MessageDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MessageDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageDigest")
            .field("tree", &self.tree)
            .field("bytes", &self.bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::digest::{EMPTY_ROOT, leaf_hash};

    #[test]
    fn no_message_has_the_empty_root() {
        assert_eq!(MessageDigest::new().root(), EMPTY_ROOT);
    }

    #[test]
    fn leaf_holds_the_flag_and_the_message() {
        let mut digest = MessageDigest::new();
        digest.message(1, b"abc");
        assert_eq!(digest.root(), leaf_hash(b"\x01abc"));
        assert_eq!((digest.count(), digest.bytes()), (1, 3));
    }

    #[test]
    fn unfinished_message_does_not_count() {
        let mut digest = MessageDigest::new();
        digest.message(0, b"one");
        let root = digest.root();
        digest.begin(0);
        digest.update(b"tw");
        assert_eq!(
            (digest.count(), digest.bytes(), digest.root()),
            (1, 3, root)
        );
        digest.message(0, b"two");
        let mut whole = MessageDigest::new();
        whole.message(0, b"one");
        whole.message(0, b"two");
        assert_eq!(digest.root(), whole.root());
    }

    #[test]
    fn both_ends_of_a_cut_stream_keep_a_common_frontier() {
        let (mut sent, mut received) = (MessageDigest::new(), MessageDigest::new());
        for i in 0..40_000_u32 {
            sent.message(0, &i.to_be_bytes());
            if i < 21_000 {
                received.message(0, &i.to_be_bytes());
            }
        }
        let common: Vec<u64> = sent
            .kept()
            .into_iter()
            .filter(|frontier| received.kept().contains(frontier))
            .map(Frontier::count)
            .collect();
        assert_eq!(common, [8_192, 16_384]);
    }

    #[test]
    fn incomplete_directions_of_long_streams_fit_an_entry() {
        let mut digest = MessageDigest::new();
        for _ in 0..1_050_000_u32 {
            digest.message(0, b"");
        }
        let direction = digest.direction(proto::Encoding::Unspecified, false);
        assert_eq!(direction.frontiers.len(), 8 + 7 + 7 + 1);
        assert!(
            direction.encoded_len() < 24 * 1_024,
            "{}",
            direction.encoded_len()
        );
        assert!(
            digest
                .direction(proto::Encoding::Unspecified, true)
                .frontiers
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            messages in prop::collection::vec((0_u8..2, prop::collection::vec(any::<u8>(), 0..64)), 0..40),
            size in 1_usize..9,
        ) {
            let (mut whole, mut pieces) = (MessageDigest::new(), MessageDigest::new());
            for (flag, message) in &messages {
                whole.message(*flag, message);
                pieces.begin(*flag);
                message.chunks(size).for_each(|piece| pieces.update(piece));
                pieces.end();
            }
            prop_assert_eq!(whole.root(), pieces.root());
            prop_assert_eq!(whole.bytes(), pieces.bytes());
        }
    }
}
