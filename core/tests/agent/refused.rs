//! Ledger writes that do not go well (L1 to L3): refused, compared in vain, or without an answer.

use std::cell::Cell;

use tocktower_core::agent::effect::{Notice, ShareRequest};
use tocktower_core::agent::input::ShareAnswer;
use tocktower_core::ids::{Epoch, Fence, RangeId, Revision};
use tocktower_core::run::RunState;
use tocktower_core::task::{Overlap, Spec};

use crate::words::{every, of_range, writes_ledger};
use crate::world::{Fate, World};

const RANGE: RangeId = RangeId(0);

/// An agent that holds its only range, with a task that runs every second.
fn holder() -> World {
    let mut world = World::new(1, 10);
    world.create(every("a/tick", 1));
    world.pass(3_500);
    assert_eq!(world.started("a/tick"), [(1, 1), (2, 1), (3, 1)]);
    world
}

/// The next so many requests of a kind go as `fate` says, all others well.
fn next(world: &mut World, count: usize, which: fn(&ShareRequest) -> bool, fate: Fate) {
    let left = Cell::new(count);
    world.fate(move |request| match which(request) && left.get() > 0 {
        true => {
            left.set(left.get() - 1);
            fate.clone()
        }
        false => Fate::Served,
    });
}

/// What was asked for since a moment, in a word each; what no ledger has to do with is left out.
fn asked(world: &World, since_us: u64) -> Vec<&'static str> {
    let since = world.requests.iter().filter(|(at, _)| *at >= since_us);
    since
        .filter_map(|(_, request)| match request {
            ShareRequest::Write(_) if writes_ledger(request) => Some("ledger"),
            ShareRequest::Write(_) => Some("beat"),
            ShareRequest::ReadBack { .. } => Some("read back"),
            _ => None,
        })
        .collect()
}

/// Each second up to here was run once and is recorded once.
#[track_caller]
fn each_second_ran_once(world: &World, seconds: u64) {
    let all: Vec<(i64, u32)> =
        (1..=i64::try_from(seconds).expect("small")).map(|at| (at, 1)).collect();
    assert_eq!(world.started("a/tick"), all);
    world.each_ended_once(&world.task("a/tick"), 1, seconds);
    let late = world.starts.iter().map(|s| world_lateness_ms(world, s.at_us, s.due.micros())).max();
    assert!(late <= Some(10), "{late:?} ms late");
}

fn world_lateness_ms(world: &World, at_us: u64, due_us: i64) -> i64 {
    let begin = world.at_second(0).millis();
    i64::try_from(at_us / 1_000).expect("small") - (due_us / 1_000 - begin)
}

#[test]
fn without_an_answer_a_ledger_is_read_back_before_anything_else_is_sent() {
    // Not written, or written without a word: either way one look, and then it goes on.
    for fate in [Fate::Lost, Fate::AnswerLost] {
        let mut world = holder();
        next(&mut world, 1, writes_ledger, fate);
        let since = world.now_us;
        world.pass(1_600);
        let words = asked(&world, since);
        assert_eq!(words[..3], ["ledger", "read back", "ledger"], "{words:?}");
        world.pass(2_000);
        each_second_ran_once(&world, 7);
        assert_eq!(world.told(|notice| matches!(notice, Notice::LostClaim { .. })), 0);
    }
}

#[test]
fn a_ledger_that_was_written_without_a_word_counts_when_it_is_found() {
    let mut world = holder();
    next(&mut world, 1, writes_ledger, Fate::AnswerLost);
    let since = world.now_us;
    world.pass(700);
    let sent: Vec<u64> = world.ledgers_since(RANGE, since).iter().map(|sent| sent.at_us).collect();
    let [first, rest @ ..] = sent.as_slice() else { panic!("one was sent") };
    // What was found there is not said again at once.
    assert!(rest.iter().all(|at| at - first >= 900_000), "{sent:?}");
}

#[test]
fn as_long_as_it_cannot_be_read_back_nothing_is_written_and_the_licence_runs_out() {
    let mut world = holder();
    world.fate(|request| match request {
        ShareRequest::Write(_) | ShareRequest::ReadBack { .. } => Fate::Lost,
        _ => Fate::Served,
    });
    let since = world.now_us;
    world.pass(6_000);
    let words = asked(&world, since);
    let ledger = words.iter().position(|word| *word == "ledger").expect("it fits");
    assert!(words[ledger + 1..].iter().all(|word| *word == "read back"), "{words:?}");
    assert!(
        (10..50).contains(&(words.len() - ledger)),
        "asked again, and not in a loop: {words:?}"
    );
    // The claim and the lease are good all the while: it is the proof that is missing (L0).
    let last = world.starts.last().expect("it fits").at_us;
    assert!(last < since + 2_700_000, "started at {last} us");
    world.fate(|_| Fate::Served);
    world.pass(3_500);
    world.each_ended_once(&world.task("a/tick"), 1, 12);
    assert_eq!(world.ended("a/tick", RunState::Succeeded), world.starts.len());
}

#[test]
fn the_first_ledger_permits_only_when_it_is_answered_or_found() {
    for fate in [Fate::Lost, Fate::AnswerLost, Fate::Refused { retryable: true }] {
        let mut world = World::new(1, 10);
        world.create(every("a/tick", 1));
        // The first three are not answered: that nothing starts is a rule of the world.
        next(&mut world, 3, writes_ledger, fate.clone());
        world.pass(2_500);
        assert_eq!(world.started("a/tick"), [(1, 1), (2, 1)], "{fate:?}");
    }
    let mut world = World::new(1, 10);
    world.create(Spec { overlap: Overlap::Allow, ..every("a/tick", 1) });
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(5_000);
    assert_eq!(world.started("a/tick"), []);
    assert_eq!(world.ledgers_since(RANGE, 0).len(), 1, "one at a time");
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(500);
    assert_eq!(world.started("a/tick"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    world.each_ended_once(&world.task("a/tick"), 1, 5);
}

#[test]
fn a_refused_ledger_is_tried_again_a_second_later_and_beats_keep_the_licence() {
    let mut world = holder();
    next(&mut world, 3, writes_ledger, Fate::Refused { retryable: false });
    let since = world.now_us;
    world.pass(4_800);
    let sent: Vec<u64> = world.ledgers_since(RANGE, since).iter().map(|sent| sent.at_us).collect();
    assert!(sent.len() >= 4, "{sent:?}");
    assert!(sent.windows(2).all(|two| two[1] - two[0] >= 990_000), "no tight loop: {sent:?}");
    assert!(asked(&world, since).contains(&"beat"));
    assert!(!asked(&world, since).contains(&"read back"), "nothing of it happened");
    let told = |notice: &Notice| matches!(notice, Notice::Refused { what: "ledger", .. });
    assert_eq!(world.told(told), 3);
    world.pass(1_800);
    each_second_ran_once(&world, 10);
}

#[test]
fn one_of_two_ranges_that_waits_for_its_answer_holds_up_no_other() {
    let mut world = World::new(2, 10);
    let names = [0, 1].map(|range| of_range(&world, range, "a/tick", 1).remove(0));
    for name in &names {
        world.create(every(name, 1));
    }
    let one = RangeId(0);
    world.pass(3_500);
    world.fate(move |request| match request {
        ShareRequest::Write(writes) if writes.iter().any(|write| write.range == one) => Fate::Lost,
        ShareRequest::ReadBack { .. } => Fate::Lost,
        _ => Fate::Served,
    });
    // The first of these writes were of both: each is read back for itself.
    world.pass(1_000);
    world.fate(move |request| match request {
        ShareRequest::Write(writes) if writes.iter().any(|write| write.range == one) => Fate::Lost,
        ShareRequest::ReadBack { range } if *range == one => Fate::Lost,
        _ => Fate::Served,
    });
    world.pass(8_000);
    let seconds: Vec<(i64, u32)> = (1..=12).map(|at| (at, 1)).collect();
    assert_eq!(world.started(&names[1]), seconds);
    assert!(world.started(&names[0]).len() < 8, "{:?}", world.started(&names[0]));
}

#[test]
fn a_claim_that_another_has_is_given_up_at_once_and_nothing_starts() {
    // By a compare that fails, and by a look after no answer: the watch is silent, so that nothing
    // else can say it.
    for lost in [false, true] {
        let mut world = holder();
        world.deaf = true;
        let session = world.shared.session("a");
        world.shared.unclaim(RANGE);
        let other = tocktower_core::ids::Session { revision: session.revision.next(), ..session };
        world.shared.claim(RANGE, "b", other);
        if lost {
            next(&mut world, 1, writes_ledger, Fate::Lost);
        }
        world.pass(450);
        let starts = world.starts.len();
        world.pass(8_000);
        assert_eq!(world.told(|notice| matches!(notice, Notice::LostClaim { .. })), 1);
        assert!(world.starts.len() <= starts + 1, "{:?}", world.started("a/tick"));
        assert_eq!(world.agent.held().count(), 0);
        // Once it has let go, nothing of the range is written.
        let gone = world.notices.iter().find(|(_, n)| matches!(n, Notice::LostClaim { .. }));
        let gone = gone.expect("it fits").0;
        assert!(world.sent.iter().all(|sent| sent.at_us <= gone), "written without a claim");
        assert!(world.starts.iter().all(|start| start.at_us <= gone), "started without a claim");
    }
}

#[test]
fn its_own_claim_gone_without_a_trace_is_claimed_and_taken_up_anew() {
    let mut world = holder();
    world.deaf = true;
    world.shared.unclaim(RANGE);
    world.pass(1_500);
    assert_eq!(world.told(|notice| matches!(notice, Notice::LostClaim { .. })), 1);
    world.deaf = false;
    world.pass(4_000);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Claimed { .. })), 2);
    // What had ended and was not covered yet is decided again by the holder of the new fence.
    let again = world.each_ended(&world.task("a/tick"), 1, 8);
    assert!(again.len() <= 2, "{again:?}");
}

#[test]
fn a_ledger_of_an_earlier_holder_that_the_watch_has_lost_makes_it_list_and_take_up_again() {
    let mut world = World::new(1, 10);
    world.create(every("a/tick", 1));
    // A ledger is there that no news of this agent's watch tells of.
    let earlier = Fence { epoch: Epoch(1), revision: Revision(50) };
    world.shared.write_as(RANGE, earlier, 3);
    world.shared.news.clear();
    let hidden = world.shared.of(RANGE).ledger.take();
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(500);
    world.shared.of(RANGE).ledger = hidden;
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(2_000);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Claimed { .. })), 2);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 0);
    assert_eq!(world.started("a/tick"), [(1, 1), (2, 1)]);
    let fences: Vec<Fence> = world.ledgers_since(RANGE, 0).iter().map(|sent| sent.fence).collect();
    assert!(fences.windows(2).all(|two| two[0] == two[1]), "the claim is the same: {fences:?}");
}

#[test]
fn a_ledger_under_its_fence_that_it_never_wrote_ends_the_session() {
    for lost in [false, true] {
        let mut world = holder();
        let session = world.shared.session("a");
        world.deaf = true;
        let fence = world.shared.of(RANGE).claim.as_ref().expect("it fits").fence;
        world.shared.write_as(RANGE, fence, 99);
        if lost {
            next(&mut world, 1, writes_ledger, Fate::Lost);
        }
        world.pass(1_200);
        assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 1);
        let revoked = |(_, r): &(u64, ShareRequest)| matches!(r, ShareRequest::RevokeLease { .. });
        assert!(world.requests.iter().any(revoked), "given up, not left to run out");
        world.deaf = false;
        world.pass(3_000);
        assert_ne!(world.shared.session("a"), session);
        // It comes back as a stranger, to the ledger that is there.
        assert!(world.ledgers_since(RANGE, 0).last().expect("it fits").fence > fence);
        let again = world.each_ended(&world.task("a/tick"), 1, 7);
        assert!(again.len() <= 2, "{again:?}");
    }
}

#[test]
fn a_ledger_of_its_own_that_happens_after_it_was_read_back_is_no_strangers() {
    let mut world = holder();
    let session = world.shared.session("a");
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(1_100);
    let late = world.held[0].1.clone();
    world.release(|_, _| ShareAnswer::Unknown { error: "timed out".to_owned() });
    // It is not there when it is looked for, and comes before the one that says it again.
    world.pass(200);
    assert_eq!(world.held.len(), 1);
    world.serve(&late);
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(2_400);
    assert_eq!(world.told(|notice| matches!(notice, Notice::Stranger { .. })), 0);
    assert_eq!(world.shared.session("a"), session);
    assert_eq!(world.started("a/tick").last(), Some(&(7, 1)));
    world.each_ended_once(&world.task("a/tick"), 1, 6);
}

#[test]
fn an_answer_that_comes_after_the_range_was_lost_changes_nothing() {
    let mut world = holder();
    world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
    world.pass(1_100);
    assert_eq!(world.held.len(), 1);
    world.shared.unclaim(RANGE);
    world.pass(100);
    // The range is claimed anew, and its first ledger waits too when the old answer comes.
    let waiting = world.held.len();
    let old = world.held.remove(0);
    let first = std::mem::take(&mut world.held);
    world.held = vec![old];
    let revision = world.shared.revision;
    world.release(move |_, _| {
        let outcome = tocktower_core::agent::input::WriteOutcome::Written { revision };
        ShareAnswer::Wrote(vec![outcome])
    });
    let starts = world.starts.len();
    world.pass(1_500);
    assert_eq!((waiting, world.starts.len()), (2, starts), "an old answer permits nothing (L1)");
    world.held = first;
    world.fate(|_| Fate::Served);
    world.release(|world, request| world.serve(request));
    world.pass(1_000);
    assert!(world.starts.len() > starts);
    let again = world.each_ended(&world.task("a/tick"), 1, 6);
    assert!(again.len() <= 3, "{again:?}");
}

/// A shared state that has too much to do is not asked fifty times a second.
#[test]
fn the_key_of_a_run_that_is_done_is_deleted_in_the_end_and_asked_for_now_and_then() {
    let mut world = World::new(1, 10);
    world.create(world.once("a/once", 2));
    world.pass(1_000);
    let deletes = |request: &ShareRequest| matches!(request, ShareRequest::Delete(_));
    next(&mut world, usize::MAX, deletes, Fate::Refused { retryable: true });
    world.pass(3_000);
    let tried = world.requests.iter().filter(|(_, request)| deletes(request)).count();
    assert!((5..=15).contains(&tried), "asked {tried} times in two seconds");
    world.fate(|_| Fate::Served);
    world.pass(500);
    assert!(world.shared.of(RANGE).tasks.is_empty(), "the key is gone");
    assert_eq!(world.started("a/once"), [(2, 1)]);
}
