//! The history of a case as a line, and the exchanges in it.

use std::fmt::Write as _;

use anyhow::Result;
use banqiao_directory::CityCode;
use banqiao_kit::civil_date;
use banqiao_proto::{
    item::v1::{CaseAction, CaseEvent, LimitKind, ReadCaseResponse},
    ledger::v1::Kind,
};
use prost_types::Timestamp;

use super::desk::Started;
use crate::{
    demo::{Steps, scenario::Scenario},
    sandbox::FOUNDERS,
};

/// The day of a time in the cities.
fn day(at: Option<Timestamp>) -> String {
    let seconds = at.unwrap_or_default().seconds;
    civil_date(seconds.saturating_mul(1_000_000)).to_string()
}

fn name(city: &str) -> &str {
    let known = FOUNDERS.iter().find(|founder| founder.code == city);
    known.map_or(city, |founder| founder.en)
}

fn word(action: CaseAction) -> &'static str {
    action.as_str_name().trim_start_matches("CASE_ACTION_")
}

/// What happened, day by day and city by city. Notes about tasks are left out: how many there are depends on when a service looked.
fn line(history: &[CaseEvent]) -> String {
    let mut line = String::new();
    let mut before = (String::new(), String::new());
    let told = history
        .iter()
        .filter(|event| event.action() != CaseAction::NoteTask);
    for event in told {
        let now = (day(event.at), event.city.clone());
        let gap = match &before {
            (then, city) if *then == now.0 && *city == now.1 => ", ".to_owned(),
            (then, _) if *then == now.0 => format!("; {} ", name(&now.1)),
            (then, _) if then.is_empty() => format!("{} {} ", now.0, name(&now.1)),
            _ => format!("; {} {} ", now.0, name(&now.1)),
        };
        // Writing to a string does not fail.
        let _written = write!(line, "{gap}{}", word(event.action()));
        before = now;
    }
    line
}

/// Last day of the promised limit of a case; none while it stands still.
pub(super) fn last_day(case: &ReadCaseResponse) -> Option<String> {
    let limits = &case.case.as_ref()?.limits;
    let promised = limits
        .iter()
        .find(|limit| limit.kind() == LimitKind::Promised)?;
    let mut due = promised.due?;
    // The limit ends with its last day, so the time itself lies on the next one.
    due.seconds -= 1;
    Some(day(Some(due)))
}

/// Shows a case's history, which must have these steps.
pub(super) fn show(
    scenario: &mut Scenario<'_>,
    steps: &Steps,
    name: &'static str,
    case: &ReadCaseResponse,
    expected: &[CaseAction],
) {
    let taken = case.history.iter().map(CaseEvent::action);
    let taken: Vec<_> = taken
        .filter(|action| *action != CaseAction::NoteTask)
        .collect();
    scenario.check(steps, name, taken == expected, line(&case.history));
}

/// Every step from one city to another, and `more` exchanges with the city each asked, stand in both ledgers.
pub(super) async fn in_both_ledgers(
    scenario: &mut Scenario<'_>,
    steps: &Steps,
    name: &'static str,
    case: &Started<'_>,
    history: &ReadCaseResponse,
    more: Vec<(CityCode, CityCode, String)>,
) -> Result<()> {
    let decided_in: CityCode = case.code().parse()?;
    let mut handed = Vec::new();
    for event in &history.history {
        let from: CityCode = event.city.parse()?;
        if from != decided_in && !event.exchange.is_empty() {
            handed.push((from, decided_in, event.exchange.clone()));
        }
    }
    let steps_across = handed.len();
    handed.extend(more);
    let (mut held, mut last) = (0, String::new());
    for (consumer, provider, exchange) in &handed {
        let (consumer, provider) = (
            scenario.city(consumer.as_str())?,
            scenario.city(provider.as_str())?,
        );
        let kinds = scenario.kinds(consumer, provider, exchange).await?;
        let [opened, provided] = &kinds[..] else {
            continue;
        };
        // A read has one entry at the city that provides it.
        let both = *opened == [Kind::Open, Kind::Close]
            && (provided == opened || *provided == [Kind::Close]);
        held += usize::from(both);
        last.clone_from(exchange);
    }
    let seen = format!(
        "{held} of {} exchanges ({steps_across} steps from city to city) stand in both cities' ledgers, the last {last}",
        handed.len()
    );
    let all = held == handed.len() && held > 0;
    scenario.check(steps, name, all, seen);
    Ok(())
}
