//! How long a failed run waits before its next attempt: exponential, capped, with a spread that is
//! a fixed function of run and attempt, so that a simulation replays and a failover computes the
//! same moment again.

use std::time::Duration;

use crate::hash::hash_parts;
use crate::ids::{RunId, RunKey};
use crate::task::Retry;

/// The wait after attempt `number` (from 1) failed; `None` if that was the last one allowed.
pub fn wait_after(retry: &Retry, run: &RunId, number: u32) -> Option<Duration> {
    if number >= retry.max_attempts {
        return None;
    }
    let exponent = i32::try_from(number.saturating_sub(1)).unwrap_or(i32::MAX);
    let cap = retry.max_backoff.as_secs_f64();
    let full = (retry.backoff.as_secs_f64() * retry.factor.powi(exponent)).min(cap);
    let spread = 1.0 - retry.jitter.clamp(0.0, 1.0) * share(run, number);
    Some(Duration::try_from_secs_f64(full * spread).unwrap_or(retry.max_backoff))
}

/// A fixed share of 0 to 1 for this attempt.
fn share(run: &RunId, number: u32) -> f64 {
    let key = match run.run {
        RunKey::Instant(instant) => instant.millis().to_be_bytes().to_vec(),
        RunKey::Manual(ulid) => ulid.to_be_bytes().to_vec(),
    };
    let task = run.task.to_string();
    let hash = hash_parts(&[b"retry", task.as_bytes(), &key, &number.to_be_bytes()]);
    f64::from(u32::try_from(hash >> 32).expect("32 bits are left")) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, TaskName};
    use crate::time::Instant;

    fn run() -> RunId {
        RunId {
            task: TaskName::parse("a/b").unwrap(),
            incarnation: Incarnation::default(),
            run: RunKey::Instant(Instant::from_millis(1)),
            agent: None,
        }
    }

    #[test]
    fn waits_grow_by_the_factor_up_to_the_cap() {
        let retry = Retry { max_attempts: 5, jitter: 0.0, ..Retry::default() };
        let waits: Vec<u64> =
            (1..5).filter_map(|n| wait_after(&retry, &run(), n)).map(|w| w.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8]);
        assert_eq!(wait_after(&retry, &run(), 5), None);
        let capped = Retry { max_backoff: Duration::from_secs(3), ..retry };
        assert_eq!(wait_after(&capped, &run(), 4), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_spread_shortens_by_at_most_its_share_and_is_always_the_same() {
        let retry = Retry { max_attempts: 100, factor: 1.0, jitter: 0.5, ..Retry::default() };
        for number in 1..100 {
            let wait = wait_after(&retry, &run(), number).unwrap();
            assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(1));
            assert_eq!(Some(wait), wait_after(&retry, &run(), number));
        }
    }

    #[test]
    fn an_absurd_factor_ends_at_the_cap() {
        let retry = Retry { max_attempts: 100, factor: 1e30, jitter: 0.0, ..Retry::default() };
        assert_eq!(wait_after(&retry, &run(), 99), Some(retry.max_backoff));
    }
}
