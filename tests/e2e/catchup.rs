//! Nobody is there to run anything for a while: what becomes of each instant is what its task says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{has_ended, instant_text, now};
use crate::support::fleet::{Fleet, text};
use crate::support::logs::Trouble;
use crate::support::{PATIENCE, beside_others, until};

/// How many seconds each task is due in.
const SECONDS: u64 = 22;
/// What is late by more is made up for, or not: 10 s when it is decided, and what it takes to
/// start.
const ON_TIME: i64 = 12_000_000;

/// How many instants ended in each state, by what they say of it, from rows of one or of many.
fn ends(runs: &[Value]) -> BTreeMap<String, u64> {
    let mut ends = BTreeMap::new();
    for run in runs {
        let count = run["count"].as_u64().unwrap_or(1);
        *ends.entry(text(&run["state"])).or_default() += count;
    }
    ends
}

/// Waits until all instants of a task have ended.
async fn ended(fleet: &Fleet, task: &str) -> Vec<Value> {
    let path = format!("/v1/namespaces/default/tasks/{task}/runs?limit=100");
    until(&format!("each instant of {task} has ended"), PATIENCE, async || {
        let runs = fleet.api().get(&path).await.ok()["items"].clone();
        let runs = runs.as_array().expect("a list").clone();
        let over: u64 = ends(&runs).values().sum();
        if over == SECONDS && runs.iter().all(has_ended) { Ok(runs) } else { Err(ends(&runs)) }
    })
    .await
}

fn late(run: &&Value) -> bool {
    run["lateness_us"].as_i64().is_some_and(|late| late > ON_TIME)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_due_while_nobody_was_there_comes_to_what_its_catch_up_says() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(1, 1).await;
    let from = Duration::from_secs((now() + Duration::from_secs(2)).as_secs());
    let until = from + Duration::from_secs(SECONDS) - Duration::from_millis(500);
    for policy in ["none", "latest", "all"] {
        let task = json!({
            "schedules": [{"every": "1s"}],
            "start_at": instant_text(from),
            "end_at": instant_text(until),
            "catch_up": {"policy": policy, "window": "1h"},
            "overlap": "allow",
            "action": {"noop": {}},
        });
        fleet.api().put(&format!("/v1/namespaces/default/tasks/{policy}"), &task).await.ok();
    }
    fleet.api().ended_runs("all", 2).await;
    fleet.agents[0].kill();
    fleet.expects(Trouble::Frozen);
    fleet.agents[0].expects(Trouble::Killed);
    // Seven of them are late by more than what counts as on time.
    tokio::time::sleep((from + Duration::from_secs(19)).saturating_sub(now())).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;

    let none = ended(&fleet, "none").await;
    let missed = ends(&none)["missed"];
    assert!((4..=16).contains(&missed), "{:?}", ends(&none));
    assert_eq!(ends(&none)["succeeded"], SECONDS - missed, "{:?}", ends(&none));
    assert_eq!(none.iter().filter(late).count(), 0, "what is late never starts");

    let latest = ended(&fleet, "latest").await;
    // What was on time when it came is newer than all that was late.
    assert_eq!(ends(&latest)["succeeded"], SECONDS - ends(&latest)["skipped"]);
    let skipped = latest.iter().filter(|run| run["state"] == "skipped");
    for run in skipped {
        assert_eq!(run["reason"], "catch-up: a later instant stands for it", "{run}");
    }
    assert!(latest.iter().filter(late).count() <= 1, "the newest alone is made up for");

    let all = ended(&fleet, "all").await;
    assert_eq!(ends(&all), BTreeMap::from([("succeeded".to_owned(), SECONDS)]));
    let made_up = all.iter().filter(late).count();
    assert!(made_up >= 3, "{made_up} were made up for");
}
