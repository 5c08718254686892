//! Tasks of every agent: as they are made and moved, and what their agents tell of them.

use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_core::ids::{AgentName, RunId};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_proto::convert::{encode_record, format_run_id};
use tocktower_proto::v1::task_service_client::TaskServiceClient;
use tocktower_proto::{store, v1};

use crate::agent::{Agent, channel, run};
use crate::harness::{Api, Cluster, api, at, paths, task, until};

fn everywhere(name: &str) -> Value {
    let mut task = task(name);
    task["placement"] = json!({"every_agent": {"labels": {"role": "web"}, "splay": "30s"}});
    task
}

/// An agent's share of an instant.
fn share(agent: &str, ms: i64, state: RunState) -> RunRecord {
    let run = run("default/a", ms, 10, agent, state);
    let id = RunId { agent: Some(AgentName::parse(agent).unwrap()), ..run.id.clone() };
    RunRecord { id, ..run }
}

/// What an agent puts when it registers.
async fn kept(cluster: &Cluster, api: &Api, agent: &str, role: &str) {
    let name = AgentName::parse(agent).unwrap();
    let labels = [("role".to_owned(), role.to_owned())].into();
    let record = store::AgentRecord { pool: "default".to_owned(), labels, ..Default::default() };
    let key = cluster.keys().build(&Key::Agent(name.clone()));
    cluster.put(key, encode_record(&record)).await;
    until("the agent is known", async || {
        api.running.app().catalog.look(|state| state.agents.contains_key(&name)).then_some(())
    })
    .await;
}

async fn why(api: &Api, query: &str) -> Value {
    api.get(&format!("{}/why?{query}", at("a"))).await.ok()
}

#[tokio::test]
async fn a_task_of_every_agent_is_shown_as_it_was_made_and_goes_from_place_to_place() {
    let api = api().await;
    let made = api.create(&everywhere("a")).await.ok();
    let shown = json!({"pool": "default", "labels": {"role": "web"}, "splay": "30s"});
    assert_eq!(made["placement"], json!({"every_agent": shown}));
    assert_eq!(made["warnings"][0]["code"], "unknown_pool", "no agent is there yet");
    api.create(&task("a")).await.problem(409, "already_exists");
    let listed = api.get("/v1/namespaces/default/tasks").await.ok();
    assert_eq!(listed["items"][0]["placement"], made["placement"]);

    // Labels and splay are edited in place, the pool is a move.
    let to = |every: Value| json!({"placement": {"every_agent": every}});
    let edited = api.patch(&at("a"), &to(json!({"labels": {"role": "db"}}))).await.ok();
    assert_eq!(edited["moved"], json!(null));
    let every = &edited["placement"]["every_agent"];
    assert_eq!((&every["labels"]["role"], &every["splay"]), (&json!("db"), &json!("30s")));
    for placement in [
        json!({"every_agent": {"pool": "blue", "labels": {}, "splay": "0s"}}),
        json!({"agent": "web-1"}),
        json!({"every_agent": {"pool": "default", "labels": {"a": "b"}, "splay": "1s"}}),
        json!({"pool": "blue"}),
        json!({"every_agent": {"pool": "blue", "labels": {"a": "b"}, "splay": "1s"}}),
    ] {
        let mut whole = task("a");
        whole["placement"] = placement.clone();
        let moved = api.put(&at("a"), &whole).await.ok();
        assert_eq!((&moved["moved"], &moved["placement"]), (&json!(true), &placement));
        assert_eq!(api.get(&at("a")).await.ok()["placement"], placement);
        api.create(&task("a")).await.problem(409, "already_exists");
    }
    let pooled = api.patch(&at("a"), &json!({"placement": {"pool": "default"}})).await.ok();
    assert_eq!(
        (&pooled["moved"], &pooled["placement"]),
        (&json!(true), &json!({"pool": "default"}))
    );
    assert_eq!(api.delete(&at("a")).await.status.as_u16(), 204);
    api.create(&everywhere("a")).await.ok();
    assert_eq!(api.delete(&at("a")).await.status.as_u16(), 204);
    api.get(&at("a")).await.problem(404, "not_found");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_field() {
    let api = api().await;
    let mut once = everywhere("a");
    once["schedules"] = json!([{"at": "2099-01-01T00:00:00Z"}]);
    once["placement"]["every_agent"]["labels"] = json!({"a b": "c"});
    let problem = api.create(&once).await.problem(400, "invalid_task");
    assert_eq!(paths(&problem), ["placement.every_agent.labels.a b", "schedules[0].at"]);
    let mut both = everywhere("a");
    both["placement"]["pool"] = json!("default");
    assert_eq!(paths(&api.create(&both).await.problem(400, "invalid_task")), ["placement"]);

    api.create(&everywhere("a")).await.ok();
    let trigger = api.post(&format!("{}/trigger", at("a")), &json!({})).await;
    let problem = trigger.problem(400, "invalid_request");
    assert_eq!(paths(&problem), ["placement.every_agent"]);
    let said = problem["errors"][0]["message"].as_str().unwrap();
    assert!(said.contains("cannot be run by hand"), "{said}");
}

#[tokio::test]
async fn the_shares_of_an_instant_are_rows_of_their_own_on_every_page() {
    let api = api().await;
    api.create(&everywhere("a")).await.ok();
    let mut agents = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        let agent = Agent::dial(&api, name).await;
        for second in 1..=4 {
            agent.knows(share(name, second * 1_000, RunState::Succeeded));
        }
        agents.push(agent);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/namespaces/default/tasks/a/runs?limit=5{cursor}");
        let page = api.get(&path).await.ok();
        let items = page["items"].as_array().unwrap().clone();
        assert!(items.len() <= 5);
        seen.extend(items.into_iter().map(|run| {
            let agent = run["agent"].as_str().unwrap().to_owned();
            assert!(run["run_id"].as_str().unwrap().ends_with(&format!(".1.{agent}")), "{run}");
            (run["instant"].as_str().unwrap().to_owned(), agent)
        }));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut whole = seen.clone();
    whole.sort();
    whole.dedup();
    assert_eq!((seen.len(), whole.len()), (12, 12), "{seen:?}");
}

#[tokio::test]
async fn a_share_is_asked_of_its_agent_alone() {
    let api = api().await;
    api.create(&everywhere("a")).await.ok();
    let (one, two) = (Agent::dial(&api, "web-1").await, Agent::dial(&api, "web-2").await);
    one.knows(share("web-1", 1_000, RunState::Succeeded));
    two.knows(share("web-2", 1_000, RunState::Failed));
    let path = |run: &RunRecord| {
        let id = format_run_id(&run.id);
        let (_, name) = id.split_once('@').unwrap();
        format!("/v1/namespaces/default/tasks/a/runs/{name}")
    };
    let first = share("web-1", 1_000, RunState::Succeeded);
    let second = share("web-2", 1_000, RunState::Failed);
    assert_eq!(api.get(&path(&first)).await.ok()["state"], "succeeded");
    assert_eq!(api.get(&path(&second)).await.ok()["state"], "failed");
    // Who keeps silent is of no interest to the share of another.
    two.falls_silent();
    assert_eq!(api.get(&path(&first)).await.ok()["agent"], "web-1");
    let unknown = share("web-1", 9_000, RunState::Succeeded);
    api.get(&path(&unknown)).await.problem(404, "not_found");
}

#[tokio::test]
async fn why_is_told_of_the_share_that_is_asked_about() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let mut pinned = task("p");
    pinned["placement"] = json!({"agent": "web-1"});
    api.create(&pinned).await.ok();
    api.create(&everywhere("a")).await.ok();
    kept(&cluster, &api, "web-1", "web").await;
    kept(&cluster, &api, "db-1", "db").await;
    let agent = Agent::dial(&api, "web-1").await;
    agent.knows(share("web-1", 1_000, RunState::Failed));
    let hour = "at=1970-01-01T00:00:01Z";
    assert_eq!(why(&api, &format!("{hour}&agent=web-1")).await["verdict"], "failed");
    // Of a moment to come: who has a share, who has none, who is not there.
    let next = why(&api, "agent=web-1").await["next"].as_str().unwrap().to_owned();
    let told = async |agent: &str| {
        let why = why(&api, &format!("at={next}&agent={agent}")).await;
        let text = |field: &str| why[field].as_str().unwrap().to_owned();
        (text("verdict"), text("explanation"))
    };
    assert_eq!(told("web-1").await.0, "upcoming");
    let (verdict, explanation) = told("db-1").await;
    assert_eq!(verdict, "not_selected");
    assert!(explanation.contains("role=web, and db-1 is none of them"), "{explanation}");
    let (verdict, explanation) = told("nobody").await;
    assert_eq!(verdict, "not_selected");
    assert!(explanation.contains("no agent is called nobody"), "{explanation}");
    // Each transport asks for the agent where there are many, and only there.
    let problem = api.get(&format!("{}/why", at("a"))).await.problem(400, "invalid_request");
    assert_eq!(paths(&problem), ["agent"]);
    let other = api.get(&format!("{}/why?agent=web-1", at("p"))).await;
    assert_eq!(paths(&other.problem(400, "invalid_request")), ["agent"]);
    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let asked = |agent: &str| v1::WhyRequest {
        name: "a".to_owned(),
        at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        agent: agent.to_owned(),
        ..Default::default()
    };
    let answer = tasks.why(asked("web-1")).await.unwrap().into_inner();
    assert_eq!(answer.verdict, "failed");
    let refused = tasks.why(asked("")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
