//! etcd loses its leader and keeps its majority, under a steady load: kill -9 of the one member of
//! three through which every write goes.
//!
//! For about a second, until the other two have elected one of them, nothing can be written: no
//! create, no ledger, no renewal of a lease. Runs whose licences last go on meanwhile, the others
//! are late and within the promise; creates wait in the SDK, which sends what the store failed
//! again. Nobody lends a hand, and the member comes back on its own data.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures::TryStreamExt;
use serde_json::{Value, json};
use tocktower_client::{Client, Task, TaskFilter};

use crate::support::api::now;
use crate::support::etcd::EtcdCluster;
use crate::support::fleet::{Fleet, spent};
use crate::support::load::{Load, Weather};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

/// The promise while a majority of etcd lives.
const PROMISE: Duration = Duration::from_secs(10);
/// Until the first instant of the load, for creating it.
const AHEAD: Duration = Duration::from_secs(5);
const LOAD: Load = Load { namespace: "leader", one_shots: 2_400, rate: 200, recurring: 30 };
/// A create that took longer is told of.
const SLOW: Duration = Duration::from_millis(500);
/// Creates that are sent with one call, by and by.
const BATCH: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_of_etcd_loses_nothing_delays_nothing_by_ten_seconds_and_creates_go_on() {
    let _turn = alone().await;
    let mut fleet = Fleet::start_on(EtcdCluster::start(3).await, 2, 1).await;
    fleet.expects(Trouble::EtcdDown);
    let witness = Witness::start().await;
    let placed = LOAD.place(&fleet.client(), &witness, AHEAD).await;
    let enough = Arc::new(AtomicBool::new(false));
    let creates = tokio::spawn(create_until(enough.clone(), fleet.client()));

    placed.reaches(0.2).await;
    let leader = leader_of(&fleet.etcd).await.expect("there is a leader");
    fleet.etcd.stop(leader);
    let killed = now();
    until("the others have elected one of them", PATIENCE, async || {
        leader_of(&fleet.etcd).await.filter(|elected| *elected != leader).ok_or("none yet")
    })
    .await;
    println!("another leader {} after m{leader} was killed", spent(now() - killed));
    placed.reaches(0.7).await;
    fleet.etcd.restart(leader);
    fleet.etcd.healthy().await.expect("the member is back");
    placed.reaches(1.0).await;
    enough.store(true, Ordering::Relaxed);

    let made = creates.await.expect("no create was refused");
    let after = made.iter().filter(|batch| batch.asked > killed).count();
    let longest = made.iter().map(|batch| batch.answered - batch.asked).max().unwrap_or_default();
    println!("{} batches of {BATCH} creates, {after} of them after the kill", made.len());
    for batch in made.iter().filter(|batch| batch.answered - batch.asked > SLOW) {
        let (asked, took) = (batch.asked.saturating_sub(killed), batch.answered - batch.asked);
        println!("a batch of {} after the kill took {}", spent(asked), spent(took));
    }
    assert!(after > 0, "creates have gone on");
    assert!(longest <= PROMISE, "a create waited for {longest:?}");
    let acknowledged: BTreeSet<String> = made.into_iter().flat_map(|batch| batch.names).collect();
    let filter = TaskFilter::namespace("creates");
    let there: Vec<Task> = fleet.client().list(filter).try_collect().await.expect("a list");
    let there: BTreeSet<String> = there.iter().map(|task| task.name().to_owned()).collect();
    assert!(there == acknowledged, "{} there, {} acknowledged", there.len(), acknowledged.len());
    // A lease may have run out while nobody could renew it: what was open then may be repeated.
    placed.judge(fleet.api(), &witness, Weather::Crash, PROMISE).await;
}

/// Creates that were sent with one call.
struct Made {
    asked: Duration,
    answered: Duration,
    names: Vec<String>,
}

/// Creates that are due tomorrow, until it is enough. Not one may be refused.
async fn create_until(enough: Arc<AtomicBool>, client: Client) -> Vec<Made> {
    let tomorrow = UNIX_EPOCH + now() + Duration::from_secs(86_400);
    let mut made: Vec<Made> = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let first = made.len() * BATCH;
        let name = |number: usize| format!("c{number}");
        let task = |number: usize| Task::new("creates", name(number)).at(tomorrow).noop();
        let asked = now();
        let items =
            client.batch((first..first + BATCH).map(task).collect()).await.expect("a batch");
        let names = items.into_iter().map(|item| {
            item.result.unwrap_or_else(|error| panic!("{}: {error}", item.name));
            item.name
        });
        made.push(Made { asked, names: names.collect(), answered: now() });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    made
}

/// The member that leads, as the running members themselves tell it.
async fn leader_of(etcd: &EtcdCluster) -> Option<usize> {
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(2)).build().expect("a client");
    for (member, endpoint) in etcd.endpoints().iter().enumerate() {
        let status = http.post(format!("{endpoint}/v3/maintenance/status")).json(&json!({}));
        let Ok(answer) = status.send().await else { continue };
        let Ok(status) = answer.json::<Value>().await else { continue };
        let leads = |id: &Value| id.is_string() && *id == status["header"]["member_id"];
        if leads(&status["leader"]) {
            return Some(member);
        }
    }
    None
}
