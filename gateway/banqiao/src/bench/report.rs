//! The figures, as a table or as JSON.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::{echo, load::Sample};

/// One row: medians of its runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    way: &'static str,
    method: &'static str,
    calls_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// CPU microseconds for each call, of all gateways together.
    cpu_us: f64,
    runs: usize,
}

impl Row {
    pub(super) fn median(way: &'static str, method: &str, samples: Vec<Sample>) -> Self {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Self {
            way,
            method: if method == echo::READ {
                "no side effects"
            } else {
                "side effects"
            },
            calls_per_s: of(|sample| sample.calls_per_s),
            p50_us: of(|sample| sample.p50_us),
            p99_us: of(|sample| sample.p99_us),
            cpu_us: of(|sample| sample.cpu_us.iter().sum()),
            runs: samples.len(),
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

pub(super) fn print(out: &mut (dyn Write + Send), rows: &[Row], as_json: bool) -> Result<()> {
    if as_json {
        writeln!(out, "{}", json!({ "machine": machine(), "rows": rows }))?;
        return Ok(());
    }
    writeln!(out, "{}\n", machine())?;
    writeln!(
        out,
        "{:16} {:13} {:>9} {:>9} {:>9} {:>12}",
        "method", "way", "calls/s", "p50 ms", "p99 ms", "CPU µs/call"
    )?;
    for row in rows {
        let cpu = if row.cpu_us < 0.05 {
            "–".to_owned()
        } else {
            format!("{:.0}", row.cpu_us)
        };
        writeln!(
            out,
            "{:16} {:13} {:>9.0} {:>9.2} {:>9.2} {cpu:>12}",
            row.method,
            row.way,
            row.calls_per_s,
            row.p50_us / 1_000.0,
            row.p99_us / 1_000.0,
        )?;
    }
    writeln!(
        out,
        "\nMedians of {} runs. CPU is user and system time of the gateway processes.",
        rows.first().map_or(0, |row| row.runs)
    )?;
    Ok(())
}

/// The machine that the figures are of.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} × {}, Linux {}",
        cores,
        model.map_or("unknown CPU", |(_, model)| model),
        kernel.trim()
    )
}
