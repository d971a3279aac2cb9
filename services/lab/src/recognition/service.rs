//! The gRPC service of recognition.

use banqiao_kit::{CallError, Violation, Violations};
use banqiao_proto::lab::v1::{
    AssessReportsRequest, AssessReportsResponse, DeliverDecisionRequest, DeliverDecisionResponse,
    FoundReport, ListDecisionsRequest, ListDecisionsResponse, ReadStatisticsRequest,
    ReadStatisticsResponse, RecordDecisionRequest, RecordDecisionResponse, ReportAssessment,
    recognition_service_server::RecognitionService,
};
use tonic::{Request, Response, Status};

use super::{
    AssessTerms, Assessed, Decisions, Recognition, RecordDecision, assess::item_of, assess_result,
    rule,
};
use crate::{
    catalogue::ItemCode,
    edge::{answered, caller_of},
    report::timestamp,
};

/// Most reports, and most items, of one assessment.
pub const MAX_ASSESSED: usize = 100;

/// The service of a city.
#[derive(Clone, Debug)]
pub struct RecognitionServer {
    recognition: Recognition,
    decisions: Decisions,
}

impl Recognition {
    /// Assesses reports for an institution of this city.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn assess(
        &self,
        request: &AssessReportsRequest,
    ) -> Result<AssessReportsResponse, Vec<Violation>> {
        let mut faults = Violations::new();
        let reports = &self.reports;
        let asking = reports.institutions().find(&request.institution);
        let asking = faults.check("institution", asking);
        if asking.is_some_and(|asking| asking.city != reports.city()) {
            faults.add("institution", &rule::ASKING);
        }
        if !(1..=MAX_ASSESSED).contains(&request.reports.len()) {
            faults.add("reports", &rule::REPORTS);
        }
        if request.item_codes.len() > MAX_ASSESSED {
            faults.add("item_codes", &rule::REPORTS);
        }
        let mut wanted = Vec::new();
        for (place, code) in request.item_codes.iter().take(MAX_ASSESSED).enumerate() {
            wanted.extend(faults.check(format!("item_codes[{place}]"), ItemCode::parse(code)));
        }
        let terms = AssessTerms {
            city: reports.city(),
            now_us: reports.clock().now_us(),
            catalogue: reports.catalogue(),
            institutions: reports.institutions(),
        };
        let mut assessed = Vec::new();
        for (place, found) in request.reports.iter().take(MAX_ASSESSED).enumerate() {
            match assess(found, &wanted, &terms) {
                Some(one) => assessed.push(one),
                None => faults.add(format!("reports[{place}].report"), &rule::REPORT_MISSING),
            }
        }
        if !faults.is_empty() {
            return Err(faults.into_vec());
        }
        Ok(AssessReportsResponse {
            reports: assessed,
            catalogue_version: reports.catalogue().version().to_owned(),
            assessed_at: Some(timestamp(terms.now_us)),
        })
    }
}

fn assess(
    found: &FoundReport,
    wanted: &[ItemCode],
    terms: &AssessTerms<'_>,
) -> Option<ReportAssessment> {
    let report = found.report.as_ref()?;
    let numbered = (0..).zip(&report.results).filter(|(_, result)| {
        let item = item_of(result, terms.catalogue).map(|item| &item.code);
        wanted.is_empty() || item.is_some_and(|item| wanted.contains(item))
    });
    let results = numbered.map(|numbered| assess_result(found, report, numbered, terms));
    Some(ReportAssessment {
        institution: report.institution.clone(),
        report_number: report.report_number.clone(),
        version: found.version,
        results: results.map(Assessed::shown).collect(),
    })
}

impl RecognitionServer {
    /// A service of recognition in a city.
    pub fn new(recognition: Recognition) -> Self {
        Self {
            decisions: Decisions::new(recognition.reports.clone()),
            recognition,
        }
    }
}

#[tonic::async_trait]
impl RecognitionService for RecognitionServer {
    async fn assess_reports(
        &self,
        request: Request<AssessReportsRequest>,
    ) -> Result<Response<AssessReportsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            caller?;
            let assessed = self.recognition.assess(request.get_ref());
            assessed.map_err(CallError::CallerInvalid)
        })
        .await
    }

    async fn record_decision(
        &self,
        request: Request<RecordDecisionRequest>,
    ) -> Result<Response<RecordDecisionResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let recorded = Box::pin(async {
            let caller = caller?;
            let institutions = self.recognition.reports.institutions();
            let request = RecordDecision::parse(request.get_ref(), institutions);
            let request = request.map_err(CallError::CallerInvalid)?;
            let recorded = self.decisions.record(&request, &caller).await?;
            Ok(RecordDecisionResponse {
                decision_id: recorded.decision.decision_id,
                delivery: recorded.delivery.into(),
                decided_at: recorded.decision.decided_at,
                repeated: recorded.repeated,
            })
        });
        answered(exchange, recorded).await
    }

    async fn deliver_decision(
        &self,
        request: Request<DeliverDecisionRequest>,
    ) -> Result<Response<DeliverDecisionResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let received = Box::pin(async {
            let received = self.decisions.receive(request.get_ref(), &caller?).await?;
            Ok(DeliverDecisionResponse {
                received_at: Some(timestamp(received.at_us)),
                repeated: received.repeated,
            })
        });
        answered(exchange, received).await
    }

    async fn list_decisions(
        &self,
        request: Request<ListDecisionsRequest>,
    ) -> Result<Response<ListDecisionsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let listed = Box::pin(async {
            let client = caller?.client;
            self.recognition.list(request.get_ref(), &client).await
        });
        answered(exchange, listed).await
    }

    async fn read_statistics(
        &self,
        request: Request<ReadStatisticsRequest>,
    ) -> Result<Response<ReadStatisticsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let read = Box::pin(async {
            caller?;
            let search = self.recognition.statistics_search(request.get_ref());
            let search = search.map_err(CallError::CallerInvalid)?;
            Ok(self.recognition.statistics(&search).await?)
        });
        answered(exchange, read).await
    }
}
