//! A task in proto becomes its JSON form, and goes on from there. What proto can say and JSON
//! cannot (a duration below zero, an enum's number of a newer client) becomes a text that the JSON
//! reader refuses, so that the error names the field and what was given.

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
use tocktower_core::task::{FieldError, Spec, Task};

use super::task_json::{Given, task_from_json};
use super::task_out::{TaskState, TaskStatus, task_proto};
use super::words::{DELIVERIES, DIALECTS, FOLDS, GAPS, OVERLAPS, POLICIES, Word};
use crate::{json, v1};

/// A task in proto becomes a task in core, or everything that is wrong with it, with the paths of
/// the JSON form.
pub fn task_from_proto(task: &v1::Task, given: Given<'_>) -> Result<Spec, Vec<FieldError>> {
    task_from_json(&task_json_of_proto(task), given)
}

/// A task in its JSON form, without the server's own fields.
pub fn task_json_of_proto(task: &v1::Task) -> json::Task {
    json::Task {
        namespace: text(&task.namespace),
        name: text(&task.name),
        description: text(&task.description),
        labels: Some(task.labels.clone()),
        schedules: Some(task.schedules.iter().map(schedule_json_of_proto).collect()),
        start_at: task.start_at.as_ref().map(time),
        end_at: task.end_at.as_ref().map(time),
        max_runs: task.max_runs,
        jitter: task.jitter.as_ref().map(span),
        exclude: task
            .exclude
            .as_ref()
            .map(|exclude| json::Exclude { dates: Some(exclude.dates.clone()) }),
        action: task.action.as_ref().map(action),
        placement: task.placement.as_ref().map(placement),
        catch_up: task.catch_up.as_ref().map(|catch_up| json::CatchUp {
            policy: word(POLICIES, catch_up.policy),
            window: catch_up.window.as_ref().map(span),
        }),
        delivery: word(DELIVERIES, task.delivery),
        overlap: word(OVERLAPS, task.overlap),
        retry: task.retry.as_ref().map(retry),
        timeout: task.timeout.as_ref().map(span),
        start_deadline: task.start_deadline.as_ref().map(span),
        priority: Some(task.priority),
        paused: Some(task.paused),
        ..json::Task::default()
    }
}

pub fn schedule_json_of_proto(schedule: &v1::Schedule) -> json::Schedule {
    use v1::schedule::Kind;
    match &schedule.kind {
        None => json::Schedule::default(),
        Some(Kind::At(at)) => json::Schedule { at: Some(time(at)), ..Default::default() },
        Some(Kind::Cron(cron)) => json::Schedule {
            cron: Some(cron.expression.clone()),
            dialect: word(DIALECTS, cron.dialect),
            time_zone: text(&cron.time_zone),
            gap: word(GAPS, cron.gap),
            fold: word(FOLDS, cron.fold),
            ..Default::default()
        },
        Some(Kind::Every(every)) => json::Schedule {
            every: Some(every.interval.as_ref().map_or_else(String::new, span)),
            phase: every.phase.as_ref().map(span),
            ..Default::default()
        },
    }
}

/// The fields of a task that a mask may name.
const MASK: [&str; 18] = [
    "description",
    "labels",
    "schedules",
    "start_at",
    "end_at",
    "max_runs",
    "jitter",
    "exclude",
    "action",
    "placement",
    "delivery",
    "catch_up",
    "overlap",
    "retry",
    "timeout",
    "start_deadline",
    "priority",
    "paused",
];

/// The present task with the fields of `update` that `mask` names. An empty mask names them all.
pub fn apply_mask(
    current: &Task,
    update: v1::Task,
    mask: &[String],
) -> Result<v1::Task, Vec<FieldError>> {
    if mask.is_empty() {
        return Ok(update);
    }
    let status = TaskStatus { state: TaskState::Active, next_at: None, last_run: None };
    let mut task = task_proto(current, &status);
    let mut errors = Vec::new();
    for name in mask {
        match name.as_str() {
            "description" => task.description.clone_from(&update.description),
            "labels" => task.labels.clone_from(&update.labels),
            "schedules" => task.schedules.clone_from(&update.schedules),
            "start_at" => task.start_at = update.start_at,
            "end_at" => task.end_at = update.end_at,
            "max_runs" => task.max_runs = update.max_runs,
            "jitter" => task.jitter = update.jitter,
            "exclude" => task.exclude.clone_from(&update.exclude),
            "action" => task.action.clone_from(&update.action),
            "placement" => task.placement.clone_from(&update.placement),
            "catch_up" => task.catch_up = update.catch_up,
            "delivery" => task.delivery = update.delivery,
            "overlap" => task.overlap = update.overlap,
            "retry" => task.retry = update.retry,
            "timeout" => task.timeout = update.timeout,
            "start_deadline" => task.start_deadline = update.start_deadline,
            "priority" => task.priority = update.priority,
            "paused" => task.paused = update.paused,
            _ => {
                let message = format!("{name:?} cannot be updated: use {}", MASK.join(", "));
                errors.push(FieldError::new("update_mask", message));
            }
        }
    }
    if errors.is_empty() { Ok(task) } else { Err(errors) }
}

/// The task without what may be large: stdin, env and body. What lists show.
pub fn without_payload(mut task: v1::Task) -> v1::Task {
    use v1::action::Kind;
    match task.action.as_mut().and_then(|action| action.kind.as_mut()) {
        Some(Kind::Command(command)) => {
            command.env.clear();
            command.stdin = None;
        }
        Some(Kind::Http(http)) => http.body = None,
        Some(Kind::Noop(_)) | None => {}
    }
    task
}

fn action(action: &v1::Action) -> json::Action {
    use v1::action::Kind;
    use v1::command::Program;
    let mut read = json::Action::default();
    match &action.kind {
        None => {}
        Some(Kind::Command(command)) => {
            let (argv, shell) = match &command.program {
                None => (None, None),
                Some(Program::Argv(argv)) => (Some(argv.args.clone()), None),
                Some(Program::Shell(line)) => (None, Some(line.clone())),
            };
            let codes = &command.success_codes;
            read.command = Some(json::Command {
                argv,
                shell,
                env: Some(command.env.clone()),
                cwd: command.cwd.clone(),
                user: command.user.clone(),
                stdin: command.stdin.clone(),
                success_codes: (!codes.is_empty()).then(|| codes.clone()),
            });
        }
        Some(Kind::Http(http)) => {
            let range = |range: &v1::StatusRange| format!("{}-{}", range.first, range.last);
            let ranges: Vec<String> = http.success_status.iter().map(range).collect();
            read.http = Some(json::Http {
                method: text(&http.method),
                url: text(&http.url),
                headers: Some(http.headers.clone()),
                body: http.body.clone(),
                success_status: (!ranges.is_empty()).then_some(ranges),
            });
        }
        Some(Kind::Noop(v1::Noop {})) => read.noop = Some(json::Noop {}),
    }
    read
}

fn placement(placement: &v1::Placement) -> json::Placement {
    let mut read = json::Placement::default();
    match &placement.kind {
        None => {}
        Some(v1::placement::Kind::Pool(pool)) => read.pool = Some(pool.clone()),
        Some(v1::placement::Kind::Agent(agent)) => read.agent = Some(agent.clone()),
        Some(v1::placement::Kind::EveryAgent(every)) => {
            read.every_agent = Some(json::EveryAgent {
                pool: text(&every.pool),
                labels: Some(every.labels.clone()),
                splay: every.splay.as_ref().map(span),
            });
        }
    }
    read
}

fn retry(retry: &v1::Retry) -> json::Retry {
    json::Retry {
        max_attempts: retry.max_attempts,
        backoff: retry.backoff.as_ref().map(span),
        factor: retry.factor,
        max_backoff: retry.max_backoff.as_ref().map(span),
        jitter: retry.jitter,
    }
}

/// Empty: left out.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// 0: left out. A number that is not known becomes a word that is not known.
fn word<T, P: Copy + Into<i32>, S>(table: &[Word<T, P, S>], number: i32) -> Option<String> {
    let known = table.iter().find(|word| word.proto.into() == number);
    match (number, known) {
        (0, _) => None,
        (_, Some(word)) => Some(word.text.to_owned()),
        (_, None) => Some(number.to_string()),
    }
}

fn time(time: &ProtoTimestamp) -> String {
    let ProtoTimestamp { seconds, nanos } = *time;
    let read = match nanos {
        0..1_000_000_000 => jiff::Timestamp::new(seconds, nanos).ok(),
        _ => None,
    };
    read.map_or_else(|| format!("{seconds} s {nanos} ns"), |time| time.to_string())
}

fn span(span: &ProtoDuration) -> String {
    let ProtoDuration { seconds, nanos } = *span;
    let whole_ms = u64::try_from(seconds)
        .ok()
        .zip(u32::try_from(nanos).ok())
        .filter(|(_, nanos)| *nanos < 1_000_000_000 && nanos.is_multiple_of(1_000_000));
    match whole_ms {
        Some((seconds, nanos)) => json::format_duration(std::time::Duration::new(seconds, nanos)),
        None => format!("{seconds} s {nanos} ns"),
    }
}
