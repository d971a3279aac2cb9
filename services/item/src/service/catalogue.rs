//! The catalogue's service.

use banqiao_directory::Clock;
use banqiao_kit::{Broken, CallError, Rule, RuleTable, Violations, civil_date};
use banqiao_proto::item::v1::{
    HandlingMode, ListItemsRequest, ListItemsResponse, ReadItemRequest, ReadItemResponse,
    catalogue_service_server::CatalogueService,
};
use jiff::civil::Date;
use tonic::{Request, Response, Status};

use super::{answered, caller_of};
use crate::catalogue::{Catalogue, ItemId};

const ON: Rule = Rule::design(
    "CALENDAR_DAY",
    "a day is written YYYY-MM-DD",
    "item service",
);
const MODE: Rule = Rule::quoted(
    "HANDLING_MODE",
    "a handling mode is one of the three of 国办发〔2020〕35号",
    "国办发〔2020〕35号",
);
const UNKNOWN: Rule = Rule::design(
    "ITEM_UNKNOWN",
    "the catalogue has no item of this id in force on that day",
    "item service",
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Catalogue")
        .field(&ON, &["ListItems", "ReadItem"])
        .field(&MODE, &["ListItems"])
        .field(&UNKNOWN, &["ReadItem"])
}

/// The catalogue of a city as a service.
#[derive(Clone, Debug)]
pub struct CatalogueServer {
    catalogue: Catalogue,
    clock: Clock,
}

impl CatalogueServer {
    /// The service of a catalogue.
    pub const fn new(catalogue: Catalogue, clock: Clock) -> Self {
        Self { catalogue, clock }
    }

    fn list(&self, request: &ListItemsRequest) -> Result<ListItemsResponse, CallError> {
        let mut faults = Violations::new();
        let on = faults.check("on", self.day(&request.on));
        let mode = HandlingMode::try_from(request.mode).map_err(|_| Broken(&MODE));
        let mode = faults.check("mode", mode);
        let (Some(on), Some(mode)) = (on, mode) else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let items = self.catalogue.items(on);
        Ok(ListItemsResponse {
            label: self.catalogue.label().to_owned(),
            items: items
                .filter(|item| mode == HandlingMode::Unspecified || item.mode == mode)
                .map(|item| item.summary())
                .collect(),
        })
    }

    fn read(&self, request: &ReadItemRequest) -> Result<ReadItemResponse, CallError> {
        let mut faults = Violations::new();
        let on = faults.check("on", self.day(&request.on));
        let id = faults.check("id", ItemId::parse(&request.id));
        let item = on.zip(id).and_then(|(on, id)| self.catalogue.item(&id, on));
        if item.is_none() && faults.is_empty() {
            faults.add("id", &UNKNOWN);
        }
        match item {
            Some(item) => Ok(ReadItemResponse {
                label: self.catalogue.label().to_owned(),
                item: Some(item.shown()),
            }),
            None => Err(CallError::CallerInvalid(faults.into_vec())),
        }
    }

    fn day(&self, text: &str) -> Result<Date, Broken> {
        if text.is_empty() {
            return Ok(civil_date(self.clock.now_us()));
        }
        let day: Option<Date> = text.parse().ok();
        day.filter(|day| day.to_string() == text).ok_or(Broken(&ON))
    }
}

#[tonic::async_trait]
impl CatalogueService for CatalogueServer {
    async fn list_items(
        &self,
        request: Request<ListItemsRequest>,
    ) -> Result<Response<ListItemsResponse>, Status> {
        let caller = caller_of(&request);
        answered(caller.as_ref().ok().map(|caller| caller.exchange), async {
            caller?;
            self.list(request.get_ref())
        })
        .await
    }

    async fn read_item(
        &self,
        request: Request<ReadItemRequest>,
    ) -> Result<Response<ReadItemResponse>, Status> {
        let caller = caller_of(&request);
        answered(caller.as_ref().ok().map(|caller| caller.exchange), async {
            caller?;
            self.read(request.get_ref())
        })
        .await
    }
}
