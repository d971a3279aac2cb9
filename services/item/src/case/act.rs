//! The pure decision about each step: from a case, an action and a time to the case after it and the entry of its history.

use banqiao_directory::CityCode;
use banqiao_kit::{
    CallError, Refusal, Rule, RuleTable, Violation, Violations, calendar::WorkCalendar,
};
use banqiao_proto::item::v1::{
    ActorRole, CaseAction, CaseState, Decision, HandlingMode, ItemType, LimitKind, ProjectType,
    ResultType, SpecialProcedure, Warning,
};
use uuid::Uuid;

use super::{
    Actor, Case, CaseNumber, CaseResult, CaseTask, CorrectionPoint, Delivery, Document, Due,
    Extension, Need, NewEvent, Only, Place, StartCase, Terms, Times,
    clock::{EXTENSION_DAYS, JOINT_DAYS, JOINT_EXTENSION_DAYS, LICENCE_DAYS, TASK_DAYS},
    effect::{effects, highest},
    event::EventDetail,
    transition::{Transition, transition},
};
use crate::catalogue::Item;

const NEEDED: &str = "table of transitions of the item service";
const NEEDS_CORRECTIONS: Rule = Rule::quoted(
    "CORRECTIONS_REQUIRED",
    "a correction notice tells at once everything that has to be put right",
    "行政许可法 art. 32",
);
const NEEDS_DELIVERY: Rule = Rule::design("DELIVERY_REQUIRED", "tell how it was delivered", NEEDED);
const NEEDS_DOCUMENT: Rule = Rule::quoted(
    "DOCUMENT_REQUIRED",
    "this step needs a document with its number and the digest of its seal",
    "行政许可法 art. 32, 38",
);
const NEEDS_EXTENSION: Rule = Rule::quoted(
    "EXTENSION_REQUIRED",
    "an extension needs its working days and who approved it",
    "行政许可法 art. 42",
);
const NEEDS_IDENTITY: Rule = Rule::quoted(
    "IDENTITY_REQUIRED",
    "the receiving window checks the applicant's identity (身份核验)",
    "国办发〔2020〕35号",
);
const NEEDS_REASON: Rule = Rule::quoted(
    "REASON_REQUIRED",
    "this step needs a reason",
    "行政许可法 art. 38",
);
const NEEDS_REMEDY: Rule = Rule::memory(
    "REMEDY_REQUIRED",
    "a refusal tells how the applicant may go against it (行政复议, 行政诉讼)",
    "行政许可法 art. 38",
);
const NEEDS_RESULT: Rule = Rule::design(
    "RESULT_REQUIRED",
    "a grant of this item has a result with a number",
    NEEDED,
);
const NEEDS_SPECIAL: Rule = Rule::quoted(
    "SPECIAL_REQUIRED",
    "a special procedure is one of the law's, and the applicant was told how long it takes",
    "行政许可法 art. 45",
);
const TRANSITION_NOT_ALLOWED: Refusal = Refusal::conflict(
    Rule::design(
        "TRANSITION_NOT_ALLOWED",
        "a case goes on only by the table of transitions",
        NEEDED,
    )
    .remedy("read the case, and take a step that leads on from its state"),
);
const ROLE_NOT_ALLOWED: Refusal = Refusal::forbidden(
    Rule::quoted(
        "ROLE_NOT_ALLOWED",
        "each step is taken in the roles of the table of transitions (收受分离)",
        "国办发〔2020〕35号",
    )
    .remedy("let whoever has the role take the step"),
);
const PLACE_NOT_ALLOWED: Refusal = Refusal::forbidden(
    Rule::quoted(
        "PLACE_NOT_ALLOWED",
        "each step is taken from the city of the table of transitions: 不改变原办理事权",
        "国办发〔2020〕35号",
    )
    .remedy("let the city whose step it is take it"),
);
const VERSION_STALE: Refusal = Refusal::conflict(
    Rule::design(
        "VERSION_STALE",
        "the case has gone on since the client saw it",
        NEEDED,
    )
    .remedy("read the case again, and decide again"),
);
const EXTENDED_ALREADY: Refusal = Refusal::conflict(
    Rule::quoted(
        "EXTENDED_ALREADY",
        "a limit is extended once",
        "行政许可法 art. 42",
    )
    .remedy("decide within the limit"),
);
const EXTENSION_TOO_LONG: Refusal = Refusal::conflict(
    Rule::quoted(
        "EXTENSION_TOO_LONG",
        "an extension has at most 10 working days, and 15 for joint handling",
        "行政许可法 art. 42",
    )
    .remedy("extend by fewer days"),
);
const HANDED_OVER_ALREADY: Refusal = Refusal::conflict(
    Rule::design("HANDED_OVER_ALREADY", "a case is handed over once", NEEDED)
        .remedy("nothing is left to do"),
);
const NOT_HANDED_OVER: Refusal = Refusal::conflict(
    Rule::quoted(
        "NOT_HANDED_OVER",
        "the deciding city accepts what the receiving city has handed over",
        "国办发〔2020〕35号",
    )
    .remedy("wait for the receiving city"),
);
const NO_LIMIT: Refusal = Refusal::conflict(
    Rule::design("NO_LIMIT", "only a limit that runs is extended", NEEDED)
        .remedy("go on without an extension"),
);
const TASK_FAILED: Refusal = Refusal::conflict(
    Rule::design(
        "TASK_FAILED",
        "a joint case of which a task was refused is not granted",
        "国办发〔2020〕35号",
    )
    .remedy("refuse the case"),
);
const TASKS_OPEN: Refusal = Refusal::conflict(
    Rule::design(
        "TASKS_OPEN",
        "a joint case goes on when the tasks of the other cities are over",
        "国办发〔2020〕35号",
    )
    .remedy("wait for the other cities"),
);

pub(crate) fn rules() -> RuleTable {
    const ACT: &[&str] = &["ActOnCase"];
    const BOTH: &[&str] = &["StartCase", "ActOnCase"];
    let needs = [
        &NEEDS_CORRECTIONS,
        &NEEDS_DELIVERY,
        &NEEDS_DOCUMENT,
        &NEEDS_EXTENSION,
        &NEEDS_IDENTITY,
        &NEEDS_REASON,
        &NEEDS_REMEDY,
        &NEEDS_RESULT,
        &NEEDS_SPECIAL,
    ];
    RuleTable::new("Steps of a case")
        .refusal(&TRANSITION_NOT_ALLOWED, BOTH)
        .refusal(&ROLE_NOT_ALLOWED, BOTH)
        .refusal(&PLACE_NOT_ALLOWED, BOTH)
        .refusal(&VERSION_STALE, ACT)
        .refusal(&HANDED_OVER_ALREADY, ACT)
        .refusal(&NOT_HANDED_OVER, ACT)
        .refusal(&EXTENDED_ALREADY, ACT)
        .refusal(&EXTENSION_TOO_LONG, ACT)
        .refusal(&NO_LIMIT, ACT)
        .refusal(&TASK_FAILED, ACT)
        .refusal(&TASKS_OPEN, ACT)
        .fields(needs, ACT)
        .transitions(super::transition::rows())
}

/// What a step brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Reason; empty for none.
    pub reason: String,
    /// Remedy; empty for none.
    pub remedy: String,
    /// Document.
    pub document: Option<Document>,
    /// Points of a correction notice.
    pub corrections: Vec<CorrectionPoint>,
    /// Special procedure and its working days.
    pub special: Option<(SpecialProcedure, u32)>,
    /// Extension.
    pub extension: Option<Extension>,
    /// Result.
    pub result: Option<CaseResult>,
    /// Delivery.
    pub delivery: Option<Delivery>,
    /// The applicant's identity was checked.
    pub identity_checked: bool,
}

/// A parsed request to take a case one step on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The idempotency key, within the client.
    pub request_id: Uuid,
    /// The case.
    pub number: CaseNumber,
    /// What is done.
    pub action: CaseAction,
    /// As what.
    pub role: ActorRole,
    /// Version that the client saw.
    pub version: Option<i64>,
    /// What the step brings.
    pub detail: Detail,
}

/// Why a step is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActError {
    /// Fields are missing or break rules.
    #[error("the step does not bring what it must")]
    CallerFields(Vec<Violation>),
    /// The case does not stand so, or the client does not, that it could be done.
    #[error("{message}")]
    CallerRefused {
        /// The rule.
        refusal: &'static Refusal,
        /// How it stands.
        message: String,
    },
}

impl ActError {
    fn of(refusal: &'static Refusal) -> Self {
        Self::CallerRefused {
            refusal,
            message: refusal.rule.to_string(),
        }
    }

    /// Code of the rule that refuses; none for fields.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::CallerFields(_) => None,
            Self::CallerRefused { refusal, .. } => Some(refusal.rule.code),
        }
    }
}

impl From<ActError> for CallError {
    fn from(error: ActError) -> Self {
        match error {
            ActError::CallerFields(violations) => Self::CallerInvalid(violations),
            ActError::CallerRefused { refusal, message } => refusal.because(message),
        }
    }
}

/// Begins a case.
///
/// # Errors
/// See [`ActError`].
pub fn begin(
    item: &Item,
    start: StartCase,
    number: CaseNumber,
    actor: Actor,
    calendar: &WorkCalendar,
    now_us: i64,
) -> Result<(Case, NewEvent), ActError> {
    let action = if start.draft {
        CaseAction::Save
    } else {
        CaseAction::Submit
    };
    let mut case = new_case(item, start, number);
    let row = allowed(&case, action, &actor)?;
    let event = apply(&mut case, row, actor, Detail::default(), calendar, now_us);
    Ok((case, event))
}

fn new_case(item: &Item, start: StartCase, number: CaseNumber) -> Case {
    let task = (start.parent.as_ref())
        .and_then(|parent| item.tasks.iter().find(|task| task.id == parent.task));
    let licence = match item.mode {
        HandlingMode::JointHandling => JOINT_DAYS,
        _ => LICENCE_DAYS,
    };
    let legal = item.legal.as_ref().map(|legal| legal.workdays);
    let legal = legal.or_else(|| (item.item_type == ItemType::Licence).then_some(licence));
    let tasks = start.tasks.into_iter().map(|(task, city)| CaseTask {
        task,
        city,
        asked: false,
        number: None,
        state: CaseState::Unspecified,
        decision: Decision::Unspecified,
        exchange: String::new(),
        compensated: false,
    });
    Case {
        number,
        version: 0,
        item: item.id.clone(),
        item_version: item.version,
        item_name: task.map_or(&item.name, |task| &task.name).clone(),
        mode: item.mode,
        division: start.division,
        deciding_city: start.deciding_city,
        receiving_city: start.receiving_city,
        department: task
            .map_or(&item.lead_department, |task| &task.department)
            .clone(),
        applicant: start.applicant,
        channel: start.channel,
        local_number: start.local_number,
        state: CaseState::Unspecified,
        decision: Decision::Unspecified,
        times: Times::default(),
        terms: Terms {
            legal: task.map_or(legal, |_| Some(TASK_DAYS)),
            promised: task.map_or_else(
                || item.promise.of(start.deciding_city),
                |task| Some(task.workdays),
            ),
            immediate: item.project_type == ProjectType::Immediate,
            has_result: task.is_none() && item.result != ResultType::None,
        },
        timers: Vec::new(),
        warning: Warning::Unspecified,
        deemed_accepted: false,
        extension: None,
        special: Vec::new(),
        corrections: Vec::new(),
        notices: 0,
        on_time: None,
        handling_workdays: None,
        tasks: tasks.collect(),
        parent: start.parent,
        result: None,
        delivery: None,
    }
}

/// Takes a case one step on. What its clock did before stands in it already: see [`settle`].
///
/// # Errors
/// See [`ActError`].
pub fn step(
    case: &mut Case,
    act: &Act,
    actor: Actor,
    calendar: &WorkCalendar,
    now_us: i64,
) -> Result<NewEvent, ActError> {
    if act.version.is_some_and(|version| version != case.version) {
        return Err(ActError::CallerRefused {
            refusal: &VERSION_STALE,
            message: format!("the case has gone on to version {}", case.version),
        });
    }
    let row = allowed(case, act.action, &actor)?;
    bring(case, row, &act.detail)?;
    guard(case, act)?;
    Ok(apply(
        case,
        row,
        actor,
        act.detail.clone(),
        calendar,
        now_us,
    ))
}

/// The row of the table by which a step is taken.
fn allowed(
    case: &Case,
    action: CaseAction,
    actor: &Actor,
) -> Result<&'static Transition, ActError> {
    let mut refusal = &TRANSITION_NOT_ALLOWED;
    for row in transition(case.state, action, |only| applies(case, only)) {
        if !row.roles.contains(&actor.role) {
            refusal = &ROLE_NOT_ALLOWED;
        } else if !is_at(case, row.place, actor.city) {
            refusal = &PLACE_NOT_ALLOWED;
        } else {
            return Ok(row);
        }
    }
    let (action, state) = (action.as_str_name(), case.state.as_str_name());
    Err(ActError::CallerRefused {
        refusal,
        message: format!("{action} on a case in {state}"),
    })
}

fn applies(case: &Case, only: Only) -> bool {
    let task = case.is_task();
    match only {
        Only::Any => true,
        Only::Immediate => case.terms.immediate && !task,
        Only::Joint => !case.tasks.is_empty(),
        Only::Local => case.mode != HandlingMode::ProxyCollection && !task,
        Only::NoTask => !task,
        Only::Proxy => case.mode == HandlingMode::ProxyCollection && !task,
        Only::Task => task,
    }
}

fn is_at(case: &Case, place: Place, city: CityCode) -> bool {
    match place {
        Place::Coordinating => {
            let parent = case.parent.as_ref().and_then(|parent| parent.number.city());
            parent == Some(city)
        }
        Place::Deciding => city == case.deciding_city,
        Place::Either => city == case.deciding_city || city == case.receiving_city,
        Place::Receiving => city == case.receiving_city,
    }
}

/// Whether the step brings what it must.
fn bring(case: &Case, row: &Transition, detail: &Detail) -> Result<(), ActError> {
    let mut faults = Violations::new();
    for need in row.needs {
        let (brought, field, rule) = match need {
            Need::Corrections => (
                !detail.corrections.is_empty(),
                "corrections",
                &NEEDS_CORRECTIONS,
            ),
            Need::Delivery => (detail.delivery.is_some(), "delivery", &NEEDS_DELIVERY),
            Need::Document => (detail.document.is_some(), "document", &NEEDS_DOCUMENT),
            Need::Extension => (detail.extension.is_some(), "extension", &NEEDS_EXTENSION),
            Need::Identity => (detail.identity_checked, "identity_checked", &NEEDS_IDENTITY),
            Need::Reason => (!detail.reason.is_empty(), "reason", &NEEDS_REASON),
            Need::Remedy => (!detail.remedy.is_empty(), "remedy", &NEEDS_REMEDY),
            Need::Result => {
                let granted = case.decision == Decision::Granted && case.terms.has_result;
                (!granted || detail.result.is_some(), "result", &NEEDS_RESULT)
            }
            Need::Special => (detail.special.is_some(), "special", &NEEDS_SPECIAL),
        };
        if !brought {
            faults.add(field, rule);
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(ActError::CallerFields(faults.into_vec()))
    }
}

/// What the table cannot say.
fn guard(case: &Case, act: &Act) -> Result<(), ActError> {
    let proxy = case.mode == HandlingMode::ProxyCollection && !case.is_task();
    let broken = match act.action {
        CaseAction::HandOver if case.times.handed_over.is_some() => &HANDED_OVER_ALREADY,
        CaseAction::Accept | CaseAction::RefuseAcceptance | CaseAction::NotifyCorrection
            if proxy && case.times.handed_over.is_none() =>
        {
            &NOT_HANDED_OVER
        }
        CaseAction::Extend if case.extension.is_some() => &EXTENDED_ALREADY,
        CaseAction::Extend if case.timers.is_empty() => &NO_LIMIT,
        CaseAction::Extend => {
            let most = match case.mode {
                HandlingMode::JointHandling if !case.is_task() => JOINT_EXTENSION_DAYS,
                _ => EXTENSION_DAYS,
            };
            let days = act
                .detail
                .extension
                .as_ref()
                .map_or(0, |extension| extension.workdays);
            if (1..=most).contains(&days) {
                return Ok(());
            }
            &EXTENSION_TOO_LONG
        }
        CaseAction::Grant if case.has_failed_task() => &TASK_FAILED,
        CaseAction::Grant if !case.tasks.iter().all(CaseTask::is_done) => &TASKS_OPEN,
        CaseAction::Conclude if case.needs_coordination() => &TASKS_OPEN,
        _ => return Ok(()),
    };
    Err(ActError::of(broken))
}

/// Writes a step into the case. It was allowed.
fn apply(
    case: &mut Case,
    row: &Transition,
    actor: Actor,
    detail: Detail,
    calendar: &WorkCalendar,
    now_us: i64,
) -> NewEvent {
    let from = case.state;
    case.state = row.to;
    case.version += 1;
    let operator = actor
        .client
        .as_ref()
        .and_then(|client| client.operator.as_ref());
    let event = NewEvent {
        version: case.version,
        action: row.action,
        from,
        to: row.to,
        detail: EventDetail {
            reason: detail.reason.clone(),
            remedy: detail.remedy.clone(),
            document: detail.document.clone(),
            operator: operator.map_or_else(String::new, |operator| operator.as_str().to_owned()),
            ..EventDetail::default()
        },
        actor,
        at_us: now_us,
        request: None,
    };
    effects(case, row.action, detail, calendar, now_us);
    case.warning = highest(&case.timers);
    event
}

/// Does what the clock of a case did up to a time: warnings, and the acceptance by silence. Limits whose calendar was
/// missing are counted again. The entries are in the order of their times.
pub fn settle(case: &mut Case, calendar: &WorkCalendar, now_us: i64) -> Vec<NewEvent> {
    let mut events = Vec::new();
    if case.missing_year().is_some() {
        case.timers
            .iter_mut()
            .for_each(|timer| timer.count(calendar));
        if case.missing_year().is_none() {
            events.extend(by_clock(case, CaseAction::Recount, None, calendar, now_us));
        }
    }
    // Each round raises a warning or takes the case on, so there are few.
    while let Some((kind, at_us)) = next_wake(case).filter(|(_, at_us)| *at_us <= now_us) {
        let Some(timer) = case.timers.iter_mut().find(|timer| timer.kind == kind) else {
            break;
        };
        let past = matches!(timer.due, Due::At { due_us, .. } if due_us <= at_us);
        timer.raised = if past { Warning::Red } else { Warning::Yellow };
        let action = match (past, kind) {
            (true, LimitKind::Acceptance) => CaseAction::DeemAccepted,
            (true, _) => CaseAction::WarnRed,
            (false, _) => CaseAction::WarnYellow,
        };
        let Some(event) = by_clock(case, action, Some(kind), calendar, at_us) else {
            break;
        };
        events.push(event);
    }
    events
}

fn next_wake(case: &Case) -> Option<(LimitKind, i64)> {
    let wakes = case
        .timers
        .iter()
        .filter_map(|timer| Some((timer.kind, timer.wake_us()?)));
    wakes.min_by_key(|(_, at_us)| *at_us)
}

/// A step that the service takes by itself.
fn by_clock(
    case: &mut Case,
    action: CaseAction,
    limit: Option<LimitKind>,
    calendar: &WorkCalendar,
    at_us: i64,
) -> Option<NewEvent> {
    let mut event = by_itself(case, action, calendar, at_us)?;
    event.detail.limit = limit.unwrap_or_default();
    Some(event)
}

/// A step that the service takes by itself, where the table has it.
pub(crate) fn by_itself(
    case: &mut Case,
    action: CaseAction,
    calendar: &WorkCalendar,
    at_us: i64,
) -> Option<NewEvent> {
    let actor = Actor {
        city: case.deciding_city,
        role: ActorRole::Service,
        client: None,
    };
    let row = allowed(case, action, &actor).ok()?;
    Some(apply(case, row, actor, Detail::default(), calendar, at_us))
}
