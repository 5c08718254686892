//! A task from its JSON form to the wire, field by field.
//!
//! The rules have passed the task before it comes here, so each text parses; one that does not
//! would have been reported there and is left out here. Only what was written is sent: the server
//! fills in the defaults, as it does for everybody.

use tocktower_proto::json::{
    Action, CatchUp, Command, Http, Retry, Schedule, Task, parse_duration, parse_instant,
    parse_wall_down, parse_wall_up,
};
use tocktower_proto::v1;

use crate::time::{Span, Timestamp, span};

pub(crate) fn task_proto(task: &Task) -> v1::Task {
    v1::Task {
        namespace: task.namespace.clone().unwrap_or_default(),
        name: task.name.clone().unwrap_or_default(),
        description: task.description.clone().unwrap_or_default(),
        labels: task.labels.clone().unwrap_or_default(),
        schedules: task.schedules.iter().flatten().map(schedule).collect(),
        start_at: task.start_at.as_deref().and_then(begin),
        end_at: task.end_at.as_deref().and_then(end),
        max_runs: task.max_runs,
        jitter: duration(task.jitter.as_ref()),
        exclude: task
            .exclude
            .as_ref()
            .map(|exclude| v1::Exclude { dates: exclude.dates.clone().unwrap_or_default() }),
        action: task.action.as_ref().map(action),
        placement: task.placement.as_ref().map(|placement| v1::Placement {
            kind: match (&placement.pool, &placement.agent, &placement.every_agent) {
                (_, _, Some(every)) => Some(v1::placement::Kind::EveryAgent(v1::EveryAgent {
                    pool: every.pool.clone().unwrap_or_default(),
                    labels: every.labels.clone().unwrap_or_default(),
                    splay: duration(every.splay.as_ref()),
                })),
                (_, Some(agent), None) => Some(v1::placement::Kind::Agent(agent.clone())),
                (pool, None, None) => pool.clone().map(v1::placement::Kind::Pool),
            },
        }),
        catch_up: task.catch_up.as_ref().map(catch_up),
        delivery: enum_number(task.delivery.as_ref(), "DELIVERY", v1::Delivery::from_str_name),
        overlap: enum_number(task.overlap.as_ref(), "OVERLAP", v1::Overlap::from_str_name),
        retry: task.retry.as_ref().map(retry),
        timeout: duration(task.timeout.as_ref()),
        start_deadline: duration(task.start_deadline.as_ref()),
        priority: task.priority.unwrap_or_default(),
        paused: task.paused.unwrap_or_default(),
        ..v1::Task::default()
    }
}

fn schedule(schedule: &Schedule) -> v1::Schedule {
    use v1::schedule::Kind;
    let kind = if let Some(at) = &schedule.at {
        parse_instant(at).ok().map(|at| Kind::At(micros(at.millis().saturating_mul(1_000))))
    } else if let Some(expression) = &schedule.cron {
        Some(Kind::Cron(v1::Cron {
            expression: expression.clone(),
            dialect: enum_number(schedule.dialect.as_ref(), "DIALECT", v1::Dialect::from_str_name),
            time_zone: schedule.time_zone.clone().unwrap_or_default(),
            gap: enum_number(schedule.gap.as_ref(), "GAP", v1::Gap::from_str_name),
            fold: enum_number(schedule.fold.as_ref(), "FOLD", v1::Fold::from_str_name),
        }))
    } else {
        schedule.every.as_ref().map(|every| {
            let (interval, phase) = (duration(Some(every)), duration(schedule.phase.as_ref()));
            Kind::Every(v1::Every { interval, phase })
        })
    };
    v1::Schedule { kind }
}

fn action(action: &Action) -> v1::Action {
    use v1::action::Kind;
    let kind = if let Some(given) = &action.command {
        Some(Kind::Command(command(given)))
    } else if let Some(given) = &action.http {
        Some(Kind::Http(http(given)))
    } else {
        action.noop.as_ref().map(|_| Kind::Noop(v1::Noop {}))
    };
    v1::Action { kind }
}

fn command(command: &Command) -> v1::Command {
    use v1::command::Program;
    let program = match (&command.argv, &command.shell) {
        (Some(args), _) => Some(Program::Argv(v1::Argv { args: args.clone() })),
        (None, Some(line)) => Some(Program::Shell(line.clone())),
        (None, None) => None,
    };
    v1::Command {
        program,
        env: command.env.clone().unwrap_or_default(),
        cwd: command.cwd.clone(),
        user: command.user.clone(),
        stdin: command.stdin.clone(),
        success_codes: command.success_codes.clone().unwrap_or_default(),
    }
}

fn http(http: &Http) -> v1::Http {
    let range = |text: &String| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(v1::StatusRange { first: first.parse().ok()?, last: last.parse().ok()? })
    };
    v1::Http {
        method: http.method.clone().unwrap_or_default(),
        url: http.url.clone().unwrap_or_default(),
        headers: http.headers.clone().unwrap_or_default(),
        body: http.body.clone(),
        success_status: http.success_status.iter().flatten().filter_map(range).collect(),
    }
}

fn catch_up(catch_up: &CatchUp) -> v1::CatchUp {
    v1::CatchUp {
        policy: enum_number(
            catch_up.policy.as_ref(),
            "CATCH_UP_POLICY",
            v1::CatchUpPolicy::from_str_name,
        ),
        window: duration(catch_up.window.as_ref()),
    }
}

fn retry(retry: &Retry) -> v1::Retry {
    v1::Retry {
        max_attempts: retry.max_attempts,
        backoff: duration(retry.backoff.as_ref()),
        factor: retry.factor,
        max_backoff: duration(retry.max_backoff.as_ref()),
        jitter: retry.jitter,
    }
}

fn duration(text: Option<&String>) -> Option<Span> {
    text.and_then(|text| parse_duration(text).ok()).map(span)
}

fn begin(text: &str) -> Option<Timestamp> {
    parse_wall_up(text).ok().map(|wall| micros(wall.micros()))
}

fn end(text: &str) -> Option<Timestamp> {
    parse_wall_down(text).ok().map(|wall| micros(wall.micros()))
}

fn micros(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000);
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos: nanos.unwrap_or(0) }
}

/// `cancel_running` is `OVERLAP_CANCEL_RUNNING` on the wire; 0 is a word that was left out.
fn enum_number<E: Into<i32>>(
    word: Option<&String>,
    prefix: &str,
    from_name: impl Fn(&str) -> Option<E>,
) -> i32 {
    let named = word.map(|word| format!("{prefix}_{}", word.to_uppercase()));
    named.and_then(|name| from_name(&name)).map_or(0, Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    /// Every field that the JSON form has, with a value that is not its default.
    fn full() -> serde_json::Value {
        json!({
            "namespace": "ops", "name": "a", "description": "d", "labels": {"team": "db"},
            "schedules": [
                {"cron": "0 0 18 ? * 6L", "dialect": "quartz", "time_zone": "Europe/Berlin",
                 "gap": "skip", "fold": "both"},
                {"every": "15m", "phase": "2m"},
            ],
            "start_at": "2026-11-24T10:00:00Z", "end_at": "2030-11-24T10:00:00Z",
            "max_runs": 5, "jitter": "3s", "exclude": {"dates": ["2026-12-25"]},
            "action": {"http": {"method": "PUT", "url": "https://example.com/",
                "headers": {"x-a": "b"}, "body": "{}", "success_status": ["200-204", "404"]}},
            "placement": {"pool": "edge"},
            "catch_up": {"policy": "all", "window": "2h"}, "overlap": "cancel_running",
            "delivery": "at_most_once",
            "retry": {"max_attempts": 3, "backoff": "2s", "factor": 1.5, "max_backoff": "1m",
                "jitter": 0.5},
            "timeout": "1h30m", "start_deadline": "10m", "priority": -3, "paused": true,
        })
    }

    #[test]
    fn a_task_means_the_same_on_the_wire_as_in_json() {
        let command = json!({"command": {"argv": ["a", "b"], "env": {"X": "1"}, "cwd": "/srv",
            "user": "u", "stdin": "in", "success_codes": [0, 3]}});
        let shell = json!({"command": {"shell": "a | b", "success_codes": [0]}});
        let once = json!([{"at": "2026-11-24T10:00:00.25Z"}]);
        let mut values = vec![full()];
        for (field, value) in [
            ("action", command),
            ("action", shell),
            ("action", json!({"noop": {}})),
            ("schedules", once),
        ] {
            let mut changed = full();
            changed[field] = value;
            values.push(changed);
        }
        for value in values {
            let task = crate::json::read_task(value.clone()).unwrap_or_else(|e| panic!("{e:?}"));
            let back = serde_json::to_value(crate::json::spec(&task)).unwrap();
            for (field, given) in value.as_object().unwrap() {
                assert_eq!(&back[field], given, "{field}");
            }
        }
    }
}
