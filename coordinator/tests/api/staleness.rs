use std::sync::atomic::Ordering;

use crate::harness::{Cluster, at, task, until};

#[tokio::test]
async fn without_the_shared_state_reads_go_on_and_say_so_and_writes_are_refused() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("a")).await.ok();
    cluster.cut.store(true, Ordering::SeqCst);
    let refused = api.create(&task("b")).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "store_unavailable");
    let read = until("the read is stale", async || {
        let read = api.get(&at("a")).await.ok();
        (read["stale"] == true).then_some(read)
    })
    .await;
    assert_eq!(read["name"], "a");
    assert_eq!(api.get("/v1/namespaces/-/tasks").await.ok()["stale"], true);
    api.get("/readyz").await.problem(503, "store_unavailable");
    assert_eq!(api.get("/healthz").await.status.as_u16(), 200);

    cluster.cut.store(false, Ordering::SeqCst);
    until("it is fresh again", async || {
        let read = api.get(&at("a")).await.ok();
        (read["stale"].is_null()).then_some(())
    })
    .await;
    api.create(&task("b")).await.ok();
}
