//! The shared state was put back from a backup, and the epoch was raised: what was done since the
//! backup stands nowhere, so what may start only once is lost up to then, and all else may repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_core::agent::effect::LoadRequest;
use tocktower_core::ids::RangeId;
use tocktower_core::ledger::EntryState;
use tocktower_core::run::RunState;
use tocktower_core::task::{Overlap, Spec};

use crate::words::{at_most_once, broadcast, failed, pinned, retried};
use crate::world::World;

const LOST: &str = "the shared state was put back from a backup since: it may have run, and nobody \
                    starts it again";

/// A task whose runs do not wait for one another.
fn every(name: &str, seconds: u64) -> Spec {
    Spec { overlap: Overlap::Allow, ..crate::words::every(name, seconds) }
}

/// Seconds of the instants that started, each start one.
fn seconds(world: &World, name: &str) -> Vec<i64> {
    world.started(name).iter().map(|(second, _)| *second).collect()
}

#[test]
fn what_may_start_once_is_lost_up_to_the_new_epoch_and_goes_on_then() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/once", 1)));
    world.create(every("a/often", 1));
    world.pass(10_500);
    let backup = world.shared.back_up();
    world.pass(9_900);
    world.put_back(backup);
    world.pass(5_100);
    assert_eq!(seconds(&world, "a/once"), (1..=25).collect::<Vec<_>>(), "none starts twice");
    let lost: Vec<String> = world.history("a/once");
    let lost: Vec<&String> = lost.iter().filter(|row| row.contains(" lost")).collect();
    let told = lost.iter().map(|row| row.as_str()).collect::<Vec<_>>().join(", ");
    assert!(told.ends_with(&format!("20 lost: {LOST}")), "up to the raise: {told}");
    world.each_ended(&world.task("a/once"), 1, 24);
    let often = seconds(&world, "a/often");
    let twice: Vec<i64> =
        (11..=20).filter(|s| often.iter().filter(|o| *o == s).count() == 2).collect();
    assert_eq!(twice, (11..=20).collect::<Vec<_>>(), "what may repeat does: {often:?}");
    world.each_ended(&world.task("a/often"), 1, 24);
}

#[test]
fn what_a_clock_that_was_a_little_ahead_has_started_before_the_raise_is_not_started_again() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/once", 1)));
    world.pass(10_500);
    let backup = world.shared.back_up();
    world.ahead_ms = 450;
    world.pass(10_100);
    assert_eq!(seconds(&world, "a/once").last(), Some(&21), "it is 20.6 s by a right clock");
    world.ahead_ms = 0;
    world.put_back(backup);
    world.pass(3_000);
    assert_eq!(seconds(&world, "a/once"), (1..=23).collect::<Vec<_>>(), "none starts twice");
    assert!(world.ended("a/once", RunState::Lost) > 0, "{:?}", world.history("a/once"));
}

#[test]
fn what_has_a_key_of_its_own_may_have_run_since_the_backup() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(world.once("a/once", 15)));
    world.create(at_most_once(world.once("a/later", 25)));
    world.create(world.once("a/often", 15));
    world.create(at_most_once(every("a/asked", 3_600)));
    world.pass(5_000);
    world.trigger("a/asked", 7);
    let backup = world.shared.back_up();
    world.pass(15_000);
    assert_eq!((seconds(&world, "a/once"), seconds(&world, "a/asked")), (vec![15], vec![7]));
    world.put_back(backup);
    world.pass(10_000);
    assert_eq!(seconds(&world, "a/once"), [15], "{:?}", world.history("a/once"));
    assert_eq!(world.history("a/once"), ["15 succeeded", &format!("15 lost: {LOST}")]);
    assert_eq!(world.history("a/asked")[1..], [format!("trigger 7 lost: {LOST}")]);
    assert_eq!(seconds(&world, "a/later"), [25], "it was not due before");
    assert_eq!(seconds(&world, "a/often"), [15, 15]);
    world.pass(5_000);
    assert_eq!(world.shared.keys[&RangeId(0)].tasks.len(), 1, "one-shots are settled");
    assert!(world.shared.keys[&RangeId(0)].triggers.is_empty());
}

#[test]
fn what_a_first_holder_of_the_epoch_passes_on_unlooked_at_is_lost_with_the_next() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(retried(every("a/tried", 60), 3, 10)));
    world.conduct("a/tried", 1, &[failed()]);
    world.pass(64_000);
    let backup = world.shared.back_up();
    world.pass(10_000);
    assert_eq!(world.started("a/tried"), [(60, 1), (60, 2)]);
    // Its first ledger is written before it has read which tasks there are.
    world.hold_loads = |request| matches!(request, LoadRequest::Scan { .. });
    world.put_back(backup);
    world.pass(1_500);
    let passed_on = world.listed("a/tried")[0].state;
    assert!(matches!(passed_on, EntryState::Waiting { .. }), "{passed_on:?}");
    world.hold_loads = |_| false;
    world.lose_to_another();
    world.pass(20_000);
    assert_eq!(world.started("a/tried"), [(60, 1), (60, 2)]);
    assert_eq!(world.ended("a/tried", RunState::Lost), 1, "{:?}", world.history("a/tried"));
}

#[test]
fn what_an_old_ledger_lists_to_be_tried_or_made_up_for_is_lost_too() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(retried(every("a/tried", 60), 3, 10)));
    world.create(retried(every("a/often", 60), 3, 10));
    for name in ["a/tried", "a/often"] {
        world.conduct(name, 1, &[failed()]);
    }
    world.pass(64_000);
    assert_eq!(world.listed("a/tried").len(), 1, "it waits to be tried again");
    let backup = world.shared.back_up();
    world.pass(10_000);
    assert_eq!(world.started("a/tried"), [(60, 1), (60, 2)]);
    world.put_back(backup);
    world.pass(20_000);
    assert_eq!(world.started("a/tried"), [(60, 1), (60, 2)]);
    assert_eq!(world.ended("a/tried", RunState::Lost), 1, "{:?}", world.history("a/tried"));
    assert_eq!(world.started("a/often"), [(60, 1), (60, 2), (60, 2)]);
    world.pass(40_000);
    assert_eq!(world.started("a/tried").last(), Some(&(120, 1)), "the next one comes");
}

#[test]
fn a_task_of_the_new_epoch_has_nothing_to_hide() {
    let mut world = World::new(1, 10);
    world.pass(5_000);
    let backup = world.shared.back_up();
    world.pass(5_000);
    world.put_back(backup);
    world.pass(100);
    // Due just before the raise, as by a client whose clock is behind.
    world.create(at_most_once(world.once("a/once", 9)));
    world.pass(5_000);
    assert_eq!(seconds(&world, "a/once"), [9], "{:?}", world.history("a/once"));
}

#[test]
fn what_is_pinned_goes_on_from_its_store_which_was_not_put_back() {
    let mut world = World::new(1, 10);
    world.create(pinned(at_most_once(every("a/once", 1))));
    world.create(pinned(every("a/often", 1)));
    world.create(pinned(at_most_once(world.once("a/shot", 15))));
    world.create(pinned(at_most_once(retried(every("a/tried", 20), 2, 10))));
    world.conduct("a/tried", 1, &[failed()]);
    world.pass(10_500);
    let backup = world.shared.back_up();
    world.create(pinned(every("a/gone", 1)));
    world.pass(10_000);
    assert_eq!(seconds(&world, "a/gone").len(), 10);
    world.stop(5_000);
    world.pass(4_900);
    world.put_back(backup);
    world.pass(15_000);
    for name in ["a/once", "a/often"] {
        let mut ran = seconds(&world, name);
        ran.sort_unstable();
        assert_eq!(ran, (1..=ran.len() as i64).collect::<Vec<_>>(), "{name}: each once");
        assert!(ran.len() >= 30, "{name}: what came due meanwhile was made up for");
        world.each_ended_once(&world.task(name), 1, 24);
    }
    assert_eq!(world.started("a/tried"), [(20, 1), (20, 2), (40, 1)]);
    assert_eq!(seconds(&world, "a/gone").len(), 10, "it is not in the backup");
    assert_eq!(world.history("a/shot"), ["15 succeeded"], "its key was there again");
    assert_eq!(world.shared.keys[&RangeId::PINS].tasks.len(), 3);
}

#[test]
fn what_an_earlier_process_did_of_what_is_pinned_is_known() {
    let mut world = World::new(1, 10);
    world.create(pinned(at_most_once(world.once("a/once", 15))));
    world.create(pinned(world.once("a/often", 15)));
    world.create(pinned(every("a/asked", 86_400)));
    world.pass(10_500);
    world.deaf = true;
    world.trigger("a/asked", 7);
    let backup = world.shared.back_up();
    world.deaf = false;
    world.pass(7_000);
    world.restart();
    world.pass(3_000);
    world.put_back(backup);
    world.pass(5_000);
    assert_eq!(seconds(&world, "a/once"), [15]);
    assert_eq!(world.history("a/once"), ["15 succeeded"]);
    assert_eq!(seconds(&world, "a/often"), [15]);
    assert_eq!(world.history("a/asked"), ["trigger 7 succeeded"]);
    assert!(world.shared.keys[&RangeId::PINS].tasks.len() == 1, "their keys were there again");
}

#[test]
fn what_ran_before_its_share_was_put_off_again_by_a_backup_does_not_run_twice() {
    // Agents that notice it end and begin again, until the epoch is raised.
    let stories = (1..=7).flat_map(|after| [(after, false), (after, true)]);
    for (seconds_after, restarts) in stories {
        let splay = Duration::from_secs(20);
        let web = ("role", "web");
        let labels = BTreeMap::from([(web.0.to_owned(), web.1.to_owned())]);
        let mut world = World::labelled(1, 10, labels);
        let mut spec = at_most_once(broadcast(every("a/task", 7), web));
        spec.broadcast.splay = splay;
        world.create(spec);
        world.pass(10_000);
        let backup = world.shared.back_up();
        world.edit("a/task", |mut spec| {
            spec.broadcast.splay = Duration::ZERO;
            spec
        });
        world.pass(21_000 + 1_000 * seconds_after);
        let ran = seconds(&world, "a/task");
        if restarts {
            world.restart();
            world.pass(10);
        }
        world.put_back(backup);
        world.pass(40_000);
        let mut all = seconds(&world, "a/task");
        assert!(all.len() > ran.len(), "it goes on: {all:?}");
        all.sort_unstable();
        let once = all.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(once, "put back at {}: {all:?}", 31 + seconds_after);
    }
}

#[test]
fn nor_does_what_was_tried_again_since() {
    let web = ("role", "web");
    let labels = BTreeMap::from([(web.0.to_owned(), web.1.to_owned())]);
    let mut world = World::labelled(1, 100, labels);
    let names: Vec<String> = (0..20).map(|number| format!("a/task{number}")).collect();
    for name in &names {
        let task = at_most_once(retried(every(name, 7), 2, 2));
        let mut spec = broadcast(task, web);
        spec.broadcast.splay = Duration::from_secs(6);
        world.create(spec);
    }
    world.pass(10_000);
    let backup = world.shared.back_up();
    for name in &names {
        world.edit(name, |mut spec| {
            spec.broadcast.splay = Duration::ZERO;
            spec
        });
    }
    world.pass(16_500);
    names.iter().for_each(|name| world.conduct(name, 1, &[failed()]));
    // The newest ledger says that they wait to be tried again.
    world.pass(2_000);
    world.put_back(backup);
    world.pass(15_000);
    for name in &names {
        let started = world.started(name);
        let again = started.iter().filter(|start| **start == (27, 1)).count();
        assert_eq!(again, 1, "{name}: {started:?}");
        assert!(started.contains(&(27, 2)), "{name}: {started:?} {:?}", world.history(name));
    }
}
