//! `tock run …`.
//!
//! A run is named by its id, which is opaque: it is copied from a list, never put together. What
//! lists and watches have in common (a task, all namespaces) is written in the same way in both,
//! and times may be written as people think of them (`24h` ago), or exactly.

use clap::{Args, Subcommand};

use super::value;

#[derive(Subcommand, Debug)]
pub enum RunCommand {
    /// List runs, the newest first
    List(List),
    /// Show a run with its attempts
    #[command(after_help = "Examples:
  tock run get default/nightly@1795055400000-2t8w")]
    Get(Id),
    /// Print what a run wrote
    Output(Output),
    /// End a run
    #[command(after_help = "Examples:
  tock run cancel default/nightly@1795055400000-2t8w")]
    Cancel(Id),
    /// Print runs as they change, until interrupted
    Watch(Watch),
}

#[derive(Args, Debug)]
pub struct Id {
    /// Id of the run, as `run list` shows it
    #[arg(value_name = "RUN")]
    pub run: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock run list
  tock run list nightly --since 7d
  tock run list -A --state failed --state timed_out --since 24h -o json")]
pub struct List {
    /// Runs of this task only, a name or <namespace>/<name>
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
    /// Runs of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "task"])]
    pub all_namespaces: bool,
    /// In this state; may be repeated
    #[arg(long = "state", value_name = "STATE")]
    pub states: Vec<value::RunState>,
    /// Scheduled at or after this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = value::when)]
    pub since: Option<value::When>,
    /// Scheduled before this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = value::when)]
    pub until: Option<value::When>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock run output default/nightly@1795055400000-2t8w
  tock run output -f default/nightly@1795055400000-2t8w
  tock run output --stream stderr --attempt 1 default/nightly@1795055400000-2t8w")]
pub struct Output {
    /// Id of the run, as `run list` shows it
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Go on until the attempt ends
    #[arg(short, long)]
    pub follow: bool,
    /// Which of its streams
    #[arg(long, value_name = "STREAM", default_value = "stdout")]
    pub stream: value::Stream,
    /// Which attempt; 0 is the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub attempt: u32,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock run watch
  tock run watch nightly
  tock run watch -A --label team=db -o json")]
pub struct Watch {
    /// Runs of this task only, a name or <namespace>/<name>
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
    /// Runs of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "task"])]
    pub all_namespaces: bool,
    /// Of tasks with this label; may be repeated
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
}
