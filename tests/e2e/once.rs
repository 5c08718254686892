//! What may start at most once, while its agents die and stand still: a witness that shares nothing
//! with the product counts the calls of every run. Beside it runs what may start again, so that the
//! same trouble shows what it costs each of them.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tocktower_client::{Delivery, Http, Overlap, Task};

use crate::support::api::{has_ended, instant_text, now};
use crate::support::fleet::{Fleet, percentiles, spent, text};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, beside_others, until};

const PROMISE: Duration = Duration::from_secs(10);
/// Until the first instant, for creating the tasks.
const AHEAD: Duration = Duration::from_secs(5);
/// One-shots of each kind, due in a second.
const RATE: u32 = 50;
/// How long a load lasts.
const SHORT: u32 = 12;
/// As one from a tenth of which on an agent stands still for twenty.
const LONG: u32 = 24;
/// Tasks of each kind that come every second.
const RECURRING: u32 = 20;

/// Instants of each kind.
fn instants(seconds: u32) -> usize {
    usize::try_from((RATE + RECURRING) * seconds).expect("fits")
}

struct Judged {
    lost: usize,
    /// Runs that called more than once.
    twice: usize,
    /// The call that was the most after its due, first calls only.
    latest: Duration,
}

/// Tasks of both kinds, each in a namespace of its own; they begin at the moment that is given
/// back.
async fn place(fleet: &Fleet, witness: &Witness, seconds: u32) -> Duration {
    let from = Duration::from_secs((now() + AHEAD).as_secs());
    for (namespace, delivery) in [("once", Delivery::AtMostOnce), ("again", Delivery::AtLeastOnce)]
    {
        let task = |name: String| {
            Task::new(namespace, name).delivery(delivery).http(Http::get(&witness.url))
        };
        let at = |number: u32| UNIX_EPOCH + from + Duration::from_secs(1) * number / RATE;
        let one_shots = (0..RATE * seconds).map(|n| task(format!("o{n}")).at(at(n)));
        let until = from + Duration::from_secs(seconds.into());
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

async fn passes(from: Duration, seconds: u32, share: f64) {
    let at = from + Duration::from_secs(seconds.into()).mul_f64(share);
    tokio::time::sleep(at.saturating_sub(now())).await;
}

async fn judge(fleet: &Fleet, witness: &Witness, namespace: &str, seconds: u32) -> Judged {
    let instants = instants(seconds);
    let runs = until(&format!("all of {namespace} have ended"), PATIENCE, async || {
        let runs = fleet.api().runs(namespace).await.map_err(|answer| answer.text)?;
        let settled = |run: &&Value| has_ended(run) && run["provisional"] != true;
        let count = runs.iter().filter(settled).count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if count == instants { Ok(runs) } else { Err(format!("{count} of {instants}")) }
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
    let from = place(&fleet, &witness, SHORT).await;
    passes(from, SHORT, 1.0).await;
    for namespace in ["once", "again"] {
        let judged = judge(&fleet, &witness, namespace, SHORT).await;
        assert_eq!((judged.lost, judged.twice), (0, 0));
        assert!(judged.latest < Duration::from_secs(2), "{:?}", judged.latest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_repeats_nothing_of_it_and_loses_only_what_it_had_permission_for() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 1).await;
    let witness = Witness::start().await;
    let from = place(&fleet, &witness, SHORT).await;
    passes(from, SHORT, 0.3).await;
    fleet.agents[0].kill();
    let killed = now();
    fleet.held_by(&["a1", "a2"]).await;
    println!("its ranges were held by others after {}", spent(now() - killed));
    passes(from, SHORT, 1.0).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    let (once, again) = (
        judge(&fleet, &witness, "once", SHORT).await,
        judge(&fleet, &witness, "again", SHORT).await,
    );
    assert_eq!((once.twice, again.lost), (0, 0));
    // Two seconds ahead and two that no ledger covered yet, of a third of the ranges.
    assert!(once.lost > 0 && once.lost <= instants(SHORT) / 3, "{} lost", once.lost);
    assert!(once.latest <= PROMISE && again.latest <= PROMISE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stands_still_in_the_middle_of_a_load_starts_next_to_nothing_when_it_wakes() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 1).await;
    let witness = Witness::start().await;
    let from = place(&fleet, &witness, LONG).await;
    passes(from, LONG, 0.1).await;
    fleet.agents[0].expects(Trouble::Stopped);
    fleet.agents[0].freeze();
    fleet.held_by(&["a1", "a2"]).await;
    passes(from, LONG, 1.0).await;
    assert!(now() > from + Duration::from_secs(20), "it stood still for so long");
    let before = witness.calls();
    fleet.agents[0].thaw();
    fleet.held_by(&["a0", "a1", "a2"]).await;
    let (once, again) =
        (judge(&fleet, &witness, "once", LONG).await, judge(&fleet, &witness, "again", LONG).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_tells_of_a_run_that_was_given_up_is_shown_as_late() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(2, 1).await;
    let run = "/v1/namespaces/default/tasks/once/runs";
    let task = json!({
        "name": "once",
        "delivery": "at_most_once",
        "schedules": [{"at": instant_text(now() + Duration::from_secs(2))}],
        "action": {"command": {"argv": ["sleep", "4"]}},
    });
    fleet.api().post("/v1/namespaces/default/tasks", &task).await.ok();
    let api = fleet.api().clone();
    let is = |state: &'static str| {
        let api = api.clone();
        async move {
            until(&format!("the run is {state}"), PATIENCE, async || {
                let run = api.get(run).await.ok()["items"][0].clone();
                if run["state"] == state { Ok(run) } else { Err(run) }
            })
            .await
        }
    };
    let running = is("running").await;
    let agent = usize::from(running["agent"] == "a1");
    let id = text(&running["run_id"]);
    // Its command goes on and ends, and nobody hears of it.
    fleet.agents[agent].expects(Trouble::Stopped);
    fleet.agents[agent].freeze();
    let lost = is("lost").await;
    assert_eq!(lost["late_results"], Value::Null, "nothing was told yet: {lost}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    fleet.agents[agent].thaw();
    let late = until("its agent has told", PATIENCE, async || {
        let run = fleet.api().get(&format!("{run}?state=lost")).await.ok()["items"][0].clone();
        if run["late_results"].is_array() { Ok(run) } else { Err(run) }
    })
    .await;
    assert_eq!(late["late_results"][0]["state"], "succeeded", "{late}");
    assert_eq!(late["late_results"][0]["agent"], running["agent"], "{late}");
    let shown = fleet.api().tock(&["run", "get", &id]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("succeeded (told of too late: its holder"), "{shown}");
    let at = text(&running["instant"]);
    let why = fleet.api().tock(&["task", "why", "once", "--at", &at]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("told that its attempt 1 succeeded"), "{why}");
}
