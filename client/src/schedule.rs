//! Schedules as values that read like a sentence: `Cron::new("@daily").in_zone("Europe/Berlin")`.
//!
//! Each is a thin layer over its message on the wire and says nothing about what is valid: a cron
//! expression is checked by the server, which has the time zones that the agents have, and answers
//! with every wrong field at once.

use std::time::{Duration, SystemTime};

use tocktower_proto::v1;

use crate::time::{span, timestamp};

/// A cron expression with what it needs to be unambiguous.
///
/// ```
/// use tocktower_client::{Cron, Fold, Gap};
///
/// let nightly = Cron::new("30 2 * * *").in_zone("Europe/Berlin").gap(Gap::Skip).fold(Fold::First);
/// let last_friday = Cron::quartz("0 0 18 ? * 6L");
/// # let _ = (nightly, last_friday);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cron(v1::Cron);

/// What becomes of a local time that a forward change of the clock leaves out.
pub use v1::Gap;

/// What becomes of a local time that a backward change of the clock brings twice.
pub use v1::Fold;

impl Cron {
    /// In the dialect of crontabs: 5 fields, 6 with seconds first, 7 with the year last, macros,
    /// `H`. In UTC, unless a zone is named.
    pub fn new(expression: impl Into<String>) -> Cron {
        Cron(v1::Cron { expression: expression.into(), ..v1::Cron::default() })
    }

    /// In the dialect of Quartz.
    pub fn quartz(expression: impl Into<String>) -> Cron {
        let mut cron = Cron::new(expression);
        cron.0.set_dialect(v1::Dialect::Quartz);
        cron
    }

    /// By the clocks of this IANA zone, such as `Europe/Berlin`.
    pub fn in_zone(mut self, zone: impl Into<String>) -> Cron {
        self.0.time_zone = zone.into();
        self
    }

    /// What to do with local times that do not exist; left out: run as soon as the gap is over.
    pub fn gap(mut self, gap: Gap) -> Cron {
        self.0.set_gap(gap);
        self
    }

    /// What to do with local times that come twice; left out: run at the first.
    pub fn fold(mut self, fold: Fold) -> Cron {
        self.0.set_fold(fold);
        self
    }
}

impl<T: Into<String>> From<T> for Cron {
    fn from(expression: T) -> Cron {
        Cron::new(expression)
    }
}

/// When a task is due: once, by a cron expression, or every so often.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule(v1::Schedule);

impl Schedule {
    /// Once, at this moment.
    pub fn at(time: impl Into<SystemTime>) -> Schedule {
        Schedule::of(v1::schedule::Kind::At(timestamp(time.into())))
    }

    /// By a cron expression.
    pub fn cron(cron: impl Into<Cron>) -> Schedule {
        Schedule::of(v1::schedule::Kind::Cron(cron.into().0))
    }

    /// Again and again, counted from the Unix epoch; a second at least.
    pub fn every(interval: Duration) -> Schedule {
        let every = v1::Every { interval: Some(span(interval)), phase: None };
        Schedule::of(v1::schedule::Kind::Every(every))
    }

    /// As `every`, and `phase` after each full interval.
    pub fn every_with_phase(interval: Duration, phase: Duration) -> Schedule {
        let every = v1::Every { interval: Some(span(interval)), phase: Some(span(phase)) };
        Schedule::of(v1::schedule::Kind::Every(every))
    }

    fn of(kind: v1::schedule::Kind) -> Schedule {
        Schedule(v1::Schedule { kind: Some(kind) })
    }
}

impl From<Schedule> for v1::Schedule {
    fn from(schedule: Schedule) -> v1::Schedule {
        schedule.0
    }
}

impl From<v1::Schedule> for Schedule {
    fn from(schedule: v1::Schedule) -> Schedule {
        Schedule(schedule)
    }
}

impl From<Cron> for Schedule {
    fn from(cron: Cron) -> Schedule {
        Schedule::cron(cron)
    }
}
