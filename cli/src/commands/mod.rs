//! What each command does. One file per group of commands; `apply`, `edit` and `create` have files
//! of their own, as they decide something before they send it.
//!
//! A command that names several things does them one after the other, tells what was refused and
//! goes on; it stops only when nobody can be reached, as then all the others would fail in the same
//! way.

pub mod apply;
mod create;
mod drain;
mod drill;
mod edit;
mod files;
mod fleet;
pub mod plan;
mod run;
mod schedule;
mod task;

use clap::CommandFactory;
use tocktower_client::Warning;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::failure::Outcome;
use crate::import;
use crate::print::Printer;

pub async fn run(command: Command, context: &mut Context<'_>) -> anyhow::Result<Outcome> {
    match command {
        Command::Task(command) => Box::pin(task::run(command, context)).await,
        Command::Run(command) => Box::pin(run::run(command, context)).await,
        Command::Schedule(command) => schedule::run(command, context).await,
        Command::Import(command) => Box::pin(import::run(command, context)).await,
        Command::Agent(command) => fleet::agent(command, context).await,
        Command::Pool(command) => fleet::pool(command, context).await,
        Command::Range(command) => fleet::range(command, context).await,
        Command::Drill(command) => drill::run(command, context),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tock", &mut script);
            context.printer.bytes(&script)?;
            Ok(Outcome::Done)
        }
    }
}

/// That an answer may be out of date, on the standard error. It is an answer all the same.
pub fn warn_if_stale(printer: &mut Printer, stale: bool) {
    if stale {
        printer.error(
            "warning: the server cannot reach the shared state: this is what it last knew (stale)",
        );
    }
}

/// What was accepted and should be looked at, on the standard error.
pub fn warn(printer: &mut Printer, warnings: &[Warning]) {
    for warning in warnings {
        printer.error(&format!("warning: {} ({})", warning.message, warning.code));
    }
}
