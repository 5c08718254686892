//! What may not be written, and what must.

use crate::repo::{Finding, Repo, is_test};
use crate::source::Source;

/// Files that may hold unsafe code, each with the reason. The attribute there gives it once more,
/// for whoever reads the code first.
const UNSAFE_ALLOWED: [(&str, &str); 1] = [(
    "agent/src/exec/command/launch.rs",
    "what a child sets up between fork and exec has no safe form",
)];

pub fn headers(repo: &Repo) -> Vec<Finding> {
    repo.ending(".rs")
        .filter(|file| !is_test(file) && !repo.source(file).starts_with("//! "))
        .map(|file| {
            let what = "no header: open with `//!` lines that say why this file is there, the \
                        idea, and the option not taken";
            Finding::new(file, 1, what)
        })
        .collect()
}

pub fn unfinished(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.ending(".rs").filter(|file| !is_test(file)) {
        let source = Source::read(file, &repo.source(file));
        for three in source.words_without_tests().windows(3) {
            let text = |at: usize| three.get(at).map_or("", |word| word.text.as_str());
            let what = match (text(0), text(1), text(2)) {
                (".", "unwrap", "(") => "unwrap(): use `?`, or expect() with why it cannot fail",
                ("todo" | "unimplemented", "!", _) => "unfinished: build it or leave it out",
                _ => continue,
            };
            findings.push(Finding::new(file, three[1].line, what));
        }
    }
    findings
}

pub fn unsafe_code(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.ending(".rs") {
        let allowed = UNSAFE_ALLOWED.iter().any(|(known, _)| *known == file);
        let source = Source::read(file, &repo.source(file));
        for three in source.words_without_tests().windows(3) {
            let [call, bracket, lint] = three else { continue };
            let lifts = ["allow", "expect"].contains(&call.text.as_str()) && bracket.text == "(";
            if allowed || !lifts || lint.text != "unsafe_code" {
                continue;
            }
            let what = "unsafe code in a file that is not listed: find a safe way (rustix has \
                        most), or add the file with its reason to tests/tidy/words.rs";
            findings.push(Finding::new(file, lint.line, what));
        }
    }
    findings
}
