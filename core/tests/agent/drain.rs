//! What an operator asks of an agent: cordoned it takes no more, drained it hands over what it has,
//! and both end when it is uncordoned, whatever became of its process. Where there is nobody else,
//! it goes on with what it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_core::agent::effect::{Notice, ShareRequest, WriteKind};
use tocktower_core::agent::input::Input;
use tocktower_core::ids::{RangeId, Session};
use tocktower_core::ring::{Capacity, Duty};
use tocktower_core::run::AttemptEnd;
use tocktower_core::task::{Overlap, Spec};

use crate::shared::EPOCH;
use crate::words::{every, of_range, pinned};
use crate::world::{Fate, World};

const RANGES: u16 = 16;

/// An agent alone, with a task of every second in each of its ranges.
fn alone() -> World {
    let mut world = World::new(u32::from(RANGES), 100);
    for range in 0..RANGES {
        let name = of_range(&world, range, "a/tick", 1).remove(0);
        world.create(Spec { overlap: Overlap::Allow, ..every(&name, 1) });
    }
    world.pass(3_500);
    assert_eq!(held(&world), 16);
    world
}

/// It has half of the ranges, and another the rest.
fn shared() -> World {
    let mut world = alone();
    comes(&mut world, "b", Duty::Full);
    for _ in 0..30 {
        world.pass(100);
        take_for_b(&mut world);
    }
    assert!((4..=12).contains(&held(&world)), "{}", held(&world));
    world
}

fn held(world: &World) -> usize {
    world.agent.held().count()
}

fn comes(world: &mut World, agent: &str, duty: Duty) {
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    world.shared.put_member(agent, session, Capacity { weight: 100, duty });
}

/// Whatever is vacant is claimed by the other.
fn take_for_b(world: &mut World) {
    let session = world.shared.session("b");
    for range in (0..RANGES).map(RangeId) {
        if world.shared.of(range).claim.is_none() {
            world.shared.claim(range, "b", session);
        }
    }
}

fn claims(notice: &Notice) -> bool {
    matches!(notice, Notice::Claimed { .. })
}

fn told(world: &World) -> Duty {
    world.shared.capacity("a").duty
}

#[test]
fn a_drain_takes_every_range_away_and_nothing_starts_in_it_any_more() {
    let mut world = shared();
    world.shared.ask(Duty::Draining, None);
    world.pass(900);
    assert_eq!(told(&world), Duty::Draining);
    assert!(held(&world) >= 4, "the others list the ranges first");
    world.pass(1_600);
    assert_eq!((held(&world), world.agent.stats().drained), (0, true));
    let last = world.sent.last().expect("it has written").at_us;
    world.pass(20_000);
    assert!(world.starts.iter().all(|start| start.at_us <= last));
    assert_eq!(world.told(|notice| matches!(notice, Notice::LostClaim { .. })), 0);
}

#[test]
fn an_agent_that_is_asked_to_end_gives_the_next_owner_a_second_if_there_is_one() {
    let leaves = |world: &mut World, seconds| {
        let deadline = Duration::from_secs(seconds);
        world.tell(0, Input::Leave { deadline });
    };
    let mut world = shared();
    leaves(&mut world, 30);
    world.pass(900);
    assert!(held(&world) >= 4, "the others list the ranges first");
    world.pass(1_100);
    assert_eq!(held(&world), 0);
    // Its deadline may be sooner than that.
    let mut world = shared();
    leaves(&mut world, 1);
    world.pass(200);
    assert_eq!(held(&world), 0);
    let mut world = alone();
    leaves(&mut world, 30);
    world.pass(200);
    assert_eq!(held(&world), 0, "nobody comes after it");
    // Nobody brings it the word that the ring has left it out.
    let mut world = shared();
    world.fate(|request| match request {
        ShareRequest::Reweigh { .. } => Fate::Lost,
        _ => Fate::Served,
    });
    leaves(&mut world, 30);
    world.pass(6_000);
    assert_eq!(held(&world), 0);
}

#[test]
fn a_drain_does_not_wait_for_quiet_and_a_few_ranges_go_at_a_time() {
    let mut world = World::new(64, 100);
    world.pass(3_000);
    comes(&mut world, "b", Duty::Draining);
    comes(&mut world, "c", Duty::Full);
    world.shared.ask(Duty::Draining, None);
    for number in 0..15 {
        // Somebody comes or goes all the time.
        let duty = if number % 2 == 0 { Duty::Full } else { Duty::Draining };
        comes(&mut world, "b", duty);
        world.pass(100);
    }
    assert_eq!(held(&world), 0);
    let finals = world.sent.iter().filter(|sent| matches!(sent.kind, WriteKind::Final { .. }));
    let mut at_once = BTreeMap::<u64, usize>::new();
    finals.for_each(|sent| *at_once.entry(sent.at_us).or_default() += 1);
    assert!(at_once.values().all(|count| *count <= 16), "{at_once:?}");
}

#[test]
fn what_runs_goes_on_and_it_is_not_drained_before_that_is_settled() {
    let mut world = shared();
    let name = (0..RANGES)
        .find(|range| world.agent.held().any(|held| held == RangeId(*range)))
        .map(|range| of_range(&world, range, "a/tick", 1).remove(0))
        .expect("it holds some");
    world.runs_long(&name);
    world.pass(1_000);
    world.shared.ask(Duty::Draining, None);
    world.pass(4_000);
    assert_eq!((held(&world), world.agent.stats().drained), (0, false));
    assert!(!world.running.is_empty(), "it was left running");
    world.end(&name, AttemptEnd::Succeeded);
    world.pass(1);
    assert!(!world.agent.stats().drained, "nobody knows how it ended");
    world.pass(1_000);
    assert!(world.agent.stats().drained);
}

#[test]
fn what_is_pinned_goes_on_and_is_not_waited_for() {
    let mut world = shared();
    for (name, seconds) in [("p/long", 3_600), ("p/tick", 1)] {
        world.create(pinned(every(name, seconds)));
    }
    world.runs_long("p/long");
    world.pass(1_000);
    world.trigger("p/long", 1);
    world.pass(100);
    world.shared.ask(Duty::Draining, None);
    world.pass(4_000);
    assert_eq!(world.running.len(), 1, "what nobody else can run");
    assert_eq!((held(&world), world.agent.stats().drained), (0, true));
    let starts = world.starts_of("p/tick").len();
    world.pass(3_000);
    assert_eq!(world.starts_of("p/tick").len(), starts + 3);
}

#[test]
fn the_last_one_keeps_its_ranges_until_there_is_another() {
    let mut world = alone();
    world.shared.ask(Duty::Draining, None);
    world.pass(10_000);
    assert_eq!((told(&world), held(&world)), (Duty::Draining, 16));
    // One that takes none does not count.
    comes(&mut world, "b", Duty::Cordoned);
    world.pass(7_000);
    assert_eq!((held(&world), world.finals()), (16, 0));
    let starts = world.starts.len();
    world.pass(2_000);
    assert!(world.starts.len() >= starts + 16, "everything goes on");
    comes(&mut world, "b", Duty::Full);
    world.pass(3_000);
    assert_eq!((held(&world), world.agent.stats().drained), (0, true));
}

#[test]
fn a_drained_one_takes_what_nobody_else_can_and_gives_it_back() {
    let mut world = shared();
    world.shared.ask(Duty::Draining, None);
    world.pass(3_000);
    take_for_b(&mut world);
    world.pass(5_000);
    assert_eq!(held(&world), 0);
    // The other is gone, and its ranges are vacant.
    world.shared.part("b");
    world.pass(3_000);
    assert_eq!((held(&world), world.agent.stats().drained), (16, false));
    comes(&mut world, "b", Duty::Full);
    world.pass(3_000);
    assert_eq!(held(&world), 0);
}

#[test]
fn one_that_can_carry_nothing_hands_over_even_to_a_drained_one() {
    let mut world = alone();
    comes(&mut world, "b", Duty::Draining);
    world.pass(3_000);
    assert_eq!(held(&world), 16, "the other takes none while this one can");
    world.tell(0, Input::Disk { free: false });
    world.pass(5_000);
    assert_eq!(held(&world), 0);
}

#[test]
fn a_cordoned_one_keeps_what_it_has_and_takes_no_more() {
    let mut world = shared();
    let before = held(&world);
    world.shared.ask(Duty::Cordoned, None);
    world.pass(10_000);
    assert_eq!((told(&world), held(&world)), (Duty::Cordoned, before));
    assert_eq!(world.finals(), 16 - before, "those before it was cordoned");
    // Ranges of the other become vacant: another may take them, this one waits.
    let others = (0..RANGES).map(RangeId);
    let others: Vec<_> = others.filter(|r| !world.agent.held().any(|held| held == *r)).collect();
    for range in &others {
        world.shared.unclaim(*range);
    }
    world.pass(10_000);
    assert_eq!((held(&world), world.agent.stats().drained), (before, false));
    // On full duty again it does what the other leaves undone.
    let claimed = world.told(claims);
    world.shared.ask(Duty::Full, None);
    world.pass(5_000);
    assert!(world.told(claims) > claimed);
}

#[test]
fn a_cordoned_one_that_cannot_run_them_hands_its_ranges_over() {
    let mut world = shared();
    world.shared.ask(Duty::Cordoned, None);
    world.pass(3_000);
    world.tell(0, Input::Disk { free: false });
    world.pass(5_000);
    assert_eq!(held(&world), 0);
}

#[test]
fn one_that_comes_back_drained_takes_nothing_until_it_is_uncordoned() {
    let mut world = World::new(16, 10);
    comes(&mut world, "b", Duty::Full);
    world.shared.ask(Duty::Draining, Some(40));
    world.pass(10_000);
    assert_eq!(world.shared.capacity("a"), Capacity { weight: 40, duty: Duty::Draining });
    assert_eq!((held(&world), world.agent.stats().drained), (0, true));
    assert_eq!(world.told(claims), 0, "not for a moment");
    world.shared.ask(Duty::Full, Some(40));
    world.pass(3_000);
    assert!(held(&world) > 0 && !world.agent.stats().drained);
}

#[test]
fn a_weight_that_is_asked_for_stands_in_place_of_the_configured_one() {
    let mut world = shared();
    world.shared.ask(Duty::Full, Some(700));
    world.pass(100);
    assert_eq!(world.shared.capacity("a").weight, 700);
    world.tell(0, Input::Disk { free: false });
    world.pass(500);
    assert_eq!(world.shared.capacity("a").weight, 0, "it can carry nothing all the same");
    world.tell(0, Input::Disk { free: true });
    world.shared.ask(Duty::Full, None);
    world.pass(500);
    assert_eq!(world.shared.capacity("a").weight, 100);
}

#[test]
fn a_session_that_tells_of_a_drain_is_as_old_as_it_was() {
    let mut world = shared();
    world.shared.ask(Duty::Draining, None);
    world.pass(500);
    let since = world.requests.iter().filter_map(|(at, request)| match request {
        ShareRequest::Register { .. } => Some(world.at_second(0).wall().micros() + to_i64(*at)),
        ShareRequest::Reweigh { since, .. } => Some(since.micros()),
        _ => None,
    });
    let since: Vec<i64> = since.collect();
    assert!(since.len() == 2 && since[0] == since[1], "{since:?}");
}

fn to_i64(us: u64) -> i64 {
    i64::try_from(us).expect("small")
}
