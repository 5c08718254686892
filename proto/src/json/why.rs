//! Why a task did or did not run at a time, in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::run::Run;

/// What became of an instant, and why: the verdict, and the facts that it is drawn from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Why {
    pub namespace: String,
    pub task: String,
    /// The moment that is asked about, with the offset of its schedule's zone.
    #[schema(format = DateTime)]
    pub at: String,
    #[schema(value_type = WhyVerdict)]
    pub verdict: String,
    /// For people.
    pub explanation: String,
    /// What to do, where something can be done.
    pub advice: Option<String>,
    /// When it should start, or should have: the instant and its jitter. `null`: it is no instant,
    /// or that is not known.
    #[schema(format = DateTime)]
    pub due: Option<String>,
    /// The instants of the task around it, as far as they are known.
    #[schema(format = DateTime)]
    pub previous: Option<String>,
    #[schema(format = DateTime)]
    pub next: Option<String>,
    pub policy: Option<WhyPolicy>,
    /// `null`: the task is gone, and nobody knows where it was.
    pub range: Option<WhyRange>,
    /// The run of that instant, or the row of instants to which it belongs.
    pub run: Option<Run>,
    /// The earlier run that it waits for.
    pub ahead: Option<Run>,
    /// Agents that may know more and did not answer in time, or are down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// The field of the task that decided, with its present value.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WhyPolicy {
    #[schema(example = "overlap")]
    pub field: String,
    #[schema(example = "skip")]
    pub value: String,
}

/// The range of the task, its holder and its ledger.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WhyRange {
    pub pool: String,
    /// Hexadecimal, of fixed width.
    pub id: String,
    /// `null`: nobody.
    pub holder: Option<String>,
    pub fence: Option<i64>,
    /// The coordinator that answers has a link to the holder.
    pub connected: bool,
    /// Time since the newest write of a holder, or since the last one left.
    pub quiet_ms: Option<u64>,
    /// Everything due up to here is done or listed. `null`: the range has no ledger yet.
    #[schema(format = DateTime)]
    pub ledger_through: Option<String>,
    /// Whether the ledger has passed the instant. `null`: it says nothing of runs of one-shots.
    pub covered: Option<bool>,
    /// What the ledger lists of the run; `null`: nothing.
    pub entry: Option<WhyEntry>,
    /// Why the ledger could not be read: what is said of it is a moment older then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_error: Option<String>,
    /// Agents of the pool that have a session; of those, such as weigh more than 0; of those, such
    /// as are neither cordoned nor drained.
    pub agents: u32,
    pub agents_able: u32,
    pub agents_taking: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WhyEntry {
    /// `started`, `permitted` (at most once: it may be running, or may yet start), `held` (left
    /// running with an earlier holder), `waiting`, `catch_up`, `ended`.
    pub state: String,
    /// 0: none was made yet.
    pub attempt: u32,
    /// When it goes on, of one that waits.
    #[schema(format = DateTime)]
    pub waiting_until: Option<String>,
}

/// What became of an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyVerdict {
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
    Running,
    /// It waits for a place, or to be made up for.
    Queued,
    WaitingRetry,
    /// It waits for the end of an earlier run of its task.
    WaitingBehind,
    /// It is still to come.
    Upcoming,
    /// The task is paused, which keeps it from starting.
    Paused,
    /// It came due a moment ago.
    Starting,
    /// It is due, its holder is well, and has not decided it.
    Late,
    /// It is due, and nobody holds its range.
    Unheld,
    /// It is due, and the holder of its range has stopped to write, so it may not start anything.
    HolderSilent,
    /// It is due, and the holder of its range does not answer this coordinator.
    HolderUnreachable,
    /// It is due, and the agent that it is pinned to, or whose share it is, has no link to this
    /// coordinator.
    AgentAway,
    /// The task runs on every agent that it selects, and this one is none of them.
    NotSelected,
    /// It is due, and this coordinator cannot reach the shared state.
    StoreUnavailable,
    /// It ended; who may know how did not answer.
    HistoryAway,
    /// It ended, and nobody knows how any more.
    HistoryGone,
    /// The task has no such instant.
    NotAnInstant,
    /// The task did not exist then.
    BeforeTask,
    /// The instants of that time belong to a schedule that is not known any more.
    BeforeEdit,
    /// There is no such task now, and no run of that moment is known.
    TaskGone,
    /// The record of the task cannot be read.
    TaskUnreadable,
}
