//! Documents that keep up with the code, and with each other.

use crate::names;
use crate::repo::{Finding, Repo};

const CONFIGURATION: &str = "docs/configuration.md";
const METRICS: &str = "docs/metrics.md";
const PROMISES: &str = "docs/promises.md";

pub fn links(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.ending(".md") {
        let mut in_code = false;
        for (number, line) in (1..).zip(repo.source(file).lines()) {
            in_code ^= line.trim_start().starts_with("```");
            if in_code {
                continue;
            }
            for target in targets(line) {
                let path = joined(file, target.split('#').next().unwrap_or_default());
                if !repo.holds(&path) {
                    let what = format!("the link to {target} leads nowhere: mend or remove it");
                    findings.push(Finding::new(file, number, what));
                }
            }
        }
    }
    findings
}

/// The relative targets of the links in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| {
        !target.is_empty() && !target.contains("://") && !target.starts_with(['#', '<'])
    })
}

/// A link's path, seen from the root.
fn joined(file: &str, target: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

pub fn daemons(repo: &Repo) -> Vec<Finding> {
    let readme = repo.source("README.md");
    names::daemons(repo)
        .into_iter()
        .filter(|daemon| !readme.contains(&format!("tocktower {daemon}")))
        .map(|daemon| {
            let what = format!("`tocktower {daemon}` is not named: say what it is for");
            Finding::new("README.md", 0, what)
        })
        .collect()
}

/// The words between backticks that open a row of a table.
fn rows(text: &str) -> Vec<(usize, &str)> {
    let word = |line: &'_ str| -> Option<usize> { line.strip_prefix("| `")?.find('`') };
    (1..)
        .zip(text.lines())
        .filter_map(|(number, line)| Some((number, &line[3..3 + word(line)?])))
        .collect()
}

pub fn keys(repo: &Repo) -> Vec<Finding> {
    let text = repo.source(CONFIGURATION);
    let told = rows(&text);
    let keys = names::keys(repo);
    let untold = keys.iter().filter(|key| !told.iter().any(|(_, name)| *name == key.name));
    let mut findings: Vec<Finding> = untold
        .map(|key| {
            let what = format!("`{}` has no row in {CONFIGURATION}: add it", key.name);
            Finding::new(names::args_file(), key.line, what)
        })
        .collect();
    for (number, name) in told {
        if !keys.iter().any(|key| key.name == name) {
            let what = format!("`{name}` is no key of a daemon: remove its row");
            findings.push(Finding::new(CONFIGURATION, number, what));
        }
    }
    findings
}

pub fn metrics(repo: &Repo) -> Vec<Finding> {
    let text = repo.source(METRICS);
    let told = rows(&text);
    let metrics = names::metrics(repo);
    let untold = metrics.iter().filter(|m| !told.iter().any(|(_, name)| is_of(name, &m.name)));
    let mut findings: Vec<Finding> = untold
        .map(|metric| {
            let what = format!("`{}` has no row in {METRICS}: add it", metric.name);
            Finding::new(&metric.file, metric.line, what)
        })
        .collect();
    for (number, name) in told {
        if !metrics.iter().any(|metric| is_of(name, &metric.name)) {
            let what = format!("`{name}` is no metric of a daemon: remove its row");
            findings.push(Finding::new(METRICS, number, what));
        }
    }
    findings
}

/// Whether the documented name is the metric's, with the suffixes that the format adds.
fn is_of(told: &str, name: &str) -> bool {
    let suffixes = ["", "_total", "_info", "_seconds", "_bytes", "_seconds_total", "_bytes_total"];
    told.strip_prefix(name).is_some_and(|rest| suffixes.contains(&rest))
}

pub fn promises(repo: &Repo) -> Vec<Finding> {
    let text = repo.source(PROMISES);
    let mut findings = Vec::new();
    for (number, row) in (1..).zip(text.lines()).filter(|(_, line)| line.starts_with("| `")) {
        let mut words = row.split('`').skip(1).step_by(2);
        let (name, file) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let there = repo.has(file) && has_test(&repo.source(file), name);
        if !there {
            let what = format!(
                "the row of `{name}`: `{file}` has no test of that name that `make test` runs: \
                 name another, or tell at the end of the page that nothing holds it"
            );
            findings.push(Finding::new(PROMISES, number, what));
        }
    }
    findings
}

/// Whether a text has a test of that name, and `make test` runs it.
fn has_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    let test = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
    test && !attributes.contains("#[ignore")
}
