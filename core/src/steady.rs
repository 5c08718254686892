//! Whether the wall clock has been believed for long enough to forget by it.
//!
//! What a wrong clock makes a daemon start or put off can be made good; what it makes it forget is
//! gone. A host may boot with its clock years ahead and be set right seconds later, and until then
//! nothing looks wrong: a clock that moves evenly is believed. So forgetting waits until the clock
//! has been believed for some minutes and has not jumped meanwhile. The jump is looked for here
//! too, since a clock may be believed again between two looks.
//!
//! Agents forget history by it, coordinators forget agents.

use std::time::Duration;

use crate::limits;
use crate::time::{Mono, Now};

/// How long the clock must have been believed. Time synchronization sets a clock that is off
/// within this after it has come up.
pub const STEADY_AFTER: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default)]
pub struct SteadyClock {
    /// Since when, and by how much the wall clock was ahead of the boot clock at the last look.
    believed: Option<(Mono, i64)>,
}

impl SteadyClock {
    /// A look at the clocks, at least each few seconds. `verified`: they are believed.
    pub fn look(&mut self, now: Now, verified: bool) {
        let ahead = ahead(now);
        let since = match self.believed {
            Some((since, before)) if ahead.abs_diff(before) <= jump() => since,
            _ => now.mono,
        };
        self.believed = verified.then_some((since, ahead));
    }

    /// For how long it has been believed; `None`: it is not, or has jumped since the last look.
    pub fn believed_for(&self, now: Now) -> Option<Duration> {
        let (since, before) = self.believed?;
        (ahead(now).abs_diff(before) <= jump()).then(|| now.mono.since(since))
    }

    /// Whether what the clock says may be forgotten by.
    pub fn steady(&self, now: Now) -> bool {
        self.believed_for(now).is_some_and(|span| span >= STEADY_AFTER)
    }
}

fn ahead(now: Now) -> i64 {
    now.wall.micros().saturating_sub(i64::try_from(now.mono.micros()).unwrap_or(i64::MAX))
}

fn jump() -> u64 {
    u64::try_from(limits::CLOCK_JUMP.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    const YEARS_MS: i64 = 5 * 365 * 86_400_000;

    fn at(second: u64, ahead_ms: i64) -> Now {
        let ms = i64::try_from(second).unwrap() * 1_000;
        Now {
            wall: Wall::from_millis(1_800_000_000_000 + ms + ahead_ms),
            mono: Mono::from_micros(second * 1_000_000),
        }
    }

    /// Looks each second from `from` to `to`.
    fn looks(clock: &mut SteadyClock, from: u64, to: u64, ahead_ms: i64) {
        (from..=to).for_each(|second| clock.look(at(second, ahead_ms), true));
    }

    #[test]
    fn a_clock_is_steady_once_it_was_believed_for_five_minutes() {
        let mut clock = SteadyClock::default();
        assert!(!clock.steady(at(10, 0)), "nobody has looked");
        looks(&mut clock, 10, 309, 0);
        assert!(!clock.steady(at(309, 0)));
        assert!(clock.steady(at(310, 0)));
        clock.look(at(311, 0), false);
        assert!(!clock.steady(at(311, 0)));
        looks(&mut clock, 312, 611, 0);
        assert!(!clock.steady(at(611, 0)), "it begins anew");
    }

    #[test]
    fn a_clock_that_boots_years_ahead_and_is_set_right_is_never_steady_before() {
        let mut clock = SteadyClock::default();
        looks(&mut clock, 10, 20, YEARS_MS);
        looks(&mut clock, 21, 315, 0);
        assert!(!clock.steady(at(315, 0)), "five minutes since the boot do not count");
        assert!(clock.steady(at(321, 0)));
    }

    #[test]
    fn a_jump_since_the_last_look_counts_at_once() {
        let mut clock = SteadyClock::default();
        looks(&mut clock, 10, 400, 0);
        assert!(clock.steady(at(401, 0)));
        assert!(!clock.steady(at(401, YEARS_MS)));
    }

    #[test]
    fn a_clock_that_is_slewed_stays_steady() {
        let mut clock = SteadyClock::default();
        for second in 0..2_000 {
            clock.look(at(second, i64::try_from(second / 2).unwrap()), true);
        }
        assert!(clock.steady(at(2_000, 1_000)));
    }
}
