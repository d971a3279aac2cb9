//! 差评整改: what becomes of a bad rating, by a table of transitions, within a limit.

use std::fmt;

use banqiao_directory::CityCode;
use banqiao_kit::{
    CallError, Certainty, Refusal, Rule, RuleTable, TransitionRow, calendar::WorkCalendar,
};
use banqiao_proto::item::v1::{
    ActorRole::{self, Department, Service, Supervisor, Window},
    LimitKind, RectificationAction as A, RectificationState as S, Warning,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Rated, RatingId};
use crate::case::{Actor, Due, Timer, wire};

const ONE_FIVE_ONE: &str = "国办发〔2019〕51号";
/// Working days from a bad rating to what was put right. 15 is the rule of 四川 (Q); that it holds here is a proposal (D): no limit of
/// 山东 was found.
pub const RECTIFICATION_DAYS: u32 = 15;

const LIMIT: Rule = Rule::design(
    "RECTIFICATION_LIMIT",
    "a bad rating is answered within 15 working days, without those in which the supervising office has it",
    "四川省 rule for 国办发〔2019〕51号",
);
const OPENED: Rule = Rule::quoted(
    "BAD_RATING_RECTIFIED",
    "each 差评 is looked into by whoever handled the case (谁办理、谁负责), and put right",
    ONE_FIVE_ONE,
);
const COUNTED: Rule = Rule::quoted(
    "EXCLUDED_AFTER_APPEAL",
    "a rating whose appeal was granted is left out of the figures and stays on record",
    ONE_FIVE_ONE,
);
const NOT_ALLOWED: Refusal = Refusal::conflict(
    Rule::design(
        "RECTIFICATION_NOT_ALLOWED",
        "a rectification goes on only by its table of transitions",
        ONE_FIVE_ONE,
    )
    .remedy("read how it stands, and take a step that leads on from there"),
);
const ROLE: Refusal = Refusal::forbidden(
    Rule::quoted(
        "RECTIFICATION_ROLE",
        "the rated office puts right and appeals, the supervising office calls back, judges and closes",
        ONE_FIVE_ONE,
    )
    .remedy("let whoever has the role take the step"),
);
const STALE: Refusal = Refusal::conflict(
    Rule::design(
        "RECTIFICATION_STALE",
        "the rectification has gone on since the client saw it",
        ONE_FIVE_ONE,
    )
    .remedy("read it again, and decide again"),
);
const CALLBACK: Refusal = Refusal::conflict(
    Rule::quoted(
        "CALLBACK_REQUIRED",
        "whoever gave a bad rating under the own name is called back, each of them (实名差评100%回访)",
        ONE_FIVE_ONE,
    )
    .remedy("call back first"),
);
const APPEALED: Refusal = Refusal::conflict(
    Rule::design(
        "APPEALED_ALREADY",
        "a bad rating is appealed against once",
        ONE_FIVE_ONE,
    )
    .remedy("put right what it asks for"),
);

pub(super) fn rules() -> RuleTable {
    const ACT: &[&str] = &["ActOnRectification"];
    RuleTable::new("差评整改")
        .refusal(&NOT_ALLOWED, ACT)
        .refusal(&ROLE, ACT)
        .refusal(&STALE, ACT)
        .refusal(&CALLBACK, ACT)
        .refusal(&APPEALED, ACT)
        .answer(&OPENED, &["RateCase"])
        .answer(&LIMIT, &["RateCase", "SearchRectifications"])
        .answer(&COUNTED, &["ReadFigures", "ReadReport"])
        .transitions(TABLE.iter().map(|row| {
            TransitionRow {
                from: match row.from {
                    S::Unspecified => "(new)",
                    from => from
                        .as_str_name()
                        .trim_start_matches("RECTIFICATION_STATE_"),
                },
                event: row
                    .action
                    .as_str_name()
                    .trim_start_matches("RECTIFICATION_ACTION_"),
                to: row
                    .to
                    .as_str_name()
                    .trim_start_matches("RECTIFICATION_STATE_"),
                source: ONE_FIVE_ONE,
                certainty: row.certainty,
            }
        }))
}

struct Row {
    from: S,
    action: A,
    to: S,
    roles: &'static [ActorRole],
    certainty: Certainty,
}

macro_rules! rows {
    ($($from:ident $action:ident $to:ident, $roles:expr, $certainty:ident;)*) => {
        &[$(Row {
            from: S::$from,
            action: A::$action,
            to: S::$to,
            roles: &$roles,
            certainty: Certainty::$certainty,
        }),*]
    };
}

#[rustfmt::skip]
const TABLE: &[Row] = rows! {
    Unspecified Open Open, [Service], Quoted;
    Open CallBack Open, [Supervisor], Quoted;
    Reported CallBack Reported, [Supervisor], Quoted;
    Appealed CallBack Appealed, [Supervisor], Quoted;
    Open Report Reported, [Department, Window], Quoted;
    Reported Return Open, [Supervisor], Design;
    Reported Close Closed, [Supervisor], Design;
    Open Appeal Appealed, [Department, Window], Quoted;
    Appealed Dismiss Open, [Supervisor], Quoted;
    Appealed Exclude Excluded, [Supervisor], Quoted;
    Open WarnYellow Open, [Service], Design;
    Open WarnRed Open, [Service], Design;
    Open Recount Open, [Service], Design;
};

/// How a rectification stands. It names no case and no applicant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rectification {
    /// The rating.
    pub id: RatingId,
    /// Grows by one with each step.
    pub version: i64,
    /// State.
    #[serde(with = "wire")]
    pub state: S,
    /// Who is rated.
    pub rated: Rated,
    /// The rating was given under the own name.
    pub real_name: bool,
    /// The supervising office called back.
    pub called_back: bool,
    /// The rated office appealed.
    pub appealed: bool,
    /// The limit; none at an end.
    pub timer: Option<Timer>,
    /// Highest warning that was given.
    #[serde(with = "wire")]
    pub warning: Warning,
}

/// A step that is to be written. `Debug` shows no words.
#[derive(Clone)]
pub struct NewRectificationStep {
    /// Version after it.
    pub version: i64,
    /// What was done.
    pub action: A,
    /// State before.
    pub from: S,
    /// State after.
    pub to: S,
    /// Who did it.
    pub actor: Actor,
    /// What was done, found or asked.
    pub text: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Request id of the client, and SHA-256 of the request.
    pub request: Option<(Uuid, [u8; 32])>,
}

impl fmt::Debug for NewRectificationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (self.version, self.action, self.from, self.to);
        f.debug_tuple("NewRectificationStep").field(&shown).finish()
    }
}

/// A step as it is read. `Debug` shows no words.
#[derive(Clone, PartialEq, Eq)]
pub struct RectificationStep {
    /// Its number, which grows in the order of commits.
    pub seq: i64,
    /// The rating.
    pub id: RatingId,
    /// Version after it.
    pub version: i64,
    /// What was done.
    pub action: A,
    /// State before.
    pub from: S,
    /// State after.
    pub to: S,
    /// As what it was done.
    pub role: ActorRole,
    /// City that did it.
    pub city: CityCode,
    /// Exchange; empty when the service did it by itself.
    pub exchange: String,
    /// What was done, found or asked.
    pub text: String,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl fmt::Debug for RectificationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (self.seq, self.id, self.version, self.action, self.to);
        f.debug_tuple("RectificationStep").field(&shown).finish()
    }
}

/// Why a rectification does not go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RectificationError {
    refusal: &'static Refusal,
    message: String,
}

impl RectificationError {
    fn of(refusal: &'static Refusal) -> Self {
        let message = refusal.rule.to_string();
        Self { refusal, message }
    }

    /// Code of the rule that refuses.
    pub const fn reason(&self) -> &'static str {
        self.refusal.rule.code
    }
}

impl From<RectificationError> for CallError {
    fn from(error: RectificationError) -> Self {
        error.refusal.because(error.message)
    }
}

impl Rectification {
    /// What a bad rating begins.
    pub fn begin(
        id: RatingId,
        rated: Rated,
        real_name: bool,
        city: CityCode,
        calendar: &WorkCalendar,
        now_us: i64,
    ) -> (Self, NewRectificationStep) {
        let kind = LimitKind::Rectification;
        let mut task = Self {
            id,
            version: 0,
            state: S::Unspecified,
            rated,
            real_name,
            called_back: false,
            appealed: false,
            timer: Some(Timer::begin(kind, RECTIFICATION_DAYS, now_us, calendar)),
            warning: Warning::Unspecified,
        };
        let step = task.by_service(A::Open, S::Open, city, now_us);
        (task, step)
    }

    /// Takes it one step on. What its clock did before stands in it already: see [`settle_rectification`].
    ///
    /// # Errors
    /// See [`RectificationError`].
    pub fn step(
        &mut self,
        act: &super::ActOnRectification,
        actor: Actor,
        calendar: &WorkCalendar,
        now_us: i64,
    ) -> Result<NewRectificationStep, RectificationError> {
        if act.version.is_some_and(|version| version != self.version) {
            return Err(RectificationError::of(&STALE));
        }
        let row = TABLE
            .iter()
            .find(|row| row.from == self.state && row.action == act.action);
        let row = row.ok_or_else(|| RectificationError {
            refusal: &NOT_ALLOWED,
            message: format!(
                "{} on a rectification in {}",
                act.action.as_str_name(),
                self.state.as_str_name()
            ),
        })?;
        if !row.roles.contains(&actor.role) {
            return Err(RectificationError::of(&ROLE));
        }
        match act.action {
            A::Close if self.real_name && !self.called_back => {
                return Err(RectificationError::of(&CALLBACK));
            }
            A::Appeal if self.appealed => return Err(RectificationError::of(&APPEALED)),
            _ => {}
        }
        self.effects(act.action, calendar, now_us);
        let from = self.state;
        (self.state, self.version) = (row.to, self.version + 1);
        Ok(NewRectificationStep {
            version: self.version,
            action: act.action,
            from,
            to: row.to,
            actor,
            text: act.text.clone(),
            at_us: now_us,
            request: None,
        })
    }

    fn effects(&mut self, action: A, calendar: &WorkCalendar, now_us: i64) {
        match (action, &mut self.timer) {
            (A::CallBack, _) => self.called_back = true,
            (A::Report, Some(timer)) => timer.stop(now_us),
            (A::Appeal, Some(timer)) => {
                timer.stop(now_us);
                self.appealed = true;
            }
            (A::Return | A::Dismiss, Some(timer)) => timer.go_on(now_us, calendar),
            (A::Close | A::Exclude, _) => self.timer = None,
            _ => {}
        }
    }

    /// When its clock does something next.
    pub fn wake_us(&self) -> Option<i64> {
        self.timer.as_ref().and_then(Timer::wake_us)
    }

    /// A year whose calendar is missing.
    pub fn missing_year(&self) -> Option<i16> {
        self.timer.as_ref().and_then(|timer| timer.due.missing())
    }

    fn by_service(&mut self, action: A, to: S, city: CityCode, at_us: i64) -> NewRectificationStep {
        let from = self.state;
        (self.state, self.version) = (to, self.version + 1);
        NewRectificationStep {
            version: self.version,
            action,
            from,
            to,
            actor: Actor {
                city,
                role: Service,
                client: None,
            },
            text: String::new(),
            at_us,
            request: None,
        }
    }
}

/// Does what the clock of a rectification did up to a time: warnings, and a new count once a missing calendar came in.
pub fn settle_rectification(
    task: &mut Rectification,
    city: CityCode,
    calendar: &WorkCalendar,
    now_us: i64,
) -> Vec<NewRectificationStep> {
    let mut steps = Vec::new();
    if task.missing_year().is_some() {
        if let Some(timer) = &mut task.timer {
            timer.count(calendar);
        }
        if task.missing_year().is_none() {
            steps.push(task.by_service(A::Recount, task.state, city, now_us));
        }
    }
    while let Some(at_us) = task.wake_us().filter(|at_us| *at_us <= now_us) {
        let Some(timer) = &mut task.timer else { break };
        let past = matches!(timer.due, Due::At { due_us, .. } if due_us <= at_us);
        let (action, warning) = if past {
            (A::WarnRed, Warning::Red)
        } else {
            (A::WarnYellow, Warning::Yellow)
        };
        timer.raised = warning;
        task.warning = warning;
        steps.push(task.by_service(action, task.state, city, at_us));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_reached_and_only_ends_are_ends() {
        for state in (1..=5).map(|number| S::try_from(number).unwrap()) {
            assert!(TABLE.iter().any(|row| row.to == state), "{state:?}");
            let left = TABLE.iter().any(|row| row.from == state && row.to != state);
            let end = matches!(state, S::Closed | S::Excluded);
            assert_eq!(left, !end, "{state:?}");
        }
    }

    #[test]
    fn the_rated_office_never_judges_itself() {
        for row in TABLE {
            let judges = matches!(
                row.action,
                A::Return | A::Close | A::Dismiss | A::Exclude | A::CallBack
            );
            assert_eq!(judges, row.roles == [Supervisor], "{:?}", row.action);
        }
    }
}
