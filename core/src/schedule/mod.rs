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
pub mod zone;

pub use cron::{Cron, CronError, Dialect};
pub use dst::{Fold, Gap};
pub use zone::{Zone, ZoneError, tz_database_version};
