//! Checks on the files that a config names.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::fault::{Faults, Place};

/// The file's metadata, or a fault.
fn metadata(faults: &Faults<'_>, at: &Place, path: &Path) -> Option<Metadata> {
    match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) => {
            let (problem, hint) = match error.kind() {
                io::ErrorKind::NotFound => (
                    "does not exist".to_owned(),
                    "paths are relative to the config's own folder",
                ),
                io::ErrorKind::PermissionDenied => (
                    "may not be read".to_owned(),
                    "run as the gateway's user, or give that user access to the folder",
                ),
                _ => (format!("cannot be read: {error}"), ""),
            };
            faults.error(at, format!("{} {problem}", path.display()), hint);
            None
        }
    }
}

/// A file or folder that must exist.
pub(super) fn must_exist(faults: &Faults<'_>, at: &Place, path: &Path) {
    let _ = metadata(faults, at, path);
}

/// A file that must exist.
pub(super) fn must_be_file(faults: &Faults<'_>, at: &Place, path: &Path) -> bool {
    let Some(metadata) = metadata(faults, at, path) else {
        return false;
    };
    if !metadata.is_file() {
        faults.error(
            at,
            format!("{} is not a file", path.display()),
            "name a file",
        );
    }
    metadata.is_file()
}

/// A file that must exist and be readable by its owner only.
pub(super) fn must_be_private(faults: &Faults<'_>, at: &Place, path: &Path) {
    let Some(metadata) = metadata(faults, at, path) else {
        return;
    };
    if !metadata.is_file() {
        faults.error(
            at,
            format!("{} is not a file", path.display()),
            "name a file",
        );
        return;
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & !0o600 != 0 {
        let problem = format!(
            "{} has mode {mode:04o}: others may use the key",
            path.display()
        );
        faults.error(at, problem, format!("chmod 600 {}", path.display()));
    }
}

/// A folder that must exist.
pub(super) fn must_be_folder(faults: &Faults<'_>, at: &Place, path: &Path) {
    if let Some(metadata) = metadata(faults, at, path)
        && !metadata.is_dir()
    {
        faults.error(
            at,
            format!("{} is not a folder", path.display()),
            "name a file in a folder",
        );
    }
}

/// A folder that only its owner may enter. One that does not exist is made so by the gateway.
pub(super) fn must_be_private_folder(faults: &Faults<'_>, at: &Place, path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    if !metadata.is_dir() {
        faults.error(
            at,
            format!("{} is not a folder", path.display()),
            "name a folder",
        );
        return;
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let problem = format!(
            "{} has mode {mode:04o}: others may enter it",
            path.display()
        );
        faults.error(at, problem, format!("chmod 700 {}", path.display()));
    }
}

/// Whether it is a file that can be opened.
pub(super) fn is_readable(path: &Path) -> bool {
    path.is_file() && File::open(path).is_ok()
}

/// Whether it is a file that only its owner may read.
pub(super) fn is_private(path: &Path) -> bool {
    is_readable(path)
        && fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o7777 & !0o600 == 0)
}

/// Reads a file of at most `limit` bytes; of a larger one, one byte more than the limit, for its parser to refuse.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
