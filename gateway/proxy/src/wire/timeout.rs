//! The `grpc-timeout` header (gRPC over HTTP/2: "Timeout").

use std::time::Duration;

/// Largest value: the grammar has at most eight digits.
const MAX_VALUE: u128 = 99_999_999;

/// Units from the finest to the coarsest, with their length in nanoseconds.
const UNITS: [(char, u128); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60 * 1_000_000_000),
    ('H', 3_600 * 1_000_000_000),
];

/// Parses a `grpc-timeout`: one to eight digits and a unit of `H`, `M`, `S`, `m`, `u`, `n`.
///
/// Zero, which the grammar excludes and some clients send, is a deadline that has passed.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        'n' => Duration::from_nanos(value),
        'u' => Duration::from_micros(value),
        'm' => Duration::from_millis(value),
        'S' => Duration::from_secs(value),
        'M' => Duration::from_secs(value * 60),
        'H' => Duration::from_secs(value * 3_600),
        _ => return None,
    })
}

/// Writes a `grpc-timeout` in the finest unit that eight digits hold, never longer than `timeout`.
///
/// A timeout of zero is written as `1n`, the shortest that the grammar knows; one of more than 99,999,999 hours as
/// that many.
pub fn format_timeout(timeout: Duration) -> String {
    let nanos = timeout.as_nanos().max(1);
    let (unit, length) = UNITS
        .into_iter()
        .find(|(_, length)| nanos / length <= MAX_VALUE)
        .unwrap_or(UNITS[5]);
    format!("{}{unit}", (nanos / length).min(MAX_VALUE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_is_kept() {
        for (text, timeout) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("00000005S", Duration::from_secs(5)),
            ("3M", Duration::from_secs(180)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(text), Some(timeout), "{text}");
        }
        for text in [
            "",
            "S",
            "5",
            "100000000S",
            "-1S",
            "+1S",
            "1.5S",
            "1 S",
            " 1S",
            "1s",
            "1h",
            "1S ",
            "１S",
            "1秒",
        ] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn the_finest_unit_that_fits_is_used() {
        for (timeout, text) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(60), "60000000u"),
            (Duration::from_secs(86_400), "86400000m"),
            (Duration::from_secs(365 * 86_400), "31536000S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(format_timeout(timeout), text);
        }
    }

    proptest! {
        #[test]
        fn a_forwarded_timeout_never_grows(seconds in any::<u64>(), shift in 0_u32..64, nanos in 0_u32..1_000_000_000) {
            let timeout = Duration::new(seconds >> shift, nanos);
            let text = format_timeout(timeout);
            prop_assert!(text.len() <= 9);
            let forwarded = parse_timeout(&text).unwrap();
            prop_assert!(forwarded <= timeout.max(Duration::from_nanos(1)));
            // Little is lost: less than a hundred-thousandth, where eight digits can say it.
            let longest = Duration::from_secs(99_999_999 * 3_600);
            prop_assert!(timeout > longest || timeout - forwarded.min(timeout) <= timeout / 100_000);
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,12}") {
            parse_timeout(&text);
        }
    }
}
