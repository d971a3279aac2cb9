//! The log entry by entry: what can be said with the bytes at hand, without any database.

use std::{collections::BTreeMap, sync::Arc};

use banqiao_proto::ledger::v1::{Entry, Kind};
use banqiao_tlog::{
    checkpoint::{Checkpoint, CheckpointError},
    frontier::root_of,
    hash::{Hash, TreeHead, leaf_hash},
    note::{Note, Verifier},
    tile::{Tile, TileId, WIDTH},
    verify::{Divergence, TreeVerifier, compare_tile},
};
use uuid::Uuid;

use super::finding::{CheckpointProblem, Finding, Problem};
use crate::{
    archive::ARCHIVED,
    entry::{Decoded, decode},
    rotation,
};

/// By what checkpoints are judged.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) origin: String,
    /// Keys of this origin, and no others.
    pub(super) keys: Vec<Verifier>,
    /// Keys were given, so that a signature is demanded.
    pub(super) demanded: bool,
}

impl Trust {
    /// Keys of other logs prove nothing about this one.
    pub(super) fn new(origin: String, mut keys: Vec<Verifier>) -> Self {
        let demanded = !keys.is_empty();
        keys.retain(|key| key.name() == origin);
        Self {
            origin,
            keys,
            demanded,
        }
    }
}

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) uninterpreted: u64,
    pub(super) tiles: u64,
    pub(super) checkpoints: u64,
    pub(super) signatures: u64,
    pub(super) committed: u64,
    pub(super) private: u64,
}

/// A verification on its way through the entries.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) tree: TreeVerifier,
    /// By boot, the counter that is due next.
    pub(super) boots: BTreeMap<[u8; 16], u64>,
    pub(super) counts: Counts,
    /// The head that an earlier, interrupted part was made for: the tree must have it too.
    pub(super) earlier: Option<TreeHead>,
    pub(super) trust: Arc<Trust>,
    /// The key that signed the last checkpoint, or that the last KEY entry names.
    pub(super) signing: Option<Verifier>,
    /// The key before it, and until when it may sign too, microseconds UTC.
    pub(super) retiring: Option<(Verifier, i64)>,
    /// Time of the last entry.
    pub(super) time_us: i64,
    /// Runs of entries that were archived, by their first index: the index behind the last, and the digest of their sums.
    pub(super) archived: BTreeMap<u64, (u64, Hash)>,
}

/// An entry that was taken.
pub(super) struct Taken {
    /// `None`: of a newer version.
    pub(super) entry: Option<Box<Entry>>,
    /// Full tiles that it completes.
    pub(super) tiles: Vec<Tile>,
}

impl Walk {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            tree: TreeVerifier::new(),
            boots: BTreeMap::new(),
            counts: Counts::default(),
            earlier: None,
            trust: Arc::new(trust),
            signing: None,
            retiring: None,
            time_us: 0,
            archived: BTreeMap::new(),
        }
    }

    /// Takes the next entry: its form, its stored leaf where there is one, its counter. After an error the tree
    /// stands before it.
    pub(super) fn entry(&mut self, bytes: &[u8], leaf: Option<&[u8]>) -> Result<Taken, Finding> {
        let index = self.tree.size();
        let computed = leaf_hash(bytes);
        if leaf.is_some_and(|leaf| leaf != computed) {
            return Err(Finding::new(index, Problem::Leaf));
        }
        let decoded = decode(bytes).map_err(|error| Finding::new(index, Problem::Entry(error)))?;
        let entry = match decoded {
            Decoded::Entry(entry) => {
                self.count(index, &entry)?;
                self.change_key(index, &entry)?;
                self.epoch(index, &entry)?;
                self.archived.extend(archived(&entry));
                self.time_us = entry.time_us;
                Some(entry)
            }
            Decoded::Newer { .. } => {
                self.counts.uninterpreted += 1;
                None
            }
        };
        let tiles = self.tree.push(computed);
        if let Some(earlier) = self.earlier.filter(|head| head.size == self.tree.size()) {
            if self.tree.head() != earlier {
                let first = self.tree.verified();
                return Err(Finding::new(first, Problem::Rewritten(earlier)));
            }
            self.earlier = None;
        }
        Ok(Taken { entry, tiles })
    }

    /// A KEY entry: both keys have signed it, and the old one is the one that signs until here.
    fn change_key(&mut self, index: u64, entry: &Entry) -> Result<(), Finding> {
        let Some(change) = &entry.key else {
            return Ok(());
        };
        let found = rotation::read(change, &self.trust.origin)
            .map_err(|error| Finding::new(index, Problem::KeyChange(error)))?;
        // Two replicas may say the same.
        if self.signing.as_ref() == Some(&found.new) {
            return Ok(());
        }
        if self.signing.as_ref().is_some_and(|key| *key != found.old) {
            return Err(Finding::new(index, Problem::KeyUnused));
        }
        self.signing = Some(found.new);
        self.retiring = Some((found.old, found.until_us));
        Ok(())
    }

    /// From its second epoch on a ledger begins with what it takes the place of, and nowhere else is there such an entry.
    fn epoch(&self, index: u64, entry: &Entry) -> Result<(), Finding> {
        let number = self.trust.origin.rsplit_once('/').map(|(before, number)| {
            let number = number.parse::<u64>().unwrap_or(0);
            (before, number)
        });
        let due = number.filter(|(_, number)| index == 0 && *number > 1);
        let sound = match (due, &entry.epoch) {
            (None, found) => found.is_none() && entry.kind() != Kind::Epoch,
            (Some(_), None) => false,
            (Some((before, number)), Some(found)) => {
                let predecessor = format!("{before}/{}", number - 1);
                let note = Note::parse(found.checkpoint.as_bytes()).ok();
                let last: Option<Checkpoint> = note.and_then(|note| note.text().parse().ok());
                entry.kind() == Kind::Epoch
                    && found.epoch == number
                    && found.predecessor == predecessor
                    && last.is_some_and(|last| last.origin() == predecessor)
            }
        };
        if sound {
            Ok(())
        } else {
            Err(Finding::new(index, Problem::Epoch))
        }
    }

    /// Whether a checkpoint is signed by the key whose turn it is.
    fn signed(&mut self, note: &Note) -> Result<(), CheckpointProblem> {
        let refused = |error| CheckpointProblem::Refused(CheckpointError::Signature(error));
        let trust = Arc::clone(&self.trust);
        let mut keys = trust.keys.clone();
        // A key that a trusted one has named is trusted as well.
        let heirs = [
            self.signing.as_ref(),
            self.retiring.as_ref().map(|(key, _)| key),
        ];
        let heirs: Vec<Verifier> = heirs.into_iter().flatten().cloned().collect();
        if heirs.iter().any(|key| keys.contains(key)) {
            keys.extend(heirs);
        }
        let signed = note.verify(&keys).map_err(refused)?;
        let Some(signing) = &self.signing else {
            self.signing = signed.first().map(|key| (*key).clone());
            return Ok(());
        };
        let overlapping = self
            .retiring
            .as_ref()
            .filter(|(_, until_us)| self.time_us <= *until_us)
            .map(|(key, _)| key);
        if signed.contains(&signing) || overlapping.is_some_and(|key| signed.contains(&key)) {
            Ok(())
        } else {
            Err(CheckpointProblem::OtherKey)
        }
    }

    /// The counter of a replica's boot: it begins at 0 and has no holes (LEDGER.md §1).
    fn count(&mut self, index: u64, entry: &Entry) -> Result<(), Finding> {
        let Some(replica) = &entry.replica else {
            return Ok(());
        };
        let Ok(boot) = <[u8; 16]>::try_from(replica.boot.as_slice()) else {
            return Ok(());
        };
        let due = self.boots.entry(boot).or_default();
        if replica.counter != *due {
            let problem = Problem::Counter {
                replica: replica.id.clone(),
                boot: Uuid::from_bytes(boot),
                expected: *due,
                found: replica.counter,
            };
            return Err(Finding::new(index, problem));
        }
        *due = due.saturating_add(1);
        Ok(())
    }

    /// Compares a computed tile with the stored one: its root, where that is stored too, and its hashes.
    pub(super) fn tile(
        &mut self,
        computed: &Tile,
        root: Option<&[u8]>,
        stored: Option<&[u8]>,
    ) -> Result<(), Finding> {
        let last = self.tree.size().saturating_sub(1);
        compare_tile(computed, stored).map_err(|error| Finding::departure(error, last))?;
        if root.is_some_and(|root| root != root_of(computed.hashes())) {
            let id = computed.id();
            let first = id.leaves().map_or(last, |leaves| leaves.start);
            return Err(Finding::new(first, Problem::TileRoot(id)));
        }
        self.counts.tiles += 1;
        Ok(())
    }

    /// Checks a checkpoint that is stored for the size which the tree has now.
    pub(super) fn checkpoint(&mut self, text: &str) -> Result<(), Finding> {
        let size = self.tree.size();
        let refused = |error| Finding::checkpoint(size, CheckpointProblem::Refused(error));
        let note =
            Note::parse(text.as_bytes()).map_err(|error| refused(CheckpointError::Note(error)))?;
        let checkpoint: Checkpoint = note.text().parse().map_err(refused)?;
        let trust = Arc::clone(&self.trust);
        if checkpoint.origin() != trust.origin {
            let other = CheckpointError::OtherOrigin(checkpoint.origin().to_owned());
            return Err(refused(other));
        }
        if trust.demanded {
            self.signed(&note)
                .map_err(|problem| Finding::checkpoint(size, problem))?;
            self.counts.signatures += 1;
        }
        if checkpoint.size() != size {
            let problem = CheckpointProblem::Size(checkpoint.size());
            return Err(Finding::checkpoint(size, problem));
        }
        let last = size.saturating_sub(1);
        self.tree
            .compare_head(&checkpoint.head())
            .map_err(|error| Finding::departure(error, last))?;
        self.counts.checkpoints += 1;
        Ok(())
    }

    /// Something is wrong at or behind the right edge: says whether a leaf before it already departs from the stored
    /// tile that was not yet complete, so that the first of all is named.
    pub(super) fn earliest(&self, found: Finding, stored: Option<&[u8]>) -> Finding {
        let size = self.tree.size();
        let begun = size - size % u64::from(WIDTH);
        let edge = self
            .tree
            .partial_tiles()
            .into_iter()
            .find(|tile| tile.id().level() == 0);
        let (Some(edge), Some(stored)) = (edge, stored) else {
            return found;
        };
        let (stored, _) = stored.as_chunks::<32>();
        let differs = edge.hashes().iter().zip(stored).position(|(a, b)| a != b);
        let Some(at) = differs.and_then(|at| u64::try_from(at).ok()) else {
            return found;
        };
        let index = begun + at;
        let full = TileId::new(0, begun / u64::from(WIDTH), WIDTH);
        // A root that departs names all leaves since the last one that agreed: the tile knows which.
        let wide = matches!(
            found.problem,
            Problem::Tree(Divergence::Root { .. }) | Problem::Rewritten(_)
        );
        match full {
            Ok(tile) if wide || index < found.index => {
                let leaves = index..index + 1;
                Finding::departure(Divergence::Hash { tile, leaves }, index)
            }
            _ => found,
        }
    }
}

/// What an entry says of a run that was archived.
fn archived(entry: &Entry) -> Option<(u64, (u64, Hash))> {
    let change = entry.admin.as_ref()?;
    if change.action != ARCHIVED {
        return None;
    }
    let (from, until) = change.target.split_once('-')?;
    let digest = change.after.as_slice().try_into().ok()?;
    Some((from.parse().ok()?, (until.parse().ok()?, digest)))
}
