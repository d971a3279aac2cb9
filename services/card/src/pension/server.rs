//! The gRPC service of transfers: requests in, answers out, errors through one door.

use std::pin::Pin;

use banqiao_directory::TrustDomain;
use banqiao_kit::{CallError, Caller, Violations, civil_date, rescue};
use banqiao_proto::card::v1::{
    AdvanceTransferRequest, AdvanceTransferResponse, ApplyTransferRequest, ApplyTransferResponse,
    ConfirmFundsRequest, ConfirmFundsResponse, DeliverDocumentRequest, DeliverDocumentResponse,
    GetProgressRequest, GetProgressResponse, ListWarningsRequest, ListWarningsResponse,
    WatchProgressRequest, WatchProgressResponse,
    pension_transfer_service_server::PensionTransferService,
};
use futures_util::{Stream, StreamExt};
use jiff::civil::Date;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    act::{Asked, PensionError},
    request::{
        holder, parse_advance, parse_application, parse_cursor, parse_delivery, parse_funds, uuid,
    },
    rule,
    transfers::{Transfers, Transition},
    watch::ProgressWatches,
};
use crate::{
    cards::timestamp,
    service::{DOMAIN, answered, caller_of},
};

/// The service of a city.
#[derive(Clone, Debug)]
pub struct PensionServer {
    transfers: Transfers,
    watches: ProgressWatches,
    home: TrustDomain,
}

impl PensionServer {
    /// The service of the city whose trust domain is `home`.
    pub const fn new(transfers: Transfers, watches: ProgressWatches, home: TrustDomain) -> Self {
        Self {
            transfers,
            watches,
            home,
        }
    }

    fn today(&self) -> Date {
        civil_date(self.transfers.clock().now_us())
    }

    async fn act(
        &self,
        asked: Result<Asked, Vec<banqiao_kit::Violation>>,
        caller: Result<Caller, CallError>,
    ) -> Result<(Uuid, Transition), CallError> {
        let caller = caller?;
        let asked = asked.map_err(CallError::CallerInvalid)?;
        // Boxed: it holds a transaction and its statements.
        let answer = Box::pin(self.transfers.act(&asked, &caller)).await?;
        Ok((asked.transfer, answer))
    }

    /// The transfer and the person that somebody wants to see.
    fn named(
        &self,
        id: &str,
        number: &str,
    ) -> Result<(Uuid, banqiao_kit::identifier::CitizenId), CallError> {
        let mut faults = Violations::new();
        let id = faults.check("transfer_id", uuid(id, &rule::TRANSFER_ID));
        let holder = holder(number, self.today(), &mut faults);
        match (id, holder) {
            (Some(id), Some(holder)) => Ok((id, holder)),
            _ => Err(CallError::CallerInvalid(faults.into_vec())),
        }
    }
}

#[tonic::async_trait]
impl PensionTransferService for PensionServer {
    async fn apply_transfer(
        &self,
        request: Request<ApplyTransferRequest>,
    ) -> Result<Response<ApplyTransferResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let (city, today) = (self.transfers.city(), self.today());
        let asked = parse_application(request.get_ref(), city, today);
        let acted = Box::pin(async {
            let (transfer, answer) = self.act(asked, caller).await?;
            Ok(ApplyTransferResponse {
                transfer_id: transfer.to_string(),
                state: answer.state.into(),
                cursor: answer.seq.to_string(),
                repeated: answer.repeated,
            })
        });
        answered(exchange, acted).await
    }

    async fn advance_transfer(
        &self,
        request: Request<AdvanceTransferRequest>,
    ) -> Result<Response<AdvanceTransferResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let asked = parse_advance(request.get_ref(), self.today());
        let acted = Box::pin(async {
            let (_, answer) = self.act(asked, caller).await?;
            Ok(AdvanceTransferResponse {
                state: answer.state.into(),
                cursor: answer.seq.to_string(),
                repeated: answer.repeated,
            })
        });
        answered(exchange, acted).await
    }

    async fn confirm_funds(
        &self,
        request: Request<ConfirmFundsRequest>,
    ) -> Result<Response<ConfirmFundsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let asked = parse_funds(request.get_ref(), self.today());
        let acted = Box::pin(async {
            let (_, answer) = self.act(asked, caller).await?;
            Ok(ConfirmFundsResponse {
                state: answer.state.into(),
                difference_fen: answer.difference_fen,
                cursor: answer.seq.to_string(),
                repeated: answer.repeated,
            })
        });
        answered(exchange, acted).await
    }

    async fn deliver_document(
        &self,
        request: Request<DeliverDocumentRequest>,
    ) -> Result<Response<DeliverDocumentResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let asked = parse_delivery(request.get_ref(), self.transfers.city(), self.today());
        let acted = Box::pin(async {
            let (_, answer) = self.act(asked, caller).await?;
            Ok(DeliverDocumentResponse {
                received_at: Some(timestamp(answer.at_us)),
                state: answer.state.into(),
                repeated: answer.repeated,
            })
        });
        answered(exchange, acted).await
    }

    async fn get_progress(
        &self,
        request: Request<GetProgressRequest>,
    ) -> Result<Response<GetProgressResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            caller?;
            let request = request.get_ref();
            let (id, holder) = self.named(&request.transfer_id, &request.social_security_number)?;
            Ok(self.transfers.told(id, &holder).await?)
        })
        .await
    }

    type WatchProgressStream =
        Pin<Box<dyn Stream<Item = Result<WatchProgressResponse, Status>> + Send>>;

    async fn watch_progress(
        &self,
        request: Request<WatchProgressRequest>,
    ) -> Result<Response<Self::WatchProgressStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            caller?;
            let request = request.get_ref();
            let (id, holder) = self.named(&request.transfer_id, &request.social_security_number)?;
            let cursor = parse_cursor(&request.cursor)?;
            let events = self.watches.open(id, holder, cursor).await?;
            let events =
                events.map(move |next| next.map_err(|error| rescue(error, DOMAIN, exchange)));
            Ok(events.boxed() as Self::WatchProgressStream)
        })
        .await
    }

    async fn list_warnings(
        &self,
        request: Request<ListWarningsRequest>,
    ) -> Result<Response<ListWarningsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            if *caller?.client.trust_domain() != self.home {
                let foreign = "only systems of this city see its warnings";
                return Err(PensionError::CallerForeign(foreign).into());
            }
            let request = request.get_ref();
            let mut faults = Violations::new();
            let after = match request.after.as_str() {
                "" => None,
                after => faults.check("after", uuid(after, &rule::TRANSFER_ID)),
            };
            if !faults.is_empty() {
                return Err(CallError::CallerInvalid(faults.into_vec()));
            }
            Ok(self.transfers.warnings(after, request.limit).await?)
        })
        .await
    }
}
