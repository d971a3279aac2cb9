//! A whole ledger verified again, straight from its database or from a tile tree.
//!
//! Everything that the ledger says of itself is computed anew from the bytes of its entries and compared, in the order
//! of the indices; the first that fails is named. Nothing is written, no lease is taken, and a gateway may run and write
//! meanwhile: what is verified is the log as it was when the verification began.
//!
//! ```text
//! entries ─▶ canonical form · leaf · columns · uid row · replica counters
//!    └─ leaves ─▶ full tiles of every level ─▶ root = published checkpoints = head
//! ```

use std::{
    cmp::min,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use banqiao_tlog::{frontier::Frontier, hash::TreeHead, note::Verifier};
use uuid::Uuid;

mod finding;
mod folder;
mod rows;
mod state;
mod walk;

pub use finding::{CheckpointProblem, Finding, Problem};
pub use folder::{Fetched, FolderError, FolderVerification, Wanted};
pub use state::StateError;

use crate::{
    entry::{Decoded, decode},
    store::{Extent, Reads, StoreError, StoreUrl},
};
use rows::{Rows, Seen};
use walk::{Trust, Walk};

/// Uid rows that are counted at once.
const UID_PAGE: u32 = 65_536;
/// Uid rows that are looked at one by one at once, where their count is wrong.
const UID_ROWS: u32 = 1_024;

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries that were verified.
    pub done: u64,
    /// Entries in all.
    pub size: u64,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to verify.
    More(Progress),
    /// All of it is verified, and sound.
    Sound,
    /// Something is wrong. There is no going on behind it.
    Unsound(Box<Finding>),
}

/// What was verified so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The log's origin.
    pub origin: String,
    /// Entries and their root.
    pub head: TreeHead,
    /// Entries among them of a newer version: verified as leaves and not looked into.
    pub uninterpreted: u64,
    /// Full tiles, and of a tile tree the partial ones.
    pub tiles: u64,
    /// Checkpoints whose root agrees.
    pub checkpoints: u64,
    /// Checkpoints among them whose signature was verified.
    pub signatures: u64,
    /// Entries that commit to a private part.
    pub committed: u64,
    /// Private parts that are there; the others were erased. `None` for a tile tree, which holds none.
    pub private: Option<u64>,
    /// Boots of replicas that wrote the entries.
    pub boots: u64,
}

impl Summary {
    fn of(walk: &Walk) -> Self {
        let counts = walk.counts;
        Self {
            origin: walk.trust.origin.clone(),
            head: walk.tree.head(),
            uninterpreted: counts.uninterpreted,
            tiles: counts.tiles,
            checkpoints: counts.checkpoints,
            signatures: counts.signatures,
            committed: counts.committed,
            private: Some(counts.private),
            boots: u64::try_from(walk.boots.len()).unwrap_or(u64::MAX),
        }
    }
}

/// What is left to do.
enum Stage {
    /// The entries, with all that hangs on them.
    Entries,
    /// The files of the archive that are not part of the tree: the first index that they are still to be looked at for.
    Archive(u64),
    /// Whether there are more uid rows than entries: the first uid of the next page, and the rows below the size so far.
    Uids {
        first: u128,
        rows: u64,
        highest: i64,
    },
    /// Nothing.
    Over(Step),
}

/// A verification of the ledger in a database.
///
/// Memory is bounded by the entries of one range, the partial tiles, and 24 bytes for each boot of a replica.
pub struct Verification {
    reads: Arc<Reads>,
    extent: Extent,
    walk: Walk,
    ahead: Option<Rows>,
    stage: Stage,
}

impl Verification {
    /// Begins with the ledger as its head states it now. The connections only read.
    ///
    /// `keys` are those that checkpoints may be signed by; with none, no signature is demanded or verified. Keys of
    /// another origin than the ledger's are not believed. With `origin` the ledger must be that one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Url`]; [`StoreError::ArchiveUnnamed`] where entries have left the database, and where they are is not
    /// said: see [`Self::open_archived`]; [`StoreError::Database`] and others when the database cannot be read or holds no ledger. What is
    /// wrong with the ledger itself is no error here: the first [`Self::step`] tells it.
    pub async fn open(
        url: &str,
        keys: Vec<Verifier>,
        origin: Option<String>,
    ) -> Result<Self, StoreError> {
        Self::open_archived(url, keys, origin, None).await
    }

    /// As [`Self::open`], with the folder of the entries that have left the database.
    ///
    /// # Errors
    ///
    /// As of [`Self::open`].
    pub async fn open_archived(
        url: &str,
        keys: Vec<Verifier>,
        origin: Option<String>,
        archive: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let url = StoreUrl::parse(url)?;
        if let StoreUrl::Sqlite(path) = &url {
            readable(path)?;
        }
        let reads = Arc::new(Reads::new(&url, archive));
        let extent = reads.extent().await?;
        if extent.detached > 0 {
            // Said at once, and not in the midst of it.
            reads.archive(extent.detached)?;
        }
        let found = extent.origin.clone();
        let problem = match (&origin, &found) {
            (Some(expected), Some(found)) if found != expected => Some(Problem::Origin {
                expected: expected.clone(),
                found: found.clone(),
            }),
            // A gateway names the log before it writes to it.
            (Some(_), None) => Some(Problem::Unnamed),
            (None, None) if extent.size > 0 => Some(Problem::Unnamed),
            _ => None,
        };
        let stage = problem.map_or(Stage::Entries, |problem| {
            Stage::Over(Step::Unsound(Box::new(Finding::new(0, problem))))
        });
        let trust = Trust::new(found.or(origin).unwrap_or_default(), keys);
        Ok(Self {
            reads,
            extent,
            walk: Walk::new(trust),
            ahead: None,
            stage,
        })
    }

    /// Goes on from [`Self::state`] of an earlier verification of the same log with the same keys. What that one passed is
    /// believed; the head that it was made for must still be a head of the log.
    ///
    /// # Errors
    ///
    /// See [`StateError`]; the verification is unchanged then.
    pub fn resume(&mut self, state: &[u8]) -> Result<(), StateError> {
        let mut walk = self.walk.clone();
        state::load(&mut walk, state)?;
        let before = walk
            .earlier
            .map_or_else(|| walk.tree.size(), |head| head.size);
        let now = self.extent.size;
        if before > now {
            let problem = Problem::RolledBack { before, now };
            self.stage = Stage::Over(Step::Unsound(Box::new(Finding::new(now, problem))));
        } else {
            self.walk = walk;
        }
        self.ahead = None;
        Ok(())
    }

    /// The state after the last step, for [`Self::resume`]: at most 64 KiB and 24 bytes for each boot.
    pub fn state(&self) -> Vec<u8> {
        state::save(&self.walk, self.target())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            done: self.walk.tree.size(),
            size: self.extent.size,
        }
    }

    /// What was verified so far.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.walk)
    }

    /// Verifies the next few thousand entries, or what comes behind the last. The next range is read meanwhile.
    ///
    /// After [`Step::Sound`] or [`Step::Unsound`] it gives the same again. After an error it can be called again. It is
    /// not to be cancelled: what a cancelled step had in hand is lost with it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        let step = match &self.stage {
            Stage::Over(step) => return Ok(step.clone()),
            Stage::Entries if self.walk.tree.size() < self.extent.size => self.entries().await?,
            Stage::Entries => self.edges().await?,
            Stage::Archive(from) => self.archived(*from).await?,
            Stage::Uids {
                first,
                rows,
                highest,
            } => {
                let (first, rows, highest) = (*first, *rows, *highest);
                self.uids(first, rows, highest).await?
            }
        };
        Ok(match step {
            None => Step::More(self.progress()),
            Some(step) => {
                self.stage = Stage::Over(step.clone());
                step
            }
        })
    }

    /// Size and root that the head states. A malformed frontier is found before this is relied on.
    fn target(&self) -> TreeHead {
        Frontier::from_bytes(self.extent.size, &self.extent.frontier)
            .map_or(TreeHead::EMPTY, |frontier| frontier.head())
    }

    async fn entries(&mut self) -> Result<Option<Step>, StoreError> {
        let (from, size) = (self.walk.tree.size(), self.extent.size);
        let rows = match self.ahead.take().filter(|rows| rows.from == from) {
            Some(rows) => rows,
            None => match Rows::read(&self.reads, from, size).await {
                // What lies before the first entry that is not as it was is verified first.
                Err(StoreError::ArchiveDiffers { index, .. }) if index > from => {
                    Rows::read(&self.reads, from, index).await?
                }
                Err(StoreError::ArchiveDiffers { path, problem, .. }) => {
                    let problem = Problem::Archive { path, problem };
                    return Ok(Some(Step::Unsound(Box::new(Finding::new(from, problem)))));
                }
                read => read?,
            },
        };
        let until = rows.until();
        let mut walk = self.walk.clone();
        let checking = tokio::task::spawn_blocking(move || {
            let seen = rows.check(&mut walk);
            (walk, seen)
        });
        let reads = Arc::clone(&self.reads);
        let ahead = async {
            if until < size {
                Some(Rows::read(&reads, until, size).await)
            } else {
                None
            }
        };
        let (checked, ahead) = tokio::join!(checking, ahead);
        let (walk, seen) = checked.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down.
            Err(_) => StoreError::Timeout,
        })?;
        let misplaced = self.misplaced_uid(&seen).await?;
        self.walk = walk;
        // An error is met again, and told, when the range is due.
        self.ahead = ahead.and_then(Result::ok);
        Ok(misplaced
            .or(seen.finding)
            .map(|found| Step::Unsound(Box::new(found))))
    }

    /// The first entry of a range, before what else was found, whose uid row is not as it must be.
    async fn misplaced_uid(&self, seen: &Seen) -> Result<Option<Finding>, StoreError> {
        let before = seen.finding.as_ref().map_or(u64::MAX, |found| found.index);
        let wanted = usize::try_from(before.saturating_sub(seen.from)).unwrap_or(usize::MAX);
        let uids = seen.uids.get(..min(wanted, seen.uids.len()));
        let uids = uids.unwrap_or_default();
        let known: Option<Vec<[u8; 16]>> = uids.iter().copied().collect();
        if let Some(known) = &known {
            let in_place = self.reads.uids_in_place(known, seen.from).await?;
            if usize::try_from(in_place) == Ok(known.len()) {
                return Ok(None);
            }
        }
        for (index, uid) in (seen.from..).zip(uids) {
            let Some(uid) = uid else { continue };
            let found = self.reads.uid_index(uid).await?;
            if found.and_then(|found| u64::try_from(found).ok()) != Some(index) {
                return Ok(Some(Finding::new(index, Problem::Uid { found })));
            }
        }
        Ok(None)
    }

    /// Behind the last entry: the head, and what is stored beyond it.
    async fn edges(&mut self) -> Result<Option<Step>, StoreError> {
        let finding = match self.head() {
            Err(found) => Some(found),
            Ok(()) => self.beyond().await?,
        };
        if let Some(found) = finding {
            return Ok(Some(Step::Unsound(Box::new(found))));
        }
        self.stage = Stage::Archive(0);
        Ok(None)
    }

    /// The next run of archived entries: its files, and that the ledger has their digest.
    async fn archived(&mut self, from: u64) -> Result<Option<Step>, StoreError> {
        let detached = self.extent.detached;
        if from >= detached {
            self.stage = Stage::Uids {
                first: 0,
                rows: 0,
                highest: -1,
            };
            return Ok(None);
        }
        let unsound = |problem| Ok(Some(Step::Unsound(Box::new(Finding::new(from, problem)))));
        let Some((until, digest)) = self.walk.archived.get(&from).copied() else {
            return unsound(Problem::ArchiveUnentered { until: detached });
        };
        let run = format!("{from}-{until}");
        match self.reads.archived_sums(&run, from, detached).await {
            Ok(found) if found == digest && until > from => {
                self.stage = Stage::Archive(until);
                Ok(None)
            }
            Ok(_) => unsound(Problem::ArchiveSums { run }),
            Err(StoreError::ArchiveDiffers { path, problem, .. }) => {
                unsound(Problem::Archive { path, problem })
            }
            Err(error) => Err(error),
        }
    }

    /// The head row against the tree that the entries make.
    fn head(&mut self) -> Result<(), Finding> {
        let size = self.extent.size;
        let last = size.saturating_sub(1);
        if self.walk.tree.frontier().to_bytes() != self.extent.frontier {
            return Err(Finding::new(last, Problem::Frontier { size }));
        }
        match &self.extent.note {
            Some(note) => {
                // That of the last commit, which may have been published and counted already.
                let counted = (self.walk.tree.verified() == size).then_some(self.walk.counts);
                self.walk.checkpoint(note)?;
                self.walk.counts = counted.unwrap_or(self.walk.counts);
                Ok(())
            }
            None if self.extent.checkpoints.is_none() => Ok(()),
            None => Err(Finding::checkpoint(size, CheckpointProblem::Absent)),
        }
    }

    /// Nothing is stored beyond what the head counts, at one and the same moment.
    async fn beyond(&self) -> Result<Option<Finding>, StoreError> {
        let before = self.extent.size;
        let now = self.reads.extent().await?;
        let size = now.size;
        if size < before {
            let problem = Problem::RolledBack { before, now: size };
            return Ok(Some(Finding::new(size, problem)));
        }
        let end = stored(size)?;
        if let Some((first, last)) = now.entries
            && (first < 0 || last >= end)
        {
            let at = if first < 0 { first } else { last };
            let problem = Problem::EntrySuperfluous { at, size };
            let index = u64::try_from(first).map_or(0, |_| size);
            return Ok(Some(Finding::new(index, problem)));
        }
        if let Some((_, largest)) = now.checkpoints
            && largest > end
        {
            let problem = Problem::Checkpoint {
                size: largest.unsigned_abs(),
                problem: CheckpointProblem::Beyond { size },
            };
            return Ok(Some(Finding::new(size, problem)));
        }
        for tiles in self.reads.tile_extents().await? {
            let level = u32::try_from(tiles.level).ok();
            let full = level
                .and_then(|level| tiles.size.checked_shr(8 * level.checked_add(1)?))
                .unwrap_or(0);
            if tiles.first < 0 || tiles.last >= stored(full)? {
                let n = if tiles.first < 0 {
                    tiles.first
                } else {
                    tiles.last
                };
                let problem = Problem::TileSuperfluous {
                    level: tiles.level,
                    n,
                    size: tiles.size,
                };
                return Ok(Some(Finding::new(tiles.size, problem)));
            }
        }
        Ok(None)
    }

    /// Counts a page of the uid rows. Each entry has its row, so more rows than entries are too many.
    async fn uids(
        &mut self,
        first: u128,
        rows: u64,
        highest: i64,
    ) -> Result<Option<Step>, StoreError> {
        let size = self.extent.size;
        let page = self
            .reads
            .uid_page(&first.to_be_bytes(), size, UID_PAGE)
            .await?;
        let rows = rows.saturating_add(page.below);
        let highest = page.highest.map_or(highest, |found| found.max(highest));
        if let Some(first) = next(page.last) {
            self.stage = Stage::Uids {
                first,
                rows,
                highest,
            };
            return Ok(None);
        }
        // Read behind the rows: none of them can be newer.
        let now = self.reads.size().await?;
        if rows == size && highest < stored(now)? {
            return Ok(Some(Step::Sound));
        }
        let found = self.stray_uid(now).await?;
        // Fewer rows than entries: they are those of a newer version, of which nothing is known here.
        Ok(Some(found.map_or(Step::Sound, |found| {
            Step::Unsound(Box::new(found))
        })))
    }

    /// Looks at every uid row for the lowest index that is named wrongly.
    async fn stray_uid(&self, now: u64) -> Result<Option<Finding>, StoreError> {
        let mut lowest: Option<(i64, Uuid)> = None;
        let mut first = Some(0_u128);
        while let Some(from) = first {
            let rows = self.reads.uid_rows(&from.to_be_bytes(), UID_ROWS).await?;
            let named: Vec<u64> = rows
                .iter()
                .filter_map(|(_, index)| u64::try_from(*index).ok())
                .filter(|index| *index < self.extent.size)
                .collect();
            let mut owners = BTreeMap::new();
            for stored in self.reads.at(&named).await? {
                owners.insert(stored.index, uid_of(&stored.bytes));
            }
            first = None;
            for (uid, index) in rows {
                let uid: [u8; 16] = uid.try_into().map_err(|_| StoreError::Corrupt("uid"))?;
                first = next(Some(uid));
                let owned = match u64::try_from(index) {
                    Ok(index) if index < self.extent.size => owners
                        .get(&index)
                        .is_some_and(|owner| owner.is_none_or(|owner| owner == uid)),
                    // The ledger has grown since.
                    Ok(index) => index < now,
                    Err(_) => false,
                };
                if !owned && lowest.is_none_or(|(lowest, _)| index < lowest) {
                    lowest = Some((index, Uuid::from_bytes(uid)));
                }
            }
        }
        Ok(lowest.map(|(index, uid)| {
            let at = u64::try_from(index).unwrap_or(0);
            Finding::new(at, Problem::UidSuperfluous { uid })
        }))
    }
}

/// Never shows where the database is: the URL may hold a password.
impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verification")
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

/// The uid behind one, or `None` behind the last of all.
fn next(uid: Option<[u8; 16]>) -> Option<u128> {
    u128::from_be_bytes(uid?).checked_add(1)
}

/// The uid in an entry, or `None` in one of a newer version.
fn uid_of(bytes: &[u8]) -> Option<[u8; 16]> {
    match decode(bytes) {
        Ok(Decoded::Entry(entry)) => entry.uid.try_into().ok(),
        _ => None,
    }
}

/// A number as databases have it.
fn stored(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt("number"))
}

/// SQLite itself says less about a file that is not there.
pub(crate) fn readable(path: &Path) -> Result<(), StoreError> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(StoreError::File {
            path: path.to_owned(),
            source,
        }),
    }
}
