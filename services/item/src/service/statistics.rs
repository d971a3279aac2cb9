//! The service of figures and reports.

use std::pin::Pin;

use banqiao_kit::{CallError, Caller, Violations, civil_date};
use banqiao_proto::item::v1::{
    ReadFiguresRequest, ReadFiguresResponse, ReadReportRequest, ReadReportResponse,
    statistics_service_server::StatisticsService,
};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use super::{answered, caller_of};
use crate::{
    cases::Cases,
    figures::{FigureRow, Months},
    peers::Peers,
    report::{FORMAT, Format, Language, Report},
};

/// Bytes of a file in one message.
const PIECE: usize = 64 * 1024;

/// The figures of a city's cases as a service.
#[derive(Clone, Debug)]
pub struct StatisticsServer {
    cases: Cases,
    peers: Peers,
}

impl StatisticsServer {
    /// The service of the figures of a city's cases.
    pub const fn new(cases: Cases, peers: Peers) -> Self {
        Self { cases, peers }
    }

    async fn figures(
        &self,
        caller: &Caller,
        request: &ReadFiguresRequest,
    ) -> Result<Vec<FigureRow>, CallError> {
        let mut faults = Violations::new();
        let months = faults.check("to", Months::parse(&request.from, &request.to));
        let months = months.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))?;
        self.peers.city(caller)?;
        Ok(self
            .cases
            .store()
            .figures(self.cases.city(), &months)
            .await?)
    }

    async fn report(
        &self,
        caller: &Caller,
        request: &ReadReportRequest,
    ) -> Result<Vec<ReadReportResponse>, CallError> {
        let mut faults = Violations::new();
        let months = faults.check("to", Months::parse(&request.from, &request.to));
        let format = Format::parse(request.format).ok_or(banqiao_kit::Broken(&FORMAT));
        let format = faults.check("format", format);
        let language = Language::parse(request.language).ok_or(banqiao_kit::Broken(&FORMAT));
        let language = faults.check("language", language);
        let asked = months.zip(format).zip(language);
        let ((months, format), language) =
            asked.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))?;
        self.peers.city(caller)?;
        let city = self.cases.city();
        let rows = self.cases.store().figures(city, &months).await?;
        let today = civil_date(self.cases.clock().now_us());
        let report = Report::new(months, today, rows, self.cases.catalogue());
        let file = report
            .render(format, language)
            .map_err(|error| CallError::Internal(error.into()))?;
        let mut pieces: Vec<_> = file
            .as_bytes()
            .chunks(PIECE)
            .map(|piece| ReadReportResponse {
                content: piece.to_vec(),
                ..ReadReportResponse::default()
            })
            .collect();
        if let Some(first) = pieces.first_mut() {
            format.content_type().clone_into(&mut first.content_type);
            first.file_name = report.file_name(format);
        }
        Ok(pieces)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl StatisticsService for StatisticsServer {
    type ReadFiguresStream = Answers<ReadFiguresResponse>;

    async fn read_figures(
        &self,
        request: Request<ReadFiguresRequest>,
    ) -> Result<Response<Self::ReadFiguresStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let rows = Box::pin(async {
            let rows = self.figures(&caller?, request.get_ref()).await?;
            let rows = rows.into_iter().map(|row| Ok(row.shown()));
            Ok(stream::iter(rows).boxed() as Self::ReadFiguresStream)
        });
        answered(exchange, rows).await
    }

    type ReadReportStream = Answers<ReadReportResponse>;

    async fn read_report(
        &self,
        request: Request<ReadReportRequest>,
    ) -> Result<Response<Self::ReadReportStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let pieces = Box::pin(async {
            let pieces = self.report(&caller?, request.get_ref()).await?;
            let pieces = pieces.into_iter().map(Ok);
            Ok(stream::iter(pieces).boxed() as Self::ReadReportStream)
        });
        answered(exchange, pieces).await
    }
}
