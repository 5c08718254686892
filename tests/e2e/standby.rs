//! Warm standbys: an agent is killed, and the one that has stood by for its ranges goes on with
//! them at once, with what it has in its own store.
//!
//! Zero is the moment at which etcd's own watch tells that a claim is gone: until then the lease of
//! the dead agent lives, and nobody may have the range.
//!
//!     cargo test -p tocktower-tests --test e2e big_takeover -- --ignored --nocapture

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use futures::{StreamExt, stream};
use serde_json::Value;
use tocktower_client::{Http, Schedule, Task};
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::keys::{Key, Keys, PREFIX};
use tocktower_cluster::port::{
    Answer, Event, ListRequest, Port, Request, WatchCommand, WatchMessage, WatcherId,
};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::PoolName;

use crate::support::api::now;
use crate::support::fleet::{Fleet, percentiles};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

/// The first overdue run starts within this time of the claim becoming free.
const PROMISE: Duration = Duration::from_secs(1);
/// Of the others none starts later than this after its due.
const LATE: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// What the dead agent leaves: tasks that are not due for hours, and one-shots that are due now.
struct Estate {
    far: usize,
    due: usize,
    /// One-shots due in a second.
    rate: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_goes_on_with_a_killed_agents_ranges_at_once_and_lists_nothing() {
    let _turn = alone().await;
    takeover(Estate { far: 2_000, due: 1_200, rate: 100 }).await;
}

#[ignore = "the figures of the product, three minutes"]
#[tokio::test(flavor = "multi_thread")]
async fn big_takeover_of_330_000_tasks_starts_what_is_overdue_within_a_second() {
    let _turn = alone().await;
    takeover(Estate { far: 330_000, due: 4_000, rate: 200 }).await;
}

async fn takeover(estate: Estate) {
    let mut fleet = Fleet::start(2, 1).await;
    let witness = Witness::start().await;
    let ranges = ranges_of(&fleet, "a0").await;
    let phase = Duration::from_secs((now() + DAY / 2).as_secs() % DAY.as_secs());
    let midnight = Schedule::every_with_phase(DAY, phase);
    let far = names(&ranges, "far", estate.far).into_iter();
    create(&fleet, far.map(|name| Task::new("left", name).schedule(midnight.clone()).noop())).await;
    copied(&fleet, ranges.len(), estate.far).await;
    println!(
        "the standby holds {:?} MiB, now and at most, with {} far tasks",
        memory(&fleet),
        estate.far
    );

    let from = now() + Duration::from_secs(5 + (estate.due / 2_000) as u64);
    let due = names(&ranges, "due", estate.due).into_iter().zip(0_u32..);
    let target = Http::get(&witness.url);
    create(
        &fleet,
        due.map(|(name, number)| {
            let at = from + Duration::from_secs(1) * number / estate.rate;
            Task::new("left", name).at(UNIX_EPOCH + at).http(target.clone())
        }),
    )
    .await;
    assert!(now() < from, "the load must be there before it begins");
    copied(&fleet, ranges.len(), estate.far).await;
    let freed = watch_claims(&fleet).await;
    tokio::time::sleep((from + Duration::from_secs(2)).saturating_sub(now())).await;
    let listed = fleet.metric(1, "range_lists_total").await;
    fleet.agents[0].kill();
    until("every claim was freed", PATIENCE, async || {
        let count = freed.lock().expect("no holder panics").len();
        if count == ranges.len() { Ok(()) } else { Err(count) }
    })
    .await;
    fleet.held_by(&["a1"]).await;
    println!("the standby holds {:?} MiB, now and at most: it has taken over", memory(&fleet));
    let lists = fleet.metric(1, "range_lists_total").await - listed;
    let zero = freed.lock().expect("no holder panics").first().copied().expect("some were freed");
    until("all that is due has run", PATIENCE * 2, async || {
        let ran = witness.calls().len();
        if ran == estate.due { Ok(()) } else { Err(ran) }
    })
    .await;
    judge(&witness, zero);
    assert_eq!(lists, 0, "a standby has its tasks already");
}

/// What was overdue when the first claim was freed, and when it ran.
fn judge(witness: &Witness, zero: Duration) {
    let calls = witness.calls();
    let runs = calls.iter().map(|(run, calls)| (due_of(run), calls[0]));
    let overdue = runs.clone().filter(|(due, at)| *due <= zero && *at > zero);
    let mut waited: Vec<Duration> = overdue.map(|(_, at)| at - zero).collect();
    waited.sort();
    let (Some(first), Some(last)) = (waited.first(), waited.last()) else {
        panic!("nothing was overdue when the claims were freed");
    };
    let half = waited[waited.len() / 2];
    println!(
        "of {} overdue runs the first started {first:?} after the claims were free, half of them \
         {half:?}, the last {last:?}",
        waited.len()
    );
    let late = |(due, at): (Duration, Duration)| at.saturating_sub(due);
    let lateness: Vec<i64> =
        runs.clone().map(|run| i64::try_from(late(run).as_micros()).expect("it fits")).collect();
    println!("all runs: {}", percentiles(lateness));
    let twice = calls.values().filter(|calls| calls.len() > 1).count();
    println!("{twice} of {} ran twice", calls.len());
    assert!(*first <= PROMISE, "the first overdue run started {first:?} after");
    let worst = runs.map(late).max().unwrap_or_default();
    assert!(worst <= LATE, "{worst:?} late");
}

/// `<ns>/<name>@<instant in Unix milliseconds>-…`
fn due_of(run: &str) -> Duration {
    let instant = run.split_once('@').and_then(|(_, rest)| rest.split_once('-'));
    let millis = instant.and_then(|(millis, _)| millis.parse().ok());
    Duration::from_millis(millis.unwrap_or_else(|| panic!("{run} is a run of an instant")))
}

fn memory(fleet: &Fleet) -> (u64, u64) {
    fleet.agents[1].memory()
}

/// The ranges of an agent, once each is with its owner.
async fn ranges_of(fleet: &Fleet, agent: &str) -> BTreeSet<u16> {
    until("every range is with its owner", PATIENCE, async || {
        let ranges = fleet.api().get("/v1/ranges?limit=1000").await.ok();
        let ranges = ranges["items"].as_array().expect("items").clone();
        if let Some(range) = ranges.iter().find(|range| range["holder"] != range["owner"]) {
            return Err(range.clone());
        }
        let id = |range: &Value| {
            let id = range["id"].as_str().and_then(|id| u16::from_str_radix(id, 16).ok());
            id.expect("a hexadecimal number")
        };
        Ok(ranges.iter().filter(|range| range["holder"] == agent).map(id).collect())
    })
    .await
}

/// So many names whose tasks lie in these ranges.
fn names(ranges: &BTreeSet<u16>, prefix: &str, count: usize) -> Vec<String> {
    let within = |name: &String| {
        let range = RangeCount::DEFAULT.range_of_text(&format!("left/{name}"));
        ranges.contains(&range.0)
    };
    (0_u32..).map(|number| format!("{prefix}{number}")).filter(within).take(count).collect()
}

async fn create(fleet: &Fleet, tasks: impl Iterator<Item = Task>) {
    let tasks: Vec<Task> = tasks.collect();
    let (client, begun) = (fleet.client(), now());
    let send = |batch: Vec<Task>| {
        let client = client.clone();
        async move {
            for item in client.batch(batch).await.expect("a batch is taken") {
                item.result.unwrap_or_else(|error| panic!("{}: {error}", item.name));
            }
        }
    };
    let batches: Vec<Vec<Task>> = tasks.chunks(1_000).map(<[Task]>::to_vec).collect();
    stream::iter(batches).map(send).buffer_unordered(4).count().await;
    println!("created {} tasks in {:.1?}", tasks.len(), now() - begun);
}

/// Waits until the second agent has a copy of all that the first holds.
async fn copied(fleet: &Fleet, ranges: usize, tasks: usize) {
    let begun = now();
    until("the standby has copied everything", PATIENCE * 4, async || {
        let copied =
            [fleet.metric(1, "ranges_standby").await, fleet.metric(1, "standby_tasks").await];
        if copied[0] == ranges as u64 && copied[1] >= tasks as u64 { Ok(()) } else { Err(copied) }
    })
    .await;
    println!("the standby had its copies {:.1?} later", now() - begun);
}

/// Notes when each claim is gone, by etcd's own watch.
async fn watch_claims(fleet: &Fleet) -> Arc<Mutex<Vec<Duration>>> {
    let etcd = Etcd::connect(&fleet.etcd.endpoints(), EtcdOptions::default()).expect("endpoints");
    let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
    let list = ListRequest { range: keys.shared(), limit: 1, at: None, keys_only: true };
    let Ok(Answer::List { revision, .. }) = etcd.call(Request::List(list)).await else {
        panic!("etcd answers");
    };
    let stream = etcd.watch(1_024);
    let (watcher, from) = (WatcherId(1), revision.next());
    let open = WatchCommand::Open { watcher, range: keys.all(), from, elsewhere: false };
    stream.commands.send(open).expect("the stream lives");
    let freed = Arc::new(Mutex::new(Vec::new()));
    let noted = freed.clone();
    tokio::spawn(async move {
        let (mut messages, _commands) = (stream.messages, stream.commands);
        while let Some(message) = messages.recv().await {
            let WatchMessage::Events { events, .. } = message else { continue };
            let at = now();
            let pool = PoolName::parse("default").expect("a good name");
            let gone = events.iter().filter(|event| {
                let claim =
                    matches!(keys.parse(event.key()), Some(Key::Claim(of, _)) if of == pool);
                claim && matches!(event, Event::Delete { .. })
            });
            noted.lock().expect("no holder panics").extend(gone.map(|_| at));
        }
    });
    freed
}
