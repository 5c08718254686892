use futures::StreamExt;
use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_core::ids::AgentName;
use tocktower_core::run::RunState;
use tocktower_proto::convert::encode_record;
use tocktower_proto::store;

use crate::agent::{Agent, run, run_id};
use crate::harness::{Cluster, api, at, paths, task, until};

fn instants(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|run| run["instant"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn runs_of_two_agents_become_one_list() {
    let api = api().await;
    let (old, new) = (Agent::dial(&api, "old").await, Agent::dial(&api, "new").await);
    // The run at 2 s was begun by one agent and taken over by the other.
    old.knows(run("default/a", 1_000, 10, "old", RunState::Succeeded));
    old.knows(run("default/a", 2_000, 10, "old", RunState::Running));
    new.knows(run("default/a", 2_000, 20, "new", RunState::Succeeded));
    new.knows(run("default/a", 3_000, 20, "new", RunState::Succeeded));
    new.knows(run("other/b", 4_000, 20, "new", RunState::Failed));
    let page = api.get(&format!("{}/runs", at("a"))).await.ok();
    assert_eq!(
        instants(&page),
        ["1970-01-01T00:00:03Z", "1970-01-01T00:00:02Z", "1970-01-01T00:00:01Z"]
    );
    let taken_over = &page["items"][1];
    assert_eq!((&taken_over["state"], &taken_over["agent"]), (&json!("succeeded"), &json!("new")));
    assert_eq!(taken_over["attempts"].as_array().unwrap().len(), 2);
    assert_eq!((&page["next_cursor"], &page["incomplete"]), (&Value::Null, &Value::Null));

    let all = api.get("/v1/runs").await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 4);
    let failed = api.get("/v1/runs?state=failed,lost").await.ok();
    assert_eq!(failed["items"][0]["task"], "b");
    let span = "since=1970-01-01T00:00:02Z&until=1970-01-01T00:00:03Z";
    let some = api.get(&format!("{}/runs?{span}", at("a"))).await.ok();
    assert_eq!(instants(&some), ["1970-01-01T00:00:02Z"]);

    let id = taken_over["run_id"].as_str().unwrap().split_once('@').unwrap().1;
    let one = api.get(&format!("{}/runs/{id}", at("a"))).await.ok();
    assert_eq!(&one, taken_over);
    api.get(&format!("{}/runs/5000-7", at("a"))).await.problem(404, "not_found");
    api.get(&format!("{}/runs/nonsense", at("a"))).await.problem(400, "invalid_request");
    let wrong = api.get("/v1/runs?state=done").await.problem(400, "invalid_request");
    assert_eq!(paths(&wrong), ["state"]);
}

#[tokio::test]
async fn pages_of_runs_go_on_where_the_last_one_ended() {
    let api = api().await;
    let (one, two) = (Agent::dial(&api, "one").await, Agent::dial(&api, "two").await);
    for second in 0..25 {
        let (agent, name) = if second % 3 == 0 { (&one, "one") } else { (&two, "two") };
        agent.knows(run("default/a", second * 1_000, 10, name, RunState::Succeeded));
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/runs?limit=10{cursor}")).await.ok();
        seen.extend(instants(&page).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<String> =
        (0..25).rev().map(|second| format!("1970-01-01T00:00:{second:02}Z")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn agents_that_do_not_answer_are_named() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let member = cluster.keys().build(&Key::Member(AgentName::parse("cut-off").unwrap()));
    let record = store::SessionRecord { pool: "default".to_owned(), ..Default::default() };
    cluster.put(member, encode_record(&record)).await;
    let (good, silent) = (Agent::dial(&api, "good").await, Agent::dial(&api, "silent").await);
    good.knows(run("default/a", 1_000, 10, "good", RunState::Succeeded));
    silent.falls_silent();
    let page = until("the member is known", async || {
        let page = api.get("/v1/runs").await.ok();
        (page["incomplete"].as_array()?.len() == 2).then_some(page)
    })
    .await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["incomplete"], json!(["cut-off", "silent"]));
    let unknown = api.get(&format!("{}/runs/5000-7", at("a"))).await;
    unknown.problem(503, "agents_silent");
    until("the question was taken back", async || (silent.stopped_queries() >= 1).then_some(()))
        .await;
}

#[tokio::test]
async fn a_task_is_shown_with_its_newest_run() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    assert_eq!(api.get(&at("a")).await.ok()["last_run"], Value::Null);
    let agent = Agent::dial(&api, "web-1").await;
    agent.knows(run("default/a", 1_000, 10, "web-1", RunState::Succeeded));
    agent.knows(run("default/a", 2_000, 10, "web-1", RunState::Running));
    let shown = api.get(&at("a")).await.ok();
    assert_eq!(shown["last_run"]["state"], "running");
}

#[tokio::test]
async fn a_one_shot_that_has_ended_is_answered_from_history() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut once = run("default/once", 1_000, 10, "web-1", RunState::Succeeded);
    once.request = Some(7);
    agent.knows(once);
    let shown = api.get(&at("once")).await.ok();
    assert_eq!((&shown["state"], &shown["name"]), (&json!("finished"), &json!("once")));
    assert_eq!(shown["last_run"]["state"], "succeeded");
    // A recurring task that was deleted is gone, whatever history says.
    agent.knows(run("default/gone", 1_000, 10, "web-1", RunState::Succeeded));
    api.get(&at("gone")).await.problem(404, "not_found");
}

#[tokio::test]
async fn output_is_read_and_followed() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let running = run("default/a", 1_000, 10, "web-1", RunState::Running);
    let part = run_id(&running).split_once('@').unwrap().1.to_owned();
    agent.knows(running);
    agent.writes("first\n");
    let path = format!("{}/runs/{part}/output", at("a"));
    assert_eq!(api.get(&path).await.body, "first\n");
    assert_eq!(api.get(&format!("{path}?offset=2")).await.body, "rst\n");
    let wrong = api.get(&format!("{path}?stream=stdin")).await.problem(400, "invalid_request");
    assert_eq!(paths(&wrong), ["stream"]);

    let follow = api.client.get(api.url(&format!("{path}?follow=true"))).send().await.unwrap();
    let mut chunks = follow.bytes_stream();
    assert_eq!(chunks.next().await.unwrap().unwrap(), "first\n");
    agent.writes("second\n");
    assert_eq!(chunks.next().await.unwrap().unwrap(), "second\n");
    agent.writes("third\n\u{4}");
    assert_eq!(chunks.next().await.unwrap().unwrap(), "third\n");
    assert!(chunks.next().await.is_none());

    let none = api.get(&format!("{}/runs/9000-7/output", at("a"))).await;
    none.problem(404, "not_found");
}

#[tokio::test]
async fn a_run_is_cancelled_by_its_holder_and_not_twice() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let running = run("default/a", 1_000, 10, "web-1", RunState::Running);
    let ended = run("default/a", 2_000, 10, "web-1", RunState::Succeeded);
    let part = |run| run_id(run).split_once('@').unwrap().1.to_owned();
    let paths = [&running, &ended].map(|run| format!("{}/runs/{}/cancel", at("a"), part(run)));
    agent.knows(running.clone());
    agent.knows(ended);
    let cancelled = api.post(&paths[0], &json!({})).await;
    assert_eq!(cancelled.status.as_u16(), 202);
    assert_eq!(cancelled.ok()["run_id"], run_id(&running));
    assert_eq!(agent.cancelled(), [run_id(&running)]);
    api.post(&paths[1], &json!({})).await.problem(409, "already_ended");
}
