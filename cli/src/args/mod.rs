//! What can be written on the command line. Each command says by example how it is used, as most
//! people read nothing else; the texts are checked in as `cli/tests/golden/cli.md`, so that a
//! change of them is seen in review.
//!
//! Values are parsed here, by clap, so that everything that is written wrongly ends with exit code
//! 2 and a word about the argument, before anything is sent.

pub mod drill;
pub mod fleet;
pub mod import;
pub mod run;
pub mod schedule;
pub mod task;
pub mod value;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Everything written on the command line.
#[derive(Parser, Debug)]
#[command(
    name = "tock",
    version,
    about = "Runs tasks on a fleet of hosts at the right moment: the command line of Tocktower",
    after_help = "Examples:
  tock task create nightly --cron '30 2 * * *' --tz Europe/Berlin -- /usr/local/bin/backup --all
  tock task list
  tock run list nightly --since 24h
  tock import crontab /etc/crontab --system --dry-run

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reachable.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes; they win over the context of the configuration file.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Servers, for fail-over separated by commas [default: http://127.0.0.1:7080]
    #[arg(long, global = true, env = "TOCK_SERVER", value_delimiter = ',', value_name = "URL")]
    pub server: Vec<String>,

    /// Token that says who you are
    #[arg(long, global = true, env = "TOCK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,

    /// Namespace of tasks that are named without one [default: default]
    #[arg(short, long, global = true, env = "TOCK_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Form of the answer: a table for people, JSON or YAML for scripts
    #[arg(
        short,
        long,
        global = true,
        env = "TOCK_OUTPUT",
        value_name = "FORM",
        default_value = "table"
    )]
    pub output: Output,

    /// Context of the configuration file to use
    #[arg(long, global = true, env = "TOCK_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// Configuration file [default: ~/.config/tocktower/config.toml]
    #[arg(long, global = true, env = "TOCK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How long to wait for an answer, such as 10s
    #[arg(
        long,
        global = true,
        env = "TOCK_REQUEST_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = value::duration
    )]
    pub request_timeout: Duration,
}

/// Form of an answer.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    #[default]
    Table,
    Json,
    Yaml,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create, change, look at and run tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Look at runs, their output, and what happens now
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Try schedules out
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Take over what other schedulers have
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Look at the agents, drain them, forget those that are gone
    #[command(subcommand)]
    Agent(fleet::AgentCommand),
    /// Look at the pools that agents form
    #[command(subcommand)]
    Pool(fleet::PoolCommand),
    /// Look at who holds which range of tasks
    #[command(subcommand)]
    Range(fleet::RangeCommand),
    /// Do faults to a fleet on purpose, and tell what became of every run
    #[command(subcommand)]
    Drill(drill::DrillCommand),
    /// Print the completions of a shell
    #[command(after_help = "Examples:
  tock completions bash > /etc/bash_completion.d/tock
  tock completions zsh > ~/.zfunc/_tock")]
    Completions {
        /// Whose completions
        shell: clap_complete::Shell,
    },
}
