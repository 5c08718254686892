//! Making up for an outage: so many catch-ups a second for the whole agent, each range in its turn,
//! and what is on time goes first.

use std::time::Duration;

use tocktower_core::agent::Settled;
use tocktower_core::agent::effect::ShareRequest;
use tocktower_core::agent::input::{Input, RangeNews};
use tocktower_core::ids::{RangeId, RunId};
use tocktower_core::ledger::EntryState;
use tocktower_core::limits::CATCH_UP_STARTS_PER_S;
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::schedule::jitter;
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec};

use crate::words::{every, named, of_range, writes_ledger};
use crate::world::{Fate, Started, World};

const BUDGET: usize = CATCH_UP_STARTS_PER_S as usize;
/// When the agent comes: an instant of a task of every minute is 12 s old.
const COMES_MS: u64 = 132_000;

/// Nobody was there for two minutes, and so many tasks of each range wait for their last instant.
fn outage(ranges: u16, places: usize, tasks: usize) -> World {
    let mut world = World::new(u32::from(ranges), places);
    let window = Duration::from_secs(3_600);
    for range in 0..ranges {
        for name in of_range(&world, range, "late/t", tasks) {
            let catch_up = CatchUp { policy: CatchUpPolicy::Latest, window };
            world.create(Spec { catch_up, ..every(&name, 60) });
        }
    }
    world.stop(COMES_MS);
    world
}

fn made_up(world: &World) -> Vec<&Started> {
    world.starts.iter().filter(|s| s.run.task.namespace.as_str() == "late").collect()
}

fn made_up_of(world: &World, range: u16) -> usize {
    let of = |s: &&&Started| world.shared.ranges.range_of(&s.run.task) == RangeId(range);
    made_up(world).iter().filter(of).count()
}

/// How late the starts of what is on time are, at most, in milliseconds.
fn worst_ms(world: &World) -> i64 {
    let begin_us = world.at_second(0).wall().micros();
    let on_time = world.starts.iter().filter(|s| s.run.task.namespace.as_str() == "now");
    let late = on_time.map(|s| begin_us + i64::try_from(s.at_us).expect("small") - s.due.micros());
    late.max().expect("something was on time") / 1_000
}

/// The most that started within any stretch of this length.
fn most_within(world: &World, seconds: u64) -> usize {
    let times: Vec<u64> = made_up(world).iter().map(|start| start.at_us).collect();
    let within = |from: u64| times.partition_point(|at| *at < from + seconds * 1_000_000);
    let counts = times.iter().enumerate().map(|(before, from)| within(*from) - before);
    counts.max().unwrap_or(0)
}

#[test]
fn every_range_gets_its_turn_though_each_has_more_than_a_second_allows() {
    let mut world = outage(4, 5_000, 500);
    world.pass(COMES_MS + 4_500);
    let counts: Vec<usize> = (0..4).map(|range| made_up_of(&world, range)).collect();
    assert!(counts.iter().all(|count| *count >= 100), "{counts:?}");
    world.pass(7_000);
    assert_eq!(made_up(&world).len(), 2_000, "ten seconds' worth");
    assert_eq!(most_within(&world, 1), BUDGET);
}

#[test]
fn a_range_with_few_does_not_wait_for_one_with_many() {
    let mut world = outage(2, 5_000, 1_500);
    let few = of_range(&world, 1, "late/few", 10);
    for name in of_range(&world, 1, "late/t", 1_500) {
        world.delete(&name);
    }
    for name in &few {
        world.create(every(name, 60));
    }
    world.pass(COMES_MS + 2_500);
    assert_eq!(made_up_of(&world, 1), 10 * 2, "of both minutes");
    assert!(made_up_of(&world, 0) > 2 * BUDGET - 50);
}

#[test]
fn what_is_on_time_is_not_held_up() {
    let mut world = outage(2, 5_000, 1_000);
    for range in 0..2 {
        for name in of_range(&world, range, "now/t", 20) {
            let catch_up =
                CatchUp { policy: CatchUpPolicy::None, window: Duration::from_secs(3_600) };
            world.create(Spec { catch_up, ..every(&name, 1) });
        }
    }
    world.pass(COMES_MS + 1_000);
    let before = world.starts.len();
    world.starts.clear();
    world.pass(9_000);
    assert!(before > 0);
    assert!(worst_ms(&world) <= 5, "{} ms", worst_ms(&world));
    let on_time = world.starts.len() - made_up(&world).len();
    assert_eq!(on_time, 9 * 40);
}

#[test]
fn where_places_are_few_what_is_on_time_goes_first() {
    // Ten places and 400 ms an attempt: 25 starts a second, eight times less than are allowed.
    let mut world = outage(2, 10, 300);
    world.usual = Duration::from_millis(400);
    for range in 0..2 {
        let name = of_range(&world, range, "now/t", 1).remove(0);
        let catch_up = CatchUp { policy: CatchUpPolicy::None, window: Duration::from_secs(3_600) };
        world.create(Spec { catch_up, ..every(&name, 1) });
    }
    world.pass(COMES_MS + 1_000);
    world.starts.clear();
    world.pass(20_000);
    assert!(worst_ms(&world) <= 405, "a place comes free: {} ms", worst_ms(&world));
    assert!(made_up(&world).len() > 400, "the others go on: {}", made_up(&world).len());
}

#[test]
fn what_waits_for_a_free_place_to_be_made_up_skips_nothing_that_is_on_time() {
    let mut world = World::new(1, 1);
    let catch_up = CatchUp { policy: CatchUpPolicy::Latest, window: Duration::from_secs(3_600) };
    world.create(Spec { catch_up, ..every("late/task", 60) });
    world.create(Spec { priority: 1, ..world.once("a/hog", 131) });
    world.runs_long("a/hog");
    world.stop(COMES_MS);
    world.pass(190_000);
    assert_eq!(world.started("a/hog").len(), 1, "the only place is taken");
    assert_eq!(world.history("late/task"), ["60 skipped: catch-up: a later instant stands for it"]);
    world.end("a/hog", AttemptEnd::Succeeded);
    world.pass(1_000);
    assert_eq!(world.started("late/task"), [(180, 1), (120, 1)]);
    world.pass(60_000);
    world.each_ended_once(&world.task("late/task"), 1, 241);
    assert_eq!(world.ended("late/task", RunState::Succeeded), 3);
}

#[test]
fn a_range_that_may_not_start_uses_up_nothing_of_what_others_may() {
    let mut world = outage(2, 1, 1_000);
    world.usual = Duration::MAX;
    world.pass(COMES_MS + 1_500);
    assert_eq!(made_up(&world).len(), 1, "it has the only place");
    let first = made_up(&world)[0].run.task.to_string();
    world.usual = Duration::from_millis(1);
    // The watch of the first range has begun to list it, and does not come to an end.
    let sent = world.now();
    world.shared.news.push((RangeId(0), RangeNews::ListBegan { sent }));
    world.pass(100);
    world.end(&first, AttemptEnd::Succeeded);
    world.pass(3_900);
    assert!(made_up_of(&world, 0) <= 1);
    // Its own share of the first second, and all that the next three allow.
    assert!(made_up_of(&world, 1) > 3 * BUDGET, "{}", made_up_of(&world, 1));
    world.shared.list(RangeId(0), world.now());
    world.pass(9_000);
    assert_eq!(made_up(&world).len(), 2_000);
}

#[test]
fn what_could_not_start_for_a_while_is_no_storm_afterwards() {
    let mut world = outage(1, 5_000, 2_000);
    world.pass(COMES_MS + 500);
    world.tell(0, Input::Disk { free: false });
    world.pass(6_000);
    let before = made_up(&world).len();
    assert!(before <= BUDGET);
    world.tell(0, Input::Disk { free: true });
    world.pass(15_000);
    // A share that was granted and could not be used is not granted twice.
    for seconds in [1, 3, 6] {
        let most = most_within(&world, seconds);
        assert!(
            most <= BUDGET * (usize::try_from(seconds).expect("it fits") + 1),
            "{most} in {seconds} s"
        );
    }
    assert_eq!(made_up(&world).len(), 2_000);
}

#[test]
fn of_a_task_that_is_deleted_while_it_is_made_up_for_every_instant_ends_by_name() {
    let mut world = World::new(1, 5);
    let catch_up = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    world.create(Spec { catch_up, ..every("late/all", 1) });
    let task = world.task("late/all");
    world.stop(COMES_MS);
    world.pass(COMES_MS);
    while made_up(&world).len() < 3 {
        world.pass(20);
    }
    world.delete("late/all");
    world.pass(5_000);
    assert!(made_up(&world).len() < 100, "the rest was still to come");
    world.each_ended_once(&task, 1, COMES_MS / 1_000);
}

#[test]
fn one_of_a_series_is_settled_by_a_ledger_that_has_gone_past_it() {
    // The marks cover all of a series from the moment at which it is decided.
    let mut world = World::new(1, 5);
    let catch_up = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    world.create(Spec { catch_up, overlap: Overlap::Queue, ..every("late/all", 1) });
    world.conduct("late/all", 50, &[]);
    world.stop(COMES_MS);
    world.pass(COMES_MS + 3_000);
    let listed = world.listed("late/all");
    assert!(listed.iter().any(|entry| matches!(entry.state, EntryState::CatchUp { .. })));
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    let before = world.store.history.len();
    world.pass(1_000);
    assert!(world.store.history.len() > before + 10);
    let settled = |world: &World| {
        world.store.history[before..]
            .iter()
            .filter(|row| world.agent.settled(row) == Settled::Here)
            .count()
    };
    assert_eq!(settled(&world), 0);
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(2_000);
    assert!(settled(&world) > 10);
}

#[test]
fn a_series_goes_round_what_a_former_holder_had_begun_and_ends_nothing_behind_it() {
    let mut world = World::new(1, 5);
    let catch_up = CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) };
    world.create(Spec { catch_up, overlap: Overlap::Queue, ..every("late/all", 1) });
    let task = world.task("late/all");
    // It had got as far as the fourth second, and was to try that of the twentieth again.
    let begun = RunId::scheduled(named("late/all"), task.incarnation, world.at_second(20));
    let waiting = EntryState::Waiting { at: world.at_second(20).wall() };
    world.former_ledger(world.at_second(4), begun, waiting);
    world.stop(40_000);
    world.pass(43_500);
    let mut started = world.started("late/all");
    started.sort_unstable();
    let attempt = |second| (second, if second == 20 { 2 } else { 1 });
    assert_eq!(started, (5..=43).map(attempt).collect::<Vec<_>>());
    world.each_ended_once(&task, 5, 43);
}

#[test]
fn what_is_not_due_yet_is_not_missed_with_what_is() {
    // Each is due up to 40 s after its instant, and nobody is there from the beginning to 135 s.
    let mut world = World::new(1, 100);
    let names: Vec<String> = (0..40).map(|number| format!("a/task{number}")).collect();
    let window = Duration::from_secs(3_600);
    for name in &names {
        let catch_up = CatchUp { policy: CatchUpPolicy::None, window };
        let jitter = Duration::from_secs(40);
        world.create(Spec { catch_up, jitter, ..every(name, 60) });
    }
    world.stop(135_000);
    world.pass(175_000);
    let due = |name: &String| {
        let (at, next) = (world.at_second(120), world.at_second(180));
        jitter::due(&named(name), at, Some(next), Duration::from_secs(40))
    };
    let late = world.at_second(125).wall();
    let on_time = names.iter().filter(|name| due(name) > late.plus(Duration::from_secs(1)));
    let on_time: Vec<&String> = on_time.collect();
    let mut missed = names.iter().filter(|name| due(name) < late);
    assert!(on_time.len() > 20, "{}", on_time.len());
    assert!(on_time.iter().all(|name| world.started(name) == [(120, 1)]));
    assert!(missed.all(|name| world.started(name).is_empty()));
    names.iter().for_each(|name| world.each_ended_once(&world.task(name), 1, 121));
}

#[test]
fn each_of_two_schedules_is_made_up_for_on_its_own_side_of_the_edit() {
    for policy in [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All] {
        let mut world = World::new(1, 5);
        let catch_up = CatchUp { policy, window: Duration::from_secs(3_600) };
        world.create(Spec { catch_up, overlap: Overlap::Queue, ..every("late/task", 10) });
        world.pass(5_000);
        // No write is answered, so that it has no licence: nothing is decided.
        world.fate(|request| match request {
            ShareRequest::Write(_) | ShareRequest::ReadBack { .. } => Fate::Lost,
            _ => Fate::Served,
        });
        world.pass(20_000);
        let schedules = every("late/task", 7).schedules;
        world.edit("late/task", |spec| Spec { schedules, ..spec });
        world.pass(20_000);
        world.fate(|_| Fate::Served);
        world.pass(5_000);
        let mut ended = world.history("late/task");
        ended.sort_unstable();
        let ended: Vec<&str> = ended.iter().map(|row| row.split(':').next().unwrap()).collect();
        let expected: &[&str] = match policy {
            CatchUpPolicy::None => &["10..25 missed", "27..40 missed"],
            CatchUpPolicy::Latest => &["10 skipped", "20 succeeded", "27..40 skipped"],
            CatchUpPolicy::All => &["10 succeeded", "20 succeeded", "27 succeeded", "34 succeeded"],
        };
        assert_eq!(ended, [expected, &["41 succeeded", "48 succeeded"]].concat(), "{policy:?}");
    }
}

#[test]
fn what_may_overlap_is_made_up_for_though_one_of_its_task_always_runs() {
    for (policy, late) in
        [(CatchUpPolicy::Latest, vec![60]), (CatchUpPolicy::All, vec![20, 40, 60])]
    {
        let mut world = World::new(1, 10);
        let catch_up = CatchUp { policy, window: Duration::from_secs(3_600) };
        world.create(Spec { catch_up, overlap: Overlap::Allow, ..every("a/task", 20) });
        world.conduct("a/task", 30_000, &[]);
        world.stop(79_000);
        world.pass(300_000);
        let started = world.started("a/task");
        let seconds = started.iter().map(|(second, _)| *second);
        let made_up: Vec<i64> = seconds.filter(|second| *second < 80).collect();
        assert_eq!(made_up, late, "{policy:?}: {started:?}");
    }
}
