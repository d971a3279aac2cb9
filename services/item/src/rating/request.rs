//! Requests, parsed field by field.

use std::fmt;

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Refusal, Rule, RuleTable, Violation, Violations};
use banqiao_proto::item::v1::{
    ActOnRectificationRequest, ActorRole, ListRatingsRequest, RateCaseRequest, RatingChannel,
    RectificationAction, RectificationState, Satisfaction, SearchRectificationsRequest, Warning,
};
use jiff::civil::Date;
use uuid::Uuid;

use super::RatingId;
use crate::case::{
    ApplicantId, CaseNumber, PAGE_TOKEN, STATE, TEXT, page_size, parse_request_id, parse_role,
    plain,
};

const SERVICE: &str = "item service";
const ONE_FIVE_ONE: &str = "国办发〔2019〕51号";
const ID: Rule = Rule::design(
    "RATING_ID",
    "the id of a rating is the one that the answer to RateCase gave",
    SERVICE,
);
const SATISFACTION: Rule = Rule::quoted(
    "SATISFACTION",
    "满意度 is one of the five of the standard",
    "GB/T 39046-2020; 国办发〔2019〕51号",
);
const CHANNEL: Rule = Rule::quoted(
    "RATING_CHANNEL",
    "评价渠道 is window, web, mobile, self-service or hotline",
    ONE_FIVE_ONE,
);
const ACTION: Rule = Rule::design(
    "RECTIFICATION_ACTION",
    "the action is none that a client can ask for",
    SERVICE,
);
const TEXT_REQUIRED: Rule = Rule::design(
    "RECTIFICATION_TEXT",
    "each step of a rectification says in 1 to 1000 characters what was done, found or asked",
    ONE_FIVE_ONE,
);
/// One for each contact and one for the whole, for good.
pub(crate) const RATED_ALREADY: Refusal = Refusal::conflict(
    Rule::quoted(
        "RATED_ALREADY",
        "a contact is rated once (一次一评), a case once (一事一评), and a rating is not changed",
        ONE_FIVE_ONE,
    )
    .remedy("leave the rating as it is"),
);
pub(crate) const NOT_RATED_YET: Refusal = Refusal::conflict(
    Rule::design(
        "CASE_NOT_OVER",
        "a whole case is rated when it was delivered or has ended (办结后评价)",
        ONE_FIVE_ONE,
    )
    .remedy("rate the contact now, and the case when it is over"),
);
pub(crate) const CONTACT_UNKNOWN: Refusal = Refusal::conflict(
    Rule::design(
        "CONTACT_UNKNOWN",
        "a contact is a step of the history by which a window or department met the applicant",
        ONE_FIVE_ONE,
    )
    .remedy("name the version of such a step, or 0 for the whole case"),
);
/// The same answer whether the rating does not exist or is none of the caller's.
pub(crate) const RATING_UNKNOWN: Refusal = Refusal::not_found(
    Rule::design(
        "RATING_UNKNOWN",
        "a city sees the ratings of its own offices, and the deciding city's supervising office sees all",
        "个人信息保护法 art. 6",
    )
    .remedy("check the id"),
);
const WHO_RATES: Rule = Rule::design(
    "APPLICANT_RATES",
    "the applicant of the case rates it, and nobody else: others are told that there is no such case",
    ONE_FIVE_ONE,
);
const ANONYMOUS: Rule = Rule::memory(
    "RATER_HIDDEN",
    "whoever is rated is shown neither applicant nor case nor time of day, and the words with names and long numbers masked",
    "国办发〔2019〕51号; 个人信息保护法 art. 6",
);

pub(super) fn rules() -> RuleTable {
    const RATE: &[&str] = &["RateCase"];
    const ACT: &[&str] = &["ActOnRectification"];
    RuleTable::new("好差评")
        .refusal(&RATED_ALREADY, RATE)
        .refusal(&NOT_RATED_YET, RATE)
        .refusal(&CONTACT_UNKNOWN, RATE)
        .refusal(&RATING_UNKNOWN, &["ReadRating", "ActOnRectification"])
        .answer(&WHO_RATES, RATE)
        .answer(
            &ANONYMOUS,
            &["ListRatings", "SearchRectifications", "WatchRectifications"],
        )
        .fields([&SATISFACTION, &CHANNEL], RATE)
        .field(&ID, &["ReadRating", "ActOnRectification"])
        .fields([&ACTION, &TEXT_REQUIRED], ACT)
}

/// A parsed [`RateCaseRequest`]. `Debug` shows neither case nor words.
#[derive(Clone, PartialEq, Eq)]
pub struct RateCase {
    /// The idempotency key, within the client.
    pub request_id: Uuid,
    /// The case.
    pub number: CaseNumber,
    /// Version of the rated entry; 0 for the whole case.
    pub contact: i64,
    /// As what the client acts.
    pub role: ActorRole,
    /// Who says that it is the applicant.
    pub applicant: ApplicantId,
    /// 满意度.
    pub satisfaction: Satisfaction,
    /// 评价渠道.
    pub channel: RatingChannel,
    /// 实名.
    pub real_name: bool,
    /// The applicant's words; empty for none.
    pub comment: String,
}

impl fmt::Debug for RateCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateCase").field(&self.satisfaction).finish()
    }
}

impl RateCase {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &RateCaseRequest, today: Date) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(&request.request_id));
        let number = faults.check("number", CaseNumber::parse(&request.number));
        let role = faults.check("role", parse_role(request.role));
        let given = request.applicant.clone().unwrap_or_default();
        let applicant = ApplicantId::parse(&given, today, &mut faults);
        let satisfaction = match Satisfaction::try_from(request.satisfaction) {
            Ok(Satisfaction::Unspecified) | Err(_) => Err(Broken(&SATISFACTION)),
            Ok(satisfaction) => Ok(satisfaction),
        };
        let satisfaction = faults.check("satisfaction", satisfaction);
        let channel = match RatingChannel::try_from(request.channel) {
            Ok(RatingChannel::Unspecified) | Err(_) => Err(Broken(&CHANNEL)),
            Ok(channel) => Ok(channel),
        };
        let channel = faults.check("channel", channel);
        let comment = match request.comment.as_str() {
            "" => Ok(String::new()),
            words => plain(words, 1_000, &TEXT),
        };
        let comment = faults.check("comment", comment);
        let rate = (|| {
            Some(Self {
                request_id: request_id?,
                number: number?,
                contact: i64::try_from(request.contact).unwrap_or(i64::MAX),
                role: role?,
                applicant: applicant?,
                satisfaction: satisfaction?,
                channel: channel?,
                real_name: request.real_name,
                comment: comment?,
            })
        })();
        rate.filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}

pub(super) fn parse_id(text: &str) -> Result<Uuid, Broken> {
    parse_request_id(text).map_err(|_| Broken(&ID))
}

/// A parsed [`ActOnRectificationRequest`]. `Debug` shows no words.
#[derive(Clone, PartialEq, Eq)]
pub struct ActOnRectification {
    /// The idempotency key, within the client.
    pub request_id: Uuid,
    /// The rating.
    pub id: RatingId,
    /// What is done.
    pub action: RectificationAction,
    /// As what.
    pub role: ActorRole,
    /// What was done, found or asked.
    pub text: String,
    /// Version that the client saw.
    pub version: Option<i64>,
}

impl fmt::Debug for ActOnRectification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.id, self.action, self.role);
        f.debug_tuple("ActOnRectification").field(&shown).finish()
    }
}

impl ActOnRectification {
    /// Parses a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &ActOnRectificationRequest) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(&request.request_id));
        let id = faults.check("id", request.id.parse());
        let action = match RectificationAction::try_from(request.action) {
            Ok(RectificationAction::Unspecified) | Err(_) => Err(Broken(&ACTION)),
            Ok(action) => Ok(action),
        };
        let action = faults.check("action", action);
        let role = faults.check("role", parse_role(request.role));
        let text = faults.check("text", plain(&request.text, 1_000, &TEXT_REQUIRED));
        let version = match request.version {
            0 => None,
            seen => Some(i64::try_from(seen).unwrap_or(i64::MAX)),
        };
        let act = (|| {
            Some(Self {
                request_id: request_id?,
                id: id?,
                action: action?,
                role: role?,
                text: text?,
                version,
            })
        })();
        act.filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}

/// A token is the place of the last rating on the page before.
fn parse_token(token: &str) -> Result<Option<i64>, Broken> {
    match token {
        "" => Ok(None),
        token => token.parse().map(Some).map_err(|_| Broken(&PAGE_TOKEN)),
    }
}

/// A parsed [`ListRatingsRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatingFilter {
    /// As what the client acts.
    pub role: ActorRole,
    /// Rated city; none for every one.
    pub city: Option<CityCode>,
    /// Department; none for every one.
    pub department: Option<String>,
    /// Least dissatisfied level that is shown.
    pub from_level: i32,
    /// Ratings on the page.
    pub page_size: u32,
    /// Where the page before ended.
    pub before: Option<i64>,
}

impl RatingFilter {
    /// Parses a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &ListRatingsRequest) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let role = faults.check("role", parse_role(request.role));
        let department = match request.department.as_str() {
            "" => Ok(None),
            "-" => Ok(Some(super::WINDOW.to_owned())),
            name => plain(name, 200, &TEXT).map(Some),
        };
        let department = faults.check("department", department);
        let page = faults.check("page_size", page_size(request.page_size));
        let before = faults.check("page_token", parse_token(&request.page_token));
        let filter = (|| {
            Some(Self {
                role: role?,
                city: None,
                department: department?,
                from_level: if request.bad_only {
                    Satisfaction::Dissatisfied.into()
                } else {
                    Satisfaction::VerySatisfied.into()
                },
                page_size: page?,
                before: before?,
            })
        })();
        filter
            .filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}

/// A parsed [`SearchRectificationsRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RectificationFilter {
    /// As what the client acts.
    pub role: ActorRole,
    /// Rated city; none for every one.
    pub city: Option<CityCode>,
    /// State.
    pub state: Option<RectificationState>,
    /// Least warning.
    pub warning: i32,
    /// Rectifications on the page.
    pub page_size: u32,
    /// Where the page before ended.
    pub before: Option<i64>,
}

impl RectificationFilter {
    /// Parses a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &SearchRectificationsRequest) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let role = faults.check("role", parse_role(request.role));
        let state = RectificationState::try_from(request.state).map_err(|_| Broken(&STATE));
        let state = faults.check("state", state);
        let warning = Warning::try_from(request.warning).map_err(|_| Broken(&STATE));
        let warning = faults.check("warning", warning);
        let page = faults.check("page_size", page_size(request.page_size));
        let before = faults.check("page_token", parse_token(&request.page_token));
        let filter = (|| {
            Some(Self {
                role: role?,
                city: None,
                state: state?
                    .ne(&RectificationState::Unspecified)
                    .then_some(state?),
                warning: warning?.into(),
                page_size: page?,
                before: before?,
            })
        })();
        filter
            .filter(|_| faults.is_empty())
            .ok_or_else(|| faults.into_vec())
    }
}
