//! A tile tree in a folder or behind a web server, as C2SP tlog-tiles lays it out: `checkpoint`, `tile/<L>/<N>`, `tile/entries/<N>`.

use std::{
    cmp::min,
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use banqiao_tlog::{
    checkpoint::{Checkpoint, CheckpointError},
    hash::TreeHead,
    note::{MAX_NOTE_BYTES, Note, Verifier},
    tile::{
        BundleId, MAX_BUNDLE_BYTES, TileId, WIDTH, decode_bundle, partial_tiles, tiles_completed,
    },
};

use super::{
    Progress, StateError, Step, Summary,
    finding::{CheckpointProblem, Finding, Problem},
    state,
    walk::{Trust, Walk},
};

/// Bundles of a step: as many entries as a step over a database has.
const BUNDLES: u64 = FolderVerification::STEP / 256;
/// Bytes of a full tile.
const TILE_BYTES: usize = 8_192;

/// Why a tile tree cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file cannot be read.
    #[error("{} cannot be read", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A file that the next step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its path below the tree.
    pub path: String,
    /// Bytes that it may have. Of a longer one more than that is enough: it is wrong.
    pub limit: usize,
    /// The full file that may stand for it where it is partial and not there.
    pub full: Option<String>,
}

/// Files that were fetched, by their paths; those that are not there are not in it.
pub type Fetched = BTreeMap<String, Vec<u8>>;

/// Where the files are.
#[derive(Debug)]
enum Files {
    Folder(PathBuf),
    /// Those of the next step.
    Fetched(Fetched),
}

/// A verification of an exported tile tree: every entry, every hash tile and the checkpoint, to its size.
///
/// Tiles and bundles beyond the checkpoint's size, and partial ones of earlier sizes, are no fault: logs leave them
/// behind (C2SP tlog-tiles, Partial Tiles).
#[derive(Debug)]
pub struct FolderVerification {
    files: Files,
    checkpoint: String,
    /// Size and root that it states.
    head: TreeHead,
    size: u64,
    walk: Walk,
    over: Option<Step>,
}

impl FolderVerification {
    /// Entries of a step.
    pub const STEP: u64 = 4_096;

    /// Begins with the folder's `checkpoint`, which is verified here already. `keys` as for
    /// [`Verification::open`](super::Verification::open). With `origin` the log must be that one; else it is the one that
    /// the checkpoint names.
    ///
    /// # Errors
    ///
    /// When the checkpoint cannot be read. What is wrong with it is no error here: the first [`Self::step`] tells it.
    pub fn open(
        folder: &Path,
        keys: Vec<Verifier>,
        origin: Option<&str>,
    ) -> Result<Self, FolderError> {
        let path = folder.join("checkpoint");
        let bytes = read(&path, MAX_NOTE_BYTES)?.ok_or_else(|| FolderError::File {
            path: path.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok(Self::begin(
            Files::Folder(folder.to_owned()),
            &bytes,
            keys,
            origin,
        ))
    }

    /// Begins with a checkpoint whose files somebody fetches: before each step those that it wants are to be given.
    /// Otherwise like [`Self::open`].
    pub fn fetched(checkpoint: &[u8], keys: Vec<Verifier>, origin: Option<&str>) -> Self {
        Self::begin(Files::Fetched(Fetched::new()), checkpoint, keys, origin)
    }

    fn begin(files: Files, bytes: &[u8], keys: Vec<Verifier>, origin: Option<&str>) -> Self {
        let mut begun = Self {
            files,
            checkpoint: String::from_utf8_lossy(bytes).into_owned(),
            head: TreeHead::EMPTY,
            size: 0,
            walk: Walk::new(Trust::new(String::new(), keys.clone())),
            over: None,
        };
        match believed(bytes, keys, origin) {
            Ok((head, trust)) => {
                begun.head = head;
                begun.size = head.size;
                begun.walk = Walk::new(trust);
            }
            Err(error) => {
                let finding = Finding::checkpoint(0, CheckpointProblem::Refused(error));
                begun.over = Some(Step::Unsound(Box::new(finding)));
            }
        }
        begun
    }

    /// The files of the step that begins behind so many entries, which are as many as a step before it has left.
    pub fn wanted(&self, done: u64) -> Vec<Wanted> {
        let size = self.size;
        let until = min(size, done.saturating_add(Self::STEP));
        let mut wanted = Vec::new();
        let first = done / u64::from(WIDTH);
        for index in first..until.div_ceil(u64::from(WIDTH)) {
            if let Some(id) = BundleId::widest(index, size) {
                let full = BundleId::new(index, WIDTH).ok();
                wanted.push(Wanted {
                    path: id.to_string(),
                    limit: MAX_BUNDLE_BYTES,
                    full: full.filter(|_| !id.is_full()).map(|full| full.to_string()),
                });
            }
            wanted.extend(TileId::widest(0, index, size).map(wanted_tile));
        }
        let above = tiles_completed(done, until).filter(|id| id.level() > 0);
        wanted.extend(above.map(wanted_tile));
        if done == size {
            wanted.extend(partial_tiles(size).map(wanted_tile));
        }
        wanted
    }

    /// Gives the files that the next step wants; those of earlier steps are forgotten.
    pub fn give(&mut self, files: Fetched) {
        self.files = Files::Fetched(files);
    }

    /// Goes on from [`Self::state`] of an earlier verification of the same log with the same keys, also where the log has grown
    /// since. What that one passed is believed; the head that it was made for must still be a head of the log.
    ///
    /// # Errors
    ///
    /// See [`StateError`]; the verification is unchanged then.
    pub fn resume(&mut self, state: &[u8]) -> Result<(), StateError> {
        // What is wrong with the checkpoint is told by the first step.
        if self.over.is_some() {
            return Ok(());
        }
        let mut walk = self.walk.clone();
        state::load(&mut walk, state)?;
        let before = walk
            .earlier
            .map_or_else(|| walk.tree.size(), |head| head.size);
        if before > self.size {
            let now = self.size;
            let problem = Problem::RolledBack { before, now };
            self.over = Some(unsound(Finding::new(now, problem)));
        } else {
            self.walk = walk;
        }
        Ok(())
    }

    /// The state after the last step, for [`Self::resume`]: at most 64 KiB and 24 bytes for each boot.
    pub fn state(&self) -> Vec<u8> {
        state::save(&self.walk, self.head)
    }

    /// How far it is.
    pub const fn progress(&self) -> Progress {
        Progress {
            done: self.walk.tree.size(),
            size: self.size,
        }
    }

    /// What was verified so far.
    pub fn summary(&self) -> Summary {
        Summary {
            private: None,
            ..Summary::of(&self.walk)
        }
    }

    /// Verifies the next 4,096 entries, or what comes behind the last. It blocks while it reads.
    ///
    /// # Errors
    ///
    /// When a file is there and cannot be read.
    pub fn step(&mut self) -> Result<Step, FolderError> {
        if let Some(over) = &self.over {
            return Ok(over.clone());
        }
        let step = match self.walk.tree.size() < self.size {
            true => self.bundles()?,
            false => Some(self.edge()?.map_or(Step::Sound, unsound)),
        };
        self.over.clone_from(&step);
        Ok(step.unwrap_or_else(|| Step::More(self.progress())))
    }

    fn bundles(&mut self) -> Result<Option<Step>, FolderError> {
        let first = self.walk.tree.size() / u64::from(WIDTH);
        for index in first..first + BUNDLES {
            let Some(id) = BundleId::widest(index, self.size) else {
                break;
            };
            if let Some(found) = self.bundle(id)? {
                let tile = TileId::widest(0, index, self.size);
                let stored = tile.map_or(Ok(None), |tile| self.stored(tile))?;
                return Ok(Some(unsound(self.walk.earliest(found, stored.as_deref()))));
            }
        }
        Ok(None)
    }

    fn bundle(&mut self, id: BundleId) -> Result<Option<Finding>, FolderError> {
        let begins = self.walk.tree.size();
        let mut bytes = self.file(&id.to_string(), MAX_BUNDLE_BYTES)?;
        let mut wide = id;
        if bytes.is_none()
            && let Ok(full) = BundleId::new(id.index(), WIDTH)
        {
            // A log that has grown since may have kept the full one alone.
            bytes = self.file(&full.to_string(), MAX_BUNDLE_BYTES)?;
            wide = full;
        }
        let Some(bytes) = bytes else {
            return Ok(Some(Finding::new(begins, Problem::BundleMissing(id))));
        };
        let entries = match decode_bundle(wide, &bytes) {
            Ok(entries) => entries,
            Err(source) => {
                let problem = Problem::Bundle { bundle: id, source };
                return Ok(Some(Finding::new(begins, problem)));
            }
        };
        // A log that has grown since an earlier part may go on within a bundle.
        let taken = usize::try_from(begins % u64::from(WIDTH)).unwrap_or_default();
        let entries = entries.into_iter().take(usize::from(id.width()));
        for entry in entries.skip(taken) {
            let taken = match self.walk.entry(entry, None) {
                Ok(taken) => taken,
                Err(found) => return Ok(Some(found)),
            };
            if let Some(entry) = &taken.entry {
                self.walk.counts.committed += u64::from(!entry.private_commitment.is_empty());
            }
            for tile in &taken.tiles {
                let stored = self.stored(tile.id())?;
                if let Err(found) = self.walk.tile(tile, None, stored.as_deref()) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Behind the last entry: the partial tiles, and the checkpoint.
    fn edge(&mut self) -> Result<Option<Finding>, FolderError> {
        for tile in self.walk.tree.partial_tiles() {
            let stored = self.stored(tile.id())?;
            if let Err(found) = self.walk.tile(&tile, None, stored.as_deref()) {
                return Ok(Some(found));
            }
        }
        Ok(self.walk.checkpoint(&self.checkpoint).err())
    }

    /// A tile's bytes; of a partial one also out of the full one.
    fn stored(&self, id: TileId) -> Result<Option<Vec<u8>>, FolderError> {
        if let Some(bytes) = self.file(&id.to_string(), TILE_BYTES)? {
            return Ok(Some(bytes));
        }
        let Ok(full) = TileId::new(id.level(), id.index(), WIDTH) else {
            return Ok(None);
        };
        let mut bytes = self.file(&full.to_string(), TILE_BYTES)?;
        if let Some(bytes) = &mut bytes {
            bytes.truncate(min(bytes.len(), usize::from(id.width()) * 32));
        }
        Ok(bytes)
    }

    fn file(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, FolderError> {
        match &self.files {
            Files::Folder(folder) => read(&folder.join(name), limit),
            Files::Fetched(files) => Ok(files.get(name).cloned()),
        }
    }
}

fn wanted_tile(id: TileId) -> Wanted {
    let full = TileId::new(id.level(), id.index(), WIDTH).ok();
    Wanted {
        path: id.to_string(),
        limit: TILE_BYTES,
        full: full.filter(|_| !id.is_full()).map(|full| full.to_string()),
    }
}

fn unsound(finding: Finding) -> Step {
    Step::Unsound(Box::new(finding))
}

/// Head and origin that the checkpoint states, once its signature is verified where keys are given.
fn believed(
    bytes: &[u8],
    keys: Vec<Verifier>,
    origin: Option<&str>,
) -> Result<(TreeHead, Trust), CheckpointError> {
    let note = Note::parse(bytes).map_err(CheckpointError::Note)?;
    let checkpoint: Checkpoint = note.text().parse()?;
    if origin.is_some_and(|origin| origin != checkpoint.origin()) {
        return Err(CheckpointError::OtherOrigin(checkpoint.origin().to_owned()));
    }
    let trust = Trust::new(checkpoint.origin().to_owned(), keys);
    if trust.demanded {
        Checkpoint::open(&note, &trust.origin, &trust.keys)?;
    }
    Ok((checkpoint.head(), trust))
}

/// A file's bytes, cut off behind the limit, which no check then lets pass. `None` where there is no such file.
fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, FolderError> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    match File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
    {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FolderError::File {
            path: path.to_owned(),
            source,
        }),
    }
}
