//! What may start at most once (L2): it is listed first, and whoever takes over what was listed
//! starts none of it. That nothing starts without permission is looked at in every story.

use std::collections::BTreeSet;
use std::time::Duration;

use tocktower_core::agent::effect::{SettleKey, SettledEnd, ShareRequest};
use tocktower_core::agent::input::{Input, SharedNews};
use tocktower_core::ids::{Attempt, Fence, RangeId, RunId, Session};
use tocktower_core::ledger::{Entry, EntryState};
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec};

use crate::shared::EPOCH;
use crate::words::{at_most_once, every, failed, named, retried, writes_final, writes_ledger};
use crate::world::{Fate, World};

const RANGE: RangeId = RangeId(0);
const LOST: &str = "its host went away after the ledger had permitted it to start: it may have \
                    run, and nobody starts it again";

/// The run of a task at a second of the story.
fn run(world: &World, name: &str, second: u64) -> RunId {
    RunId::scheduled(named(name), world.task(name).incarnation, world.at_second(second))
}

/// The states in which the newest ledger lists a task.
fn states(world: &World, name: &str) -> Vec<EntryState> {
    world.listed(name).iter().map(|entry| entry.state).collect()
}

#[test]
fn what_comes_due_is_listed_ahead_and_starts_on_time() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 5)));
    world.pass(9_400);
    assert_eq!(world.started("a/task"), [(5, 1)]);
    assert_eq!(states(&world, "a/task"), [EntryState::Permitted]);
    assert_eq!(world.listed("a/task")[0].due, world.at_second(10));
    world.pass(10_000);
    assert_eq!(world.started("a/task"), [(5, 1), (10, 1), (15, 1)]);
    for start in world.starts_of("a/task") {
        let late = start.at_us % 5_000_000;
        assert!(late < 2_000, "{late} us late");
    }
    world.each_ended_once(&world.task("a/task"), 1, 19);
}

#[test]
fn it_takes_few_ledgers_to_permit_what_comes_seldom() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 30)));
    world.pass(5_000);
    let since = world.now_us;
    world.pass(60_000);
    // For each of two instants: one ahead, and a few in the seconds in which it is open.
    let ledgers = world.ledgers_since(RANGE, since).len();
    assert!(ledgers <= 10, "{ledgers} ledgers");
    assert_eq!(world.started("a/task"), [(30, 1), (60, 1)]);
}

#[test]
fn what_is_due_already_gets_a_ledger_at_once() {
    let mut world = World::new(1, 10);
    world.create(every("a/other", 60));
    world.pass(3_500);
    world.create(at_most_once(world.once("a/once", 3)));
    world.pass(50);
    assert_eq!(world.started("a/once"), [(3, 1)]);
    assert_eq!(states(&world, "a/once"), [EntryState::Permitted]);
    world.pass(2_000);
    assert_eq!(world.history("a/once"), ["3 succeeded"]);
    assert_eq!(states(&world, "a/once"), []);
    world.create(at_most_once(every("a/task", 60)));
    world.trigger("a/task", 7);
    world.pass(50);
    assert_eq!(world.started("a/task"), [(7, 1)]);
}

#[test]
fn a_retry_is_permitted_before_it_starts() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 10)), 3, 1));
    world.conduct("a/task", 100, &[failed(), failed()]);
    world.pass(15_000);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2), (10, 3)]);
    assert_eq!(world.history("a/task"), ["10 succeeded"]);
}

#[test]
fn what_waits_for_a_run_of_its_task_is_permitted_before_it_has_its_turn() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(Spec { overlap: Overlap::Queue, ..every("a/task", 5) }));
    world.runs_long("a/task");
    world.pass(17_000);
    assert_eq!(world.started("a/task"), [(5, 1)], "10 and 15 wait");
    world.conduct("a/task", 10, &[]);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(5, 1), (10, 1), (15, 1)]);
    world.pass(3_000);
    world.each_ended_once(&world.task("a/task"), 1, 21);
}

#[test]
fn what_is_made_up_for_is_permitted_before_it_starts_and_lost_with_its_host() {
    let mut world = World::new(1, 10);
    let catch_up = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    let task = Spec { overlap: Overlap::Queue, catch_up, ..every("a/task", 10) };
    world.create(at_most_once(task));
    world.store.keep_disk();
    // Nobody is there for a minute; then its host goes in the middle of making up for it.
    world.stop(65_000);
    world.usual = Duration::from_secs(2);
    world.pass(72_000);
    let before = world.started("a/task");
    assert!((2..=5).contains(&before.len()), "{before:?}");
    world.shared.end_lease();
    world.power_cut();
    world.usual = Duration::from_millis(10);
    world.pass(20_000);
    let instants: BTreeSet<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    assert_eq!(instants.len(), world.started("a/task").len(), "none of them twice");
    assert!((1..=2).contains(&world.ended("a/task", RunState::Lost)), "what may have run");
    world.each_ended_once(&world.task("a/task"), 1, 85);
}

#[test]
fn nothing_starts_while_its_ledger_has_no_answer() {
    let mut world = World::new(1, 10);
    world.create(every("a/beats", 1));
    world.pass(3_100);
    world.fate(|request| match request {
        request if writes_ledger(request) => Fate::Held,
        _ => Fate::Served,
    });
    world.create(at_most_once(world.once("a/once", 4)));
    world.create(world.once("a/other", 4));
    world.pass(1_400);
    // What may start again goes on by the licence, for a while.
    assert_eq!(world.started("a/other"), [(4, 1)]);
    assert_eq!(world.started("a/once"), []);
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(50);
    assert_eq!(world.started("a/once"), [(4, 1)]);
}

#[test]
fn a_lost_answer_is_read_back_and_permits() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 5)));
    world.fate(|request| match request {
        request if writes_ledger(request) => Fate::AnswerLost,
        _ => Fate::Served,
    });
    world.pass(12_000);
    assert_eq!(world.started("a/task"), [(5, 1), (10, 1)]);
}

#[test]
fn what_an_earlier_holder_had_permission_for_is_lost() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 5)), 3, 1));
    world.create(at_most_once(world.once("a/once", 0)));
    let begun = run(&world, "a/task", 0);
    world.former_ledger(world.at_second(0), begun, EntryState::Permitted);
    let once = run(&world, "a/once", 0);
    let mut ledger = (*world.shared.ledger(RANGE)).clone();
    ledger.open.push(Entry { run: once, ..ledger.open[0].clone() });
    world.shared.put_ledger(RANGE, ledger);
    world.pass(7_000);
    assert_eq!(world.started("a/task"), [(5, 1)]);
    assert_eq!(world.history("a/task"), [format!("0 lost: {LOST}"), "5 succeeded".to_owned()]);
    // So is a one-shot, and its key goes.
    assert_eq!(world.started("a/once"), []);
    assert_eq!(world.history("a/once"), [format!("0 lost: {LOST}")]);
    assert!(!world.shared.of(RANGE).tasks.contains_key(&named("a/once")));
    assert_eq!(states(&world, "a/once"), []);
}

#[test]
fn one_that_was_to_be_tried_again_is_tried_again_by_the_next_holder() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 60)), 3, 2));
    let begun = run(&world, "a/task", 0);
    let at = world.at_second(2).wall();
    world.former_ledger(world.at_second(0), begun, EntryState::Waiting { at });
    world.pass(5_000);
    assert_eq!(world.started("a/task"), [(0, 2)]);
    assert_eq!(world.history("a/task"), ["0 succeeded"]);
}

#[test]
fn one_that_was_left_running_is_lost_if_its_session_goes_without_a_word() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 60)), 3, 1));
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    let begun = run(&world, "a/task", 0);
    world.former_ledger(world.at_second(0), begun.clone(), EntryState::Held { session });
    world.pass(100);
    let revision = world.shared.next();
    world.shared.fleet_news.push(SharedNews::Delivered { revision });
    world.pass(2_000);
    assert_eq!(world.started("a/task"), []);
    assert_eq!(world.history("a/task"), [format!("0 lost: {LOST}")]);
}

#[test]
fn one_that_was_left_running_and_failed_is_tried_again() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 60)), 3, 1));
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    let begun = run(&world, "a/task", 0);
    world.former_ledger(world.at_second(0), begun.clone(), EntryState::Held { session });
    let fence = world.shared.ledger(RANGE).fence;
    let key = SettleKey { run: begun, attempt: Attempt { fence, number: 1 } };
    world.shared.settle(RANGE, key, session, SettledEnd::Failed);
    world.pass(4_000);
    assert_eq!(world.started("a/task"), [(0, 2)]);
}

#[test]
fn an_instant_that_an_edit_takes_away_is_not_permitted_any_more() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 10)));
    world.pass(8_500);
    assert_eq!(states(&world, "a/task"), [EntryState::Permitted]);
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 12).schedules, ..spec });
    world.pass(1_200);
    assert_eq!(states(&world, "a/task"), []);
    world.pass(5_000);
    assert_eq!(world.started("a/task"), [(12, 1)]);
    assert_eq!(world.history("a/task"), ["12 succeeded"]);
}

#[test]
fn what_an_edit_brings_back_needs_its_permission_anew() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 10)));
    world.create(every("a/beats", 1));
    world.pass(8_900);
    assert_eq!(states(&world, "a/task"), [EntryState::Permitted]);
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 12).schedules, ..spec });
    // The ledger without it is on its way when it is wanted again.
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(900);
    assert_eq!(world.held.len(), 1);
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 10).schedules, ..spec });
    world.pass(400);
    assert_eq!(world.started("a/task"), []);
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(100);
    assert_eq!(world.started("a/task"), [(10, 1)]);
}

#[test]
fn what_is_paused_or_deleted_is_not_permitted_any_more() {
    let mut world = World::new(1, 10);
    for name in ["a/paused", "a/deleted"] {
        world.create(at_most_once(every(name, 10)));
    }
    world.create(at_most_once(world.once("a/once", 10)));
    world.pass(8_900);
    for name in ["a/paused", "a/deleted", "a/once"] {
        assert_eq!(states(&world, name), [EntryState::Permitted], "{name}");
    }
    world.pause("a/paused");
    world.pause("a/once");
    world.delete("a/deleted");
    world.pass(3_000);
    for name in ["a/paused", "a/deleted"] {
        assert_eq!(world.started(name), [], "{name}");
    }
    assert_eq!(world.history("a/paused"), ["10 skipped: paused"]);
    assert_eq!(world.started("a/once"), []);
    world.resume("a/once");
    world.pass(3_000);
    assert_eq!(world.started("a/once"), [(10, 1)]);
}

#[test]
fn nothing_is_handed_on_as_permitted() {
    let mut world = World::new(1, 1);
    // One place: the first runs, the others wait for it.
    for name in ["a/runs", "a/waits"] {
        world.create(at_most_once(world.once(name, 1)));
        world.runs_long(name);
    }
    world.create(at_most_once(every("a/ahead", 10)));
    world.pass(9_000);
    assert_eq!(states(&world, "a/ahead"), [EntryState::Permitted]);
    world.tell(0, Input::Leave { deadline: Duration::from_secs(30) });
    world.pass(1_000);
    let last = world.sent.iter().rev().find_map(|sent| sent.ledger()).expect("a final one");
    assert_eq!(world.finals(), 1);
    let state = |name: &str| {
        let of = last.open.iter().filter(|entry| entry.run.task == named(name));
        of.map(|entry| (entry.state, entry.attempt.number)).collect::<Vec<_>>()
    };
    let session = world.agent.session().expect("registered");
    assert_eq!(state("a/runs"), [(EntryState::Held { session }, 1)]);
    let at = world.at_second(1).wall();
    assert_eq!(state("a/waits"), [(EntryState::Waiting { at }, 0)]);
    assert_eq!(state("a/ahead"), []);
}

#[test]
fn a_final_ledger_that_failed_takes_permissions_back_until_a_later_one_is_answered() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 3)));
    world.create(every("a/other", 3));
    world.pass(1_500);
    world.fate(|request| match request {
        request if writes_final(request) => Fate::Refused { retryable: true },
        _ => Fate::Served,
    });
    world.tell(0, Input::Leave { deadline: Duration::from_secs(60) });
    world.pass(8_000);
    // It is looked at in every story that each of these had its permission.
    assert!(world.finals() > 1);
    assert_eq!(world.starts_of("a/task").len(), world.starts_of("a/other").len());
    assert_eq!(world.ended("a/task", RunState::Lost), 0);
}

#[test]
fn permissions_that_are_asked_for_together_share_their_ledgers() {
    let mut world = World::new(8, 1_000);
    for number in 0..200 {
        world.create(at_most_once(world.once(&format!("a/t{number}"), 5)));
    }
    world.usual = Duration::from_millis(100);
    world.pass(4_000);
    let since = world.requests.len();
    world.pass(1_050);
    let writes = world.requests[since..].iter();
    let writes = writes.filter(|(_, request)| matches!(request, ShareRequest::Write(_))).count();
    assert_eq!(world.starts.len(), 200);
    // Each range writes every second, and what was listed ahead asks for nothing.
    assert!(writes <= 12, "{writes} transactions");
    for number in 0..200 {
        world.trigger("a/t0", 1_000 + number);
        world.create(at_most_once(world.once(&format!("a/u{number}"), 5)));
    }
    let since = world.requests.len();
    world.pass(60);
    let writes = world.requests[since..].iter();
    let writes = writes.filter(|(_, request)| matches!(request, ShareRequest::Write(_))).count();
    assert!(world.starts.len() >= 400, "{}", world.starts.len());
    assert!(writes <= 12, "{writes} transactions");
}

#[test]
fn an_end_at_its_old_holder_is_not_started_again() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 10)), 3, 1));
    world.runs_long("a/task");
    world.pass(12_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    // etcd takes the lease away, and another holds the range before the agent has it again.
    world.lose_to_another();
    world.pass(6_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    assert_eq!(world.ended("a/task", RunState::Lost), 1);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(3_000);
    // What it came to is kept under the earlier fence.
    let fences: Vec<(RunState, Fence)> =
        world.store.history.iter().map(|row| (row.state, row.fence)).collect();
    assert_eq!(fences.len(), 2, "{fences:?}");
    assert!(fences[0].0 == RunState::Lost && fences[1].0 == RunState::Succeeded);
    assert!(fences[0].1 > fences[1].1);
}

#[test]
fn what_is_lost_is_not_skipped_by_a_pause_as_well() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 5)));
    let begun = run(&world, "a/task", 5);
    world.former_ledger(world.at_second(1), begun, EntryState::Permitted);
    world.pause("a/task");
    world.pass(12_000);
    let lost = format!("5 lost: {LOST}");
    assert_eq!(world.history("a/task"), [lost, "10 skipped: paused".to_owned()]);
}

#[test]
fn how_an_attempt_ended_says_nothing_of_the_one_after_it() {
    let mut world = World::new(1, 10);
    world.create(retried(at_most_once(every("a/task", 60)), 3, 1));
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    world.shared.join("b", session, 0);
    let begun = run(&world, "a/task", 0);
    world.former_ledger(world.at_second(0), begun.clone(), EntryState::Held { session });
    let mut ledger = (*world.shared.ledger(RANGE)).clone();
    ledger.open[0].attempt.number = 2;
    let second = ledger.open[0].attempt;
    world.shared.put_ledger(RANGE, ledger);
    let first = SettleKey { run: begun.clone(), attempt: Attempt { number: 1, ..second } };
    world.pass(2_000);
    world.shared.settle(RANGE, first, session, SettledEnd::Failed);
    world.pass(5_000);
    assert_eq!(states(&world, "a/task"), [EntryState::Held { session }]);
    let key = SettleKey { run: begun, attempt: second };
    world.shared.settle(RANGE, key, session, SettledEnd::Failed);
    world.pass(5_000);
    assert_eq!(world.started("a/task"), [(0, 3)]);
}
