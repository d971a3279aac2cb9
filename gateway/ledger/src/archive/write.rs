//! Writing a run of entries into the archive.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use banqiao_proto::ledger::v1::{EvidenceBundle, EvidenceItem};
use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::Note,
    tile::{
        BundleId, Tile, TileBuilder, TileId, WIDTH, decode_bundle, encode_bundle, partial_tiles,
    },
};
use prost::Message as _;
use tokio::sync::oneshot;

use super::{Archive, BUNDLE, RUN, Record, at, evidence_name, read};
use crate::{
    digest::{Hash, leaf_hash, sha256},
    entry::{Decoded, decode},
    index::Level,
    ledger::{Ledger, LedgerError},
    queue::Command,
    reader::{Stored, log_tile},
    store::{Reads, StoreError},
};

/// The newest entries stay in any case: the right edge of the tree is made from their rows.
const EDGE: u64 = 2 * Level::Segment.entries();
/// Name of the checkpoint (C2SP tlog-tiles).
const CHECKPOINT: &str = "checkpoint";
/// Rows that leave the database in one transaction: calls that are entered wait for it.
const DROPPED: u64 = 512;

/// Entries that were archived together: at most 65,536.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their indices.
    pub entries: Range<u64>,
    /// SHA-256 of the list of the run's files with their own: `runs/<from>-<until>.sha256`.
    pub digest: Hash,
}

/// `<from>-<until>`, as its files are named.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(&self.entries))
    }
}

fn name(entries: &Range<u64>) -> String {
    format!("{}-{}", entries.start, entries.end)
}

impl Archive {
    /// Nothing of another ledger lies in the folder.
    fn must_be_of(&self, origin: &str, first: u64) -> Result<(), StoreError> {
        let path = self.folder.join(CHECKPOINT);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(at(&path))?,
        };
        let note = Note::parse(&bytes).ok();
        let checkpoint = note.and_then(|note| note.text().parse::<Checkpoint>().ok());
        if checkpoint.is_some_and(|checkpoint| checkpoint.origin() == origin) {
            return Ok(());
        }
        Err(StoreError::ArchiveDiffers {
            path,
            index: first,
            problem: "it is of another ledger",
        })
    }

    /// Compares every file of a run with the run's sums. Returns the digest of the sums.
    ///
    /// # Errors
    ///
    /// [`StoreError::ArchiveDiffers`] with the first file that is not as it was written.
    pub(crate) fn check(&self, run: &str, first: u64) -> Result<Hash, StoreError> {
        let path = self.folder.join(sums_name(run));
        let sums = read(&path, first)?;
        let malformed = || StoreError::ArchiveDiffers {
            path: path.clone(),
            index: first,
            problem: "it is malformed",
        };
        let text = str::from_utf8(&sums).map_err(|_| malformed())?;
        for line in text.lines() {
            let (sum, file) = line.split_once("  ").ok_or_else(malformed)?;
            // What is named here is a file of the archive, and nothing else.
            if file.split('/').any(|part| part.is_empty() || part == "..") {
                return Err(malformed());
            }
            let path = self.folder.join(file);
            if hex::encode(sha256(&read(&path, first)?)) != sum {
                return Err(StoreError::ArchiveDiffers {
                    path,
                    index: first,
                    problem: "it was changed",
                });
            }
        }
        Ok(sha256(&sums))
    }
}

fn sums_name(run: &str) -> String {
    format!("runs/{run}.sha256")
}

impl Ledger {
    /// The entries that can be archived now: the oldest that are not yet, as far as all of them were made before a time
    /// (microseconds UTC), the search index covers them, and no call that is still open begins among them. Whole segments of
    /// 4,096; empty where there is none.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn archivable(&self, before_us: i64) -> Result<Range<u64>, StoreError> {
        let core = self.core();
        let stock = core.reads.stock().await?;
        let extent = core.reads.index_extent(core.group).await?;
        let limit = extent
            .indexed()
            .min(stock.oldest_open.unwrap_or(u64::MAX))
            .min(stock.size.saturating_sub(EDGE));
        let segment = Level::Segment.entries();
        let (from, mut until) = (stock.detached / segment, stock.detached / segment);
        for span in core
            .reads
            .spans(Level::Segment, from..limit / segment)
            .await?
        {
            if span.n != until || span.last_us >= before_us {
                break;
            }
            until += 1;
        }
        Ok(stock.detached..until * segment)
    }

    /// Whether it knows of a folder that entries can be archived in.
    pub fn has_archive(&self) -> bool {
        self.core().reads.archive(0).is_ok()
    }

    /// How many entries are archived: those below this index.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn archived(&self) -> Result<u64, StoreError> {
        Ok(self.core().reads.stock().await?.detached)
    }

    /// Writes the first of some [archivable](Self::archivable) entries into the archive, and reads it again from there.
    /// The ledger is as before until an entry with [`Effect::Detach`](crate::Effect::Detach) says otherwise. `progress` is told
    /// how many entries are written.
    ///
    /// # Errors
    ///
    /// When the database or the folder cannot be used, or what is stored contradicts itself.
    pub async fn write_run(
        &self,
        entries: Range<u64>,
        mut progress: impl FnMut(u64),
    ) -> Result<Run, StoreError> {
        let core = self.core();
        let entries = entries.start..entries.end.min(entries.start + RUN);
        let archive = core.reads.archive(entries.start)?;
        archive.must_be_of(core.signer.verifier().name(), entries.start)?;
        let mut writer = RunWriter::new(archive.folder.clone());
        let mut tree = edge(&core.reads, entries.start).await?;
        let mut exchanges = Vec::new();
        for n in entries.start / BUNDLE..entries.end / BUNDLE {
            let (from, until) = (n * BUNDLE, (n + 1) * BUNDLE);
            let stored = core.reads.range(from, until).await?;
            let evidence = core.reads.evidence_within(from, until).await?;
            for entry in &stored {
                exchanges.extend(record(entry)?);
            }
            let (back, leaves) = on_disk(move || {
                let leaves = writer.bundle(n, &stored)?;
                writer.evidence(n, evidence)?;
                Ok((writer, leaves))
            })
            .await?;
            writer = back;
            for tile in tree.extend(leaves) {
                let id = tile.id();
                let kept = core.reads.tile(id.level(), id.index()).await?;
                if kept.as_deref() != Some(&tile.to_bytes()[..]) {
                    return Err(StoreError::Corrupt("tiles"));
                }
                writer = on_disk(move || writer.tile(&tile).map(|()| writer)).await?;
            }
            progress(until - entries.start);
        }
        let checkpoint = Checkpoint::new(core.signer.verifier().name(), tree.frontier().head())
            .ok()
            .and_then(|checkpoint| checkpoint.sign(&core.signer).ok())
            .ok_or(StoreError::Corrupt("checkpoint"))?;
        let run = name(&entries);
        let first = entries.start;
        let digest = on_disk(move || {
            for tile in tree.partial_tiles() {
                writer.tile(&tile)?;
            }
            writer.end(&run, exchanges, checkpoint.to_string().as_bytes())?;
            archive.check(&run, first)
        })
        .await?;
        Ok(Run { entries, digest })
    }

    /// Removes the rows of archived entries from the database, a few at a time. Returns how many entries went; 0: none are left.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; what went is gone, and the rest goes when this is called again.
    pub async fn drop_archived(&self) -> Result<u64, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        let command = Command::DropArchived(DROPPED, answer);
        self.core().queue.command(command);
        receiver.await.unwrap_or(Err(LedgerError::Closed))
    }
}

/// The right edge of the tree over the first entries.
pub(crate) async fn edge(reads: &Reads, size: u64) -> Result<TileBuilder, StoreError> {
    let mut edge: BTreeMap<TileId, Vec<Hash>> = BTreeMap::new();
    for id in partial_tiles(size) {
        if let Some(hashes) = log_tile(reads, id).await? {
            edge.insert(id, hashes);
        }
    }
    TileBuilder::resume(size, |id| edge.get(&id).map(Vec::as_slice))
        .map_err(|_| StoreError::Corrupt("tiles"))
}

/// Where an entry is of a call.
fn record(stored: &Stored) -> Result<Option<Record>, StoreError> {
    let index = stored.index;
    let decoded = decode(&stored.bytes).map_err(|source| StoreError::Entry { index, source })?;
    Ok(match decoded {
        Decoded::Entry(entry) => {
            let exchange = entry.exchange.as_slice().try_into().ok();
            exchange.map(|exchange| (exchange, index))
        }
        Decoded::Newer { .. } => None,
    })
}

async fn on_disk<T: Send + 'static>(
    write: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(write).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down.
            Err(_) => Err(StoreError::Timeout),
        },
    }
}

/// The files of a run on their way to the disk.
struct RunWriter {
    folder: PathBuf,
    /// By name, with their sums.
    files: BTreeMap<String, Hash>,
    folders: BTreeSet<PathBuf>,
}

impl RunWriter {
    const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
        }
    }

    /// Writes a bundle. Returns the leaves of its entries, as they can be read again.
    fn bundle(&mut self, n: u64, entries: &[Stored]) -> Result<Vec<Hash>, StoreError> {
        let corrupt = || StoreError::Corrupt("entries");
        if entries.len() != usize::from(WIDTH) {
            return Err(corrupt());
        }
        let id = BundleId::new(n, WIDTH).map_err(|_| corrupt())?;
        let bytes: Vec<_> = entries.iter().map(|entry| &entry.bytes).collect();
        let bundle = encode_bundle(&bytes).map_err(|_| corrupt())?;
        self.put(id.to_string(), &bundle)?;
        let entries = decode_bundle(id, &bundle).map_err(|_| corrupt())?;
        Ok(entries.into_iter().map(leaf_hash).collect())
    }

    fn evidence(&mut self, n: u64, rows: Vec<(u64, i16, Vec<u8>)>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let items = rows.into_iter().map(|(index, kind, content)| EvidenceItem {
            index,
            kind: kind.into(),
            content,
        });
        let bundle = EvidenceBundle {
            items: items.collect(),
        };
        self.put(evidence_name(n), &bundle.encode_to_vec())
    }

    fn tile(&mut self, tile: &Tile) -> Result<(), StoreError> {
        self.put(tile.id().to_string(), &tile.to_bytes())
    }

    /// Writes what belongs to the whole run; its sums last but for the checkpoint, which says that it is there.
    fn end(
        &mut self,
        run: &str,
        mut exchanges: Vec<Record>,
        checkpoint: &[u8],
    ) -> Result<(), StoreError> {
        exchanges.sort_unstable();
        let mut records = Vec::with_capacity(exchanges.len() * super::RECORD);
        for (exchange, index) in exchanges {
            records.extend_from_slice(&exchange);
            records.extend_from_slice(&index.to_be_bytes());
        }
        self.put(format!("exchanges/{run}"), &records)?;
        let mut sums = String::new();
        for (name, sum) in &self.files {
            sums.push_str(&format!("{}  {name}\n", hex::encode(sum)));
        }
        self.put(sums_name(run), sums.as_bytes())?;
        self.put(CHECKPOINT.to_owned(), checkpoint)?;
        for folder in &self.folders {
            sync(folder)?;
        }
        sync(&self.folder)
    }

    /// Writes a file under another name, and gives it its own once it is on the disk.
    fn put(&mut self, name: String, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(&name);
        let mut folder = path.parent();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        if let Some(folder) = folder {
            builder.create(folder).map_err(at(folder))?;
        }
        while let Some(within) = folder.filter(|within| *within != self.folder) {
            self.folders.insert(within.to_owned());
            folder = within.parent();
        }
        let partial = path.with_added_extension("tmp");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&partial).map_err(at(&partial))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(at(&partial))?;
        fs::rename(&partial, &path).map_err(at(&path))?;
        self.files.insert(name, sha256(bytes));
        Ok(())
    }
}

fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}
