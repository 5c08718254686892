//! Tests that read tables prove nothing when a table has shrunk.

use serde_json::Value;

use crate::repo::{Finding, Repo};

/// The golden tables, with how many entries each has.
const TABLES: [(&str, usize); 2] =
    [("tests/data/cron_golden.json", 410), ("tests/data/cron_dst_golden.json", 82)];
const CRONTABS_MIN: usize = 20;
/// What tests name, and would miss.
const NAMED: [&str; 4] = [
    "tests/data/cron_golden.README.md",
    "tests/data/crontabs/README.md",
    "tests/data/crontabs/invalid.crontab",
    "tests/data/crontabs/user-percent.expected.json",
];

pub fn golden(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, entries) in TABLES {
        let found = repo.text(file).map_or(0, |text| entries_of(&text));
        if found != entries {
            let what = format!("{found} entries, {entries} are known to be right: put it back");
            findings.push(Finding::new(file, 0, what));
        }
    }
    for file in NAMED.into_iter().filter(|file| !repo.has(file)) {
        findings.push(Finding::new(file, 0, "it is gone: put it back"));
    }
    let crontabs = repo.ending(".crontab").filter(|file| file.starts_with("tests/data/")).count();
    if crontabs < CRONTABS_MIN {
        let what = format!("{crontabs} crontabs, {CRONTABS_MIN} at least: put them back");
        findings.push(Finding::new("tests/data/crontabs", 0, what));
    }
    findings
}

/// The entries of a table: a list, or an object that holds one.
fn entries_of(text: &str) -> usize {
    match serde_json::from_str(text) {
        Ok(Value::Array(entries)) => entries.len(),
        Ok(Value::Object(parts)) => {
            parts.values().filter_map(Value::as_array).map(Vec::len).max().unwrap_or(0)
        }
        _ => 0,
    }
}
