//! The same over a real etcd: what the embedded store could be too kind about.

use serde_json::{Value, json};
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_coordinator::Pace;

use crate::etcd::EtcdCluster;
use crate::harness::{Api, at, task, until};

pub async fn api_on(etcd: &EtcdCluster, id: &str) -> Api {
    let port = Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap();
    Api::on(port, id, Pace::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_live_in_etcd_and_reads_outlive_it() {
    let mut etcd = EtcdCluster::start(1).await;
    let (one, two) = (api_on(&etcd, "c1").await, api_on(&etcd, "c2").await);
    let mut tasks: Vec<Value> = (0..1_500).map(|n| task(&format!("t{n:04}"))).collect();
    for task in tasks.iter_mut().step_by(10) {
        task["placement"] = json!({"pool": "blue"});
    }
    let body = one.post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    let results = body["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["status"] == "created"), "{body}");
    one.create(&task("t0010")).await.problem(409, "already_exists");
    until("the other coordinator has all of them", async || {
        let pools = two.get("/v1/pools").await.ok();
        let tasks = |name: &str| {
            let pools = pools["items"].as_array()?;
            pools.iter().find(|pool| pool["name"] == name)?["tasks"].as_u64()
        };
        (tasks("blue") == Some(150) && tasks("default") == Some(1_350)).then_some(())
    })
    .await;
    let moved = two.patch(&at("t0010"), &json!({"placement": {"pool": "default"}})).await.ok();
    assert_eq!(moved["moved"], true);
    one.post(&format!("{}/trigger", at("t0010")), &json!({})).await.ok();
    assert_eq!(two.delete(&at("t0010")).await.status.as_u16(), 204);
    until("it is gone everywhere", async || {
        (one.get(&at("t0010")).await.status.as_u16() == 404).then_some(())
    })
    .await;

    etcd.stop(0);
    until("reads are stale", async || {
        let read = one.get(&at("t0011")).await.ok();
        (read["stale"] == true).then_some(())
    })
    .await;
    let refused = one.create(&task("new")).await;
    assert!(
        matches!(refused.body["code"].as_str(), Some("store_unavailable" | "outcome_unknown")),
        "{refused:?}"
    );
    etcd.restart(0);
    etcd.healthy().await.unwrap();
    until("creates go on", async || {
        one.create(&task("newer")).await.status.is_success().then_some(())
    })
    .await;
    until("and the watch too", async || {
        two.get(&at("newer")).await.status.is_success().then_some(())
    })
    .await;
}
