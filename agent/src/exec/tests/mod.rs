//! Executors with real processes and real sockets.
//!
//! What is promised here is promised about the host: no process left, no zombie, no byte lost. So
//! nothing is mocked. A test starts runs, waits for their ends, and looks at the host. It never
//! sleeps for something to happen: it polls until it has, and fails when its patience is over.
//! Processes are told apart by an argument that no other test uses.

mod command;
mod http;
mod measure;
mod stop;
mod users;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tocktower_core::ids::{Epoch, Incarnation, Revision, RunKey, TaskName};
use tocktower_core::task::{Command, Http, Program};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Executors and the far end of their channel.
struct Bench {
    executors: Executors,
    ends: mpsc::Receiver<End>,
    early: HashMap<Ticket, Finished>,
    next: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ExecConfig)) -> Bench {
        let mut config = ExecConfig { grace: Duration::from_millis(300), ..ExecConfig::default() };
        change(&mut config);
        let (finished, ends) = mpsc::channel(1_024);
        Bench { executors: Executors::new(config, finished), ends, early: HashMap::new(), next: 1 }
    }

    fn run(&mut self, action: Action) -> StartRun {
        let ticket = Ticket(self.next);
        self.next += 1;
        start_run(ticket, action)
    }

    fn start(&mut self, action: Action) -> Ticket {
        self.start_with(action, |_| {})
    }

    fn start_with(&mut self, action: Action, change: impl FnOnce(&mut StartRun)) -> Ticket {
        let mut run = self.run(action);
        change(&mut run);
        let ticket = run.ticket;
        self.executors.start(run);
        ticket
    }

    async fn end(&mut self, ticket: Ticket) -> Finished {
        loop {
            if let Some(finished) = self.early.remove(&ticket) {
                return finished;
            }
            let end = tokio::time::timeout(PATIENCE, self.ends.recv()).await;
            let (other, finished) = end.expect("an end in time").expect("an open channel");
            let finished = finished.expect("a start with a licence begins");
            assert!(self.early.insert(other, finished).is_none(), "two ends of one start");
        }
    }

    async fn outcome(&mut self, action: Action) -> Finished {
        let ticket = self.start(action);
        self.end(ticket).await
    }
}

/// A run that no other run of these tests shares its name with: orphans are known by it.
fn start_run(ticket: Ticket, action: Action) -> StartRun {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count =
        i64::from(COUNT.fetch_add(1, Ordering::Relaxed)) + i64::from(std::process::id()) * 1_000;
    let instant = Instant::from_millis(1_795_602_600_000);
    let epoch = Epoch(1);
    StartRun {
        ticket,
        run: RunId {
            task: TaskName::parse("default/job").unwrap(),
            incarnation: Incarnation { epoch, revision: Revision(count) },
            run: RunKey::Instant(instant),
            agent: None,
        },
        attempt: Attempt { fence: Fence { epoch, revision: Revision(77) }, number: 2 },
        instant: Some(instant),
        due: instant.wall(),
        action: Arc::new(action),
        payload: None,
        timeout: None,
        until: Mono::from_micros(u64::MAX),
    }
}

fn program(program: Program) -> Command {
    Command {
        program,
        env: BTreeMap::new(),
        cwd: None,
        user: None,
        stdin: None,
        success_codes: vec![0],
    }
}

fn shell_command(line: &str) -> Command {
    program(Program::Shell(line.to_owned()))
}

fn shell(line: &str) -> Action {
    Action::Command(shell_command(line))
}

fn argv(argv: &[&str]) -> Action {
    Action::Command(program(Program::Argv(argv.iter().map(|part| (*part).to_owned()).collect())))
}

fn stdout(finished: &Finished) -> String {
    assert_eq!(finished.output.stdout.dropped, 0);
    let mut all = finished.output.stdout.head.clone();
    all.extend(&finished.output.stdout.tail);
    String::from_utf8(all).unwrap()
}

fn reason(finished: &Finished) -> &str {
    match &finished.end {
        AttemptEnd::Failed { reason } => reason,
        other => panic!("expected a failure, found {other:?}"),
    }
}

/// Polls until `found` is true.
async fn eventually(what: &str, mut found: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !found() {
        assert!(tokio::time::Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Processes whose command line holds `mark` as an argument, zombies excluded.
fn processes(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.split(|byte| *byte == 0).any(|part| part == mark.as_bytes()))
        .count()
}

fn zombies() -> Vec<String> {
    let own = format!(" {} ", std::process::id());
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| stat.rsplit_once(") Z").is_some_and(|(_, rest)| rest.starts_with(&own)))
        .collect()
}

#[tokio::test]
async fn a_noop_ends_when_it_starts_and_a_batch_ends_in_order() {
    let mut bench = Bench::new();
    let before = now().wall;
    let finished = bench.outcome(Action::Noop).await;
    assert_eq!(finished.end, AttemptEnd::Succeeded);
    assert!(finished.started_at.unwrap() >= before && finished.finished_at <= now().wall);
    // More than the channel holds: nobody blocks, nothing is lost.
    let runs: Vec<StartRun> = (0..5_000).map(|_| bench.run(Action::Noop)).collect();
    let tickets: Vec<Ticket> = runs.iter().map(|run| run.ticket).collect();
    bench.executors.start_all(runs);
    for ticket in tickets {
        assert_eq!(bench.ends.recv().await.unwrap().0, ticket);
    }
    assert_eq!(bench.executors.running(), 0);
}

#[tokio::test]
async fn shutdown_ends_trees_that_ignore_term_and_refuses_what_comes_later() {
    // The short grace counts, not the agent's own.
    let mut bench = Bench::with(|config| config.grace = Duration::from_secs(3_600));
    let tree = bench.start(shell("trap '' TERM; setsid sleep 3117 & sleep 3117; sleep 3117"));
    eventually("the tree is up", || processes("3117") == 2).await;
    assert_eq!(bench.executors.shutdown().await, 1);
    assert_eq!(bench.end(tree).await.end, AttemptEnd::Cancelled);
    assert_eq!(processes("3117"), 0);
    let late = bench.outcome(Action::Noop).await;
    assert_eq!(reason(&late), "the agent is shutting down");
    assert_eq!(late.started_at, None);
}

#[tokio::test]
async fn a_tree_that_is_being_stopped_is_hurried_when_the_agent_leaves() {
    let mut bench = Bench::with(|config| config.grace = Duration::from_secs(3_600));
    let tree = bench.start(shell("trap '' TERM; sleep 3118 & sleep 3118; sleep 3118"));
    eventually("the tree is up", || processes("3118") == 2).await;
    assert!(bench.executors.cancel(tree));
    bench.executors.hurry_from(std::time::Instant::now());
    assert_eq!(bench.end(tree).await.end, AttemptEnd::Cancelled);
    assert_eq!(processes("3118"), 0);
}

/// As when a second signal ends the program at once.
#[test]
fn a_runtime_that_ends_without_a_word_takes_groups_along() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(async {
        let mut bench = Bench::new();
        bench.start(shell("trap '' TERM; sleep 3119 & sleep 3119; sleep 3119"));
        eventually("the tree is up", || processes("3119") == 2).await;
        bench
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let until = std::time::Instant::now() + PATIENCE;
    while processes("3119") > 0 {
        assert!(std::time::Instant::now() < until, "the group is left");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(bench);
}

#[tokio::test]
async fn an_attempt_has_begun_once_its_licence_was_looked_at_last() {
    let mut bench = Bench::new();
    let ticket = bench.start(argv(&["sleep", "3120"]));
    let begun = |bench: &Bench| bench.executors.has_begun(ticket);
    eventually("it has begun", || begun(&bench)).await;
    bench.executors.cancel(ticket);
    bench.end(ticket).await;
    assert!(!begun(&bench), "it is over");
}
