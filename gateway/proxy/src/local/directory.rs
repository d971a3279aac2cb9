//! `banqiao.directory.v1.DirectoryService` on the inter-city listener.

use banqiao_directory::TrustDomain;
use banqiao_proto::directory::v1::{
    CatalogEntry, GetCatalogRequest, GetCatalogResponse, GetDescriptorSetRequest,
    GetDescriptorSetResponse, GetDirectoryRequest, GetDirectoryResponse, ListCrlsRequest,
    ListCrlsResponse, directory_service_server::DirectoryService,
};
use tonic::{Request, Response, Status};

use super::Caller;
use crate::{rights::Snapshot, worker::Shared};

#[derive(Clone, Copy, Debug)]
pub(super) struct Directory;

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn get_directory(
        &self,
        request: Request<GetDirectoryRequest>,
    ) -> Result<Response<GetDirectoryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let snapshot = caller.shared().rights.snapshot();
        let version = snapshot.directory.version();
        let envelope = if version > request.get_ref().held_version {
            snapshot.envelope.to_vec()
        } else {
            Vec::new()
        };
        Ok(Response::new(GetDirectoryResponse { version, envelope }))
    }

    async fn list_crls(
        &self,
        request: Request<ListCrlsRequest>,
    ) -> Result<Response<ListCrlsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let crls = caller.shared().identity.crls();
        let crls = crls.into_iter().map(|crl| crl.der.to_vec()).collect();
        Ok(Response::new(ListCrlsResponse { crls }))
    }

    async fn get_catalog(
        &self,
        request: Request<GetCatalogRequest>,
    ) -> Result<Response<GetCatalogResponse>, Status> {
        let caller = Caller::of(&request)?;
        let shared = caller.shared();
        let snapshot = shared.rights.snapshot();
        let city = caller.id().trust_domain();
        Ok(Response::new(GetCatalogResponse {
            entries: entries(shared, &snapshot, city),
        }))
    }

    async fn get_descriptor_set(
        &self,
        request: Request<GetDescriptorSetRequest>,
    ) -> Result<Response<GetDescriptorSetResponse>, Status> {
        let caller = Caller::of(&request)?;
        let shared = caller.shared();
        let snapshot = shared.rights.snapshot();
        let unknown = || Status::not_found("no such descriptor set");
        let digest: [u8; 32] = request
            .get_ref()
            .digest
            .as_slice()
            .try_into()
            .map_err(|_| unknown())?;
        let shown = entries(shared, &snapshot, caller.id().trust_domain());
        if !shown.iter().any(|entry| entry.descriptor_digest == digest) {
            return Err(unknown());
        }
        let set = snapshot
            .catalog
            .catalog()
            .set_by_digest(&digest)
            .ok_or_else(unknown)?;
        Ok(Response::new(GetDescriptorSetResponse {
            descriptor_set: set.bytes().to_vec(),
        }))
    }
}

/// Services that a system of a city has a grant for.
fn entries(shared: &Shared, snapshot: &Snapshot, city: &TrustDomain) -> Vec<CatalogEntry> {
    let now = shared.clock.now_us();
    let services = snapshot.catalog.catalog().services().iter();
    services
        .filter_map(|service| {
            let grants = snapshot.grants.grants().filter(|grant| {
                *grant.service() == service.name
                    && grant.client().trust_domain() == city
                    && grant.valid_at(now)
            });
            let mut clients: Vec<_> = grants.map(|grant| grant.client().to_string()).collect();
            clients.sort();
            clients.dedup();
            (!clients.is_empty()).then(|| CatalogEntry {
                service: service.name.to_string(),
                descriptor_digest: service.descriptor_digest.to_vec(),
                clients,
            })
        })
        .collect()
}
