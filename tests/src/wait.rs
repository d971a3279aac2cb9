//! Waiting for conditions, never for time.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::MissedTickBehavior;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The deadline of conditions that have no limit of their own: a machine that is busy with a build passes too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `condition` until it gives a value.
///
/// # Errors
///
/// Fails with `what` when `within` has passed.
pub async fn wait_for<T, F>(what: &str, within: Duration, condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    wait_every(what, within, POLL, condition).await
}

/// Like [`wait_for`], for a condition that may be asked for no more often than once in `every`.
///
/// # Errors
///
/// Fails with `what` when `within` has passed.
pub async fn wait_every<T, F>(
    what: &str,
    within: Duration,
    every: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::time::timeout(within, async {
        loop {
            ticks.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    })
    .await
    .with_context(|| format!("waited {within:?} in vain: {what}"))
}

/// Like [`wait_for`], for a condition that is just true or false.
///
/// # Errors
///
/// Fails with `what` when `within` has passed.
pub async fn wait_until<F>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = bool>,
{
    wait_for(what, within, || {
        let holds = condition();
        async move { holds.await.then_some(()) }
    })
    .await
}
