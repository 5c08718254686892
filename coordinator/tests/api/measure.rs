//! Figures, not checks: run with `--ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_cluster::port::{Event, KeyValue};
use tocktower_coordinator::catalog::State;
use tocktower_core::ids::{Epoch, PoolName, Revision, TaskName};
use tocktower_core::time::{Mono, Wall};
use tocktower_proto::convert::{Given, Purpose, encode_task, task_from_value};

use crate::harness::{Api, Cluster, api};

fn once(name: &str) -> Value {
    json!({"name": name, "schedules": [{"at": "2099-01-01T00:00:00Z"}],
        "action": {"http": {"url": "http://127.0.0.1:9/hook", "body": "{\"id\": 1234567}"}}})
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn creates_one_by_one_over_64_connections() {
    single(&Arc::new(api().await)).await;
}

async fn single(api: &Arc<Api>) {
    const EACH: usize = 500;
    let begun = Instant::now();
    let clients = (0..64).map(|client| {
        let api = api.clone();
        tokio::spawn(async move {
            let mut slowest = std::time::Duration::ZERO;
            for n in 0..EACH {
                let sent = Instant::now();
                api.create(&once(&format!("t-{client}-{n}"))).await.ok();
                slowest = slowest.max(sent.elapsed());
            }
            slowest
        })
    });
    let slowest = join_all(clients).await.into_iter().map(Result::unwrap).max();
    let rate = f64::from(u32::try_from(64 * EACH).unwrap()) / begun.elapsed().as_secs_f64();
    println!("{rate:.0} creates/s over 64 connections, the slowest took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn creates_in_batches() {
    let api = Arc::new(api().await);
    batched(&api).await;
    let tasks = api.running.app().catalog.look(|state| state.tasks.len());
    assert_eq!(tasks, BATCHES * SIZE);
}

const BATCHES: usize = 40;
const SIZE: usize = 1_000;

async fn batched(api: &Arc<Api>) {
    let bodies: Vec<Value> = (0..BATCHES)
        .map(|batch| {
            let tasks: Vec<Value> = (0..SIZE).map(|n| once(&format!("t-{batch}-{n}"))).collect();
            json!({"tasks": tasks})
        })
        .collect();
    let begun = Instant::now();
    for four in bodies.chunks(4) {
        join_all(four.iter().map(|body| api.post("/v1/tasks/batch", body))).await;
    }
    let rate = f64::from(u32::try_from(BATCHES * SIZE).unwrap()) / begun.elapsed().as_secs_f64();
    println!("{rate:.0} creates/s in batches of {SIZE}, four at a time");
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[test]
#[ignore = "a measurement"]
fn memory_and_time_of_a_million_tasks_in_the_catalog() {
    const TASKS: usize = 1_000_000;
    let keys = Cluster::new().keys();
    let mut state = State::default();
    let before = resident_bytes();
    let begun = Instant::now();
    let pool = PoolName::parse("default").unwrap();
    for n in 0..TASKS {
        let name = format!("reminder-{:x}", n * 7_919 % 16_777_216);
        let given = Given {
            namespace: Some("default"),
            name: None,
            fresh_name: &name,
            purpose: Purpose::Edit,
        };
        let spec = task_from_value(once(&name), given).unwrap();
        let version =
            tocktower_core::task::create(spec, Wall::from_millis(1_790_000_000_000), Some(7));
        let value = encode_task(&version.unwrap(), Epoch(1));
        let task = TaskName::parse(&format!("default/{name}")).unwrap();
        let item = KeyValue {
            key: keys.build(&Key::Task(pool.clone().into(), task)),
            value,
            create_revision: Revision(5),
            mod_revision: Revision(5),
            lease: None,
        };
        state.event(&keys, Mono::default(), &Event::Put(item), &mut Vec::new());
    }
    let took = begun.elapsed();
    let each = (resident_bytes() - before) / state.tasks.len();
    println!("{each} bytes a task in memory; {took:?} to make and apply {TASKS}");
    assert!(each <= 600, "{each}");
    let begun = Instant::now();
    let found = state
        .tasks
        .from(std::ops::Bound::Unbounded)
        .filter(|stored| stored.glance().labels.contains_key("team"));
    println!("{} of {TASKS} found in {:?}", found.count(), begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn creates_over_etcd() {
    let etcd = crate::etcd::EtcdCluster::start(1).await;
    let api = Arc::new(crate::over_etcd::api_on(&etcd, "c1").await);
    single(&api).await;
    batched(&api).await;
}
