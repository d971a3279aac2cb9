//! Commands about quality rounds.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use banqiao_directory::Clock;
use banqiao_kit::{CallError, SheetColumn, SheetRow, SheetWriter, Violation, read_sheet};
use banqiao_lab::{
    LabConfig, QualityActor, RESULT_SHEET, ROUND_SHEET, Reports, RoundLine, Rounds, SUBMIT_BATCH,
    Score, Store, SubmitCounts, SubmitLine, result_line, round_line, rounds_of,
};
use banqiao_telemetry::install_log;
use clap::Args;

/// Columns of the list of what was refused.
const REFUSED: [&str; 4] = ["line", "field", "code", "rule"];

/// A table to take over.
#[derive(Debug, Args)]
pub(crate) struct Table {
    /// Table as CSV in UTF-8 or as XLSX; its header names the columns.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Configuration file; its database is written.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where what was refused is listed with line, field and rule. Default: FILE.refused.csv.
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    /// Prints the counts as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A round to evaluate.
#[derive(Debug, Args)]
pub(crate) struct Evaluated {
    /// Number of the round.
    #[arg(value_name = "ROUND")]
    round: String,
    /// Configuration file; its database is written.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Registers the rounds of a table, and says whether some were refused.
pub(crate) async fn import_rounds(table: &Table) -> anyhow::Result<bool> {
    let (rounds, store) = open(&table.config).await?;
    let mut refused = Refused::new(table);
    let mut lines = Vec::new();
    for row in rows(&table.file, &ROUND_SHEET)? {
        match row.faults.as_slice() {
            [] => lines.push(round_line(row.line.number(), &row.values)),
            faults => refused.add(row.line.number(), faults)?,
        }
    }
    let (mut created, mut unchanged) = (0_u64, 0_u64);
    for RoundLine { line, round } in rounds_of(lines) {
        let registered = rounds.register(Some(&round), &QualityActor::Operator);
        match registered.await {
            Ok(true) => created += 1,
            Ok(false) => unchanged += 1,
            Err(CallError::CallerInvalid(faults)) => refused.add(line, &faults)?,
            Err(CallError::CallerRefused { refusal, .. }) => {
                let fault = Violation {
                    field: "round_id".into(),
                    rule: &refusal.rule,
                };
                refused.add(line, &[fault])?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    store.close().await;
    let counts = [("created", created), ("unchanged", unchanged)];
    refused.finish(&counts, table.json)
}

/// Takes over what institutions measured, and says whether something was refused.
pub(crate) async fn import_results(table: &Table) -> anyhow::Result<bool> {
    let (rounds, store) = open(&table.config).await?;
    let mut refused = Refused::new(table);
    let mut lines = Vec::new();
    for row in rows(&table.file, &RESULT_SHEET)? {
        match row.faults.as_slice() {
            [] => lines.push(result_line(row.line.number(), &row.values)),
            faults => refused.add(row.line.number(), faults)?,
        }
    }
    let mut counts = SubmitCounts::default();
    for batch in lines.chunks(SUBMIT_BATCH) {
        let outcomes = rounds.submit(batch, &QualityActor::Operator).await?;
        for (line, outcome) in batch.iter().zip(&outcomes) {
            counts.add(outcome);
            if let SubmitLine::Refused(faults) = outcome {
                refused.add(line.line, faults)?;
            }
        }
    }
    store.close().await;
    let counts = [
        ("created", counts.created),
        ("corrected", counts.corrected),
        ("unchanged", counts.unchanged),
    ];
    refused.finish(&counts, table.json)
}

/// Evaluates a round and lists how institutions did, as CSV.
pub(crate) async fn evaluate(of: &Evaluated) -> anyhow::Result<()> {
    let (rounds, store) = open(&of.config).await?;
    let evaluated = rounds.evaluate(&of.round, &QualityActor::Operator).await;
    store.close().await;
    let evaluated = evaluated?;
    let columns = [
        "institution",
        "item_code",
        "samples",
        "passed_samples",
        "passed",
    ];
    let mut out = SheetWriter::csv(io::stdout(), &columns)?;
    for score in &evaluated.scores {
        let Score {
            institution,
            item,
            samples,
            passed_samples,
        } = score;
        out.write(&[
            institution.to_string(),
            item.as_str().to_owned(),
            samples.to_string(),
            passed_samples.to_string(),
            score.is_passed().to_string(),
        ])?;
    }
    out.finish()?;
    Ok(())
}

async fn open(config: &Path) -> anyhow::Result<(Rounds, Store)> {
    let config = LabConfig::read(config)?;
    install_log(&config.telemetry)?;
    let store = Store::open(&config.database).await?;
    let reports = Reports::new(
        store.clone(),
        config.city,
        Clock::system(),
        config.catalogue,
        config.institutions,
    );
    Ok((Rounds::new(&reports, config.quality_organisers), store))
}

/// The rows of a table: some hundred for a round, so that all of them fit into memory.
fn rows(path: &Path, columns: &[SheetColumn]) -> anyhow::Result<Vec<SheetRow>> {
    let mut rows = Vec::new();
    read_sheet(path, columns, |row| {
        rows.push(row);
        rows.len() <= MOST_ROWS
    })
    .with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        rows.len() <= MOST_ROWS,
        "{} has more than {MOST_ROWS} lines: divide it",
        path.display()
    );
    Ok(rows)
}

/// Most lines of a table.
const MOST_ROWS: usize = 200_000;

/// The list of what was refused; its file is made at the first entry.
struct Refused {
    path: PathBuf,
    list: Option<csv::Writer<std::fs::File>>,
    count: u64,
}

impl Refused {
    fn new(table: &Table) -> Self {
        let path = table.refused.clone();
        Self {
            path: path.unwrap_or_else(|| table.file.with_extension("refused.csv")),
            list: None,
            count: 0,
        }
    }

    fn add(&mut self, line: u64, faults: &[Violation]) -> anyhow::Result<()> {
        self.count += 1;
        let mut list = match self.list.take() {
            Some(list) => list,
            None => {
                let mut list = csv::Writer::from_path(&self.path)
                    .with_context(|| format!("cannot write {}", self.path.display()))?;
                list.write_record(REFUSED)?;
                list
            }
        };
        for Violation { field, rule } in faults {
            list.write_record([
                &line.to_string(),
                field.as_ref(),
                rule.code,
                &rule.to_string(),
            ])?;
        }
        self.list = Some(list);
        Ok(())
    }

    /// Prints the counts, and says whether something was refused.
    fn finish(self, counts: &[(&str, u64)], json: bool) -> anyhow::Result<bool> {
        let listed = self.list.is_some();
        if let Some(mut list) = self.list {
            list.flush()?;
        }
        let mut out = io::stdout().lock();
        if json {
            let mut object: serde_json::Map<_, _> = counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), (*count).into()))
                .collect();
            object.insert("refused".to_owned(), self.count.into());
            let report = listed.then(|| self.path.display().to_string());
            object.insert("report".to_owned(), report.into());
            writeln!(out, "{}", serde_json::Value::Object(object))?;
            return Ok(listed);
        }
        for (name, count) in counts {
            write!(out, "{count} {name}, ")?;
        }
        writeln!(out, "{} refused", self.count)?;
        if listed {
            writeln!(out, "what was refused is listed in {}", self.path.display())?;
        }
        Ok(listed)
    }
}
