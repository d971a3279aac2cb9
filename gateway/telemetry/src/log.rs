//! The log: `tracing` events on stderr.

use std::{
    cell::RefCell,
    io::{self, Write},
};

use tracing_subscriber::{Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    TelemetryError,
    redact::clean,
    settings::{LogFormat, TelemetrySettings},
};

/// Makes stderr the log of this process, in the format and through the filter of the settings.
///
/// Separate from [`crate::Telemetry::build`] because a process has one log, but may hold several gateways.
///
/// # Errors
///
/// [`TelemetryError::AlreadyInstalled`] when the process has a log.
pub fn install_log(settings: &TelemetrySettings) -> Result<(), TelemetryError> {
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(CleanLines(io::stderr));
    let lines = match settings.log_format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(settings.log_filter.to_filter()))
        .try_init()
        .map_err(|_| TelemetryError::AlreadyInstalled)
}

/// Makes writers that pass on one clean line per event.
pub(crate) struct CleanLines<F>(pub(crate) F);

impl<'a, F, W> MakeWriter<'a> for CleanLines<F>
where
    F: Fn() -> W + 'a,
    W: Write,
{
    type Writer = CleanLine<W>;

    fn make_writer(&'a self) -> CleanLine<W> {
        CleanLine(self.0())
    }
}

/// The formatter writes each event by one call with the whole line, so a call is an event.
pub(crate) struct CleanLine<W>(W);

impl<W: Write> Write for CleanLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        LINE.with_borrow_mut(|line| {
            clean(&String::from_utf8_lossy(event), line);
            self.0.write_all(line.as_bytes())
        })?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_event_is_one_line_without_identity_numbers_in_both_formats() {
        for json in [false, true] {
            let memory = Memory::default();
            let sink = memory.clone();
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(CleanLines(move || sink.clone()));
            let lines = if json {
                lines.json().boxed()
            } else {
                lines.boxed()
            };
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                let span = tracing::info_span!("call", exchange = "e-1");
                let _entered = span.enter();
                tracing::warn!(error = "bad row\n370202190001010009", "refused\u{202e}");
            });
            let text = String::from_utf8(memory.0.lock().clone()).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(
                !text.contains("3702021900") && !text.contains('\u{202e}'),
                "{text}"
            );
            assert!(text.contains("e-1"), "{text}");
        }
    }
}
