//! An agent whose wall clock is set: what it had put off by the clock as it was.

use std::time::Duration;

use tocktower_core::ids::{RangeId, RunId};
use tocktower_core::ledger::EntryState;
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec};

use crate::words::{every, failed, named, retried};
use crate::world::World;

#[test]
fn a_retry_waits_no_longer_than_its_backoff_when_the_clock_is_set_back() {
    for another_holding in [false, true] {
        let mut world = World::new(1, 10);
        world.create(retried(world.once("a/once", 45), 2, 5));
        world.conduct("a/once", 1, &[failed()]);
        world.pass(40_000);
        world.ahead_ms = 70_000;
        world.pass(4_000);
        assert_eq!(world.started("a/once"), [(45, 1)], "its clock says so");
        world.ahead_ms = 0;
        if another_holding {
            // The time at which it goes on is in the ledger.
            world.pass(1_100);
            world.shared.end_lease();
        }
        world.pass(12_000);
        assert_eq!(world.started("a/once"), [(45, 1), (45, 2)]);
        assert_eq!(world.history("a/once"), ["45 succeeded"]);
    }
}

#[test]
fn a_process_that_goes_on_doubts_a_clock_that_was_set_before_it_began() {
    for seen_by_the_first in [false, true] {
        let mut world = World::new(1, 10);
        world.create(world.once("a/once", 90));
        world.pass(40_000);
        world.ahead_ms = 57_000;
        if seen_by_the_first {
            world.pass(20);
        }
        world.restart();
        world.pass(4_000);
        assert_eq!(world.started("a/once"), [], "it may be a minute early");
        world.ahead_ms = 0;
        world.pass(60_000);
        assert_eq!(world.started("a/once"), [(90, 1)]);
    }
}

#[test]
fn a_process_that_goes_on_believes_the_clock_that_was_believed_before() {
    let mut world = World::new(1, 10);
    world.create(world.once("a/once", 41));
    world.pass(40_900);
    world.restart();
    world.pass(200);
    assert_eq!(world.started("a/once"), [(41, 1)]);
}

#[test]
fn a_stranger_starts_nothing_before_its_clock_was_looked_at_or_there_was_nobody_for_two_seconds() {
    for measured in [false, true] {
        let mut world = World::new(1, 10);
        world.create(world.once("a/once", 41));
        world.pass(40_000);
        world.store.forget_session();
        world.shared.end_lease();
        world.restart();
        world.pass(1_500);
        if measured {
            world.measure_clock();
        }
        world.pass(400);
        assert_eq!(world.started("a/once").len(), usize::from(measured));
        world.pass(600);
        assert_eq!(world.started("a/once"), [(41, 1)]);
    }
}

#[test]
fn what_is_due_soon_is_in_memory_alone_until_a_clock_that_is_set_puts_it_out_of_reach() {
    let mut world = World::new(1, 10);
    world.create(every("a/often", 1));
    world.pass(200_500);
    assert_eq!(world.store.due_entries(RangeId(0)), 0);
    world.ahead_ms = -100_000;
    world.pass(1_000);
    assert_eq!(world.store.due_entries(RangeId(0)), 1, "it is in no wheel any more");
    world.pass(120_000);
    // The minutes that come again bring no instant again, and the next is not left out.
    let started = world.started("a/often");
    let seconds: Vec<u32> =
        started.iter().map(|(second, _)| u32::try_from(*second).unwrap()).collect();
    let last = *seconds.last().expect("it has started");
    assert!(last >= 219, "{last}");
    assert_eq!(seconds, (1..=last).collect::<Vec<u32>>());
}

#[test]
fn what_waited_as_the_clock_was_set_back_is_decided_for_an_edit_as_well() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/task", 1) });
    world.pass(26_500);
    // Its 27th second comes while nothing is decided.
    world.clock_measured("c1", 900);
    world.pass(600);
    world.ahead_ms = -26_000;
    world.pass(10);
    for _ in 0..2 {
        world.clock_measured("c1", 26_000);
    }
    world.pass(3_000);
    let then = world.at_second(30).wall();
    world.edit_at("a/task", then, |spec| Spec { schedules: every("a/task", 2).schedules, ..spec });
    world.pass(1_000);
    world.ahead_ms = 0;
    world.pass(10);
    world.measure_clock();
    world.pass(5_000);
    let history = world.history("a/task");
    let ended =
        |second: u64| history.iter().filter(|row| row.starts_with(&format!("{second} "))).count();
    assert_eq!([1, 26, 27, 28, 30, 32, 34].map(ended), [1; 7], "{history:?}");
}

/// A task of every 5 s, twelve seconds long.
fn of_policy(policy: CatchUpPolicy) -> World {
    let mut world = World::new(1, 100);
    let catch_up = CatchUp { policy, window: Duration::from_secs(3_600) };
    world.create(Spec { overlap: Overlap::Allow, catch_up, ..every("a/task", 5) });
    world.pass(12_000);
    world
}

/// Which seconds from 15 on have run, each once.
fn ran(world: &World) -> Vec<i64> {
    let mut ran: Vec<i64> = world.started("a/task").iter().map(|(second, _)| *second).collect();
    ran.sort_unstable();
    assert!(ran.is_sorted_by(|one, other| one < other), "{ran:?}");
    ran.retain(|second| *second >= 15);
    ran
}

#[test]
fn what_a_clock_is_set_over_is_an_outage_and_setting_it_back_repeats_nothing() {
    use CatchUpPolicy::{All, Latest, None};
    for policy in [None, Latest, All] {
        let mut world = of_policy(policy);
        world.ahead_ms = 60_000;
        // Its clock is believed after two seconds, at 74; what is due since 64 is on time.
        world.pass(3_500);
        let all: Vec<i64> = (15..=75).step_by(5).collect();
        let on_time = if policy == All { all } else { vec![65, 70, 75] };
        assert_eq!(ran(&world), on_time, "{policy:?}");
        world.each_ended_once(&world.task("a/task"), 5, 75);
        // The minute comes again.
        world.ahead_ms = 0;
        world.pass(59_000);
        assert_eq!(ran(&world), on_time, "{policy:?}");
        world.pass(10_000);
        world.each_ended_once(&world.task("a/task"), 5, 80);
    }
}

#[test]
fn what_a_host_slept_through_is_an_outage() {
    use CatchUpPolicy::{All, Latest, None};
    for policy in [None, Latest, All] {
        let mut world = of_policy(policy);
        // Suspended: the boot clock goes on, the lease ends, and nothing runs.
        world.stop(61_000);
        world.shared.end_lease();
        world.pass(66_000);
        let ran = ran(&world);
        let made_up = ran.iter().filter(|second| **second < 60).count();
        assert_eq!(made_up, if policy == All { 9 } else { 0 }, "{policy:?}: {ran:?}");
        assert!(ran.ends_with(&[70, 75]), "{policy:?}: {ran:?}");
        world.each_ended_once(&world.task("a/task"), 5, 75);
    }
}

#[test]
fn by_a_clock_that_was_an_hour_ahead_for_a_moment_nothing_is_decided() {
    let mut world = World::new(1, 100);
    world.create(every("a/task", 600));
    world.pass(12_000);
    world.ahead_ms = 3_600_000;
    world.pass(1_500);
    world.ahead_ms = 0;
    world.pass(3_000);
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 2).schedules, ..spec });
    world.pass(10_000);
    assert_eq!(ran(&world), [18, 20, 22, 24, 26], "{:?}", world.history("a/task"));
}

/// A task of every 5 s, whose host's clock was a minute ahead for three seconds, and is right again
/// at the seventeenth. Coordinators knew better, and the marks went by them.
fn was_ahead() -> World {
    let mut world = of_policy(CatchUpPolicy::Latest);
    world.ahead_ms = 60_000;
    world.pass(10);
    (0..2).for_each(|_| world.clock_measured("c1", -60_000));
    world.pass(3_000);
    assert_eq!(ran(&world), [65, 70, 75]);
    world.ahead_ms = 0;
    world.pass(10);
    world.measure_clock();
    world.pass(2_000);
    let through = world.shared.ledger(RangeId(0)).marks.through;
    assert!(through < world.at_second(18), "{through:?} {:?}", world.now());
    world
}

#[test]
fn what_ran_by_a_clock_that_was_ahead_does_not_run_as_a_one_shot_again() {
    let mut world = was_ahead();
    let once = world.once("a/task", 70);
    world.edit("a/task", |spec| Spec { schedules: once.schedules, ..spec });
    world.pass(60_000);
    assert_eq!(ran(&world), [65, 70, 75]);
    assert!(world.shared.of(RangeId(0)).tasks.is_empty(), "it is over, and its key settled");
}

#[test]
fn an_edit_that_a_list_brings_loses_nothing_of_what_a_clock_that_was_ahead_had_passed() {
    let mut world = was_ahead();
    world.deaf = true;
    let then = world.at_second(18).wall();
    world.edit_at("a/task", then, |spec| Spec { schedules: every("a/task", 7).schedules, ..spec });
    world.deaf = false;
    world.list();
    world.pass(1_000);
    world.edit("a/task", |spec| Spec { description: ".".to_owned(), ..spec });
    world.pass(69_000);
    // 20 and 55 are of the schedule before as well, and came to something then. An edit of nothing
    // but words changes nothing of that.
    assert_eq!(ran(&world), [27, 34, 41, 48, 62, 65, 69, 70, 75, 76, 83]);
}

#[test]
fn what_ran_by_a_clock_that_was_ahead_is_known_to_the_next_process() {
    let mut world = was_ahead();
    world.restart();
    world.pass(3_000);
    world.restart();
    world.pass(50_000);
    assert_eq!(ran(&world), [65, 70, 75]);
}

#[test]
fn marks_that_stand_in_the_future_hide_nothing_of_a_younger_task_when_the_clock_is_set() {
    let mut world = World::new(1, 10);
    world.create(every("a/old", 3_600));
    let begun =
        RunId::scheduled(named("a/old"), world.task("a/old").incarnation, world.at_second(0));
    world.former_ledger(world.at_second(300), begun, EntryState::Ended);
    world.create(every("a/young", 40));
    // Nothing is decided before its clock is set.
    world.clock_measured("c1", 1_000);
    world.pass(2_000);
    world.ahead_ms = 1_000;
    world.pass(10);
    world.measure_clock();
    world.pass(50_000);
    assert_eq!(world.started("a/young"), [(40, 1)]);
}
