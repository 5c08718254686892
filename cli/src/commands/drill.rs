//! `tock drill …`: what is asked is checked and confirmed here, the drills do the rest.
//!
//! What goes on is told on the standard error, the reports come when all drills are over: a table
//! with a line for each, and what broke below it. A drill that could not be carried through fails
//! the command, and the others run all the same.

use std::io::BufRead;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tocktower_drills::plan::{self, Drill, Reach};
use tocktower_drills::{Error, Ground, Named, Options, Places, Report};

use crate::args::drill::{DrillCommand, On};
use crate::context::Context;
use crate::failure::{Outcome, Usage};
use crate::table;

/// A drill of the list, for scripts.
#[derive(Serialize)]
struct Listed {
    name: String,
    about: String,
    lasts_s: u64,
    /// Whether it can be done to a fleet that is named, by its API.
    by_api: bool,
}

pub fn run(command: DrillCommand, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    match command {
        DrillCommand::List => list(context),
        DrillCommand::Run(args) => {
            let find = |name: &String| {
                plan::find(name).ok_or_else(|| {
                    let all = if name == "all" { ", or run `tock drill all`" } else { "" };
                    Usage(format!("there is no drill {name:?}: see `tock drill list`{all}"))
                })
            };
            let drills = args.drills.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            perform(&drills, &args.on, context)
        }
        DrillCommand::All(on) => {
            let possible = |drill: &Drill| on.fleet.is_none() || drill.reach() == Reach::Api;
            let drills: Vec<Drill> = plan::catalogue().into_iter().filter(possible).collect();
            perform(&drills, &on, context)
        }
    }
}

fn list(context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    let listed = |drill: Drill| Listed {
        lasts_s: drill.lasts.as_secs(),
        by_api: drill.reach() == Reach::Api,
        name: drill.name,
        about: drill.about,
    };
    let mut all = plan::catalogue();
    all.push(plan::smoke());
    let shown: Vec<Listed> = all.iter().cloned().map(listed).collect();
    context.printer.answer(&shown, |printer| printer.table(&table::drills(&all)))?;
    Ok(Outcome::Done)
}

fn perform(drills: &[Drill], on: &On, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    tocktower_drills::check_rate(on.runs_per_second).map_err(|error| Usage(error.to_string()))?;
    let ground = ground(on, context)?;
    if let Ground::Local(places) = &ground {
        // Everything that is missing, before the first of them begins.
        tocktower_drills::find_programs(places, drills)?;
    }
    let options = Options { ground, runs_per_second: on.runs_per_second, keep: on.keep };
    let (mut reports, mut failed) = (Vec::new(), false);
    for drill in drills {
        let printer = &mut *context.printer;
        match tocktower_drills::run(drill, &options, &mut |line| printer.error(line)) {
            Ok(report) => reports.push(report),
            Err(error) if drills.len() == 1 => return Err(own(error)),
            Err(error) => {
                failed = true;
                let over = matches!(error, Error::Interrupted);
                let error = own(error).context(format!("{} failed", drill.name));
                crate::failure::tell(&error, context.printer);
                if over {
                    break;
                }
            }
        }
    }
    if let Some(file) = &on.json {
        let text = serde_json::to_string_pretty(&reports)?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    show(&reports, context)?;
    failed |= reports.iter().any(|report| !report.passed);
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

/// An error of the SDK is told, and ends the command, as everywhere else.
fn own(error: Error) -> anyhow::Error {
    match error {
        Error::Api { what, source } => {
            anyhow::Error::from(source).context(format!("{what} failed"))
        }
        error => error.into(),
    }
}

/// Which fleet, and that it is meant.
fn ground(on: &On, context: &mut Context<'_>) -> anyhow::Result<Ground> {
    let Some(fleet) = &on.fleet else {
        let (tocktower, etcd) = (on.tocktower.clone(), on.etcd.clone());
        return Ok(Ground::Local(Places { tocktower, etcd }));
    };
    let confirmed = match &on.confirm {
        Some(confirm) => confirm.clone(),
        None if context.printer.is_interactive() => {
            context.printer.error(&format!("Faults will be done to {fleet}. Write it again:"));
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim().to_owned()
        }
        None => {
            let what = format!("say that {fleet} is meant: --confirm {fleet}");
            return Err(Usage(what).into());
        }
    };
    if confirmed != *fleet {
        bail!("{fleet} was named and {confirmed:?} confirmed: nothing has been done");
    }
    Ok(Ground::Named(Named {
        servers: fleet.split(',').map(str::to_owned).collect(),
        token: context.token(),
        pool: on.pool.clone(),
        agent: on.agent.clone(),
    }))
}

fn show(reports: &[Report], context: &mut Context<'_>) -> anyhow::Result<()> {
    context.printer.answer(&reports, |printer| {
        printer.table(&table::reports(reports))?;
        for report in reports {
            for broken in &report.broken {
                printer.line(&format!("{}: {broken}", report.drill))?;
            }
            if let Some(late) = report.late_in_moves.filter(|late| *late > 0) {
                let what = "started later than 50 ms from the first planned move on";
                printer.line(&format!("{}: {late} instants {what}", report.drill))?;
            }
        }
        Ok(())
    })
}
