//! What one transaction will write: decided in memory, the same for both stores, once the head is locked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use banqiao_proto::ledger::v1::Replica;
use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::Signer,
    tile::{Tile, TileBuilder},
};
use bytes::Bytes;

use crate::{
    append::{AppendError, Appended, DocumentKind, Effect, EvidenceKind},
    digest::{Frontier, Hash, leaf_hash},
    keyring::Month,
    prepare::{CallId, Prepared},
    private::Token,
    queue::{Item, Outcome},
    reconcile::ReconcileStep,
    store::StoreError,
    tree::Batch,
};

/// The head row, as it was read under its lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Tree over all entries; its count is the size of the ledger.
    pub(crate) frontier: Frontier,
    /// Somebody has marked the ledger as frozen.
    pub(crate) frozen: bool,
    /// Origin under which the log is kept, once a key was there.
    pub(crate) origin: Option<String>,
    /// The checkpoint of this size.
    pub(crate) note: Option<String>,
    /// Entries that were moved to an archive: those below this index.
    pub(crate) detached: u64,
}

/// An exchange and attempt of a consumer's ledger.
pub(crate) type Claim<'a> = (CallId, &'a str);
/// A call with its peer.
pub(crate) type Call<'a> = (CallId, &'a str);

/// What has to be looked up before a batch can be planned.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) claims: BTreeSet<Claim<'a>>,
    pub(crate) calls: BTreeSet<Call<'a>>,
    pub(crate) months: BTreeMap<Month, [u8; 8]>,
}

/// Which of it is there.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    pub(crate) claims: BTreeSet<Claim<'a>>,
    pub(crate) calls: BTreeSet<Call<'a>>,
    pub(crate) months: BTreeMap<Month, [u8; 8]>,
    /// The lease of this boot is there, and nobody has taken it for dead.
    pub(crate) leased: bool,
    /// Entries that are archived: what the head says, and then what the batch does.
    pub(crate) detached: u64,
}

impl<'a> Wanted<'a> {
    /// What a batch needs to know. Months that were looked up before need not be again.
    pub(crate) fn of(items: &'a [Item], known: &BTreeMap<Month, [u8; 8]>) -> Self {
        let mut wanted = Self::default();
        for Item { prepared, .. } in items {
            for effect in &prepared.effects {
                match (effect, prepared.call) {
                    (Effect::Claim { consumer }, Some(call)) => {
                        wanted.claims.insert((claim_id(call), consumer));
                    }
                    (Effect::Close { peer } | Effect::Open { peer }, Some(call)) => {
                        wanted.calls.insert((call, peer));
                    }
                    _ => {}
                }
            }
            if let Some(sealed) = &prepared.private
                && known.get(&sealed.month) != Some(&sealed.key_id)
            {
                wanted.months.insert(sealed.month, sealed.key_id);
            }
        }
        wanted
    }
}

/// A claim is of the exchange and attempt, whatever the side.
const fn claim_id(call: CallId) -> CallId {
    CallId { side: 0, ..call }
}

/// A row of `entry` and `entry_uid`.
pub(crate) struct EntryRow<'a> {
    pub(crate) index: u64,
    pub(crate) prepared: &'a Prepared,
    pub(crate) leaf: Hash,
    pub(crate) bytes: Bytes,
}

/// Everything that a batch writes. The rows of a table are in the order in which its key grows, where it can be.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// For each item the index of its entry, or why it has none.
    pub(crate) outcomes: Vec<Result<u64, AppendError>>,
    pub(crate) entries: Vec<EntryRow<'a>>,
    pub(crate) tokens: Vec<(Token, u64)>,
    pub(crate) evidence: Vec<(u64, EvidenceKind, &'a [u8])>,
    pub(crate) claims: Vec<(Claim<'a>, u64)>,
    pub(crate) opened: BTreeMap<Call<'a>, u64>,
    pub(crate) closed: BTreeSet<Call<'a>>,
    /// Calls that ended in this batch, with or without a row.
    ended: BTreeSet<Call<'a>>,
    /// New content, or `None` where a document is removed.
    pub(crate) documents: BTreeMap<(DocumentKind, &'a str), Option<&'a [u8]>>,
    pub(crate) revisions: u64,
    pub(crate) reconciled: Vec<&'a ReconcileStep>,
    /// Indices of the entries whose private parts go.
    pub(crate) erased: BTreeSet<u64>,
    /// Months whose keys go, and when that was entered.
    pub(crate) retired: BTreeMap<Month, i64>,
    /// Index below which entries are archived from now on, where that changes.
    pub(crate) detached: Option<u64>,
    pub(crate) months: BTreeMap<Month, [u8; 8]>,
    pub(crate) frontier: Frontier,
    pub(crate) bytes: usize,
    /// The tree behind the batch.
    pub(crate) edge: TileBuilder,
    pub(crate) tiles: Vec<Tile>,
    pub(crate) note: Arc<str>,
}

/// Plans a batch behind a head. `found` is used up: it follows what the items before do.
pub(crate) fn plan<'a>(
    items: &'a [Item],
    head: &Head,
    mut found: Found<'a>,
    replica: &Replica,
) -> Plan<'a> {
    let mut plan = Plan {
        frontier: head.frontier.clone(),
        ..Plan::default()
    };
    let mut replica = replica.clone();
    found.detached = head.detached;
    for Item { prepared, .. } in items {
        if let Err(refused) = plan.admit(prepared, &mut found) {
            plan.outcomes.push(Err(refused));
            continue;
        }
        let index = plan.frontier.count();
        let bytes = Bytes::from(prepared.bytes(&replica));
        let leaf = leaf_hash(&bytes);
        plan.frontier.push(leaf);
        replica.counter += 1;
        plan.add(prepared, index);
        plan.bytes += bytes.len();
        plan.entries.push(EntryRow {
            index,
            prepared,
            leaf,
            bytes,
        });
        plan.outcomes.push(Ok(index));
    }
    plan
}

impl<'a> Plan<'a> {
    /// Lets the tree grow by the entries, and signs what it is then.
    ///
    /// # Errors
    ///
    /// When the tree is too large for a checkpoint, which 2^63 entries are.
    pub(crate) fn grow(&mut self, edge: &TileBuilder, signer: &Signer) -> Result<(), StoreError> {
        self.edge = edge.clone();
        for row in &self.entries {
            self.tiles.extend(self.edge.push(row.leaf));
        }
        let unsigned = |_| StoreError::Corrupt("checkpoint");
        let note = Checkpoint::new(signer.verifier().name(), self.frontier.head())
            .map_err(|_| StoreError::Corrupt("checkpoint"))?
            .sign(signer)
            .map_err(unsigned)?;
        self.note = note.to_string().into();
        Ok(())
    }

    /// What each caller is told, now that the transaction is committed.
    pub(crate) fn answers(&self, before: Frontier) -> Vec<Outcome> {
        let first = before.count();
        let leaves = self.entries.iter().map(|row| row.leaf).collect();
        let batch = Arc::new(Batch::new(before, leaves, Arc::clone(&self.note)));
        let answer = |index: u64| {
            let at = usize::try_from(index - first).ok()?;
            let row = self.entries.get(at)?;
            Some(Appended::new(
                row.leaf,
                row.bytes.clone(),
                index,
                Arc::clone(&batch),
            ))
        };
        self.outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(index) => answer(*index).ok_or(AppendError::Unavailable),
                Err(error) => Err(error.clone()),
            })
            .collect()
    }

    /// Checks the conditions of an entry, all of them before anything is changed.
    fn admit(&self, prepared: &'a Prepared, found: &mut Found<'a>) -> Result<(), AppendError> {
        for effect in &prepared.effects {
            if let Effect::Detach { entries } = effect {
                let follows = entries.start == found.detached && entries.start < entries.end;
                if !follows || entries.end > self.frontier.count() {
                    return Err(AppendError::Overtaken);
                }
                found.detached = entries.end;
            }
        }
        let calls = prepared
            .effects
            .iter()
            .filter_map(|effect| Some((effect, prepared.call?)));
        for (effect, call) in calls.clone() {
            match effect {
                Effect::Claim { consumer }
                    if found.claims.contains(&(claim_id(call), consumer)) =>
                {
                    return Err(AppendError::Replayed);
                }
                Effect::Close { peer } if !found.calls.contains(&(call, peer)) => {
                    return Err(AppendError::AlreadyClosed);
                }
                // A call that was closed in this same batch cannot begin anew either.
                Effect::Open { peer }
                    if found.calls.contains(&(call, peer))
                        || self.ended.contains(&(call, peer)) =>
                {
                    return Err(AppendError::Replayed);
                }
                _ => {}
            }
        }
        for (effect, call) in calls {
            match effect {
                Effect::Claim { consumer } => {
                    found.claims.insert((claim_id(call), consumer));
                }
                Effect::Close { peer } => {
                    found.calls.remove(&(call, peer.as_str()));
                }
                Effect::Open { peer } => {
                    found.calls.insert((call, peer));
                }
                Effect::DeleteDocument { .. }
                | Effect::Detach { .. }
                | Effect::Erase { .. }
                | Effect::Evidence { .. }
                | Effect::PutDocument { .. }
                | Effect::Reconciled(_)
                | Effect::RetireMonth(_) => {}
            }
        }
        Ok(())
    }

    /// Adds the rows of an entry, apart from its own.
    fn add(&mut self, prepared: &'a Prepared, index: u64) {
        for effect in &prepared.effects {
            match (effect, prepared.call) {
                (Effect::Claim { consumer }, Some(call)) => {
                    self.claims.push(((claim_id(call), consumer), index));
                }
                (Effect::Open { peer }, Some(call)) => {
                    self.opened.insert((call, peer), index);
                }
                (Effect::Close { peer }, Some(call)) => {
                    self.ended.insert((call, peer));
                    // A call that begins and ends within one batch leaves no row behind.
                    if self.opened.remove(&(call, peer.as_str())).is_none() {
                        self.closed.insert((call, peer));
                    }
                }
                (Effect::Evidence { kind, bytes }, _) => {
                    self.evidence.push((index, *kind, bytes));
                }
                (Effect::PutDocument { kind, key, bytes }, _) => {
                    self.documents.insert((*kind, key), Some(bytes));
                    self.revisions += 1;
                }
                (Effect::DeleteDocument { kind, key }, _) => {
                    self.documents.insert((*kind, key), None);
                    self.revisions += 1;
                }
                (Effect::Reconciled(step), _) => self.reconciled.push(step),
                (Effect::Detach { entries }, _) => self.detached = Some(entries.end),
                (Effect::Erase { indices }, _) => self.erased.extend(indices),
                (Effect::RetireMonth(month), _) => {
                    self.retired.insert(*month, prepared.time_us);
                }
                (Effect::Claim { .. } | Effect::Close { .. } | Effect::Open { .. }, None) => {}
            }
        }
        if let Some(sealed) = &prepared.private {
            self.tokens
                .extend(sealed.tokens.iter().map(|token| (*token, index)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Patience;

    fn call(number: u8) -> CallId {
        CallId {
            exchange: [number; 16],
            attempt: 1,
            side: 1,
        }
    }

    fn item(number: u8, effects: Vec<Effect>) -> Item {
        Item {
            prepared: Box::new(Prepared::for_test(call(number), effects)),
            patience: Patience::Refuse,
            waiter: None,
        }
    }

    fn peer() -> String {
        "yantai.jiaodong".into()
    }

    fn plan_of(items: &[Item]) -> Plan<'_> {
        plan(
            items,
            &Head::default(),
            Found::default(),
            &Replica::default(),
        )
    }

    #[test]
    fn one_members_fault_leaves_the_others_and_the_indices_dense() {
        let claim = || vec![Effect::Claim { consumer: peer() }];
        let items = [item(1, claim()), item(1, claim()), item(2, claim())];
        let plan = plan_of(&items);
        assert_eq!(plan.outcomes[1], Err(AppendError::Replayed));
        let indices: Vec<u64> = plan.entries.iter().map(|row| row.index).collect();
        assert_eq!(indices, [0, 1]);
        assert_eq!(plan.claims.len(), 2);
        assert_eq!(plan.frontier.count(), 2);
    }

    #[test]
    fn call_that_begins_and_ends_in_one_batch_leaves_no_row() {
        let open = vec![Effect::Open { peer: peer() }];
        let close = vec![Effect::Close { peer: peer() }];
        let items = [
            item(1, open.clone()),
            item(1, close.clone()),
            item(1, close),
            item(1, open),
        ];
        let plan = plan_of(&items);
        assert_eq!(plan.outcomes[2], Err(AppendError::AlreadyClosed));
        assert_eq!(plan.outcomes[3], Err(AppendError::Replayed));
        assert!(plan.opened.is_empty() && plan.closed.is_empty());
    }

    #[test]
    fn conditions_are_checked_before_anything_changes() {
        let both = vec![
            Effect::Claim { consumer: peer() },
            Effect::Close { peer: peer() },
        ];
        let claim = vec![Effect::Claim { consumer: peer() }];
        let items = [item(1, both), item(1, claim)];
        let plan = plan_of(&items);
        assert_eq!(plan.outcomes[0], Err(AppendError::AlreadyClosed));
        assert!(
            plan.outcomes[1].is_ok(),
            "the refused member claimed nothing"
        );
    }

    #[test]
    fn later_document_wins() {
        let put = |text: &str| Effect::PutDocument {
            kind: DocumentKind::Grant,
            key: "g".into(),
            bytes: text.into(),
        };
        let delete = Effect::DeleteDocument {
            kind: DocumentKind::Grant,
            key: "h".into(),
        };
        let items = [item(1, vec![put("one"), delete]), item(2, vec![put("two")])];
        let plan = plan_of(&items);
        assert_eq!(
            plan.documents[&(DocumentKind::Grant, "g")],
            Some(&b"two"[..])
        );
        assert_eq!(plan.documents[&(DocumentKind::Grant, "h")], None);
        assert_eq!(plan.revisions, 3);
    }
}
