//! Opening the database, at the start and again, and what has to hold before anything is written to it.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use banqiao_tlog::{checkpoint::Checkpoint, note::Note, tile::TileBuilder};

use super::{Batcher, Session, commit::check_head, report, standing::check_memory};
use crate::{
    digest::{Frontier, Hash, leaf_hash},
    index::Unit,
    keyring::{Keyring, Month},
    ledger::{FreezeReason, LedgerError, LedgerState},
    plan::Head,
    reconcile::Turn,
    step::Step,
    store::{CommitFault, Fault, StoreError, Writer},
    witness::{Contradiction, Credential, KeptCosignature, KeptLinks, WitnessStep},
};

/// Largest subtree at the right edge that is computed anew at a start.
const EDGE_LEAVES: u64 = 1_024;
/// Leaves that are read at once when tiles are made of them: 256 tiles.
const BACKFILL: usize = 65_536;

impl Batcher {
    /// Opens the database for the first time and takes a lease.
    pub(super) async fn first_open(&mut self) -> Result<(), Fault> {
        let mut writer = Writer::open(&self.store, true).await?;
        writer.reached(Step::Opened);
        let known = self.memory(&mut writer).await?;
        let head = writer.begin(self.session.boot).await?;
        let verified = verify(&mut writer, &mut self.session, &head).await;
        writer.rollback().await?;
        verified?;
        writer.reached(Step::Verified);
        let doubted = head.frontier.count() == 0 || writer.unconfirmed().await?;
        self.core.doubted.store(doubted, Ordering::Relaxed);
        self.plant(&mut writer).await?;
        self.session.rotates = self.rotates(&head).map_err(Fault::Storage)?;
        check_memory(&mut writer, &head, &known).await?;
        self.check_month_key(&mut writer).await?;
        self.take_lease(&mut writer).await?;
        writer.reached(Step::LeaseTaken);
        self.writer = Some(writer);
        self.ready();
        Ok(())
    }

    /// Opens the database again, verifies it, finds out what became of a commit without an answer, and shows by
    /// renewing the lease that it can be written.
    pub(super) async fn recover(&mut self) -> Result<(), ()> {
        match self.open_again().await {
            Ok(()) => Ok(()),
            Err(fault) => {
                self.fail(&fault, Vec::new());
                Err(())
            }
        }
    }

    async fn open_again(&mut self) -> Result<(), Fault> {
        self.core.reads.renew();
        let mut writer = Writer::open(&self.store, false).await?;
        writer.reached(Step::Reopened);
        let known = self.memory(&mut writer).await?;
        let head = writer.begin(self.session.boot).await?;
        let verified = verify(&mut writer, &mut self.session, &head).await;
        let resolved = match (&verified, &self.unresolved) {
            (Ok(()), Some(unresolved)) => writer.index_of(&unresolved.uid).await,
            _ => Ok(None),
        };
        writer.rollback().await?;
        verified?;
        let resolved = resolved?;
        writer.reached(Step::Resolved);
        check_memory(&mut writer, &head, &known).await?;
        self.check_month_key(&mut writer).await?;
        if let Some(unresolved) = self.unresolved.take() {
            self.settle(unresolved, resolved.is_some());
        }
        let now_us = self.core.preparer.clock.now_us();
        let ttl = self.settings.lease.ttl;
        let leased = writer.renew_lease(self.session.boot, ttl, now_us).await?;
        writer.reached(Step::Recovered);
        self.writer = Some(writer);
        if leased {
            self.ready();
            // What was refused meanwhile is entered as a gap.
            self.summarise();
        } else {
            self.lose_lease(Vec::new());
        }
        Ok(())
    }

    /// Begins a new boot after the lease of the last one was lost.
    pub(super) async fn begin_boot(&mut self) -> Result<uuid::Uuid, LedgerError> {
        let Some(mut writer) = self.writer.take() else {
            return Err(LedgerError::Unavailable);
        };
        let head = std::mem::take(&mut self.session.head);
        let edge = std::mem::take(&mut self.session.edge);
        let (last, held) = (self.session.last, self.session.held);
        self.session = Session::new(&self.settings.replica, self.core.preparer.clock.now_us());
        self.session.head = head;
        self.session.edge = edge;
        self.session.last = last;
        self.session.held = held;
        if let Err(fault) = self.take_lease(&mut writer).await {
            // Still without a lease: the next renewal says so.
            self.fail(&fault, Vec::new());
            return Err(fault.into());
        }
        self.writer = Some(writer);
        self.ready();
        Ok(self.session.boot)
    }

    /// Names the log, and stores the tiles of entries that were committed before there were any.
    async fn plant(&mut self, writer: &mut Writer) -> Result<(), Fault> {
        let head = writer.begin(self.session.boot).await?;
        let planted = self.planted(writer, &head).await;
        if let Err(fault) = planted {
            writer.rollback().await?;
            return Err(fault);
        }
        writer.reached(Step::Planting);
        // Nothing waits for the answer: a second start finds it done, or does it again.
        writer.commit().await.map_err(CommitFault::into_fault)?;
        writer.reached(Step::Planted);
        Ok(())
    }

    async fn planted(&mut self, writer: &mut Writer, head: &Head) -> Result<(), Fault> {
        let ours = self.settings.signer.verifier().name();
        match &head.origin {
            Some(origin) if origin == ours => {}
            Some(origin) => {
                return Err(Fault::Storage(StoreError::OtherOrigin {
                    expected: ours.to_owned(),
                    found: origin.clone(),
                }));
            }
            None => writer.put_origin(ours).await?,
        }
        let size = head.frontier.count();
        let stored = writer.tiles().await?;
        if stored < size / 256 {
            let mut builder = TileBuilder::new();
            for from in (0..size).step_by(BACKFILL) {
                let until = size.min(from + BACKFILL as u64);
                let mut full = Vec::new();
                for leaf in writer.leaves(from, until).await? {
                    full.extend(builder.push(hash(&leaf).map_err(Fault::Storage)?));
                }
                writer.put_tiles(&full).await?;
            }
        }
        self.session.edge = edge_of(writer, head).await?;
        Ok(())
    }

    /// Shows others the newest checkpoint, at most once a tick.
    pub(super) async fn publish(&mut self) {
        let size = self.session.head.count();
        let Some(writer) = &mut self.writer else {
            return;
        };
        if self.session.held || size == self.session.published {
            return;
        }
        writer.reached(Step::Publishing);
        match writer.publish(self.core.preparer.clock.now_us()).await {
            Ok(()) => {
                writer.reached(Step::Published);
                self.session.published = size;
                self.core.published.send_modify(|times| *times += 1);
                self.write_anchor();
            }
            // The next commit or tick meets the same fault, and deals with it.
            Err(fault) => report(&fault, "a checkpoint was not published"),
        }
    }

    /// The connection, while there is one.
    pub(super) fn writer(&mut self) -> Result<&mut Writer, LedgerError> {
        self.writer.as_mut().ok_or(LedgerError::Unavailable)
    }

    pub(super) async fn step_witness(&mut self, step: &WitnessStep) -> Result<bool, LedgerError> {
        let writer = self.writer()?;
        writer.reached(Step::SteppingWitness);
        let stepped = writer.step_witness(step).await;
        writer.reached(Step::WitnessStepped);
        Ok(stepped?)
    }

    pub(super) async fn keep_links(&mut self, kept: &KeptLinks) -> Result<(), LedgerError> {
        Ok(self.writer()?.keep_links(kept).await?)
    }

    pub(super) async fn keep_credential(&mut self, kept: &Credential) -> Result<(), LedgerError> {
        Ok(self.writer()?.keep_credential(kept).await?)
    }

    pub(super) async fn keep_contradiction(
        &mut self,
        kept: &Contradiction,
    ) -> Result<(), LedgerError> {
        Ok(self.writer()?.keep_contradiction(kept).await?)
    }

    pub(super) async fn claim_turn(&mut self, turn: &Turn) -> Result<Option<i64>, LedgerError> {
        let now_us = self.core.preparer.clock.now_us();
        let boot = self.session.boot;
        Ok(self.writer()?.claim_turn(boot, turn, now_us).await?)
    }

    pub(super) async fn keep_cosignature(
        &mut self,
        kept: &KeptCosignature,
    ) -> Result<(), LedgerError> {
        let writer = self.writer()?;
        writer.reached(Step::KeepingCosignature);
        let kept = writer.keep_cosignature(kept).await;
        writer.reached(Step::CosignatureKept);
        Ok(kept?)
    }

    /// Removes the oldest rows of archived entries.
    pub(super) async fn drop_archived(&mut self, most: u64) -> Result<u64, LedgerError> {
        let writer = self.writer()?;
        writer.reached(Step::DroppingArchived);
        let dropped = writer.drop_archived(most).await;
        writer.reached(Step::ArchivedDropped);
        Ok(dropped?)
    }

    /// Keeps a unit of the search index.
    pub(super) async fn keep_unit(&mut self, unit: &Unit) -> Result<(), LedgerError> {
        Ok(self.writer()?.keep_unit(unit).await?)
    }

    async fn take_lease(&self, writer: &mut Writer) -> Result<(), Fault> {
        let now_us = self.core.preparer.clock.now_us();
        let (boot, ttl) = (self.session.boot, self.settings.lease.ttl);
        writer
            .take_lease(boot, &self.settings.replica, ttl, now_us)
            .await
    }

    pub(super) fn ready(&self) {
        *self.core.boot.write() = self.session.boot;
        self.core.size.send_replace(self.session.head.count());
        self.set_state(if self.session.held {
            LedgerState::Frozen(FreezeReason::Unconfirmed)
        } else {
            LedgerState::Ready
        });
    }

    /// The key of this month is there, when entries of this month are, and it is the one that they were written with.
    async fn check_month_key(&self, writer: &mut Writer) -> Result<(), Fault> {
        let keyring = &self.core.preparer.keyring;
        let month = Month::of(self.core.preparer.clock.now_us());
        for (used, id) in writer.months().await? {
            let held = keyring
                .held(used)
                .map_err(|error| Fault::Storage(StoreError::Keys(error)))?;
            match held {
                Some(keys) if keys.id() != id => {
                    return Err(Fault::Storage(StoreError::KeyDiffers { month: used }));
                }
                // Keys of earlier months may have been destroyed.
                None if used == month => {
                    return Err(Fault::Storage(StoreError::KeyMissing { month }));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Destroys the keys of months that were closed by whatever replica: what an ERASE entry says comes true also
    /// where a process died behind its commit.
    pub(super) async fn destroy_keys(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let months = match writer.retired_months().await {
            Ok(months) => months,
            // The next renewal of the lease tries again.
            Err(fault) => return report(&fault, "the closed months cannot be read"),
        };
        for month in months {
            match self.core.preparer.keyring.destroy(month) {
                Ok(false) => {}
                Ok(true) => tracing::warn!(%month, "the keys of a closed month are destroyed"),
                Err(error) => report(
                    &Fault::Storage(StoreError::Keys(error)),
                    "the keys of a closed month cannot be destroyed",
                ),
            }
        }
    }

    /// Makes the keys of this month and, in its last days, of the next, before an entry waits for them.
    pub(super) fn make_keys(&self) {
        /// Three days.
        const AHEAD_US: i64 = 3 * 86_400 * 1_000_000;
        let keyring: &Keyring = &self.core.preparer.keyring;
        let now_us = self.core.preparer.clock.now_us();
        for month in [Month::of(now_us), Month::of(now_us + AHEAD_US)] {
            if let Err(error) = keyring.month(month) {
                report(
                    &Fault::Storage(StoreError::Keys(error)),
                    "a month's key cannot be made",
                );
            }
        }
    }
}

/// The right edge of the tree at a head, from the database.
pub(super) async fn edge_of(writer: &mut Writer, head: &Head) -> Result<TileBuilder, Fault> {
    let builder = edge(writer, head.frontier.count()).await?;
    if builder.frontier() == head.frontier {
        Ok(builder)
    } else {
        Err(Fault::Storage(StoreError::Corrupt("tiles")))
    }
}

/// The right edge of the tree of some size, from the database.
pub(super) async fn edge(writer: &mut Writer, size: u64) -> Result<TileBuilder, Fault> {
    let mut partial = BTreeMap::new();
    let mut nodes = size;
    for level in 0.. {
        if nodes == 0 {
            break;
        }
        let from = nodes - nodes % 256;
        let rows = match u8::checked_sub(level, 1) {
            None => writer.leaves(from, nodes).await?,
            Some(below) => writer.tile_roots(below, from, nodes).await?,
        };
        let hashes: Result<Vec<Hash>, StoreError> = rows.iter().map(|row| hash(row)).collect();
        partial.insert(level, hashes.map_err(Fault::Storage)?);
        nodes /= 256;
    }
    TileBuilder::resume(size, |tile| partial.get(&tile.level()).map(Vec::as_slice))
        .map_err(|_| Fault::Storage(StoreError::Corrupt("tiles")))
}

/// A hash as it is stored.
pub(super) fn hash(stored: &[u8]) -> Result<Hash, StoreError> {
    stored.try_into().map_err(|_| StoreError::Corrupt("hash"))
}

/// The checkpoint beside a head is of the head's own tree (LEDGER.md §2.3).
fn check_note(head: &Head) -> Result<(), StoreError> {
    let Some(note) = &head.note else {
        return Ok(());
    };
    let checkpoint: Checkpoint = Note::parse(note.as_bytes())
        .ok()
        .and_then(|note| note.text().parse().ok())
        .ok_or(StoreError::Corrupt("checkpoint"))?;
    let of_head = checkpoint.head() == head.frontier.head();
    if of_head && head.origin.as_deref() == Some(checkpoint.origin()) {
        Ok(())
    } else {
        Err(StoreError::Rollback)
    }
}

/// What is stored must not contradict itself, nor what this boot has seen and written.
async fn verify(writer: &mut Writer, session: &mut Session, head: &Head) -> Result<(), Fault> {
    let storage = Fault::Storage;
    let known = session.head.count();
    check_head(session, head).map_err(storage)?;
    check_note(head).map_err(storage)?;
    if let Some((index, leaf)) = session.last
        && known > 0
        && writer.leaf(index).await?.as_deref() != Some(&leaf[..])
    {
        return Err(storage(StoreError::Rollback));
    }
    let size = head.frontier.count();
    let Some(subtree) = size.checked_sub(1).map(|_| 1_u64 << size.trailing_zeros()) else {
        return match writer.edge(0).await?.size {
            0 => Ok(()),
            _ => Err(storage(StoreError::Corrupt("head"))),
        };
    };
    let leaves = if subtree <= EDGE_LEAVES { subtree } else { 1 };
    let edge = writer.edge(size - leaves).await?;
    let mut right = Frontier::new();
    for (leaf, bytes) in &edge.leaves {
        let computed = leaf_hash(bytes);
        if leaf.as_slice() != computed {
            return Err(storage(StoreError::Corrupt("leaf")));
        }
        right.push(computed);
    }
    let complete = edge.size == size && right.count() == leaves;
    let agrees = leaves < subtree || head.frontier.hashes().last() == Some(&right.root());
    if complete && agrees {
        Ok(())
    } else {
        Err(storage(StoreError::Corrupt("head")))
    }
}
