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
        let cell = Cell::of(rate);
        let held = arrivals.get(&id).map(|held| cell.bounded(*held, now));
        let next = match cell.advance(held.unwrap_or(now), now) {
            Ok(next) => next,
            Err(refusal) => {
                // The bound is kept, so that the wait that the caller is told of helps.
                if let Some(held) = held {
                    arrivals.insert(id, held);
                }
                return Err(refusal);
            }
        };
        if arrivals.len() >= MAX_PER_SHARD && !arrivals.contains_key(&id) {
            make_room(&mut arrivals, now);
        }
        arrivals.insert(id, next);
        Ok(())
    }
}

#[cfg(test)]
impl RateLimiter {
    /// Grants whose state is held.
    pub(crate) fn held(&self) -> usize {
        let held = |shard: &Mutex<HashMap<Uuid, i128>>| shard.lock().map_or(0, |held| held.len());
        self.shards.iter().map(held).sum()
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

/// A rate as the algorithm counts it, in nanoseconds.
struct Cell {
    /// Time that one call takes up.
    interval: i128,
    /// Time that a whole burst takes up.
    full: i128,
}

impl Cell {
    fn of(rate: Rate) -> Self {
        let (per, calls) = (nanos(rate.per), i128::from(rate.calls));
        // Rounded up: never more calls in a window than granted.
        let interval = per / calls + i128::from(per % calls != 0);
        Self {
            interval,
            full: interval * i128::from(rate.burst),
        }
    }

    /// The TAT that is held, as far as it can be true: no call leaves one beyond a burst from its own moment, so one
    /// that lies further ahead comes from a clock that was set back since.
    fn bounded(&self, held: i128, now: i128) -> i128 {
        held.clamp(now, now + self.full)
    }

    /// The TAT after one more call at `now`.
    fn advance(&self, held: i128, now: i128) -> Result<i128, RetryAfter> {
        let next = held + self.interval;
        let wait = next - self.full - now;
        if wait <= 0 {
            return Ok(next);
        }
        Err(RetryAfter(Duration::from_nanos(
            u64::try_from(wait).unwrap_or(u64::MAX),
        )))
    }
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
