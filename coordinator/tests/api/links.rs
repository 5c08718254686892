use serde_json::json;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::TaskName;
use tocktower_proto::v1;

use crate::agent::{AHEAD_US, Agent, only};
use crate::harness::{api, at, task, until};

fn hello(name: &str) -> v1::Hello {
    v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent: name.to_owned(),
        pool: "default".to_owned(),
        ..v1::Hello::default()
    }
}

#[tokio::test]
async fn an_agent_that_dials_is_seen_with_what_it_tells() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let seen = until("its clock was measured", async || {
        let seen = api.get("/v1/agents/web-1").await.ok();
        seen["clock_offset_us"].is_i64().then_some(seen)
    })
    .await;
    let offset = seen["clock_offset_us"].as_i64().unwrap();
    assert!((offset - AHEAD_US).abs() < 1_000_000, "{offset}");
    assert_eq!((&seen["connected"], &seen["counts"]["running"]), (&json!(true), &json!(2)));
    assert_eq!(seen["counts"]["succeeded"], 3);
    let told = until("it was told its offset", async || agent.offset()).await;
    assert_eq!(told.offset_us, offset);
    let list = api.get("/v1/agents").await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    drop(agent);
    until("the link is down", async || {
        let list = api.get("/v1/agents").await.ok();
        list["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    api.get("/v1/agents/web-1").await.problem(404, "not_found");
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_told_which_ones_there_are() {
    let api = api().await;
    let newer = v1::Hello { protocol_min: 7, protocol_max: 9, ..hello("web-1") };
    let refused = Agent::dial_as(&api, newer).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("7 to 9"), "{refused}");
    let nameless = v1::Hello { pool: "NO".to_owned(), ..hello("web-1") };
    let refused = Agent::dial_as(&api, nameless).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn an_agent_that_dials_again_takes_the_place_of_its_older_link() {
    let api = api().await;
    let older = Agent::dial_as(&api, hello("web-1")).await.unwrap();
    let newer = Agent::dial_as(&api, v1::Hello { host: "b".to_owned(), ..hello("web-1") }).await;
    let newer = newer.unwrap();
    until("the newer link is the agent's", async || {
        let info = api.running.app().links.one(&newer.name)?;
        (info.host == "b").then_some(())
    })
    .await;
    drop(older);
    assert_eq!(api.running.app().links.count(), 1);
}

#[tokio::test]
async fn only_agents_with_history_of_a_range_are_asked() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let range = RangeCount::DEFAULT.range_of(&TaskName::parse("default/a").unwrap());
    let links = &api.running.app().links;
    assert_eq!(links.knowing(Some(range)).len(), 1);
    let other = RangeCount::DEFAULT.all().find(|other| *other != range).unwrap();
    agent.stats(only(other), false).await;
    until("it has told", async || links.knowing(Some(range)).is_empty().then_some(())).await;
    assert_eq!(links.knowing(Some(other)).len(), 1);
    assert_eq!(links.knowing(None).len(), 1);
}

#[tokio::test]
async fn creates_are_refused_while_an_agent_lags_in_writing() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    agent.stats(only(tocktower_core::ids::RangeId(0)), true).await;
    let refused = until("creates are refused", async || {
        let reply = api.create(&task("a")).await;
        let _ = api.delete(&at("a")).await;
        (reply.status.as_u16() == 429).then_some(reply)
    })
    .await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(429, "rate_limited");
    let mut elsewhere = task("b");
    elsewhere["placement"] = json!({"pool": "other"});
    api.create(&elsewhere).await.ok();
    agent.stats(only(tocktower_core::ids::RangeId(0)), false).await;
    until("creates go on", async || api.create(&task("c")).await.status.is_success().then_some(()))
        .await;
}
