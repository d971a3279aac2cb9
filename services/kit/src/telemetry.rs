//! The `[telemetry]` table.

use banqiao_telemetry::{RawTelemetry, Resource, TelemetrySettings};
use toml::{Table, Value};

use crate::settings::Section;

/// Reads the table under `telemetry`, whose keys `banqiao-telemetry` knows; all of them may be left out.
pub fn read_telemetry(top: &mut Section<'_>, resource: Resource) -> Option<TelemetrySettings> {
    const KEY: &str = "telemetry";
    let table = match top.value(KEY) {
        None => Value::Table(Table::new()),
        Some(value) => value.clone(),
    };
    let raw: RawTelemetry = match table.try_into() {
        Ok(raw) => raw,
        Err(error) => {
            top.fault(KEY, error.message().to_owned());
            return None;
        }
    };
    match raw.parse(resource) {
        Ok(settings) => Some(settings),
        Err(faults) => {
            for fault in faults {
                top.fault(&format!("{KEY}.{}", fault.key), fault.message);
            }
            None
        }
    }
}
