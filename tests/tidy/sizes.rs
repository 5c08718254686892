//! Files, functions and lines of a size that a person can hold in the head.

use crate::repo::{Finding, Repo, is_test};
use crate::source::Source;

const FILE_LINES_MAX: usize = 600;
const TEST_FILE_LINES_MAX: usize = 1_000;
const FUNCTION_LINES_MAX: usize = 80;
const LINE_COLUMNS_MAX: usize = 100;

pub fn files(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.ending(".rs") {
        let source = Source::read(file, &repo.source(file));
        let (lines, most) = if is_test(file) {
            (source.lines, TEST_FILE_LINES_MAX)
        } else {
            (source.lines_without_tests(), FILE_LINES_MAX)
        };
        if lines > most {
            let what = format!("{lines} lines, at most {most}: cut it where its subject changes");
            findings.push(Finding::new(file, most + 1, what));
        }
    }
    findings
}

pub fn functions(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.ending(".rs") {
        let source = Source::read(file, &repo.source(file));
        for function in source.functions.iter().filter(|f| f.lines > FUNCTION_LINES_MAX) {
            let what = format!(
                "{} has {} lines, at most {FUNCTION_LINES_MAX}: keep the branch in the parent and \
                 give the straight parts names",
                function.name, function.lines
            );
            findings.push(Finding::new(file, function.line, what));
        }
    }
    findings
}

pub fn lines(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.files().filter(|file| is_written_by_hand(file)) {
        let text = repo.source(file);
        for (number, line) in (1..).zip(text.lines()) {
            let columns = line.chars().count();
            // A link, a row of a table, an inline table of TOML cannot be broken.
            let whole = (file.ends_with(".md") && (line.starts_with('|') || line.contains("](")))
                || (file.ends_with(".toml") && line.contains("{ "));
            if columns > LINE_COLUMNS_MAX && !whole {
                let what = format!("{columns} columns, at most {LINE_COLUMNS_MAX}: break it");
                findings.push(Finding::new(file, number, what));
            }
        }
    }
    findings
}

/// Tables, and what programs wrote for tests to compare with.
fn is_data(file: &str) -> bool {
    file.starts_with("tests/data/") || file.contains("/golden/")
}

fn is_written_by_hand(file: &str) -> bool {
    let ends = [".rs", ".proto", ".toml", ".md", "Makefile"];
    let script = file.starts_with("scripts/") || file.starts_with(".ci/");
    !is_data(file) && (script || ends.iter().any(|end| file.ends_with(end)))
}
