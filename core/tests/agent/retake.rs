//! A lease that is lost while the agent is well: it comes again as a new session and takes its own
//! ranges back. Nobody else has held them, so what it wrote down itself says what has run.

use std::collections::BTreeSet;

use tocktower_core::agent::effect::LoadRequest;
use tocktower_core::ids::RunId;
use tocktower_core::ledger::{Entry, EntryState};
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::task::{CatchUp, CatchUpPolicy, Overlap, Spec};

use crate::words::{at_most_once, every, failed, named, retried, writes_ledger};
use crate::world::{Fate, World};

#[test]
fn what_has_ended_and_no_ledger_covers_is_not_run_again() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.create(world.once("a/once", 9));
    world.pass(9_050);
    world.shared.end_lease();
    world.pass(5_000);
    world.each_ended_once(&world.task("a/task"), 1, 13);
    let all: Vec<(i64, u32)> = (1..=14).map(|second| (second, 1)).collect();
    assert_eq!(world.started("a/task"), all, "each once, by its first attempt");
    assert_eq!(world.started("a/once"), [(9, 1)]);
}

#[test]
fn what_runs_goes_on_and_counts() {
    for delivery in [|spec| spec, at_most_once] {
        for listed in [false, true] {
            let mut world = World::new(1, 10);
            let overlap = Overlap::Skip;
            world.create(delivery(Spec { overlap, ..every("a/task", 5) }));
            world.runs_long("a/task");
            world.pass(if listed { 8_000 } else { 5_100 });
            world.shared.end_lease();
            world.pass(3_500);
            assert_eq!(world.started("a/task"), [(5, 1)], "it is running still");
            world.end("a/task", AttemptEnd::Succeeded);
            world.pass(2_000);
            assert_eq!(world.started("a/task")[0], (5, 1));
            let rows = world.history("a/task");
            assert_eq!(rows.iter().filter(|row| *row == "5 succeeded").count(), 1, "{rows:?}");
            assert!(!rows.iter().any(|row| row.contains("lost")), "{rows:?}");
        }
    }
}

#[test]
fn a_retry_that_waits_goes_on_waiting() {
    let mut world = World::new(1, 10);
    world.create(retried(every("a/task", 10), 2, 5));
    world.conduct("a/task", 1, &[failed()]);
    world.pass(11_500);
    world.shared.end_lease();
    world.pass(2_000);
    assert_eq!(world.started("a/task"), [(10, 1)], "its time has not come");
    world.pass(5_000);
    assert_eq!(world.started("a/task"), [(10, 1), (10, 2)]);
}

#[test]
fn what_another_has_held_meanwhile_is_decided_by_the_ledger_alone() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(9_050);
    world.lose_to_another();
    world.pass(3_000);
    let starts = world.started("a/task");
    let all: BTreeSet<(i64, u32)> = starts.iter().copied().collect();
    assert_eq!(starts.len(), all.len() + 1, "the other may have started it: {starts:?}");
}

#[test]
fn what_was_begun_under_an_earlier_claim_still_is_no_matter_how_often_the_range_comes_back() {
    for killed in [false, true] {
        let mut world = World::new(1, 10);
        world.create(at_most_once(Spec { overlap: Overlap::Skip, ..every("a/task", 60) }));
        world.runs_long("a/task");
        world.pass(62_000);
        for _ in 0..3 {
            world.shared.end_lease();
            world.pass(3_000);
        }
        if killed {
            world.restart();
            world.pass(5_000);
        } else {
            world.end("a/task", AttemptEnd::Succeeded);
            world.pass(2_000);
        }
        assert_eq!(world.started("a/task"), [(60, 1)], "killed: {killed}");
        let end = if killed { "60 lost" } else { "60 succeeded" };
        let rows = world.history("a/task");
        assert!(rows.len() == 1 && rows[0].starts_with(end), "{rows:?}");
    }
}

/// Its ledger says what the one before had permission for; the store here knows nothing of that.
#[test]
fn what_another_had_permission_for_is_lost_though_the_range_comes_back_at_once() {
    for killed in [false, true] {
        let mut world = World::new(1, 10);
        world.create(at_most_once(every("a/task", 60)));
        let incarnation = world.task("a/task").incarnation;
        let begun = RunId::scheduled(named("a/task"), incarnation, world.at_second(0));
        world.former_ledger(world.at_second(0), begun, EntryState::Permitted);
        // The claim goes, or the process, before all tasks were seen.
        world.hold_loads = |request| matches!(request, LoadRequest::Scan { .. });
        world.pass(500);
        assert_eq!(world.listed("a/task").len(), 1, "passed on");
        world.hold_loads = |_| false;
        if killed {
            world.restart();
        } else {
            world.shared.end_lease();
        }
        world.pass(5_000);
        assert_eq!(world.started("a/task"), [], "killed: {killed}");
        let rows = world.history("a/task");
        assert!(rows.len() == 1 && rows[0].starts_with("0 lost"), "{rows:?}");
    }
}

#[test]
fn what_was_about_to_begin_begins_when_the_range_is_back() {
    let mut world = World::new(1, 10);
    world.create(at_most_once(every("a/task", 10)));
    world.pass(9_995);
    world.hang_disk = true;
    world.pass(50);
    world.shared.end_lease();
    world.pass(10);
    world.free_disk();
    world.pass(3_000);
    assert_eq!(world.started("a/task"), [(10, 1)]);
    assert_eq!(world.history("a/task"), ["10 succeeded"]);
}

#[test]
fn what_failed_while_the_range_was_lost_is_tried_again() {
    for listed in [false, true] {
        for once in [false, true] {
            let mut world = World::new(1, 10);
            let spec = retried(every("a/task", 30), 3, 5);
            world.create(if once { at_most_once(spec) } else { spec });
            world.runs_long("a/task");
            world.pass(if listed { 33_000 } else { 30_100 });
            // It fails for the same reason for which the lease was lost.
            world.fate(|_| Fate::Lost);
            world.shared.end_lease();
            world.pass(500);
            world.end("a/task", failed());
            world.pass(500);
            world.fate(|_| Fate::Served);
            world.pass(15_000);
            let starts = world.started("a/task");
            assert_eq!(starts[..2], [(30, 1), (30, 2)], "listed {listed}, once {once}");
        }
    }
}

#[test]
fn of_what_had_failed_for_good_an_edit_of_retries_brings_one_back_at_a_time() {
    for killed in [false, true] {
        let mut world = World::new(1, 10);
        world.create(Spec { overlap: Overlap::Skip, ..every("a/task", 1) });
        world.pass(1_500);
        // No ledger says what became of them, so that their ends are looked up again.
        world.fate(|request| if writes_ledger(request) { Fate::Lost } else { Fate::Served });
        world.conduct("a/task", 1, &[failed(), failed()]);
        world.pass(2_000);
        assert_eq!(world.ended("a/task", RunState::Failed), 2);
        world.edit("a/task", |spec| retried(spec, 3, 1));
        world.runs_long("a/task");
        if killed {
            world.restart();
        } else {
            world.shared.end_lease();
        }
        world.fate(|_| Fate::Served);
        for _ in 0..60 {
            world.pass(100);
            assert!(world.running.len() <= 1, "killed: {killed}, {:?}", world.running);
        }
        let again = world.started("a/task").iter().filter(|(_, number)| *number == 2).count();
        assert_eq!(again, 1, "killed: {killed}, {:?}", world.started("a/task"));
    }
}

#[test]
fn what_had_failed_for_good_while_its_task_was_paused_stays_so() {
    for killed in [false, true] {
        let mut world = World::new(1, 10);
        world.create(retried(every("a/task", 60), 3, 1));
        world.runs_long("a/task");
        world.pass(60_500);
        world.pause("a/task");
        world.pass(100);
        world.end("a/task", failed());
        world.pass(20);
        if killed {
            world.restart();
        } else {
            world.shared.end_lease();
        }
        world.pass(6_000);
        assert_eq!(world.history("a/task"), ["60 failed: exit code 1"], "killed: {killed}");
        assert_eq!(world.started("a/task"), [(60, 1)], "killed: {killed}");
    }
}

#[test]
fn nothing_of_a_series_is_lost_with_the_claim() {
    for (ends, adopted) in [(false, false), (true, false), (true, true)] {
        let mut world = World::new(1, 10);
        let policy = CatchUpPolicy::All;
        let catch_up = CatchUp { policy, ..every("a/task", 1).catch_up };
        world.create(Spec { catch_up, overlap: Overlap::Queue, ..every("a/task", 1) });
        world.runs_long("a/task");
        world.pass(1_500);
        // What comes due meanwhile is made up for, behind the one that runs.
        world.stop(20_000);
        world.pass(24_000);
        let listed = |entry: &Entry| matches!(entry.state, EntryState::CatchUp { .. });
        assert!(world.listed("a/task").iter().any(listed), "{:?}", world.listed("a/task"));
        // Its first begins, and no ledger arrives that would tell it from the rest.
        world.fate(|request| if writes_ledger(request) { Fate::Lost } else { Fate::Served });
        world.end("a/task", AttemptEnd::Succeeded);
        world.pass(20);
        assert_eq!(world.started("a/task"), [(1, 1), (2, 1)]);
        if ends {
            world.end("a/task", AttemptEnd::Succeeded);
            world.pass(2);
        }
        world.conduct("a/task", 1, &[]);
        if adopted {
            world.restart();
        } else {
            world.shared.end_lease();
        }
        world.fate(|_| Fate::Served);
        world.pass(2_000);
        if !adopted {
            world.end("a/task", AttemptEnd::Succeeded);
        }
        world.pass(40_000);
        world.each_ended(&world.task("a/task"), 1, 40);
    }
}

#[test]
fn a_claim_that_is_lost_again_before_all_is_read_repeats_nothing() {
    let mut world = World::new(1, 10);
    world.create(every("a/task", 1));
    world.pass(9_050);
    world.hold_loads = |request| matches!(request, LoadRequest::Own { .. });
    world.shared.end_lease();
    world.pass(500);
    world.hold_loads = |_| false;
    world.shared.end_lease();
    world.pass(5_000);
    world.each_ended_once(&world.task("a/task"), 1, 13);
}
