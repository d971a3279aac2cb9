//! How a call's end is written in trailers (gRPC over HTTP/2, "Responses"; `google.rpc.Status`).

use std::{collections::HashMap, fmt::Write, time::Duration};

use banqiao_proto::{
    ReasonTable,
    exchange::v1::{Layer, Reason, ReasonRule},
    reasons,
};
use base64::{
    Engine,
    engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD_INDIFFERENT},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use prost_types::Any;
use tonic_types::pb;

use super::metadata::ExchangeId;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const EXCHANGE_ID: HeaderName = HeaderName::from_static("banqiao-exchange-id");

/// Domain of our reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "banqiao";

/// Prefix of the type URLs of status details.
const TYPES: &str = "type.googleapis.com/";

/// `INTERNAL`: the code of reasons that are only ever a TLS alert or an entry, should one reach a status.
const INTERNAL: u32 = 13;

// Trailers stay well below the 8 KiB of metadata that client libraries take by default.
const MAX_MESSAGE: usize = 512;
const MAX_VIOLATIONS: usize = 8;
const MAX_VIOLATION_FIELD: usize = 64;
const MAX_VIOLATION_TEXT: usize = 128;

/// Largest encoded status of a peer that is looked into.
const MAX_DETAILS: usize = 8 * 1024;

/// `-bin` metadata: written without padding, read with or without it (gRPC over HTTP/2, "Binary-Header").
const BASE64: GeneralPurpose = STANDARD_NO_PAD_INDIFFERENT;

/// The status with which a gateway refuses or ends a call.
///
/// Code, layer and remedy come from the table of reasons. Where the table shows another reason to the caller, everything
/// that could tell the two apart is left out.
#[derive(Clone, Debug)]
pub struct Refusal {
    shown: Reason,
    rule: &'static ReasonRule,
    /// The caller sees another reason than the one given.
    disguised: bool,
    message: Option<String>,
    exchange: Option<ExchangeId>,
    retry_after: Option<Duration>,
    violations: Vec<(String, String)>,
}

impl Refusal {
    /// A refusal for a reason.
    pub fn new(reason: Reason) -> Self {
        let rule = reasons().rule(reason);
        let (shown, rule, disguised) = match rule.shown_as() {
            Reason::Unspecified => (reason, rule, false),
            shown => (shown, reasons().rule(shown), true),
        };
        Self {
            shown,
            rule,
            disguised,
            message: None,
            exchange: None,
            retry_after: None,
            violations: Vec::new(),
        }
    }

    /// Says more than the reason's name. Nothing internal: strangers read it. At most 512 bytes are sent.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Names the exchange, in the details and as `banqiao-exchange-id`.
    #[must_use]
    pub const fn exchange(mut self, exchange: ExchangeId) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// Says when to try again (`google.rpc.RetryInfo`).
    #[must_use]
    pub const fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Names a field at fault (`google.rpc.BadRequest`). Eight are sent.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push((field.into(), description.into()));
        }
        self
    }

    /// The gRPC status code.
    pub const fn code(&self) -> u32 {
        if self.rule.status == 0 {
            INTERNAL
        } else {
            self.rule.status
        }
    }

    /// The reason that the caller sees.
    pub const fn shown(&self) -> Reason {
        self.shown
    }

    /// The text of `grpc-message`.
    pub fn text(&self) -> String {
        match &self.message {
            Some(message) if !self.disguised => cut(message, MAX_MESSAGE).to_owned(),
            _ => {
                let words = ReasonTable::name(self.shown)
                    .to_lowercase()
                    .replace('_', " ");
                format!("{words}: {}", self.rule.remedy)
            }
        }
    }

    /// The trailers. For an answer of trailers only, the caller adds `:status` and `content-type`.
    pub fn trailers(&self) -> HeaderMap {
        let text = self.text();
        let mut trailers = HeaderMap::with_capacity(4);
        trailers.insert(STATUS, HeaderValue::from(self.code()));
        let details = BASE64.encode(self.status(&text).encode_to_vec());
        let values = [(MESSAGE, percent_encode(&text)), (DETAILS, details)];
        for (name, value) in values {
            // Both encodings are printable ASCII.
            if let Ok(value) = HeaderValue::try_from(value) {
                trailers.insert(name, value);
            }
        }
        if let Some(exchange) = self.exchange {
            trailers.insert(EXCHANGE_ID, exchange.header_value());
        }
        trailers
    }

    fn status(&self, text: &str) -> pb::Status {
        let mut details = vec![detail("google.rpc.ErrorInfo", &self.error_info())];
        if let Some(delay) = self.retry_after {
            // A delay beyond the type's range is no delay that anybody waits for.
            let retry_delay = prost_types::Duration::try_from(delay).ok();
            details.push(detail(
                "google.rpc.RetryInfo",
                &pb::RetryInfo { retry_delay },
            ));
        }
        if !self.violations.is_empty() && !self.disguised {
            let violation =
                |(field, description): &(String, String)| pb::bad_request::FieldViolation {
                    field: cut(field, MAX_VIOLATION_FIELD).to_owned(),
                    description: cut(description, MAX_VIOLATION_TEXT).to_owned(),
                    ..Default::default()
                };
            let field_violations = self.violations.iter().map(violation).collect();
            details.push(detail(
                "google.rpc.BadRequest",
                &pb::BadRequest { field_violations },
            ));
        }
        let code = i32::try_from(self.code()).unwrap_or_default();
        pb::Status {
            code,
            message: text.to_owned(),
            details,
        }
    }

    fn error_info(&self) -> pb::ErrorInfo {
        let layer = Layer::try_from(self.rule.layer)
            .unwrap_or_default()
            .as_str_name();
        let layer = layer.strip_prefix("LAYER_").unwrap_or(layer).to_lowercase();
        let mut metadata = HashMap::from([
            ("layer".to_owned(), layer),
            ("remedy".to_owned(), self.rule.remedy.clone()),
        ]);
        if let Some(exchange) = self.exchange {
            metadata.insert("exchange-id".to_owned(), exchange.to_string());
        }
        pb::ErrorInfo {
            reason: ReasonTable::name(self.shown).to_owned(),
            domain: DOMAIN.to_owned(),
            metadata,
        }
    }
}

fn detail(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("{TYPES}{name}"),
        value: message.encode_to_vec(),
    }
}

/// The longest beginning of `text` of at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Percent-encodes a status message: everything but printable ASCII, and the percent sign itself.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

/// The only value of a name; none where it is missing or stands twice.
fn single<'a>(trailers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = trailers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The gRPC status code in trailers, or in the headers of an answer of trailers only. Codes that gRPC does not define
/// are returned as they are.
pub fn code_of(trailers: &HeaderMap) -> Option<u32> {
    let text = single(trailers, &STATUS)?.to_str().ok()?;
    let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| sound)
}

/// The status message in trailers, decoded. As gRPC asks, what is not valid is kept as well as can be.
pub fn message_of(trailers: &HeaderMap) -> Option<String> {
    let mut rest = single(trailers, &MESSAGE)?.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|digits| str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The reason that a peer gateway gives in its `google.rpc.ErrorInfo`. None where there is none, or where it is not of
/// our domain, unknown, unreadable, or larger than 8 KiB.
pub fn reason_of(trailers: &HeaderMap) -> Option<Reason> {
    let encoded = single(trailers, &DETAILS)?.as_bytes();
    if encoded.len() > MAX_DETAILS {
        return None;
    }
    let status = pb::Status::decode(BASE64.decode(encoded).ok()?.as_slice()).ok()?;
    status
        .details
        .iter()
        .filter(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"))
        .filter_map(|detail| pb::ErrorInfo::decode(detail.value.as_slice()).ok())
        .find(|info| info.domain == DOMAIN)
        .and_then(|info| ReasonTable::by_name(&info.reason))
        .filter(|reason| *reason != Reason::Unspecified)
}

#[cfg(test)]
mod tests;
