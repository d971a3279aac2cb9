//! What the catalogue knows of an item.

use std::{collections::BTreeMap, fmt, str::FromStr};

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Certainty, Rule, RuleTable};
use banqiao_proto::item::v1::{
    self as proto, CaseState, DataCallCity, Decision, HandlingMode, ItemType, ProjectType,
    ResultType, ServiceObject,
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

const ID: Rule = Rule::design(
    "ITEM_ID",
    "an item's id has 1 to 32 of A-Z, 0-9 and -",
    "item service",
);

pub(super) fn rules() -> RuleTable {
    RuleTable::new("Items").field(&ID, &["ReadItem", "StartCase", "SearchCases"])
}

/// Id of an item in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ItemId(String);

impl ItemId {
    /// Parses an id.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let sound = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-');
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(sound);
        fits.then(|| Self(text.to_owned())).ok_or(Broken(&ID))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ItemId {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Self, Broken> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ItemId {
    type Error = Broken;

    fn try_from(text: String) -> Result<Self, Broken> {
        Self::parse(&text)
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> Self {
        id.0
    }
}

/// 法定办结时限.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegalLimit {
    /// Working days.
    pub workdays: u32,
    /// Law and article.
    pub citation: String,
    /// Certainty.
    pub certainty: Certainty,
}

/// 承诺办结时限, which cities may shorten for themselves (优化营商环境条例 art. 35–37) (Q).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Working days in every city without a limit of its own; none where nothing is promised.
    pub workdays: Option<u32>,
    /// Working days in single cities.
    pub by_city: BTreeMap<CityCode, u32>,
}

impl Promise {
    /// Working days in a city.
    pub fn of(&self, city: CityCode) -> Option<u32> {
        self.by_city.get(&city).copied().or(self.workdays)
    }
}

/// A material that an item needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// Id within the catalogue.
    pub id: String,
    /// Name in Chinese.
    pub name: String,
    /// Name in English.
    pub name_en: String,
    /// Whether a case cannot be accepted without it.
    pub required: bool,
    /// Data calls by any of which it is waived (国务院令第716号 art. 7) (Q).
    pub waived_by: Vec<String>,
    /// Content types in which it may be sent.
    pub content_types: Vec<String>,
    /// Largest size in bytes.
    pub max_bytes: u64,
}

/// Whether a social security card is the applicant's.
pub(crate) const VERIFY_CARD: &str = "banqiao.card.v1.CardService/VerifyCard";
/// Whether the applicant was granted something elsewhere: such a call names the items.
pub(crate) const SEARCH_CASES: &str = "banqiao.item.v1.CaseService/SearchCases";
/// Whether a hospital has reported about the applicant.
pub(crate) const FIND_REPORTS: &str = "banqiao.lab.v1.ReportService/FindReports";
/// The methods that a data call may name: the engine knows how to ask them.
pub(super) const METHODS: [&str; 3] = [VERIFY_CARD, SEARCH_CASES, FIND_REPORTS];

/// A data call that verifies what a material would prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Id within the catalogue.
    pub id: String,
    /// Name in Chinese.
    pub name: String,
    /// Full name of the method.
    pub method: String,
    /// Which city is asked.
    pub asked: DataCallCity,
    /// Purpose code.
    pub purpose: String,
    /// Items of which a granted case confirms it, for calls that look for cases.
    pub items: Vec<ItemId>,
    /// What those items give; none for calls that look for something else.
    pub result: Option<ResultType>,
}

impl Call {
    /// Whether a case of the applicant elsewhere confirms it: a case of one of the items, granted, with its result given.
    pub fn is_confirmed_by(&self, case: &proto::CaseSummary) -> bool {
        let given = matches!(
            case.state(),
            CaseState::Concluded | CaseState::Delivered | CaseState::Evaluated
        );
        let named = self.items.iter().any(|item| item.as_str() == case.item_id);
        named && given && case.decision() == Decision::Granted
    }
}

/// A task of another city, for joint handling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Id within the item.
    pub id: String,
    /// Name in Chinese.
    pub name: String,
    /// Department that does it.
    pub department: String,
    /// Limit in working days: at most 20 (行政许可法 art. 43) (Q).
    pub workdays: u32,
}

/// An item in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Id.
    pub id: ItemId,
    /// Name in Chinese.
    pub name: String,
    /// Name in English.
    pub name_en: String,
    /// Item of which this is a part.
    pub parent: Option<ItemId>,
    /// Domain.
    pub domain: String,
    /// 主管部门.
    pub lead_department: String,
    /// Every department that takes part, the lead one first.
    pub departments: Vec<String>,
    /// 实施编码 of cities.
    pub task_codes: BTreeMap<CityCode, String>,
    /// 事项类型.
    pub item_type: ItemType,
    /// 服务对象.
    pub service_objects: Vec<ServiceObject>,
    /// 办件类型.
    pub project_type: ProjectType,
    /// Handling mode.
    pub mode: HandlingMode,
    /// Certainty of the mode.
    pub mode_certainty: Certainty,
    /// Legal limit; none where no law that sets one was found.
    pub legal: Option<LegalLimit>,
    /// Promised limits.
    pub promise: Promise,
    /// Materials.
    pub materials: Vec<Material>,
    /// Data calls that may waive materials.
    pub calls: Vec<Call>,
    /// Fee in fen.
    pub fee_fen: i64,
    /// Basis of the fee; empty where none was found.
    pub fee_basis: String,
    /// Legal basis; empty where none was found.
    pub legal_basis: String,
    /// What the applicant gets.
    pub result: ResultType,
    /// Name of the result.
    pub result_name: String,
    /// Tasks of other cities.
    pub tasks: Vec<Task>,
    /// From where name and cross-region status are.
    pub source: String,
    /// How certain they are.
    pub certainty: Certainty,
    /// Version of the entry.
    pub version: u32,
    /// First day in force.
    pub effective_from: Date,
    /// Last day in force.
    pub effective_to: Option<Date>,
}

impl Item {
    /// Whether it is in force on a day.
    pub fn is_in_force(&self, on: Date) -> bool {
        self.effective_from <= on && self.effective_to.is_none_or(|last| on <= last)
    }

    /// The item in a list.
    pub fn summary(&self) -> proto::ItemSummary {
        proto::ItemSummary {
            id: self.id.to_string(),
            name: self.name.clone(),
            name_en: self.name_en.clone(),
            mode: self.mode.into(),
            lead_department: self.lead_department.clone(),
            version: self.version,
        }
    }

    /// The item with everything that is known of it.
    pub fn shown(&self) -> proto::Item {
        proto::Item {
            id: self.id.to_string(),
            name: self.name.clone(),
            name_en: self.name_en.clone(),
            parent_id: self
                .parent
                .as_ref()
                .map_or_else(String::new, ItemId::to_string),
            domain: self.domain.clone(),
            lead_department: self.lead_department.clone(),
            departments: self.departments.clone(),
            task_codes: (self.task_codes.iter())
                .map(|(city, code)| proto::TaskCode {
                    city: city.to_string(),
                    code: code.clone(),
                })
                .collect(),
            item_type: self.item_type.into(),
            service_objects: self
                .service_objects
                .iter()
                .map(|one| (*one).into())
                .collect(),
            project_type: self.project_type.into(),
            mode: self.mode.into(),
            mode_certainty: shown_certainty(self.mode_certainty).into(),
            legal_limit: self.legal.as_ref().map(|legal| proto::LegalLimit {
                workdays: legal.workdays,
                citation: legal.citation.clone(),
                certainty: shown_certainty(legal.certainty).into(),
            }),
            promised_limits: self.shown_promises(),
            materials: self.materials.iter().map(shown_material).collect(),
            data_calls: self.calls.iter().map(shown_call).collect(),
            fee_fen: self.fee_fen,
            fee_basis: self.fee_basis.clone(),
            legal_basis: self.legal_basis.clone(),
            result_type: self.result.into(),
            result_name: self.result_name.clone(),
            tasks: self.tasks.iter().map(shown_task).collect(),
            source: self.source.clone(),
            certainty: shown_certainty(self.certainty).into(),
            version: self.version,
            effective_from: self.effective_from.to_string(),
            effective_to: self
                .effective_to
                .map_or_else(String::new, |last| last.to_string()),
        }
    }

    fn shown_promises(&self) -> Vec<proto::PromisedLimit> {
        let of = |city: String, workdays| proto::PromisedLimit { city, workdays };
        let every = self.promise.workdays.map(|days| of(String::new(), days));
        let single = self
            .promise
            .by_city
            .iter()
            .map(|(city, days)| of(city.to_string(), *days));
        every.into_iter().chain(single).collect()
    }
}

fn shown_material(material: &Material) -> proto::MaterialRule {
    proto::MaterialRule {
        id: material.id.clone(),
        name: material.name.clone(),
        name_en: material.name_en.clone(),
        required: material.required,
        waived_by: material.waived_by.clone(),
        content_types: material.content_types.clone(),
        max_bytes: material.max_bytes,
    }
}

fn shown_call(call: &Call) -> proto::DataCall {
    proto::DataCall {
        id: call.id.clone(),
        name: call.name.clone(),
        method: call.method.clone(),
        asked: call.asked.into(),
        purpose: call.purpose.clone(),
        item_ids: call.items.iter().map(ToString::to_string).collect(),
        result_type: call.result.unwrap_or_default().into(),
    }
}

fn shown_task(task: &Task) -> proto::ChildTask {
    proto::ChildTask {
        id: task.id.clone(),
        name: task.name.clone(),
        department: task.department.clone(),
        workdays: task.workdays,
    }
}

const fn shown_certainty(certainty: Certainty) -> proto::Certainty {
    match certainty {
        Certainty::Design => proto::Certainty::Design,
        Certainty::Memory => proto::Certainty::Memory,
        Certainty::Quoted => proto::Certainty::Quoted,
    }
}
