//! What this process takes from its machine, read from `/proc/self` when metrics are. Elsewhere nothing is reported.

use std::fs;

use opentelemetry::metrics::Meter;

/// Linux reports times to programs in hundredths of a second, whatever the kernel's own tick (`man 7 time`, USER_HZ).
const TICKS_PER_S: f64 = 100.0;

pub(super) fn register(meter: &Meter) {
    meter
        .u64_observable_gauge("process.memory.usage")
        .with_description("Resident memory.")
        .with_unit("By")
        .with_callback(|observer| {
            if let Some(bytes) = resident_bytes() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
    meter
        .f64_observable_counter("process.cpu.time")
        .with_description("Processor time, user and system.")
        .with_unit("s")
        .with_callback(|observer| {
            if let Some(seconds) = cpu_seconds() {
                observer.observe(seconds, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process.open_file_descriptor.count")
        .with_description("Open file descriptors.")
        .with_callback(|observer| {
            if let Ok(entries) = fs::read_dir("/proc/self/fd") {
                // One of them is the directory that is being read.
                observer.observe((entries.count() as u64).saturating_sub(1), &[]);
            }
        })
        .build();
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may itself hold spaces and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_S)
}
