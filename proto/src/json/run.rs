//! A run in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What came of an instant: one or more attempts, then one end state.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// `<namespace>/<name>@<run>`, the same over all attempts. Opaque.
    #[schema(example = "default/nightly-backup@1795055400000-2t8w")]
    pub run_id: String,
    pub namespace: String,
    pub task: String,
    /// The scheduled time; of a manual run, when it was asked for.
    #[schema(format = DateTime)]
    pub instant: String,
    /// When it should start: the instant and its jitter. Of several instants, the last.
    #[schema(format = DateTime)]
    pub due: String,
    #[schema(value_type = RunState)]
    pub state: String,
    /// Why it was skipped, missed, lost or cancelled.
    pub reason: Option<String>,
    /// The end may still turn into a repeat if the host is lost within seconds. A watch tells such
    /// an end again once it is settled.
    pub provisional: bool,
    /// The number of the newest attempt; 0: none yet.
    pub attempt: u32,
    /// The agent that holds it.
    pub agent: String,
    /// The revision of the claim that it is under: of two accounts of a run the higher counts.
    pub fence: i64,
    /// Comes before `fence` in that order; left out while it is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Of the newest attempt.
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// Start of the first attempt minus due.
    pub lateness_us: Option<i64>,
    /// A wait that the task's policy asked for (overlap, catch-up) is part of the lateness.
    pub waited_by_policy: bool,
    pub duration_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    pub error: Option<String>,
    /// The oldest first.
    pub attempts: Vec<Attempt>,
    /// Of them, those whose agent had been replaced by the time they ended: nobody waited for that
    /// any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub late_results: Vec<Attempt>,
    /// Instants that were not run for one reason are one row, from `instant` to here.
    #[schema(format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How many they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// One try at executing a run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Attempt {
    /// Counts from 1 over all holders.
    pub number: u32,
    pub agent: String,
    /// The registration of the agent.
    pub session: i64,
    pub fence: i64,
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    pub duration_us: Option<i64>,
    /// `running`, `succeeded`, `failed`, `timed_out` or `cancelled`.
    #[schema(value_type = RunState)]
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    pub error: Option<String>,
}

/// Where a run is in its life. Everything from `succeeded` on is an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Queued,
    Running,
    WaitingRetry,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    /// It may have run; nobody will start it again.
    Lost,
    /// Not started, as a policy says.
    Skipped,
    /// Nobody could run it in time.
    Missed,
}
