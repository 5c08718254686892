//! The one place where this crate reads clocks.
//!
//! Services and the catalog take times as values where they decide something, so that tests can
//! choose them; what is read here is read where something comes in or goes out. Both clocks are
//! read together where they are compared: the wall clock for what users see, `CLOCK_BOOTTIME` for
//! ages and deadlines, since it goes on through suspend and is never set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tocktower_core::time::{Mono, Now, Wall};

/// Both clocks, now.
pub fn now() -> Now {
    Now { wall: wall(), mono: mono() }
}

pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Wall::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// `CLOCK_BOOTTIME`: goes on through suspend, never back.
pub fn mono() -> Mono {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000;
    Mono::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

/// How long to sleep until `until`; zero if it is past.
pub fn left(until: Mono) -> Duration {
    until.since(mono())
}
