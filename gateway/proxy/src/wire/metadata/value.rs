//! Values of the reserved metadata.

use std::{fmt, str::FromStr};

use banqiao_directory::{CityCode, SpiffeId, is_plain_text};
use http::HeaderValue;
use uuid::{Uuid, Version};

/// Value of `banqiao-to`: whom a call is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The city's system that provides the service.
    City(CityCode),
    /// One system.
    System(SpiffeId),
    /// Every city at once: `*`.
    All,
}

impl Target {
    /// The value as it stands in the metadata.
    pub fn as_str(&self) -> &str {
        match self {
            Self::City(code) => code.as_str(),
            Self::System(id) => id.as_str(),
            Self::All => "*",
        }
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "*" {
            Ok(Self::All)
        } else if text.starts_with("spiffe:") {
            text.parse().map(Self::System).map_err(|_| ())
        } else {
            text.parse().map(Self::City).map_err(|_| ())
        }
    }
}

/// Kind of a legal basis (PIPL art. 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasisKind {
    /// Consent of the person, with a reference to where it is kept.
    Consent,
    /// An emergency.
    Emergency,
    /// A statutory duty, with its citation.
    Statutory,
}

/// Value of `banqiao-basis`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    kind: BasisKind,
    raw: String,
    text: String,
}

impl Basis {
    /// Reads a basis from its form on the wire and its percent-decoded form.
    pub(super) fn new(raw: &str, decoded: &str) -> Option<Self> {
        // The word before the colon is ASCII and never escaped.
        let (kind, text) = match raw.split_once(':') {
            None if raw == "emergency" => (BasisKind::Emergency, ""),
            Some(("statutory", _)) => (BasisKind::Statutory, decoded.split_once(':')?.1),
            Some(("consent", _)) => (BasisKind::Consent, decoded.split_once(':')?.1),
            _ => return None,
        };
        if kind != BasisKind::Emergency && text.trim().is_empty() {
            return None;
        }
        Some(Self {
            kind,
            raw: raw.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The kind.
    pub const fn kind(&self) -> BasisKind {
        self.kind
    }

    /// The whole value as it came, percent-escapes included: printable ASCII.
    pub fn as_sent(&self) -> &str {
        &self.raw
    }

    /// The citation or reference, decoded. Empty for an emergency.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Value of `banqiao-exchange-id`: a UUIDv7, `/`, and the number of the attempt, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId {
    /// The exchange, a UUIDv7.
    pub uuid: Uuid,
    /// The attempt, from 1.
    pub attempt: u32,
}

impl ExchangeId {
    /// The ID as metadata.
    pub fn header_value(self) -> HeaderValue {
        // 36 characters, a slash and at most ten digits are always a header value.
        let value = HeaderValue::from_str(&self.to_string());
        let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
        // Each is another: kept in the HPACK table it would push out what comes again (RFC 7541 §2.3.2).
        value.set_sensitive(true);
        value
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uuid.hyphenated(), self.attempt)
    }
}

impl FromStr for ExchangeId {
    type Err = ();

    /// Takes the canonical form only, so that one exchange has one spelling.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (uuid, attempt) = text.split_once('/').ok_or(())?;
        let id = Self {
            uuid: Uuid::try_parse(uuid).map_err(|_| ())?,
            attempt: attempt.parse().map_err(|_| ())?,
        };
        let sound = id.uuid.get_version() == Some(Version::SortRand)
            && id.attempt > 0
            && id.to_string() == text;
        if sound { Ok(id) } else { Err(()) }
    }
}

/// Decodes `%XX` escapes; the result is UTF-8 that is not blank and hides nothing in display ([`is_plain_text`]).
pub(super) fn percent_decode(encoded: &str) -> Option<String> {
    let text = if encoded.contains('%') {
        let mut bytes = Vec::with_capacity(encoded.len());
        let mut rest = encoded.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first == b'%' {
                let (escape, tail) = rest.split_at_checked(2)?;
                rest = tail;
                let [high, low] =
                    [escape[0], escape[1]].map(|digit| char::from(digit).to_digit(16));
                bytes.push(u8::try_from(high? * 16 + low?).ok()?);
            } else {
                bytes.push(first);
            }
        }
        String::from_utf8(bytes).ok()?
    } else {
        encoded.to_owned()
    };
    is_plain_text(&text, usize::MAX).then_some(text)
}
