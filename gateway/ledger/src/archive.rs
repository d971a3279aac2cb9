//! Entries that have left the database, and stay readable (LEDGER.md §6).
//!
//! The archive is a folder that the replicas of a city share. It is a static tile tree (C2SP tlog-tiles), which any verifier of
//! such logs reads, with what searches and evidence need beside it:
//!
//! ```text
//! checkpoint                  signed, of exactly the entries that are archived
//! tile/…  tile/entries/…      the tree, and the entries in bundles of 256
//! evidence/<N>                what other cities have proven beside the entries of bundle N (EvidenceBundle)
//! exchanges/<from>-<until>    exchange and index of each entry of a run, 24 bytes, sorted
//! runs/<from>-<until>.sha256  SHA-256 of each file of a run, as sha256sum has them; the ledger has the digest of this one
//! ```
//!
//! What stays in the database: leaves (in the tiles), uids, claims, private parts and the search index. So an archived entry is
//! found as before, its private part can be opened and erased as before, and nobody can put another in its place: its leaf
//! is compared with the tile whenever it is read.

mod write;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use banqiao_proto::ledger::v1::EvidenceBundle;
use banqiao_tlog::tile::{BundleId, WIDTH, decode_bundle};
use bytes::Bytes;
use prost::Message as _;

pub use write::Run;
pub(crate) use write::edge;

use crate::{digest::leaf_hash, reader::Stored, store::StoreError};

/// Entries of a bundle.
pub(crate) const BUNDLE: u64 = WIDTH as u64;
/// What ADMIN entries say that archive a run: [`Run`] is their target, and its digest what it is afterwards.
pub const ARCHIVED: &str = "ledger.archive";
/// Most entries of a run.
const RUN: u64 = 1 << 16;
/// An exchange, and the index of an entry of it.
const RECORD: usize = 24;
/// Records that are read at once.
const RECORDS: usize = 4_096;

/// A folder with archived entries.
pub(crate) struct Archive {
    folder: PathBuf,
}

/// An exchange, and the index of an entry of it.
pub(crate) type Record = ([u8; 16], u64);

impl Archive {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The entries of a bundle, each of which has the leaf that its tile says.
    ///
    /// # Errors
    ///
    /// [`StoreError::ArchiveDiffers`] with the first index that is not as the tile has it.
    pub(crate) fn bundle(&self, n: u64, tile: &[u8]) -> Result<Vec<Stored>, StoreError> {
        let first = n * BUNDLE;
        let id = BundleId::new(n, WIDTH).map_err(|_| StoreError::Corrupt("number"))?;
        let path = self.folder.join(id.to_string());
        let differs = |index, problem| StoreError::ArchiveDiffers {
            path: path.clone(),
            index,
            problem,
        };
        let bytes = Bytes::from(read(&path, first)?);
        let entries = decode_bundle(id, &bytes).map_err(|_| differs(first, "it is malformed"))?;
        let mut found = Vec::with_capacity(entries.len());
        for ((index, entry), leaf) in (first..).zip(entries).zip(tile.chunks(32)) {
            if leaf_hash(entry) != leaf {
                return Err(differs(index, "an entry was changed"));
            }
            found.push(Stored {
                index,
                bytes: bytes.slice_ref(entry),
                private: None,
            });
        }
        Ok(found)
    }

    /// What another city has proven beside an entry.
    pub(crate) fn evidence(&self, index: u64, kind: i16) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.folder.join(evidence_name(index / BUNDLE));
        let bytes = match fs::read(&path) {
            // No entry of the bundle had any.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(at(&path))?,
        };
        let bundle =
            EvidenceBundle::decode(bytes.as_slice()).map_err(|_| StoreError::ArchiveDiffers {
                path,
                index,
                problem: "it is malformed",
            })?;
        let mut items = bundle.items.into_iter();
        let found = items.find(|it| it.index == index && it.kind == i32::from(kind));
        Ok(found.map(|it| it.content))
    }

    /// Entries of calls from one on, and of exchanges before another (`None`: to the last), by exchange and index; at most so
    /// many.
    pub(crate) fn exchanges(
        &self,
        from: Record,
        until: Option<[u8; 16]>,
        most: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::new();
        for path in files(&self.folder.join("exchanges"))? {
            Exchanges::open(&path)?.within(from, until, most, &mut found)?;
        }
        // Of a run that was not finished at first, some may stand twice.
        found.sort_unstable();
        found.dedup();
        found.truncate(most);
        Ok(found)
    }
}

/// A sorted file of records.
struct Exchanges<'p> {
    path: &'p Path,
    file: File,
    count: u64,
}

impl<'p> Exchanges<'p> {
    fn open(path: &'p Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(at(path))?;
        let bytes = file.metadata().map_err(at(path))?.len();
        if bytes % RECORD as u64 != 0 {
            return Err(StoreError::ArchiveDiffers {
                path: path.to_owned(),
                index: 0,
                problem: "it was cut off",
            });
        }
        let count = bytes / RECORD as u64;
        Ok(Self { path, file, count })
    }

    fn read(&self, number: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let read = self.file.read_exact_at(into, number * RECORD as u64);
        read.map_err(at(self.path))
    }

    /// Number of the first record that is not before another.
    fn first(&self, from: Record) -> Result<u64, StoreError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = u64::midpoint(low, high);
            let mut record = [0; RECORD];
            self.read(middle, &mut record)?;
            if split(&record) < from {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn within(
        &self,
        from: Record,
        until: Option<[u8; 16]>,
        most: usize,
        found: &mut Vec<Record>,
    ) -> Result<(), StoreError> {
        let mut number = self.first(from)?;
        let mut taken = 0;
        while number < self.count && taken < most {
            let left = usize::try_from(self.count - number).unwrap_or(RECORDS);
            let mut some = vec![0; left.min(RECORDS) * RECORD];
            self.read(number, &mut some)?;
            for record in some.as_chunks::<RECORD>().0 {
                let (exchange, index) = split(record);
                if taken == most || until.is_some_and(|until| exchange >= until) {
                    return Ok(());
                }
                found.push((exchange, index));
                taken += 1;
                number += 1;
            }
        }
        Ok(())
    }
}

fn split(record: &[u8; RECORD]) -> Record {
    let (exchange, index) = record.split_at(16);
    // The parts have these lengths.
    let exchange = exchange.try_into().unwrap_or_default();
    let index = index.try_into().map_or(0, u64::from_be_bytes);
    (exchange, index)
}

/// Name of the evidence of a bundle: as bundles are named (C2SP tlog-tiles).
fn evidence_name(n: u64) -> String {
    let bundle = BundleId::new(n, WIDTH).map(|id| id.to_string());
    let bundle = bundle.unwrap_or_default();
    format!("evidence/{}", bundle.trim_start_matches("tile/entries/"))
}

/// The files of a folder, by name. None, where there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(at(folder))?,
    };
    let mut files = Vec::new();
    for file in listed {
        let path = file.map_err(at(folder))?.path();
        // What is being written has another name yet.
        if path.extension().is_none_or(|extension| extension != "tmp") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A file that must be there, from whose loss entries from an index on are lost.
fn read(path: &Path, index: u64) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::ArchiveDiffers {
            path: path.to_owned(),
            index,
            problem: "it is missing",
        },
        _ => at(path)(error),
    })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Archive { path, source }
}
