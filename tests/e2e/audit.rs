//! The auditor: ranges that do not come on are told of in time, and so is their end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{Api, now};
use crate::support::fleet::{Fleet, spent};
use crate::support::logs::Trouble;
use crate::support::{PATIENCE, alone, until};

/// From the moment at which the agent stops to the word on it.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

async fn stalled(api: &Api) -> Vec<Value> {
    let ranges = api.get("/v1/ranges?limit=1000").await.ok();
    let ranges = ranges["items"].as_array().cloned().unwrap_or_default();
    ranges.into_iter().filter(|range| range["stalled"].is_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_freezes_is_told_of_within_ten_seconds_and_so_is_its_end() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(1, 2).await;
    fleet.expects(Trouble::Frozen);
    // One that ticks, and one of which nothing is due for long: only the first can be missed.
    for (name, every) in [("ticks", "1s"), ("rests", "24h")] {
        let task = json!({"schedules": [{"every": every}], "action": {"noop": {}}});
        fleet.api().put(&format!("/v1/namespaces/default/tasks/{name}"), &task).await.ok();
    }
    fleet.api().ended_runs("ticks", 3).await;
    // The auditors have been looking for longer than a stall takes, and see none.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for coordinator in &fleet.coordinators {
        assert_eq!(stalled(&coordinator.api).await, [Value::Null; 0]);
    }

    fleet.agents[0].freeze();
    let frozen = now();
    for coordinator in &fleet.coordinators {
        let range = until("the range is told of", TOLD_WITHIN, async || {
            let ranges = stalled(&coordinator.api).await;
            if ranges.len() == 1 { Ok(ranges[0].clone()) } else { Err(ranges) }
        })
        .await;
        assert!(now() - frozen < TOLD_WITHIN, "{}", spent(now() - frozen));
        println!("told of {} after the agent froze: {}", spent(now() - frozen), range["stalled"]);
        assert_eq!((&range["stalled"], &range["holder"]), (&json!("unheld"), &Value::Null));
        assert!(range["oldest_undecided_ms"].as_u64() >= Some(6_000), "{range}");
        let said = coordinator.daemon.said();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("are stalled")).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("ERROR") && lines[0].contains("start an agent"), "{lines:?}");
        let metrics = coordinator.api.get("/metrics").await.text;
        let metric = "tocktower_coordinator_ranges_stalled{pool=\"default\"} 1";
        assert!(metrics.contains(metric), "{metrics}");
    }
    let told = fleet.api().tock(&["range", "list"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("unheld"));
    let why = fleet.api().get("/v1/namespaces/default/tasks/ticks/why").await.ok();
    assert_eq!(why["verdict"], "unheld", "{why}");

    fleet.agents[0].thaw();
    for coordinator in &fleet.coordinators {
        until("it comes on again", PATIENCE, async || {
            let ranges = stalled(&coordinator.api).await;
            let said = coordinator.daemon.said();
            let said = said.lines().filter(|line| line.contains("move again")).count();
            if ranges.is_empty() && said == 1 { Ok(()) } else { Err((ranges, said)) }
        })
        .await;
    }
}
