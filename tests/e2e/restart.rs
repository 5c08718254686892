//! An agent that is killed under load and started again at once, over and over: it goes on with its
//! session, and its only agent being gone for a moment is all that anybody notices. And one whose
//! lease is taken away under load: it comes back as a new session.
//!
//! A task for every ten milliseconds of the second calls a witness, so that the gap shows from
//! outside: the longest silence round each kill.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use tocktower_client::{Http, Overlap, Schedule, Task};

use crate::support::api::now;
use crate::support::fleet::{Fleet, percentiles, spent};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

/// Tasks that call the witness, each a hundredth of a second after the one before.
const CALLERS: u64 = 100;
const AHEAD: Duration = Duration::from_secs(5);
/// Between two kills.
const APART: Duration = Duration::from_secs(3);

/// Of the tasks that nobody but the history sees, one in so many is looked at.
const LOOKED_AT: usize = 25;

/// What is done to the agent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    /// As by `etcdctl lease revoke`.
    RevokeLease,
}

struct Blows {
    blow: Blow,
    count: u32,
    /// Runs in a second beside the calls.
    background: u32,
    /// No gap may be longer, and of a hundred all but one must be as short as the second.
    longest: Duration,
    usual: Duration,
}

async fn strike(kills: Blows) {
    let mut fleet = Fleet::start(1, 1).await;
    let witness = Witness::start().await;
    let second = Duration::from_secs(1);
    let from = Duration::from_secs((now() + AHEAD).as_secs());
    let to = from + APART * (kills.count + 1);
    let (start, end) = (UNIX_EPOCH + from, UNIX_EPOCH + to - Duration::from_millis(1));
    let timed = |task: Task| task.start_at(start).end_at(end).overlap(Overlap::Allow);
    let callers = (0..CALLERS).map(|number| {
        let schedule = Schedule::every_with_phase(second, Duration::from_millis(number * 10));
        let task = Task::new("calls", format!("c{number}")).schedule(schedule);
        timed(task.http(Http::get(&witness.url)))
    });
    let background = (0..kills.background)
        .map(|number| timed(Task::new("rest", format!("r{number}")).every(second).noop()));
    for item in fleet.client().batch(callers.chain(background).collect()).await.unwrap() {
        item.result.unwrap_or_else(|error| panic!("{}: {error}", item.name));
    }
    assert!(now() < from, "the load must be there before it begins");
    if kills.blow == Blow::RevokeLease {
        fleet.agents[0].expects(Trouble::LeaseRevoked);
    }
    let mut killed = Vec::new();
    for number in 1..=kills.count {
        // At another moment of the second each time.
        let at = from + APART * number + Duration::from_millis(u64::from(number) * 37 % 1_000);
        tokio::time::sleep(at.saturating_sub(now())).await;
        match kills.blow {
            Blow::Kill => {
                fleet.agents[0].kill();
                killed.push(now());
                fleet.agents[0].spawn();
            }
            Blow::RevokeLease => {
                killed.push(now());
                fleet.etcd.revoke_fullest_lease().await;
            }
        }
    }
    fleet.agents[0].ready().await;
    let expected = usize::try_from(CALLERS * (to - from).as_secs()).expect("fits");
    let calls =
        until("every instant has called", to.saturating_sub(now()) + AHEAD * 3, async || {
            let calls = witness.calls();
            tokio::time::sleep(Duration::from_millis(200)).await;
            if calls.len() == expected {
                Ok(calls)
            } else {
                Err(format!("{} of {expected}", calls.len()))
            }
        })
        .await;
    // A process that goes on repeats what had no end on disk. A new session, what no ledger had
    // settled: they are written once a second.
    let unsettled = Duration::from_millis(if kills.blow == Blow::Kill { 500 } else { 2_000 });
    let repeated = repeats_are_explained(&calls, &killed, unsettled);
    let gaps: Vec<i64> = killed.iter().map(|at| gap(&calls, *at)).collect();
    let log = fleet.agents[0].log();
    let went_on = log.lines().filter(|line| line.contains("the last process goes on")).count();
    println!(
        "struck {} times, went on {went_on} times; {repeated} of {expected} calls repeated; gap {}",
        kills.count,
        percentiles(gaps.clone())
    );
    let expected = if kills.blow == Blow::Kill { kills.count } else { 0 };
    assert_eq!(went_on, usize::try_from(expected).expect("fits"));
    let micros = |span: Duration| i64::try_from(span.as_micros()).expect("short");
    let long = gaps.iter().filter(|gap| **gap > micros(kills.usual)).count();
    assert!(long <= gaps.len().div_ceil(100), "{long} gaps are longer than {:?}", kills.usual);
    assert!(gaps.iter().all(|gap| *gap <= micros(kills.longest)), "{gaps:?}");
    // A process that goes on knows what it ran. A new session repeats what no ledger had settled,
    // which is what two seconds bring at most.
    let allowed = if kills.blow == Blow::Kill { 10 } else { 200 };
    assert!(repeated <= killed.len() * allowed, "{repeated} repeated by {} blows", killed.len());
    the_rest(&fleet, kills.background, (to - from).as_secs(), killed.len() * allowed).await;
}

/// How many calls were made twice; the first of the two is never older than that when it is struck.
fn repeats_are_explained(
    calls: &BTreeMap<String, Vec<Duration>>,
    struck: &[Duration],
    oldest: Duration,
) -> usize {
    let repeats: Vec<&Vec<Duration>> = calls.values().filter(|times| times.len() > 1).collect();
    let unsettled = repeats.iter().map(|times| before_a_blow(struck, times[0])).max();
    let unsettled = unsettled.unwrap_or_default();
    println!("the first of two calls came up to {} before a blow", spent(unsettled));
    assert!(unsettled <= oldest, "{unsettled:?} before a blow");
    repeats.len()
}

/// How long before the next blow a call was made.
fn before_a_blow(struck: &[Duration], called: Duration) -> Duration {
    let next = struck.iter().find(|at| **at >= called);
    next.map_or(Duration::MAX, |at| *at - called)
}

/// What was run beside the calls, and nobody has seen but the history: of every so many tasks each
/// instant has ended well, and few took a second attempt.
async fn the_rest(fleet: &Fleet, tasks: u32, instants: u64, allowed: usize) {
    let (mut seen, mut repeated) = (0, 0);
    for number in (0..tasks).step_by(LOOKED_AT) {
        let path = format!("/v1/namespaces/rest/tasks/r{number}/runs?limit=1000");
        let runs = until(&format!("all of r{number} has ended"), PATIENCE, async || {
            let runs = fleet.api().get(&path).await.ok()["items"].clone();
            let runs = runs.as_array().expect("a list").clone();
            let count = runs.iter().filter(|run| run["state"] == "succeeded").count() as u64;
            if count == instants && runs.len() as u64 == count { Ok(runs) } else { Err(count) }
        })
        .await;
        seen += runs.len();
        repeated += runs.iter().filter(|run| run["attempt"].as_u64() > Some(1)).count();
    }
    println!("{seen} runs of the rest were looked at, {repeated} of them repeated");
    assert!(repeated <= allowed, "{repeated} of {seen}");
}

/// The longest silence between two calls from just before a blow to the next.
fn gap(calls: &BTreeMap<String, Vec<Duration>>, struck: Duration) -> i64 {
    let (from, to) = (struck - Duration::from_millis(100), struck + APART);
    let mut all: Vec<Duration> = calls.values().flatten().copied().collect();
    all.retain(|at| (from..=to).contains(at));
    all.sort_unstable();
    let silences = all.windows(2).map(|two| two[1] - two[0]);
    let longest = silences.max().expect("there are calls");
    i64::try_from(longest.as_micros()).expect("short")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_that_is_started_again_at_once_goes_on_with_its_session() {
    let _turn = alone().await;
    let second = Duration::from_secs(1);
    let (longest, usual) = (second * 2, second * 2);
    strike(Blows { blow: Blow::Kill, count: 3, background: 200, longest, usual }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_lease_is_revoked_by_hand_is_back_within_a_second_or_two() {
    let _turn = alone().await;
    let (longest, usual) = (Duration::from_secs(2), Duration::from_secs(2));
    let blow = Blow::RevokeLease;
    strike(Blows { blow, count: 3, background: 200, longest, usual }).await;
}

#[ignore = "the figures of the product, a minute"]
#[tokio::test(flavor = "multi_thread")]
async fn big_an_agent_whose_lease_is_revoked_at_five_thousand_runs_a_second() {
    let _turn = alone().await;
    let (longest, usual) = (Duration::from_secs(1), Duration::from_secs(1));
    let blow = Blow::RevokeLease;
    strike(Blows { blow, count: 10, background: 4_900, longest, usual }).await;
}

#[ignore = "the figures of the product, five minutes"]
#[tokio::test(flavor = "multi_thread")]
async fn big_an_agent_that_is_killed_a_hundred_times_at_five_thousand_runs_a_second() {
    let _turn = alone().await;
    let (longest, usual) = (Duration::from_secs(10), Duration::from_millis(500));
    strike(Blows { blow: Blow::Kill, count: 100, background: 4_900, longest, usual }).await;
}
