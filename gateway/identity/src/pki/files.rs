//! Files that are there whole or not at all, keys that only their owner can read, and one writer at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::PkiError;

/// Mode of files with a private key.
pub(super) const SECRET: u32 = 0o600;
/// Mode of all other files.
pub(super) const PUBLIC: u32 = 0o644;

/// Held while a command changes a CA's folder. The kernel lets go of it with the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other process changes the folder.
    pub(super) fn hold(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join("ca.lock");
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(SECRET)
            .open(&path);
        let file = open.map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Self { _file: file })
    }
}

/// Puts a file in place at once: written beside it, made durable, renamed over it.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let aside = aside(path);
    let written = write_aside(&aside, bytes, mode).and_then(|()| fs::rename(&aside, path));
    if let Err(source) = written {
        // A remainder without meaning; the first error is the one to report.
        let _ = fs::remove_file(&aside);
        return Err(failed("write", path)(source));
    }
    // The name becomes durable with the folder.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or_else(|| Path::new("."));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("write", path))
}

fn write_aside(aside: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // The mode from the first moment: a key is never readable by others, not even for an instant. A remainder of
    // a crash goes first, because its mode would stay.
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(aside)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Beside the file, so that renaming stays within one file system. The lock makes the name unique.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Reads a file that holds no secret.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(failed("read", path))
}

/// Turns an I/O error into one that names file and deed.
pub(super) fn failed(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> PkiError + use<> {
    let path = path.to_owned();
    move |source| PkiError::File { what, path, source }
}
