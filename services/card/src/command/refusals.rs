//! What an import writes about its lines: counts, the list of the refused ones, and those lines themselves.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use banqiao_card::{IMPORT_BATCH, ImportCounts, LineOutcome, RefusedLines, RefusedReport};
use banqiao_kit::{SheetColumn, SheetError, SheetRow, read_sheet, sheet_path};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::progress;

/// Batches that wait while one is written.
const AHEAD: usize = 2;

/// A file of records, and where its refused lines go.
#[derive(Debug, clap::Args)]
pub(crate) struct SheetFile {
    /// CSV file in UTF-8, or XLSX; its header names the columns, by field, 人社 code or in Chinese.
    #[arg(value_name = "FILE.csv|FILE.xlsx")]
    pub(crate) file: PathBuf,
    /// Configuration file; its database is written.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Where the refused lines are listed with field and rule, without what they hold. Default: FILE.refused.csv.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where the refused lines themselves are written, with place, field and rule, to be corrected and imported again. It holds
    /// people's records.
    #[arg(long, value_name = "FILE.csv|FILE.xlsx", value_parser = sheet_path)]
    refused: Option<PathBuf>,
    /// Prints the counts as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Batches of a file's rows, as they are read.
pub(crate) struct Batches {
    rows: mpsc::Receiver<Vec<SheetRow>>,
    reading: tokio::task::JoinHandle<Result<(), SheetError>>,
    path: PathBuf,
    bar: ProgressBar,
}

impl SheetFile {
    /// Begins to read the file, after a look at the names of those that are written.
    pub(crate) fn open(
        self,
        columns: &'static [SheetColumn],
    ) -> anyhow::Result<(Batches, Refusals)> {
        let report = self.report;
        let report = report.unwrap_or_else(|| self.file.with_extension("refused.csv"));
        let cannot_open = || format!("cannot open {}", self.file.display());
        let length = fs::metadata(&self.file).with_context(cannot_open)?.len();
        for output in self.refused.iter().chain([&report]) {
            apart(output, &self.file)?;
        }
        if let Some(refused) = &self.refused {
            anyhow::ensure!(
                *refused != report,
                "--refused and --report name the same file"
            );
        }
        let (sender, rows) = mpsc::channel(AHEAD);
        let path = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || read(&path, columns, &sender));
        let batches = Batches {
            rows,
            reading,
            path: self.file,
            bar: progress(length)?,
        };
        let refusals = Refusals {
            columns,
            report: (report, None),
            lines: self.refused.map(|path| (path, None)),
            counts: ImportCounts::default(),
            json: self.json,
        };
        Ok((batches, refusals))
    }
}

impl Batches {
    /// The next rows; none at the end of the file.
    pub(crate) async fn next(&mut self) -> Option<Vec<SheetRow>> {
        let batch = self.rows.recv().await?;
        let position = batch.last().map_or(0, |row| row.position);
        self.bar.set_position(position);
        Some(batch)
    }

    /// Says beside the progress how many lines were refused.
    pub(crate) fn tell(&self, refusals: &Refusals) {
        self.bar
            .set_message(format!("{} refused", refusals.counts.refused));
    }

    /// Whether the file was read to its end.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        let read = self.reading.await?;
        read.with_context(|| format!("cannot import {}", self.path.display()))
    }
}

/// Refuses to write the refused lines over the file that is read.
pub(crate) fn apart(output: &Path, read: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !is_same(output, read),
        "the refused lines would be written over the file that is read: {}",
        output.display()
    );
    Ok(())
}

/// Whether two paths are one file that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn read(
    path: &Path,
    columns: &[SheetColumn],
    sender: &mpsc::Sender<Vec<SheetRow>>,
) -> Result<(), SheetError> {
    let mut batch = Vec::with_capacity(IMPORT_BATCH);
    read_sheet(path, columns, |row| {
        batch.push(row);
        if batch.len() < IMPORT_BATCH {
            return true;
        }
        // Nobody receives once the import has failed.
        let whole = std::mem::replace(&mut batch, Vec::with_capacity(IMPORT_BATCH));
        sender.blocking_send(whole).is_ok()
    })?;
    if !batch.is_empty() {
        let _ = sender.blocking_send(batch);
    }
    Ok(())
}

/// Counts, and files that are made when the first line is refused.
pub(crate) struct Refusals {
    columns: &'static [SheetColumn],
    report: (PathBuf, Option<RefusedReport<BufWriter<File>>>),
    lines: Option<(PathBuf, Option<RefusedLines>)>,
    counts: ImportCounts,
    json: bool,
}

impl Refusals {
    /// Counts a row.
    pub(crate) fn count(&mut self, row: &SheetRow, outcome: LineOutcome) -> anyhow::Result<()> {
        let line = row.line.number();
        self.counts.add(&outcome.result(line));
        if let LineOutcome::Refused(faults) = outcome {
            self.report()?.add(line, &faults)?;
            if let Some(lines) = self.lines()? {
                lines.add(row, &faults)?;
            }
        }
        Ok(())
    }

    fn report(&mut self) -> anyhow::Result<&mut RefusedReport<BufWriter<File>>> {
        let (path, report) = &mut self.report;
        let begun = match report.take() {
            Some(begun) => begun,
            None => {
                let file = File::create(&*path);
                let file = file.with_context(|| format!("cannot write {}", path.display()))?;
                RefusedReport::new(BufWriter::new(file))?
            }
        };
        Ok(report.insert(begun))
    }

    fn lines(&mut self) -> anyhow::Result<Option<&mut RefusedLines>> {
        let Some((path, lines)) = &mut self.lines else {
            return Ok(None);
        };
        let begun = match lines.take() {
            Some(begun) => begun,
            None => RefusedLines::create(path, self.columns)
                .with_context(|| format!("cannot write {}", path.display()))?,
        };
        Ok(Some(lines.insert(begun)))
    }

    /// Says what became of the lines, and whether some were refused.
    pub(crate) fn finish(self) -> anyhow::Result<bool> {
        let ImportCounts {
            created,
            updated,
            unchanged,
            refused,
        } = self.counts;
        let (report, begun) = self.report;
        let report = begun.is_some().then_some(report);
        if let Some(begun) = begun {
            begun.finish()?;
        }
        let mut lines = None;
        if let Some((path, Some(begun))) = self.lines {
            begun.finish()?;
            lines = Some(path);
        }
        let mut out = io::stdout().lock();
        if self.json {
            let counts = serde_json::json!({
                "created": created, "updated": updated, "unchanged": unchanged, "refused": refused,
                "report": report, "refused_lines": lines,
            });
            writeln!(out, "{counts}")?;
            return Ok(report.is_some());
        }
        writeln!(
            out,
            "{created} new, {updated} changed, {unchanged} unchanged, {refused} refused"
        )?;
        if let Some(report) = &report {
            writeln!(out, "the refused lines are listed in {}", report.display())?;
        }
        if let Some(lines) = lines {
            let lines = lines.display();
            writeln!(
                out,
                "correct the refused lines in {lines} and import that file"
            )?;
        }
        Ok(report.is_some())
    }
}
