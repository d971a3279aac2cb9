//! Who calls and why, from the `banqiao-` metadata that the city's gateway sets.
//!
//! The gateway authenticated the client and checked its grant; these values are its statement. They are believed only because
//! the connection is the gateway's own (the server refuses every other).

use std::{fmt, sync::LazyLock};

use banqiao_directory::SpiffeId;
use banqiao_proto::{
    exchange::v1::{Metadata, MetadataRule, Reason},
    reasons,
};
use http::HeaderMap;
use uuid::Uuid;

/// Longest value of a name, in bytes: the gateway's own limit of header lists is 16 KiB, and none of these needs a tenth of it.
const MAX_VALUE: usize = 1_024;
/// Longest purpose code.
const MAX_PURPOSE: usize = 64;

/// A metadata name that breaks the rules of the hop from gateway to service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata `{name}`: {rule}")]
pub struct MetadataFault {
    /// The name. Only names from the table or of the reserved prefix are shown, never a value.
    pub name: String,
    /// What is wrong with it.
    pub rule: &'static str,
    /// [`Reason::MetadataReserved`] or [`Reason::MetadataInvalid`].
    pub reason: Reason,
}

/// Legal basis of a call (PIPL art. 13).
#[derive(Clone, PartialEq, Eq)]
pub enum Basis {
    /// The consent of the person, with its reference.
    Consent(String),
    /// Emergency to life, health or property.
    Emergency,
    /// A statutory duty, with law and article.
    Statutory(String),
}

impl Basis {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "emergency" => Some(Self::Emergency),
            Some((_, "")) => None,
            Some(("statutory", citation)) => Some(Self::Statutory(citation.to_owned())),
            Some(("consent", reference)) => Some(Self::Consent(reference.to_owned())),
            _ => None,
        }
    }

    /// The form on the wire, before percent-encoding.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Consent(reference) => format!("consent:{reference}"),
            Self::Emergency => "emergency".to_owned(),
            Self::Statutory(citation) => format!("statutory:{citation}"),
        }
    }
}

impl fmt::Debug for Basis {
    // A consent's reference may lead to a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consent(_) => f.write_str("Consent(redacted)"),
            Self::Emergency => f.write_str("Emergency"),
            Self::Statutory(citation) => f.debug_tuple("Statutory").field(citation).finish(),
        }
    }
}

/// Purpose code of the directory, such as `benefit-eligibility`: `a-z`, `0-9` and `-`, at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Purpose(String);

impl Purpose {
    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a code; none where the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let fits = !text.is_empty() && text.len() <= MAX_PURPOSE && text.bytes().all(sound);
        fits.then(|| Self(text.to_owned()))
    }
}

/// An exchange and its attempt: the same at both cities, in every answer, error and log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId {
    /// UUIDv7 of the exchange.
    pub exchange: Uuid,
    /// Number of the attempt.
    pub attempt: u32,
}

impl ExchangeId {
    /// The exchange of a request whose other metadata may be at fault.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        text(headers, Metadata::ExchangeId)
            .ok()
            .flatten()
            .and_then(Self::parse)
    }

    /// Parses `UUIDv7/attempt`; none where the text is not that.
    pub fn parse(text: &str) -> Option<Self> {
        let (exchange, attempt) = text.split_once('/')?;
        let exchange = Uuid::try_parse(exchange)
            .ok()
            .filter(|uuid| uuid.get_version_num() == 7)?;
        // `+1` would parse as a number too.
        let attempt = attempt
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(attempt)?;
        Some(Self {
            exchange,
            attempt: attempt.parse().ok()?,
        })
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.exchange, self.attempt)
    }
}

/// An assertion of the client about itself that may name a person: an operator, or a case. `Debug` redacts.
#[derive(Clone, PartialEq, Eq)]
pub struct Asserted(String);

impl Asserted {
    /// An assertion of this service's own: 1 to 1024 bytes without control characters; none where the text is not that.
    pub fn parse(text: &str) -> Option<Self> {
        is_sound(text).then(|| Self(text.to_owned()))
    }

    /// The text as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Asserted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asserted(redacted)")
    }
}

/// The context of a call. [`crate::Server`] puts it into the extensions of each request to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client system, in this city or another.
    pub client: SpiffeId,
    /// What the call is for.
    pub purpose: Purpose,
    /// What it rests on.
    pub basis: Basis,
    /// The official or doctor on whose behalf the system asks.
    pub operator: Option<Asserted>,
    /// 办件编号, visit or docket number.
    pub case: Option<Asserted>,
    /// The exchange in both cities' ledgers.
    pub exchange: ExchangeId,
}

/// The names that may stand on the hop from gateway to service.
static ALLOWED: LazyLock<Vec<&'static MetadataRule>> = LazyLock::new(|| {
    let rules = reasons().metadata().iter().map(|(_, rule)| rule);
    rules.filter(|rule| rule.gateway_to_service).collect()
});

impl Caller {
    /// Reads the context of a call from its headers.
    ///
    /// # Errors
    /// A reserved name that this hop may not carry or that stands twice; a name that is missing or malformed.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, MetadataFault> {
        refuse_reserved(headers)?;
        let required = |metadata| {
            text(headers, metadata)?
                .ok_or_else(|| invalid(metadata, "is required from the gateway"))
        };
        let client = required(Metadata::Client)?
            .parse()
            .map_err(|_| invalid(Metadata::Client, "is no SPIFFE ID of a system"))?;
        let purpose = Purpose::parse(required(Metadata::Purpose)?)
            .ok_or_else(|| invalid(Metadata::Purpose, "is no purpose code"))?;
        let basis = Basis::parse(required(Metadata::Basis)?).ok_or_else(|| {
            invalid(
                Metadata::Basis,
                "is none of statutory:<citation>, consent:<reference>, emergency",
            )
        })?;
        let exchange = ExchangeId::parse(required(Metadata::ExchangeId)?)
            .ok_or_else(|| invalid(Metadata::ExchangeId, "is no UUIDv7/attempt"))?;
        let asserted =
            |metadata| Ok(text(headers, metadata)?.map(|value| Asserted(value.to_owned())));
        let (operator, case) = (asserted(Metadata::Operator)?, asserted(Metadata::Case)?);
        Ok(Self {
            client,
            purpose,
            basis,
            operator,
            case,
            exchange,
        })
    }
}

fn refuse_reserved(headers: &HeaderMap) -> Result<(), MetadataFault> {
    for name in headers
        .keys()
        .filter(|name| name.as_str().starts_with("banqiao-"))
    {
        let rule = if !ALLOWED.iter().any(|rule| rule.name == name.as_str()) {
            "may not stand on the hop from gateway to service"
        } else if headers.get_all(name).iter().nth(1).is_some() {
            "stands more than once"
        } else {
            continue;
        };
        let name = name.as_str().to_owned();
        return Err(MetadataFault {
            name,
            rule,
            reason: Reason::MetadataReserved,
        });
    }
    Ok(())
}

fn text(headers: &HeaderMap, metadata: Metadata) -> Result<Option<&str>, MetadataFault> {
    let Some(value) = headers.get(name_of(metadata)) else {
        return Ok(None);
    };
    let value = std::str::from_utf8(value.as_bytes()).ok();
    match value.filter(|text| is_sound(text)) {
        Some(text) => Ok(Some(text)),
        None => Err(invalid(
            metadata,
            "has 1 to 1024 bytes of UTF-8 without control characters",
        )),
    }
}

fn is_sound(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_VALUE && !text.chars().any(char::is_control)
}

/// The name of a metadata on the wire.
pub(crate) fn name_of(metadata: Metadata) -> &'static str {
    let rules = reasons().metadata().iter();
    rules
        .filter(|(known, _)| *known == metadata)
        .map(|(_, rule)| rule.name.as_str())
        .next()
        .unwrap_or_default()
}

fn invalid(metadata: Metadata, rule: &'static str) -> MetadataFault {
    MetadataFault {
        name: name_of(metadata).to_owned(),
        rule,
        reason: Reason::MetadataInvalid,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const EXCHANGE: &str = "01937f5e-8f5a-7c3e-9a44-1f2b3c4d5e6f/2";

    fn headers(changes: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("banqiao-client", "spiffe://yantai.jiaodong/hospital/lab"),
            ("banqiao-purpose", "card-service"),
            ("banqiao-basis", "statutory:社会保险经办条例 art. 7"),
            ("banqiao-exchange-id", EXCHANGE),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        for (name, value) in changes {
            let name: HeaderName = name.parse().unwrap();
            if value.is_empty() {
                headers.remove(name);
            } else {
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
        headers
    }

    fn fault(changes: &[(&str, &str)]) -> (String, Reason) {
        let fault = Caller::from_headers(&headers(changes)).unwrap_err();
        (fault.name, fault.reason)
    }

    #[test]
    fn the_context_is_typed() {
        let changes = [
            ("banqiao-operator", "王医生"),
            ("banqiao-case", "3702022026112300000001K"),
        ];
        let caller = Caller::from_headers(&headers(&changes)).unwrap();
        assert_eq!(caller.client.trust_domain().as_str(), "yantai.jiaodong");
        assert_eq!(caller.purpose.as_str(), "card-service");
        assert_eq!(
            caller.basis,
            Basis::Statutory("社会保险经办条例 art. 7".to_owned())
        );
        assert_eq!(caller.exchange.to_string(), EXCHANGE);
        assert_eq!(caller.operator.as_ref().unwrap().as_str(), "王医生");
        let debug = format!("{caller:?}");
        assert!(
            !debug.contains("王医生") && !debug.contains("3702022026"),
            "{debug}"
        );
    }

    #[test]
    fn names_of_other_hops_and_repeated_names_are_reserved() {
        for (name, value) in [
            ("banqiao-to", "370200"),
            ("banqiao-receipt-bin", "AAAA"),
            ("banqiao-anything", "1"),
            ("banqiao-purpose", "medical-treatment"),
        ] {
            assert_eq!(
                fault(&[(name, value)]),
                (name.to_owned(), Reason::MetadataReserved)
            );
        }
    }

    #[test]
    fn missing_and_malformed_names_are_invalid() {
        for name in [
            "banqiao-client",
            "banqiao-purpose",
            "banqiao-basis",
            "banqiao-exchange-id",
        ] {
            assert_eq!(
                fault(&[(name, "")]),
                (name.to_owned(), Reason::MetadataInvalid)
            );
        }
        for (name, value) in [
            ("banqiao-client", "https://yantai.jiaodong/a"),
            ("banqiao-purpose", "Card Service"),
            ("banqiao-basis", "consent:"),
            ("banqiao-basis", "because"),
            (
                "banqiao-exchange-id",
                "01937f5e-8f5a-7c3e-9a44-1f2b3c4d5e6f",
            ),
            (
                "banqiao-exchange-id",
                "01937f5e-8f5a-7c3e-9a44-1f2b3c4d5e6f/+1",
            ),
            (
                "banqiao-exchange-id",
                "01937f5e-8f5a-4c3e-9a44-1f2b3c4d5e6f/1",
            ),
        ] {
            let fault = fault(&[(name, ""), (name, value)]);
            assert_eq!(fault, (name.to_owned(), Reason::MetadataInvalid), "{value}");
        }
    }
}
