//! The bounds of a ledger (L8): what no longer fits waits, is told once, and is never lost; and a
//! large ledger is written less often.

use tocktower_core::agent::effect::{Notice, WriteKind};
use tocktower_core::ids::RangeId;
use tocktower_core::ledger::Entry;
use tocktower_core::limits::{
    DECISIONS_MAX, LEDGER_BYTES_CALM, LEDGER_BYTES_MAX, LEDGER_BYTES_RUNS_MAX, LEDGER_ENTRIES_MAX,
};
use tocktower_core::run::AttemptEnd;
use tocktower_core::task::Spec;

use crate::words::every_after;
use crate::world::{Sent, World};

const RANGE: RangeId = RangeId(0);
/// What an entry takes beside names, at most; what the stories hold against the bound is no more.
const ENTRY_BYTES: usize = 40;

fn bytes(entries: &[Entry]) -> usize {
    let names = |entry: &Entry| entry.run.task.to_string().len();
    entries.iter().map(|entry| ENTRY_BYTES + names(entry)).sum()
}

/// Names that are as long as names may be.
fn long(number: usize) -> String {
    format!("{}/{}{number:04}", "n".repeat(128), "t".repeat(124))
}

/// So many tasks, each due 10 ms after the one before, from the sixtieth second on; what runs runs
/// until the story ends it, and none is due again in this story.
fn crowd(count: usize) -> World {
    let mut world = World::new(1, 10);
    world.usual = std::time::Duration::MAX;
    for number in 0..count {
        let phase = 60_000 + 10 * u64::try_from(number).expect("small");
        world.create(Spec { ..every_after(&long(number), 36_000, phase) });
    }
    world.pass(60_000);
    world
}

fn full_told(world: &World) -> usize {
    world.told(|notice| matches!(notice, Notice::RangeFull { .. }))
}

/// Ends everything that runs.
fn end_all(world: &mut World) {
    let tickets: Vec<_> = world.running.keys().copied().collect();
    for ticket in tickets {
        world.finish(ticket, AttemptEnd::Succeeded);
    }
}

#[test]
fn at_the_bound_new_runs_wait_and_none_is_lost() {
    let mut world = crowd(900);
    world.pass(30_000);
    let open = world.agent.open_runs().count();
    let stats = world.agent.stats();
    assert!((500..900).contains(&open), "{open} are open, the others wait");
    assert_eq!((full_told(&world), stats.full), (1, 1), "told once, and counted");
    assert!(stats.oldest_due.is_some_and(|due| due >= world.at_second(60).wall()));
    // What is open is listed, in less than what such runs may take, and the marks stand behind it.
    world.pass(60_000);
    let ledger = world.shared.ledger(RANGE);
    assert_eq!(ledger.open.len(), open);
    assert!(bytes(&ledger.open) <= LEDGER_BYTES_RUNS_MAX);
    let newest = ledger.open.iter().map(|entry| entry.due).max().expect("it fits");
    assert!(ledger.marks.through >= newest && newest > world.at_second(63));
    // Those that run end, and others come in their place, in order.
    for _ in 0..900 {
        world.pass(700);
        end_all(&mut world);
    }
    assert_eq!(world.starts.len(), 900);
    let names: Vec<String> = world.starts.iter().map(|start| start.run.task.to_string()).collect();
    assert!(names.is_sorted(), "the oldest first");
    assert_eq!(world.store.history.len(), 900);
    assert_eq!((full_told(&world), world.agent.stats().full), (1, 0));
}

#[test]
fn a_final_ledger_of_a_full_range_still_fits() {
    let mut world = crowd(900);
    world.pass(30_000);
    let marks = world.shared.ledger(RANGE).marks;
    let deadline = std::time::Duration::from_secs(5);
    world.tell(0, tocktower_core::agent::input::Input::Leave { deadline });
    world.pass(1_000);
    let last = world.sent.iter().rfind(|sent| sent.ledger().is_some()).expect("it fits");
    assert!(matches!(last.kind, WriteKind::Final { .. }), "{:?}", world.notices);
    let ledger = last.ledger().expect("it fits");
    assert!(ledger.open.len() > 500 && ledger.open.len() <= LEDGER_ENTRIES_MAX);
    assert!(bytes(&ledger.open) <= LEDGER_BYTES_MAX);
    // What did not fit is behind no mark: the next holder decides it.
    let newest = ledger.open.iter().map(|entry| entry.due).max().expect("it fits");
    assert!(ledger.marks.through >= marks.through && ledger.marks.through >= newest);
    assert!(ledger.marks.through < newest.plus(std::time::Duration::from_millis(10)));
}

fn gaps_ms(ledgers: &[&Sent]) -> Vec<u64> {
    ledgers.windows(2).map(|two| (two[1].at_us - two[0].at_us) / 1_000).collect()
}

#[test]
fn a_large_ledger_is_written_the_less_often_the_larger_it_is() {
    for count in [8, 60, 150] {
        let mut world = crowd(count);
        world.pass(20_000);
        let since = world.now_us;
        world.pass(60_000);
        let ledgers = world.ledgers_since(RANGE, since);
        let size = bytes(&ledgers.last().expect("it fits").ledger().unwrap().open);
        let seconds = u64::try_from(size / LEDGER_BYTES_CALM).expect("it fits").max(1);
        let gaps = gaps_ms(&ledgers);
        assert!(gaps.iter().all(|gap| *gap >= seconds * 1_000), "{size} bytes: {gaps:?}");
        assert!(gaps.iter().all(|gap| *gap < seconds * 1_400 + 500), "{size} bytes: {gaps:?}");
        // Beats keep the licence in between.
        let beats: Vec<u64> =
            world.sent.iter().map(|sent| sent.at_us).filter(|at| *at > since).collect();
        assert!(beats.windows(2).all(|two| two[1] - two[0] <= 2_100_000));
    }
}

#[test]
fn the_first_and_the_final_one_are_written_at_once_however_large() {
    let mut world = crowd(150);
    world.pass(20_000);
    // The session is lost, and the range taken up anew.
    world.shared.end_lease();
    world.pass(1);
    let since = world.now_us;
    world.pass(1_000);
    let first = world.ledgers_since(RANGE, since)[0];
    assert!(first.at_us - since < 500_000 && first.ledger().expect("it fits").open.len() > 100);
    let deadline = std::time::Duration::from_secs(5);
    world.tell(0, tocktower_core::agent::input::Input::Leave { deadline });
    world.pass(1_000);
    assert_eq!(world.finals(), 1);
}

#[test]
fn a_crowd_that_is_due_at_one_instant_is_decided_in_pieces_and_all_of_it_starts() {
    let count = 2 * DECISIONS_MAX + 100;
    let mut world = World::new(16, count);
    for number in 0..count {
        world.create(every_after(&format!("a/r{number}"), 36_000, 60_000));
    }
    world.pass(59_999);
    let mut open = Vec::new();
    for us in [1_000, 1, 1] {
        world.pass_us(us);
        open.push(world.agent.stats().open);
    }
    assert_eq!(open, [DECISIONS_MAX, 2 * DECISIONS_MAX, count], "each step comes at once");
    world.pass(10);
    assert_eq!(world.starts.len(), count);
    assert_eq!(full_told(&world), 0);
    world.pass(3_000);
    assert_eq!(world.store.history.len(), count);
    assert!(world.shared.ledger(RANGE).marks.through >= world.at_second(60));
}
