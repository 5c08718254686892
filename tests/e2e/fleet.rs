//! A fleet of three agents and two coordinators on one etcd, under a load whose every instant is
//! known beforehand: in calm, while agents join and leave, when one is killed, when a coordinator
//! is.
//!
//! The history of an agent that is gone is gone with it until it comes back: it is started again
//! on its own data before the load is judged, as an operator would.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tocktower_client::{Http, Schedule, Task, TaskFilter};

use crate::support::api::now;
use crate::support::fleet::{Fleet, spent};
use crate::support::load::{Load, Weather};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, beside_others, until};

/// What every run of a fleet with nothing wrong starts within, on a machine that may be loaded.
const CALM: Duration = Duration::from_secs(2);
/// The promise while agents die.
const PROMISE: Duration = Duration::from_secs(10);
/// Until the first instant of a load, for creating it.
const AHEAD: Duration = Duration::from_secs(5);

const fn load(namespace: &'static str) -> Load {
    Load { namespace, one_shots: 2_000, rate: 500, recurring: 60 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calm_fleet_runs_every_instant_once_on_time_and_never_early() {
    let _turn = alone().await;
    let fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("calm").place(&fleet.client(), &witness, AHEAD).await;
    placed.judge(fleet.api(), &witness, Weather::Calm, CALM).await;
    // The other coordinator tells the same.
    placed.judge(&fleet.coordinators[1].api, &witness, Weather::Calm, CALM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_joins_and_one_that_leaves_lose_and_repeat_nothing() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("moves").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.1).await;
    fleet.add_agent();
    fleet.agents[3].ready().await;
    placed.reaches(0.5).await;
    fleet.agents[0].terminate();
    let asked = now();
    let status = fleet.agents[0].ended(PATIENCE).await;
    assert!(status.success(), "it has left: {status}");
    println!("the agent had left after {}", spent(now() - asked));
    placed.reaches(1.0).await;
    fleet.held_by(&["a1", "a2", "a3"]).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    placed.judge(fleet.api(), &witness, Weather::Calm, PROMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_delays_nothing_by_ten_seconds_and_loses_nothing() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("killed").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.4).await;
    fleet.agents[0].kill();
    let killed = now();
    fleet.held_by(&["a1", "a2"]).await;
    println!("its ranges were held by others after {}", spent(now() - killed));
    placed.reaches(1.0).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    placed.judge(fleet.api(), &witness, Weather::Crash, PROMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_seconds_before_a_kill_is_settled_and_not_repeated() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(2, 1).await;
    let witness = Witness::start().await;
    // Once an hour, so that nothing else happens in their ranges.
    let (hour, second) = (Duration::from_secs(3_600), now().as_secs() + 4);
    let schedule = Schedule::every_with_phase(hour, Duration::from_secs(second % 3_600));
    let task = |number| Task::new("hourly", format!("h{number}")).schedule(schedule.clone());
    let tasks = (0..60).map(|number| task(number).http(Http::get(&witness.url))).collect();
    for item in fleet.client().batch(tasks).await.expect("a batch is taken") {
        item.result.expect("a task is taken");
    }
    let settled = until("all runs are settled", Duration::from_secs(15), async || {
        let runs = fleet.api().runs("hourly").await.map_err(|answer| answer.text)?;
        let open = runs.iter().filter(|run| run["provisional"] == true).count();
        if runs.len() == 60 && open == 0 { Ok(runs) } else { Err(format!("{open} are not")) }
    });
    let mine = settled.await.iter().filter(|run| run["agent"] == "a0").count();
    println!(
        "settled {} after their due, {mine} of them by a0",
        spent(now() - Duration::from_secs(second))
    );
    fleet.agents[0].kill();
    fleet.held_by(&["a1"]).await;
    // Whoever repeats does so at once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let twice: Vec<_> = witness.calls().into_iter().filter(|(_, at)| at.len() > 1).collect();
    assert!(twice.is_empty(), "{} ran again: {:?}", twice.len(), twice.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_is_missed_until_it_is_forgotten_and_can_come_back() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(2, 1).await;
    let incomplete = async |fleet: &Fleet| {
        let page = fleet.api().get("/v1/runs").await.ok();
        page["incomplete"].as_array().cloned().unwrap_or_default()
    };
    let forget = ["agent", "forget", "a0"];
    let refused = fleet.api().tock(&forget);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && told.contains("agent_alive"), "{refused:?}");
    fleet.agents[0].kill();
    fleet.held_by(&["a1"]).await;
    assert_eq!(incomplete(&fleet).await, ["a0"]);
    assert_eq!(fleet.api().tock_json(&forget)["forgotten"], true);
    assert_eq!(incomplete(&fleet).await, [""; 0]);
    let listed = fleet.api().tock_json(&["agent", "list"]);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    fleet.held_by(&["a0", "a1"]).await;
    assert_eq!(incomplete(&fleet).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_coordinator_loses_no_create_that_it_has_acknowledged() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(1, 2).await;
    fleet.expects(Trouble::CoordinatorGone);
    let client = fleet.client();
    let far = UNIX_EPOCH + now() + Duration::from_secs(86_400);
    let begun = now();
    let one = client.clone();
    let create = move |number: u32| {
        let client = one.clone();
        async move {
            let task = Task::new("failover", format!("t{number}")).at(far).noop();
            let written = client.create(task).await;
            written.map(|written| (written.task.name().to_owned(), now()))
        }
    };
    let creates = tokio::spawn(stream::iter(0..2_000).map(create).buffer_unordered(16).collect());
    let listed = async |fleet: &Fleet| {
        let one = &fleet.coordinators[1].api;
        one.get("/v1/namespaces/failover/tasks?limit=1").await.ok()["items"][0].is_object()
    };
    until("creates are under way", PATIENCE, async || {
        if listed(&fleet).await { Ok(()) } else { Err("none yet") }
    })
    .await;
    fleet.coordinators[0].daemon.kill();
    let killed = now();
    let results: Vec<Result<_, tocktower_client::Error>> = creates.await.expect("no panic");

    let mut acknowledged = BTreeSet::new();
    let mut after = 0;
    for result in results {
        let (name, at) = result.expect("the SDK goes to the other coordinator by itself");
        after += usize::from(at > killed);
        acknowledged.insert(name);
    }
    let rate = acknowledged.len() as f64 / (now() - begun).as_secs_f64();
    println!("{} creates, {after} of them after the kill, {rate:.0} /s", acknowledged.len());
    assert!(after > 0, "it was killed too late to prove anything");
    let there: Vec<Task> =
        client.list(TaskFilter::namespace("failover")).try_collect().await.expect("a list");
    let there: BTreeSet<String> = there.iter().map(|task| task.name().to_owned()).collect();
    assert_eq!(there, acknowledged);

    fleet.coordinators[0].daemon.spawn();
    fleet.coordinators[0].daemon.ready().await;
    fleet.held_by(&["a0"]).await;
    let names = join_all(["t0", "t1999"].map(async |name| {
        let path = format!("/v1/namespaces/failover/tasks/{name}");
        fleet.api().get(&path).await.ok()["name"].clone()
    }));
    assert_eq!(names.await, ["t0", "t1999"]);
}
