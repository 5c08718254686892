//! `tock schedule …`.
//!
//! The preview is the server's: it has the time zones that the agents have, and its words and
//! warnings (a clock change ahead) are those that the API gives. Instants are shown by the clocks
//! of the zone of the schedule, as that is where one looks to see whether they are meant.

use tocktower_client::{Cron, Schedule, json};

use super::warn;
use crate::args::schedule::{Preview, ScheduleCommand};
use crate::args::value::Dialect;
use crate::context::Context;
use crate::failure::Outcome;
use crate::table;
use crate::when::sdk_time;

pub async fn run(command: ScheduleCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let ScheduleCommand::Preview(args) = command;
    let task = args.name.as_deref().map(|name| context.task_name(name));
    let task = task.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    let after = args.after.map(sdk_time);
    let schedules = vec![schedule(&args)];
    let preview = context.client()?.preview(schedules, args.count, after, task).await?;
    warn(context.printer, &preview.warnings);
    let clock = context.clock.clone();
    context.printer.answer(&json::preview(&preview), |printer| {
        printer.line(&preview.description)?;
        printer.table(&table::instants(&preview.instants, &clock))
    })?;
    Ok(Outcome::Done)
}

fn schedule(args: &Preview) -> Schedule {
    match (&args.expression, args.every) {
        (Some(expression), _) => {
            let mut cron = match args.dialect.unwrap_or_default() {
                Dialect::Crontab => Cron::new(expression),
                Dialect::Quartz => Cron::quartz(expression),
            };
            if let Some(zone) = &args.zone {
                cron = cron.in_zone(zone);
            }
            if let Some(gap) = args.gap {
                cron = cron.gap(gap.into());
            }
            if let Some(fold) = args.fold {
                cron = cron.fold(fold.into());
            }
            Schedule::cron(cron)
        }
        (None, every) => {
            let every = every.unwrap_or_default();
            Schedule::every_with_phase(every, args.phase.unwrap_or_default())
        }
    }
}
