//! Figures, not facts: `cargo test -p tocktower-agent --test store_suite -- --ignored --nocapture`.

use std::time::{Duration, Instant as Clock};

use tocktower_agent::store::{AllRuns, StateSet, TaskRuns};
use tocktower_core::agent::effect::{LoadRequest, StoreOp};
use tocktower_core::ids::{Epoch, Revision, Session, TaskNumber};
use tocktower_core::run::{AttemptEnd, AttemptRecord, ResultCode, RunState};
use tocktower_core::schedule::Schedule;
use tocktower_core::task::{Action, Http};

use tocktower_core::time::Wall;

use crate::support::*;

/// Resident memory of this process in MB: now, and at most.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The rows of a run from its start to its end.
fn ran(n: u64, task: u64, ms: i64) -> [StoreOp; 3] {
    let mut run_of = run(&format!("task-{task}"), ms, RunState::Succeeded);
    let late = i64::try_from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54).unwrap();
    run_of.lateness_micros = Some(late);
    run_of.attempts.push(AttemptRecord {
        attempt: attempt(1),
        agent: run_of.agent.clone(),
        session: Session { epoch: Epoch(1), revision: Revision(77) },
        started_at: Some(Wall::from_micros(ms * 1_000 + late)),
        finished_at: Some(Wall::from_micros(ms * 1_000 + late * 3)),
        end: Some(AttemptEnd::Succeeded),
        code: Some(ResultCode::Exit(0)),
    });
    let id = run_of.id.clone();
    [
        StoreOp::OpenRun { range: RANGE, run: id.clone(), attempt: attempt(1) },
        history(run_of),
        StoreOp::CloseRun { range: RANGE, run: id },
    ]
}

/// What a process that was killed leaves to the next one: at 5,000 runs a second, after so long.
#[test]
#[ignore = "a measurement"]
fn opening_after_a_kill() {
    for seconds in [0, 1, 3, 5, 8, 12, 17, 23, 30, 40] {
        let mut disk = Disk::new();
        for n in 0..5_000 {
            disk.store().write(&batch(1, false, [recurring(&format!("task-{n}"), n)])).unwrap();
        }
        for n in (0..5_000 * seconds).step_by(50) {
            let ms = |n: u64| i64::try_from(1_700_000_000_000 + n / 5).unwrap();
            let ops = (n..n + 50).flat_map(|n| ran(n, n % 5_000, ms(n)));
            disk.store().write(&batch(1, false, ops.chain([watermark(ms(n))]))).unwrap();
        }
        disk.store().write(&batch(1, false, [session()])).unwrap();
        disk.store().sync().unwrap();
        let log = disk.log_bytes() / 1_024;
        disk.close();
        let (began, cpu_before) = (Clock::now(), cpu());
        assert!(disk.open().unwrap().former.is_some());
        let (took, cpu) = (began.elapsed(), cpu() - cpu_before);
        println!("{seconds:>3} s: {log:>6} KiB of log, opened in {took:?}, {cpu:?} of CPU");
    }
}

#[test]
#[ignore = "a measurement"]
fn runs_per_second() {
    let disk = Disk::new();
    let tasks = 100_000;
    for first in (0..tasks).step_by(1_000) {
        let ops = (first..first + 1_000).map(|n| recurring(&format!("task-{n}"), n));
        disk.store().write(&batch(1, false, ops)).unwrap();
    }
    let total = 2_000_000;
    let (began, cpu_before) = (Clock::now(), cpu());
    let mut synced = Clock::now();
    let mut writing = Duration::ZERO;
    for first in (0..total).step_by(1_000) {
        let mut ops = Vec::with_capacity(4_000);
        for n in first..first + 1_000 {
            let ms = i64::try_from(1_700_000_000_000 + n / 100).unwrap();
            ops.push(due(ms + 1_000, n % tasks));
            ops.extend(ran(n, n % tasks, ms));
        }
        let through = i64::try_from(1_700_000_000_000 + first / 100).unwrap();
        ops.push(watermark(through));
        let batch = batch(1, false, ops);
        let wrote = Clock::now();
        disk.store().write(&batch).unwrap();
        if synced.elapsed() > Duration::from_millis(10) {
            disk.store().sync().unwrap();
            synced = Clock::now();
        }
        writing += wrote.elapsed();
    }
    disk.store().sync().unwrap();
    let per_run = |span: Duration| span.as_secs_f64() * 1e6 / total as f64;
    println!(
        "{total} runs: {:.0}/s all in, {:.0}/s in the store, {:.2} us of CPU a run, memory {:?} MB",
        total as f64 / began.elapsed().as_secs_f64(),
        total as f64 / writing.as_secs_f64(),
        per_run(cpu() - cpu_before),
        memory()
    );
    disk.store().compact().unwrap();
    let stats = disk.store().stats();
    time_queries(&disk);
    println!(
        "after compaction: {:.1} B a run in all; {stats:?}",
        stats.bytes as f64 / total as f64
    );
}

#[test]
#[ignore = "a measurement"]
fn a_million_one_shots() {
    let disk = Disk::new();
    let total: u64 = 1_000_000;
    let began = Clock::now();
    let mut writing = Duration::ZERO;
    let mut record_bytes = 0;
    for first in (0..total).step_by(500) {
        let mut ops = Vec::with_capacity(1_000);
        for n in first..first + 500 {
            let mix = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let name = format!("{mix:016x}");
            let url = format!("https://mail.example.com/v1/send/{mix:016x}");
            let body = format!(
                "{{\"user\":{n},\"template\":\"hello\",\"token\":\"{:016x}{:016x}\",\
                 \"subject\":\"Your order is on its way\"}}",
                mix.rotate_left(17),
                mix.rotate_left(43),
            );
            let action = Action::Http(Http {
                method: "POST".to_owned(),
                url,
                headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
                body: Some(body),
                success_status: vec![(200, 299)],
            });
            let raw = raw(&name, n, vec![Schedule::At(at(60_000))], action);
            record_bytes = raw.len();
            ops.push(put(&name, n, 1, Some(u128::from(mix)), raw));
            ops.push(due(1_000_000 + (mix % 1_000) as i64, n));
        }
        let batch = batch(1, true, ops);
        let wrote = Clock::now();
        disk.store().apply(&batch).unwrap();
        writing += wrote.elapsed();
    }
    println!(
        "{total} one-shots of {record_bytes} B: {:.0}/s all in, {:.0}/s in the store, \
         memory {:?} MB, {} B each",
        total as f64 / began.elapsed().as_secs_f64(),
        total as f64 / writing.as_secs_f64(),
        memory(),
        disk.store().stats().bytes / total
    );
    for what in ["as it lies", "compacted"] {
        time_loads(&disk, what);
        disk.store().compact().unwrap();
    }
    println!("{} B each compacted; {:?}", disk.store().stats().bytes / total, disk.store().stats());
}

fn time_queries(disk: &Disk) {
    for name in ["task-1", "task-77777"] {
        let began = Clock::now();
        let asked = TaskRuns {
            task: named(name),
            states: StateSet::ALL,
            since: None,
            until: None,
            limit: 100,
            before: None,
        };
        let runs = disk.store().task_runs(&asked).unwrap().runs.len();
        println!("last {runs} runs of one task: {:?}", began.elapsed());
    }
    let began = Clock::now();
    let asked = AllRuns {
        namespace: None,
        states: StateSet::ALL,
        since: None,
        until: None,
        limit: 100,
        before: None,
    };
    let runs = disk.store().all_runs(&asked).unwrap().runs.len();
    println!("last {runs} runs of all tasks: {:?}", began.elapsed());
}

fn time_loads(disk: &Disk, what: &str) {
    let began = Clock::now();
    let (mut after, mut read) = (at(0), 0);
    while after < at(2_000_000) {
        let request =
            LoadRequest::Due { range: RANGE, after, through: at(2_000_000), limit: 10_000 };
        let loaded = disk.load(request);
        let tocktower_core::agent::input::LoadAnswer::Due { entries, through } = loaded.answer
        else {
            panic!()
        };
        read += entries.len();
        after = through;
    }
    println!(
        "{read} due in one second, {what}: loaded in {:?}, {:?} MB",
        began.elapsed(),
        memory()
    );
    let began = Clock::now();
    let (mut after, mut read) = (None, 0);
    loop {
        let request = LoadRequest::Scan { range: RANGE, after, limit: 10_000 };
        let loaded = disk.load(request);
        let tocktower_core::agent::input::LoadAnswer::Scan { tasks, more } = loaded.answer else {
            panic!()
        };
        read += tasks.len();
        after = tasks.last().map(|(TaskNumber(number), _)| TaskNumber(*number));
        if !more {
            break;
        }
    }
    println!("{read} tasks scanned in {:?}", began.elapsed());
}
