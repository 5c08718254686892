//! Places that exist on one machine only have no business in a repository.

use crate::repo::{Finding, Repo};

/// How such places begin; put together here, so that this file passes its own rule.
const BEGINNINGS: [&str; 4] =
    [concat!("/", "root/"), concat!("/", "work/"), concat!("/", "home/"), concat!("/", "Users/")];
/// Homes of nobody, for examples and tests.
const NOBODY: [&str; 4] = ["me", "someone", "user", "…"];

pub fn machines(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The crontabs there are other people's, and name their own places.
    for file in repo.files().filter(|file| !file.starts_with("tests/data/")) {
        let Some(text) = repo.text(file) else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            for beginning in BEGINNINGS {
                for (at, _) in line.match_indices(beginning) {
                    let before = line[..at].chars().next_back();
                    let inside =
                        before.is_some_and(|c| c.is_alphanumeric() || "._-}~*".contains(c));
                    let after = &line[at + beginning.len()..];
                    let nobody = NOBODY.iter().any(|name| after.starts_with(name));
                    if !inside && !nobody {
                        let what = format!(
                            "{beginning}… is a place of one machine: use $HOME, a \
                                            path in the repository, or an example's"
                        );
                        findings.push(Finding::new(file, number, what));
                    }
                }
            }
        }
    }
    findings
}
