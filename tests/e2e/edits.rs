//! A delete, a pause, a resume and an edit of tasks that run every second, in a fleet with nothing
//! wrong: from the answer on they hold, and history says what became of each instant.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{instant_text, now};
use crate::support::fleet::{Fleet, text};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

/// The time from the answer until an agent has it, on a machine that may be loaded: what is due in
/// it may start as before.
const KNOWN: Duration = Duration::from_millis(400);
/// Seconds that are looked at behind the changes.
const SECONDS: u64 = 3;
/// What runs before the changes.
const RUNNING: [&str; 4] = ["deleted", "paused", "redirected", "seldom"];

fn body(url: &str, every: &str) -> Value {
    json!({
        "schedules": [{"every": every}], "overlap": "allow",
        "action": {"http": {"method": "GET", "url": url}},
    })
}

fn path(name: &str) -> String {
    format!("/v1/namespaces/edits/tasks/{name}")
}

/// The seconds of the instants of a task for which somebody called, with when they did.
fn calls_of(witness: &Witness, task: &str) -> BTreeMap<u64, Duration> {
    let start = format!("edits/{task}@");
    let mut seconds = BTreeMap::new();
    for (run, at) in witness.calls() {
        let Some(rest) = run.strip_prefix(&start) else { continue };
        let (ms, _) = rest.split_once('-').expect("an instant");
        assert_eq!(at.len(), 1, "{run}: {at:?}");
        seconds.insert(ms.parse::<u64>().expect("milliseconds") / 1_000, at[0]);
    }
    seconds
}

/// What is changed, and when that was answered.
async fn change(fleet: &Fleet, new: &Witness) -> BTreeMap<&'static str, Duration> {
    let api = fleet.api();
    let mut answered = BTreeMap::new();
    let deleted = api.delete(&path("deleted")).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    answered.insert("deleted", now());
    api.post(&format!("{}/pause", path("paused")), &json!({})).await.ok();
    answered.insert("paused", now());
    api.post(&format!("{}/resume", path("resumed")), &json!({})).await.ok();
    answered.insert("resumed", now());
    api.put(&path("redirected"), &body(&new.url, "1s")).await.ok();
    answered.insert("redirected", now());
    api.put(&path("seldom"), &body(&new.url, "12h")).await.ok();
    answered.insert("seldom", now());
    answered
}

/// What `why` says of an instant, once it says that.
async fn came_to(fleet: &Fleet, task: &str, second: u64, verdict: &str) -> Value {
    let at = instant_text(Duration::from_secs(second));
    let path = format!("{}/why?at={at}", path(task));
    until(&format!("{task} at {at} is {verdict}"), PATIENCE, async || {
        let why = fleet.api().get(&path).await.ok();
        if why["verdict"] == verdict { Ok(why) } else { Err(why) }
    })
    .await
}

/// The tasks are there, and each of them has come to something.
async fn place(fleet: &Fleet, (old, new): (&Witness, &Witness)) {
    for name in RUNNING {
        fleet.api().put(&path(name), &body(&old.url, "1s")).await.ok();
    }
    let mut resumed = body(&new.url, "1s");
    resumed["paused"] = json!(true);
    fleet.api().put(&path("resumed"), &resumed).await.ok();
    let skipped = format!("{}/runs?state=skipped", path("resumed"));
    until("they run, and the one that is paused does not", PATIENCE, async || {
        let row = fleet.api().get(&skipped).await.ok()["items"][0].clone();
        let calls = RUNNING.map(|name| calls_of(old, name).len());
        let all = calls.iter().all(|calls| *calls > 0) && row.is_object();
        if all { Ok(()) } else { Err((calls, row)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_a_pause_a_resume_and_an_edit_hold_once_they_are_answered() {
    let _turn = alone().await;
    let fleet = Fleet::start(1, 1).await;
    let (old, new) = (Witness::start().await, Witness::start().await);
    place(&fleet, (&old, &new)).await;
    // Half a second before the next instants.
    let half = Duration::from_secs(now().as_secs() + 1) + Duration::from_millis(500);
    tokio::time::sleep(half.saturating_sub(now())).await;
    let answered = change(&fleet, &new).await;
    let first = (answered["seldom"] + KNOWN).as_secs() + 1;
    let end = Duration::from_secs(first + SECONDS);
    tokio::time::sleep(end.saturating_sub(now())).await;

    for name in RUNNING {
        let last = *calls_of(&old, name).last_key_value().expect("it has run").1;
        let by = answered[name] + KNOWN;
        assert!(last < by, "{name} by its old definition {:?} later", last.saturating_sub(by));
    }
    for name in ["resumed", "redirected"] {
        let calls = calls_of(&new, name);
        let all = (first..first + SECONDS).all(|second| calls.contains_key(&second));
        let early = calls.values().any(|at| *at < half);
        assert!(all && !early, "{name} by its new definition from {first} on: {calls:?}");
    }
    assert_eq!(calls_of(&new, "seldom"), BTreeMap::new());
    history_says_why(&fleet, first, half.as_secs()).await;
}

/// Of the first second in which all of it holds, and of the last one before.
async fn history_says_why(fleet: &Fleet, first: u64, before: u64) {
    for name in RUNNING {
        came_to(fleet, name, before, "succeeded").await;
    }
    for (name, second) in [("paused", first), ("resumed", before)] {
        let why = came_to(fleet, name, second, "skipped").await;
        assert_eq!(why["policy"]["field"], "paused", "{why}");
    }
    for name in ["resumed", "redirected"] {
        came_to(fleet, name, first, "succeeded").await;
    }
    came_to(fleet, "seldom", first, "not_an_instant").await;
    came_to(fleet, "deleted", first, "task_gone").await;
    let runs = fleet.api().runs("edits").await.expect("a list");
    for run in runs.iter().filter(|run| run["task"] == "deleted") {
        let at = text(&run["instant"]);
        assert!(at <= instant_text(Duration::from_secs(first - 1)), "{run}");
        assert_eq!(run["state"], "succeeded", "{run}");
    }
    assert_eq!(fleet.api().get(&path("deleted")).await.status, 404);
}
