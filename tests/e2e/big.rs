//! The figures that the product promises, on the machine at hand: ignored unless asked for.
//!
//!     cargo test -p tocktower-tests --test e2e big -- --ignored --nocapture
//!
//! Two cores carry all of it, this test and etcd included; figures of an idle fleet are better.
//! They are asserted, not only printed, so run them by hand on a machine that does nothing else:
//! beside a build they fail for no fault of the code.

use std::time::{Duration, UNIX_EPOCH};

use futures::{StreamExt, stream};
use serde_json::json;
use tocktower_client::Task;

use crate::support::api::now;
use crate::support::etcd::EtcdCluster;
use crate::support::fleet::{Fleet, spent};
use crate::support::load::{Load, Weather};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

const PROMISE: Duration = Duration::from_secs(10);
const AHEAD: Duration = Duration::from_secs(10);
const CREATES: u32 = 1_000_000;
const BATCH: u32 = 1_000;
/// Creates a second that one coordinator acknowledges, over the whole million.
const CREATES_PER_SECOND: f64 = 12_000.0;
/// What an agent may hold in memory: 400 MB.
const MEMORY_MIB: u64 = 400_000_000 / 1_048_576;

/// A run holds its place while its start is written down and its end taken in: a thousand places,
/// the default, are some ten milliseconds' worth of these runs, and here all are due together.
const PLACES: &str = "10000";

const fn load(namespace: &'static str) -> Load {
    Load { namespace, one_shots: 10_000, rate: 1_000, recurring: 300 }
}

#[ignore = "the figures of the product, a minute"]
#[tokio::test(flavor = "multi_thread")]
async fn big_ten_thousand_one_shots_at_a_thousand_a_second_run_once_each() {
    let _turn = alone().await;
    let fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("big").place(&fleet.client(), &witness, AHEAD).await;
    placed.judge(fleet.api(), &witness, Weather::Calm, PROMISE).await;
}

#[ignore = "the figures of the product, a minute"]
#[tokio::test(flavor = "multi_thread")]
async fn big_a_join_and_a_leave_at_a_thousand_a_second_lose_and_repeat_nothing() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("big-moves").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.1).await;
    fleet.add_agent();
    fleet.agents[3].ready().await;
    placed.reaches(0.5).await;
    fleet.agents[0].terminate();
    let status = fleet.agents[0].ended(PATIENCE).await;
    assert!(status.success(), "it has left: {status}");
    placed.reaches(1.0).await;
    fleet.held_by(&["a1", "a2", "a3"]).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    placed.judge(fleet.api(), &witness, Weather::Calm, PROMISE).await;
}

#[ignore = "the figures of the product, a minute"]
#[tokio::test(flavor = "multi_thread")]
async fn big_a_killed_agent_at_a_thousand_a_second_delays_nothing_by_ten_seconds() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("big-killed").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.4).await;
    fleet.agents[0].kill();
    fleet.held_by(&["a1", "a2"]).await;
    placed.reaches(1.0).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    placed.judge(fleet.api(), &witness, Weather::Crash, PROMISE).await;
}

#[ignore = "the figures of the product, a minute"]
#[tokio::test(flavor = "multi_thread")]
async fn big_kill_9_at_a_thousand_a_second_loses_nothing_that_was_acknowledged() {
    crate::dev::kill_9_at(1_000).await;
}

#[ignore = "the figures of the product, some minutes"]
#[tokio::test(flavor = "multi_thread")]
async fn big_a_million_creates_are_all_there_and_agents_stay_small() {
    let _turn = alone().await;
    let fleet = Fleet::start(2, 1).await;
    let client = fleet.client();
    let tomorrow = UNIX_EPOCH + now() + Duration::from_secs(86_400);
    let begun = now();
    let send = |batch: u32| {
        let client = client.clone();
        async move {
            let numbers = batch * BATCH..(batch + 1) * BATCH;
            let due = |number: u32| tomorrow + Duration::from_millis(u64::from(number));
            let task = |number| Task::new("million", format!("m{number}")).at(due(number)).noop();
            let items = client.batch(numbers.map(task).collect()).await.expect("a batch");
            items.into_iter().filter(|item| item.result.is_ok()).count()
        }
    };
    let counts = stream::iter(0..CREATES / BATCH).map(send).buffer_unordered(8);
    let made: usize = counts.fold(0, |sum, count| std::future::ready(sum + count)).await;
    let took = now() - begun;
    let rate = made as f64 / took.as_secs_f64();
    println!("{made} creates in {}: {rate:.0} /s", spent(took));
    assert_eq!(made, CREATES as usize, "each is acknowledged");

    until("all of them are there", PATIENCE, async || {
        let pools = fleet.api().get("/v1/pools").await.ok();
        if pools["items"][0]["tasks"] == CREATES { Ok(()) } else { Err(pools) }
    })
    .await;
    all_taken_in(&fleet).await;
    println!("taken in by the agents {} after the first create", spent(now() - begun));
    for agent in &fleet.agents {
        let (now, most) = agent.memory();
        println!("an agent holds {now} MiB, at most {most} MiB");
        assert!(most <= MEMORY_MIB, "at most {MEMORY_MIB} MiB");
    }
    let (now, most) = fleet.coordinators[0].daemon.memory();
    println!("the coordinator holds {now} MiB, at most {most} MiB");
    // Last, so that a loaded machine does not hide what else there is to know.
    assert!(rate >= CREATES_PER_SECOND, "{rate:.0} creates/s, {CREATES_PER_SECOND} are promised");
}

/// A range is followed in the order of its changes: an agent that runs a trigger has taken in all
/// that was created there before. The last tasks lie in nearly all ranges.
async fn all_taken_in(fleet: &Fleet) {
    const LAST: u32 = 1_000;
    let trigger = async |number: u32| {
        let path = format!("/v1/namespaces/million/tasks/m{number}/trigger");
        fleet.api().post(&path, &json!({})).await.ok()
    };
    stream::iter(CREATES - LAST..CREATES).map(trigger).buffer_unordered(16).count().await;
    until("every trigger has run", PATIENCE * 4, async || {
        let runs = fleet.api().runs("million").await.map_err(|answer| answer.text)?;
        let ended = runs.iter().filter(|run| run["state"] == "succeeded").count();
        if ended == LAST as usize { Ok(()) } else { Err(format!("{ended} have")) }
    })
    .await;
}

/// Proposals that etcd has taken in, since it began.
async fn proposals(fleet: &Fleet) -> f64 {
    let url = format!("{}/metrics", fleet.etcd.endpoints()[0]);
    let text = reqwest::get(&url).await.expect("etcd answers").text().await.expect("text");
    let line = text.lines().find_map(|l| l.strip_prefix("etcd_server_proposals_committed_total "));
    line.and_then(|count| count.parse().ok()).expect("a count of proposals")
}

/// Runs that the agent has ended, since it began.
async fn ended(fleet: &Fleet) -> u64 {
    let agent = fleet.api().get("/v1/agents/a0").await.ok();
    agent["counts"]["succeeded"].as_u64().expect("a number")
}

#[ignore = "the figures of the product, two minutes"]
#[tokio::test(flavor = "multi_thread")]
async fn big_recurring_runs_add_no_transactions_to_etcd_whatever_their_rate() {
    let _turn = alone().await;
    for rate in [1_000_u32, 50_000] {
        let etcd = EtcdCluster::start(1).await;
        let fleet = Fleet::start_with(etcd, 1, 1, &["--max-running", PLACES]).await;
        let client = fleet.client();
        for first in (0..rate).step_by(5_000) {
            let tasks = (first..rate.min(first + 5_000)).map(|number| {
                Task::new("rate", format!("r{number}")).every(Duration::from_secs(1)).noop()
            });
            for item in client.batch(tasks.collect()).await.expect("a batch is taken") {
                item.result.expect("a task is taken");
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (before, runs, begun) = (proposals(&fleet).await, ended(&fleet).await, now());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let spent = (now() - begun).as_secs_f64();
        let per_second = (proposals(&fleet).await - before) / spent;
        let runs = (ended(&fleet).await - runs) as f64 / spent;
        println!("{rate} tasks of every second: {runs:.0} runs/s, {per_second:.1} proposals/s");
        assert!(runs >= f64::from(rate) * 0.9, "{runs} of {rate} runs a second");
        assert!(per_second <= 10.0, "{per_second} proposals a second at {runs} runs a second");
    }
}
