//! Labels whose values are counted before they are believed.

use std::{collections::HashSet, sync::Arc};

use parking_lot::RwLock;

/// What a label says when its own value may not become a series.
pub const OTHER: &str = "other";

/// The values that a label has taken, up to a limit.
pub(super) struct Vocabulary {
    limit: usize,
    known: RwLock<HashSet<Arc<str>>>,
}

impl Vocabulary {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: RwLock::default(),
        }
    }

    /// The word itself while there is room for it, else [`OTHER`].
    pub(super) fn admit(&self, word: &str) -> Arc<str> {
        if let Some(known) = self.known.read().get(word) {
            return Arc::clone(known);
        }
        let mut known = self.known.write();
        if known.len() >= self.limit && !known.contains(word) {
            return Arc::from(OTHER);
        }
        let word = Arc::from(word);
        known.insert(Arc::clone(&word));
        word
    }
}
