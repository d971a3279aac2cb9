//! How much another city may read of this ledger.

use std::{collections::HashMap, sync::Arc};

use banqiao_directory::CityCode;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Reads of one city in each minute: a comparison by itself takes a handful, one of a whole day some hundred.
const READS_PER_MINUTE: u32 = 600;
/// Comparisons of one city at once: its gateway by itself, and a few of its auditors. Each reads a page at a time.
const COMPARISONS: usize = 4;

/// What each other city has read lately.
#[derive(Debug, Default)]
pub(crate) struct Counterparts(Mutex<HashMap<CityCode, Counterpart>>);

#[derive(Debug)]
struct Counterpart {
    left: u32,
    since: Instant,
    comparing: Arc<Semaphore>,
}

/// A city reads too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Counterparts {
    /// Counts a read of a city.
    ///
    /// # Errors
    ///
    /// When it has read as much as it may in a minute.
    pub(super) fn take(&self, city: CityCode) -> Result<(), Busy> {
        self.take_at(city, Instant::now())
    }

    fn take_at(&self, city: CityCode, now: Instant) -> Result<(), Busy> {
        self.with(city, now, |counterpart| {
            let since = now.saturating_duration_since(counterpart.since);
            let refill = since.as_millis() * u128::from(READS_PER_MINUTE) / 60_000;
            if refill > 0 {
                let refill = u32::try_from(refill).unwrap_or(u32::MAX);
                let left = counterpart.left.saturating_add(refill);
                counterpart.left = left.min(READS_PER_MINUTE);
                counterpart.since = now;
            }
            counterpart.left = counterpart.left.checked_sub(1).ok_or(Busy)?;
            Ok(())
        })
    }

    /// Begins a comparison of a city; it counts until the permit is dropped.
    ///
    /// # Errors
    ///
    /// When it compares too much at once.
    pub(super) fn turn(&self, city: CityCode) -> Result<OwnedSemaphorePermit, Busy> {
        let comparing = |counterpart: &mut Counterpart| Arc::clone(&counterpart.comparing);
        let comparing = self.with(city, Instant::now(), comparing);
        comparing.try_acquire_owned().map_err(|_| Busy)
    }

    fn with<T>(
        &self,
        city: CityCode,
        now: Instant,
        use_it: impl FnOnce(&mut Counterpart) -> T,
    ) -> T {
        let mut counterparts = self.0.lock();
        use_it(counterparts.entry(city).or_insert_with(|| Counterpart {
            left: READS_PER_MINUTE,
            since: now,
            comparing: Arc::new(Semaphore::new(COMPARISONS)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_city_reads_so_much_a_minute_and_no_more() {
        let counterparts = Counterparts::default();
        let (one, other) = ("370200".parse().unwrap(), "370600".parse().unwrap());
        let now = Instant::now();
        for _ in 0..READS_PER_MINUTE {
            counterparts.take_at(one, now).unwrap();
        }
        assert_eq!(counterparts.take_at(one, now), Err(Busy));
        assert_eq!(counterparts.take_at(other, now), Ok(()));
        let later = now + Duration::from_secs(1);
        for _ in 0..READS_PER_MINUTE / 60 {
            counterparts.take_at(one, later).unwrap();
        }
        assert_eq!(counterparts.take_at(one, later), Err(Busy));
    }

    #[test]
    fn comparison_counts_until_it_ends() {
        let counterparts = Counterparts::default();
        let city = "370200".parse().unwrap();
        let held: Vec<_> = (0..COMPARISONS).map(|_| counterparts.turn(city)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(counterparts.turn(city).is_err());
        drop(held);
        assert!(counterparts.turn(city).is_ok());
    }
}
