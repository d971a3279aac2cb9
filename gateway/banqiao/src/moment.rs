//! Durations and moments as people write them.

use std::time::Duration;

use banqiao_directory::Clock;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, civil, tz::TimeZone};

/// Why a duration or moment is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MomentError {
    /// Not a duration.
    #[error("write a duration such as 500ms, 10s, 5min, 2h or 180d")]
    Duration,
    /// Not a moment.
    #[error(
        "write a moment such as 2h (ago), 2026-11-23, 2026-11-23T08:00 or 2026-11-23T08:00:00+08:00"
    )]
    Moment,
}

/// Parses a duration such as `500ms`, `10s`, `5min`, `2h` or `180d`; a day has 24 hours.
///
/// # Errors
///
/// [`MomentError::Duration`] for anything else, also for negative ones and for months, whose length varies.
pub fn parse_duration(text: &str) -> Result<Duration, MomentError> {
    let span: Span = text.parse().map_err(|_| MomentError::Duration)?;
    let signed: SignedDuration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| MomentError::Duration)?;
    Duration::try_from(signed).map_err(|_| MomentError::Duration)
}

/// A duration in the form that [`parse_duration`] reads.
pub fn format_duration(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |it| format!("{it:#}"))
}

/// A moment that a person wrote: absolute, or so long before or after now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Microseconds since 1970-01-01 UTC.
    At(i64),
    /// So many microseconds away from now.
    Away(i64),
}

impl Moment {
    /// Parses RFC 3339, a local date or date and time, `now`, or a duration.
    ///
    /// A date without an offset is in the machine's time zone. Which way a duration points is said by
    /// [`Moment::before`] and [`Moment::after`].
    ///
    /// # Errors
    ///
    /// [`MomentError::Moment`].
    pub fn parse(text: &str) -> Result<Self, MomentError> {
        if text == "now" {
            return Ok(Self::Away(0));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at.as_microsecond()));
        }
        if let Ok(local) = text.parse::<civil::DateTime>() {
            let at = TimeZone::system()
                .to_timestamp(local)
                .map_err(|_| MomentError::Moment)?;
            return Ok(Self::At(at.as_microsecond()));
        }
        let away = parse_duration(text).map_err(|_| MomentError::Moment)?;
        i64::try_from(away.as_micros())
            .map(Self::Away)
            .map_err(|_| MomentError::Moment)
    }

    /// The moment in microseconds, a duration counted back from now.
    pub fn before(self, clock: &Clock) -> i64 {
        match self {
            Self::At(us) => us,
            Self::Away(us) => clock.now_us().saturating_sub(us),
        }
    }

    /// The moment in microseconds, a duration counted on from now.
    pub fn after(self, clock: &Clock) -> i64 {
        match self {
            Self::At(us) => us,
            Self::Away(us) => clock.now_us().saturating_add(us),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        Self::parse(text)
    }
}

/// The moment in RFC 3339, UTC, microseconds: for machines.
pub fn utc(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| format!("{at:.6}"))
}

/// The moment in the machine's time zone, to the millisecond, with the offset: for people.
pub fn local(us: i64) -> String {
    let Ok(at) = Timestamp::from_microsecond(us) else {
        return us.to_string();
    };
    let offset = TimeZone::system().to_offset(at);
    format!("{:.3}", at.display_with_offset(offset))
}

/// The moment as protobuf's timestamp.
pub fn to_proto(us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: us.div_euclid(1_000_000),
        nanos: i32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}

/// Microseconds of protobuf's timestamp; finer digits are cut.
pub fn from_proto(at: &prost_types::Timestamp) -> i64 {
    at.seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(at.nanos) / 1_000)
}

#[cfg(test)]
mod tests {
    use banqiao_directory::ManualClock;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("10s", 10),
            ("5min", 300),
            ("24h", 86_400),
            ("180d", 15_552_000),
            ("1h 30m", 5_400),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "10", "-5s", "5 months", "1y", "ten"] {
            assert_eq!(parse_duration(bad), Err(MomentError::Duration), "{bad}");
        }
        for duration in [500, 60_000, 86_400_000].map(Duration::from_millis) {
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn moments_are_absolute_or_relative() {
        let clock = ManualClock::new(10_000_000_000).clock();
        assert_eq!(
            Moment::parse("2h").unwrap().before(&clock),
            10_000_000_000 - 7_200_000_000
        );
        assert_eq!(
            Moment::parse("2h").unwrap().after(&clock),
            10_000_000_000 + 7_200_000_000
        );
        assert_eq!(
            Moment::parse("1970-01-01T08:00:00+08:00"),
            Ok(Moment::At(0))
        );
        assert_eq!(Moment::parse("now").unwrap().before(&clock), 10_000_000_000);
        assert!(matches!(Moment::parse("2026-11-23"), Ok(Moment::At(_))));
        for bad in ["", "yesterday", "2026-13-01", "99999999999999999999d"] {
            assert!(Moment::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_written_for_machines_and_for_protobuf() {
        assert_eq!(utc(1_000_001), "1970-01-01T00:00:01.000001Z");
        assert_eq!(utc(i64::MAX), i64::MAX.to_string());
        assert_eq!(from_proto(&to_proto(-1)), -1);
        assert_eq!(to_proto(-1).nanos, 999_999_000);
    }
}
