//! A copy of a whole ledger, and the way back.
//!
//! A backup is a folder: one part for each table, a manifest that says what they are, and `SHA256SUMS`, so that
//! `sha256sum -c` finds damage without this program. It is made in one transaction while gateways write, and is of one
//! moment. It holds no key: who has it and not the keys can verify the log, and read nothing of its private parts.
//!
//! What is restored is verified as a whole before it can be opened, and is written to only once a witness of another city has
//! agreed that there is no newer state (LEDGER.md §3).

pub(crate) mod connection;
mod restore;
mod table;

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_directory::CityCode;
use banqiao_tlog::{checkpoint::Checkpoint, frontier::Frontier, hash::leaf_hash, note::Note};
use serde::{Deserialize, Serialize};

pub use restore::restore;

use crate::{
    archive,
    store::{Extent, Reads, StoreError, StoreUrl},
};
use connection::Connection;
use table::{ENTRY_BYTES, FORMAT, STATEMENTS, TABLES, Table, Value, head_line, read_row};

/// Name of the manifest.
const MANIFEST: &str = "manifest.json";
/// Name of the sums, as coreutils has them.
const SUMS: &str = "SHA256SUMS";
/// Largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 20;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `banqiao-backup-1`.
    pub format: String,
    /// City code (GB/T 2260).
    pub city: String,
    /// Origin of the log. `None`: no gateway with a key had opened it.
    pub origin: Option<String>,
    /// Entries.
    pub size: u64,
    /// Root of the tree over them, in hexadecimal digits.
    pub root: String,
    /// Frontier of that tree, in hexadecimal digits.
    pub frontier: String,
    /// Entries that had left the database: those below this index. They are not in the backup, but in the archive.
    #[serde(default)]
    pub archived: u64,
    /// Frontier of the tree over them, in hexadecimal digits.
    #[serde(default)]
    pub archived_frontier: String,
    /// The checkpoint of that size: a C2SP signed note.
    pub checkpoint: Option<String>,
    /// When the backup was made, microseconds UTC.
    pub created_us: i64,
    /// The tables.
    pub parts: Vec<Part>,
}

/// A table in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Name of the table, and of the file before `.rows`.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The table.
    pub table: &'static str,
    /// Rows of it that are done.
    pub rows: u64,
    /// Rows that it has, where that is known.
    pub of: Option<u64>,
}

/// Rows between two reports of progress.
const REPORT_EVERY: u64 = 1_000;

/// Why a backup cannot be made, or cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file is not what was written.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The folder is there already.
    #[error("{} exists already: a backup is written into a new folder", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database holds a ledger.
    #[error("the database already holds a ledger: restore into an empty one")]
    NotEmpty,
    /// It is of another city.
    #[error("the backup is of the city {found}, not of {expected}")]
    OtherCity {
        /// The city that was asked for.
        expected: CityCode,
        /// The city of the backup.
        found: String,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger in it does not verify.
    #[error("the restored ledger does not verify: index {index}: {problem}")]
    Unsound {
        /// The first index that fails.
        index: u64,
        /// What is wrong there.
        problem: String,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

fn damaged(path: &Path, problem: impl Into<String>) -> BackupError {
    BackupError::Damaged {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// Counts and digests what passes through.
struct Summed<W> {
    inner: W,
    digest: Context,
    bytes: u64,
}

impl<W> Summed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            digest: Context::new(&SHA256),
            bytes: 0,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(0);
    }

    fn sum(self) -> String {
        hex::encode(self.digest.finish())
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.take(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: io::Read> io::Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.take(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Writes a backup of the ledger in a database into a new folder, and verifies what was written. Gateways may write
/// meanwhile. The folder has its name only once it is whole.
///
/// # Errors
///
/// [`BackupError`]; what was begun is left beside it, as `<folder>.partial`.
pub async fn write(
    url: &str,
    folder: &Path,
    now_us: i64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, BackupError> {
    let url = StoreUrl::parse(url)?;
    if let StoreUrl::Sqlite(path) = &url {
        File::open(path).map_err(at(path))?;
    }
    if folder.exists() {
        return Err(BackupError::Exists(folder.to_owned()));
    }
    let partial = folder.with_added_extension("partial");
    let mut builder = fs::DirBuilder::new();
    match builder.mode(0o700).create(&partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists(partial));
        }
        made => made.map_err(at(&partial))?,
    }
    let mut connection = Connection::open(&url).await?;
    connection.begin_snapshot().await?;
    let (city, head) = connection.head().await?;
    let mut parts = Vec::new();
    for statements in STATEMENTS.iter() {
        let of = (statements.table.name == "entry").then_some(head.size - head.detached);
        let path = part_path(&partial, statements.table);
        let file = create(&path)?;
        let mut out = Summed::new(BufWriter::with_capacity(1 << 20, file));
        out.write_all(head_line(statements.table).as_bytes())
            .map_err(at(&path))?;
        let mut rows = 0;
        let table = statements.table.name;
        connection
            .rows(statements, |row| {
                if is_archived(statements.table, &row, head.detached) {
                    return Ok(());
                }
                for value in &row {
                    value.write(&mut out).map_err(at(&path))?;
                }
                rows += 1;
                if rows % REPORT_EVERY == 0 {
                    progress(Progress { table, rows, of });
                }
                Ok::<_, BackupError>(())
            })
            .await?;
        progress(Progress { table, rows, of });
        out.flush()
            .and_then(|()| out.inner.get_ref().sync_all())
            .map_err(at(&path))?;
        parts.push(Part {
            table: table.to_owned(),
            rows,
            bytes: out.bytes,
            sha256: out.sum(),
        });
    }
    connection.commit().await?;
    connection.close().await;
    let frontier = frontier(&head)?;
    // Tiles never change, so those of any moment will do.
    let edge = archive::edge(&Reads::new(&url, None), head.detached).await?;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        city,
        origin: head.origin,
        size: head.size,
        root: hex::encode(frontier.root()),
        frontier: hex::encode(&head.frontier),
        archived: head.detached,
        archived_frontier: hex::encode(edge.frontier().to_bytes()),
        checkpoint: head.note,
        created_us: now_us,
        parts,
    };
    finish(&partial, &manifest)?;
    let read = check(&partial, None)?;
    fs::rename(&partial, folder).map_err(at(folder))?;
    sync_folder(folder.parent())?;
    Ok(read)
}

fn frontier(head: &Extent) -> Result<Frontier, StoreError> {
    Frontier::from_bytes(head.size, &head.frontier).map_err(|_| StoreError::Corrupt("frontier"))
}

/// Rows that leave the database because their entries are in the archive.
fn is_archived(table: &Table, row: &[Value], detached: u64) -> bool {
    matches!(table.name, "entry" | "evidence")
        && matches!(row.first(), Some(Value::Number(index)) if u64::try_from(*index).is_ok_and(|index| index < detached))
}

fn part_path(folder: &Path, table: &Table) -> PathBuf {
    folder.join(format!("{}.rows", table.name))
}

fn create(path: &Path) -> Result<File, BackupError> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(at(path))
}

/// Writes the manifest and the sums.
fn finish(folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let path = folder.join(MANIFEST);
    let mut json =
        serde_json::to_vec_pretty(manifest).map_err(|error| at(&path)(io::Error::other(error)))?;
    json.push(b'\n');
    save(&path, &json)?;
    let mut sums = String::new();
    for part in &manifest.parts {
        sums.push_str(&format!("{}  {}.rows\n", part.sha256, part.table));
    }
    sums.push_str(&format!("{}  {MANIFEST}\n", sum(&json)));
    save(&folder.join(SUMS), sums.as_bytes())?;
    sync_folder(Some(folder))
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut file = create(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(at(path))
}

fn sync_folder(folder: Option<&Path>) -> Result<(), BackupError> {
    let folder = folder
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&SHA256, bytes))
}

/// Reads a whole backup and verifies it: every sum and count, that the entries make the tree that the manifest states, and
/// that the checkpoint is of that tree.
///
/// # Errors
///
/// [`BackupError::Damaged`] with the first file that is not as it was written; [`BackupError::OtherCity`].
pub fn check(folder: &Path, city: Option<CityCode>) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(folder)?;
    let path = folder.join(MANIFEST);
    if let Some(expected) = city
        && manifest.city != expected.as_str()
    {
        let found = manifest.city;
        return Err(BackupError::OtherCity { expected, found });
    }
    let named = manifest.parts.iter().map(|part| part.table.as_str());
    if !named.eq(TABLES.iter().map(|table| table.name)) {
        return Err(damaged(&path, "it does not list the tables of a ledger"));
    }
    let mut tree = hex::decode(&manifest.archived_frontier)
        .ok()
        .and_then(|bytes| Frontier::from_bytes(manifest.archived, &bytes).ok())
        .ok_or_else(|| damaged(&path, "the frontier of the archived entries is none"))?;
    for (part, table) in manifest.parts.iter().zip(&TABLES) {
        let path = part_path(folder, table);
        let mut rows = PartRows::open(&path, table)?;
        let mut count = 0_u64;
        while let Some(row) = rows.next()? {
            count += 1;
            if table.name == "entry" {
                match row.get(ENTRY_BYTES) {
                    Some(Value::Bytes(bytes)) => tree.push(leaf_hash(bytes)),
                    _ => return Err(damaged(&path, "an entry has no bytes")),
                }
            }
        }
        let (bytes, sha256) = rows.end();
        if (bytes, &sha256) != (part.bytes, &part.sha256) {
            return Err(damaged(&path, "its SHA-256 is not that of the manifest"));
        }
        if count != part.rows {
            return Err(damaged(&path, "it has another number of rows"));
        }
    }
    let stated = (
        manifest.size,
        manifest.frontier.clone(),
        manifest.root.clone(),
    );
    let made = (
        tree.count(),
        hex::encode(tree.to_bytes()),
        hex::encode(tree.root()),
    );
    if stated != made {
        return Err(damaged(
            &path,
            "the entries make another tree than it states",
        ));
    }
    if let Some(note) = &manifest.checkpoint {
        let checkpoint: Option<Checkpoint> = Note::parse(note.as_bytes())
            .ok()
            .and_then(|note| note.text().parse().ok());
        let agrees = checkpoint.is_some_and(|it| {
            it.head() == tree.head() && Some(it.origin()) == manifest.origin.as_deref()
        });
        if !agrees {
            return Err(damaged(&path, "its checkpoint is of another tree"));
        }
    }
    Ok(manifest)
}

/// The manifest, if it is as it was written.
fn read_manifest(folder: &Path) -> Result<Manifest, BackupError> {
    let path = folder.join(MANIFEST);
    let read = |path: &Path| -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(at(path))?;
        let mut file = io::Read::take(file, MAX_MANIFEST);
        io::Read::read_to_end(&mut file, &mut bytes).map_err(at(path))?;
        Ok(bytes)
    };
    let json = read(&path)?;
    let sums = read(&folder.join(SUMS))?;
    let line = format!("{}  {MANIFEST}", sum(&json));
    if !sums
        .split(|byte| *byte == b'\n')
        .any(|it| it == line.as_bytes())
    {
        return Err(damaged(&path, format!("its SHA-256 is not that of {SUMS}")));
    }
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|error| damaged(&path, error.to_string()))?;
    if manifest.format == FORMAT {
        Ok(manifest)
    } else {
        Err(damaged(&path, "it is of another format"))
    }
}

/// The rows of a part.
struct PartRows {
    path: PathBuf,
    table: &'static Table,
    from: BufReader<Summed<File>>,
}

impl PartRows {
    fn open(path: &Path, table: &'static Table) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(at(path))?;
        let mut from = BufReader::with_capacity(1 << 20, Summed::new(file));
        let mut line = String::new();
        io::Read::take(&mut from, 128)
            .read_line(&mut line)
            .map_err(at(path))?;
        if line != head_line(table) {
            return Err(damaged(path, "its first line is another"));
        }
        Ok(Self {
            path: path.to_owned(),
            table,
            from,
        })
    }

    fn next(&mut self) -> Result<Option<Vec<Value>>, BackupError> {
        read_row(self.table, &mut self.from).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&self.path, "it was cut off"),
            io::ErrorKind::InvalidData => damaged(&self.path, "a row cannot be read"),
            _ => at(&self.path)(error),
        })
    }

    /// Bytes and sum, once all rows were read.
    fn end(self) -> (u64, String) {
        let summed = self.from.into_inner();
        (summed.bytes, summed.sum())
    }
}
