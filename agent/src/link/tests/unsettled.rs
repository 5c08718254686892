//! What followers are told of ends: that they are settled, once, and when they will not be told.
//! Rounds are moved by hand, and the core is a closure.

use tocktower_core::agent::Settled;
use tocktower_core::run::Span;
use tocktower_proto::v1::interest::Kind;

use super::*;
use crate::link::feed::{Subscription, Taken, Wanted};
use crate::link::limits::{
    SETTLE_LOOKS_MAX, SETTLE_ROUNDS_MAX, UNSETTLED_BYTES_MAX, UNSETTLED_MAX, UNTOLD_ROUNDS,
};

/// One run that a follower saw: its task and instant, its state, and whether it is provisional.
type Seen = (String, RunState, bool);

struct Bench {
    feeds: Arc<Feeds>,
    telling: Telling,
}

fn bench() -> Bench {
    let feeds = Feeds::new(Arc::default());
    Bench { telling: Telling::new(Arc::clone(&feeds)), feeds }
}

impl Bench {
    fn follower(&self, wanted: Wanted) -> Subscription {
        let follower = self.feeds.subscribe();
        follower.want(wanted);
        follower
    }

    fn changed(&mut self, run: RunRecord) {
        self.telling.changed(Arc::new(run));
    }

    /// A second passes, and all that is remembered is in this state.
    fn second(&mut self, settled: Settled) {
        self.telling.look_again(true, |_| settled);
    }
}

fn ended(task: &str, ms: i64) -> RunRecord {
    RunRecord { provisional: true, ..run(task, ms, RunState::Succeeded) }
}

/// What the follower gets next, until nothing is left; and how much it missed.
fn seen(follower: &Subscription) -> (Vec<Seen>, u64) {
    let (mut events, mut missed) = (Vec::new(), 0);
    while let Some(taken) = follower.take() {
        match taken {
            Taken::Missed(more) => missed += more,
            Taken::Events(runs) => events.extend(runs.iter().map(|run| {
                (format!("{}@{}", run.id.task, run.instant.millis()), run.state, run.provisional)
            })),
        }
    }
    (events, missed)
}

fn is(run: &str, state: RunState, provisional: bool) -> Seen {
    (run.to_owned(), state, provisional)
}

const SUCCEEDED: RunState = RunState::Succeeded;

#[test]
fn an_end_is_told_at_once_and_again_when_it_is_settled() {
    let mut bench = bench();
    let follower = bench.follower(Wanted::Everything);
    bench.changed(run("default/a", 1, RunState::Running));
    assert_eq!(seen(&follower).0, [is("default/a@1", RunState::Running, false)]);
    bench.changed(ended("default/a", 1));
    let span = Some(Span { until: Instant::from_millis(9), count: 3 });
    bench.changed(RunRecord { state: RunState::Skipped, span, ..ended("default/b", 2) });
    let told = [is("default/a@1", SUCCEEDED, true), is("default/b@2", RunState::Skipped, true)];
    assert_eq!(seen(&follower).0, told);
    bench.second(Settled::NotYet);
    assert_eq!(seen(&follower), (Vec::new(), 0));
    bench.second(Settled::Here);
    let told = [is("default/a@1", SUCCEEDED, false), is("default/b@2", RunState::Skipped, false)];
    assert_eq!(seen(&follower), (told.to_vec(), 0));
    bench.second(Settled::Here);
    assert_eq!(seen(&follower), (Vec::new(), 0), "once");
}

#[test]
fn only_those_who_want_a_run_hear_that_it_is_settled() {
    let mut bench = bench();
    bench.changed(ended("default/early", 1));
    let of = |task: &str| Wanted::Named(vec![(None, Some(task.to_owned()))]);
    let (one, other) = (bench.follower(of("a")), bench.follower(of("b")));
    bench.changed(ended("default/a", 1));
    bench.changed(ended("default/c", 1));
    assert_eq!(seen(&one).0, [is("default/a@1", SUCCEEDED, true)]);
    bench.telling.look_again(true, |run| {
        assert_eq!(run.id.task.name.as_str(), "a", "nothing else is remembered");
        Settled::Here
    });
    assert_eq!(seen(&one).0, [is("default/a@1", SUCCEEDED, false)]);
    assert_eq!(seen(&other), (Vec::new(), 0));

    bench.changed(ended("default/a", 2));
    drop((one, other));
    bench.second(Settled::Here);
    let late = bench.follower(Wanted::Everything);
    bench.telling.look_again(true, |run| panic!("{} is remembered for nobody", run.id));
    assert_eq!(seen(&late), (Vec::new(), 0));
}

#[test]
fn what_a_snapshot_shows_as_provisional_is_told_too_and_once() {
    let mut bench = bench();
    let row = ended("default/a", 1);
    bench.changed(row.clone());
    let follower = bench.follower(Wanted::Everything);
    bench.telling.shown(&[row.clone(), run("default/b", 1, SUCCEEDED)]);
    bench.telling.shown(&[row]);
    bench.second(Settled::Here);
    assert_eq!(seen(&follower).0, [is("default/a@1", SUCCEEDED, false)]);
    bench.second(Settled::Here);
    assert_eq!(seen(&follower), (Vec::new(), 0));
}

#[test]
fn what_another_may_have_overtaken_is_missed_and_not_settled() {
    let mut bench = bench();
    let of = |task: &str| Wanted::Named(vec![(None, Some(task.to_owned()))]);
    let (one, other) = (bench.follower(of("a")), bench.follower(of("b")));
    bench.changed(ended("default/a", 1));
    seen(&one);
    bench.second(Settled::Elsewhere);
    assert_eq!(seen(&one), (Vec::new(), 1));
    assert_eq!(seen(&other), (Vec::new(), 0), "it is nothing to those who do not want it");
}

#[test]
fn a_run_that_starts_again_is_settled_by_its_new_end() {
    let mut bench = bench();
    let follower = bench.follower(Wanted::Everything);
    bench.changed(ended("default/a", 1));
    bench.changed(run_under("default/a", 1, 6, RunState::Running));
    seen(&follower);
    bench.telling.look_again(true, |_| panic!("it goes on"));
    let again = run_under("default/a", 1, 6, RunState::Failed);
    bench.changed(RunRecord { provisional: true, ..again });
    bench.second(Settled::Here);
    bench.second(Settled::Here);
    assert_eq!(seen(&follower).0, [is("default/a@1", RunState::Failed, false)]);
}

#[test]
fn too_many_are_let_go_the_oldest_first_and_followers_hear_of_it_now_and_then() {
    let mut bench = bench();
    let follower = bench.follower(Wanted::Everything);
    let most = i64::try_from(UNSETTLED_MAX).unwrap();
    for ms in 0..most + 10 {
        bench.changed(ended("default/a", ms));
        seen(&follower);
    }
    bench.second(Settled::NotYet);
    assert_eq!(seen(&follower), (Vec::new(), 10));
    for round in 1..=UNTOLD_ROUNDS {
        bench.changed(ended("default/a", most + 10 + i64::from(round)));
        seen(&follower);
        let missed = if round == UNTOLD_ROUNDS { u64::from(UNTOLD_ROUNDS) } else { 0 };
        bench.second(Settled::NotYet);
        assert_eq!(seen(&follower).1, missed, "in round {round}");
    }
}

#[test]
fn long_texts_count_against_the_bound() {
    let mut bench = bench();
    let follower = bench.follower(Wanted::Everything);
    let reason = Some("x".repeat(UNSETTLED_BYTES_MAX / 4));
    for ms in 0..6 {
        bench.changed(RunRecord { reason: reason.clone(), ..ended("default/a", ms) });
        seen(&follower);
    }
    bench.second(Settled::Here);
    let (told, missed) = seen(&follower);
    assert_eq!((told.len(), missed), (3, 3));
    bench.changed(RunRecord { reason, ..ended("default/a", 9) });
    assert_eq!(seen(&follower).1, 0);
    bench.second(Settled::Here);
    assert_eq!(seen(&follower).0.len(), 1, "what was told takes no room");
}

#[test]
fn a_round_is_looked_at_in_slices_and_each_run_once() {
    let mut bench = bench();
    let _follower = bench.follower(Wanted::Everything);
    let count = 2 * SETTLE_LOOKS_MAX + 7;
    (0..).take(count).for_each(|ms| bench.changed(ended("default/a", ms)));
    let mut asked = Vec::new();
    let slices: Vec<usize> = (0..5)
        .map(|turn| {
            let before = asked.len();
            bench.telling.look_again(turn == 0, |run| {
                asked.push(run.instant.millis());
                Settled::NotYet
            });
            asked.len() - before
        })
        .collect();
    assert_eq!(slices, [SETTLE_LOOKS_MAX, SETTLE_LOOKS_MAX, 7, 0, 0]);
    assert!(asked.is_sorted() && asked.len() == count);
}

#[test]
fn what_is_never_settled_is_let_go_in_the_end() {
    let mut bench = bench();
    let follower = bench.follower(Wanted::Everything);
    bench.changed(ended("default/a", 1));
    seen(&follower);
    for _ in 1..SETTLE_ROUNDS_MAX {
        bench.second(Settled::NotYet);
        assert_eq!(seen(&follower), (Vec::new(), 0));
    }
    bench.second(Settled::NotYet);
    assert_eq!(seen(&follower), (Vec::new(), 1));
    bench.telling.look_again(true, |_| panic!("it is forgotten"));
}

#[test]
fn an_agent_that_ends_tells_what_is_settled_and_that_the_rest_will_not_be_told() {
    let mut bench = bench();
    let follower = bench.follower(Wanted::Everything);
    bench.changed(ended("default/a", 1));
    bench.changed(ended("default/b", 1));
    seen(&follower);
    bench.telling.close(|run| match run.id.task.name.as_str() {
        "a" => Settled::Here,
        _ => Settled::NotYet,
    });
    assert_eq!(seen(&follower), (vec![is("default/a@1", SUCCEEDED, false)], 1));
}

#[tokio::test]
async fn both_words_cross_the_link_and_that_one_will_not_come_does_by_itself() {
    let agent = Agent::start();
    let mut telling = agent.links.telling();
    let (_coordinator, mut peer) = agent.linked().await;
    peer.interest(Kind::All(v1::InterestAll {})).await;
    let next = async |peer: &mut Peer| {
        peer.hear_of(|message| match message {
            Up::RunEvents(events) => {
                Some(Ok(events.runs.iter().map(|run| run.provisional).collect::<Vec<bool>>()))
            }
            Up::Lagged(lagged) => Some(Err(lagged.missed)),
            _ => None,
        })
        .await
    };
    telling.changed(Arc::new(ended("default/a", 1)));
    assert_eq!(next(&mut peer).await, Ok(vec![true]));
    telling.look_again(true, |_| Settled::Here);
    assert_eq!(next(&mut peer).await, Ok(vec![false]));
    telling.changed(Arc::new(ended("default/b", 1)));
    assert_eq!(next(&mut peer).await, Ok(vec![true]));
    telling.look_again(true, |_| Settled::Elsewhere);
    assert_eq!(next(&mut peer).await, Err(1));
    assert_eq!(agent.count(|metrics| &metrics.events_missed), 1);
}
