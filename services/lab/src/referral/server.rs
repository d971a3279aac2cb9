//! The gRPC service of referrals: requests in, answers out, errors through one door.

use std::pin::Pin;

use banqiao_kit::{
    CallError, Caller, Violation,
    document::{DocumentChunk, UploadProgress},
    rescue,
};
use banqiao_proto::lab::v1::{
    self as proto, ActOnReferralRequest, ActOnReferralResponse, CreateReferralRequest,
    CreateReferralResponse, DeliverReferralRequest, DeliverReferralResponse,
    DownloadDocumentRequest, DownloadDocumentResponse, FindUploadRequest, FindUploadResponse,
    ReadReferralRequest, ReadReferralResponse, UploadDocumentRequest, UploadDocumentResponse,
    WatchReferralsRequest, WatchReferralsResponse, referral_service_server::ReferralService,
    upload_document_request::Part,
};
use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{
    documents::header,
    referrals::Referrals,
    request::{parse_act, parse_create, parse_delivery, referral_id},
    rule,
    watch::ReferralWatches,
};
use crate::edge::{DOMAIN, answered, caller_of};

/// Largest message with a chunk: that of the methods' options.
pub(crate) const MAX_CHUNK: usize = 1_179_648;

/// The service of a city.
#[derive(Clone, Debug)]
pub struct ReferralServer {
    referrals: Referrals,
    watches: ReferralWatches,
}

impl ReferralServer {
    /// The service of a city.
    pub const fn new(referrals: Referrals, watches: ReferralWatches) -> Self {
        Self { referrals, watches }
    }

    async fn upload(
        &self,
        caller: &Caller,
        mut parts: Streaming<UploadDocumentRequest>,
    ) -> Result<UploadProgress, CallError> {
        let first = parts.message().await.map_err(broken_off)?;
        let upload = match first.and_then(|first| first.part) {
            Some(Part::Header(first)) => header(Some(&first)),
            _ => header(None),
        }?;
        let chunks = parts.map(|part| match part.map_err(broken_off)?.part {
            Some(Part::Chunk(chunk)) => Ok(DocumentChunk {
                offset: chunk.offset,
                content: chunk.content,
                sha256: chunk.sha256,
            }),
            _ => Err(CallError::CallerInvalid(vec![Violation {
                field: "chunk".into(),
                rule: &rule::DOCUMENT_HEADER,
            }])),
        });
        self.referrals.upload(&upload, chunks, caller).await
    }
}

fn broken_off(status: Status) -> CallError {
    CallError::CallerBrokeOff(Box::new(status))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ReferralService for ReferralServer {
    async fn create_referral(
        &self,
        request: Request<CreateReferralRequest>,
    ) -> Result<Response<CreateReferralResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let created = Box::pin(async {
            let (request, caller) = (request.get_ref(), caller?);
            let answer = self.referrals.ask(request, parse_create, &caller).await?;
            let (status, cursor, repeated) = answer.into();
            Ok(CreateReferralResponse {
                referral_id: request.request_id.clone(),
                status,
                cursor,
                repeated,
            })
        });
        answered(exchange, created).await
    }

    async fn act_on_referral(
        &self,
        request: Request<ActOnReferralRequest>,
    ) -> Result<Response<ActOnReferralResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let acted = Box::pin(async {
            let asked = self
                .referrals
                .ask(request.get_ref(), parse_act, &caller?)
                .await?;
            let (status, cursor, repeated) = asked.into();
            Ok(ActOnReferralResponse {
                status,
                cursor,
                repeated,
            })
        });
        answered(exchange, acted).await
    }

    async fn deliver_referral(
        &self,
        request: Request<DeliverReferralRequest>,
    ) -> Result<Response<DeliverReferralResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let delivered = Box::pin(async {
            let asked = self
                .referrals
                .ask(request.get_ref(), parse_delivery, &caller?)
                .await?;
            let (status, _, repeated) = asked.into();
            Ok(DeliverReferralResponse { status, repeated })
        });
        answered(exchange, delivered).await
    }

    async fn read_referral(
        &self,
        request: Request<ReadReferralRequest>,
    ) -> Result<Response<ReadReferralResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            let id = referral_id(&request.get_ref().referral_id)?;
            Ok(self.referrals.read(id, &caller?).await?)
        })
        .await
    }

    type WatchReferralsStream = Answers<WatchReferralsResponse>;

    async fn watch_referrals(
        &self,
        request: Request<WatchReferralsRequest>,
    ) -> Result<Response<Self::WatchReferralsStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            let events = self
                .watches
                .open(&caller?, &request.get_ref().cursor)
                .await?;
            let events =
                events.map(move |next| next.map_err(|error| rescue(error, DOMAIN, exchange)));
            Ok(events.boxed() as Self::WatchReferralsStream)
        })
        .await
    }

    async fn upload_document(
        &self,
        request: Request<Streaming<UploadDocumentRequest>>,
    ) -> Result<Response<UploadDocumentResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a chunk and its transaction.
        let uploaded = Box::pin(async {
            let progress = self.upload(&caller?, request.into_inner()).await?;
            Ok(UploadDocumentResponse {
                received: progress.received,
                complete: progress.complete,
            })
        });
        answered(exchange, uploaded).await
    }

    async fn find_upload(
        &self,
        request: Request<FindUploadRequest>,
    ) -> Result<Response<FindUploadResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let found = Box::pin(async {
            let upload = header(request.get_ref().header.as_ref())?;
            let progress = self.referrals.uploaded(&upload, &caller?).await?;
            Ok(FindUploadResponse {
                received: progress.received,
                complete: progress.complete,
            })
        });
        answered(exchange, found).await
    }

    type DownloadDocumentStream = Answers<DownloadDocumentResponse>;

    async fn download_document(
        &self,
        request: Request<DownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let opened = Box::pin(async {
            let request = request.get_ref();
            let id = referral_id(&request.referral_id)?;
            let document = self
                .referrals
                .document(id, &request.sha256, &caller?)
                .await?;
            let chunks = self.referrals.documents().read(document, request.offset)?;
            let chunks = chunks.map(move |chunk| {
                let chunk = chunk.map_err(|error| rescue(error.into(), DOMAIN, exchange))?;
                Ok(DownloadDocumentResponse {
                    chunk: Some(proto::DocumentChunk {
                        offset: chunk.offset,
                        content: chunk.content,
                        sha256: chunk.sha256,
                    }),
                })
            });
            Ok(chunks.boxed() as Self::DownloadDocumentStream)
        });
        answered(exchange, opened).await
    }
}
