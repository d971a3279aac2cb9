//! The log as files: C2SP tlog-tiles, from a running ledger or straight from its database.

use std::{fmt, path::PathBuf, str::FromStr};

use banqiao_tlog::{
    checkpoint::Checkpoint,
    hash::Hash,
    note::Note,
    tile::{BundleId, TileError, TileId, encode_bundle},
};

use crate::store::{Reads, StoreError, StoreUrl};

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// `tile/entries/<N>[.p/<W>]`.
    Bundle(BundleId),
    /// `checkpoint`: the newest that was published, or the one of so many entries.
    Checkpoint(Option<u64>),
    /// `tile/<L>/<N>[.p/<W>]`.
    Tile(TileId),
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(id) => id.fmt(f),
            Self::Checkpoint(_) => f.write_str("checkpoint"),
            Self::Tile(id) => id.fmt(f),
        }
    }
}

impl FromStr for LogFile {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        if path == "checkpoint" {
            Ok(Self::Checkpoint(None))
        } else if path.starts_with("tile/entries/") {
            path.parse().map(Self::Bundle)
        } else {
            path.parse().map(Self::Tile)
        }
    }
}

/// Reads the files of a log straight from its database. Nothing is written, and a gateway may run meanwhile.
pub struct LogFiles {
    reads: Reads,
}

impl LogFiles {
    /// Connections are made when they are needed. `archive` is the folder of the entries that have left the database.
    ///
    /// # Errors
    ///
    /// [`StoreError::Url`], or a file that cannot be read.
    pub fn open(url: &str, archive: Option<PathBuf>) -> Result<Self, StoreError> {
        let url = StoreUrl::parse(url)?;
        if let StoreUrl::Sqlite(path) = &url {
            crate::verify::readable(path)?;
        }
        Ok(Self {
            reads: Reads::new(&url, archive),
        })
    }

    /// A file. `None` when the log is not so long.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn file(&self, file: LogFile) -> Result<Option<Vec<u8>>, StoreError> {
        self::file(&self.reads, file).await
    }
}

pub(super) async fn file(reads: &Reads, file: LogFile) -> Result<Option<Vec<u8>>, StoreError> {
    match file {
        LogFile::Bundle(id) => bundle(reads, id).await,
        LogFile::Checkpoint(size) => checkpoint(reads, size).await,
        LogFile::Tile(id) => {
            let hashes = tile(reads, id).await?;
            Ok(hashes.map(|hashes| hashes.as_flattened().to_vec()))
        }
    }
}

/// A published checkpoint with the cosignatures that are under it.
async fn checkpoint(reads: &Reads, size: Option<u64>) -> Result<Option<Vec<u8>>, StoreError> {
    let note = match size {
        None => reads.checkpoint().await?,
        Some(size) => {
            let last = size.checked_sub(1);
            let Some(last) = last else { return Ok(None) };
            let over = reads.checkpoint_over(last, 0).await?;
            over.filter(|over| over.0 == size).map(|over| over.1)
        }
    };
    let Some(mut note) = note else {
        return Ok(None);
    };
    // A newer one may be published at any moment: the cosignatures are those of this one.
    let checkpoint: Checkpoint = Note::parse(note.as_bytes())
        .ok()
        .and_then(|note| note.text().parse().ok())
        .ok_or(StoreError::Corrupt("checkpoint"))?;
    for line in reads.cosignatures(checkpoint.size()).await? {
        note.push_str(&line);
        note.push('\n');
    }
    Ok(Some(note.into_bytes()))
}

/// A tile of the log. `None` when it is not so long.
pub(crate) async fn tile(reads: &Reads, id: TileId) -> Result<Option<Vec<Hash>>, StoreError> {
    let width = u64::from(id.width());
    let Some(from) = id.index().checked_mul(256) else {
        return Ok(None);
    };
    let rows = if id.is_full()
        && let Some(bytes) = reads.tile(id.level(), id.index()).await?
    {
        bytes.chunks(32).map(<[u8]>::to_vec).collect()
    } else {
        // At the right edge: the leaves of the last entries, or the roots of the tiles below.
        match id.level().checked_sub(1) {
            None => reads.leaves(from, from.saturating_add(width)).await?,
            Some(below) => {
                reads
                    .tile_roots(below, from, from.saturating_add(width))
                    .await?
            }
        }
    };
    if rows.len() < usize::from(id.width()) {
        return Ok(None);
    }
    rows.iter()
        .map(|row| {
            row.as_slice()
                .try_into()
                .map_err(|_| StoreError::Corrupt("hash"))
        })
        .collect::<Result<Vec<Hash>, _>>()
        .map(Some)
}

pub(super) async fn bundle(reads: &Reads, id: BundleId) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(from) = id.index().checked_mul(256) else {
        return Ok(None);
    };
    let until = from.saturating_add(u64::from(id.width()));
    let entries = reads.range(from, until).await?;
    if entries.len() < usize::from(id.width()) {
        return Ok(None);
    }
    let bytes: Vec<_> = entries.iter().map(|entry| &entry.bytes).collect();
    encode_bundle(&bytes)
        .map(Some)
        .map_err(|_| StoreError::Corrupt("entry"))
}
