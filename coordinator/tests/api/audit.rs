//! The auditor against a store in which a holder is played: it writes its claim, or its ledger, or
//! nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tocktower_core::time::Instant;
use tokio::time::sleep;

use crate::harness::{Api, Cluster, at, task, until};
use crate::why::{claim, every_second, write_ledger};

/// The ranges that are stalled: cause and holder.
async fn stalled(api: &Api) -> Vec<(Value, Value)> {
    let ranges = api.get("/v1/ranges?limit=1000").await.ok();
    let ranges = ranges["items"].as_array().unwrap().clone();
    let stalled = ranges.into_iter().filter(|range| range["stalled"].is_string());
    stalled.map(|range| (range["stalled"].clone(), range["holder"].clone())).collect()
}

async fn becomes(api: &Api, wanted: &[(Value, Value)]) {
    let what = format!("{wanted:?}");
    until(&what, async || (stalled(api).await == wanted).then_some(())).await;
}

#[tokio::test]
async fn a_range_that_does_not_come_on_is_told_by_its_cause() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    for spec in [every_second("a"), every_second("b"), task("hourly")] {
        api.create(&spec).await.ok();
    }
    let unheld = (json!("unheld"), Value::Null);
    becomes(&api, &[unheld.clone(), unheld.clone()]).await;
    let metrics = api.get("/metrics").await.body;
    let metrics = metrics.as_str().unwrap();
    let stalled = "tocktower_coordinator_ranges_stalled{pool=\"default\"} 2";
    assert!(metrics.contains(stalled), "{metrics}");

    // What would never have started is not due any more: deleted, or paused.
    api.delete(&at("b")).await;
    becomes(&api, &[unheld]).await;

    // Its holder writes, and decides nothing; then it stops to write.
    let writes = async {
        loop {
            claim(&cluster, "web-1").await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    let undecided = [(json!("undecided"), json!("web-1"))];
    tokio::select! {
        () = writes => {}
        () = becomes(&api, &undecided) => {}
    }
    becomes(&api, &[(json!("holder_silent"), json!("web-1"))]).await;

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    write_ledger(&cluster, Instant::from_millis(i64::try_from(now).unwrap()), Vec::new()).await;
    becomes(&api, &[]).await;
    let ranges = api.get("/v1/ranges?limit=1000").await.ok();
    let behind = ranges["items"].as_array().unwrap().iter();
    assert_eq!(behind.filter(|range| !range["oldest_undecided_ms"].is_null()).count(), 0);
    // The marks stand still again.
    becomes(&api, &[(json!("holder_silent"), json!("web-1"))]).await;
    api.post(&format!("{}/pause", at("a")), &json!({})).await.ok();
    becomes(&api, &[]).await;
}
