//! Reserved metadata: what each hop may carry, and its values as types.

mod value;

use std::sync::LazyLock;

use banqiao_directory::{SpiffeId, holds_identity_number, is_code, mask_identity_numbers};
use banqiao_ledger::receipt::MAX_RECEIPT_BYTES;
use banqiao_proto::{
    exchange::v1::{Metadata, MetadataRule, Reason},
    reasons,
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use value::{Basis, BasisKind, ExchangeId, Target};

/// Prefix of the names that belong to the network.
const PREFIX: &[u8] = b"banqiao-";

/// Longest purpose code, in bytes.
const MAX_PURPOSE: usize = 64;
/// Longest operator and longest case number, in bytes after percent-decoding: some 42 Chinese characters.
const MAX_OPERATOR: usize = 128;
/// Longest legal basis, in bytes after percent-decoding.
const MAX_BASIS: usize = 256;
/// Largest opening of a private part, in bytes: salt, operator, case, address, and 2 KiB of subjects.
const MAX_OPENING: usize = 4_096;

/// The hop that a request arrives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From a city's system to its own gateway.
    ClientToGateway,
    /// From the consumer's gateway to the provider's.
    GatewayToGateway,
    /// From the provider's gateway to the service.
    GatewayToService,
}

impl Hop {
    /// Whether a request may carry the name on this hop.
    const fn allows(self, rule: &MetadataRule) -> bool {
        match self {
            Self::ClientToGateway => rule.client_to_gateway,
            Self::GatewayToGateway => rule.gateway_to_gateway,
            Self::GatewayToService => rule.gateway_to_service,
        }
    }

    /// Whether a request must carry the name on this hop. What only gateways send, they always send unless it is optional.
    const fn requires(self, rule: &MetadataRule) -> bool {
        self.allows(rule) && !rule.optional && (rule.required || !rule.client_to_gateway)
    }
}

/// The bytes of a `-bin` value, padded or not. `None`: it is not base64.
pub(crate) fn binary(value: &HeaderValue) -> Option<Bytes> {
    let text = value.as_bytes();
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    STANDARD_NO_PAD.decode(text).ok().map(Bytes::from)
}

/// Bytes as a `-bin` value that no hop may put into its table of headers: it never comes again (RFC 7541 §7.1.3).
pub(crate) fn binary_value(bytes: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::try_from(STANDARD_NO_PAD.encode(bytes))
        // Base64 is a valid value.
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The reserved metadata of a request, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Provider. Present on every hop between client and provider's gateway.
    pub to: Option<Target>,
    /// Purpose code.
    pub purpose: String,
    /// Legal basis.
    pub basis: Basis,
    /// On whose behalf the system asks, decoded.
    pub operator: Option<String>,
    /// Number of the case, visit or docket, decoded.
    pub case_number: Option<String>,
    /// The exchange. Present on every hop from a gateway.
    pub exchange: Option<ExchangeId>,
    /// The client system, as its gateway names it. Present on every hop from a gateway.
    pub client: Option<SpiffeId>,
    /// The serialised receipt of the consumer's OPEN. Not verified.
    pub receipt: Option<Bytes>,
    /// The serialised opening of its private part. Not verified.
    pub private: Option<Bytes>,
    /// The client asks for the provider's receipt.
    pub want_receipt: bool,
}

/// Why the reserved metadata of a request is refused. `Display` says what is wrong with [`MetadataFault::field`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataFault {
    /// The name stands more than once.
    #[error("stands more than once")]
    Duplicate {
        /// The name.
        name: &'static str,
    },
    /// The value has not the form that the name asks for.
    #[error("{expected}")]
    Invalid {
        /// The name.
        name: &'static str,
        /// The form.
        expected: &'static str,
    },
    /// A required name is missing.
    #[error("is required")]
    Missing {
        /// The name.
        name: &'static str,
    },
    /// The value is stored and logged in plain, and holds a citizen's identity number.
    #[error("must not hold a citizen's identity number, for it is stored in plain")]
    Personal {
        /// The name.
        name: &'static str,
    },
    /// The name is reserved and this hop may not carry it.
    #[error("is a reserved name that may not stand here")]
    Reserved {
        /// The name as it came, cut to 64 bytes.
        name: String,
    },
    /// The value is longer than the name's limit.
    #[error("is longer than {limit} bytes")]
    TooLong {
        /// The name.
        name: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
}

impl MetadataFault {
    /// The name at fault.
    pub fn field(&self) -> &str {
        match self {
            Self::Reserved { name } => name,
            Self::Duplicate { name }
            | Self::Invalid { name, .. }
            | Self::Missing { name }
            | Self::Personal { name }
            | Self::TooLong { name, .. } => name,
        }
    }

    /// The reason with which the call is refused.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Duplicate { .. } | Self::Reserved { .. } => Reason::MetadataReserved,
            Self::Invalid { .. }
            | Self::Missing { .. }
            | Self::Personal { .. }
            | Self::TooLong { .. } => Reason::MetadataInvalid,
        }
    }
}

/// Whether a name lies in the network's prefix. Servers that make environment variables of headers cannot tell `_`
/// from `-`, so the underscore twins are reserved with the rest.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.len() >= PREFIX.len()
        && name
            .iter()
            .zip(PREFIX)
            .all(|(byte, reserved)| byte == reserved || (*reserved == b'-' && *byte == b'_'))
}

/// The names of the table that a request may ever carry, in the order of [`Slots`].
static NAMES: LazyLock<Vec<(Metadata, &'static MetadataRule)>> = LazyLock::new(|| {
    reasons()
        .metadata()
        .iter()
        .map(|(name, rule)| (*name, rule))
        .collect()
});

/// One value for each name of the table.
struct Slots<'a>(Vec<Option<&'a HeaderValue>>);

impl<'a> Slots<'a> {
    /// Sorts the reserved names of `headers` into their slots.
    fn fill(headers: &'a HeaderMap, hop: Hop) -> Result<Self, MetadataFault> {
        let mut slots = vec![None; NAMES.len()];
        for (name, value) in headers {
            if !is_reserved(name) {
                continue;
            }
            let known = NAMES
                .iter()
                .position(|(_, rule)| rule.name == name.as_str());
            let Some(at) = known.filter(|at| hop.allows(NAMES[*at].1)) else {
                let name = name.as_str();
                return Err(MetadataFault::Reserved {
                    name: mask_identity_numbers(&name[..name.len().min(64)]).into(),
                });
            };
            if slots[at].replace(value).is_some() {
                return Err(MetadataFault::Duplicate {
                    name: &NAMES[at].1.name,
                });
            }
        }
        for (slot, (_, rule)) in slots.iter().zip(NAMES.iter()) {
            if slot.is_none() && hop.requires(rule) {
                return Err(MetadataFault::Missing { name: &rule.name });
            }
        }
        Ok(Self(slots))
    }

    /// Parses the value of `name`, if there is one.
    fn read<T>(
        &self,
        name: Metadata,
        parse: impl FnOnce(&Field<'a>) -> Result<T, MetadataFault>,
    ) -> Result<Option<T>, MetadataFault> {
        let Some(at) = NAMES.iter().position(|(known, _)| *known == name) else {
            return Ok(None);
        };
        let Some(value) = self.0[at] else {
            return Ok(None);
        };
        let field = Field {
            name: &NAMES[at].1.name,
            value,
        };
        parse(&field).map(Some)
    }
}

/// A name with its value.
struct Field<'a> {
    name: &'static str,
    value: &'a HeaderValue,
}

impl Field<'_> {
    const fn invalid(&self, expected: &'static str) -> MetadataFault {
        MetadataFault::Invalid {
            name: self.name,
            expected,
        }
    }

    /// The value as printable ASCII of at most `limit` bytes.
    fn ascii(&self, limit: usize) -> Result<&str, MetadataFault> {
        if self.value.len() > limit {
            return Err(MetadataFault::TooLong {
                name: self.name,
                limit,
            });
        }
        let text = self
            .value
            .to_str()
            .map_err(|_| self.invalid("must be printable ASCII"))?;
        if text.is_empty() || text.trim() != text || text.contains('\t') {
            return Err(self.invalid("must not be empty, nor begin or end with a space"));
        }
        Ok(text)
    }

    /// Refuses a value that names a person.
    fn impersonal(&self, value: &str) -> Result<(), MetadataFault> {
        if holds_identity_number(value) {
            return Err(MetadataFault::Personal { name: self.name });
        }
        Ok(())
    }

    /// The bytes of a `-bin` value, at most `limit` of them (gRPC over HTTP/2, "Custom-Metadata").
    fn binary(&self, limit: usize) -> Result<Bytes, MetadataFault> {
        if self.value.len() > limit.div_ceil(3) * 4 {
            return Err(MetadataFault::TooLong {
                name: self.name,
                limit,
            });
        }
        binary(self.value).ok_or_else(|| self.invalid("must be base64"))
    }

    /// The value with its percent-escapes decoded, of at most `limit` bytes.
    fn decoded(&self, limit: usize) -> Result<String, MetadataFault> {
        let encoded = self.ascii(3 * limit)?;
        let text = value::percent_decode(encoded).ok_or_else(|| {
            self.invalid(
                "must be printable ASCII or percent-encoded UTF-8, without control characters",
            )
        })?;
        if text.len() > limit {
            return Err(MetadataFault::TooLong {
                name: self.name,
                limit,
            });
        }
        Ok(text)
    }
}

/// Reads the reserved metadata of a request that came by `hop`.
///
/// # Errors
///
/// The first fault: a reserved name that the hop may not carry, or its underscore twin; a name that stands twice;
/// a required name that is missing; a value that is malformed or too long.
pub fn check_request(headers: &HeaderMap, hop: Hop) -> Result<Reserved, MetadataFault> {
    let slots = Slots::fill(headers, hop)?;
    let missing = |name| MetadataFault::Missing { name };
    Ok(Reserved {
        to: slots.read(Metadata::To, |field| {
            field.ascii(2_048)?.parse().map_err(|()| {
                field
                    .invalid("must be a city code such as 370200, a SPIFFE ID, or * for all cities")
            })
        })?,
        purpose: slots
            .read(Metadata::Purpose, purpose)?
            .ok_or_else(|| missing("banqiao-purpose"))?,
        basis: slots
            .read(Metadata::Basis, basis)?
            .ok_or_else(|| missing("banqiao-basis"))?,
        operator: slots.read(Metadata::Operator, |field| field.decoded(MAX_OPERATOR))?,
        case_number: slots.read(Metadata::Case, |field| field.decoded(MAX_OPERATOR))?,
        exchange: slots.read(Metadata::ExchangeId, |field| {
            field
                .ascii(64)?
                .parse()
                .map_err(|()| field.invalid("must be a UUIDv7, a slash and the attempt's number"))
        })?,
        client: slots.read(Metadata::Client, |field| {
            field
                .ascii(2_048)?
                .parse()
                .map_err(|_| field.invalid("must be a SPIFFE ID"))
        })?,
        receipt: slots.read(Metadata::Receipt, |field| field.binary(MAX_RECEIPT_BYTES))?,
        private: slots.read(Metadata::Private, |field| field.binary(MAX_OPENING))?,
        want_receipt: slots
            .read(Metadata::WantReceipt, |field| match field.ascii(1)? {
                "1" => Ok(true),
                _ => Err(field.invalid("must be 1")),
            })?
            .unwrap_or(false),
    })
}

fn purpose(field: &Field<'_>) -> Result<String, MetadataFault> {
    let text = field.ascii(MAX_PURPOSE)?;
    if !is_code(text) {
        return Err(field.invalid("must be a purpose code of a-z, 0-9, '-' and '_'"));
    }
    field.impersonal(text)?;
    Ok(text.to_owned())
}

fn basis(field: &Field<'_>) -> Result<Basis, MetadataFault> {
    let decoded = field.decoded(MAX_BASIS)?;
    field.impersonal(&decoded)?;
    Basis::new(field.ascii(3 * MAX_BASIS)?, &decoded).ok_or_else(|| {
        field.invalid("must be statutory:<citation>, consent:<reference> or emergency")
    })
}

/// Removes reserved names from the headers or trailers of an answer that came back over `hop`, and says how many
/// values went. A gateway may send the names that the table allows on responses, each once; a service none.
pub fn strip_response(headers: &mut HeaderMap, hop: Hop) -> usize {
    let mut removed = 0;
    loop {
        let unfit = headers.keys().find(|name| {
            let allowed = hop == Hop::GatewayToGateway
                && NAMES
                    .iter()
                    .any(|(_, rule)| rule.response && rule.name == name.as_str())
                && headers.get_all(*name).iter().nth(1).is_none();
            is_reserved(name) && !allowed
        });
        let Some(name) = unfit.cloned() else {
            return removed;
        };
        removed += headers.get_all(&name).iter().count();
        headers.remove(&name);
    }
}

#[cfg(test)]
mod tests;
