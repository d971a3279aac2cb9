//! Services and methods, with every default applied.

use std::{fmt, sync::Arc, time::Duration};

use banqiao_proto::exchange::v1::{MethodRule, ServiceRule, SharingAttribute};
use prost_reflect::{MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::method_options::IdempotencyLevel;

use super::{
    AskAll, CatalogError, Finding, finding,
    rule::{self, Stated},
};

/// Largest message of a method that states no limit, in bytes.
pub const DEFAULT_MESSAGE_BYTES: u32 = 4 << 20;
/// Largest message that any method may state, in bytes: what two gateways carry in bounded memory.
pub const MAX_MESSAGE_BYTES: u32 = 64 << 20;
/// Deadline of a unary method that states none.
pub const DEFAULT_UNARY_DEADLINE: Duration = Duration::from_secs(60);

/// Whether a call may be made again (protobuf's `idempotency_level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Idempotency {
    /// Repeating it changes nothing more: a gateway may try it again.
    Idempotent,
    /// It changes nothing: a gateway may try it again, and may call before its record is written.
    NoSideEffects,
    /// Not stated: a gateway makes the call at most once.
    Unknown,
}

/// A service as its provider describes it.
#[derive(Debug)]
pub struct Service {
    /// Full name, such as `banqiao.card.v1.CardService`.
    pub name: Arc<str>,
    /// What the provider states of it; empty for services without our options.
    pub rule: ServiceRule,
    /// Its methods, in the order of the proto.
    pub methods: Vec<Arc<Method>>,
    /// SHA-256 of the descriptor set that describes it.
    pub descriptor_digest: [u8; 32],
    pub(super) findings: Vec<Finding>,
}

/// A method, with the rules by which gateways carry its calls.
pub struct Method {
    /// `/package.Service/Method`.
    pub path: Arc<str>,
    /// Full name of the service.
    pub service: Arc<str>,
    /// Name within the service.
    pub name: Arc<str>,
    /// The client sends any number of messages.
    pub client_streaming: bool,
    /// The service sends any number of messages.
    pub server_streaming: bool,
    /// Whether a call may be made again.
    pub idempotency: Idempotency,
    /// What the provider states; empty for methods without our options.
    pub rule: MethodRule,
    /// Longest deadline of a call: 60 s for unary methods and none for streams, unless stated.
    pub max_deadline: Option<Duration>,
    /// Largest request message in bytes.
    pub max_request_bytes: u32,
    /// Largest response message in bytes.
    pub max_response_bytes: u32,
    /// The idle limit of streams does not apply.
    pub long_lived: bool,
    /// How it may be asked of all cities at once; `None`: it may not.
    pub ask_all: Option<AskAll>,
    /// SHA-256 of the descriptor set that describes it.
    pub descriptor_digest: [u8; 32],
    /// Type of the request messages.
    pub request: MessageDescriptor,
    /// Type of the response messages.
    pub response: MessageDescriptor,
}

impl fmt::Debug for Method {
    /// Without the message types: those may contain themselves, and their `Debug` would not end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method")
            .field("path", &self.path)
            .field("request", &self.request.full_name())
            .field("response", &self.response.full_name())
            .finish_non_exhaustive()
    }
}

impl Method {
    /// One request and one response.
    pub const fn is_unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }

    /// Whether a gateway may make the call again after it may have reached the service.
    pub const fn may_retry(&self) -> bool {
        matches!(
            self.idempotency,
            Idempotency::Idempotent | Idempotency::NoSideEffects
        )
    }

    /// The sharing attribute (政务数据共享条例 art. 14); one that is not stated, or not known, is conditional.
    pub fn sharing(&self) -> SharingAttribute {
        match SharingAttribute::try_from(self.rule.sharing) {
            Ok(SharingAttribute::Unspecified) | Err(_) => SharingAttribute::Conditional,
            Ok(stated) => stated,
        }
    }

    /// Whether the method's own rule allows a purpose: a rule without purposes allows all.
    pub fn allows_purpose(&self, purpose: &str) -> bool {
        self.rule.purposes.is_empty() || self.rule.purposes.iter().any(|allowed| allowed == purpose)
    }

    pub(super) fn read(
        method: &MethodDescriptor,
        service: &Arc<str>,
        digest: [u8; 32],
        findings: &mut Vec<Finding>,
    ) -> Result<Self, CatalogError> {
        let name = format!("{service}/{}", method.name());
        let stated = rule::stated(
            method.parent_pool(),
            &method.options(),
            "banqiao.exchange.v1.method",
            &name,
        )?;
        finding::option(&stated, &name, findings);
        let rule: MethodRule = stated.or_default();
        finding::method(&rule, &name, findings);
        let unary = !method.is_client_streaming() && !method.is_server_streaming();
        let stated_deadline = rule
            .max_deadline
            .and_then(|limit| Duration::try_from(limit).ok());
        let options = method.method_descriptor_proto().options.as_ref();
        let idempotency = match options.map(prost_types::MethodOptions::idempotency_level) {
            Some(IdempotencyLevel::Idempotent) => Idempotency::Idempotent,
            Some(IdempotencyLevel::NoSideEffects) => Idempotency::NoSideEffects,
            Some(IdempotencyLevel::IdempotencyUnknown) | None => Idempotency::Unknown,
        };
        Ok(Self {
            ask_all: AskAll::read(&rule, method, idempotency, &name)?,
            path: format!("/{name}").into(),
            service: Arc::clone(service),
            name: method.name().into(),
            client_streaming: method.is_client_streaming(),
            server_streaming: method.is_server_streaming(),
            idempotency,
            max_deadline: stated_deadline
                .filter(|limit| !limit.is_zero())
                .or_else(|| unary.then_some(DEFAULT_UNARY_DEADLINE)),
            max_request_bytes: message_limit(rule.max_request_bytes),
            max_response_bytes: message_limit(rule.max_response_bytes),
            long_lived: rule.long_lived,
            rule,
            descriptor_digest: digest,
            request: method.input(),
            response: method.output(),
        })
    }
}

impl Service {
    /// What the provider should correct before it publishes the service.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The method with a name within the service.
    pub fn method(&self, name: &str) -> Option<&Arc<Method>> {
        self.methods.iter().find(|method| &*method.name == name)
    }

    pub(super) fn read(
        service: &ServiceDescriptor,
        digest: [u8; 32],
    ) -> Result<Self, CatalogError> {
        let name: Arc<str> = service.full_name().into();
        let stated = rule::stated(
            service.parent_pool(),
            &service.options(),
            "banqiao.exchange.v1.service",
            &name,
        )?;
        let mut findings = Vec::new();
        finding::option(&stated, &name, &mut findings);
        if let Stated::Rule(rule) = &stated {
            finding::service(rule, &name, &mut findings);
        }
        let methods = service
            .methods()
            .map(|method| Method::read(&method, &name, digest, &mut findings).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            rule: stated.or_default(),
            methods,
            descriptor_digest: digest,
            findings,
        })
    }
}

fn message_limit(stated: u32) -> u32 {
    if stated == 0 {
        DEFAULT_MESSAGE_BYTES
    } else {
        stated.min(MAX_MESSAGE_BYTES)
    }
}
