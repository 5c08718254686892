//! `tock agent …`, `tock pool …` and `tock range …`.
//!
//! Looking is here, what is asked of an agent that is there, and forgetting those that are gone for
//! good. A drain waits by itself, as its next step is always the same: to stop the host.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::value;

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
    /// Have an agent hand its ranges over, and wait until it may be stopped
    Drain(Drain),
    /// Let an agent take no more ranges; it keeps those that it has
    #[command(after_help = "Examples:
  tock agent cordon web-12

It keeps its ranges as long as it runs: one that is stopped comes back without any. Agent drain
takes them away as well, agent uncordon ends both.")]
    Cordon {
        /// Name of the agent
        agent: String,
    },
    /// End a cordon or a drain: ranges come back
    #[command(after_help = "Examples:
  tock agent uncordon web-12")]
    Uncordon {
        /// Name of the agent
        agent: String,
    },
    /// Set an agent's share of the ranges beside agents of weight 100
    Weight(Weight),
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

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock agent drain web-12 && ssh web-12 systemctl stop tocktower-agent
  tock agent drain web-12 --timeout 1h
  tock agent drain web-12 --no-wait

Its ranges go to others a few at a time; what runs goes on, and nothing is repeated. It exits with 0
once the agent holds nothing and all that it ran of them is settled, and with 1 when the time is
over; the drain goes on then. The agent stays empty until agent uncordon, also when it is started
again. Where no other agent of its pool takes ranges it keeps its own.

Tasks that are pinned to it, and its share of those of every agent, nobody else can run: they go on
until it is stopped. SIGTERM, as of systemctl stop, waits for those that run, for drain-timeout.")]
pub struct Drain {
    /// Name of the agent
    pub agent: String,
    /// Wait until it may be stopped, as is done anyway
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Ask for it, and do not wait
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "10m")]
    pub timeout: Duration,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("to").required(true), after_help = "Examples:
  tock agent weight web-12 50
  tock agent weight web-12 --as-configured

It holds in place of the agent's own configuration until it is taken back, also when the agent is
started again.")]
pub struct Weight {
    /// Name of the agent
    pub agent: String,
    /// 0 to 1000; 0 holds none
    #[arg(group = "to", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub weight: Option<u32>,
    /// As the agent is configured
    #[arg(long, group = "to")]
    pub as_configured: bool,
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
