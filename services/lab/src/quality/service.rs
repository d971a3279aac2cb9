//! The gRPC service of quality rounds.

use banqiao_kit::CallError;
use banqiao_proto::lab::v1::{
    EvaluateRoundRequest, EvaluateRoundResponse, ListMarksRequest, ListMarksResponse,
    ReadRoundRequest, ReadRoundResponse, RegisterRoundRequest, RegisterRoundResponse,
    SubmitResultsRequest, SubmitResultsResponse, quality_service_server::QualityService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{QualityActor, Rounds, SUBMIT_BATCH, SubmitCounts, judge::Score, rule};
use crate::{
    edge::{answered, caller_of},
    report::timestamp,
};

/// Lines in one call: with three faults of some 250 bytes in each line the results stay below the method's limit of 16 MiB.
pub const MAX_SUBMIT_LINES: usize = 20_000;

/// The service of a city.
#[derive(Clone, Debug)]
pub struct QualityServer(Rounds);

impl QualityServer {
    /// A service of these rounds.
    pub const fn new(rounds: Rounds) -> Self {
        Self(rounds)
    }

    async fn submit(
        &self,
        actor: &QualityActor,
        mut lines: Streaming<SubmitResultsRequest>,
    ) -> Result<SubmitResultsResponse, CallError> {
        let mut counts = SubmitCounts::default();
        let mut results = Vec::new();
        let mut batch = Vec::with_capacity(SUBMIT_BATCH);
        loop {
            let line = lines.message().await;
            let line = line.map_err(|status| CallError::CallerBrokeOff(Box::new(status)))?;
            let ended = line.is_none();
            batch.extend(line);
            if batch.len() == SUBMIT_BATCH || (ended && !batch.is_empty()) {
                let outcomes = self.0.submit(&batch, actor).await?;
                for (line, outcome) in batch.drain(..).zip(&outcomes) {
                    counts.add(outcome);
                    results.push(outcome.result(line.line));
                }
            }
            if ended {
                return Ok(SubmitResultsResponse {
                    results,
                    created: counts.created,
                    corrected: counts.corrected,
                    unchanged: counts.unchanged,
                    refused: counts.refused,
                });
            }
            if results.len() + batch.len() > MAX_SUBMIT_LINES {
                return Err(
                    rule::TOO_LONG.because(format!("a call takes {MAX_SUBMIT_LINES} lines"))
                );
            }
        }
    }
}

#[tonic::async_trait]
impl QualityService for QualityServer {
    async fn register_round(
        &self,
        request: Request<RegisterRoundRequest>,
    ) -> Result<Response<RegisterRoundResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let registered = Box::pin(async {
            let actor = self.0.actor(&caller?.client);
            let made = self.0.register(request.get_ref().round.as_ref(), &actor);
            Ok(RegisterRoundResponse {
                unchanged: !made.await?,
            })
        });
        answered(exchange, registered).await
    }

    async fn submit_results(
        &self,
        request: Request<Streaming<SubmitResultsRequest>>,
    ) -> Result<Response<SubmitResultsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let submitted = Box::pin(async {
            let actor = self.0.actor(&caller?.client);
            self.submit(&actor, request.into_inner()).await
        });
        answered(exchange, submitted).await
    }

    async fn evaluate_round(
        &self,
        request: Request<EvaluateRoundRequest>,
    ) -> Result<Response<EvaluateRoundResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let evaluated = Box::pin(async {
            let actor = self.0.actor(&caller?.client);
            let evaluated = self.0.evaluate(&request.get_ref().round_id, &actor).await?;
            Ok(EvaluateRoundResponse {
                evaluations: evaluated.scores.iter().map(Score::shown).collect(),
                evaluated_at: Some(timestamp(evaluated.at_us)),
                repeated: evaluated.repeated,
            })
        });
        answered(exchange, evaluated).await
    }

    async fn read_round(
        &self,
        request: Request<ReadRoundRequest>,
    ) -> Result<Response<ReadRoundResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let read = Box::pin(async {
            let actor = self.0.actor(&caller?.client);
            self.0.read(&request.get_ref().round_id, &actor).await
        });
        answered(exchange, read).await
    }

    async fn list_marks(
        &self,
        request: Request<ListMarksRequest>,
    ) -> Result<Response<ListMarksResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let listed = Box::pin(async {
            caller?;
            let ListMarksRequest {
                institution,
                item_codes,
            } = request.get_ref();
            Ok(ListMarksResponse {
                city: self.0.city.to_string(),
                marks: self.0.list_marks(institution, item_codes).await?,
            })
        });
        answered(exchange, listed).await
    }
}
