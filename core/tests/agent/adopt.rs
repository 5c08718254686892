//! A process that is killed and started again at once goes on with its session and its claims, from
//! what the one before wrote down: nothing is repeated but what it ran, and nothing waits.

use tocktower_core::agent::effect::{LoadRequest, Notice, SettleKey, SettledEnd, ShareRequest};
use tocktower_core::agent::input::{Input, SharedNews};
use tocktower_core::ids::{Attempt, LedgerNumber, RangeId, RunId, Session};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::limits::{SCAN_TASKS_MAX, SCAN_TASKS_MIN};
use tocktower_core::ring::{Capacity, Duty};
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::task::{Overlap, Spec};

use crate::shared::EPOCH;
use crate::words::{
    at_most_once, every, failed, named, of_range, retried, writes_final, writes_ledger,
};
use crate::world::{Fate, World};

const RANGE: RangeId = RangeId(0);

fn adopted(world: &World) -> usize {
    world.told(|notice| matches!(notice, Notice::Adopted { .. }))
}

#[test]
fn it_goes_on_within_milliseconds_and_repeats_nothing_that_had_ended() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.create(at_most_once(every("a/once", 1)));
    for _ in 0..5 {
        world.pass(2_700);
        let session = world.agent.session();
        world.restart();
        world.pass(290);
        assert_eq!(world.agent.session(), session);
        world.pass(10);
    }
    assert_eq!(adopted(&world), 5);
    world.pass(3_000);
    for name in ["a/task", "a/once"] {
        let started = world.started(name);
        let expected: Vec<(i64, u32)> = (1..=17).map(|second| (second, 1)).collect();
        assert_eq!(started, expected, "{name}");
        world.each_ended_once(&world.task(name), 1, 17);
    }
    let latest = world.starts.iter().map(|start| start.at_us % 1_000_000).max();
    assert!(latest < Some(300_000), "{latest:?}");
}

#[test]
fn what_it_ran_is_started_again_or_lost() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 10));
    world.create(at_most_once(every("a/once", 10)));
    world.runs_long("a/task");
    world.runs_long("a/once");
    world.pass(10_500);
    world.restart();
    world.pass(500);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2)]);
    assert_eq!(world.started("a/once"), [(10, 1)]);
    assert_eq!(world.ended("a/once", RunState::Lost), 1);
}

#[test]
fn what_it_had_permission_for_and_had_not_started_starts_on_time() {
    let mut world = World::new(1, 1);
    world.create(at_most_once(every("a/once", 10)));
    world.create(at_most_once(world.once("a/single", 10)));
    world.create(every("a/beats", 60));
    // One place, and it is taken: what is due waits for it, permitted.
    world.create(world.once("a/blocks", 8));
    world.runs_long("a/blocks");
    world.pass(9_500);
    assert_eq!(world.listed("a/once")[0].state, EntryState::Permitted);
    world.restart();
    world.pass(100);
    world.end("a/blocks", AttemptEnd::Succeeded);
    world.pass(450);
    assert_eq!(world.started("a/once"), [(10, 1)]);
    world.pass(2_000);
    assert_eq!(world.started("a/single"), [(10, 1)]);
    assert_eq!(world.ended("a/once", RunState::Lost), 0);
}

#[test]
fn one_that_waits_for_its_place_when_the_process_dies_was_never_started() {
    let mut world = World::new(1, 1);
    world.create(world.once("a/blocks", 5));
    world.runs_long("a/blocks");
    world.create(at_most_once(every("a/once", 6)));
    world.pass(8_500);
    assert_eq!(world.started("a/once"), []);
    assert_eq!(world.listed("a/once")[0].state, EntryState::Permitted);
    world.restart();
    world.conduct("a/blocks", 50, &[]);
    world.pass(1_000);
    assert_eq!(world.started("a/once"), [(6, 1)]);
    assert_eq!(world.history("a/once"), ["6 succeeded"]);
}

#[test]
fn a_one_shot_that_had_ended_is_deleted_and_not_started_again() {
    let mut world = World::new(1, 10);
    world.fate(|request| match request {
        ShareRequest::Delete(_) => Fate::Refused { retryable: true },
        _ => Fate::Served,
    });
    for (name, spec) in [("a/one", world.once("a/one", 3)), ("a/two", world.once("a/two", 3))] {
        world.create(if name == "a/two" { at_most_once(spec) } else { spec });
    }
    world.create(every("a/task", 60));
    world.trigger("a/task", 9);
    world.pass(5_000);
    world.restart();
    world.fate(|_| Fate::Served);
    world.pass(1_500);
    assert_eq!(world.started("a/one"), [(3, 1)]);
    assert_eq!(world.started("a/two"), [(3, 1)]);
    assert_eq!(world.started("a/task"), [(9, 1)]);
    assert!(world.shared.of(RANGE).tasks.keys().all(|name| *name == named("a/task")));
}

#[test]
fn a_retry_that_waited_goes_on_waiting() {
    let mut world = World::new(1, 10);
    world.create(retried(every("a/task", 10), 2, 5));
    world.conduct("a/task", 10, &[failed()]);
    world.pass(12_000);
    world.restart();
    world.pass(2_000);
    // How its attempt ended was known to the process alone: it counts as begun, and is tried again.
    assert!(world.started("a/task").len() <= 2);
    world.pass(4_000);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2)]);
    assert_eq!(world.history("a/task"), ["10 succeeded"]);
}

#[test]
fn a_retry_that_had_begun_is_not_begun_again_under_its_number() {
    let mut world = World::new(1, 10);
    world.create(retried(every("a/task", 10), 5, 1));
    world.conduct("a/task", 100, &[failed(), failed()]);
    world.pass(10_500);
    // The ledger lists it as waiting, and its second attempt began a moment ago.
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(650);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2)]);
    world.fate(|_| Fate::Served);
    world.restart();
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2), (10, 3)]);
}

#[test]
fn a_ledger_of_the_process_before_that_comes_late_is_taken_up() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(2_500);
    // Its next ledger is on its way when it dies, and arrives after the range was listed.
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(1_300);
    let late = world.held.pop().expect("a ledger was sent").1;
    world.fate(|_| Fate::Served);
    world.restart();
    world.pass_us(2_500);
    world.serve(&late);
    world.pass(500);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 0);
    assert_eq!(adopted(&world), 1);
    world.pass(2_200);
    let started = world.started("a/task");
    let expected: Vec<(i64, u32)> = (1..=6).map(|second| (second, 1)).collect();
    assert_eq!(started, expected);
}

#[test]
fn processes_that_are_killed_before_their_first_ledger_is_in_etcd_are_no_strangers() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(2_500);
    // The first ledger of each is in the store, and on its way when it is killed.
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.restart();
    world.pass(200);
    let late = world.held.pop().expect("a ledger was sent").1;
    world.restart();
    world.pass(200);
    // That of the first one came to etcd after the second had looked.
    world.serve(&late);
    world.restart();
    world.pass(200);
    world.fate(|_| Fate::Served);
    world.restart();
    world.pass(2_200);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 0);
    assert_eq!(adopted(&world), 4);
    let expected: Vec<(i64, u32)> = (1..=5).map(|second| (second, 1)).collect();
    assert_eq!(world.started("a/task"), expected);
}

#[test]
fn however_many_are_killed_so_the_ledger_that_is_in_etcd_is_known() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(2_500);
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    for _ in 0..40 {
        world.restart();
        world.pass(20);
        assert_eq!(std::mem::take(&mut world.held).len(), 1, "a ledger was sent");
    }
    let known = world.store.former().unwrap().numbers[&RANGE].len();
    assert_eq!(known, 17, "itself, and sixteen before it");
    world.fate(|_| Fate::Served);
    world.restart();
    world.pass(500);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 0);
    assert_eq!(adopted(&world), 41);
}

#[test]
fn what_a_process_before_sent_is_forgotten_once_a_ledger_after_it_is_in_etcd() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(2_500);
    world.restart();
    world.pass(2_500);
    let numbers = world.store.former().unwrap().numbers;
    assert_eq!(numbers[&RANGE].len(), 1);
}

#[test]
fn a_store_that_does_not_know_the_newest_ledger_gives_the_session_up() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(3_500);
    world.store.forget_number(RANGE, LedgerNumber { process: 7, count: 1 });
    world.restart();
    world.pass(500);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 1);
    world.pass(5_000);
    assert!(world.agent.session().is_some());
    assert!(world.started("a/task").contains(&(8, 1)));
}

#[test]
fn a_session_that_is_over_is_not_gone_on_with() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(3_500);
    let session = world.agent.session();
    world.shared.end_lease();
    world.restart();
    world.pass(1_000);
    assert!(world.agent.session().is_some() && world.agent.session() != session);
    assert_eq!(adopted(&world), 0);
    world.pass(1_000);
    assert!(world.started("a/task").contains(&(5, 1)));
}

#[test]
fn while_nobody_answers_it_goes_on_asking() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(3_500);
    world.fate(|_| Fate::Lost);
    world.restart();
    world.pass(900);
    assert_eq!(world.agent.session(), None);
    world.fate(|_| Fate::Served);
    world.pass(500);
    assert_eq!(adopted(&world), 1);
    assert_eq!(world.started("a/task"), [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn a_process_that_had_left_leaves_nothing_to_go_on_from() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(2_500);
    let deadline = std::time::Duration::from_secs(5);
    world.tell(0, tocktower_core::agent::input::Input::Leave { deadline });
    world.pass(1_000);
    assert!(world.requests.iter().any(|(_, request)| writes_final(request)));
    assert!(world.store.former().is_none());
}

#[test]
fn what_it_had_left_with_another_holder_is_said_to_be_over() {
    let mut world = World::new(8, 10);
    for agent in ["c", "b"] {
        let other = Session { epoch: EPOCH, revision: world.shared.next() };
        world.shared.put_member(agent, other, Capacity { weight: 100, duty: Duty::Full });
    }
    let other = world.shared.session("b");
    world.pass(1_000);
    let session = world.agent.session().expect("registered");
    // One that the ring has with the others: only its claim is followed here.
    let mut ranges = (0..8).map(RangeId);
    let range = ranges.find(|range| world.agent.explain(*range).contains("rank Some(2) Claim"));
    let range = range.expect("a third of them are");
    let name = of_range(&world, range.0, "a/t", 1).remove(0);
    world.create(every(&name, 60));
    let run = RunId::scheduled(named(&name), world.task(&name).incarnation, world.at_second(0));
    let fence = world.shared.take_over(range, "b", other);
    let (due, attempt) = (world.at_second(0), Attempt { fence, number: 1 });
    let open = vec![Entry { run, due, attempt, state: EntryState::Held { session } }];
    let number = LedgerNumber { process: 3, count: 1 };
    world.shared.put_ledger(range, Ledger { fence, number, marks: Marks::NONE, open });
    let said = world.requests.len();
    world.restart();
    world.pass(1_000);
    let mut since = world.requests[said..].iter();
    assert!(since.any(|(_, request)| match request {
        ShareRequest::Settle { settles, .. } => settles[0].end == SettledEnd::Gone,
        _ => false,
    }));
}

#[test]
fn one_that_was_left_with_another_and_begun_here_since_is_not_begun_again_under_its_number() {
    // At most once; whether what was begun here has ended too; whether the other is still there.
    let cases =
        [(false, false, false), (true, false, false), (false, true, false), (false, false, true)];
    for (once, ended, alive) in cases {
        let mut world = World::new(1, 10);
        let task = retried(every("a/task", 60), 5, 1);
        world.create(if once { at_most_once(task) } else { task });
        let session = Session { epoch: EPOCH, revision: world.shared.next() };
        if alive {
            world.shared.join("other", session, 0);
        }
        let incarnation = world.task("a/task").incarnation;
        let run = RunId::scheduled(named("a/task"), incarnation, world.at_second(0));
        world.former_ledger(world.at_second(0), run.clone(), EntryState::Held { session });
        let fence = world.shared.ledger(RANGE).fence;
        let key = SettleKey { run, attempt: Attempt { fence, number: 1 } };
        if once {
            world.shared.settle(RANGE, key, session, SettledEnd::Failed);
        } else if alive {
            world.pass(100);
            world.shared.settle(RANGE, key, session, SettledEnd::Gone);
        } else {
            world.pass(100);
            let revision = world.shared.next();
            world.shared.fleet_news.push(SharedNews::Delivered { revision });
        }
        world.conduct("a/task", if ended { 1 } else { u64::MAX }, &[]);
        while world.started("a/task").is_empty() {
            world.pass(1);
        }
        world.pass(if ended { 5 } else { 0 });
        world.restart();
        world.pass(8_000);
        let again = if once || ended { vec![] } else { vec![(0, 3)] };
        let expected = [vec![(0, 2)], again].concat();
        assert_eq!(world.started("a/task"), expected, "{:?}", world.history("a/task"));
    }
}

#[test]
fn one_that_was_left_with_another_and_cancelled_here_before_a_ledger_says_so_is_not_tried_again() {
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::CancelRunning, ..every("a/task", 60) });
    let session = Session { epoch: EPOCH, revision: world.shared.next() };
    world.shared.join("other", session, 0);
    let incarnation = world.task("a/task").incarnation;
    let run = RunId::scheduled(named("a/task"), incarnation, world.at_second(0));
    world.former_ledger(world.at_second(0), run, EntryState::Held { session });
    world.pass(61_000);
    assert!(world.started("a/task").is_empty(), "the other runs it");
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.shared.part("other");
    let revision = world.shared.next();
    world.shared.fleet_news.push(SharedNews::Delivered { revision });
    world.pass(300);
    assert_eq!(world.started("a/task"), [(60, 1)], "{:?}", world.history("a/task"));
    world.fate(|_| Fate::Served);
    world.restart();
    world.pass(8_000);
    assert_eq!(adopted(&world), 1);
    let cancelled = "0 cancelled: overlap: a later run took its place, and its host went away";
    assert_eq!(world.history("a/task")[0], cancelled);
    let started = world.started("a/task");
    assert!(started.iter().all(|(instant, _)| *instant == 60), "{started:?}");
}

#[test]
fn what_the_process_before_has_said_of_a_run_counts_when_its_range_comes_back() {
    for (end, again) in [(SettledEnd::Succeeded, false), (SettledEnd::Gone, true)] {
        let mut world = World::new(1, 10);
        world.create(every("a/task", 60));
        world.pass(61_000);
        assert_eq!(world.started("a/task"), [(60, 1)]);
        let session = world.agent.session().expect("registered");
        let run = RunId::scheduled(
            named("a/task"),
            world.task("a/task").incarnation,
            world.at_second(60),
        );
        let before = (*world.shared.ledger(RANGE)).clone();
        let (due, attempt) = (world.at_second(60), Attempt { fence: before.fence, number: 1 });
        let key = SettleKey { run: run.clone(), attempt };
        let other = Session { epoch: EPOCH, revision: world.shared.next() };
        let fence = world.shared.take_over(RANGE, "b", other);
        let open = vec![Entry { run, due, attempt, state: EntryState::Held { session } }];
        let number = LedgerNumber { process: 3, count: 1 };
        world.shared.put_ledger(RANGE, Ledger { fence, number, open, ..before });
        world.shared.settle(RANGE, key, session, end);
        world.restart();
        world.pass(500);
        assert_eq!(world.agent.session(), Some(session), "it goes on with its session");
        world.shared.unclaim(RANGE);
        world.pass(3_000);
        let expected = if again { vec![(60, 1), (60, 2)] } else { vec![(60, 1)] };
        assert_eq!(world.started("a/task"), expected, "{end:?}: {:?}", world.history("a/task"));
    }
}

/// So many ranges, each with a task that has run in it, of a process that was started again.
fn crowd(ranges: u16) -> World {
    let mut world = World::new(u32::from(ranges), 100);
    for range in 0..ranges {
        for name in of_range(&world, range, "a/t", 1) {
            world.create(every(&name, 1));
        }
    }
    world.pass(8_500);
    assert_eq!(world.agent.stats().held, usize::from(ranges), "it has come to hold all");
    world.restart();
    world
}

/// Whether a read is of a scan of a range that is held by claim.
fn scans(request: &LoadRequest) -> bool {
    let LoadRequest::Scan { range, .. } = request else { return false };
    !RangeId::LOCAL.contains(range)
}

fn asks_own(request: &LoadRequest) -> bool {
    let LoadRequest::Own { range, .. } = request else { return false };
    !RangeId::LOCAL.contains(range)
}

#[test]
fn ranges_are_scanned_a_few_at_a_time() {
    let mut world = crowd(64);
    world.hold_loads = scans;
    let (mut scanned, mut rounds) = (0, 0);
    loop {
        world.pass(100);
        let under_way = world.held_loads.len();
        assert!(under_way * SCAN_TASKS_MIN <= SCAN_TASKS_MAX, "{under_way} scans at once");
        if under_way == 0 {
            break;
        }
        (scanned, rounds) = (scanned + under_way, rounds + 1);
        world.release_loads();
    }
    assert_eq!((scanned, rounds), (64, 4), "as many as there is room for, each time");
}

#[test]
fn first_ledgers_that_come_one_by_one_wait_for_each_other() {
    let mut world = crowd(16);
    let first = world.requests.len();
    world.hold_loads = asks_own;
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(50);
    assert_eq!(world.held_loads.len(), 16, "what the process before wrote down is asked for");
    // The disk answers for one range after the other.
    while let Some((load, answer)) = world.held_loads.pop() {
        world.tell(0, Input::Loaded { load, answer });
        world.pass(5);
    }
    assert_eq!(world.held.len(), 4, "each alone, and then no more beside them");
    world.fate(|_| Fate::Served);
    world.hold_loads = |_| false;
    world.release(|world, request| world.serve(request));
    world.pass(50);
    let writes: Vec<usize> = world.requests[first..]
        .iter()
        .filter(|(_, request)| writes_ledger(request))
        .map(|(_, request)| match request {
            ShareRequest::Write(writes) => writes.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(writes, [1, 1, 1, 1, 12], "the others went together");
}
