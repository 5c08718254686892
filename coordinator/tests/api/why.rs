//! `why` over REST and gRPC: what the catalog, the ledger in the store and the agents say together.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_cluster::ledgers;
use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, Incarnation, LedgerNumber, PoolName, Revision, RunId, RunKey,
    TaskName,
};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::run::{RunState, Span};
use tocktower_core::time::Instant;
use tocktower_proto::convert::encode_record;
use tocktower_proto::json::parse_instant;
use tocktower_proto::v1::task_service_client::TaskServiceClient;
use tocktower_proto::{store, v1};

use crate::agent::{Agent, channel, run};
use crate::harness::{Api, Cluster, api, at, paths, task, until};

fn path(name: &str, moment: &str) -> String {
    format!("{}/why?at={moment}", at(name))
}

async fn why(api: &Api, name: &str, moment: &str) -> Value {
    api.get(&path(name, moment)).await.ok()
}

/// Waits for a verdict about a moment.
async fn becomes(api: &Api, moment: &str, verdict: &str) -> Value {
    until(verdict, async || {
        let answer = why(api, "a", moment).await;
        (answer["verdict"] == verdict).then_some(answer)
    })
    .await
}

pub fn every_second(name: &str) -> Value {
    json!({"name": name, "schedules": [{"every": "1s"}], "action": {"noop": {}}})
}

fn pool() -> PoolName {
    PoolName::parse("default").unwrap()
}

/// The ledger of the range of `default/a`, as its holder might write it.
pub async fn write_ledger(cluster: &Cluster, through: Instant, open: Vec<Entry>) {
    let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(i64::MAX) };
    let ledger = Ledger {
        fence: Fence { epoch: Epoch(1), revision: Revision(1) },
        number: LedgerNumber { process: 1, count: 1 },
        marks: Marks { through, incarnation },
        open,
    };
    let range = cluster.keys().ranges().range_of(&TaskName::parse("default/a").unwrap());
    let key = cluster.keys().build(&Key::Ledger(pool(), range));
    cluster.put(key, ledgers::encode(&ledger)).await;
}

pub async fn claim(cluster: &Cluster, agent: &str) {
    let range = cluster.keys().ranges().range_of(&TaskName::parse("default/a").unwrap());
    let record = store::ClaimRecord { agent: agent.to_owned(), ..Default::default() };
    let key = cluster.keys().build(&Key::Claim(pool(), range));
    cluster.put(key, encode_record(&record)).await;
    let member = cluster.keys().build(&Key::Member(AgentName::parse(agent).unwrap()));
    let record =
        store::SessionRecord { pool: "default".to_owned(), weight: 100, ..Default::default() };
    cluster.put(member, encode_record(&record)).await;
}

#[tokio::test]
async fn moments_without_a_run_are_told_from_the_schedule() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let next = api.get(&at("a")).await.ok()["next_at"].as_str().unwrap().to_owned();
    // No instant has been due yet: the next one is meant.
    let newest = api.get(&format!("{}/why", at("a"))).await.ok();
    assert_eq!((&newest["verdict"], &newest["at"]), (&json!("upcoming"), &json!(next)));
    let told = newest["explanation"].as_str().unwrap();
    assert!(told.contains("no agent of pool default is there"), "{told}");
    assert_eq!(newest["due"], next);
    assert_eq!(
        (&newest["range"]["holder"], &newest["range"]["covered"]),
        (&Value::Null, &json!(false))
    );

    let between = parse_instant(&next).unwrap().millis() + 1_500;
    let between = tocktower_proto::json::format_instant(Instant::from_millis(between));
    let none = why(&api, "a", &between).await;
    assert_eq!((&none["verdict"], &none["previous"]), (&json!("not_an_instant"), &json!(next)));
    assert_eq!(why(&api, "a", "1970-01-01T00:00:00Z").await["verdict"], "before_task");
    assert_eq!(why(&api, "a", "9999-12-30T00:00:00Z").await["verdict"], "upcoming");
    // A `+` in a query is a blank unless it is escaped, and is said to be one.
    let offset = next.replace('Z', "%2B00:00");
    assert_eq!(why(&api, "a", &offset).await["verdict"], "upcoming");

    for wrong in
        ["tomorrow", "2026-11-24T10:00:00", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z"]
    {
        let refused = api.get(&path("a", wrong)).await.problem(400, "invalid_request");
        assert_eq!(paths(&refused), ["at"], "{wrong}");
    }
    let twice = api.get(&format!("{}&at={next}", path("a", &next))).await;
    assert_eq!(paths(&twice.problem(400, "invalid_request")), ["at"]);
    let unknown = api.get(&format!("{}/why?time={next}", at("a"))).await;
    assert_eq!(paths(&unknown.problem(400, "invalid_request")), ["time"]);
    api.get(&path("never", &next)).await.problem(404, "not_found");
    api.get(&path("NO", &next)).await.problem(400, "invalid_request");

    api.post(&format!("{}/pause", at("a")), &json!({})).await.ok();
    let paused = why(&api, "a", &next).await;
    assert_eq!(
        (&paused["verdict"], &paused["policy"]),
        (&json!("paused"), &json!({"field": "paused", "value": "true"}),)
    );
}

#[tokio::test]
async fn what_an_agent_tells_is_the_verdict_over_both_transports() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let agent = Agent::dial(&api, "web-1").await;
    agent.knows(run("default/a", 3_600_000, 10, "web-1", RunState::Succeeded));
    let mut row = run("default/a", 7_200_000, 10, "web-1", RunState::Skipped);
    row.span = Some(Span { until: Instant::from_millis(14_400_000), count: 3 });
    row.reason = Some("overlap: an earlier run has not ended".to_owned());
    row.attempts.clear();
    agent.knows(row);
    // Before the task was created: the runs of an earlier task of that name.
    let ran = why(&api, "a", "1970-01-01T01:00:00Z").await;
    assert_eq!((&ran["verdict"], &ran["run"]["agent"]), (&json!("succeeded"), &json!("web-1")));
    assert_eq!(why(&api, "a", "1970-01-01T02:00:00Z").await["verdict"], "skipped");
    assert_eq!(why(&api, "a", "1970-01-01T03:00:00Z").await["verdict"], "skipped");
    assert_eq!(why(&api, "a", "1970-01-01T05:00:00Z").await["verdict"], "before_task");

    let mut tasks = TaskServiceClient::new(channel(&api).await);
    let at = Some(prost_types::Timestamp { seconds: 7_200, nanos: 0 });
    let request = v1::WhyRequest { name: "a".to_owned(), at, ..Default::default() };
    let told = tasks.why(request.clone()).await.unwrap().into_inner();
    let rest = why(&api, "a", "1970-01-01T02:00:00Z").await;
    assert_eq!(json!(told.verdict), rest["verdict"]);
    assert_eq!(json!(told.explanation), rest["explanation"]);
    assert_eq!(json!(told.advice), rest["advice"]);
    assert_eq!(json!(told.at.unwrap().local), rest["at"]);
    let policy = told.policy.unwrap();
    assert_eq!(json!({"field": policy.field, "value": policy.value}), rest["policy"]);
    assert_eq!(json!(told.run.unwrap().count), rest["run"]["count"]);
    assert_eq!(json!(told.range.unwrap().id), rest["range"]["id"]);
    let wrong =
        v1::WhyRequest { at: Some(prost_types::Timestamp { seconds: -1, nanos: 0 }), ..request };
    let refused = tasks.why(wrong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn an_instant_that_is_due_is_followed_from_nobody_to_the_ledger() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&every_second("a")).await.ok();
    let first = until("an instant is due", async || {
        let answer = api.get(&format!("{}/why", at("a"))).await.ok();
        (answer["verdict"] == "unheld").then_some(answer)
    })
    .await;
    let moment = first["at"].as_str().unwrap().to_owned();
    let agent = Agent::dial(&api, "web-1").await;
    claim(&cluster, "web-1").await;
    let late = becomes(&api, &moment, "late").await;
    assert_eq!((&late["range"]["holder"], &late["range"]["agents"]), (&json!("web-1"), &json!(1)));
    agent.falls_silent();
    let away = becomes(&api, &moment, "holder_unreachable").await;
    assert_eq!(away["incomplete"], json!(["web-1"]));
    let silent = becomes(&api, &moment, "holder_silent").await;
    assert!(silent["range"]["quiet_ms"].as_u64().unwrap() > 5_000, "{silent}");

    let name = TaskName::parse("default/a").unwrap();
    let incarnation = {
        let task = api.running.app().catalog.task(&name).unwrap().unwrap();
        task.incarnation
    };
    let instant = parse_instant(&moment).unwrap();
    let run = RunId { task: name, incarnation, run: RunKey::Instant(instant), agent: None };
    let attempt = Attempt { fence: Fence::default(), number: 1 };
    let entry = |state| vec![Entry { run: run.clone(), due: instant, attempt, state }];
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    let now = Instant::from_millis(now.unwrap());
    write_ledger(&cluster, now, entry(EntryState::Started)).await;
    let running = becomes(&api, &moment, "running").await;
    assert_eq!(
        running["range"]["entry"],
        json!({
            "state": "started", "attempt": 1, "waiting_until": null,
        })
    );
    write_ledger(&cluster, now, Vec::new()).await;
    let away = becomes(&api, &moment, "history_away").await;
    assert_eq!(away["range"]["covered"], true);
    agent.speaks_again();
    becomes(&api, &moment, "history_gone").await;

    // Without the store, what the catalog kept of the ledger is gone by, and that is said.
    cluster.cut.store(true, Ordering::SeqCst);
    let blind = becomes(&api, &moment, "history_gone").await;
    assert!(blind["range"]["ledger_error"].is_string(), "{blind}");
    let later = tocktower_proto::json::format_instant(now.plus(Duration::from_secs(1)));
    let later = format!("{}Z", later.split(['.', 'Z']).next().unwrap());
    let unknown = becomes(&api, &later, "store_unavailable").await;
    assert_eq!(unknown["stale"], true);
}

#[tokio::test]
async fn a_task_that_is_gone_is_told_from_history() {
    let api = api().await;
    let agent = Agent::dial(&api, "web-1").await;
    let mut once = run("default/once", 1_000, 10, "web-1", RunState::Failed);
    once.request = Some(7);
    agent.knows(once);
    let newest = api.get(&format!("{}/why", at("once"))).await.ok();
    assert_eq!((&newest["verdict"], &newest["range"]), (&json!("failed"), &Value::Null));
    let other = why(&api, "once", "1970-01-01T00:00:02Z").await;
    assert_eq!(other["verdict"], "task_gone");
    assert!(other["explanation"].as_str().unwrap().contains("was a one-shot"), "{other}");
    agent.falls_silent();
    api.get(&path("once", "1970-01-01T00:00:02Z")).await.problem(503, "agents_silent");
}
