//! Commands that work on files.

pub(crate) mod quality;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
};

use anyhow::Context;
use banqiao_directory::Clock;
use banqiao_kit::Violation;
use banqiao_lab::{
    FhirError, LabConfig, LineOutcome, PUBLISH_BATCH, PublishCounts, Publisher, Reports, Store,
    StoreError, read_fhir,
};
use banqiao_proto::lab::v1::Report;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// What some programs begin a file in UTF-8 with (U+FEFF).
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Longest line: a bundle of some thousand reports.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// Publishes a file of FHIR bundles, one a line, with a progress bar on a terminal, and says whether something was refused.
pub(crate) async fn import(
    path: &Path,
    config: LabConfig,
    refused: &Path,
    json: bool,
) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bar = progress(file.metadata()?.len())?;
    let mut file = BufReader::new(file);
    let store = Store::open(&config.database).await?;
    let reports = Reports::new(
        store,
        config.city,
        Clock::system(),
        config.catalogue,
        config.institutions,
    );
    let mut import = Import {
        reports,
        path: refused,
        refused: None,
        counts: PublishCounts::default(),
        unheld: 0,
        batch: Vec::with_capacity(PUBLISH_BATCH),
        tasks: TaskTracker::new(),
        written: None,
    };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = (&mut file).take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            break;
        }
        anyhow::ensure!(
            line.ends_with(b"\n") || u64::try_from(read)? < MAX_LINE,
            "line {number} is longer than {MAX_LINE} bytes"
        );
        let text = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) if number == 1 => text,
            _ => &line,
        };
        import.line(number, text)?;
        if import.batch.len() >= PUBLISH_BATCH {
            import.publish().await?;
        }
        bar.inc(u64::try_from(read)?);
        bar.set_message(format!("{} refused", import.counts.refused));
    }
    import.publish().await?;
    import.settle().await?;
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

/// What became of each line of a batch.
type Written = Result<Vec<(u64, LineOutcome)>, StoreError>;

/// An import under way.
struct Import<'a> {
    reports: Reports,
    path: &'a Path,
    /// Made when the first report is refused.
    refused: Option<csv::Writer<BufWriter<File>>>,
    counts: PublishCounts,
    /// Elements that the service does not hold.
    unheld: usize,
    /// Line and report.
    batch: Vec<(u64, Option<Report>)>,
    tasks: TaskTracker,
    /// The batch that is written while the next one is read: parsing and the database need not wait for each other.
    written: Option<JoinHandle<Written>>,
}

impl Import<'_> {
    fn line(&mut self, number: u64, line: &[u8]) -> anyhow::Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match read_fhir(line) {
            Ok(read) => {
                self.unheld += read.unheld.len();
                self.batch.extend(
                    read.reports
                        .into_iter()
                        .map(|report| (number, Some(report))),
                );
            }
            Err(error) => {
                self.counts.refused += 1;
                let code = match error {
                    FhirError::NotJson(_) => "FHIR_JSON",
                    FhirError::TooManyResources => "FHIR_SIZE",
                    _ => "FHIR_RESOURCE",
                };
                self.refuse(number, "resource", code, &error.to_string())?;
            }
        }
        Ok(())
    }

    /// Begins to write the batch, after the one before it: a later line may supersede an earlier one.
    async fn publish(&mut self) -> anyhow::Result<()> {
        self.settle().await?;
        let (numbers, lines): (Vec<_>, Vec<_>) = self.batch.drain(..).unzip();
        let reports = self.reports.clone();
        self.written = Some(self.tasks.spawn(async move {
            let outcomes = reports.publish(&lines, &Publisher::Operator).await?;
            Ok(numbers.into_iter().zip(outcomes).collect())
        }));
        Ok(())
    }

    /// Waits for the batch that is being written, and counts what became of it.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let Some(written) = self.written.take() else {
            return Ok(());
        };
        for (number, outcome) in written.await?? {
            self.counts.add(&outcome);
            if let LineOutcome::Refused(faults) = outcome {
                for Violation { field, rule } in faults {
                    self.refuse(number, &field, rule.code, &rule.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, field: &str, code: &str, rule: &str) -> anyhow::Result<()> {
        let mut report = match self.refused.take() {
            Some(report) => report,
            None => {
                let file = File::create(self.path)
                    .with_context(|| format!("cannot write {}", self.path.display()))?;
                let mut report = csv::Writer::from_writer(BufWriter::new(file));
                report.write_record(["line", "field", "code", "rule"])?;
                report
            }
        };
        report.write_record([&line.to_string(), field, code, rule])?;
        self.refused = Some(report);
        Ok(())
    }

    async fn finish(self, json: bool) -> anyhow::Result<bool> {
        self.reports.store().close().await;
        let PublishCounts {
            created,
            superseded,
            unchanged,
            refused,
        } = self.counts;
        let mut out = io::stdout().lock();
        if json {
            let counts = serde_json::json!({
                "created": created, "superseded": superseded, "unchanged": unchanged,
                "refused": refused, "unheld": self.unheld,
                "report": self.refused.as_ref().map(|_| self.path),
            });
            writeln!(out, "{counts}")?;
        } else {
            writeln!(
                out,
                "{created} new, {superseded} superseded, {unchanged} unchanged, {refused} refused; \
                 {} elements are not held",
                self.unheld
            )?;
        }
        let Some(mut report) = self.refused else {
            return Ok(false);
        };
        report.flush()?;
        if !json {
            writeln!(out, "what was refused is listed in {}", self.path.display())?;
        }
        Ok(true)
    }
}
