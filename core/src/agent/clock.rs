//! Is the wall clock to be believed? It alone decides what is due, so when it moves against the
//! boot clock, or the coordinators disagree with it, nothing pooled starts and no mark moves until
//! the offset was measured again, or there was nobody to ask for 2 s.

use crate::limits;
use crate::time::{Mono, Now};

#[derive(Debug)]
pub(crate) struct ClockWatch {
    /// Wall minus boot clock, in microseconds, when both were last believed.
    base: i64,
    unverified_since: Option<Mono>,
    offset: Option<(i64, Mono)>,
    /// The wall clock moved since somebody asked.
    moved: bool,
}

/// What a reading of the clocks showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Steady,
    /// The wall clock moved by so many microseconds.
    Moved(i64),
    /// It is believed again.
    Verified,
}

impl ClockWatch {
    pub fn new(now: Now) -> ClockWatch {
        ClockWatch { base: difference(now), unverified_since: None, offset: None, moved: false }
    }

    pub fn observe(&mut self, now: Now) -> Seen {
        let moved = difference(now).saturating_sub(self.base);
        if moved.unsigned_abs() > micros(limits::CLOCK_JUMP) {
            self.base = difference(now);
            self.unverified_since = Some(now.mono);
            self.moved = true;
            return Seen::Moved(moved);
        }
        // A clock that is slewed drifts from its base slowly; the base follows it.
        self.base += moved / 64;
        match self.unverified_since {
            Some(since) if now.mono.since(since) >= limits::CLOCK_ALONE => {
                self.unverified_since = None;
                Seen::Verified
            }
            _ => Seen::Steady,
        }
    }

    /// The offset to the coordinators was measured.
    pub fn measured(&mut self, now: Now, offset_micros: i64) {
        self.offset = Some((offset_micros, now.mono));
        if offset_micros.unsigned_abs() > micros(limits::CLOCK_OFFSET) {
            self.unverified_since.get_or_insert(now.mono);
        } else {
            self.unverified_since = None;
        }
    }

    pub fn verified(&self) -> bool {
        self.unverified_since.is_none()
    }

    /// Whether the wall clock moved since the last call.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The coordinators' time minus ours, if it was measured lately.
    pub fn offset(&self, now: Now) -> Option<i64> {
        let (offset, at) = self.offset?;
        (now.mono.since(at) <= limits::CLOCK_MEASURED).then_some(offset)
    }
}

fn difference(now: Now) -> i64 {
    now.wall.micros().saturating_sub(i64::try_from(now.mono.micros()).unwrap_or(i64::MAX))
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn at(wall_ms: i64, mono_ms: u64) -> Now {
        Now { wall: Wall::from_millis(wall_ms), mono: Mono::from_micros(mono_ms * 1_000) }
    }

    #[test]
    fn a_step_of_the_wall_clock_is_seen_and_believed_after_two_seconds_alone() {
        let mut clock = ClockWatch::new(at(1_000_000, 0));
        assert_eq!(clock.observe(at(1_000_100, 100)), Seen::Steady);
        assert_eq!(clock.observe(at(990_200, 200)), Seen::Moved(-10_000_000));
        assert!(!clock.verified());
        assert_eq!(clock.observe(at(992_199, 2_199)), Seen::Steady);
        assert_eq!(clock.observe(at(992_200, 2_200)), Seen::Verified);
        assert!(clock.verified());
    }

    #[test]
    fn slewing_is_not_a_step() {
        let mut clock = ClockWatch::new(at(0, 0));
        for second in 1..1_000u64 {
            let drifted = i64::try_from(second).unwrap() * 1_000 * 10_005 / 10_000;
            assert_eq!(clock.observe(at(drifted, second * 1_000)), Seen::Steady);
        }
    }

    #[test]
    fn a_large_offset_stops_and_a_small_one_frees() {
        let mut clock = ClockWatch::new(at(0, 0));
        clock.measured(at(1, 1), 900_000);
        assert!(!clock.verified());
        clock.measured(at(2, 2), -3_000);
        assert!(clock.verified());
    }
}
