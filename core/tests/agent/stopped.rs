//! A process that stood still, as by SIGSTOP: what it finds at hand when it wakes was true before,
//! and nothing starts by the licence of that time (L0).

use tocktower_core::agent::effect::{Notice, ShareRequest};
use tocktower_core::agent::input::Input;
use tocktower_core::ids::RunId;
use tocktower_core::task::{Overlap, Spec};

use crate::words::{every, named};
use crate::world::{Fate, World};

/// Runs of every second; the process stands still while that of the fourth is being written down.
fn at_a_start() -> World {
    let mut world = World::new(1, 10);
    for name in ["a/one", "a/two"] {
        world.create(Spec { overlap: Overlap::Allow, ..every(name, 1) });
    }
    world.pass(4_000);
    assert_eq!(world.starts.len(), 6, "the fourth is decided and not started");
    world
}

#[test]
fn it_starts_nothing_by_the_old_licence_and_goes_on_under_a_new_claim() {
    let mut world = at_a_start();
    let fence = world.starts[0].attempt.fence;
    world.stop(20_000);
    world.pass(20_000);
    let lost = |notice: &Notice| matches!(notice, Notice::LeaseLost | Notice::LostClaim { .. });
    assert!(world.told(lost) >= 1, "its lease ran out meanwhile");
    assert_eq!(world.starts.len(), 6);
    world.pass(6_500);
    let after = &world.starts[6..];
    assert!(!after.is_empty() && after.iter().all(|start| start.attempt.fence > fence));
    for name in ["a/one", "a/two"] {
        let again = world.each_ended(&world.task(name), 1, 30);
        assert!(again.len() <= 2, "what was not settled: {again:?}");
    }
}

#[test]
fn it_starts_nothing_either_where_its_lease_was_spared() {
    // etcd is late with leases after a change of its leader: claim and session are still there.
    let mut world = at_a_start();
    let fence = world.starts[0].attempt.fence;
    world.shared.spared = true;
    world.stop(20_000);
    world.pass(20_000);
    assert_eq!(world.starts.len(), 6, "nothing at the moment of waking");
    let woke = world.now_us;
    world.pass(6_500);
    assert!(world.starts[6..].iter().all(|start| start.attempt.fence == fence));
    // The first start comes after a write that was sent since has come back.
    let sent = world.sent.iter().find(|sent| sent.at_us >= woke).expect("it fits").at_us;
    assert!(world.starts[6].at_us > sent + 1_000);
    for name in ["a/one", "a/two"] {
        world.each_ended_once(&world.task(name), 1, 30);
    }
}

#[test]
fn an_attempt_that_was_not_begun_in_time_is_begun_later_as_the_same() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/one", 1) });
    world.shared.spared = true;
    world.executor_us = 400;
    world.pass_us(4_000_700);
    assert_eq!(world.started("a/one").len(), 3, "the fourth is with the executor");
    world.stop(5_000);
    world.pass(7_000);
    let fourth: Vec<_> = world.started("a/one").into_iter().filter(|(at, _)| *at == 4).collect();
    assert_eq!(fourth, [(4, 1)]);
    world.each_ended_once(&world.task("a/one"), 1, 11);
}

#[test]
fn a_keep_alive_counts_from_when_it_was_sent_and_not_from_its_answer() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/one", 1) });
    world.shared.spared = true;
    world.pass(3_500);
    let alive = |request: &ShareRequest| matches!(request, ShareRequest::KeepAlive { .. });
    world.fate(move |request| if alive(request) { Fate::Held } else { Fate::Served });
    // One that is sent now is answered two and a half seconds later; the range is written all the
    // while, and its watch brings it.
    while world.held.is_empty() {
        world.pass(10);
    }
    let sent = world.now_us;
    world.pass(2_500);
    world.release(|world, request| world.serve(request));
    world.pass(3_000);
    let last = world.starts.last().expect("it fits").at_us;
    assert!((sent + 1_500_000..sent + 2_700_000).contains(&last), "sent at {sent}, started {last}");
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(3_000);
    world.each_ended_once(&world.task("a/one"), 1, 12);
}

#[test]
fn what_is_with_the_executor_and_not_wanted_any_more_is_not_begun_later() {
    for name in ["a/deleted", "a/once", "a/paused", "a/edited", "a/cancelled"] {
        let mut world = World::new(1, 10);
        match name {
            "a/once" => world.create(world.once(name, 4)),
            _ => world.create(Spec { overlap: Overlap::Allow, ..every(name, 4) }),
        }
        world.shared.spared = true;
        world.executor_us = 400;
        world.pass_us(4_000_700);
        assert_eq!(world.started(name), [], "it is with the executor");
        world.stop(5_000);
        world.pass(100);
        match name {
            "a/deleted" | "a/once" => world.delete(name),
            "a/paused" => world.pause(name),
            "a/edited" => {
                let clock = world.at_second(3).wall();
                let schedules = every(name, 60).schedules;
                world.edit_at(name, clock, |spec| Spec { schedules, ..spec });
            }
            _ => {
                let incarnation = world.task(name).incarnation;
                let run = RunId::scheduled(named(name), incarnation, world.at_second(4));
                world.tell(0, Input::CancelRun { run });
            }
        }
        world.pass(6_900);
        let fourth = world.started(name).into_iter().filter(|(at, _)| *at == 4);
        assert_eq!(fourth.count(), 0, "{name}: {:?}", world.history(name));
        let ended = world.history(name).into_iter().filter(|row| row.starts_with("4 "));
        assert_eq!(ended.count(), 1, "{name}: {:?}", world.history(name));
    }
}

#[test]
fn what_an_edit_takes_away_and_another_gives_back_is_begun_after_all() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/task", 4) });
    world.shared.spared = true;
    world.executor_us = 400;
    world.pass_us(4_000_700);
    world.stop(5_000);
    world.pass(100);
    for (clock, seconds) in [(2, 60), (3, 4)] {
        let clock = world.at_second(clock).wall();
        let schedules = every("a/task", seconds).schedules;
        world.edit_at("a/task", clock, |spec| Spec { schedules, ..spec });
    }
    world.pass(9_000);
    assert_eq!(world.started("a/task").iter().filter(|(at, _)| *at == 4).count(), 1);
    world.each_ended_once(&world.task("a/task"), 4, 12);
}
