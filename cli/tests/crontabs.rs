//! Every crontab of the shared data: those that must parse, and the one in which no line may.
//!
//! How many jobs a file has is read from the README of the data, so that the two cannot drift; so
//! are the expected commands and inputs of the percent rules. What the reason for a broken line
//! must say stands here, by the number in the comment above the line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may say so by a panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Server, crontabs, stderr, stdout, tock};
use serde_json::Value;
use tocktower_cli::import::crontab::{Crontab, Dialect, parse};

fn read(file: &str) -> Vec<u8> {
    std::fs::read(crontabs().join(format!("{file}.crontab"))).unwrap()
}

fn dialect(file: &str) -> Dialect {
    if file.starts_with("user-") { Dialect::User } else { Dialect::System }
}

fn parsed(file: &str) -> Crontab {
    parse(&read(file), dialect(file))
}

/// File to number of jobs, from the table of the README.
fn jobs_by_file() -> BTreeMap<String, usize> {
    let readme = std::fs::read_to_string(crontabs().join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| "));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let jobs = cells.get(4)?.split_whitespace().next()?.parse().ok()?;
        Some((cells.get(1)?.to_string(), jobs))
    };
    rows.filter_map(row).collect()
}

fn is_reboot(message: &str) -> bool {
    message.starts_with("@reboot")
}

#[test]
fn every_valid_file_has_the_jobs_that_its_readme_says() {
    let files = jobs_by_file();
    assert_eq!(files.len(), 19);
    for (file, jobs) in files {
        let crontab = parsed(&file);
        assert_eq!(crontab.refused, [], "{file}");
        let reboots = crontab.warnings.iter().filter(|remark| is_reboot(&remark.message)).count();
        assert_eq!(crontab.jobs.len() + reboots, jobs, "{file}");
    }
}

#[test]
fn every_valid_file_passes_the_servers_rules_in_a_dry_run_with_names_that_differ() {
    for file in jobs_by_file().keys() {
        let path = crontabs().join(format!("{file}.crontab"));
        let path = path.to_str().unwrap();
        let mut args = vec!["import", "crontab", "--dry-run", "-o", "json", path];
        if dialect(file) == Dialect::System {
            args.push("--system");
        }
        let output = tock(&args);
        assert_eq!(output.status.code(), Some(0), "{file}: {}", stderr(&output));
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let tasks = answer["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), parsed(file).jobs.len(), "{file}");
        let names: BTreeSet<&str> =
            tasks.iter().map(|task| task["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), tasks.len(), "{file}");
        assert!(names.iter().all(|name| name.starts_with(&format!("{file}-"))), "{names:?}");
    }
}

#[test]
fn percent_signs_become_the_expected_command_and_input() {
    let expected = std::fs::read_to_string(crontabs().join("user-percent.expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let jobs = parsed("user-percent").jobs;
    let found: Vec<Value> = jobs
        .into_iter()
        .map(
            |job| serde_json::json!({"line": job.line, "command": job.command, "stdin": job.stdin}),
        )
        .collect();
    assert_eq!(Value::Array(found), expected);
}

#[test]
fn zones_settings_and_blanks_are_read_as_they_stand() {
    let zones: Vec<Option<String>> =
        parsed("user-market-zones").jobs.into_iter().map(|job| job.zone).collect();
    let counted = |zone: &str| zones.iter().filter(|z| z.as_deref() == Some(zone)).count();
    let found = ["America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"].map(counted);
    assert_eq!(found, [5, 2, 2, 3]);

    let jobs = parsed("user-whitespace-env").jobs;
    let env: Vec<(&str, &str)> =
        jobs[0].env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("DOUBLE", "it's fine"),
        ("HASH", "not#a comment"),
        ("KEEP_BLANKS", "  two before and two after  "),
        ("LITERAL", "$HOME/bin:$PATH"),
        ("MYVAR", "foo=bar"),
        ("QUOTED_EMPTY", ""),
        ("SPACED", "value with   inner blanks"),
    ];
    assert_eq!(env, expected);
    let commands: Vec<&str> = jobs.iter().take(6).map(|job| job.command.as_str()).collect();
    let expected = [
        "/bin/true leading blanks",
        "/bin/true tabs everywhere",
        "/bin/true   runs   of   blanks",
        "/bin/true mixed",
        "/bin/true trailing blanks   ",
        "/bin/true trailing tab\t",
    ];
    assert_eq!(commands, expected);
}

/// What the reason for each line of invalid.crontab must say, by the number in its comment.
const REASONS: [&str; 36] = [
    "minute \"60\": 60 is out of range",
    "hour \"24\": 24 is out of range",
    "day of month \"0\": 0 is out of range",
    "day of month \"32\": 32 is out of range",
    "month \"0\": 0 is out of range",
    "month \"13\": 13 is out of range",
    "day of week \"8\": 8 is out of range",
    "\"-5\" is no value",
    "\"+5\" is no value",
    "60 is out of range",
    "0 is out of range",
    "a step of 0",
    "no number behind the '/'",
    "no number behind the '/'",
    "the step \"-5\" is no number",
    "an item of the list is empty",
    "an item of the list is empty",
    "an item of the list is empty",
    "the range has no end",
    "a range has one dash",
    "month \"foo\"",
    "day of week \"noday\"",
    "day of week \"jan\"",
    "only 4 of the five schedule fields",
    "six schedule fields",
    "\"5x\" is no value",
    "\"0x10\" is no value",
    "\"@fortnightly\" is no macro",
    "\"MY VAR\" is no name of a setting",
    "MY_VAR has an open quote",
    "\"nonsense\" is neither a setting",
    "runs backwards",
    "\"1.5\" is no value",
    "\"1;3\" is no value",
    "no command",
    "no command",
];

#[test]
fn every_invalid_line_is_refused_with_its_number_and_a_reason_that_fits() {
    let crontab = parse(&read("invalid"), Dialect::User);
    assert_eq!(crontab.jobs, []);
    let text = String::from_utf8(read("invalid")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let broken: Vec<usize> = (1..=lines.len())
        .filter(|line| !lines[line - 1].is_empty() && !lines[line - 1].starts_with('#'))
        .collect();
    let refused: Vec<usize> = crontab.refused.iter().map(|remark| remark.line).collect();
    assert_eq!(refused, broken);
    for (remark, reason) in crontab.refused.iter().zip(REASONS) {
        let comment = lines[remark.line - 2];
        assert!(remark.message.contains(reason), "{comment}: {}", remark.message);
    }
}

#[test]
fn one_refused_line_stops_the_import_unless_it_is_told_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.crontab");
    std::fs::write(&path, "0 1 * * * a\n60 1 * * * b\n0 2 * * * c\n").unwrap();
    let path = path.to_str().unwrap();
    let (server, address) = Server::start();

    let output = tock(&["--server", &address, "import", "crontab", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("mixed.crontab:2: refused: minute"), "{}", stderr(&output));
    assert!(stdout(&output).contains("nothing was written"));
    assert_eq!(server.names().len(), 0);

    let output = tock(&["--server", &address, "import", "crontab", path, "--keep-going"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(server.names().len(), 2);
}

#[test]
fn a_line_that_never_runs_is_refused_by_its_number_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("never.crontab");
    std::fs::write(&path, "0 1 * * * good1\n0 0 30 2 * never\n0 2 * * * good2\n").unwrap();
    let path = path.to_str().unwrap();
    let (server, address) = Server::start();

    for more in [&[][..], &["--dry-run"]] {
        let args = [&["--server", &address, "import", "crontab", path], more].concat();
        let output = tock(&args);
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        let told = stderr(&output);
        assert!(told.contains("never.crontab:2: refused: schedules: no instant is left"), "{told}");
        assert_eq!(server.names().len(), 0, "{more:?}");
    }
    let output = tock(&["--server", &address, "import", "crontab", path, "--keep-going"]);
    assert_eq!((output.status.code(), server.names().len()), (Some(1), 2));
}

#[test]
fn importing_twice_changes_nothing_and_a_changed_setting_changes_its_jobs_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.crontab");
    let write = |level: u8| {
        std::fs::write(&path, format!("0 1 * * * a\nLEVEL={level}\n0 2 * * * b\n")).unwrap();
    };
    let (server, address) = Server::start();
    let import = || {
        let path = path.to_str().unwrap();
        let args = ["--server", &address, "-o", "json", "-n", "ops", "import", "crontab", path];
        let output = tock(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        ["created", "changed", "unchanged"].map(|key| answer[key].as_u64().unwrap())
    };
    write(1);
    assert_eq!(import(), [2, 0, 0]);
    assert_eq!(import(), [0, 0, 2]);
    write(2);
    assert_eq!(import(), [0, 1, 1]);
    assert_eq!(server.names().len(), 2);
    assert!(server.names().iter().all(|name| name.starts_with("ops/jobs-")));
}

#[test]
fn a_file_with_only_warnings_is_imported() {
    let path = crontabs().join("debian-logcheck.crontab");
    let (server, address) = Server::start();
    let args = ["--server", &address, "import", "crontab", "--system", path.to_str().unwrap()];
    let output = tock(&args);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("@reboot is not importable"));
    assert_eq!(server.names().len(), 1);
}
