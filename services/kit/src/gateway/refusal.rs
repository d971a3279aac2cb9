//! What came back from a call: an answer, or a refusal that says whose fault it is and whether to try again.

use std::{error::Error, io, time::Duration};

use banqiao_identity::refusal_by_peer;
use banqiao_proto::{
    ReasonTable,
    exchange::v1::{Metadata, Reason},
};
use tonic::{Code, Response, Status, metadata::MetadataMap};
use tonic_types::StatusExt;

use crate::{
    caller::{ExchangeId, name_of},
    rescue::NETWORK_DOMAIN,
};

/// An answer, and the exchange under which both cities' ledgers hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was answered.
    pub message: T,
    /// The exchange; none where whoever answered is no gateway.
    pub exchange: Option<ExchangeId>,
}

impl<T> Answer<T> {
    /// Splits what a generated client gives into answer and refusal.
    ///
    /// # Errors
    /// The refusal.
    pub fn of(result: Result<Response<T>, Status>) -> Result<Self, CallRefusal> {
        match result {
            Ok(response) => {
                let exchange = exchange_of(response.metadata());
                Ok(Self {
                    message: response.into_inner(),
                    exchange,
                })
            }
            Err(status) => Err(CallRefusal::of(&status)),
        }
    }
}

/// What a refusal means to whoever called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The request itself is at fault, or the service's record of it: the same request will be refused again.
    Invalid,
    /// Somebody says no: a right is missing, or the record's state does not allow it. Asking again helps once that has changed.
    Refused,
    /// It may have been applied, or not: ask again with the same request id.
    Uncertain,
    /// It did not reach the service, or the service could not take it: nothing was applied; ask again later.
    Unreachable,
}

/// Why a call was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_deref().unwrap_or("no reason"))]
pub struct CallRefusal {
    /// What it means.
    pub kind: RefusalKind,
    /// gRPC status.
    pub code: Code,
    /// `ErrorInfo.reason`; none where nobody gave one, as when the own gateway cannot be reached.
    pub reason: Option<String>,
    /// `ErrorInfo.domain`: [`NETWORK_DOMAIN`] for gateways, another for the service that was asked.
    pub domain: Option<String>,
    /// The exchange, where there was one.
    pub exchange: Option<ExchangeId>,
    /// How long to wait at least, where that was said.
    pub retry_after: Option<Duration>,
    /// Text for people. Gateways and services of this kit put no person's values into it.
    pub message: String,
}

impl CallRefusal {
    /// Reads a status.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let named = details.error_info();
        let reason = named.map(|info| info.reason.clone());
        let domain = named.map(|info| info.domain.clone());
        let network = domain.as_deref() == Some(NETWORK_DOMAIN);
        let known = reason.as_deref().and_then(ReasonTable::by_name);
        let kind = match (&domain, known) {
            (Some(_), Some(reason)) if network => of_network(reason),
            (Some(_), _) => of_service(status.code()),
            (None, _) => of_transport(status),
        };
        Self {
            kind,
            code: status.code(),
            reason,
            domain,
            exchange: exchange_of(status.metadata()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            message: status.message().to_owned(),
        }
    }

    /// Whether the same request may get on later without anybody changing anything. Requests that change records then need the same
    /// request id.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, RefusalKind::Uncertain | RefusalKind::Unreachable)
    }

    /// Whether the service that was asked says so, and not a gateway or a broken connection.
    pub fn is_by_service(&self) -> bool {
        self.domain
            .as_deref()
            .is_some_and(|domain| domain != NETWORK_DOMAIN)
    }
}

/// The exchange that a gateway names in headers or trailers (`banqiao-exchange-id`).
pub fn exchange_of(metadata: &MetadataMap) -> Option<ExchangeId> {
    let value = metadata.get(name_of(Metadata::ExchangeId))?;
    ExchangeId::parse(value.to_str().ok()?)
}

/// What a reason of the network's table means. Not delivered, or outcome unknown, is what the table's remedies say.
const fn of_network(reason: Reason) -> RefusalKind {
    match reason {
        Reason::NotGrpc
        | Reason::PathNotCanonical
        | Reason::MetadataReserved
        | Reason::MetadataInvalid
        | Reason::MetadataTooLarge
        | Reason::MessageTooLarge
        | Reason::MessageMalformed => RefusalKind::Invalid,
        Reason::ClientBusy
        | Reason::Overloaded
        | Reason::DirectoryExpired
        | Reason::GrantsStale
        | Reason::RateExceeded
        | Reason::LedgerUnavailable
        | Reason::PeerUnreachable
        | Reason::ServiceUnreachable => RefusalKind::Unreachable,
        Reason::UpstreamFailed
        | Reason::DeadlineExceeded
        | Reason::Cancelled
        | Reason::Draining
        | Reason::Replayed
        | Reason::DisclosureFailed
        | Reason::StreamIdle
        | Reason::LeaseLost
        | Reason::Interrupted
        | Reason::ReceiptMissing
        | Reason::ReceiptInvalid
        | Reason::ReceiptForeign
        | Reason::ReceiptStale => RefusalKind::Uncertain,
        _ => RefusalKind::Refused,
    }
}

/// What a service's own reason means, by its code.
const fn of_service(code: Code) -> RefusalKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => RefusalKind::Invalid,
        Code::Unavailable | Code::ResourceExhausted => RefusalKind::Unreachable,
        Code::Aborted
        | Code::Cancelled
        | Code::DataLoss
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unknown => RefusalKind::Uncertain,
        _ => RefusalKind::Refused,
    }
}

/// What a status means that nobody gave a reason for.
fn of_transport(status: &Status) -> RefusalKind {
    if own_certificate_refused(status) {
        return RefusalKind::Refused;
    }
    match status.code() {
        Code::Unavailable => RefusalKind::Unreachable,
        code => of_service(code),
    }
}

/// Whether the gateway ended the connection because of this service's own certificate.
fn own_certificate_refused(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = error.downcast_ref::<io::Error>().and_then(refusal_by_peer);
        if refused.is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use banqiao_proto::reasons;
    use tonic_types::ErrorDetails;

    use super::*;

    fn told(code: Code, reason: &str, domain: &str) -> CallRefusal {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, domain, HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(3)));
        CallRefusal::of(&Status::with_error_details(code, "no", details))
    }

    #[test]
    fn a_refusal_says_who_refused_and_whether_to_ask_again() {
        for (reason, kind) in [
            ("PEER_UNREACHABLE", RefusalKind::Unreachable),
            ("UPSTREAM_FAILED", RefusalKind::Uncertain),
            ("NOT_GRANTED", RefusalKind::Refused),
            ("METADATA_INVALID", RefusalKind::Invalid),
            // A reason of a newer gateway: its code is all there is.
            ("SOMETHING_NEW", RefusalKind::Unreachable),
        ] {
            let refusal = told(Code::Unavailable, reason, NETWORK_DOMAIN);
            assert_eq!(
                (refusal.kind, refusal.is_by_service()),
                (kind, false),
                "{reason}"
            );
        }
        for (code, kind) in [
            (Code::InvalidArgument, RefusalKind::Invalid),
            (Code::FailedPrecondition, RefusalKind::Refused),
            (Code::Unavailable, RefusalKind::Unreachable),
            (Code::Internal, RefusalKind::Uncertain),
        ] {
            let refusal = told(code, "STORE_UNAVAILABLE", "banqiao.card");
            assert_eq!(
                (refusal.kind, refusal.is_by_service()),
                (kind, true),
                "{code}"
            );
            assert_eq!(refusal.retry_after, Some(Duration::from_secs(3)));
        }
        let down = CallRefusal::of(&Status::unavailable("tcp connect error"));
        assert_eq!((down.kind, down.reason), (RefusalKind::Unreachable, None));
    }

    #[test]
    fn what_the_table_calls_retryable_is_retryable_here() {
        for (reason, rule) in reasons().all() {
            let refusal = told(
                Code::Unavailable,
                ReasonTable::name(*reason),
                NETWORK_DOMAIN,
            );
            if rule.remedy.starts_with("try again") {
                assert_eq!(refusal.kind, RefusalKind::Unreachable, "{reason:?}");
            }
            if rule.remedy.contains("whether the call was applied") {
                assert_eq!(refusal.kind, RefusalKind::Uncertain, "{reason:?}");
            }
        }
    }

    #[test]
    fn the_exchange_is_read_from_answers_and_errors() {
        let id = "01937f5e-8f5a-7c3e-9a44-1f2b3c4d5e6f/2";
        let mut response = Response::new(1);
        response
            .metadata_mut()
            .insert("banqiao-exchange-id", id.parse().unwrap());
        assert_eq!(
            Answer::of(Ok(response))
                .unwrap()
                .exchange
                .unwrap()
                .to_string(),
            id
        );
        let mut status = Status::not_found("nobody");
        status
            .metadata_mut()
            .insert("banqiao-exchange-id", id.parse().unwrap());
        let refusal = Answer::<u8>::of(Err(status)).unwrap_err();
        assert_eq!(refusal.exchange.unwrap().to_string(), id);
    }
}
