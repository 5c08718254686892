//! The command as scripts see it: exit codes, forms of answers, and what is said about mistakes.
//!
//! Each test runs the built `tock` in a process of its own, most of them against a server in this
//! one. The page of all commands is compared with the checked-in one, so that a change of a help
//! text is seen in review and no command is without an example.

mod common;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::CommandFactory;
use common::{Server, stderr, stdout, tock, tock_with};
use serde_json::{Value, json};
use tocktower_cli::args::Cli;
use tocktower_client::Task;

fn json_of(output: &std::process::Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|e| panic!("{e}: {}", stderr(output)))
}

#[test]
fn the_command_line_is_well_formed_and_every_command_has_an_example() {
    let mut root = Cli::command();
    root.build();
    root.clone().debug_assert();
    fn leaves(command: &clap::Command, path: &str) {
        let inner: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        if inner.is_empty() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n  "), "{path} has no example");
            assert!(command.get_about().is_some(), "{path} says nothing");
        }
        for command in inner {
            leaves(command, &format!("{path} {}", command.get_name()));
        }
    }
    leaves(&root, "tock");
}

/// Run with `UPDATE_GOLDEN=1` to write the page anew.
#[test]
fn the_reference_page_is_what_the_command_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli.md");
    let page = tocktower_cli::reference::markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(page == golden, "{} is out of date: run with UPDATE_GOLDEN=1", path.display());
}

#[test]
fn examples_of_create_make_the_tasks_that_they_show() {
    let dry = |args: &[&str]| {
        let args = [&["-o", "json", "task", "create", "--dry-run"], args].concat();
        let output = tock(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        json_of(&output)
    };
    let task = dry(&[
        "ops/nightly",
        "--cron",
        "30 2 * * *",
        "--tz",
        "Europe/Berlin",
        "--retry",
        "3",
        "--timeout",
        "1h",
        "--overlap",
        "cancel_running",
        "--catch-up",
        "all",
        "--jitter",
        "30s",
        "--label",
        "team=db",
        "--env",
        "LEVEL=3",
        "--user",
        "backup",
        "--cwd",
        "/srv",
        "--stdin",
        "yes",
        "--pool",
        "edge",
        "--priority",
        "-2",
        "--",
        "/usr/local/bin/backup",
        "--all",
    ]);
    assert_eq!((&task["namespace"], &task["name"]), (&json!("ops"), &json!("nightly")));
    assert_eq!(task["schedules"][0]["time_zone"], "Europe/Berlin");
    let command = json!({
        "argv": ["/usr/local/bin/backup", "--all"], "env": {"LEVEL": "3"}, "cwd": "/srv",
        "user": "backup", "stdin": "yes", "success_codes": [0],
    });
    assert_eq!(task["action"]["command"], command);
    assert_eq!(task["retry"]["max_attempts"], 3);
    assert_eq!(task["timeout"], "1h");
    assert_eq!(task["overlap"], "cancel_running");
    assert_eq!(task["catch_up"]["policy"], "all");
    assert_eq!(task["placement"]["pool"], "edge");
    assert_eq!(task["priority"], -2);

    let task =
        dry(&["report", "--cron", "0 0 18 ? * 6L", "--dialect", "quartz", "--shell", "a | b"]);
    assert_eq!(task["schedules"][0]["dialect"], "quartz");
    assert_eq!(task["action"]["command"]["shell"], "a | b");

    let http = [
        "--in",
        "5m",
        "--http",
        "https://example.com/a",
        "--method",
        "PUT",
        "--header",
        "X-A: b",
        "--body",
        "{}",
    ];
    let task = dry(&http);
    assert_eq!(task["action"]["http"]["headers"], json!({"X-A": "b"}));
    assert!(task["schedules"][0]["at"].is_string());
    assert_eq!(task["name"].as_str().unwrap().len(), 26);

    let task = dry(&["sample", "--every", "15m", "--phase", "2m", "--noop"]);
    assert_eq!(task["schedules"], json!([{"every": "15m", "phase": "2m"}]));
}

#[test]
fn a_task_of_every_agent_says_its_pool_labels_and_splay() {
    let create = |args: &[&str]| {
        let given = ["-o", "json", "task", "create", "--dry-run", "a", "--every", "1h", "--noop"];
        tock(&[&given[..], args].concat())
    };
    let placed = |args: &[&str]| {
        let output = create(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        json_of(&output)["placement"]["every_agent"].clone()
    };
    let all = json!({"pool": "default", "labels": {}, "splay": "0s"});
    assert_eq!(placed(&["--every-agent"]), all);
    let labels = ["--agent-label", "role=web", "--agent-label", "zone=a"];
    let some = [&["--every-agent=edge", "--splay", "30s"], &labels[..]].concat();
    let web = json!({"pool": "edge", "labels": {"role": "web", "zone": "a"}, "splay": "30s"});
    assert_eq!(placed(&some), web);
    // What only makes sense with it is not ignored without it, and it is no pool beside another.
    for wrong in [&["--splay", "30s"][..], &labels, &["--every-agent", "--pool", "edge"]] {
        assert_eq!(create(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn wrong_usage_is_2_and_nothing_is_sent() {
    for args in [
        &["task", "create", "a", "--noop"][..],
        &["task", "create", "a", "--every", "1m"],
        &["task", "create", "a", "--every", "1m", "--noop", "--shell", "x"],
        &["task", "create", "a", "--every", "90", "--noop"],
        &["task", "create", "a", "--at", "tomorrow", "--noop"],
        &["task", "create", "a", "--every", "1m", "--noop", "--label", "team"],
        &["task", "nonsense"],
        &["--context", "nowhere", "task", "list"],
        &["--server", "https://example.com", "task", "list"],
        &["import", "crontab", "x", "--zone", "Mars/Phobos"],
        &[],
    ] {
        let output = tock(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_3_and_told_in_two_lines() {
    // A port that was free a moment ago.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let output = tock_with(&["task", "list"], &[("TOCK_SERVER", &address)]);
    assert_eq!(output.status.code(), Some(3));
    let told = stderr(&output);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains(&address) && told.contains("refused"), "{told}");
}

#[test]
fn wrong_fields_are_told_one_a_line_with_their_paths() {
    let args = ["task", "create", "a", "--cron", "60 * * * *", "--tz", "Mars/X", "--", "x"];
    let output = tock(&args);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.contains("\n  schedules[0].cron: "), "{told}");
    assert!(told.contains("\n  schedules[0].time_zone: "), "{told}");
}

#[test]
fn a_task_is_created_shown_paused_and_deleted() {
    let (server, address) = Server::start();
    let run = |args: &[&str]| tock(&[&["--server", &address], args].concat());

    let output = run(&["task", "create", "a", "--every", "1m", "--noop"]);
    assert_eq!(stdout(&output), "default/a created\n", "{}", stderr(&output));
    let output = run(&["task", "create", "a", "--every", "1m", "--noop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("a exists (already_exists)"), "{}", stderr(&output));

    let output = run(&["task", "list"]);
    let table = stdout(&output);
    assert!(table.lines().next().unwrap().trim_start().starts_with("NAMESPACE"), "{table}");
    assert!(table.contains("every 1m") && table.contains("noop"), "{table}");

    let list = json_of(&run(&["task", "list", "-o", "json"]));
    assert_eq!(list["next_cursor"], Value::Null);
    assert_eq!(list["items"][0]["state"], "active");
    let yaml = stdout(&run(&["task", "get", "default/a", "-o", "yaml"]));
    assert!(yaml.starts_with("namespace: default\nname: a\n"), "{yaml}");

    let output = run(&["task", "pause", "a", "missing"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "default/a paused\n");
    assert!(stderr(&output).contains("task missing"), "{}", stderr(&output));

    let output = run(&["task", "delete", "a", "-o", "json"]);
    assert_eq!(json_of(&output)["deleted"], true);
    assert_eq!(server.names().len(), 0);
}

#[test]
fn apply_shows_a_plan_and_carries_it_out() {
    let (server, address) = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let task = |name: &str, every: &str| {
        format!("name: {name}\nschedules: [{{every: {every}}}]\naction: {{noop: {{}}}}\n")
    };
    write("a.yaml", &format!("{}---\n{}", task("a", "1m"), task("b", "1m")));
    let path = folder.path().to_str().unwrap();
    let apply = |more: &[&str]| {
        let args = [&["--server", &address, "task", "apply", "-f", path], more].concat();
        tock(&args)
    };

    let output = apply(&["--dry-run"]);
    assert!(stdout(&output).starts_with("+ default/a\n+ default/b\n"), "{}", stdout(&output));
    assert_eq!(server.names().len(), 0);
    assert_eq!(apply(&[]).status.code(), Some(0));
    assert_eq!(server.names(), ["default/a", "default/b"]);

    write("a.yaml", &task("a", "2m"));
    let output = apply(&[]);
    let expected = "~ default/a\n    schedules[0].every: \"1m\" → \"2m\"\n\
                    0 to create, 1 to change, 0 unchanged, 0 to delete\n";
    assert_eq!(stdout(&output), expected);

    let output = apply(&["--prune"]);
    assert_eq!(output.status.code(), Some(2), "nobody is there to ask");
    assert!(stderr(&output).contains("--yes"));
    assert_eq!(server.names().len(), 2);
    let output = apply(&["--prune", "--yes", "-o", "json"]);
    let plan = json_of(&output);
    assert_eq!(plan["plan"][0]["action"], "unchanged");
    assert_eq!(plan["plan"][1], json!({"action": "delete", "namespace": "default", "name": "b"}));
    assert_eq!(server.names(), ["default/a"]);
}

#[test]
fn what_list_prints_can_be_applied_elsewhere() {
    let (_, from) = Server::start();
    let (to, to_address) = Server::start();
    let args = ["--server", &from, "task", "create", "a", "--cron", "@daily", "--shell", "x"];
    assert_eq!(tock(&args).status.code(), Some(0));
    let list = stdout(&tock(&["--server", &from, "task", "list", "-o", "yaml"]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.yaml");
    std::fs::write(&path, list).unwrap();
    let args = ["--server", &to_address, "task", "apply", "-f", path.to_str().unwrap()];
    let output = tock(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(to.names(), ["default/a"]);
}

#[test]
fn an_edit_goes_through_the_editor_and_back() {
    let (server, address) = Server::start();
    let args = ["--server", &address, "task", "create", "a", "--every", "1m", "--noop"];
    assert_eq!(tock(&args).status.code(), Some(0));
    let edit = |editor: &str| {
        let env = [("EDITOR", editor), ("PATH", "/usr/bin:/bin")];
        tock_with(&["--server", &address, "task", "edit", "a"], &env)
    };
    let output = edit("true");
    assert!(stderr(&output).contains("nothing was changed"), "{}", stderr(&output));
    let output = edit("sed -i 's/every: 1m/every: 5m/'");
    assert_eq!(stdout(&output), "default/a changed: schedules[0].every\n", "{}", stderr(&output));
    let revision = server.0.lock().unwrap().tasks.values().next().unwrap().revision;
    assert_eq!(revision, 2);
}

#[test]
fn a_one_shot_that_has_run_is_shown_as_finished_applied_without_a_change_and_not_edited() {
    let (server, address) = Server::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = UNIX_EPOCH + Duration::from_secs(now.as_secs() - 60);
    server.finished("once", at);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("once.json");
    let write = |at: SystemTime| {
        let task = Task::new("default", "once").at(at).noop();
        let text = serde_json::to_string(&tocktower_client::json::spec(&task)).unwrap();
        std::fs::write(&path, text).unwrap();
    };
    let apply = || {
        let args = ["--server", &address, "-o", "json", "task", "apply", "-f"];
        let output = tock(&[&args[..], &[path.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        json_of(&output)["plan"][0]["action"].clone()
    };
    let get = json_of(&tock(&["--server", &address, "-o", "json", "task", "get", "once"]));
    assert_eq!((&get["state"], &get["schedules"]), (&json!("finished"), &Value::Null));
    assert!(get["last_run"]["instant"].is_string(), "{get}");

    let env = [("EDITOR", "touch"), ("PATH", "/usr/bin:/bin")];
    let output = tock_with(&["--server", &address, "task", "edit", "once"], &env);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("default/once has finished"), "{}", stderr(&output));

    write(at);
    assert_eq!(apply(), "unchanged");
    assert_eq!(server.names(), [] as [&str; 0], "nothing was made");
    write(at + Duration::from_secs(3_600));
    assert_eq!(apply(), "create");
    assert_eq!(server.names(), ["default/once"]);
}

#[test]
fn an_answer_that_may_be_out_of_date_says_so_in_json_and_on_the_standard_error() {
    let (server, address) = Server::start();
    let run = |args: &[&str]| tock(&[&["--server", &address, "-o", "json"], args].concat());
    for stale in [false, true] {
        server.0.lock().unwrap().stale = stale;
        let list = run(&["task", "list"]);
        let create = run(&["task", "create", &format!("a-{stale}"), "--every", "1m", "--noop"]);
        assert_eq!(create.status.code(), Some(0), "{}", stderr(&create));
        let one = run(&["task", "get", &format!("a-{stale}")]);
        for output in [list, one] {
            assert_eq!(output.status.code(), Some(0));
            assert_eq!(json_of(&output)["stale"], if stale { json!(true) } else { Value::Null });
            assert_eq!(stderr(&output).contains("warning: the server cannot reach"), stale);
        }
    }
}

#[test]
fn completions_need_no_server_and_know_the_commands() {
    let script = stdout(&tock(&["completions", "bash"]));
    assert!(script.contains("upcoming") && script.contains("_tock"));
}

#[test]
fn a_context_of_the_file_says_where_to_go() {
    let (server, address) = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let text =
        format!("current = 'lab'\n[contexts.lab]\nservers = ['{address}']\nnamespace = 'ops'\n");
    std::fs::write(&path, text).unwrap();
    let env = [("TOCK_CONFIG", path.to_str().unwrap())];
    let output = tock_with(&["task", "create", "a", "--every", "1m", "--noop"], &env);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(server.names(), ["ops/a"]);
}
