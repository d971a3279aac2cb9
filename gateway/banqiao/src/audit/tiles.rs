//! `banqiao audit export --tiles`: the whole log as a static tile tree, which `audit verify --tiles` and any other
//! verifier of C2SP tlog-tiles read.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use banqiao_ledger::{LogFile, LogFiles, StoreError};
use banqiao_proto::ledger::v1::{ReadLogRequest, audit_service_client::AuditServiceClient};
use banqiao_tlog::{
    checkpoint::Checkpoint,
    hash::leaf_hash,
    note::Note,
    tile::{BundleId, TileId, bundles, decode_bundle, partial_tiles, tiles},
};
use tonic::transport::Channel;

use crate::{
    answer,
    exit::{Exit, Stop},
    text::bar::entries_bar,
};

/// Bundles of one question, and of one READ entry: 65,536 entries.
const GROUP: usize = 256;
/// How often a checkpoint without cosignatures is asked for again, and the pause before: witnesses need a moment.
const ASKED_AGAIN: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Where the log is read.
pub(super) enum Source {
    Database(Box<LogFiles>),
    Gateway(AuditServiceClient<Channel>),
}

impl Source {
    pub(super) fn database(url: &str, archive: Option<PathBuf>) -> Result<Self, Stop> {
        match LogFiles::open(url, archive) {
            Ok(files) => Ok(Self::Database(Box::new(files))),
            Err(error @ StoreError::Url) => Err(Stop::usage("--from-database").caused_by(error)),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The newest published checkpoint, or the one of so many entries, with the cosignatures that it has by now.
    async fn checkpoint(&mut self, size: Option<u64>) -> Result<Vec<u8>> {
        let mut note = None;
        let asked = self.read(vec![LogFile::Checkpoint(size)], size, |_, content| {
            note = Some(content);
            Ok(())
        });
        asked.await?;
        note.ok_or_else(|| Stop::new(Exit::Failed, "the ledger has no checkpoint yet").into())
    }

    /// Files, in their order.
    async fn read(
        &mut self,
        files: Vec<LogFile>,
        size: Option<u64>,
        mut each: impl FnMut(LogFile, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let lacks = |file: &LogFile| Stop::new(Exit::Failed, format!("the log has no {file}"));
        match self {
            Self::Database(log) => {
                for file in files {
                    let content = log.file(file).await.map_err(unreadable)?;
                    each(file, content.ok_or_else(|| lacks(&file))?)?;
                }
            }
            Self::Gateway(client) => {
                if files.is_empty() {
                    return Ok(());
                }
                let request = ReadLogRequest {
                    paths: files.iter().map(LogFile::to_string).collect(),
                    size,
                };
                let asked = client.read_log(request).await;
                let mut answers = asked.map_err(|status| answer::stop(&status))?.into_inner();
                for file in files {
                    let answer = answers.message().await;
                    let answer = answer.map_err(|status| answer::stop(&status))?;
                    let answer = answer.ok_or_else(|| lacks(&file))?;
                    if answer.path != file.to_string() {
                        let text = format!("the gateway answers {} for {file}", answer.path);
                        return Err(Stop::new(Exit::Failed, text).into());
                    }
                    each(file, answer.content)?;
                }
            }
        }
        Ok(())
    }
}

/// What was done with the files.
#[derive(Default)]
struct Counts {
    kept: u64,
    written: u64,
}

/// A folder with a tile tree.
struct Tree<'f> {
    folder: &'f Path,
    counts: Counts,
}

/// Writes the log into a folder.
pub(super) async fn export(
    folder: &Path,
    mut source: Source,
    out: &mut dyn io::Write,
) -> Result<Exit> {
    let note = source.checkpoint(None).await?;
    let checkpoint = parse(&note).ok_or_else(|| {
        Stop::new(
            Exit::Failed,
            "what the ledger has as its checkpoint is none",
        )
    })?;
    let mut tree = Tree {
        folder,
        counts: Counts::default(),
    };
    tree.begin(&checkpoint)?;
    let size = checkpoint.size();
    let bar = entries_bar(size);
    let all: Vec<BundleId> = bundles(size).collect();
    for group in all.chunks(GROUP) {
        tree.group(&mut source, group, size).await?;
        bar.inc(group.iter().map(|id| u64::from(id.width())).sum());
    }
    let above: Vec<TileId> = tiles(size).filter(|id| id.level() > 0).collect();
    for some in above.chunks(GROUP) {
        let files = some.iter().copied().map(LogFile::Tile).collect();
        source
            .read(files, None, |file, content| tree.put(&file, &content))
            .await?;
    }
    let note = cosigned(&mut source, &checkpoint, note).await?;
    tree.end(size, &note)?;
    bar.finish_and_clear();
    let Counts { kept, written } = tree.counts;
    writeln!(
        out,
        "{size} entries of {} in {}: {written} files written, {kept} kept, {} cosignatures",
        checkpoint.origin(),
        folder.display(),
        cosignatures(&note)
    )?;
    Ok(Exit::Done)
}

/// The same checkpoint with the cosignatures that came under it meanwhile.
async fn cosigned(source: &mut Source, checkpoint: &Checkpoint, note: Vec<u8>) -> Result<Vec<u8>> {
    let mut newest = note;
    for asked in 0..ASKED_AGAIN {
        let again = source.checkpoint(Some(checkpoint.size())).await?;
        if parse(&again).as_ref() != Some(checkpoint) {
            let text = "the ledger's checkpoint of one size was replaced by another";
            return Err(Stop::new(Exit::Failed, text).into());
        }
        newest = again;
        if cosignatures(&newest) > 0 || matches!(source, Source::Database(_)) {
            break;
        }
        if asked + 1 < ASKED_AGAIN {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(newest)
}

fn parse(note: &[u8]) -> Option<Checkpoint> {
    Note::parse(note).ok()?.text().parse().ok()
}

/// Signatures but the log's own.
fn cosignatures(note: &[u8]) -> usize {
    let signatures = Note::parse(note).map_or(0, |note| note.signatures().len());
    signatures.saturating_sub(1)
}

impl Tree<'_> {
    /// Makes the folder, or makes sure that it holds an earlier state of the same log.
    fn begin(&self, checkpoint: &Checkpoint) -> Result<()> {
        make_folder(self.folder)?;
        let Some(held) = read(&self.path("checkpoint"))? else {
            return Ok(());
        };
        let refused = |problem: String| Stop::new(Exit::Failed, problem);
        let place = self.folder.display();
        let held = parse(&held).ok_or_else(|| {
            refused(format!(
                "{place}: its checkpoint is none; take another folder"
            ))
        })?;
        if held.origin() != checkpoint.origin() {
            let text = format!(
                "{place} holds another log, {}; take another folder",
                held.origin()
            );
            return Err(refused(text).into());
        }
        if held.size() > checkpoint.size() {
            let text = format!(
                "{place} holds {} entries, and the ledger has {}: it was rolled back, and the folder is left as it is",
                held.size(),
                checkpoint.size()
            );
            return Err(refused(text).into());
        }
        Ok(())
    }

    /// A group of bundles with the tiles of their leaves.
    async fn group(&mut self, source: &mut Source, group: &[BundleId], size: u64) -> Result<()> {
        let leaves = group
            .iter()
            .filter_map(|id| TileId::widest(0, id.index(), size))
            .map(LogFile::Tile);
        let mut hashes = Vec::new();
        source
            .read(leaves.collect(), None, |file, content| {
                self.put(&file, &content)?;
                hashes.push(content);
                Ok(())
            })
            .await?;
        let mut missing = Vec::new();
        for (id, leaves) in group.iter().zip(&hashes) {
            let held = read(&self.path(&id.to_string()))?;
            if held.is_some_and(|held| is_of(*id, &held, leaves)) {
                self.counts.kept += 1;
            } else {
                missing.push(LogFile::Bundle(*id));
            }
        }
        source
            .read(missing, None, |file, content| self.put(&file, &content))
            .await
    }

    /// Writes a file, unless it is there as it has to be.
    fn put(&mut self, file: &LogFile, content: &[u8]) -> Result<()> {
        let path = self.path(&file.to_string());
        if read(&path)?.is_some_and(|held| held == content) {
            self.counts.kept += 1;
            return Ok(());
        }
        self.counts.written += 1;
        replace(&path, content)
    }

    /// Everything is there: it is made durable, then the checkpoint is put over it, and what it has no use for goes.
    fn end(&self, size: u64, note: &[u8]) -> Result<()> {
        let fault = |error: io::Error| unwritable(self.folder, error);
        let folder = fs::File::open(self.folder).map_err(fault)?;
        rustix::fs::syncfs(&folder).map_err(|error| fault(error.into()))?;
        replace(&self.path("checkpoint"), note)?;
        rustix::fs::syncfs(&folder).map_err(|error| fault(error.into()))?;
        let mut partial: BTreeSet<PathBuf> = partial_tiles(size)
            .map(|id| self.path(&id.to_string()))
            .collect();
        let last = bundles(size).last().filter(|id| !id.is_full());
        partial.extend(last.map(|id| self.path(&id.to_string())));
        sweep(&self.path("tile"), &partial).map_err(fault)?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Whether a bundle's entries have these leaf hashes.
fn is_of(id: BundleId, bundle: &[u8], leaves: &[u8]) -> bool {
    decode_bundle(id, bundle).is_ok_and(|entries| {
        let computed: Vec<[u8; 32]> = entries.into_iter().map(leaf_hash).collect();
        computed.as_flattened() == leaves
    })
}

/// Removes partial files of earlier sizes, and what an interrupted run left.
fn sweep(folder: &Path, partial: &BTreeSet<PathBuf>) -> io::Result<()> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed?,
    };
    let among_partial = folder.extension().is_some_and(|extension| extension == "p");
    for found in listed {
        let found = found?;
        let path = found.path();
        if found.file_type()?.is_dir() {
            sweep(&path, partial)?;
        } else if (among_partial && !partial.contains(&path))
            || found.file_name().to_string_lossy().starts_with(ASIDE)
        {
            fs::remove_file(&path)?;
        }
    }
    if among_partial && fs::read_dir(folder)?.next().is_none() {
        fs::remove_dir(folder)?;
    }
    Ok(())
}

/// First letters of a file that is being written.
const ASIDE: &str = ".aside-";

/// Puts a file in place at once, for its owner alone: entries tell who asked whom about what.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let folder = path.parent().unwrap_or(path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut aside = tempfile::Builder::new();
        let mut aside = aside
            .prefix(ASIDE)
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        aside.write_all(content)?;
        aside.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error: io::Error| unwritable(path, error).into())
}

fn make_folder(folder: &Path) -> Result<(), Stop> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.map_err(|error| unwritable(folder, error))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Stop> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Stop::usage(format!("cannot read {}", path.display())).caused_by(error)),
    }
}

fn unwritable(path: &Path, error: io::Error) -> Stop {
    Stop::usage(format!("cannot write {}", path.display())).caused_by(error)
}

fn unreadable(error: StoreError) -> Stop {
    Stop::unavailable("the ledger's database cannot be read").caused_by(error)
}
