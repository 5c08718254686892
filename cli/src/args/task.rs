//! `tock task …`.
//!
//! `create` has many flags, so they stand under headings: when, what, how. Exactly one kind of
//! schedule and one kind of action must be given, which clap checks; what the values mean is
//! checked by the server's own rules, so that no rule is written twice. A flag that only makes
//! sense with another one says so, instead of being ignored without it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use tocktower_client::Task;

use super::value;

#[derive(Subcommand, Debug)]
pub enum TaskCommand {
    /// Create a task
    Create(Box<Create>),
    /// Make the tasks what files say
    Apply(Apply),
    /// Show a task with its last run
    #[command(after_help = "Examples:
  tock task get nightly
  tock task get ops/nightly -o yaml")]
    Get(Name),
    /// List tasks
    List(List),
    /// Change a task in your editor
    #[command(after_help = "Examples:
  tock task edit nightly
  EDITOR='code --wait' tock task edit ops/nightly")]
    Edit(Name),
    /// Start nothing more of tasks until they are resumed
    #[command(after_help = "Examples:
  tock task pause nightly weekly")]
    Pause(Names),
    /// End the pause of tasks
    #[command(after_help = "Examples:
  tock task resume nightly weekly")]
    Resume(Names),
    /// Run a task now, whatever its schedule
    Trigger(Trigger),
    /// Delete tasks
    #[command(after_help = "Examples:
  tock task delete nightly
  tock task delete ops/nightly ops/weekly")]
    Delete(Names),
    /// Show the next instants of a task
    Upcoming(Upcoming),
    /// Say why a task did or did not run
    Why(Why),
}

#[derive(Args, Debug)]
pub struct Name {
    /// Name of the task, or <namespace>/<name>
    #[arg(value_name = "TASK")]
    pub task: String,
}

#[derive(Args, Debug)]
pub struct Names {
    /// Names of tasks, or <namespace>/<name>
    #[arg(value_name = "TASK", required = true)]
    pub tasks: Vec<String>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:
  tock task create nightly --cron '30 2 * * *' --tz Europe/Berlin -- /usr/local/bin/backup --all
  tock task create report --cron '0 0 18 ? * 6L' --dialect quartz --shell 'du -sh /srv | mail root'
  tock task create --in 5m --http https://example.com/remind/42 --body '{\"user\": 42}'
  tock task create sample --every 15m --jitter 30s --retry 3 --timeout 2m -- sample --quick
  tock task create probe --every 10s --noop --dry-run -o yaml",
    group = ArgGroup::new("when").required(true).args(["cron", "at", "after", "every"]),
    group = ArgGroup::new("what").required(true).args(["argv", "shell", "http", "noop"])
)]
pub struct Create {
    /// Name of the task, or <namespace>/<name>; left out: one is made
    #[arg(value_name = "TASK")]
    pub task: Option<String>,

    /// What the task is for
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Label of the task; may be repeated
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Create it paused
    #[arg(long)]
    pub paused: bool,
    /// Check and show the task, and create nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub when: When,
    #[command(flatten)]
    pub what: What,
    #[command(flatten)]
    pub policy: Policy,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "When")]
pub struct When {
    /// Cron expression; may be repeated
    #[arg(long, value_name = "EXPRESSION")]
    pub cron: Vec<String>,
    /// Time zone of the cron expressions [default: UTC]
    #[arg(long = "tz", value_name = "ZONE", requires = "cron")]
    pub zone: Option<String>,
    /// Whose rules the cron expressions follow
    #[arg(long, value_name = "DIALECT", requires = "cron")]
    pub dialect: Option<value::Dialect>,
    /// What becomes of local times that a forward change of the clock leaves out [default: after]
    #[arg(long, value_name = "RULE", requires = "cron")]
    pub gap: Option<value::Gap>,
    /// What becomes of local times that a backward change brings twice [default: first]
    #[arg(long, value_name = "RULE", requires = "cron")]
    pub fold: Option<value::Fold>,
    /// Once, at this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub at: Option<Timestamp>,
    /// Once, after this time from now
    #[arg(long = "in", id = "after", value_name = "DURATION", value_parser = value::duration)]
    pub after: Option<Duration>,
    /// Again and again at this interval, counted from the Unix epoch
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub every: Option<Duration>,
    /// By how much each interval is moved
    #[arg(long, value_name = "DURATION", value_parser = value::duration, requires = "every")]
    pub phase: Option<Duration>,
    /// No instant before this time
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub start_at: Option<Timestamp>,
    /// No instant after this time
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub end_at: Option<Timestamp>,
    /// End after so many instants
    #[arg(long, value_name = "N")]
    pub max_runs: Option<u64>,
    /// No instant on this date; may be repeated
    #[arg(long = "exclude", value_name = "YYYY-MM-DD")]
    pub exclude: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What")]
pub struct What {
    /// Program and arguments, behind `--`; no shell reads them
    #[arg(last = true, value_name = "COMMAND")]
    pub argv: Vec<String>,
    /// Line for /bin/sh
    #[arg(long, value_name = "LINE")]
    pub shell: Option<String>,
    /// URL to call
    #[arg(long, value_name = "URL")]
    pub http: Option<String>,
    /// Nothing, for measuring
    #[arg(long)]
    pub noop: bool,
    /// Variable of the command; may be repeated
    #[arg(
        short,
        long = "env",
        value_name = "NAME=VALUE",
        value_parser = value::pair,
        conflicts_with_all = ["http", "noop"]
    )]
    pub env: Vec<(String, String)>,
    /// User that the command runs as [default: the agent's own]
    #[arg(long, value_name = "USER", conflicts_with_all = ["http", "noop"])]
    pub user: Option<String>,
    /// Working directory of the command [default: /]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["http", "noop"])]
    pub cwd: Option<String>,
    /// What the command reads
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["http", "noop"])]
    pub stdin: Option<String>,
    /// Exit code that is a success; may be repeated [default: 0]
    #[arg(long = "success-code", value_name = "CODE", conflicts_with_all = ["http", "noop"])]
    pub success_codes: Vec<i32>,
    /// Method of the call [default: POST]
    #[arg(long, value_name = "METHOD", requires = "http")]
    pub method: Option<String>,
    /// Header of the call; may be repeated
    #[arg(
        long = "header",
        value_name = "NAME: VALUE",
        value_parser = value::header,
        requires = "http"
    )]
    pub headers: Vec<(String, String)>,
    /// Body of the call
    #[arg(long, value_name = "TEXT", requires = "http")]
    pub body: Option<String>,
}

/// Of tasks that every agent of a pool runs.
#[derive(Args, Debug)]
pub struct EveryAgent {
    /// Every agent of this pool runs it, each by itself, also while it is cut off [default pool:
    /// default]
    #[arg(
        long,
        value_name = "POOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "default",
        conflicts_with_all = ["pool", "agent"]
    )]
    pub every_agent: Option<String>,
    /// Of every agent only those with this label; may be repeated
    #[arg(
        long = "agent-label",
        value_name = "NAME=VALUE",
        value_parser = value::pair,
        requires = "every_agent"
    )]
    pub agent_labels: Vec<(String, String)>,
    /// Spread the starts of all these agents over this
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = value::duration,
        requires = "every_agent"
    )]
    pub splay: Option<Duration>,
}

impl EveryAgent {
    pub fn place(&self, task: Task) -> Task {
        let Some(pool) = &self.every_agent else { return task };
        let labels = self.agent_labels.iter().cloned();
        task.every_agent(pool, labels, self.splay.unwrap_or_default())
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "How")]
pub struct Policy {
    /// Pool whose agents run it [default: default]
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
    /// Agent that runs it, and no other: it goes on while that one is cut off
    #[arg(long, value_name = "NAME", conflicts_with = "pool")]
    pub agent: Option<String>,
    #[command(flatten)]
    pub every_agent: EveryAgent,
    /// Attempts in all, until one succeeds [default: 1]
    #[arg(long, value_name = "N")]
    pub retry: Option<u32>,
    /// Wait before the second attempt; it doubles from there [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = value::duration, requires = "retry")]
    pub backoff: Option<Duration>,
    /// How long an attempt may take
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub timeout: Option<Duration>,
    /// What the loss of its host does to a run: start it again, or end it as lost [default:
    /// at_least_once]
    #[arg(long, value_name = "RULE")]
    pub delivery: Option<value::Delivery>,
    /// What happens if an earlier run still goes on [default: skip]
    #[arg(long, value_name = "RULE")]
    pub overlap: Option<value::Overlap>,
    /// Which instants are made up for after an outage [default: latest; of --at and --in: all]
    #[arg(long, value_name = "RULE")]
    pub catch_up: Option<value::CatchUp>,
    /// How old an instant may be to be made up for [default: 1h; of --at and --in: 7d]
    #[arg(long, value_name = "DURATION", value_parser = value::duration, requires = "catch_up")]
    pub catch_up_window: Option<Duration>,
    /// Put each start off by a fixed share of this
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub jitter: Option<Duration>,
    /// Give a run up that could not start this long after it was due
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub start_deadline: Option<Duration>,
    /// Higher starts first when an agent is full
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock task apply -f tasks/
  tock task apply -f nightly.yaml -f weekly.json --dry-run
  tock task list -o yaml | tock --server http://other:7080 task apply -f -
  tock task apply -f tasks/ --prune --label team=db

A file holds one task, several YAML documents, a list, or what `task list -o json` prints.")]
pub struct Apply {
    /// Files or folders with tasks in YAML or JSON; - is the standard input
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Delete tasks of the same namespaces that no file has
    #[arg(long)]
    pub prune: bool,
    /// Prune only tasks with this label; may be repeated
    #[arg(
        short,
        long = "label",
        value_name = "NAME=VALUE",
        value_parser = value::pair,
        requires = "prune"
    )]
    pub labels: Vec<(String, String)>,
    /// Prune without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock task list
  tock task list -A --state paused
  tock task list --prefix nightly- --label team=db -o json")]
pub struct List {
    /// Tasks of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Names that begin like this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// With this label; may be repeated
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// In this state; may be repeated
    #[arg(long = "state", value_name = "STATE")]
    pub states: Vec<value::TaskState>,
    /// Part of the name or the description
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub search: String,
    /// At most so many [default: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock task trigger nightly
  tock task trigger nightly --wait 5m && echo it succeeded

With --wait, the exit code is 1 if the run did not succeed in that time.")]
pub struct Trigger {
    /// Name of the task, or <namespace>/<name>
    #[arg(value_name = "TASK")]
    pub task: String,
    /// Text that is given to the run
    #[arg(long, value_name = "TEXT")]
    pub payload: Option<String>,
    /// Wait for the end of the run, this long at most
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub wait: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock task upcoming nightly
  tock task upcoming nightly --count 30 --after 2027-03-01T00:00:00Z")]
pub struct Upcoming {
    /// Name of the task, or <namespace>/<name>
    #[arg(value_name = "TASK")]
    pub task: String,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub count: u32,
    /// Instants after this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub after: Option<Timestamp>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tock task why nightly
  tock task why nightly --at 2026-11-24T01:30:00Z
  tock task why ops/nightly --at 2026-11-24T02:30:00+01:00 -o json

The words of the verdict are in docs/why.md, each with what to do about it.")]
pub struct Why {
    /// Name of the task, or <namespace>/<name>
    #[arg(value_name = "TASK")]
    pub task: String,
    /// The instant (RFC 3339) [default: the newest that should have run by now]
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    pub at: Option<Timestamp>,
    /// The agent whose share is asked about, of a task of every agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
}
