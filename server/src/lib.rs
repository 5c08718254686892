//! The daemons of Tocktower as programs: what they are told, how they log, how they begin and end.
//!
//! The daemons themselves are libraries (`tocktower-agent`, `tocktower-coordinator`) that know
//! nothing of files, environments, signals or systemd. This crate reads a configuration, hands over
//! what it says, and stands round the daemon until it has ended; one file a daemon says how it is
//! put together. So `dev` can run all of them in one process, and so can tests.
//!
//! Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 78 wrong configuration.

mod agent;
mod agent_http;
pub mod args;
pub mod config;
mod coordinator;
mod dev;
mod host;
pub mod logging;
pub mod notify;
pub mod raise_epoch;
pub mod sample;
pub mod shell;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;
use tracing::{error, info, warn};

use crate::args::{Cli, Command};
use crate::config::{Config, Environment, Loaded, Problems};
use crate::notify::Supervisor;
use crate::shell::{Running, Signals};

/// `EX_CONFIG` of sysexits: trying again will not help.
const EXIT_CONFIGURATION: u8 = 78;

/// How long threads that block are waited for at the end.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let daemon = match &cli.command {
        Command::Daemon(daemon) => daemon,
        Command::RaiseEpoch(args) => return raise_epoch::main(args, &environment()),
    };
    match config::load(daemon, &environment()) {
        Ok(loaded) if config::common_args(daemon).check => check(&loaded),
        Ok(loaded) => run(loaded),
        Err(problems) => {
            say(&mut io::stderr(), &problems.to_string());
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

/// What of the process's environment can be read as text; the rest cannot be ours.
fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn check(loaded: &Loaded) -> ExitCode {
    say(&mut io::stdout(), &loaded.effective);
    for name in &loaded.strangers {
        say(&mut io::stderr(), &format!("configuration: {name} {}\n", config::STRANGER));
    }
    ExitCode::SUCCESS
}

fn run(loaded: Loaded) -> ExitCode {
    let outcome = logging::start(&loaded.common).and_then(|()| {
        for name in &loaded.strangers {
            warn!(variable = name, "{}", config::STRANGER);
        }
        start(loaded)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => {
                say(&mut io::stderr(), &problems.to_string());
                ExitCode::from(EXIT_CONFIGURATION)
            }
            None => {
                error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Starts the daemon and returns when it has ended.
fn start(loaded: Loaded) -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(live(loaded));
    // What still blocks a thread now was not worth waiting for, or it would have been drained.
    runtime.shutdown_timeout(LEFT_BEHIND);
    ended
}

async fn live(loaded: Loaded) -> anyhow::Result<()> {
    let mut signals = Signals::catch()?;
    let supervisor = Supervisor::of_this_process();
    let running = tokio::select! {
        running = begin(loaded.config) => running?,
        name = signals.next() => {
            info!(signal = name, "ended before it was ready");
            return Ok(());
        }
    };
    shell::serve(running, signals, &supervisor, loaded.common.drain_timeout).await?;
    Ok(())
}

async fn begin(config: Config) -> anyhow::Result<Running> {
    match config {
        Config::Dev(config) => Box::pin(dev::start(config)).await,
        Config::Agent(config) => Box::pin(agent::start(config)).await,
        Config::Coordinator(config) => Box::pin(coordinator::start(config)).await,
    }
}

/// A reader that went away (`--check | head`) is no failure.
fn say(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}
