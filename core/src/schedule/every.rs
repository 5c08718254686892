//! Fixed spacing: "every 15 minutes".
//!
//! Instants are aligned to the Unix epoch and not to the creation of the task: they follow from the
//! definition alone, so that a task that is deleted and made again, or moved to another cluster,
//! keeps its rhythm, and no agent has to remember a start. The phase moves them off the mark.

use std::time::Duration;

use super::words;
use crate::limits;
use crate::time::Instant;

/// One instant every so many milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Every {
    every_ms: i64,
    /// As it was given; it may be longer than the spacing.
    phase_ms: i64,
}

/// Why a spacing was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EveryError {
    #[error("every: {given:?} is not allowed: use {:?} to {:?}", limits::EVERY_MIN, LONGEST)]
    OutOfRange { given: Duration },
    #[error("phase: {given:?} is not allowed: use 0s to {:?}", LONGEST)]
    PhaseOutOfRange { given: Duration },
    #[error("{given:?} is finer than a millisecond: use whole milliseconds")]
    TooFine { given: Duration },
}

const LONGEST: Duration = limits::DURATION_MAX;

impl Every {
    /// Checks a spacing of at least [`limits::EVERY_MIN`] and a phase, in whole milliseconds.
    pub fn new(every: Duration, phase: Duration) -> Result<Every, EveryError> {
        if every < limits::EVERY_MIN || every > limits::DURATION_MAX {
            return Err(EveryError::OutOfRange { given: every });
        }
        if phase > limits::DURATION_MAX {
            return Err(EveryError::PhaseOutOfRange { given: phase });
        }
        Ok(Every { every_ms: whole_millis(every)?, phase_ms: whole_millis(phase)? })
    }

    /// The distance from one instant to the next.
    pub fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms.unsigned_abs())
    }

    /// By how much the instants lie after multiples of the spacing since the epoch, as given.
    pub fn phase(&self) -> Duration {
        Duration::from_millis(self.phase_ms.unsigned_abs())
    }

    /// The first instant strictly after `after`; `None` beyond [`Instant::MAX`].
    pub fn next_after(&self, after: Instant) -> Option<Instant> {
        let phase = self.phase_ms % self.every_ms;
        let count = (after.millis() - phase).div_euclid(self.every_ms) + 1;
        let next = count * self.every_ms + phase;
        (next <= Instant::MAX.millis()).then(|| Instant::from_millis(next))
    }

    /// "Every 15 minutes, UTC"
    pub fn describe(&self) -> String {
        let every = words::span(self.every());
        // One of something is "every hour", and not "every 1 hour".
        let every = match every.strip_prefix("1 ") {
            Some(noun) if !noun.contains(' ') => noun,
            _ => every.as_str(),
        };
        if self.phase_ms == 0 {
            return format!("Every {every}, UTC");
        }
        format!("Every {every}, shifted by {}, UTC", words::span(self.phase()))
    }
}

fn whole_millis(span: Duration) -> Result<i64, EveryError> {
    if !span.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(EveryError::TooFine { given: span });
    }
    Ok(i64::try_from(span.as_millis()).expect("at most ten years"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(every: u64, phase: u64) -> Every {
        Every::new(Duration::from_millis(every), Duration::from_millis(phase)).unwrap()
    }

    fn after(every: Every, ms: i64) -> Option<i64> {
        every.next_after(Instant::from_millis(ms)).map(Instant::millis)
    }

    #[test]
    fn instants_are_multiples_of_the_spacing_since_the_epoch() {
        assert_eq!(after(every(900_000, 0), 0), Some(900_000));
        assert_eq!(after(every(900_000, 0), 899_999), Some(900_000));
        assert_eq!(after(every(900_000, 0), 900_000), Some(1_800_000));
        assert_eq!(after(every(1_500, 0), 1_600), Some(3_000));
    }

    #[test]
    fn a_phase_moves_them_and_counts_modulo_the_spacing() {
        assert_eq!(after(every(900_000, 120_000), 0), Some(120_000));
        assert_eq!(after(every(900_000, 120_000), 120_000), Some(1_020_000));
        assert_eq!(after(every(900_000, 1_020_000), 0), Some(120_000));
    }

    #[test]
    fn nothing_lies_beyond_the_last_instant() {
        assert_eq!(after(every(1_000, 1), Instant::MAX.millis() - 999), None);
        assert_eq!(after(every(1_000, 0), Instant::MAX.millis()), None);
    }

    #[test]
    fn a_spacing_below_a_second_and_fractions_of_a_millisecond_are_refused() {
        let made = |every, phase| Every::new(every, phase).unwrap_err().to_string();
        let second = Duration::from_secs(1);
        assert_eq!(
            made(Duration::from_millis(999), Duration::ZERO),
            "every: 999ms is not allowed: use 1s to 316224000s"
        );
        assert!(made(second * 400_000_000, Duration::ZERO).starts_with("every: "));
        assert!(made(second, second * 400_000_000).starts_with("phase: "));
        assert_eq!(
            made(Duration::from_nanos(1_500_000_001), Duration::ZERO),
            "1.500000001s is finer than a millisecond: use whole milliseconds"
        );
    }

    #[test]
    fn the_reading_names_the_spacing_and_the_shift() {
        assert_eq!(every(900_000, 0).describe(), "Every 15 minutes, UTC");
        assert_eq!(every(3_600_000, 0).describe(), "Every hour, UTC");
        assert_eq!(
            every(5_400_000, 120_000).describe(),
            "Every 1 hour and 30 minutes, shifted by 2 minutes, UTC"
        );
    }
}
