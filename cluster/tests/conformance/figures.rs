//! Figures, not tests: `cargo test -p tocktower-cluster --test conformance -- --ignored
//! --nocapture --test-threads 1 figures`. Creates go as coordinators make them: 120 nested
//! transactions with a compare each, 8 in flight; values of 200 bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::port::{Op, Port, Txn};

use crate::harness::EtcdCluster;
use crate::vocabulary::Store;

const CREATES: usize = 330_000;
const VALUE_BYTES: usize = 200;

/// Creates `count` keys named by number, and says how long it took.
pub async fn create(store: &Store, count: usize, in_flight: usize) -> Duration {
    let value = "x".repeat(VALUE_BYTES);
    let begun = Instant::now();
    let batches = (0..count).step_by(120).map(|first| {
        let one = |number: usize| {
            let name = format!("{number:06}");
            let then = vec![store.put_op(&name, &value)];
            Op::Txn(Txn { when: vec![store.absent(&name)], then, otherwise: vec![] })
        };
        let ops = (first..count.min(first + 120)).map(one).collect();
        let store = store.clone();
        async move { store.run(ops).await }
    });
    let mut answers = futures::stream::iter(batches).buffer_unordered(in_flight);
    while answers.next().await.is_some() {}
    begun.elapsed()
}

async fn rates(name: &str, port: Arc<dyn Port>) {
    let store = Store::new(port);
    let took = create(&store, CREATES, 8).await;
    let rate = CREATES as f64 / took.as_secs_f64();
    println!("{name}: {rate:.0} creates/s ({CREATES}, 120 a transaction, 8 in flight)");

    let singles = 2_000;
    let small = Store::new(store.port.clone());
    let puts = (0..singles).map(|number| {
        let store = small.clone();
        async move { store.put(&number.to_string(), "x").await }
    });
    let begun = Instant::now();
    futures::stream::iter(puts).buffer_unordered(64).collect::<Vec<_>>().await;
    let rate = f64::from(singles) / begun.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} puts/s (single, 64 in flight)");

    let alone = 200;
    let begun = Instant::now();
    for number in 0..alone {
        store.put(&format!("z{number}"), "x").await;
    }
    println!("{name}: {:?} a put (single, alone)", begun.elapsed() / alone);

    let begun = Instant::now();
    let (mut start, mut listed) = (store.all().start, 0);
    loop {
        let mut page = store.page(1_000, None);
        page.range.start = start;
        let (_, items, more) = store.list(page).await;
        listed += items.len();
        let Some(last) = items.last().filter(|_| more) else {
            break;
        };
        start = last.key.iter().copied().chain([0]).collect();
    }
    let rate = listed as f64 / begun.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} keys/s listed (pages of 1,000)");
}

#[tokio::test]
#[ignore = "prints figures"]
async fn figures_of_embedded_on_disk() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let embedded = Embedded::open(folder.path()).unwrap();
    rates("embedded on disk", embedded.clone()).await;

    // What a crash would leave behind: the file as it is while the store is open.
    let crashed = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = "state.redb";
    let bytes = std::fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
    let begun = Instant::now();
    drop(Embedded::open(crashed.path()).unwrap());
    println!("embedded on disk: opened in {:?} after a crash, {bytes} bytes", begun.elapsed());
    drop(embedded);
    let begun = Instant::now();
    drop(Embedded::open(folder.path()).unwrap());
    println!("embedded on disk: opened in {:?} after a clean end", begun.elapsed());
}

#[tokio::test]
#[ignore = "prints figures"]
async fn figures_of_embedded_in_memory() {
    rates("embedded in memory", Embedded::in_memory().unwrap()).await;
}

#[tokio::test]
#[ignore = "prints figures"]
async fn figures_of_etcd() {
    let etcd = EtcdCluster::start(1).await;
    rates("etcd", Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap()).await;
}
