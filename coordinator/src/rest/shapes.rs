//! From what services return to the JSON that clients see, where `proto` has no shape for it.
//!
//! Reads say more than a task: whether the answer may be out of date, and what is wrong with a
//! record that cannot be read. Both are left out where there is nothing to say, so that a task that
//! was read can be changed and sent back. Everything else is field by field: the shapes of the API
//! are a promise, those of the services are not.

use serde::Serialize;
use tocktower_core::ring::Duty;
use tocktower_core::run::RunRecord;
use tocktower_proto::convert::{placement_json, run_json, task_json};
use tocktower_proto::json::{self, BatchItem, BatchStatus};
use utoipa::ToSchema;

use super::problem::Failure;
use crate::service::{
    AgentView, PoolView, RangeView, RunPage, Shown, TaskError, TaskWritten, Triggered, Upcoming,
    Warning,
};

/// A task as it is read.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct TaskShown {
    #[serde(flatten)]
    pub task: json::Task,
    /// Why the record cannot be read; `state` is `unreadable` then, and only names are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct TaskShownList {
    pub items: Vec<TaskShown>,
    pub next_cursor: Option<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// An agent as it is read.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct AgentShown {
    #[serde(flatten)]
    pub agent: json::Agent,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

pub fn shown(shown: Shown, stale: bool) -> TaskShown {
    match shown {
        Shown::Task(task, status) => {
            TaskShown { task: task_json(&task, &status), error: None, stale }
        }
        Shown::Unreadable(unreadable) => {
            let task = json::Task {
                namespace: Some(unreadable.name.namespace.to_string()),
                name: Some(unreadable.name.name.to_string()),
                placement: Some(placement_json(&unreadable.placement, None)),
                revision: Some(unreadable.revision.0),
                state: Some("unreadable".to_owned()),
                ..json::Task::default()
            };
            TaskShown { task, error: Some(unreadable.error), stale }
        }
        Shown::Ended { name, run } => {
            let task = json::Task {
                namespace: Some(name.namespace.to_string()),
                name: Some(name.name.to_string()),
                state: Some("finished".to_owned()),
                last_run: Some(run_json(&run)),
                ..json::Task::default()
            };
            TaskShown { task, error: None, stale }
        }
    }
}

pub fn written(written: TaskWritten) -> json::TaskWritten {
    json::TaskWritten {
        task: task_json(&written.task, &written.status),
        moved: written.moved,
        warnings: warnings(written.warnings),
    }
}

pub fn warnings(warnings: Vec<Warning>) -> Vec<json::Warning> {
    let warning = |warning: Warning| json::Warning { code: warning.code, message: warning.message };
    warnings.into_iter().map(warning).collect()
}

/// What came of one task of a batch.
pub fn batch_item(name: Option<String>, result: Result<TaskWritten, TaskError>) -> BatchItem {
    match result {
        Ok(written) => BatchItem {
            name: Some(written.task.spec.name.name.to_string()),
            status: BatchStatus::Created,
            revision: Some(written.task.revision.0),
            error: None,
            warnings: warnings(written.warnings),
        },
        Err(error) => BatchItem {
            name,
            status: BatchStatus::Error,
            revision: None,
            error: Some(Failure::from(error).problem()),
            warnings: Vec::new(),
        },
    }
}

pub fn upcoming(upcoming: Upcoming, stale: bool) -> json::Upcoming {
    json::Upcoming {
        instants: upcoming.instants.into_iter().map(|(_, local)| local).collect(),
        description: upcoming.description,
        warnings: warnings(upcoming.warnings),
        stale,
    }
}

pub fn triggered(triggered: Triggered) -> json::TriggerAnswer {
    json::TriggerAnswer { run_id: triggered.run_id, run: triggered.run.as_ref().map(run_json) }
}

/// A page of runs.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Runs {
    /// The newest first.
    pub items: Vec<json::Run>,
    pub next_cursor: Option<String>,
    /// Agents that may know more and did not answer in time, or are down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
}

pub fn runs(page: RunPage) -> Runs {
    Runs {
        items: page.runs.iter().map(run_json).collect(),
        next_cursor: page.next_cursor,
        incomplete: page.silent,
    }
}

pub fn run(run: &RunRecord) -> json::Run {
    run_json(run)
}

pub fn agent(view: AgentView) -> json::Agent {
    let stats = view.link.as_ref().and_then(|link| link.stats.clone());
    let ended = stats.as_ref().and_then(|stats| stats.ended).unwrap_or_default();
    let open = stats.as_deref();
    json::Agent {
        name: view.name.to_string(),
        pool: view.pool,
        labels: view.labels,
        weight: view.weight,
        connected: view.link.is_some(),
        version: view.version,
        tz_version: view.tz_version,
        session: view.session.map(|session| session.revision.0),
        since: view.since.map(json::format_wall),
        absent_since: view.absent_since.map(json::format_wall),
        counts: json::RunCounts {
            running: open.map_or(0, |stats| stats.running),
            queued: open.map_or(0, |stats| stats.queued),
            waiting: open.map_or(0, |stats| stats.waiting),
            succeeded: ended.succeeded,
            failed: ended.failed,
            timed_out: ended.timed_out,
            cancelled: ended.cancelled,
            lost: ended.lost,
            skipped: ended.skipped,
            missed: ended.missed,
        },
        clock_offset_us: view.link.as_ref().and_then(|link| link.offset_us).map(|(us, _)| us),
        oldest_due_unstarted_ms: open.and_then(|stats| stats.oldest_due_unstarted_ms),
        lateness: view.link.as_ref().map(|link| lateness(link)).unwrap_or_default(),
        ranges_held: view.ranges_held,
        write_pressure: open.is_some_and(|stats| stats.write_pressure),
        cordoned: view.duty != Duty::Full,
        draining: view.duty == Duty::Draining,
        drained: view.drained,
        last_resort: view.last_resort,
        weight_asked: view.weight_asked,
        in_the_way: open.map(|stats| stats.in_the_way.clone()).filter(|text| !text.is_empty()),
    }
}

fn lateness(link: &crate::links::LinkInfo) -> json::Lateness {
    let all = link.lateness.merged();
    json::Lateness {
        count: all.len(),
        p50_us: all.value_at_quantile(0.5),
        p99_us: all.value_at_quantile(0.99),
        p999_us: all.value_at_quantile(0.999),
        max_us: all.max(),
    }
}

pub fn pool(view: PoolView) -> json::Pool {
    json::Pool {
        name: view.name.to_string(),
        agents: view.agents,
        agents_connected: view.agents_connected,
        tasks: view.tasks,
        ranges: view.ranges,
        ranges_vacant: view.ranges_vacant,
    }
}

pub fn range(view: RangeView) -> json::Range {
    json::Range {
        pool: view.pool.to_string(),
        id: view.id,
        holder: view.holder.map(|holder| holder.to_string()),
        fence: view.fence.map(|fence| fence.revision.0),
        owner: view.owner.map(|owner| owner.to_string()),
        ledger_through: view.ledger_through.map(json::format_instant),
        open_entries: view.open_entries,
        tasks: view.tasks,
        oldest_undecided_ms: view
            .oldest_undecided
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        stalled: view.stalled.map(str::to_owned),
    }
}
