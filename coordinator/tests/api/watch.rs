use std::collections::BTreeSet;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_core::ids::{PoolName, TaskName};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_proto::v1;
use tocktower_proto::v1::agent_message::Message as Up;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::agent::{Agent, run};
use crate::harness::{Api, PATIENCE, api, at, paths, task, until};

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

pub async fn open(api: &Api, query: &str) -> Socket {
    let url = api.url(&format!("/v1/watch{query}")).replace("http://", "ws://");
    Socket(connect_async(url).await.unwrap().0)
}

impl Socket {
    /// The next message that is no ping.
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message.expect("a message").expect("an open socket").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// All pages of a snapshot.
    pub async fn snapshot(&mut self) -> Vec<Value> {
        let mut pages = Vec::new();
        loop {
            let page = self.next().await;
            assert_eq!(page["type"], "snapshot", "{page}");
            let last = page["last"] == true;
            pages.push(page);
            if last {
                return pages;
            }
        }
    }

    async fn say(&mut self, message: &Value) {
        self.0.send(Message::Text(message.to_string().into())).await.unwrap();
    }
}

fn names(pages: &[Value]) -> BTreeSet<String> {
    let tasks = pages.iter().flat_map(|page| page["tasks"].as_array().unwrap());
    tasks.map(|task| task["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_snapshot_is_followed_by_each_change() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    api.create(&task("a")).await.ok();
    agent.knows(run("default/a", 1_000, 10, "web-1", RunState::Running));
    let mut socket = open(&api, "").await;
    let pages = socket.snapshot().await;
    assert_eq!(names(&pages), BTreeSet::from(["a".to_owned()]));
    let runs: usize = pages.iter().map(|page| page["runs"].as_array().unwrap().len()).sum();
    assert_eq!(runs, 1);
    assert_eq!(pages.last().unwrap()["agents"][0]["name"], "web-1");

    agent.reports(&[run("default/a", 1_000, 10, "web-1", RunState::Succeeded)]).await;
    let event = socket.next().await;
    assert_eq!((&event["type"], &event["seq"]), (&json!("event"), &json!(1)));
    assert_eq!((&event["kind"], &event["run"]["state"]), (&json!("run"), &json!("succeeded")));

    api.create(&task("b")).await.ok();
    let event = socket.next().await;
    assert_eq!((&event["seq"], &event["task"]["name"]), (&json!(2), &json!("b")));
    api.delete(&at("b")).await;
    let event = socket.next().await;
    assert_eq!((&event["deleted"], &event["name"]), (&json!(true), &json!("b")));
}

#[tokio::test]
async fn an_end_is_told_at_once_and_once_more_when_it_is_settled() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let settled = run("default/a", 1_000, 10, "web-1", RunState::Succeeded);
    let ended = RunRecord { provisional: true, ..settled.clone() };
    agent.knows(ended.clone());
    let mut socket = open(&api, "?kinds=run").await;
    let pages = socket.snapshot().await;
    assert_eq!(pages[0]["runs"][0]["provisional"], true);
    agent.reports(&[ended]).await;
    agent.reports(std::slice::from_ref(&settled)).await;
    for (seq, provisional) in [(1, true), (2, false)] {
        let event = socket.next().await;
        let run = &event["run"];
        assert_eq!((&event["seq"], &run["state"]), (&json!(seq), &json!("succeeded")), "{event}");
        assert_eq!(run["provisional"], provisional, "{event}");
    }
    // An agent that cannot say it has the followers ask.
    agent.knows(settled);
    agent.say(Up::Lagged(v1::Lagged { missed: 1 })).await;
    let lagged = socket.next().await;
    assert_eq!((&lagged["type"], &lagged["missed"]), (&json!("lagged"), &json!(1)));
    assert_eq!(socket.snapshot().await[0]["runs"][0]["provisional"], false);
}

#[tokio::test]
async fn an_agent_hears_that_somebody_follows_before_it_is_asked_for_the_snapshot() {
    use tocktower_proto::v1::interest::Kind;
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    for _ in 0..20 {
        let mut socket = open(&api, "?kinds=run").await;
        socket.snapshot().await;
        drop(socket);
        until("nothing is wanted", async || {
            matches!(agent.interest(), Some(Kind::None(_))).then_some(())
        })
        .await;
    }
    assert_eq!(agent.asked_uninterested(), 0);
}

#[tokio::test]
async fn a_filter_is_minded_and_can_be_changed() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    for (name, team) in [("a", "db"), ("b", "web")] {
        let mut task = task(name);
        task["labels"] = json!({"team": team});
        api.create(&task).await.ok();
    }
    let mut socket = open(&api, "?namespace=default&label=team=db&kinds=task,run").await;
    assert_eq!(names(&socket.snapshot().await), BTreeSet::from(["a".to_owned()]));
    agent
        .reports(&[
            run("default/b", 1_000, 10, "web-1", RunState::Running),
            run("default/a", 2_000, 10, "web-1", RunState::Running),
        ])
        .await;
    assert_eq!(socket.next().await["run"]["task"], "a");

    socket.say(&json!({"type": "filter", "task": "b", "namespace": "default"})).await;
    assert_eq!(names(&socket.snapshot().await), BTreeSet::from(["b".to_owned()]));
    socket.say(&json!({"type": "filter", "kinds": ["weather"]})).await;
    let error = socket.next().await;
    assert_eq!(error["type"], "error");
    assert_eq!(paths(&error["error"]), ["kinds"]);
    socket.say(&json!({"type": "filter", "tsk": "b"})).await;
    assert_eq!(paths(&socket.next().await["error"]), ["tsk"]);
}

#[tokio::test]
async fn who_follows_by_label_sees_the_end_of_a_one_shot_whose_key_has_gone() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut labelled = task("once");
    labelled["labels"] = json!({"team": "db"});
    api.create(&labelled).await.ok();
    let mut socket = open(&api, "?label=team=db&kinds=run").await;
    socket.snapshot().await;
    let (pool, name) = ("default", "default/once");
    let key = Key::Task(PoolName::parse(pool).unwrap().into(), TaskName::parse(name).unwrap());
    crate::harness::delete(&api, api.running.app().catalog.keys().build(&key)).await;
    until("the key has gone", async || {
        (api.get(&at("once")).await.status.as_u16() == 404).then_some(())
    })
    .await;
    agent.reports(&[run(name, 1_000, 10, "web-1", RunState::Succeeded)]).await;
    assert_eq!(socket.next().await["run"]["state"], "succeeded");
}

fn runs_in(pages: &[Value]) -> Vec<&str> {
    let runs = pages.iter().flat_map(|page| page["runs"].as_array().unwrap());
    runs.map(|run| run["task"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_snapshot_by_label_looks_beyond_the_newest_runs_of_all() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut labelled = task("rare");
    labelled["labels"] = json!({"team": "db"});
    api.create(&labelled).await.ok();
    agent.knows(run("default/rare", 1_000, 10, "web-1", RunState::Succeeded));
    let often = |n: i64| run("default/often", 2_000 + n, 10, "web-1", RunState::Succeeded);
    agent.knows_all((0..1_200).map(often));
    let mut socket = open(&api, "?label=team=db&kinds=run").await;
    let pages = socket.snapshot().await;
    assert_eq!(runs_in(&pages), ["rare"]);
    assert_eq!(pages.last().unwrap()["cut"], Value::Null);
}

#[tokio::test]
async fn a_snapshot_that_does_not_hold_all_open_runs_says_so() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let open_run = |n: i64| run("default/a", n, 10, "web-1", RunState::Running);
    agent.knows_all((0..11_000).map(open_run));
    let mut socket = open(&api, "?kinds=run").await;
    let pages = socket.snapshot().await;
    assert!(runs_in(&pages).len() >= 10_000);
    assert_eq!(pages.last().unwrap()["cut"], true);
}

#[tokio::test]
async fn agents_report_only_what_somebody_watches() {
    use tocktower_proto::v1::interest::Kind;
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    until("nothing is wanted", async || {
        matches!(agent.interest(), Some(Kind::None(_))).then_some(())
    })
    .await;
    let mut socket = open(&api, "?namespace=default&task=a&kinds=run").await;
    socket.snapshot().await;
    let filter = until("one task is wanted", async || match agent.interest() {
        Some(Kind::Filter(filter)) => Some(filter),
        _ => None,
    })
    .await;
    assert_eq!((filter.any_of.len(), filter.any_of[0].task.as_str()), (1, "a"));
    drop(socket);
    until("nothing is wanted", async || {
        matches!(agent.interest(), Some(Kind::None(_))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_and_begins_afresh() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut socket = open(&api, "?kinds=run").await;
    socket.snapshot().await;
    // More than the ring and all buffers in between hold.
    let runs: Vec<_> = (0..20)
        .map(|n| {
            let mut run = run("default/a", n * 1_000, 10, "web-1", RunState::Succeeded);
            run.reason = Some("x".repeat(2_000));
            run
        })
        .collect();
    for _ in 0..8_000 {
        agent.reports(&runs).await;
    }
    loop {
        let message = socket.next().await;
        if message["type"] == "lagged" {
            assert!(message["missed"].as_u64().unwrap() > 0);
            break;
        }
        assert_eq!(message["type"], "event");
    }
    socket.snapshot().await;
}

#[tokio::test]
async fn what_is_no_socket_or_wrong_is_a_problem() {
    let api = api().await;
    api.get("/v1/watch").await.problem(400, "invalid_request");
    let url = api.url("/v1/watch?kinds=weather").replace("http://", "ws://");
    let refused = connect_async(url).await.err().unwrap();
    assert!(matches!(&refused, Error::Http(answer) if answer.status() == 400), "{refused}");
}

#[tokio::test]
async fn a_coordinator_that_stops_says_goodbye() {
    let api = api().await;
    let mut socket = open(&api, "").await;
    socket.snapshot().await;
    api.running.shutdown().await;
    let closed = async {
        while let Some(message) = socket.0.next().await {
            if let Ok(Message::Close(Some(frame))) = message {
                return Some(frame.reason.to_string());
            }
        }
        None
    };
    let reason = tokio::time::timeout(PATIENCE, closed).await.unwrap();
    assert!(reason.unwrap().contains("connect to another"));
}
