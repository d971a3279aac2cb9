//! The `traceparent` header of W3C Trace Context.

use std::fmt;

use http::HeaderValue;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Length of a version-00 header: `00-` + 32 + `-` + 16 + `-` + 2.
const LENGTH: usize = 55;

/// A parsed `traceparent` (W3C Trace Context §3.2): which trace a caller is in, and as which span.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

impl TraceParent {
    /// Parses a header's value; `None` when it is to be ignored (§3.2.2: then a new trace begins).
    ///
    /// Of a later version than 00 the part that version 00 has is read.
    pub fn parse(value: &str) -> Option<Self> {
        let bytes = value.as_bytes();
        let (head, rest) = bytes.split_at_checked(LENGTH)?;
        let version = hex_byte(&head[..2])?;
        let separated = head[2] == b'-' && head[35] == b'-' && head[52] == b'-';
        let known_length = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !separated || !known_length {
            return None;
        }
        let trace = TraceId::from_bytes(hex_bytes(&head[3..35])?);
        let span = SpanId::from_bytes(hex_bytes(&head[36..52])?);
        let flags = hex_byte(&head[53..55])?;
        let sampled = TraceFlags::new(flags).is_sampled();
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self {
            trace,
            span,
            sampled,
        })
    }

    /// The header's value, in version 00.
    pub fn to_header(self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(self.to_string()).ok()?;
        // Each is another: kept in the HPACK table it would push out what comes again (RFC 7541 §2.3.2).
        value.set_sensitive(true);
        Some(value)
    }

    pub(crate) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace: context.trace_id(),
            span: context.span_id(),
            sampled: context.is_sampled(),
        })
    }

    pub(crate) fn to_remote_context(self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.trace, self.span, flags, true, TraceState::NONE)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case only, as §3.2.2 demands.
fn hex_byte(digits: &[u8]) -> Option<u8> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let [high, low] = digits else { return None };
    Some(nibble(*high)? << 4 | nibble(*low)?)
}

fn hex_bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_byte(digits)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of W3C Trace Context §3.2.3.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_survives_a_round_trip() {
        for text in [
            EXAMPLE,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ] {
            let parent = TraceParent::parse(text).unwrap();
            assert_eq!(parent.to_string(), text);
            assert_eq!(TraceParent::of(&parent.to_remote_context()), Some(parent));
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let later = EXAMPLE.replacen("00", "cc", 1);
        assert_eq!(TraceParent::parse(&later), TraceParent::parse(EXAMPLE));
        assert_eq!(
            TraceParent::parse(&format!("{later}-more")),
            TraceParent::parse(EXAMPLE)
        );
        assert_eq!(TraceParent::parse(&format!("{later}.more")), None);
    }

    #[test]
    fn malformed_headers_are_ignored() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
