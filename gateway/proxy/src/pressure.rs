//! Memory pressure: when load is shed, and when not even connections are taken.

use std::sync::atomic::{AtomicU8, Ordering};

/// Share of the limit, in percent, from which calls are refused.
const SHED: u64 = 85;
/// Share of the limit, in percent, from which connections are refused.
const STOP: u64 = 95;

/// The pressure, sampled once a second.
#[derive(Debug, Default)]
pub(crate) struct Pressure(AtomicU8);

impl Pressure {
    /// Takes a sample of the process's resident memory against the limit; 0 is no limit.
    pub(crate) fn sample(&self, limit: u64) {
        let level = match resident() {
            Some(resident) if limit > 0 && resident >= limit / 100 * STOP => 2,
            Some(resident) if limit > 0 && resident >= limit / 100 * SHED => 1,
            _ => 0,
        };
        let before = self.0.swap(level, Ordering::Relaxed);
        if before != level {
            tracing::warn!(
                level,
                "memory pressure changed (0 none, 1 shedding, 2 closed)"
            );
        }
    }

    pub(crate) fn sheds(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1
    }

    pub(crate) fn refuses_connections(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }
}

/// Resident memory in bytes, where the system tells it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1_024)
}
