//! By which version of a task something starts that was due by a schedule before, or was decided by
//! a holder that did not know of an edit or a pause yet.

use std::time::Duration;

use tocktower_core::agent::effect::ShareRequest;
use tocktower_core::ids::RangeId;
use tocktower_core::schedule::jitter;
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec};
use tocktower_core::time::Instant;

use crate::words::{every, every_after, failed, named, retried};
use crate::world::{Fate, World};

/// Of names whose task of every twenty seconds is due long after its instant, one.
fn due_late(world: &World, jitter: Duration) -> (String, Instant) {
    let (first, next) = (world.at_second(20), world.at_second(40));
    let due = |name: &str| jitter::due(&named(name), first, Some(next), jitter).instant();
    let names = (0..20).map(|number| format!("a/task{number}"));
    let mut late = names.map(|name| (due(&name), name));
    let (due, name) = late.find(|(due, _)| *due > first.plus(jitter / 2)).expect("one of twenty");
    (name, due)
}

#[test]
fn what_is_still_due_by_a_schedule_before_starts_as_the_newest_version_says() {
    let mut world = World::new(1, 10);
    let jitter = Duration::from_secs(10);
    let (name, due) = due_late(&world, jitter);
    world.create(Spec { jitter, ..every(&name, 20) });
    world.pass(20_500);
    // Its next instant is far away, so that nobody has the new version in memory.
    let timeout = Some(Duration::from_secs(77));
    let schedules = every(&name, 86_400).schedules;
    world.edit(&name, |spec| Spec { schedules, timeout, ..spec });
    world.pass(12_000);
    let starts = world.starts_of(&name);
    let began: Vec<_> = starts.iter().map(|start| (start.due.instant(), start.timeout)).collect();
    assert_eq!(began, [(due, timeout)]);
}

#[test]
fn what_marks_do_not_cover_as_it_was_due_late_stays_known_while_the_clock_is_back() {
    let forgets: [fn(&mut World, &str); 3] = [
        |world, name| world.edit(name, |spec| Spec { description: ".".to_owned(), ..spec }),
        |world, _| {
            (0..2).for_each(|_| {
                world.list();
                world.pass(300);
            });
        },
        |world, name| {
            world.garble(name);
            world.pass(300);
            world.mend(name);
        },
    ];
    for forget in forgets {
        let mut world = World::new(1, 10);
        let jitter = Duration::from_secs(10);
        let (name, due) = due_late(&world, jitter);
        world.create(Spec { jitter, ..every(&name, 20) });
        world.pass(20_500);
        let schedules = every(&name, 86_400).schedules;
        world.edit(&name, |spec| Spec { schedules, ..spec });
        let left = due.wall().since(world.now().wall);
        world.pass(u64::try_from(left.as_millis()).unwrap() + 50);
        assert_eq!(world.started(&name), [(20, 1)]);
        world.ahead_ms = -40_000;
        world.pass(10);
        world.measure_clock();
        // Longer than what is not near any more is remembered.
        world.pass(12_000);
        let through = world.shared.ledger(RangeId(0)).marks.through;
        assert!(world.at_second(20) < through && through < due, "by instants it is covered");
        forget(&mut world, &name);
        world.pass(1_000);
        world.ahead_ms = 0;
        world.pass(10);
        world.measure_clock();
        world.pass(5_000);
        assert_eq!(world.started(&name), [(20, 1)]);
    }
}

#[test]
fn a_one_shot_of_before_what_was_decided_runs_when_it_is_due() {
    let mut world = World::new(1, 10);
    let (at, jitter) = (world.at_second(10), Duration::from_secs(60));
    let due = |name: &str| jitter::due(&named(name), at, None, jitter).instant();
    let late = world.at_second(45);
    let mut names = (0..20).map(|number| format!("a/task{number}"));
    let name = names.find(|name| due(name) > late).expect("one of twenty");
    world.create(every_after(&name, 10, 500));
    world.pass(10_700);
    // By the clock of who writes it, it is still to come.
    let once = world.once(&name, 10);
    let before = world.at_second(9).plus(Duration::from_millis(900)).wall();
    world.edit_at(&name, before, |spec| Spec { schedules: once.schedules, jitter, ..spec });
    world.pass(65_000);
    let ran =
        world.starts_of(&name).iter().filter(|start| start.due.instant() == due(&name)).count();
    assert_eq!(ran, 1, "{:?}", world.history(&name));
}

#[test]
fn what_came_due_while_a_record_could_not_be_read_has_a_name_however_late_it_was_due() {
    let mends: [fn(&mut World, &str); 2] = [
        |world, name| world.mend(name),
        // It takes effect after the instant that came due meanwhile.
        |world, name| {
            let schedules = every(name, 86_400).schedules;
            world.edit(name, |spec| Spec { schedules, ..spec });
        },
    ];
    for mend in mends {
        came_due_unreadable(mend);
    }
}

fn came_due_unreadable(mend: fn(&mut World, &str)) {
    let mut world = World::new(1, 10);
    let jitter = Duration::from_secs(60);
    let (first, next) = (world.at_second(20), world.at_second(140));
    let due = |name: &str| jitter::due(&named(name), first, Some(next), jitter).instant();
    let late = world.at_second(60);
    let mut names = (0..20).map(|number| format!("a/task{number}"));
    let name = names.find(|name| due(name) > late).expect("one of twenty");
    world.create(Spec { jitter, ..every_after(&name, 120, 20_000) });
    // The marks go on.
    world.create(every("b/tick", 1));
    // It is past, and nobody has it in memory yet.
    world.pass(25_000);
    world.garble(&name);
    world.pass(70_000);
    mend(&mut world, &name);
    world.pass(2_000);
    assert_eq!(world.history(&name), ["20 skipped: its task's record cannot be read"]);
}

#[test]
fn what_came_due_unreadable_does_not_start_after_an_edit_that_mends_it() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.create(every("b/tick", 1));
    world.pass(10_500);
    world.garble("a/task");
    world.pass(4_800);
    let schedules = every("a/task", 86_400).schedules;
    world.edit("a/task", |spec| Spec { schedules, ..spec });
    world.pass(3_000);
    assert_eq!(world.started("a/task").len(), 10, "{:?}", world.history("a/task"));
}

/// A task of every two seconds, whose run of the second second goes on past the fourth.
fn one_waits() -> World {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Queue, ..every("a/task", 2) });
    world.conduct("a/task", 4_000, &[]);
    world.pass(3_500);
    world.deaf = true;
    world
}

#[test]
fn what_waited_during_a_pause_that_its_holder_hears_of_afterwards_does_not_start() {
    let mut world = one_waits();
    world.pass(1_000);
    world.pause("a/task");
    world.resume("a/task");
    world.deaf = false;
    world.list();
    world.pass(5_000);
    assert_eq!(world.started("a/task"), [(2, 1), (6, 1)]);
    assert_eq!(world.history("a/task")[0], "4 skipped: paused");
}

/// A run of the second second that goes on, after a pause that is over as well.
fn runs_across_a_pause() -> World {
    let mut world = World::new(1, 10);
    world.create(retried(Spec { overlap: Overlap::Allow, ..every("a/task", 2) }, 3, 10));
    world.conduct("a/task", 10_000, &[failed()]);
    world.pass(3_500);
    world.pause("a/task");
    world.pass(1_000);
    world.resume("a/task");
    world.pass(1_000);
    world
}

#[test]
fn what_had_started_before_a_pause_is_tried_again_after_it() {
    let mut world = runs_across_a_pause();
    world.pass(8_000);
    // It waits for its second attempt.
    world.list();
    world.pass(10_000);
    assert!(world.started("a/task").contains(&(2, 2)), "{:?}", world.history("a/task"));
}

#[test]
fn what_had_started_before_a_pause_is_started_again_by_the_next_holder() {
    let mut world = runs_across_a_pause();
    world.shared.end_lease();
    world.restart();
    world.pass(4_000);
    assert!(world.started("a/task").contains(&(2, 2)), "{:?}", world.history("a/task"));
}

#[test]
fn an_instant_of_before_a_paused_edit_starts_once_that_is_resumed() {
    let mut world = World::new(1, 10);
    let jitter = Duration::from_secs(10);
    let (name, due) = due_late(&world, jitter);
    world.create(Spec { jitter, ..every(&name, 20) });
    world.pass(20_500);
    let schedules = every(&name, 86_400).schedules;
    world.edit(&name, |spec| Spec { schedules, jitter: Duration::ZERO, paused: true, ..spec });
    world.pass(100);
    world.list();
    world.pass(1_000);
    world.resume(&name);
    world.pass(12_000);
    let starts = world.starts_of(&name);
    let began: Vec<_> = starts.iter().map(|start| start.due.instant()).collect();
    assert_eq!(began, [due]);
}

#[test]
fn what_waited_and_two_edits_took_away_does_not_start_once_they_are_known() {
    let mut world = one_waits();
    world.fate(|request| match request {
        ShareRequest::Write(_) | ShareRequest::ReadBack { .. } => Fate::Lost,
        _ => Fate::Served,
    });
    // The first of them has no instant before the second.
    for seconds in [1_000, 7] {
        let schedules = every("a/task", seconds).schedules;
        world.edit("a/task", |spec| Spec { schedules, ..spec });
        world.pass(800);
    }
    world.deaf = false;
    world.fate(|_| Fate::Served);
    world.list();
    world.pass(6_000);
    assert_eq!(world.started("a/task")[0], (2, 1));
    assert!(!world.started("a/task").contains(&(4, 1)), "{:?}", world.started("a/task"));
    let taken = "4 skipped: an edit has taken its instant away".to_owned();
    assert!(world.history("a/task").contains(&taken), "{:?}", world.history("a/task"));
}

#[test]
fn what_waits_by_a_schedule_that_a_coordinator_whose_clock_is_behind_replaces_does_not_start() {
    let mut world = World::new(1, 10);
    let catch_up = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    world.create(Spec { overlap: Overlap::Queue, catch_up, ..every("a/task", 2) });
    world.conduct("a/task", 3_000, &[]);
    world.pass(4_500);
    // A minute's instants are due at once, and wait for one another.
    world.ahead_ms = 60_000;
    world.pass(6_000);
    let created = world.task("a/task").created_at;
    let schedules = every("a/task", 86_400).schedules;
    world.edit_at("a/task", created, |spec| Spec { schedules, ..spec });
    world.pass(100);
    let begun = world.starts_of("a/task").len();
    world.pass(10_000);
    assert_eq!(world.starts_of("a/task").len(), begun);
}
