//! The one place where errors become gRPC statuses.

use std::{borrow::Cow, collections::HashMap, error::Error, time::Duration};

use banqiao_proto::{ReasonTable, exchange::v1::Reason, reasons};
use banqiao_telemetry::Chain;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    calendar::CalendarNotLoaded,
    caller::{ExchangeId, MetadataFault},
    rule::{Rule, Violation},
    rulebook::{Refusal, RuleTable},
};

/// Domain of the reasons that gateways and every service share: `banqiao.exchange.v1.Reason`.
pub const NETWORK_DOMAIN: &str = "banqiao";

/// When a caller should try again after a fault that usually passes within a failover of the database.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How many violations the text of a status names; `BadRequest` holds all of them.
const NAMED: usize = 3;

const CALENDAR_NOT_LOADED: Refusal = Refusal::conflict(
    Rule::quoted(
        CalendarNotLoaded::REASON,
        "a limit in working days is counted only in years whose holidays were announced and loaded",
        "行政许可法 art. 82; 国务院办公厅, notices of holidays",
    )
    .remedy("ask the service's operators to load the notice of that year (`work_calendar`)"),
);
const INTERNAL: Refusal = Refusal {
    rule: Rule::design(
        "INTERNAL",
        "the service met a fault of its own",
        "services/kit",
    )
    .remedy("tell the service's operators the exchange id"),
    code: Code::Internal,
};
const STORE_UNAVAILABLE: Refusal = Refusal {
    rule: Rule::design(
        "STORE_UNAVAILABLE",
        "nothing is answered while the service's database is away",
        "services/kit",
    )
    .remedy("send the same request, with its request id, after the delay in RetryInfo"),
    code: Code::Unavailable,
};

/// The refusals that any method of any service can end in. Those of the gateways and of the network's metadata are in
/// gateway/REASONS.md.
pub fn shared_rules() -> RuleTable {
    const EVERY: &[&str] = &["every method"];
    RuleTable::new("Every service")
        .refusal(&CALENDAR_NOT_LOADED, EVERY)
        .refusal(&INTERNAL, EVERY)
        .refusal(&STORE_UNAVAILABLE, EVERY)
}

/// Why a service does not do what it was asked. Grouped by whose fault it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// A limit runs into a year whose working days this service was not given. Trying again does not help; its operators do.
    #[error(transparent)]
    CalendarNotLoaded(#[from] CalendarNotLoaded),
    /// The caller's stream ended with an error of its own, which is passed on.
    #[error("the request stream broke off")]
    CallerBrokeOff(#[source] Box<Status>),
    /// The record is not in a state that allows this. The caller proved that it may know.
    #[error("{message}")]
    CallerConflict {
        /// Reason in SCREAMING_SNAKE_CASE of the service's domain.
        reason: &'static str,
        /// What the caller can read.
        message: Cow<'static, str>,
    },
    /// More than the service takes at once.
    #[error("{message}")]
    CallerExceeds {
        /// Reason in SCREAMING_SNAKE_CASE of the service's domain.
        reason: &'static str,
        /// Which limit it was.
        message: Cow<'static, str>,
        /// When to try again; unset where trying again does not help.
        retry_after: Option<Duration>,
    },
    /// This client may not do this, whatever its grant says.
    #[error("{message}")]
    CallerForbidden {
        /// Reason in SCREAMING_SNAKE_CASE of the service's domain.
        reason: &'static str,
        /// What the caller can read.
        message: Cow<'static, str>,
    },
    /// Fields of the request break rules.
    #[error("{}", named(.0))]
    CallerInvalid(Vec<Violation>),
    /// A certificate of this city, but not its gateway's.
    #[error("services answer only their own city's gateway")]
    CallerNotGateway,
    /// The metadata of the hop from gateway to service.
    #[error(transparent)]
    CallerMetadata(#[from] MetadataFault),
    /// A rule of the service refuses the call.
    #[error("{message}; {}", .refusal.rule.remedy)]
    CallerRefused {
        /// The rule; its code is the reason.
        refusal: &'static Refusal,
        /// How it stands here: what the caller can read.
        message: Cow<'static, str>,
        /// When to try again; unset where trying again does not help.
        retry_after: Option<Duration>,
    },
    /// A fault of this service.
    #[error("internal fault")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The database cannot be reached or is overloaded.
    #[error("the service's database is not available")]
    StoreUnavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// Turns an error into the status that the caller sees: code, `ErrorInfo{reason, domain}` with the exchange, `BadRequest` with each
/// field and rule, `RetryInfo`. Causes of internal faults go to the log only.
pub fn rescue(error: CallError, domain: &'static str, exchange: Option<ExchangeId>) -> Status {
    log(&error, exchange);
    let mut details = ErrorDetails::new();
    let (code, reason, domain) = match &error {
        CallError::CalendarNotLoaded(_) => (
            CALENDAR_NOT_LOADED.code,
            CALENDAR_NOT_LOADED.rule.code,
            domain,
        ),
        CallError::CallerBrokeOff(_) => return broken_off(error),
        CallError::CallerConflict { reason, .. } => (Code::FailedPrecondition, *reason, domain),
        CallError::CallerExceeds {
            reason,
            retry_after,
            ..
        } => {
            if let Some(delay) = retry_after {
                details.set_retry_info(Some(*delay));
            }
            (Code::ResourceExhausted, *reason, domain)
        }
        CallError::CallerForbidden { reason, .. } => (Code::PermissionDenied, *reason, domain),
        CallError::CallerInvalid(violations) => {
            details.set_bad_request(violations.iter().map(field_violation).collect::<Vec<_>>());
            (Code::InvalidArgument, "FIELD_INVALID", domain)
        }
        CallError::CallerMetadata(fault) => network(fault.reason),
        CallError::CallerNotGateway => network(Reason::IdentityNotAllowed),
        CallError::CallerRefused {
            refusal,
            retry_after,
            ..
        } => {
            if let Some(delay) = retry_after {
                details.set_retry_info(Some(*delay));
            }
            (refusal.code, refusal.rule.code, domain)
        }
        CallError::Internal(_) => (INTERNAL.code, INTERNAL.rule.code, domain),
        CallError::Stopping => {
            details.set_retry_info(Some(RETRY_AFTER));
            network(Reason::Draining)
        }
        CallError::StoreUnavailable(_) => {
            details.set_retry_info(Some(RETRY_AFTER));
            (STORE_UNAVAILABLE.code, STORE_UNAVAILABLE.rule.code, domain)
        }
    };
    let exchange = exchange.map(|exchange| ("exchange".to_owned(), exchange.to_string()));
    let rule = match &error {
        CallError::CallerRefused { refusal, .. } => {
            Some(("rule".to_owned(), refusal.rule.to_string()))
        }
        _ => None,
    };
    let metadata: HashMap<_, _> = exchange.into_iter().chain(rule).collect();
    details.set_error_info(reason, domain, metadata);
    Status::with_error_details(code, error.to_string(), details)
}

/// Code and name of a reason of the network's table.
fn network(reason: Reason) -> (Code, &'static str, &'static str) {
    let code = i32::try_from(reasons().rule(reason).status).unwrap_or_default();
    (
        Code::from_i32(code),
        ReasonTable::name(reason),
        NETWORK_DOMAIN,
    )
}

fn field_violation(violation: &Violation) -> FieldViolation {
    let mut pair = FieldViolation::new(violation.field.as_ref(), violation.rule.to_string());
    pair.reason = violation.rule.code.to_owned();
    pair
}

/// The first fields with their rules.
fn named(violations: &[Violation]) -> String {
    let mut text = String::new();
    for violation in violations.iter().take(NAMED) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&violation.to_string());
    }
    if violations.len() > NAMED {
        text.push_str("; …");
    }
    text
}

fn broken_off(error: CallError) -> Status {
    match error {
        // Decoding faults carry tonic's own text; nothing of the message stands in it.
        CallError::CallerBrokeOff(status) => Status::new(status.code(), status.message()),
        other => Status::internal(other.to_string()),
    }
}

fn log(error: &CallError, exchange: Option<ExchangeId>) {
    let exchange = exchange.map(tracing::field::display);
    match error {
        CallError::Internal(_) => {
            tracing::error!(exchange, error = %Chain(error), "a call failed");
        }
        CallError::CalendarNotLoaded(_) | CallError::StoreUnavailable(_) => {
            tracing::warn!(exchange, error = %Chain(error), "a call failed");
        }
        // The text of these names fields and rules, never values.
        _ => tracing::debug!(exchange, %error, "a call was refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Rule;

    const RULE: Rule = Rule::quoted("LENGTH", "18 characters", "GB 11643-1999");
    const TOO_EARLY: Refusal = Refusal::conflict(
        Rule::quoted("TOO_EARLY", "not before May", "notice 2").remedy("come in May"),
    );

    fn secret() -> Box<dyn Error + Send + Sync> {
        "password=hunter2 number 370202199001010007".into()
    }

    fn caller_faults() -> [CallError; 6] {
        let (reason, message) = ("CARD_CANCELLED", Cow::from("the card is cancelled"));
        let (name, rule) = ("banqiao-to".to_owned(), "x");
        let metadata = MetadataFault {
            name,
            rule,
            reason: Reason::MetadataReserved,
        };
        let violation = Violation {
            field: "key.social_security_number".into(),
            rule: &RULE,
        };
        [
            CallError::CallerConflict {
                reason,
                message: message.clone(),
            },
            CallError::CallerForbidden {
                reason,
                message: message.clone(),
            },
            CallError::CallerExceeds {
                reason,
                message,
                retry_after: None,
            },
            CallError::CallerInvalid(vec![violation]),
            CallError::CallerMetadata(metadata),
            CallError::CallerNotGateway,
        ]
    }

    fn told(error: CallError) -> (Code, String, String) {
        let status = rescue(error, "banqiao.card", None);
        assert!(!status.message().is_empty() && !status.message().contains("hunter2"));
        let info = status.get_details_error_info().unwrap();
        (status.code(), info.reason, info.domain)
    }

    #[test]
    fn each_error_has_its_code_reason_and_domain() {
        let (service, network) = ("banqiao.card", "banqiao");
        let own = [
            CallError::CalendarNotLoaded(CalendarNotLoaded { year: 2027 }),
            CallError::Internal(secret()),
            CallError::Stopping,
            CallError::StoreUnavailable(secret()),
        ];
        let told: Vec<_> = caller_faults().into_iter().chain(own).map(told).collect();
        let expected = [
            (Code::FailedPrecondition, "CARD_CANCELLED", service),
            (Code::PermissionDenied, "CARD_CANCELLED", service),
            (Code::ResourceExhausted, "CARD_CANCELLED", service),
            (Code::InvalidArgument, "FIELD_INVALID", service),
            (Code::InvalidArgument, "METADATA_RESERVED", network),
            (Code::PermissionDenied, "IDENTITY_NOT_ALLOWED", network),
            (Code::FailedPrecondition, "CALENDAR_NOT_LOADED", service),
            (Code::Internal, "INTERNAL", service),
            (Code::Unavailable, "DRAINING", network),
            (Code::Unavailable, "STORE_UNAVAILABLE", service),
        ];
        let expected = expected.map(|(code, reason, domain)| (code, reason.into(), domain.into()));
        assert_eq!(told, expected);
    }

    #[test]
    fn a_refusal_names_its_rule_and_what_to_do() {
        let error = TOO_EARLY.for_now("it is April", RETRY_AFTER);
        let status = rescue(error, "banqiao.card", None);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "it is April; come in May");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (&*info.reason, &*info.domain),
            ("TOO_EARLY", "banqiao.card")
        );
        assert_eq!(info.metadata["rule"], "not before May (notice 2, Q)");
        let retry = status.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(RETRY_AFTER));
    }

    #[test]
    fn a_violation_names_field_and_rule() {
        let violations: Vec<_> = ["a", "b", "c", "d"]
            .map(|field| Violation {
                field: field.into(),
                rule: &RULE,
            })
            .into_iter()
            .collect();
        let status = rescue(CallError::CallerInvalid(violations), "banqiao.card", None);
        let details = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(details.len(), 4);
        assert_eq!(details[3].field, "d");
        assert_eq!(details[3].description, "18 characters (GB 11643-1999, Q)");
        assert_eq!(details[3].reason, "LENGTH");
        assert!(
            status
                .message()
                .starts_with("a: 18 characters (GB 11643-1999, Q); b: ")
        );
    }

    #[test]
    fn the_exchange_stands_in_the_details_and_waiting_is_told() {
        let exchange = ExchangeId {
            exchange: uuid::Uuid::nil(),
            attempt: 1,
        };
        let status = rescue(CallError::Stopping, "banqiao.card", Some(exchange));
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["exchange"], exchange.to_string());
        assert_eq!(
            status.get_details_retry_info().unwrap().retry_delay,
            Some(RETRY_AFTER)
        );
    }

    #[test]
    fn the_end_of_the_callers_own_stream_is_passed_on() {
        let status = rescue(
            CallError::CallerBrokeOff(Box::new(Status::cancelled("gone"))),
            "banqiao.card",
            None,
        );
        assert_eq!((status.code(), status.message()), (Code::Cancelled, "gone"));
    }
}
