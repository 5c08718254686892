//! Figures, printed on request:
//! `cargo test -p tocktower-agent --lib measure -- --ignored --nocapture --test-threads=1`.
//!
//! They answer three questions: what a command costs, what a cgroup and another user add to that,
//! and whether spawning stays as cheap when the agent holds much memory, as `posix_spawn` promises
//! and `fork` does not.

use super::*;

async fn commands_per_s(cgroups: bool, user: Option<&str>) -> f64 {
    const RUNS: usize = 2_000;
    const TOGETHER: usize = 16;
    let mut bench = Bench::with(|config| {
        config.cgroups = cgroups;
        config.allow_users = vec!["nobody".to_owned()];
    });
    let mut command = program(Program::Argv(vec!["/bin/true".to_owned()]));
    command.user = user.map(str::to_owned);
    let action = Action::Command(command);
    let began = std::time::Instant::now();
    for _ in 0..TOGETHER {
        bench.start(action.clone());
    }
    for ended in 0..RUNS {
        let (_, finished) = bench.ends.recv().await.unwrap();
        let finished = finished.expect("a start with a licence begins");
        assert_eq!(finished.end, AttemptEnd::Succeeded);
        if ended + TOGETHER < RUNS {
            bench.start(action.clone());
        }
    }
    RUNS as f64 / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_commands_per_second() {
    // The first round pays for loading files and starting threads.
    commands_per_s(false, None).await;
    println!("/bin/true, no cgroup: {:.0}/s", commands_per_s(false, None).await);
    println!("/bin/true, own cgroup: {:.0}/s", commands_per_s(true, None).await);
    if rustix::process::getuid().is_root() {
        println!("/bin/true as nobody: {:.0}/s", commands_per_s(false, Some("nobody")).await);
    }
    let memory = vec![1_u8; 1024 * 1024 * 1024];
    println!("/bin/true, 1 GiB in use: {:.0}/s", commands_per_s(false, None).await);
    if rustix::process::getuid().is_root() {
        let per_s = commands_per_s(false, Some("nobody")).await;
        println!("/bin/true as nobody, 1 GiB in use: {per_s:.0}/s");
    }
    drop(std::hint::black_box(memory));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_noops_per_second() {
    const BATCH: usize = 500;
    const BATCHES: usize = 2_000;
    let mut bench = Bench::new();
    let runs: Vec<StartRun> = (0..BATCH).map(|_| bench.run(Action::Noop)).collect();
    let began = std::time::Instant::now();
    for _ in 0..BATCHES {
        bench.executors.start_all(runs.iter().cloned());
        for _ in 0..BATCH {
            bench.ends.recv().await.unwrap();
        }
    }
    let per_s = (BATCH * BATCHES) as f64 / began.elapsed().as_secs_f64();
    println!("noop, batches of {BATCH}, copying each start: {per_s:.0}/s");
}
