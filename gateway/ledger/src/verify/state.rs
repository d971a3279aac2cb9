//! A verification, saved so that it can be gone on with.

use banqiao_tlog::{
    hash::{TreeHead, sha256},
    note::Verifier,
    verify::TreeVerifier,
};

use super::walk::{Counts, Trust, Walk};

/// First bytes of a saved state: format and version.
const MAGIC: &[u8] = b"banqiao-verify-3\n";

/// Why a saved state cannot be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Not a saved state, or one that was cut off or changed.
    #[error("the saved state is damaged, or of another version")]
    Damaged,
    /// It was saved with other keys: nothing can be said of the signatures that it has passed.
    #[error("the saved state was made with other keys")]
    Keys,
    /// It is of another log.
    #[error("the saved state is of another ledger")]
    Origin,
}

/// Written as: [`MAGIC`], digest of origin and keys, the head it is made for, counts, boots, the keys whose turn
/// it is, the time of the last entry, archived runs, tree, SHA-256 of it all.
pub(super) fn save(walk: &Walk, head: TreeHead) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&sha256(walk.trust.origin.as_bytes()));
    bytes.extend_from_slice(&keys(&walk.trust));
    // Where an earlier head is not yet reached it is the older promise, and the one to keep.
    let head = walk.earlier.unwrap_or(head);
    bytes.extend_from_slice(&head.size.to_be_bytes());
    bytes.extend_from_slice(&head.root);
    let Counts {
        uninterpreted,
        tiles,
        checkpoints,
        signatures,
        committed,
        private,
    } = walk.counts;
    for count in [
        uninterpreted,
        tiles,
        checkpoints,
        signatures,
        committed,
        private,
        u64::try_from(walk.boots.len()).unwrap_or(u64::MAX),
    ] {
        bytes.extend_from_slice(&count.to_be_bytes());
    }
    for (boot, due) in &walk.boots {
        bytes.extend_from_slice(boot);
        bytes.extend_from_slice(&due.to_be_bytes());
    }
    let (retiring, until_us) = match &walk.retiring {
        Some((key, until_us)) => (Some(key), *until_us),
        None => (None, 0),
    };
    for key in [walk.signing.as_ref(), retiring] {
        let text = key.map(ToString::to_string).unwrap_or_default();
        bytes.extend_from_slice(&u64::try_from(text.len()).unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&until_us.to_be_bytes());
    bytes.extend_from_slice(&walk.time_us.to_be_bytes());
    let runs = u64::try_from(walk.archived.len()).unwrap_or(u64::MAX);
    bytes.extend_from_slice(&runs.to_be_bytes());
    for (from, (until, digest)) in &walk.archived {
        bytes.extend_from_slice(&from.to_be_bytes());
        bytes.extend_from_slice(&until.to_be_bytes());
        bytes.extend_from_slice(digest);
    }
    bytes.extend_from_slice(&walk.tree.to_bytes());
    let digest = sha256(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// Reads what [`save`] wrote, for the same log and keys as `walk`, which is at its beginning.
pub(super) fn load(walk: &mut Walk, bytes: &[u8]) -> Result<(), StateError> {
    let (content, digest) = bytes.split_last_chunk::<32>().ok_or(StateError::Damaged)?;
    if sha256(content) != *digest {
        return Err(StateError::Damaged);
    }
    let mut rest = Rest(content.strip_prefix(MAGIC).ok_or(StateError::Damaged)?);
    if rest.take::<32>()? != sha256(walk.trust.origin.as_bytes()) {
        return Err(StateError::Origin);
    }
    if rest.take::<32>()? != keys(&walk.trust) {
        return Err(StateError::Keys);
    }
    let head = TreeHead {
        size: rest.number()?,
        root: rest.take()?,
    };
    let counts = Counts {
        uninterpreted: rest.number()?,
        tiles: rest.number()?,
        checkpoints: rest.number()?,
        signatures: rest.number()?,
        committed: rest.number()?,
        private: rest.number()?,
    };
    let mut boots = std::collections::BTreeMap::new();
    for _ in 0..rest.number()? {
        boots.insert(rest.take()?, rest.number()?);
    }
    let signing = rest.key()?;
    let retiring = rest.key()?;
    let until_us = i64::from_be_bytes(rest.take()?);
    let time_us = i64::from_be_bytes(rest.take()?);
    let mut archived = std::collections::BTreeMap::new();
    for _ in 0..rest.number()? {
        archived.insert(rest.number()?, (rest.number()?, rest.take()?));
    }
    let tree = TreeVerifier::from_bytes(rest.0).map_err(|_| StateError::Damaged)?;
    walk.earlier = (head.size > tree.size()).then_some(head);
    if head.size == tree.size() && tree.head() != head {
        return Err(StateError::Damaged);
    }
    walk.counts = counts;
    walk.boots = boots;
    walk.signing = signing;
    walk.retiring = retiring.map(|key| (key, until_us));
    walk.time_us = time_us;
    walk.archived = archived;
    walk.tree = tree;
    Ok(())
}

/// Digest of the keys, in any order.
fn keys(trust: &Trust) -> [u8; 32] {
    let mut keys: Vec<String> = trust.keys.iter().map(ToString::to_string).collect();
    keys.sort();
    keys.dedup();
    sha256(format!("{}\n{}", trust.demanded, keys.join("\n")).as_bytes())
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(StateError::Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A key, or none.
    fn key(&mut self) -> Result<Option<Verifier>, StateError> {
        let length = usize::try_from(self.number()?).map_err(|_| StateError::Damaged)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(StateError::Damaged)?;
        self.0 = rest;
        if text.is_empty() {
            return Ok(None);
        }
        let key = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        key.map(Some).ok_or(StateError::Damaged)
    }

    fn number(&mut self) -> Result<u64, StateError> {
        self.take().map(u64::from_be_bytes)
    }
}
