//! What a command is given, what is kept of it, and how its end is read.
//!
//! The environment is compared whole, since what matters is what is *not* in it. Failures are
//! compared by their text: it is the only thing that the owner of a task gets to see, and it has
//! to name what is missing.

use tocktower_core::run::ResultCode;

use super::*;

#[tokio::test]
async fn exit_codes_decide() {
    let mut bench = Bench::new();
    let good = bench.outcome(argv(&["true"])).await;
    assert_eq!((good.end, good.code), (AttemptEnd::Succeeded, Some(ResultCode::Exit(0))));
    let bad = bench.outcome(shell("exit 7")).await;
    assert_eq!((reason(&bad), bad.code), ("exit code 7", Some(ResultCode::Exit(7))));
    let killed = bench.outcome(shell("kill -9 $$")).await;
    assert_eq!((reason(&killed), killed.code), ("killed by signal 9", Some(ResultCode::Signal(9))));
    let mut listed = shell_command("exit 7");
    listed.success_codes = vec![0, 7];
    assert_eq!(bench.outcome(Action::Command(listed)).await.end, AttemptEnd::Succeeded);
}

#[tokio::test]
async fn a_command_sees_its_run_and_nothing_of_the_agents_environment() {
    let mut bench = Bench::with(|config| config.path = "/usr/bin:/bin".to_owned());
    let mut command = program(Program::Argv(vec!["env".to_owned()]));
    command.env =
        BTreeMap::from([("LEVEL".into(), "3".into()), ("TOCKTOWER_TASK".into(), "x".into())]);
    let mut run_id = String::new();
    let ticket = bench.start_with(Action::Command(command), |run| {
        run.payload = Some("{\"to\": \"ops\"}".to_owned());
        run_id = run.run.to_string();
    });
    let finished = bench.end(ticket).await;
    let mut lines: Vec<String> = stdout(&finished).lines().map(str::to_owned).collect();
    lines.sort();
    let expected = [
        "LEVEL=3".to_owned(),
        "PATH=/usr/bin:/bin".to_owned(),
        "TOCKTOWER_ATTEMPT=2".to_owned(),
        "TOCKTOWER_FENCE=77".to_owned(),
        "TOCKTOWER_INSTANT=2026-11-25T10:30:00Z".to_owned(),
        "TOCKTOWER_PAYLOAD={\"to\": \"ops\"}".to_owned(),
        format!("TOCKTOWER_RUN_ID={run_id}"),
        "TOCKTOWER_TASK=default/job".to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_working_directory_is_the_root_unless_given() {
    let mut bench = Bench::new();
    assert_eq!(stdout(&bench.outcome(argv(&["pwd"])).await), "/\n");
    let mut command = shell_command("pwd");
    command.cwd = Some("/usr".to_owned());
    assert_eq!(stdout(&bench.outcome(Action::Command(command)).await), "/usr\n");
}

#[tokio::test]
async fn standard_input_is_what_was_given_or_empty() {
    let mut bench = Bench::new();
    assert_eq!(stdout(&bench.outcome(argv(&["cat"])).await), "");
    let text = "line\n".repeat(13_000);
    let mut command = program(Program::Argv(vec!["cat".to_owned()]));
    command.stdin = Some(text.clone());
    assert_eq!(stdout(&bench.outcome(Action::Command(command.clone())).await), text);
    // A program that does not read it is not held up.
    command.program = Program::Shell("exit 0".to_owned());
    assert_eq!(bench.outcome(Action::Command(command)).await.end, AttemptEnd::Succeeded);
}

async fn check_refused(change: impl FnOnce(&mut Command), expected: &str) {
    let mut bench = Bench::with(|config| config.path = "/usr/bin:/bin".to_owned());
    let mut command = program(Program::Argv(vec!["true".to_owned()]));
    change(&mut command);
    let finished = bench.outcome(Action::Command(command)).await;
    assert!(reason(&finished).contains(expected), "{}", reason(&finished));
    assert_eq!((finished.started_at, finished.code), (None, None));
}

#[tokio::test]
async fn what_cannot_start_says_what_is_missing() {
    let argv = |program: &str| Program::Argv(vec![program.to_owned()]);
    check_refused(
        |command| command.program = argv("no-such-program"),
        "program \"no-such-program\" was not found in PATH \"/usr/bin:/bin\"",
    )
    .await;
    check_refused(|command| command.program = argv("/no/such"), "\"/no/such\" does not exist")
        .await;
    check_refused(|command| command.program = argv("/etc/passwd"), "Permission denied").await;
    check_refused(|command| command.program = Program::Argv(vec![]), "the command is empty").await;
    check_refused(|command| command.program = argv("a\0b"), "not found").await;
    check_refused(|command| command.cwd = Some("/no/cwd".into()), "\"/no/cwd\" does not exist")
        .await;
    check_refused(|command| command.cwd = Some("/etc/passwd".into()), "not a directory").await;
}

#[tokio::test]
async fn of_ten_megabytes_the_head_and_the_tail_are_kept() {
    let mut bench = Bench::new();
    let line = "echo first; head -c 10000000 /dev/zero | tr '\\0' x; echo last; echo oops >&2";
    let finished = bench.outcome(shell(line)).await;
    assert_eq!(finished.end, AttemptEnd::Succeeded);
    let out = &finished.output.stdout;
    assert_eq!((out.head.len(), out.tail.len()), (OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX));
    assert_eq!(out.dropped, 10_000_000 + 11 - 2 * 65_536);
    assert!(out.head.starts_with(b"first\nxxx") && out.tail.ends_with(b"xxxlast\n"));
    assert_eq!(finished.output.stderr.head, b"oops\n");
}

#[tokio::test]
async fn output_can_be_followed_while_it_is_written() {
    let mut bench = Bench::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let line = format!("echo one; while ! grep -q go {path}; do sleep 0.01; done; echo two");
    let ticket = bench.start(shell(&line));
    let mut live = bench.executors.tail(ticket, Stream::Stdout).unwrap();
    assert_eq!(live.next().await.unwrap().bytes, b"one\n");
    assert_eq!(live.snapshot().head, b"one\n");
    std::fs::write(file.path(), "go").unwrap();
    assert_eq!(live.next().await.unwrap().bytes, b"two\n");
    assert_eq!(live.next().await, None);
    assert_eq!(stdout(&bench.end(ticket).await), "one\ntwo\n");
    assert!(bench.executors.tail(ticket, Stream::Stdout).is_none());
}

#[tokio::test]
async fn a_daemon_that_holds_the_pipes_holds_nothing_up_and_lives_on() {
    let mut bench = Bench::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    // The daemon writes to the inherited pipe after its run has ended, and must survive that.
    let daemon = format!(
        "(while ! grep -q go {path}; do sleep 0.01; done; echo late; echo lived >> {path}) & \
         echo up"
    );
    let started = std::time::Instant::now();
    let finished = bench.outcome(shell(&daemon)).await;
    assert_eq!((stdout(&finished).as_str(), &finished.end), ("up\n", &AttemptEnd::Succeeded));
    assert!(started.elapsed() < Duration::from_secs(2));
    std::fs::write(file.path(), "go\n").unwrap();
    eventually("the daemon writes on", || {
        std::fs::read_to_string(file.path()).unwrap().contains("lived")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_commands_at_once_all_end_and_leave_no_zombie() {
    let mut bench = Bench::new();
    let line = "sleep 0.2; echo $TOCKTOWER_RUN_ID; (sleep 0.1 &) ; exit 3";
    let runs: Vec<StartRun> = (0..500).map(|_| bench.run(shell(line))).collect();
    let ids: Vec<(Ticket, String)> =
        runs.iter().map(|run| (run.ticket, format!("{}\n", run.run))).collect();
    bench.executors.start_all(runs);
    assert_eq!(bench.executors.running(), 500);
    for (ticket, id) in ids {
        let finished = bench.end(ticket).await;
        assert_eq!((stdout(&finished), reason(&finished)), (id, "exit code 3"));
    }
    assert_eq!(bench.executors.running(), 0);
    eventually("no zombie is left", || zombies().is_empty()).await;
}
