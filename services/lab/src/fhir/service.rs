//! The gRPC service of reports as FHIR.

use banqiao_directory::TrustDomain;
use banqiao_kit::{CallError, Caller, Rule, RuleTable, Violation};
use banqiao_proto::lab::v1::{
    PublishFhirRequest, PublishFhirResponse, ReadFhirRequest, ReadFhirResponse,
    fhir_service_server::FhirService,
};
use tonic::{Request, Response, Status};

use super::{FhirError, read, write};
use crate::{
    edge::{answered, caller_of},
    report::Reports,
};

const FHIR_JSON: Rule = Rule::quoted(
    "FHIR_JSON",
    "a FHIR resource is JSON in UTF-8, no member of an object stands twice",
    "FHIR R4 §2.6.2",
);
const FHIR_RESOURCE: Rule = Rule::design(
    "FHIR_RESOURCE",
    "the resource is a Bundle with at least one DiagnosticReport, or a DiagnosticReport",
    "laboratory service",
);
const FHIR_SIZE: Rule = Rule::design(
    "FHIR_SIZE",
    "a bundle has at most 5000 resources",
    "laboratory service",
);

/// The rules of this module.
pub(crate) fn rules() -> RuleTable {
    RuleTable::new("FHIR resources")
        .fields([&FHIR_JSON, &FHIR_RESOURCE, &FHIR_SIZE], &["PublishFhir"])
}

/// The service of a city.
#[derive(Clone, Debug)]
pub struct FhirServer {
    reports: Reports,
    home: TrustDomain,
}

impl FhirServer {
    /// A service of the city whose trust domain is `home`; only its own systems may publish.
    pub const fn new(reports: Reports, home: TrustDomain) -> Self {
        Self { reports, home }
    }

    async fn publish(
        &self,
        caller: &Caller,
        request: &PublishFhirRequest,
    ) -> Result<PublishFhirResponse, CallError> {
        let publisher = self.reports.publisher(caller, &self.home)?;
        let bundle = read(&request.resource).map_err(|error| invalid(&error))?;
        let lines: Vec<_> = bundle.reports.into_iter().map(Some).collect();
        let outcomes = self.reports.publish(&lines, &publisher).await?;
        let results = (1..)
            .zip(&outcomes)
            .map(|(line, outcome)| outcome.result(line));
        Ok(PublishFhirResponse {
            results: results.collect(),
            unheld: bundle.unheld,
        })
    }

    async fn read(
        &self,
        caller: &Caller,
        request: &ReadFhirRequest,
    ) -> Result<ReadFhirResponse, CallError> {
        let key = self
            .reports
            .key(&request.institution, &request.report_number)?;
        let stored = self.reports.read(key, caller).await?;
        Ok(ReadFhirResponse {
            city: self.reports.city().to_string(),
            version: stored.version,
            resource: write(&stored.report).into_bytes(),
        })
    }
}

fn invalid(error: &FhirError) -> CallError {
    let rule = match error {
        FhirError::NotJson(_) => &FHIR_JSON,
        FhirError::NoReport => &FHIR_RESOURCE,
        FhirError::TooManyResources => &FHIR_SIZE,
    };
    CallError::CallerInvalid(vec![Violation {
        field: "resource".into(),
        rule,
    }])
}

#[tonic::async_trait]
impl FhirService for FhirServer {
    async fn publish_fhir(
        &self,
        request: Request<PublishFhirRequest>,
    ) -> Result<Response<PublishFhirResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let published = Box::pin(async { self.publish(&caller?, request.get_ref()).await });
        answered(exchange, published).await
    }

    async fn read_fhir(
        &self,
        request: Request<ReadFhirRequest>,
    ) -> Result<Response<ReadFhirResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let read = Box::pin(async { self.read(&caller?, request.get_ref()).await });
        answered(exchange, read).await
    }
}
