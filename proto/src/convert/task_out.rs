//! A task in core becomes what the API shows of it, in JSON and in proto.

use std::time::Duration;

use tocktower_core::run::RunRecord;
use tocktower_core::schedule::Schedule;
use tocktower_core::task::{
    Action, Broadcast, Command, Http, Placement, Program, Retry, Spec, Task, timetable,
};
use tocktower_core::time::{Instant, Wall};

use super::run::{run_json, run_proto};
use super::run_id::format_incarnation;
use super::words::{DELIVERIES, DIALECTS, FOLDS, GAPS, OVERLAPS, POLICIES, word_of};
use crate::{json, v1};

/// What the server knows of a task beside its record.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskStatus {
    pub state: TaskState,
    pub next_at: Option<Instant>,
    /// Asked for when one task is shown.
    pub last_run: Option<RunRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    Active,
    Paused,
    /// No instant is left.
    Finished,
}

impl TaskState {
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Active => "active",
            TaskState::Paused => "paused",
            TaskState::Finished => "finished",
        }
    }

    pub fn parse(text: &str) -> Option<TaskState> {
        let all = [TaskState::Active, TaskState::Paused, TaskState::Finished];
        all.into_iter().find(|state| state.as_str() == text)
    }

    pub fn proto(self) -> v1::TaskState {
        match self {
            TaskState::Active => v1::TaskState::Active,
            TaskState::Paused => v1::TaskState::Paused,
            TaskState::Finished => v1::TaskState::Finished,
        }
    }
}

impl TaskStatus {
    /// What follows from the record and the time. A one-shot stays active until its key is gone.
    pub fn at(task: &Task, now: Wall) -> TaskStatus {
        let from = now.max(task.effective_from).instant();
        let next_at = match task.spec.one_shot_at() {
            Some(at) => Some(at),
            None => timetable(&task.spec, task.last_instant).next_after(from),
        };
        let state = match (task.spec.paused, next_at) {
            (true, _) => TaskState::Paused,
            (false, Some(_)) => TaskState::Active,
            (false, None) => TaskState::Finished,
        };
        let next_at = next_at.filter(|_| state == TaskState::Active);
        TaskStatus { state, next_at, last_run: None }
    }
}

/// A task as GET answers it.
pub fn task_json(task: &Task, status: &TaskStatus) -> json::Task {
    json::Task {
        revision: Some(task.revision.0),
        created_at: Some(json::format_wall(task.created_at)),
        updated_at: Some(json::format_wall(task.updated_at)),
        next_at: status.next_at.map(json::format_instant),
        state: Some(status.state.as_str().to_owned()),
        last_run: status.last_run.as_ref().map(run_json),
        ..spec_json(&task.spec)
    }
}

/// What a client asked for, defaults included.
pub fn spec_json(spec: &Spec) -> json::Task {
    let dates = spec.exclude.iter().map(ToString::to_string).collect();
    json::Task {
        namespace: Some(spec.name.namespace.to_string()),
        name: Some(spec.name.name.to_string()),
        description: Some(spec.description.clone()),
        labels: Some(spec.labels.clone()),
        schedules: Some(spec.schedules.iter().map(schedule_json).collect()),
        start_at: spec.start_at.map(json::format_wall),
        end_at: spec.end_at.map(json::format_wall),
        max_runs: spec.max_runs,
        jitter: Some(json::format_duration(spec.jitter)),
        exclude: Some(json::Exclude { dates: Some(dates) }),
        action: Some(action_json(&spec.action)),
        placement: Some(placement_json(&spec.placement, Some(&spec.broadcast))),
        catch_up: Some(json::CatchUp {
            policy: Some(word_of(POLICIES, spec.catch_up.policy).text.to_owned()),
            window: Some(json::format_duration(spec.catch_up.window)),
        }),
        delivery: Some(word_of(DELIVERIES, spec.delivery).text.to_owned()),
        overlap: Some(word_of(OVERLAPS, spec.overlap).text.to_owned()),
        retry: Some(retry_json(&spec.retry)),
        timeout: spec.timeout.map(json::format_duration),
        start_deadline: spec.start_deadline.map(json::format_duration),
        priority: Some(spec.priority),
        paused: Some(spec.paused),
        ..json::Task::default()
    }
}

fn schedule_json(schedule: &Schedule) -> json::Schedule {
    match schedule {
        Schedule::At(at) => {
            json::Schedule { at: Some(json::format_instant(*at)), ..Default::default() }
        }
        Schedule::Cron(cron) => json::Schedule {
            cron: Some(cron.expression().to_owned()),
            dialect: Some(word_of(DIALECTS, cron.dialect()).text.to_owned()),
            time_zone: Some(cron.zone().name().to_owned()),
            gap: Some(word_of(GAPS, cron.gap()).text.to_owned()),
            fold: Some(word_of(FOLDS, cron.fold()).text.to_owned()),
            ..Default::default()
        },
        Schedule::Every(every) => json::Schedule {
            every: Some(json::format_duration(every.every())),
            phase: Some(json::format_duration(every.phase())),
            ..Default::default()
        },
    }
}

/// Where a task runs; `broadcast` is not known of a record that cannot be read.
pub fn placement_json(placement: &Placement, broadcast: Option<&Broadcast>) -> json::Placement {
    json::Placement {
        pool: placement.pool().map(ToString::to_string),
        agent: placement.agent().map(ToString::to_string),
        every_agent: placement.every_agent().map(|pool| json::EveryAgent {
            pool: Some(pool.to_string()),
            labels: broadcast.map(|broadcast| broadcast.labels.clone()),
            splay: broadcast.map(|broadcast| json::format_duration(broadcast.splay)),
        }),
    }
}

fn action_json(action: &Action) -> json::Action {
    let mut shown = json::Action::default();
    match action {
        Action::Command(command) => shown.command = Some(command_json(command)),
        Action::Http(http) => shown.http = Some(http_json(http)),
        Action::Noop => shown.noop = Some(json::Noop {}),
    }
    shown
}

fn command_json(command: &Command) -> json::Command {
    let (argv, shell) = match &command.program {
        Program::Argv(argv) => (Some(argv.clone()), None),
        Program::Shell(line) => (None, Some(line.clone())),
    };
    json::Command {
        argv,
        shell,
        env: Some(command.env.clone()).filter(|env| !env.is_empty()),
        cwd: command.cwd.clone(),
        user: command.user.clone(),
        stdin: command.stdin.clone(),
        success_codes: Some(command.success_codes.clone()),
    }
}

fn http_json(http: &Http) -> json::Http {
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    json::Http {
        method: Some(http.method.clone()),
        url: Some(http.url.clone()),
        headers: Some(http.headers.clone()).filter(|headers| !headers.is_empty()),
        body: http.body.clone(),
        success_status: Some(http.success_status.iter().map(range).collect()),
    }
}

fn retry_json(retry: &Retry) -> json::Retry {
    json::Retry {
        max_attempts: Some(retry.max_attempts),
        backoff: Some(json::format_duration(retry.backoff)),
        factor: Some(retry.factor),
        max_backoff: Some(json::format_duration(retry.max_backoff)),
        jitter: Some(retry.jitter),
    }
}

/// A task as GetTask answers it.
pub fn task_proto(task: &Task, status: &TaskStatus) -> v1::Task {
    let spec = &task.spec;
    v1::Task {
        namespace: spec.name.namespace.to_string(),
        name: spec.name.name.to_string(),
        description: spec.description.clone(),
        labels: spec.labels.clone(),
        schedules: spec.schedules.iter().map(schedule_proto).collect(),
        start_at: spec.start_at.map(timestamp),
        end_at: spec.end_at.map(timestamp),
        max_runs: spec.max_runs,
        jitter: Some(span(spec.jitter)),
        exclude: Some(v1::Exclude {
            dates: spec.exclude.iter().map(ToString::to_string).collect(),
        }),
        action: Some(action_proto(&spec.action)),
        placement: Some(v1::Placement {
            kind: Some(match &spec.placement {
                Placement::Pool(pool) => v1::placement::Kind::Pool(pool.to_string()),
                Placement::Agent(agent) => v1::placement::Kind::Agent(agent.to_string()),
                Placement::EveryAgent(pool) => {
                    let (pool, labels) = (pool.to_string(), spec.broadcast.labels.clone());
                    let splay = Some(span(spec.broadcast.splay));
                    v1::placement::Kind::EveryAgent(v1::EveryAgent { pool, labels, splay })
                }
            }),
        }),
        catch_up: Some(v1::CatchUp {
            policy: word_of(POLICIES, spec.catch_up.policy).proto.into(),
            window: Some(span(spec.catch_up.window)),
        }),
        delivery: word_of(DELIVERIES, spec.delivery).proto.into(),
        overlap: word_of(OVERLAPS, spec.overlap).proto.into(),
        retry: Some(v1::Retry {
            max_attempts: Some(spec.retry.max_attempts),
            backoff: Some(span(spec.retry.backoff)),
            factor: Some(spec.retry.factor),
            max_backoff: Some(span(spec.retry.max_backoff)),
            jitter: Some(spec.retry.jitter),
        }),
        timeout: spec.timeout.map(span),
        start_deadline: spec.start_deadline.map(span),
        priority: spec.priority,
        paused: spec.paused,
        revision: task.revision.0,
        incarnation: format_incarnation(task.incarnation),
        created_at: Some(timestamp(task.created_at)),
        updated_at: Some(timestamp(task.updated_at)),
        next_at: status.next_at.map(|next| timestamp(next.wall())),
        state: status.state.proto().into(),
        last_run: status.last_run.as_ref().map(run_proto),
    }
}

fn schedule_proto(schedule: &Schedule) -> v1::Schedule {
    use v1::schedule::Kind;
    let kind = match schedule {
        Schedule::At(at) => Kind::At(timestamp(at.wall())),
        Schedule::Cron(cron) => Kind::Cron(v1::Cron {
            expression: cron.expression().to_owned(),
            dialect: word_of(DIALECTS, cron.dialect()).proto.into(),
            time_zone: cron.zone().name().to_owned(),
            gap: word_of(GAPS, cron.gap()).proto.into(),
            fold: word_of(FOLDS, cron.fold()).proto.into(),
        }),
        Schedule::Every(every) => Kind::Every(v1::Every {
            interval: Some(span(every.every())),
            phase: Some(span(every.phase())),
        }),
    };
    v1::Schedule { kind: Some(kind) }
}

fn action_proto(action: &Action) -> v1::Action {
    use v1::action::Kind;
    use v1::command::Program as ProtoProgram;
    let kind = match action {
        Action::Command(command) => Kind::Command(v1::Command {
            program: Some(match &command.program {
                Program::Argv(argv) => ProtoProgram::Argv(v1::Argv { args: argv.clone() }),
                Program::Shell(line) => ProtoProgram::Shell(line.clone()),
            }),
            env: command.env.clone(),
            cwd: command.cwd.clone(),
            user: command.user.clone(),
            stdin: command.stdin.clone(),
            success_codes: command.success_codes.clone(),
        }),
        Action::Http(http) => Kind::Http(v1::Http {
            method: http.method.clone(),
            url: http.url.clone(),
            headers: http.headers.clone(),
            body: http.body.clone(),
            success_status: http
                .success_status
                .iter()
                .map(|&(first, last)| v1::StatusRange { first: first.into(), last: last.into() })
                .collect(),
        }),
        Action::Noop => Kind::Noop(v1::Noop {}),
    };
    v1::Action { kind: Some(kind) }
}

/// A moment as protobuf writes it.
pub(super) fn timestamp(wall: Wall) -> prost_types::Timestamp {
    let micros = wall.micros();
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or(0),
    }
}

pub(super) fn span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}
