//! Clients that change a task, and what its open runs and later instants make of it; several
//! changes that the watch brings at once are taken in one after the other.

use std::time::Duration;

use tocktower_core::agent::Settled;
use tocktower_core::agent::effect::{BatchNumber, LoadRequest, Notice, ShareRequest};
use tocktower_core::agent::input::{Committed, Duplicate, Input};
use tocktower_core::ids::{Attempt, RangeId, RunId};
use tocktower_core::ledger::{Entry, EntryState, Marks};
use tocktower_core::run::AttemptEnd;
use tocktower_core::task::{Overlap, Spec};
use tocktower_core::time::Wall;

use crate::words::{at_most_once, every, every_after, failed, named, retried};
use crate::world::{Fate, World};

#[test]
fn an_edit_that_leaves_the_instants_alone_says_nothing_of_those_that_have_been() {
    // The task is not near: its last instant is covered and forgotten, its next is far ahead.
    let mut world = World::new(1, 10);
    world.create(every("a/task", 60));
    world.pass(145_000);
    assert_eq!(world.started("a/task"), [(60, 1), (120, 1)]);
    world.edit("a/task", |spec| Spec { description: "other words".to_owned(), ..spec });
    world.pass(5_000);
    world.pause("a/task");
    world.pass(5_000);
    assert_eq!(world.history("a/task"), ["60 succeeded", "120 succeeded"]);
    let begin = Wall::from_millis(world.at_second(0).millis());
    assert!(
        world.task("a/task").effective_from <= begin,
        "the instants are those of the beginning"
    );
}

#[test]
fn a_takeover_right_after_such_an_edit_says_nothing_of_them_either() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 60));
    world.pass(145_000);
    // The edit and the loss of the session come before any ledger says that the edit was seen.
    world.edit("a/task", |spec| Spec { description: "other words".to_owned(), ..spec });
    world.shared.end_lease();
    world.pass(5_000);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Claimed { .. })), 2);
    assert_eq!(world.history("a/task"), ["60 succeeded", "120 succeeded"]);
}

#[test]
fn an_edit_right_after_a_list_repeats_no_run() {
    let mut world = World::new(1, 10);
    world.create(every_after("a/task", 60, 500));
    world.pass(60_600);
    assert_eq!(world.started("a/task"), [(0, 1), (60, 1)]);
    world.list();
    world.pass(100);
    world.edit("a/task", |spec| Spec { description: "other words".to_owned(), ..spec });
    world.pass(62_000);
    assert_eq!(world.started("a/task"), [(0, 1), (60, 1), (120, 1)]);
    world.each_ended_once(&world.task("a/task"), 0, 121);
}

#[test]
fn an_edit_or_a_pause_between_an_instant_and_its_due_loses_neither() {
    let mut world = World::new(1, 10);
    let names: Vec<String> = (0..20).map(|number| format!("a/task{number}")).collect();
    for name in &names {
        let jitter = Duration::from_secs(60);
        world.create(Spec { jitter, ..every(name, 120) });
    }
    // Some are due already, some within the loaded stretch, some later.
    world.pass(140_000);
    for name in &names[..10] {
        world.edit(name, |spec| Spec { description: "other words".to_owned(), ..spec });
    }
    for name in &names[10..] {
        world.pause(name);
    }
    world.pass(50_000);
    for name in &names {
        world.each_ended_once(&world.task(name), 120, 121);
    }
    let started = names[..10].iter().filter(|name| world.started(name) == [(120, 1)]).count();
    assert_eq!(started, 10, "other words are no reason not to start");
    let paused = names[10..].iter().filter(|name| world.started(name).is_empty()).count();
    assert!((2..10).contains(&paused), "{paused} were not due yet");
}

#[test]
fn an_edit_of_the_schedule_that_comes_late_names_its_instants() {
    // It takes effect before the marks, by the clock of a coordinator that is behind: what it would
    // have had in between ends by name, and what the old schedule had is not named again.
    let mut world = World::new(1, 10);
    world.create(every("a/task", 2));
    world.pass(9_500);
    let current = world.task("a/task");
    let spec = Spec { schedules: every("a/task", 1).schedules, ..current.spec.clone() };
    let then = world.at_second(4).wall();
    let version =
        tocktower_core::task::replace(&current, spec, then, Marks::NONE).expect("it fits").unwrap();
    world.write(&current, version);
    world.pass(3_000);
    let late = ["5 skipped: edited_late", "7 skipped: edited_late"];
    let history = world.history("a/task");
    let named: Vec<&String> = history.iter().filter(|row| row.contains("skipped")).collect();
    assert_eq!(named, late);
    world.each_ended_once(&world.task("a/task"), 4, 12);
}

#[test]
fn a_late_edit_that_a_new_holder_finds_ends_no_instant_that_is_still_to_start() {
    // As above, but the session is lost with the edit. With jitter an instant may lie before the
    // marks, and its due behind them.
    let mut world = World::new(1, 10);
    let mut names: Vec<String> = (0..30).map(|number| format!("a/task{number}")).collect();
    for name in &names {
        world.create(Spec { jitter: Duration::from_secs(60), ..every(name, 240) });
    }
    world.pass(260_000);
    // Those that ran are known to the old schedule, of which the new holder knows nothing.
    names.retain(|name| world.started(name).is_empty());
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let current = world.task(name);
        let schedules = every(name, 120).schedules;
        let spec = Spec { schedules, ..current.spec.clone() };
        let then = world.at_second(200).wall();
        let version =
            tocktower_core::task::replace(&current, spec, then, Marks::NONE).expect("a good edit");
        world.write(&current, version.expect("an edit that changes something"));
    }
    world.shared.end_lease();
    world.pass(60_000);
    for name in &names {
        world.each_ended_once(&world.task(name), 240, 241);
    }
    assert!(names.iter().all(|name| world.started(name) == [(240, 1)]), "each had its run");
}

#[test]
fn a_trigger_whose_task_is_being_read_starts_under_the_edit_that_comes_meanwhile() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 3_600));
    world.pass(1_500);
    world.hold_loads = |request| matches!(request, LoadRequest::Task { .. });
    world.trigger("a/task", 4);
    world.pass(50);
    let timeout = Some(Duration::from_secs(7));
    world.edit("a/task", |spec| Spec { timeout, ..spec });
    world.pass(50);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(1_000);
    assert_eq!(world.started("a/task"), [(4, 1)]);
    assert_eq!(world.starts[0].timeout, timeout, "the version that has reached the agent");
}

#[test]
fn of_very_many_triggers_each_ends_by_its_own_name() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 3_600));
    world.runs_long("a/task");
    world.trigger("a/task", 1_000);
    world.pass(500);
    let many = tocktower_core::limits::BEHIND_MAX as u64 + 20;
    for ulid in 0..many {
        world.trigger("a/task", u128::from(ulid));
    }
    world.pass(3_000);
    let rows = world.history("a/task");
    let skipped = rows.iter().filter(|row| row.starts_with("trigger") && row.contains("skipped"));
    assert_eq!((skipped.count(), rows.len()), (21, 21), "{rows:?}");
}

/// A range whose only place is taken, until `a/hog` is ended.
fn full() -> World {
    let mut world = World::new(1, 1);
    world.create(every("a/hog", 3_600));
    world.runs_long("a/hog");
    world.trigger("a/hog", 1);
    world.pass(500);
    assert_eq!(world.running.len(), 1);
    world
}

#[test]
fn two_triggers_at_once_run_one_after_the_other_as_they_were_asked_for() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Allow] {
        let mut world = World::new(1, 10);
        world.create(Spec { overlap, ..every("a/task", 3_600) });
        world.conduct("a/task", 300, &[]);
        world.pass(1_000);
        world.trigger("a/task", 5);
        world.trigger("a/task", 6);
        world.pass(3_000);
        assert_eq!(world.started("a/task"), [(5, 1), (6, 1)], "{overlap:?}");
        let starts = world.starts_of("a/task");
        let payloads: Vec<_> = starts.iter().map(|start| start.payload.as_deref()).collect();
        assert_eq!(payloads, [Some("5"), Some("6")]);
        let apart = starts[1].at_us - starts[0].at_us;
        assert_eq!(apart >= 300_000, overlap != Overlap::Allow, "{overlap:?}: {apart} us");
        assert_eq!(world.history("a/task").len(), 2);
    }
}

#[test]
fn of_two_triggers_of_one_request_one_runs_also_if_its_key_is_gone_before_the_other_comes() {
    let same_end = |time: u128| time << 80 | 7;
    for (first, second) in [(1, 2), (2, 1)] {
        let mut world = World::new(1, 10);
        world.create(every("a/task", 3_600));
        world.pass(1_000);
        world.trigger("a/task", same_end(first));
        world.pass(500);
        assert!(world.shared.of(RangeId(0)).triggers.is_empty(), "it has run");
        world.trigger("a/task", same_end(second));
        world.pass(500);
        assert_eq!(world.starts_of("a/task").len(), 1);
        let rows = world.history("a/task");
        assert!(rows.iter().any(|row| row.contains("skipped: duplicate_of a/task")), "{rows:?}");
        // A minute later it is another request.
        world.pass(61_000);
        world.trigger("a/task", same_end(3));
        world.pass(500);
        assert_eq!(world.starts_of("a/task").len(), 2);
    }
}

#[test]
fn of_two_triggers_of_one_request_that_both_wait_one_runs_also_in_a_range_that_is_taken_again() {
    let mut world = full();
    world.create(every("a/task", 3_600));
    // The lesser one comes later, and ends as a duplicate.
    for time in [2, 1] {
        world.trigger("a/task", time << 80 | 7);
        world.pass(500);
    }
    world.shared.end_lease();
    world.pass(3_000);
    world.end("a/hog", AttemptEnd::Succeeded);
    world.pass(2_000);
    assert_eq!(world.starts_of("a/task").len(), 1, "{:?}", world.history("a/task"));
}

/// By a coordinator whose clock is behind: to it the one-shot is still to come.
fn pause_late(world: &mut World, name: &str) {
    let paused = Spec { paused: true, ..world.task(name).spec.clone() };
    let current = world.task(name);
    let version = tocktower_core::task::create(paused, world.at_second(1).wall(), None);
    world.write(&current, version.expect("it was to come then"));
}

#[test]
fn what_was_asked_of_a_one_shot_runs_when_that_is_paused_while_it_waits_for_a_retry() {
    let mut world = World::new(1, 10);
    world.create(retried(world.once("a/once", 2), 3, 100));
    world.conduct("a/once", 10, &[failed()]);
    world.pass(3_000);
    world.trigger("a/once", 9);
    world.pass(1_000);
    assert_eq!(world.started("a/once"), [(2, 1)]);
    pause_late(&mut world, "a/once");
    world.pass(1_000);
    assert_eq!(world.started("a/once"), [(2, 1), (9, 1)]);
}

#[test]
fn what_is_asked_of_a_one_shot_does_not_wait_for_its_resume() {
    for overlap in [Overlap::Skip, Overlap::Queue] {
        let mut world = full();
        world.create(Spec { overlap, ..world.once("a/once", 3) });
        world.pass(4_000);
        // It is due and has found no place.
        pause_late(&mut world, "a/once");
        world.pass(100);
        world.end("a/hog", AttemptEnd::Succeeded);
        world.pass(5_000);
        assert_eq!(world.started("a/once"), [], "{overlap:?}");
        world.trigger("a/once", 9);
        world.pass(1_000);
        let instants: Vec<i64> = world.started("a/once").iter().map(|(at, _)| *at).collect();
        assert_eq!(instants, [9], "{overlap:?}");
    }
}

#[test]
fn a_pause_that_is_taken_back_at_once_still_ends_what_had_not_started() {
    let mut world = full();
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.pass(4_000);
    world.pause("a/task");
    world.resume("a/task");
    world.pass(100);
    assert_eq!(world.history("a/task"), ["2 skipped: paused", "4 skipped: paused"]);
    world.end("a/hog", AttemptEnd::Succeeded);
    world.pass(3_600);
    assert_eq!(world.started("a/task"), [(6, 1), (8, 1)]);
    world.each_ended_once(&world.task("a/task"), 1, 8);
}

#[test]
fn of_a_pause_an_edit_and_a_resume_at_once_the_last_word_counts() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 2));
    world.pass(4_500);
    world.pause("a/task");
    world.resume("a/task");
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 3).schedules, ..spec });
    world.pass(5_000);
    assert_eq!(world.started("a/task"), [(2, 1), (4, 1), (6, 1), (9, 1)]);
    world.pause("a/task");
    world.resume("a/task");
    world.pause("a/task");
    world.pass(5_000);
    assert_eq!(world.started("a/task").len(), 4);
    assert_eq!(world.history("a/task")[4..], ["12 skipped: paused"]);
    world.resume("a/task");
    world.pass(4_000);
    world.each_ended_once(&world.task("a/task"), 5, 18);
}

#[test]
fn a_trigger_and_a_pause_at_once_run_the_trigger_alone() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 2));
    world.pass(1_500);
    world.trigger("a/task", 5);
    world.pause("a/task");
    world.pass(3_000);
    assert_eq!(world.started("a/task"), [(5, 1)]);
    let named = ["trigger 5 succeeded", "2..4 skipped: paused"];
    assert_eq!(world.history("a/task"), named);
}

#[test]
fn a_delete_and_a_create_at_once_are_two_lives() {
    let mut world = full();
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.pass(2_000);
    world.trigger("a/task", 5);
    let before = world.task("a/task");
    world.delete("a/task");
    world.delete_trigger("a/task", 5);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 3) });
    world.trigger("a/task", 6);
    world.pass(200);
    world.end("a/hog", AttemptEnd::Succeeded);
    world.pass(4_000);
    assert_eq!(world.history("a/task")[0], "2 cancelled: its task was deleted");
    assert_eq!(world.started("a/task"), [(6, 1), (3, 1), (6, 1)]);
    let lives: Vec<_> = world.starts_of("a/task").iter().map(|s| s.run.incarnation).collect();
    assert!(!lives.contains(&before.incarnation));
}

#[test]
fn what_was_asked_of_a_task_is_not_run_by_the_next_of_its_name() {
    for listed in [false, true] {
        let mut world = World::new(1, 10);
        world.create(retried(every("a/task", 3_600), 2, 5));
        world.pass(1_500);
        world.conduct("a/task", 1, &[failed()]);
        world.trigger("a/task", 4);
        world.pass(1_500);
        assert_eq!(world.started("a/task"), [(4, 1)], "it waits to be tried again");
        // Its key is still there: a coordinator deletes those that it has seen.
        world.deaf = listed;
        world.delete("a/task");
        world.create(every("a/task", 3_600));
        if listed {
            world.deaf = false;
            world.list();
        }
        world.pass(10_000);
        assert_eq!(world.started("a/task"), [(4, 1)], "listed: {listed}");
        assert_eq!(world.history("a/task"), ["trigger 4 cancelled: its task was deleted"]);
        assert_eq!(world.shared.of(RangeId(0)).triggers.len(), 0, "its key is gone");
    }
}

#[test]
fn of_those_that_wait_for_a_task_the_earlier_goes_first() {
    let mut world = World::new(1, 10);
    let overlap = Overlap::Queue;
    world.create(Spec { overlap, ..every("a/task", 10) });
    world.runs_long("a/task");
    world.pass(21_000);
    world.trigger("a/task", 1);
    world.pass(500);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(500);
    assert_eq!(world.started("a/task"), [(10, 1), (20, 1)]);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(500);
    assert_eq!(world.started("a/task"), [(10, 1), (20, 1), (1, 1)]);
}

#[test]
fn what_was_asked_of_a_one_shot_besides_runs_after_it() {
    let mut world = World::new(1, 10);
    let overlap = Overlap::Queue;
    world.create(Spec { overlap, ..world.once("a/once", 2) });
    world.runs_long("a/once");
    world.pass(2_500);
    world.trigger("a/once", 4);
    world.trigger("a/once", 5);
    for _ in 0..2 {
        world.pass(500);
        world.end("a/once", AttemptEnd::Succeeded);
    }
    world.pass(500);
    assert_eq!(world.started("a/once"), [(2, 1), (4, 1), (5, 1)]);
}

#[test]
fn a_new_holder_does_not_run_what_was_asked_of_the_task_before() {
    for delivery in [|spec| spec, at_most_once] {
        let mut world = World::new(1, 10);
        world.create(delivery(every("a/task", 3_600)));
        world.pass(1_500);
        world.runs_long("a/task");
        world.trigger("a/task", 4);
        world.pass(2_500);
        world.deaf = true;
        world.delete("a/task");
        world.create(every("a/task", 3_600));
        world.deaf = false;
        world.shared.end_lease();
        world.list();
        world.pass(10_000);
        assert_eq!(world.started("a/task"), [(4, 1)]);
        let rows = world.history("a/task");
        assert!(rows[0].contains("cancelled") || rows[0].contains("lost"), "{rows:?}");
        assert_eq!(world.shared.of(RangeId(0)).triggers.len(), 0, "its key is gone");
    }
}

#[test]
fn what_an_edit_took_away_before_it_was_known_does_not_start_once_it_is() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.conduct("a/task", 4_000, &[]);
    world.pass(3_500);
    world.deaf = true;
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 7).schedules, ..spec });
    world.pass(1_000);
    world.deaf = false;
    world.pass(8_000);
    // Every seven seconds counts from elsewhere.
    assert_eq!(world.started("a/task"), [(2, 1), (6, 1)]);
    let taken = "4 skipped: an edit has taken its instant away";
    assert_eq!(world.history("a/task"), [taken, "2 succeeded", "6 succeeded"]);
}

#[test]
fn of_what_is_made_up_for_an_edit_leaves_what_its_schedule_has_as_well() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.pass(5_000);
    world.conduct("a/task", 500, &[]);
    world.stop(20_000);
    while world.started("a/task").len() < 4 {
        world.pass(100);
    }
    // By a clock that is behind, so that it counts from before what waits.
    let clock = world.at_second(9).wall();
    world.edit_at("a/task", clock, |spec| Spec { schedules: every("a/task", 6).schedules, ..spec });
    world.pass(20_000);
    let mut started: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    started.sort_unstable();
    assert_eq!(started, [2, 4, 6, 8, 12, 18, 24, 30, 36, 42]);
    world.each_ended_once(&world.task("a/task"), 10, 43);
}

#[test]
fn a_trigger_of_a_one_shot_is_not_what_its_create_has_come_to() {
    let mut world = World::new(1, 10);
    world.create_as(world.once("a/once", 10), Some(7));
    world.trigger("a/once", 3);
    world.pass(12_000);
    let requests: Vec<_> = world.store.history.iter().map(|row| row.request).collect();
    assert_eq!(world.history("a/once"), ["trigger 3 succeeded", "10 succeeded"]);
    assert_eq!(requests, [None, Some(7)]);
}

/// A one-shot has run, its key could not be deleted, and its record has come again; and what the
/// store says to that.
fn comes_again() -> (World, Input) {
    let mut world = World::new(1, 10);
    world.create_as(world.once("a/once", 5), Some(7));
    world.fate(|request| match request {
        ShareRequest::Delete(_) => Fate::Lost,
        _ => Fate::Served,
    });
    world.pass(6_000);
    let id = world.store.history[0].id.clone();
    world.list();
    world.pass(50);
    let number = world.store.number(RangeId(0), "a/once");
    let revision = id.incarnation.revision;
    let duplicates = vec![Duplicate { range: RangeId(0), number, revision, earlier: id }];
    let batch = BatchNumber(0);
    (world, Input::Committed(Committed { batch, synced: false, duplicates }))
}

#[test]
fn a_create_whose_record_comes_again_after_its_run_is_no_duplicate_of_itself() {
    let (mut world, told) = comes_again();
    world.tell(0, told);
    world.fate(|_| Fate::Served);
    world.pass(3_000);
    assert_eq!(world.history("a/once"), ["5 succeeded"]);
    assert_eq!(world.started("a/once"), [(5, 1)]);
}

#[test]
fn one_that_came_again_and_went_before_it_was_read_is_settled() {
    let (mut world, told) = comes_again();
    world.tell(0, told);
    world.hold_loads = |request| matches!(request, LoadRequest::Task { .. });
    world.pass(1);
    assert_eq!(world.held_loads.len(), 1);
    world.delete("a/once");
    world.fate(|_| Fate::Served);
    world.pass(100);
    world.release_loads();
    world.pass(2_000);
    let row = world.store.history.last().expect("one");
    assert_eq!(world.agent.settled(row), Settled::Here);
}

#[test]
fn that_it_came_again_is_nothing_to_the_next_task_of_its_name() {
    let (mut world, told) = comes_again();
    world.delete("a/once");
    world.create_as(world.once("a/once", 9), Some(8));
    world.pass(1);
    world.tell(0, told);
    world.fate(|_| Fate::Served);
    world.pass(4_000);
    assert_eq!(world.history("a/once"), ["5 succeeded", "9 succeeded"]);
}

#[test]
fn what_was_left_waiting_and_an_edit_took_away_is_not_started_by_the_next_holder() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    let waits =
        RunId::scheduled(named("a/task"), world.task("a/task").incarnation, world.at_second(4));
    let at = world.at_second(4).wall();
    world.former_ledger(world.at_second(5), waits, EntryState::Waiting { at });
    let mut ledger = (*world.shared.ledger(RangeId(0))).clone();
    ledger.open[0].attempt = Attempt::NONE;
    world.shared.put_ledger(RangeId(0), ledger);
    let clock = world.at_second(3).wall();
    world.edit_at("a/task", clock, |spec| Spec { schedules: every("a/task", 7).schedules, ..spec });
    world.pass(8_000);
    assert_eq!(world.started("a/task"), [(6, 1)]);
    assert_eq!(world.history("a/task")[0], "4 skipped: an edit has taken its instant away");
}

#[test]
fn what_runs_too_long_and_what_could_not_start_in_time_are_named() {
    let mut world = World::new(1, 1);
    let deadline = Some(Duration::from_secs(3));
    world.create(every("a/long", 10));
    world.create(Spec { start_deadline: deadline, priority: -1, ..every("a/task", 10) });
    // There is one place, and it is taken for longer than the other may wait.
    world.conduct("a/long", 4_000, &[AttemptEnd::TimedOut { after: Duration::from_secs(4) }]);
    world.pass(18_000);
    assert_eq!(world.history("a/long"), ["10 timed_out: it ran longer than its timeout of 4s"]);
    assert_eq!(world.started("a/task"), []);
    let late = "10 missed: it could not start before its start deadline";
    assert_eq!(world.history("a/task"), [late]);
}

#[test]
fn a_series_that_is_listed_keeps_its_schedule_when_an_edit_and_a_takeover_come() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.pass(5_000);
    world.conduct("a/task", 1_500, &[]);
    world.stop(30_000);
    while world.started("a/task").len() < 3 {
        world.pass(100);
    }
    // The marks are past all that is due before the edit.
    world.pass_us(39_700_000 - world.now_us);
    world.edit("a/task", |spec| Spec {
        schedules: every_after("a/task", 2, 1_000).schedules,
        ..spec
    });
    world.pass(100);
    world.shared.end_lease();
    world.conduct("a/task", 10, &[]);
    world.pass(20_000);
    let mut of_it: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    of_it.retain(|at| *at <= 38);
    of_it.sort_unstable();
    of_it.dedup();
    assert_eq!(of_it, (1..=19).map(|number| number * 2).collect::<Vec<i64>>());
}

#[test]
fn a_one_shot_that_was_moved_before_its_holder_knew_runs_at_its_new_time() {
    for place_is_free in [false, true] {
        let mut world = World::new(1, 1);
        world.create(world.once("a/long", 2));
        world.conduct("a/long", if place_is_free { 100 } else { 4_000 }, &[]);
        world.create(world.once("a/once", 4));
        world.pass(3_500);
        world.deaf = true;
        let later = world.once("a/once", 9).schedules;
        world.edit("a/once", |spec| Spec { schedules: later, ..spec });
        world.pass(1_500);
        world.deaf = false;
        world.pass(8_000);
        // What it did by the time that it knew of stays done.
        let before = if place_is_free { vec![(4, 1)] } else { vec![] };
        assert_eq!(world.started("a/once"), [before, vec![(9, 1)]].concat());
        let first = match place_is_free {
            true => "4 succeeded",
            false => "4 skipped: an edit has taken its instant away",
        };
        assert_eq!(world.history("a/once"), [first, "9 succeeded"]);
        assert!(!world.shared.of(RangeId(0)).tasks.contains_key(&named("a/once")), "it is done");
        assert_eq!(world.listed("a/once"), []);
    }
}

#[test]
fn a_takeover_holds_each_run_against_the_version_that_counts_for_it() {
    // Every two seconds, from the third on every three, and from the fifth on once, at the ninth.
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    let incarnation = world.task("a/task").incarnation;
    let run = |world: &World, second| {
        RunId::scheduled(named("a/task"), incarnation, world.at_second(second))
    };
    let second = every_after("a/task", 3, 2_000).schedules;
    let third = world.once("a/task", 9).schedules;
    let clocks = [world.at_second(3).wall(), world.at_second(5).wall()];
    world.edit_at("a/task", clocks[0], |spec| Spec { schedules: second, ..spec });
    world.edit_at("a/task", clocks[1], |spec| Spec { schedules: third, ..spec });
    let known = world.task("a/task").prior.iter().any(|prior| prior.until == clocks[1]);
    assert!(known, "the second schedule has an instant");
    world.former_ledger(world.at_second(8), run(&world, 2), EntryState::Waiting { at: clocks[0] });
    let mut ledger = (*world.shared.ledger(RangeId(0))).clone();
    ledger.open[0].attempt = Attempt::NONE;
    for second in [4, 5, 6] {
        let (run, due) = (run(&world, second), world.at_second(second));
        ledger.open.push(Entry { run, due, ..ledger.open[0].clone() });
    }
    world.shared.put_ledger(RangeId(0), ledger);
    world.pass(12_000);
    let mut started: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
    started.sort_unstable();
    // The fifth is one of every three, the fourth of every two alone.
    assert_eq!(started, [2, 5, 9], "{:?}", world.history("a/task"));
}

#[test]
fn what_an_edit_leaves_no_room_for_is_made_up_for_as_before() {
    let mut world = World::new(1, 1);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 1) });
    world.pass(3_500);
    world.conduct("a/task", 2, &[]);
    world.stop(4_000_000);
    while world.started("a/task").len() < 5 {
        world.pass(100);
    }
    // More instants are shared than a ledger has room for.
    let clock = world.at_second(20).wall();
    world.edit_at("a/task", clock, |spec| Spec {
        schedules: [every("a/task", 1).schedules, every_after("a/task", 60, 500).schedules]
            .concat(),
        ..spec
    });
    world.pass(100);
    let taken = world.history("a/task").into_iter().filter(|row| row.contains("taken"));
    assert_eq!(taken.count(), 0);
}
