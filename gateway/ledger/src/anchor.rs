//! The anchor: the newest checkpoint, beside an SQLite database and on another disk (LEDGER.md §3, Start).
//!
//! A file system that was rolled back takes its ledger back with it, and nothing in the database shows it. A file elsewhere
//! does.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::{Note, Verifier},
};

use crate::store::StoreError;

/// Writes a checkpoint in the place of the one before, durably: a crash leaves the one or the other.
pub(crate) fn write(path: &Path, note: &str) -> Result<(), StoreError> {
    let at = |source| StoreError::File {
        path: path.to_owned(),
        source,
    };
    let next = path.with_added_extension("next");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&next).map_err(at)?;
    file.write_all(note.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&next, path))
        .and_then(|()| match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        })
        .map_err(at)
}

/// The checkpoint that was written last. `None`: there is none yet.
pub(crate) fn read(path: &Path, keys: &[Verifier]) -> Result<Option<Checkpoint>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StoreError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    let origin = keys.first().map_or("", Verifier::name);
    Note::parse(&bytes)
        .ok()
        .and_then(|note| Checkpoint::open(&note, origin, keys).ok())
        .map(Some)
        .ok_or_else(|| StoreError::Anchor {
            path: path.to_owned(),
        })
}
