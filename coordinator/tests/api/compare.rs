//! A coordinator whose watch skips events without a word finds out and mends itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::keys::{Key, Keys, PREFIX};
use tocktower_cluster::port::{Answer, KeyRange, ListRequest, Op, Port, Request, Txn};
use tocktower_coordinator::Pace;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{PoolName, TaskName};

use crate::etcd::EtcdCluster;
use crate::harness::{Api, CutPort, Lost, task, until};

const QUICK: Pace = Pace {
    page_keys: 100,
    page: Duration::from_millis(1),
    look: Duration::ZERO,
    rest: Duration::from_millis(20),
};

fn key(name: &str) -> Vec<u8> {
    let name = TaskName::parse(&format!("default/{name}")).unwrap();
    let pool = PoolName::parse("default").unwrap();
    Keys::new(PREFIX, RangeCount::DEFAULT).build(&Key::Task(pool.into(), name))
}

async fn coordinator(inner: Arc<dyn Port>, lost: Lost, compare: Pace) -> Api {
    let (cut, back) = (Arc::default(), Arc::default());
    Api::on(Arc::new(CutPort { inner, cut, back, lost, hangs: Arc::default() }), "c1", compare)
        .await
}

async fn write(port: &Arc<dyn Port>, then: Vec<Op>) {
    port.call(Request::Txn(Txn { then, ..Txn::default() })).await.unwrap();
}

async fn record(port: &Arc<dyn Port>, key: &[u8]) -> Vec<u8> {
    let range = KeyRange::one(key);
    let list = ListRequest { range, limit: 1, at: None, keys_only: false };
    match port.call(Request::List(list)).await.unwrap() {
        Answer::List { mut items, .. } => items.pop().unwrap().value,
        other => panic!("{other:?}"),
    }
}

/// Whether the copy has the task: one that is asked for by name is read past it.
async fn listed(api: &Api, name: &str) -> bool {
    let page = api.get(&format!("/v1/namespaces/default/tasks?prefix={name}")).await.ok();
    page["items"].as_array().unwrap().iter().any(|item| item["name"] == name)
}

async fn counted(api: &Api, metric: &str) -> u64 {
    let metrics = api.get("/metrics").await.ok();
    let mut lines = metrics.as_str().unwrap().lines();
    let name = format!("tocktower_coordinator_{metric} ");
    lines.find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

async fn more_rounds(api: &Api) {
    let before = counted(api, "catalog_compared_total").await;
    until("two rounds are through", async || {
        (counted(api, "catalog_compared_total").await >= before + 2).then_some(())
    })
    .await;
}

/// Tasks come and go behind the back of a coordinator, whose watch skips that.
async fn lost_and_mended(port: Arc<dyn Port>) {
    let lost = Lost::default();
    let api = coordinator(port.clone(), lost.clone(), QUICK).await;
    for number in 0..150 {
        api.create(&task(&format!("t{number}"))).await.ok();
    }
    more_rounds(&api).await;
    assert_eq!(counted(&api, "catalog_wrong_total").await, 0);

    let value = record(&port, &key("t1")).await;
    lost.lock().unwrap().extend([key("unseen"), key("t2")]);
    let unseen = Op::Put { key: key("unseen"), value, lease: None };
    write(&port, vec![unseen, Op::Delete { key: key("t2") }]).await;
    until("the new task is shown", async || listed(&api, "unseen").await.then_some(())).await;
    assert!(lost.lock().unwrap().is_empty(), "the watch has skipped both");
    assert!(!listed(&api, "t2").await);

    // A delete alone: nothing that is stored tells of it.
    lost.lock().unwrap().insert(key("t3"));
    write(&port, vec![Op::Delete { key: key("t3") }]).await;
    until("the task is gone", async || (!listed(&api, "t3").await).then_some(())).await;
    assert!(lost.lock().unwrap().is_empty(), "the watch has skipped it");
    assert_eq!(counted(&api, "catalog_wrong_total").await, 2);

    // The watch goes on from the list, and nothing more is found.
    api.create(&task("later")).await.ok();
    more_rounds(&api).await;
    assert_eq!(counted(&api, "catalog_wrong_total").await, 2);
    assert!(listed(&api, "later").await);
}

#[tokio::test]
async fn what_the_watch_skipped_is_found_and_listed_again() {
    lost_and_mended(Embedded::in_memory().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_watch_of_a_real_etcd_skipped_is_found_and_listed_again() {
    let etcd = EtcdCluster::start(1).await;
    lost_and_mended(Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap()).await;
}

const MANY: usize = 300_000;

/// How long a round takes without pauses, and how long a ghost is shown.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_round_over_many_tasks() {
    let etcd = EtcdCluster::start(1).await;
    let port: Arc<dyn Port> = Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap();
    let api = coordinator(port.clone(), Lost::default(), QUICK).await;
    api.create(&task("t")).await.ok();
    let value = record(&port, &key("t")).await;
    api.running.shutdown().await;
    let puts: Vec<Op> = (0..MANY)
        .map(|number| Op::Put {
            key: key(&format!("t{number}")),
            value: value.clone(),
            lease: None,
        })
        .collect();
    for puts in puts.chunks(120) {
        write(&port, puts.to_vec()).await;
    }
    let (lost, begun) = (Lost::default(), Instant::now());
    let api = coordinator(port.clone(), lost.clone(), Pace { page_keys: 1_000, ..QUICK }).await;
    println!("{MANY} tasks listed after {:?}", begun.elapsed());
    more_rounds(&api).await;
    let begun = Instant::now();
    more_rounds(&api).await;
    println!("two rounds, a page after the other: {:?}", begun.elapsed());
    lost.lock().unwrap().insert(key("t33333"));
    write(&port, vec![Op::Delete { key: key("t33333") }]).await;
    let begun = Instant::now();
    until("the ghost is gone", async || (!listed(&api, "t33333").await).then_some(())).await;
    println!("a ghost was found, and all listed again, after {:?}", begun.elapsed());
    assert_eq!(counted(&api, "catalog_wrong_total").await, 1);
}
