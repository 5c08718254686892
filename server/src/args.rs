//! The command line of `tocktower`.
//!
//! Every key of the configuration file is a flag of the same name. The flags hold text: what a
//! value means, and whether it is allowed, is decided in one place for flag, environment and file
//! alike (`config`), so that a wrong one is told in the same words and all of them at once. What is
//! left to clap is usage: unknown flags and commands end with exit code 2.
//!
//! A default is written into the help text and once more into `config`; a test compares them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::raise_epoch::{self, RaiseEpochArgs};

/// A distributed task scheduler: every task runs at its time, on a fleet of hosts.
#[derive(Parser, Debug)]
#[command(name = "tocktower", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = TOP_EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    #[command(flatten)]
    Daemon(Daemon),
    /// Begins a new epoch, after etcd was put back from a backup.
    #[command(after_help = raise_epoch::EXAMPLES)]
    RaiseEpoch(RaiseEpochArgs),
}

#[derive(Subcommand, Debug)]
pub enum Daemon {
    /// All of Tocktower in one process, on one host, with nothing else installed.
    #[command(after_help = DEV_EXAMPLES)]
    Dev(DevArgs),
    /// The daemon of a host: holds ranges, runs tasks, keeps their history.
    #[command(after_help = AGENT_EXAMPLES)]
    Agent(Box<AgentArgs>),
    /// A stateless server of the client API; run two or more behind one name.
    #[command(after_help = COORDINATOR_EXAMPLES)]
    Coordinator(Box<CoordinatorArgs>),
}

/// What every daemon takes.
#[derive(Args, Debug, Default, Clone)]
pub struct CommonArgs {
    /// A TOML file with the keys that are flags here [env: TOCKTOWER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Looks at the configuration, prints what is in effect, and ends
    #[arg(long)]
    pub check: bool,
    /// What is logged: error, warn, info, debug, trace, or a filter by module [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How logs are written, to standard error: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// How long SIGTERM and SIGINT wait for an orderly end [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub drain_timeout: Option<String>,
}

#[derive(Args, Debug, Default, Clone)]
pub struct DevArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Where the client API is served; loopback only [default: 127.0.0.1:7080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where tasks and history are kept [default: ~/.local/share/tocktower]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Creates a few sample tasks in the namespace `sample`, if they are not there [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub sample: Option<String>,
    /// The name of the one agent [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Args, Debug, Default, Clone)]
pub struct AgentArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// The members of etcd, separated by commas
    #[arg(long, value_name = "URL,URL")]
    pub etcd: Vec<String>,
    /// The agent's name, one of its own in the fleet [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The pool whose tasks it runs [default: default]
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// A label of this agent; may be given again, or several separated by commas
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Where its store lies [default: /var/lib/tocktower]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where `/metrics` and `/healthz` are served; left out: nowhere
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<String>,
    /// How long etcd keeps its claims when it falls silent [default: 3s]
    #[arg(long, value_name = "DURATION")]
    pub lease_ttl: Option<String>,
    /// Its share of the ranges beside agents of weight 100 [default: 100]
    #[arg(long, value_name = "NUMBER")]
    pub weight: Option<String>,
    /// Attempts that run here at once [default: 1000]
    #[arg(long, value_name = "NUMBER")]
    pub max_running: Option<String>,
    /// Users other than the agent's own that tasks may run as, separated by commas
    #[arg(long, value_name = "USER,USER")]
    pub allow_users: Vec<String>,
    /// Lets http tasks reach link-local and metadata addresses [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub http_allow_link_local: Option<String>,
    /// Runs older than this leave the history [default: 30d]
    #[arg(long, value_name = "DURATION")]
    pub history_max_age: Option<String>,
    /// The oldest runs leave a history larger than this [default: 10GiB]
    #[arg(long, value_name = "SIZE")]
    pub history_max_bytes: Option<String>,
    /// Runs of one task that the history keeps [default: 10000]
    #[arg(long, value_name = "NUMBER")]
    pub history_max_runs: Option<String>,
    /// What has to stay free on its disk: below it nothing starts and its ranges go to others
    /// [default: 1GiB, or a twentieth of a smaller disk]
    #[arg(long, value_name = "SIZE")]
    pub disk_reserve: Option<String>,
    /// Under which keys of etcd this cluster lives [default: /tocktower/v1/]
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Compacts etcd when no coordinator does; false where others share it [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub compact: Option<String>,
    /// Lets a listener off the loopback start, without TLS or tokens [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub insecure: Option<String>,
}

#[derive(Args, Debug, Default, Clone)]
pub struct CoordinatorArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// The members of etcd, separated by commas
    #[arg(long, value_name = "URL,URL")]
    pub etcd: Vec<String>,
    /// Where the client API and the agents' links are served [default: 127.0.0.1:7080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The address at which agents reach this coordinator; left out: `listen`
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The coordinator's name, one of its own in the fleet [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,
    /// How many ranges a new cluster has, a power of two; fixed from its first start on
    #[arg(long, value_name = "NUMBER")]
    pub ranges: Option<String>,
    /// Under which keys of etcd this cluster lives [default: /tocktower/v1/]
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Compacts etcd; false where others share it [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub compact: Option<String>,
    /// An agent that was away for so long is forgotten [default: 30d]
    #[arg(long, value_name = "DURATION")]
    pub forget_agents_after: Option<String>,
    /// Lets a listener off the loopback start, without TLS or tokens [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub insecure: Option<String>,
}

const TOP_EXAMPLES: &str = "\
Examples:
  tocktower dev --sample
      everything in one process on 127.0.0.1:7080, with tasks to look at
  tocktower coordinator --etcd http://127.0.0.1:2379
  tocktower agent --etcd http://127.0.0.1:2379 --data-dir ./agent
      a fleet of one coordinator and one agent on an etcd of this host

Each daemon's own help tells its keys: tocktower agent --help";

const DEV_EXAMPLES: &str = "\
Every key can stand in the file (listen = \"127.0.0.1:7080\") and in the environment
(TOCKTOWER_LISTEN). A flag goes before the environment, that before the file.

Examples:
  tocktower dev
  tocktower dev --sample --data-dir ./tocktower-data
  tocktower dev --listen 127.0.0.1:8080 --check";

const AGENT_EXAMPLES: &str = "\
Every key can stand in the file (lease-ttl = \"3s\") and in the environment
(TOCKTOWER_LEASE_TTL). A flag goes before the environment, that before the file.

Examples:
  tocktower agent --etcd http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379
  tocktower agent --config /etc/tocktower/agent.toml
  tocktower agent --config /etc/tocktower/agent.toml --check
  tocktower agent --etcd http://127.0.0.1:2379 --pool batch --label rack=b2 --allow-users backup";

const COORDINATOR_EXAMPLES: &str = "\
Every key can stand in the file (compact = false) and in the environment
(TOCKTOWER_COMPACT). A flag goes before the environment, that before the file.

Examples:
  tocktower coordinator --etcd http://127.0.0.1:2379
  tocktower coordinator --config /etc/tocktower/coordinator.toml --check
  tocktower coordinator --etcd http://127.0.0.1:2379 --ranges 4096 --compact=false";
