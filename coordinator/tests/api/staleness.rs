use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::Method;
use tocktower_proto::v1;
use tocktower_proto::v1::fleet_service_client::FleetServiceClient;
use tocktower_proto::v1::task_service_client::TaskServiceClient;

use crate::agent::{Agent, channel};
use crate::harness::{Api, Cluster, at, task, until};

#[tokio::test]
async fn without_the_shared_state_reads_go_on_and_say_so_and_writes_are_refused() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("a")).await.ok();
    let _agent = Agent::dial(&api, "web-1").await;
    cluster.cut.store(true, Ordering::SeqCst);
    let refused = api.create(&task("b")).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "store_unavailable");
    let read = api.get(&at("a")).await.ok();
    assert_eq!((&read["name"], &read["stale"]), (&"a".into(), &true.into()), "at once");
    let known = api.request(Method::GET, &at("a")).header("if-none-match", "*");
    assert_eq!(api.send(known).await.ok()["stale"], true, "nobody knows that it is unchanged");
    api.get(&at("c")).await.problem(503, "store_unavailable");
    until("the copy is stale", async || {
        let page = api.get("/v1/namespaces/-/tasks").await.ok();
        (page["stale"] == true).then_some(())
    })
    .await;
    assert_eq!(api.get(&at("a")).await.ok()["stale"], true);
    let upcoming = format!("{}/upcoming", at("a"));
    for path in ["/v1/agents", "/v1/agents/web-1", "/v1/pools", "/v1/ranges", &upcoming] {
        assert_eq!(api.get(path).await.ok()["stale"], true, "{path}");
    }
    assert_eq!(stale_over_grpc(&api).await, [true; 5]);
    api.get("/readyz").await.problem(503, "store_unavailable");
    assert_eq!(api.get("/healthz").await.status.as_u16(), 200);

    cluster.cut.store(false, Ordering::SeqCst);
    until("it is fresh again", async || {
        let page = api.get("/v1/namespaces/-/tasks").await.ok();
        (page["stale"].is_null()).then_some(())
    })
    .await;
    for path in ["/v1/agents", "/v1/agents/web-1", "/v1/pools", "/v1/ranges", &upcoming] {
        assert!(api.get(path).await.ok()["stale"].is_null(), "{path}");
    }
    assert_eq!(stale_over_grpc(&api).await, [false; 5]);
    api.create(&task("b")).await.ok();
}

#[tokio::test]
async fn a_read_that_the_shared_state_leaves_unanswered_is_answered_from_the_copy_within_a_second()
{
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("a")).await.ok();
    cluster.hangs.store(true, Ordering::SeqCst);
    let asked = Instant::now();
    let read = api.get(&at("a")).await.ok();
    assert_eq!((&read["name"], &read["stale"]), (&"a".into(), &true.into()));
    let waited = asked.elapsed();
    assert!(Duration::from_millis(900) < waited && waited < Duration::from_secs(3), "{waited:?}");
    api.get(&at("c")).await.problem(503, "store_unavailable");
    until("the copy is stale", async || {
        let page = api.get("/v1/namespaces/-/tasks").await.ok();
        (page["stale"] == true).then_some(())
    })
    .await;
    let asked = Instant::now();
    assert_eq!(api.get(&at("a")).await.ok()["stale"], true);
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
    cluster.hangs.store(false, Ordering::SeqCst);
}

async fn stale_over_grpc(api: &Api) -> [bool; 5] {
    let mut fleet = FleetServiceClient::new(channel(api).await);
    let mut tasks = TaskServiceClient::new(channel(api).await);
    let agents = fleet.list_agents(v1::ListAgentsRequest::default()).await.unwrap();
    let agent = v1::GetAgentRequest { name: "web-1".to_owned() };
    let agent = fleet.get_agent(agent).await.unwrap();
    let pools = fleet.list_pools(v1::ListPoolsRequest::default()).await.unwrap();
    let ranges = fleet.list_ranges(v1::ListRangesRequest::default()).await.unwrap();
    let upcoming = v1::UpcomingRequest { name: "a".to_owned(), ..Default::default() };
    let upcoming = tasks.upcoming(upcoming).await.unwrap();
    [
        agents.into_inner().stale,
        agent.into_inner().stale,
        pools.into_inner().stale,
        ranges.into_inner().stale,
        upcoming.into_inner().stale,
    ]
}
