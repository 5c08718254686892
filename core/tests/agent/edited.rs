//! Edits that an agent hears of late, when it has gone on by the schedule that it knew: what ran is
//! not run again, however much later it is due by the schedules since.

use std::collections::BTreeSet;
use std::time::Duration;

use tocktower_core::agent::effect::LoadRequest;
use tocktower_core::ids::{Fence, Incarnation, LedgerNumber, RangeId, RunId};
use tocktower_core::ledger::{EntryState, Ledger, Marks};
use tocktower_core::run::AttemptEnd;
use tocktower_core::schedule::Schedule;
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec};
use tocktower_core::time::Instant;

use crate::words::{
    at_most_once, every, every_after, failed, named, pinned, retried, writes_ledger,
};
use crate::world::{Fate, World};

/// How the news come in the end.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Comes {
    Watch,
    List,
    /// Another process hears of it.
    WatchAfterRestart,
    ListAfterRestart,
}

const ALL: [Comes; 4] =
    [Comes::Watch, Comes::List, Comes::WatchAfterRestart, Comes::ListAfterRestart];

type Edit = fn(Spec) -> Spec;
/// A name, edits with the seconds that their coordinators' clocks show, and how many were known.
type TakeOver = (&'static str, &'static [(u64, Edit)], usize);

fn late_by_up_to_58(spec: Spec) -> Spec {
    Spec { jitter: Duration::from_secs(58), ..spec }
}

fn at_half(spec: Spec) -> Spec {
    Spec { schedules: every_after("a/task", 60, 30_000).schedules, ..spec }
}

fn at_full_late(spec: Spec) -> Spec {
    late_by_up_to_58(Spec { schedules: every("a/task", 60).schedules, ..spec })
}

fn other_words(spec: Spec) -> Spec {
    Spec { description: format!("{} more words", spec.description), ..spec }
}

fn every_seven(spec: Spec) -> Spec {
    Spec { schedules: every("a/task", 7).schedules, ..spec }
}

/// A task of every minute, pinned to an agent that hears of nothing from second 55 to second 80,
/// and edits of it at 57 s and each second after.
fn edited_unheard(spec: Spec, edits: &[Edit], comes: Comes) -> World {
    let mut world = World::new(1, 10);
    world.create(pinned(spec));
    world.pass(55_000);
    world.deaf = true;
    world.pass(2_000);
    for edit in edits {
        world.edit("a/task", edit);
        world.pass(1_000);
    }
    world.pass(15_000);
    world.pass(8_000 - 1_000 * u64::try_from(edits.len()).expect("few"));
    hear(&mut world, comes);
    world
}

fn hear(world: &mut World, comes: Comes) {
    if matches!(comes, Comes::WatchAfterRestart | Comes::ListAfterRestart) {
        world.restart();
        world.pass(1_000);
    }
    world.deaf = false;
    if matches!(comes, Comes::List | Comes::ListAfterRestart) {
        // A watch that is listed anew brings the newest version alone.
        world.shared.news.clear();
        let now = world.now();
        world.shared.list(RangeId::PINS, now);
    }
}

/// Each instant is started at most once, and the second given here was.
#[track_caller]
fn nothing_again(world: &World, ran: i64, case: &str) {
    let starts: Vec<i64> = world.started("a/task").iter().map(|(second, _)| *second).collect();
    let instants: BTreeSet<i64> = starts.iter().copied().collect();
    assert_eq!(instants.len(), starts.len(), "{case}: {starts:?}");
    assert!(instants.contains(&ran), "{case}: {starts:?}");
}

#[test]
fn what_ran_meanwhile_is_not_run_again_when_it_is_due_later_by_the_new_schedule() {
    let edits: [(&str, &[Edit]); 6] = [
        ("one edit", &[late_by_up_to_58]),
        ("and words", &[late_by_up_to_58, other_words]),
        ("words and it", &[other_words, late_by_up_to_58]),
        ("two", &[at_half, at_full_late]),
        ("two, and words between", &[at_half, other_words, at_full_late, other_words]),
        ("away and back", &[every_seven, late_by_up_to_58, at_full_late]),
    ];
    for (name, edits) in edits {
        for once in [false, true] {
            for comes in ALL {
                let spec = every("a/task", 60);
                let spec = if once { at_most_once(spec) } else { spec };
                let mut world = edited_unheard(spec, edits, comes);
                world.pass(170_000);
                let case = format!("{name}, once: {once}, {comes:?}");
                nothing_again(&world, 60, &case);
                assert_eq!(world.started("a/task").len(), 3, "{case}: it goes on");
                world.each_ended(&world.task("a/task"), 60, 181);
            }
        }
    }
}

#[test]
fn what_a_schedule_between_would_have_had_has_a_name() {
    for comes in ALL {
        let mut world = edited_unheard(every("a/task", 60), &[every_seven, at_half], comes);
        world.pass(20_000);
        nothing_again(&world, 60, &format!("{comes:?}"));
        let rows = world.history("a/task");
        // It counted from second 57 to 58, and the only instant then is none of its.
        assert!(!rows.iter().any(|row| row.starts_with("63")), "{comes:?}: {rows:?}");
        world.each_ended(&world.task("a/task"), 61, 100);
    }
    for comes in ALL {
        let every_second: Edit = |spec| Spec { schedules: every("a/task", 1).schedules, ..spec };
        let spec = every("a/task", 60);
        let mut world =
            edited_unheard(spec, &[other_words, every_second, other_words, at_half], comes);
        world.pass(20_000);
        let rows = world.history("a/task");
        let late = |row: &String| row.starts_with("59") && row.ends_with("skipped: edited_late");
        assert!(rows.iter().any(late), "{comes:?}: {rows:?}");
        assert!(rows.contains(&"60 succeeded".to_owned()), "{comes:?}: {rows:?}");
    }
}

#[test]
fn what_ran_as_an_instant_of_a_schedule_is_not_run_again_as_a_one_shot() {
    for comes in ALL {
        let mut world = World::new(1, 10);
        world.create(pinned(at_most_once(every("a/task", 60))));
        world.pass(55_000);
        world.deaf = true;
        let schedules = world.once("a/task", 60).schedules;
        world.edit("a/task", |spec| Spec { schedules, ..spec });
        world.pass(15_000);
        hear(&mut world, comes);
        world.pass(20_000);
        assert_eq!(world.started("a/task"), [(60, 1)], "{comes:?}");
        let keys = &world.shared.keys[&RangeId::PINS];
        assert!(keys.tasks.is_empty(), "{comes:?}: it is settled");
    }
}

#[test]
fn a_long_outage_leaves_no_late_instant_without_a_name() {
    let mut world = World::new(1, 10);
    world.create(pinned(every("a/task", 2)));
    world.pass(4_500);
    world.deaf = true;
    world.edit("a/task", |spec| Spec { schedules: every("a/task", 1).schedules, ..spec });
    world.pass(3_000_000);
    world.deaf = false;
    world.pass(2_000);
    nothing_again(&world, 3_000, "after an outage");
    world.each_ended(&world.task("a/task"), 5, 3_005);
}

#[test]
fn of_a_range_two_edits_at_once_bring_no_run_again() {
    // The first of them has no instant of its own, and its holder goes away with the second.
    for takes_over in [false, true] {
        let mut world = World::new(1, 10);
        world.create(every("a/task", 60));
        world.pass(59_000);
        world.deaf = true;
        world.edit("a/task", other_words);
        world.edit("a/task", late_by_up_to_58);
        world.pass(1_500);
        world.deaf = false;
        if takes_over {
            world.shared.end_lease();
        }
        world.pass(150_000);
        nothing_again(&world, 60, &format!("taken over: {takes_over}"));
    }
}

#[test]
fn an_edit_that_comes_while_the_range_is_read_names_what_was_decided_before() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 60));
    world.pass(61_500);
    world.hold_loads = |request| matches!(request, LoadRequest::Scan { .. });
    world.shared.end_lease();
    world.pass(3_000);
    assert!(!world.held_loads.is_empty(), "it is read");
    // By a coordinator whose clock is behind.
    let clock = world.at_second(40).wall();
    let schedules = every("a/task", 9).schedules;
    world.edit_at("a/task", clock, |spec| Spec { schedules, ..spec });
    world.pass(100);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(20_000);
    let late = world.history("a/task").into_iter().find(|row| row.ends_with("edited_late"));
    assert!(late.is_some_and(|row| row.starts_with("45")), "{:?}", world.history("a/task"));
    world.each_ended(&world.task("a/task"), 41, 80);
}

#[test]
fn what_was_due_while_its_record_could_not_be_read_runs_when_an_edit_has_put_it_off() {
    let mut world = World::new(1, 10);
    world.create(pinned(every("a/task", 60)));
    world.pass(55_000);
    world.garble("a/task");
    world.pass(3_000);
    world.deaf = true;
    world.edit("a/task", late_by_up_to_58);
    world.pass(22_000);
    world.deaf = false;
    world.pass(60_000);
    assert_eq!(world.started("a/task"), [(60, 1)]);
}

#[test]
fn edits_in_calm_after_a_list_start_nothing_again() {
    let edits: [[Edit; 2]; 3] =
        [[other_words, every_seven], [at_half, late_by_up_to_58], [late_by_up_to_58, other_words]];
    for edits in edits {
        for local in [false, true] {
            let mut world = World::new(1, 10);
            let spec = every("a/task", 60);
            world.create(if local { pinned(spec) } else { spec });
            world.pass(62_000);
            let now = world.now();
            match local {
                true => world.shared.list(RangeId::PINS, now),
                false => world.list(),
            }
            world.pass(78_000);
            for edit in edits {
                world.edit("a/task", edit);
                world.pass(1_000);
            }
            world.pass(100_000);
            nothing_again(&world, 120, &format!("local: {local}"));
            let rows = world.history("a/task");
            assert!(!rows.iter().any(|row| row.contains("skipped")), "{rows:?}");
        }
    }
}

#[test]
fn a_run_that_an_edit_has_put_off_as_it_ran_is_known_to_the_next_holder() {
    // The edit is written just before the instant, and heard just after the run has ended.
    for heard_ms in [1, 3, 20, 300, 900, 1_500] {
        for hands_on in [false, true] {
            let mut world = World::new(1, 10);
            world.create(every("a/task", 60));
            world.conduct("a/task", 2, &[]);
            world.pass(59_995);
            world.deaf = true;
            world.edit("a/task", late_by_up_to_58);
            world.pass(5 + heard_ms);
            world.deaf = false;
            if hands_on {
                world.pass(12_000);
                world.list();
            } else {
                world.pass(2_000);
                world.shared.end_lease();
                world.restart();
            }
            world.pass(110_000);
            let case = format!("{heard_ms} ms, listed anew: {hands_on}");
            nothing_again(&world, 60, &case);
        }
    }
}

#[test]
fn a_one_shot_that_no_schedule_before_had_runs() {
    for comes in ALL {
        let mut world = World::new(1, 10);
        world.create(pinned(every("a/task", 7)));
        world.pass(55_000);
        world.deaf = true;
        world.pass(3_000);
        let schedules = world.once("a/task", 60).schedules;
        world.edit("a/task", |spec| Spec { schedules, ..spec });
        world.pass(7_000);
        hear(&mut world, comes);
        world.pass(20_000);
        assert!(
            world.started("a/task").contains(&(60, 1)),
            "{comes:?}: {:?}",
            world.history("a/task")
        );
    }
}

#[test]
fn a_one_shot_that_ran_two_schedules_ago_is_not_run_again() {
    let away: [Edit; 2] = [at_half, |spec| Spec {
        schedules: vec![Schedule::At(Instant::from_millis(4_000_000_000_000))],
        ..spec
    }];
    for away in away {
        for local in [true, false] {
            for comes in [Comes::Watch, Comes::List] {
                let mut world = World::new(1, 10);
                let spec = at_most_once(every("a/task", 60));
                world.create(if local { pinned(spec) } else { spec });
                world.pass(59_200);
                world.deaf = true;
                world.edit("a/task", away);
                world.pass(400);
                let schedules = world.once("a/task", 60).schedules;
                world.edit("a/task", |spec| Spec { schedules, ..spec });
                world.pass(1_900);
                match local {
                    true => hear(&mut world, comes),
                    false => world.deaf = false,
                }
                world.pass(20_000);
                let case = format!("local: {local}, {comes:?}");
                assert_eq!(world.started("a/task"), [(60, 1)], "{case}");
                let range = if local { RangeId::PINS } else { RangeId(0) };
                let there = world.shared.of(range).tasks.contains_key(&named("a/task"));
                assert!(!there, "{case}: a one-shot that ran is settled");
            }
        }
    }
}

/// The agent takes over a range whose holder had decided all up to 60.5 s, and knew of the edits
/// before this one.
fn taken_over(edits: &[(u64, Edit)], known: usize, killed_after_ms: Option<u64>) -> World {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 60)));
    world.pass(50_000);
    world.stop(100);
    let mut revisions = vec![world.task("a/task").revision];
    for (second, edit) in edits {
        let clock = world.at_second(*second).wall();
        world.edit_at("a/task", clock, edit);
        revisions.push(world.task("a/task").revision);
    }
    let task = world.task("a/task");
    let incarnation = Incarnation { revision: revisions[known], ..task.incarnation };
    let fence = Fence { epoch: task.incarnation.epoch, revision: world.shared.next() };
    let marks =
        Marks { through: world.at_second(60).plus(Duration::from_millis(500)), incarnation };
    let number = LedgerNumber { process: 3, count: 1 };
    let ledger = Ledger { fence, number, marks, open: Vec::new() };
    world.shared.end_lease();
    world.shared.put_ledger(RangeId(0), ledger);
    if let Some(ms) = killed_after_ms {
        world.pass(ms);
        world.restart();
    }
    world.pass(130_000);
    world
}

#[test]
fn who_takes_a_range_over_knows_what_ran_by_schedules_that_its_holder_had() {
    let stories: [TakeOver; 5] = [
        ("one", &[(59, late_by_up_to_58)], 0),
        ("words as well", &[(59, late_by_up_to_58), (60, other_words)], 0),
        ("two", &[(58, at_half), (59, at_full_late)], 0),
        ("one of two was known", &[(58, at_half), (59, at_full_late)], 1),
        ("of three", &[(57, every_seven), (58, at_half), (59, at_full_late)], 1),
    ];
    for (name, edits, known) in stories {
        // Its process may be killed before a ledger says what it has found.
        for killed in [None, Some(5), Some(50), Some(200), Some(500), Some(1_000), Some(2_000)] {
            let world = taken_over(edits, known, killed);
            let starts: Vec<i64> = world.started("a/task").iter().map(|(at, _)| *at).collect();
            assert!(!starts.contains(&60), "{name}, {killed:?}: {starts:?}");
            assert!(starts.contains(&120), "{name}, {killed:?}: it goes on: {starts:?}");
            // Who ran it has the account: this one gives way to it.
            let rows = world.history("a/task");
            assert!(rows.contains(&"60 skipped: edited_late".to_owned()), "{name}: {rows:?}");
        }
    }
    // The holder knew of the edit, and had nothing to run by it yet.
    let world = taken_over(&[(59, late_by_up_to_58)], 1, None);
    assert_eq!(world.started("a/task")[0], (60, 1));
}

#[test]
fn until_the_store_has_said_what_ran_nothing_is_decided_and_no_ledger_says_that_the_edit_is_known()
{
    let mut world = World::new(1, 10);
    world.create(pinned(every("a/task", 60)));
    world.create(pinned(every("a/other", 1)));
    world.pass(55_000);
    world.deaf = true;
    world.edit("a/task", late_by_up_to_58);
    world.pass(25_000);
    world.hold_loads = |request| matches!(request, LoadRequest::Own { .. });
    world.deaf = false;
    world.pass(10);
    let edit = world.task("a/task").revision;
    let known = |world: &World| {
        let before = &world.store.locals_before(true)[&RangeId::PINS];
        before.ledger.marks.incarnation.revision >= edit
    };
    assert!(!world.held_loads.is_empty(), "it is asked");
    let others = world.started("a/other").len();
    world.pass(3_000);
    assert!(!known(&world));
    assert_eq!(world.started("a/other").len(), others);
    world.hold_loads = |_| false;
    world.release_loads();
    world.pass(2_000);
    assert!(known(&world));
    assert!(world.started("a/other").len() > others);
    world.pass(120_000);
    nothing_again(&world, 60, "a held answer");
}

#[test]
fn a_ledger_on_its_way_does_not_let_go_of_what_an_edit_puts_off() {
    for edited_ms in [10, 200, 400, 600, 800, 1_000, 1_200] {
        let mut world = World::new(1, 10);
        world.create(every("a/task", 60));
        world.conduct("a/task", 2, &[]);
        world.pass(59_000);
        world.deaf = true;
        world.pass(900);
        world.edit("a/task", late_by_up_to_58);
        world.pass(100);
        world.fate(|request| if writes_ledger(request) { Fate::Held } else { Fate::Served });
        world.pass(edited_ms);
        world.deaf = false;
        world.pass(20);
        world.fate(|_| Fate::Served);
        world.release(|world, request| world.serve(request));
        world.pass(12_000);
        world.list();
        world.pass(120_000);
        nothing_again(&world, 60, &format!("heard after {edited_ms} ms"));
    }
}

/// At second 60 it ran, at most once, and an edit of second 57 that puts that off was not heard.
fn ran_unheard() -> World {
    let mut world = World::new(1, 10);
    world.create(pinned(at_most_once(every("a/task", 60))));
    world.pass(55_000);
    world.deaf = true;
    world.pass(2_000);
    world.edit("a/task", late_by_up_to_58);
    world.pass(9_000);
    world
}

#[test]
fn an_edit_that_comes_while_the_store_is_asked_for_what_was_done_before_repeats_nothing() {
    for restarts in 1..=2 {
        let mut world = ran_unheard();
        for _ in 1..restarts {
            world.restart();
            world.pass(2_000);
        }
        world.restart();
        world.hold_loads = |request| matches!(request, LoadRequest::Own { .. });
        world.pass(100);
        world.deaf = false;
        world.pass(100);
        world.hold_loads = |_| false;
        world.release_loads();
        world.pass(170_000);
        nothing_again(&world, 60, &format!("{restarts} restarts"));
    }
}

#[test]
fn what_a_process_before_the_last_one_ran_is_known_when_that_heard_of_the_edit_and_was_killed() {
    for killed_ms in [5, 100, 700, 1_500] {
        let mut world = ran_unheard();
        world.restart();
        world.pass(2_000);
        world.deaf = false;
        world.pass(killed_ms);
        world.restart();
        world.pass(170_000);
        nothing_again(&world, 60, &format!("killed after {killed_ms} ms"));
    }
}

#[test]
fn a_row_of_many_instants_is_of_none_but_those_of_its_schedule() {
    let mut world = World::new(1, 10);
    let names: Vec<String> = (0..10).map(|number| format!("a/task{number}")).collect();
    for name in &names {
        let spec = pinned(every(name, 600));
        let catch_up = CatchUp { policy: CatchUpPolicy::None, ..spec.catch_up };
        world.create(Spec { catch_up, ..spec });
    }
    world.pass(550_000);
    world.deaf = true;
    world.stop(2_400_000);
    world.pass(1_450_000);
    for name in &names {
        let schedules = every_after(name, 600, 300_000).schedules;
        let jitter = Duration::from_secs(590);
        world.edit(name, |spec| Spec { schedules, jitter, ..spec });
    }
    // It wakes, and hears of the edit long after it has decided what it missed.
    world.pass(970_000);
    world.deaf = false;
    world.pass(700_000);
    let mut started = 0;
    for name in &names {
        world.each_ended(&world.task(name), 2_700, 2_701);
        started += usize::from(world.started(name).contains(&(2_700, 1)));
    }
    assert!(started > 2, "{started} were due after that");
}

#[test]
fn what_a_ledger_lists_stays_listed_until_marks_pass_its_due_by_each_schedule_since() {
    let world = |edits: &[(u64, Edit)]| {
        let mut world = World::new(1, 10);
        world.create(at_most_once(every("a/task", 60)));
        world.pass(50_000);
        let first = world.task("a/task");
        world.stop(100);
        for (second, edit) in edits {
            let clock = world.at_second(*second).wall();
            world.edit_at("a/task", clock, edit);
        }
        let run = RunId::scheduled(named("a/task"), first.incarnation, world.at_second(60));
        world.shared.end_lease();
        let through = world.at_second(60).minus(Duration::from_millis(100));
        world.former_ledger(through, run, EntryState::Permitted);
        world.pass(130_000);
        world
    };
    let stories: [&[(u64, Edit)]; 3] = [
        &[(59, late_by_up_to_58)],
        &[(59, late_by_up_to_58), (65, every_seven)],
        &[(59, late_by_up_to_58), (65, every_seven), (70, at_half)],
    ];
    for edits in stories {
        let world = world(edits);
        let starts = world.started("a/task");
        assert!(!starts.iter().any(|(at, _)| *at == 60), "{}: {starts:?}", edits.len());
        let rows = world.history("a/task");
        assert!(rows.iter().any(|row| row.starts_with("60 lost")), "{rows:?}");
    }
}

#[test]
fn what_waits_for_a_place_has_one_where_an_edit_put_it_off_and_its_list_is_heard_later() {
    let mut world = World::new(1, 1);
    world.create(pinned(Spec { overlap: Overlap::Allow, ..every("a/task", 60) }));
    world.create(pinned(every("a/long", 50)));
    world.runs_long("a/long");
    world.pass(55_000);
    world.deaf = true;
    world.edit("a/task", late_by_up_to_58);
    world.pass(8_000);
    hear(&mut world, Comes::List);
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [], "it waits for the only place");
    world.end("a/long", AttemptEnd::Succeeded);
    world.pass(60_000);
    nothing_again(&world, 60, "from its place");
}

#[test]
fn a_retry_whose_backoff_an_edit_made_shorter_is_timed_once_where_its_range_is_listed_anew() {
    let mut world = World::new(1, 10);
    world.create(retried(every("a/task", 600), 3, 20));
    world.conduct("a/task", 1, &[failed()]);
    while world.started("a/task").is_empty() {
        world.pass(1_000);
    }
    world.runs_long("a/task");
    world.edit("a/task", |spec| retried(spec, 3, 2));
    world.pass(1_000);
    world.list();
    world.pass(30_000);
    let starts = world.started("a/task");
    assert_eq!(starts.len(), 2, "{starts:?}");
}
