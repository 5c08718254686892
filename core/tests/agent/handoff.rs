//! When a range is handed on: in a lull. And a final ledger that fails: nothing of the range starts
//! from its sending until a later ledger is answered, and after a second the range goes on as
//! before, to be handed on another time.

use std::cell::Cell;

use tocktower_core::agent::Settled;
use tocktower_core::agent::effect::{Notice, SettledEnd, ShareRequest, WriteKind};
use tocktower_core::agent::input::{ReadBack, ShareAnswer, SharedNews, WriteOutcome};
use tocktower_core::ids::{RangeId, RunId, Session};
use tocktower_core::ledger::EntryState;
use tocktower_core::run::AttemptEnd;
use tocktower_core::task::{Overlap, Spec};

use crate::shared::EPOCH;
use crate::words::{every, every_after, named, writes_final};
use crate::world::{Fate, Sent, World};

const RANGE: RangeId = RangeId(0);

/// A holder of one range with a task of every second, which is to go to another agent.
fn to_go() -> World {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/tick", 1) });
    world.pass(3_500);
    go(&mut world, "b");
    world
}

/// The ring gives everything to one agent.
fn go(world: &mut World, owner: &str) {
    let mine = world.shared.session("a");
    let other = Session { epoch: EPOCH, revision: world.shared.next() };
    world.shared.join("b", other, if owner == "b" { 100 } else { 0 });
    world.shared.join("a", mine, if owner == "a" { 100 } else { 0 });
}

fn finals_fail(world: &mut World, count: usize, fate: Fate) {
    let left = Cell::new(count);
    world.fate(move |request| match writes_final(request) && left.get() > 0 {
        true => {
            left.set(left.get() - 1);
            fate.clone()
        }
        false => Fate::Served,
    });
}

/// When the first final ledger was sent.
fn first_final(world: &World) -> u64 {
    let mut sent = world.sent.iter();
    let first = sent.find(|sent| matches!(sent.kind, WriteKind::Final { .. }));
    first.expect("a final ledger").at_us
}

/// From the moment at which a final ledger is sent the watches are silent.
fn deaf_from_the_final_on(world: &mut World) {
    while world.finals() == 0 {
        world.pass_us(100);
    }
    world.deaf = true;
}

fn handed_off(world: &World) -> bool {
    world.told(|notice| matches!(notice, Notice::HandedOff { .. })) > 0
}

/// Every second up to this one was run, once, and none later than it may be.
#[track_caller]
fn each_ran(world: &World, seconds: i64, late_ms: i64) {
    let all: Vec<(i64, u32)> = (1..=seconds).map(|at| (at, 1)).collect();
    assert_eq!(world.started("a/tick"), all);
    let begin_us = world.at_second(0).wall().micros();
    let late = |at_us: u64, due_us: i64| begin_us + i64::try_from(at_us).expect("small") - due_us;
    let late = world.starts.iter().map(|s| late(s.at_us, s.due.micros()) / 1_000).max();
    assert!(late <= Some(late_ms), "{late:?} ms late");
}

#[test]
fn in_calm_the_range_goes_with_its_next_ledger_and_nothing_starts_after_it() {
    let mut world = to_go();
    world.pass(3_000);
    assert!(handed_off(&world));
    assert_eq!((world.finals(), world.agent.held().count()), (1, 0));
    assert!(world.shared.of(RANGE).claim.is_none());
    let sent = world.sent.last().expect("it fits").at_us;
    assert!(world.starts.iter().all(|start| start.at_us <= sent));
}

#[test]
fn a_range_goes_when_nothing_is_due_for_a_while() {
    for phase in 0..10 {
        let mut world = World::new(1, 10);
        world.create(every_after("a/tick", 1, phase * 100));
        world.pass(3_500);
        go(&mut world, "b");
        world.pass(3_000);
        assert!(handed_off(&world));
        let begun = (first_final(&world) / 1_000 + 1_000 - phase * 100) % 1_000;
        assert!(begun < 550, "{begun} ms after the last instant");
    }
}

#[test]
fn what_is_about_to_start_starts_before_its_range_goes() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(3_500);
    go(&mut world, "b");
    world.pass(1_490);
    assert!(!handed_off(&world));
    // What is due now is written down, and that takes longer than usual.
    world.hang_disk = true;
    world.pass(60);
    world.free_disk();
    world.pass(2_500);
    assert!(handed_off(&world));
    let started = world.started("a/task");
    assert!(started.contains(&(5, 1)), "{started:?}");
}

#[test]
fn one_in_which_something_is_always_due_goes_two_seconds_later() {
    let mut world = World::new(1, 100);
    for number in 0..20 {
        world.create(every_after(&format!("a/t{number}"), 1, number * 50));
    }
    world.pass(3_500);
    go(&mut world, "b");
    world.pass(1_700);
    assert!(!handed_off(&world), "there may be a lull yet");
    world.pass(1_500);
    assert!(handed_off(&world));
}

#[test]
fn a_wait_for_a_lull_that_a_change_of_the_members_broke_off_begins_anew() {
    let mut world = World::new(1, 100);
    for number in 0..20 {
        world.create(every_after(&format!("a/t{number}"), 1, number * 50));
    }
    world.pass(3_500);
    go(&mut world, "b");
    world.pass(1_900);
    go(&mut world, "b");
    world.pass(1_700);
    assert!(!handed_off(&world), "it looks for a lull since half a second");
    world.pass(3_000);
    assert!(handed_off(&world));
}

#[test]
fn one_that_fails_for_a_second_is_followed_by_an_ordinary_one_and_the_range_goes_on() {
    let fates = [Fate::Lost, Fate::Refused { retryable: true }, Fate::Refused { retryable: false }];
    for fate in fates {
        let mut world = to_go();
        finals_fail(&mut world, usize::MAX, fate.clone());
        world.pass(1_600);
        let first = first_final(&world);
        world.pass(1_500);
        let ordinary = |sent: &&Sent| matches!(sent.kind, WriteKind::Ledger { .. });
        let after = world.ledgers_since(RANGE, first).into_iter().find(ordinary);
        let after = after.expect("an ordinary ledger").at_us - first;
        assert!((900_000..1_300_000).contains(&after), "{fate:?}: {after} us");
        // It goes on: that nothing starts in between is a rule of the world.
        world.pass(20_000);
        go(&mut world, "a");
        world.pass(2_800);
        each_ran(&world, 29, 1_400);
        assert!(!handed_off(&world));
    }
}

#[test]
fn it_is_handed_on_when_the_next_one_goes_well() {
    let fates = [Fate::Lost, Fate::Refused { retryable: true }, Fate::Refused { retryable: false }];
    for fate in fates {
        let mut world = to_go();
        finals_fail(&mut world, 1, fate.clone());
        world.pass(8_000);
        assert!(handed_off(&world), "{fate:?}");
        assert!(world.finals() >= 2);
        let ran = world.started("a/tick").len();
        each_ran(&world, i64::try_from(ran).expect("it fits"), 1_400);
        // Whoever comes next has nothing to repeat.
        let marks = world.shared.ledger(RANGE).marks;
        assert!(marks.through >= world.at_second(u64::try_from(ran).expect("it fits")));
    }
}

#[test]
fn one_that_was_written_without_a_word_is_found_and_nothing_starts_any_more() {
    let mut world = to_go();
    finals_fail(&mut world, 1, Fate::AnswerLost);
    deaf_from_the_final_on(&mut world);
    world.pass(5_000);
    assert!(handed_off(&world));
    assert_eq!((world.finals(), world.agent.held().count()), (1, 0));
    let sent = world.sent.last().expect("it fits").at_us;
    assert!(world.starts.iter().all(|start| start.at_us <= sent));
}

#[test]
fn a_final_one_that_does_not_answer_keeps_the_range_still_and_beats_wait() {
    let mut world = to_go();
    finals_fail(&mut world, usize::MAX, Fate::Held);
    world.pass(4_000);
    assert_eq!((world.finals(), world.held.len()), (1, 1), "one at a time (L3)");
    let starts = world.starts.len();
    world.fate(|_| Fate::Served);
    world.release(|_, _| ShareAnswer::Unknown { error: "timed out".to_owned() });
    world.pass(3_000);
    assert!(world.starts.len() > starts || handed_off(&world));
}

#[test]
fn a_compare_that_fails_says_what_is_there() {
    // As it was: it is sent again. Another's claim: it is another's. Another ledger: list again.
    for case in ["as it was", "another's claim", "an earlier ledger", "a ledger of its fence"] {
        let mut world = to_go();
        finals_fail(&mut world, 1, Fate::Held);
        deaf_from_the_final_on(&mut world);
        world.pass(500);
        assert_eq!(world.held.len(), 1, "{case}");
        let fence = world.shared.of(RANGE).claim.as_ref().expect("it fits").fence;
        match case {
            "as it was" => {}
            "another's claim" => {
                world.shared.unclaim(RANGE);
                let session = world.shared.session("b");
                world.shared.claim(RANGE, "b", session);
            }
            "an earlier ledger" => {
                let earlier = tocktower_core::ids::Fence::default();
                world.shared.write_as(RANGE, earlier, 3);
            }
            _ => world.shared.write_as(RANGE, fence, 99),
        }
        let starts = world.starts.len();
        world.release(|world, _| {
            let keys = world.shared.of(RANGE);
            let (claim, ledger) = (keys.claim.clone(), keys.ledger.clone());
            ShareAnswer::Wrote(vec![WriteOutcome::Differs(ReadBack { claim, ledger })])
        });
        world.pass(700);
        assert_eq!(world.starts.len(), starts, "{case}");
        world.deaf = false;
        world.pass(6_000);
        let stranger = world.told(|notice| matches!(notice, Notice::Stranger { .. }));
        assert_eq!(stranger == 1, case == "a ledger of its fence", "{case}");
        if ["as it was", "another's claim"].contains(&case) {
            // It may have happened, and the other have taken the range up since.
            assert_eq!((world.starts.len(), handed_off(&world)), (starts, true), "{case}");
        }
        let finals = if case == "as it was" { 2 } else { 1 };
        assert!(world.finals() == finals || stranger == 1, "{case}: {}", world.finals());
        // One that comes back as a stranger is a member as any other.
        assert!(stranger == 1 || world.agent.held().count() == 0, "{case}");
    }
}

#[test]
fn what_runs_goes_on_and_is_the_holders_again_when_it_failed() {
    let mut world = to_go();
    world.runs_long("a/tick");
    world.pass(600);
    finals_fail(&mut world, usize::MAX, Fate::Lost);
    world.pass(3_000);
    go(&mut world, "a");
    world.pass(3_000);
    let running = world.running.len();
    assert!(running >= 4, "{running} run");
    world.end("a/tick", AttemptEnd::Succeeded);
    world.pass(1_500);
    assert!(world.store.history.len() >= running);
    let settles =
        |(_, request): &&(u64, ShareRequest)| matches!(request, ShareRequest::Settle { .. });
    assert_eq!(world.requests.iter().filter(settles).count(), 0, "they were never left");
}

#[test]
fn how_a_one_shot_ended_is_said_though_its_key_was_gone_before_the_final_ledger_was_known() {
    let mut world = World::new(1, 10);
    world.create(every("a/tick", 1));
    world.create(world.once("a/once", 3));
    world.runs_long("a/once");
    world.pass(3_500);
    go(&mut world, "b");
    world.fate(|request| match request {
        ShareRequest::ReadBack { .. } => Fate::Held,
        request if writes_final(request) => Fate::AnswerLost,
        _ => Fate::Served,
    });
    world.pass(2_500);
    assert_eq!((world.finals(), handed_off(&world)), (1, false));
    world.end("a/once", AttemptEnd::Succeeded);
    world.pass(500);
    assert!(!world.shared.of(RANGE).tasks.contains_key(&named("a/once")));
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(1_000);
    assert!(handed_off(&world));
    let said = world.requests.iter().filter_map(|(_, request)| match request {
        ShareRequest::Settle { settles, .. } => Some(settles.iter().map(|s| s.end)),
        _ => None,
    });
    let said: Vec<SettledEnd> = said.flatten().collect();
    assert!(!said.is_empty() && said.iter().all(|end| *end == SettledEnd::Succeeded), "{said:?}");
}

#[test]
fn what_went_on_after_its_range_had_gone_is_settled_when_its_end_is_written_down() {
    let settles = |request: &ShareRequest| matches!(request, ShareRequest::Settle { .. });
    for written in [true, false] {
        let mut world = World::new(1, 10);
        world.create(every("a/task", 3));
        world.runs_long("a/task");
        world.pass(3_500);
        go(&mut world, "b");
        world.pass(3_000);
        assert!(handed_off(&world) && world.running.len() == 1);
        world.fate(move |request| match settles(request) && !written {
            true => Fate::Lost,
            false => Fate::Served,
        });
        world.end("a/task", AttemptEnd::Succeeded);
        world.pass(500);
        let row = world.store.history.last().expect("its end").clone();
        assert_eq!(world.agent.settled(&row), Settled::NotYet, "it is listed as left running");
        // The next holder has it no more, as it has been told, or as it ran it again.
        let session = world.shared.session("b");
        let fence = world.shared.take_over(RANGE, "b", session);
        world.shared.write_as(RANGE, fence, 1);
        world.pass(500);
        let here = world.agent.settled(&row) == Settled::Here;
        assert_eq!(here, written, "{row:?}");
    }
}

/// A watch that is slow under load is not to be made slower.
#[test]
fn how_a_run_ended_is_said_once_a_second_while_the_watch_does_not_show_it() {
    let mut world = to_go();
    world.runs_long("a/tick");
    world.pass(600);
    world.pass(3_000);
    assert!(handed_off(&world) && !world.running.is_empty());
    world.silent.insert(RANGE);
    world.end("a/tick", AttemptEnd::Succeeded);
    let said = |world: &World| {
        let settles =
            |(_, request): &&(u64, ShareRequest)| matches!(request, ShareRequest::Settle { .. });
        world.requests.iter().filter(settles).count()
    };
    world.pass(500);
    let first = said(&world);
    assert!((1..=3).contains(&first), "said {first} times in half a second");
    world.pass(2_000);
    assert!((first + 1..=first * 4).contains(&said(&world)), "{} times", said(&world));
}

#[test]
fn a_run_of_a_session_that_the_watch_has_not_come_to_is_left_alone() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 60));
    // `b` came a moment ago and went on with the run; the members' watch is behind.
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    let run =
        RunId::scheduled(named("a/task"), world.task("a/task").incarnation, world.at_second(0));
    world.former_ledger(world.at_second(0), run, EntryState::Held { session });
    world.pass(8_000);
    assert_eq!(world.started("a/task"), []);
    // It comes to the session, and there is none: it is over.
    let revision = world.shared.next();
    world.shared.fleet_news.push(SharedNews::Delivered { revision });
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(0, 2)]);
}

#[test]
fn how_a_run_ended_is_asked_again_where_its_range_was_listed_anew_before_the_answer() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 60));
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    let incarnation = world.task("a/task").incarnation;
    let run = RunId::scheduled(named("a/task"), incarnation, world.at_second(0));
    world.former_ledger(world.at_second(0), run, EntryState::Held { session });
    let asks = |request: &ShareRequest| matches!(request, ShareRequest::ReadSettle { .. });
    world.fate(move |request| if asks(request) { Fate::Held } else { Fate::Served });
    world.pass(100);
    let revision = world.shared.next();
    world.shared.fleet_news.push(SharedNews::Delivered { revision });
    world.pass(100);
    assert_eq!(world.requests.iter().filter(|(_, request)| asks(request)).count(), 1);
    world.fate(|_| Fate::Served);
    world.list();
    world.pass(100);
    world.release(|world, request| world.serve(request));
    world.pass(1_000);
    assert_eq!(world.started("a/task"), [(0, 2)]);
}
