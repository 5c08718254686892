//! The JSON forms of the REST API, for files and scripts: what `GET` answers and `POST` takes.
//!
//! The structs are the coordinator's own, so a task printed here is byte for byte what REST prints,
//! and a task read here is checked by the very rules that the server will check it by: `read_task`,
//! `check` and `check_new` need no server and report every wrong field at once.
//!
//! Toward the wire a task goes from its JSON form field by field. That is done after the check, so
//! what does not parse here was reported there; it is left out instead of ending in a panic.

use std::time::SystemTime;

use serde_json::Value;
use tocktower_proto::convert::{self, Given, Purpose};
use tocktower_proto::v1;

use crate::error::FieldError;
use crate::json_proto::task_proto;
use crate::task::Task as SdkTask;
use crate::tasks::{self, Triggered, Written, new_key};

pub use tocktower_proto::json::*;

/// Reads a task from JSON (or YAML, as a value), with every mistake of shape and of meaning.
///
/// ```
/// use tocktower_client::json;
///
/// let value = serde_json::json!({
///     "name": "nightly",
///     "schedules": [{"cron": "30 2 * * *", "time_zone": "Europe/Berlin"}],
///     "action": {"command": {"argv": ["/usr/local/bin/backup", "--all"]}},
/// });
/// let task = json::read_task(value).unwrap();
/// assert_eq!((task.namespace(), task.name()), ("default", "nightly"));
///
/// let wrong = serde_json::json!({"name": "nightly", "schedules": [{"cron": "60 * * * *"}]});
/// let paths: Vec<String> =
///     json::read_task(wrong).unwrap_err().into_iter().map(|error| error.path).collect();
/// assert_eq!(paths, ["schedules[0].cron", "action"]);
/// ```
///
/// # Errors
/// Every wrong field.
pub fn read_task(value: Value) -> Result<SdkTask, Vec<FieldError>> {
    let fresh = new_key();
    convert::task_from_value(value.clone(), given(&fresh)).map_err(|errors| {
        // Their type belongs to a crate that this one does not name.
        let own = errors.into_iter().map(|e| FieldError { path: e.path, message: e.message });
        own.collect::<Vec<_>>()
    })?;
    let (task, _) = read::<Task>(value);
    Ok(task_proto(&task.unwrap_or_default()).into())
}

/// Every wrong field of a task, by the server's own rules but for those that need the time.
pub fn check(task: &SdkTask) -> Vec<FieldError> {
    let fresh = new_key();
    wrong_fields(task, given(&fresh))
}

/// As `check`, with the rules of time for a task that is made at `now`: something must be left to
/// run. The server asks its own clock again; what no year brings is refused by any clock.
///
/// ```
/// use std::time::SystemTime;
/// use tocktower_client::{Task, json};
///
/// let never = Task::new("default", "never").cron("0 0 30 2 *").noop();
/// assert!(json::check(&never).is_empty());
/// assert_eq!(json::check_new(&never, SystemTime::now())[0].path, "schedules");
/// ```
pub fn check_new(task: &SdkTask, now: SystemTime) -> Vec<FieldError> {
    let fresh = new_key();
    // The type of the moment belongs to a crate that this one does not name: it comes from a text.
    let purpose = match parse_wall_down(&moment(&crate::time::timestamp(now))) {
        Ok(now) => Purpose::Create { now },
        // A clock beyond the years that exist here: the server's will have to do.
        Err(_) => Purpose::Edit,
    };
    wrong_fields(task, Given { purpose, ..given(&fresh) })
}

fn wrong_fields(task: &SdkTask, given: Given<'_>) -> Vec<FieldError> {
    match convert::task_from_proto(task.proto(), given) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            errors.into_iter().map(|e| FieldError { path: e.path, message: e.message }).collect()
        }
    }
}

/// A task as REST answers it.
pub fn task(task: &SdkTask) -> Task {
    let proto = task.proto();
    let state = Some(state_word(task.state()).to_owned());
    if task.is_history() {
        return Task {
            namespace: Some(task.namespace().to_owned()),
            name: Some(task.name().to_owned()),
            state,
            last_run: proto.last_run.as_ref().map(run),
            ..Task::default()
        };
    }
    Task {
        revision: Some(proto.revision).filter(|&revision| revision != 0),
        created_at: proto.created_at.as_ref().map(moment),
        updated_at: proto.updated_at.as_ref().map(moment),
        next_at: proto.next_at.as_ref().map(moment),
        state,
        last_run: proto.last_run.as_ref().map(run),
        ..spec(task)
    }
}

/// What was asked for, with every default filled in: two tasks that mean the same look the same.
pub fn spec(task: &SdkTask) -> Task {
    let fresh = new_key();
    match convert::task_from_proto(task.proto(), given(&fresh)) {
        Ok(spec) => convert::spec_json(&spec),
        // From a server that knows more than we do: as it stands.
        Err(_) => convert::task_json_of_proto(task.proto()),
    }
}

/// A task that was written, as REST answers it.
pub fn written(written: &Written) -> TaskWritten {
    TaskWritten {
        task: task(&written.task),
        moved: written.moved,
        warnings: written.warnings.iter().map(warning).collect(),
    }
}

/// A run as REST answers it.
pub fn run(run: &v1::Run) -> Run {
    match convert::run_from_proto(run) {
        Ok(record) => convert::run_json(&record),
        // From a server that knows more than we do: what names it and its state.
        Err(_) => Run {
            run_id: run.run_id.clone(),
            namespace: run.namespace.clone(),
            task: run.task.clone(),
            instant: run.instant.as_ref().map(moment).unwrap_or_default(),
            due: run.due.as_ref().map(moment).unwrap_or_default(),
            state: run_state_word(run.state()).to_owned(),
            ..Run::default()
        },
    }
}

/// A run that was asked for, as REST answers it.
pub fn triggered(triggered: &Triggered) -> TriggerAnswer {
    TriggerAnswer { run_id: triggered.run_id.clone(), run: triggered.run.as_ref().map(run) }
}

/// Instants of schedules, as REST answers them.
pub fn preview(preview: &tasks::Preview) -> PreviewAnswer {
    PreviewAnswer {
        instants: preview.instants.iter().map(|instant| instant.local.clone()).collect(),
        description: preview.description.clone(),
        warnings: preview.warnings.iter().map(warning).collect(),
    }
}

/// What became of an instant, as REST answers it.
pub fn why(why: &tasks::Why) -> Why {
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let local = |shown: &v1::WhyInstant| shown.local.clone();
    Why {
        namespace: why.namespace.clone(),
        task: why.task.clone(),
        at: why.at.as_ref().map(local).unwrap_or_default(),
        verdict: why.verdict.clone(),
        explanation: why.explanation.clone(),
        advice: named(&why.advice),
        due: why.due.as_ref().map(moment),
        previous: why.previous.as_ref().map(local),
        next: why.next.as_ref().map(local),
        policy: why
            .policy
            .as_ref()
            .map(|policy| WhyPolicy { field: policy.field.clone(), value: policy.value.clone() }),
        range: why.range.as_ref().map(why_range),
        run: why.run.as_ref().map(run),
        ahead: why.ahead.as_ref().map(run),
        incomplete: why.silent_agents.clone(),
        stale: why.stale,
    }
}

fn why_range(range: &v1::WhyRange) -> WhyRange {
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    WhyRange {
        pool: range.pool.clone(),
        id: range.id.clone(),
        holder: named(&range.holder),
        fence: range.fence.map(|fence| fence.revision),
        connected: range.connected,
        quiet_ms: range.quiet.as_ref().map(span_millis),
        ledger_through: range.ledger_through.as_ref().map(moment),
        covered: range.covered,
        entry: range.entry.as_ref().map(|entry| WhyEntry {
            state: entry.state.clone(),
            attempt: entry.attempt,
            waiting_until: entry.waiting_until.as_ref().map(moment),
        }),
        ledger_error: named(&range.ledger_error),
        agents: range.agents,
        agents_able: range.agents_able,
        agents_taking: range.agents_taking,
    }
}

pub fn warning(warning: &v1::Warning) -> Warning {
    Warning { code: warning.code.clone(), message: warning.message.clone() }
}

/// An agent as REST answers it.
pub fn agent(agent: &v1::Agent) -> Agent {
    let counts = agent.counts.unwrap_or_default();
    let lateness = agent.lateness.unwrap_or_default();
    Agent {
        name: agent.name.clone(),
        pool: agent.pool.clone(),
        labels: agent.labels.clone(),
        weight: agent.weight,
        connected: agent.connected,
        version: agent.version.clone(),
        tz_version: agent.tz_version.clone(),
        session: agent.session.map(|session| session.revision),
        since: agent.since.as_ref().map(moment),
        absent_since: agent.absent_since.as_ref().map(moment),
        counts: RunCounts {
            running: counts.running,
            queued: counts.queued,
            waiting: counts.waiting,
            succeeded: counts.succeeded,
            failed: counts.failed,
            timed_out: counts.timed_out,
            cancelled: counts.cancelled,
            lost: counts.lost,
            skipped: counts.skipped,
            missed: counts.missed,
        },
        clock_offset_us: agent.clock_offset_us,
        oldest_due_unstarted_ms: agent
            .oldest_due_unstarted
            .as_ref()
            .map(|span| u64::try_from(crate::time::duration(span).as_millis()).unwrap_or(u64::MAX)),
        lateness: Lateness {
            count: lateness.count,
            p50_us: lateness.p50_us,
            p99_us: lateness.p99_us,
            p999_us: lateness.p999_us,
            max_us: lateness.max_us,
        },
        ranges_held: agent.ranges_held,
        write_pressure: agent.write_pressure,
        cordoned: agent.cordoned,
        draining: agent.draining,
        drained: agent.drained,
        last_resort: agent.last_resort,
        weight_asked: agent.weight_asked,
        in_the_way: Some(agent.in_the_way.clone()).filter(|text| !text.is_empty()),
    }
}

/// A pool as REST answers it.
pub fn pool(pool: &v1::Pool) -> Pool {
    Pool {
        name: pool.name.clone(),
        agents: pool.agents,
        agents_connected: pool.agents_connected,
        tasks: pool.tasks,
        ranges: pool.ranges,
        ranges_vacant: pool.ranges_vacant,
    }
}

/// A range as REST answers it.
pub fn range(range: &v1::Range) -> Range {
    let named = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    Range {
        pool: range.pool.clone(),
        id: range.id.clone(),
        holder: named(&range.holder),
        fence: range.fence.map(|fence| fence.revision),
        owner: named(&range.owner),
        ledger_through: range.ledger_through.as_ref().map(moment),
        open_entries: range.open_entries,
        tasks: range.tasks,
        oldest_undecided_ms: range.oldest_undecided.as_ref().map(span_millis),
        stalled: named(&range.stalled),
    }
}

/// `active`, `paused`, `finished`.
pub fn state_word(state: v1::TaskState) -> &'static str {
    match state {
        v1::TaskState::Unspecified => "unknown",
        v1::TaskState::Active => "active",
        v1::TaskState::Paused => "paused",
        v1::TaskState::Finished => "finished",
    }
}

/// `queued`, `running`, … as in the JSON form of a run.
pub fn run_state_word(state: v1::RunState) -> &'static str {
    match state {
        v1::RunState::Unspecified => "unknown",
        v1::RunState::Queued => "queued",
        v1::RunState::Running => "running",
        v1::RunState::WaitingRetry => "waiting_retry",
        v1::RunState::Succeeded => "succeeded",
        v1::RunState::Failed => "failed",
        v1::RunState::TimedOut => "timed_out",
        v1::RunState::Cancelled => "cancelled",
        v1::RunState::Lost => "lost",
        v1::RunState::Skipped => "skipped",
        v1::RunState::Missed => "missed",
    }
}

/// What the rules need beside the task. They are the rules of an edit: those of a create need the
/// time.
fn given(fresh_name: &str) -> Given<'_> {
    Given { namespace: None, name: None, fresh_name, purpose: Purpose::Edit }
}

fn span_millis(span: &crate::time::Span) -> u64 {
    u64::try_from(crate::time::duration(span).as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC, to the microsecond, as the server writes it.
fn moment(time: &crate::time::Timestamp) -> String {
    let micros =
        time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000));
    jiff::Timestamp::from_microsecond(micros).map(|time| time.to_string()).unwrap_or_default()
}
