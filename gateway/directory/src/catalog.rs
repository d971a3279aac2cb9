//! The catalogue: which services exist, and by which rules their methods are carried.
//!
//! A [`ServiceSet`] is one encoded `google.protobuf.FileDescriptorSet`, addressed by its SHA-256; a [`Catalog`] is
//! an immutable view over several of them. Services need no option of ours: without one the stated defaults hold.

mod ask_all;
mod encoded;
mod field;
mod finding;
mod rule;
mod service;
mod set;

use std::{collections::HashMap, sync::Arc};

pub use ask_all::{AskAll, CITY_FIELD};
pub use field::{disclosure_groups, field_at, field_rule};
pub use finding::Finding;
pub use service::{
    DEFAULT_MESSAGE_BYTES, DEFAULT_UNARY_DEADLINE, Idempotency, MAX_MESSAGE_BYTES, Method, Service,
};
pub use set::{DecodedSets, MAX_DESCRIPTOR_SET_BYTES, ServiceSet};

/// Why a descriptor set or a catalogue is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A method states `ask_all` and has not the shape for it, or fences it with what is no purpose or city.
    #[error("{method} cannot be asked of all cities: {fault}")]
    AskAll {
        /// `package.Service/Method`.
        method: String,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// Two different descriptor sets define one service.
    #[error(
        "service {service} is described by two descriptor sets, {} and {}: replace one of them",
        hex::encode(held),
        hex::encode(offered)
    )]
    Conflict {
        /// Full name of the service.
        service: Arc<str>,
        /// Digest of the set that came first.
        held: [u8; 32],
        /// Digest of the set that came later.
        offered: [u8; 32],
    },
    /// Not a complete descriptor set.
    #[error("not a descriptor set with every import")]
    Descriptors(#[source] prost_reflect::DescriptorError),
    /// Bytes that are no descriptor set.
    #[error("not a descriptor set")]
    Malformed,
    /// The set describes no service that a gateway may carry.
    #[error("the descriptor set describes no service")]
    NoService,
    /// An option of ours does not have the form that `banqiao/exchange/v1/options.proto` gives it.
    #[error("the banqiao option on {of} is malformed")]
    Option {
        /// The service, method or field that carries it.
        of: String,
        /// What is wrong with it; nothing where it has another type altogether.
        #[source]
        source: Option<prost::DecodeError>,
    },
    /// A service that gateways serve themselves cannot be registered.
    #[error("{0} is served by the gateway itself and cannot be registered")]
    Reserved(String),
    /// A file of the set is written in a syntax that gateways cannot read, such as `editions`.
    #[error("a file of the set has the syntax {0:?}; gateways read proto2 and proto3")]
    Syntax(String),
    /// The set is larger than [`MAX_DESCRIPTOR_SET_BYTES`].
    #[error("the descriptor set has {0} bytes, more than {MAX_DESCRIPTOR_SET_BYTES}")]
    TooLarge(usize),
    /// The set has more files than gateways take.
    #[error("the descriptor set has more than {0} files")]
    TooManyFiles(usize),
    /// The set does not describe the service.
    #[error("the descriptor set does not describe the service {0}")]
    UnknownService(String),
}

/// Whether gateways serve this service themselves, so that no provider may register it.
///
/// ```
/// assert!(banqiao_directory::is_reserved_service("grpc.health.v1.Health"));
/// assert!(!banqiao_directory::is_reserved_service("banqiao.card.v1.CardService"));
/// ```
pub fn is_reserved_service(name: &str) -> bool {
    [
        "grpc.health.",
        "grpc.reflection.",
        "banqiao.directory.",
        "banqiao.ledger.",
    ]
    .iter()
    .any(|package| name.starts_with(package))
}

/// The service that every gateway offers of its own accord, and that is carried like those of providers.
pub const OWN_SERVICE: &str = "banqiao.ledger.v1.SubjectService";

/// An immutable set of services and their methods, found by name or path without allocation.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    methods: HashMap<Arc<str>, Arc<Method>>,
    /// Sorted by name.
    services: Vec<Arc<Service>>,
    by_name: HashMap<Arc<str>, (Arc<Service>, Arc<ServiceSet>)>,
}

impl Catalog {
    /// The services of several sets.
    ///
    /// # Errors
    /// [`CatalogError::Conflict`] where two sets with different digests define one service; decide which of them
    /// holds with [`ServiceSet::restrict`], or add it with [`Catalog::replacing`].
    pub fn new(sets: impl IntoIterator<Item = ServiceSet>) -> Result<Self, CatalogError> {
        let mut by_name: HashMap<Arc<str>, (Arc<Service>, Arc<ServiceSet>)> = HashMap::new();
        for set in sets {
            let set = Arc::new(set);
            for service in set.services() {
                if let Some((held, _)) = by_name.get(&service.name) {
                    if held.descriptor_digest != service.descriptor_digest {
                        return Err(CatalogError::Conflict {
                            service: Arc::clone(&service.name),
                            held: held.descriptor_digest,
                            offered: service.descriptor_digest,
                        });
                    }
                    continue;
                }
                by_name.insert(
                    Arc::clone(&service.name),
                    (Arc::clone(service), Arc::clone(&set)),
                );
            }
        }
        Ok(Self::from_services(by_name))
    }

    /// This catalogue with the services of `set` in place of those that have the same names.
    #[must_use]
    pub fn replacing(&self, set: ServiceSet) -> Self {
        let set = Arc::new(set);
        let mut by_name = self.by_name.clone();
        for service in set.services() {
            by_name.insert(
                Arc::clone(&service.name),
                (Arc::clone(service), Arc::clone(&set)),
            );
        }
        Self::from_services(by_name)
    }

    /// This catalogue without one service.
    #[must_use]
    pub fn without(&self, service: &str) -> Self {
        let mut by_name = self.by_name.clone();
        by_name.remove(service);
        Self::from_services(by_name)
    }

    /// The method with a path such as `/banqiao.card.v1.CardService/VerifyCard`.
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// The service with a full name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.by_name.get(name).map(|(service, _)| service)
    }

    /// Every service, sorted by name.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The descriptor set that describes a service.
    pub fn set_for(&self, service: &str) -> Option<&Arc<ServiceSet>> {
        self.by_name.get(service).map(|(_, set)| set)
    }

    /// The encoded descriptor set of a service, as reflection serves it.
    pub fn pool_for(&self, service: &str) -> Option<&[u8]> {
        self.set_for(service).map(|set| set.bytes())
    }

    /// The set with a digest, if a service of this catalogue is described by it.
    pub fn set_by_digest(&self, digest: &[u8; 32]) -> Option<&Arc<ServiceSet>> {
        self.services
            .iter()
            .find(|service| service.descriptor_digest == *digest)
            .and_then(|service| self.set_for(&service.name))
    }

    fn from_services(by_name: HashMap<Arc<str>, (Arc<Service>, Arc<ServiceSet>)>) -> Self {
        let mut services: Vec<_> = by_name
            .values()
            .map(|(service, _)| Arc::clone(service))
            .collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let methods = services
            .iter()
            .flat_map(|service| &service.methods)
            .map(|method| (Arc::clone(&method.path), Arc::clone(method)))
            .collect();
        Self {
            methods,
            services,
            by_name,
        }
    }
}

#[cfg(test)]
mod tests;
