//! What operators ask of agents is written down, whether they are there or not, and shown with what
//! has come of it.

use std::sync::Arc;

use serde_json::{Value, json};
use tocktower_cluster::keys::{Key, Keys, PREFIX};
use tocktower_cluster::port::{Op, Port, Request, Txn};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, PoolName, RangeId};
use tocktower_proto::convert::encode_record;
use tocktower_proto::store;
use tocktower_proto::v1;
use tocktower_proto::v1::agent_message::Message as Up;
use tocktower_proto::v1::fleet_service_client::FleetServiceClient;

use crate::agent::{Agent, channel};
use crate::harness::{Api, Cluster, paths, until};

fn key(key: &Key) -> Vec<u8> {
    Keys::new(PREFIX, RangeCount::DEFAULT).build(key)
}

fn name(agent: &str) -> AgentName {
    AgentName::parse(agent).unwrap()
}

fn put(key_of: &Key, value: Vec<u8>) -> Op {
    Op::Put { key: key(key_of), value, lease: None }
}

fn kept(agent: &str) -> Op {
    let labels = [("role".to_owned(), "web".to_owned())].into();
    let pool = "default".to_owned();
    let record = store::AgentRecord { pool, labels, weight: 100, ..Default::default() };
    put(&Key::Agent(name(agent)), encode_record(&record))
}

fn session(agent: &str, draining: bool) -> Op {
    let record = store::SessionRecord {
        pool: "default".to_owned(),
        weight: 100,
        cordoned: draining,
        draining,
        ..Default::default()
    };
    put(&Key::Member(name(agent)), encode_record(&record))
}

fn claim() -> Key {
    Key::Claim(PoolName::parse("default").unwrap(), RangeId(7))
}

fn claimed(agent: &str) -> Op {
    let record = store::ClaimRecord { agent: agent.to_owned(), ..Default::default() };
    put(&claim(), encode_record(&record))
}

async fn write(port: &Arc<dyn Port>, then: Vec<Op>) {
    port.call(Request::Txn(Txn { then, ..Txn::default() })).await.unwrap();
}

/// `cordoned`, `draining`, `drained` and `last_resort` of an agent.
fn told(agent: &Value) -> [bool; 4] {
    ["cordoned", "draining", "drained", "last_resort"].map(|flag| agent[flag].as_bool().unwrap())
}

async fn becomes(api: &Api, expected: [bool; 4]) {
    until(&format!("the agent is {expected:?}"), async || {
        let agent = api.get("/v1/agents/web").await.ok();
        (told(&agent) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wish_holds_for_an_agent_that_is_down_and_everybody_shows_it() {
    let cluster = Cluster::new();
    let (api, other) = (cluster.coordinator("c1").await, cluster.coordinator("c2").await);
    let port: Arc<dyn Port> = cluster.store.clone();
    let post = async |what: &str| api.post(&format!("/v1/agents/web/{what}"), &json!({})).await;
    post("drain").await.problem(404, "not_found");
    write(&port, vec![kept("web")]).await;
    // Also one that this coordinator has not seen yet.
    let cordoned = post("cordon").await.ok();
    assert_eq!(told(&cordoned), [true, false, false, false]);
    let drained = post("drain").await.ok();
    assert_eq!(told(&drained), [true, true, false, false]);
    assert_eq!(told(&post("cordon").await.ok()), [true, true, false, false], "drained it stays");
    assert_eq!((&drained["labels"]["role"], &drained["weight"]), (&json!("web"), &json!(100)));
    becomes(&other, [true, true, false, false]).await;
    assert_eq!(told(&post("uncordon").await.ok()), [false; 4]);
    becomes(&other, [false; 4]).await;
}

#[tokio::test]
async fn it_is_drained_by_its_own_word_and_not_before() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let port: Arc<dyn Port> = cluster.store.clone();
    let agent = Agent::dial(&api, "web").await;
    write(&port, vec![kept("web"), session("web", false), claimed("web")]).await;
    api.post("/v1/agents/web/drain", &json!({})).await.ok();
    becomes(&api, [true, true, false, false]).await;
    // It knows; and nobody else takes its range.
    write(&port, vec![session("web", true)]).await;
    becomes(&api, [true, true, false, true]).await;
    write(&port, vec![session("other", false)]).await;
    becomes(&api, [true, true, false, false]).await;
    write(&port, vec![Op::Delete { key: key(&claim()) }]).await;
    until("its range is gone", async || {
        let agent = api.get("/v1/agents/web").await.ok();
        (agent["ranges_held"] == 0).then_some(())
    })
    .await;
    becomes(&api, [true, true, false, false]).await;
    agent.say(Up::Stats(v1::Stats { drained: true, ..v1::Stats::default() })).await;
    becomes(&api, [true, true, true, false]).await;
    let listed = api.get("/v1/agents").await.ok();
    assert!(listed["items"].as_array().unwrap().iter().any(|agent| agent["drained"] == true));
}

#[tokio::test]
async fn a_weight_is_set_and_taken_back_and_nothing_else_can_be_changed() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    write(&(cluster.store.clone() as Arc<dyn Port>), vec![kept("web")]).await;
    let patch = async |body: Value| api.patch("/v1/agents/web", &body).await;
    assert_eq!(patch(json!({"weight": 30})).await.ok()["weight_asked"], 30);
    assert_eq!(patch(json!({"weight": 0})).await.ok()["weight_asked"], 0);
    assert_eq!(patch(json!({"weight": null})).await.ok()["weight_asked"], Value::Null);
    for (body, path) in [
        (json!({"weight": 1_001}), "weight"),
        (json!({"weight": -1}), "weight"),
        (json!({"weight": "30"}), "weight"),
        (json!({}), "weight"),
        (json!({"weight": 3, "pool": "blue"}), "pool"),
        (json!([3]), ""),
    ] {
        assert_eq!(paths(&patch(body).await.problem(400, "invalid_request")), [path]);
    }
    api.patch("/v1/agents/never", &json!({"weight": 3})).await.problem(404, "not_found");
}

#[tokio::test]
async fn agents_are_asked_over_grpc_as_over_rest() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    write(&(cluster.store.clone() as Arc<dyn Port>), vec![kept("web")]).await;
    let mut fleet = FleetServiceClient::new(channel(&api).await);
    let name = || "web".to_owned();
    let flags = |agent: Option<v1::Agent>| agent.map(|agent| (agent.cordoned, agent.draining));
    let answer = fleet.cordon_agent(v1::CordonAgentRequest { name: name() }).await.unwrap();
    assert_eq!(flags(answer.into_inner().agent), Some((true, false)));
    let answer = fleet.drain_agent(v1::DrainAgentRequest { name: name() }).await.unwrap();
    assert_eq!(flags(answer.into_inner().agent), Some((true, true)));
    let answer = fleet.uncordon_agent(v1::UncordonAgentRequest { name: name() }).await.unwrap();
    assert_eq!(flags(answer.into_inner().agent), Some((false, false)));
    let weight = |weight| v1::SetAgentWeightRequest { name: name(), weight };
    let answer = fleet.set_agent_weight(weight(Some(7))).await.unwrap().into_inner();
    assert_eq!(answer.agent.unwrap().weight_asked, Some(7));
    let refused = fleet.set_agent_weight(weight(Some(1_001))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let never = v1::DrainAgentRequest { name: "never".to_owned() };
    assert_eq!(fleet.drain_agent(never).await.unwrap_err().code(), tonic::Code::NotFound);
}
