use futures::StreamExt;
use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_core::ids::{AgentName, PoolName, TaskName};
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
async fn a_run_that_was_taken_over_is_listed_by_its_state_there() {
    let api = api().await;
    let (old, new) = (Agent::dial(&api, "old").await, Agent::dial(&api, "new").await);
    old.knows(run("default/a", 1_000, 10, "old", RunState::Running));
    // Taken over, and ended there.
    old.knows(run("default/a", 2_000, 10, "old", RunState::Running));
    new.knows(run("default/a", 2_000, 20, "new", RunState::Succeeded));
    let running = api.get("/v1/runs?state=running").await.ok();
    assert_eq!(instants(&running), ["1970-01-01T00:00:01Z"]);
    let succeeded = api.get("/v1/runs?state=succeeded").await.ok();
    assert_eq!(instants(&succeeded), ["1970-01-01T00:00:02Z"]);
    assert_eq!(succeeded["items"][0]["attempts"].as_array().unwrap().len(), 2);
    // A page on which nothing is left goes on where it ended.
    let first = api.get("/v1/runs?state=running&limit=1").await.ok();
    assert_eq!(instants(&first), [""; 0]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(&format!("/v1/runs?state=running&limit=1&cursor={cursor}")).await.ok();
    assert_eq!(instants(&second), ["1970-01-01T00:00:01Z"]);
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
    let down = cluster.keys().build(&Key::Agent(AgentName::parse("down").unwrap()));
    let record = store::AgentRecord { pool: "default".to_owned(), ..Default::default() };
    cluster.put(down, encode_record(&record)).await;
    let (good, silent) = (Agent::dial(&api, "good").await, Agent::dial(&api, "silent").await);
    good.knows(run("default/a", 1_000, 10, "good", RunState::Succeeded));
    silent.falls_silent();
    let page = until("they are known", async || {
        let page = api.get("/v1/runs").await.ok();
        (page["incomplete"].as_array()?.len() == 3).then_some(page)
    })
    .await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["incomplete"], json!(["cut-off", "silent", "down"]));
    let unknown = api.get(&format!("{}/runs/5000-7", at("a"))).await;
    unknown.problem(503, "agents_silent");
    until("the question was taken back", async || (silent.stopped_queries() >= 1).then_some(()))
        .await;
}

#[tokio::test]
async fn an_agent_that_is_down_is_named_and_holds_nothing_up() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let _agent = Agent::dial(&api, "good").await;
    let down = cluster.keys().build(&Key::Agent(AgentName::parse("down").unwrap()));
    cluster.put(down, encode_record(&store::AgentRecord::default())).await;
    let path = format!("{}/runs/5000-7", at("a"));
    let detail = until("it is known", async || {
        let problem = api.get(&path).await.problem(404, "not_found");
        let detail = problem["detail"].as_str().unwrap().to_owned();
        detail.ends_with("may know of it: down").then_some(detail)
    })
    .await;
    assert!(detail.contains("default/a@5000-7"), "{detail}");
    api.get(&at("a")).await.problem(404, "not_found");
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
    // The create was sent again after that, and did nothing.
    let mut again = run("default/once", 5_000, 20, "web-1", RunState::Skipped);
    again.request = Some(7);
    again.reason = Some("duplicate_of default/once@1000-7".to_owned());
    agent.knows(again);
    let shown = api.get(&at("once")).await.ok();
    assert_eq!(shown["last_run"]["run_id"], "default/once@1000-7");
    // A recurring task that was deleted is gone, whatever history says.
    agent.knows(run("default/gone", 1_000, 10, "web-1", RunState::Succeeded));
    api.get(&at("gone")).await.problem(404, "not_found");
}

#[tokio::test]
async fn an_agent_that_keeps_silent_is_not_taken_for_one_that_knows_nothing() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut once = run("default/once", 1_000, 10, "web-1", RunState::Succeeded);
    once.request = Some(7);
    agent.knows(once);
    agent.falls_silent();
    let nothing = api.get(&at("once")).await;
    assert_eq!(nothing.header("retry-after"), "1");
    nothing.problem(503, "agents_silent");
    agent.speaks_again();
    assert_eq!(api.get(&at("once")).await.ok()["state"], "finished");
    api.get(&at("never")).await.problem(404, "not_found");
}

#[tokio::test]
async fn who_took_a_range_since_it_last_told_of_itself_is_asked_for_runs_of_it() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let agent = Agent::dial(&api, "web-1").await;
    agent.knows(run("default/a", 1_000, 10, "web-1", RunState::Succeeded));
    api.create(&task("a")).await.ok();
    let path = format!("{}/runs", at("a"));
    let told = async || instants(&api.get(&path).await.ok()).len();
    agent.stats(Vec::new(), false).await;
    until("it knows of no range", async || (told().await == 0).then_some(())).await;
    put_claim(&cluster, "default/a", "web-1").await;
    until("the claim is known", async || (told().await == 1).then_some(())).await;
}

async fn put_claim(cluster: &Cluster, task: &str, agent: &str) {
    let pool = PoolName::parse("default").unwrap();
    let range = cluster.keys().ranges().range_of(&TaskName::parse(task).unwrap());
    let claim = cluster.keys().build(&Key::Claim(pool, range));
    let record = store::ClaimRecord { agent: agent.to_owned(), ..Default::default() };
    cluster.put(claim, encode_record(&record)).await;
}

#[tokio::test]
async fn what_a_holder_knows_to_be_in_the_way_is_told_where_a_run_is_late() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut often = task("a");
    often["schedules"] = json!([{"every": "4s"}]);
    api.create(&often).await.ok();
    agent.hindered("its clock is wrong").await;
    let why = format!("{}/why", at("a"));
    let late = until("it has been due for a while", async || {
        put_claim(&cluster, "default/a", "web-1").await;
        let why = api.get(&why).await.ok();
        (why["verdict"] == "late").then_some(why)
    })
    .await;
    let text = late["explanation"].as_str().unwrap();
    assert!(text.ends_with("It says what is in its way: its clock is wrong."), "{text}");
}

#[tokio::test]
async fn a_run_asked_for_is_not_called_queued_while_its_holder_is_silent() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let agent = Agent::dial(&api, "web-1").await;
    api.create(&task("a")).await.ok();
    put_claim(&cluster, "default/a", "web-1").await;
    let path = format!("{}/trigger", at("a"));
    let asked = api.post(&path, &json!({})).await.ok();
    let id = asked["run_id"].as_str().unwrap().split_once('@').unwrap().1;
    let path = format!("{}/runs/{id}", at("a"));
    let waits = until("the claim is known", async || {
        let reply = api.get(&path).await;
        reply.status.is_success().then_some(reply.body)
    })
    .await;
    assert_eq!(waits["state"], "queued");
    agent.falls_silent();
    api.get(&path).await.problem(503, "agents_silent");
}

#[tokio::test]
async fn questions_wait_for_their_turn_and_none_is_refused() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut once = run("default/once", 1_000, 10, "web-1", RunState::Succeeded);
    once.request = Some(7);
    agent.knows(once);
    agent.holds();
    let path = at("once");
    let asked = futures::future::join_all((0..200).map(|_| api.get(&path)));
    let let_go = async {
        until("the agent has its hands full", async || (agent.held().0 >= 24).then_some(())).await;
        agent.lets_go().await;
    };
    let (replies, ()) = tokio::join!(asked, let_go);
    for reply in replies {
        assert_eq!(reply.ok()["state"], "finished");
    }
    // An agent takes 32 at a time and refuses the rest.
    assert!(agent.held().1 <= 32, "{:?}", agent.held());
}

#[tokio::test]
async fn followers_of_output_stand_in_nobodys_way() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    api.create(&task("a")).await.ok();
    let running = run("default/a", 1_000, 10, "web-1", RunState::Running);
    let part = run_id(&running).split_once('@').unwrap().1.to_owned();
    agent.knows(running);
    agent.writes("first");
    let path = api.url(&format!("{}/runs/{part}/output?follow=true", at("a")));
    let mut followers = Vec::new();
    for _ in 0..40 {
        let follower = api.client.get(&path).send().await.unwrap();
        assert!(follower.status().is_success());
        followers.push(follower);
    }
    assert_eq!(api.get(&at("a")).await.ok()["last_run"]["state"], "running");
    let cancelled = api.post(&format!("{}/runs/{part}/cancel", at("a")), &json!({})).await;
    assert_eq!(cancelled.status.as_u16(), 202);
    drop(followers);
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
    api.get(&format!("{path}?attempt=9")).await.problem(404, "not_found");
    assert_eq!(api.get(&format!("{path}?attempt=1")).await.body, "first\n");
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

#[tokio::test]
async fn an_agent_that_has_too_much_to_do_is_asked_again_later() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let running = run("default/a", 1_000, 10, "web-1", RunState::Running);
    let part = run_id(&running).split_once('@').unwrap().1.to_owned();
    agent.knows(running);
    let path = format!("{}/runs/{part}/cancel", at("a"));
    agent.refuses_cancels("rate_limited");
    let refused = api.post(&path, &json!({})).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(429, "rate_limited");
    agent.refuses_cancels("store_unavailable");
    api.post(&path, &json!({})).await.problem(503, "agents_silent");
}
