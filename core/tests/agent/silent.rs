//! Watches that fall silent without an end, when nothing has happened in their ranges for an hour:
//! the lease is kept alive and writes are answered, so a licence is all that is missing (L0).

use tocktower_core::task::Spec;

use crate::words::{at_most_once, every_after, of_range};
use crate::world::World;

/// When all is due: an hour and a while after the beginning.
const DUE_S: u64 = 3_700;
const LATER_S: u64 = 3_720;
const LEASE_MS: u64 = 3_000;

/// A task due at `DUE_S` in each of so many ranges, of which nothing is heard from so long before.
fn silenced(names: &[String], spec: impl Fn(&World, &str) -> Spec, before_ms: u64) -> World {
    let mut world = World::new(4, 10);
    for name in names {
        let spec = spec(&world, name);
        world.create(spec);
    }
    world.pass(DUE_S * 1_000 - before_ms);
    world.starts.clear();
    world.deaf = true;
    world
}

/// One name in each range.
fn names() -> [String; 4] {
    let world = World::new(4, 10);
    [0, 1, 2, 3].map(|range| of_range(&world, range, "a/task", 1).remove(0))
}

/// Wherever the beats of the ranges are.
fn moments() -> impl Iterator<Item = u64> {
    (0..=4).map(|step| LEASE_MS + step * 500)
}

#[test]
fn after_an_hour_of_calm_nothing_starts_by_what_a_silent_watch_had_told() {
    let names = names();
    let [deleted, paused, moved, _] = names.each_ref();
    for before_ms in moments() {
        for delivery in [|spec| spec, at_most_once] {
            let spec = |world: &World, name: &str| delivery(world.once(name, DUE_S));
            let mut world = silenced(&names, spec, before_ms);
            world.delete(deleted);
            world.pause(paused);
            let later = world.once(moved, LATER_S).schedules;
            world.edit(moved, |spec| Spec { schedules: later, ..spec });
            world.pass(before_ms + 8_000);
            assert_eq!(world.starts.len(), 0, "silent {before_ms} ms before: {:?}", world.starts);
            world.deaf = false;
            world.pass(20_000);
            let history = names.each_ref().map(|name| world.history(name));
            let ended = |second, how: &str| vec![format!("{second} {how}")];
            // One that is paused waits for the end of that.
            let (moved, stays) = (ended(LATER_S, "succeeded"), ended(DUE_S, "succeeded"));
            assert_eq!(history, [vec![], vec![], moved, stays], "{before_ms} ms before");
            assert_eq!(world.starts.len(), 2, "{:?}", world.starts);
        }
    }
}

#[test]
fn of_an_hourly_task_the_instant_that_was_deleted_behind_a_silent_watch_does_not_start() {
    let names = names();
    let hourly = |_: &World, name: &str| every_after(name, 3_600, 100_000);
    for before_ms in moments() {
        let mut world = silenced(&names, hourly, before_ms);
        for name in &names[..3] {
            world.delete(name);
        }
        world.pass(before_ms + 8_000);
        assert_eq!(world.starts.len(), 0, "silent {before_ms} ms before: {:?}", world.starts);
        world.deaf = false;
        world.pass(20_000);
        let started = names.each_ref().map(|name| world.started(name).len());
        assert_eq!(started, [0, 0, 0, 1], "silent {before_ms} ms before");
    }
}
