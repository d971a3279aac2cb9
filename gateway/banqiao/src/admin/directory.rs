//! `AdminService`.

use std::collections::BTreeMap;

use banqiao_directory::{Envelope, ServiceSet, SpiffeId, Status as Freshness};
use banqiao_ledger::{DocumentKind, Effect, LedgerState};
use banqiao_proto::directory::v1::{
    CrlStatus, DrainRequest, DrainResponse, EndpointStatus, GetStatusRequest, GetStatusResponse,
    ListServicesRequest, ListServicesResponse, PeerStatus, PublishDirectoryRequest,
    PublishDirectoryResponse, RegisterDescriptorSetRequest, RegisterDescriptorSetResponse,
    RegisteredService, ReloadRequest, ReloadResponse, ShowDirectoryRequest, ShowDirectoryResponse,
    admin_service_server::AdminService,
};
use banqiao_proxy::Snapshot;
use banqiao_telemetry::Chain;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Actor, Core, grants::timestamp, invalid, refusal};

pub(super) struct Admin(pub(super) Core);

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let core = &self.0;
        let snapshot = core.control.snapshot();
        let status = core.control.status();
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
            ledger_writable: status.ledger == LedgerState::Ready,
            calls_in_flight: status.calls as u64,
            grants: u32::try_from(snapshot.grants.in_force(core.clock.now_us()))
                .unwrap_or(u32::MAX),
            draining: status.draining,
            warnings: self.warnings(&snapshot, &status),
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
        let digest = set.digest();
        let effect = Effect::PutDocument {
            kind: DocumentKind::DescriptorSet,
            key: hex::encode(digest),
            bytes: asked.encode_to_vec(),
        };
        let services: Vec<String> = set
            .services()
            .iter()
            .map(|service| service.name.to_string())
            .collect();
        let digests = (Vec::new(), digest.to_vec());
        self.0
            .change(
                &actor,
                "descriptor.register",
                &services.join(" "),
                digests,
                vec![effect],
            )
            .await?;
        self.0.control.reread().await;
        Ok(Response::new(RegisterDescriptorSetResponse {
            digest: digest.to_vec(),
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
        self.0
            .change(&actor, "drain", "", Default::default(), Vec::new())
            .await?;
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
        // What the catalogue must say before anything is published (政务数据共享条例 art. 13–15).
        faults.extend(
            set.findings()
                .iter()
                .map(|finding| ("descriptor_set".to_owned(), finding.to_string())),
        );
        for service in set.services() {
            for field in banqiao_proxy::unreadable_subjects(service) {
                let problem = format!(
                    "{field} is marked as a subject, and is no text that a gateway can read"
                );
                faults.push(("descriptor_set".to_owned(), problem));
            }
        }
        if faults.is_empty() {
            return Ok(set);
        }
        Err(invalid("the descriptors were not registered", faults))
    }

    fn warnings(&self, snapshot: &Snapshot, status: &banqiao_proxy::Status) -> Vec<String> {
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
        }
        if let Err(obstacle) = core.control.ready() {
            warnings.push(format!("not ready: {obstacle}"));
        }
        warnings
    }
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
