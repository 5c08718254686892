//! Edits that put the due of an instant later than the marks: what has come to something by the
//! schedule before is not begun again, also by a holder who knows the new one alone.

use std::time::Duration;

use tocktower_core::agent::Settled;
use tocktower_core::ids::{RangeId, RunId};
use tocktower_core::ledger::{EntryState, Marks};
use tocktower_core::run::AttemptEnd;
use tocktower_core::schedule::jitter;
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec, replace};

use crate::words::{at_most_once, every, every_after, named, writes_ledger};
use crate::world::{Fate, World};

const NAMES: usize = 20;

fn names() -> Vec<String> {
    (0..NAMES).map(|number| format!("a/task{number}")).collect()
}

/// A schedule whose only instant in a while is that of second 7, due up to 50 s later.
fn late_sevens(world: &mut World, name: &str) {
    let current = world.task(name);
    let schedules = every_after(name, 50, 7_000).schedules;
    let jitter = Duration::from_secs(50);
    let spec = Spec { schedules, jitter, ..current.spec.clone() };
    // By the clock of a coordinator that is behind.
    let then = world.at_second(4).wall();
    let version = replace(&current, spec, then, Marks::NONE).expect("it fits");
    world.write(&current, version.expect("another schedule"));
}

fn sevens(world: &World, name: &str) -> usize {
    world.started(name).iter().filter(|(instant, _)| *instant == 7).count()
}

/// A name whose first instant, of one every so many seconds, is due long after it.
fn late_by(world: &World, jitter: Duration, every: u64) -> String {
    let (first, next) = (world.at_second(every), world.at_second(2 * every));
    let due = |name: &str| jitter::due(&named(name), first, Some(next), jitter).instant();
    let half = first.plus(jitter / 2);
    names().into_iter().find(|name| due(name) > half).expect("one of twenty")
}

#[test]
fn more_jitter_brings_no_run_again() {
    let mut world = World::new(1, NAMES);
    for name in names() {
        world.create(every(&name, 10));
    }
    world.pass(12_500);
    for name in names() {
        world.edit(&name, |spec| Spec { jitter: Duration::from_secs(9), ..spec });
    }
    world.pass(100);
    world.shared.end_lease();
    world.pass(20_000);
    for name in names() {
        let tens = world.started(&name).into_iter().filter(|(instant, _)| *instant == 10);
        assert_eq!(tens.collect::<Vec<_>>(), [(10, 1)], "{name}");
    }
}

#[test]
fn what_ran_by_the_schedule_before_is_not_run_again_by_a_late_edit() {
    for delivered_before_the_takeover in [false, true] {
        let mut world = World::new(1, NAMES);
        for name in names() {
            world.create(every(&name, 1));
        }
        world.pass(9_500);
        for name in names() {
            late_sevens(&mut world, &name);
        }
        if delivered_before_the_takeover {
            world.pass(1_500);
        }
        world.shared.end_lease();
        world.pass(50_000);
        for name in names() {
            assert_eq!(sevens(&world, &name), 1, "{name}");
        }
    }
}

#[test]
fn what_a_holder_has_skipped_as_edited_late_is_not_started_by_the_next() {
    let mut world = World::new(1, NAMES);
    for name in names() {
        world.create(every(&name, 2));
    }
    world.pass(9_500);
    for name in names() {
        late_sevens(&mut world, &name);
    }
    world.pass(1_500);
    let late = world.history("a/task0");
    assert!(late.iter().any(|row| row == "7 skipped: edited_late"), "{late:?}");
    world.shared.end_lease();
    world.pass(50_000);
    for name in names() {
        assert_eq!(sevens(&world, &name), 0, "{name}");
    }
}

#[test]
fn an_instant_is_as_late_as_its_due_and_its_window_is_counted_from_that() {
    let mut world = World::new(1, 10);
    let jitter = Duration::from_secs(90);
    let window = CatchUp { policy: CatchUpPolicy::Latest, window: Duration::from_secs(20) };
    let name = late_by(&world, jitter, 100);
    let (first, next) = (world.at_second(100), world.at_second(200));
    let due = jitter::due(&named(&name), first, Some(next), jitter).instant();
    world.create(Spec { jitter, catch_up: window, ..every(&name, 100) });
    world.pass(u64::try_from(due.millis() - world.at_second(0).millis()).expect("later") - 1_000);
    // More than what counts as on time.
    world.stop(13_000);
    world.pass(20_000);
    assert_eq!(world.started(&name), [(100, 1)], "{:?}", world.history(&name));
}

#[test]
fn what_a_ledger_on_its_way_covers_an_edit_does_not_bring() {
    let mut world = World::new(1, 10);
    world.create(every("a/beats", 1));
    world.create(every("a/task", 10));
    world.pass(6_800);
    let since = world.now_us;
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(1_200);
    let on_its_way = world.ledgers_since(RangeId(0), since);
    let covered =
        on_its_way.last().and_then(|sent| sent.ledger()).expect("one a second").marks.through;
    let clock = world.at_second(5).wall();
    let schedules = every_after("a/task", 1, 300).schedules;
    world.edit_at("a/task", clock, |spec| Spec { schedules, ..spec });
    world.pass(400);
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(3_000);
    let first = world.starts_of("a/task").iter().map(|start| start.due).min().expect("some");
    assert!(first.instant() > covered, "{first:?} started, and {covered:?} was sent as covered");
    let late = world.history("a/task").into_iter().filter(|row| row.contains("edited_late"));
    assert!(late.count() > 0, "{:?}", world.history("a/task"));
}

#[test]
fn what_was_permitted_and_lost_does_not_start_at_a_later_due_that_an_edit_gives_it() {
    let jitter = Duration::from_secs(9);
    let mut world = World::new(1, 10);
    let name = late_by(&world, jitter, 10);
    world.create(at_most_once(every(&name, 10)));
    let run = RunId::scheduled(named(&name), world.task(&name).incarnation, world.at_second(10));
    world.former_ledger(world.at_second(9), run, EntryState::Permitted);
    let clock = world.at_second(9).wall();
    world.edit_at(&name, clock, |spec| Spec { jitter, ..spec });
    world.pass(25_000);
    let tens = world.history(&name).into_iter().filter(|row| row.starts_with("10 "));
    let tens: Vec<String> = tens.collect();
    assert!(tens.len() == 1 && tens[0].starts_with("10 lost"), "{tens:?}");
    assert!(world.started(&name).iter().all(|(at, _)| *at != 10), "{:?}", world.started(&name));
}

#[test]
fn what_asks_for_permission_asks_on_when_an_edit_puts_it_off() {
    let jitter = Duration::from_secs(9);
    let mut world = World::new(1, 10);
    let name = late_by(&world, jitter, 10);
    world.create(at_most_once(every(&name, 10)));
    world.pass(7_000);
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(3_300);
    // By the clock of a coordinator that is behind.
    let clock = world.at_second(9).wall();
    world.edit_at(&name, clock, |spec| Spec { jitter, ..spec });
    world.pass(300);
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(14_000);
    let tens = world.started(&name).into_iter().filter(|(at, _)| *at == 10);
    assert_eq!(tens.count(), 1, "{:?}", world.history(&name));
}

#[test]
fn what_was_made_up_for_and_its_task_is_deleted_is_settled_in_an_idle_range() {
    let mut world = World::new(1, 10);
    let jitter = Duration::from_secs(100);
    world.create(Spec { jitter, overlap: Overlap::Queue, ..every("a/task", 1) });
    world.pass(500);
    world.stop(40_000);
    world.runs_long("a/task");
    world.pass(41_500);
    world.delete("a/task");
    world.pass(100);
    world.end("a/task", AttemptEnd::Succeeded);
    world.pass(5_000);
    let settled = |row| world.agent.settled(row) == Settled::Here;
    let open: Vec<_> = world.store.history.iter().filter(|row| !settled(row)).collect();
    assert!(open.is_empty(), "{open:?}");
    assert!(world.store.history.iter().any(|row| row.span.is_some()), "some were not run");
}
