//! The command line of Tocktower, `tock`, on the SDK.
//!
//! `args` says what can be written, `commands` does it, `print` is the only place that writes to
//! the terminal. A command gets a `Context` (the client, the namespace, the printer) and gives an
//! `Outcome`; what goes wrong is an error, and `failure` alone decides what is said about it and
//! which exit code it is: 0 done, 1 refused or failed, 2 wrong usage, 3 not reachable.
//!
//! `import::crontab` is a pure parser that knows nothing of the rest.

pub mod args;
mod commands;
mod config;
mod context;
mod failure;
mod host;
pub mod import;
pub mod print;
pub mod reference;
mod table;
mod when;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::failure::Outcome;
use crate::print::Printer;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut printer = Printer::of_process(cli.global.output);
    let result = run(cli, &mut printer);
    failure::exit(result, &mut printer)
}

fn run(cli: Cli, printer: &mut Printer) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(async {
        let mut context = Context::new(&cli.global, printer)?;
        commands::run(cli.command, &mut context).await
    })
}
