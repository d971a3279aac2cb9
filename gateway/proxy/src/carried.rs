//! A catalogue made ready for carrying calls: each method with what its messages are scanned and cut by.

use std::{collections::HashMap, sync::Arc};

use banqiao_directory::{CITY_FIELD, Catalog, Method, Service, SpiffeId};
use banqiao_policy::{ClientPattern, Disclosed, Grant};
use parking_lot::Mutex;

use crate::wire::{DisclosureMask, MaskError, SubjectPlan};

/// The methods of a catalogue.
#[derive(Debug, Default)]
pub struct Carried {
    catalog: Catalog,
    methods: HashMap<Arc<str>, Arc<MethodPlan>>,
    /// Of another city's catalogue: for which systems of this city each service is.
    clients: HashMap<String, Vec<ClientPattern>>,
}

/// A method with its plans.
#[derive(Debug)]
pub(crate) struct MethodPlan {
    pub(crate) method: Arc<Method>,
    pub(crate) request_subjects: Arc<SubjectPlan>,
    pub(crate) response_subjects: Arc<SubjectPlan>,
    /// Masks by grant, made when a grant is first used.
    masks: Mutex<HashMap<String, Arc<DisclosureMask>>>,
}

/// Grants come and go; beyond this many masks the cache of a method starts anew.
const MASKS: usize = 1_024;

impl Carried {
    /// Compiles the plans of every method.
    pub fn new(catalog: Catalog) -> Self {
        let methods = catalog
            .services()
            .iter()
            .flat_map(|service| &service.methods)
            .map(|method| {
                (
                    Arc::clone(&method.path),
                    Arc::new(MethodPlan::new(Arc::clone(method))),
                )
            })
            .collect();
        Self {
            catalog,
            methods,
            clients: HashMap::new(),
        }
    }

    /// The catalogue of another city, with the systems of this city that each service is for.
    pub(crate) fn remote(catalog: Catalog, clients: HashMap<String, Vec<ClientPattern>>) -> Self {
        Self {
            clients,
            ..Self::new(catalog)
        }
    }

    /// Whether another city has granted a service to a system of this city.
    pub(crate) fn shows(&self, service: &str, client: &SpiffeId) -> bool {
        let patterns = self.clients.get(service);
        patterns.is_some_and(|patterns| patterns.iter().any(|pattern| pattern.covers(client)))
    }

    /// Whether another catalogue holds the same services for the same systems.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let services = |carried: &Self| -> Vec<_> {
            let services = carried.catalog.services().iter();
            services
                .map(|service| (Arc::clone(&service.name), service.descriptor_digest))
                .collect()
        };
        self.clients == other.clients && services(self) == services(other)
    }

    /// The catalogue.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(crate) fn method(&self, path: &str) -> Option<&Arc<MethodPlan>> {
        self.methods.get(path)
    }
}

/// Fields of a service's messages that are marked as subjects and cannot be read as such: numbers, maps, messages. A
/// service that has any must not be published, or its subjects would be missing in the record.
pub fn unreadable_subjects(service: &Service) -> Vec<String> {
    let mut fields = Vec::new();
    for method in &service.methods {
        for message in [&method.request, &method.response] {
            let plan = SubjectPlan::for_message(message);
            fields.extend(
                plan.unusable()
                    .iter()
                    .map(|field| format!("{} {field}", message.full_name())),
            );
        }
    }
    fields.sort();
    fields.dedup();
    fields
}

impl MethodPlan {
    fn new(method: Arc<Method>) -> Self {
        Self {
            request_subjects: Arc::new(SubjectPlan::for_message(&method.request)),
            response_subjects: Arc::new(SubjectPlan::for_message(&method.response)),
            method,
            masks: Mutex::default(),
        }
    }

    /// What a grant discloses of this method's responses. `None`: everything.
    ///
    /// # Errors
    ///
    /// The grant names a field that the method's present descriptor does not have.
    pub(crate) fn mask(&self, grant: &Grant) -> Result<Option<Arc<DisclosureMask>>, MaskError> {
        if grant.disclosed().is_empty() {
            return Ok(None);
        }
        if let Some(mask) = self.masks.lock().get(grant.id()) {
            return Ok(Some(Arc::clone(mask)));
        }
        let named = grant.disclosed().iter().map(|disclosed| match disclosed {
            Disclosed::Field(path) => path.to_string(),
            Disclosed::Group(name) => format!("group:{name}"),
        });
        // Who asks all cities must be able to tell which of them a message is from.
        let city = self.method.ask_all.as_ref().map(|_| CITY_FIELD.to_owned());
        let named: Vec<String> = named.chain(city).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let mask = Arc::new(DisclosureMask::for_message(&self.method.response, &named)?);
        let mut masks = self.masks.lock();
        if masks.len() >= MASKS {
            masks.clear();
        }
        masks.insert(grant.id().to_owned(), Arc::clone(&mask));
        Ok(Some(mask))
    }
}
