//! The messages of the live feed as text.
//!
//! A hundred sockets that watch the same runs get the same text: what a change says is made once,
//! by the first socket that needs it, and kept with the change. Only the envelope with the socket's
//! own number is made for each. A task is told as the catalog has it at that moment, which may be
//! newer than the change and is never older.

use serde::Serialize;
use serde_json::{Value, json};
use tocktower_core::ids::TaskName;
use tocktower_proto::convert::{TaskStatus, run_json};

use crate::clock;
use crate::feed::{Change, What};
use crate::live::Page;
use crate::rest::{App, Failure, agent_json, task_shown};
use crate::service::Shown;

pub fn snapshot(page: Page) -> String {
    let mut message = json!({
        "type": "snapshot",
        "tasks": values(page.tasks.into_iter().map(|task| task_shown(task, false))),
        "runs": values(page.runs.iter().map(run_json)),
        "agents": values(page.agents.into_iter().map(agent_json)),
        "last": page.last,
    });
    if !page.silent.is_empty() {
        message["incomplete"] = json!(page.silent);
    }
    if page.cut {
        message["cut"] = json!(true);
    }
    message.to_string()
}

pub fn lagged(missed: u64) -> String {
    json!({"type": "lagged", "missed": missed}).to_string()
}

pub fn error(failure: &Failure) -> String {
    json!({"type": "error", "error": failure.problem()}).to_string()
}

/// `body` is what all sockets share, without its braces.
pub fn event(seq: u64, body: &str) -> String {
    format!("{{\"type\":\"event\",\"seq\":{seq},{body}}}")
}

/// What a change says; made once. `None`: nothing that is told.
pub fn body<'a>(app: &App, change: &'a Change) -> Option<&'a str> {
    let text = change.text.get_or_init(|| match &change.what {
        What::Task { name, .. } => task(app, name),
        What::Run(run) => format!("\"kind\":\"run\",\"run\":{}", text_of(&run_json(run))),
        What::Agent(name) => match app.fleet.agent(name) {
            Ok(read) => {
                format!("\"kind\":\"agent\",\"agent\":{}", text_of(&agent_json(read.value)))
            }
            Err(_) => format!("\"kind\":\"agent\",\"deleted\":true,\"name\":\"{name}\""),
        },
        What::LeftOut { .. } => String::new(),
    });
    Some(text.as_str()).filter(|text| !text.is_empty())
}

/// As the catalog has it when the first reader asks, which is not before the change.
fn task(app: &App, name: &TaskName) -> String {
    let shown = match app.catalog.task(name) {
        Some(Ok(task)) => {
            let status = TaskStatus::at(&task, clock::wall());
            Shown::Task(Box::new(task), Box::new(status))
        }
        Some(Err(unreadable)) => Shown::Unreadable(unreadable),
        None => {
            let (namespace, name) = (&name.namespace, &name.name);
            return format!(
                "\"kind\":\"task\",\"deleted\":true,\"namespace\":\"{namespace}\",\
                 \"name\":\"{name}\""
            );
        }
    };
    format!("\"kind\":\"task\",\"task\":{}", text_of(&task_shown(shown, false)))
}

fn text_of(value: &impl Serialize) -> String {
    // These are strings, numbers and maps with text keys, which are always JSON.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn values<T: Serialize>(items: impl Iterator<Item = T>) -> Vec<Value> {
    items.map(|item| serde_json::to_value(item).unwrap_or(Value::Null)).collect()
}
