//! The cases' service.

use std::pin::Pin;

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable};
use banqiao_proto::item::v1::{
    ActOnCaseRequest, ActOnCaseResponse, ActorRole, CaseAction, ReadCaseRequest, ReadCaseResponse,
    SearchCasesRequest, SearchCasesResponse, StartCaseRequest, StartCaseResponse, WatchCaseRequest,
    WatchCaseResponse, WatchDepartmentRequest, WatchDepartmentResponse,
    case_service_server::CaseService,
};
use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{DOMAIN, answered, caller_of};
use crate::{
    case::{Act, CaseFilter, CaseNumber, Event, StartCase, parse_cursor},
    cases::Cases,
    material::Materials,
    peers::Peers,
    store::EventFilter,
    watch::Watches,
};

const HOME_ONLY: Refusal = Refusal::forbidden(
    Rule::design(
        "HOME_ONLY",
        "a department is watched by systems of its own city",
        "item service",
    )
    .remedy("watch the single cases in which the city takes part"),
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Departments").refusal(&HOME_ONLY, &["WatchDepartment"])
}

/// The cases of a city as a service.
#[derive(Clone, Debug)]
pub struct CaseServer {
    cases: Cases,
    watches: Watches,
    peers: Peers,
    materials: Materials,
}

impl CaseServer {
    /// The service of a city's cases.
    pub const fn new(cases: Cases, watches: Watches, peers: Peers, materials: Materials) -> Self {
        Self {
            cases,
            watches,
            peers,
            materials,
        }
    }

    async fn start(
        &self,
        caller: &Caller,
        request: &StartCaseRequest,
    ) -> Result<StartCaseResponse, CallError> {
        let today = self.cases.today();
        let item = |id: &_| self.cases.catalogue().item(id, today).map(AsRef::as_ref);
        let start = StartCase::parse(request, self.cases.city(), today, item);
        let start = start.map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, start.role)?;
        let answered = self.cases.start(&start, digest_of(request), &actor).await?;
        Ok(StartCaseResponse {
            standing: Some(answered.shown()),
            repeated: answered.repeated,
        })
    }

    async fn act(
        &self,
        caller: &Caller,
        request: &ActOnCaseRequest,
    ) -> Result<ActOnCaseResponse, CallError> {
        let act = Act::parse(request).map_err(CallError::CallerInvalid)?;
        let actor = self.peers.actor(caller, act.role)?;
        if act.role == ActorRole::Department && actor.city == self.cases.city() {
            // Boxed: it may make calls to other cities.
            Box::pin(self.check_materials(&act, request, caller)).await?;
        }
        let answered = self.cases.act(&act, digest_of(request), &actor).await?;
        Ok(ActOnCaseResponse {
            standing: Some(answered.shown()),
            repeated: answered.repeated,
        })
    }

    /// What a step of the department demands of the case's materials.
    async fn check_materials(
        &self,
        act: &Act,
        request: &ActOnCaseRequest,
        caller: &Caller,
    ) -> Result<(), CallError> {
        let (materials, home) = (&self.materials, self.cases.city());
        match act.action {
            CaseAction::Accept => materials.check_acceptance(act.number, caller, home).await,
            CaseAction::NotifyCorrection => {
                let points = &request.corrections;
                materials
                    .check_corrections(act.number, points, caller, home)
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn read(
        &self,
        caller: &Caller,
        request: &ReadCaseRequest,
    ) -> Result<ReadCaseResponse, CallError> {
        let number = parse_number(&request.number)?;
        let city = self.peers.city(caller)?;
        let (case, history) = self.cases.read(number, city).await?;
        Ok(ReadCaseResponse {
            case: Some(case.shown()),
            history: history.iter().map(Event::shown).collect(),
        })
    }

    async fn search(
        &self,
        caller: &Caller,
        request: &SearchCasesRequest,
    ) -> Result<SearchCasesResponse, CallError> {
        let filter = CaseFilter::parse(request, self.cases.today());
        let filter = filter.map_err(CallError::CallerInvalid)?;
        let city = self.peers.city(caller)?;
        Ok(self.cases.search(filter, city).await?)
    }

    async fn watch_one(
        &self,
        caller: &Caller,
        request: &WatchCaseRequest,
    ) -> Result<
        impl Stream<Item = Result<banqiao_kit::Seen<Event>, CallError>> + Send + 'static,
        CallError,
    > {
        let number = parse_number(&request.number)?;
        let from = parse_cursor(&request.cursor).map_err(CallError::CallerInvalid)?;
        let city = self.peers.city(caller)?;
        self.cases.visible(number, city).await?;
        self.watches.open(EventFilter::Case(number), from).await
    }

    async fn watch_all(
        &self,
        caller: &Caller,
        request: WatchDepartmentRequest,
    ) -> Result<
        impl Stream<Item = Result<banqiao_kit::Seen<Event>, CallError>> + Send + 'static,
        CallError,
    > {
        if self.peers.city(caller)? != self.cases.city() {
            return Err(HOME_ONLY.because("this is not the department's city"));
        }
        let from = parse_cursor(&request.cursor).map_err(CallError::CallerInvalid)?;
        let filter = EventFilter::Department {
            department: request.department,
            warnings_only: request.warnings_only,
        };
        self.watches.open(filter, from).await
    }
}

pub(super) fn parse_number(text: &str) -> Result<CaseNumber, CallError> {
    let mut faults = banqiao_kit::Violations::new();
    let number = faults.check("number", CaseNumber::parse(text));
    number.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))
}

/// SHA-256 over everything that a request asks for, to tell a repetition from another request.
pub(super) fn digest_of(request: &impl Message) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &request.encode_to_vec()).as_ref());
    bytes
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl CaseService for CaseServer {
    async fn start_case(
        &self,
        request: Request<StartCaseRequest>,
    ) -> Result<Response<StartCaseResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a case and its decision.
        answered(
            exchange,
            Box::pin(async { self.start(&caller?, request.get_ref()).await }),
        )
        .await
    }

    async fn act_on_case(
        &self,
        request: Request<ActOnCaseRequest>,
    ) -> Result<Response<ActOnCaseResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a case and its decision.
        answered(
            exchange,
            Box::pin(async { self.act(&caller?, request.get_ref()).await }),
        )
        .await
    }

    async fn read_case(
        &self,
        request: Request<ReadCaseRequest>,
    ) -> Result<Response<ReadCaseResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(
            exchange,
            Box::pin(async { self.read(&caller?, request.get_ref()).await }),
        )
        .await
    }

    async fn search_cases(
        &self,
        request: Request<SearchCasesRequest>,
    ) -> Result<Response<SearchCasesResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(
            exchange,
            Box::pin(async { self.search(&caller?, request.get_ref()).await }),
        )
        .await
    }

    type WatchCaseStream = Answers<WatchCaseResponse>;

    async fn watch_case(
        &self,
        request: Request<WatchCaseRequest>,
    ) -> Result<Response<Self::WatchCaseStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let opened = Box::pin(async {
            let events = self.watch_one(&caller?, request.get_ref()).await?;
            let events = events.map(move |seen| {
                let seen = seen.map_err(|error| banqiao_kit::rescue(error, DOMAIN, exchange))?;
                Ok(WatchCaseResponse {
                    cursor: seen.cursor.to_string(),
                    event: seen.change.as_ref().map(Event::shown),
                })
            });
            Ok(events.boxed() as Self::WatchCaseStream)
        });
        answered(exchange, opened).await
    }

    type WatchDepartmentStream = Answers<WatchDepartmentResponse>;

    async fn watch_department(
        &self,
        request: Request<WatchDepartmentRequest>,
    ) -> Result<Response<Self::WatchDepartmentStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let opened = Box::pin(async {
            let events = self.watch_all(&caller?, request.into_inner()).await?;
            let events = events.map(move |seen| {
                let seen = seen.map_err(|error| banqiao_kit::rescue(error, DOMAIN, exchange))?;
                Ok(WatchDepartmentResponse {
                    cursor: seen.cursor.to_string(),
                    event: seen.change.as_ref().map(Event::shown),
                })
            });
            Ok(events.boxed() as Self::WatchDepartmentStream)
        });
        answered(exchange, opened).await
    }
}
