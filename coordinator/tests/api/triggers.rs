use reqwest::Method;
use serde_json::{Value, json};
use tocktower_core::ids::{Fence, Incarnation, Revision, RunId, RunKey, TaskName};
use tocktower_core::limits;
use tocktower_core::run::{RunRecord, RunState};
use tocktower_proto::convert::{RunName, parse_run_id};

use crate::agent::{Agent, run};
use crate::harness::{Api, api, at, json_body, paths, task, until};

async fn trigger(api: &Api, name: &str, key: Option<&str>, query: &str) -> Value {
    let path = format!("{}/trigger{query}", at(name));
    let mut request = api.request(Method::POST, &path);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    api.send(json_body(request, &json!({"payload": "hello"}))).await.ok()
}

fn waiting(api: &Api, name: &str) -> Vec<u128> {
    let name = TaskName::parse(&format!("default/{name}")).unwrap();
    api.running.app().catalog.look(|state| state.triggers_of(&name))
}

#[tokio::test]
async fn a_trigger_that_is_sent_again_is_one() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(trigger(&api, "a", Some("key"), "").await["run_id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(waiting(&api, "a").len(), 1);
    trigger(&api, "a", None, "").await;
    trigger(&api, "a", None, "").await;
    assert_eq!(waiting(&api, "a").len(), 3);
    // Deleted with its task.
    api.delete(&at("a")).await;
    until("they are gone", async || waiting(&api, "a").is_empty().then_some(())).await;
}

#[tokio::test]
async fn only_so_many_triggers_of_a_task_wait_and_a_retry_finds_its_own_all_the_same() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let first = trigger(&api, "a", Some("key"), "").await["run_id"].clone();
    for _ in 1..limits::TRIGGERS_WAITING_MAX {
        trigger(&api, "a", None, "").await;
    }
    let path = format!("{}/trigger", at("a"));
    api.post(&path, &json!({})).await.problem(429, "rate_limited");
    assert_eq!(trigger(&api, "a", Some("key"), "").await["run_id"], first);
}

#[tokio::test]
async fn a_trigger_can_be_sent_without_a_body_and_is_checked() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let path = format!("{}/trigger", at("a"));
    assert_eq!(api.send(api.request(Method::POST, &path)).await.status.as_u16(), 202);
    let big = json!({"payload": "x".repeat(40_000)});
    api.post(&path, &big).await.problem(413, "too_large");
    let wrong = api.post(&path, &json!({"paylod": ""})).await.problem(400, "invalid_request");
    assert_eq!(paths(&wrong), ["paylod"]);
    let wrong = api.post(&format!("{path}?wait=1h"), &json!({})).await;
    assert_eq!(paths(&wrong.problem(400, "invalid_request")), ["wait"]);
    api.post(&format!("{}/trigger", at("none")), &json!({})).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_trigger_that_is_waited_for_is_answered_with_its_end() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let agent = Agent::dial(&api, "web-1").await;
    let ask = trigger(&api, "a", Some("key"), "?wait=20s");
    let run_it = async {
        let ulid = until("it is asked for", async || waiting(&api, "a").first().copied()).await;
        let mut run = run("default/a", 1_000, 10, "web-1", RunState::Succeeded);
        run.id = RunId {
            task: TaskName::parse("default/a").unwrap(),
            incarnation: Incarnation::default(),
            run: RunKey::Manual(ulid),
            agent: None,
        };
        run.fence = Fence { revision: Revision(10), ..Fence::default() };
        until("its events are wanted", async || match agent.interest() {
            Some(tocktower_proto::v1::interest::Kind::Filter(_)) => Some(()),
            _ => None,
        })
        .await;
        agent.reports(&[run]).await;
        ulid
    };
    let (answer, ulid) = tokio::join!(ask, run_it);
    assert_eq!(answer["run"]["state"], "succeeded");
    let (_, name) = parse_run_id(answer["run_id"].as_str().unwrap()).unwrap();
    assert_eq!(name, RunName::Manual(ulid));
}

/// The trigger has run on this agent, and its key is gone, as it is when a holder has settled it.
async fn has_run(api: &Api, agent: &Agent, ulid: u128) {
    agent.knows(triggered(ulid));
    let app = api.running.app();
    let pool = tocktower_core::ids::PoolName::parse("default").unwrap();
    let name = TaskName::parse("default/a").unwrap();
    let key = tocktower_cluster::keys::Key::Trigger(pool.into(), name, ulid);
    let key = app.catalog.keys().build(&key);
    crate::harness::delete(api, key).await;
    until("it is settled", async || waiting(api, "a").is_empty().then_some(())).await;
}

fn asked_at(ulid: u128) -> i64 {
    i64::try_from(ulid >> 80).unwrap()
}

fn triggered(ulid: u128) -> RunRecord {
    let mut run = run("default/a", asked_at(ulid), 10, "web-1", RunState::Succeeded);
    run.id.run = RunKey::Manual(ulid);
    run
}

#[tokio::test]
async fn a_retried_trigger_finds_the_run_that_has_ended() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let agent = Agent::dial(&api, "web-1").await;
    let first = trigger(&api, "a", Some("key"), "").await;
    let ulid = waiting(&api, "a")[0];
    has_run(&api, &agent, ulid).await;
    let again = trigger(&api, "a", Some("key"), "").await;
    assert_eq!(again["run_id"], first["run_id"]);
    assert_eq!(again["run"]["state"], "succeeded");
    assert!(waiting(&api, "a").is_empty());
}

#[tokio::test]
async fn a_retried_trigger_is_found_behind_more_runs_than_a_page_holds() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let agent = Agent::dial(&api, "web-1").await;
    let first = trigger(&api, "a", Some("key"), "").await;
    let ulid = waiting(&api, "a")[0];
    agent.knows_all((1..=1_500).map(|newer| {
        let at = asked_at(ulid) + newer;
        run("default/a", at, 10, "web-1", RunState::Succeeded)
    }));
    has_run(&api, &agent, ulid).await;
    let again = trigger(&api, "a", Some("key"), "").await;
    assert_eq!(again["run_id"], first["run_id"]);
    assert!(waiting(&api, "a").is_empty());
}

#[tokio::test]
async fn a_trigger_that_may_be_a_retry_waits_for_agents_that_are_silent() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let agent = Agent::dial(&api, "web-1").await;
    let first = trigger(&api, "a", Some("key"), "").await;
    let ulid = waiting(&api, "a")[0];
    has_run(&api, &agent, ulid).await;
    agent.falls_silent();
    let path = format!("{}/trigger", at("a"));
    let again = api.request(Method::POST, &path).header("idempotency-key", "key");
    let refused = api.send(again).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "agents_silent");
    assert!(waiting(&api, "a").is_empty());
    // Nobody has to know one that is no retry.
    trigger(&api, "a", None, "").await;
    assert_eq!(waiting(&api, "a").len(), 1);
    agent.speaks_again();
    assert_eq!(trigger(&api, "a", Some("key"), "").await["run_id"], first["run_id"]);
}
