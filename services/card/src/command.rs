//! Commands that work on files.

pub(crate) mod benefits;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::Context;
use banqiao_card::{
    CardConfig, Cards, IMPORT_BATCH, ImportCounts, LineOutcome, RefusedReport, SheetLine,
    SheetReader, Store, rulebook, synthetic, write_sheet,
};
use banqiao_directory::{CityCode, Clock};
use banqiao_proto::card::v1::ImportCardsRequest;
use indicatif::{ProgressBar, ProgressStyle};

/// Takes over a file, with a progress bar on a terminal, and says whether lines were refused.
pub(crate) async fn import(
    path: &Path,
    config: CardConfig,
    report: &Path,
    json: bool,
) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bar = progress(file.metadata()?.len())?;
    let mut sheet = SheetReader::new(file)?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let cards = Cards::new(store, config.city, Clock::system(), config.terms);
    let mut import = Import {
        cards,
        report,
        refused: None,
        counts: ImportCounts::default(),
    };
    let mut batch = Vec::with_capacity(IMPORT_BATCH);
    loop {
        let line = sheet.next_line()?;
        let ended = line.is_none();
        batch.extend(line);
        if batch.len() == IMPORT_BATCH || ended {
            import.take(batch.drain(..)).await?;
            bar.set_position(sheet.position());
            bar.set_message(format!("{} refused", import.counts.refused));
        }
        if ended {
            break;
        }
    }
    bar.finish_and_clear();
    import.finish(json).await
}

fn progress(bytes: u64) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(bytes);
    bar.set_style(ProgressStyle::with_template(
        "{bar:32} {percent:>3} %  {binary_bytes_per_sec}  {eta} left  {msg}",
    )?);
    Ok(bar)
}

/// An import under way.
struct Import<'a> {
    cards: Cards,
    report: &'a Path,
    /// Made when the first line is refused.
    refused: Option<RefusedReport<BufWriter<File>>>,
    counts: ImportCounts,
}

impl Import<'_> {
    async fn take(&mut self, lines: impl Iterator<Item = SheetLine>) -> anyhow::Result<()> {
        let (mut sound, mut outcomes) = (Vec::new(), Vec::new());
        for SheetLine { line, card } in lines {
            match card {
                Ok(card) => sound.push(ImportCardsRequest {
                    line,
                    card: Some(card),
                }),
                Err(faults) => outcomes.push((line, LineOutcome::Refused(faults))),
            }
        }
        let taken = self.cards.import(&sound, &self.cards.own_actor()).await?;
        outcomes.extend(sound.iter().map(|line| line.line).zip(taken));
        outcomes.sort_by_key(|(line, _)| *line);
        for (line, outcome) in outcomes {
            self.counts.add(&outcome.result(line));
            if let LineOutcome::Refused(faults) = outcome {
                self.refused()?.add(line, &faults)?;
            }
        }
        Ok(())
    }

    fn refused(&mut self) -> anyhow::Result<&mut RefusedReport<BufWriter<File>>> {
        let report = match self.refused.take() {
            Some(report) => report,
            None => {
                let file = File::create(self.report)
                    .with_context(|| format!("cannot write {}", self.report.display()))?;
                RefusedReport::new(BufWriter::new(file))?
            }
        };
        Ok(self.refused.insert(report))
    }

    async fn finish(self, json: bool) -> anyhow::Result<bool> {
        self.cards.store().close().await;
        let ImportCounts {
            created,
            updated,
            unchanged,
            refused,
        } = self.counts;
        let mut out = io::stdout().lock();
        if json {
            let counts = serde_json::json!({
                "created": created, "updated": updated, "unchanged": unchanged, "refused": refused,
                "report": self.refused.as_ref().map(|_| self.report),
            });
            writeln!(out, "{counts}")?;
        } else {
            writeln!(
                out,
                "{created} new, {updated} changed, {unchanged} unchanged, {refused} refused"
            )?;
        }
        let Some(report) = self.refused else {
            return Ok(false);
        };
        report.finish()?;
        if !json {
            writeln!(
                out,
                "the refused lines are listed in {}",
                self.report.display()
            )?;
        }
        Ok(true)
    }
}

/// Takes new cards into the stock and says how many were new.
pub(crate) async fn stock(path: &Path, config: CardConfig) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let cards = Cards::new(store, config.city, Clock::system(), config.terms);
    let added = cards.stock(file).await;
    cards.store().close().await;
    writeln!(io::stdout().lock(), "{} new cards in stock", added?)?;
    Ok(())
}

/// Writes the table of rules to stdout.
pub(crate) fn rules(json: bool) -> anyhow::Result<()> {
    let (book, mut out) = (rulebook(), io::stdout().lock());
    if json {
        writeln!(out, "{:#}", book.json())?;
    } else {
        write!(out, "{}", book.markdown())?;
    }
    Ok(())
}

/// Writes synthetic cards to stdout.
pub(crate) fn generate(city: CityCode, count: u32, seed: u64) -> anyhow::Result<()> {
    write_sheet(io::stdout().lock(), synthetic::holders(city, count, seed)?)?;
    Ok(())
}
