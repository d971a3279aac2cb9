//! 办件: what is recorded of a case, the table of its transitions, its clocks, and the pure decision about each step.

mod act;
mod applicant;
mod clock;
mod effect;
mod event;
mod number;
mod request;
mod shown;
mod transition;
pub(crate) mod wire;

use banqiao_directory::CityCode;
use banqiao_kit::identifier::DivisionCode;
use banqiao_proto::item::v1::{
    CaseState, Channel, Decision, HandlingMode, LimitKind, SpecialProcedure, Warning,
};
use serde::{Deserialize, Serialize};

pub(crate) use act::by_itself;
pub use act::{Act, ActError, Detail, begin, settle, step};
pub(crate) use applicant::plain;
pub use applicant::{Applicant, ApplicantId};
pub use clock::{Due, Timer};
pub use event::{Actor, Client, Event, EventDetail, NewEvent};
pub use number::{CaseNumber, Serial};
pub(crate) use request::{
    CASE_UNKNOWN, CURSOR, LOCAL_NUMBER_REUSED, PAGE_TOKEN, REQUEST_ID_REUSED, STATE, TEXT,
    page_size, parse_request_id, parse_role,
};
pub use request::{CaseFilter, StartCase, parse_cursor};
pub(crate) use shown::{limit, timestamp};
pub use transition::{Need, Only, Place, TRANSITIONS, Transition, transition};

use banqiao_kit::RuleTable;

use crate::catalogue::ItemId;

/// The rules of cases.
pub(crate) fn rules() -> impl Iterator<Item = RuleTable> {
    [
        act::rules(),
        request::rules(),
        number::rules(),
        applicant::rules(),
    ]
    .into_iter()
}

/// 文书: a document with its seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// 文书编号.
    pub number: String,
    /// SHA-256 of the sealed document, in hexadecimal.
    pub seal_digest: String,
}

/// A point of a correction notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectionPoint {
    /// Material that it is about; empty for none.
    pub material: String,
    /// What has to be put right.
    pub text: String,
}

/// An extension that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Working days.
    pub workdays: u32,
    /// Who approved it.
    pub approver: String,
}

/// An interval in which the clock is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialInterval {
    /// Which procedure.
    #[serde(with = "wire")]
    pub procedure: SpecialProcedure,
    /// Working days that were announced.
    pub workdays: u32,
    /// When it began.
    pub began_at: i64,
    /// When it ended; none while it goes on.
    pub ended_at: Option<i64>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseResult {
    /// 结果证照名称.
    pub name: String,
    /// 结果证照编号.
    pub number: String,
    /// Last day of validity; empty for none.
    pub valid_until: String,
}

/// How a result reached the applicant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// By courier.
    pub courier: bool,
    /// 物流单号.
    pub tracking: String,
}

/// A task of a joint case, as its case elsewhere was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseTask {
    /// Id in the catalogue.
    pub task: String,
    /// City that does it.
    #[serde(with = "wire::text")]
    pub city: CityCode,
    /// The other city was asked to open it, which is written down before the call: the answer may be lost.
    #[serde(default)]
    pub asked: bool,
    /// Number of its case; none until it was opened.
    pub number: Option<CaseNumber>,
    /// State of its case; UNSPECIFIED until it was opened.
    #[serde(with = "wire")]
    pub state: CaseState,
    /// Decision on it.
    #[serde(with = "wire")]
    pub decision: Decision,
    /// Exchange by which it was opened; empty when it stayed within the city.
    pub exchange: String,
    /// It was undone.
    pub compensated: bool,
}

impl CaseTask {
    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        self.compensated || matches!(self.state, CaseState::Concluded | CaseState::Terminated)
    }

    /// Whether it was done as it was asked.
    pub fn is_done(&self) -> bool {
        self.state == CaseState::Concluded && self.decision == Decision::Granted
    }
}

/// The joint case of which a case is a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number.
    pub number: CaseNumber,
    /// Id of the task in the catalogue.
    pub task: String,
}

/// When each stage was reached, in microseconds since 1970-01-01 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// 申请.
    pub submitted: Option<i64>,
    /// 收件, the first.
    pub first_received: Option<i64>,
    /// 收件, the last: after a correction it is another receipt.
    pub received: Option<i64>,
    /// 移交 to the deciding city.
    pub handed_over: Option<i64>,
    /// 受理.
    pub accepted: Option<i64>,
    /// 决定.
    pub decided: Option<i64>,
    /// 办结.
    pub concluded: Option<i64>,
    /// 送达.
    pub delivered: Option<i64>,
}

/// The limits by which a case is handled, from the version of the item that was in force when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// 法定, in working days.
    pub legal: Option<u32>,
    /// 承诺, in working days.
    pub promised: Option<u32>,
    /// 即办件: may be decided without a review.
    pub immediate: bool,
    /// A grant has a result with a number.
    pub has_result: bool,
}

/// A case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// 办件编号.
    pub number: CaseNumber,
    /// Grows by one with each entry of the history.
    pub version: i64,
    /// Item.
    pub item: ItemId,
    /// Version of the item.
    pub item_version: u32,
    /// Name of the item.
    pub item_name: String,
    /// Handling mode.
    #[serde(with = "wire")]
    pub mode: HandlingMode,
    /// Deciding division.
    #[serde(with = "wire::division")]
    pub division: DivisionCode,
    /// Deciding city.
    #[serde(with = "wire::text")]
    pub deciding_city: CityCode,
    /// City where the applicant applied.
    #[serde(with = "wire::text")]
    pub receiving_city: CityCode,
    /// Department that decides.
    pub department: String,
    /// Who applies.
    pub applicant: Applicant,
    /// 办理形式.
    #[serde(with = "wire")]
    pub channel: Channel,
    /// Number in the client's own system; empty for none.
    pub local_number: String,
    /// State.
    #[serde(with = "wire")]
    pub state: CaseState,
    /// Decision.
    #[serde(with = "wire")]
    pub decision: Decision,
    /// When each stage was reached.
    pub times: Times,
    /// Limits by which it is handled.
    pub terms: Terms,
    /// Limits that run now.
    pub timers: Vec<Timer>,
    /// Highest warning of the present stage.
    #[serde(with = "wire")]
    pub warning: Warning,
    /// It counts as accepted because nobody told what is missing in time.
    pub deemed_accepted: bool,
    /// Extension.
    pub extension: Option<Extension>,
    /// Special procedures.
    pub special: Vec<SpecialInterval>,
    /// What the last correction notice asked for.
    pub corrections: Vec<CorrectionPoint>,
    /// Correction notices so far.
    pub notices: u32,
    /// Whether the decision came within its limits; none before the decision.
    pub on_time: Option<bool>,
    /// Working days that the decision took; none before it, and where the calendar of a year is missing.
    pub handling_workdays: Option<i64>,
    /// Tasks of other cities.
    pub tasks: Vec<CaseTask>,
    /// The joint case of which this is a task.
    pub parent: Option<Parent>,
    /// Result.
    pub result: Option<CaseResult>,
    /// Delivery.
    pub delivery: Option<Delivery>,
}

impl Case {
    /// Whether nothing more happens to it.
    pub const fn is_over(&self) -> bool {
        matches!(
            self.state,
            CaseState::NotAccepted
                | CaseState::Evaluated
                | CaseState::Withdrawn
                | CaseState::Terminated
        )
    }

    /// Whether it is a task of a joint case.
    pub const fn is_task(&self) -> bool {
        self.parent.is_some()
    }

    /// When the nearest of its limits runs out.
    pub fn due_us(&self) -> Option<i64> {
        let due = self.timers.iter().filter_map(|timer| timer.due.at());
        due.min()
    }

    /// When its clock does something next: a warning, or the acceptance by silence.
    pub fn wake_us(&self) -> Option<i64> {
        self.timers.iter().filter_map(Timer::wake_us).min()
    }

    /// A year whose calendar is missing.
    pub fn missing_year(&self) -> Option<i16> {
        self.timers.iter().find_map(|timer| timer.due.missing())
    }

    /// Whether the joint case cannot be granted any more, so that what its tasks did has to be undone.
    pub fn is_lost(&self) -> bool {
        let refused = self.decision == Decision::Refused;
        refused || matches!(self.state, CaseState::Withdrawn | CaseState::Terminated)
    }

    /// Whether a task was refused or ended otherwise than it was asked.
    pub fn has_failed_task(&self) -> bool {
        self.tasks
            .iter()
            .any(|task| task.number.is_some() && task.is_over() && !task.is_done())
    }

    /// Whether the service has something to do for its tasks: open them, look at them, or undo them.
    pub fn needs_coordination(&self) -> bool {
        if self.tasks.is_empty() {
            return false;
        }
        let undone = || {
            self.tasks
                .iter()
                .any(|task| task.asked && !task.compensated && task.state != CaseState::Terminated)
        };
        match self.state {
            _ if self.is_lost() => undone(),
            CaseState::UnderReview | CaseState::SpecialProcedure if self.has_failed_task() => {
                undone()
            }
            CaseState::UnderReview | CaseState::SpecialProcedure => {
                self.tasks.iter().any(|task| !task.is_over())
            }
            _ => false,
        }
    }

    fn timer(&self, kind: LimitKind) -> Option<&Timer> {
        self.timers.iter().find(|timer| timer.kind == kind)
    }
}
