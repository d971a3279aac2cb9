//! What a call says about itself: to whom, for what, on which legal basis.

use std::{fmt, time::Duration};

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_proto::exchange::v1::Metadata;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::caller::{Asserted, Basis, Purpose, name_of};

/// Who is to answer a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A city: the one service there that has the method.
    City(CityCode),
    /// One system of a city.
    System(SpiffeId),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::City(city) => f.write_str(city.as_str()),
            Self::System(id) => f.write_str(id.as_str()),
        }
    }
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// That of the settings.
    Default,
    /// None: a stream that stays open.
    Unlimited,
    /// This long.
    Within(Duration),
}

/// A call that a service is about to make: everything that the gateways ask of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingCall {
    to: Destination,
    purpose: Purpose,
    basis: Basis,
    case: Option<Asserted>,
    operator: Option<Asserted>,
    deadline: Deadline,
}

impl OutgoingCall {
    /// A call to somebody, for a purpose, on a legal basis.
    pub const fn new(to: Destination, purpose: Purpose, basis: Basis) -> Self {
        Self {
            to,
            purpose,
            basis,
            case: None,
            operator: None,
            deadline: Deadline::Default,
        }
    }

    /// The case that it belongs to (`banqiao-case`).
    #[must_use]
    pub fn case(mut self, case: Asserted) -> Self {
        self.case = Some(case);
        self
    }

    /// The official on whose behalf the service calls (`banqiao-operator`).
    #[must_use]
    pub fn operator(mut self, operator: Asserted) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Another deadline than that of the settings.
    #[must_use]
    pub const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Deadline::Within(deadline);
        self
    }

    /// No deadline, for a stream that stays open. Its end is whatever the method's own limit says.
    #[must_use]
    pub const fn unlimited(mut self) -> Self {
        self.deadline = Deadline::Unlimited;
        self
    }

    /// Who is to answer.
    pub const fn to(&self) -> &Destination {
        &self.to
    }

    pub(super) fn headers(&self, default: Duration) -> Headers {
        let mut headers = Vec::with_capacity(6);
        let mut put = |metadata, text: &str| {
            let value = HeaderValue::from_str(&percent_encoded(text));
            // Percent-encoded text is a header value always.
            if let Ok(value) = value {
                headers.push((HeaderName::from_static(name_of(metadata)), value));
            }
        };
        put(Metadata::To, &self.to.to_string());
        put(Metadata::Purpose, self.purpose.as_str());
        put(Metadata::Basis, &self.basis.written());
        if let Some(case) = &self.case {
            put(Metadata::Case, case.as_str());
        }
        if let Some(operator) = &self.operator {
            put(Metadata::Operator, operator.as_str());
        }
        let deadline = match self.deadline {
            Deadline::Default => Some(default),
            Deadline::Unlimited => None,
            Deadline::Within(deadline) => Some(deadline),
        };
        Headers {
            metadata: headers,
            deadline: deadline.map(grpc_timeout),
        }
    }
}

/// The metadata of a call as it stands on the wire.
#[derive(Debug)]
pub(super) struct Headers {
    metadata: Vec<(HeaderName, HeaderValue)>,
    deadline: Option<HeaderValue>,
}

impl Headers {
    /// Puts them on a request. A deadline that the request brings stays.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.metadata {
            headers.insert(name.clone(), value.clone());
        }
        if let Some(deadline) = &self.deadline {
            headers
                .entry(HeaderName::from_static("grpc-timeout"))
                .or_insert_with(|| deadline.clone());
        }
    }
}

/// A timeout as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(deadline: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let (millis, seconds) = (deadline.as_millis(), u128::from(deadline.as_secs()));
    let text = if millis <= MOST {
        format!("{millis}m")
    } else {
        format!("{}S", seconds.min(MOST))
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("0m"))
}

/// What a header cannot carry, and `%`, as `%XX` of its UTF-8.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> OutgoingCall {
        OutgoingCall::new(
            Destination::City("370600".parse().unwrap()),
            Purpose::parse("pension-transfer").unwrap(),
            Basis::Statutory("社会保险经办条例第十二条".to_owned()),
        )
    }

    fn put(call: &OutgoingCall, headers: &mut HeaderMap) {
        call.headers(Duration::from_secs(10)).put(headers);
    }

    #[test]
    fn a_call_is_written_as_the_gateway_reads_it() {
        let case = Asserted::parse("转移-1").unwrap();
        let mut headers = HeaderMap::new();
        put(&call().case(case), &mut headers);
        let value = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(value("banqiao-to"), "370600");
        assert_eq!(value("banqiao-purpose"), "pension-transfer");
        assert!(value("banqiao-basis").starts_with("statutory:%E7%A4%BE"));
        assert_eq!(value("banqiao-case"), "%E8%BD%AC%E7%A7%BB-1");
        assert_eq!(value("grpc-timeout"), "10000m");
        assert!(!headers.contains_key("banqiao-operator"));
    }

    #[test]
    fn a_request_keeps_its_own_deadline_and_a_stream_may_have_none() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static("5S"));
        put(&call(), &mut headers);
        assert_eq!(headers["grpc-timeout"], "5S");
        let mut headers = HeaderMap::new();
        put(&call().unlimited(), &mut headers);
        assert!(!headers.contains_key("grpc-timeout"));
        assert_eq!(grpc_timeout(Duration::from_secs(86_400_000)), "86400000S");
    }

    #[test]
    fn people_do_not_stand_in_debug() {
        let call = call()
            .operator(Asserted::parse("王科长").unwrap())
            .case(Asserted::parse("370202199001010007").unwrap());
        let debug = format!("{call:?}");
        assert!(
            !debug.contains("王") && !debug.contains("3702021990"),
            "{debug}"
        );
    }
}
