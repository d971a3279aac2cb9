//! `AdminService`.

use std::collections::{BTreeMap, BTreeSet};

use banqiao_directory::{CityCode, Envelope, Method, ServiceSet, SpiffeId, Status as Freshness};
use banqiao_ledger::{DocumentKind, Effect, FreezeReason, LedgerState};
use banqiao_proto::directory::v1::{
    ArchiveEntriesRequest, CrlStatus, DrainRequest, DrainResponse, EndpointStatus,
    GetStatusRequest, GetStatusResponse, ListServicesRequest, ListServicesResponse,
    PeerLedgerStatus, PeerStatus, PublishDirectoryRequest, PublishDirectoryResponse,
    ReconciliationStatus, RegisterDescriptorSetRequest, RegisterDescriptorSetResponse,
    RegisteredService, ReloadRequest, ReloadResponse, ShowDirectoryRequest, ShowDirectoryResponse,
    WitnessStatus, admin_service_server::AdminService,
};
use banqiao_proto::exchange::v1::SharingAttribute;
use banqiao_proxy::{Alarm, Snapshot, Standing};
use banqiao_telemetry::Chain;
use prost::Message as _;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{Actor, Core, archive, grants::timestamp, invalid, refusal};
use crate::moment;

/// Largest registration in bytes, over all its services: each keeps the whole set.
const MAX_REGISTRATION_BYTES: usize = 32 << 20;

pub(super) struct Admin(pub(super) Core);

#[tonic::async_trait]
impl AdminService for Admin {
    type ArchiveEntriesStream = archive::Told;

    async fn archive_entries(
        &self,
        request: Request<ArchiveEntriesRequest>,
    ) -> Result<Response<Self::ArchiveEntriesStream>, Status> {
        let actor = Actor::of(&request)?;
        archive::begin(&self.0, actor, request.into_inner()).await
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let core = &self.0;
        let snapshot = core.control.snapshot();
        let status = core.control.status();
        let standing = core.control.standing();
        let directory = &snapshot.directory;
        Ok(Response::new(GetStatusResponse {
            city: core.city.as_str().to_owned(),
            replica: core.replica.to_string(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(timestamp(core.started_us)),
            directory_version: directory.version(),
            directory_fetched_at: Some(timestamp(snapshot.fetched_at_us)),
            directory_expires_at: Some(timestamp(directory.expires_at_us())),
            certificate_expires_at: Some(timestamp(
                core.control
                    .identity()
                    .own()
                    .not_after_s
                    .saturating_mul(1_000_000),
            )),
            crls: status
                .crls
                .iter()
                .map(|crl| CrlStatus {
                    trust_domain: crl.trust_domain.to_string(),
                    number: crl.number.to_string(),
                    next_update: Some(timestamp(crl.next_update_s.saturating_mul(1_000_000))),
                    revoked: u32::try_from(crl.revoked).unwrap_or(u32::MAX),
                })
                .collect(),
            peers: peers(core, &snapshot, &status),
            endpoints: endpoints(&snapshot, &status),
            ledger_size: core.control.ledger().size(),
            // A database that does not answer is told of elsewhere.
            ledger_archived: core.control.ledger().archived().await.unwrap_or_default(),
            ledger_writable: status.ledger == LedgerState::Ready,
            calls_in_flight: status.calls as u64,
            grants: u32::try_from(snapshot.grants.in_force(core.clock.now_us()))
                .unwrap_or(u32::MAX),
            draining: status.draining,
            warnings: self.warnings(&snapshot, &status, &standing),
            witnessed_size: standing
                .witnessed
                .map_or(0, |witnessed| witnessed.head.size),
            witnessed_at: standing
                .witnessed
                .map(|witnessed| timestamp(witnessed.at_s.saturating_mul(1_000_000))),
            witnesses: witnesses(&standing),
            peer_ledgers: peer_ledgers(&standing),
            reconciliations: reconciliations(core).await,
        }))
    }

    async fn publish_directory(
        &self,
        request: Request<PublishDirectoryRequest>,
    ) -> Result<Response<PublishDirectoryResponse>, Status> {
        let actor = Actor::of(&request)?;
        let envelope = Envelope::parse(&request.get_ref().envelope).map_err(|error| {
            let problem = format!("is not a signed directory: {}", Chain(&error));
            invalid(
                "the directory was not published",
                [("envelope".to_owned(), problem)],
            )
        })?;
        match self.0.control.publish(&envelope, &actor.name).await {
            Ok(version) => Ok(Response::new(PublishDirectoryResponse { version })),
            Err(error) => {
                let message = Chain(&error).to_string();
                Err(match error.reason() {
                    Some(reason) => refusal(reason, message),
                    None => invalid(
                        "the directory was not published",
                        [("envelope".to_owned(), message)],
                    ),
                })
            }
        }
    }

    async fn show_directory(
        &self,
        _: Request<ShowDirectoryRequest>,
    ) -> Result<Response<ShowDirectoryResponse>, Status> {
        let snapshot = self.0.control.snapshot();
        Ok(Response::new(ShowDirectoryResponse {
            envelope: snapshot.envelope.to_vec(),
            fetched_at: Some(timestamp(snapshot.fetched_at_us)),
        }))
    }

    async fn register_descriptor_set(
        &self,
        request: Request<RegisterDescriptorSetRequest>,
    ) -> Result<Response<RegisterDescriptorSetResponse>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let set = self.checked(&asked)?;
        let registrations = self.registrations(&set, asked).await?;
        let services: Vec<String> = registrations.keys().cloned().collect();
        let effects = registrations
            .into_iter()
            .map(|(key, registration)| Effect::PutDocument {
                kind: DocumentKind::DescriptorSet,
                key,
                bytes: registration.encode_to_vec(),
            })
            .collect();
        let digests = (self.registered_digest(&services), set.digest().to_vec());
        self.0
            .change(
                &actor,
                "descriptor.register",
                &services.join(" "),
                digests,
                effects,
            )
            .await?;
        self.0.control.reread().await;
        Ok(Response::new(RegisterDescriptorSetResponse {
            digest: set.digest().to_vec(),
            services,
        }))
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let snapshot = self.0.control.snapshot();
        let services =
            snapshot
                .catalog
                .catalog()
                .services()
                .iter()
                .map(|service| RegisteredService {
                    service: service.name.to_string(),
                    descriptor_digest: service.descriptor_digest.to_vec(),
                    endpoints: snapshot
                        .routes
                        .get(&service.name)
                        .map(|route| route.endpoints.to_vec())
                        .unwrap_or_default(),
                    methods: service
                        .methods
                        .iter()
                        .map(|method| method.name.to_string())
                        .collect(),
                });
        Ok(Response::new(ListServicesResponse {
            services: services.collect(),
        }))
    }

    async fn reload(
        &self,
        request: Request<ReloadRequest>,
    ) -> Result<Response<ReloadResponse>, Status> {
        let actor = Actor::of(&request)?;
        self.0
            .change(&actor, "reload", "", Default::default(), Vec::new())
            .await?;
        Ok(Response::new(ReloadResponse {
            changes: self.0.control.reload().await,
        }))
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        let actor = Actor::of(&request)?;
        let entered = self
            .0
            .change(&actor, "drain", "", Default::default(), Vec::new())
            .await;
        if let Err(status) = entered {
            // A gateway that cannot write its ledger is one that somebody wants to take out of service.
            tracing::error!(actor = %actor.name, error = status.message(), "drains without an entry");
        }
        Ok(Response::new(DrainResponse {
            calls_in_flight: self.0.control.drain() as u64,
        }))
    }
}

impl Admin {
    /// A set that can be carried, with every fault of the request at once.
    fn checked(&self, asked: &RegisterDescriptorSetRequest) -> Result<ServiceSet, Status> {
        let mut faults = Vec::new();
        if asked.endpoints.is_empty() != asked.identity.is_empty() {
            let problem = "endpoints and the identity that they must prove go together";
            faults.push(("identity".to_owned(), problem.to_owned()));
        }
        if !asked.identity.is_empty() {
            let own = self.0.control.identity().own().id.trust_domain().clone();
            match asked.identity.parse::<SpiffeId>() {
                Ok(id) if *id.trust_domain() == own => {}
                _ => faults.push(("identity".to_owned(), format!("is a SPIFFE ID of {own}"))),
            }
        }
        for (index, endpoint) in asked.endpoints.iter().enumerate() {
            if endpoint
                .parse::<http::uri::Authority>()
                .is_ok_and(|at| at.port().is_some())
            {
                continue;
            }
            faults.push((format!("endpoints[{index}]"), "is host:port".to_owned()));
        }
        let set = ServiceSet::decode(&asked.descriptor_set).and_then(|set| {
            if asked.services.is_empty() {
                Ok(set)
            } else {
                set.restrict(&asked.services)
            }
        });
        let set = match set {
            Ok(set) => set,
            Err(error) => {
                faults.push(("descriptor_set".to_owned(), Chain(&error).to_string()));
                return Err(invalid("the descriptors were not registered", faults));
            }
        };
        for service in set.services() {
            let methods = service.methods.iter();
            for method in methods.filter(|method| lacks_terms(method)) {
                let problem = format!(
                    "{} states no sharing terms: scope, purpose and condition of conditional sharing, law and \
                     article of what is not shared (政务数据共享条例 art. 15)",
                    method.path
                );
                faults.push(("descriptor_set".to_owned(), problem));
            }
        }
        for service in set.services() {
            for field in banqiao_proxy::unreadable_subjects(service) {
                let problem = format!(
                    "{field} is marked as a subject, and is no text that a gateway can read"
                );
                faults.push(("descriptor_set".to_owned(), problem));
            }
        }
        if !faults.is_empty() {
            return Err(invalid("the descriptors were not registered", faults));
        }
        // What else the catalogue asks for stops no call, but somebody should correct it.
        for finding in set.findings() {
            tracing::warn!(%finding, "registered, but to be corrected");
        }
        Ok(set)
    }

    /// One document for each service, so that what is registered last holds for it, whatever else the same set or
    /// another one describes. Without endpoints those that were registered before stay.
    async fn registrations(
        &self,
        set: &ServiceSet,
        asked: RegisterDescriptorSetRequest,
    ) -> Result<BTreeMap<String, RegisterDescriptorSetRequest>, Status> {
        let names = set
            .services()
            .iter()
            .map(|service| service.name.to_string());
        if set.bytes().len().saturating_mul(set.services().len()) > MAX_REGISTRATION_BYTES {
            let problem = "is too large to be kept for so many services: register fewer at once";
            return Err(invalid(
                "the descriptors were not registered",
                [("services".to_owned(), problem.to_owned())],
            ));
        }
        let kept = self
            .0
            .control
            .ledger()
            .documents(DocumentKind::DescriptorSet)
            .await;
        let (_, kept) = kept.map_err(|error| {
            tracing::warn!(error = %Chain(&error), "the registered descriptors could not be read");
            Status::unavailable("the ledger could not be read: the gateway's log says why")
        })?;
        let snapshot = self.0.control.snapshot();
        let mut registrations = BTreeMap::new();
        let mut faults = Vec::new();
        for name in names {
            let mut registration = RegisterDescriptorSetRequest {
                services: vec![name.clone()],
                ..asked.clone()
            };
            if asked.endpoints.is_empty() {
                let before = kept.iter().find(|document| document.key == name);
                let before = before
                    .and_then(|document| {
                        RegisterDescriptorSetRequest::decode(document.bytes.as_slice()).ok()
                    })
                    .unwrap_or_default();
                if before.endpoints.is_empty() && !snapshot.routes.contains_key(name.as_str()) {
                    let problem = format!("{name} has none in the config: say where it is");
                    faults.push(("endpoints".to_owned(), problem));
                }
                registration.endpoints = before.endpoints;
                registration.identity = before.identity;
            }
            registrations.insert(name, registration);
        }
        if faults.is_empty() {
            return Ok(registrations);
        }
        Err(invalid("the descriptors were not registered", faults))
    }

    /// Digest of the set that describes these services now, where it is one and the same.
    fn registered_digest(&self, services: &[String]) -> Vec<u8> {
        let snapshot = self.0.control.snapshot();
        let catalog = snapshot.catalog.catalog();
        let digests: BTreeSet<_> = services
            .iter()
            .map(|name| {
                catalog
                    .service(name)
                    .map(|service| service.descriptor_digest)
            })
            .collect();
        match digests.first() {
            Some(Some(digest)) if digests.len() == 1 => digest.to_vec(),
            _ => Vec::new(),
        }
    }

    fn warnings(
        &self,
        snapshot: &Snapshot,
        status: &banqiao_proxy::Status,
        standing: &Standing,
    ) -> Vec<String> {
        let core = &self.0;
        let mut warnings = Vec::new();
        match snapshot.directory.status(core.clock.now_us()) {
            Freshness::Fresh => {}
            Freshness::Ageing => {
                warnings.push("the directory is past half of its validity".to_owned())
            }
            Freshness::Expired => {
                warnings.push("the directory has expired: calls are refused".to_owned())
            }
        }
        for warning in &status.crl_warnings {
            warnings.push(format!(
                "the CRL of {} is {:?}",
                warning.trust_domain, warning.standing
            ));
        }
        if let Some(fault) = core.control.identity().own_fault() {
            warnings.push(format!("peers refuse this gateway's certificate: {fault}"));
        }
        if status.ledger != LedgerState::Ready {
            warnings.push(format!("the ledger cannot be written: {:?}", status.ledger));
            if let LedgerState::Frozen(FreezeReason::Flagged | FreezeReason::Rollback) =
                status.ledger
            {
                warnings.push(
                    "the database is behind what this ledger has signed: `banqiao recover` says why \
                     and what to do"
                        .to_owned(),
                );
            }
        }
        match standing.alarm {
            Some(Alarm::Fork(city)) => warnings.push(format!(
                "ALARM: the witness of {city} holds another history of this ledger"
            )),
            Some(Alarm::Rollback(city)) => warnings.push(format!(
                "ALARM: the witness of {city} holds a larger checkpoint than this ledger has entries"
            )),
            None => {}
        }
        if let Some(waited_s) = standing.unwitnessed_s {
            warnings.push(format!(
                "DEGRADED: the newest checkpoint has waited for its witnesses for {waited_s} s"
            ));
        }
        for (city, witness) in &standing.witnesses {
            if let Some(apart_s) = witness.clock_apart_s {
                let (by_s, way) = (
                    apart_s.unsigned_abs(),
                    if apart_s > 0 { "ahead of" } else { "behind" },
                );
                warnings.push(format!(
                    "ALARM: the clock of {city} is {by_s} s {way} ours: one of them was moved"
                ));
            }
            if let Some(since_s) = witness.missing_since_s {
                let problem = witness
                    .problem
                    .as_deref()
                    .unwrap_or("it has not answered yet");
                warnings.push(format!(
                    "the witness of {city} is missing: it has cosigned nothing since {}: {problem}",
                    moment::utc(since_s.saturating_mul(1_000_000))
                ));
            }
        }
        for (city, link) in &standing.links {
            if let Some((signed, shown)) = link.behind {
                warnings.push(format!(
                    "ALARM: {city} shows a ledger of {shown} entries, and has signed {signed}: it was rolled back"
                ));
            }
            if let Some(fork) = &link.fork {
                warnings.push(format!(
                    "ALARM: {city} has signed two histories of its ledger, found at {}; both are kept",
                    moment::utc(fork.time_us)
                ));
            }
        }
        for city in &standing.unlinked {
            warnings.push(format!(
                "DEGRADED: receipts of {city} have not been linked to a witnessed checkpoint for 10 minutes"
            ));
        }
        let verifier = core.control.ledger().verifier().to_string();
        let listed = snapshot
            .directory
            .city(core.city)
            .and_then(|city| city.ledger.as_ref());
        match listed {
            None => warnings
                .push("the directory lists no key of this ledger: nobody can verify it".to_owned()),
            Some(ledger) if !ledger.keys.iter().any(|key| key.as_str() == verifier) => warnings
                .push(
                    "the directory lists other keys of this ledger than the one that signs it"
                        .to_owned(),
                ),
            Some(_) => {}
        }
        if let Err(obstacle) = core.control.ready() {
            warnings.push(format!("not ready: {obstacle}"));
        }
        warnings
    }
}

/// How far the ledger is compared with each other city's. A database that cannot be read says so elsewhere.
async fn reconciliations(core: &Core) -> Vec<ReconciliationStatus> {
    let compared = core.control.ledger().reader().compared().await;
    let mut problems = core.control.reconcile_problems();
    let mut statuses: Vec<_> = compared
        .unwrap_or_default()
        .into_iter()
        .map(|compared| {
            let city = compared.city.parse::<CityCode>();
            ReconciliationStatus {
                problem: city
                    .ok()
                    .and_then(|city| problems.remove(&city))
                    .unwrap_or_default(),
                compared_until: Some(timestamp(compared.until_ms.saturating_mul(1_000))),
                compared_at: (compared.at_us > 0).then(|| timestamp(compared.at_us)),
                discrepancies: compared.found,
                running: compared.open,
                city: compared.city,
            }
        })
        .collect();
    // With these nothing was compared yet.
    statuses.extend(
        problems
            .into_iter()
            .map(|(city, problem)| ReconciliationStatus {
                city: city.as_str().to_owned(),
                problem,
                ..ReconciliationStatus::default()
            }),
    );
    statuses
}

fn witnesses(standing: &Standing) -> Vec<WitnessStatus> {
    let witnesses = standing.witnesses.iter();
    witnesses
        .map(|(city, witness)| WitnessStatus {
            city: city.as_str().to_owned(),
            cosigned_size: witness.cosigned.map_or(0, |head| head.size),
            cosigned_at: witness.cosigned.map(|_| Timestamp {
                seconds: i64::try_from(witness.cosigned_at_s).unwrap_or(i64::MAX),
                nanos: 0,
            }),
            problem: witness.problem.clone().unwrap_or_default(),
        })
        .collect()
}

fn peer_ledgers(standing: &Standing) -> Vec<PeerLedgerStatus> {
    let links = standing.links.iter();
    links
        .map(|(city, link)| PeerLedgerStatus {
            city: city.as_str().to_owned(),
            linked_size: link.linked.map_or(0, |head| head.size),
            waiting_since: link
                .waiting_since_s
                .map(|seconds| Timestamp { seconds, nanos: 0 }),
            problem: link.problem.clone().unwrap_or_default(),
            forked: link.fork.is_some(),
            forked_at: link.fork.as_ref().map(|fork| timestamp(fork.time_us)),
            contradicting_checkpoints: link
                .fork
                .iter()
                .flat_map(|fork| [fork.first.clone(), fork.second.clone()])
                .collect(),
        })
        .collect()
}

/// Whether a method is shared conditionally or not at all, and does not say on which terms.
fn lacks_terms(method: &Method) -> bool {
    let stated = [SharingAttribute::Conditional, SharingAttribute::NotShared];
    stated.contains(&method.rule.sharing()) && method.rule.sharing_terms.trim().is_empty()
}

fn peers(core: &Core, snapshot: &Snapshot, status: &banqiao_proxy::Status) -> Vec<PeerStatus> {
    let others = snapshot
        .directory
        .cities()
        .iter()
        .filter(|city| city.code != core.city);
    others
        .map(|city| {
            let used = status.endpoints.iter().filter(|endpoint| {
                city.gateways
                    .iter()
                    .any(|gateway| gateway.address == endpoint.address)
            });
            let connections: usize = used.clone().map(|endpoint| endpoint.connections).sum();
            PeerStatus {
                city: city.code.as_str().to_owned(),
                connections: u32::try_from(connections).unwrap_or(u32::MAX),
                reachable: used.clone().next().is_none()
                    || used.clone().any(|endpoint| endpoint.healthy),
            }
        })
        .collect()
}

fn endpoints(snapshot: &Snapshot, status: &banqiao_proxy::Status) -> Vec<EndpointStatus> {
    let routes: BTreeMap<_, _> = snapshot.routes.iter().collect();
    let all = routes.into_iter().flat_map(|(service, route)| {
        route
            .endpoints
            .iter()
            .map(move |address| (service, address))
    });
    all.map(|(service, address)| EndpointStatus {
        service: service.to_string(),
        address: address.clone(),
        healthy: status
            .endpoints
            .iter()
            .find(|known| known.address == *address)
            .is_none_or(|known| known.healthy),
    })
    .collect()
}
