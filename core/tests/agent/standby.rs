//! A warm standby: the agent `a` follows what `b` holds, and goes on with it when `b` is gone,
//! without listing anything.

use std::collections::BTreeMap;

use tocktower_core::agent::effect::Notice;
use tocktower_core::agent::input::Input;
use tocktower_core::ids::{AgentName, RangeId, Session};
use tocktower_core::ring::{Capacity, Duty, Ring, WEIGHT_DEFAULT};
use tocktower_core::task::{Overlap, Spec};

use crate::shared::EPOCH;
use crate::words::{every, of_range};
use crate::world::World;

/// The ranges of each owner, with the standby of each.
fn ring(agents: &[&str]) -> Ring {
    let name = |agent: &&str| AgentName::parse(agent).expect("a good name");
    let full = Capacity { weight: WEIGHT_DEFAULT, duty: Duty::Full };
    let members: BTreeMap<_, _> = agents.iter().map(|agent| (name(agent), full)).collect();
    Ring::new(tocktower_core::hash::RangeCount::new(8).expect("a power of two"), &members)
}

/// The ranges that the ring of these agents gives to one of them at this rank.
fn ranked(agents: &[&str], agent: &str, rank: usize) -> Vec<RangeId> {
    let (ring, agent) = (ring(agents), AgentName::parse(agent).expect("a good name"));
    (0..8).map(RangeId).filter(|range| ring.rank(*range, &agent) == Some(rank)).collect()
}

fn joins(world: &mut World, agent: &str) -> Session {
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    world.shared.join(agent, session, WEIGHT_DEFAULT);
    session
}

/// `a` comes to a cluster in which `b` holds its share; and one of the ranges that it holds.
fn beside_b() -> (World, RangeId) {
    let mut world = World::new(8, 100);
    let b = joins(&mut world, "b");
    let ranges = ranked(&["a", "b"], "b", 0);
    assert_eq!(ranges, ranked(&["a", "b"], "a", 1));
    for range in &ranges {
        world.shared.claim(*range, "b", b);
    }
    (world, ranges[0])
}

fn name_in(world: &World, range: RangeId) -> String {
    of_range(world, range.0, "a/task", 1).remove(0)
}

/// Time goes on, and `b` writes as a holder does.
fn pass(world: &mut World, ms: u64) {
    pass_with_beats(world, ms, 500);
}

fn pass_with_beats(world: &mut World, ms: u64, every_ms: u64) {
    for _ in 0..ms / every_ms {
        world.pass(every_ms);
        world.shared.beat_as("b");
    }
    world.pass(ms % every_ms);
}

fn lists_of(world: &World, range: RangeId) -> usize {
    world.lists.iter().filter(|(_, of)| *of == range).count()
}

#[test]
fn it_lists_what_it_stands_by_for_once_and_follows_it_and_decides_nothing() {
    let (mut world, range) = beside_b();
    let names = of_range(&world, range.0, "a/task", 3);
    world.create(every(&names[0], 1));
    world.create(every(&names[1], 1));
    pass(&mut world, 2_000);
    let standbys = ranked(&["a", "b"], "a", 1);
    assert!(standbys.iter().all(|range| lists_of(&world, *range) == 1), "{:?}", world.lists);
    world.create(every(&names[2], 1));
    world.delete(&names[0]);
    pass(&mut world, 8_000);
    let stats = world.agent.stats();
    assert_eq!((stats.standby, stats.standby_tasks), (standbys.len(), 2));
    assert_eq!(world.store.tasks_of(range), names[1..]);
    assert_eq!((stats.near, stats.open, world.starts.len()), (0, 0, 0));
    assert!(standbys.iter().all(|range| lists_of(&world, *range) == 1), "{:?}", world.lists);
    assert_eq!(world.reopened, []);
}

#[test]
fn it_takes_over_at_once_and_without_listing() {
    let (mut world, range) = beside_b();
    let name = name_in(&world, range);
    world.create(every(&name, 1));
    pass(&mut world, 5_300);
    let behind = world.at_second(4);
    world.shared.behind_as(range, behind);
    world.pass(400);
    let vacant_us = world.now_us;
    world.shared.part("b");
    world.pass(2_000);
    assert_eq!(world.started(&name), [(5, 1), (6, 1), (7, 1)]);
    let first = world.starts[0].at_us - vacant_us;
    assert!(first < 20_000, "the first overdue run starts {first} us after the claim is free");
    assert_eq!(lists_of(&world, range), 1);
    assert_eq!(world.agent.held().count(), 8);
}

#[test]
fn what_became_of_tasks_while_it_stood_by_holds_when_it_takes_over() {
    let (mut world, range) = beside_b();
    let names = of_range(&world, range.0, "a/task", 5);
    let [kept, deleted, edited, paused, anew] = &names[..] else { panic!("five") };
    for name in &names {
        world.create(every(name, 1));
    }
    pass(&mut world, 3_300);
    let behind = world.at_second(3);
    world.shared.behind_as(range, behind);
    world.delete(deleted);
    world.edit(edited, |spec| Spec {
        schedules: every(&spec.name.to_string(), 2).schedules,
        ..spec
    });
    world.pause(paused);
    world.delete(anew);
    world.create(every(anew, 2));
    pass(&mut world, 1_000);
    world.shared.part("b");
    world.pass(2_000);
    assert_eq!(world.started(kept), [(4, 1), (5, 1), (6, 1)]);
    assert_eq!(world.started(deleted), []);
    assert_eq!(world.started(edited), [(4, 1), (6, 1)]);
    assert_eq!(world.started(paused), []);
    assert_eq!(world.started(anew), [(4, 1), (6, 1)]);
    assert_eq!(lists_of(&world, range), 1);
}

#[test]
fn of_an_edit_that_the_ledger_does_not_cover_both_schedules_hold() {
    let (mut world, range) = beside_b();
    let name = name_in(&world, range);
    let thirds =
        |spec: Spec| Spec { schedules: every(&spec.name.to_string(), 3).schedules, ..spec };
    world.create(Spec { overlap: Overlap::Allow, ..every(&name, 1) });
    pass(&mut world, 2_100);
    let behind = world.at_second(1);
    world.shared.behind_as(range, behind);
    pass(&mut world, 1_300);
    world.edit(&name, thirds);
    pass(&mut world, 1_000);
    world.shared.part("b");
    world.pass(2_000);
    assert_eq!(world.started(&name), [(2, 1), (3, 1), (6, 1)]);
}

#[test]
fn a_trigger_and_a_one_shot_that_came_meanwhile_run_after_the_takeover() {
    let (mut world, range) = beside_b();
    let names = of_range(&world, range.0, "a/task", 2);
    world.create(every(&names[0], 3_600));
    pass(&mut world, 1_000);
    world.trigger(&names[0], 7);
    world.create(world.once(&names[1], 4));
    pass(&mut world, 4_000);
    assert!(world.starts.is_empty());
    world.shared.part("b");
    world.pass(1_000);
    assert_eq!((world.started(&names[0]), world.started(&names[1])), (vec![(7, 1)], vec![(4, 1)]));
    assert_eq!(lists_of(&world, range), 1);
}

#[test]
fn a_ledger_that_its_watch_has_lost_makes_it_list_before_anything_starts() {
    let (mut world, range) = beside_b();
    let name = name_in(&world, range);
    world.create(every(&name, 1));
    pass(&mut world, 5_200);
    world.shared.behind_as(range, world.at_second(5));
    world.shared.news.retain(|(at, _)| *at != range);
    world.pass(200);
    world.shared.part("b");
    world.pass(2_000);
    assert_eq!(world.started(&name), [(6, 1), (7, 1)]);
    assert_eq!(lists_of(&world, range), 2);
}

#[test]
fn what_is_another_agents_to_stand_by_for_is_forgotten_and_listed_again_when_it_comes_back() {
    let (mut world, _) = beside_b();
    pass(&mut world, 1_000);
    let all = ["a", "b", "c"];
    let mut moved = ranked(&["a", "b"], "a", 1);
    moved.retain(|range| ranked(&all, "a", 2).contains(range));
    let range = *moved.first().expect("one of four is");
    let name = name_in(&world, range);
    world.create(every(&name, 1));
    pass(&mut world, 1_000);
    assert_eq!(world.store.tasks_of(range), std::slice::from_ref(&name));
    joins(&mut world, "c");
    pass(&mut world, 1_000);
    assert_eq!(world.store.tasks_of(range), [""; 0]);
    world.shared.part("c");
    pass(&mut world, 1_000);
    assert_eq!(world.store.tasks_of(range), [name]);
    assert_eq!(lists_of(&world, range), 2);
}

#[test]
fn what_it_hands_on_to_another_it_stands_by_for_without_listing_it_again() {
    let mut world = World::new(8, 100);
    let mine = ranked(&["a", "b"], "b", 0);
    let name = name_in(&world, mine[0]);
    world.create(every(&name, 1));
    world.pass(2_500);
    let b = joins(&mut world, "b");
    for _ in 0..50 {
        world.pass(50);
        for range in &mine {
            if world.shared.of(*range).claim.is_none() {
                world.shared.claim(*range, "b", b);
            }
        }
    }
    let (lists, ran) = (world.lists.len(), world.starts.len());
    let stats = world.agent.stats();
    assert_eq!((stats.held, stats.standby), (8 - mine.len(), mine.len()));
    assert_eq!((stats.near, world.store.tasks_of(mine[0])), (0, vec![name.clone()]));
    world.shared.part("b");
    world.pass(1_000);
    assert!(world.starts.len() > ran && world.lists.len() == lists);
}

#[test]
fn a_watch_that_keeps_silent_is_opened_again_and_brings_what_it_had_not_said() {
    let (mut world, range) = beside_b();
    let name = name_in(&world, range);
    world.create(every(&name, 1));
    pass(&mut world, 2_000);
    world.silent.insert(range);
    let silent_us = world.now_us;
    world.delete(&name);
    pass(&mut world, 8_000);
    let [(at, of)] = world.reopened[..] else { panic!("{:?}", world.reopened) };
    assert_eq!(of, range);
    let after = at - silent_us;
    assert!((5_400_000..6_600_000).contains(&after), "two lease times: {after} us");
    assert_eq!((lists_of(&world, range), world.store.tasks_of(range)), (1, vec![]));
    world.shared.part("b");
    world.pass(1_000);
    assert_eq!(world.started(&name), []);
}

#[test]
fn a_watch_that_shows_no_holder_while_claims_are_refused_is_opened_again() {
    let (mut world, range) = beside_b();
    pass(&mut world, 2_000);
    // It brings that the claim is gone, and not that there is another.
    let b = world.shared.of(range).claim.as_ref().expect("b's").session;
    world.shared.unclaim(range);
    world.pass(50);
    world.silent.insert(range);
    world.shared.claim(range, "b", b);
    pass(&mut world, 12_000);
    assert!(world.reopened.iter().any(|(_, of)| *of == range), "{:?}", world.reopened);
    assert_eq!(world.shared.of(range).claim.as_ref().expect("b's").session, b);
}

#[test]
fn the_watch_of_a_holder_that_writes_rarely_is_soon_left_alone() {
    let (mut world, _) = beside_b();
    pass_with_beats(&mut world, 200_000, 10_000);
    let standbys = ranked(&["a", "b"], "a", 1).len();
    assert_eq!(world.reopened.len(), standbys, "once each: {:?}", world.reopened);
}

#[test]
fn copies_are_made_one_after_the_other_when_all_that_is_to_be_held_is() {
    let (mut world, first) = beside_b();
    for name in of_range(&world, first.0, "a/task", 2_000) {
        world.create(every(&name, 3_600));
    }
    world.shared.news.clear();
    pass(&mut world, 3_000);
    let standbys = ranked(&["a", "b"], "a", 1);
    let of_standbys: Vec<_> =
        world.lists.iter().filter(|(_, range)| standbys.contains(range)).collect();
    assert_eq!(of_standbys.len(), standbys.len());
    assert!(of_standbys.is_sorted_by(|one, next| one.0 < next.0), "{of_standbys:?}");
    let pause = of_standbys[1].0 - of_standbys[0].0;
    assert!((95_000..200_000).contains(&pause), "2,000 at 20,000 a second: {pause} us");
    let pooled = |range: &RangeId| !RangeId::LOCAL.contains(range);
    let held = world.notices.iter();
    let held = held.filter(|(_, n)| matches!(n, Notice::Holding { range, .. } if pooled(range)));
    assert_eq!(held.clone().count(), 8 - standbys.len());
    assert!(held.map(|(at, _)| *at).max() <= Some(of_standbys[0].0), "after what it holds");
}

#[test]
fn a_process_that_comes_after_makes_its_copies_true_again() {
    let (mut world, range) = beside_b();
    let names = of_range(&world, range.0, "a/task", 2);
    world.create(every(&names[0], 1));
    world.create(every(&names[1], 1));
    pass(&mut world, 2_000);
    world.delete(&names[0]);
    world.restart();
    pass(&mut world, 1_500);
    assert_eq!(world.store.tasks_of(range), names[1..]);
    world.shared.behind_as(range, world.at_second(3));
    pass(&mut world, 500);
    world.shared.part("b");
    world.pass(1_000);
    assert_eq!((world.started(&names[0]).len(), world.started(&names[1])), (0, vec![(4, 1)]));
}

#[test]
fn a_process_that_comes_after_forgets_what_is_not_its_own_any_more() {
    let (mut world, range) = beside_b();
    let name = name_in(&world, range);
    world.create(every(&name, 1));
    pass(&mut world, 2_000);
    let all = ["a", "b", "c", "d", "e", "f"];
    for agent in &all[2..] {
        joins(&mut world, agent);
    }
    world.shared.end_lease();
    world.restart();
    pass(&mut world, 2_000);
    let ring = ring(&all);
    let followed = ring.ranking(range)[..2].iter().any(|agent| agent.as_str() == "a");
    assert!(!followed, "the story needs another range");
    assert_eq!(world.store.tasks_of(range), [""; 0]);
}

#[test]
fn one_that_leaves_stands_by_for_nothing() {
    let (mut world, range) = beside_b();
    let name = name_in(&world, range);
    world.create(every(&name, 1));
    pass(&mut world, 2_000);
    world.tell(0, Input::Leave { deadline: std::time::Duration::from_secs(5) });
    pass(&mut world, 1_000);
    assert_eq!(world.store.tasks_of(range), [""; 0]);
}
