//! Who applies.

use std::fmt;

use banqiao_kit::{
    Broken, Rule, RuleTable, Violations,
    identifier::{CitizenId, CreditCode},
};
use banqiao_proto::item::v1::{self as proto, ApplicantIdKind};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

const REQUIRED: Rule = Rule::design(
    "APPLICANT",
    "an applicant is named by a 公民身份号码 or a 统一社会信用代码 of the kind that id_kind says, and by nothing else",
    "GB/T 39046-2020",
);
const NAME: Rule = Rule::design(
    "APPLICANT_NAME",
    "a name has 1 to 200 characters and no control character",
    "GB/T 39046-2020",
);
const PHONE: Rule = Rule::design(
    "PHONE",
    "a telephone number has 5 to 20 of 0-9, +, - and space",
    "item service",
);

pub(super) fn rules() -> RuleTable {
    RuleTable::new("Applicants")
        .field(&REQUIRED, &["StartCase", "SearchCases", "RateCase"])
        .fields([&NAME, &PHONE], &["StartCase"])
}

/// The number that identifies an applicant.
#[derive(Clone, PartialEq, Eq)]
pub enum ApplicantId {
    /// A person.
    Citizen(CitizenId),
    /// An organisation.
    Organisation(CreditCode),
}

impl ApplicantId {
    /// The number as text. It is personal information.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Citizen(id) => id.as_str(),
            Self::Organisation(code) => code.as_str(),
        }
    }

    pub(super) const fn kind(&self) -> ApplicantIdKind {
        match self {
            Self::Citizen(_) => ApplicantIdKind::Citizen,
            Self::Organisation(_) => ApplicantIdKind::Organisation,
        }
    }

    /// Parses the number of an applicant on a day; none when no number is given.
    pub(crate) fn parse(
        given: &proto::Applicant,
        today: Date,
        faults: &mut Violations,
    ) -> Option<Self> {
        match (
            given.id_kind(),
            given.citizen_id.as_str(),
            given.organisation_code.as_str(),
        ) {
            (ApplicantIdKind::Citizen, id, "") => {
                let id = faults.check("applicant.citizen_id", CitizenId::parse(id, today));
                id.map(Self::Citizen)
            }
            (ApplicantIdKind::Organisation, "", code) => {
                let code = faults.check("applicant.organisation_code", CreditCode::parse(code));
                code.map(Self::Organisation)
            }
            _ => {
                faults.add("applicant", &REQUIRED);
                None
            }
        }
    }
}

/// Who applies. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Applicant {
    /// The number.
    pub id: ApplicantId,
    name: String,
    phone: String,
}

impl Applicant {
    pub(super) fn parse(
        given: Option<&proto::Applicant>,
        today: Date,
        faults: &mut Violations,
    ) -> Option<Self> {
        let Some(given) = given else {
            faults.add("applicant", &REQUIRED);
            return None;
        };
        let id = ApplicantId::parse(given, today, faults);
        let name = faults.check("applicant.name", plain(&given.name, 200, &NAME));
        let digits = |byte: u8| byte.is_ascii_digit() || b"+- ".contains(&byte);
        let phone = given.phone.is_empty()
            || (5..=20).contains(&given.phone.len()) && given.phone.bytes().all(digits);
        let phone = phone.then(|| given.phone.clone()).ok_or(Broken(&PHONE));
        let phone = faults.check("applicant.phone", phone);
        Some(Self {
            id: id?,
            name: name?,
            phone: phone?,
        })
    }

    /// The applicant in an answer.
    pub fn shown(&self) -> proto::Applicant {
        let (citizen_id, organisation_code) = match &self.id {
            ApplicantId::Citizen(id) => (id.as_str().to_owned(), String::new()),
            ApplicantId::Organisation(code) => (String::new(), code.to_string()),
        };
        proto::Applicant {
            id_kind: self.id.kind().into(),
            citizen_id,
            organisation_code,
            name: self.name.clone(),
            phone: self.phone.clone(),
        }
    }
}

/// Text of a person's making, within a length in characters.
pub(crate) fn plain(text: &str, most: usize, rule: &'static Rule) -> Result<String, Broken> {
    let text = text.trim();
    let fits =
        !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or(Broken(rule))
}

#[derive(Serialize, Deserialize)]
struct Stored {
    kind: i32,
    id: String,
    name: String,
    phone: String,
}

impl From<Applicant> for Stored {
    fn from(applicant: Applicant) -> Self {
        Self {
            kind: applicant.id.kind().into(),
            id: applicant.id.as_str().to_owned(),
            name: applicant.name,
            phone: applicant.phone,
        }
    }
}

impl TryFrom<Stored> for Applicant {
    type Error = Broken;

    fn try_from(stored: Stored) -> Result<Self, Broken> {
        let id = if stored.kind == i32::from(ApplicantIdKind::Citizen) {
            // It was checked when it came in; what was in the past then is so now.
            ApplicantId::Citizen(CitizenId::parse(&stored.id, Date::MAX)?)
        } else {
            ApplicantId::Organisation(CreditCode::parse(&stored.id)?)
        };
        Ok(Self {
            id,
            name: stored.name,
            phone: stored.phone,
        })
    }
}

impl fmt::Debug for ApplicantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(redacted)", self.kind().as_str_name())
    }
}

impl fmt::Debug for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applicant")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
