//! History: by task, by time, by state, page by page; and how it is forgotten.

use std::time::Duration;

use tocktower_agent::store::{
    AllRuns, OutputStream, Query, QueryAnswer, Retention, RunCursor, RunPage, StateSet, TaskRuns,
    TrimBudget, TrimClock,
};
use tocktower_core::agent::effect::StoreOp;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{Namespace, Revision, RunId};
use tocktower_core::run::{Captured, CapturedStream, RunRecord, RunState, Span};
use tocktower_core::time::Wall;

use crate::support::*;

fn of_task(name: &str) -> TaskRuns {
    TaskRuns {
        task: named(name),
        states: StateSet::ALL,
        since: None,
        until: None,
        limit: 100,
        before: None,
    }
}

fn of_all() -> AllRuns {
    AllRuns {
        namespace: None,
        states: StateSet::ALL,
        since: None,
        until: None,
        limit: 100,
        before: None,
    }
}

fn times(page: &RunPage) -> Vec<i64> {
    page.runs.iter().map(|run| run.instant.millis()).collect()
}

fn names(page: &RunPage) -> Vec<String> {
    let name = |run: &RunRecord| format!("{}@{}", run.id.task.name, run.instant.millis());
    page.runs.iter().map(name).collect()
}

/// Runs of `a` each 10 ms and of `b` each 25 ms up to 100; those of `b` fail.
fn two_tasks() -> Disk {
    let mut disk = Disk::new();
    disk.apply((1..=10).map(|n| history(run("a", n * 10, RunState::Succeeded))));
    disk.apply((1..=4).map(|n| history(run("b", n * 25, RunState::Failed))));
    disk
}

#[test]
fn runs_of_a_task_come_newest_first_and_page_by_page() {
    let disk = two_tasks();
    let page = disk.store().task_runs(&of_task("a")).unwrap();
    assert_eq!(times(&page), [100, 90, 80, 70, 60, 50, 40, 30, 20, 10]);
    assert_eq!(page.next, None);

    let mut asked = TaskRuns { limit: 4, ..of_task("a") };
    let mut seen = Vec::new();
    loop {
        let page = disk.store().task_runs(&asked).unwrap();
        seen.extend(times(&page));
        // A cursor goes through text and back.
        let Some(next) = page.next else { break };
        asked.before = Some(RunCursor::parse(&next.bytes()).unwrap());
    }
    assert_eq!(seen, [100, 90, 80, 70, 60, 50, 40, 30, 20, 10]);

    let asked = TaskRuns { since: Some(at(30)), until: Some(at(60)), ..of_task("a") };
    assert_eq!(times(&disk.store().task_runs(&asked).unwrap()), [50, 40, 30]);
    let nothing = TaskRuns { since: Some(at(60)), until: Some(at(60)), ..of_task("a") };
    assert_eq!(times(&disk.store().task_runs(&nothing).unwrap()), [] as [i64; 0]);
    let failed = TaskRuns { states: StateSet::ALL.with(RunState::Failed), ..of_task("a") };
    assert_eq!(times(&disk.store().task_runs(&failed).unwrap()), [] as [i64; 0]);
    assert_eq!(disk.store().last_run(&named("b")).unwrap().unwrap().instant, at(100));
    assert_eq!(disk.store().last_run(&named("c")).unwrap(), None);
}

#[test]
fn incarnations_and_manual_runs_have_their_place() {
    let mut disk = two_tasks();
    let mut later = run("a", 50, RunState::Succeeded);
    later.id.incarnation.revision = Revision(4);
    let mut manual = run("a", 45, RunState::Succeeded);
    manual.id = RunId::manual(named("a"), 45 << 80 | 7);
    let later_id = later.id.clone();
    disk.apply([history(later), history(manual.clone())]);
    let page = disk.store().task_runs(&of_task("a")).unwrap();
    assert_eq!(times(&page), [100, 90, 80, 70, 60, 50, 50, 45, 40, 30, 20, 10]);
    assert_eq!(disk.store().run(&manual.id).unwrap(), [manual]);
    let asked = TaskRuns { until: Some(at(60)), limit: 3, ..of_task("a") };
    let page = disk.store().task_runs(&asked).unwrap();
    assert_eq!(times(&page), [50, 50, 45]);
    assert_eq!(page.runs[0].id, later_id, "of two lives the later one first");
    let next = TaskRuns { before: page.next, ..asked };
    assert_eq!(times(&disk.store().task_runs(&next).unwrap()), [40, 30, 20]);
}

#[test]
fn runs_of_all_tasks_are_found_by_time() {
    let disk = two_tasks();
    let asked = AllRuns { since: Some(at(50)), until: Some(at(80)), ..of_all() };
    let page = disk.store().all_runs(&asked).unwrap();
    assert_eq!(times(&page), [75, 70, 60, 50, 50]);

    for states in [StateSet::ALL, [RunState::Failed, RunState::Lost].into_iter().collect()] {
        let all = AllRuns { states, ..of_all() };
        let whole = names(&disk.store().all_runs(&all).unwrap());
        for limit in 1..6 {
            let mut asked = AllRuns { limit, ..all.clone() };
            let mut seen = Vec::new();
            loop {
                let page = disk.store().all_runs(&asked).unwrap();
                assert!(page.runs.len() <= limit);
                seen.extend(names(&page));
                asked.before = page.next;
                if asked.before.is_none() {
                    break;
                }
            }
            assert_eq!(seen, whole);
        }
    }
    let namespace = Some(Namespace::parse("other").unwrap());
    let page = disk.store().all_runs(&AllRuns { namespace, ..of_all() }).unwrap();
    assert_eq!(page.runs, []);
}

#[test]
fn several_states_are_merged_in_order() {
    let mut disk = Disk::new();
    let states = [RunState::Failed, RunState::Missed, RunState::Skipped, RunState::Succeeded];
    disk.apply((0..40).map(|n| history(run("a", 1_000 + n, states[n as usize % 4]))));
    let states = [RunState::Failed, RunState::Missed].into_iter().collect();
    let mut asked = AllRuns { states, limit: 3, ..of_all() };
    let mut seen = Vec::new();
    loop {
        let page = disk.store().all_runs(&asked).unwrap();
        seen.extend(times(&page));
        asked.before = page.next;
        if asked.before.is_none() {
            break;
        }
    }
    let due: Vec<i64> = (0..40).rev().filter(|n| n % 4 < 2).map(|n| 1_000 + n).collect();
    assert_eq!(seen, due);
}

#[test]
fn a_run_has_an_account_under_each_fence_and_the_highest_counts() {
    let mut disk = Disk::new();
    let mut first = run("a", 10, RunState::Failed);
    first.provisional = false;
    let mut second = run("a", 10, RunState::Succeeded);
    second.fence = fence(9);
    disk.apply([history(run("a", 10, RunState::Running)), history(first.clone())]);
    assert_eq!(disk.store().run(&first.id).unwrap(), [first.clone()], "one row a fence");
    disk.apply([history(second.clone())]);
    assert_eq!(disk.store().run(&first.id).unwrap(), [second.clone(), first.clone()]);
    assert_eq!(disk.store().task_runs(&of_task("a")).unwrap().runs, [second.clone()]);
    assert_eq!(disk.store().all_runs(&of_all()).unwrap().runs, [second]);
    let failed = AllRuns { states: StateSet::ALL.with(RunState::Failed), ..of_all() };
    assert_eq!(disk.store().all_runs(&failed).unwrap().runs, []);
}

#[test]
fn behind_a_run_with_many_accounts_the_next_ones_are_found() {
    let mut disk = Disk::new();
    for number in 1..=12 {
        let account = RunRecord { fence: fence(number), ..run("a", 20, RunState::Failed) };
        disk.apply([history(account)]);
    }
    disk.apply([10, 30].map(|ms| history(run("a", ms, RunState::Succeeded))));
    assert_eq!(times(&disk.store().task_runs(&of_task("a")).unwrap()), [30, 20, 10]);
    assert_eq!(times(&disk.store().all_runs(&of_all()).unwrap()), [30, 20, 10]);
}

#[test]
fn a_span_is_found_by_any_of_its_instants() {
    let mut disk = Disk::new();
    let mut span = run("a", 100, RunState::Skipped);
    span.span = Some(Span { until: at(500), count: 5 });
    disk.apply([history(run("a", 50, RunState::Succeeded)), history(span)]);
    disk.apply([history(run("a", 600, RunState::Succeeded))]);
    let asked =
        |since, until| TaskRuns { since: Some(at(since)), until: Some(at(until)), ..of_task("a") };
    assert_eq!(times(&disk.store().task_runs(&asked(300, 301)).unwrap()), [100]);
    assert_eq!(times(&disk.store().task_runs(&asked(300, 700)).unwrap()), [600, 100]);
    assert_eq!(times(&disk.store().task_runs(&asked(550, 560)).unwrap()), [] as [i64; 0]);
}

#[test]
fn output_is_kept_by_attempt_and_stream() {
    let mut disk = Disk::new();
    let id = run_id("a", 10);
    let noise: Vec<u8> =
        (0..60_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let stdout = CapturedStream { head: vec![b'x'; 60_000], tail: b"end".to_vec(), dropped: 9 };
    let stderr = CapturedStream { head: noise, tail: vec![], dropped: 0 };
    let output = Captured { stdout: stdout.clone(), stderr: stderr.clone() };
    disk.apply([StoreOp::Output { run: id.clone(), attempt: attempt(1), output }]);
    let asked =
        |number, stream| Query::Output { run: id.clone(), attempt: attempt(number), stream };
    let answer = |asked| disk.store().query(&asked).unwrap();
    assert_eq!(answer(asked(1, OutputStream::Stdout)), QueryAnswer::Output(Some(stdout)));
    assert_eq!(answer(asked(1, OutputStream::Stderr)), QueryAnswer::Output(Some(stderr)));
    assert_eq!(answer(asked(2, OutputStream::Stdout)), QueryAnswer::Output(None));
}

#[test]
fn the_ranges_with_history_are_known_for_any_count() {
    let disk = two_tasks();
    for bits in 0..=15 {
        let count = RangeCount::new(1 << bits).unwrap();
        let mut due = [count.range_of(&named("a")), count.range_of(&named("b"))].to_vec();
        due.sort();
        due.dedup();
        assert_eq!(disk.store().history_ranges(count).unwrap(), due);
    }
}

// --- forgetting ---------------------------------------------------------------------------------

const DAY_MS: i64 = 86_400_000;
const YEARS_MS: i64 = 4 * 365 * DAY_MS;

fn keep(age_ms: i64) -> Retention {
    let age = Duration::from_millis(age_ms as u64);
    Retention { age, output_age: age, ..Retention::default() }
}

/// A clock that has been believed for long.
fn steady(ms: i64) -> TrimClock {
    TrimClock { now: Wall::from_millis(ms), steady: true }
}

fn rows(disk: &Disk, of: &str) -> u64 {
    disk.store().stats().rows.iter().find(|(family, _)| *family == of).unwrap().1
}

#[test]
fn age_hides_runs_at_once_and_compaction_frees_them() {
    let mut disk = two_tasks();
    let output = Captured {
        stdout: CapturedStream { head: b"text".to_vec(), tail: vec![], dropped: 0 },
        stderr: CapturedStream::default(),
    };
    for ms in [10, 90] {
        let run = run_id("a", ms);
        disk.apply([StoreOp::Output { run, attempt: attempt(1), output: output.clone() }]);
    }
    disk.apply([history(run("z", 1_060, RunState::Succeeded))]);
    let budget = TrimBudget::default();
    let trimmed = disk.store().trim(steady(1_060), &keep(1_000), budget).unwrap();
    assert_eq!(trimmed.history_from_ms, 60);
    for _ in 0..2 {
        assert_eq!(times(&disk.store().task_runs(&of_task("a")).unwrap()), [100, 90, 80, 70, 60]);
        assert_eq!(
            times(&disk.store().all_runs(&of_all()).unwrap()),
            [1_060, 100, 100, 90, 80, 75, 70, 60]
        );
        let failed = AllRuns { states: StateSet::ALL.with(RunState::Failed), ..of_all() };
        assert_eq!(times(&disk.store().all_runs(&failed).unwrap()), [100, 75]);
        assert_eq!(disk.store().run(&run_id("a", 50)).unwrap(), []);
        let gone = disk.store().output(&run_id("a", 10), attempt(1), OutputStream::Stdout);
        assert_eq!(gone.unwrap(), None);
        let kept = disk.store().output(&run_id("a", 90), attempt(1), OutputStream::Stdout);
        assert!(kept.unwrap().is_some());
        disk.open().unwrap();
    }
    disk.store().compact().unwrap();
    // 8 runs, each with a row and an entry by time, and two by state.
    assert_eq!(rows(&disk, "history"), 8 * 2 + 2);
    assert_eq!(rows(&disk, "output"), 1);
}

#[test]
fn a_task_keeps_its_newest_runs_however_small_the_budget() {
    for budget in [1, 3, 1_000] {
        let disk = two_tasks();
        let rules = Retention { runs_per_task: 3, age: Duration::MAX, ..Retention::default() };
        let mut deleted = 0;
        loop {
            let budget = TrimBudget { rows: budget };
            let trimmed = disk.store().trim(steady(1_000), &rules, budget).unwrap();
            deleted += trimmed.rows_deleted;
            if trimmed.round_done {
                break;
            }
        }
        assert_eq!(deleted, 7 + 1);
        assert_eq!(times(&disk.store().task_runs(&of_task("a")).unwrap()), [100, 90, 80]);
        assert_eq!(times(&disk.store().task_runs(&of_task("b")).unwrap()), [100, 75, 50]);
        assert_eq!(names(&disk.store().all_runs(&of_all()).unwrap()).len(), 6);
        disk.store().compact().unwrap();
        assert_eq!(rows(&disk, "history"), 6 * 2 + 3);
    }
}

#[test]
fn too_many_bytes_cost_the_oldest_runs_step_by_step() {
    let mut disk = Disk::new();
    for day in 0..64 {
        disk.apply(
            (0..200).map(|n| history(run(&format!("t{n}"), day * DAY_MS + n, RunState::Succeeded))),
        );
    }
    disk.store().compact().unwrap();
    let whole = disk.store().stats().bytes;
    let rules =
        Retention { bytes: whole * 3 / 4, age: Duration::from_secs(86_400 * 365), ..keep(0) };
    let now = steady(64 * DAY_MS);
    let mut calls = 0;
    let mark = loop {
        let trimmed = disk.store().trim(now, &rules, TrimBudget { rows: 100 }).unwrap();
        calls += 1;
        assert!(calls < 5_000);
        if !trimmed.slice_compacted && calls > 1 {
            break trimmed.history_from_ms;
        }
    };
    let kept =
        disk.store().task_runs(&TaskRuns { limit: 100, ..of_task("t7") }).unwrap().runs.len();
    assert!((36..=56).contains(&kept), "{kept} of 64 days, {calls} calls");
    // No wrong clock has set this mark: it stays.
    disk.open().unwrap();
    let later = disk.store().trim(now, &rules, TrimBudget::default()).unwrap();
    assert_eq!(later.history_from_ms, mark);
}

#[test]
fn requests_and_ranges_are_forgotten() {
    let mut disk = two_tasks();
    let mut first = run("c", 40, RunState::Succeeded);
    first.request = Some(5);
    disk.apply([history(first)]);
    let now = clock().plus(Duration::from_secs(3_600 * 48));
    disk.apply([history(run("newest", now.millis(), RunState::Succeeded))]);
    disk.store().trim(steady(now.millis()), &keep(0), TrimBudget::default()).unwrap();
    let again = put("c", 1, 1, Some(5), one_shot_raw("c", 1));
    assert_eq!(disk.apply([again]).duplicates, []);
    assert_eq!(disk.store().history_ranges(RangeCount::DEFAULT).unwrap().len(), 1);
    disk.store().compact().unwrap();
    assert_eq!(rows(&disk, "history"), 2);
}

#[test]
fn a_clock_that_is_years_ahead_forgets_nothing() {
    let mut disk = two_tasks();
    let before = disk.store().all_runs(&of_all()).unwrap();
    for steady in [false, true] {
        let clock = TrimClock { now: Wall::from_millis(YEARS_MS), steady };
        let trimmed = disk.store().trim(clock, &keep(1_000), TrimBudget::default()).unwrap();
        assert_eq!(trimmed.history_from_ms, 0, "steady: {steady}");
        disk.store().compact().unwrap();
        assert_eq!(disk.store().all_runs(&of_all()).unwrap(), before);
    }
    // Not even when it has run something there, as long as nobody has believed it for long.
    disk.apply([history(run("z", YEARS_MS, RunState::Succeeded))]);
    let clock = TrimClock { steady: false, ..steady(YEARS_MS) };
    disk.store().trim(clock, &keep(1_000), TrimBudget::default()).unwrap();
    assert_eq!(times(&disk.store().all_runs(&of_all()).unwrap()).len(), before.runs.len() + 1);
}

#[test]
fn a_mark_that_a_wrong_clock_has_set_is_lowered_and_new_runs_are_seen() {
    let mut disk = Disk::new();
    disk.apply([history(run("z", YEARS_MS, RunState::Succeeded))]);
    disk.store().trim(steady(YEARS_MS), &keep(1_000), TrimBudget::default()).unwrap();
    let mut new = run("c", 200, RunState::Failed);
    new.request = Some(9);
    disk.apply([history(new)]);
    assert_eq!(disk.store().task_runs(&of_task("c")).unwrap().runs, []);
    disk.open().unwrap();
    let clock = TrimClock { steady: false, ..steady(1_000) };
    let trimmed = disk.store().trim(clock, &keep(1_000), TrimBudget::default()).unwrap();
    assert_eq!(trimmed.history_from_ms, 0);
    for _ in 0..2 {
        assert_eq!(times(&disk.store().task_runs(&of_task("c")).unwrap()), [200]);
        assert_eq!(times(&disk.store().all_runs(&of_all()).unwrap()), [YEARS_MS, 200]);
        assert_eq!(disk.store().run(&run_id("c", 200)).unwrap().len(), 1);
        disk.open().unwrap();
    }
    disk.store().compact().unwrap();
    let again = put("c", 1, 1, Some(9), one_shot_raw("c", 1));
    assert_eq!(disk.apply([again]).duplicates.len(), 1, "the mark of requests was lowered too");
}
