//! What each step does to a case beside its state: times, limits, decision.

use banqiao_kit::calendar::WorkCalendar;
use banqiao_proto::item::v1::{CaseAction, Decision, HandlingMode, LimitKind, Warning};

use super::{
    Case, Detail, SpecialInterval, Timer,
    clock::{ACCEPTANCE_DAYS, DELIVERY_DAYS, HAND_OVER_DAYS},
};

/// Writes into a case what a step does beside the new state.
pub(super) fn effects(
    case: &mut Case,
    action: CaseAction,
    detail: Detail,
    calendar: &WorkCalendar,
    now_us: i64,
) {
    let begin = |kind, days, since| Timer::begin(kind, days, since, calendar);
    match action {
        CaseAction::Submit if case.is_task() => {
            (case.times.submitted, case.times.accepted) = (Some(now_us), Some(now_us));
            case.timers = work_timers(case, now_us, calendar);
        }
        CaseAction::Submit => case.times.submitted = Some(now_us),
        CaseAction::Receive => {
            (case.times.first_received, case.times.received) = (Some(now_us), Some(now_us));
            case.timers = vec![begin(LimitKind::Acceptance, ACCEPTANCE_DAYS, now_us)];
            if case.mode == HandlingMode::ProxyCollection {
                case.timers
                    .push(begin(LimitKind::HandOver, HAND_OVER_DAYS, now_us));
            }
        }
        CaseAction::HandOver => {
            case.times.handed_over = Some(now_us);
            case.timers
                .retain(|timer| timer.kind != LimitKind::HandOver);
        }
        CaseAction::NotifyCorrection => {
            case.corrections = detail.corrections;
            case.notices += 1;
            case.timers.clear();
        }
        CaseAction::Supplement => {
            case.times.received = Some(now_us);
            case.timers = vec![begin(LimitKind::Acceptance, ACCEPTANCE_DAYS, now_us)];
        }
        CaseAction::Accept => {
            case.times.accepted = Some(now_us);
            case.timers = work_timers(case, now_us, calendar);
        }
        CaseAction::DeemAccepted => {
            let received = case.times.received.unwrap_or(now_us);
            case.deemed_accepted = true;
            case.times.accepted = Some(received);
            case.timers = work_timers(case, received, calendar);
        }
        CaseAction::Conclude => {
            case.times.concluded = Some(now_us);
            case.result = detail.result;
        }
        CaseAction::Deliver => {
            case.times.delivered = Some(now_us);
            case.delivery = detail.delivery;
            case.timers.clear();
        }
        CaseAction::RefuseAcceptance
        | CaseAction::Withdraw
        | CaseAction::Terminate
        | CaseAction::Compensate => case.timers.clear(),
        _ => work(case, action, detail, calendar, now_us),
    }
}

/// The effects between acceptance and decision.
fn work(case: &mut Case, action: CaseAction, detail: Detail, calendar: &WorkCalendar, now_us: i64) {
    match action {
        CaseAction::BeginSpecial => {
            let (procedure, workdays) = detail.special.unwrap_or_default();
            case.special.push(SpecialInterval {
                procedure,
                workdays,
                began_at: now_us,
                ended_at: None,
            });
            case.timers.iter_mut().for_each(|timer| timer.stop(now_us));
        }
        CaseAction::EndSpecial => {
            if let Some(last) = case.special.last_mut() {
                last.ended_at = Some(now_us);
            }
            case.timers
                .iter_mut()
                .for_each(|timer| timer.go_on(now_us, calendar));
        }
        CaseAction::Extend => {
            let days = detail
                .extension
                .as_ref()
                .map_or(0, |extension| extension.workdays);
            case.timers
                .iter_mut()
                .for_each(|timer| timer.extend(days, calendar));
            case.extension = detail.extension;
        }
        CaseAction::Grant | CaseAction::Refuse => {
            decide(case, action, calendar, now_us);
        }
        _ => {}
    }
}

/// The limits from acceptance to decision.
fn work_timers(case: &Case, since: i64, calendar: &WorkCalendar) -> Vec<Timer> {
    let promised = case.terms.promised.map(|days| (LimitKind::Promised, days));
    let legal = case.terms.legal.map(|days| (LimitKind::Legal, days));
    let limits = promised.into_iter().chain(legal);
    limits
        .map(|(kind, days)| Timer::begin(kind, days, since, calendar))
        .collect()
}

fn decide(case: &mut Case, action: CaseAction, calendar: &WorkCalendar, now_us: i64) {
    case.decision = match action {
        CaseAction::Grant => Decision::Granted,
        _ => Decision::Refused,
    };
    case.times.decided = Some(now_us);
    case.on_time = Some(case.timers.iter().all(|timer| timer.raised != Warning::Red));
    let working = (case.timer(LimitKind::Promised)).or_else(|| case.timer(LimitKind::Legal));
    case.handling_workdays = working.and_then(|timer| timer.used(now_us, calendar).ok());
    case.timers.clear();
    if !case.is_task() {
        case.timers = vec![Timer::begin(
            LimitKind::Delivery,
            DELIVERY_DAYS,
            now_us,
            calendar,
        )];
    }
}

/// The highest warning that was given.
pub(super) fn highest(timers: &[Timer]) -> Warning {
    let raised = timers.iter().map(|timer| timer.raised);
    raised
        .max_by_key(|raised| i32::from(*raised))
        .unwrap_or_default()
}
