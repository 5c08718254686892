//! A task in JSON. One shape serves requests and answers, so that what was read with GET can be
//! changed and sent back with PUT: the server's own fields are accepted there and not looked at. A
//! create and a patch refuse them.
//!
//! Words such as `crontab` are strings in the struct and enums in the schema; the converter reads
//! them, so that a wrong one is one error among all the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::run::Run;

/// What should run when: a definition, identified by namespace and name.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// 1 to 128 of `a-z`, `0-9`, `.`, `_`, `-`, a letter or digit at both ends.
    #[schema(default = "default", example = "default")]
    pub namespace: Option<String>,
    /// As `namespace`. Left out: a generated ULID in lower case.
    #[schema(example = "nightly-backup")]
    pub name: Option<String>,
    #[schema(default = "")]
    pub description: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    /// 1 to 64; `at` is a task's only schedule.
    pub schedules: Option<Vec<Schedule>>,
    /// No instant before this time.
    #[schema(format = DateTime)]
    pub start_at: Option<String>,
    /// No instant after this time.
    #[schema(format = DateTime)]
    pub end_at: Option<String>,
    /// Counts instants, not starts.
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_runs: Option<u64>,
    /// Each start is put off by a share of this that is fixed for (task, instant).
    #[schema(default = "0s", example = "30s")]
    pub jitter: Option<String>,
    pub exclude: Option<Exclude>,
    pub action: Option<Action>,
    /// Left out: `{"pool": "default"}`.
    pub placement: Option<Placement>,
    /// No edit changes it: delete the task and create another.
    #[schema(value_type = Option<Delivery>, default = "at_least_once")]
    pub delivery: Option<String>,
    /// Left out: recurring tasks `{"policy": "latest", "window": "1h"}`, `at`
    /// `{"policy": "all", "window": "7d"}`.
    pub catch_up: Option<CatchUp>,
    #[schema(value_type = Option<Overlap>, default = "skip")]
    pub overlap: Option<String>,
    /// Left out: one attempt.
    pub retry: Option<Retry>,
    /// Left out: none.
    #[schema(example = "1h")]
    pub timeout: Option<String>,
    /// A run that could not start this long after its due is `missed`. Left out: none.
    #[schema(example = "10m")]
    pub start_deadline: Option<String>,
    /// Higher starts first when an agent is full.
    #[schema(default = 0)]
    pub priority: Option<i32>,
    #[schema(default = false)]
    pub paused: Option<bool>,

    /// Of this version; the ETag.
    #[schema(read_only)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    #[schema(read_only, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[schema(read_only, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The next instant; `null` if there is none or the task is paused.
    #[schema(read_only, format = DateTime)]
    pub next_at: Option<String>,
    #[schema(read_only, value_type = Option<TaskState>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// On a GET of one task only.
    #[schema(read_only)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Run>,
}

/// Exactly one of `at`, `cron` and `every`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Once, at this time.
    #[schema(format = DateTime, example = "2026-11-24T10:00:00Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// A cron expression.
    #[schema(example = "30 2 * * *")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// With `cron`: whose rules it follows.
    #[schema(value_type = Option<Dialect>, default = "crontab")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// With `cron`: a name of the IANA database.
    #[schema(default = "UTC", example = "Europe/Berlin")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// With `cron`: what becomes of a local time that a forward change of the clock leaves out.
    #[schema(value_type = Option<Gap>, default = "after")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// With `cron`: what becomes of a local time that a backward change of the clock brings twice.
    #[schema(value_type = Option<Fold>, default = "first")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<String>,
    /// At this interval, 1 s at least, counted from the Unix epoch.
    #[schema(example = "15m")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// With `every`: by how much all of it is moved.
    #[schema(default = "0s", example = "2m")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exclude {
    /// Days without instants, in the time zone of each schedule; 1,000 at most.
    #[schema(value_type = Option<Vec<String>>, example = json!(["2026-12-25"]))]
    pub dates: Option<Vec<String>>,
}

/// What a run does: exactly one of these.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noop: Option<Noop>,
}

/// A program: either `argv` or `shell`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Command {
    /// The program and its arguments; no shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// A line for `/bin/sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Beside the agent's `PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    #[schema(default = "/")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Left out: the agent's own user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Left out: `[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_codes: Option<Vec<i32>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    #[schema(default = "POST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `http` or `https`.
    #[schema(example = "https://example.com/hooks/nightly")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Codes and ranges. Left out: `["200-299"]`.
    #[schema(example = json!(["200-299", "404"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_status: Option<Vec<String>>,
}

/// Nothing, for measuring and for shadow runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Noop {}

/// Where a run may take place.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Any agent of this pool.
    #[schema(default = "default")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// This agent and no other, in place of a pool: it goes on while it is cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Every agent of a pool that is selected, each its own share, in place of a pool. They go on
    /// while they are cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_agent: Option<EveryAgent>,
}

/// Which agents have a share of a task, and over how long their starts are spread.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EveryAgent {
    #[schema(default = "default")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// An agent has a share that has all of these labels. Left out: every agent of the pool.
    #[schema(example = json!({"role": "web"}))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Each agent starts later by a share of this that is fixed for (task, agent), and before the
    /// next instant.
    #[schema(default = "0s", example = "30s")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splay: Option<String>,
}

/// What becomes of instants that nobody could run in time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatchUp {
    #[schema(value_type = Option<CatchUpPolicy>)]
    pub policy: Option<String>,
    /// Older instants are `missed`, whatever the policy.
    #[schema(example = "1h")]
    pub window: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    #[schema(default = 1, minimum = 1, maximum = 100)]
    pub max_attempts: Option<u32>,
    #[schema(default = "1s")]
    pub backoff: Option<String>,
    #[schema(default = 2.0, minimum = 1)]
    pub factor: Option<f64>,
    #[schema(default = "5m")]
    pub max_backoff: Option<String>,
    /// The share of each wait that is spread.
    #[schema(default = 0.1, minimum = 0, maximum = 1)]
    pub jitter: Option<f64>,
}

/// The words of a schema: they name what the strings of the structs above may hold.
macro_rules! words {
    ($($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
            #[serde(rename_all = "snake_case")]
            pub enum $type { $($(#[$variant_doc])* $variant),+ }
        )+
    };
}

words! {
    /// `crontab`: 5 fields; 6 with seconds first; 7 with the year last; macros; `H`.
    Dialect { Crontab, Quartz }
    /// What becomes of a local time that a forward change of the clock leaves out.
    Gap { Skip, After }
    /// What becomes of a local time that a backward change of the clock brings twice.
    Fold { First, Second, Both }
    /// What the loss of a host does to a run that it may have started: it is started again, or it
    /// is `lost`, and no attempt of it ever starts twice.
    Delivery { AtLeastOnce, AtMostOnce }
    /// Which of the instants that were not run in time are started afterwards.
    CatchUpPolicy { None, Latest, All }
    /// What an instant does that comes while an earlier run of its task goes on.
    Overlap { Skip, Allow, Queue, CancelRunning }
    /// `finished`: no instant is left. `unreadable`: its record cannot be read.
    TaskState { Active, Paused, Finished, Unreadable }
}

impl Task {
    /// Without what may be large: stdin, env and body. What lists show.
    pub fn basic(mut self) -> Task {
        if let Some(action) = &mut self.action {
            if let Some(command) = &mut action.command {
                command.env = None;
                command.stdin = None;
            }
            if let Some(http) = &mut action.http {
                http.body = None;
            }
        }
        self
    }
}
