use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tocktower_cluster::keys::Key;
use tocktower_coordinator::{Coordinator, CoordinatorConfig, StartError};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::CoordinatorId;
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
    let newer = ClusterRecord { id: "x".to_owned(), format_version: 9, epoch: 1, range_count: 16 };
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
    assert!(reason.now < reason.seen);
    assert!(reason.to_string().contains("backup"), "{reason}");
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
