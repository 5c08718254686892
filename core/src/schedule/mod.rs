//! Schedules: from what a person wrote to the instants at which a task runs.
//!
//! Everything here is a pure function of its arguments. The same task must get the same instants on
//! every agent, before and after a failover and in the simulator, so no clock is read, nothing is
//! random, and the time zone database is the one compiled in.
//!
//! The one question that the rest of the system asks is "what comes strictly after this instant?".
//! Agents ask it again after each run instead of keeping a list: the answer costs about a
//! microsecond, and a list would be wrong after the first edit.
//!
//! `cron` and `every` make instants; `dst` and `zone` map local time to real time; `instants` joins
//! the schedules of one task; `jitter` turns an instant into a due; `warnings` says what a person
//! should know before saving.

pub mod cron;
pub mod dst;
pub mod every;
pub mod instants;
pub mod jitter;
pub mod warnings;
mod words;
pub mod zone;

pub use cron::{Cron, CronError, Dialect};
pub use dst::{Fold, Gap};
pub use every::{Every, EveryError};
pub use instants::{Instants, Timetable};
pub use warnings::{Warning, WarningCode, warnings};
pub use zone::{Zone, ZoneError, tz_database_version};

use crate::time::Instant;

static UTC: Zone = Zone::UTC;

/// What makes the instants of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Once.
    At(Instant),
    /// Local times that match an expression.
    Cron(Cron),
    /// A fixed spacing.
    Every(Every),
}

impl Schedule {
    /// The first instant strictly after `after`; `None` if there is none any more.
    pub fn next_after(&self, after: Instant) -> Option<Instant> {
        match self {
            Schedule::At(at) => (*at > after).then_some(*at),
            Schedule::Cron(cron) => cron.next_after(after),
            Schedule::Every(every) => every.next_after(after),
        }
    }

    /// The zone in which its dates are meant: UTC but for cron expressions.
    pub fn zone(&self) -> &Zone {
        match self {
            Schedule::Cron(cron) => cron.zone(),
            Schedule::At(_) | Schedule::Every(_) => &UTC,
        }
    }

    /// The schedule in plain language: "At 02:30 every day, Europe/Berlin".
    pub fn describe(&self) -> String {
        match self {
            Schedule::At(at) => {
                let (local, _) = Zone::UTC.local(*at);
                format!("Once, on {} at {}, UTC", local.date(), local.time())
            }
            Schedule::Cron(cron) => cron.describe(),
            Schedule::Every(every) => every.describe(),
        }
    }
}
