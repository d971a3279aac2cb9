//! The gRPC service of materials.

use std::pin::Pin;

use banqiao_directory::CityCode;
use banqiao_kit::{
    CallError, Caller, Violation, Violations,
    document::{DocumentChunk, DocumentDigest, UploadProgress},
    rescue,
};
use banqiao_proto::item::v1::{
    self as proto, ActorRole, CaseMaterial, DownloadMaterialRequest, DownloadMaterialResponse,
    FindMaterialUploadRequest, FindMaterialUploadResponse, ListMaterialsRequest,
    ListMaterialsResponse, MaterialHeader, UploadMaterialRequest, UploadMaterialResponse,
    VerifyMaterialRequest, VerifyMaterialResponse, material_service_server::MaterialService,
    upload_material_request::Part,
};
use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{DOMAIN, answered, caller_of, case::parse_number};
use crate::{
    case::timestamp,
    material::{CallHints, HEADER, MaterialUpload, Materials, Shown},
    peers::Peers,
    store::{MaterialEntry, MaterialEntryKind},
};

/// The service of a city.
#[derive(Clone, Debug)]
pub struct MaterialServer {
    materials: Materials,
    peers: Peers,
}

impl MaterialServer {
    /// A service of materials for clients of `peers`.
    pub const fn new(materials: Materials, peers: Peers) -> Self {
        Self { materials, peers }
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &ListMaterialsRequest,
    ) -> Result<ListMaterialsResponse, CallError> {
        let number = parse_number(&request.number)?;
        let city = self.peers.city(caller)?;
        let materials = self.materials.list(number, city).await?;
        Ok(ListMaterialsResponse {
            materials: materials.iter().map(shown).collect(),
        })
    }

    async fn verify(
        &self,
        caller: &Caller,
        request: &VerifyMaterialRequest,
    ) -> Result<VerifyMaterialResponse, CallError> {
        let number = parse_number(&request.number)?;
        let city = self.city_of(caller, request.role())?;
        let hints = CallHints::parse(
            &request.former_city,
            &request.card_identification_code,
            &request.card_city,
        )?;
        let id = &request.material_id;
        let material = self.materials.verify(number, id, &hints, caller, city);
        let material = material.await?;
        Ok(VerifyMaterialResponse {
            material: Some(shown(&material)),
        })
    }

    async fn upload(
        &self,
        caller: &Caller,
        mut parts: Streaming<UploadMaterialRequest>,
    ) -> Result<UploadProgress, CallError> {
        let first = parts.message().await.map_err(broken_off)?;
        let (upload, city) = match first.and_then(|first| first.part) {
            Some(Part::Header(header)) => self.announced(caller, Some(&header)),
            _ => self.announced(caller, None),
        }?;
        let chunks = parts.map(|part| match part.map_err(broken_off)?.part {
            Some(Part::Chunk(chunk)) => Ok(DocumentChunk {
                offset: chunk.offset,
                content: chunk.content,
                sha256: chunk.sha256,
            }),
            _ => Err(no_header("chunk")),
        });
        self.materials.upload(&upload, chunks, caller, city).await
    }

    fn announced(
        &self,
        caller: &Caller,
        header: Option<&MaterialHeader>,
    ) -> Result<(MaterialUpload, CityCode), CallError> {
        let header = header.ok_or_else(|| no_header("header"))?;
        let number = parse_number(&header.number)?;
        let city = self.city_of(caller, header.role())?;
        let declared = (
            header.sha256.as_slice(),
            header.size,
            header.content_type.as_str(),
        );
        let upload = Materials::announced(number, &header.material_id, declared)?;
        Ok((upload, city))
    }

    /// The city of a client that may act in a role.
    fn city_of(&self, caller: &Caller, role: ActorRole) -> Result<CityCode, CallError> {
        self.peers.actor(caller, role).map(|actor| actor.city)
    }
}

fn broken_off(status: Status) -> CallError {
    CallError::CallerBrokeOff(Box::new(status))
}

fn no_header(field: &'static str) -> CallError {
    let field = field.into();
    CallError::CallerInvalid(vec![Violation {
        field,
        rule: &HEADER,
    }])
}

fn shown(one: &Shown) -> CaseMaterial {
    CaseMaterial {
        material_id: one.material.id.clone(),
        name: one.material.name.clone(),
        required: one.material.required,
        waived: one.proof().is_some(),
        waived_by: one.material.waived_by.clone(),
        entries: one.entries.iter().map(entry).collect(),
    }
}

fn entry(entry: &MaterialEntry) -> proto::MaterialEntry {
    let kind = match entry.kind {
        MaterialEntryKind::Verified => proto::MaterialEntryKind::Verified,
        MaterialEntryKind::Unverified => proto::MaterialEntryKind::Unverified,
        MaterialEntryKind::Uploaded => proto::MaterialEntryKind::Uploaded,
    };
    proto::MaterialEntry {
        kind: kind.into(),
        data_call: entry.call.clone(),
        city: entry.city.clone(),
        exchange: entry.exchange.clone(),
        reason: entry.reason.clone(),
        sha256: entry
            .digest
            .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
        size: entry.size,
        content_type: entry.content_type.clone(),
        at: Some(timestamp(entry.at_us)),
    }
}

#[tonic::async_trait]
impl MaterialService for MaterialServer {
    async fn list_materials(
        &self,
        request: Request<ListMaterialsRequest>,
    ) -> Result<Response<ListMaterialsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let list = Box::pin(async { self.list(&caller?, request.get_ref()).await });
        answered(exchange, list).await
    }

    async fn verify_material(
        &self,
        request: Request<VerifyMaterialRequest>,
    ) -> Result<Response<VerifyMaterialResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let verified = Box::pin(async { self.verify(&caller?, request.get_ref()).await });
        answered(exchange, verified).await
    }

    async fn upload_material(
        &self,
        request: Request<Streaming<UploadMaterialRequest>>,
    ) -> Result<Response<UploadMaterialResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a chunk and its transaction.
        let uploaded = Box::pin(async {
            let progress = self.upload(&caller?, request.into_inner()).await?;
            Ok(UploadMaterialResponse {
                received: progress.received,
                complete: progress.complete,
            })
        });
        answered(exchange, uploaded).await
    }

    async fn find_material_upload(
        &self,
        request: Request<FindMaterialUploadRequest>,
    ) -> Result<Response<FindMaterialUploadResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let found = Box::pin(async {
            let caller = caller?;
            let (upload, city) = self.announced(&caller, request.get_ref().header.as_ref())?;
            let progress = self.materials.uploaded(&upload, &caller, city).await?;
            Ok(FindMaterialUploadResponse {
                received: progress.received,
                complete: progress.complete,
            })
        });
        answered(exchange, found).await
    }

    type DownloadMaterialStream =
        Pin<Box<dyn Stream<Item = Result<DownloadMaterialResponse, Status>> + Send>>;

    async fn download_material(
        &self,
        request: Request<DownloadMaterialRequest>,
    ) -> Result<Response<Self::DownloadMaterialStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let opened = Box::pin(async {
            let request = request.get_ref();
            let number = parse_number(&request.number)?;
            let city = self.peers.city(&caller?)?;
            let mut faults = Violations::new();
            let digest = faults.check("sha256", DocumentDigest::parse(&request.sha256));
            let digest = digest.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))?;
            let document = self.materials.document(number, &digest, city).await?;
            let chunks = self.materials.documents().read(document, request.offset)?;
            let chunks = chunks.map(move |chunk| {
                let chunk = chunk.map_err(|error| rescue(error.into(), DOMAIN, exchange))?;
                Ok(DownloadMaterialResponse {
                    chunk: Some(proto::MaterialChunk {
                        offset: chunk.offset,
                        content: chunk.content,
                        sha256: chunk.sha256,
                    }),
                })
            });
            Ok(chunks.boxed() as Self::DownloadMaterialStream)
        });
        answered(exchange, opened).await
    }
}
