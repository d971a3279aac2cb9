//! When it is compared, and what is entered of it.

use std::{sync::Arc, time::Duration};

use banqiao_directory::City;
use banqiao_ledger::{
    Append, Decoded, Effect, StoreError, decode,
    reconcile::{OpenAttempt, ReconcileStep, Turn},
};
use banqiao_proto::ledger::v1::{Entry, Kind, Reconciled};
use banqiao_telemetry::Chain;
use tokio::{sync::mpsc, time::Instant};

use super::{
    ReconcileError, ReconcileEvent, ReconcileOutcome,
    comparison::Comparison,
    report::{Report, name},
};
use crate::worker::Shared;

/// How long a replica has the turn without entering anything: longer than a window takes, and short enough that
/// another one takes over soon when it dies.
const TURN: Duration = Duration::from_secs(600);
/// What is compared is entered at the latest after so long.
const ENTER_EVERY: Duration = Duration::from_secs(60);
/// Or after so many exchanges.
const ENTER_EXCHANGES: u64 = 100_000;
/// Who compares by itself.
const ACTOR: &str = "gateway";

/// Compares with each other city, again and again.
pub(crate) async fn by_itself(shared: Arc<Shared>) {
    let interval = shared.reconciliation.settings.interval;
    loop {
        // Spread, so that cities do not ask each other at the same moment for ever.
        tokio::time::sleep(interval.mul_f64(rand::random_range(0.9..=1.1))).await;
        let snapshot = shared.rights.snapshot();
        for city in snapshot.directory.cities() {
            if city.code == shared.names.city {
                continue;
            }
            let done = round(&shared, city).await;
            let mut problems = shared.reconciliation.problems.lock();
            match done {
                Ok(()) => {
                    problems.remove(&city.code);
                }
                Err(error) => {
                    let problem = Chain(&error).to_string();
                    tracing::info!(city = city.code.as_str(), error = problem, "not compared");
                    problems.insert(city.code, problem);
                }
            }
        }
    }
}

/// Milliseconds since 1970 before which exchanges have ended, or had time to.
pub(crate) fn settled_ms(shared: &Shared) -> i64 {
    let grace = i64::try_from(shared.reconciliation.settings.grace.as_millis());
    (shared.clock.now_us() / 1_000).saturating_sub(grace.unwrap_or(i64::MAX))
}

fn window_ms(shared: &Shared) -> i64 {
    let window = shared.reconciliation.settings.window.as_millis();
    i64::try_from(window).unwrap_or(i64::MAX).max(1)
}

/// Compares what has not been compared with a city yet, in steps that are each entered together with how far it is.
async fn round(shared: &Arc<Shared>, city: &City) -> Result<(), ReconcileError> {
    let until_ms = settled_ms(shared);
    let turn = Turn {
        city: city.code.as_str().to_owned(),
        first_ms: first_ms(shared, city).await?.unwrap_or(until_ms),
        lasts: TURN,
    };
    let Some(mut from_ms) = shared.ledger.claim_turn(turn.clone()).await? else {
        // Another replica does it.
        return Ok(());
    };
    if from_ms >= until_ms {
        return Ok(());
    }
    let mut comparison = Comparison::begin(shared, city, Report::new(city.code, None)).await?;
    let mut ended = comparison.again().await?;
    let mut next_ms = from_ms;
    let mut begun = Instant::now();
    while from_ms < until_ms {
        let window_ends = next_ms.saturating_add(window_ms(shared)).min(until_ms);
        comparison.span(next_ms, window_ends).await?;
        next_ms = window_ends;
        let due = next_ms == until_ms
            || comparison.report.exchanges >= ENTER_EXCHANGES
            || begun.elapsed() >= ENTER_EVERY;
        if !due {
            continue;
        }
        let report = std::mem::replace(&mut comparison.report, Report::new(city.code, None));
        step(
            shared,
            city,
            &report,
            (from_ms, next_ms),
            std::mem::take(&mut ended),
        )
        .await?;
        begun = Instant::now();
        from_ms = next_ms;
        // Renewed; where another replica has it meanwhile, it goes on.
        if from_ms < until_ms && shared.ledger.claim_turn(turn.clone()).await? != Some(from_ms) {
            return Ok(());
        }
    }
    Ok(())
}

/// Enters a step.
async fn step(
    shared: &Shared,
    city: &City,
    report: &Report,
    (from_ms, until_ms): (i64, i64),
    ended: Vec<OpenAttempt>,
) -> Result<(), ReconcileError> {
    let found: u64 = report.discrepancies().map(|(_, count)| count).sum();
    let step = ReconcileStep {
        city: city.code.as_str().to_owned(),
        from_ms,
        until_ms,
        at_us: shared.clock.now_us(),
        found,
        open: report.open.iter().copied().collect(),
        ended,
    };
    let append = entry(report.reconciled(from_ms, until_ms, ACTOR));
    let append = append.with(Effect::Reconciled(step));
    shared.appender.append(append).await?;
    for (class, count) in report.discrepancies() {
        shared
            .metrics
            .discrepancies(city.code.as_str(), name(class), count);
    }
    if found > 0 {
        tracing::error!(
            city = city.code.as_str(),
            found,
            "this ledger and that of another city differ: banqiao audit reconcile lists where"
        );
    }
    Ok(())
}

fn entry(reconciled: Reconciled) -> Append {
    Append::new(Entry {
        kind: Kind::Reconciled.into(),
        reconciled: Some(reconciled),
        ..Entry::default()
    })
}

/// Where a first comparison with a city begins: with the ledger, and what its first calls may have been made with.
/// `None`: nothing is to be begun.
async fn first_ms(shared: &Shared, city: &City) -> Result<Option<i64>, StoreError> {
    let reader = shared.ledger.reader();
    let compared = reader.compared().await?;
    if compared.iter().any(|it| it.city == city.code.as_str()) {
        return Ok(None);
    }
    let first = reader.tail(Some(0)).await?.ready().await?;
    let Some(first) = first.first() else {
        return Ok(None);
    };
    let Ok(Decoded::Entry(entry)) = decode(&first.bytes) else {
        return Ok(Some(0));
    };
    let skew = i64::try_from(shared.limits.exchange_skew.as_millis()).unwrap_or(i64::MAX);
    Ok(Some((entry.time_us / 1_000).saturating_sub(skew).max(0)))
}

/// Compares a span of milliseconds since 1970 with a city for somebody who waits. What is compared by itself is not
/// changed by it.
pub(crate) async fn on_demand(
    shared: &Arc<Shared>,
    city: &City,
    (from_ms, until_ms): (i64, i64),
    actor: &str,
    events: mpsc::Sender<ReconcileEvent>,
) -> ReconcileOutcome {
    let until_ms = until_ms.min(settled_ms(shared));
    let from_ms = from_ms.clamp(0, until_ms.max(0));
    let report = Report::new(city.code, Some(events.clone()));
    let mut outcome = ReconcileOutcome {
        reconciled: report.reconciled(from_ms, from_ms, actor),
        problem: None,
        unreachable: false,
    };
    let compared = async {
        let mut comparison = Comparison::begin(shared, city, report).await?;
        let mut next_ms = from_ms;
        while next_ms < until_ms && !events.is_closed() {
            let window_ends = next_ms.saturating_add(window_ms(shared)).min(until_ms);
            comparison.span(next_ms, window_ends).await?;
            next_ms = window_ends;
            outcome.reconciled = comparison.report.reconciled(from_ms, next_ms, actor);
            let done = u64::try_from(next_ms - from_ms).unwrap_or(0);
            let _ = events.send(ReconcileEvent::Progress(done)).await;
        }
        shared
            .appender
            .append(entry(outcome.reconciled.clone()))
            .await?;
        Ok::<_, ReconcileError>(())
    };
    if let Err(error) = compared.await {
        outcome.unreachable = error.is_unreachable();
        outcome.problem = Some(Chain(&error).to_string());
    }
    outcome
}
