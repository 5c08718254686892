//! The tasks of `tocktower dev --sample`: one of each kind, to look at and to change.
//!
//! They are made once, if they are not there: whoever deleted or changed one is left in peace.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tocktower_agent::waker;
use tocktower_coordinator::service::{TaskError, Tasks};
use tocktower_core::time::Wall;
use tocktower_proto::convert::{Given, Purpose, task_from_value};
use tocktower_proto::json::format_wall;
use tracing::info;

/// The namespace that they live in.
pub const NAMESPACE: &str = "sample";
/// When the one-shot is due, counted from the start.
const ONCE_AFTER: Duration = Duration::from_secs(30);

/// Creates those that are not there.
pub async fn create(service: &Tasks, own: SocketAddr) -> anyhow::Result<()> {
    let now = waker::now().wall;
    let mut created = 0;
    for body in tasks(own, now) {
        let purpose = Purpose::Create { now };
        let given = Given { namespace: None, name: None, fresh_name: "unnamed", purpose };
        let spec = task_from_value(body, given)
            .map_err(|wrong| anyhow!("a sample task is no task: {wrong:?}"))?;
        match service.create(spec, None).await {
            Ok(_) => created += 1,
            Err(TaskError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    info!(namespace = NAMESPACE, created, "sample tasks");
    Ok(())
}

/// The bodies of the creates, in the JSON of the client API. `own` serves `/healthz`.
pub fn tasks(own: SocketAddr, now: Wall) -> Vec<Value> {
    let at = format_wall(now.plus(ONCE_AFTER));
    vec![
        json!({
            "namespace": NAMESPACE, "name": "hello",
            "description": "Says hello every ten seconds.",
            "schedules": [{"every": "10s"}],
            "action": {"command": {"shell": "echo \"hello from $TOCKTOWER_RUN_ID\""}},
        }),
        json!({
            "namespace": NAMESPACE, "name": "each-minute",
            "description": "A cron expression, with the load of the host as its output.",
            "schedules": [{"cron": "* * * * *"}],
            "action": {"command": {"argv": ["cat", "/proc/loadavg"]}},
        }),
        json!({
            "namespace": NAMESPACE, "name": "health",
            "description": "Asks this very server whether it is well.",
            "schedules": [{"every": "30s", "phase": "5s"}],
            "action": {"http": {"method": "GET", "url": format!("http://{own}/healthz")}},
            "timeout": "5s",
        }),
        json!({
            "namespace": NAMESPACE, "name": "flaky",
            "description": "Fails, is tried again twice, and fails for good.",
            "schedules": [{"cron": "*/2 * * * *"}],
            "action": {"command": {"shell": "echo \"attempt $TOCKTOWER_ATTEMPT\" >&2; exit 1"}},
            "retry": {"max_attempts": 3, "backoff": "2s"},
        }),
        json!({
            "namespace": NAMESPACE, "name": "once",
            "description": "Runs once, half a minute after the start that made it.",
            "schedules": [{"at": at}],
            "action": {"command": {"argv": ["date"]}},
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_a_task() {
        let own = "127.0.0.1:7080".parse().unwrap();
        let now = Wall::from_millis(1_800_000_000_000);
        for task in tasks(own, now) {
            let purpose = Purpose::Create { now };
            let given = Given { namespace: None, name: None, fresh_name: "fresh", purpose };
            let spec = task_from_value(task.clone(), given);
            assert!(spec.is_ok(), "{task}: {:?}", spec.err());
        }
    }
}
