//! The gRPC service of reports.

use std::{pin::Pin, sync::Arc, time::Duration};

use banqiao_directory::TrustDomain;
use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable, rescue};
use banqiao_proto::lab::v1::{
    FindReportsRequest, FindReportsResponse, PublishOutcome, PublishReportRequest,
    PublishReportResponse, PublishReportsRequest, PublishReportsResponse, ReadReportRequest,
    ReadReportResponse, WatchSupersededRequest, WatchSupersededResponse,
    report_service_server::ReportService,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::{
    FindReports, LineOutcome, PUBLISH_BATCH, PublishCounts, Reports, WatchFrom, Watches,
    publish::ignored_marks,
};
use crate::edge::{DOMAIN, answered, caller_of};

/// Lines in one call: with three faults of some 200 bytes in each line the results stay below the method's limit of 64 MiB.
pub const MAX_PUBLISH_LINES: usize = 80_000;

/// Bulk calls at once: each holds its results until its end.
const BULK_AT_ONCE: usize = 4;
/// When to try again while others publish in bulk.
const BULK_RETRY: Duration = Duration::from_secs(10);

/// More bulk calls than the service takes.
const TOO_MANY_PUBLISHERS: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_PUBLISHERS",
        "a service takes four bulk calls at once",
        "laboratory service",
    )
    .remedy("try again after the delay"),
);
/// More lines than a call takes.
const PUBLISH_TOO_LONG: Refusal = Refusal::exceeds(
    Rule::design(
        "PUBLISH_TOO_LONG",
        "a bulk call takes 80000 lines; those before the refusal stay published",
        "laboratory service",
    )
    .remedy("send the rest in another call"),
);

/// The rules of this module.
pub(super) fn rules() -> RuleTable {
    const BULK: &[&str] = &["PublishReports"];
    RuleTable::new("Publishing in bulk")
        .refusal(&TOO_MANY_PUBLISHERS, BULK)
        .refusal(&PUBLISH_TOO_LONG, BULK)
}

/// The service of a city.
#[derive(Clone, Debug)]
pub struct ReportServer {
    reports: Reports,
    watches: Watches,
    home: TrustDomain,
    bulk: Arc<Semaphore>,
}

impl ReportServer {
    /// A service of the city whose trust domain is `home`; only its own systems may publish.
    pub fn new(reports: Reports, watches: Watches, home: TrustDomain) -> Self {
        Self {
            reports,
            watches,
            home,
            bulk: Arc::new(Semaphore::new(BULK_AT_ONCE)),
        }
    }

    async fn publish_one(
        &self,
        caller: &Caller,
        request: PublishReportRequest,
    ) -> Result<PublishReportResponse, CallError> {
        let publisher = self.reports.publisher(caller, &self.home)?;
        let ignored_marks = ignored_marks(request.report.as_ref());
        let outcomes = self.reports.publish(&[request.report], &publisher).await?;
        let (outcome, version, not_normalised) = match outcomes.into_iter().next() {
            Some(LineOutcome::Created(not_normalised)) => {
                (PublishOutcome::Created, 1, not_normalised)
            }
            Some(LineOutcome::Superseded(version, not_normalised)) => {
                (PublishOutcome::Superseded, version, not_normalised)
            }
            Some(LineOutcome::Unchanged(version)) => {
                (PublishOutcome::Unchanged, version, Vec::new())
            }
            Some(LineOutcome::Refused(mut faults)) => {
                for fault in &mut faults {
                    if fault.field != "report" {
                        fault.field = format!("report.{}", fault.field).into();
                    }
                }
                return Err(CallError::CallerInvalid(faults));
            }
            None => return Err(CallError::Internal("a report without an outcome".into())),
        };
        Ok(PublishReportResponse {
            outcome: outcome.into(),
            version,
            not_normalised,
            ignored_marks,
        })
    }

    async fn publish_bulk(
        &self,
        caller: &Caller,
        mut lines: Streaming<PublishReportsRequest>,
    ) -> Result<PublishReportsResponse, CallError> {
        let publisher = self.reports.publisher(caller, &self.home)?;
        let _place = self.bulk.try_acquire().map_err(|_| {
            let message = format!("this service takes {BULK_AT_ONCE} bulk calls at once");
            TOO_MANY_PUBLISHERS.for_now(message, BULK_RETRY)
        })?;
        let mut counts = PublishCounts::default();
        let mut results = Vec::new();
        let (mut numbers, mut batch) = (Vec::new(), Vec::with_capacity(PUBLISH_BATCH));
        loop {
            let line = lines.message().await;
            let line = line.map_err(|status| CallError::CallerBrokeOff(Box::new(status)))?;
            let ended = line.is_none();
            if let Some(line) = line {
                numbers.push(line.line);
                batch.push(line.report);
            }
            if batch.len() == PUBLISH_BATCH || ended {
                let outcomes = self.reports.publish(&batch, &publisher).await?;
                let sent = numbers.drain(..).zip(batch.drain(..));
                for ((line, report), outcome) in sent.zip(outcomes) {
                    counts.add(&outcome);
                    let mut result = outcome.result(line);
                    result.ignored_marks = ignored_marks(report.as_ref());
                    results.push(result);
                }
            }
            if ended {
                let PublishCounts {
                    created,
                    superseded,
                    unchanged,
                    refused,
                } = counts;
                return Ok(PublishReportsResponse {
                    results,
                    created,
                    superseded,
                    unchanged,
                    refused,
                });
            }
            if results.len() + batch.len() > MAX_PUBLISH_LINES {
                return Err(
                    PUBLISH_TOO_LONG.because(format!("a call takes {MAX_PUBLISH_LINES} lines"))
                );
            }
        }
    }

    async fn read_one(
        &self,
        caller: &Caller,
        request: &ReadReportRequest,
    ) -> Result<ReadReportResponse, CallError> {
        let key = self
            .reports
            .key(&request.institution, &request.report_number)?;
        let stored = self.reports.read(key, caller).await?;
        Ok(ReadReportResponse {
            city: self.reports.city().to_string(),
            report: Some(stored.report),
            version: stored.version,
        })
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ReportService for ReportServer {
    async fn publish_report(
        &self,
        request: Request<PublishReportRequest>,
    ) -> Result<Response<PublishReportResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let published = Box::pin(async { self.publish_one(&caller?, request.into_inner()).await });
        answered(exchange, published).await
    }

    async fn publish_reports(
        &self,
        request: Request<Streaming<PublishReportsRequest>>,
    ) -> Result<Response<PublishReportsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let published = Box::pin(async { self.publish_bulk(&caller?, request.into_inner()).await });
        answered(exchange, published).await
    }

    async fn read_report(
        &self,
        request: Request<ReadReportRequest>,
    ) -> Result<Response<ReadReportResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let read = Box::pin(async { self.read_one(&caller?, request.get_ref()).await });
        answered(exchange, read).await
    }

    type FindReportsStream = Answers<FindReportsResponse>;

    async fn find_reports(
        &self,
        request: Request<FindReportsRequest>,
    ) -> Result<Response<Self::FindReportsStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let found = Box::pin(async {
            let caller = caller?;
            let search = FindReports::parse(request.get_ref(), self.reports.clock().now_us());
            let search = search.map_err(CallError::CallerInvalid)?;
            let found = self.reports.find(&search, &caller).await?;
            let city = self.reports.city().to_string();
            let answers = found.into_iter().map(move |stored| {
                Ok(FindReportsResponse {
                    city: city.clone(),
                    report: Some(stored.report),
                    version: stored.version,
                })
            });
            Ok(stream::iter(answers).boxed() as Self::FindReportsStream)
        });
        answered(exchange, found).await
    }

    type WatchSupersededStream = Answers<WatchSupersededResponse>;

    async fn watch_superseded(
        &self,
        request: Request<WatchSupersededRequest>,
    ) -> Result<Response<Self::WatchSupersededStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            let client = caller?.client;
            let from = WatchFrom::parse(&request.get_ref().cursor);
            let from = from.map_err(CallError::CallerInvalid)?;
            let changes = self.watches.open(client, from).await?;
            let changes =
                changes.map(move |next| next.map_err(|error| rescue(error, DOMAIN, exchange)));
            Ok(changes.boxed() as Self::WatchSupersededStream)
        })
        .await
    }
}
