//! What a process finds that goes on with the claim of the one before: how its runs ended.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tocktower_agent::store::{Retention, Store, StoreConfig, TrimBudget, TrimClock};
use tocktower_core::agent::effect::{Fences, LoadRequest, SettledEnd, StoreOp};
use tocktower_core::agent::input::{LoadAnswer, OwnRun};
use tocktower_core::ids::{AgentName, Attempt, Fence, RunId, RunKey};
use tocktower_core::run::{RunRecord, RunState, Span};
use tocktower_core::time::Wall;

use crate::support::{RANGE, at, attempt, batch, fence, history, named, run, run_id};

const HOUR: i64 = 3_600_000;
/// When the stories happen.
const NOW: i64 = 100 * HOUR;

fn now() -> Wall {
    Wall::from_millis(NOW + 1_000)
}

/// What is a minute old is known without looking for it; by this clock all is older.
fn late() -> Wall {
    Wall::from_millis(NOW + 5 * HOUR)
}

fn open(dir: &TempDir, clock: fn() -> Wall) -> std::sync::Arc<Store> {
    Store::open(dir.path(), StoreConfig { clock, ..StoreConfig::default() }).unwrap().store
}

/// A folder whose store was made an hour before the stories.
fn old_folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    drop(open(&dir, || Wall::from_millis(NOW - HOUR)));
    dir
}

fn own(store: &Store, runs: Vec<RunId>, tasks: &[(&str, i64)]) -> Vec<OwnRun> {
    own_under(store, false, runs, tasks)
}

fn own_under(store: &Store, earlier: bool, runs: Vec<RunId>, tasks: &[(&str, i64)]) -> Vec<OwnRun> {
    let tasks = tasks.iter().map(|(name, after)| (named(name), at(*after))).collect();
    let under = Fences { newest: fence(5), earlier };
    // With a run beside them tasks are not looked for one by one.
    let nobodys = run_id("nobody", NOW + HOUR);
    let runs = if runs.is_empty() { vec![nobodys] } else { runs };
    let request = LoadRequest::Own { range: RANGE, under, runs, tasks };
    match store.load(&request).unwrap().answer {
        LoadAnswer::Own(own) => own,
        other => panic!("{other:?}"),
    }
}

fn ended(own: &[OwnRun]) -> Vec<(RunId, Option<SettledEnd>)> {
    own.iter().map(|own| (own.run.clone(), own.end)).collect()
}

#[test]
fn what_ended_after_the_ledger_is_known_and_what_came_before_is_not_asked() {
    let dir = old_folder();
    let store = open(&dir, now);
    let under = |revision, ms, state| {
        history(RunRecord { fence: fence(revision), ..run("a", NOW + ms, state) })
    };
    let ops = [
        under(5, 0, RunState::Failed),
        under(5, 100, RunState::Succeeded),
        under(4, 200, RunState::Succeeded),
        // Two accounts: the higher one counts.
        under(4, 300, RunState::Failed),
        under(5, 300, RunState::Succeeded),
        history(run("b", NOW + 100, RunState::Missed)),
    ];
    store.apply(&batch(1, true, ops)).unwrap();
    let end = |ms| (run_id("a", NOW + ms), Some(SettledEnd::Succeeded));
    assert_eq!(ended(&own(&store, vec![], &[("a", NOW + 50)])), [end(300), end(100)]);
    // What this process writes while others are still asked for counts as well.
    let (open, begun) = (run_id("a", NOW + 500), attempt(1));
    let begin = StoreOp::OpenRun { range: RANGE, run: open.clone(), attempt: begun };
    store.apply(&batch(2, true, [begin, under(5, 400, RunState::Succeeded)])).unwrap();
    let found = own(&store, vec![], &[("a", NOW + 350)]);
    assert_eq!(ended(&found), [(open, None), end(400)]);
    // A run that is listed counts whoever tells of it, and under which fence is told.
    let listed = run_id("a", NOW + 200);
    let found = own(&store, vec![listed.clone()], &[]);
    assert_eq!(ended(&found)[1..], [(listed, Some(SettledEnd::Succeeded))]);
    assert_eq!(found[1].fence, fence(4));
}

#[test]
fn accounts_under_fences_before_are_told_where_they_are_asked_for() {
    for clock in [now, late] {
        let dir = old_folder();
        let store = open(&dir, clock);
        let under =
            |fence, ms| history(RunRecord { fence, ..run("a", NOW + ms, RunState::Succeeded) });
        let ops = [
            under(Fence::default(), 100),
            under(fence(3), 200),
            under(fence(5), 300),
            under(fence(6), 400),
        ];
        store.apply(&batch(1, true, ops)).unwrap();
        let told = |earlier| -> BTreeSet<RunId> {
            let own = own_under(&store, earlier, vec![], &[("a", NOW + 50)]);
            own.into_iter().map(|own| own.run).collect()
        };
        // Few tasks alone are looked for one by one.
        let looked_for = |earlier| -> BTreeSet<RunId> {
            let under = Fences { newest: fence(5), earlier };
            let tasks = vec![(named("a"), at(NOW + 50))];
            let request = LoadRequest::Own { range: RANGE, under, runs: vec![], tasks };
            let LoadAnswer::Own(own) = store.load(&request).unwrap().answer else { panic!() };
            own.into_iter().map(|own| own.run).collect()
        };
        for told in [&told as &dyn Fn(bool) -> BTreeSet<RunId>, &looked_for] {
            assert_eq!(told(false), BTreeSet::from([run_id("a", NOW + 300)]));
            assert_eq!(told(true), BTreeSet::from([200, 300].map(|ms| run_id("a", NOW + ms))));
        }
    }
}

#[test]
fn a_run_of_which_there_is_nothing_was_never_begun_and_a_forgotten_one_may_have_been() {
    let dir = old_folder();
    let store = open(&dir, now);
    store.apply(&batch(1, true, [history(run("a", NOW, RunState::Succeeded))])).unwrap();
    let unknown = run_id("a", NOW + 7);
    assert_eq!(own(&store, vec![unknown], &[]), []);
    let other = Some(AgentName::parse("other").unwrap());
    let share = RunId { agent: other, ..run_id("a", NOW) };
    assert_eq!(own(&store, vec![share], &[]), [], "it is another agent's share");
    let clock = TrimClock { now: now(), steady: true };
    let rules = Retention { age: Duration::from_millis(10), ..Retention::default() };
    store.trim(clock, &rules, TrimBudget::default()).unwrap();
    let forgotten = own(&store, vec![run_id("a", NOW - 50)], &[]);
    assert_eq!(ended(&forgotten), [(run_id("a", NOW - 50), None)]);
}

#[test]
fn an_instant_within_a_span_has_ended_however_long_ago_that_began() {
    let span = |name: &str, ms: i64, until: i64| {
        let span = Some(Span { until: at(until), count: 9 });
        history(RunRecord { span, ..run(name, ms, RunState::Skipped) })
    };
    let dir = old_folder();
    let store = open(&dir, now);
    let ops = [
        span("growing", NOW - HOUR, NOW),
        span("backlog", NOW - 90 * HOUR, NOW),
        span("over", NOW - HOUR / 2, NOW - 1),
    ];
    store.apply(&batch(1, true, ops)).unwrap();
    for again in [false, true] {
        let asked = ["growing", "backlog", "over"].map(|name| (name, NOW - 1));
        let mut found = ended(&own(&store, vec![], &asked));
        found.sort_by_key(|(run, _)| run.clone());
        let skipped = |name, ms| (run_id(name, ms), Some(SettledEnd::Cancelled));
        let spans = [skipped("backlog", NOW - 90 * HOUR), skipped("growing", NOW - HOUR)];
        assert_eq!(found, spans, "asked again: {again}");
    }
    drop(store);
    // That a span is so long is known to the next process as well.
    let store = open(&dir, now);
    assert_eq!(own(&store, vec![], &[("backlog", NOW - 1)]).len(), 1);
}

fn records() -> impl Strategy<Value = Vec<RunRecord>> {
    let states = [RunState::Succeeded, RunState::Failed, RunState::Skipped, RunState::Lost];
    let record = (
        prop::sample::select(vec!["a", "b", "c"]),
        prop_oneof![-2_000i64..500, -3 * HOUR..0],
        prop::sample::select(states.to_vec()),
        3i64..6,
        prop::option::weighted(0.3, prop_oneof![0i64..2_000, 0..3 * HOUR]),
        any::<bool>(),
    );
    let record = record.prop_map(|(name, ms, state, under, length, by_hand)| {
        let ms = NOW + ms;
        let spans = matches!(state, RunState::Skipped | RunState::Lost);
        let span = length
            .filter(|_| spans && !by_hand)
            .map(|length| Span { until: at((ms + length).min(NOW + 500)), count: 2 });
        let mut record = RunRecord { fence: fence(under), span, ..run(name, ms, state) };
        if by_hand {
            record.id.run = RunKey::Manual(u128::try_from(ms).unwrap() << 80 | 7);
        }
        record
    });
    prop::collection::vec(record, 0..16)
}

fn sorted(mut own: Vec<OwnRun>) -> Vec<OwnRun> {
    own.sort_by_key(|own| (own.run.clone(), own.attempt));
    own
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn what_is_known_is_what_would_be_found(
        first in records(),
        second in records(),
        after in prop::collection::vec(-3_000i64..600, 3),
    ) {
        let dir = old_folder();
        let asked: Vec<_> = ["a", "b", "c"].into_iter().zip(after).collect();
        let asked: Vec<_> = asked.iter().map(|(name, after)| (*name, NOW + after)).collect();
        let listed: Vec<RunId> = first.iter().step_by(3).map(|run| run.id.clone()).collect();
        let store = open(&dir, now);
        store.apply(&batch(1, true, first.into_iter().map(history))).unwrap();
        own(&store, vec![], &asked[..1]);
        store.apply(&batch(2, true, second.into_iter().map(history))).unwrap();
        let known = [own(&store, listed.clone(), &asked), own(&store, vec![], &asked)];
        drop(store);
        let store = open(&dir, late);
        let sought = [own(&store, listed, &asked), own(&store, vec![], &asked)];
        prop_assert_eq!(known.map(sorted), sought.map(sorted));
    }
}

#[test]
fn an_attempt_that_ended_is_named() {
    let dir = old_folder();
    let store = open(&dir, now);
    let mut row = run("a", NOW, RunState::Failed);
    let attempt = Attempt { fence: fence(4), number: 3 };
    row.attempts.push(tocktower_core::run::AttemptRecord {
        attempt,
        agent: row.agent.clone(),
        session: Default::default(),
        started_at: None,
        finished_at: None,
        end: None,
        code: None,
    });
    store.apply(&batch(1, true, [history(row)])).unwrap();
    let found = own(&store, vec![], &[("a", NOW - 1)]);
    assert_eq!(found[0].attempt, attempt);
}
