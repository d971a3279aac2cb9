//! `banqiao-card import`.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use banqiao_card::{
    CARD_COLUMNS, CardConfig, Cards, IMPORT_BATCH, ImportCounts, Importer, LineOutcome, Outcomes,
    RefusedLines, RefusedReport, Store, card_of,
};
use banqiao_directory::Clock;
use banqiao_kit::{SheetError, SheetRow, Violation, read_sheet, sheet_path};
use banqiao_proto::card::v1::ImportCardsRequest;
use banqiao_telemetry::install_log;
use tokio::sync::mpsc;

use super::progress;

/// Batches that wait while one is written.
const AHEAD: usize = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct ImportFile {
    /// CSV file in UTF-8, or XLSX; its header names the columns, by field, 人社 code or in Chinese.
    #[arg(value_name = "CARDS.csv|CARDS.xlsx")]
    cards: PathBuf,
    /// Configuration file; its database is written.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the refused lines are listed with field and rule, without what they hold. Default: CARDS.refused.csv.
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

impl ImportFile {
    /// Takes over the file, with a progress bar on a terminal, and says whether lines were refused.
    pub(crate) async fn run(self) -> anyhow::Result<bool> {
        let config = CardConfig::read(&self.config)?;
        install_log(&config.telemetry)?;
        let report = self.report;
        let report = report.unwrap_or_else(|| self.cards.with_extension("refused.csv"));
        let cannot_open = || format!("cannot open {}", self.cards.display());
        let length = fs::metadata(&self.cards).with_context(cannot_open)?.len();
        for output in self.refused.iter().chain([&report]) {
            anyhow::ensure!(
                !is_same(output, &self.cards),
                "the refused lines would be written over the file that is read: {}",
                output.display()
            );
        }
        if let Some(refused) = &self.refused {
            anyhow::ensure!(
                *refused != report,
                "--refused and --report name the same file"
            );
        }
        let bar = progress(length)?;
        let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
        let cards = Cards::new(store, config.city, Clock::system(), config.terms);
        let actor = cards.own_actor();
        let mut import = Import {
            importer: cards.importer(&actor),
            waiting: VecDeque::new(),
            report: (report, None),
            lines: self.refused.map(|path| (path, None)),
            counts: ImportCounts::default(),
        };
        let (sender, mut batches) = mpsc::channel(AHEAD);
        let path = self.cards.clone();
        let reading = tokio::task::spawn_blocking(move || read(&path, &sender));
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                known = import.importer.go_on(), if import.importer.is_under_way() => {
                    import.took(known?)?;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            bar.set_position(batch.last().map_or(0, |row| row.position));
            import.take(batch).await?;
            bar.set_message(format!("{} refused", import.counts.refused));
        }
        let read = reading.await?;
        let refused = import.finish(self.json).await?;
        cards.store().close().await;
        bar.finish_and_clear();
        read.with_context(|| format!("cannot import {}", self.cards.display()))?;
        Ok(refused)
    }
}

/// Whether two paths are one file that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn read(path: &Path, sender: &mpsc::Sender<Vec<SheetRow>>) -> Result<(), SheetError> {
    let mut batch = Vec::with_capacity(IMPORT_BATCH);
    read_sheet(path, &CARD_COLUMNS, |row| {
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

/// An import under way. Its files are made when the first line is refused.
struct Import<'a> {
    importer: Importer<'a>,
    /// Rows whose outcome is not known yet, with what was wrong with their form already.
    waiting: VecDeque<(SheetRow, Option<Vec<Violation>>)>,
    report: (PathBuf, Option<RefusedReport<BufWriter<File>>>),
    lines: Option<(PathBuf, Option<RefusedLines>)>,
    counts: ImportCounts,
}

impl Import<'_> {
    async fn take(&mut self, rows: Vec<SheetRow>) -> anyhow::Result<()> {
        let mut sound = Vec::with_capacity(rows.len());
        for row in rows {
            let faults = match card_of(&row) {
                Ok(card) => {
                    let (line, card) = (row.line.number(), Some(card));
                    sound.push(ImportCardsRequest { line, card });
                    None
                }
                Err(faults) => Some(faults),
            };
            self.waiting.push_back((row, faults));
        }
        let known = self.importer.take(sound).await?;
        self.took(known)
    }

    /// Counts the rows up to the last one whose outcome is known.
    fn took(&mut self, known: Outcomes) -> anyhow::Result<()> {
        let mut known = known.into_iter().peekable();
        while let Some((row, faults)) = self.waiting.front() {
            let outcome = match faults {
                Some(faults) => LineOutcome::Refused(faults.clone()),
                None => match known.next_if(|(line, _)| *line == row.line.number()) {
                    Some((_, outcome)) => outcome,
                    None => return Ok(()),
                },
            };
            let Some((row, _)) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.count(&row, outcome)?;
        }
        Ok(())
    }

    fn count(&mut self, row: &SheetRow, outcome: LineOutcome) -> anyhow::Result<()> {
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
            None => RefusedLines::create(path)
                .with_context(|| format!("cannot write {}", path.display()))?,
        };
        Ok(Some(lines.insert(begun)))
    }

    async fn finish(mut self, json: bool) -> anyhow::Result<bool> {
        let known = self.importer.finish().await?;
        self.took(known)?;
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
        if json {
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
