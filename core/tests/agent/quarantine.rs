//! A task whose record becomes unreadable while runs of it are open: it is as if it were not there,
//! until it can be read again; nothing that ran is repeated, and nothing vanishes without a name.

use tocktower_core::agent::effect::{LoadRequest, Notice, SettleKey, SettledEnd};
use tocktower_core::ids::{Attempt, LedgerNumber, RangeId, RunId, Session};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::task::{Overlap, Spec};

use crate::shared::EPOCH;
use crate::words::{at_most_once, every, every_after, failed, named, retried};
use crate::world::World;

const RANGE: RangeId = RangeId(0);
const UNREADABLE: &str = "its task's record cannot be read";

/// One range, held, with a task beside that runs every second.
fn holder() -> World {
    let mut world = World::new(1, 10);
    world.create(every("a/other", 1));
    world.pass(500);
    world
}

/// The other task has run in every second all the while.
#[track_caller]
fn the_other_went_on(world: &World, seconds: u64) {
    let all: Vec<(i64, u32)> =
        (1..=i64::try_from(seconds).expect("small")).map(|at| (at, 1)).collect();
    assert_eq!(world.started("a/other"), all);
    world.each_ended_once(&world.task("a/other"), 1, seconds);
}

#[test]
fn what_runs_ends_and_is_recorded_and_later_instants_are_run_when_it_can_be_read_again() {
    let mut world = holder();
    world.create(every("a/task", 5));
    world.runs_long("a/task");
    world.pass(5_000);
    let task = world.task("a/task");
    world.garble("a/task");
    world.pass(1_000);
    assert_eq!(world.running.len(), 1, "what runs is left alone");
    world.end("a/task", AttemptEnd::Succeeded);
    world.conduct("a/task", 1, &[]);
    world.pass(5_500);
    assert_eq!(world.started("a/task"), [(5, 1)]);
    world.mend("a/task");
    world.pass(8_500);
    assert_eq!(world.started("a/task"), [(5, 1), (15, 1), (20, 1)]);
    the_other_went_on(&world, 20);
    let told = |notice: &Notice| matches!(notice, Notice::Quarantined { .. });
    assert_eq!(world.told(told), 1);
    // The instant that came meanwhile ends by name.
    world.each_ended_once(&task, 5, 20);
    assert_eq!(world.history("a/task")[1], format!("10 skipped: {UNREADABLE}"));
}

#[test]
fn a_run_that_has_just_ended_is_not_run_again_when_the_record_is_put_right() {
    for after_ms in [100, 700, 1_500, 12_000] {
        let mut world = holder();
        world.create(every("a/task", 5));
        world.pass(4_600);
        assert_eq!(world.started("a/task"), [(5, 1)]);
        world.garble("a/task");
        world.pass(after_ms);
        world.mend("a/task");
        world.pass(21_000 - after_ms);
        let runs = world.started("a/task").iter().filter(|run| **run == (5, 1)).count();
        assert_eq!(runs, 1, "after {after_ms} ms");
        let task = world.task("a/task");
        world.each_ended_once(&task, 5, 25);
    }
}

#[test]
fn what_waits_for_a_retry_ends_by_name_and_is_not_tried_again() {
    let mut world = holder();
    world.create(retried(every("a/task", 10), 5, 3));
    world.conduct("a/task", 1, &[failed()]);
    world.pass(10_000);
    world.garble("a/task");
    world.pass(6_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    assert_eq!(world.history("a/task"), [format!("10 cancelled: {UNREADABLE}")]);
    world.mend("a/task");
    world.pass(7_000);
    assert_eq!(world.started("a/task"), [(10, 1), (20, 1)]);
    the_other_went_on(&world, 23);
}

#[test]
fn what_runs_then_fails_is_not_tried_again_under_a_record_that_cannot_be_read() {
    let mut world = holder();
    world.create(retried(every("a/task", 10), 5, 1));
    world.runs_long("a/task");
    world.pass(10_000);
    world.garble("a/task");
    world.pass(500);
    world.end("a/task", failed());
    world.pass(4_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    assert_eq!(world.history("a/task"), ["10 failed: exit code 1"]);
}

#[test]
fn what_waits_for_a_place_or_behind_another_ends_by_name() {
    let mut world = World::new(1, 1);
    world.create(every("a/hog", 3_600));
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.runs_long("a/hog");
    world.trigger("a/hog", 1);
    world.pass(7_000);
    assert_eq!(world.running.len(), 1, "the only place is taken");
    world.garble("a/task");
    world.pass(1_000);
    let ended: Vec<String> = [2, 4, 6].map(|at| format!("{at} skipped: {UNREADABLE}")).into();
    assert_eq!(world.history("a/task"), ended);
    world.end("a/hog", AttemptEnd::Succeeded);
    world.pass(1_000);
    assert_eq!(world.started("a/task"), []);
    world.mend("a/task");
    world.pass(4_000);
    let started: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    assert_eq!(started, [8, 10, 12]);
    world.each_ended_once(&world.task("a/task"), 1, 12);
}

#[test]
fn a_series_that_is_made_up_for_ends_by_name_to_its_last_instant() {
    let mut world = World::new(1, 1);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 10) });
    // Nobody was there for a minute.
    world.stop(62_000);
    world.runs_long("a/task");
    world.pass(64_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    world.garble("a/task");
    world.pass(1_000);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(3_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    world.mend("a/task");
    world.conduct("a/task", 1, &[]);
    world.pass(10_000);
    world.each_ended_once(&world.task("a/task"), 10, 70);
}

#[test]
fn a_one_shot_and_a_trigger_wait_and_run_when_it_can_be_read_again() {
    let mut world = World::new(1, 1);
    world.create(every("a/hog", 3_600));
    world.create(world.once("a/once", 3));
    world.create(world.once("a/later", 60));
    world.runs_long("a/hog");
    world.trigger("a/hog", 1);
    world.pass(4_000);
    world.trigger("a/later", 7);
    world.pass(500);
    world.garble("a/once");
    world.garble("a/later");
    world.pass(500);
    world.end("a/hog", AttemptEnd::Succeeded);
    world.pass(4_000);
    assert_eq!(world.starts.len(), 1, "nothing of them starts");
    world.mend("a/once");
    world.mend("a/later");
    world.pass(2_000);
    assert_eq!(world.started("a/once"), [(3, 1)]);
    assert_eq!(world.started("a/later"), [(7, 1)]);
    let keys = world.shared.of(RANGE);
    assert!(!keys.tasks.contains_key(&named("a/once")), "settled by deleting its key");
}

#[test]
fn a_one_shot_that_waited_for_a_retry_goes_on_where_it_was() {
    let mut world = holder();
    world.create(retried(world.once("a/once", 3), 3, 2));
    world.conduct("a/once", 1, &[failed()]);
    world.pass(3_500);
    world.garble("a/once");
    world.pass(6_000);
    assert_eq!(world.started("a/once"), [(3, 1)]);
    world.mend("a/once");
    world.pass(3_000);
    assert_eq!(world.started("a/once"), [(3, 1), (3, 2)]);
    assert_eq!(world.history("a/once"), ["3 succeeded"]);
}

#[test]
fn a_list_in_between_forgets_nothing_of_it() {
    for list_ms in [100, 6_000] {
        let mut world = holder();
        world.create(every("a/task", 5));
        world.create(world.once("a/once", 300));
        world.pass(4_600);
        world.trigger("a/once", 9);
        world.garble("a/task");
        world.garble("a/once");
        world.pass(list_ms);
        world.list();
        world.pass(6_900 - list_ms);
        world.mend("a/task");
        world.mend("a/once");
        world.pass(13_500);
        let seconds: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
        assert_eq!(seconds, [5, 15, 20, 25]);
        world.each_ended_once(&world.task("a/task"), 5, 25);
        assert_eq!(world.started("a/once"), [(9, 1)]);
        assert_eq!(world.history("a/task")[1], format!("10 skipped: {UNREADABLE}"));
    }
}

#[test]
fn a_list_that_shows_it_readable_again_names_what_came_meanwhile() {
    let mut world = holder();
    world.create(every("a/task", 5));
    world.pass(5_600);
    world.garble("a/task");
    world.pass(5_000);
    world.deaf = true;
    world.mend("a/task");
    world.pass(500);
    world.deaf = false;
    world.list();
    world.pass(9_000);
    let seconds: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    assert_eq!(seconds, [5, 15, 20]);
    world.each_ended_once(&world.task("a/task"), 5, 20);
}

#[test]
fn when_it_is_deleted_its_runs_end() {
    let mut world = World::new(1, 1);
    world.create(every("a/hog", 3_600));
    world.create(world.once("a/once", 3));
    world.create(every("a/task", 2));
    world.runs_long("a/task");
    world.pass(3_500);
    world.trigger("a/once", 5);
    world.pass(500);
    world.garble("a/task");
    world.garble("a/once");
    world.pass(500);
    assert_eq!(world.history("a/once"), [] as [String; 0]);
    world.delete("a/task");
    world.delete("a/once");
    world.pass(500);
    let deleted = "cancelled: its task was deleted";
    let both = [format!("3 {deleted}"), format!("trigger 5 {deleted}")];
    assert_eq!(world.history("a/once"), both);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(4_000);
    assert_eq!(world.ended("a/task", RunState::Succeeded), 1);
    assert_eq!((world.started("a/once"), world.started("a/task")), (vec![], vec![(2, 1)]));
    assert_eq!(world.listed("a/once"), []);
}

#[test]
fn a_read_of_the_store_that_was_under_way_starts_nothing() {
    // When the index is read for the second time.
    let mut world = World::new(1, 10);
    world.pass(1_000);
    world.hold_loads = |request| matches!(request, LoadRequest::Due { range: RangeId(0), .. });
    while world.held_loads.is_empty() {
        world.pass(1);
    }
    let reads_ms = world.now_us / 1_000;
    // It is read while the record is garbled, and shows it as it was; nothing else of the range has
    // changed since the task was put.
    let mut world = World::new(1, 10);
    world.pass(reads_ms - 4);
    world.hold_loads = |request| matches!(request, LoadRequest::Due { range: RangeId(0), .. });
    world.create(every_after("a/task", 30, 25_000));
    world.pass(3);
    assert_eq!(world.task("a/task").revision, world.shared.revision, "nothing came after it");
    world.garble("a/task");
    world.pass(2);
    let read = format!("{:?}", world.held_loads);
    assert!(read.contains("a/task"), "it was read as it was");
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(50_000);
    assert_eq!(world.started("a/task"), []);
}

#[test]
fn the_task_of_a_trigger_that_is_being_read_starts_nothing_either() {
    let mut world = holder();
    world.create(every("a/task", 3_600));
    world.pass(100);
    world.hold_loads = |request| matches!(request, LoadRequest::Task { .. });
    world.trigger("a/task", 4);
    world.pass(50);
    world.garble("a/task");
    world.pass(50);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(3_000);
    assert_eq!(world.started("a/task"), []);
    world.mend("a/task");
    world.pass(1_000);
    assert_eq!(world.started("a/task"), [(4, 1)]);
}

/// Another agent had the range, and left this in its ledger.
fn left_by_another(world: &mut World, name: &str, second: u64, state: EntryState, number: u32) {
    let task = world.task(name);
    let at = world.at_second(second);
    let fence = tocktower_core::ids::Fence { revision: task.revision, ..Default::default() };
    let run = RunId::scheduled(named(name), task.incarnation, at);
    let entry = Entry { run, due: at, attempt: Attempt { fence, number }, state };
    let marks = Marks { through: world.now().wall.instant(), incarnation: task.incarnation };
    let number = LedgerNumber { process: 3, count: 1 };
    world.shared.next();
    world.shared.put_ledger(RANGE, Ledger { fence, number, marks, open: vec![entry] });
}

fn retry_at(world: &World, second: u64) -> EntryState {
    EntryState::Waiting { at: world.at_second(second).wall() }
}

#[test]
fn what_a_new_holder_finds_of_it_waits_until_it_can_be_read_and_then_goes_on() {
    for one_shot in [false, true] {
        let mut world = World::new(1, 10);
        let spec = if one_shot { world.once("a/task", 1) } else { every("a/task", 60) };
        world.create(Spec { overlap: Overlap::Queue, ..retried(spec, 5, 1) });
        let second = if one_shot { 1 } else { 0 };
        let retry = retry_at(&world, 4);
        left_by_another(&mut world, "a/task", second, retry, 1);
        world.garble("a/task");
        world.pass(6_000);
        assert_eq!(world.started("a/task"), []);
        assert_eq!(world.listed("a/task").len(), 1, "passed on as it is");
        world.mend("a/task");
        world.pass(2_000);
        assert_eq!(world.started("a/task"), [(i64::try_from(second).expect("it fits"), 2)]);
        world.pass(4_000);
        assert_eq!(world.listed("a/task"), []);
        let there = world.shared.of(RANGE).tasks.contains_key(&named("a/task"));
        assert_eq!(there, !one_shot, "a one-shot that has run is settled");
    }
}

#[test]
fn a_one_shot_that_ended_before_is_settled_when_it_can_be_read_again() {
    let mut world = World::new(1, 10);
    world.create(world.once("a/once", 1));
    left_by_another(&mut world, "a/once", 1, EntryState::Ended, 1);
    world.garble("a/once");
    world.pass(3_000);
    world.mend("a/once");
    world.pass(3_000);
    assert!(!world.shared.of(RANGE).tasks.contains_key(&named("a/once")));
    assert_eq!((world.started("a/once"), world.listed("a/once")), (vec![], vec![]));
}

#[test]
fn one_that_becomes_unreadable_while_it_is_taken_over_waits_too() {
    let mut world = World::new(1, 10);
    world.create(world.once("a/once", 1));
    let wait = retry_at(&world, 1);
    left_by_another(&mut world, "a/once", 1, wait, 0);
    world.hold_loads = |request| matches!(request, LoadRequest::Scan { .. });
    world.pass(500);
    world.garble("a/once");
    world.pass(500);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(3_000);
    assert_eq!((world.started("a/once"), world.history("a/once")), (vec![], vec![]));
    world.mend("a/once");
    world.pass(3_000);
    assert_eq!(world.started("a/once"), [(1, 1)]);
    assert!(!world.shared.of(RANGE).tasks.contains_key(&named("a/once")));
}

#[test]
fn what_was_left_running_elsewhere_ends_with_what_is_said_of_it_and_is_not_tried_again() {
    for end in [SettledEnd::Failed, SettledEnd::Succeeded, SettledEnd::Gone] {
        let mut world = World::new(1, 10);
        world.create(retried(every("a/task", 60), 5, 1));
        let session = Session { epoch: EPOCH, revision: world.shared.next() };
        world.shared.join("b", session, 0);
        left_by_another(&mut world, "a/task", 0, EntryState::Held { session }, 1);
        world.pass(2_000);
        let entry = world.listed("a/task").remove(0);
        assert_eq!(entry.state, EntryState::Held { session });
        world.garble("a/task");
        world.pass(500);
        let key = SettleKey { run: entry.run, attempt: entry.attempt };
        world.shared.settle(RANGE, key, session, end);
        world.pass(8_000);
        assert_eq!(world.started("a/task"), [], "{end:?}");
        assert_eq!(world.listed("a/task"), [], "{end:?}");
        // The end of one that was run is with the one who ran it.
        let known = if end == SettledEnd::Gone {
            vec![format!("0 lost: its host went away, and {UNREADABLE}")]
        } else {
            vec![]
        };
        assert_eq!(world.history("a/task"), known, "{end:?}");
    }
}

#[test]
fn one_that_came_back_while_it_runs_and_cannot_be_read_is_not_taken_for_deleted() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(world.once("a/once", 1)));
    world.runs_long("a/once");
    world.pass(2_500);
    let mine = world.agent.session().expect("registered");
    let before = (*world.shared.ledger(RANGE)).clone();
    let entry = world.listed("a/once").remove(0);
    // Another has it for a moment, with the run left here.
    let other = Session { epoch: EPOCH, revision: world.shared.next() };
    let fence = world.shared.take_over(RANGE, "b", other);
    let open = vec![Entry { state: EntryState::Held { session: mine }, ..entry }];
    let number = LedgerNumber { process: 3, count: 1 };
    world.shared.put_ledger(RANGE, Ledger { fence, number, open, ..before });
    world.garble("a/once");
    world.pass(500);
    world.shared.unclaim(RANGE);
    world.pass(3_000);
    world.end("a/once", AttemptEnd::Succeeded);
    world.pass(8_000);
    assert_eq!(world.listed("a/once").len(), 1, "whether its key is there is not known");
    world.mend("a/once");
    world.pass(3_000);
    assert_eq!(world.started("a/once"), [(1, 1)]);
    assert_eq!(world.history("a/once"), ["1 succeeded"]);
    assert_eq!(world.listed("a/once"), []);
    assert!(!world.shared.of(RANGE).tasks.contains_key(&named("a/once")));
}
