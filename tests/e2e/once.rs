//! What may start at most once, while its agents die and stand still: a witness that shares nothing
//! with the product counts the calls of every run. Beside it runs what may start again, so that the
//! same trouble shows what it costs each of them.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tocktower_client::{Delivery, Http, Overlap, Task};

use crate::support::api::{has_ended, now};
use crate::support::fleet::{Fleet, percentiles, spent, text};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

const PROMISE: Duration = Duration::from_secs(10);
/// Until the first instant, for creating the tasks.
const AHEAD: Duration = Duration::from_secs(5);
/// One-shots of each kind, due in a second.
const RATE: u32 = 50;
const SECONDS: u32 = 24;
/// Tasks of each kind that come every second.
const RECURRING: u32 = 20;
/// Instants of each kind.
const INSTANTS: usize = (RATE * SECONDS + RECURRING * SECONDS) as usize;

struct Judged {
    lost: usize,
    /// Runs that called more than once.
    twice: usize,
    /// The call that was the most after its due, first calls only.
    latest: Duration,
}

/// Tasks of both kinds, each in a namespace of its own; they begin at the moment that is given
/// back.
async fn place(fleet: &Fleet, witness: &Witness) -> Duration {
    let from = Duration::from_secs((now() + AHEAD).as_secs());
    for (namespace, delivery) in [("once", Delivery::AtMostOnce), ("again", Delivery::AtLeastOnce)]
    {
        let task = |name: String| {
            Task::new(namespace, name).delivery(delivery).http(Http::get(&witness.url))
        };
        let at = |number: u32| UNIX_EPOCH + from + Duration::from_secs(1) * number / RATE;
        let one_shots = (0..RATE * SECONDS).map(|n| task(format!("o{n}")).at(at(n)));
        let until = from + Duration::from_secs(SECONDS.into());
        let (start, end) = (UNIX_EPOCH + from, UNIX_EPOCH + until - Duration::from_millis(1));
        let recurring = (0..RECURRING).map(|n| {
            let task = task(format!("r{n}")).every(Duration::from_secs(1));
            task.start_at(start).end_at(end).overlap(Overlap::Allow)
        });
        for item in fleet.client().batch(one_shots.chain(recurring).collect()).await.unwrap() {
            item.result.unwrap_or_else(|error| panic!("{}: {error}", item.name));
        }
    }
    assert!(now() < from, "the load must be there before it begins");
    from
}

async fn passes(from: Duration, share: f64) {
    let at = from + Duration::from_secs(SECONDS.into()).mul_f64(share);
    tokio::time::sleep(at.saturating_sub(now())).await;
}

async fn judge(fleet: &Fleet, witness: &Witness, namespace: &str) -> Judged {
    let runs = until(&format!("all of {namespace} have ended"), PATIENCE, async || {
        let runs = fleet.api().runs(namespace).await.map_err(|answer| answer.text)?;
        let settled = |run: &&Value| has_ended(run) && run["provisional"] != true;
        let count = runs.iter().filter(settled).count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if count == INSTANTS { Ok(runs) } else { Err(format!("{count} of {INSTANTS}")) }
    })
    .await;
    let calls = witness.calls();
    let mut states = BTreeMap::<String, usize>::new();
    let (mut twice, mut late) = (0, Vec::new());
    for run in &runs {
        let state = text(&run["state"]);
        *states.entry(state.clone()).or_default() += 1;
        let due = tocktower_proto::json::parse_wall_down(&text(&run["due"])).expect("a time");
        match calls.get(&text(&run["run_id"])) {
            Some(times) => {
                twice += usize::from(times.len() > 1);
                let at = i64::try_from(times[0].as_micros()).expect("fits");
                late.push(at - due.micros());
            }
            None => assert_eq!(state, "lost", "nobody called for {run}"),
        }
        if state == "lost" {
            assert!(run["reason"].as_str().is_some_and(|why| why.contains("host went away")));
        }
    }
    let lost = states.remove("lost").unwrap_or(0);
    assert_eq!(states.keys().collect::<Vec<_>>(), ["succeeded"], "{states:?}");
    let worst = late.iter().copied().max().expect("there are calls");
    println!("{namespace}: {states:?}, {lost} lost, {twice} called twice; {}", percentiles(late));
    Judged { lost, twice, latest: Duration::from_micros(worst.try_into().unwrap_or(0)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calm_fleet_runs_what_may_start_once_as_punctually_as_the_rest() {
    let _turn = alone().await;
    let fleet = Fleet::start(2, 1).await;
    let witness = Witness::start().await;
    let from = place(&fleet, &witness).await;
    passes(from, 1.0).await;
    for namespace in ["once", "again"] {
        let judged = judge(&fleet, &witness, namespace).await;
        assert_eq!((judged.lost, judged.twice), (0, 0));
        assert!(judged.latest < Duration::from_secs(2), "{:?}", judged.latest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_repeats_nothing_of_it_and_loses_only_what_it_had_permission_for() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 1).await;
    let witness = Witness::start().await;
    let from = place(&fleet, &witness).await;
    passes(from, 0.3).await;
    fleet.agents[0].kill();
    let killed = now();
    fleet.held_by(&["a1", "a2"]).await;
    println!("its ranges were held by others after {}", spent(now() - killed));
    passes(from, 1.0).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    let (once, again) =
        (judge(&fleet, &witness, "once").await, judge(&fleet, &witness, "again").await);
    assert_eq!((once.twice, again.lost), (0, 0));
    // Two seconds ahead and two that no ledger covered yet, of a third of the ranges.
    assert!(once.lost > 0 && once.lost <= INSTANTS / 4, "{} lost", once.lost);
    assert!(once.latest <= PROMISE && again.latest <= PROMISE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stands_still_in_the_middle_of_a_load_starts_next_to_nothing_when_it_wakes() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 1).await;
    let witness = Witness::start().await;
    let from = place(&fleet, &witness).await;
    passes(from, 0.1).await;
    fleet.agents[0].expects(Trouble::Stopped);
    fleet.agents[0].freeze();
    fleet.held_by(&["a1", "a2"]).await;
    passes(from, 1.0).await;
    assert!(now() > from + Duration::from_secs(20), "it stood still for so long");
    let before = witness.calls();
    fleet.agents[0].thaw();
    fleet.held_by(&["a0", "a1", "a2"]).await;
    let (once, again) =
        (judge(&fleet, &witness, "once").await, judge(&fleet, &witness, "again").await);
    // What had been called for already when it woke, and was called for again after that.
    let after = witness.calls();
    let stale = after.iter().filter(|(run, calls)| {
        let known = before.get(*run).map_or(0, Vec::len);
        known > 0 && calls.len() > known
    });
    let stale = stale.count();
    println!("{stale} stale starts");
    assert_eq!((once.twice, again.lost), (0, 0));
    // One start past its last check for each thread of the executor.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(stale <= threads, "{stale} stale starts with {threads} threads");
    assert!(once.latest <= PROMISE && again.latest <= PROMISE);
}
