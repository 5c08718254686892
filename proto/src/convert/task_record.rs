//! Tasks as they are stored. The key tells name, placement and revisions, the record the rest; in
//! an agent's store, where keys are numbers, a row holds both.
//!
//! A record was checked when it was written, so reading asks only for what the types of core need:
//! an expression that parses, a zone that this program's database has. What fails is an error that
//! says which field, and the task is set aside by whoever reads.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Span;
use jiff::civil::Date;
use tocktower_core::hash::task_hash;
use tocktower_core::ids::{
    AgentName, Epoch, Incarnation, Name, NameError, Namespace, PoolName, Revision, TaskName,
};
use tocktower_core::schedule::{Cron, Every, Schedule, Zone};
use tocktower_core::task::{
    Action, Broadcast, CatchUp, Command, Http, NewVersion, Placement, Prior, Program, Retry, Spec,
    Task,
};
use tocktower_core::time::{Instant, Wall};

use super::numbers::{request_bytes, request_from_bytes};
use super::record::{DecodeError, decode_record, encode_record};
use super::words::{DELIVERIES, DIALECTS, FOLDS, GAPS, OVERLAPS, POLICIES, Word, word_of};
use crate::store;
use crate::store::action_record::Kind as ActionKind;
use crate::store::schedule_record::Kind as ScheduleKind;

/// What the key of a stored task tells, and the store's revisions of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredTask {
    pub name: TaskName,
    pub placement: Placement,
    pub create_revision: Revision,
    pub mod_revision: Revision,
}

/// The value to put for a version of a task. `epoch` is that of its incarnation: the cluster's for
/// a new one, the present one's for an edit.
pub fn encode_task(version: &NewVersion, epoch: Epoch) -> Vec<u8> {
    let mut record = spec_record(&version.spec);
    record.epoch = epoch.0;
    record.created_at_us = version.created_at.micros();
    record.updated_at_us = version.updated_at.micros();
    record.effective_from_us = version.effective_from.micros();
    record.instants_by = version.instants_by.map(|by| by.0);
    record.last_instant_ms = version.last_instant.map(Instant::millis);
    record.request = request_bytes(version.request);
    record.prior = version.prior.iter().map(prior_record).collect();
    encode_record(&record)
}

/// The task in a stored value.
pub fn decode_task(bytes: &[u8], stored: StoredTask) -> Result<Task, DecodeError> {
    task(decode_record(bytes)?, stored)
}

/// A task for an agent's store: key and record in one.
pub fn encode_task_row(task: &Task) -> Vec<u8> {
    encode_record(&store::TaskRow {
        namespace: task.spec.name.namespace.to_string(),
        name: task.spec.name.name.to_string(),
        pool: task.spec.placement.pool().map_or_else(String::new, ToString::to_string),
        agent: task.spec.placement.agent().map_or_else(String::new, ToString::to_string),
        every_agent: every_agent_text(&task.spec.placement),
        create_revision: task.incarnation.revision.0,
        mod_revision: task.revision.0,
        record: Some(store::TaskRecord {
            epoch: task.incarnation.epoch.0,
            created_at_us: task.created_at.micros(),
            updated_at_us: task.updated_at.micros(),
            effective_from_us: task.effective_from.micros(),
            instants_by: task.instants_by.map(|by| by.0),
            last_instant_ms: task.last_instant.map(Instant::millis),
            request: request_bytes(task.request),
            prior: task.prior.iter().map(prior_record).collect(),
            ..spec_record(&task.spec)
        }),
    })
}

/// The task in a row of an agent's store.
pub fn decode_task_row(bytes: &[u8]) -> Result<Task, DecodeError> {
    let row: store::TaskRow = decode_record(bytes)?;
    let bad = |error: NameError| DecodeError::invalid("name", error);
    let name = TaskName {
        namespace: Namespace::parse(&row.namespace).map_err(bad)?,
        name: Name::parse(&row.name).map_err(bad)?,
    };
    let stored = StoredTask {
        name,
        placement: placement_of(&row.pool, &row.agent, &row.every_agent)?,
        create_revision: Revision(row.create_revision),
        mod_revision: Revision(row.mod_revision),
    };
    task(row.record.ok_or_else(|| DecodeError::missing("record"))?, stored)
}

/// The placement in a row or a directory entry: all but one of the names are empty.
pub fn placement_of(pool: &str, agent: &str, every_agent: &str) -> Result<Placement, DecodeError> {
    match (agent, every_agent) {
        ("", "") => PoolName::parse(pool)
            .map(Placement::Pool)
            .map_err(|error| DecodeError::invalid("pool", error)),
        ("", pool) => PoolName::parse(pool)
            .map(Placement::EveryAgent)
            .map_err(|error| DecodeError::invalid("every_agent", error)),
        (agent, _) => AgentName::parse(agent)
            .map(Placement::Agent)
            .map_err(|error| DecodeError::invalid("agent", error)),
    }
}

/// The pool whose agents each have a share, for a row or a directory entry; else empty.
pub fn every_agent_text(placement: &Placement) -> String {
    placement.every_agent().map_or_else(String::new, ToString::to_string)
}

fn spec_record(spec: &Spec) -> store::TaskRecord {
    store::TaskRecord {
        description: spec.description.clone(),
        labels: spec.labels.clone(),
        schedules: spec.schedules.iter().map(schedule_record).collect(),
        start_at_us: spec.start_at.map(Wall::micros),
        end_at_us: spec.end_at.map(Wall::micros),
        max_runs: spec.max_runs,
        jitter_ms: millis(spec.jitter),
        exclude_days: spec.exclude.iter().filter_map(|date| day_number(*date)).collect(),
        action: Some(store::ActionRecord { kind: Some(action_record(&spec.action)) }),
        catch_up_policy: word_of(POLICIES, spec.catch_up.policy).record.into(),
        catch_up_window_ms: millis(spec.catch_up.window),
        delivery: word_of(DELIVERIES, spec.delivery).record.into(),
        overlap: word_of(OVERLAPS, spec.overlap).record.into(),
        retry: Some(store::RetryRecord {
            max_attempts: spec.retry.max_attempts,
            backoff_ms: millis(spec.retry.backoff),
            factor: spec.retry.factor,
            max_backoff_ms: millis(spec.retry.max_backoff),
            jitter: spec.retry.jitter,
        }),
        timeout_ms: spec.timeout.map(millis),
        start_deadline_ms: spec.start_deadline.map(millis),
        priority: spec.priority,
        paused: spec.paused,
        broadcast: spec.placement.every_agent().map(|_| store::BroadcastRecord {
            labels: spec.broadcast.labels.clone(),
            splay_ms: millis(spec.broadcast.splay),
        }),
        ..store::TaskRecord::default()
    }
}

fn prior_record(prior: &Prior) -> store::PriorRecord {
    store::PriorRecord {
        schedules: prior.schedules.iter().map(schedule_record).collect(),
        start_at_us: prior.start_at.map(Wall::micros),
        end_at_us: prior.end_at.map(Wall::micros),
        exclude_days: prior.exclude.iter().filter_map(|date| day_number(*date)).collect(),
        jitter_ms: millis(prior.jitter),
        splay_ms: millis(prior.splay),
        last_instant_ms: prior.last_instant.map(Instant::millis),
        paused: prior.paused,
        from_us: prior.from.micros(),
        until_us: prior.until.micros(),
        revision: prior.revision.0,
    }
}

fn prior_of(record: store::PriorRecord, hash_seed: u64) -> Result<Prior, DecodeError> {
    let read_schedule = |schedule| schedule_of(schedule, hash_seed);
    Ok(Prior {
        schedules: record.schedules.into_iter().map(read_schedule).collect::<Result<_, _>>()?,
        start_at: record.start_at_us.map(Wall::from_micros),
        end_at: record.end_at_us.map(Wall::from_micros),
        exclude: record.exclude_days.into_iter().map(date).collect::<Result<BTreeSet<_>, _>>()?,
        jitter: Duration::from_millis(record.jitter_ms),
        splay: Duration::from_millis(record.splay_ms),
        last_instant: record.last_instant_ms.map(Instant::from_millis),
        paused: record.paused,
        from: Wall::from_micros(record.from_us),
        until: Wall::from_micros(record.until_us),
        revision: Revision(record.revision),
    })
}

fn schedule_record(schedule: &Schedule) -> store::ScheduleRecord {
    let kind = match schedule {
        Schedule::At(at) => ScheduleKind::AtMs(at.millis()),
        Schedule::Cron(cron) => ScheduleKind::Cron(store::CronRecord {
            expression: cron.expression().to_owned(),
            dialect: word_of(DIALECTS, cron.dialect()).record.into(),
            time_zone: cron.zone().name().to_owned(),
            gap: word_of(GAPS, cron.gap()).record.into(),
            fold: word_of(FOLDS, cron.fold()).record.into(),
        }),
        Schedule::Every(every) => ScheduleKind::Every(store::EveryRecord {
            interval_ms: millis(every.every()),
            phase_ms: millis(every.phase()),
        }),
    };
    store::ScheduleRecord { kind: Some(kind) }
}

fn action_record(action: &Action) -> ActionKind {
    match action {
        Action::Command(command) => {
            let (argv, shell) = match &command.program {
                Program::Argv(argv) => (argv.clone(), None),
                Program::Shell(line) => (Vec::new(), Some(line.clone())),
            };
            ActionKind::Command(store::CommandRecord {
                argv,
                shell,
                env: command.env.clone(),
                cwd: command.cwd.clone(),
                user: command.user.clone(),
                stdin: command.stdin.clone(),
                success_codes: command.success_codes.clone(),
            })
        }
        Action::Http(http) => ActionKind::Http(store::HttpRecord {
            method: http.method.clone(),
            url: http.url.clone(),
            headers: http.headers.clone(),
            body: http.body.clone(),
            success_status: http
                .success_status
                .iter()
                .flat_map(|&(first, last)| [u32::from(first), u32::from(last)])
                .collect(),
        }),
        Action::Noop => ActionKind::Noop(store::NoopRecord {}),
    }
}

fn task(record: store::TaskRecord, stored: StoredTask) -> Result<Task, DecodeError> {
    let hash_seed = task_hash(&stored.name);
    let read_schedule = |schedule| schedule_of(schedule, hash_seed);
    let read_prior = |prior| prior_of(prior, hash_seed);
    let action = record.action.and_then(|action| action.kind);
    let retry = record.retry.ok_or_else(|| DecodeError::missing("retry"))?;
    let spec = Spec {
        name: stored.name,
        description: record.description,
        labels: record.labels,
        schedules: record.schedules.into_iter().map(read_schedule).collect::<Result<_, _>>()?,
        start_at: record.start_at_us.map(Wall::from_micros),
        end_at: record.end_at_us.map(Wall::from_micros),
        max_runs: record.max_runs,
        jitter: Duration::from_millis(record.jitter_ms),
        exclude: record.exclude_days.into_iter().map(date).collect::<Result<BTreeSet<_>, _>>()?,
        action: action_of(action.ok_or_else(|| DecodeError::missing("action"))?)?,
        placement: stored.placement,
        broadcast: record.broadcast.map_or_else(Broadcast::default, |broadcast| Broadcast {
            labels: broadcast.labels,
            splay: Duration::from_millis(broadcast.splay_ms),
        }),
        catch_up: CatchUp {
            policy: value_of(POLICIES, record.catch_up_policy, "catch_up_policy")?,
            window: Duration::from_millis(record.catch_up_window_ms),
        },
        delivery: value_of(DELIVERIES, record.delivery, "delivery")?,
        overlap: value_of(OVERLAPS, record.overlap, "overlap")?,
        retry: retry_of(retry)?,
        timeout: record.timeout_ms.map(Duration::from_millis),
        start_deadline: record.start_deadline_ms.map(Duration::from_millis),
        priority: record.priority,
        paused: record.paused,
    };
    Ok(Task {
        spec,
        incarnation: Incarnation { epoch: Epoch(record.epoch), revision: stored.create_revision },
        revision: stored.mod_revision,
        created_at: Wall::from_micros(record.created_at_us),
        updated_at: Wall::from_micros(record.updated_at_us),
        effective_from: Wall::from_micros(record.effective_from_us),
        instants_by: record.instants_by.map(Revision),
        last_instant: record.last_instant_ms.map(Instant::from_millis),
        request: request_from_bytes(&record.request)?,
        prior: record.prior.into_iter().map(read_prior).collect::<Result<_, _>>()?,
        share_of: None,
    })
}

fn schedule_of(record: store::ScheduleRecord, hash_seed: u64) -> Result<Schedule, DecodeError> {
    match record.kind.ok_or_else(|| DecodeError::missing("schedule"))? {
        ScheduleKind::AtMs(ms) => Ok(Schedule::At(Instant::from_millis(ms))),
        ScheduleKind::Cron(cron) => Cron::parse(
            &cron.expression,
            value_of(DIALECTS, cron.dialect, "dialect")?,
            Zone::parse(&cron.time_zone)
                .map_err(|error| DecodeError::invalid("time_zone", error))?,
            value_of(GAPS, cron.gap, "gap")?,
            value_of(FOLDS, cron.fold, "fold")?,
            hash_seed,
        )
        .map(Schedule::Cron)
        .map_err(|error| DecodeError::invalid("cron", error)),
        ScheduleKind::Every(every) => Every::new(
            Duration::from_millis(every.interval_ms),
            Duration::from_millis(every.phase_ms),
        )
        .map(Schedule::Every)
        .map_err(|error| DecodeError::invalid("every", error)),
    }
}

fn action_of(kind: ActionKind) -> Result<Action, DecodeError> {
    Ok(match kind {
        ActionKind::Command(command) => Action::Command(Command {
            program: match command.shell {
                Some(line) => Program::Shell(line),
                None => Program::Argv(command.argv),
            },
            env: command.env,
            cwd: command.cwd,
            user: command.user,
            stdin: command.stdin,
            success_codes: command.success_codes,
        }),
        ActionKind::Http(http) => Action::Http(Http {
            method: http.method,
            url: http.url,
            headers: http.headers,
            body: http.body,
            success_status: http
                .success_status
                .chunks(2)
                .map(status_range)
                .collect::<Option<_>>()
                .ok_or_else(|| DecodeError::invalid("success_status", "is no list of ranges"))?,
        }),
        ActionKind::Noop(store::NoopRecord {}) => Action::Noop,
    })
}

fn status_range(pair: &[u32]) -> Option<(u16, u16)> {
    match pair {
        [first, last] => Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?)),
        _ => None,
    }
}

fn retry_of(record: store::RetryRecord) -> Result<Retry, DecodeError> {
    // Waits are computed from these without a further look.
    let sane = record.factor.is_finite() && record.factor >= 0.0;
    if !sane || !(0.0..=1.0).contains(&record.jitter) {
        return Err(DecodeError::invalid("retry", "factor or jitter is out of range"));
    }
    Ok(Retry {
        max_attempts: record.max_attempts,
        backoff: Duration::from_millis(record.backoff_ms),
        factor: record.factor,
        max_backoff: Duration::from_millis(record.max_backoff_ms),
        jitter: record.jitter,
    })
}

fn value_of<T: Copy, P, S: Copy + Into<i32>>(
    table: &[Word<T, P, S>],
    number: i32,
    field: &'static str,
) -> Result<T, DecodeError> {
    let found = table.iter().find(|word| word.record.into() == number);
    found
        .map(|word| word.value)
        .ok_or_else(|| DecodeError::invalid(field, format!("{number} is not known")))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

const EPOCH_DAY: Date = Date::constant(1970, 1, 1);

/// Days since 1970-01-01.
fn day_number(date: Date) -> Option<i32> {
    i32::try_from(date.duration_since(EPOCH_DAY).as_hours() / 24).ok()
}

fn date(day: i32) -> Result<Date, DecodeError> {
    let added = Span::new().try_days(day).and_then(|days| EPOCH_DAY.checked_add(days));
    added.map_err(|error| DecodeError::invalid("exclude_days", error))
}
