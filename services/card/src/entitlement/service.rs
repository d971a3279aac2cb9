//! The service on the wire.

use banqiao_kit::{CallError, Caller, civil_date};
use banqiao_proto::card::v1::{
    CheckEntitlementRequest, CheckEntitlementResponse, ImportInsuranceRequest,
    ImportInsuranceResponse, entitlement_service_server::EntitlementService,
};
use futures_util::FutureExt;
use tonic::{Request, Response, Status, Streaming};

use super::{Asked, Entitlements, Judgement, OtherCities};
use crate::{
    bulk::{Bulk, own_city},
    cards::timestamp,
    cities::Cities,
    import::ImportCounts,
    service::{answered, caller_of},
};

/// The entitlement service of a city.
#[derive(Clone, Debug)]
pub struct EntitlementServer {
    entitlements: Entitlements,
    cities: Cities,
    others: OtherCities,
    bulk: Bulk,
}

impl EntitlementServer {
    /// A service of the city's records, with a way to the other cities' or without one.
    pub fn new(entitlements: Entitlements, cities: Cities, others: OtherCities) -> Self {
        Self {
            entitlements,
            cities,
            others,
            bulk: Bulk::new(),
        }
    }

    async fn check(
        &self,
        request: &CheckEntitlementRequest,
        caller: &Caller,
    ) -> Result<CheckEntitlementResponse, CallError> {
        let today = civil_date(self.entitlements.clock().now_us());
        let asked = Asked::parse(request, today).map_err(CallError::CallerInvalid)?;
        let own = self.entitlements.city();
        let said = asked.insured_city.filter(|city| *city != own);
        let judgement = self.entitlements.judge(&asked).await?;
        // What is recorded here goes before what is said; a city that was asked by another asks nobody.
        let recorded = judgement.insured_city.filter(|city| *city != own);
        let elsewhere = match judgement.insured_city {
            Some(_) => recorded,
            None => said,
        };
        let judgement = match elsewhere.filter(|_| self.cities.is_own(&caller.client)) {
            None => judgement,
            Some(city) => match self.others.ask(city, request, caller).await {
                Ok(answer) => return Ok(answer),
                Err(unknown) => unknown,
            },
        };
        Ok(self.answer(&asked, &judgement))
    }

    fn answer(&self, asked: &Asked, judgement: &Judgement) -> CheckEntitlementResponse {
        let text = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string());
        CheckEntitlementResponse {
            eligible: judgement.entitlement.into(),
            scheme: asked.scheme.into(),
            insured_city: judgement
                .insured_city
                .map(|city| city.to_string())
                .unwrap_or_default(),
            reason_code: judgement.reason.code.to_owned(),
            policy_ref: format!(
                "{} ({})",
                judgement.policy.source,
                judgement.policy.certainty.tag()
            ),
            valid_until: text(judgement.valid_until).unwrap_or_default(),
            recorded_as_of: text(judgement.as_of).unwrap_or_default(),
            checked_at: Some(timestamp(self.entitlements.clock().now_us())),
            source_city: self.entitlements.city().to_string(),
            insured_status: judgement.status.into(),
            treatment_state: judgement.treatment.into(),
            settlement_suspended_until: text(judgement.suspended_until).unwrap_or_default(),
        }
    }

    async fn import(
        &self,
        caller: &Caller,
        lines: Streaming<ImportInsuranceRequest>,
    ) -> Result<ImportInsuranceResponse, CallError> {
        own_city(&self.cities, caller)?;
        let entitlements = &self.entitlements;
        let each = |batch: Vec<_>| async move { Ok(entitlements.import(&batch).await?) }.boxed();
        let (results, counts) = self.bulk.take(lines, |line| line.line, each).await?;
        let ImportCounts {
            created,
            updated,
            unchanged,
            refused,
        } = counts;
        Ok(ImportInsuranceResponse {
            results,
            created,
            updated,
            unchanged,
            refused,
        })
    }
}

#[tonic::async_trait]
impl EntitlementService for EntitlementServer {
    async fn check_entitlement(
        &self,
        request: Request<CheckEntitlementRequest>,
    ) -> Result<Response<CheckEntitlementResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it may hold a call to another city.
        let checked = Box::pin(async { self.check(request.get_ref(), &caller?).await });
        answered(exchange, checked).await
    }

    async fn import_insurance(
        &self,
        request: Request<Streaming<ImportInsuranceRequest>>,
    ) -> Result<Response<ImportInsuranceResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let imported = Box::pin(async { self.import(&caller?, request.into_inner()).await });
        answered(exchange, imported).await
    }
}
