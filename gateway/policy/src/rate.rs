//! Rate limits of grants, by the generic cell rate algorithm (ITU-T I.371).

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use crate::{Grant, Rate};

/// Locks; calls of different grants seldom meet at one.
const SHARDS: usize = 16;
/// Grants held in each shard before idle ones are dropped.
const MAX_PER_SHARD: usize = 4_096;

/// The rate of a grant is used up; it allows another call after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grant's rate is used up")]
pub struct RetryAfter(pub Duration);

/// Counts the calls of each grant against its rate.
///
/// A grant's state is one moment, the theoretical arrival time (TAT) of its next call; it outlives reloads of the
/// grant set because it is kept by the grant's id. Each replica counts for itself.
pub struct RateLimiter {
    shards: [Mutex<HashMap<Uuid, i128>>; SHARDS],
}

impl RateLimiter {
    /// A limiter that has seen no call.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Takes one call of a grant at a moment in microseconds since 1970. Grants without a rate are not held.
    ///
    /// # Errors
    /// [`RetryAfter`] if the rate is used up; the call is not counted then.
    pub fn check(&self, grant: &Grant, now_us: i64) -> Result<(), RetryAfter> {
        let Some(rate) = grant.rate() else {
            return Ok(());
        };
        let now = i128::from(now_us) * 1_000;
        let id = grant.uuid();
        // The last bytes of a UUIDv7 are random.
        let shard = &self.shards[usize::from(id.as_bytes()[15]) % SHARDS];
        // A panic cannot leave a half-written moment behind.
        let mut arrivals = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let next = advance(rate, arrivals.get(&id).copied(), now)?;
        if arrivals.len() >= MAX_PER_SHARD && !arrivals.contains_key(&id) {
            make_room(&mut arrivals, now);
        }
        arrivals.insert(id, next);
        Ok(())
    }
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateLimiter")
    }
}

/// The TAT after one more call at `now`, in nanoseconds.
fn advance(rate: Rate, held: Option<i128>, now: i128) -> Result<i128, RetryAfter> {
    // Rounded up: never more calls in a window than granted.
    let interval = nanos(rate.per).div_euclid(i128::from(rate.calls))
        + i128::from(nanos(rate.per) % i128::from(rate.calls) != 0);
    let full = interval * i128::from(rate.burst);
    // No call leaves a TAT beyond now + full: one that is there comes from a clock that was set back.
    let held = held.map_or(now, |held| held.clamp(now, now + full));
    let next = held + interval;
    let wait = next - full - now;
    if wait <= 0 {
        return Ok(next);
    }
    let wait = u64::try_from(wait).unwrap_or(u64::MAX);
    Err(RetryAfter(Duration::from_nanos(wait)))
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// Drops every grant whose burst is whole again, which loses nothing, and the idlest one if none is.
fn make_room(arrivals: &mut HashMap<Uuid, i128>, now: i128) {
    arrivals.retain(|_, next| *next > now);
    if arrivals.len() >= MAX_PER_SHARD
        && let Some(idlest) = arrivals
            .iter()
            .min_by_key(|(_, next)| **next)
            .map(|(id, _)| *id)
    {
        arrivals.remove(&idlest);
    }
}
