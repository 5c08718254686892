//! Timeouts and cancels: nothing of a tree is left, however it tries.
//!
//! Each shape of a tree is stopped twice, with cgroups (on hosts that have them) and without, since
//! a fleet has hosts of both kinds and the promise is the same. Each tree sleeps for a number of
//! seconds that no other test uses: that is how it is counted.

use std::path::{Path, PathBuf};

use super::*;

const TIMEOUT: Duration = Duration::from_millis(400);

/// Runs `line` until its timeout, with and without cgroups, and counts what it left.
async fn check_gone(line: &str, mark: &str, sleeps: usize) {
    for cgroups in [true, false] {
        let mut bench = Bench::with(|config| config.cgroups = cgroups);
        let ticket = bench.start_with(shell(line), |run| run.timeout = Some(TIMEOUT));
        eventually("the tree is up", || processes(mark) == sleeps).await;
        let finished = bench.end(ticket).await;
        assert_eq!(finished.end, AttemptEnd::TimedOut { after: TIMEOUT });
        assert_eq!(processes(mark), 0, "cgroups {cgroups}: {line}");
    }
}

#[tokio::test]
async fn a_timeout_ends_the_children_of_a_shell() {
    check_gone("sleep 3201 & sleep 3201 & sleep 3201", "3201", 3).await;
}

#[tokio::test]
async fn a_timeout_ends_children_in_sessions_of_their_own() {
    check_gone("setsid sleep 3202 & setsid sh -c 'sleep 3202 & wait' & wait", "3202", 2).await;
}

#[tokio::test]
async fn a_timeout_ends_what_has_forked_twice_and_lost_its_parents() {
    let line = "setsid sh -c '(setsid sleep 3203 &) ; exit 0'; sleep 3203";
    check_gone(line, "3203", 2).await;
}

#[tokio::test]
async fn a_timeout_ends_what_ignores_term() {
    check_gone("trap '' TERM; setsid sleep 3204 & sleep 3204", "3204", 2).await;
}

#[tokio::test]
async fn a_timeout_ends_what_forks_while_it_is_hunted() {
    let line = "trap 'setsid sh -c \"trap : TERM; sleep 3205; sleep 3205\" & sleep 3205' TERM; \
        sleep 3205 & sleep 3205 & wait";
    check_gone(line, "3205", 2).await;
}

#[tokio::test]
async fn term_comes_first_and_leaves_time_to_clean_up() {
    let mut bench = Bench::with(|config| config.grace = Duration::from_secs(10));
    let line = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let ticket = bench.start(shell(line));
    let mut live = bench.executors.tail(ticket, Stream::Stdout).unwrap();
    assert_eq!(live.next().await.unwrap().bytes, b"ready\n");
    assert!(bench.executors.cancel(ticket));
    let finished = bench.end(ticket).await;
    assert_eq!(finished.end, AttemptEnd::Cancelled);
    assert_eq!(finished.code, Some(tocktower_core::run::ResultCode::Exit(5)));
    assert_eq!(stdout(&finished), "ready\ncleaned\n");
    assert!(!bench.executors.cancel(ticket));
}

#[tokio::test]
async fn a_tree_that_writes_without_end_is_stopped_all_the_same() {
    let mut bench = Bench::new();
    let ticket = bench.start_with(shell("yes 3206 & yes 3206"), |run| run.timeout = Some(TIMEOUT));
    assert_eq!(bench.end(ticket).await.end, AttemptEnd::TimedOut { after: TIMEOUT });
    assert_eq!(processes("3206"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_trees_that_time_out_together_all_go() {
    let mut bench = Bench::new();
    let runs: Vec<StartRun> = (0..100)
        .map(|_| {
            let mut run = bench.run(shell("(setsid sleep 3211 &); trap '' TERM; sleep 3211"));
            run.timeout = Some(TIMEOUT);
            run
        })
        .collect();
    let tickets: Vec<Ticket> = runs.iter().map(|run| run.ticket).collect();
    bench.executors.start_all(runs);
    for ticket in tickets {
        assert_eq!(bench.end(ticket).await.end, AttemptEnd::TimedOut { after: TIMEOUT });
    }
    assert_eq!(processes("3211"), 0);
    eventually("no zombie is left", || zombies().is_empty()).await;
}

#[tokio::test]
async fn another_run_of_the_same_task_is_left_alone() {
    let mut bench = Bench::new();
    let stays = bench.start(shell("setsid sleep 3207 & wait"));
    let goes = bench.start(shell("setsid sleep 3208 & wait"));
    eventually("both are up", || processes("3207") == 1 && processes("3208") == 1).await;
    bench.executors.cancel(goes);
    assert_eq!(bench.end(goes).await.end, AttemptEnd::Cancelled);
    assert_eq!((processes("3207"), processes("3208")), (1, 0));
    bench.executors.cancel(stays);
    bench.end(stays).await;
    assert_eq!(processes("3207"), 0);
}

#[tokio::test]
async fn a_background_process_outlives_its_run_and_is_reaped_in_the_end() {
    let mut bench = Bench::new();
    let finished = bench.outcome(shell("setsid sleep 0.7331 > /dev/null 2>&1 &")).await;
    assert_eq!(finished.end, AttemptEnd::Succeeded);
    eventually("it has ended", || processes("0.7331") == 0).await;
    eventually("no zombie is left", || zombies().is_empty()).await;
}

#[tokio::test]
async fn cgroups_are_removed_with_their_runs() {
    let Some(cgroups) = super::super::command::own_cgroup() else {
        return;
    };
    let mut bench = Bench::new();
    let folders = |root: &Path| -> Vec<PathBuf> {
        let prefix = format!("tocktower-{}-", std::process::id());
        let own = std::fs::read_dir(root).unwrap().flatten();
        own.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect()
    };
    let ticket = bench.start(argv(&["sleep", "3209"]));
    let inside = || {
        let below = folders(&cgroups).into_iter().flat_map(std::fs::read_dir).flatten().flatten();
        below.map(|entry| entry.path().join("cgroup.procs")).any(|procs| {
            let procs = std::fs::read_to_string(procs).unwrap_or_default();
            procs.lines().any(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.windows(4).any(|part| part == b"3209")
            })
        })
    };
    eventually("the command is in its cgroup", &inside).await;
    bench.executors.cancel(ticket);
    bench.end(ticket).await;
    assert!(!inside());
}

#[tokio::test]
async fn nothing_begins_when_its_licence_has_run_out() {
    let mut bench = Bench::new();
    let actions = [Action::Noop, shell("touch /nonexistent/never"), http("http://127.0.0.1:9/")];
    for action in actions {
        let ticket = bench.start_with(action, |run| run.until = now().mono);
        let end = tokio::time::timeout(PATIENCE, bench.ends.recv()).await;
        assert_eq!(end.expect("an end in time"), Some((ticket, None)));
    }
}
