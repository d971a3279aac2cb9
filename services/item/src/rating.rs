//! 好差评: a rating, and the rectification that a bad one begins, with its table of transitions. Pure: no store, no clock.
//!
//! Whoever is rated never learns who rated. So a rating has an id of its own that says nothing of case and time, and what
//! offices are shown is made of [`Rating`]'s anonymous part alone.

mod request;
mod shown;
mod task;

use std::{fmt, str::FromStr};

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, RuleTable};
use banqiao_proto::item::v1::{
    ActorRole, CaseAction, CaseState, HandlingMode, RatingChannel, Satisfaction,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use request::{ActOnRectification, RateCase, RatingFilter, RectificationFilter};
pub(crate) use request::{CONTACT_UNKNOWN, NOT_RATED_YET, RATED_ALREADY, RATING_UNKNOWN};
pub use task::{
    NewRectificationStep, RECTIFICATION_DAYS, Rectification, RectificationError, RectificationStep,
    settle_rectification,
};

use crate::{
    case::{Case, Client, Event, wire},
    catalogue::ItemId,
};

/// The rules of ratings.
pub(crate) fn rules() -> [RuleTable; 2] {
    [request::rules(), task::rules()]
}

/// Id of a rating: 122 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RatingId(Uuid);

impl RatingId {
    /// An id from random bytes.
    pub fn random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Debug for RatingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for RatingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RatingId {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Self, Broken> {
        request::parse_id(text).map(Self)
    }
}

impl TryFrom<String> for RatingId {
    type Error = Broken;

    fn try_from(text: String) -> Result<Self, Broken> {
        text.parse()
    }
}

impl From<RatingId> for String {
    fn from(id: RatingId) -> Self {
        id.to_string()
    }
}

/// Whom a rating is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rated {
    /// City.
    #[serde(with = "wire::text")]
    pub city: CityCode,
    /// Department; [`WINDOW`] for a receiving window.
    pub department: String,
    /// Item.
    pub item: ItemId,
    /// Handling mode.
    #[serde(with = "wire")]
    pub mode: HandlingMode,
    /// The step; UNSPECIFIED for the whole case.
    #[serde(with = "wire")]
    pub stage: CaseAction,
}

/// Stands for a receiving window, which has no department of the case.
pub const WINDOW: &str = "";

/// A rating. `Debug` shows neither case nor words.
#[derive(Clone, PartialEq, Eq)]
pub struct Rating {
    /// Its id.
    pub id: RatingId,
    /// What the applicant asked for.
    pub given: RateCase,
    /// Whom it is about.
    pub rated: Rated,
    /// The applicant's words as the rated office sees them.
    pub masked: String,
    /// Client system that sent it.
    pub client: Client,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl fmt::Debug for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rating").field(&self.id).finish()
    }
}

/// A rating as it is read: the anonymous part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRating {
    /// Its place in the order of all ratings.
    pub seq: i64,
    /// Its id.
    pub id: RatingId,
    /// Whom it is about.
    pub rated: Rated,
    /// 满意度.
    pub satisfaction: Satisfaction,
    /// 评价渠道.
    pub channel: RatingChannel,
    /// The applicant's words, masked.
    pub masked: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Its rectification.
    pub rectification: Option<Rectification>,
}

/// Who gave a rating under the own name, for the supervising office. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredRater {
    /// The case.
    pub number: crate::case::CaseNumber,
    /// The applicant's own words.
    pub comment: String,
}

impl fmt::Debug for StoredRater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredRater(redacted)")
    }
}

/// 差评 (GB/T 39046-2020: the last two of five).
pub const fn is_bad(satisfaction: Satisfaction) -> bool {
    matches!(
        satisfaction,
        Satisfaction::Dissatisfied | Satisfaction::VeryDissatisfied
    )
}

/// Steps by which an office meets the applicant. Whoever did them through a portal was the applicant alone.
const CONTACTS: [CaseAction; 10] = [
    CaseAction::Receive,
    CaseAction::NotifyCorrection,
    CaseAction::Supplement,
    CaseAction::Accept,
    CaseAction::RefuseAcceptance,
    CaseAction::BeginSpecial,
    CaseAction::Extend,
    CaseAction::Grant,
    CaseAction::Refuse,
    CaseAction::Deliver,
];

/// Whom a rating of a contact is about: the city and office that did the step (D). None where it is no contact.
pub fn rated_by_contact(case: &Case, event: &Event) -> Option<Rated> {
    let department = match event.role {
        ActorRole::Department => case.department.clone(),
        ActorRole::Window => WINDOW.to_owned(),
        _ => return None,
    };
    (CONTACTS.contains(&event.action) && !case.is_task()).then(|| Rated {
        city: event.city,
        department,
        item: case.item.clone(),
        mode: case.mode,
        stage: event.action,
    })
}

/// Whom a rating of a whole case is about: the deciding city (D). None while the case goes on, and for a task, of which the
/// applicant knows nothing.
pub fn rated_by_case(case: &Case) -> Option<Rated> {
    let ended = case.is_over() || case.state == CaseState::Delivered;
    (ended && case.times.submitted.is_some() && !case.is_task()).then(|| Rated {
        city: case.deciding_city,
        department: case.department.clone(),
        item: case.item.clone(),
        mode: case.mode,
        stage: CaseAction::Unspecified,
    })
}

/// Digits in a row from which on they are masked: shorter ones are dates, sums and numbers of windows.
const LONG: usize = 6;

/// An applicant's words without the names and numbers in them (D): each of `known`, and every run of six or more letters
/// and digits that has at least four digits, such as numbers of people, telephones and cases.
pub fn mask(comment: &str, known: &[&str]) -> String {
    let mut text = comment.to_owned();
    for word in known.iter().filter(|word| !word.is_empty()) {
        text = text.replace(word, "＊＊＊");
    }
    let mut masked = String::with_capacity(text.len());
    let mut run = String::new();
    let flush = |run: &mut String, masked: &mut String| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        if digits >= 4 && run.len() >= LONG {
            masked.push_str("＊＊＊");
        } else {
            masked.push_str(run);
        }
        run.clear();
    };
    for character in text.chars() {
        // Within a number people write separators, too.
        let within = character.is_ascii_alphanumeric() || (!run.is_empty() && character == '-');
        if within {
            run.push(character);
        } else {
            flush(&mut run, &mut masked);
            masked.push(character);
        }
    }
    flush(&mut run, &mut masked);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_masked_and_the_rest_is_kept() {
        let comment =
            "我是测试子安, 身份证370602198506150002, 电话 0532-12345678, 3号窗口等了45分钟, 2026年";
        assert_eq!(
            mask(comment, &["测试子安", ""]),
            "我是＊＊＊, 身份证＊＊＊, 电话 ＊＊＊, 3号窗口等了45分钟, 2026年"
        );
    }

    #[test]
    fn the_last_two_of_five_are_bad() {
        let levels = (1..=5).map(|level| Satisfaction::try_from(level).unwrap());
        let bad: Vec<_> = levels.map(is_bad).collect();
        assert_eq!(bad, [false, false, false, true, true]);
    }

    #[test]
    fn an_id_says_nothing_of_its_time() {
        let id = RatingId::random([0xA5; 16]);
        assert_eq!(id.0.get_version_num(), 4);
        assert_eq!(id.to_string().parse::<RatingId>().unwrap(), id);
    }
}
