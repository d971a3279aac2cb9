//! The grants of a city, and the decision about a call.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_directory::{Method, SpiffeId, TrustDomain};
use banqiao_proto::exchange::v1::{Reason, SharingAttribute};
use prost::Message;
use uuid::Uuid;

use crate::{ClientPattern, Grant, client::prefixes, explain::Finding};

/// What is decided about a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It may go on, by this grant.
    Permit(Arc<Grant>),
    /// It may not.
    Refuse(Reason),
}

/// Every grant of a city, immutable, indexed for decisions.
#[derive(Clone, Debug)]
pub struct GrantSet {
    by_id: BTreeMap<Uuid, Arc<Grant>>,
    services: HashMap<Arc<str>, ServiceGrants>,
    digest: [u8; 32],
}

/// The grants of one service. Each list is in order of precedence.
#[derive(Clone, Debug, Default)]
struct ServiceGrants {
    exact: HashMap<SpiffeId, Vec<Arc<Grant>>>,
    under: HashMap<Arc<str>, Vec<Arc<Grant>>>,
}

impl GrantSet {
    /// A set of grants. Of two with the same id the later one holds.
    pub fn new(grants: impl IntoIterator<Item = Grant>) -> Self {
        let by_id: BTreeMap<_, _> = grants
            .into_iter()
            .map(|grant| (grant.uuid, Arc::new(grant)))
            .collect();
        let mut services: HashMap<Arc<str>, ServiceGrants> = HashMap::new();
        for grant in by_precedence(&by_id) {
            let service = services.entry(Arc::clone(&grant.service)).or_default();
            let list = match &grant.client {
                ClientPattern::Exact(id) => service.exact.entry(id.clone()).or_default(),
                ClientPattern::Under { prefix, .. } => {
                    service.under.entry(Arc::clone(prefix)).or_default()
                }
            };
            list.push(grant);
        }
        let digest = digest(by_id.values());
        Self {
            by_id,
            services,
            digest,
        }
    }

    /// SHA-256 over the grants that are not revoked, in the order of their ids: what entries cite.
    ///
    /// The input is `banqiao-grants-v1`, a zero byte, and for each grant its encoded length as eight big-endian
    /// bytes and its encoding. Grants that have only run out stay in it: their end is part of what it covers.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Decides about a call of `method` by `client` for `purpose` at a moment in microseconds since 1970.
    ///
    /// Where several grants permit it, the one for exactly this client holds before one for a path, a longer path
    /// before a shorter, one that names the method before one for the whole service, and a newer one before an
    /// older. A client that has no grant for the method learns nothing else ([`Reason::NotGranted`]).
    pub fn decide(
        &self,
        client: &SpiffeId,
        method: &Method,
        purpose: &str,
        now_us: i64,
    ) -> Decision {
        let mut refusal = Reason::NotGranted;
        for grant in self.candidates(client, &method.service) {
            match judge(grant, method, purpose, now_us) {
                Finding::Decides => return Decision::Permit(Arc::clone(grant)),
                finding => refusal = further(refusal, finding.reason()),
            }
        }
        Decision::Refuse(refusal)
    }

    /// The grants that cover a client for a service, in order of precedence, also those that are not in force.
    pub(crate) fn candidates<'a>(
        &'a self,
        client: &'a SpiffeId,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        // A gateway is no client, whatever a pattern says.
        let service = self.services.get(service).filter(|_| !client.is_gateway());
        service.into_iter().flat_map(move |service| {
            let exact = service.exact.get(client).into_iter();
            let under = prefixes(client).filter_map(|prefix| service.under.get(prefix));
            exact.chain(under).flatten()
        })
    }

    /// The grant with an id.
    pub fn grant(&self, id: &Uuid) -> Option<&Arc<Grant>> {
        self.by_id.get(id)
    }

    /// Every grant, newest first.
    pub fn grants(&self) -> impl DoubleEndedIterator<Item = &Arc<Grant>> {
        self.by_id.values().rev()
    }

    /// Number of grants, with those that have ended.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no grant at all.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of grants in force at a moment.
    pub fn in_force(&self, now_us: i64) -> usize {
        self.by_id
            .values()
            .filter(|grant| grant.valid_at(now_us))
            .count()
    }

    /// The clients of a city that have a grant in force for a service, each pattern once, sorted: what that city's
    /// gateway is told with the service's catalogue entry.
    pub fn clients_of_city(
        &self,
        city: &TrustDomain,
        service: &str,
        now_us: i64,
    ) -> Vec<ClientPattern> {
        let mut clients: Vec<_> = self
            .of_city(city, service, now_us)
            .map(|grant| grant.client.clone())
            .collect();
        clients.sort_by_cached_key(ToString::to_string);
        clients.dedup();
        clients
    }

    /// Whether any grant in force covers systems of a city for a service: what that city's catalogue shows.
    pub fn covers_city(&self, city: &TrustDomain, service: &str, now_us: i64) -> bool {
        self.of_city(city, service, now_us).next().is_some()
    }

    fn of_city<'a>(
        &'a self,
        city: &'a TrustDomain,
        service: &str,
        now_us: i64,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        let lists = self
            .services
            .get(service)
            .into_iter()
            .flat_map(|service| service.exact.values().chain(service.under.values()));
        lists
            .flatten()
            .filter(move |grant| grant.client.trust_domain() == city && grant.valid_at(now_us))
    }

    /// Whether any grant in force covers a client for a service: what its reflection and health show.
    pub fn covers_client(&self, client: &SpiffeId, service: &str, now_us: i64) -> bool {
        self.candidates(client, service)
            .any(|grant| grant.valid_at(now_us))
    }

    /// The services that a client has a grant in force for, sorted by name.
    pub fn visible_services(&self, client: &SpiffeId, now_us: i64) -> Vec<Arc<str>> {
        let mut visible: Vec<_> = self
            .services
            .keys()
            .filter(|service| self.covers_client(client, service, now_us))
            .cloned()
            .collect();
        visible.sort();
        visible
    }
}

impl Default for GrantSet {
    /// No grant: everything is refused.
    fn default() -> Self {
        Self::new([])
    }
}

/// What one grant that covers the client says to a call; the same for decisions and explanations.
pub(crate) fn judge(grant: &Grant, method: &Method, purpose: &str, now_us: i64) -> Finding {
    if grant.revoked_at_us.is_some() {
        Finding::Revoked
    } else if !grant.covers_method(method) {
        Finding::OtherMethods
    } else if method.sharing() == SharingAttribute::NotShared {
        Finding::NotShared
    } else if !method.allows_purpose(purpose) {
        Finding::PurposeNotAllowedByMethod
    } else if !grant.covers_purpose(purpose) {
        Finding::OtherPurposes
    } else if now_us < grant.not_before_us {
        Finding::NotYetValid
    } else if now_us >= grant.not_after_us {
        Finding::Expired
    } else {
        Finding::Decides
    }
}

/// Of two refusals, the one that came further: it tells the client what is left to do.
pub(crate) fn further(held: Reason, next: Reason) -> Reason {
    let rank = |reason| match reason {
        Reason::GrantExpired => 2,
        Reason::PurposeNotAllowed => 1,
        _ => 0,
    };
    if rank(next) > rank(held) { next } else { held }
}

/// Grants in order of precedence within one client pattern: named methods first, then the newest.
fn by_precedence(by_id: &BTreeMap<Uuid, Arc<Grant>>) -> impl Iterator<Item = Arc<Grant>> {
    let named = by_id
        .values()
        .rev()
        .filter(|grant| !grant.methods.is_empty());
    let whole = by_id
        .values()
        .rev()
        .filter(|grant| grant.methods.is_empty());
    named.chain(whole).cloned()
}

fn digest<'a>(grants: impl Iterator<Item = &'a Arc<Grant>>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(b"banqiao-grants-v1\0");
    for grant in grants.filter(|grant| grant.revoked_at_us.is_none()) {
        let encoded = grant.proto.encode_to_vec();
        context.update(
            &u64::try_from(encoded.len())
                .unwrap_or(u64::MAX)
                .to_be_bytes(),
        );
        context.update(&encoded);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
