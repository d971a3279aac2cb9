//! One descriptor set and the services that it describes.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use prost_reflect::DescriptorPool;

use super::{CatalogError, Finding, OWN_SERVICE, Service, encoded, field, is_reserved_service};

/// Largest descriptor set that is taken, in bytes: a few hundred files with comments stay below 2 MiB, and gateways
/// hand sets to each other in one gRPC message of the default limit.
pub const MAX_DESCRIPTOR_SET_BYTES: usize = (4 << 20) - 1_024;

/// An encoded `google.protobuf.FileDescriptorSet`, parsed, and addressed by its SHA-256.
///
/// Services that gateways serve themselves ([`is_reserved_service`]) are left out of it.
#[derive(Clone)]
pub struct ServiceSet {
    bytes: Arc<[u8]>,
    digest: [u8; 32],
    pool: DescriptorPool,
    /// Those that are used, of [`Self::all`].
    services: Arc<[Arc<Service>]>,
    all: Arc<[Arc<Service>]>,
}

impl ServiceSet {
    /// Parses a set that holds every import, with its options.
    ///
    /// # Errors
    /// [`CatalogError`] if the bytes are too many or no complete set, if an option of ours is malformed, or if no
    /// service is left to carry.
    pub fn decode(descriptor_set: &[u8]) -> Result<Self, CatalogError> {
        Self::read(descriptor_set, |name| !is_reserved_service(name))
    }

    /// As [`ServiceSet::decode`], of what a gateway offers: its own carried service ([`OWN_SERVICE`]) is not left out.
    ///
    /// # Errors
    /// As of [`ServiceSet::decode`].
    pub fn decode_offered(descriptor_set: &[u8]) -> Result<Self, CatalogError> {
        Self::read(descriptor_set, |name| {
            name == OWN_SERVICE || !is_reserved_service(name)
        })
    }

    fn read(
        descriptor_set: &[u8],
        is_carried: impl Fn(&str) -> bool,
    ) -> Result<Self, CatalogError> {
        if descriptor_set.len() > MAX_DESCRIPTOR_SET_BYTES {
            return Err(CatalogError::TooLarge(descriptor_set.len()));
        }
        let pool = encoded::pool(descriptor_set)?;
        let digest = sha256(descriptor_set);
        // Later readers of field rules may then rely on all of them.
        for message in pool.all_messages() {
            for field in message.fields() {
                field::read(&field)?;
            }
        }
        let services = pool
            .services()
            .filter(|service| is_carried(service.full_name()))
            .map(|service| Service::read(&service, digest).map(Arc::new))
            .collect::<Result<Arc<[_]>, _>>()?;
        if services.is_empty() {
            return Err(CatalogError::NoService);
        }
        Ok(Self {
            bytes: descriptor_set.into(),
            digest,
            pool,
            all: Arc::clone(&services),
            services,
        })
    }

    /// The same set, of which only the named services are used. Its bytes and digest stay.
    ///
    /// # Errors
    /// [`CatalogError::Reserved`] or [`CatalogError::UnknownService`] for a name that it does not offer,
    /// [`CatalogError::NoService`] for no names.
    pub fn restrict<S: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self, CatalogError> {
        let mut services: Vec<Arc<Service>> = Vec::new();
        for name in names {
            let name = name.as_ref();
            let service = self.service(name).ok_or_else(|| {
                let name = name.to_owned();
                if is_reserved_service(&name) {
                    CatalogError::Reserved(name)
                } else {
                    CatalogError::UnknownService(name)
                }
            })?;
            if !services.iter().any(|taken| taken.name == service.name) {
                services.push(Arc::clone(service));
            }
        }
        if services.is_empty() {
            return Err(CatalogError::NoService);
        }
        Ok(Self {
            services: services.into(),
            ..self.clone()
        })
    }

    /// The same set with every service that it had when it was decoded.
    pub fn whole(&self) -> Self {
        Self {
            services: Arc::clone(&self.all),
            ..self.clone()
        }
    }

    /// SHA-256 of the bytes.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The encoded set, as it was decoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parsed set, without comments.
    pub const fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The services, in the order of the set.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The service with a full name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| &*service.name == name)
    }

    /// What the provider should correct before it publishes the services.
    pub fn findings(&self) -> Vec<Finding> {
        self.services
            .iter()
            .flat_map(|service| service.findings())
            .cloned()
            .collect()
    }
}

impl fmt::Debug for ServiceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSet")
            .field("digest", &hex::encode(self.digest))
            .field(
                "services",
                &self
                    .services
                    .iter()
                    .map(|service| &service.name)
                    .collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

/// Sets that were decoded before, by digest. Decoding one takes far longer than its digest, and many services may stand in one set.
#[derive(Debug, Default)]
pub struct DecodedSets {
    sets: HashMap<[u8; 32], ServiceSet>,
    /// Those that were asked for since the last [`DecodedSets::sweep`].
    asked: HashSet<[u8; 32]>,
}

impl DecodedSets {
    /// As [`ServiceSet::decode`], once for each set.
    ///
    /// # Errors
    /// As of [`ServiceSet::decode`].
    pub fn decode(&mut self, descriptor_set: &[u8]) -> Result<ServiceSet, CatalogError> {
        let digest = sha256(descriptor_set);
        let set = match self.sets.entry(digest) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => place.insert(ServiceSet::decode(descriptor_set)?),
        };
        self.asked.insert(digest);
        Ok(set.clone())
    }

    /// Forgets what nobody has asked for since the last time.
    pub fn sweep(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.sets.retain(|digest, _| asked.contains(digest));
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
