//! The database file: owned by one process, and still the one that was opened.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

/// The exclusive right of this process to a database file, held through a locked file beside it.
#[derive(Debug)]
pub(crate) struct Ownership {
    /// Closing it gives the lock up.
    _lock: File,
}

impl Ownership {
    /// Takes the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let lock_path = beside(path);
        let at = |source| StoreError::File {
            path: lock_path.clone(),
            source,
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(at)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(at(error)),
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Watches that the file under the path stays the one that was opened, and writable.
///
/// SQLite would go on writing into a file that was moved away or deleted, and an open file can be written
/// whatever its mode has become. Both mean that somebody has taken the ledger away from us.
#[derive(Debug)]
pub(super) struct FileGuard {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileGuard {
    /// Remembers which file it is. One that is missing is made with mode 0600, where that is wanted: a ledger that
    /// has already been written is not replaced by an empty one.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        let at = |source| StoreError::File {
            path: path.to_owned(),
            source,
        };
        if create {
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(path) {
                Ok(_) => sync_folder(path).map_err(at)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(error)),
            }
        }
        let metadata = fs::metadata(path).map_err(at)?;
        let guard = Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        guard.check()?;
        Ok(guard)
    }

    /// Checks: one system call.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let moved = |change| {
            Err(StoreError::Moved {
                path: self.path.clone(),
                change,
            })
        };
        match fs::metadata(&self.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) != (self.device, self.inode) => {
                moved("replaced")
            }
            Ok(metadata) if metadata.permissions().mode() & 0o200 == 0 => moved("made read-only"),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => moved("removed"),
            Err(source) => Err(StoreError::File {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

/// Makes the name of a new file durable too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_owner_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.db");
        let first = Ownership::take(&path).unwrap();
        assert!(matches!(
            Ownership::take(&path),
            Err(StoreError::InUse { .. })
        ));
        drop(first);
        Ownership::take(&path).unwrap();
    }

    #[test]
    fn file_that_changes_under_us_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.db");
        let guard = FileGuard::open(&path, true).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let change = |guard: &FileGuard| match guard.check() {
            Err(StoreError::Moved { change, .. }) => change,
            other => panic!("{other:?}"),
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(change(&guard), "made read-only");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        guard.check().unwrap();
        let away = folder.path().join("away.db");
        fs::rename(&path, &away).unwrap();
        assert_eq!(change(&guard), "removed");
        fs::write(&path, b"").unwrap();
        assert_eq!(change(&guard), "replaced");
        fs::rename(&away, &path).unwrap();
        guard.check().unwrap();
    }
}
