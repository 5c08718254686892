//! What would have to be done so that the server has what files say.
//!
//! Two tasks are compared as they mean, with every default filled in, field by field down to the
//! smallest that differs: `schedules[0].cron` says more than `schedules`. The plan is made before
//! anything is sent, so that it can be shown and asked about.

use serde::Serialize;
use serde_json::Value;
use tocktower_client::{Task, TaskState, json};

/// What is to be done with one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Change,
    Unchanged,
    Delete,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub path: String,
    pub from: Value,
    pub to: Value,
}

/// One task of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub action: Action,
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Difference>,
    #[serde(skip)]
    pub task: Task,
    /// The version that the plan was made against.
    #[serde(skip)]
    pub revision: i64,
}

impl Step {
    /// From what is there to what is wanted.
    pub fn toward(wanted: Task, present: Option<&Task>) -> Step {
        let (action, changes) = match present {
            None => (Action::Create, Vec::new()),
            Some(history) if history.is_history() => match has_run(history, &wanted) {
                true => (Action::Unchanged, Vec::new()),
                false => (Action::Create, Vec::new()),
            },
            Some(present) => {
                let changes = differences(present, &wanted);
                match changes.is_empty() {
                    true => (Action::Unchanged, changes),
                    // A one-shot that has run is about to leave; another of its name is a new one.
                    false if present.state() == TaskState::Finished && present.is_one_shot() => {
                        (Action::Create, Vec::new())
                    }
                    false => (Action::Change, changes),
                }
            }
        };
        Step::new(action, wanted, changes, present.map_or(0, Task::revision))
    }

    /// Away with what no file has.
    pub fn delete(present: Task) -> Step {
        let revision = present.revision();
        Step::new(Action::Delete, present, Vec::new(), revision)
    }

    fn new(action: Action, task: Task, changes: Vec<Difference>, revision: i64) -> Step {
        let (namespace, name) = (task.namespace().to_owned(), task.name().to_owned());
        Step { action, namespace, name, changes, task, revision }
    }

    /// `~ ops/nightly` and a line for each change.
    pub fn lines(&self) -> Vec<String> {
        let sign = match self.action {
            Action::Create => '+',
            Action::Change => '~',
            Action::Unchanged => '=',
            Action::Delete => '-',
        };
        let mut lines = vec![format!("{sign} {}/{}", self.namespace, self.name)];
        for Difference { path, from, to } in &self.changes {
            lines.push(format!("    {path}: {} → {}", short(from), short(to)));
        }
        lines
    }
}

/// Of a one-shot that has left nothing but its last run is known. If that was of the wanted
/// instant, what is wanted has been done: it is not made anew each time that its file is applied.
fn has_run(history: &Task, wanted: &Task) -> bool {
    let schedules = json::spec(wanted).schedules.unwrap_or_default();
    let [schedule] = schedules.as_slice() else { return false };
    let ran = history.proto().last_run.as_ref().map(|run| json::run(run).instant);
    schedule.at.is_some() && schedule.at == ran
}

/// The smallest fields that differ between two tasks, as they mean.
pub fn differences(present: &Task, wanted: &Task) -> Vec<Difference> {
    let value = |task| serde_json::to_value(json::spec(task)).unwrap_or_default();
    let mut found = Vec::new();
    compare("", &value(present), &value(wanted), &mut found);
    found
}

fn compare(path: &str, from: &Value, to: &Value, found: &mut Vec<Difference>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let inner = match path {
                    "" => key.clone(),
                    _ => format!("{path}.{key}"),
                };
                let side =
                    |map: &serde_json::Map<_, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&inner, &side(left), &side(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (from, to)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{index}]"), from, to, found);
            }
        }
        _ => found.push(Difference { path: path.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

/// Enough of a value to know it by.
fn short(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = match value {
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};
    use tocktower_client::{Cron, proto as v1, time};

    fn nightly() -> Task {
        Task::new("ops", "nightly").cron("30 2 * * *").command(["backup", "--all"])
    }

    #[test]
    fn defaults_that_are_written_out_are_no_difference() {
        let written_out = nightly().overlap(tocktower_client::Overlap::Skip).pool("default");
        let step = Step::toward(written_out, Some(&nightly()));
        assert_eq!((step.action, step.changes.len()), (Action::Unchanged, 0));
    }

    #[test]
    fn a_one_shot_that_has_run_is_made_anew_only_for_another_instant() {
        let seconds = |at| UNIX_EPOCH + Duration::from_secs(at);
        let once = |at| Task::new("ops", "once").at(seconds(at)).noop();
        // What the server answers of a one-shot that has left.
        let last_run = v1::Run {
            instant: Some(time::timestamp(seconds(1_790_000_000))),
            ..v1::Run::default()
        };
        let mut left =
            v1::Task { last_run: Some(last_run), ..Task::new("ops", "once").into_proto() };
        left.set_state(TaskState::Finished);
        let left = Task::from(left);
        for (wanted, expected) in [
            (once(1_790_000_000), Action::Unchanged),
            (once(1_790_000_001), Action::Create),
            (Task::new("ops", "once").every(Duration::from_secs(60)).noop(), Action::Create),
        ] {
            let step = Step::toward(wanted, Some(&left));
            assert_eq!((step.action, step.changes.len()), (expected, 0), "{:?}", step.task);
        }
    }

    #[test]
    fn the_smallest_fields_that_differ_are_told() {
        let wanted = Task::new("ops", "nightly")
            .cron(Cron::new("45 2 * * *").in_zone("Europe/Berlin"))
            .command(["backup", "--all", "-v"])
            .label("team", "db");
        let step = Step::toward(wanted, Some(&nightly()));
        let paths: Vec<&str> = step.changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(
            paths,
            ["action.command.argv", "labels.team", "schedules[0].cron", "schedules[0].time_zone"]
        );
        assert_eq!(step.lines()[2], "    labels.team: none → \"db\"");
    }
}
