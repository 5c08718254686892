//! `tock schedule …`.
//!
//! A schedule can be tried without a task. The options are those of `task create`, so that what was
//! tried can be copied there; only the cron expression itself needs no flag here, as it is what the
//! command is about.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;

use super::value;

#[derive(Subcommand, Debug)]
pub enum ScheduleCommand {
    /// Show the next instants of a schedule, and say it in words
    Preview(Preview),
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:
  tock schedule preview '30 2 * * *' --tz Europe/Berlin
  tock schedule preview '0 0 18 ? * 6L' --dialect quartz --count 5
  tock schedule preview 'H H * * *' --name ops/nightly
  tock schedule preview --every 15m --phase 2m",
    group = ArgGroup::new("when").required(true).args(["expression", "every"])
)]
pub struct Preview {
    /// Cron expression
    #[arg(value_name = "EXPRESSION")]
    pub expression: Option<String>,
    /// Time zone of the expression [default: UTC]
    #[arg(long = "tz", value_name = "ZONE", requires = "expression")]
    pub zone: Option<String>,
    /// Whose rules the expression follows
    #[arg(long, value_name = "DIALECT", requires = "expression")]
    pub dialect: Option<value::Dialect>,
    /// What becomes of local times that a forward change of the clock leaves out [default: after]
    #[arg(long, value_name = "RULE", requires = "expression")]
    pub gap: Option<value::Gap>,
    /// What becomes of local times that a backward change brings twice [default: first]
    #[arg(long, value_name = "RULE", requires = "expression")]
    pub fold: Option<value::Fold>,
    /// Interval
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub every: Option<Duration>,
    /// By how much each interval is moved
    #[arg(long, value_name = "DURATION", value_parser = value::duration, requires = "every")]
    pub phase: Option<Duration>,
    /// How many instants
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub count: u32,
    /// Instants after this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub after: Option<Timestamp>,
    /// Name of the task that H spreads by, a name or <namespace>/<name>
    #[arg(long, value_name = "TASK")]
    pub name: Option<String>,
}
