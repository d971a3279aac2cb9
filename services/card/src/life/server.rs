//! The gRPC service of applications.

use banqiao_kit::{CallError, ExchangeId, FollowFrom, Violations, civil_date, rescue};
use banqiao_proto::card::v1::{
    ActivateCardRequest, ActivateCardResponse, CancelCardRequest, CancelCardResponse,
    CardHistoryEntry, IssueElectronicCardRequest, IssueElectronicCardResponse, LiftLossRequest,
    LiftLossResponse, ReadCardHistoryRequest, ReadCardHistoryResponse, RenewCardRequest,
    RenewCardResponse, ReplaceCardRequest, ReplaceCardResponse, ReportPinAttemptRequest,
    ReportPinAttemptResponse, ResetPinRequest, ResetPinResponse,
    card_life_service_server::CardLifeService,
};
use tonic::{Request, Response, Status};

use super::Applied;
use crate::{
    application::{Application, Applies},
    cards::Cards,
    compare::matches,
    request::{CardKey, parse_cursor},
    service::{DOMAIN, ISSUER_ONLY, answered, caller_of},
    watch::shown,
};

/// Changes in one answer: some 50 KiB.
const HISTORY_PAGE: usize = 200;

/// The service of applications of a city.
#[derive(Clone, Debug)]
pub struct CardLifeServer {
    cards: Cards,
}

impl CardLifeServer {
    /// A service of a city's cards.
    pub const fn new(cards: Cards) -> Self {
        Self { cards }
    }

    fn today(&self) -> jiff::civil::Date {
        civil_date(self.cards.clock.now_us())
    }

    /// Answers an application.
    async fn apply<R: Applies + Sync, A>(
        &self,
        request: Request<R>,
        answer: impl FnOnce(Applied) -> A,
    ) -> Result<Response<A>, Status> {
        let caller = caller_of(&request);
        let exchange = exchange_of(&caller);
        // Boxed: it holds a transaction and its statements.
        let applied = Box::pin(async {
            let caller = caller?;
            let application = Application::parse(request.get_ref(), self.today());
            let application = application.map_err(CallError::CallerInvalid)?;
            self.cards.apply(&application, &caller).await
        });
        applied
            .await
            .map(|applied| Response::new(answer(applied)))
            .map_err(|error| rescue(error, DOMAIN, exchange))
    }

    async fn history(
        &self,
        request: &ReadCardHistoryRequest,
    ) -> Result<ReadCardHistoryResponse, CallError> {
        let mut faults = Violations::new();
        let key = CardKey::parse("key", request.key.as_ref(), self.today(), &mut faults);
        let key = key.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))?;
        let after = match parse_cursor(&request.cursor).map_err(CallError::CallerInvalid)? {
            FollowFrom::After(seq) => seq,
            FollowFrom::Now => 0,
        };
        let stored = self.cards.store.find(&key.lookup).await?;
        let is_match = matches(stored.as_ref(), &key, None);
        let Some(stored) = stored.filter(|_| is_match) else {
            return Ok(ReadCardHistoryResponse::default());
        };
        let history = self.cards.store.history(&stored.card.number).await?;
        let mut rest = history.iter().filter(|change| change.seq > after);
        let page: Vec<_> = rest.by_ref().take(HISTORY_PAGE).collect();
        let more = rest.next().is_some();
        let last = page.last().filter(|_| more);
        let next_cursor = last.map_or_else(String::new, |change| change.seq.to_string());
        let entries = page.into_iter().map(|change| {
            let (client, exchange_id) = change.call.clone().unwrap_or_default();
            CardHistoryEntry {
                change: Some(shown(change)),
                client,
                exchange_id,
            }
        });
        Ok(ReadCardHistoryResponse {
            entries: entries.collect(),
            next_cursor,
        })
    }
}

fn exchange_of(caller: &Result<banqiao_kit::Caller, CallError>) -> Option<ExchangeId> {
    caller.as_ref().ok().map(|caller| caller.exchange)
}

macro_rules! outcome {
    ($response:ident) => {
        |applied: Applied| $response {
            outcome: applied.outcome,
        }
    };
}

#[tonic::async_trait]
impl CardLifeService for CardLifeServer {
    async fn activate_card(
        &self,
        request: Request<ActivateCardRequest>,
    ) -> Result<Response<ActivateCardResponse>, Status> {
        self.apply(request, outcome!(ActivateCardResponse)).await
    }

    async fn lift_loss(
        &self,
        request: Request<LiftLossRequest>,
    ) -> Result<Response<LiftLossResponse>, Status> {
        self.apply(request, outcome!(LiftLossResponse)).await
    }

    async fn replace_card(
        &self,
        request: Request<ReplaceCardRequest>,
    ) -> Result<Response<ReplaceCardResponse>, Status> {
        let answer = |applied: Applied| ReplaceCardResponse {
            outcome: applied.outcome,
            new_card: applied.new_card,
        };
        self.apply(request, answer).await
    }

    async fn renew_card(
        &self,
        request: Request<RenewCardRequest>,
    ) -> Result<Response<RenewCardResponse>, Status> {
        let answer = |applied: Applied| RenewCardResponse {
            outcome: applied.outcome,
            new_card: applied.new_card,
        };
        self.apply(request, answer).await
    }

    async fn cancel_card(
        &self,
        request: Request<CancelCardRequest>,
    ) -> Result<Response<CancelCardResponse>, Status> {
        self.apply(request, outcome!(CancelCardResponse)).await
    }

    async fn report_pin_attempt(
        &self,
        request: Request<ReportPinAttemptRequest>,
    ) -> Result<Response<ReportPinAttemptResponse>, Status> {
        let answer = |applied: Applied| ReportPinAttemptResponse {
            outcome: applied.outcome,
            attempts_left: applied.attempts_left,
        };
        self.apply(request, answer).await
    }

    async fn reset_pin(
        &self,
        request: Request<ResetPinRequest>,
    ) -> Result<Response<ResetPinResponse>, Status> {
        self.apply(request, outcome!(ResetPinResponse)).await
    }

    async fn issue_electronic_card(
        &self,
        request: Request<IssueElectronicCardRequest>,
    ) -> Result<Response<IssueElectronicCardResponse>, Status> {
        self.apply(request, outcome!(IssueElectronicCardResponse))
            .await
    }

    async fn read_card_history(
        &self,
        request: Request<ReadCardHistoryRequest>,
    ) -> Result<Response<ReadCardHistoryResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = exchange_of(&caller);
        answered(exchange, async {
            if !self.cards.policy.is_own(&caller?.client) {
                let message = "only systems of the issuing city read its cards' history";
                return Err(ISSUER_ONLY.because(message));
            }
            self.history(request.get_ref()).await
        })
        .await
    }
}
