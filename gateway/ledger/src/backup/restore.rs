//! From a backup into an empty database.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use banqiao_directory::CityCode;
use banqiao_tlog::note::Verifier;

use super::{
    BackupError, Manifest, PartRows, Progress, check,
    connection::Connection,
    damaged, part_path,
    table::{GROUP, STATEMENTS, Statements},
};
use crate::{
    store::{Extent, Fault, Ownership, StoreError, StoreUrl, Writer, WriterSettings},
    verify::{Step, Verification},
};

/// Groups of rows in one transaction.
const GROUPS: usize = 100;

/// Restores a backup into an empty database, and verifies the whole ledger there before it can be opened. It can only be
/// written to once a witness has agreed that it is the newest state.
///
/// With keys every signature is verified; they must be those of the log. `archive` is the folder of the entries that had left
/// the database, where some had: they are not in the backup.
///
/// # Errors
///
/// [`BackupError`]. The database is then of no use: what is in it stays frozen, and is to be removed.
pub async fn restore(
    folder: &Path,
    url: &str,
    city: Option<CityCode>,
    keys: Vec<Verifier>,
    archive: Option<PathBuf>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, BackupError> {
    let parsed = StoreUrl::parse(url)?;
    let manifest = check(folder, city)?;
    if manifest.archived > 0 && archive.is_none() {
        let before = manifest.archived;
        return Err(StoreError::ArchiveUnnamed { before }.into());
    }
    let path = folder.join(super::MANIFEST);
    let city: CityCode = manifest
        .city
        .parse()
        .map_err(|_| damaged(&path, "it names no city"))?;
    let unreadable = |_| damaged(&path, "its frontier cannot be read");
    let head = Extent {
        size: manifest.size,
        frontier: hex::decode(&manifest.frontier).map_err(unreadable)?,
        origin: manifest.origin.clone(),
        note: manifest.checkpoint.clone(),
        entries: None,
        checkpoints: None,
        detached: manifest.archived,
    };
    // No gateway may open it before it is whole.
    let _ownership = match &parsed {
        StoreUrl::Sqlite(path) if path.exists() => return Err(BackupError::NotEmpty),
        StoreUrl::Sqlite(path) => Some(Ownership::take(path)?),
        StoreUrl::Postgres(_) => {
            let mut connection = Connection::open(&parsed).await?;
            let used = connection.is_used().await?;
            connection.close().await;
            if used {
                return Err(BackupError::NotEmpty);
            }
            None
        }
    };
    let settings = WriterSettings {
        url: parsed.clone(),
        city,
        failover: false,
        observer: Arc::new(()),
    };
    let made = Writer::open(&settings, true).await;
    made.map_err(Fault::into_error)?.close().await;
    let mut connection = Connection::open(&parsed).await?;
    connection.put_frozen("a restore was not finished").await?;
    connection.make_room().await?;
    for (statements, part) in STATEMENTS.iter().zip(&manifest.parts) {
        load(&mut connection, folder, statements, part.rows, progress).await?;
    }
    connection.begin().await?;
    connection.put_leases().await?;
    connection.put_head(&head).await?;
    connection.commit().await?;
    verify(url, keys, archive, &manifest, progress).await?;
    connection.put_usable().await?;
    connection.close().await;
    Ok(manifest)
}

async fn load(
    connection: &mut Connection,
    folder: &Path,
    statements: &'static Statements,
    of: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BackupError> {
    let table = statements.table;
    let mut rows = PartRows::open(&part_path(folder, table), table)?;
    let mut done = 0;
    let mut ended = false;
    while !ended {
        connection.begin().await?;
        for _ in 0..GROUPS {
            let mut group = Vec::with_capacity(GROUP);
            while group.len() < GROUP
                && let Some(row) = rows.next()?
            {
                group.push(row);
            }
            done += u64::try_from(group.len()).unwrap_or(0);
            ended = group.len() < GROUP;
            if ended {
                for row in group.chunks(1) {
                    connection
                        .insert(table, &statements.insert_one, row)
                        .await?;
                }
                break;
            }
            connection
                .insert(table, &statements.insert_group, &group)
                .await?;
        }
        connection.commit().await?;
        progress(Progress {
            table: table.name,
            rows: done,
            of: Some(of),
        });
    }
    Ok(())
}

/// Computes everything anew from what the database holds now.
async fn verify(
    url: &str,
    keys: Vec<Verifier>,
    archive: Option<PathBuf>,
    manifest: &Manifest,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BackupError> {
    let origin = manifest.origin.clone();
    let mut verification = Verification::open_archived(url, keys, origin, archive).await?;
    loop {
        match verification.step().await? {
            Step::More(how_far) => progress(Progress {
                table: "verified",
                rows: how_far.done,
                of: Some(how_far.size),
            }),
            Step::Sound => return Ok(()),
            Step::Unsound(finding) => {
                return Err(BackupError::Unsound {
                    index: finding.index,
                    problem: finding.problem.to_string(),
                });
            }
        }
    }
}
