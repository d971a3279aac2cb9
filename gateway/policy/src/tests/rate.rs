use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{RateLimiter, RetryAfter};

fn limited(at: u8, calls: u32, seconds: i64, burst: u32) -> Grant {
    let mut grant = sample();
    grant.id = uuid(at);
    grant.rate = Some(proto::Rate {
        calls,
        per: Some(prost_types::Duration { seconds, nanos: 0 }),
        burst,
    });
    parse(grant)
}

#[test]
fn a_burst_is_followed_by_the_rate() {
    let limiter = RateLimiter::new();
    let grant = limited(1, 10, 10, 3);
    let now = 1_000_000_000;
    for _ in 0..3 {
        assert_eq!(limiter.check(&grant, now), Ok(()));
    }
    assert_eq!(
        limiter.check(&grant, now),
        Err(RetryAfter(Duration::from_secs(1)))
    );
    assert_eq!(
        limiter.check(&grant, now + 999_999),
        Err(RetryAfter(Duration::from_micros(1))),
        "what was refused is not counted"
    );
    assert_eq!(limiter.check(&grant, now + 1_000_000), Ok(()));
    assert!(limiter.check(&grant, now + 1_000_000).is_err());
    // After a long rest the burst is whole again, and no larger.
    let later = now + 3_600_000_000;
    assert_eq!(
        (0..5)
            .filter(|_| limiter.check(&grant, later).is_ok())
            .count(),
        3
    );
}

#[test]
fn grants_are_counted_apart_and_unlimited_ones_not_at_all() {
    let limiter = RateLimiter::new();
    let (first, second) = (limited(1, 1, 60, 1), limited(2, 1, 60, 1));
    assert!(limiter.check(&first, 0).is_ok() && limiter.check(&second, 0).is_ok());
    assert!(limiter.check(&first, 0).is_err() && limiter.check(&second, 0).is_err());
    // The set is loaded again; the count stays.
    assert!(limiter.check(&limited(1, 1, 60, 1), 1).is_err());
    let free = parse(sample());
    assert!((0..10_000).all(|_| limiter.check(&free, 0).is_ok()));
}

#[test]
fn a_clock_that_is_set_back_does_not_lock_out() {
    let limiter = RateLimiter::new();
    let grant = limited(1, 1, 10, 1);
    assert!(limiter.check(&grant, 3_600_000_000).is_ok());
    assert_eq!(
        limiter.check(&grant, 0),
        Err(RetryAfter(Duration::from_secs(10)))
    );
    assert!(limiter.check(&grant, 10_000_000).is_ok());
}

#[test]
fn memory_is_bounded_and_forgetting_gives_nothing_away() {
    let limiter = RateLimiter::new();
    // All of one shard: the last byte is the same.
    let grant = |number: u32| {
        let mut bytes = [0_u8; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes[6] = 0x70;
        bytes[8] = 0x80;
        let mut grant = sample();
        grant.id = Uuid::from_bytes(bytes).to_string();
        grant.rate = Some(proto::Rate {
            calls: 1,
            per: Some(prost_types::Duration {
                seconds: 60,
                nanos: 0,
            }),
            burst: 1,
        });
        parse(grant)
    };
    let busy = grant(u32::MAX);
    for number in 0..5_000 {
        assert!(limiter.check(&grant(number), i64::from(number)).is_ok());
    }
    assert!(limiter.check(&busy, 5_000).is_ok());
    assert!(limiter.check(&busy, 5_001).is_err());
    assert!(limiter.held() <= 4_096);
    // A minute later all are idle but one, and of those that come then it is the last to be forgotten.
    assert!(limiter.check(&busy, 60_005_000).is_ok());
    for number in 5_000..10_000 {
        assert!(limiter.check(&grant(number), 60_004_000).is_ok());
    }
    assert!(limiter.held() <= 4_096);
    assert!(limiter.check(&busy, 60_005_001).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In no window do more calls pass than the window's own and the burst.
    #[test]
    fn no_window_holds_more_than_granted(
        calls in 1..20_u32,
        seconds in 1..30_i64,
        burst in 0..10_u32,
        steps in prop::collection::vec(0..2_000_000_i64, 1..300),
    ) {
        let limiter = RateLimiter::new();
        let grant = limited(1, calls, seconds, burst);
        let mut now = 0;
        let mut passed: Vec<i64> = Vec::new();
        for step in steps {
            now += step;
            match limiter.check(&grant, now) {
                Ok(()) => passed.push(now),
                Err(RetryAfter(wait)) => {
                    let wait = i64::try_from(wait.as_micros()).unwrap();
                    let probe = RateLimiter::new();
                    for at in &passed {
                        prop_assert!(probe.check(&grant, *at).is_ok());
                    }
                    prop_assert!(probe.check(&grant, now + wait + 1).is_ok(), "waiting so long helps");
                }
            }
        }
        let most = usize::try_from(calls + grant.rate().unwrap().burst).unwrap();
        for (at, start) in passed.iter().enumerate() {
            let end = start + seconds * 1_000_000;
            let within = passed[at..].iter().take_while(|passed| **passed < end).count();
            prop_assert!(within <= most, "{within} calls in one window");
        }
    }
}
