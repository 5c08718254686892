//! What single calls take and give, beside tasks and runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::run::Run;
use super::task::{Schedule, Task};

/// Something accepted that a person should look at.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// Stable, for programs: `unknown_pool`, `dst_gap`, …
    pub code: String,
    pub message: String,
}

/// RFC 9457, `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub title: String,
    pub status: u16,
    /// Stable, for programs: `invalid_task`, `not_found`, …
    pub code: String,
    /// What a person can act on.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
}

/// One wrong field.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProblemField {
    #[schema(example = "schedules[0].cron")]
    pub path: String,
    /// What was given and what is allowed.
    pub message: String,
}

/// The answer to a write: the task, and what a person should look at.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TaskWritten {
    #[serde(flatten)]
    pub task: Task,
    /// Its placement changed: it is a new incarnation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    pub items: Vec<Task>,
    pub next_cursor: Option<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    /// The newest first.
    pub items: Vec<Run>,
    pub next_cursor: Option<String>,
    /// Agents that may know more and did not answer in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent_agents: Vec<String>,
}

/// Up to 10,000 creates.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Each as in a single create. Read one by one, so that one that is wrong spoils no other.
    #[schema(value_type = Vec<Task>)]
    pub tasks: Vec<serde_json::Value>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// In the order of the request.
    pub results: Vec<BatchItem>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchItem {
    pub name: Option<String>,
    pub status: BatchStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    Created,
    Error,
}

/// A run that is asked for now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trigger {
    /// 32 KiB at most.
    pub payload: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TriggerAnswer {
    pub run_id: String,
    /// What is known of the run when the answer is given.
    pub run: Option<Run>,
}

/// Schedules that belong to no task yet.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preview {
    pub schedules: Option<Vec<Schedule>>,
    /// Left out: now.
    #[schema(format = DateTime)]
    pub after: Option<String>,
    #[schema(default = 10, minimum = 1, maximum = 1_000)]
    pub count: Option<u32>,
    /// The task that `H` spreads by.
    #[schema(default = "default")]
    pub namespace: Option<String>,
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PreviewAnswer {
    /// RFC 3339 with the offset of the schedule's zone.
    pub instants: Vec<String>,
    #[schema(example = "At 02:30 every day, Europe/Berlin")]
    pub description: String,
    pub warnings: Vec<Warning>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Upcoming {
    pub instants: Vec<String>,
    pub description: String,
    pub warnings: Vec<Warning>,
    /// The shared state cannot be reached; this is of the task as it was last known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}
