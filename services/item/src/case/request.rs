//! Requests, parsed field by field.

use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, FollowFrom, Refusal, Rule, RuleTable, Violation, Violations,
    identifier::{DivisionCode, DivisionKind},
};
use banqiao_proto::item::v1::{
    self as proto, ActOnCaseRequest, ActorRole, CaseAction, CaseState, Channel, SearchCasesRequest,
    SpecialProcedure, StartCaseRequest, Warning,
};
use jiff::civil::Date;
use uuid::Uuid;

use super::{
    Act, Applicant, ApplicantId, CaseNumber, CaseResult, CorrectionPoint, Delivery, Detail,
    Document, Extension, Parent, applicant::plain,
};
use crate::catalogue::{Item, ItemId};

const SERVICE: &str = "item service";
const REQUEST_ID: Rule = Rule::design(
    "REQUEST_ID",
    "a request id is a UUID in its hyphenated form and not nil",
    "RFC 9562",
);
const CITY: Rule = Rule::design(
    "CITY",
    "a city of the network or a guest, named by its code",
    "鲁政发〔2020〕2号",
);
const ROLE: Rule = Rule::design(
    "ROLE",
    "a client acts in one of the roles, and never as the service itself",
    SERVICE,
);
const ACTION: Rule = Rule::design(
    "ACTION",
    "the action is none that a client can ask for",
    SERVICE,
);
const CHANNEL: Rule = Rule::quoted(
    "CHANNEL",
    "办理形式 is one of the standard's",
    "GB/T 39046-2020",
);
const DIVISION: Rule = Rule::design(
    "DECIDING_DIVISION",
    "the deciding division lies in the city of this service: send the case to the city that decides it",
    SERVICE,
);
const ITEM: Rule = Rule::design(
    "ITEM_NOT_IN_FORCE",
    "the catalogue has no item of this id in force today",
    SERVICE,
);
const TASKS: Rule = Rule::design(
    "TASKS",
    "a joint case names one city for each task of its item, and other cases name none",
    "国办发〔2020〕35号",
);
const PARENT: Rule = Rule::design(
    "PARENT",
    "a task names a task of its item and the joint case to which it belongs, and is no draft",
    SERVICE,
);
const LOCAL_NUMBER: Rule = Rule::design(
    "LOCAL_NUMBER",
    "a local number has at most 50 visible ASCII characters",
    "GB/T 39046-2020",
);
pub(crate) const TEXT: Rule = Rule::quoted(
    "TEXT",
    "a text has 1 to 1000 characters and no control character",
    "GB/T 39046-2020",
);
const DOCUMENT: Rule = Rule::quoted(
    "DOCUMENT",
    "a document has a number of 1 to 30 characters and the SHA-256 of the sealed document",
    "GB/T 39046-2020",
);
const CORRECTION: Rule = Rule::design(
    "CORRECTION",
    "a notice has at most 50 points, each with a text of 1 to 1000 characters",
    SERVICE,
);
const SPECIAL: Rule = Rule::quoted(
    "SPECIAL",
    "one of the law's procedures, with 1 to 250 working days",
    "行政许可法 art. 45",
);
const EXTENSION: Rule = Rule::quoted(
    "EXTENSION",
    "1 to 15 working days, and the name of who approved them",
    "行政许可法 art. 42",
);
const RESULT: Rule = Rule::quoted(
    "RESULT",
    "a result has a name and a number of 1 to 200 characters, and its last day as YYYY-MM-DD or none",
    "GB/T 39046-2020",
);
const DELIVERY: Rule = Rule::quoted(
    "DELIVERY",
    "delivery by courier has a 物流单号 of 1 to 50 characters",
    "GB/T 39046-2020",
);
pub(crate) const CURSOR: Rule = Rule::design(
    "CURSOR",
    "a cursor is empty, 0, or one that this service gave and has not moved past its last entry",
    SERVICE,
);
const PAGE_SIZE: Rule = Rule::design("PAGE_SIZE", "a page has 1 to 200 cases", SERVICE);
pub(crate) const STATE: Rule = Rule::design(
    "STATE",
    "the state or warning is none that this service knows",
    SERVICE,
);

/// A token that this service did not give, or that belongs to another search.
pub(crate) const PAGE_TOKEN: Rule = Rule::design(
    "PAGE_TOKEN",
    "a page token is empty, or the one that the answer before gave for the same search",
    SERVICE,
);
/// Request ids are one namespace per client: the id of another is neither seen nor blocked.
pub(crate) const REQUEST_ID_REUSED: Rule = Rule::design(
    "REQUEST_ID_REUSED",
    "this request id was used for another request: choose a new one",
    SERVICE,
);
/// One case for each number of the client's own system.
pub(crate) const LOCAL_NUMBER_REUSED: Rule = Rule::design(
    "LOCAL_NUMBER_REUSED",
    "this local number stands for another case: choose a new one",
    SERVICE,
);
/// The same answer whether the case does not exist or is none of the caller's.
pub(crate) const CASE_UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "CASE_UNKNOWN",
        "a city sees the cases in which it takes part, and no others",
        "个人信息保护法 art. 6",
    )
    .remedy("check the number, and ask the city that decides the case"),
);

pub(super) fn rules() -> RuleTable {
    const START: &[&str] = &["StartCase"];
    const ACT: &[&str] = &["ActOnCase"];
    const WRITES: &[&str] = &["StartCase", "ActOnCase", "RateCase", "ActOnRectification"];
    const SEARCH: &[&str] = &["SearchCases", "ListRatings", "SearchRectifications"];
    const WATCH: &[&str] = &["WatchCase", "WatchDepartment", "WatchRectifications"];
    RuleTable::new("Requests")
        .refusal(
            &CASE_UNKNOWN,
            &[
                "ActOnCase",
                "ReadCase",
                "WatchCase",
                "RateCase",
                "ListMaterials",
                "VerifyMaterial",
                "UploadMaterial",
                "FindMaterialUpload",
                "DownloadMaterial",
            ],
        )
        .fields([&REQUEST_ID, &REQUEST_ID_REUSED, &ROLE], WRITES)
        .fields(
            [
                &ITEM,
                &DIVISION,
                &TASKS,
                &PARENT,
                &CHANNEL,
                &CITY,
                &LOCAL_NUMBER,
                &LOCAL_NUMBER_REUSED,
            ],
            START,
        )
        .fields(
            [
                &ACTION,
                &DOCUMENT,
                &CORRECTION,
                &SPECIAL,
                &EXTENSION,
                &RESULT,
                &DELIVERY,
            ],
            ACT,
        )
        .field(
            &TEXT,
            &["ActOnCase", "SearchCases", "RateCase", "ListRatings"],
        )
        .fields([&STATE, &PAGE_SIZE, &PAGE_TOKEN], SEARCH)
        .field(&CURSOR, WATCH)
}

/// Most points of a correction notice.
const MAX_POINTS: usize = 50;
/// Cases on a page when nothing is said.
const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

/// A parsed [`StartCaseRequest`].
#[derive(Clone, Debug)]
pub struct StartCase {
    /// The idempotency key, within the client.
    pub request_id: Uuid,
    /// Item.
    pub item: ItemId,
    /// Deciding division.
    pub division: DivisionCode,
    /// Deciding city.
    pub deciding_city: CityCode,
    /// City where the applicant applies.
    pub receiving_city: CityCode,
    /// As what the client acts.
    pub role: ActorRole,
    /// Who applies.
    pub applicant: Applicant,
    /// 办理形式.
    pub channel: Channel,
    /// A draft.
    pub draft: bool,
    /// The joint case of which this is a task.
    pub parent: Option<Parent>,
    /// Tasks and their cities.
    pub tasks: Vec<(String, CityCode)>,
    /// Number in the client's own system; empty for none.
    pub local_number: String,
}

impl StartCase {
    /// Parses a request to a city on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse<'a>(
        request: &StartCaseRequest,
        city: CityCode,
        today: Date,
        item: impl FnOnce(&ItemId) -> Option<&'a Item>,
    ) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(&request.request_id));
        let id = faults.check("item_id", ItemId::parse(&request.item_id));
        let item = id.as_ref().and_then(item);
        if id.is_some() && item.is_none() {
            faults.add("item_id", &ITEM);
        }
        let division = faults.check("division", parse_division(&request.division, city));
        let receiving = match request.receiving_city.as_str() {
            "" => Ok(city),
            text => parse_city(text),
        };
        let receiving_city = faults.check("receiving_city", receiving);
        let role = faults.check("role", parse_role(request.role));
        let applicant = Applicant::parse(request.applicant.as_ref(), today, &mut faults);
        let channel = match Channel::try_from(request.channel) {
            Ok(Channel::Unspecified) | Err(_) => Err(Broken(&CHANNEL)),
            Ok(channel) => Ok(channel),
        };
        let channel = faults.check("channel", channel);
        let parent = item.and_then(|item| faults.check("parent", parse_parent(request, item)));
        let tasks = item.and_then(|item| faults.check("tasks", parse_tasks(request, item)));
        let local = &request.local_number;
        let visible = local.len() <= 50 && local.bytes().all(|byte| byte.is_ascii_graphic());
        let local_number = visible.then(|| local.clone()).ok_or(Broken(&LOCAL_NUMBER));
        let local_number = faults.check("local_number", local_number);
        let start = (|| {
            Some(Self {
                request_id: request_id?,
                item: id?,
                division: division?,
                deciding_city: city,
                receiving_city: receiving_city?,
                role: role?,
                applicant: applicant?,
                channel: channel?,
                draft: request.draft,
                parent: parent?,
                tasks: tasks?,
                local_number: local_number?,
            })
        })();
        start
            .filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}

pub(crate) fn parse_request_id(text: &str) -> Result<Uuid, Broken> {
    // Other forms of the same UUID would be other idempotency keys to whoever compares text.
    let id = Uuid::try_parse(text).ok();
    id.filter(|id| !id.is_nil() && text.len() == 36)
        .ok_or(Broken(&REQUEST_ID))
}

fn parse_city(text: &str) -> Result<CityCode, Broken> {
    let kind = DivisionCode::parse(text)?
        .division()
        .map(|division| division.kind);
    match kind {
        Some(DivisionKind::City | DivisionKind::GuestCity) => {
            text.parse().map_err(|_| Broken(&CITY))
        }
        _ => Err(Broken(&CITY)),
    }
}

fn parse_division(text: &str, city: CityCode) -> Result<DivisionCode, Broken> {
    let division = DivisionCode::parse_known(text)?;
    if division.route()? == city {
        Ok(division)
    } else {
        Err(Broken(&DIVISION))
    }
}

pub(crate) fn parse_role(number: i32) -> Result<ActorRole, Broken> {
    match ActorRole::try_from(number) {
        Ok(ActorRole::Unspecified | ActorRole::Service) | Err(_) => Err(Broken(&ROLE)),
        Ok(role) => Ok(role),
    }
}

fn parse_parent(request: &StartCaseRequest, item: &Item) -> Result<Option<Parent>, Broken> {
    let Some(parent) = &request.parent else {
        return Ok(None);
    };
    let known = item.tasks.iter().any(|task| task.id == parent.task);
    if !known || request.draft {
        return Err(Broken(&PARENT));
    }
    Ok(Some(Parent {
        number: CaseNumber::parse(&parent.number)?,
        task: parent.task.clone(),
    }))
}

fn parse_tasks(request: &StartCaseRequest, item: &Item) -> Result<Vec<(String, CityCode)>, Broken> {
    let wanted = if request.parent.is_some() {
        &[][..]
    } else {
        &item.tasks
    };
    if request.tasks.len() != wanted.len() {
        return Err(Broken(&TASKS));
    }
    let city_of = |id: &str| {
        let named = request.tasks.iter().find(|task| task.task == id);
        parse_city(&named.ok_or(Broken(&TASKS))?.city)
    };
    wanted
        .iter()
        .map(|task| Ok((task.id.clone(), city_of(&task.id)?)))
        .collect()
}

impl Act {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &ActOnCaseRequest) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(&request.request_id));
        let number = faults.check("number", CaseNumber::parse(&request.number));
        let action = match CaseAction::try_from(request.action) {
            Ok(CaseAction::Unspecified) | Err(_) => Err(Broken(&ACTION)),
            Ok(action) => Ok(action),
        };
        let action = faults.check("action", action);
        let role = faults.check("role", parse_role(request.role));
        let version = match request.version {
            0 => None,
            seen => Some(i64::try_from(seen).unwrap_or(i64::MAX)),
        };
        let detail = parse_detail(request, &mut faults);
        let act = (|| {
            Some(Self {
                request_id: request_id?,
                number: number?,
                action: action?,
                role: role?,
                version,
                detail: detail?,
            })
        })();
        act.filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}

fn parse_detail(request: &ActOnCaseRequest, faults: &mut Violations) -> Option<Detail> {
    let text = |text: &str| {
        if text.is_empty() {
            Ok(String::new())
        } else {
            plain(text, 1_000, &TEXT)
        }
    };
    let reason = faults.check("reason", text(&request.reason));
    let remedy = faults.check("remedy", text(&request.remedy));
    let document = request.document.as_ref().map(parse_document).transpose();
    let document = faults.check("document", document);
    let corrections = faults.check("corrections", parse_corrections(&request.corrections));
    let special = request.special.as_ref().map(parse_special).transpose();
    let special = faults.check("special", special);
    let extension = request.extension.as_ref().map(parse_extension).transpose();
    let extension = faults.check("extension", extension);
    let result = request.result.as_ref().map(parse_result).transpose();
    let result = faults.check("result", result);
    let delivery = request.delivery.as_ref().map(parse_delivery).transpose();
    let delivery = faults.check("delivery", delivery);
    Some(Detail {
        reason: reason?,
        remedy: remedy?,
        document: document?,
        corrections: corrections?,
        special: special?,
        extension: extension?,
        result: result?,
        delivery: delivery?,
        identity_checked: request.identity_checked,
    })
}

fn parse_document(document: &proto::Document) -> Result<Document, Broken> {
    if document.seal_digest.len() != 32 {
        return Err(Broken(&DOCUMENT));
    }
    Ok(Document {
        number: plain(&document.number, 30, &DOCUMENT)?,
        seal_digest: hex::encode(&document.seal_digest),
    })
}

fn parse_corrections(points: &[proto::CorrectionPoint]) -> Result<Vec<CorrectionPoint>, Broken> {
    if points.len() > MAX_POINTS {
        return Err(Broken(&CORRECTION));
    }
    let point = |point: &proto::CorrectionPoint| {
        let material = match point.material_id.as_str() {
            "" => String::new(),
            id => plain(id, 40, &CORRECTION)?,
        };
        let text = plain(&point.text, 1_000, &CORRECTION)?;
        Ok(CorrectionPoint { material, text })
    };
    points.iter().map(point).collect()
}

fn parse_special(terms: &proto::SpecialTerms) -> Result<(SpecialProcedure, u32), Broken> {
    match terms.procedure() {
        SpecialProcedure::Unspecified => Err(Broken(&SPECIAL)),
        procedure if (1..=250).contains(&terms.workdays) => Ok((procedure, terms.workdays)),
        _ => Err(Broken(&SPECIAL)),
    }
}

fn parse_extension(terms: &proto::ExtensionTerms) -> Result<Extension, Broken> {
    if !(1..=250).contains(&terms.workdays) {
        return Err(Broken(&EXTENSION));
    }
    Ok(Extension {
        workdays: terms.workdays,
        approver: plain(&terms.approver, 200, &EXTENSION)?,
    })
}

fn parse_result(result: &proto::CaseResult) -> Result<CaseResult, Broken> {
    let until = &result.valid_until;
    let day: Option<Date> = until.parse().ok();
    if !until.is_empty() && day.is_none_or(|day| day.to_string() != *until) {
        return Err(Broken(&RESULT));
    }
    Ok(CaseResult {
        name: plain(&result.name, 200, &RESULT)?,
        number: plain(&result.number, 200, &RESULT)?,
        valid_until: until.clone(),
    })
}

fn parse_delivery(delivery: &proto::Delivery) -> Result<Delivery, Broken> {
    let tracking = match (delivery.courier, delivery.tracking_number.as_str()) {
        (false, "") => String::new(),
        (_, number) => plain(number, 50, &DELIVERY)?,
    };
    Ok(Delivery {
        courier: delivery.courier,
        tracking,
    })
}

/// A parsed [`SearchCasesRequest`].
#[derive(Clone, Debug)]
pub struct CaseFilter {
    /// Number.
    pub number: Option<CaseNumber>,
    /// Applicant.
    pub applicant: Option<ApplicantId>,
    /// Item.
    pub item: Option<ItemId>,
    /// State.
    pub state: Option<CaseState>,
    /// Department.
    pub department: Option<String>,
    /// Its nearest limit runs out before this time, in microseconds since 1970-01-01 UTC.
    pub due_before: Option<i64>,
    /// Least warning.
    pub warning: Option<Warning>,
    /// City that must take part; none for the deciding city itself.
    pub city: Option<CityCode>,
    /// Cases on the page.
    pub page_size: u32,
    /// Where the page before ended: time of the limit where the order is by limits, and number.
    pub after: Option<(i64, CaseNumber)>,
}

impl CaseFilter {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &SearchCasesRequest, today: Date) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let number = given(&request.number).map(CaseNumber::parse).transpose();
        let number = faults.check("number", number);
        let applicant = request.applicant.as_ref();
        let applicant = applicant.and_then(|given| ApplicantId::parse(given, today, &mut faults));
        let item = given(&request.item_id).map(ItemId::parse).transpose();
        let item = faults.check("item_id", item);
        let state = CaseState::try_from(request.state).map_err(|_| Broken(&STATE));
        let state = faults.check("state", state);
        let warning = Warning::try_from(request.warning).map_err(|_| Broken(&STATE));
        let warning = faults.check("warning", warning);
        let department = given(&request.department).map(|text| plain(text, 200, &TEXT));
        let department = faults.check("department", department.transpose());
        let page_size = faults.check("page_size", page_size(request.page_size));
        let after = given(&request.page_token).map(parse_token).transpose();
        let after = faults.check("page_token", after);
        let due_before = request.due_before.map(|time| {
            let micros = i64::from(time.nanos) / 1_000;
            time.seconds
                .saturating_mul(1_000_000)
                .saturating_add(micros)
        });
        let filter = (|| {
            Some(Self {
                number: number?,
                applicant,
                item: item?,
                state: state?.ne(&CaseState::Unspecified).then_some(state?),
                department: department?,
                due_before,
                warning: warning?.ne(&Warning::Unspecified).then_some(warning?),
                city: None,
                page_size: page_size?,
                after: after?,
            })
        })();
        filter
            .filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }

    /// The token of the page after one that ended so.
    pub(crate) fn token(last_due: i64, last: CaseNumber) -> String {
        format!("{last_due}-{last}")
    }
}

/// The size of a page; 0 stands for the usual one.
pub(crate) const fn page_size(asked: u32) -> Result<u32, Broken> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        size if size <= MAX_PAGE => Ok(size),
        _ => Err(Broken(&PAGE_SIZE)),
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn parse_token(token: &str) -> Result<(i64, CaseNumber), Broken> {
    let (due, number) = token.split_once('-').ok_or(Broken(&PAGE_TOKEN))?;
    let due = due.parse().map_err(|_| Broken(&PAGE_TOKEN))?;
    let number = CaseNumber::parse(number).map_err(|_| Broken(&PAGE_TOKEN))?;
    Ok((due, number))
}

/// Parses the cursor of a watch.
///
/// # Errors
/// It was not given by this service.
pub fn parse_cursor(cursor: &str) -> Result<FollowFrom, Vec<Violation>> {
    if cursor.is_empty() {
        return Ok(FollowFrom::Now);
    }
    let canonical = cursor.bytes().all(|byte| byte.is_ascii_digit())
        && (cursor == "0" || !cursor.starts_with('0'));
    match cursor.parse() {
        Ok(after) if canonical => Ok(FollowFrom::After(after)),
        _ => Err(vec![Violation {
            field: "cursor".into(),
            rule: &CURSOR,
        }]),
    }
}
