//! The gRPC service of the catalogue.

use std::sync::Arc;

use banqiao_kit::{CallError, Violation};
use banqiao_proto::lab::v1 as proto;
use banqiao_proto::lab::v1::{
    AllowableTotalError, ItemInterval, ListInstitutionsRequest, ListInstitutionsResponse,
    ListTestItemsRequest, ListTestItemsResponse, RefusedUnit, UnitConversion,
    catalogue_service_server::CatalogueService,
};
use tonic::{Request, Response, Status};

use super::{Catalogue, ITEM_CODE, Interval, TestItem};
use crate::{
    edge::{answered, caller_of},
    institution::Institutions,
};

/// Answers from the files that were loaded at the start.
#[derive(Clone, Debug)]
pub struct CatalogueServer {
    catalogue: Arc<Catalogue>,
    institutions: Arc<Institutions>,
}

impl CatalogueServer {
    /// A service of these files.
    pub const fn new(catalogue: Arc<Catalogue>, institutions: Arc<Institutions>) -> Self {
        Self {
            catalogue,
            institutions,
        }
    }

    fn items(&self, request: &ListTestItemsRequest) -> Result<ListTestItemsResponse, CallError> {
        let mut items = Vec::new();
        let mut faults = Vec::new();
        for (place, code) in request.item_codes.iter().enumerate() {
            match self.catalogue.item(code) {
                Some(item) => items.push(item.shown()),
                None => faults.push(Violation {
                    field: format!("item_codes[{place}]").into(),
                    rule: &ITEM_CODE,
                }),
            }
        }
        if !faults.is_empty() {
            return Err(CallError::CallerInvalid(faults));
        }
        if request.item_codes.is_empty() {
            items.extend(self.catalogue.items().iter().map(TestItem::shown));
        }
        Ok(ListTestItemsResponse {
            version: self.catalogue.version().to_owned(),
            items,
        })
    }
}

#[tonic::async_trait]
impl CatalogueService for CatalogueServer {
    async fn list_test_items(
        &self,
        request: Request<ListTestItemsRequest>,
    ) -> Result<Response<ListTestItemsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            caller?;
            self.items(request.get_ref())
        })
        .await
    }

    async fn list_institutions(
        &self,
        request: Request<ListInstitutionsRequest>,
    ) -> Result<Response<ListInstitutionsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            caller?;
            let institutions = self
                .institutions
                .iter()
                .map(|institution| institution.shown());
            Ok(ListInstitutionsResponse {
                institutions: institutions.collect(),
            })
        })
        .await
    }
}

impl TestItem {
    /// The item in an answer.
    pub fn shown(&self) -> proto::TestItem {
        let conversions = self.conversions.iter().map(|conversion| UnitConversion {
            ucum: conversion.from.clone(),
            factor: conversion.factor(),
            offset: conversion.offset().to_string(),
        });
        let refused = self.refused.iter().map(|(unit, rule)| RefusedUnit {
            ucum: unit.clone(),
            code: rule.code.to_owned(),
            reason: rule.to_string(),
        });
        let interval_source = match self.interval_certainty {
            Some(certainty) => format!("{} ({})", self.interval_source, certainty.tag()),
            None => String::new(),
        };
        proto::TestItem {
            item_code: self.code.as_str().to_owned(),
            name: self.name.clone(),
            abbreviation: self.abbreviation.clone(),
            specimens: self.specimens.clone(),
            ucum: self.ucum.clone(),
            loinc: self.loinc.as_str().to_owned(),
            loinc_certainty: self.loinc_certainty.tag().to_string(),
            conversions: conversions.collect(),
            refused_units: refused.collect(),
            intervals: self.intervals.iter().map(Interval::shown).collect(),
            interval_source,
            allowable_error: self.allowable_error.map(|error| AllowableTotalError {
                percent: error.percent.to_string(),
                absolute: error
                    .below
                    .map_or_else(String::new, |below| below.limit.to_string()),
                absolute_up_to: error
                    .below
                    .map_or_else(String::new, |below| below.up_to.to_string()),
            }),
            window_days: self.window_days.into(),
        }
    }
}

impl Interval {
    fn shown(&self) -> ItemInterval {
        let (age_from, age_to) = self.ages.unwrap_or_default();
        let high = self.high.map_or_else(String::new, |high| high.to_string());
        ItemInterval {
            sex: self.sex.map_or_else(String::new, String::from),
            age_from: age_from.into(),
            age_to: age_to.into(),
            low: self.low.map_or_else(String::new, |low| low.to_string()),
            high: if self.high_excluded {
                format!("<{high}")
            } else {
                high
            },
        }
    }
}
