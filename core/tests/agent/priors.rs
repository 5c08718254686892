//! Edits that come while nobody decides: the schedule that was replaced has its instants all the
//! same, up to the edit (`task::Prior`).

use std::time::Duration;

use tocktower_core::agent::Settled;
use tocktower_core::agent::effect::{LoadRequest, ShareRequest};
use tocktower_core::task::{Overlap, Spec};

use crate::words::{every, failed, retried};
use crate::world::{Fate, World};

/// A task of every ten seconds whose holder stands still, and comes back as a stranger.
fn left_alone() -> World {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 10) });
    world.pass(15_000);
    world.stop(20_000);
    world
}

#[test]
fn an_edit_in_an_outage_hides_no_instant_before_it() {
    let mut world = left_alone();
    world.pass(10_000);
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 7).schedules, ..spec });
    world.pass(12_500);
    assert_eq!(world.started("a/task"), [(10, 1), (20, 1), (27, 1), (34, 1)]);
}

#[test]
fn of_several_edits_in_an_outage_each_schedule_has_its_own_stretch() {
    let mut world = left_alone();
    // Up to 21 s every ten, up to 26 s every three, then every seven.
    for (at_ms, seconds) in [(6_000, 3), (5_000, 7)] {
        world.pass(at_ms);
        let schedules = every("a/task", seconds).schedules;
        world.edit("a/task", |spec| Spec { schedules, ..spec });
    }
    world.pass(17_500);
    let mut started = world.started("a/task");
    started.sort_unstable();
    assert_eq!(started, [(10, 1), (20, 1), (24, 1), (27, 1), (34, 1), (41, 1)]);
}

#[test]
fn a_resume_in_an_outage_starts_nothing_of_the_pause() {
    let mut world = left_alone();
    world.pass(2_000);
    world.pause("a/task");
    world.pass(16_000);
    world.resume("a/task");
    world.pass(9_000);
    assert_eq!(world.started("a/task"), [(10, 1), (40, 1)]);
    let skipped: Vec<String> = world.history("a/task");
    assert!(skipped.contains(&"20..33 skipped: paused".to_owned()), "{skipped:?}");
    world.each_ended_once(&world.task("a/task"), 34, 41);
}

#[test]
fn what_is_due_long_after_an_edit_starts_at_its_due() {
    for another_holding in [false, true] {
        let mut world = World::new(1, 100);
        let names: Vec<String> = (0..30).map(|number| format!("a/task{number}")).collect();
        for name in &names {
            world.create(Spec { jitter: Duration::from_secs(230), ..every(name, 240) });
        }
        world.pass(241_000);
        world.starts.clear();
        for name in &names {
            let schedules = every(name, 500).schedules;
            world.edit(name, |spec| Spec { schedules, jitter: Duration::ZERO, ..spec });
        }
        world.pass(3_000);
        if another_holding {
            world.shared.end_lease();
        }
        world.pass(236_000);
        let begin_us = world.at_second(0).wall().micros();
        let settled = world.at_second(246).wall();
        for name in &names {
            let starts = world.starts_of(name);
            let start = starts.first().expect("each was due");
            // What ran right before the session was lost may run again.
            let again = another_holding && start.due < settled;
            assert!(starts.len() == 1 || again, "{name}: {:?}", world.started(name));
            let late = begin_us + i64::try_from(start.at_us).expect("small") - start.due.micros();
            assert!((0..1_500_000).contains(&late), "{name}: {late} us late");
        }
    }
}

#[test]
fn what_was_decided_of_a_schedule_before_is_not_decided_again_when_the_range_is_listed() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(4_500);
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 2).schedules, ..spec });
    // No ledger covers the last instants yet.
    world.pass(20);
    world.list();
    world.pass(20);
    world.list();
    world.pass(4_000);
    assert_eq!(world.started("a/task"), [(1, 1), (2, 1), (3, 1), (4, 1), (6, 1), (8, 1)]);
}

/// A task of every second whose holder has a licence for two more seconds.
fn losing_its_licence() -> World {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/task", 1) });
    world.pass(3_500);
    world.fate(|request| match request {
        ShareRequest::Write(_) | ShareRequest::ReadBack { .. } => Fate::Lost,
        _ => Fate::Served,
    });
    world.pass(2_200);
    assert_eq!(world.started("a/task").len(), 5);
    world
}

#[test]
fn a_list_that_brings_two_edits_at_once_ends_each_schedule_where_the_next_begins() {
    let mut world = losing_its_licence();
    world.pass(2_800);
    world.deaf = true;
    for seconds in [100, 200] {
        let schedules = every("a/task", seconds).schedules;
        world.edit("a/task", |spec| Spec { schedules, ..spec });
        world.pass(2_000);
    }
    world.deaf = false;
    world.list();
    world.fate(|_| Fate::Served);
    world.pass(2_000);
    let mut started = world.started("a/task");
    started.sort_unstable();
    assert_eq!(started, (1..=8).map(|second| (second, 1)).collect::<Vec<_>>());
}

#[test]
fn what_no_ledger_covers_yet_is_known_however_often_the_range_is_listed() {
    let mut world = losing_its_licence();
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 2).schedules, ..spec });
    world.pass(600);
    // It is overdue, and so everything after it counts as undecided.
    world.create(world.once("a/old", 1));
    world.pass(100);
    world.hold_loads = |request| matches!(request, LoadRequest::Scan { .. });
    for _ in 0..2 {
        world.list();
        world.pass(100);
    }
    world.hold_loads = |_| false;
    world.release_loads();
    world.fate(|_| Fate::Served);
    world.pass(2_000);
    let expected = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (8, 1)];
    assert_eq!(world.started("a/task"), expected);
    assert_eq!(world.started("a/old"), [(1, 1)]);
}

#[test]
fn a_one_shot_that_was_moved_here_is_settled_in_an_idle_range() {
    for phase in 0..20 {
        let mut world = World::new(1, 10);
        world.pass(3_000 + phase * 50);
        // It has no request of its own, as one that an edit has made or moved.
        let once = world.once("a/task", 10);
        world.create(once);
        world.pass(13_000);
        assert_eq!(world.history("a/task"), ["10 succeeded"]);
        assert!(world.shared.keys.values().all(|range| range.tasks.is_empty()), "its key is gone");
        let row = world.store.history.last().expect("one");
        assert_eq!(world.agent.settled(row), Settled::Here);
    }
}

/// A recurring task that becomes a one-shot of second 100.
fn becomes_a_one_shot(world: &mut World, name: &str) {
    let once = world.once(name, 100);
    world.edit(name, |spec| Spec { schedules: once.schedules, catch_up: once.catch_up, ..spec });
}

#[test]
fn a_retry_of_the_time_before_is_not_kept_for_the_one_shot() {
    let mut world = World::new(1, 10);
    world.create(retried(every("a/task", 10), 3, 20));
    world.conduct("a/task", 10, &[failed()]);
    world.pass(12_000);
    becomes_a_one_shot(&mut world, "a/task");
    world.pass(2_000);
    world.pause("a/task");
    world.pass(30_000);
    assert_eq!(world.history("a/task"), ["10 cancelled: its task was paused"]);
}

#[test]
fn a_paused_one_shot_starts_nothing_of_the_time_before() {
    let names: Vec<String> = (0..20).map(|number| format!("a/task{number}")).collect();
    let mut world = World::new(1, 20);
    for name in &names {
        world.create(Spec { jitter: Duration::from_secs(9), ..every(name, 10) });
    }
    world.pass(10_100);
    for name in &names {
        becomes_a_one_shot(&mut world, name);
        world.pause(name);
    }
    world.pass(100);
    let ran = world.starts.len();
    world.pass(12_000);
    assert_eq!(world.starts.len(), ran);
    let rows = world.store.history.len();
    assert_eq!(rows, names.len(), "each instant has ended: {:?}", world.history("a/task0"));
}

#[test]
fn what_was_asked_of_a_one_shot_leaves_the_ledger_of_a_next_holder() {
    let mut world = World::new(1, 10);
    let one = retried(world.once("a/one", 5), 3, 30);
    world.create(Spec { overlap: Overlap::Allow, ..one });
    world.create(every("a/beats", 60));
    world.conduct("a/one", 10, &[failed()]);
    world.pass(2_000);
    world.trigger("a/one", 7);
    world.pass(6_000);
    assert_eq!(world.started("a/one"), [(7, 1), (5, 1)]);
    assert_eq!(world.listed("a/one").len(), 1, "its retry is to come");
    world.store.forget_session();
    world.shared.end_lease();
    world.restart();
    world.pass(10_000);
    assert_eq!(
        world.history("a/one"),
        ["5 succeeded", "trigger 7 cancelled: its task was deleted"]
    );
    assert_eq!(world.listed("a/one"), []);
}
