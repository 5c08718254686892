use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tocktower_cluster::cluster as record;
use tocktower_cluster::keys::Key;
use tocktower_cluster::port::{Answer, Op, OpAnswer, Port, Request, Txn};
use tocktower_coordinator::{Coordinator, CoordinatorConfig, Outdated, StartError};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::CoordinatorId;
use tocktower_core::time::Wall;
use tocktower_proto::convert::encode_record;
use tocktower_proto::store::ClusterRecord;

use crate::harness::{Cluster, PATIENCE, at, task, until};

fn config(listen: &str) -> CoordinatorConfig {
    let listen: SocketAddr = listen.parse().unwrap();
    CoordinatorConfig::new(CoordinatorId::parse("c1").unwrap(), listen)
}

async fn refused(config: CoordinatorConfig, cluster: &Cluster) -> StartError {
    Coordinator::start(config, cluster.store.clone()).await.err().unwrap()
}

#[tokio::test]
async fn a_listener_off_loopback_needs_to_be_asked_for() {
    let cluster = Cluster::new();
    let error = refused(config("0.0.0.0:0"), &cluster).await;
    assert!(error.is_configuration() && error.to_string().contains("--insecure"), "{error}");
    let insecure = CoordinatorConfig { insecure: true, ..config("0.0.0.0:0") };
    let running = Coordinator::start(insecure, cluster.store.clone()).await.unwrap();
    running.shutdown().await;
}

#[tokio::test]
async fn the_clusters_own_number_of_ranges_holds() {
    let cluster = Cluster::new();
    let few = RangeCount::new(16).unwrap();
    let first = CoordinatorConfig { range_count_for_new_cluster: few, ..config("127.0.0.1:0") };
    Coordinator::start(first, cluster.store.clone()).await.unwrap().shutdown().await;
    let api = cluster.coordinator("c2").await;
    assert_eq!(api.running.app().catalog.keys().ranges(), few);
    api.create(&task("a")).await.ok();
    let ranges = api.get("/v1/ranges?limit=1000").await.ok();
    assert_eq!(ranges["items"].as_array().unwrap().len(), 16);
}

#[tokio::test]
async fn a_cluster_of_a_newer_format_is_left_alone() {
    let cluster = Cluster::new();
    let newer = ClusterRecord { id: "x".to_owned(), format_version: 9, ..ClusterRecord::default() };
    cluster.put(cluster.keys().build(&Key::Cluster), encode_record(&newer)).await;
    let error = refused(config("127.0.0.1:0"), &cluster).await;
    assert!(matches!(error, StartError::Cluster(_)) && !error.is_configuration(), "{error:?}");
}

#[tokio::test]
async fn a_member_is_seen_and_leaves_when_it_stops() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.coordinator("c1").await, cluster.coordinator("c2").await);
    let seen = || one.running.app().catalog.look(|state| state.coordinators.len());
    until("both are members", async || (seen() == 2).then_some(())).await;
    two.running.shutdown().await;
    until("one has left", async || (seen() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_store_that_was_put_back_from_a_backup_stops_the_coordinator() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("a")).await.ok();
    cluster.back.store(3, Ordering::SeqCst);
    let reason = tokio::time::timeout(PATIENCE, api.running.stopped()).await.unwrap();
    let Outdated::PutBack { seen, now } = reason else { panic!("{reason}") };
    assert!(now < seen);
    assert!(reason.to_string().contains("backup"), "{reason}");
}

#[tokio::test]
async fn an_epoch_that_was_raised_stops_the_coordinator_and_the_next_one_begins_in_it() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    let key = cluster.keys().build(&Key::Cluster);
    let read = Txn { then: vec![Op::Get { key }], ..Txn::default() };
    let Ok(Answer::Txn { answers, .. }) = cluster.store.call(Request::Txn(read)).await else {
        panic!("no answer")
    };
    let [OpAnswer::Got(Some(item))] = &answers[..] else { panic!("{answers:?}") };
    let before = record::read_item(item).unwrap();
    let raised = record::raise(item, Wall::from_millis(1_800_000_000_000)).unwrap();
    cluster.store.call(Request::Txn(raised)).await.unwrap();
    let reason = tokio::time::timeout(PATIENCE, api.running.stopped()).await.unwrap();
    assert_eq!(reason, Outdated::Raised { was: before.epoch });
    api.running.shutdown().await;
    let next = cluster.coordinator("c1").await;
    assert_eq!(next.running.app().catalog.epoch().0, 2);
}

#[tokio::test]
async fn a_stop_lets_requests_in_hand_end() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("a")).await.ok();
    let url = api.url(&at("a"));
    api.running.shutdown().await;
    assert!(api.client.get(url).send().await.is_err());
}
