//! `tock agent …`, `tock pool …` and `tock range …`.
//!
//! Looking is here, and forgetting what is gone for good. What changes an agent that is there (to
//! drain it, to cordon it) comes with the calls that do so; a command that the servers cannot carry
//! out yet has no place on the command line, as it would be accepted and do nothing.

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub enum AgentCommand {
    /// List agents
    #[command(after_help = "Examples:
  tock agent list
  tock agent list --pool edge -o json")]
    List(OfPool),
    /// Show an agent
    #[command(after_help = "Examples:
  tock agent get web-12")]
    Get {
        /// Name of the agent
        agent: String,
    },
    /// Forget an agent that is gone for good
    #[command(after_help = "Examples:
  tock agent forget web-12

It is not shown any more, and lists of runs do not miss its answer. Refused while the agent has a
session or a link; one that comes back registers again. Coordinators do the same by themselves after
forget-agents-after.")]
    Forget {
        /// Name of the agent
        agent: String,
    },
}

#[derive(Subcommand, Debug)]
pub enum PoolCommand {
    /// List pools
    #[command(after_help = "Examples:
  tock pool list")]
    List,
}

#[derive(Subcommand, Debug)]
pub enum RangeCommand {
    /// List ranges with their holders
    #[command(after_help = "Examples:
  tock range list
  tock range list --pool edge -o json")]
    List(OfPool),
}

#[derive(Args, Debug)]
pub struct OfPool {
    /// Of this pool only
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
}
