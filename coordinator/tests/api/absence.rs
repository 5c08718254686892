//! Agents that are gone for good are forgotten, by hand and by time; those that are there are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::keys::{Key, Keys, PREFIX};
use tocktower_cluster::port::{Answer, Op, Port, PortError, Request, Txn, WatchStream};
use tocktower_coordinator::{Coordinator, CoordinatorConfig, ForgetRules};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, CoordinatorId};
use tocktower_proto::convert::encode_record;
use tocktower_proto::store;
use tocktower_proto::v1;
use tocktower_proto::v1::fleet_service_client::FleetServiceClient;
use tokio::sync::mpsc;

use crate::agent::{Agent, channel};
use crate::etcd::EtcdCluster;
use crate::harness::{Api, Cluster, PATIENCE, client, json_body, paths, until};

const DAY: Duration = Duration::from_secs(86_400);
/// As always, but without the patience.
const QUICK: ForgetRules = ForgetRules {
    look: Duration::from_millis(20),
    absent: Duration::from_millis(100),
    believed: Duration::from_millis(100),
    after: Duration::from_secs(30 * 86_400),
};

fn member(agent: &str) -> Vec<u8> {
    let agent = AgentName::parse(agent).unwrap();
    Keys::new(PREFIX, RangeCount::DEFAULT).build(&Key::Member(agent))
}

/// What outlives the agent's session.
fn kept(agent: &str, absent_for: Option<Duration>) -> Op {
    let agent = AgentName::parse(agent).unwrap();
    let since = |span| {
        let then = std::time::SystemTime::now() - span;
        let since = then.duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_micros()).unwrap()
    };
    let absent_since_us = absent_for.map(since);
    let pool = "default".to_owned();
    let record = store::AgentRecord { pool, absent_since_us, ..Default::default() };
    let key = Keys::new(PREFIX, RangeCount::DEFAULT).build(&Key::Agent(agent));
    Op::Put { key, value: encode_record(&record), lease: None }
}

fn session(agent: &str) -> Op {
    let record = store::SessionRecord { pool: "default".to_owned(), ..Default::default() };
    Op::Put { key: member(agent), value: encode_record(&record), lease: None }
}

async fn write(port: &Arc<dyn Port>, then: Vec<Op>) {
    port.call(Request::Txn(Txn { then, ..Txn::default() })).await.unwrap();
}

async fn shown(api: &Api) -> Vec<Value> {
    api.get("/v1/agents").await.ok()["items"].as_array().unwrap().clone()
}

async fn names(api: &Api) -> Vec<String> {
    let name = |agent: &Value| agent["name"].as_str().unwrap().to_owned();
    shown(api).await.iter().map(name).collect()
}

#[tokio::test]
async fn an_agent_that_is_forgotten_by_hand_is_missed_nowhere() {
    let cluster = Cluster::new();
    let (api, other) = (cluster.coordinator("c1").await, cluster.coordinator("c2").await);
    let port: Arc<dyn Port> = cluster.store.clone();
    write(&port, vec![kept("old", None), session("old")]).await;
    let problem = api.delete("/v1/agents/old").await.problem(409, "agent_alive");
    assert!(problem["detail"].as_str().unwrap().contains("old has a session"), "{problem}");
    write(&port, vec![Op::Delete { key: member("old") }]).await;
    until("it is missed", async || {
        let (one, two) = (api.get("/v1/runs").await.ok(), other.get("/v1/runs").await.ok());
        (one["incomplete"] == json!(["old"]) && one == two).then_some(())
    })
    .await;

    assert_eq!(api.delete("/v1/agents/old").await.status.as_u16(), 204);
    assert_eq!(names(&api).await, [""; 0]);
    api.get("/v1/agents/old").await.problem(404, "not_found");
    assert_eq!(api.get("/v1/runs").await.ok()["incomplete"], Value::Null);
    api.delete("/v1/agents/old").await.problem(404, "not_found");
    until("the other coordinator does not miss it either", async || {
        let runs = other.get("/v1/runs").await.ok();
        (runs["incomplete"].is_null() && names(&other).await.is_empty()).then_some(())
    })
    .await;

    write(&port, vec![kept("old", None), session("old")]).await;
    until("it is back", async || (names(&api).await == ["old"]).then_some(())).await;
    api.delete("/v1/agents/old").await.problem(409, "agent_alive");
}

/// A shared state whose watch tells nothing while it is deaf; calls are answered all the same.
struct DeafPort {
    inner: Arc<dyn Port>,
    deaf: Arc<AtomicBool>,
}

impl Port for DeafPort {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        self.inner.call(request)
    }

    fn watch(&self, capacity: usize) -> WatchStream {
        let WatchStream { commands, mut messages } = self.inner.watch(capacity);
        let (out, heard) = mpsc::channel(capacity);
        let deaf = self.deaf.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if !deaf.load(Ordering::SeqCst) && out.send(message).await.is_err() {
                    return;
                }
            }
        });
        WatchStream { commands, messages: heard }
    }
}

#[tokio::test]
async fn whoever_was_answered_does_not_find_the_agent_whatever_the_watch_tells() {
    let deaf = Arc::<AtomicBool>::default();
    let inner = Embedded::in_memory().unwrap();
    let port: Arc<dyn Port> = Arc::new(DeafPort { inner, deaf: deaf.clone() });
    let api = coordinator(port.clone()).await;
    let old = kept("old", None);
    write(&port, vec![old]).await;
    until("it is known", async || (names(&api).await == ["old"]).then_some(())).await;
    deaf.store(true, Ordering::SeqCst);
    assert_eq!(api.delete("/v1/agents/old").await.status.as_u16(), 204);
    assert_eq!(names(&api).await, [""; 0]);
}

#[tokio::test]
async fn who_is_not_there_or_not_gone_cannot_be_forgotten() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.delete("/v1/agents/never").await.problem(404, "not_found");
    let problem = api.delete("/v1/agents/NO").await.problem(400, "invalid_request");
    assert_eq!(paths(&problem), ["agent"]);
    let request = json_body(api.request(reqwest::Method::DELETE, "/v1/agents/a"), &json!([1]));
    api.send(request).await.problem(400, "invalid_request");
    let linked = Agent::dial(&api, "linked").await;
    let problem = api.delete("/v1/agents/linked").await.problem(409, "agent_alive");
    assert!(problem["detail"].as_str().unwrap().contains("is connected"), "{problem}");
    drop(linked);
    cluster.cut.store(true, std::sync::atomic::Ordering::SeqCst);
    api.delete("/v1/agents/never").await.problem(503, "store_unavailable");
}

#[tokio::test]
async fn an_agent_is_forgotten_over_grpc() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let port: Arc<dyn Port> = cluster.store.clone();
    let mut fleet = FleetServiceClient::new(channel(&api).await);
    let mut forget = async |name: &str| {
        let request = v1::ForgetAgentRequest { name: name.to_owned() };
        fleet.forget_agent(request).await.map(|_| ()).map_err(|status| status.code())
    };
    write(&port, vec![kept("old", Some(DAY)), session("old")]).await;
    assert_eq!(forget("old").await, Err(tonic::Code::FailedPrecondition));
    write(&port, vec![Op::Delete { key: member("old") }]).await;
    assert_eq!(forget("old").await, Ok(()));
    assert_eq!(forget("old").await, Err(tonic::Code::NotFound));
    assert_eq!(forget("").await, Err(tonic::Code::InvalidArgument));
}

async fn coordinator(port: Arc<dyn Port>) -> Api {
    let id = CoordinatorId::parse("c1").unwrap();
    let config = CoordinatorConfig::new(id, ([127, 0, 0, 1], 0).into());
    let config = CoordinatorConfig { forget: QUICK, ..config };
    let running = Coordinator::start(config, port).await.unwrap();
    tokio::time::timeout(PATIENCE, running.until_ready()).await.unwrap();
    let store = Embedded::in_memory().unwrap();
    Api { running, client: client(reqwest::Client::builder()), store }
}

/// One agent has just gone, one has been gone for long; others are there, whatever was noted.
async fn noted_and_forgotten(port: Arc<dyn Port>) {
    let api = coordinator(port.clone()).await;
    let linked = Agent::dial(&api, "linked").await;
    let (long, short) = (Some(60 * DAY), Some(20 * DAY));
    let there = [kept("linked", long), kept("there", long), session("there")];
    let gone = [kept("just", None), kept("long", long), kept("short", short)];
    write(&port, [there, gone].concat()).await;
    linked.sets_its_clock();
    let just = until("an absence is noted", async || {
        let agents = shown(&api).await;
        let just = agents.into_iter().find(|agent| agent["name"] == "just")?;
        just["absent_since"].is_string().then_some(just)
    })
    .await;
    // Nobody's word on absences was taken while its clock and the coordinator's were apart.
    let offset = api.get("/v1/agents/linked").await.ok()["clock_offset_us"].as_i64().unwrap();
    assert!(offset.abs() < 500_000, "{offset}");
    assert_eq!((&just["session"], &just["connected"]), (&Value::Null, &json!(false)));
    until("one is forgotten", async || {
        (api.get("/v1/agents/long").await.status.as_u16() == 404).then_some(())
    })
    .await;
    let agents = shown(&api).await;
    let absent = |agent: &Value| (agent["name"].clone(), agent["absent_since"].is_string());
    let expected = [("just", true), ("linked", true), ("short", true), ("there", false)];
    let expected = expected.map(|(name, absent)| (json!(name), absent));
    assert_eq!(agents.iter().map(absent).collect::<Vec<_>>(), expected);
    let runs = api.get("/v1/runs").await.ok();
    assert_eq!(runs["incomplete"], json!(["there", "just", "short"]));
}

#[tokio::test]
async fn an_absence_is_noted_and_a_long_one_ends_with_being_forgotten() {
    noted_and_forgotten(Embedded::in_memory().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_is_noted_in_a_real_etcd_and_a_long_one_ends_with_being_forgotten() {
    let etcd = EtcdCluster::start(1).await;
    noted_and_forgotten(Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap()).await;
}
