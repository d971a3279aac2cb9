//! The service of ratings.

use std::pin::Pin;

use banqiao_kit::{CallError, Caller, FollowFrom, Refusal, Rule, RuleTable};
use banqiao_proto::item::v1::{
    ActOnRectificationRequest, ActOnRectificationResponse, ActorRole, ListRatingsRequest,
    ListRatingsResponse, RateCaseRequest, RateCaseResponse, ReadRatingRequest, ReadRatingResponse,
    SearchRectificationsRequest, SearchRectificationsResponse, WatchRectificationsRequest,
    WatchRectificationsResponse, rating_service_server::RatingService,
};
use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{DOMAIN, answered, caller_of, case::digest_of};
use crate::{
    case::parse_cursor,
    cases::Cases,
    peers::Peers,
    rating::{ActOnRectification, RateCase, RatingFilter, RectificationFilter, RectificationStep},
    ratings::Ratings,
    watch::Watches,
};

const SUPERVISORS_ONLY: Refusal = Refusal::forbidden(
    Rule::design(
        "SUPERVISORS_ONLY",
        "the supervising office of the deciding city watches rectifications",
        "国办发〔2019〕51号",
    )
    .remedy("search the rectifications of your own city"),
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Supervising offices").refusal(&SUPERVISORS_ONLY, &["WatchRectifications"])
}

/// The ratings of a city's cases as a service.
#[derive(Clone, Debug)]
pub struct RatingServer {
    cases: Cases,
    ratings: Ratings,
    watches: Watches,
    peers: Peers,
}

impl RatingServer {
    /// The service of the ratings of a city's cases.
    pub fn new(cases: Cases, watches: Watches, peers: Peers) -> Self {
        Self {
            ratings: Ratings::new(cases.clone()),
            cases,
            watches,
            peers,
        }
    }

    async fn rate(
        &self,
        caller: &Caller,
        request: &RateCaseRequest,
    ) -> Result<RateCaseResponse, CallError> {
        let given = RateCase::parse(request, self.cases.today());
        let given = given.map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, given.role)?;
        Ok(self
            .ratings
            .rate(&given, digest_of(request), &actor)
            .await?)
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &ListRatingsRequest,
    ) -> Result<ListRatingsResponse, CallError> {
        let filter = RatingFilter::parse(request).map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, filter.role)?;
        Ok(self.ratings.list(filter, &actor).await?)
    }

    async fn read(
        &self,
        caller: &Caller,
        request: &ReadRatingRequest,
    ) -> Result<ReadRatingResponse, CallError> {
        let mut faults = banqiao_kit::Violations::new();
        let id = faults.check("id", request.id.parse());
        let id = id.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))?;
        let actor = self.peers.actor(caller, ActorRole::Supervisor)?;
        Ok(self.ratings.read(id, &actor).await?)
    }

    async fn act(
        &self,
        caller: &Caller,
        request: &ActOnRectificationRequest,
    ) -> Result<ActOnRectificationResponse, CallError> {
        let act = ActOnRectification::parse(request).map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, act.role)?;
        Ok(self.ratings.act(&act, digest_of(request), &actor).await?)
    }

    async fn search(
        &self,
        caller: &Caller,
        request: &SearchRectificationsRequest,
    ) -> Result<SearchRectificationsResponse, CallError> {
        let filter = RectificationFilter::parse(request).map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, filter.role)?;
        Ok(self.ratings.search(filter, &actor).await?)
    }

    async fn watch(
        &self,
        caller: &Caller,
        request: &WatchRectificationsRequest,
    ) -> Result<
        impl Stream<Item = Result<banqiao_kit::Seen<RectificationStep>, CallError>> + Send + 'static,
        CallError,
    > {
        let from: FollowFrom = parse_cursor(&request.cursor).map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, ActorRole::Supervisor)?;
        if actor.city != self.cases.city() {
            return Err(SUPERVISORS_ONLY.because("this is not the deciding city"));
        }
        self.watches.open_rectifications(from).await
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A unary method: boxed, because it holds a rating and its transaction.
macro_rules! unary {
    ($self:ident, $request:ident, $answer:ident) => {{
        let caller = caller_of(&$request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(
            exchange,
            Box::pin(async { $self.$answer(&caller?, $request.get_ref()).await }),
        )
        .await
    }};
}

#[tonic::async_trait]
impl RatingService for RatingServer {
    async fn rate_case(
        &self,
        request: Request<RateCaseRequest>,
    ) -> Result<Response<RateCaseResponse>, Status> {
        unary!(self, request, rate)
    }

    async fn list_ratings(
        &self,
        request: Request<ListRatingsRequest>,
    ) -> Result<Response<ListRatingsResponse>, Status> {
        unary!(self, request, list)
    }

    async fn read_rating(
        &self,
        request: Request<ReadRatingRequest>,
    ) -> Result<Response<ReadRatingResponse>, Status> {
        unary!(self, request, read)
    }

    async fn act_on_rectification(
        &self,
        request: Request<ActOnRectificationRequest>,
    ) -> Result<Response<ActOnRectificationResponse>, Status> {
        unary!(self, request, act)
    }

    async fn search_rectifications(
        &self,
        request: Request<SearchRectificationsRequest>,
    ) -> Result<Response<SearchRectificationsResponse>, Status> {
        unary!(self, request, search)
    }

    type WatchRectificationsStream = Answers<WatchRectificationsResponse>;

    async fn watch_rectifications(
        &self,
        request: Request<WatchRectificationsRequest>,
    ) -> Result<Response<Self::WatchRectificationsStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let opened = Box::pin(async {
            let steps = self.watch(&caller?, request.get_ref()).await?;
            let steps = steps.map(move |seen| {
                let seen = seen.map_err(|error| banqiao_kit::rescue(error, DOMAIN, exchange))?;
                Ok(WatchRectificationsResponse {
                    cursor: seen.cursor.to_string(),
                    event: seen.change.as_ref().map(RectificationStep::shown),
                })
            });
            Ok(steps.boxed() as Self::WatchRectificationsStream)
        });
        answered(exchange, opened).await
    }
}
