//! What a gateway or service answered, in words.

use std::{fmt::Write as _, io};

use banqiao_proto::{ReasonTable, exchange::v1::Reason, reasons};
use tonic::{Status, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use crate::{
    exit::{Exit, Stop},
    moment::format_duration,
    reasons::code_name,
    text::clean,
};

/// Name of the metadata that carries the exchange id and attempt.
pub const EXCHANGE_ID: &str = "banqiao-exchange-id";

/// The exchange id and attempt of an answer, made safe to print.
pub fn exchange_id(metadata: &MetadataMap) -> Option<String> {
    let value = metadata.get(EXCHANGE_ID)?.to_str().ok()?;
    Some(clean(value).into_owned())
}

/// The gateway's reason, if a gateway gave one.
pub fn reason(status: &Status) -> Option<Reason> {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .filter(|info| info.domain == "banqiao")?;
    ReasonTable::by_name(&info.reason)
}

/// A status in words: code, message, reason, what to do, and which fields are at fault.
pub fn describe(status: &Status) -> String {
    let mut text = format!("{}: {}", code_name(status.code()), clean(status.message()));
    let details = status.get_error_details();
    // Writing to a string cannot fail.
    if let Some(reason) = reason(status) {
        let _ = write!(text, "\n  reason: {}", ReasonTable::name(reason));
        let _ = write!(text, "\n  what to do: {}", reasons().rule(reason).remedy);
    } else if let Some(info) = details.error_info() {
        let _ = write!(
            text,
            "\n  reason: {} ({})",
            clean(&info.reason),
            clean(&info.domain)
        );
    }
    for violation in details
        .bad_request()
        .into_iter()
        .flat_map(|it| &it.field_violations)
    {
        let _ = write!(
            text,
            "\n  {}: {}",
            clean(&violation.field),
            clean(&violation.description)
        );
    }
    if let Some(delay) = details.retry_info().and_then(|it| it.retry_delay) {
        let _ = write!(text, "\n  try again in: {}", format_duration(delay));
    }
    if let Some(exchange) = exchange_id(status.metadata()) {
        let _ = write!(text, "\n  exchange: {exchange}");
    }
    text
}

/// A refused admin call as an error with its exit code.
pub fn stop(status: &Status) -> Stop {
    let exit = match reason(status) {
        Some(Reason::RoleMissing) => Exit::NotPermitted,
        _ => Exit::Failed,
    };
    Stop::new(exit, describe(status))
}

/// Prints an error with its causes to `out`.
///
/// # Errors
///
/// When the writer fails.
pub fn print_error(out: &mut dyn io::Write, error: &anyhow::Error) -> io::Result<()> {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    writeln!(out, "error: {}", lines(&first))?;
    let mut last = first;
    for cause in causes {
        // Some libraries repeat their source in their own text.
        if !last.contains(&cause) {
            writeln!(out, "  because: {}", lines(&cause))?;
        }
        last = cause;
    }
    Ok(())
}

/// Our own messages may have several lines; each is made safe.
fn lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused() -> Status {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("RATE_EXCEEDED", "banqiao", [] as [(String, String); 0])
            .set_retry_info(Some(Duration::from_secs(2)))
            .add_bad_request_violation("name\u{1b}", "bad\nline");
        let mut status = Status::with_error_details(
            Code::ResourceExhausted,
            "rate of\u{202e} the grant",
            details,
        );
        status
            .metadata_mut()
            .insert(EXCHANGE_ID, "019ab/1".parse().unwrap());
        status
    }

    #[test]
    fn a_status_says_what_to_do_and_moves_no_cursor() {
        assert_eq!(
            describe(&refused()),
            "RESOURCE_EXHAUSTED: rate of\\u{202e} the grant\n  reason: RATE_EXCEEDED\n  \
             what to do: try again after the delay in RetryInfo\n  name\\u{1b}: bad\\nline\n  \
             try again in: 2s\n  exchange: 019ab/1"
        );
    }

    #[test]
    fn a_missing_role_has_its_own_exit_code() {
        let mut details = ErrorDetails::new();
        details.set_error_info("ROLE_MISSING", "banqiao", [] as [(String, String); 0]);
        let status = Status::with_error_details(Code::PermissionDenied, "x", details);
        assert_eq!(stop(&status).exit(), Exit::NotPermitted);
        assert_eq!(stop(&refused()).exit(), Exit::Failed);
    }

    #[test]
    fn each_cause_is_printed_once() {
        let error = anyhow::Error::new(io::Error::other("disk\u{7} full")).context("cannot write");
        let mut out = Vec::new();
        print_error(&mut out, &error).unwrap();
        let printed = String::from_utf8(out).unwrap();
        assert_eq!(printed, "error: cannot write\n  because: disk\\u{7} full\n");
    }
}
