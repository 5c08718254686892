//! `tock drill …`.
//!
//! Without `--fleet` a drill touches nothing but what it makes itself. With it, the target is
//! written twice: nobody should do to one fleet what was meant for another because of a line taken
//! from the history of a shell. The context's own server is not used for the same reason.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub enum DrillCommand {
    /// List the drills: what each does, and how long it takes
    #[command(after_help = "Examples:
  tock drill list
  tock drill list -o json")]
    List,
    /// Run drills, and tell what became of every run
    Run(Run),
    /// Run every drill, one after the other
    #[command(after_help = "Examples:
  sudo tock drill all --etcd /usr/bin/etcd --json drills.json

It takes a quarter of an hour, and goes on after a drill that fails. On a fleet that is named it
runs those that are possible there.")]
    All(On),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo tock drill run agent-kill
  sudo tock drill run host-loss etcd-leader-kill --runs-per-second 500 -o json
  tock drill run drain --fleet http://10.0.0.1:7080 --confirm http://10.0.0.1:7080 --agent web-12

It exits with 0 if every promise held, and with 1 if one broke or the drill could not be carried
through. Without --fleet it starts a fleet of its own in network namespaces of this machine, which
needs root and `ip`; all that it makes is gone afterwards, also after Ctrl-C.")]
pub struct Run {
    /// Names of drills, see `tock drill list`
    #[arg(required = true, value_name = "DRILL")]
    pub drills: Vec<String>,
    #[command(flatten)]
    pub on: On,
}

#[derive(Args, Debug)]
pub struct On {
    /// Instants a second of the load, 2 to 2000
    #[arg(long, value_name = "NUMBER", default_value_t = tocktower_drills::limits::RUNS_PER_SECOND)]
    pub runs_per_second: u32,
    /// Write the reports to this file, too, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave the logs and the data of the drill's own fleet
    #[arg(long, conflicts_with = "fleet")]
    pub keep: bool,
    /// The program `tocktower` [default: beside tock, else in PATH]
    #[arg(long, value_name = "FILE", conflicts_with = "fleet")]
    pub tocktower: Option<PathBuf>,
    /// The program `etcd` [default: beside tock, else in PATH]
    #[arg(long, value_name = "FILE", conflicts_with = "fleet")]
    pub etcd: Option<PathBuf>,
    /// Coordinators of a fleet that runs already, separated by commas; only its API is used
    #[arg(long, value_name = "URL")]
    pub fleet: Option<String>,
    /// The same as --fleet once more: that fleet is meant
    #[arg(long, value_name = "URL", requires = "fleet")]
    pub confirm: Option<String>,
    /// The pool of that fleet whose agents run the load
    #[arg(long, value_name = "POOL", requires = "fleet", default_value = "default")]
    pub pool: String,
    /// The agent of that fleet that the faults are done to
    #[arg(long, value_name = "AGENT", requires = "fleet")]
    pub agent: Option<String>,
}
